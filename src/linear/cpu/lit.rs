//! LiT: the attention and the convolution, added.

use super::{Inputs, backward, depthwise_conv2d, depthwise_conv2d_adjoint, forward};
use crate::{Result, linear::Lit};

/// What [`lit_backward`] returns: gradients in the shapes of the inputs.
#[derive(Clone, Debug, PartialEq)]
pub struct LitGradients {
    /// Of the queries.
    pub q: Vec<f64>,
    /// Of the keys.
    pub k: Vec<f64>,
    /// Of the values.
    pub v: Vec<f64>,
    /// Of the kernels.
    pub weight: Vec<f64>,
    /// Of the bias, whether or not there is one.
    pub bias: Vec<f64>,
}

/// [`linear::lit`](crate::linear::lit) in f64; q, k and v, then the kernels and the bias.
///
/// # Errors
/// `Argument` for an impossible shape or a slice of the wrong length.
pub fn lit(
    shape: &Lit,
    [q, k, v]: [&[f64]; 3],
    weight: &[f64],
    bias: Option<&[f64]>,
) -> Result<Vec<f64>> {
    let mut o = depthwise_conv2d(&shape.conv, v, weight, bias)?;
    let (sizes, options) = shape.attention();
    let attention = forward(&sizes, &options, &Inputs::new(q, k, v))?;
    backward::sum_into(&mut o, &attention.o);
    Ok(o)
}

/// [`linear::lit_backward`](crate::linear::lit_backward) in f64: gradients of Σ `grad` ⊙ o.
///
/// # Errors
/// As [`lit`].
pub fn lit_backward(
    shape: &Lit,
    [q, k, v]: [&[f64]; 3],
    weight: &[f64],
    grad: &[f64],
) -> Result<LitGradients> {
    let conv = depthwise_conv2d_adjoint(&shape.conv, v, weight, grad)?;
    let (sizes, options) = shape.attention();
    let mut attention = backward(&sizes, &options, &Inputs::new(q, k, v), grad, None)?;
    backward::sum_into(&mut attention.v, &conv.x);
    Ok(LitGradients {
        q: attention.q,
        k: attention.k,
        v: attention.v,
        weight: conv.weight,
        bias: conv.bias,
    })
}
