//! The first call: what compiling costs, without and with pipelines kept on disk.

use std::time::Instant;

use super::default_plan;
use crate::{
    Gpu, Select,
    case::{Bench, Case, Failure, Loaded},
};

/// Cases of which one is measured for each: a single kernel, and several that compile side by side.
const WANTED: [&str; 3] = [
    "lightning_forward_",
    "gated_delta_backward_",
    "hamming_knn/",
];

/// The first call of a case on a new device.
pub struct FirstCall {
    /// The case.
    pub name: String,
    /// Pipelines that the call compiles.
    pub pipelines: usize,
    /// With nothing compiled; a driver may keep pipelines by itself.
    pub cold_ms: f64,
    /// With pipelines from [`Select::pipeline_cache`], where the backend has such a cache.
    pub kept_ms: Option<f64>,
    /// The call after it.
    pub warm_ms: f64,
}

/// Times first calls on devices opened for the purpose.
pub(super) fn measure(select: &Select, cases: &[Bench]) -> Result<Vec<FirstCall>, Failure> {
    let wanted = WANTED
        .iter()
        .filter_map(|part| cases.iter().find(|bench| bench.name.contains(part)));
    wanted.map(|bench| measure_one(select, bench)).collect()
}

fn measure_one(select: &Select, bench: &Bench) -> Result<FirstCall, Failure> {
    let case = (bench.make)();
    let open = |folder: Option<&std::path::Path>| {
        Gpu::open(&Select {
            pipeline_cache: folder.map(Into::into),
            ..select.clone()
        })
    };
    let (gpu, folder) = (open(None)?, tempfile::tempdir());
    let (cold_ms, warm_ms) = calls(&gpu, &case)?;
    let kept_ms = match &folder {
        Ok(folder) => {
            let writer = open(Some(folder.path()))?;
            calls(&writer, &case)?;
            match writer.save_pipelines()? {
                Some(_) => Some(calls(&open(Some(folder.path()))?, &case)?.0),
                None => None,
            }
        }
        Err(_) => None,
    };
    Ok(FirstCall {
        name: case.name.clone(),
        pipelines: gpu.pipelines(),
        cold_ms,
        kept_ms,
        warm_ms,
    })
}

/// The first call and the one after it, from planning to completion; tensors are on the device before.
fn calls(gpu: &Gpu, case: &Case) -> Result<(f64, f64), Failure> {
    let problem = case.bind()?;
    let adjoint = problem.adjoint();
    let problem = adjoint.as_deref().unwrap_or(problem.as_ref());
    let mut loaded = Loaded::new(gpu, problem)?;
    gpu.wait()?;
    let mut call = || -> Result<f64, Failure> {
        let started = Instant::now();
        let plan = default_plan(gpu, case, problem)?;
        let mut pass = gpu.pass("first call");
        loaded.record(&mut pass, &plan, false)?;
        pass.submit()?.wait(gpu.timeout())?;
        Ok(started.elapsed().as_secs_f64() * 1e3)
    };
    Ok((call()?, call()?))
}
