//! Gaussian processes on grids.

mod dense;
mod kernel;
mod learn;

pub use dense::{Cells, Likelihood, Trend};
pub use kernel::{Family, Grid, Parameters};
pub use learn::{Blocks, Learner};

pub(super) const OP: &str = "gp_grid";
