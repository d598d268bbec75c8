//! Timing of plans, and the roofs they are held against.

use std::time::Instant;

use crate::{
    Error, Gpu,
    case::{Failure, Loaded, Problem},
    gpu::{Caps, Class, Pass},
    plan::{Plan, Work},
    roof,
};

/// How much to measure.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Timed submissions after the warm-up.
    pub samples: usize,
    /// The least time a submission timed by the host's clock lasts; short plans are repeated within it.
    pub window_ms: f64,
    /// A run that takes longer than this is timed once, without a warm-up.
    pub once_ms: f64,
}

impl Effort {
    /// What published figures take.
    pub const FULL: Effort = Effort {
        samples: 9,
        window_ms: 20.0,
        once_ms: f64::INFINITY,
    };
    /// A look.
    pub const QUICK: Effort = Effort {
        samples: 3,
        window_ms: 5.0,
        once_ms: 2_000.0,
    };
}

/// Time of one run of a plan, over several submissions.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// Median over the submissions.
    pub median_ms: f64,
    /// The fastest.
    pub min_ms: f64,
    /// The slowest.
    pub max_ms: f64,
    /// What a quarter of the submissions stayed below, and what three quarters did.
    pub quartiles_ms: [f64; 2],
}

/// What a device reaches on loops that do nothing but copy, multiply and add, or count bits.
#[derive(Clone, Debug)]
pub struct Roofs {
    /// Bytes read and written, per nanosecond, by a copy well past the caches.
    pub copy_gb_s: f64,
    /// Multiply-adds in registers, two operations each.
    pub fma_gflop_s: f64,
    /// Words whose bits are counted in registers, per nanosecond.
    pub popcount_g_s: f64,
    /// Bytes touched and rate of copies of rising size: small ones stay in caches.
    pub copies: Vec<(f64, f64)>,
}

/// Which roof is the tighter one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// The copy rate.
    Copy,
    /// The multiply-add rate.
    Fma,
    /// The rate of counting bits.
    Popcount,
}

impl Bound {
    /// A word for tables.
    pub fn name(self) -> &'static str {
        match self {
            Bound::Copy => "copy",
            Bound::Fma => "fma",
            Bound::Popcount => "popcount",
        }
    }
}

impl Roofs {
    /// The copy rate for work that touches so many bytes: the best of the copies that touch about as many or more, because
    /// repeated runs find small tensors in a cache.
    pub fn copy_for(&self, bytes: f64) -> f64 {
        self.copies
            .iter()
            .filter(|(touched, _)| 2.0 * touched >= bytes)
            .fold(self.copy_gb_s, |best, (_, rate)| best.max(*rate))
    }

    /// The least time the tighter roof allows for this work, and which roof that is.
    pub fn bound(&self, work: &Work) -> (f64, Bound) {
        let touched = work.bytes * tensor_sets(work) as f64;
        let copy_ms = work.bytes / self.copy_for(touched) / 1e6;
        let fma_ms = work.flops / self.fma_gflop_s / 1e6;
        let popcount_ms = work.popcounts / self.popcount_g_s / 1e6;
        [(fma_ms, Bound::Fma), (popcount_ms, Bound::Popcount)]
            .into_iter()
            .fold((copy_ms, Bound::Copy), |tightest, roof| {
                if roof.0 > tightest.0 { roof } else { tightest }
            })
    }
}

/// Measures the roofs.
///
/// # Errors
/// Those of the device.
pub fn measure_roofs(gpu: &Gpu, effort: Effort) -> Result<Roofs, Failure> {
    let caps = gpu.caps();
    let mut copies = Vec::new();
    for bytes in copy_sizes(caps) {
        let plan = roof::copy(bytes, caps)?;
        let source = gpu.zeros::<f32>((bytes / 4) as usize)?;
        let mut copied = gpu.zeros::<f32>((bytes / 4) as usize)?;
        let time = repeat(gpu, effort, most_runs(caps, &plan), |pass| {
            pass.run(&plan, &[source.view()], &mut [copied.view_mut()])
        })?;
        copies.push((plan.work.bytes, plan.work.bytes / time.median_ms / 1e6));
    }
    let mut sums = gpu.zeros::<u32>(roof::register_len(caps))?;
    let mut rate = |plan: Plan| -> Result<f64, Failure> {
        let time = repeat(gpu, effort, most_runs(caps, &plan), |pass| {
            pass.run(&plan, &[], &mut [sums.view_mut()])
        })?;
        Ok((plan.work.flops + plan.work.popcounts) / time.median_ms / 1e6)
    };
    Ok(Roofs {
        copy_gb_s: copies.last().map_or(0.0, |(_, rate)| *rate),
        fma_gflop_s: rate(roof::fma(caps)?)?,
        popcount_g_s: rate(roof::popcount(caps)?)?,
        copies,
    })
}

/// Copies from cache-sized to well past the caches, within the limits.
fn copy_sizes(caps: &Caps) -> Vec<u64> {
    let largest = if caps.class == Class::Cpu { 64 } else { 512 };
    let limit = caps.binding_bytes.min(caps.buffer_bytes) & !15;
    let mut sizes: Vec<u64> = [1, 4, 16, 64, 256, 512]
        .into_iter()
        .filter(|mib| *mib <= largest)
        .map(|mib| (mib << 20).min(limit))
        .collect();
    sizes.dedup();
    sizes
}

/// Times a plan of a problem, with its tensors already on the device.
///
/// # Errors
/// Those of the device.
pub fn measure(
    gpu: &Gpu,
    problem: &dyn Problem,
    plan: &Plan,
    effort: Effort,
) -> Result<Measured, Failure> {
    let mut sets = (0..tensor_sets(&plan.work))
        .map(|_| Loaded::new(gpu, problem))
        .collect::<Result<Vec<_>, _>>()?;
    let mut turn = 0;
    repeat(gpu, effort, most_runs(gpu.caps(), plan), |pass| {
        turn = (turn + 1) % sets.len().max(1);
        match sets.get_mut(turn) {
            Some(loaded) => loaded.record(pass, plan, false),
            None => Ok(()),
        }
    })
}

/// Sets of tensors that repeated runs take in turn, so that a run does not find the last one's in a cache: a caller brings
/// fresh ones.
fn tensor_sets(work: &Work) -> usize {
    const PAST_THE_CACHES: f64 = 128.0 * (1 << 20) as f64;
    (PAST_THE_CACHES / work.bytes.max(1.0))
        .ceil()
        .clamp(1.0, 8.0) as usize
}

/// Runs of a plan that one submission may hold: each brings its own temporaries.
pub fn most_runs(caps: &Caps, plan: &Plan) -> usize {
    let budget = caps.scratch_bytes / 2 / plan.scratch_bytes().max(1);
    budget.clamp(1, 4096) as usize
}

/// Times whatever `record` records once, by as many recordings a submission as fill the window.
///
/// Pass timestamps where the device has them; on software adapters, whose timestamps disagree with the clock, and elsewhere
/// the host's clock from submission to completion.
///
/// # Errors
/// Those of the device.
pub fn repeat(
    gpu: &Gpu,
    effort: Effort,
    most_runs: usize,
    mut record: impl FnMut(&mut Pass) -> Result<(), Error>,
) -> Result<Measured, Failure> {
    let by_device = gpu.caps().timestamps && gpu.caps().class != Class::Cpu;
    // Timestamps need no long window to be exact, but a GPU takes a while to raise its clocks.
    let (window_ms, warm_ms) = if by_device {
        (2.0, 5.0 * effort.window_ms)
    } else {
        (effort.window_ms, 0.0)
    };
    let mut sample = |runs: usize| -> Result<f64, Failure> {
        let mut pass = gpu.pass("bench");
        if by_device {
            pass = pass.timed();
        }
        for _ in 0..runs {
            record(&mut pass)?;
        }
        gpu.wait()?;
        let timing = pass.submit()?.wait(gpu.timeout())?;
        let time = timing.device.filter(|_| by_device).unwrap_or(timing.wall);
        Ok(time.as_secs_f64() * 1e3)
    };
    let started = Instant::now();
    let first_ms = sample(1)?;
    if first_ms > effort.once_ms {
        return Ok(Measured {
            median_ms: first_ms,
            min_ms: first_ms,
            max_ms: first_ms,
            quartiles_ms: [first_ms; 2],
        });
    }
    let mut runs = 1;
    loop {
        let ms = sample(runs)?;
        if ms < window_ms && runs < most_runs {
            let wanted = (1.25 * window_ms / ms.max(1e-4) * runs as f64).ceil() as usize;
            runs = wanted.clamp(runs + 1, 16 * runs).min(most_runs);
        } else if started.elapsed().as_secs_f64() * 1e3 >= warm_ms {
            break;
        }
    }
    let mut times = Vec::with_capacity(effort.samples);
    for _ in 0..effort.samples.max(1) {
        times.push(sample(runs)? / runs as f64);
    }
    times.sort_by(f64::total_cmp);
    Ok(Measured {
        median_ms: median(&times),
        min_ms: times.first().copied().unwrap_or_default(),
        max_ms: times.last().copied().unwrap_or_default(),
        quartiles_ms: [1, 3].map(|n| {
            let at = (n * times.len().saturating_sub(1)).div_ceil(4);
            times.get(at).copied().unwrap_or_default()
        }),
    })
}

/// The middle of sorted values.
pub fn median(sorted: &[f64]) -> f64 {
    let at = |n: usize| sorted.get(n).copied().unwrap_or_default();
    let half = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        at(half)
    } else {
        0.5 * (at(half.saturating_sub(1)) + at(half))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_held_against_the_tighter_roof() {
        let roofs = Roofs {
            copy_gb_s: 10.0,
            fma_gflop_s: 100.0,
            popcount_g_s: 20.0,
            copies: vec![(2e6, 40.0), (1e8, 10.0)],
        };
        let work = |flops, bytes| Work {
            flops,
            bytes,
            ..Work::default()
        };
        assert_eq!(roofs.bound(&work(1e9, 1e8)), (10.0, Bound::Copy));
        assert_eq!(roofs.bound(&work(1e10, 1e8)), (100.0, Bound::Fma));
        let counts = Work {
            popcounts: 1e10,
            ..work(1e10, 1e8)
        };
        assert_eq!(roofs.bound(&counts), (500.0, Bound::Popcount));
        assert_eq!(roofs.copy_for(1e6), 40.0);
        assert_eq!(roofs.copy_for(1e7), 10.0);
    }

    #[test]
    fn median_of_even_and_odd_counts() {
        assert_eq!(median(&[1.0, 2.0, 9.0]), 2.0);
        assert_eq!(median(&[1.0, 2.0, 4.0, 9.0]), 3.0);
        assert_eq!(median(&[]), 0.0);
    }

    #[test]
    fn copies_stay_within_limits_and_pass_the_caches() {
        assert_eq!(copy_sizes(&Caps::webgpu_floor()).last(), Some(&(128 << 20)));
        assert_eq!(copy_sizes(&Caps::lavapipe()).last(), Some(&(64 << 20)));
        assert_eq!(copy_sizes(&Caps::nvidia()).last(), Some(&(512 << 20)));
    }
}
