//! The walks of the gradients, and where their states come from and go.

use std::ops::Range;

use super::{Adjoint, From, Tensors};
use crate::{
    Result,
    gpu::Dtype,
    linear::{
        FeatureMap,
        adjoint::{self, StateCopyParams},
        kernels::{Access, Rule, Second, Start},
        walk::{Rows, Walk},
        window::Field,
    },
    plan::{Builder, Slot},
    rows,
};

impl Adjoint<'_> {
    /// Sequences with their batch entries.
    pub(super) fn sequences(&self) -> Vec<(usize, Range<usize>)> {
        match &self.call.packed {
            Some(packed) => packed
                .sequences
                .iter()
                .map(|tokens| (0, tokens.clone()))
                .collect(),
            None => (0..self.shape().batch)
                .map(|n| (n, 0..self.shape().tokens))
                .collect(),
        }
    }

    /// A walk over padded tensors; the state is transposed where values take the place of keys.
    pub(super) fn walk(
        &self,
        tensors: &Tensors,
        heads: usize,
        transposed: bool,
        readers: [Rows; 2],
        sources: [Rows; 2],
    ) -> Walk<'_> {
        let [key, value] = if transposed {
            [self.value, self.key]
        } else {
            [self.key, self.value]
        };
        Walk {
            field: Field {
                batch: self.shape().batch,
                tokens: self.shape().tokens,
                heads,
                layout: self.shape().layout,
            },
            packed: self.call.packed.as_ref(),
            key,
            value,
            access: Access {
                dtype: Dtype::F32,
                native: true,
                vectors: true,
            },
            readers: Some(readers),
            sources: Some(sources),
            fading: self.call.fading(transposed).0,
            log_decay: tensors.log_decay,
            rule: Rule::Additive,
            aid: None,
            map: FeatureMap::Identity,
            halves: self.halves(),
            reverse: false,
            strict: false,
            keeps: false,
            start: Start::Zero,
            state: Slot::Scratch(0),
            scale: 1.0,
            source_scale: 1.0,
            eps: 0.0,
            form: self.call.options.form,
            second: Second::None,
            seconds: [None; 3],
            flows: None,
            weighed: None,
            sweep: None,
        }
    }

    /// Whether walks have the call's own tensors, which are stored as f16, and not what was made of them.
    fn halves(&self) -> bool {
        let options = &self.call.options;
        self.shape().dtype == Dtype::F16
            && options.feature_map == FeatureMap::Identity
            && !options.delta
            && options.normalize.is_none()
    }

    /// States that a head keeps of every sequence.
    pub(super) fn slots(&self, walk: &Walk<'_>) -> Vec<u64> {
        let sequences = self.sequences();
        let tokens = sequences.iter().map(|(_, tokens)| tokens.len());
        tokens.map(|tokens| walk.slots(tokens)).collect()
    }

    /// Appends a walk with a state of its own, which is returned.
    pub(super) fn run(
        &self,
        b: &mut Builder,
        mut walk: Walk<'_>,
        from: Option<From>,
        transposed: bool,
    ) -> Result<Slot> {
        let size = (walk.key * walk.value) as u64;
        let slots = self.slots(&walk);
        let heads = walk.field.heads as u64;
        walk.state = b.add_scratch(4 * slots.iter().sum::<u64>() * heads * size);
        self.run_in(b, walk, from, transposed)
    }

    /// Appends a walk over transposed states; not causal, with the sums that a walk over upright ones has left.
    pub(super) fn run_turned(
        &self,
        b: &mut Builder,
        mut walk: Walk<'_>,
        from: Option<From>,
        sums: Option<Slot>,
    ) -> Result<Slot> {
        let Some(sums) = sums.filter(|_| !self.call.options.causal) else {
            return self.run(b, walk, from, true);
        };
        let states = (self.sequences().len() * walk.field.heads) as u64;
        let size = (walk.key * walk.value) as u64;
        walk.state = b.add_scratch(4 * states * size);
        let params = StateCopyParams {
            states: states as u32,
            ratio: 1,
            rows: walk.key as u32,
            columns: walk.value as u32,
            source_rows: walk.value as u32,
            source_columns: walk.key as u32,
            transposed: 1,
            stride: size as u32,
            z_column: u32::MAX,
            ..StateCopyParams::default()
        };
        let slots = [sums, walk.state];
        adjoint::state_copy(b, self.call.caps, params, slots, None, 0, 0);
        walk.start = Start::Resume;
        let state = walk.state;
        Walk {
            sources: None,
            ..walk
        }
        .push(b, self.call.caps)?;
        Ok(state)
    }

    /// Appends a walk in the state that it has.
    pub(super) fn run_in(
        &self,
        b: &mut Builder,
        mut walk: Walk<'_>,
        from: Option<From>,
        transposed: bool,
    ) -> Result<Slot> {
        let caps = self.call.caps;
        let size = (walk.key * walk.value) as u64;
        let slots = self.slots(&walk);
        let heads = walk.field.heads as u64;
        if let Some(from) = from {
            walk.start = Start::Resume;
            let copy = |b: &mut Builder, first: u64, states: u64, stride: u64, to: u64| {
                let params = StateCopyParams {
                    states: states as u32,
                    ratio: from.ratio as u32,
                    once: u32::from(from.once),
                    rows: walk.key as u32,
                    columns: walk.value as u32,
                    source_rows: self.call.options.feature_width(self.shape()) as u32,
                    source_columns: self.shape().value as u32,
                    transposed: u32::from(transposed),
                    stride: stride as u32,
                    z_column: (self.value - 4) as u32,
                    ..StateCopyParams::default()
                };
                adjoint::state_copy(b, caps, params, [from.slot, walk.state], from.z, first, to);
            };
            let last = walk.reverse || walk.sweep.is_some();
            let end = |slots: u64| if last { (slots - 1) * size } else { 0 };
            match &self.call.packed {
                Some(_) if walk.keeps => {
                    let mut base = 0;
                    for (n, slots) in slots.iter().enumerate() {
                        let first = n as u64 * heads;
                        copy(
                            b,
                            first,
                            heads,
                            slots * size,
                            base * heads * size + end(*slots),
                        );
                        base += slots;
                    }
                }
                _ => {
                    let each = slots.first().copied().unwrap_or(1);
                    copy(b, 0, slots.len() as u64 * heads, each * size, end(each));
                }
            }
        } else if self.shape().tokens == 0 {
            rows::fill(
                b,
                caps,
                walk.state,
                0..slots.iter().sum::<u64>() * heads * size,
                0,
            );
        }
        if self.call.options.causal || walk.readers.is_none() {
            walk.push(b, caps)?;
        } else {
            Walk {
                readers: None,
                ..walk.clone()
            }
            .push(b, caps)?;
            Walk {
                sources: None,
                start: Start::Resume,
                ..walk.clone()
            }
            .push(b, caps)?;
        }
        Ok(walk.state)
    }

    /// Where the states before the first token and the gradients after the last one come from.
    pub(super) fn carried(
        &self,
        b: &mut Builder,
        [state, z]: [Option<Slot>; 2],
        from: From,
    ) -> Option<From> {
        let slot = match (state, z) {
            (Some(state), _) => state,
            (None, None) => return None,
            (None, Some(_)) => {
                let shape = self.shape();
                let states = self.sequences().len() * shape.kv_heads;
                let words = states * self.call.options.feature_width(shape) * shape.value;
                let zero = b.add_scratch(4 * words as u64);
                rows::fill(b, self.call.caps, zero, 0..words as u64, 0);
                zero
            }
        };
        Some(From { slot, z, ..from })
    }

    /// The state before the first token.
    pub(super) fn initial(&self, b: &mut Builder) -> Option<From> {
        let given = [self.call.slots.initial, self.call.slots.initial_z];
        let from = From {
            slot: Slot::Scratch(0),
            z: None,
            ratio: self.call.spread(),
            once: false,
        };
        self.carried(b, given, from)
    }

    /// Whether a walk can do the work of several.
    pub(super) fn merges(&self, t: &Tensors) -> bool {
        let heads = self.kv_heads() * self.call.spread();
        let walk = self.walk(t, heads, true, [t.dn, t.q], [t.u, t.k]);
        self.call.options.causal && walk.merges(self.call.caps)
    }

    /// dv, or with the delta rule the gradient of what was added before corrections; and the states' gradient at the start.
    pub(super) fn value_gradient(
        &self,
        b: &mut Builder,
        t: &Tensors,
        dv: Rows,
        grad_last: Option<From>,
    ) -> Result<Slot> {
        let mut walk = self.walk(t, self.heads(), false, [t.k, dv], [t.q, t.dn]);
        walk.source_scale = self.call.options.scale;
        walk.reverse = true;
        self.run(b, walk, grad_last, false)
    }

    /// The gradients of values and of beta in one walk back, whose state is that of the states' gradient.
    pub(super) fn missed_gradient(
        &self,
        b: &mut Builder,
        t: &Tensors,
        (e, beta): (Rows, Slot),
        values: Rows,
        grad_last: Option<From>,
    ) -> Result<Slot> {
        let missed = self.scratch(b, self.kv_heads(), self.value);
        let mut walk = self.walk(t, self.kv_heads(), false, [t.k, missed], [t.k, t.dn]);
        (walk.rule, walk.aid, walk.reverse) = (Rule::Missed, Some(beta), true);
        walk.scale = self.call.options.scale;
        walk.second = Second::Missed;
        walk.seconds = [Some(t.q.slot), Some(t.dn.slot), None];
        walk.weighed = Some(values.slot);
        let d = self.run(b, walk, grad_last, false)?;
        self.beta_gradient(b, e, missed);
        Ok(d)
    }

    /// The gradients of values and of beta from those before corrections; what corrections take of the states' gradient.
    pub(super) fn missed_after(
        &self,
        b: &mut Builder,
        t: &Tensors,
        (e, beta): (Rows, Slot),
        y: Rows,
        values: Rows,
    ) -> Result<Slot> {
        let missed = self.scratch(b, self.kv_heads(), self.value);
        let mut walk = self.walk(t, self.kv_heads(), false, [t.k, missed], [t.k, y]);
        (walk.rule, walk.aid, walk.reverse) = (Rule::Missed, Some(beta), true);
        let taken = self.run(b, walk, None, false)?;
        let slots = [missed.slot, beta, values.slot];
        let vecs = (self.value / 4) as u32;
        adjoint::weigh(b, self.call.caps, self.band(self.kv_heads()), vecs, slots);
        self.beta_gradient(b, e, missed);
        Ok(taken)
    }

    pub(super) fn beta_gradient(&self, b: &mut Builder, e: Rows, missed: Rows) {
        if let Some(grad) = self.beta {
            let slots = [e.slot, missed.slot, grad];
            let vecs = (self.value / 4) as u32;
            adjoint::dot(b, self.call.caps, self.band(self.kv_heads()), vecs, slots);
        }
    }
}
