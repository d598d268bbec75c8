//! `subquad apply`: one operator on one file.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    time::{Duration, Instant},
};

use serde_json::{Map, Value};

use crate::{
    Gpu,
    case::{Array, Case, Failure, Loaded, Problem, judge_decided, run},
    plan::Plan,
};

/// Arguments of `apply`.
pub struct Apply {
    /// The input file.
    pub input: PathBuf,
    /// The output file.
    pub output: PathBuf,
    /// The operator, where the metadata names none or another is wanted.
    pub op: Option<String>,
    /// Parameters that override the metadata's.
    pub params: Map<String, Value>,
    /// Whether to compare with the CPU reference.
    pub verify: bool,
    /// The device, or none for the CPU reference.
    pub gpu: Option<Gpu>,
}

/// Parses `key=value`, where the value is JSON or, failing that, text.
///
/// # Errors
/// `Usage` without an equals sign.
pub fn param(text: &str) -> Result<(String, Value), Failure> {
    let (key, value) = text
        .split_once('=')
        .ok_or_else(|| Failure::Usage(format!("--param must be key=value, got \"{text}\"")))?;
    Ok((
        key.into(),
        serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.into())),
    ))
}

/// Runs the operator that the file names and writes its outputs.
///
/// # Errors
/// `File`, `Case`, `Unavailable` for the input; those of the device; `Usage` when the result misses its tolerance.
pub fn apply(args: &Apply) -> Result<(), Failure> {
    let case = Case::read(&args.input, args.op.as_deref(), &args.params)?;
    let problem = case.bind()?;
    let problem = problem.as_ref();
    let (arrays, time) = match &args.gpu {
        Some(gpu) => on_gpu(gpu, &case, problem)?,
        None => {
            let started = Instant::now();
            let arrays = problem.native()?;
            say!("{}: {} on the CPU reference (f64)", case.name, case.op);
            (arrays, started.elapsed())
        }
    };
    let sizes: Vec<String> = problem
        .sizes()
        .iter()
        .map(|(letter, n)| format!("{letter} {n}"))
        .collect();
    say!(
        "  shape       {}, {}",
        sizes.join(", "),
        problem
            .inputs()
            .first()
            .map_or("no input", |array| array.dtype.name())
    );
    say!("  time        {:.3} ms", time.as_secs_f64() * 1e3);
    let mut missed = Vec::new();
    let mut named = BTreeMap::new();
    let mut keep = |problem: &dyn Problem, arrays: Vec<Array>, prefix: &str| {
        let references = if args.verify && args.gpu.is_some() {
            problem.reference()?
        } else {
            Vec::new()
        };
        let outputs = problem.outputs();
        for (n, ((output, array), reference)) in
            outputs.iter().zip(&arrays).zip(references).enumerate()
        {
            let undecided = problem.undecided(n)?;
            let (values, magnitude) = (&reference.values, Some(reference.magnitude.as_slice()));
            let verdict = judge_decided(output, array, values, magnitude, undecided.as_ref());
            say!(
                "  error       {}: {:.2e} relative to the CPU reference, tolerance {:.0e}",
                output.name,
                verdict.ratio,
                verdict.bound
            );
            if !verdict.holds() {
                missed.push(output.name);
            }
        }
        let arrays = outputs.iter().zip(arrays);
        named.extend(arrays.map(|(output, array)| {
            let name = match prefix {
                "" => output.file_name(),
                prefix => format!("{prefix}{}", output.name),
            };
            (name, array)
        }));
        Ok::<(), Failure>(())
    };
    keep(problem, arrays, "")?;
    if let Some(adjoint) = problem.adjoint() {
        let arrays = match &args.gpu {
            Some(gpu) => {
                let plan = adjoint.plans(gpu.caps(), false)?.swap_remove(0);
                run(gpu, adjoint.as_ref(), &plan, false)?
            }
            None => adjoint.native()?,
        };
        keep(adjoint.as_ref(), arrays, "grad.")?;
    }
    let metadata = BTreeMap::from([
        ("op".to_owned(), case.op.clone()),
        (
            "params".to_owned(),
            Value::Object(case.params.clone()).to_string(),
        ),
        (
            "source".to_owned(),
            format!("subquad {}", env!("CARGO_PKG_VERSION")),
        ),
    ]);
    Case::write_tensors(&args.output, &named, metadata)?;
    say!("  written     {}", args.output.display());
    if missed.is_empty() {
        Ok(())
    } else {
        Err(Failure::Missed(format!(
            "{}: {} missed the tolerance",
            case.name,
            missed.join(", ")
        )))
    }
}

fn on_gpu(
    gpu: &Gpu,
    case: &Case,
    problem: &dyn Problem,
) -> Result<(Vec<Array>, Duration), Failure> {
    let plans = problem.plans(gpu.caps(), false)?;
    let plan: &Plan = plans
        .first()
        .ok_or_else(|| case.wrong("has no plan on this device"))?;
    let mut loaded = Loaded::new(gpu, problem)?;
    // The first run compiles; the second is timed, from the same start.
    let mut time = Duration::ZERO;
    for _ in 0..2 {
        loaded.reset()?;
        let mut pass = gpu.pass("apply");
        loaded.record(&mut pass, plan, false)?;
        time = pass.submit()?.wait(gpu.timeout())?.wall;
    }
    let rate = |amount: f64| amount / time.as_secs_f64() / 1e9;
    say!(
        "{}: {} on {} ({}, {})",
        case.name,
        case.op,
        gpu.caps().name,
        gpu.caps().backend,
        gpu.caps().driver
    );
    say!(
        "  plan        {}, {} dispatches, {} bytes of temporaries",
        plan.label,
        plan.steps.len(),
        plan.scratch_bytes()
    );
    say!(
        "  rate        {:.2} GFLOP/s, {:.2} GB/s",
        rate(plan.work.flops),
        rate(plan.work.bytes)
    );
    Ok((loaded.download()?, time))
}
