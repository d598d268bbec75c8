//! `subquad bench`: what the operators reach, beside what the device can.

mod compare;
mod first;
mod measure;
mod native;
mod output;
mod series;
mod small;

use std::{path::PathBuf, time::Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::{report, retain};
use crate::{
    Gpu, Select,
    case::{
        Bench, Case, Failure, Loaded, Problem, Reference, judge_decided, ops, run, write_whole,
    },
    plan::{Plan, Work},
};

pub use compare::Change;
pub use first::FirstCall;
pub use measure::{
    Bound, Effort, Measured, Roofs, measure, measure_roofs, median, most_runs, repeat,
};
pub use series::{Crossover, crossovers, doublings, factor_series, length_series};
pub use small::Small;

/// More than this share of a measured roof means that a time or a count is wrong.
const IMPOSSIBLE: f64 = 1.05;

/// Results of cases with fewer operations than this are compared with the CPU reference.
const VERIFIED_FLOPS: f64 = 5e8;

/// Arguments of `bench`.
pub struct BenchArgs {
    /// The device, or none for this machine's processor.
    pub gpu: Option<Gpu>,
    /// How it was chosen: first calls are timed on new devices.
    pub select: Select,
    /// Part of the names of the cases to run.
    pub filter: Option<String>,
    /// Where to write the figures as JSON.
    pub json: Option<PathBuf>,
    /// Where to write the report.
    pub html: Option<PathBuf>,
    /// Figures of an earlier run to compare with.
    pub compare: Option<PathBuf>,
    /// Fewer and shorter samples.
    pub quick: bool,
}

/// One case measured.
pub struct Row {
    /// The operator.
    pub op: String,
    /// The case.
    pub name: String,
    /// Sizes by letter.
    pub sizes: Vec<(&'static str, usize)>,
    /// Storage type.
    pub dtype: &'static str,
    /// The plan.
    pub variant: String,
    /// What it amounts to.
    pub work: Work,
    /// Time of one run.
    pub time: Measured,
    /// The tighter roof.
    pub bound: Bound,
    /// The time that roof allows over the median time.
    pub share: f64,
    /// Whether the result was compared with the CPU reference.
    pub verified: bool,
    /// Time at twice the length over this one's, where a case of that length was measured.
    pub twice: Option<f64>,
}

impl Row {
    /// Operations per nanosecond.
    pub fn gflop_s(&self) -> f64 {
        self.work.flops / self.time.median_ms / 1e6
    }

    /// Necessary bytes per nanosecond.
    pub fn gb_s(&self) -> f64 {
        self.work.bytes / self.time.median_ms / 1e6
    }

    /// Words whose bits are counted, per nanosecond.
    pub fn popcount_g_s(&self) -> f64 {
        self.work.popcounts / self.time.median_ms / 1e6
    }

    /// A size by its letter.
    pub fn size(&self, letter: &str) -> Option<usize> {
        self.sizes
            .iter()
            .find(|(name, _)| *name == letter)
            .map(|(_, n)| *n)
    }
}

/// Cost on the host of a call whose pipelines and buffers exist.
pub struct HostCost {
    /// The case.
    pub name: String,
    /// Median time to plan, record and submit.
    pub us: f64,
    /// Whether the calls compiled or allocated anything.
    pub steady: bool,
}

/// Everything `bench` found.
pub struct Results {
    /// The roofs.
    pub roofs: Roofs,
    /// The cases.
    pub rows: Vec<Row>,
    /// Cost on the host.
    pub host: Option<HostCost>,
    /// Many small calls in one recording.
    pub small: Vec<Small>,
    /// First calls.
    pub first: Vec<FirstCall>,
    /// Beside an earlier run.
    pub changes: Vec<Change>,
}

/// Measures the roofs and every case whose name contains the filter; prints a table and writes the files asked for. Without a
/// device, search on this machine's processor, without a report.
///
/// # Errors
/// `Usage` when no case has such a name; `Missed` when a result is wrong or exceeds a roof; `File`; those of the device.
pub fn bench(args: &BenchArgs) -> Result<(), Failure> {
    let Some(gpu) = &args.gpu else {
        return native::bench(args);
    };
    let then = args.compare.as_deref().map(compare::read).transpose()?;
    let mut cases: Vec<Bench> = ops()
        .iter()
        .flat_map(|op| (op.benches)(gpu.caps().class))
        .collect();
    let what = "benchmark's name contains";
    retain(&mut cases, args.filter.as_deref(), what, |case| {
        case.name.to_string()
    })?;
    let effort = if args.quick {
        Effort::QUICK
    } else {
        Effort::FULL
    };
    let bar = progress(cases.len() as u64 + 4);
    bar.set_message("roofs");
    let roofs = measure_roofs(gpu, effort)?;
    bar.inc(1);
    bar.set_message("host cost");
    let host = host_cost(gpu, &cases)?;
    bar.inc(1);
    bar.set_message("small work");
    let small = small::measure(gpu, &cases, &roofs)?;
    bar.inc(1);
    bar.set_message("first calls");
    let first = first::measure(&args.select, &cases)?;
    bar.inc(1);
    let mut rows = Vec::new();
    for case in &cases {
        bar.set_message(case.name.clone());
        // Each case is freed when it is done: the largest take gigabytes.
        rows.push(measure_case(gpu, &(case.make)(), &roofs, effort)?);
        bar.inc(1);
    }
    if !args.quick {
        bar.set_message("time against length");
        measure_doublings(gpu, &cases, &mut rows)?;
    }
    bar.finish_and_clear();
    let changes = then.map_or(Vec::new(), |then| compare::compare(&then, &rows));
    let results = Results {
        roofs,
        rows,
        host,
        small,
        first,
        changes,
    };
    output::print_results(gpu, &results);
    if let Some(path) = &args.json {
        let text = format!("{:#}\n", output::json_of(gpu, &results));
        write_whole(path, text.as_bytes())?;
    }
    if let Some(path) = &args.html {
        write_whole(path, report::bench_page(gpu.caps(), &results)?.as_bytes())?;
        say!("report: {}", path.display());
    }
    verdict(&results)
}

/// A progress bar on standard error, silent unless that is a terminal.
pub fn progress(len: u64) -> ProgressBar {
    let bar = ProgressBar::new(len);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {wide_msg}") {
        bar.set_style(style);
    }
    bar
}

fn measure_case(gpu: &Gpu, case: &Case, roofs: &Roofs, effort: Effort) -> Result<Row, Failure> {
    let problem = case.bind()?;
    // A case that hands gradients to the outputs is timed backward.
    let adjoint = problem.adjoint();
    let problem = adjoint.as_deref().unwrap_or(problem.as_ref());
    let plan = default_plan(gpu, case, problem)?;
    let verified = plan.work.flops + plan.work.popcounts < VERIFIED_FLOPS;
    if verified {
        verify(gpu, problem, &plan, &problem.reference()?, &case.name)?;
    }
    let time = measure(gpu, problem, &plan, effort)?;
    let (bound_ms, bound) = roofs.bound(&plan.work);
    Ok(Row {
        op: case.op.clone(),
        name: case.name.clone(),
        sizes: problem.sizes(),
        dtype: problem
            .inputs()
            .first()
            .map_or("none", |array| array.dtype.name()),
        variant: plan.label,
        work: plan.work,
        time,
        bound,
        share: bound_ms / time.median_ms,
        verified,
        twice: None,
    })
}

fn default_plan(gpu: &Gpu, case: &Case, problem: &dyn Problem) -> Result<Plan, Failure> {
    let mut plans = problem.plans(gpu.caps(), false)?.into_iter();
    plans
        .next()
        .ok_or_else(|| case.wrong("has no plan on this device"))
}

/// Runs a plan of what is called `name` and judges its outputs by the reference's.
pub(super) fn verify(
    gpu: &Gpu,
    problem: &dyn Problem,
    plan: &Plan,
    references: &[Reference],
    name: &str,
) -> Result<(), Failure> {
    let arrays = run(gpu, problem, plan, false)?;
    let outputs = problem.outputs();
    let judged = outputs.iter().zip(&arrays).zip(references);
    for (n, ((output, array), reference)) in judged.enumerate() {
        let undecided = problem.undecided(n)?;
        let (values, magnitude) = (&reference.values, Some(reference.magnitude.as_slice()));
        let verdict = judge_decided(output, array, values, magnitude, undecided.as_ref());
        if !verdict.holds() {
            return Err(Failure::Missed(format!(
                "{name}: {} is off by {:.1e}, tolerance {:.0e}",
                output.name, verdict.ratio, verdict.bound
            )));
        }
    }
    Ok(())
}

/// Plans, records and submits the smallest forward case over and over while the device is idle.
fn host_cost(gpu: &Gpu, cases: &[Bench]) -> Result<Option<HostCost>, Failure> {
    const CALLS: usize = 200;
    // Benches list small cases first.
    let Some(bench) = cases.iter().find(|bench| bench.name.contains("forward")) else {
        return Ok(None);
    };
    let case = (bench.make)();
    let problem = case.bind()?;
    let mut loaded = Loaded::new(gpu, problem.as_ref())?;
    let mut call = || -> Result<f64, Failure> {
        let started = Instant::now();
        let plan = default_plan(gpu, &case, problem.as_ref())?;
        let mut pass = gpu.pass("host cost");
        loaded.record(&mut pass, &plan, false)?;
        let done = pass.submit()?;
        let us = started.elapsed().as_secs_f64() * 1e6;
        done.wait(gpu.timeout())?;
        Ok(us)
    };
    call()?;
    call()?;
    let counts = || (gpu.pipelines(), gpu.pool_allocations());
    let before = counts();
    let mut times = (0..CALLS)
        .map(|_| call())
        .collect::<Result<Vec<_>, Failure>>()?;
    times.sort_by(f64::total_cmp);
    Ok(Some(HostCost {
        name: case.name.clone(),
        us: median(&times),
        steady: counts() == before,
    }))
}

/// Time at twice the length over the time of each row that has such a sibling: the median over pairs measured one right after
/// the other, so that a machine's slow and fast spells fall on both.
fn measure_doublings(gpu: &Gpu, cases: &[Bench], rows: &mut [Row]) -> Result<(), Failure> {
    const PAIRS: usize = 7;
    const ONE: Effort = Effort {
        samples: 1,
        ..Effort::FULL
    };
    for row in rows {
        let Some(t) = row.size("t") else { continue };
        let Some(stem) = row.name.strip_suffix(&format!("_t{t}")) else {
            continue;
        };
        let twice = format!("{stem}_t{}", 2 * t);
        let find = |name: &str| {
            cases
                .iter()
                .find(|bench| bench.name == name)
                .map(|bench| (bench.make)())
        };
        let (Some(short), Some(long)) = (find(&row.name), find(&twice)) else {
            continue;
        };
        let (short_problem, long_problem) = (short.bind()?, long.bind()?);
        let short_plan = default_plan(gpu, &short, short_problem.as_ref())?;
        let long_plan = default_plan(gpu, &long, long_problem.as_ref())?;
        let mut ratios = (0..PAIRS)
            .map(|_| {
                let short = measure(gpu, short_problem.as_ref(), &short_plan, ONE)?;
                let long = measure(gpu, long_problem.as_ref(), &long_plan, ONE)?;
                Ok(long.median_ms / short.median_ms)
            })
            .collect::<Result<Vec<f64>, Failure>>()?;
        ratios.sort_by(f64::total_cmp);
        row.twice = Some(median(&ratios));
    }
    Ok(())
}

fn verdict(results: &Results) -> Result<(), Failure> {
    let mut wrong: Vec<String> = results
        .rows
        .iter()
        .filter(|row| row.share > IMPOSSIBLE)
        .map(|row| {
            format!(
                "{} at {:.0} % of the {} roof",
                row.name,
                100.0 * row.share,
                row.bound.name()
            )
        })
        .collect();
    for warning in &wrong {
        eprintln!("warning: {warning}: a time, a count or the roof is wrong");
    }
    if let Some(host) = results.host.as_ref().filter(|host| !host.steady) {
        wrong.push(format!("warm calls of {} compile or allocate", host.name));
    }
    let slower = results.changes.iter().filter(|change| change.regressed);
    wrong.extend(slower.map(|change| {
        format!(
            "{} takes {:.2} times as long as before",
            change.name, change.ratio
        )
    }));
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(Failure::Missed(wrong.join("; ")))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A case at half of its roof, without spread.
    pub fn row(op: &str, kind: &str, tokens: usize, ms: f64) -> Row {
        let time = Measured {
            median_ms: ms,
            min_ms: ms,
            max_ms: ms,
            quartiles_ms: [ms; 2],
        };
        Row {
            op: op.into(),
            name: format!("{op}/{kind}_t{tokens}"),
            sizes: vec![("t", tokens)],
            dtype: "f32",
            variant: String::new(),
            work: Work::default(),
            time,
            bound: Bound::Copy,
            share: 0.5,
            verified: true,
            twice: None,
        }
    }
}
