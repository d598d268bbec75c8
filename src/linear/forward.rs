//! The public calls: plan, record, submit.

use super::{Decay, Options, Shape, plan, shape::sequences};
use crate::{
    Error, Result,
    error::{length, stored_as},
    gpu::{Elem, Gpu, Pass, Tensor, View, ViewMut},
    plan::Plan,
};

/// What [`forward`], [`step`] and their adjoint read. N sequences are the batch, or those packed into it; Hk is the number of
/// key heads, F the width after the feature map.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a, T: Elem> {
    /// Queries, `[batch, tokens, heads, key]` or in the layout `bhtd`.
    pub q: &'a Tensor<T>,
    /// Keys, `[batch, tokens, kv_heads, key]`.
    pub k: &'a Tensor<T>,
    /// Values, `[batch, tokens, kv_heads, value]`.
    pub v: &'a Tensor<T>,
    /// Natural logarithms <= 0, as [`Decay`] says; none with [`Decay::None`].
    pub log_decay: Option<&'a Tensor<f32>>,
    /// `[batch, tokens, kv_heads]`, with the delta rule.
    pub beta: Option<&'a Tensor<f32>>,
    /// The state before the first token, `[N, Hk, F, value]`; zero when absent. [`step`] has a state of its own.
    pub initial_state: Option<&'a Tensor<f32>>,
    /// The sum of keys before the first token, `[N, Hk, F]`, with the normaliser; zero when absent.
    pub initial_z: Option<&'a Tensor<f32>>,
    /// The feature map's weights, `[K, K]` or one set a head; see [`FeatureMap`](super::FeatureMap).
    pub fm_weight: Option<&'a Tensor<f32>>,
    /// The feature map's bias, `[K]` or one a head; zero when absent.
    pub fm_bias: Option<&'a Tensor<f32>>,
    /// Bounds of N sequences packed into one batch entry: N + 1 numbers, non-decreasing, from 0 to the number of tokens.
    pub cu_seqlens: Option<&'a [u32]>,
}

impl<'a, T: Elem> Inputs<'a, T> {
    /// Queries, keys and values, and nothing else.
    pub fn new(q: &'a Tensor<T>, k: &'a Tensor<T>, v: &'a Tensor<T>) -> Inputs<'a, T> {
        Inputs {
            q,
            k,
            v,
            log_decay: None,
            beta: None,
            initial_state: None,
            initial_z: None,
            fm_weight: None,
            fm_bias: None,
            cu_seqlens: None,
        }
    }

    /// Elements of the states and of the sums of keys of all sequences.
    pub(super) fn states(&self, shape: &Shape, options: &Options) -> Result<[usize; 2]> {
        let sequences = sequences(shape, plan::OP, self.cu_seqlens)?.len();
        Ok(state_lengths(shape, options, sequences))
    }

    /// The views of a plan's inputs, in its order.
    pub(super) fn views(
        &self,
        op: &'static str,
        shape: &Shape,
        options: &Options,
    ) -> Result<Vec<View<'a>>> {
        stored_as::<T>(op, shape.dtype)?;
        length(op, "q", self.q.len(), shape.query_len())?;
        length(op, "k", self.k.len(), shape.key_len())?;
        length(op, "v", self.v.len(), shape.value_len())?;
        let sequences = sequences(shape, op, self.cu_seqlens)?.len();
        let features = options.feature_width(shape);
        let per_token = shape.state_rows() * shape.tokens;
        let decays = match options.decay {
            Decay::None => None,
            Decay::Head => Some(shape.kv_heads),
            Decay::Token => Some(per_token),
            Decay::Channel => Some(per_token * features),
        };
        let mut views = vec![self.q.view(), self.k.view(), self.v.view()];
        let mut with = |what: &str, given: Option<&'a Tensor<f32>>, expected: Option<usize>| match (
            given, expected,
        ) {
            (Some(tensor), Some(expected)) => {
                length(op, what, tensor.len(), expected)?;
                views.push(tensor.view());
                Ok(())
            }
            (None, None) => Ok(()),
            (given, _) => Err(Error::Argument {
                op,
                what: what.into(),
                expected: if given.is_some() {
                    "absent without the option that reads it"
                } else {
                    "given with the option that reads it"
                }
                .into(),
                got: if given.is_some() { "a tensor" } else { "none" }.into(),
            }),
        };
        with("log_decay", self.log_decay, decays)?;
        with("beta", self.beta, options.delta.then_some(per_token))?;
        let z = sequences * shape.kv_heads * features;
        let given = |tensor: Option<&Tensor<f32>>, len: usize| tensor.map(|_| len);
        with(
            "initial_state",
            self.initial_state,
            given(self.initial_state, z * shape.value),
        )?;
        let normalized = given(self.initial_z, z).filter(|_| options.normalize.is_some());
        with("initial_z", self.initial_z, normalized)?;
        // The planner has checked their lengths.
        views.extend(
            [self.fm_weight, self.fm_bias]
                .into_iter()
                .flatten()
                .map(Tensor::view),
        );
        Ok(views)
    }
}

/// What [`forward`] writes.
#[derive(Debug)]
pub struct Outputs<'a, T: Elem> {
    /// Outputs, `[batch, tokens, heads, value]`.
    pub o: &'a mut Tensor<T>,
    /// Receives the state after the last token, `[N, Hk, F, value]`.
    pub final_state: Option<&'a mut Tensor<f32>>,
    /// Receives the sum of keys after the last token, `[N, Hk, F]`, with the normaliser.
    pub final_z: Option<&'a mut Tensor<f32>>,
}

impl<'a, T: Elem> Outputs<'a, T> {
    /// Outputs only.
    pub fn new(o: &'a mut Tensor<T>) -> Outputs<'a, T> {
        Outputs {
            o,
            final_state: None,
            final_z: None,
        }
    }

    /// With the final state.
    pub fn with_state(self, state: &'a mut Tensor<f32>) -> Outputs<'a, T> {
        Outputs {
            final_state: Some(state),
            ..self
        }
    }
}

/// Elements of the states and of the sums of keys of all sequences.
fn state_lengths(shape: &Shape, options: &Options, sequences: usize) -> [usize; 2] {
    let z = sequences * shape.kv_heads * options.feature_width(shape);
    [z * shape.value, z]
}

/// Linear attention: each token reads a state that sums the outer products of keys and values.
///
/// ```text
/// S ← exp(g_t) S        z ← exp(g_t) z             g_t: 0, or one per head, per token, or per row of S ("channel")
/// u_t = v_t             or, with beta,             u_t = β_t (v_t − Sᵀ k_t)
/// S ← S + k_t u_tᵀ      z ← z + k_t
/// o_t = scale · Sᵀ q_t                             over scale · zᵀ q_t + eps when normalised; 0 where that is exactly 0
/// ```
///
/// Not causal, every token reads the S and z after the last one.
///
/// Shapes: q `[B, T, H, K]`, k `[B, T, Hk, K]`, v `[B, T, Hk, V]`, o `[B, T, H, V]` (or head-first, see
/// [`Layout`](super::Layout)); states `[N, Hk, K, V]` in f32; row-major, last index fastest. S starts from `initial_state`, or
/// zero, and `final_state` receives it after the last token: passing one call's final state (and z) as the next call's initial
/// one continues the sequence.
///
/// Units: `log_decay` in natural logarithms, <= 0, minus infinity included; values below -200 count as -200.
///
/// Cost: about `T H (4KV + 2C(K + V))` operations for chunks of C = 64 tokens, half as much again for the delta rule.
/// Temporaries are those of the plan ([`Plan::scratch_bytes`]): at most one state in the fused and recurrent forms, one state per
/// segment in the three-pass form, up to 256 bytes a token and key head for the delta rule in chunks (a quarter of
/// [`Caps::scratch_bytes`](crate::gpu::Caps::scratch_bytes) at most, unless packed), and an f32 copy of o where it is 16 bits
/// wide and K or V is not a multiple of 4. Long calls become several dispatches.
///
/// Accuracy: root-mean-square error to the f64 recurrence, relative, <= 5e-6 (f32; 1e-5 with the delta rule), 1e-3 (f16), 4e-3
/// (bf16), 1e-5 for states. Deterministic: two runs are bit-equal.
///
/// Returns when the work is submitted; downloading waits for it. To record between dispatches of your own, see [`record`].
///
/// # Errors
/// `Argument` when sizes, dtype or options do not fit together; `Limit` when the call exceeds the device or its scratch
/// budget; `Shader`, `OutOfMemory`, `Timeout`, `DeviceLost` from the device.
///
/// Source: A. Katharopoulos et al., Transformers are RNNs, 2020 (plain, normalised); Z. Qin et al., Lightning Attention-2, 2024
/// (chunks; the decay acts before the token is added, as there); S. Yang et al., Gated Linear Attention, 2023, and
/// Parallelizing Linear Transformers with the Delta Rule, 2024. The constructors of [`Options`] name the members.
pub fn forward<T: Elem>(
    gpu: &Gpu,
    shape: &Shape,
    options: &Options,
    inputs: &Inputs<'_, T>,
    outputs: Outputs<'_, T>,
) -> Result<()> {
    let mut pass = gpu.pass("linear attention");
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
    let states = plan::States {
        initial: inputs.initial_state.is_some(),
        initial_z: inputs.initial_z.is_some(),
        last: outputs.final_state.is_some(),
        last_z: outputs.final_z.is_some(),
        fm_weight: inputs.fm_weight.map(Tensor::len),
        fm_bias: inputs.fm_bias.map(Tensor::len),
        cu_seqlens: inputs.cu_seqlens,
    };
    let plan: Plan = plan::forward(shape, options, states, pass.caps())?;
    let views = inputs.views(plan::OP, shape, options)?;
    let sequences = sequences(shape, plan::OP, inputs.cu_seqlens)?.len();
    let [state_len, z_len] = state_lengths(shape, options, sequences);
    length(plan::OP, "o", outputs.o.len(), shape.output_len())?;
    let mut written: Vec<ViewMut<'_>> = vec![outputs.o.view_mut()];
    if let Some(state) = outputs.final_state {
        length(plan::OP, "final_state", state.len(), state_len)?;
        written.push(state.view_mut());
    }
    if let Some(z) = outputs.final_z {
        length(plan::OP, "final_z", z.len(), z_len)?;
        written.push(z.view_mut());
    }
    pass.run(&plan, &views, &mut written)
}

/// Decoding: takes the next `shape.tokens` tokens (usually one) through the state, which is updated in place, and with the
/// normaliser through z, which goes with it.
///
/// The formula, shapes, accuracy and errors are those of [`forward`]; `shape.tokens` is the number of new tokens. Memory
/// does not grow with the number of tokens decoded.
///
/// # Errors
/// As [`forward`]; `Unsupported` for the non-causal form, `Argument` for an initial state or packed sequences among the inputs.
pub fn step<T: Elem>(
    gpu: &Gpu,
    shape: &Shape,
    options: &Options,
    inputs: &Inputs<'_, T>,
    state: &mut Tensor<f32>,
    z: Option<&mut Tensor<f32>>,
    o: &mut Tensor<T>,
) -> Result<()> {
    let mut pass = gpu.pass("linear attention step");
    record_step(&mut pass, shape, options, inputs, state, z, o)?;
    pass.submit().map(drop)
}

/// [`step`], recorded into a pass that the caller submits; many steps can share one.
///
/// # Errors
/// As [`step`].
pub fn record_step<T: Elem>(
    pass: &mut Pass,
    shape: &Shape,
    options: &Options,
    inputs: &Inputs<'_, T>,
    state: &mut Tensor<f32>,
    z: Option<&mut Tensor<f32>>,
    o: &mut Tensor<T>,
) -> Result<()> {
    let refuse = |what: &str, expected: &str, got: &str| {
        Err(Error::Argument {
            op: plan::OP,
            what: what.into(),
            expected: expected.into(),
            got: got.into(),
        })
    };
    for (what, given) in [
        ("initial_state", inputs.initial_state.is_some()),
        ("initial_z", inputs.initial_z.is_some()),
        ("cu_seqlens", inputs.cu_seqlens.is_some()),
    ] {
        if given {
            return refuse(
                what,
                "absent from a step, which updates its own state",
                "a value",
            );
        }
    }
    let plan = plan::step(
        shape,
        options,
        [inputs.fm_weight, inputs.fm_bias].map(|x| x.map(Tensor::len)),
        pass.caps(),
    )?;
    let views = inputs.views(plan::OP, shape, options)?;
    let [state_len, z_len] = state_lengths(shape, options, shape.batch);
    length(plan::OP, "state", state.len(), state_len)?;
    length(plan::OP, "o", o.len(), shape.output_len())?;
    let mut written = vec![o.view_mut(), state.view_mut()];
    match (z, options.normalize) {
        (Some(z), Some(_)) => {
            length(plan::OP, "z", z.len(), z_len)?;
            written.push(z.view_mut());
        }
        (None, None) => {}
        (Some(_), None) => return refuse("z", "absent without the normaliser", "a tensor"),
        (None, Some(_)) => return refuse("z", "given with the normaliser", "none"),
    }
    pass.run(&plan, &views, &mut written)
}
