//! Khatri-Rao products written out, and what multiplies a tensor by one that is not.

use bytemuck::bytes_of;

use super::signs::rows;
use crate::{
    Error, Result,
    error::length,
    gpu::{Caps, Gpu, Pass, Spec, Tensor, params, part},
    over::{Held, OverRows, kernel},
    plan::{Builder, Plan, Slot, Work},
};

pub(super) const OP: &str = "khatri_rao";

/// The most factors.
pub const MAX_FACTORS: usize = 64;

params! {
    /// Parameters of `khatri_rao`.
    ProductParams {
        left_offset: u32,
        out_offset: u32,
        first_row: u32,
        first: u32,
        end: u32,
        rows: u32,
        left_columns: u32,
    }
}

params! {
    /// Parameters of `khatri_sum`.
    SumParams {
        y_offset: u32,
        out_offset: u32,
        first_row: u32,
        first: u32,
        end: u32,
        length: u32,
        middle: u32,
        rank: u32,
        inner: u32,
        begin: u32,
        stop: u32,
        accumulate: u32,
    }
}

/// Sizes of a product.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Rows n_i of each factor: two of them at least, at most [`MAX_FACTORS`].
    pub sizes: Vec<usize>,
    /// Columns R of every factor.
    pub rank: usize,
}

impl Shape {
    /// Elements of the product.
    pub fn len(&self) -> usize {
        self.sizes.iter().product::<usize>() * self.rank
    }

    /// Whether the product has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn check(&self, op: &'static str) -> Result<()> {
        let wrong = |what: &str, expected: &str, got: String| {
            Err(Error::Argument {
                op,
                what: what.into(),
                expected: expected.into(),
                got,
            })
        };
        let count = self.sizes.len();
        if !(2..=MAX_FACTORS).contains(&count) {
            return wrong("sizes", "2 to 64 of them", count.to_string());
        }
        if self.rank == 0 {
            return wrong("rank", "at least 1", "0".into());
        }
        if let Some(n) = self.sizes.iter().position(|size| *size == 0) {
            return wrong(&format!("sizes[{n}]"), "at least 1", "0".into());
        }
        let sizes = self.sizes.iter().chain([&self.rank]);
        let elements = sizes.fold(1u64, |all, size| all.saturating_mul(*size as u64));
        if elements > u64::from(u32::MAX) {
            let expected = "such that there are at most 2^32 - 1 elements";
            return wrong("sizes", expected, elements.to_string());
        }
        Ok(())
    }

    fn factor_len(&self, factor: usize) -> usize {
        self.sizes.get(factor).map_or(0, |size| size * self.rank)
    }

    /// Whether there is a tensor of the right length for each factor, but for one.
    pub(super) fn check_factors(
        &self,
        op: &'static str,
        factors: &[&Tensor<f32>],
        without: Option<usize>,
    ) -> Result<()> {
        let places: Vec<usize> = (0..self.sizes.len())
            .filter(|place| Some(*place) != without)
            .collect();
        length(op, "factors", factors.len(), places.len())?;
        for (n, (factor, place)) in factors.iter().zip(places).enumerate() {
            let expected = self.factor_len(place);
            length(op, &format!("factors[{n}]"), factor.len(), expected)?;
        }
        Ok(())
    }
}

/// The Khatri-Rao product of matrices with as many columns: the Kronecker product column by column.
///
/// ```text
/// out[(i_0, i_1, …), t] = Π_k A_k[i_k, t]
/// ```
///
/// Factors are `[n_k, rank]`, `out` is `[Π n_k, rank]`, f32, row-major: the last factor's index is the fastest. Products with it need
/// not have it written out: see [`mttkrp`](super::mttkrp()) and [`tensor_srht`](super::tensor_srht()).
///
/// Cost: a multiplication an element; temporaries: with three factors or more, the products before the last two.
///
/// Accuracy: root-mean-square error to the f64 reference, relative, <= 1e-6. Deterministic: two runs are bit-equal.
///
/// # Errors
/// `Argument` when sizes or lengths do not fit together; `Limit` when a factor exceeds a binding or the scratch budget is exceeded;
/// `Shader`, `OutOfMemory`, `Timeout`, `DeviceLost` from the device.
pub fn khatri_rao(
    gpu: &Gpu,
    shape: &Shape,
    factors: &[&Tensor<f32>],
    out: &mut Tensor<f32>,
) -> Result<()> {
    let mut pass = gpu.pass(OP);
    record(&mut pass, shape, factors, out)?;
    pass.submit().map(drop)
}

/// [`khatri_rao()`], recorded into a pass that the caller submits.
///
/// # Errors
/// As [`khatri_rao()`].
pub fn record(
    pass: &mut Pass,
    shape: &Shape,
    factors: &[&Tensor<f32>],
    out: &mut Tensor<f32>,
) -> Result<()> {
    let plan = plan(shape, pass.caps())?;
    shape.check_factors(OP, factors, None)?;
    length(OP, "out", out.len(), shape.len())?;
    let views: Vec<_> = factors.iter().map(|factor| factor.view()).collect();
    pass.run(&plan, &views, &mut [out.view_mut()])
}

/// Plans [`khatri_rao()`]. Inputs: the factors; output: the product.
///
/// # Errors
/// As [`khatri_rao()`], but for those of the device.
pub fn plan(shape: &Shape, caps: &Caps) -> Result<Plan> {
    shape.check(OP)?;
    let mut builder = Builder::default();
    let factors: Vec<Slot> = (0..shape.sizes.len())
        .map(|n| Slot::Input(n as u16))
        .collect();
    product(&mut builder, caps, shape, &factors, Slot::Output(0))?;
    let factors: usize = shape.sizes.iter().map(|size| size * shape.rank).sum();
    let work = Work {
        flops: shape.len() as f64,
        bytes: 4.0 * (shape.len() + factors) as f64,
        ..Work::default()
    };
    let plan = builder.plan(OP, format!("{} factors", shape.sizes.len()), work);
    plan.check(caps)?;
    Ok(plan)
}

/// Adds the product of factors in slots.
pub(super) fn product(
    builder: &mut Builder,
    caps: &Caps,
    shape: &Shape,
    factors: &[Slot],
    out: Slot,
) -> Result<()> {
    let rank = shape.rank;
    let mut pairs = factors.iter().zip(&shape.sizes);
    let Some((first, size)) = pairs.next() else {
        return Ok(());
    };
    let (mut left, mut height) = (*first, *size);
    let mut spare: Option<Slot> = None;
    let before: usize = shape.sizes.iter().rev().skip(1).product();
    let count = shape.sizes.len();
    for (k, (right, size)) in (1..).zip(pairs) {
        let into = match k + 1 == count {
            true => out,
            false => spare
                .take()
                .unwrap_or_else(|| builder.add_scratch(4 * (before * rank) as u64)),
        };
        let per_row = size * rank;
        let over = OverRows {
            kernel: kernel(
                "kronecker/khatri_rao",
                [
                    part!("kronecker/khatri_rao.wgsl"),
                    part!("kronecker/left_product.wgsl"),
                ],
                Spec::default(),
                ProductParams::FIELDS,
            ),
            held: vec![
                Held::Rows(rows(left, rank)),
                Held::Whole(*right, per_row as u64),
                Held::Written(rows(into, per_row)),
            ],
            rows: height as u64,
            per_row: per_row as u64,
            row_flops: 32.0 * per_row as f64,
        };
        over.steps(builder, caps, |placed| {
            let params = ProductParams {
                left_offset: placed.offset(0),
                out_offset: placed.offset(2),
                first_row: placed.first_row,
                first: placed.first,
                end: placed.end,
                rows: *size as u32,
                left_columns: rank as u32,
            };
            bytes_of(&params).to_vec()
        })?;
        if k > 1 {
            spare = Some(left);
        }
        (left, height) = (into, height * size);
    }
    Ok(())
}

/// The transpose of [`khatri_rao()`] in one factor: the gradient with respect to it.
///
/// ```text
/// g[i, t] = Σ over the indices of the other factors of y[(i_0, …, i, …), t] Π_(k ≠ factor) A_k[i_k, t]
/// ```
///
/// `y` is shaped as the product, `factors` are the others in their order, `g` is `[n_factor, rank]`.
///
/// Cost: a multiply-add an element of y, and less for every further mode; temporaries: y without its largest other mode, and less.
///
/// # Errors
/// As [`khatri_rao()`]; `Limit` also when y exceeds a binding where it cannot be cut.
pub fn adjoint(
    gpu: &Gpu,
    shape: &Shape,
    factor: usize,
    y: &Tensor<f32>,
    factors: &[&Tensor<f32>],
    g: &mut Tensor<f32>,
) -> Result<()> {
    let mut pass = gpu.pass(OP);
    record_adjoint(&mut pass, shape, factor, y, factors, g)?;
    pass.submit().map(drop)
}

/// [`adjoint`], recorded into a pass that the caller submits.
///
/// # Errors
/// As [`adjoint`].
pub fn record_adjoint(
    pass: &mut Pass,
    shape: &Shape,
    factor: usize,
    y: &Tensor<f32>,
    factors: &[&Tensor<f32>],
    g: &mut Tensor<f32>,
) -> Result<()> {
    let plan = plan_adjoint(shape, factor, pass.caps())?;
    length(OP, "y", y.len(), shape.len())?;
    shape.check_factors(OP, factors, Some(factor))?;
    length(OP, "g", g.len(), shape.factor_len(factor))?;
    let views = [y.view()]
        .into_iter()
        .chain(factors.iter().map(|factor| factor.view()));
    pass.run(&plan, &views.collect::<Vec<_>>(), &mut [g.view_mut()])
}

/// Plans [`adjoint`]. Inputs: y, the other factors in order; output: g.
///
/// # Errors
/// As [`adjoint`], but for those of the device.
pub fn plan_adjoint(shape: &Shape, factor: usize, caps: &Caps) -> Result<Plan> {
    shape.check(OP)?;
    check_mode(OP, "factor", shape, factor)?;
    let mut builder = Builder::default();
    let modes = shape.sizes.iter().enumerate().map(|(n, size)| Mode {
        size: *size,
        factor: match n.cmp(&factor) {
            std::cmp::Ordering::Less => Some(Slot::Input(n as u16 + 1)),
            std::cmp::Ordering::Equal => None,
            std::cmp::Ordering::Greater => Some(Slot::Input(n as u16)),
        },
    });
    let sums = Sums {
        modes: modes.collect(),
        rank: shape.rank,
        inner: 1,
        turned: false,
    };
    let flops = sums.steps(&mut builder, caps, Slot::Input(0), Slot::Output(0))?;
    let work = Work {
        flops,
        bytes: 4.0 * shape.len() as f64,
        ..Work::default()
    };
    let plan = builder.plan(OP, format!("adjoint in factor {factor}"), work);
    plan.check(caps)?;
    Ok(plan)
}

pub(super) fn check_mode(op: &'static str, what: &str, shape: &Shape, mode: usize) -> Result<()> {
    if mode < shape.sizes.len() {
        return Ok(());
    }
    Err(Error::Argument {
        op,
        what: what.into(),
        expected: format!("one of the {}, counted from 0", shape.sizes.len()),
        got: mode.to_string(),
    })
}

/// A mode of a tensor, and the factor whose columns it is summed with.
pub(super) struct Mode {
    pub size: usize,
    pub factor: Option<Slot>,
}

/// A tensor `[n_0, n_1, …, rank, inner]` summed over the modes that have factors: out[.., t, k] = Σ y[.., t, k] Π F[i, t].
pub(super) struct Sums {
    pub modes: Vec<Mode>,
    pub rank: usize,
    pub inner: usize,
    /// Whether the result is `[.., inner, rank]`.
    pub turned: bool,
}

impl Sums {
    /// Adds the steps, the longest mode first, and counts operations.
    pub fn steps(mut self, builder: &mut Builder, caps: &Caps, y: Slot, out: Slot) -> Result<f64> {
        let item = self.rank * self.inner;
        let (mut from, mut flops) = (y, 0.0);
        loop {
            let summed = self.modes.iter().enumerate();
            let summed = summed.filter_map(|(n, mode)| Some((n, mode.size, mode.factor?)));
            let left = summed.clone().count();
            // Of equal lengths the first.
            let Some((n, size, factor)) = summed.rev().max_by_key(|(_, size, _)| *size) else {
                return Ok(flops);
            };
            self.modes.remove(n);
            let across = |modes: &[Mode]| modes.iter().map(|mode| mode.size).product::<usize>();
            let (before, after) = self.modes.split_at(n);
            let (outer, middle) = (across(before), across(after));
            let last = left == 1;
            let into = match last {
                true => out,
                false => builder.add_scratch(4 * (outer * middle * item) as u64),
            };
            let one = One {
                outer,
                size,
                middle,
                rank: self.rank,
                inner: self.inner,
                turned: self.turned && last,
            };
            one.steps(builder, caps, [from, factor, into])?;
            flops += 2.0 * (outer * size * middle * item) as f64;
            from = into;
        }
    }
}

/// One mode of [`Sums`].
struct One {
    outer: usize,
    size: usize,
    middle: usize,
    rank: usize,
    inner: usize,
    turned: bool,
}

impl One {
    fn steps(&self, builder: &mut Builder, caps: &Caps, [y, factor, out]: [Slot; 3]) -> Result<()> {
        let per_row = self.middle * self.rank * self.inner;
        let most = (caps.loop_iterations.min(1 << 30) - 64) as usize;
        for from in (0..self.size).step_by(most) {
            let to = self.size.min(from + most);
            let over = OverRows {
                kernel: kernel(
                    "kronecker/khatri_sum",
                    [part!("kronecker/khatri_sum.wgsl")],
                    Spec::default().with("TURNED", self.turned),
                    SumParams::FIELDS,
                ),
                held: vec![
                    Held::Rows(rows(y, self.size * per_row)),
                    Held::Whole(factor, (self.size * self.rank) as u64),
                    Held::Written(rows(out, per_row)),
                ],
                rows: self.outer as u64,
                per_row: per_row as u64,
                row_flops: (16.0 * (to - from) as f64 + 32.0) * per_row as f64,
            };
            over.steps(builder, caps, |placed| {
                let params = SumParams {
                    y_offset: placed.offset(0),
                    out_offset: placed.offset(2),
                    first_row: placed.first_row,
                    first: placed.first,
                    end: placed.end,
                    length: self.size as u32,
                    middle: self.middle as u32,
                    rank: self.rank as u32,
                    inner: self.inner as u32,
                    begin: from as u32,
                    stop: to as u32,
                    accumulate: u32::from(from > 0),
                };
                bytes_of(&params).to_vec()
            })?;
        }
        Ok(())
    }
}
