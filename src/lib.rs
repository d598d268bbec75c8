//! Sub-quadratic operators on any GPU: WGSL kernels through wgpu, an f64 CPU reference beside each.
//!
//! [`linear`] holds linear attention, [`distill`] what teaches one to mimic a softmax attention, [`soft`] attention through
//! landmarks, [`hamming`] operators on binary codes, [`kronecker`] products that are never formed, [`random`] numbers that host and device agree on. [`gpu`] opens or shares a device, holds tensors and records plans; [`plan`] is what planners produce. The call of
//! an operator is one line; see [`linear::forward`].
#![deny(missing_docs)]
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
pub mod choice;
#[cfg(feature = "cli")]
pub mod cli;
pub mod distill;
mod elements;
mod error;
mod file;
pub mod gpu;
pub mod hamming;
pub mod kronecker;
pub mod linear;
mod over;
pub mod plan;
pub mod random;
#[cfg(feature = "cli")]
pub mod roof;
mod rows;
pub mod soft;
#[cfg(feature = "cli")]
pub mod softmax;
#[cfg(feature = "cli")]
pub mod translate;

#[cfg(test)]
#[path = "../tests/common/effort.rs"]
mod effort;

pub use error::{Error, Result};
pub use gpu::{Gpu, Select, Tensor};
pub use wgpu;

#[cfg(all(doctest, feature = "cli"))]
#[doc = include_str!("../README.md")]
struct Readme;
