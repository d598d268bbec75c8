//! Linear attention: attention whose cost is linear in the number of tokens, because they share a state of constant size.
//!
//! ```text
//! S ← exp(g_t) S + k_t u_tᵀ        u_t = v_t, or with the delta rule β_t (v_t − (exp(g_t) S)ᵀ k_t)
//! o_t = scale · Sᵀ q_t             over scale · zᵀ q_t + eps when normalised, z the decayed sum of keys
//! ```
//!
//! [`forward`] runs whole sequences, [`step`] continues them token by token from a carried state, [`backward`] gives the
//! gradients of every input. [`cpu::forward`] and [`cpu::backward`] are the f64 reference; a device computes the same options.
//! What it refuses, by name: steps of the non-causal form, where every token reads the whole sequence, gradients through an
//! initial z, and segments ([`Form::Segments`]) of the delta rule.
//!
//! The members of the family are constructors of [`Options`]: [`Options::plain`], [`Options::lightning`],
//! [`Options::retention`], [`Options::simple_gla`], [`Options::gla`], [`Options::delta_rule`], [`Options::gated_delta`] and
//! [`Options::kda`]; their fields combine beyond these. Decay tables have names ([`slopes_opennlplab`], [`slopes_minimax`],
//! [`slopes_transnormer`], [`log_decay_retention`]) and none is a default.
//!
//! [`FeatureMap`] lists what queries and keys may go through first; [`features()`] and [`features_adjoint()`] apply a map by
//! itself. [`depthwise_conv2d`] is the convolution of the values that vision models add, and [`lit()`] attention with it.
//!
//! Two relatives are not among the options. In RWKV-6 a token reads the state before it, not yet decayed, and its own key and
//! value with a weight u of their own, `o_t = (S_{t-1} + (u ⊙ k_t) v_tᵀ)ᵀ q_t`: here it reads the state after it. In RWKV-7 the
//! state is multiplied by a diagonal plus the product of two free vectors, `diag(w_t) + a_t b_tᵀ`: here the delta rule makes
//! both of the key, with one factor β a token and head.

mod adjoint;
mod backward;
#[cfg(feature = "cli")]
pub(crate) mod cases;
pub mod conv2d;
pub mod cpu;
pub mod features;
mod forward;
mod kernels;
pub mod lit;
mod parallel;
pub mod plan;
mod rows;
mod shape;
mod slopes;
pub mod tiles;
mod walk;
mod window;

pub use backward::{Given, Gradients, backward, record_backward};
pub use conv2d::{
    Channels, Conv2d, Conv2dGradients, Conv2dInputs, depthwise_conv2d, depthwise_conv2d_adjoint,
};
pub use features::{
    FeatureGradients, FeatureInputs, FeatureMap, FeatureShape, features, features_adjoint,
};
pub use forward::{Inputs, Outputs, forward, record, record_step, step};
pub use lit::{Lit, LitGradients, LitInputs, lit, lit_backward, record_lit, record_lit_backward};
pub use parallel::{
    Carry, LocalInputs, LocalState, local_adjoint, local_state, merge, merge_adjoint, merge_start,
};
pub use shape::{Decay, Form, Layout, MAX_WIDTH, Options, Shape};
pub use slopes::{log_decay_retention, slopes_minimax, slopes_opennlplab, slopes_transnormer};
