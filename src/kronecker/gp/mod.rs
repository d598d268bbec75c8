//! Gaussian processes on grids, with or without missing cells.
//!
//! ```text
//! cov(f(x), f(x')) = variance · Π_t k(|x_t - x'_t| / ℓ_t),  y = f + noise        K = variance · ⊗_t K_t,  A = K + σ² I over observed cells
//! mean K A⁻¹ y        covariance K - K A⁻¹ K        log p(y) = -½ yᵀ A⁻¹ y - ½ log det A - (n/2) log 2π
//! ```
//!
//! [`Regression`] conditions a grid on a device: [means](Regression::mean), [on other grids](Regression::mean_on),
//! [variances](Regression::variance_at), [samples](Regression::samples) and the [likelihood](Regression::likelihood) with its slopes,
//! exact on whole grids and estimated where cells are missing. [`Blocks`] has an objective of learning that is exact with missing cells
//! too and takes no solution: the likelihood of blocks of cells. [`Learner`] climbs either. [`Cells`] is the reference: a dense Gaussian
//! process on a few cells.
//!
//! Source: Y. Saatçi, "Scalable inference for structured Gaussian process models", 2011; for missing cells see
//! [`diag_solve`](crate::kronecker::diag_solve()).

#[cfg(feature = "cli")]
pub(crate) mod cases;
mod dense;
mod kernel;
mod learn;
mod regression;

pub use dense::{Cells, Likelihood, Trend};
pub use kernel::{Family, Grid, Parameters};
pub use learn::{Blocks, Learner};
pub use regression::{Estimate, Regression, Report};

pub(super) const OP: &str = "gp_grid";
