//! Exact third-order (2-simplicial, Kronecker) attention: every query weighs pairs of keys.
//!
//! ```text
//! s_ijl = scale · t(q_i, k1_j, k2_l)        P = softmax of s over the pairs (j, l) that i sees        o_i = Σ_jl P_ijl (v1_j ∘ v2_l)
//! ```
//!
//! This is attention whose keys are a Khatri-Rao product, o = D⁻¹ exp(scale · Q (K1 ⊙ K2)ᵀ) (V1 ⊙ V2) with D the row sums, without that
//! product: [`forward()`] and [`backward()`] stream over it, so that memory is linear in the number of tokens; the arithmetic is cubic, or
//! T w1 w2 with windows. [`cpu`] is the reference.
//!
//! The three are alike: seen from any of q, k1 and k2, the owner of a result, the score is an ordinary product of a row, which an owner
//! forms with a partner, with a column. One walk over rows and columns so gives outputs and all gradients, the owner being a query or a
//! key of either kind; rows of an owner are summed in a fixed order at the end.
//!
//! Sources: A. Roy et al., Fast and Simplex: 2-Simplicial Attention in Triton, 2025 (windows, determinants); J. Clift et al., Logic and
//! the 2-Simplicial Transformer, 2019; J. Alman, Z. Song, How to Capture Higher-order Correlations?, 2024 (the Kronecker form).

mod call;
#[cfg(feature = "cli")]
pub(crate) mod cases;
pub mod cpu;
mod gradients;
mod kernels;
pub mod plan;
mod planner;
mod shape;
mod tiles;
mod walk;

pub use call::{Gradients, Inputs, Outputs, Upstream, backward, forward, record, record_backward};
pub use shape::{Logits, MAX_TOKENS, Options, Shape};

pub(crate) const OP: &str = "tensor_attention";
