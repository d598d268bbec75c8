//! The Walsh-Hadamard transform.

use std::sync::Arc;

use bytemuck::bytes_of;

use super::{
    butterfly::{Algebra, Factors, MAX_BITS, Shape, Stages},
    signs::rows as rows_of,
};
use crate::{
    Error, Result,
    error::length,
    gpu::{Caps, Class, Gpu, Kernel, Needs, Pass, Spec, Tensor, params, part},
    over::{Held, OverRows, kernel},
    plan::{Builder, Plan, Slot, Work},
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
/// Cost: `rows · width · log2 width` additions, in passes of up to 12 and then 8 stages (4 to 9 on software adapters); no temporaries.
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
    let transform = Transform {
        shape,
        source: Some(Slot::Input(0)),
        items: Slot::Output(0),
        scaled: true,
    };
    let work = transform.steps(&mut builder, caps)?;
    let label = format!("2^{} in place", shape.bits);
    let plan = builder.plan(OP, label, work);
    plan.check(caps)?;
    Ok(plan)
}

params! {
    /// Parameters of `hadamard`.
    Params {
        x_offset: u32,
        y_offset: u32,
        first_row: u32,
        first: u32,
        end: u32,
        slab: u32,
        stride: u32,
        scale: f32,
    }
}

/// The most stages of a pass on a software adapter, 128 items an invocation, and the fewest there is a kernel for.
const STAGES: usize = 7;
const LEAST: usize = 4;

/// Those of a pass over words of several items, 64 of which an invocation holds: 2^20 items take 3.2 ms in four passes, 2.7 in three
/// (llvmpipe, Mesa 22.3.6, the quickest of many in turn; a copy 0.85).
const IN_WORDS: usize = 6;

/// The transform as a part of any plan, along the axis of `[outer, 2^bits, inner]`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Transform {
    pub shape: Shape,
    /// Where the items come from; none transforms them in place.
    pub source: Option<Slot>,
    pub items: Slot,
    /// Whether sums are divided by the root of 2^bits; else they are sums and differences alone, in one order on every device.
    pub scaled: bool,
}

impl Transform {
    /// Adds the steps; with no bits there are none.
    pub fn steps(&self, builder: &mut Builder, caps: &Caps) -> Result<Work> {
        let shape = self.shape;
        let stages = Stages {
            shape,
            algebra: Algebra::Real,
            sets: Factors::Shared,
            first: 0,
            factors: Slot::Table(0),
            source: self.source,
            items: self.items,
        };
        if shape.bits == 0 || shape.items() == 0 {
            return Ok(Work::default());
        }
        if caps.class == Class::Cpu && shape.bits >= LEAST {
            self.columns(builder, caps)?;
        } else {
            let factors = builder.add_table(self.factors());
            Stages { factors, ..stages }.steps(builder, caps)?;
        }
        Ok(stages.work())
    }

    fn scale(&self) -> f64 {
        match self.scaled {
            true => (-0.5 * self.shape.bits as f64).exp2(),
            false => 1.0,
        }
    }

    /// [[1, 1], [1, -1]] for every bit, the last scaled for all.
    fn factors(&self) -> Vec<u32> {
        let bits = self.shape.bits;
        let scale = self.scale() as f32;
        let factor = |n| {
            let s = if n + 1 == bits { scale } else { 1.0 };
            [s, s, s, -s].map(f32::to_bits)
        };
        (0..bits).flat_map(factor).collect()
    }

    /// Passes without a factor read or a barrier.
    fn columns(&self, builder: &mut Builder, caps: &Caps) -> Result<()> {
        let Shape { outer, bits, inner } = self.shape;
        let slab = inner << bits;
        // Single items or words of several; those of rows have stages of their own.
        let rows = inner == 1;
        let words = |unit: usize| {
            let own = if rows { unit.ilog2() as usize } else { 0 };
            let fits = caps.words64 && (rows || inner.is_multiple_of(unit));
            let rest = bits.saturating_sub(own);
            // More stages of eight items would compile for too long.
            let short = unit < 8 || rest.div_ceil(IN_WORDS) <= rest / LEAST;
            (fits && short && rest >= LEAST).then_some((unit, own))
        };
        let (unit, own) = words(8).or_else(|| words(2)).unwrap_or((1, 0));
        let (rest, most) = match unit {
            1 => (bits, STAGES),
            _ => (bits - own, IN_WORDS),
        };
        let passes = rest.div_ceil(most).min(rest / LEAST).max(1);
        let bound = |pass: usize| match pass {
            0 => 0,
            _ => own + rest * pass / passes,
        };
        for pass in 0..passes {
            let (first, stages) = (bound(pass), bound(pass + 1) - bound(pass));
            let stride = inner << first;
            let within = own > 0 && pass == 0;
            let stages = stages - if within { own } else { 0 };
            let source = self.source.filter(|_| pass == 0);
            let scaled = self.scaled && pass + 1 == passes;
            let part = match source {
                Some(_) => part!("kronecker/hadamard_apart.wgsl"),
                None => part!("kronecker/hadamard_here.wgsl"),
            };
            let mut held: Vec<Held> = Vec::new();
            held.extend(source.map(|slot| Held::Rows(rows_of(slot, slab))));
            held.push(Held::Written(rows_of(self.items, slab)));
            let into = held.len() - 1;
            let spec = Spec::default()
                .with("STAGES", stages as u32)
                .with("SCALED", scaled);
            let spec = match unit {
                1 => spec,
                _ => spec.with("WITHIN", within),
            };
            let sums = part!("kronecker/hadamard_sums.wgsl");
            let stored = match unit {
                8 => vec![part!("kronecker/hadamard_eight.wgsl")],
                2 => vec![part!("kronecker/hadamard_two.wgsl"), sums],
                _ => vec![part!("kronecker/hadamard_one.wgsl"), sums],
            };
            let needs = Needs {
                words64: unit > 1,
                ..Needs::default()
            };
            let plain = kernel(
                "kronecker/hadamard",
                [part!("kronecker/hadamard.wgsl"), part]
                    .into_iter()
                    .chain(stored),
                spec,
                Params::FIELDS,
            );
            let over = OverRows {
                kernel: Arc::new(Kernel {
                    needs,
                    ..Arc::unwrap_or_clone(plain)
                }),
                held,
                rows: outer as u64,
                per_row: ((slab / unit) >> stages) as u64,
                row_flops: 2.0 * (stages + 2) as f64 * slab as f64,
            };
            // Whole words, and less than 2^31 items either way: a buffer is.
            let offset = |offset: u32| (offset as i32 / unit as i32) as u32;
            over.steps(builder, caps, |placed| {
                let params = Params {
                    x_offset: offset(placed.offset(0)),
                    y_offset: offset(placed.offset(into)),
                    first_row: placed.first_row,
                    first: placed.first,
                    end: placed.end,
                    slab: (slab / unit) as u32,
                    stride: stride.div_ceil(unit) as u32,
                    scale: self.scale() as f32,
                };
                bytes_of(&params).to_vec()
            })?;
        }
        Ok(())
    }
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
