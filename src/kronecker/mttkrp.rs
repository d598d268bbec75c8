//! Matricised tensor times Khatri-Rao product, and the tensor of a canonical polyadic decomposition: its transpose.

use super::{
    khatri_rao::{self, Mode, Shape, Sums, check_mode},
    matmul::{self, Factor, Operator, Options},
};
use crate::{
    Result,
    error::length,
    gpu::{Caps, Gpu, Pass, Tensor},
    plan::{Builder, Plan, Slot, Work},
};

pub(super) const OP: &str = "mttkrp";

/// A matricised tensor times the Khatri-Rao product of factors, which is never formed.
///
/// ```text
/// out[i, t] = Σ over the indices other than i_mode = i of X[i_0, i_1, …] Π_(k ≠ mode) A_k[i_k, t]
/// ```
///
/// `x` is `[n_0, n_1, …]`, row-major, `factors` are the A_k other than the mode's, `[n_k, rank]` each and in order, `out` is
/// `[n_mode, rank]`. One mode is contracted as a product with a matrix, the others by sums with one column a rank.
///
/// Cost: 2 `rank` operations an element of x, and less for the further modes; temporaries: x with `rank` in place of one mode, and less.
///
/// Accuracy: root-mean-square error to the f64 reference, relative, <= 2e-6. Deterministic: two runs are bit-equal.
///
/// # Errors
/// `Argument` when sizes or lengths do not fit together; `Limit` when an intermediate result exceeds a binding where it cannot be cut
/// or the scratch budget; `Shader`, `OutOfMemory`, `Timeout`, `DeviceLost` from the device.
///
/// Source: Kolda and Bader, "Tensor decompositions and applications", 2009; the order: Phan, Tichavský and Cichocki, "Fast alternating LS
/// algorithms for high order CANDECOMP/PARAFAC tensor factorizations", 2013.
pub fn mttkrp(
    gpu: &Gpu,
    shape: &Shape,
    mode: usize,
    x: &Tensor<f32>,
    factors: &[&Tensor<f32>],
    out: &mut Tensor<f32>,
) -> Result<()> {
    let mut pass = gpu.pass(OP);
    record(&mut pass, shape, mode, x, factors, out)?;
    pass.submit().map(drop)
}

/// [`mttkrp()`], recorded into a pass that the caller submits.
///
/// # Errors
/// As [`mttkrp()`].
pub fn record(
    pass: &mut Pass,
    shape: &Shape,
    mode: usize,
    x: &Tensor<f32>,
    factors: &[&Tensor<f32>],
    out: &mut Tensor<f32>,
) -> Result<()> {
    let plan = plan(shape, mode, pass.caps())?;
    length(OP, "x", x.len(), shape.sizes.iter().product())?;
    shape.check_factors(OP, factors, Some(mode))?;
    let own = shape.sizes.get(mode).map_or(0, |size| size * shape.rank);
    length(OP, "out", out.len(), own)?;
    let views = [x.view()]
        .into_iter()
        .chain(factors.iter().map(|factor| factor.view()));
    pass.run(&plan, &views.collect::<Vec<_>>(), &mut [out.view_mut()])
}

/// Plans [`mttkrp()`]. Inputs: x, the factors other than the mode's in order; output: the sums.
///
/// # Errors
/// As [`mttkrp()`], but for those of the device.
pub fn plan(shape: &Shape, mode: usize, caps: &Caps) -> Result<Plan> {
    shape.check(OP)?;
    check_mode(OP, "mode", shape, mode)?;
    let rank = shape.rank;
    let count = shape.sizes.len();
    let last = mode + 1 == count;
    let x = Slot::Input(0);
    let factor_of = |n: usize| Slot::Input(if n < mode { n + 1 } else { n } as u16);
    let size = |n: usize| shape.sizes.get(n).copied().unwrap_or(1);
    // The mode contracted first: the last, or the one before it where the last is asked for.
    let first = if last { count - 2 } else { count - 1 };
    let inner = if last { size(mode) } else { 1 };
    let rows: usize = shape.sizes.iter().take(first).product();
    let mut builder = Builder::default();
    let flops;
    if count == 2 && last {
        // Xᵀ A: the tensor is the factor.
        let operator = Operator::new([Factor::dense(size(0), size(1)).transpose()]);
        let columns = matmul::Shape::columns(rank);
        let plan = matmul::plan(&operator, &columns, &Options::default(), caps)?;
        flops = plan.work.flops;
        builder.append(plan, &[factor_of(0), x], &[Slot::Output(0)])?;
    } else {
        let operator = Operator::new([Factor::dense(size(first), rank), Factor::identity(inner)]);
        let of_rows = matmul::Shape::rows(rows);
        let plan = matmul::plan(&operator, &of_rows, &Options::default(), caps)?;
        let stage = plan.work.flops;
        let into = match count {
            2 => Slot::Output(0),
            _ => builder.add_scratch(4 * (rows * rank * inner) as u64),
        };
        builder.append(plan, &[x, factor_of(first)], &[into])?;
        let modes = shape.sizes.iter().enumerate().take(first);
        let modes = modes.map(|(n, size)| Mode {
            size: *size,
            factor: (n != mode).then(|| factor_of(n)),
        });
        let sums = Sums {
            modes: modes.collect(),
            rank,
            inner,
            turned: last,
        };
        flops = stage + sums.steps(&mut builder, caps, into, Slot::Output(0))?;
    }
    let elements: usize = shape.sizes.iter().product();
    let factors: usize = shape.sizes.iter().map(|size| size * rank).sum();
    let work = Work {
        flops,
        bytes: 4.0 * (elements + factors) as f64,
        ..Work::default()
    };
    let plan = builder.plan(OP, format!("mode {mode}, mode {first} first"), work);
    plan.check(caps)?;
    Ok(plan)
}

/// The tensor of a canonical polyadic decomposition: the transpose of [`mttkrp()`] in x, with what is handed back in the mode's place.
///
/// ```text
/// X[i_0, i_1, …] = Σ_t Π_k A_k[i_k, t]
/// ```
///
/// `factors` are all A_k, `[n_k, rank]` each, `x` is `[n_0, n_1, …]`. The Khatri-Rao product of all but the last is formed, never that of
/// all.
///
/// Cost: 2 `rank` operations an element of x; temporaries: `rank` in place of the last mode, and less.
///
/// # Errors
/// As [`mttkrp()`].
pub fn adjoint(
    gpu: &Gpu,
    shape: &Shape,
    factors: &[&Tensor<f32>],
    x: &mut Tensor<f32>,
) -> Result<()> {
    let mut pass = gpu.pass(OP);
    record_adjoint(&mut pass, shape, factors, x)?;
    pass.submit().map(drop)
}

/// [`adjoint`], recorded into a pass that the caller submits.
///
/// # Errors
/// As [`mttkrp()`].
pub fn record_adjoint(
    pass: &mut Pass,
    shape: &Shape,
    factors: &[&Tensor<f32>],
    x: &mut Tensor<f32>,
) -> Result<()> {
    let plan = plan_adjoint(shape, pass.caps())?;
    shape.check_factors(OP, factors, None)?;
    length(OP, "x", x.len(), shape.sizes.iter().product())?;
    let views: Vec<_> = factors.iter().map(|factor| factor.view()).collect();
    pass.run(&plan, &views, &mut [x.view_mut()])
}

/// Plans [`adjoint`]. Inputs: all factors; output: the tensor.
///
/// # Errors
/// As [`mttkrp()`], but for those of the device.
pub fn plan_adjoint(shape: &Shape, caps: &Caps) -> Result<Plan> {
    shape.check(OP)?;
    let (rank, count) = (shape.rank, shape.sizes.len());
    let before: Vec<usize> = shape.sizes.iter().take(count - 1).copied().collect();
    let rows: usize = before.iter().product();
    let last = shape.sizes.last().copied().unwrap_or(1);
    let mut builder = Builder::default();
    let product = match count {
        2 => Slot::Input(0),
        _ => {
            let product = builder.add_scratch(4 * (rows * rank) as u64);
            let factors: Vec<Slot> = (0..count - 1).map(|n| Slot::Input(n as u16)).collect();
            let of = Shape {
                sizes: before,
                rank,
            };
            khatri_rao::product(&mut builder, caps, &of, &factors, product)?;
            product
        }
    };
    let operator = Operator::new([Factor::dense(last, rank).transpose()]);
    let of_rows = matmul::Shape::rows(rows);
    let plan = matmul::plan(&operator, &of_rows, &Options::default(), caps)?;
    let factors: usize = shape.sizes.iter().map(|size| size * rank).sum();
    let work = Work {
        flops: plan.work.flops,
        bytes: 4.0 * (rows * last + factors) as f64,
        ..Work::default()
    };
    let inputs = [product, Slot::Input(count as u16 - 1)];
    builder.append(plan, &inputs, &[Slot::Output(0)])?;
    let plan = builder.plan(OP, "adjoint".into(), work);
    plan.check(caps)?;
    Ok(plan)
}
