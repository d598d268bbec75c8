//! Segments of a sequence on devices of their own: what each adds, what it leaves of what came before, how they go together.

use super::{
    Inputs, Options, Shape,
    plan::{self, Fold, Lengths, States},
};
use crate::{
    Error, Result,
    error::length,
    gpu::{Elem, Gpu, Tensor, View, ViewMut},
};

/// What is handed from a segment to the next one: the state between them; or back: its gradient. f32, whatever the type of q, k
/// and v.
#[derive(Debug)]
pub struct Carry {
    /// `[batch, kv_heads, F, value]`, F the width after the feature map.
    pub state: Tensor<f32>,
    /// `[batch, kv_heads, F]`, with the normaliser.
    pub z: Option<Tensor<f32>>,
}

impl Carry {
    /// Zeros: the start of a sequence without an initial state, or the gradient at its end where nothing reads the final one.
    ///
    /// # Errors
    /// `OutOfMemory`, `DeviceLost`, `Limit` when it exceeds the device's largest buffer.
    pub fn new(gpu: &Gpu, shape: &Shape, options: &Options) -> Result<Carry> {
        let lengths = Lengths::new(shape, options);
        let z = options.normalize.map(|_| gpu.zeros(lengths.z));
        Ok(Carry {
            state: gpu.zeros(lengths.state)?,
            z: z.transpose()?,
        })
    }

    fn views(&self) -> impl Iterator<Item = View<'_>> {
        [Some(&self.state), self.z.as_ref()]
            .into_iter()
            .flatten()
            .map(Tensor::view)
    }

    fn views_mut(&mut self) -> Vec<ViewMut<'_>> {
        let z = self.z.as_mut().map(Tensor::view_mut);
        [Some(self.state.view_mut()), z]
            .into_iter()
            .flatten()
            .collect()
    }

    /// Refuses wrong lengths, and a z without the normaliser or none with it.
    fn check(&self, name: &str, lengths: Lengths, normalized: bool) -> Result<()> {
        length(
            plan::OP,
            &format!("{name}.state"),
            self.state.len(),
            lengths.state,
        )?;
        match (&self.z, normalized) {
            (Some(z), true) => length(plan::OP, &format!("{name}.z"), z.len(), lengths.z),
            (None, false) => Ok(()),
            (given, _) => {
                let [expected, got] = match given {
                    Some(_) => ["absent without the normaliser", "a tensor"],
                    None => ["given with the normaliser", "none"],
                };
                Err(Error::Argument {
                    op: plan::OP,
                    what: format!("{name}.z"),
                    expected: expected.into(),
                    got: got.into(),
                })
            }
        }
    }
}

/// What a segment does to the state before it: S becomes `added.state` + A S, with A the diagonal matrix of exp(`transfer`), or
/// `transfer` itself with the delta rule.
#[derive(Debug)]
pub struct LocalState {
    /// The state after the segment from a start of zero.
    pub added: Carry,
    /// Sums of log decays, `[batch, kv_heads]`, zero where nothing decays, or `[batch, kv_heads, F]` with a decay per channel. With
    /// the delta rule a matrix, `[batch, kv_heads, F, F]`.
    pub transfer: Tensor<f32>,
}

impl LocalState {
    /// Zeros, for the calls of this module to write.
    ///
    /// # Errors
    /// As [`Carry::new`].
    pub fn new(gpu: &Gpu, shape: &Shape, options: &Options) -> Result<LocalState> {
        Ok(LocalState {
            added: Carry::new(gpu, shape, options)?,
            transfer: gpu.zeros(Lengths::new(shape, options).transfer)?,
        })
    }

    fn check(&self, name: &str, lengths: Lengths, normalized: bool) -> Result<()> {
        self.added.check(name, lengths, normalized)?;
        let what = format!("{name}.transfer");
        length(plan::OP, &what, self.transfer.len(), lengths.transfer)
    }
}

/// What [`local_state`] reads: tensors of a segment's tokens, as in [`Inputs`].
#[derive(Clone, Copy, Debug)]
pub struct LocalInputs<'a, T: Elem> {
    /// Keys, `[batch, tokens, kv_heads, key]`.
    pub k: &'a Tensor<T>,
    /// Values, `[batch, tokens, kv_heads, value]`.
    pub v: &'a Tensor<T>,
    /// Natural logarithms <= 0, as [`Decay`](super::Decay) says.
    pub log_decay: Option<&'a Tensor<f32>>,
    /// `[batch, tokens, kv_heads]`, with the delta rule.
    pub beta: Option<&'a Tensor<f32>>,
    /// The feature map's weights.
    pub fm_weight: Option<&'a Tensor<f32>>,
    /// The feature map's bias; zero when absent.
    pub fm_bias: Option<&'a Tensor<f32>>,
}

impl<'a, T: Elem> LocalInputs<'a, T> {
    /// Keys and values, and nothing else.
    pub fn new(k: &'a Tensor<T>, v: &'a Tensor<T>) -> LocalInputs<'a, T> {
        LocalInputs {
            k,
            v,
            log_decay: None,
            beta: None,
            fm_weight: None,
            fm_bias: None,
        }
    }
}

/// What a segment of a sequence does to the state before it, from the segment's own tokens alone: the state X (and z) after it
/// from a start of zero, and the transfer a or M.
///
/// ```text
/// S_end = X + A S_start        z_end = x + A z_start
/// A = diag(exp(a)), a = Σ g_t                           or, with the delta rule,
/// A = M = (I − β_T k_T k_Tᵀ) D_T ... (I − β_1 k_1 k_1ᵀ) D_1        D_t = diag(exp(g_t))
/// ```
///
/// **Sequence parallelism.** Devices hold consecutive segments, each a call of [`forward`](super::forward) with a `shape.tokens` of its
/// own. Forward: every device computes its `local_state` (no device waits for another), all gather them, and each folds those
/// before its own with [`merge_start`] from the sequence's initial state; `forward` with this initial state (and z) gives the
/// outputs of the uncut sequence. [`merge`] is associative, so that a tree or a scan can fold as well. Backward: likewise
/// [`local_adjoint`], gathered, folded from the last segment with [`merge_adjoint`];
/// [`backward`](super::backward) of each segment with its initial state and the gradient of its final one gives the gradients of the
/// uncut sequence, but for those of what segments share (a decay per head, the feature map's weights), which are summed. The
/// gradient of a segment's initial state equals the one folded for the end of the segment before.
///
/// Not causal, states and their gradients are plain sums: a segment's initial state is the sum of all others'.
///
/// What a device sends, whatever the number of tokens: `N Hk (F V + 2F) 4` bytes forward, with the delta rule
/// `N Hk (F V + F²) 4`, and `N Hk (F V + F) 4` backward; without the normaliser and a decay per channel F less each.
///
/// Shapes: those of [`forward`](super::forward), N the batch, Hk the key heads, F the width after the feature map; see [`LocalState`].
/// `shape.heads` plays no part. Packed sequences are segments of their own: call once for each. Units: `log_decay` in natural
/// logarithms, values below -200 count as -200. Arithmetic and results are f32 whatever the type of k and v.
///
/// Cost: half of [`forward`](super::forward); with the delta rule a walk with V columns and one with F. Accuracy: root-mean-square
/// error to the f64 reference, relative, <= 1e-5. Deterministic: two runs are bit-equal.
///
/// # Errors
/// As [`forward`](super::forward); `Unsupported` for segments within the call with the delta rule.
///
/// Source: W. Sun et al., Linear Attention Sequence Parallelism, 2024 (the exchange of states); S. Yang et al., Parallelizing
/// Linear Transformers with the Delta Rule, 2024 (products of Householder matrices).
pub fn local_state<T: Elem>(
    gpu: &Gpu,
    shape: &Shape,
    options: &Options,
    inputs: &LocalInputs<'_, T>,
    local: &mut LocalState,
) -> Result<()> {
    let weights = [inputs.fm_weight, inputs.fm_bias].map(|x| x.map(Tensor::len));
    let plan = plan::local_state(shape, options, weights, gpu.caps())?;
    // The keys stand in for queries, which have no part: a shape with as many heads has as many of both.
    let keys = Shape {
        heads: shape.kv_heads,
        ..*shape
    };
    let all = Inputs {
        log_decay: inputs.log_decay,
        beta: inputs.beta,
        fm_weight: inputs.fm_weight,
        fm_bias: inputs.fm_bias,
        ..Inputs::new(inputs.k, inputs.k, inputs.v)
    };
    let views = all.views(plan::OP, &keys, options)?;
    local.check(
        "local",
        Lengths::new(shape, options),
        options.normalize.is_some(),
    )?;
    let mut written = local.added.views_mut();
    written.push(local.transfer.view_mut());
    let mut pass = gpu.pass("linear attention, local state");
    pass.run(&plan, views.get(1..).unwrap_or_default(), &mut written)?;
    pass.submit().map(drop)
}

/// Two neighbouring segments as one, `first` the earlier: (X₂ + A₂ X₁, a₁ + a₂), with the delta rule (X₂ + M₂ X₁, M₂ M₁).
///
/// exp(a) X is computed as X + expm1(a) X where a is near 0, so that slow decays do not drift over many segments. Associative up
/// to rounding; z goes like the state.
///
/// Shapes: `shape` gives batch, key heads and widths; tokens, query heads and the type play no part. Cost: one read of both and
/// one write; with the delta rule `2 N Hk F² (V + F)` operations. See [`local_state`].
///
/// # Errors
/// `Argument` when lengths do not fit the shape; `Limit` when a state exceeds the device; `OutOfMemory`, `DeviceLost`.
pub fn merge(
    gpu: &Gpu,
    shape: &Shape,
    options: &Options,
    first: &LocalState,
    second: &LocalState,
    merged: &mut LocalState,
) -> Result<()> {
    let plan = plan::fold(shape, options, Fold::Merge, gpu.caps())?;
    let (lengths, normalized) = (Lengths::new(shape, options), options.normalize.is_some());
    first.check("first", lengths, normalized)?;
    second.check("second", lengths, normalized)?;
    merged.check("merged", lengths, normalized)?;
    let views: Vec<View<'_>> = first
        .added
        .views()
        .chain(second.added.views())
        .chain([second.transfer.view(), first.transfer.view()])
        .collect();
    let mut written = merged.added.views_mut();
    written.push(merged.transfer.view_mut());
    let mut pass = gpu.pass("linear attention, merge");
    pass.run(&plan, &views, &mut written)?;
    pass.submit().map(drop)
}

/// The state after a segment from the one before it: `end` = X + A `start`. The end of a segment is the start of the next.
///
/// Shapes, cost and errors as [`merge`]; see [`local_state`].
///
/// # Errors
/// As [`merge`].
pub fn merge_start(
    gpu: &Gpu,
    shape: &Shape,
    options: &Options,
    start: &Carry,
    local: &LocalState,
    end: &mut Carry,
) -> Result<()> {
    let names = ["start", "local", "end"];
    let parts = (start, &local.added, &local.transfer);
    carry(gpu, shape, options, Fold::Start, names, parts, end)
}

/// The gradient of the state before a segment from that of the state after it: `start` = Y + Aᵀ `end`, Y from
/// [`local_adjoint`] and A from the `transfer` of [`local_state`]. The start of a segment is the end of the one before.
///
/// Shapes and cost as [`merge`]; see [`local_state`].
///
/// # Errors
/// As [`merge`].
pub fn merge_adjoint(
    gpu: &Gpu,
    shape: &Shape,
    options: &Options,
    end: &Carry,
    adjoint: &Carry,
    transfer: &Tensor<f32>,
    start: &mut Carry,
) -> Result<()> {
    let names = ["end", "adjoint", "start"];
    let parts = (end, adjoint, transfer);
    carry(gpu, shape, options, Fold::Adjoint, names, parts, start)
}

fn carry(
    gpu: &Gpu,
    shape: &Shape,
    options: &Options,
    fold: Fold,
    names: [&str; 3],
    (carried, own, transfer): (&Carry, &Carry, &Tensor<f32>),
    out: &mut Carry,
) -> Result<()> {
    let plan = plan::fold(shape, options, fold, gpu.caps())?;
    let (lengths, normalized) = (Lengths::new(shape, options), options.normalize.is_some());
    let [carried_name, own_name, out_name] = names;
    carried.check(carried_name, lengths, normalized)?;
    own.check(own_name, lengths, normalized)?;
    length(plan::OP, "transfer", transfer.len(), lengths.transfer)?;
    out.check(out_name, lengths, normalized)?;
    let views: Vec<View<'_>> = carried
        .views()
        .chain(own.views())
        .chain([transfer.view()])
        .collect();
    let mut pass = gpu.pass("linear attention, merge");
    pass.run(&plan, &views, &mut out.views_mut())?;
    pass.submit().map(drop)
}

/// The gradient Y of the state before a segment for a gradient of zero after it, from the segment's own tokens: the part of
/// [`backward`](super::backward) that neighbours wait for.
///
/// ```text
/// D ← D + scale · q_t dn_tᵀ        delta: D ← D − β_t k_t (Dᵀ k_t)ᵀ        D ← exp(g_t) D        from the last token to the first
/// ```
///
/// Y is D before the first token, dn the gradient of o (`grad_o`). With the normaliser dn = grad_o / den, and z is one more column
/// of values, all ones, with dd = −(o · grad_o) / den; this takes the segment's values and its initial state and z, so that it
/// waits for the forward fold. Without it values and initial states are not read.
///
/// Shapes: `inputs` as in [`forward`](super::forward), `grad_o` like o, Y like a state; see [`local_state`] for how segments go
/// together. Cost: one walk from the last token to the first; with the delta rule two, with the normaliser one more forward.
/// Accuracy: root-mean-square error to the f64 reference, relative, <= 2e-5 (5e-5 with the delta rule). Deterministic.
///
/// # Errors
/// As [`backward`](super::backward).
///
/// Source: as [`local_state`].
pub fn local_adjoint<T: Elem>(
    gpu: &Gpu,
    shape: &Shape,
    options: &Options,
    inputs: &Inputs<'_, T>,
    grad_o: &Tensor<T>,
    adjoint: &mut Carry,
) -> Result<()> {
    let states = States {
        initial: inputs.initial_state.is_some(),
        initial_z: inputs.initial_z.is_some(),
        fm_weight: inputs.fm_weight.map(Tensor::len),
        fm_bias: inputs.fm_bias.map(Tensor::len),
        cu_seqlens: inputs.cu_seqlens,
        ..States::default()
    };
    let plan = plan::local_adjoint(shape, options, states, gpu.caps())?;
    let mut views = inputs.views(plan::OP, shape, options)?;
    length(
        plan::OP,
        "the gradient of o",
        grad_o.len(),
        shape.output_len(),
    )?;
    views.push(grad_o.view());
    let [state, z] = inputs.states(shape, options)?;
    let lengths = Lengths {
        state,
        z,
        ..Lengths::new(shape, options)
    };
    adjoint.check("adjoint", lengths, options.normalize.is_some())?;
    let mut pass = gpu.pass("linear attention, local adjoint");
    pass.run(&plan, &views, &mut adjoint.views_mut())?;
    pass.submit().map(drop)
}
