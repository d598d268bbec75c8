//! The gradients as walks: that of the queries reads the transposed state with that of the outputs, those of keys and values
//! are walks from the last token to the first. Everything is computed in f32 and rounded once.
//!
//! On software adapters two walks do it all where a subgroup can have all columns of a state (`sweeps`). Otherwise, where
//! [`Walk::merges`] says so, those that share a state are one: it reads for queries and for the delta rule's keys, takes from
//! outputs and from corrections, and counts flows. Elsewhere each is a walk, and flows are a pass over what they wrote.
//!
//! The walks are in `walks`, what turns their results into gradients in `ends`.

mod ends;
mod local;
mod sweeps;
mod walks;

pub use local::local_adjoint;

use super::{Call, OP, States, fitting};
use crate::{
    Error, Result,
    gpu::{Caps, Dtype},
    linear::{
        Decay, FeatureMap, Options, Shape,
        adjoint::{self, Band, Flows},
        features::steps,
        kernels::{Rule, Second},
        walk::Rows,
    },
    plan::{Builder, Plan, Slot, Step, Work},
};

/// What goes in and out of the gradients beside the tensors that the options name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Upstream<'a> {
    /// The call had an initial state.
    pub initial: bool,
    /// It had an initial z, with the normaliser.
    pub initial_z: bool,
    /// A gradient of the final state is given.
    pub last: bool,
    /// One of the final z, with the normaliser.
    pub last_z: bool,
    /// The gradient of log_decay is wanted.
    pub log_decay: bool,
    /// That of beta is wanted.
    pub beta: bool,
    /// That of the initial state is wanted.
    pub initial_gradient: bool,
    /// That of the initial z is wanted.
    pub initial_z_gradient: bool,
    /// Elements of the feature map's weights, where there are any: their gradient is always computed with them.
    pub fm_weight: Option<usize>,
    /// Elements of its bias, likewise.
    pub fm_bias: Option<usize>,
    /// Bounds of sequences packed into one batch entry.
    pub cu_seqlens: Option<&'a [u32]>,
}

/// Plans [`linear::backward`](crate::linear::backward). Inputs: those of [`forward`](super::forward), then the gradients of o,
/// of the final state and of the final z, where there are such; outputs: the gradients of q, k, v, then those of log_decay, beta,
/// the initial state and the initial z that are wanted, and of the feature map's weights and bias.
///
/// # Errors
/// As [`forward`](super::forward).
pub fn backward(
    shape: &Shape,
    options: &Options,
    upstream: Upstream<'_>,
    caps: &Caps,
) -> Result<Plan> {
    fitting(options, |options| in_form(shape, options, upstream, caps))
}

fn in_form(shape: &Shape, options: &Options, upstream: Upstream<'_>, caps: &Caps) -> Result<Plan> {
    let states = States {
        initial: upstream.initial,
        initial_z: upstream.initial_z,
        // The normaliser is checked where the final z is.
        last_z: upstream.last_z,
        fm_weight: upstream.fm_weight,
        fm_bias: upstream.fm_bias,
        cu_seqlens: upstream.cu_seqlens,
        ..States::default()
    };
    let call = Call::new(shape, options, states, caps)?;
    let mut next = call.inputs();
    let mut input = || {
        next += 1;
        Slot::Input(next - 1)
    };
    let grad_o = input();
    let grad_last = upstream.last.then(&mut input);
    let grad_last_z = upstream.last_z.then(&mut input);
    let mut last = 2;
    let mut output = |wanted: bool| {
        wanted.then(|| {
            last += 1;
            Slot::Output(last)
        })
    };
    let absent = |what: &str, wanted: bool, exists: bool| {
        if wanted && !exists {
            return Err(Error::Argument {
                op: OP,
                what: format!("the gradient of {what}"),
                expected: format!("absent where there is no {what}"),
                got: "a tensor".into(),
            });
        }
        Ok(wanted)
    };
    let log_decay = output(absent(
        "log_decay",
        upstream.log_decay,
        options.decay != Decay::None,
    )?);
    let beta = output(absent("beta", upstream.beta, options.delta)?);
    let initial = output(absent(
        "initial_state",
        upstream.initial_gradient,
        upstream.initial,
    )?);
    let initial_z = output(absent(
        "initial_z",
        upstream.initial_z_gradient,
        upstream.initial_z,
    )?);
    let weights = steps::ParamGrads {
        weight: output(upstream.fm_weight.is_some()),
        bias: output(upstream.fm_bias.is_some()),
        accumulate: false,
    };
    let adjoint = Adjoint {
        group: (shape.heads / shape.kv_heads.max(1)).max(1),
        key: options.feature_width(shape).next_multiple_of(4),
        value: shape.value.next_multiple_of(4) + if options.normalize.is_some() { 4 } else { 0 },
        grad_o,
        grad_last,
        grad_last_z,
        log_decay,
        beta,
        initial,
        initial_z,
        weights,
        call,
    };
    let mut builder = Builder::default();
    adjoint.push(&mut builder)?;
    let work = adjoint.work();
    let label = if options.causal {
        "walks"
    } else {
        "two passes"
    };
    let plan = builder.plan(OP, format!("backward, {label}"), work);
    plan.check(caps)?;
    Ok(plan)
}

/// A call's gradients.
struct Adjoint<'a> {
    call: Call<'a>,
    /// Query heads that share a key head.
    group: usize,
    /// Padded widths; that of values has room for the normaliser.
    key: usize,
    value: usize,
    grad_o: Slot,
    grad_last: Option<Slot>,
    grad_last_z: Option<Slot>,
    log_decay: Option<Slot>,
    beta: Option<Slot>,
    initial: Option<Slot>,
    initial_z: Option<Slot>,
    weights: steps::ParamGrads,
}

/// The steps from the first of these on and those from the third on in turns, after those between them: of two walks over the
/// same tensors, neither of which reads what the other writes, one finds in caches what the other has read.
fn in_turns(steps: &mut Vec<Step>, [first, between, second]: [usize; 3]) {
    let later = steps.split_off(second);
    let middle = steps.split_off(between);
    let early = steps.split_off(first);
    let (n, m) = (early.len(), later.len());
    let share = |of: usize| move |(i, step): (usize, Step)| ((2 * i + 1) * of, step);
    let mut turns: Vec<(usize, Step)> = early.into_iter().enumerate().map(share(m)).collect();
    turns.extend(later.into_iter().enumerate().map(share(n)));
    turns.sort_by_key(|(at, _)| *at);
    steps.extend(middle);
    steps.extend(turns.into_iter().map(|(_, step)| step));
}

fn f32s(slot: Slot, heads: usize) -> Rows {
    let elem = 4;
    Rows { slot, heads, elem }
}

/// Where the state of a walk starts: a tensor of states and one of sums of keys, how many walkers share one, and whether only the
/// first of them gets it.
#[derive(Clone, Copy)]
struct From {
    slot: Slot,
    z: Option<Slot>,
    ratio: usize,
    once: bool,
}

/// The padded tensors that walks read.
struct Tensors {
    q: Rows,
    k: Rows,
    /// What is added to the state: values, or what the delta rule makes of them; with the normaliser's ones.
    u: Rows,
    /// Gradient of the outputs before the division.
    dn: Rows,
    log_decay: Option<Rows>,
    /// States that the normaliser's walk has left.
    states: Option<Slot>,
}

impl Adjoint<'_> {
    fn shape(&self) -> &Shape {
        self.call.shape
    }

    fn heads(&self) -> usize {
        self.shape().heads
    }

    fn kv_heads(&self) -> usize {
        self.shape().kv_heads
    }

    fn band(&self, heads: usize) -> Band {
        Band {
            rows: (self.shape().batch * self.shape().tokens * heads) as u64,
            tokens: self.shape().tokens as u64,
            group: self.group as u64,
            layout: self.shape().layout,
        }
    }

    /// Scratch for so many columns a token and head.
    fn scratch(&self, b: &mut Builder, heads: usize, width: usize) -> Rows {
        f32s(
            b.add_scratch(4 * self.band(heads).rows * width as u64),
            heads,
        )
    }

    /// What the walks read, the values only where they are needed.
    fn tensors(&self, b: &mut Builder, initial: Option<From>, values: bool) -> Result<Tensors> {
        let (shape, options, caps) = (self.shape(), self.call.options, self.call.caps);
        let (heads, kv_heads, scale) = (self.heads(), self.kv_heads(), options.scale);
        let [key, value] = [self.call.options.feature_width(shape), shape.value];
        let map = options.feature_map;
        let q = self.widen(b, Slot::Input(0), heads, shape.key, map)?;
        let k = self.widen(b, Slot::Input(1), kv_heads, shape.key, map)?;
        let v = if values {
            self.widen(b, Slot::Input(2), kv_heads, value, FeatureMap::Identity)?
        } else {
            f32s(Slot::Input(2), kv_heads)
        };
        let dn = self.widen(b, self.grad_o, heads, value, FeatureMap::Identity)?;
        let log_decay = match (options.decay, self.call.fading(false).1) {
            (Decay::Channel, Some(rows)) if !key.is_multiple_of(4) => {
                let to = (Dtype::F32, self.key);
                let map = FeatureMap::Identity;
                Some(
                    self.call
                        .mapped(b, rows.slot, [kv_heads, key], Dtype::F32, map, to)?,
                )
            }
            (_, rows) => rows,
        };
        let mut t = Tensors {
            q,
            k,
            u: v,
            dn,
            log_decay,
            states: None,
        };
        if let Some(eps) = options.normalize {
            t.u = self.scratch(b, kv_heads, self.value);
            adjoint::augment(
                b,
                caps,
                self.band(kv_heads),
                (self.value / 4 - 1) as u32,
                [v.slot, t.u.slot],
            );
            let y = self.scratch(b, heads, self.value);
            let mut walk = self.walk(
                &t,
                kv_heads * self.call.spread(),
                false,
                [t.q, y],
                [t.k, t.u],
            );
            walk.scale = scale;
            t.states = Some(self.run(b, walk, initial, false)?);
            t.dn = self.scratch(b, heads, self.value);
            let vecs = (self.value / 4 - 1) as u32;
            adjoint::normalize(
                b,
                caps,
                self.band(heads),
                vecs,
                eps,
                [y.slot, dn.slot, t.dn.slot],
            );
        }
        Ok(t)
    }

    fn push(&self, b: &mut Builder) -> Result<()> {
        let (shape, options, caps) = (self.shape(), self.call.options, self.call.caps);
        let (heads, kv_heads, scale) = (self.heads(), self.kv_heads(), options.scale);
        let eps = options.normalize;
        let [key, value] = [self.call.options.feature_width(shape), shape.value];
        let initial = self.initial(b);
        let last = From {
            slot: Slot::Scratch(0),
            z: None,
            ratio: self.group,
            once: true,
        };
        let grad_last = self.carried(b, [self.grad_last, self.grad_last_z], last);
        let mut t = self.tensors(b, initial, true)?;
        // What the state missed of the values, and what was therefore added.
        let mut missed = None;
        if let Some(beta) = self.call.slots.beta {
            let e = self.scratch(b, kv_heads, self.value);
            let mut walk = self.walk(&t, kv_heads, false, [t.k, e], [t.k, t.u]);
            walk.rule = Rule::Missed;
            walk.aid = Some(beta);
            t.u = self.scratch(b, kv_heads, self.value);
            let merged = walk.merges(caps);
            walk.weighed = merged.then_some(t.u.slot);
            let initial = initial.map(|from| From { ratio: 1, ..from });
            self.run(b, walk, initial, false)?;
            if !merged {
                let vecs = (self.value / 4) as u32;
                let slots = [e.slot, beta, t.u.slot];
                adjoint::weigh(b, caps, self.band(kv_heads), vecs, slots);
            }
            missed = Some((e, beta));
        }

        let flows = self.log_decay.is_some();
        let aligned = shape.dtype == Dtype::F32
            && key.is_multiple_of(4)
            && value.is_multiple_of(4)
            && options.feature_map == FeatureMap::Identity;
        // Walks can write gradients where they belong, and one can do the work of several.
        let single = aligned && self.group == 1;
        let merged = (flows || missed.is_some()) && self.merges(&t);
        let direct = single && (missed.is_none() || merged);
        let written = |b: &mut Builder, there: bool, n: u16, heads: usize, width: usize| {
            if there {
                f32s(Slot::Output(n), heads)
            } else {
                self.scratch(b, heads, width)
            }
        };

        if let Some(tile) = self.sweeps() {
            let dq = written(b, aligned, 0, heads, self.key);
            let dk = written(b, aligned, 1, heads, self.key);
            let dv = written(b, aligned && eps.is_none(), 2, heads, self.value);
            self.push_sweeps(b, tile, &t, missed, [dq, dk, dv], [initial, grad_last])?;
            let there = [aligned, aligned, aligned && eps.is_none()];
            return self.narrowed(b, there, dq, &[dk], dv);
        }
        let dv_heads = if missed.is_some() { kv_heads } else { heads };
        let values = written(b, single && eps.is_none(), 2, dv_heads, self.value);
        let values_at = b.steps.len();
        let (d_first, taken) = match missed {
            None => (self.value_gradient(b, &t, values, grad_last)?, None),
            Some(missed) if merged => {
                let d = self.missed_gradient(b, &t, missed, values, grad_last)?;
                (d, None)
            }
            Some(missed) => {
                let dv = self.scratch(b, heads, self.value);
                let d = self.value_gradient(b, &t, dv, grad_last)?;
                let y = self.summed(b, &[dv], self.value)?;
                (d, Some(self.missed_after(b, &t, missed, y, values)?))
            }
        };

        // dq, and what the corrections' keys read of the same state
        let queries_at = b.steps.len();
        let dq = written(b, aligned, 0, heads, self.key);
        let state_heads = kv_heads * self.call.spread();
        let mut walk = self.walk(&t, state_heads, true, [t.dn, dq], [t.u, t.k]);
        let slices = walk.slices(caps);
        let flow_width = match options.decay {
            Decay::Channel => self.key,
            _ => slices as usize,
        };
        let flow = |b: &mut Builder, along: Rows| {
            (merged && flows).then(|| [along.slot, self.scratch(b, heads, flow_width).slot])
        };
        let came = missed.map(|_| self.scratch(b, kv_heads, self.key));
        walk.scale = scale;
        (walk.strict, walk.keeps) = (flows && !merged, flows);
        walk.flows = flow(b, t.q);
        if let (true, Some(came)) = (merged, came) {
            walk.second = Second::Reader;
            walk.seconds = [Some(values.slot), Some(came.slot), None];
        }
        let came_flow = walk.flows;
        let s_states = self.run_turned(b, walk, initial, t.states)?;

        let keys_at = b.steps.len();
        // dk from the readouts, and from the corrections' values, which leave by the same state
        let dk = written(b, direct, 1, heads, self.key);
        let mut walk = self.walk(&t, heads, true, [t.u, dk], [t.dn, t.q]);
        walk.source_scale = scale;
        walk.reverse = true;
        (walk.strict, walk.keeps) = (flows && !merged, flows);
        walk.flows = flow(b, t.k);
        if let (true, Some(came)) = (merged, came) {
            walk.second = Second::Source;
            walk.seconds = [values, t.k, came].map(|rows| Some(rows.slot));
        }
        let left_flow = walk.flows;
        let d_states = self.run_turned(b, walk, grad_last, Some(d_first))?;
        if missed.is_none() && options.causal {
            in_turns(&mut b.steps, [values_at, queries_at, keys_at]);
        }
        let flow = match (came_flow, left_flow) {
            (Some([_, came]), Some([_, left])) if options.decay == Decay::Channel => {
                Flows::Channels([came, left])
            }
            (Some([_, came]), Some([_, left])) => Flows::Tokens([came, left], slices as u32),
            _ => Flows::Whole(self.own_terms(b, &t, [dq, dk], flows)),
        };

        // The corrections' keys by themselves
        let mut keys = vec![dk];
        let mut corrections = None;
        if let (Some(came), false) = (came, merged) {
            let left = self.scratch(b, kv_heads, self.key);
            let mut walk = self.walk(&t, kv_heads, true, [t.u, left], [values, t.k]);
            (walk.source_scale, walk.reverse, walk.strict, walk.keeps) = (-1.0, true, true, flows);
            corrections = Some(self.run(b, walk, None, true)?);
            let mut walk = self.walk(&t, kv_heads, true, [values, came], [t.u, t.k]);
            (walk.scale, walk.strict) = (-1.0, true);
            self.run(b, walk, initial.map(|from| From { ratio: 1, ..from }), true)?;
            if let (true, Flows::Whole(flow)) = (flows, flow) {
                let slots = [t.k.slot, came.slot, left.slot, flow];
                adjoint::key_flow(b, caps, self.band(kv_heads), (self.key / 4) as u32, slots);
            }
            keys.extend([left, came]);
        }
        if let Some(grad) = self.log_decay {
            self.decay_gradient(b, flow, [s_states, d_states], corrections, grad)?;
        }
        self.initial_gradients(b, d_first, taken, false);
        let there = [aligned, direct, single && eps.is_none()];
        self.narrowed(b, there, dq, &keys, values)
    }

    /// A tensor as padded f32 after the feature map: itself where it is that already.
    fn widen(
        &self,
        b: &mut Builder,
        slot: Slot,
        heads: usize,
        width: usize,
        map: FeatureMap,
    ) -> Result<Rows> {
        let dtype = self.shape().dtype;
        if dtype == Dtype::F32 && width.is_multiple_of(4) && map == FeatureMap::Identity {
            return Ok(f32s(slot, heads));
        }
        let to = (Dtype::F32, map.width(width).next_multiple_of(4));
        self.call.mapped(b, slot, [heads, width], dtype, map, to)
    }

    /// Two and a half times the operations of the forward walk; every input read and every gradient written once.
    fn work(&self) -> Work {
        let forward = self.call.work();
        Work {
            flops: 2.5 * forward.flops,
            bytes: 2.0 * forward.bytes,
            ..forward
        }
    }
}
