//! Hedgehog distillation: how far a linear attention is from the softmax attention it is to replace, and the gradient that
//! brings it closer.
//!
//! ```text
//! a_ij = softmax_j(scale · q_i·k_j)        c_ij = max(φ(q_i)·φ(k_j), 1e-12)        r_i = sum_j c_ij
//! loss_i = log r_i - sum_j a_ij log c_ij                                           entropy_i = - sum_j a_ij log a_ij
//! ```
//!
//! over j <= i where causal, else over all j. The student's weights are c_ij / r_i, so `loss_i` is the cross entropy from the
//! teacher's weights to the student's, and `loss_i - entropy_i` their Kullback-Leibler divergence, which is 0 where the two
//! agree. [`forward`] streams over the keys and keeps three numbers a query; [`backward`] recomputes the products from them.
//! Time is quadratic in the number of tokens, as the teacher is; memory is linear. [`cpu`] is the f64 reference of both.

#[cfg(feature = "cli")]
pub(crate) mod cases;
pub mod cpu;
pub mod plan;

use crate::{
    Error, Result,
    error::{length, stored_as},
    gpu::{Dtype, Elem, Gpu, Pass, Tensor},
};

const OP: &str = "hedgehog_distill";

/// The least that a product of features counts as.
pub const FLOOR: f64 = 1e-12;

/// Numbers that [`forward`] keeps for [`backward`] for each query: m_i, l_i and r_i.
pub const KEPT: usize = 3;

/// Sizes of a call. Heads come before tokens: q and k are `[batch, heads, tokens, key]`, their features
/// `[batch, heads, tokens, features]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Sequences.
    pub batch: usize,
    /// Heads, of queries and keys alike.
    pub heads: usize,
    /// Tokens per sequence; 0 is legal.
    pub tokens: usize,
    /// Width of queries and keys.
    pub key: usize,
    /// Width of their features.
    pub features: usize,
    /// Storage type of q and k: f32, f16 or bf16. Everything else is f32.
    pub dtype: Dtype,
}

impl Shape {
    /// Sequences times heads.
    pub fn heads_len(&self) -> usize {
        self.batch * self.heads
    }

    /// Queries of all heads: elements of the loss.
    pub fn rows(&self) -> usize {
        self.heads_len() * self.tokens
    }

    /// Elements of q, and of k.
    pub fn key_len(&self) -> usize {
        self.rows() * self.key
    }

    /// Elements of φ(q), and of φ(k).
    pub fn features_len(&self) -> usize {
        self.rows() * self.features
    }

    /// The mean over queries weighs each loss with this.
    fn weight(&self) -> f64 {
        1.0 / self.rows().max(1) as f64
    }

    fn check(&self, options: &Options) -> Result<()> {
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
        if !options.scale.is_finite() {
            return wrong("scale", "finite", options.scale.to_string());
        }
        let sizes = [self.batch, self.heads, self.tokens, self.key, self.features];
        if self.key == 0 || self.features == 0 {
            return wrong("widths", "at least 1", format!("{sizes:?}"));
        }
        // Indices are 32 bits wide within a binding, and rows are counted in all.
        let rows = [self.batch, self.heads, self.tokens]
            .map(|n| n.max(1) as u64)
            .into_iter()
            .try_fold(KEPT as u64, u64::checked_mul);
        let widest = self.key.max(self.features) as u64;
        if rows.is_none_or(|rows| rows > 1 << 32) || widest > 1 << 16 {
            return wrong(
                "shape",
                "of at most 2^30 queries and widths of at most 65536",
                format!("{sizes:?}"),
            );
        }
        Ok(())
    }
}

/// Options of [`forward`] and [`backward`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// Whether a query sees only its own key and earlier ones.
    pub causal: bool,
    /// The teacher's factor on scores, usually key^(-1/2).
    pub scale: f32,
}

/// What [`forward`] and [`backward`] read.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a, T: Elem> {
    /// The teacher's queries, `[B, H, T, D]`.
    pub q: &'a Tensor<T>,
    /// The teacher's keys, as the queries.
    pub k: &'a Tensor<T>,
    /// The student's φ(q), `[B, H, T, F]`, all at least 0.
    pub phi_q: &'a Tensor<f32>,
    /// The student's φ(k), as φ(q).
    pub phi_k: &'a Tensor<f32>,
}

/// What [`forward`] writes.
#[derive(Debug)]
pub struct Outputs<'a> {
    /// Cross entropies, `[B, H, T]`.
    pub loss: &'a mut Tensor<f32>,
    /// Entropies of the teacher's weights, `[B, H, T]`.
    pub entropy: &'a mut Tensor<f32>,
    /// What [`backward`] needs, `[B, H, T, 3]`: the largest score m, l = sum_j e^(s_ij - m) and r = sum_j c_ij.
    pub rows: &'a mut Tensor<f32>,
}

/// What [`backward`] writes.
#[derive(Debug)]
pub struct Gradients<'a> {
    /// With respect to φ(q), `[B, H, T, F]`.
    pub phi_q: &'a mut Tensor<f32>,
    /// With respect to φ(k), as φ(q).
    pub phi_k: &'a mut Tensor<f32>,
}

/// Distance of a student's linear attention from a softmax attention, for each query.
///
/// ```text
/// loss_i = log r_i - sum_j a_ij log c_ij        entropy_i = - sum_j a_ij log a_ij        loss_i - entropy_i = KL(a_i | c_i / r_i)
/// ```
///
/// with a, c and r as [the module](self) says. Shapes: q, k `[B, H, T, D]`, φ(q), φ(k) `[B, H, T, F]`, loss, entropy
/// `[B, H, T]`; row-major, last index fastest. Units: nats.
///
/// Cost: about `2 B H T² (D + F)` operations, half of them where causal; no temporaries. Long calls become several dispatches.
///
/// Accuracy: root-mean-square error to the f64 reference, relative, <= 1e-5. Deterministic: two runs are bit-equal.
///
/// # Errors
/// `Argument` when sizes, dtype or options do not fit together; `Limit` when one head exceeds a binding; `Shader`,
/// `OutOfMemory`, `Timeout`, `DeviceLost` from the device.
///
/// Source: M. Zhang et al., The Hedgehog & the Porcupine, 2024, whose loss this is; the floor on c is that of published code.
pub fn forward<T: Elem>(
    gpu: &Gpu,
    shape: &Shape,
    options: &Options,
    inputs: &Inputs<'_, T>,
    outputs: Outputs<'_>,
) -> Result<()> {
    let mut pass = gpu.pass("distillation loss");
    record(&mut pass, shape, options, inputs, outputs)?;
    pass.submit().map(drop)
}

/// [`forward`], recorded into a pass that the caller submits.
///
/// # Errors
/// As [`forward`].
pub fn record<T: Elem>(
    pass: &mut Pass,
    shape: &Shape,
    options: &Options,
    inputs: &Inputs<'_, T>,
    outputs: Outputs<'_>,
) -> Result<()> {
    let plan = plan::forward(shape, options, pass.caps())?;
    inputs.check(shape)?;
    length(OP, "loss", outputs.loss.len(), shape.rows())?;
    length(OP, "entropy", outputs.entropy.len(), shape.rows())?;
    length(OP, "rows", outputs.rows.len(), KEPT * shape.rows())?;
    let views = inputs.views();
    let Outputs {
        loss,
        entropy,
        rows,
    } = outputs;
    pass.run(
        &plan,
        &views,
        &mut [loss.view_mut(), entropy.view_mut(), rows.view_mut()],
    )
}

/// Gradient of the mean of [`forward`]'s losses over batch, heads and queries with respect to φ(q) and φ(k).
///
/// ```text
/// dc_ij = (1/r_i - a_ij/c_ij) / (B H T), 0 where c_ij is floored        dφ(q_i) = sum_j dc_ij φ(k_j)        dφ(k_j) = sum_i dc_ij φ(q_i)
/// ```
///
/// `rows` is what [`forward`] kept of the same inputs. The teacher's entropy does not depend on φ: this is the gradient of the
/// mean Kullback-Leibler divergence as well. The teacher gets none.
///
/// Cost: about `4 B H T² (D + 2F)` operations, half of them where causal; no temporaries.
///
/// Accuracy: root-mean-square error to the f64 reference, relative, <= 2e-5. Deterministic: two runs are bit-equal.
///
/// # Errors
/// As [`forward`].
pub fn backward<T: Elem>(
    gpu: &Gpu,
    shape: &Shape,
    options: &Options,
    inputs: &Inputs<'_, T>,
    rows: &Tensor<f32>,
    gradients: Gradients<'_>,
) -> Result<()> {
    let mut pass = gpu.pass("distillation gradient");
    record_backward(&mut pass, shape, options, inputs, rows, gradients)?;
    pass.submit().map(drop)
}

/// [`backward`], recorded into a pass that the caller submits.
///
/// # Errors
/// As [`forward`].
pub fn record_backward<T: Elem>(
    pass: &mut Pass,
    shape: &Shape,
    options: &Options,
    inputs: &Inputs<'_, T>,
    rows: &Tensor<f32>,
    gradients: Gradients<'_>,
) -> Result<()> {
    let plan = plan::backward(shape, options, pass.caps())?;
    inputs.check(shape)?;
    length(OP, "rows", rows.len(), KEPT * shape.rows())?;
    length(
        OP,
        "grad phi_q",
        gradients.phi_q.len(),
        shape.features_len(),
    )?;
    length(
        OP,
        "grad phi_k",
        gradients.phi_k.len(),
        shape.features_len(),
    )?;
    let [q, k, phi_q, phi_k] = inputs.views();
    let Gradients {
        phi_q: grad_q,
        phi_k: grad_k,
    } = gradients;
    pass.run(
        &plan,
        &[q, k, phi_q, phi_k, rows.view()],
        &mut [grad_q.view_mut(), grad_k.view_mut()],
    )
}

impl<T: Elem> Inputs<'_, T> {
    fn check(&self, shape: &Shape) -> Result<()> {
        stored_as::<T>(OP, shape.dtype)?;
        length(OP, "q", self.q.len(), shape.key_len())?;
        length(OP, "k", self.k.len(), shape.key_len())?;
        length(OP, "phi_q", self.phi_q.len(), shape.features_len())?;
        length(OP, "phi_k", self.phi_k.len(), shape.features_len())
    }

    fn views(&self) -> [crate::gpu::View<'_>; 4] {
        [
            self.q.view(),
            self.k.view(),
            self.phi_q.view(),
            self.phi_k.view(),
        ]
    }
}
