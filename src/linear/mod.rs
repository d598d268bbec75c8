//! Linear attention: a causal attention whose cost is linear in the number of tokens.
//!
//! ```text
//! S_t = exp(g) S_{t-1} + k_t v_tᵀ        o_t = scale · S_tᵀ q_t
//! ```
//!
//! [`forward`] runs whole sequences, [`step`] continues one token by token from a carried state, [`cpu::forward`] is the f64
//! reference of both and [`cpu::backward`] that of the gradients, for more options than a device computes yet. Plain linear attention, Lightning Attention and RetNet's retention are builders of [`Options`]; decay
//! tables have names ([`slopes_opennlplab`], [`slopes_minimax`], [`slopes_transnormer`], [`log_decay_retention`]) and none is
//! a default.
//!
//! [`FeatureMap`] lists what queries and keys may go through first; [`features()`] and [`features_adjoint()`] apply a map by itself.
//! [`depthwise_conv2d`] is the convolution of the values that vision models add.

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
