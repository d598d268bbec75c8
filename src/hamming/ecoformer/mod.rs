//! EcoFormer's attention: linear in the number of tokens, between codes that queries and keys share.
//!
//! ```text
//! s_ij = h_i·h_j + c = b + c - 2 popcount(code_i xor code_j)                 h = 2 bit - 1, c > b: every weight is positive
//! exact:     o_i = sum_j s_ij v_j / sum_j s_ij                               over all j, or over j <= i where causal
//! released:  o_i = (sum_j (h_i·h_j) v_j + c v_i) / sum_j s_ij                what published checkpoints were trained with
//! ```
//!
//! The sums over j are those of a state, S_r = sum_j h_jr v_j and z_r = sum_j h_jr for each bit r, so that h_iᵀ S and h_iᵀ z
//! take additions and subtractions only, b a token and column, whatever the number of tokens. z is made of integers, and so is
//! the denominator where c is one.
//!
//! [`ecoformer_attention`] computes o, [`ecoformer_attention_backward`] the gradients of v and of the signs h.
//! [`crate::hamming::kernel_hash()`] makes the codes, [`crate::hamming::ksh_fit()`] learns how,
//! and [`cpu`](crate::hamming::cpu::ecoformer) is the f64 reference.

#[cfg(feature = "cli")]
pub(crate) mod cases;
mod kernels;
pub mod plan;
mod steps;

use super::bits::words;
use crate::{
    Error, Result,
    error::{length, stored_as},
    gpu::{Dtype, Elem, Gpu, Pass, Tensor},
};

pub(super) const OP: &str = "ecoformer_attention";

/// The widest code that attention takes.
pub const MAX_BITS: usize = 1024;

/// The widest values.
pub const MAX_VALUE: usize = 4096;

/// The longest sequence: counts of tokens are exact in f32.
pub const MAX_TOKENS: usize = 1 << 24;

/// Sizes of a call: codes are `[batch, heads, tokens, words]` u32, values `[batch, heads, tokens, value]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Sequences.
    pub batch: usize,
    /// Heads of codes and values alike.
    pub heads: usize,
    /// Tokens per sequence; 0 is legal.
    pub tokens: usize,
    /// Width of values and outputs.
    pub value: usize,
    /// Bits of a code.
    pub bits: usize,
    /// Storage type of v and o: f32, f16 or bf16.
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

    /// Elements of the codes.
    pub fn codes_len(&self) -> usize {
        self.rows() * words(self.bits)
    }

    /// Elements of v, of o and of their gradients.
    pub fn value_len(&self) -> usize {
        self.rows() * self.value
    }

    /// Elements of the gradient of the signs.
    pub fn signs_len(&self) -> usize {
        self.rows() * self.bits
    }

    pub(super) fn check(&self, options: &Options) -> Result<()> {
        let wrong = |what: &str, expected: String, got: String| {
            Err(Error::Argument {
                op: OP,
                what: what.into(),
                expected,
                got,
            })
        };
        if !matches!(self.dtype, Dtype::F32 | Dtype::F16 | Dtype::Bf16) {
            let got = self.dtype.name().into();
            return wrong("dtype", "f32, f16 or bf16".into(), got);
        }
        for (what, size, most) in [
            ("bits", self.bits, MAX_BITS),
            ("value", self.value, MAX_VALUE),
        ] {
            if !(1..=most).contains(&size) {
                return wrong(what, format!("1 to {most}"), size.to_string());
            }
        }
        // Sums of scores are 32-bit integers.
        let longest = MAX_TOKENS.min(((1 << 31) - 1) / self.bits);
        if self.tokens > longest {
            let expected = format!("at most {longest} for codes of {} bits", self.bits);
            return wrong("tokens", expected, self.tokens.to_string());
        }
        let (c, bits) = (options.offset, self.bits);
        if !(c.is_finite() && f64::from(c) > bits as f64) {
            let expected = format!("more than the {bits} bits, so that every weight is positive");
            return wrong("offset", expected, c.to_string());
        }
        // Indices are 32 bits wide within a binding, and rows are counted in all.
        let rows = [self.batch, self.heads, self.tokens].map(|n| n.max(1) as u64);
        let rows = rows.into_iter().try_fold(1, u64::checked_mul);
        if rows.is_none_or(|rows| rows > 1 << 31) {
            let got = format!("{} x {} x {}", self.batch, self.heads, self.tokens);
            return wrong("shape", "of at most 2^31 tokens in all".into(), got);
        }
        Ok(())
    }
}

/// What the numerator of the outputs is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Normalizer {
    /// That of weights which sum to 1.
    #[default]
    Exact,
    /// That of the published code, where the offset multiplies the token's own value; the weights do not sum to 1.
    Released,
}

/// Options of [`ecoformer_attention`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// c, more than the number of bits; [`Options::new`] takes that of the published code, bits + 1.
    pub offset: f32,
    /// What the numerator is.
    pub normalizer: Normalizer,
    /// Whether a token sees itself and earlier ones only.
    pub causal: bool,
}

impl Options {
    /// Weights that sum to 1, over all tokens, c = bits + 1.
    pub fn new(bits: usize) -> Options {
        Options {
            offset: bits as f32 + 1.0,
            normalizer: Normalizer::Exact,
            causal: false,
        }
    }
}

/// What attention reads.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a, T: Elem> {
    /// Codes, `[B, H, T, ⌈bits/32⌉]`; what their last words have beyond the code does not count.
    pub codes: &'a Tensor<u32>,
    /// Values, `[B, H, T, V]`.
    pub v: &'a Tensor<T>,
}

/// What [`ecoformer_attention_backward`] writes.
#[derive(Debug)]
pub struct Gradients<'a> {
    /// With respect to v, `[B, H, T, V]`.
    pub v: &'a mut Tensor<f32>,
    /// With respect to the signs h, `[B, H, T, bits]`: what a token gets as a query and as a key, added.
    pub h: &'a mut Tensor<f32>,
}

/// EcoFormer's attention.
///
/// ```text
/// o_i = sum_j (h_i·h_j + c) v_j / sum_j (h_i·h_j + c)            released: (sum_j (h_i·h_j) v_j + c v_i) / sum_j (h_i·h_j + c)
/// ```
///
/// over all j, or over j <= i where causal. Shapes: codes `[B, H, T, ⌈bits/32⌉]` u32, v, o `[B, H, T, V]`; row-major, last
/// index fastest.
///
/// Cost: `2 B H T (bits + 1) (V + 4)` additions; where causal, about `B H T L/2` popcounts and multiply-adds a column more for
/// parts of L = 64 tokens (128 from 65 bits on). Temporaries: a state of `(bits + 1)(V + 4)` f32 for each part, of up to 512
/// tokens where not causal, and where v has 16 bits and an odd width, o in f32.
///
/// Accuracy: each error is at most 4u (bits + log2 T) times the sum of the absolute values of the terms, (bits + c) sum_j|v_j|
/// / sum_j s_ij, u = 2^-24, and half a unit in the last place of the storage type; integer values and offsets are exact up to
/// the division while their sums are below 2^24. Deterministic: two runs are bit-equal.
///
/// # Errors
/// `Argument` when sizes, dtype or options do not fit together, among them an offset that is not above the number of bits;
/// `Limit` when one head exceeds a binding or the scratch budget; `Shader`, `OutOfMemory`, `Timeout`, `DeviceLost` from the
/// device.
///
/// Source: J. Liu et al., EcoFormer: Energy-Saving Attention with Linear Complexity, 2022; the released normaliser is that of
/// its code.
pub fn ecoformer_attention<T: Elem>(
    gpu: &Gpu,
    shape: &Shape,
    options: &Options,
    inputs: &Inputs<'_, T>,
    o: &mut Tensor<T>,
) -> Result<()> {
    let mut pass = gpu.pass(OP);
    record_ecoformer_attention(&mut pass, shape, options, inputs, o)?;
    pass.submit().map(drop)
}

/// [`ecoformer_attention`], recorded into a pass that the caller submits.
///
/// # Errors
/// As [`ecoformer_attention`].
pub fn record_ecoformer_attention<T: Elem>(
    pass: &mut Pass,
    shape: &Shape,
    options: &Options,
    inputs: &Inputs<'_, T>,
    o: &mut Tensor<T>,
) -> Result<()> {
    let plan = plan::forward(shape, options, pass.caps())?;
    inputs.check(shape)?;
    length(OP, "o", o.len(), shape.value_len())?;
    let views = [inputs.codes.view(), inputs.v.view()];
    pass.run(&plan, &views, &mut [o.view_mut()])
}

/// Gradients of v and of the signs from that of o.
///
/// ```text
/// G_i = dO_i / sum_j s_ij        ds_ij = G_i·v_j - G_i·o_i
/// dv_j = sum_i s_ij G_i          released: sum_i (h_i·h_j) G_i + c G_j
/// dh_i = sum_j ds_ij h_j + sum_j ds_ji h_j                        a token as a query, and as a key
/// ```
///
/// o is computed again. dh is the gradient of the formula at h = ±1, to be handed straight through the sign: see
/// [`kernel_hash_backward`](crate::hamming::kernel_hash_backward()). Shapes: grad_o, dv `[B, H, T, V]`, dh `[B, H, T, bits]`.
///
/// Cost: about four times that of [`ecoformer_attention`]; linear in T. Temporaries: two sets of its states, a row of V + 4 f32
/// a token and, where causal, 64 (or 128) f32 a token.
///
/// Accuracy: root-mean-square error to the f64 reference, relative, <= 2e-5. Deterministic: two runs are bit-equal.
///
/// # Errors
/// As [`ecoformer_attention`].
pub fn ecoformer_attention_backward<T: Elem>(
    gpu: &Gpu,
    shape: &Shape,
    options: &Options,
    inputs: &Inputs<'_, T>,
    grad_o: &Tensor<T>,
    gradients: Gradients<'_>,
) -> Result<()> {
    let mut pass = gpu.pass("ecoformer_attention backward");
    record_ecoformer_attention_backward(&mut pass, shape, options, inputs, grad_o, gradients)?;
    pass.submit().map(drop)
}

/// [`ecoformer_attention_backward`], recorded into a pass that the caller submits.
///
/// # Errors
/// As [`ecoformer_attention`].
pub fn record_ecoformer_attention_backward<T: Elem>(
    pass: &mut Pass,
    shape: &Shape,
    options: &Options,
    inputs: &Inputs<'_, T>,
    grad_o: &Tensor<T>,
    gradients: Gradients<'_>,
) -> Result<()> {
    let plan = plan::backward(shape, options, pass.caps())?;
    inputs.check(shape)?;
    length(OP, "grad_o", grad_o.len(), shape.value_len())?;
    length(OP, "grad v", gradients.v.len(), shape.value_len())?;
    length(OP, "grad h", gradients.h.len(), shape.signs_len())?;
    let views = [inputs.codes.view(), inputs.v.view(), grad_o.view()];
    pass.run(
        &plan,
        &views,
        &mut [gradients.v.view_mut(), gradients.h.view_mut()],
    )
}

impl<T: Elem> Inputs<'_, T> {
    fn check(&self, shape: &Shape) -> Result<()> {
        stored_as::<T>(OP, shape.dtype)?;
        length(OP, "codes", self.codes.len(), shape.codes_len())?;
        length(OP, "v", self.v.len(), shape.value_len())
    }
}
