//! Tucker decompositions: a small core, a matrix a mode.

use super::matmul::{self, Factor, Operator, Options};
use crate::{
    Result,
    error::length,
    gpu::{Caps, Gpu, Pass, Tensor},
    plan::Plan,
};

pub(super) const OP: &str = "tucker";

/// Sizes of a decomposition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Tensors that share the factors; 0 is legal.
    pub rows: usize,
    /// Length n_i of each mode and its rank r_i: the sizes of the factor U_i.
    pub factors: Vec<[usize; 2]>,
}

impl Shape {
    /// Elements of the tensors.
    pub fn tensor_len(&self) -> usize {
        self.rows * self.factors.iter().map(|[n, _]| n).product::<usize>()
    }

    /// Elements of the cores.
    pub fn core_len(&self) -> usize {
        self.rows * self.factors.iter().map(|[_, r]| r).product::<usize>()
    }

    /// What rows are multiplied by.
    pub(super) fn operator(&self, reconstruct: bool) -> Operator {
        Operator::new(self.factors.iter().map(|[n, r]| match reconstruct {
            true => Factor::dense(*n, *r).transpose(),
            false => Factor::dense(*n, *r),
        }))
    }
}

/// The tensor of a core: X = C ×_0 U_0 ×_1 U_1 …
///
/// ```text
/// x[i_0, i_1, …] = Σ over j_0, j_1, … of core[j_0, j_1, …] Π_k U_k[i_k, j_k]
/// ```
///
/// `core` is `[rows, r_0, r_1, …]`, factors are `[n_k, r_k]`, `x` is `[rows, n_0, n_1, …]`, f32, row-major. The transpose in the core is
/// [`project`]; cost, temporaries and accuracy are those of [`matmul`](crate::kronecker::matmul()), in the order that costs least.
///
/// # Errors
/// As [`matmul`](crate::kronecker::matmul()).
pub fn reconstruct(
    gpu: &Gpu,
    shape: &Shape,
    core: &Tensor<f32>,
    factors: &[&Tensor<f32>],
    x: &mut Tensor<f32>,
) -> Result<()> {
    let mut pass = gpu.pass(OP);
    record(&mut pass, shape, true, core, factors, x)?;
    pass.submit().map(drop)
}

/// The core of a tensor: C = X ×_0 U_0ᵀ ×_1 U_1ᵀ …, the best where the factors' columns are orthonormal.
///
/// Shapes as in [`reconstruct`], whose transpose it is.
///
/// # Errors
/// As [`matmul`](crate::kronecker::matmul()).
pub fn project(
    gpu: &Gpu,
    shape: &Shape,
    x: &Tensor<f32>,
    factors: &[&Tensor<f32>],
    core: &mut Tensor<f32>,
) -> Result<()> {
    let mut pass = gpu.pass(OP);
    record(&mut pass, shape, false, x, factors, core)?;
    pass.submit().map(drop)
}

/// [`reconstruct`], or [`project`], recorded into a pass that the caller submits.
///
/// # Errors
/// As [`reconstruct`].
pub fn record(
    pass: &mut Pass,
    shape: &Shape,
    reconstruct: bool,
    from: &Tensor<f32>,
    factors: &[&Tensor<f32>],
    into: &mut Tensor<f32>,
) -> Result<()> {
    let plan = plan(shape, reconstruct, pass.caps())?;
    let lengths = match reconstruct {
        true => [shape.core_len(), shape.tensor_len()],
        false => [shape.tensor_len(), shape.core_len()],
    };
    let names = match reconstruct {
        true => ["core", "x"],
        false => ["x", "core"],
    };
    length(OP, names[0], from.len(), lengths[0])?;
    length(OP, names[1], into.len(), lengths[1])?;
    length(OP, "factors", factors.len(), shape.factors.len())?;
    for (n, (factor, [rows, columns])) in factors.iter().zip(&shape.factors).enumerate() {
        length(OP, &format!("factors[{n}]"), factor.len(), rows * columns)?;
    }
    let views = [from.view()]
        .into_iter()
        .chain(factors.iter().map(|factor| factor.view()));
    pass.run(&plan, &views.collect::<Vec<_>>(), &mut [into.view_mut()])
}

/// Plans [`reconstruct`], or [`project`]. Inputs: core or tensor, then the factors; output: tensor or core.
///
/// # Errors
/// As [`reconstruct`], but for those of the device.
pub fn plan(shape: &Shape, reconstruct: bool, caps: &Caps) -> Result<Plan> {
    let operator = shape.operator(reconstruct);
    let rows = matmul::Shape::rows(shape.rows);
    let plan = matmul::plan(&operator, &rows, &Options::default(), caps)?;
    Ok(Plan { op: OP, ..plan })
}
