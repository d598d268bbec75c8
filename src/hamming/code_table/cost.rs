//! What the table costs, for those who choose between it and the quadratic form.

use super::{Options, Shape};
use crate::{
    Result,
    gpu::{Caps, Class},
};

/// Nanoseconds of a whole device.
struct Rates {
    /// One row element summed into the table, sorting included.
    sum: f64,
    /// One table element in one pass of the butterfly.
    pass: f64,
    /// Stages of a pass.
    stages: usize,
    /// One row element of a table weighed and added, in the causal form.
    weigh: f64,
    /// One dispatch.
    dispatch: f64,
}

/// Measured on llvmpipe, by processor time over two cores; unmeasured elsewhere: from copies at 1 TB/s for discrete GPUs and at 50
/// GB/s for the others.
fn rates(class: Class) -> Rates {
    match class {
        Class::Cpu => Rates {
            sum: 5.0,
            pass: 1.8,
            stages: 4,
            weigh: 3.0,
            dispatch: 40e3,
        },
        Class::Nvidia | Class::Amd => Rates {
            sum: 0.03,
            pass: 0.01,
            stages: 8,
            weigh: 0.01,
            dispatch: 6e3,
        },
        Class::Apple | Class::Intel | Class::Other => Rates {
            sum: 0.3,
            pass: 0.2,
            stages: 8,
            weigh: 0.1,
            dispatch: 10e3,
        },
    }
}

/// Milliseconds that the forward call is expected to take: what a planner compares with the cost of the quadratic form.
///
/// # Errors
/// As [`Shape::check`]: then there is no table to compare with.
pub fn cost_ms(shape: &Shape, options: &Options, caps: &Caps) -> Result<f64> {
    shape.check(options)?;
    let rates = rates(caps.class);
    let columns = (shape.value + 1) as f64;
    let tables = (shape.key_lists() * shape.share(options)) as f64;
    let (keys, queries) = (tables * shape.keys as f64, shape.query_len() as f64);
    let bits = options.bits;
    let ns = if options.causal {
        let chunk = options.chunk(caps.class) as f64;
        let (low, high) = (
            (1u64 << (bits / 2)) as f64,
            (1u64 << (bits - bits / 2)) as f64,
        );
        let rows = keys * high + queries * (low + chunk / 2.0);
        rows * columns * rates.weigh + 3.0 * rates.dispatch * (shape.keys as f64 / chunk).ceil()
    } else {
        let table = tables * columns * (1u64 << bits) as f64;
        let passes = bits.div_ceil(rates.stages) as f64;
        let sums = (keys + queries) * columns * rates.sum;
        sums + table * (passes + 0.5) * rates.pass + (8.0 + passes) * rates.dispatch
    };
    Ok(ns * 1e-6)
}
