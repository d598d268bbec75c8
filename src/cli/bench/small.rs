//! Small work: what a recorded dispatch costs the host, and decoding against the time its state takes to read and write.

use std::time::Instant;

use super::{Roofs, default_plan, median};
use crate::{
    Gpu,
    case::{Bench, Failure, Loaded},
    gpu::Replay,
};

/// Calls that one recording holds: the layers of a small model.
const LAYERS: usize = 12;

/// Recordings timed.
const SAMPLES: usize = 25;

/// Many small calls in one recording.
pub struct Small {
    /// The case.
    pub name: String,
    /// Dispatches of the recording.
    pub dispatches: usize,
    /// Host time to plan and record the calls anew, a dispatch.
    pub record_us: f64,
    /// Host time to submit the kept recording once more, a dispatch.
    pub replay_us: f64,
    /// Runs a second, recorded anew each time: tokens, where the case is a decoding step through all layers.
    pub recorded_per_s: f64,
    /// Runs a second of the kept recording.
    pub replayed_per_s: f64,
    /// Runs a second if all that the calls read and write moved at the copy rate, and nothing else took time.
    pub floor_per_s: f64,
}

/// Measures the cases of single steps: their names say so.
pub(super) fn measure(gpu: &Gpu, cases: &[Bench], roofs: &Roofs) -> Result<Vec<Small>, Failure> {
    let small = cases
        .iter()
        .filter(|case| case.name.contains("_step_") || case.name.contains("_tiny_"));
    small.map(|bench| measure_one(gpu, bench, roofs)).collect()
}

fn measure_one(gpu: &Gpu, bench: &Bench, roofs: &Roofs) -> Result<Small, Failure> {
    let case = (bench.make)();
    let problem = case.bind()?;
    let mut layers = (0..LAYERS)
        .map(|_| Loaded::new(gpu, problem.as_ref()))
        .collect::<Result<Vec<_>, _>>()?;
    let mut bytes = 0.0;
    let mut record = || -> Result<(Replay, f64), Failure> {
        let started = Instant::now();
        let mut pass = gpu.pass("small work");
        bytes = 0.0;
        for layer in &mut layers {
            let plan = default_plan(gpu, &case, problem.as_ref())?;
            bytes += plan.work.bytes;
            layer.record(&mut pass, &plan, false)?;
        }
        Ok((pass.replay(), started.elapsed().as_secs_f64()))
    };
    // Host time of a submission, and the time until its work is done.
    let run = |replay: &Replay| -> Result<(f64, f64), Failure> {
        gpu.wait()?;
        let started = Instant::now();
        let done = replay.submit()?;
        let host = started.elapsed().as_secs_f64();
        done.wait(gpu.timeout())?;
        Ok((host, started.elapsed().as_secs_f64()))
    };
    let (kept, _) = record()?;
    run(&kept)?;
    let (mut recording, mut anew, mut host, mut again) = (vec![], vec![], vec![], vec![]);
    for _ in 0..SAMPLES {
        let (fresh, seconds) = record()?;
        recording.push(seconds);
        anew.push(seconds + run(&fresh)?.1);
        let (submitted, done) = run(&kept)?;
        host.push(submitted);
        again.push(done);
    }
    let middle = |mut times: Vec<f64>| {
        times.sort_by(f64::total_cmp);
        median(&times)
    };
    let dispatches = kept.dispatches().max(1);
    let each_us = |seconds: f64| seconds * 1e6 / dispatches as f64;
    Ok(Small {
        name: case.name.clone(),
        dispatches,
        record_us: each_us(middle(recording)),
        replay_us: each_us(middle(host)),
        recorded_per_s: 1.0 / middle(anew),
        replayed_per_s: 1.0 / middle(again),
        floor_per_s: roofs.copy_for(bytes) * 1e9 / bytes.max(1.0),
    })
}
