//! The Walsh-Hadamard transform.

use super::butterfly::{Algebra, Factors, MAX_BITS, Shape, Stages};
use crate::{
    Error, Result,
    error::length,
    gpu::{Caps, Gpu, Pass, Tensor},
    plan::{Builder, Plan, Slot},
};

pub(super) const OP: &str = "hadamard";

/// The Walsh-Hadamard transform of each row, in Sylvester's order.
///
/// ```text
/// y = x H / √(2^k)        H[i, j] = (-1)^popcount(i & j)
/// ```
///
/// `x` and `y` are `[rows, width]`, width a power of two up to 2^24, row-major. H / √(2^k) is symmetric and its own inverse, so
/// that the gradient with respect to x is this very transform of the gradient with respect to y.
///
/// Cost: `rows · width · log2 width` additions, in passes of up to 12 and then 8 stages; no temporaries.
///
/// Accuracy: root-mean-square error to the f64 reference, relative, <= 1e-6. Deterministic: two runs are bit-equal.
///
/// # Errors
/// `Argument` when width is no such power or a length does not fit; `Limit` when a row exceeds a binding; `Shader`,
/// `OutOfMemory`, `Timeout`, `DeviceLost` from the device.
pub fn hadamard(
    gpu: &Gpu,
    rows: usize,
    width: usize,
    x: &Tensor<f32>,
    y: &mut Tensor<f32>,
) -> Result<()> {
    let mut pass = gpu.pass(OP);
    record(&mut pass, rows, width, x, y)?;
    pass.submit().map(drop)
}

/// [`hadamard()`], recorded into a pass that the caller submits.
///
/// # Errors
/// As [`hadamard()`].
pub fn record(
    pass: &mut Pass,
    rows: usize,
    width: usize,
    x: &Tensor<f32>,
    y: &mut Tensor<f32>,
) -> Result<()> {
    let plan = plan(rows, width, pass.caps())?;
    length(OP, "x", x.len(), rows * width)?;
    length(OP, "y", y.len(), rows * width)?;
    pass.run(&plan, &[x.view()], &mut [y.view_mut()])
}

/// Plans [`hadamard()`]. Input: x; output: y.
///
/// # Errors
/// As [`hadamard()`], but for those of the device.
pub fn plan(rows: usize, width: usize, caps: &Caps) -> Result<Plan> {
    let shape = shape(rows, width)?;
    let mut builder = Builder::default();
    let factors = builder.add_table(factors(shape.bits));
    let stages = Stages {
        shape,
        algebra: Algebra::Real,
        sets: Factors::Shared,
        first: 0,
        factors,
        source: Some(Slot::Input(0)),
        items: Slot::Output(0),
    };
    stages.steps(&mut builder, caps)?;
    let label = format!("2^{} in place", shape.bits);
    let plan = builder.plan(OP, label, stages.work());
    plan.check(caps)?;
    Ok(plan)
}

pub(super) fn shape(rows: usize, width: usize) -> Result<Shape> {
    if !width.is_power_of_two() || !(2..=1 << MAX_BITS).contains(&width) {
        return Err(Error::Argument {
            op: OP,
            what: "width".into(),
            expected: "a power of two from 2 to 2^24".into(),
            got: width.to_string(),
        });
    }
    let shape = Shape {
        outer: rows,
        bits: width.trailing_zeros() as usize,
        inner: 1,
    };
    shape.check(OP)?;
    Ok(shape)
}

/// [[1, 1], [1, -1]] for every bit, the last scaled for all.
pub(super) fn factors(bits: usize) -> Vec<u32> {
    let scale = (-0.5 * bits as f64).exp2() as f32;
    let factor = |n| {
        let s = if n + 1 == bits { scale } else { 1.0 };
        [s, s, s, -s].map(f32::to_bits)
    };
    (0..bits).flat_map(factor).collect()
}
