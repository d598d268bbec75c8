//! The public calls: plan, record, submit.

use super::{
    OP, Options, Shape,
    plan::{self, Wanted},
    shape::wrong,
};
use crate::{
    Result,
    error::{length, stored_as},
    gpu::{Elem, Gpu, Pass, Tensor, View, ViewMut},
};

/// What [`forward()`] and [`backward()`] read; shapes as in [`Shape`].
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a, T: Elem> {
    /// Queries, `[B, H, T_q, D]`.
    pub q: &'a Tensor<T>,
    /// Keys of the first kind, `[B, H_kv, T_1, D]`.
    pub k1: &'a Tensor<T>,
    /// Keys of the second kind, `[B, H_kv, T_2, D]`.
    pub k2: &'a Tensor<T>,
    /// Values of the first kind, `[B, H_kv, T_1, V]`.
    pub v1: &'a Tensor<T>,
    /// Values of the second kind, `[B, H_kv, T_2, V]`.
    pub v2: &'a Tensor<T>,
}

/// What [`forward()`] writes.
#[derive(Debug)]
pub struct Outputs<'a, T: Elem> {
    /// `[B, H, T_q, V]`; 0 for a query that sees no pair.
    pub o: &'a mut Tensor<T>,
    /// ln Σ_jl exp(s_ijl), `[B, H, T_q]`; the lowest f32 for a query that sees no pair.
    pub lse: Option<&'a mut Tensor<f32>>,
}

/// What [`backward()`] reads beside the inputs.
#[derive(Clone, Copy, Debug)]
pub struct Upstream<'a, T: Elem> {
    /// The output of [`forward()`].
    pub o: &'a Tensor<T>,
    /// The logarithms that [`forward()`] wrote.
    pub lse: &'a Tensor<f32>,
    /// The gradient of o, as o.
    pub grad_o: &'a Tensor<T>,
}

/// What [`backward()`] writes, each shaped as its input; at least one.
#[derive(Debug, Default)]
pub struct Gradients<'a> {
    /// Of q.
    pub q: Option<&'a mut Tensor<f32>>,
    /// Of k1.
    pub k1: Option<&'a mut Tensor<f32>>,
    /// Of k2.
    pub k2: Option<&'a mut Tensor<f32>>,
    /// Of v1.
    pub v1: Option<&'a mut Tensor<f32>>,
    /// Of v2.
    pub v2: Option<&'a mut Tensor<f32>>,
}

impl<T: Elem> Inputs<'_, T> {
    fn views(&self, shape: &Shape) -> Result<Vec<View<'_>>> {
        stored_as::<T>(OP, shape.dtype)?;
        let ([k1, k2], [v1, v2]) = (shape.key_lens(), shape.value_lens());
        let tensors = [
            ("q", self.q, shape.query_len()),
            ("k1", self.k1, k1),
            ("k2", self.k2, k2),
            ("v1", self.v1, v1),
            ("v2", self.v2, v2),
        ];
        let mut views = Vec::new();
        for (what, tensor, len) in tensors {
            length(OP, what, tensor.len(), len)?;
            views.push(tensor.view());
        }
        Ok(views)
    }
}

/// Exact third-order attention.
///
/// ```text
/// s_ijl = scale · t(q_i, k1_j, k2_l)        P = softmax of s over the pairs (j, l) that i sees        o_i = Σ_jl P_ijl (v1_j ∘ v2_l)
/// ```
///
/// Shapes: q `[B, H, T_q, D]`, k1 `[B, H_kv, T_1, D]`, k2 `[B, H_kv, T_2, D]`, v1 `[B, H_kv, T_1, V]`, v2 `[B, H_kv, T_2, V]`, o
/// `[B, H, T_q, V]`, row-major, last index fastest. With fewer heads of keys than of queries, several heads of queries share one.
/// What t is, [`Logits`](super::Logits) says; which pairs a query sees, [`Options`]. Units: none; lse is a natural logarithm.
///
/// Cost: 2 (D + V) operations for each triple of a query and two keys that see each other, T_q w_1 w_2 of them with windows; for
/// [`Logits::Sum`](super::Logits::Sum) for each pair. Temporaries: V + 4 numbers for some rows at a time, 64 MiB at most, unless one
/// tile takes more.
///
/// Accuracy: |error| <= 4 u Σ_jl P_ijl |v1_j ∘ v2_l| (√n + 2 scale Σ_d |t's terms| + 3 + 2 |s_ijl - max s|) for each element, over the
/// n pairs, in f32, u = 2⁻²⁴; o is rounded to its storage type after that. Deterministic: two runs are bit-equal.
///
/// # Errors
/// `Argument` when sizes, dtype or options do not fit together; `Limit` when one head exceeds a binding; `Shader`, `OutOfMemory`,
/// `Timeout`, `DeviceLost` from the device.
///
/// Source: see the [module](super). Heads of keys, both window lengths, other numbers of queries than of keys and gradients of all are
/// free here.
pub fn forward<T: Elem>(
    gpu: &Gpu,
    shape: &Shape,
    options: &Options,
    inputs: &Inputs<'_, T>,
    outputs: Outputs<'_, T>,
) -> Result<()> {
    let mut pass = gpu.pass("third-order attention");
    record(&mut pass, shape, options, inputs, outputs)?;
    pass.submit().map(drop)
}

/// [`forward()`], recorded into a pass that the caller submits.
///
/// # Errors
/// As [`forward()`].
pub fn record<T: Elem>(
    pass: &mut Pass,
    shape: &Shape,
    options: &Options,
    inputs: &Inputs<'_, T>,
    outputs: Outputs<'_, T>,
) -> Result<()> {
    let plan = plan::forward(shape, options, outputs.lse.is_some(), pass.caps())?;
    let views = inputs.views(shape)?;
    let Outputs { o, lse } = outputs;
    length(OP, "o", o.len(), shape.output_len())?;
    let mut into: Vec<ViewMut<'_>> = vec![o.view_mut()];
    if let Some(lse) = lse {
        length(OP, "lse", lse.len(), shape.rows())?;
        into.push(lse.view_mut());
    }
    pass.run(&plan, &views, &mut into)
}

/// Gradients of Σ `grad_o` · o for the o of [`forward()`], which is given, with the logarithms that call wrote.
///
/// ```text
/// dS_ijl = scale · P_ijl (Σ_c dO_ic v1_jc v2_lc - dO_i·o_i)        dq_i = Σ_jl dS_ijl ∂t/∂q        dk1_j, dk2_l likewise
/// dv1_j = Σ_il P_ijl dO_i ∘ v2_l        dv2_l = Σ_ij P_ijl dO_i ∘ v1_j
/// ```
///
/// Gradients are f32, summed over the heads that share keys. Scores are computed anew; nothing cubic is stored.
///
/// Cost: up to 12 D + 10 V operations for each triple. Temporaries as [`forward()`], and two numbers a query.
///
/// Accuracy: |error| <= 8 u times the sum of the absolute values of the terms, each times what [`forward()`] has in its bound, in f32.
/// Deterministic: sums have a fixed order.
///
/// # Errors
/// As [`forward()`]; `Unsupported` for [`Logits::Sum`](super::Logits::Sum) in 16-bit storage.
pub fn backward<T: Elem>(
    gpu: &Gpu,
    shape: &Shape,
    options: &Options,
    inputs: &Inputs<'_, T>,
    upstream: &Upstream<'_, T>,
    gradients: Gradients<'_>,
) -> Result<()> {
    let mut pass = gpu.pass("third-order attention, backward");
    record_backward(&mut pass, shape, options, inputs, upstream, gradients)?;
    pass.submit().map(drop)
}

/// [`backward()`], recorded into a pass that the caller submits.
///
/// # Errors
/// As [`backward()`].
pub fn record_backward<T: Elem>(
    pass: &mut Pass,
    shape: &Shape,
    options: &Options,
    inputs: &Inputs<'_, T>,
    upstream: &Upstream<'_, T>,
    gradients: Gradients<'_>,
) -> Result<()> {
    let Gradients { q, k1, k2, v1, v2 } = gradients;
    let wanted = Wanted {
        q: q.is_some(),
        keys: [k1.is_some(), k2.is_some()],
        values: [v1.is_some(), v2.is_some()],
    };
    let plan = plan::backward(shape, options, wanted, pass.caps())?;
    let mut views = inputs.views(shape)?;
    length(OP, "o", upstream.o.len(), shape.output_len())?;
    length(OP, "lse", upstream.lse.len(), shape.rows())?;
    length(OP, "grad_o", upstream.grad_o.len(), shape.output_len())?;
    views.extend([
        upstream.o.view(),
        upstream.lse.view(),
        upstream.grad_o.view(),
    ]);
    let ([len_k1, len_k2], [len_v1, len_v2]) = (shape.key_lens(), shape.value_lens());
    let mut outputs = Vec::new();
    for (name, grad, len) in [
        ("gradients.q", q, shape.query_len()),
        ("gradients.k1", k1, len_k1),
        ("gradients.k2", k2, len_k2),
        ("gradients.v1", v1, len_v1),
        ("gradients.v2", v2, len_v2),
    ] {
        if let Some(grad) = grad {
            length(OP, name, grad.len(), len)?;
            outputs.push(grad.view_mut());
        }
    }
    if outputs.is_empty() {
        return wrong("gradients", "at least one", "none");
    }
    pass.run(&plan, &views, &mut outputs)
}
