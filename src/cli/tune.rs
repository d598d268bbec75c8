//! `subquad tune`: tries every value of the operators' choices on the adapter at hand, and says which were quickest.

use std::{collections::BTreeMap, path::PathBuf};

use super::bench::{Effort, measure, progress, verify};
use crate::{
    Error, Gpu,
    case::{Case, Failure, Problem, ops, write_whole},
    choice::{Choice, Profile, choices, choices_of, combinations},
    plan::Plan,
};

/// Cases of more operations than this are left out: each is computed by the reference, and many times by the device.
const MOST_OPERATIONS: f64 = 2e9;

/// A choice is changed for a gain of more than this only: less is within what repeated runs differ by.
const LEAST_GAIN: f64 = 1.03;

/// Arguments of `tune`.
pub struct TuneArgs {
    /// The device.
    pub gpu: Gpu,
    /// The operator to tune; all that have choices without one.
    pub op: Option<String>,
    /// Where to write the profile.
    pub write: Option<PathBuf>,
    /// Fewer and shorter samples.
    pub quick: bool,
}

/// One plan of one case, timed.
struct Trial {
    values: Vec<u32>,
    label: String,
    ms: f64,
}

/// Tunes operators and prints the winners.
///
/// # Errors
/// `Usage` when the operator has no choices; `Missed` when a plan's result is wrong; `File`; those of the device.
pub fn tune(args: &TuneArgs) -> Result<(), Failure> {
    let gpu = &args.gpu;
    let mut names: Vec<&str> = choices().iter().map(|(op, _)| *op).collect();
    names.dedup();
    if let Some(op) = &args.op {
        if !names.contains(&op.as_str()) {
            return Err(Failure::Usage(format!(
                "--op must be one of {}, got \"{op}\"",
                names.join(", ")
            )));
        }
        names.retain(|name| name == op);
    }
    let effort = if args.quick {
        Effort::QUICK
    } else {
        Effort::FULL
    };
    say!(
        "{} ({}, {})",
        gpu.caps().name,
        gpu.caps().backend,
        gpu.caps().driver
    );
    let mut profile = Profile::default();
    for name in names {
        profile = tune_op(gpu, name, effort, profile)?;
    }
    if let Some(path) = &args.write {
        write_whole(path, profile.text(gpu.caps()).as_bytes())?;
        say!("profile: {}", path.display());
    }
    Ok(())
}

fn tune_op(gpu: &Gpu, name: &str, effort: Effort, profile: Profile) -> Result<Profile, Failure> {
    let own = choices_of(name);
    let sets = combinations(&own);
    let benches = ops()
        .iter()
        .filter(|op| op.name == name)
        .flat_map(|op| (op.benches)(gpu.caps().class));
    let cases: Vec<Case> = benches.map(|bench| (bench.make)()).collect();
    let bar = progress((cases.len() * sets.len()) as u64);
    let mut by_case = Vec::new();
    for case in &cases {
        bar.set_message(case.name.clone());
        let problem = case.bind()?;
        let adjoint = problem.adjoint();
        let problem = adjoint.as_deref().unwrap_or(problem.as_ref());
        let trials = trials(gpu, case, problem, &own, &sets, effort, &|| bar.inc(1))?;
        if trials.len() > 1 {
            by_case.push((case.name.clone(), trials));
        }
    }
    bar.finish_and_clear();
    let default: Vec<u32> = own
        .iter()
        .map(|choice| choice.of(gpu.caps().class))
        .collect();
    for (case, trials) in &by_case {
        let best = trials.iter().min_by(|a, b| a.ms.total_cmp(&b.ms));
        let usual = trials.iter().find(|trial| trial.values == default);
        if let (Some(best), Some(usual)) = (best, usual) {
            say!(
                "{case}: {:.4} ms by the tables, {:.4} ms at best with {} ({})",
                usual.ms,
                best.ms,
                words(&own, &best.values),
                best.label
            );
        }
    }
    let Some((values, gain)) = winner(&by_case, &sets, &default) else {
        say!("{name}: no case has more than one plan on this device");
        return Ok(profile);
    };
    say!(
        "{name}: {} is {gain:.2} times as quick as the tables over {} cases",
        words(&own, &values),
        by_case.len()
    );
    let mut profile = profile;
    for (choice, value) in own.iter().zip(values) {
        if value != choice.of(gpu.caps().class) {
            say!(
                "    {}: Entry {{ class: Class::{:?}, value: {value}, source: \"{}, {}: {gain:.2} times as quick\" }},",
                choice.name,
                gpu.caps().class,
                gpu.caps().name,
                gpu.caps().driver
            );
            profile = profile.with(choice.name, value)?;
        }
    }
    Ok(profile)
}

/// Every plan that some values give, verified against the reference before it is timed.
fn trials(
    gpu: &Gpu,
    case: &Case,
    problem: &dyn Problem,
    own: &[&Choice],
    sets: &[Vec<u32>],
    effort: Effort,
    done: &dyn Fn(),
) -> Result<Vec<Trial>, Failure> {
    let mut tried: Vec<(Plan, f64)> = Vec::new();
    let mut trials = Vec::new();
    let mut references = None;
    for values in sets {
        done();
        let caps = gpu.caps().with_choices(own, values)?;
        let plan = match problem.plans(&caps, false) {
            Ok(plans) => plans.into_iter().next(),
            Err(Error::Limit { .. } | Error::Unsupported { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        let Some(plan) =
            plan.filter(|plan| plan.work.flops + plan.work.popcounts < MOST_OPERATIONS)
        else {
            continue;
        };
        let label = plan.label.clone();
        let known = tried.iter().find(|(other, _)| *other == plan);
        let ms = match known.map(|(_, ms)| *ms) {
            Some(ms) => ms,
            None => {
                let references = match &mut references {
                    Some(references) => references,
                    none => none.insert(problem.reference()?),
                };
                let name = format!("{} with {}", case.name, words(own, values));
                verify(gpu, problem, &plan, references, &name)?;
                let ms = measure(gpu, problem, &plan, effort)?.median_ms;
                tried.push((plan, ms));
                ms
            }
        };
        trials.push(Trial {
            values: values.clone(),
            label,
            ms,
        });
    }
    // All alike: nothing to choose.
    if tried.len() < 2 {
        trials.clear();
    }
    Ok(trials)
}

/// The values with the least time, as the geometric mean over cases relative to the tables, where that gains enough; else the
/// tables'. With the gain.
fn winner(
    by_case: &[(String, Vec<Trial>)],
    sets: &[Vec<u32>],
    default: &[u32],
) -> Option<(Vec<u32>, f64)> {
    let mut gains: BTreeMap<&[u32], Vec<f64>> = BTreeMap::new();
    for (_, trials) in by_case {
        let usual = trials.iter().find(|trial| trial.values == default)?.ms;
        for trial in trials {
            let logs = gains.entry(&trial.values).or_default();
            logs.push((usual / trial.ms).ln());
        }
    }
    let mean = |set: &Vec<u32>| {
        let logs = gains.get(set.as_slice())?;
        // A set that some case cannot run is no candidate.
        (logs.len() == by_case.len() && !logs.is_empty())
            .then(|| (logs.iter().sum::<f64>() / logs.len() as f64).exp())
    };
    let best = sets
        .iter()
        .filter_map(|set| Some((set.clone(), mean(set)?)))
        .max_by(|a, b| a.1.total_cmp(&b.1))?;
    Some(if best.1 > LEAST_GAIN {
        best
    } else {
        (default.to_vec(), 1.0)
    })
}

fn words(own: &[&Choice], values: &[u32]) -> String {
    let pairs = own.iter().zip(values);
    let words: Vec<String> = pairs
        .map(|(choice, value)| format!("{} = {value}", choice.name))
        .collect();
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trial(values: &[u32], ms: f64) -> Trial {
        Trial {
            values: values.to_vec(),
            label: String::new(),
            ms,
        }
    }

    #[test]
    fn the_winner_is_quickest_over_all_cases_and_by_enough() {
        let sets = vec![vec![1], vec![2], vec![3]];
        let case = |times: [f64; 2]| {
            let trials = vec![
                trial(&[1], 10.0),
                trial(&[2], times[0]),
                trial(&[3], times[1]),
            ];
            ("case".to_owned(), trials)
        };
        let found = |cases: &[(String, Vec<Trial>)]| winner(cases, &sets, &[1]).unwrap();
        let (values, gain) = found(&[case([5.0, 1.0]), case([5.0, 90.0])]);
        assert_eq!(values, [2]);
        assert!((gain - 2.0).abs() < 1e-12);
        assert_eq!(found(&[case([9.9, 10.0])]).0, [1], "within the noise");
        let mut lacks = case([1.0, 9.0]);
        lacks.1.remove(1);
        assert_eq!(
            found(&[lacks, case([1.0, 9.0])]).0,
            [3],
            "not in every case"
        );
        assert!(winner(&[], &sets, &[1]).is_none());
    }

    #[test]
    fn every_combination_is_tried() {
        let (a, b) = (choices()[0].1, choices()[1].1);
        let sets = combinations(&[a, b]);
        assert_eq!(sets.len(), a.legal.len() * b.legal.len());
        assert!(sets.iter().all(|set| set.len() == 2));
    }
}
