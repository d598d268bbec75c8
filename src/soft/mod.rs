//! SOFT: attention without softmax, through a few landmarks and the inverse of their kernel matrix.
//!
//! ```text
//! C_ia = exp(−‖q_i − l_a‖² / (2√D))        P_ab = exp(−‖l_a − l_b‖² / (2√D)) + ridge [a = b]
//! o = C Y        Y = P⁻¹ Cᵀ v        or, with the symmetric normalisation, Y = s ⊙ P⁻¹ (s ⊙ Cᵀ v), s = (P 1)^(−1/2)
//! ```
//!
//! q `[B, H, T, D]` are queries and keys at once, landmarks l `[B, H, m, D]` are given or pooled from q ([`pool_landmarks`]),
//! v `[B, H, T, V]`. The cost is linear in T: C is recomputed in tiles and never stored.
//!
//! [`soft_attention`] and [`backward`] solve with P by a factorisation or by the Newton-Raphson iteration of the paper
//! ([`Solver`]) and measure what they reached: a head whose residual misses the tolerance is an error that names it.
//! [`record`] and [`record_backward`] leave that judgement to the caller, who reads the same figures from a tensor
//! ([`Status`]). [`cpu`] is the f64 reference.
//!
//! Source: J. Lu et al., SOFT: Softmax-free Transformer with Linear Complexity, NeurIPS 2021; the symmetric normalisation is
//! that of their Softmax-free Linear Transformers, 2022. There the landmarks come from a convolution of q, which is the
//! caller's; the iteration here starts from the row sums of P with its ridge, theirs from those without.

mod call;
#[cfg(feature = "cli")]
pub(crate) mod cases;
mod cholesky;
pub mod cpu;
mod kernels;
mod newton;
pub mod plan;
mod pool;
mod shape;
mod steps;
mod system;
mod tokens;

pub use call::{
    Gradients, Inputs, backward, pool_landmarks, pool_landmarks_backward, record, record_backward,
    soft_attention,
};
pub use shape::{
    MAX_LANDMARKS, MAX_WIDTH, Options, RESIDUAL_TOLERANCE, Shape, Solver, Status, run_of_landmark,
};
