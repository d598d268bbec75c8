//! `subquad demo`: one layer of a language model through lightning attention, checked, timed and pictured.

mod layer;
mod page;

use std::{path::PathBuf, time::Instant};

use super::bench::{Effort, measure, most_runs, progress, repeat};
use crate::{
    Gpu,
    case::{Array, Failure, Verdict, judge, run, write_whole},
    linear::Shape,
    softmax,
};
use layer::{Layer, SLOPES, cosines};

/// Lengths at which both attentions are timed.
const LENGTHS: [usize; 6] = [512, 1024, 2048, 4096, 8192, 16_384];

/// The longest a point of a series may be expected to take.
const PATIENCE_MS: f64 = 12_000.0;

/// Short samples: the figure is a picture, `bench` measures.
const EFFORT: Effort = Effort {
    samples: 3,
    window_ms: 10.0,
    once_ms: 400.0,
};

/// The bound on the error of the softmax kernel relative to its f64 reference.
const SOFTMAX_RATIO: f64 = 5e-6;

/// Arguments of `demo`.
pub struct DemoArgs {
    /// The device, or none for the CPU reference.
    pub gpu: Option<Gpu>,
    /// Where to write the report.
    pub html: PathBuf,
    /// Fewer lengths.
    pub quick: bool,
}

/// A result and how far it is from the f64 reference.
pub(super) struct Checked {
    /// What was computed.
    what: &'static str,
    /// The variant that computed it.
    variant: String,
    /// The comparison.
    verdict: Verdict,
}

/// Times of one attention by number of tokens.
pub(super) struct Timed {
    /// Which attention.
    name: &'static str,
    /// Tokens and milliseconds.
    points: Vec<(usize, f64)>,
    /// The first length left out, and why.
    stopped: Option<(usize, f64)>,
}

/// Everything `demo` found.
pub(super) struct Findings {
    /// Where it was computed.
    device: String,
    /// Comparisons with the reference; none without a device.
    checked: Vec<Checked>,
    /// Cosine similarity of lightning and softmax outputs, by head.
    cosines: Vec<f64>,
    /// Lightning, then softmax.
    timed: [Timed; 2],
    /// The layer itself, for pictures.
    layer: Layer,
}

/// Runs the demonstration, prints a summary and writes the report.
///
/// # Errors
/// `Missed` when a result is beyond its tolerance; `File` when the report cannot be written; those of the device.
pub fn demo(args: &DemoArgs) -> Result<(), Failure> {
    let started = Instant::now();
    let layer = Layer::load()?;
    let device = match &args.gpu {
        Some(gpu) => format!(
            "{} ({}, {})",
            gpu.caps().name,
            gpu.caps().backend,
            gpu.caps().driver
        ),
        None => "the CPU reference in f64, no GPU adapter".to_owned(),
    };
    say!("{}", layer.describe());
    say!("computing on {device}");
    let bar = progress(2 + 2 * LENGTHS.len() as u64);
    bar.set_message("lightning and softmax attention on the layer");
    let (outputs, checked) = attend(args.gpu.as_ref(), &layer)?;
    bar.inc(2);
    let cosines = cosines(&layer, &outputs.lightning, &outputs.softmax);
    let lengths = if args.quick { 3 } else { LENGTHS.len() };
    let tell = |tokens: usize, name: &str| {
        bar.set_message(format!("{name} attention, {tokens} tokens"));
        bar.inc(1);
    };
    let lightning = time_lengths(args.gpu.as_ref(), &layer, false, lengths, &tell)?;
    let softmax = time_lengths(args.gpu.as_ref(), &layer, true, lengths, &tell)?;
    bar.finish_and_clear();
    let findings = Findings {
        device,
        checked,
        cosines,
        timed: [lightning, softmax],
        layer,
    };
    print_findings(&findings);
    write_whole(&args.html, page::page(&findings)?.as_bytes())?;
    say!(
        "report: {} ({:.0} s in all)",
        args.html.display(),
        started.elapsed().as_secs_f64()
    );
    let missed: Vec<&str> = findings
        .checked
        .iter()
        .filter(|checked| !checked.verdict.holds())
        .map(|checked| checked.what)
        .collect();
    if missed.is_empty() {
        Ok(())
    } else {
        Err(Failure::Missed(format!(
            "{} missed the tolerance",
            missed.join(" and ")
        )))
    }
}

struct Outputs {
    lightning: Vec<f64>,
    softmax: Vec<f64>,
}

/// Both attentions on the layer, on the device where there is one, and their comparison with the references.
fn attend(gpu: Option<&Gpu>, layer: &Layer) -> Result<(Outputs, Vec<Checked>), Failure> {
    let case = layer.case()?;
    let problem = case.bind()?;
    let problem = problem.as_ref();
    let shape = layer.shape(layer.tokens);
    let [q, k, v] = &layer.qkv;
    let expected = softmax::cpu(&shape, layer.scale(), true, q, k, v)?;
    let Some(gpu) = gpu else {
        let arrays = problem.native()?;
        let outputs = Outputs {
            lightning: arrays.first().map(Array::values).unwrap_or_default(),
            softmax: expected,
        };
        return Ok((outputs, Vec::new()));
    };
    let plan = problem
        .plans(gpu.caps(), false)?
        .into_iter()
        .next()
        .ok_or_else(|| case.wrong("has no plan on this device"))?;
    let arrays = run(gpu, problem, &plan, false)?;
    let mut checked = Vec::new();
    for ((output, array), reference) in problem
        .outputs()
        .iter()
        .zip(&arrays)
        .zip(problem.reference()?)
    {
        checked.push(Checked {
            what: match output.name {
                "o" => "lightning attention, outputs",
                _ => "lightning attention, final state",
            },
            variant: plan.label.clone(),
            verdict: judge(output, array, &reference.values, Some(&reference.magnitude)),
        });
    }
    let rival = softmax::attention(&shape, layer.scale(), true, gpu.caps())?;
    let got = run_softmax(gpu, layer, &shape)?;
    checked.push(Checked {
        what: "softmax attention, outputs",
        variant: rival.label,
        verdict: Verdict {
            ratio: ratio(&got, &expected),
            bound: SOFTMAX_RATIO,
            worst: 0.0,
        },
    });
    let outputs = Outputs {
        lightning: arrays.first().map(Array::values).unwrap_or_default(),
        softmax: got,
    };
    Ok((outputs, checked))
}

fn run_softmax(gpu: &Gpu, layer: &Layer, shape: &Shape) -> Result<Vec<f64>, Failure> {
    let plan = softmax::attention(shape, layer.scale(), true, gpu.caps())?;
    let inputs = layer.upload(gpu, shape.tokens)?;
    let views: Vec<_> = inputs.iter().map(|tensor| tensor.view()).collect();
    let mut o = gpu.zeros::<f32>(shape.output_len())?;
    let mut pass = gpu.pass("softmax attention");
    pass.run(&plan, &views, &mut [o.view_mut()])?;
    pass.submit()?;
    Ok(o.download()?.into_iter().map(f64::from).collect())
}

/// Root-mean-square error over root-mean-square.
fn ratio(got: &[f64], expected: &[f64]) -> f64 {
    let error: f64 = got
        .iter()
        .zip(expected)
        .map(|(a, b)| (a - b) * (a - b))
        .sum();
    let norm: f64 = expected.iter().map(|x| x * x).sum();
    let ratio = (error / norm).sqrt();
    if ratio.is_nan() { f64::INFINITY } else { ratio }
}

/// Times one attention at rising lengths until a point is expected to take too long.
fn time_lengths(
    gpu: Option<&Gpu>,
    layer: &Layer,
    quadratic: bool,
    lengths: usize,
    report: &dyn Fn(usize, &str),
) -> Result<Timed, Failure> {
    let name = if quadratic { "softmax" } else { "lightning" };
    let mut timed = Timed {
        name,
        points: Vec::new(),
        stopped: None,
    };
    // The f64 reference makes a point for scale, not a figure: it stops sooner.
    let patience = if gpu.is_some() {
        PATIENCE_MS
    } else {
        PATIENCE_MS / 4.0
    };
    for tokens in LENGTHS.into_iter().take(lengths) {
        report(tokens, name);
        let expected = timed.points.last().map_or(0.0, |(last, ms)| {
            let factor = tokens as f64 / *last as f64;
            ms * if quadratic { factor * factor } else { factor }
        });
        if expected > patience {
            timed.stopped = Some((tokens, expected));
            break;
        }
        let ms = match (gpu, quadratic) {
            (Some(gpu), false) => time_lightning(gpu, layer, tokens)?,
            (Some(gpu), true) => time_softmax(gpu, layer, tokens)?,
            (None, _) => time_reference(layer, tokens, quadratic)?,
        };
        timed.points.push((tokens, ms));
    }
    Ok(timed)
}

fn time_lightning(gpu: &Gpu, layer: &Layer, tokens: usize) -> Result<f64, Failure> {
    let case = layer.case_f32(tokens)?;
    let problem = case.bind()?;
    let plan = problem
        .plans(gpu.caps(), false)?
        .into_iter()
        .next()
        .ok_or_else(|| case.wrong("has no plan on this device"))?;
    Ok(measure(gpu, problem.as_ref(), &plan, EFFORT)?.median_ms)
}

fn time_softmax(gpu: &Gpu, layer: &Layer, tokens: usize) -> Result<f64, Failure> {
    let shape = layer.shape(tokens);
    let plan = softmax::attention(&shape, layer.scale(), true, gpu.caps())?;
    let inputs = layer.upload(gpu, tokens)?;
    let views: Vec<_> = inputs.iter().map(|tensor| tensor.view()).collect();
    let mut o = gpu.zeros::<f32>(shape.output_len())?;
    let time = repeat(gpu, EFFORT, most_runs(gpu.caps(), &plan), |pass| {
        pass.run(&plan, &views, &mut [o.view_mut()])
    })?;
    Ok(time.median_ms)
}

fn time_reference(layer: &Layer, tokens: usize, quadratic: bool) -> Result<f64, Failure> {
    let started;
    if quadratic {
        let shape = layer.shape(tokens);
        let [q, k, v] = [0, 1, 2].map(|n| layer.repeated(n, tokens));
        started = Instant::now();
        softmax::cpu(&shape, layer.scale(), true, &q, &k, &v)?;
    } else {
        let case = layer.case_f32(tokens)?;
        let problem = case.bind()?;
        started = Instant::now();
        problem.reference()?;
    }
    Ok(started.elapsed().as_secs_f64() * 1e3)
}

fn print_findings(findings: &Findings) {
    say!("decays: {SLOPES}");
    for checked in &findings.checked {
        say!(
            "{}: error {:.1e} of the f64 reference, tolerance {:.0e}: {} ({})",
            checked.what,
            checked.verdict.ratio,
            checked.verdict.bound,
            if checked.verdict.holds() {
                "ok"
            } else {
                "MISSED"
            },
            checked.variant,
        );
    }
    let cosines: Vec<String> = findings.cosines.iter().map(|c| format!("{c:.2}")).collect();
    say!(
        "cosine similarity to softmax attention by head: {}",
        cosines.join(" ")
    );
    say!(
        "  (the weights were trained for softmax: this says how far the two differ, and is no test)"
    );
    let [lightning, softmax] = &findings.timed;
    say!(
        "{:>8} {:>14} {:>14}",
        "tokens",
        "lightning ms",
        "softmax ms"
    );
    for (tokens, ms) in &lightning.points {
        let rival = softmax.points.iter().find(|(t, _)| t == tokens);
        say!(
            "{tokens:>8} {ms:>14.3} {:>14}",
            rival.map_or("-".into(), |(_, ms)| format!("{ms:.3}"))
        );
    }
    if let Some((tokens, ms)) = softmax.stopped {
        say!(
            "softmax stops before {tokens} tokens: that would take about {:.0} s",
            ms / 1e3
        );
    }
}
