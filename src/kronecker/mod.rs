//! Kronecker products that are never formed.
//!
//! [`butterfly()`] multiplies by a product of 2 x 2 factors along an axis of 2^k, in place, with k 2^(k-1) exchanges of two items
//! instead of 4^k products; [`hadamard()`] is the one whose factors are [[1, 1], [1, -1]] / √2. [`matmul()`] takes factors of any
//! sizes. [`cpu`] is the reference of all.
//!
//! ```text
//! K = F_(k-1) ⊗ … ⊗ F_0        y[l, i, r] = sum_j x[l, j, r] K[j, i]        K[j, i] = Π_n F_n[bit n of j, bit n of i]
//! ```
//!
//! The axis's index has factor 0 on its lowest bit. Factors may differ from one outer index l to the next.

mod adam;
pub mod butterfly;
#[cfg(feature = "cli")]
pub(crate) mod cases;
pub mod cpu;
pub mod dct;
pub mod diag_solve;
pub mod fastfood;
pub mod fp4;
pub mod gp;
mod hadamard;
pub mod khatri_rao;
pub mod matmul;
mod matrix;
pub mod mttkrp;
pub mod pde;
mod regression;
mod sample;
mod signs;
pub mod solve;
pub mod spectral;
pub mod spectrum;
pub mod srht;
pub mod sum_solve;
pub mod tensor_attention;
pub mod tensor_linear;
pub mod tensor_srht;
pub mod tucker;

pub use butterfly::{Algebra, Factors, MAX_BITS, Shape, butterfly, record};
pub use dct::dct;
pub use diag_solve::{
    DiagForm, DiagOptions, DiagReport, Diagonal, LogdetEstimate, LogdetOptions, Solution,
    cpu as diag_solve_cpu, diag_solve, observed_logdet,
};
pub use fastfood::Fastfood;
pub use hadamard::{hadamard, plan as hadamard_plan, record as record_hadamard};
pub use khatri_rao::khatri_rao;
pub use matmul::{Factor, Operator, Side, matmul};
pub use matrix::{MAX_SIDE, Matrix};
pub use mttkrp::mttkrp;
pub use regression::{Regression, least_squares};
pub use sample::{masked_posterior_sample, posterior_plan, posterior_sample, sample, sample_plan};
pub use solve::{
    FactorGradients, General, LeastSquares, Method, Precision, Ridge, SolveOptions, SolveReport,
    cpu as solve_cpu, gradients as solve_gradients, quadratic, solve,
};
pub use spectral::{Basis, spectral};
pub use spectrum::{Axis, Combine, Function, Spectrum};
pub use srht::{adjoint as srht_adjoint, srht};
pub use sum_solve::{Boundary, SumOptions, SumReport, laplacian, sum_solve};
pub use tensor_srht::tensor_srht;
