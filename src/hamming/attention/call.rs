//! The public calls: plan, record, submit.

use super::{
    KEPT, OP, Options, Shape,
    plan::{self, Wanted, WantedGradients},
    shape::wrong,
};
use crate::{
    Error, Result,
    error::{length, stored_as},
    gpu::{Elem, Gpu, Pass, Tensor, View, ViewMut},
};

/// What [`forward`] and [`backward`] read; shapes as in [`Shape`].
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a, T: Elem> {
    /// Codes of the queries, `[B, H, T_q, W]`.
    pub q: &'a Tensor<u32>,
    /// Codes of the keys, `[B, H_kv, capacity, W]`.
    pub k: &'a Tensor<u32>,
    /// Values, `[B, H_kv, capacity, V]`.
    pub v: &'a Tensor<T>,
    /// How many keys of each batch entry count, `[B]`, at most [`Shape::keys`]; `None` is all of those. A cache can so grow
    /// without a new plan. Not for gradients.
    pub lengths: Option<&'a Tensor<u32>>,
}

/// What [`forward`] writes.
#[derive(Debug)]
pub struct Outputs<'a, T: Elem> {
    /// `[B, H, T_q, V]`; 0 for a query without keys.
    pub o: &'a mut Tensor<T>,
    /// ln Σ_j exp(logit_ij), `[B, H, T_q]`; -3.4028235e38 for a query without keys.
    pub lse: Option<&'a mut Tensor<f32>>,
    /// What [`backward`] needs, `[B, H, T_q, 4]`: the distance to which weights are relative, the largest distance that counts,
    /// the last index that counts at it, and the sum of the weights as the bits of an f32.
    pub kept: Option<&'a mut Tensor<u32>>,
}

/// What [`backward`] reads beside the inputs.
#[derive(Clone, Copy, Debug)]
pub struct Upstream<'a, T: Elem> {
    /// The output of [`forward`].
    pub o: &'a Tensor<T>,
    /// What [`forward`] kept.
    pub kept: &'a Tensor<u32>,
    /// The gradient of o, as o.
    pub grad_o: &'a Tensor<T>,
    /// What becomes of the gradients of codes.
    pub through: StraightThrough<'a>,
}

/// How gradients of the ±1 view h of codes become those of the numbers x that were binarised: bit = x > threshold.
#[derive(Clone, Copy, Debug)]
pub enum StraightThrough<'a> {
    /// dx = dh.
    Identity,
    /// dx = dh where |x - threshold| <= clip, else 0.
    Clip {
        /// The numbers that became queries, `[B, H, T_q, bits]`.
        q: &'a Tensor<f32>,
        /// The numbers that became keys, `[B, H_kv, capacity, bits]`.
        k: &'a Tensor<f32>,
        /// At least 0.
        clip: f32,
        /// That of the packing.
        threshold: f32,
    },
}

/// What [`backward`] writes; at least one.
#[derive(Debug)]
pub struct Gradients<'a> {
    /// Of the queries, `[B, H, T_q, bits]`.
    pub q: Option<&'a mut Tensor<f32>>,
    /// Of the keys, `[B, H_kv, capacity, bits]`; 0 in rows to spare.
    pub k: Option<&'a mut Tensor<f32>>,
    /// Of the values, `[B, H_kv, capacity, V]`; 0 in rows to spare.
    pub v: Option<&'a mut Tensor<f32>>,
}

impl<T: Elem> Inputs<'_, T> {
    fn views(&self, shape: &Shape) -> Result<Vec<View<'_>>> {
        stored_as::<T>(OP, shape.dtype)?;
        length(OP, "q", self.q.len(), shape.query_len())?;
        length(OP, "k", self.k.len(), shape.key_len())?;
        length(OP, "v", self.v.len(), shape.value_len())?;
        let mut views = vec![self.q.view(), self.k.view(), self.v.view()];
        if let Some(lengths) = self.lengths {
            length(OP, "lengths", lengths.len(), shape.batch)?;
            views.push(lengths.view());
        }
        Ok(views)
    }
}

/// Softmax attention by Hamming distance.
///
/// ```text
/// o_i = Σ_j w_ij v_j / Σ_j w_ij        w_ij = exp(beta (bits - 2 popcount(q_i xor k_j)))        over the keys that i sees
/// ```
///
/// Shapes: q `[B, H, T_q, W]`, k `[B, H_kv, capacity, W]` with W = ⌈bits/32⌉, v `[B, H_kv, capacity, V]`, o `[B, H, T_q, V]`,
/// row-major, last index fastest. Pads of codes are never looked at. With fewer heads of keys than of queries, several heads of
/// queries share one. The last query of a sequence sees its last key, whatever their numbers: one query over a cache is the last
/// row of the whole. Units: none; beta is per bit.
///
/// Cost: W population counts and 2V operations for each pair that sees each other. Where 2 |beta| bits > 80, weights are relative
/// to the row's largest, which one more pass over the codes finds first; `Denominator::Integer`, `top_n` and `radius` count
/// distances in one more pass, `top_n` without ties in two. Temporaries: sums of the outputs, and with counts bits + 1 numbers a
/// query, both for some rows at a time, 64 MiB each at most.
///
/// Accuracy: |error| <= 8 u (1 + log2 T_k) Σ_j P_ij |v_j| in f32, u = 2⁻²⁴, for each element; o is rounded to its storage type
/// after that. Distances, selections and counts are exact. Deterministic: two runs are bit-equal.
///
/// # Errors
/// `Argument` when sizes, dtype or options do not fit together; `Limit` when one head exceeds a binding; `Unsupported` for lengths
/// with packed sequences; `Shader`, `OutOfMemory`, `Timeout`, `DeviceLost` from the device.
///
/// Sources: sign codes with a softmax are those of M. Horton et al., Hamming Attention Distillation, 2025 (with `top_n`), and of
/// BinaryAttention (with a beta a head).
pub fn forward<T: Elem>(
    gpu: &Gpu,
    shape: &Shape,
    options: &Options,
    inputs: &Inputs<'_, T>,
    outputs: Outputs<'_, T>,
) -> Result<()> {
    let mut pass = gpu.pass("popcount attention");
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
    outputs: Outputs<'_, T>,
) -> Result<()> {
    let wanted = Wanted {
        lse: outputs.lse.is_some(),
        kept: outputs.kept.is_some(),
        lengths: inputs.lengths.is_some(),
    };
    let plan = plan::forward(shape, options, wanted, pass.caps())?;
    let views = inputs.views(shape)?;
    let Outputs { o, lse, kept } = outputs;
    length(OP, "o", o.len(), shape.output_len())?;
    let mut into: Vec<ViewMut<'_>> = vec![o.view_mut()];
    if let Some(lse) = lse {
        length(OP, "lse", lse.len(), shape.rows())?;
        into.push(lse.view_mut());
    }
    if let Some(kept) = kept {
        length(OP, "kept", kept.len(), KEPT * shape.rows())?;
        into.push(kept.view_mut());
    }
    pass.run(&plan, &views, &mut into)
}

/// Gradients of Σ `grad_o` · o for the o of [`forward`], which is given, with what that call kept.
///
/// ```text
/// dS_ij = P_ij (dO_i·v_j - dO_i·o_i)        dh_i = beta Σ_j dS_ij g_j        dg_j = beta Σ_i dS_ij h_i        dv_j = Σ_i P_ij dO_i
/// ```
///
/// with h = ±1 for the bits of a query and g for those of a key: the gradient of the multilinear extension of o in the bits.
/// [`StraightThrough`] passes it on to the numbers that were binarised. Keys that were not selected get none. Gradients are f32.
///
/// Cost: for each pair 2V operations and 2 for each bit by queries and by keys, with the distance anew for every 64 of them;
/// five numbers a query of temporaries.
///
/// Accuracy: |error| <= 16 u (1 + log2 (T + V)) times the sum of the absolute values of the terms, in f32. Deterministic.
///
/// # Errors
/// As [`forward`]; `Unsupported` with lengths.
pub fn backward<T: Elem>(
    gpu: &Gpu,
    shape: &Shape,
    options: &Options,
    inputs: &Inputs<'_, T>,
    upstream: &Upstream<'_, T>,
    gradients: Gradients<'_>,
) -> Result<()> {
    let mut pass = gpu.pass("popcount attention, backward");
    record_backward(&mut pass, shape, options, inputs, upstream, gradients)?;
    pass.submit().map(drop)
}

/// [`backward`], recorded into a pass that the caller submits.
///
/// # Errors
/// As [`backward`].
pub fn record_backward<T: Elem>(
    pass: &mut Pass,
    shape: &Shape,
    options: &Options,
    inputs: &Inputs<'_, T>,
    upstream: &Upstream<'_, T>,
    gradients: Gradients<'_>,
) -> Result<()> {
    let Gradients { q, k, v } = gradients;
    let wanted = WantedGradients {
        q: q.is_some(),
        k: k.is_some(),
        v: v.is_some(),
    };
    let plan = plan::backward(shape, options, wanted, pass.caps())?;
    if inputs.lengths.is_some() {
        return Err(Error::Unsupported {
            op: OP,
            what: "gradients with lengths; give the keys in the shape".into(),
        });
    }
    let mut views = inputs.views(shape)?;
    length(OP, "o", upstream.o.len(), shape.output_len())?;
    length(OP, "kept", upstream.kept.len(), KEPT * shape.rows())?;
    length(OP, "grad_o", upstream.grad_o.len(), shape.output_len())?;
    views.extend([
        upstream.o.view(),
        upstream.kept.view(),
        upstream.grad_o.view(),
    ]);
    let lens = [
        shape.rows() * shape.bits,
        shape.key_rows() * shape.bits,
        shape.value_len(),
    ];
    let names = ["gradients.q", "gradients.k", "gradients.v"];
    let mut given = [q, k, v];
    let mut outputs = Vec::new();
    for ((grad, name), len) in given.iter_mut().zip(names).zip(lens) {
        if let Some(grad) = grad {
            length(OP, name, grad.len(), len)?;
            outputs.push(grad.view_mut());
        }
    }
    if outputs.is_empty() {
        return wrong("gradients", "at least one", "none");
    }
    pass.run(&plan, &views, &mut outputs)?;
    drop(outputs);
    let StraightThrough::Clip {
        q: of_q,
        k: of_k,
        clip,
        threshold,
    } = upstream.through
    else {
        return Ok(());
    };
    let numbers = [of_q, of_k].into_iter().zip(["through.q", "through.k"]);
    for (((x, name), len), grad) in numbers.zip(lens).zip(&mut given) {
        if let Some(grad) = grad {
            length(OP, name, x.len(), len)?;
            let plan = plan::clip(len, clip, threshold, pass.caps())?;
            pass.run(&plan, &[x.view()], &mut [grad.view_mut()])?;
        }
    }
    Ok(())
}
