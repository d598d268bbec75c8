//! Sub-quadratic operators on any GPU.
#![warn(missing_docs)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]

#[cfg(feature = "cli")]
pub mod case;
mod error;
pub mod gpu;
pub mod linear;
pub mod plan;

pub use error::{Error, Result};
pub use gpu::{Gpu, Select, Tensor};
pub use wgpu;
