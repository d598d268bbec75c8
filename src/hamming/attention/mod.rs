//! Softmax attention by Hamming distance: binary queries and keys, values in floating point.
//!
//! ```text
//! logit_ij = beta (bits - 2 d_ij)        d_ij = popcount(q_i xor k_j)        P_i = softmax of logit_i over the keys that i sees
//! o_i = Σ_j P_ij v_j                     lse_i = ln Σ_j exp(logit_ij)
//! ```
//!
//! A distance takes at most bits + 1 values, so weights come from a table that the host computes in f64: no exponential is taken
//! on the device, and a number of keys at each distance gives the sum of weights exactly but for its last rounding
//! ([`Denominator::Integer`]).
//!
//! [`Options`] say which keys a query sees: all, those before it, a sliding window, sinks, those of its own sequence where several
//! are packed; then, among these, the nearest ([`Options::top_n`]), by (distance, index), or all within a radius. The selection is
//! exact at any size: distances are counted, the cut-off is found from the counts, and a second sweep weighs what lies before it.
//! No array of all pairs is ever stored.
//!
//! [`forward`] and [`backward`] are the calls, [`plan`] their planners, [`cpu`] the reference in f64. Not offered are biases,
//! weights or scales of single keys and queries, scores in floating point over the selected keys, one selection for a group of
//! heads, a beta that lives on the device, and the gradient of beta.

mod call;
#[cfg(feature = "cli")]
pub(crate) mod cases;
pub mod cpu;
mod gradients;
mod kernels;
mod params;
pub mod plan;
mod planner;
mod shape;
mod steps;
mod tiles;

pub use call::{
    Gradients, Inputs, Outputs, StraightThrough, Upstream, backward, forward, record,
    record_backward,
};
pub use shape::{Beta, Denominator, KEPT, MAX_VALUE, Options, Sequences, Shape};

const OP: &str = "hamming_attention";
