//! Criterion over the cases of `subquad bench`: statistics and comparison with the run before.
//!
//! `cargo bench -- lightning_forward` picks cases by name.

use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use subquad::{
    Gpu, Select,
    case::{Loaded, ops},
};

fn main() {
    let gpu = match Gpu::open(&Select::from_env()) {
        Ok(gpu) => gpu,
        Err(error) => return eprintln!("skipped: {error}"),
    };
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    let mut group = criterion.benchmark_group(gpu.caps().name.replace('/', "-"));
    for case in ops().iter().flat_map(|op| (op.benches)(gpu.caps().class)) {
        let forward = (case.make)().bind().expect("bench cases bind");
        let adjoint = forward.adjoint();
        let problem = adjoint.as_deref().unwrap_or(forward.as_ref());
        let plan = problem
            .plans(gpu.caps(), false)
            .expect("bench cases have a plan")
            .remove(0);
        group.throughput(Throughput::Elements(plan.work.flops as u64));
        group.bench_function(case.name.replace('/', " "), |bencher| {
            let mut loaded = Loaded::new(&gpu, problem).expect("inputs upload");
            let mut submit = |calls: u64| {
                let started = Instant::now();
                for _ in 0..calls {
                    let mut pass = gpu.pass("bench");
                    loaded
                        .record(&mut pass, &plan, false)
                        .expect("a plan records");
                    pass.submit().expect("a pass submits");
                }
                gpu.wait().expect("the device finishes");
                started.elapsed()
            };
            submit(1);
            bencher.iter_custom(submit);
        });
    }
    group.finish();
    criterion.final_summary();
}
