//! EcoFormer's encoder: tokens to codes by their distances to anchors.
//!
//! ```text
//! y = x / max(|x|, 1e-12)        d_s = max(0, |y|² + |a_s|² - 2 y·a_s)        κ_s = exp(-d_s / 2σ)
//! u_r = sum_s weight_rs (κ_s - mean_s)                                       bit r = u_r > 0, NaN → 0
//! ```
//!
//! [`kernel_hash()`] makes the codes of [`ecoformer_attention`](crate::hamming::ecoformer_attention()),
//! [`kernel_hash_backward`] carries gradients of its signs to x, [`ksh_fit`](crate::hamming::ksh_fit()) learns anchors, mean
//! and weight, and [`cpu`](crate::hamming::cpu::kernel_hash) is the f64 reference.

#[cfg(feature = "cli")]
pub(crate) mod cases;
mod kernels;
pub mod plan;
mod steps;

use super::bits::{check_bits, words};
use crate::{
    Error, Result,
    error::{length, stored_as},
    gpu::{Dtype, Elem, Gpu, Pass, Tensor, ViewMut},
};

pub(super) const OP: &str = "kernel_hash";

/// What a norm, and a σ that is a mean, is at least.
pub const SMALL: f64 = 1e-12;

/// Sizes of a call: x is `[batch, heads, tokens, channels]`; anchors, mean and weight have one set a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Sequences.
    pub batch: usize,
    /// Heads.
    pub heads: usize,
    /// Tokens per sequence; 0 is legal.
    pub tokens: usize,
    /// Width of x.
    pub channels: usize,
    /// Anchors of a head.
    pub anchors: usize,
    /// Bits of a code.
    pub bits: usize,
    /// Storage type of x: f32, f16 or bf16. Everything else is f32.
    pub dtype: Dtype,
}

impl Shape {
    /// Sequences times heads.
    pub fn heads_len(&self) -> usize {
        self.batch * self.heads
    }

    /// Tokens of all heads.
    pub fn rows(&self) -> usize {
        self.heads_len() * self.tokens
    }

    /// Elements of x, and of its gradient.
    pub fn x_len(&self) -> usize {
        self.rows() * self.channels
    }

    /// Elements of the anchors.
    pub fn anchors_len(&self) -> usize {
        self.heads * self.anchors * self.channels
    }

    /// Elements of the means.
    pub fn mean_len(&self) -> usize {
        self.heads * self.anchors
    }

    /// Elements of the weights.
    pub fn weight_len(&self) -> usize {
        self.heads * self.bits * self.anchors
    }

    /// Elements of the codes.
    pub fn words_len(&self) -> usize {
        self.rows() * words(self.bits)
    }

    /// Elements of the projection, and of the gradient of the signs.
    pub fn signs_len(&self) -> usize {
        self.rows() * self.bits
    }

    pub(super) fn check(&self, sigma: Sigma) -> Result<()> {
        let wrong = |what: &str, expected: &str, got: String| {
            Err(Error::Argument {
                op: OP,
                what: what.into(),
                expected: expected.into(),
                got,
            })
        };
        if !matches!(self.dtype, Dtype::F32 | Dtype::F16 | Dtype::Bf16) {
            return wrong("dtype", "f32, f16 or bf16", self.dtype.name().into());
        }
        check_bits(OP, self.bits)?;
        for (what, size) in [("channels", self.channels), ("anchors", self.anchors)] {
            if !(1..=1 << 16).contains(&size) {
                return wrong(what, "1 to 65536", size.to_string());
            }
        }
        if let Sigma::Frozen(sigma) = sigma
            && !(sigma.is_finite() && sigma >= f32::MIN_POSITIVE)
        {
            return wrong("sigma", "a normal number above 0", sigma.to_string());
        }
        let rows = [self.batch, self.heads, self.tokens].map(|n| n.max(1) as u64);
        let rows = rows.into_iter().try_fold(1, u64::checked_mul);
        if rows.is_none_or(|rows| rows > 1 << 31) {
            let got = format!("{} x {} x {}", self.batch, self.heads, self.tokens);
            return wrong("shape", "of at most 2^31 tokens in all", got);
        }
        Ok(())
    }
}

/// The width of the kernel: σ stands where a variance would, though it is a mean squared distance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sigma {
    /// A number above 0. A token's code depends on that token alone: the only choice for causal attention and for streams,
    /// though nothing here can check that.
    Frozen(f32),
    /// The mean of d over the sequence's tokens and anchors, at least [`SMALL`]: every token of a sequence has a say in every
    /// code.
    SequenceMean,
}

/// What hashing reads.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a, T: Elem> {
    /// Tokens, `[B, H, T, C]`.
    pub x: &'a Tensor<T>,
    /// Anchors, `[H, m, C]`.
    pub anchors: &'a Tensor<f32>,
    /// Means of κ, `[H, m]`.
    pub mean: &'a Tensor<f32>,
    /// Weights, `[H, bits, m]`.
    pub weight: &'a Tensor<f32>,
}

/// What [`kernel_hash()`] writes.
#[derive(Debug)]
pub struct Outputs<'a> {
    /// Codes, `[B, H, T, ⌈bits/32⌉]`; what their last words have beyond the code is 0.
    pub words: &'a mut Tensor<u32>,
    /// Receives u, `[B, H, T, bits]`.
    pub projection: Option<&'a mut Tensor<f32>>,
}

/// Codes of tokens by their distances to anchors.
///
/// ```text
/// y = x / max(|x|, 1e-12)        d_s = max(0, |y|² + |a_s|² - 2 y·a_s)        u_r = sum_s weight_rs (exp(-d_s / 2σ) - mean_s)
/// ```
///
/// and bit r of a code is u_r > 0, compared as integers: NaN and both zeros give 0. (The published code's sign has a third
/// value at 0.) Shapes: x `[B, H, T, C]`, anchors `[H, m, C]`, mean `[H, m]`, weight `[H, bits, m]`, words `[B, H, T,
/// ⌈bits/32⌉]` u32, projection `[B, H, T, bits]`; row-major, last index fastest.
///
/// Cost: `2 B H T m (C + bits)` operations. Temporaries: the distances, m f32 a token, for as many heads at a time as fit.
///
/// Accuracy: the error of u is at most 1e-5 sum_s |weight_rs (κ_s - mean_s)| for anchors of about unit length and |x| between
/// 1e-18 and 1e18; bits with |u| below that may differ from those of the f64 reference, all others are equal. Deterministic:
/// two runs are bit-equal.
///
/// # Errors
/// `Argument` when sizes, dtype or σ do not fit together; `Limit` when one head exceeds a binding or the scratch budget;
/// `Shader`, `OutOfMemory`, `Timeout`, `DeviceLost` from the device.
///
/// Source: J. Liu et al., EcoFormer: Energy-Saving Attention with Linear Complexity, 2022; W. Liu et al., Supervised Hashing
/// with Kernels, 2012.
pub fn kernel_hash<T: Elem>(
    gpu: &Gpu,
    shape: &Shape,
    sigma: Sigma,
    inputs: &Inputs<'_, T>,
    outputs: Outputs<'_>,
) -> Result<()> {
    let mut pass = gpu.pass(OP);
    record_kernel_hash(&mut pass, shape, sigma, inputs, outputs)?;
    pass.submit().map(drop)
}

/// [`kernel_hash()`], recorded into a pass that the caller submits.
///
/// # Errors
/// As [`kernel_hash()`].
pub fn record_kernel_hash<T: Elem>(
    pass: &mut Pass,
    shape: &Shape,
    sigma: Sigma,
    inputs: &Inputs<'_, T>,
    outputs: Outputs<'_>,
) -> Result<()> {
    let plan = plan::forward(shape, sigma, outputs.projection.is_some(), pass.caps())?;
    inputs.check(shape)?;
    length(OP, "words", outputs.words.len(), shape.words_len())?;
    let mut written: Vec<ViewMut<'_>> = vec![outputs.words.view_mut()];
    if let Some(projection) = outputs.projection {
        length(OP, "projection", projection.len(), shape.signs_len())?;
        written.push(projection.view_mut());
    }
    let Inputs {
        x,
        anchors,
        mean,
        weight,
    } = inputs;
    let views = [x.view(), anchors.view(), mean.view(), weight.view()];
    pass.run(&plan, &views, &mut written)
}

/// Gradient of x from that of the signs h = 2 bit - 1, handed straight through the sign where |u| < 1.
///
/// ```text
/// du_r = dh_r [|u_r| < 1]        dκ_s = sum_r weight_rs du_r        dd_s = -κ_s dκ_s / 2σ
/// σ the sequence's mean:         dd_s also gets dσ / (T m), dσ = sum_ts κ_ts dκ_ts d_ts / 2σ²
/// dy = 2 sum_s dd_s (y - a_s)    then through y = x / max(|x|, 1e-12)
/// ```
///
/// u is computed again. Anchors, mean and weight get no gradient. Shapes: grad_h `[B, H, T, bits]`, grad_x `[B, H, T, C]`, both
/// f32.
///
/// Cost: about twice that of [`kernel_hash()`]. Temporaries: 2 m + bits f32 a token, for as many heads at a time as fit.
///
/// Accuracy: root-mean-square error to the f64 reference, relative, <= 2e-5, where no |u| is within rounding of 1.
/// Deterministic: two runs are bit-equal.
///
/// # Errors
/// As [`kernel_hash()`].
pub fn kernel_hash_backward<T: Elem>(
    gpu: &Gpu,
    shape: &Shape,
    sigma: Sigma,
    inputs: &Inputs<'_, T>,
    grad_h: &Tensor<f32>,
    grad_x: &mut Tensor<f32>,
) -> Result<()> {
    let mut pass = gpu.pass("kernel_hash backward");
    record_kernel_hash_backward(&mut pass, shape, sigma, inputs, grad_h, grad_x)?;
    pass.submit().map(drop)
}

/// [`kernel_hash_backward`], recorded into a pass that the caller submits.
///
/// # Errors
/// As [`kernel_hash()`].
pub fn record_kernel_hash_backward<T: Elem>(
    pass: &mut Pass,
    shape: &Shape,
    sigma: Sigma,
    inputs: &Inputs<'_, T>,
    grad_h: &Tensor<f32>,
    grad_x: &mut Tensor<f32>,
) -> Result<()> {
    let plan = plan::backward(shape, sigma, pass.caps())?;
    inputs.check(shape)?;
    length(OP, "grad_h", grad_h.len(), shape.signs_len())?;
    length(OP, "grad_x", grad_x.len(), shape.x_len())?;
    let Inputs {
        x,
        anchors,
        mean,
        weight,
    } = inputs;
    let views = [
        x.view(),
        anchors.view(),
        mean.view(),
        weight.view(),
        grad_h.view(),
    ];
    pass.run(&plan, &views, &mut [grad_x.view_mut()])
}

impl<T: Elem> Inputs<'_, T> {
    fn check(&self, shape: &Shape) -> Result<()> {
        stored_as::<T>(OP, shape.dtype)?;
        length(OP, "x", self.x.len(), shape.x_len())?;
        length(OP, "anchors", self.anchors.len(), shape.anchors_len())?;
        length(OP, "mean", self.mean.len(), shape.mean_len())?;
        length(OP, "weight", self.weight.len(), shape.weight_len())
    }
}
