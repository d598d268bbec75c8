//! The gradients' public call.

use super::{
    Inputs, Options, Shape,
    plan::{self, Upstream},
};
use crate::{
    Error, Result,
    error::length,
    gpu::{Elem, Gpu, Pass, Tensor, ViewMut},
};

/// Gradients handed to the outputs.
#[derive(Clone, Copy, Debug)]
pub struct Given<'a, T: Elem> {
    /// Of the outputs, `[batch, tokens, heads, value]`.
    pub o: &'a Tensor<T>,
    /// Of the final state, `[N, Hk, F, value]`; zero when absent.
    pub final_state: Option<&'a Tensor<f32>>,
    /// Of the final z, `[N, Hk, F]`, with the normaliser; zero when absent.
    pub final_z: Option<&'a Tensor<f32>>,
}

impl<'a, T: Elem> Given<'a, T> {
    /// Of the outputs, and nothing else.
    pub fn new(o: &'a Tensor<T>) -> Given<'a, T> {
        Given {
            o,
            final_state: None,
            final_z: None,
        }
    }
}

/// What [`backward`] writes: gradients in the shapes of the inputs.
#[derive(Debug)]
pub struct Gradients<'a, T: Elem> {
    /// Of the queries.
    pub q: &'a mut Tensor<T>,
    /// Of the keys.
    pub k: &'a mut Tensor<T>,
    /// Of the values.
    pub v: &'a mut Tensor<T>,
    /// Of the log decays, if wanted: summed over tokens and sequences for a decay per head. Without it the walks keep no states.
    pub log_decay: Option<&'a mut Tensor<f32>>,
    /// Of beta, if wanted.
    pub beta: Option<&'a mut Tensor<f32>>,
    /// Of the initial state, if wanted.
    pub initial_state: Option<&'a mut Tensor<f32>>,
    /// Of the initial z, if wanted.
    pub initial_z: Option<&'a mut Tensor<f32>>,
    /// Of the feature map's weights, summed over queries and keys; given exactly with them.
    pub fm_weight: Option<&'a mut Tensor<f32>>,
    /// Of the feature map's bias, likewise.
    pub fm_bias: Option<&'a mut Tensor<f32>>,
}

impl<'a, T: Elem> Gradients<'a, T> {
    /// Gradients of queries, keys and values, and nothing else.
    pub fn new(
        q: &'a mut Tensor<T>,
        k: &'a mut Tensor<T>,
        v: &'a mut Tensor<T>,
    ) -> Gradients<'a, T> {
        Gradients {
            q,
            k,
            v,
            log_decay: None,
            beta: None,
            initial_state: None,
            initial_z: None,
            fm_weight: None,
            fm_bias: None,
        }
    }
}

/// Gradients of Σ `given.o` ⊙ o + Σ `given.final_state` ⊙ final_state with respect to every input of
/// [`forward`](super::forward), from those inputs alone.
///
/// With D the gradient of the state after a token, D' the decayed gradient that an earlier token meets, dn = do / den and
/// dd = −(o · do) / den (or do and 0 without the normaliser), per token from the last to the first:
///
/// ```text
/// D ← D + scale · q dnᵀ        dq = scale · (S dn + dd z)        dk = D u + dz        du = Dᵀ k
/// delta:  dβ = du · e     dv = β du     dk −= S' dv     D −= k dvᵀ        otherwise dv = du
/// dg = the sum of what flows from earlier tokens to this and later ones        D' = exp(g) D
/// ```
///
/// Shapes: those of [`forward`](super::forward); N sequences, F the width after the feature map. The gradient of the initial state
/// is D' before the first token; z is one more column of values, all ones, and its gradient that of this column.
///
/// Cost: three walks of the forward's kind (seven with the delta rule), and one more with the normaliser; on software adapters,
/// up to 64 columns and as many heads of queries as of keys, two (three). Everything is computed in f32 and rounded once;
/// temporaries are f32 copies of inputs that are 16 bits wide or of odd width, and with a gradient of the decay up to two states
/// per 64 tokens ([`Plan::scratch_bytes`](crate::plan::Plan::scratch_bytes)).
///
/// Accuracy: root-mean-square error to the f64 reference, relative, <= 2e-5 (5e-5 with the delta rule; 1e-3 for f16, 4e-3 for
/// bf16). Deterministic: two runs are bit-equal, no sum depends on the order of arrival.
///
/// # Errors
/// As [`forward`](super::forward); `Argument` for a gradient of what is not there.
///
/// Source: the adjoint of the recurrence; that a chunked form exists is due to Z. Qin et al., Lightning Attention-2, 2024, and
/// S. Yang et al., Parallelizing Linear Transformers with the Delta Rule, 2024.
pub fn backward<T: Elem>(
    gpu: &Gpu,
    shape: &Shape,
    options: &Options,
    inputs: &Inputs<'_, T>,
    given: &Given<'_, T>,
    gradients: Gradients<'_, T>,
) -> Result<()> {
    let mut pass = gpu.pass("linear attention, backward");
    record_backward(&mut pass, shape, options, inputs, given, gradients)?;
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
    given: &Given<'_, T>,
    gradients: Gradients<'_, T>,
) -> Result<()> {
    let upstream = Upstream {
        initial: inputs.initial_state.is_some(),
        initial_z: inputs.initial_z.is_some(),
        last: given.final_state.is_some(),
        last_z: given.final_z.is_some(),
        log_decay: gradients.log_decay.is_some(),
        beta: gradients.beta.is_some(),
        initial_gradient: gradients.initial_state.is_some(),
        initial_z_gradient: gradients.initial_z.is_some(),
        fm_weight: inputs.fm_weight.map(Tensor::len),
        fm_bias: inputs.fm_bias.map(Tensor::len),
        cu_seqlens: inputs.cu_seqlens,
    };
    for (what, input, gradient) in [
        ("fm_weight", inputs.fm_weight, gradients.fm_weight.is_some()),
        ("fm_bias", inputs.fm_bias, gradients.fm_bias.is_some()),
    ] {
        if input.is_some() != gradient {
            let [expected, got] = if gradient {
                ["absent", "a tensor"]
            } else {
                ["given", "none"]
            };
            return Err(Error::Argument {
                op: plan::OP,
                what: format!("the gradient of {what}"),
                expected: format!("{expected}, like {what}"),
                got: got.into(),
            });
        }
    }
    let plan = plan::backward(shape, options, upstream, pass.caps())?;
    let op = plan::OP;
    let mut views = inputs.views(op, shape, options)?;
    let [states, sums] = inputs.states(shape, options)?;
    length(op, "the gradient of o", given.o.len(), shape.output_len())?;
    views.push(given.o.view());
    if let Some(state) = given.final_state {
        length(op, "the gradient of final_state", state.len(), states)?;
        views.push(state.view());
    }
    if let Some(z) = given.final_z {
        length(op, "the gradient of final_z", z.len(), sums)?;
        views.push(z.view());
    }
    let Gradients { q, k, v, .. } = gradients;
    length(op, "the gradient of q", q.len(), shape.query_len())?;
    length(op, "the gradient of k", k.len(), shape.key_len())?;
    length(op, "the gradient of v", v.len(), shape.value_len())?;
    let mut written: Vec<ViewMut<'_>> = vec![q.view_mut(), k.view_mut(), v.view_mut()];
    let more = [
        (
            "the gradient of log_decay",
            gradients.log_decay,
            inputs.log_decay,
        ),
        ("the gradient of beta", gradients.beta, inputs.beta),
        (
            "the gradient of initial_state",
            gradients.initial_state,
            inputs.initial_state,
        ),
        (
            "the gradient of initial_z",
            gradients.initial_z,
            inputs.initial_z,
        ),
        (
            "the gradient of fm_weight",
            gradients.fm_weight,
            inputs.fm_weight,
        ),
        ("the gradient of fm_bias", gradients.fm_bias, inputs.fm_bias),
    ];
    for (what, gradient, input) in more {
        if let Some(gradient) = gradient {
            length(op, what, gradient.len(), input.map_or(0, Tensor::len))?;
            written.push(gradient.view_mut());
        }
    }
    pass.run(&plan, &views, &mut written)
}
