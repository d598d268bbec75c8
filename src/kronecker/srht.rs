//! The subsampled randomised Hadamard transform, its adjoint, and regression through it.

use bytemuck::bytes_of;

use super::{
    butterfly,
    signs::{Signs, rows},
    tensor_srht::{self, Columns, drawn, padded_bits, streams, unscaled},
};
use crate::{
    Result,
    error::length,
    gpu::{Caps, Gpu, Pass, Spec, Tensor, params, part},
    over::{Held, OverRows, kernel},
    plan::{Builder, Plan, Slot, Work},
    random::Random,
};

pub(super) const OP: &str = "srht";

params! {
    /// Parameters of `scatter_rows`.
    ScatterParams {
        y_offset: u32,
        first_row: u32,
        first: u32,
        end: u32,
        columns: u32,
        begin: u32,
        stop: u32,
        accumulate: u32,
        scale: f32,
    }
}

/// Sizes of a sketch S A.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Rows n of A, up to 2^24.
    pub rows: usize,
    /// Columns d of A.
    pub columns: usize,
    /// Rows m of the sketch.
    pub samples: usize,
}

impl Shape {
    pub(super) fn tensor(&self) -> tensor_srht::Shape {
        tensor_srht::Shape {
            factors: vec![[self.rows, self.columns]],
            samples: self.samples,
            columns: Columns::Kronecker,
        }
    }

    /// Whether a call of this shape makes sense.
    ///
    /// # Errors
    /// `Argument` when it does not.
    pub fn check(&self) -> Result<()> {
        self.tensor().check(OP)
    }
}

/// The subsampled randomised Hadamard transform of the columns of a matrix.
///
/// ```text
/// S A        S = R H D / √m        D = diag(random signs), H[i, j] = (-1)^popcount(i & j), R draws m rows with replacement
/// ```
///
/// `a` is `[rows, columns]`, `sketch` `[samples, columns]`, row-major. Rows are padded with zeros to a power of two. Signs and draws are
/// of the streams of `random`. E\[SᵀS\] = I; m = ε⁻² d log³(n / δ) samples keep the norms of a space of d dimensions within 1 ± ε, 4 d to
/// 8 d are usual.
///
/// Cost: `rows · columns · log2 rows` additions, no transposes; temporaries: the padded matrix.
///
/// Accuracy: root-mean-square error to the f64 reference on the same draws, relative, <= 1e-6. Deterministic: two runs are bit-equal.
///
/// # Errors
/// `Argument` when sizes or lengths do not fit together; `Limit` when the padded matrix exceeds a binding or the scratch budget;
/// `Shader`, `OutOfMemory`, `Timeout`, `DeviceLost` from the device.
///
/// Source: Ailon and Chazelle, "The fast Johnson-Lindenstrauss transform", 2009; Tropp, "Improved analysis of the subsampled randomized
/// Hadamard transform", 2011.
pub fn srht(
    gpu: &Gpu,
    shape: &Shape,
    random: &Random,
    a: &Tensor<f32>,
    sketch: &mut Tensor<f32>,
) -> Result<()> {
    let mut pass = gpu.pass(OP);
    record(&mut pass, shape, random, a, sketch)?;
    pass.submit().map(drop)
}

/// [`srht()`], recorded into a pass that the caller submits.
///
/// # Errors
/// As [`srht()`].
pub fn record(
    pass: &mut Pass,
    shape: &Shape,
    random: &Random,
    a: &Tensor<f32>,
    sketch: &mut Tensor<f32>,
) -> Result<()> {
    let plan = plan(shape, random, pass.caps())?;
    length(OP, "a", a.len(), shape.rows * shape.columns)?;
    length(OP, "sketch", sketch.len(), shape.samples * shape.columns)?;
    pass.run(&plan, &[a.view()], &mut [sketch.view_mut()])
}

/// Plans [`srht()`]. Input: the matrix; output: the sketch.
///
/// # Errors
/// As [`srht()`], but for those of the device.
pub fn plan(shape: &Shape, random: &Random, caps: &Caps) -> Result<Plan> {
    let shape = shape.tensor();
    shape.check(OP)?;
    tensor_srht::named(OP, &shape, random, caps)
}

/// The transpose of [`srht()`]: Sᵀ Y for `y` `[samples, columns]` into `x` `[rows, columns]`, with the draws of the same stream.
///
/// It is the gradient with respect to A of the inner product of Y and S A. A row drawn several times sums its samples in their order.
/// Cost, accuracy: as [`srht()`]; every padded element searches the sorted draws.
///
/// # Errors
/// As [`srht()`].
pub fn adjoint(
    gpu: &Gpu,
    shape: &Shape,
    random: &Random,
    y: &Tensor<f32>,
    x: &mut Tensor<f32>,
) -> Result<()> {
    let mut pass = gpu.pass(OP);
    record_adjoint(&mut pass, shape, random, y, x)?;
    pass.submit().map(drop)
}

/// [`adjoint`], recorded into a pass that the caller submits.
///
/// # Errors
/// As [`srht()`].
pub fn record_adjoint(
    pass: &mut Pass,
    shape: &Shape,
    random: &Random,
    y: &Tensor<f32>,
    x: &mut Tensor<f32>,
) -> Result<()> {
    let plan = plan_adjoint(shape, random, pass.caps())?;
    length(OP, "y", y.len(), shape.samples * shape.columns)?;
    length(OP, "x", x.len(), shape.rows * shape.columns)?;
    pass.run(&plan, &[y.view()], &mut [x.view_mut()])
}

/// Plans [`adjoint`]. Input: y; output: x.
///
/// # Errors
/// As [`srht()`], but for those of the device.
pub fn plan_adjoint(shape: &Shape, random: &Random, caps: &Caps) -> Result<Plan> {
    shape.check()?;
    let Shape {
        rows: n,
        columns,
        samples,
    } = *shape;
    let bits = padded_bits(n);
    let [signs, draws] = streams(random, 0);
    let mut builder = Builder::default();
    let padded = builder.add_scratch(4 * (columns << bits) as u64);
    scatter(&mut builder, caps, &draws, bits, [samples, columns], padded)?;
    let items = butterfly::Shape {
        outer: 1,
        bits,
        inner: columns,
    };
    let work = unscaled(&mut builder, caps, items, padded)?;
    let signs = Signs {
        random: signs,
        outer: 1,
        blocks: 1,
        len: n,
        padded: 1 << bits,
        inner: columns,
    };
    signs.sum(&mut builder, caps, 1.0, [padded, Slot::Output(0)])?;
    let work = Work {
        bytes: 4.0 * ((n + samples) * columns) as f64,
        ..work
    };
    let plan = builder.plan(OP, format!("adjoint, {samples} samples"), work);
    plan.check(caps)?;
    Ok(plan)
}

/// Adds Rᵀ Y / √m.
fn scatter(
    builder: &mut Builder,
    caps: &Caps,
    draws: &Random,
    bits: usize,
    [samples, columns]: [usize; 2],
    into: Slot,
) -> Result<()> {
    let mut pairs: Vec<[u32; 2]> = (0..samples)
        .map(|r| [drawn(draws, r as u64, bits) as u32, r as u32])
        .collect();
    pairs.sort_unstable();
    let table = builder.add_table(pairs.into_flattened());
    // A row may have been drawn any number of times.
    let most = (caps.loop_iterations - 64).min(1 << 24) as usize;
    for from in (0..samples).step_by(most) {
        let to = samples.min(from + most);
        let over = OverRows {
            kernel: kernel(
                "kronecker/scatter_rows",
                [part!("kronecker/scatter_rows.wgsl")],
                Spec::default().with("SEARCH", samples.ilog2() + 1),
                ScatterParams::FIELDS,
            ),
            held: vec![
                Held::Whole(table, 2 * samples as u64),
                Held::Whole(Slot::Input(0), (samples * columns) as u64),
                Held::Written(rows(into, columns)),
            ],
            rows: 1 << bits,
            per_row: columns as u64,
            row_flops: (16.0 * (samples as f64 + 1.0).log2() + 16.0) * columns as f64
                + 16.0 * (samples * columns) as f64 / (1u64 << bits) as f64,
        };
        over.steps(builder, caps, |placed| {
            let params = ScatterParams {
                y_offset: placed.offset(2),
                first_row: placed.first_row,
                first: placed.first,
                end: placed.end,
                columns: columns as u32,
                begin: from as u32,
                stop: to as u32,
                accumulate: u32::from(from > 0),
                scale: (1.0 / (samples as f64).sqrt()) as f32,
            };
            bytes_of(&params).to_vec()
        })?;
    }
    Ok(())
}
