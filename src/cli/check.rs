//! `subquad check`: cases against their expected values.

use std::{collections::BTreeMap, path::PathBuf};

use serde_json::Map;

use super::{case_files, retain};
use crate::{
    Error, Gpu,
    case::{Array, Case, Failure, Output, Problem, judge_decided, ops, run},
};

/// Arguments of `check`.
pub struct Check {
    /// Case files and folders; none means the built-in cases.
    pub paths: Vec<PathBuf>,
    /// Part of `operator/name` of the cases that are wanted; none means all.
    pub filter: Option<String>,
    /// The device, or none for the CPU reference.
    pub gpu: Option<Gpu>,
    /// Only the planner's choice, not every plan.
    pub quick: bool,
}

/// How many cases went which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Within tolerance.
    pub passed: usize,
    /// Beyond it.
    pub failed: usize,
    /// Not offered yet.
    pub skipped: usize,
}

/// Checks every case and prints a line for each, then the tally.
///
/// # Errors
/// `Missed` when a case misses its tolerance; `File`, `Case` for a file that is no case; those of the device.
pub fn check(args: &Check) -> Result<Tally, Failure> {
    let mut cases: Vec<Case> = if args.paths.is_empty() {
        ops().iter().flat_map(|op| (op.builtin)()).collect()
    } else {
        let files = case_files(&args.paths)?;
        if files.is_empty() {
            return Err(Failure::Usage(
                "there is no safetensors file in the folders named".into(),
            ));
        }
        files
            .iter()
            .map(|file| Case::read(file, None, &Map::new()))
            .collect::<Result<Vec<_>, _>>()?
    };
    let what = "case's operator and name contain";
    retain(&mut cases, args.filter.as_deref(), what, |case| {
        format!("{}/{}", case.op, case.name)
    })?;
    let mut tally = Tally::default();
    for case in &cases {
        match case.bind() {
            Err(Failure::Unavailable { what, hint, .. }) => {
                say!("skip  {}: {what} is not available{hint}", case.name);
                tally.skipped += 1;
            }
            Err(failure) => return Err(failure),
            Ok(problem) => match check_case(args, case, problem.as_ref())? {
                None => tally.skipped += 1,
                Some(true) => tally.passed += 1,
                Some(false) => tally.failed += 1,
            },
        }
    }
    say!(
        "{} passed, {} failed, {} skipped",
        tally.passed,
        tally.failed,
        tally.skipped
    );
    if tally.failed > 0 {
        Err(Failure::Missed(format!(
            "{} cases missed their tolerance",
            tally.failed
        )))
    } else {
        Ok(tally)
    }
}

/// Judges one case and its gradients by their expected values and, on a GPU, by the CPU reference as well. `None`, and a line
/// that says so, where no kernel computes it yet.
fn check_case(args: &Check, case: &Case, problem: &dyn Problem) -> Result<Option<bool>, Failure> {
    let mut judged = Judged {
        held: true,
        labels: Vec::new(),
        parts: Vec::new(),
    };
    let done = match problem.adjoint() {
        _ if !judged.add(args, case, problem, "", &case.expected)? => false,
        Some(adjoint) => judged.add(args, case, adjoint.as_ref(), "grad.", &case.expected_grads)?,
        None => {
            let outputs = problem.outputs();
            for name in case.expected_grads.keys() {
                let named = |output: &Output| output.name.strip_prefix("grad.") == Some(name);
                if !outputs.iter().any(named) {
                    judged.held = false;
                    judged.parts.push(format!("grad.{name} missing"));
                }
            }
            true
        }
    };
    if !done {
        return Ok(None);
    }
    let word = if judged.held { "ok  " } else { "MISS" };
    say!(
        "{word}  {}: {} [{}]",
        case.name,
        judged.parts.join(", "),
        judged.labels.join("; ")
    );
    Ok(Some(judged.held))
}

/// What is known of a case so far.
struct Judged {
    held: bool,
    labels: Vec<String>,
    parts: Vec<String>,
}

impl Judged {
    /// Runs a problem and judges its outputs; false, and a line that says so, where no kernel computes it yet.
    fn add(
        &mut self,
        args: &Check,
        case: &Case,
        problem: &dyn Problem,
        prefix: &str,
        expected: &BTreeMap<String, Array>,
    ) -> Result<bool, Failure> {
        let mut runs: Vec<(String, Vec<Array>)> = Vec::new();
        match &args.gpu {
            None => runs.push(("cpu".into(), problem.native()?)),
            Some(gpu) => {
                let plans = match problem.plans(gpu.caps(), !args.quick) {
                    Err(error @ Error::Unsupported { .. }) => {
                        say!("skip  {}: {error}", case.name);
                        return Ok(false);
                    }
                    plans => plans?,
                };
                for plan in plans {
                    runs.push((plan.label.clone(), run(gpu, problem, &plan, false)?));
                }
            }
        }
        let references = problem.reference()?;
        let outputs = problem.outputs();
        for (n, output) in outputs.iter().enumerate() {
            let found = if prefix.is_empty() {
                case.expectation(output)
            } else {
                expected.get(output.name)
            };
            let values = found.map(Array::values);
            let undecided = problem.undecided(n)?;
            let undecided = undecided.as_ref();
            let (mut ratio, mut missed) = (0.0f64, Vec::new());
            for (label, arrays) in &runs {
                let Some(array) = arrays.get(n) else { continue };
                let by_file = values
                    .as_ref()
                    .map(|values| judge_decided(output, array, values, None, undecided));
                let by_reference = references.get(n).map(|r| {
                    judge_decided(output, array, &r.values, Some(&r.magnitude), undecided)
                });
                for verdict in by_file.into_iter().chain(by_reference) {
                    ratio = ratio.max(verdict.ratio);
                    if !verdict.holds() && !missed.contains(label) {
                        missed.push(label.clone());
                    }
                }
            }
            self.held &= missed.is_empty();
            let by = if missed.is_empty() {
                String::new()
            } else {
                format!(" missed by {}", missed.join(" and "))
            };
            let either = undecided.map_or(String::new(), |undecided| {
                let few = if undecided.few() { "" } else { ", too many" };
                format!(
                    ", {} of {} bits undecided{few}",
                    undecided.count(),
                    undecided.bits
                )
            });
            self.parts.push(format!(
                "{prefix}{} {ratio:.1e} (tolerance {:.0e}{either}){by}",
                output.name, output.ratio
            ));
        }
        for name in expected.keys() {
            if outputs.iter().all(|output| output.name != name) {
                self.held = false;
                self.parts.push(format!("{prefix}{name} missing"));
            }
        }
        self.labels.extend(runs.into_iter().map(|(label, _)| label));
        Ok(true)
    }
}
