//! Products with Kronecker operators: the call.

#[cfg(feature = "cli")]
pub(crate) mod cases;
pub(super) mod cpu;
mod end;
mod factor_grad;
pub(crate) mod gradients;
mod group;
mod kernels;
#[cfg(all(test, feature = "cli"))]
mod matrices;
mod order;
pub(crate) mod plan;
mod shape;
mod steps;
mod store;

pub use gradients::{grad_x_len, gradients, plan_gradients, record_gradients};
pub(crate) use group::{FUSED, UNITS};
pub use order::cost;
pub use plan::plan;
pub(crate) use plan::{Entries, Product, WALK_MIB};
pub use shape::{Factor, Kind, MAX_FACTORS, MAX_SIZE, Operator, Options, Shape, Side, Strides};
pub(crate) use steps::SETS;

use crate::{
    Error, Result,
    error::{length, stored_as},
    gpu::{Elem, Gpu, Pass, Tensor},
};

pub(super) const OP: &str = "kron_matmul";

/// Multiplies rows, or columns, by a Kronecker product that is never formed.
///
/// ```text
/// z ← alpha x K + beta z        K = op(F_0) ⊗ op(F_1) ⊗ … ⊗ op(F_(n-1))
/// K[(i_0, …, i_(n-1)), (j_0, …, j_(n-1))] = Π_k op(F_k)[i_k, j_k]
/// ```
///
/// The first factor belongs to the slowest digit of an index. With [`Side::Right`] x is `[batch, rows, P]` and z `[batch, rows, Q]`,
/// P and Q the products of the factors' rows and columns; with [`Side::Left`], z ← alpha K x + beta z, x is `[batch, Q, rows]` and z
/// `[batch, P, rows]`. Row-major, rows and batches where [`Shape`] says. x and z are f32, f16 or bf16; sums are f32. `factors` has
/// the entries of each factor but identities: `[r, c]`, diagonals `[n]`, either with a batch in front where each has its own. z is read
/// only where beta is not 0. No units. Factors of sides of 16 and more go, in f16 calls, to the matrix units of devices whose units
/// passed a test when they were opened ([`Caps::matrices`](crate::gpu::Caps::matrices)), to the same accuracy.
///
/// Cost: for a row `2 Σ_k P_k q_k` operations, P_k its length before factor k, in the order that makes that the least: the strongest
/// contraction first. Memory beyond arguments: one intermediate result at most, which is the rows between two passes over them, or
/// as many of the rows as make two such buffers fit its size; with one row these are two buffers. Where beta is 0 and z is f32 one of
/// them is z itself. A 16-bit z adds its own size in f32, and passes with several factors a copy of these.
///
/// Accuracy: an element differs from the f64 reference by at most `2^-23 √(Σ_k p_k)` times the same product of absolute values, plus
/// the rounding to the type of z; root-mean-square error, relative, <= 2e-6 in f32. Deterministic: two runs are bit-equal.
///
/// # Errors
/// `Argument` when sizes or lengths do not fit together; `Limit` when one row exceeds a binding or there are temporaries beyond the
/// budget; `Shader`, `OutOfMemory`, `Timeout`, `DeviceLost` from the device.
///
/// Source: that A ⊗ B = (A ⊗ I)(I ⊗ B), so that factors apply one at a time, is textbook: C. Van Loan, "The ubiquitous Kronecker
/// product", 2000. The order follows from comparing both orders of two factors.
pub fn matmul<T: Elem>(
    gpu: &Gpu,
    operator: &Operator,
    shape: &Shape,
    options: &Options,
    factors: &[&Tensor<f32>],
    x: &Tensor<T>,
    z: &mut Tensor<T>,
) -> Result<()> {
    let mut pass = gpu.pass(OP);
    record(&mut pass, operator, shape, options, factors, x, z)?;
    pass.submit().map(drop)
}

/// [`matmul()`], recorded into a pass that the caller submits.
///
/// # Errors
/// As [`matmul()`].
pub fn record<T: Elem>(
    pass: &mut Pass,
    operator: &Operator,
    shape: &Shape,
    options: &Options,
    factors: &[&Tensor<f32>],
    x: &Tensor<T>,
    z: &mut Tensor<T>,
) -> Result<()> {
    stored_as::<T>(OP, shape.dtype)?;
    let plan = plan(operator, shape, options, pass.caps())?;
    counted(operator, factors.len())?;
    for (n, (factor, tensor)) in operator.stored().zip(factors).enumerate() {
        let expected = factor.len(shape.batch);
        length(OP, &format!("factors[{n}]"), tensor.len(), expected)?;
    }
    shape.source(operator).holds("x", x.len())?;
    shape.target(operator).holds("z", z.len())?;
    let inputs = std::iter::once(x.view()).chain(factors.iter().map(|factor| factor.view()));
    pass.run(&plan, &inputs.collect::<Vec<_>>(), &mut [z.view_mut()])
}

/// Whether there are as many tensors as factors that take one.
fn counted(operator: &Operator, count: usize) -> Result<()> {
    let expected = operator.stored().count();
    if count == expected {
        return Ok(());
    }
    Err(Error::Argument {
        op: OP,
        what: "factors".into(),
        expected: format!("{expected} tensors, one for each factor but identities"),
        got: count.to_string(),
    })
}
