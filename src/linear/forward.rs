//! The public calls: plan, record, submit.

use super::{Decay, Options, Shape, plan};
use crate::{
    Error, Result,
    gpu::{Elem, Gpu, Pass, Tensor, View, ViewMut},
    plan::Plan,
};

/// What [`forward`] and [`step`] read.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a, T: Elem> {
    /// Queries, `[batch, tokens, heads, key]` or in the layout `bhtd`.
    pub q: &'a Tensor<T>,
    /// Keys, as the queries.
    pub k: &'a Tensor<T>,
    /// Values, `[batch, tokens, heads, value]` or in the layout `bhtd`.
    pub v: &'a Tensor<T>,
    /// `[heads]`, natural logarithms <= 0, with [`Decay::Head`]; none with [`Decay::None`].
    pub log_decay: Option<&'a Tensor<f32>>,
}

impl<T: Elem> Inputs<'_, T> {
    fn views(&self, op: &'static str, shape: &Shape, options: &Options) -> Result<Vec<View<'_>>> {
        if T::DTYPE != shape.dtype {
            let expected = format!("the type of the tensors, {}", T::DTYPE.name());
            return Err(Error::Argument {
                op,
                what: "shape.dtype".into(),
                expected,
                got: shape.dtype.name().into(),
            });
        }
        length(op, "q", self.q.len(), shape.query_len())?;
        length(op, "k", self.k.len(), shape.key_len())?;
        length(op, "v", self.v.len(), shape.value_len())?;
        let mut views = vec![self.q.view(), self.k.view(), self.v.view()];
        match (options.decay, self.log_decay) {
            (Decay::None, None) => {}
            (Decay::Head, Some(log_decay)) => {
                length(op, "log_decay", log_decay.len(), shape.kv_heads)?;
                views.push(log_decay.view());
            }
            (decay, given) => {
                let what = "log_decay".into();
                let expected = if decay == Decay::None {
                    "absent without decay"
                } else {
                    "given with a decay"
                };
                let got = if given.is_some() { "a tensor" } else { "none" };
                return Err(Error::Argument {
                    op,
                    what,
                    expected: expected.into(),
                    got: got.into(),
                });
            }
        }
        Ok(views)
    }
}

fn length(op: &'static str, what: &str, len: usize, expected: usize) -> Result<()> {
    if len == expected {
        return Ok(());
    }
    Err(Error::Argument {
        op,
        what: what.into(),
        expected: format!("{expected} elements for this shape"),
        got: len.to_string(),
    })
}

/// Causal linear attention: each token reads a state that sums the outer products of all keys and values up to itself.
///
/// ```text
/// S_t = exp(g) S_{t-1} + k_t v_tᵀ        o_t = scale · S_tᵀ q_t        per batch and head; g = log_decay of the head, or 0
/// ```
///
/// Shapes: q, k `[B, T, H, K]`, v, o `[B, T, H, V]` (or head-first, see [`Layout`](super::Layout)); states `[B, H, K, V]` in
/// f32; row-major, last index fastest. S starts from `initial_state`, or zero, and `final_state` receives it after the last
/// token: passing one call's final state as the next call's initial state continues the sequence.
///
/// Units: `log_decay` in natural logarithms, <= 0, minus infinity included; values below -200 count as -200.
///
/// Cost: about `T H (4KV + 2C(K + V))` operations for chunks of C = 64 tokens. Temporaries are those of the plan
/// ([`Plan::scratch_bytes`]): at most one state in the fused and recurrent forms, one state per segment in the three-pass
/// form, and an f32 copy of o where it is 16 bits wide and K or V is not a multiple of 4. Long calls become several dispatches.
///
/// Accuracy: root-mean-square error to the f64 recurrence, relative, <= 5e-6 (f32), 1e-3 (f16), 4e-3 (bf16), 1e-5 for
/// states. Deterministic: two runs are bit-equal.
///
/// Returns when the work is submitted; downloading waits for it. To record between dispatches of your own, see [`record`].
///
/// # Errors
/// `Argument` when sizes, dtype or options do not fit together; `Limit` when the call exceeds the device or its scratch
/// budget; `Shader`, `OutOfMemory`, `Timeout`, `DeviceLost` from the device.
///
/// Source: Z. Qin et al., Lightning Attention-2, 2024; the decay acts before the token is added, as there. RetNet and plain
/// linear attention (Katharopoulos et al., 2020) are the same operator: see the builders of [`Options`].
pub fn forward<T: Elem>(
    gpu: &Gpu,
    shape: &Shape,
    options: &Options,
    inputs: &Inputs<'_, T>,
    initial_state: Option<&Tensor<f32>>,
    o: &mut Tensor<T>,
    final_state: Option<&mut Tensor<f32>>,
) -> Result<()> {
    let mut pass = gpu.pass("linear attention");
    record(
        &mut pass,
        shape,
        options,
        inputs,
        initial_state,
        o,
        final_state,
    )?;
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
    initial_state: Option<&Tensor<f32>>,
    o: &mut Tensor<T>,
    final_state: Option<&mut Tensor<f32>>,
) -> Result<()> {
    let states = plan::States {
        initial: initial_state.is_some(),
        last: final_state.is_some(),
    };
    let plan: Plan = plan::forward(shape, options, states, pass.caps())?;
    let mut views = inputs.views(plan::OP, shape, options)?;
    if let Some(state) = initial_state {
        length(plan::OP, "initial_state", state.len(), shape.state_len())?;
        views.push(state.view());
    }
    length(plan::OP, "o", o.len(), shape.output_len())?;
    let mut outputs: Vec<ViewMut<'_>> = vec![o.view_mut()];
    if let Some(state) = final_state {
        length(plan::OP, "final_state", state.len(), shape.state_len())?;
        outputs.push(state.view_mut());
    }
    pass.run(&plan, &views, &mut outputs)
}

/// Decoding: takes the next `shape.tokens` tokens (usually one) through the state, which is updated in place.
///
/// The formula, shapes, accuracy and errors are those of [`forward`]; `shape.tokens` is the number of new tokens. Memory
/// does not grow with the number of tokens decoded.
///
/// # Errors
/// As [`forward`].
pub fn step<T: Elem>(
    gpu: &Gpu,
    shape: &Shape,
    options: &Options,
    inputs: &Inputs<'_, T>,
    state: &mut Tensor<f32>,
    o: &mut Tensor<T>,
) -> Result<()> {
    let mut pass = gpu.pass("linear attention step");
    record_step(&mut pass, shape, options, inputs, state, o)?;
    pass.submit().map(drop)
}

/// [`step`], recorded into a pass that the caller submits; many steps can share one.
///
/// # Errors
/// As [`forward`].
pub fn record_step<T: Elem>(
    pass: &mut Pass,
    shape: &Shape,
    options: &Options,
    inputs: &Inputs<'_, T>,
    state: &mut Tensor<f32>,
    o: &mut Tensor<T>,
) -> Result<()> {
    let plan = plan::step(shape, options, pass.caps())?;
    let views = inputs.views(plan::OP, shape, options)?;
    length(plan::OP, "state", state.len(), shape.state_len())?;
    length(plan::OP, "o", o.len(), shape.output_len())?;
    pass.run(&plan, &views, &mut [o.view_mut(), state.view_mut()])
}
