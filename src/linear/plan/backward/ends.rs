//! From what the walks wrote to the gradients that are asked for.

use std::ops::Range;

use super::{Adjoint, Tensors};
use crate::{
    Error, Result,
    gpu::Dtype,
    linear::{
        Decay, FeatureMap, FeatureShape, Layout,
        adjoint::{self, DecayGradientParams, Flows, InitialGradientParams, OwnTermsParams},
        features::steps,
        walk::Rows,
        window::GRAIN,
    },
    plan::{Builder, Slot},
    rows,
};

impl Adjoint<'_> {
    /// The gradients of the inputs from what walks wrote, but for those that are there already.
    pub(super) fn narrowed(
        &self,
        b: &mut Builder,
        [queries, direct, single]: [bool; 3],
        dq: Rows,
        keys: &[Rows],
        values: Rows,
    ) -> Result<()> {
        let (shape, map, weights) = (self.shape(), self.call.options.feature_map, self.weights);
        if !queries {
            let sizes = [shape.heads, shape.key];
            self.finish(b, &[dq], 0, sizes, map, weights)?;
        }
        if !direct {
            let weights = steps::ParamGrads {
                accumulate: true,
                ..weights
            };
            self.finish(b, keys, 1, [shape.kv_heads, shape.key], map, weights)?;
        }
        if !single {
            self.unpad(b, values)?;
        }
        Ok(())
    }

    /// A token's own terms, and the flows of the others where they are wanted.
    pub(super) fn own_terms(
        &self,
        b: &mut Builder,
        t: &Tensors,
        [dq, dk]: [Rows; 2],
        flows: bool,
    ) -> Slot {
        let flow = self.scratch(b, if flows { self.heads() } else { 0 }, self.key);
        if flows {
            let params = OwnTermsParams {
                key_vecs: (self.key / 4) as u32,
                value_vecs: (self.value / 4) as u32,
                scale: self.call.options.scale,
                ..OwnTermsParams::default()
            };
            let slots = [t.q, t.k, t.dn, t.u, dq, dk, flow].map(|rows| rows.slot);
            adjoint::own_terms(b, self.call.caps, self.band(self.heads()), params, slots);
        }
        flow.slot
    }

    /// Sums parts of padded rows, and the query heads that share a key head.
    pub(super) fn summed(&self, b: &mut Builder, parts: &[Rows], width: usize) -> Result<Rows> {
        match parts {
            [one] if one.heads == self.kv_heads() => return Ok(*one),
            _ => {}
        }
        let sum = self.scratch(b, self.kv_heads(), width);
        let shape = self.call.feature_shape(self.kv_heads(), width, Dtype::F32);
        let to = (sum.slot, Dtype::F32, width);
        self.through(
            b,
            parts,
            &shape,
            FeatureMap::Identity,
            parts.first().map_or(sum.slot, |part| part.slot),
            to,
            Default::default(),
        )?;
        Ok(sum)
    }

    /// Sums parts and shared heads, goes back through the feature map and rounds.
    #[allow(clippy::too_many_arguments, reason = "one argument per tensor or size")]
    pub(super) fn through(
        &self,
        b: &mut Builder,
        parts: &[Rows],
        shape: &FeatureShape,
        map: FeatureMap,
        x: Slot,
        (slot, dtype, stride): (Slot, Dtype, usize),
        weights: steps::ParamGrads,
    ) -> Result<()> {
        let heads = parts.first().map_or(shape.heads, |part| part.heads);
        let slots: Vec<Slot> = parts.iter().map(|part| part.slot).collect();
        let grads = steps::Grads {
            parts: &slots,
            stride: map.width(shape.key).next_multiple_of(4),
            group: heads / shape.heads.max(1),
        };
        let dx = rows::Rows {
            slot,
            dtype,
            stride,
        };
        steps::adjoint_steps(b, &self.call.mapping(shape, map), x, &grads, dx, weights)
    }

    /// The gradient of an input from its parts.
    pub(super) fn finish(
        &self,
        b: &mut Builder,
        parts: &[Rows],
        n: u16,
        [heads, width]: [usize; 2],
        map: FeatureMap,
        weights: steps::ParamGrads,
    ) -> Result<()> {
        let dtype = self.shape().dtype;
        let shape = self.call.feature_shape(heads, width, dtype);
        let to = (Slot::Output(n), dtype, width);
        // Parts with heads of their own are summed over them first.
        let mixed = parts.iter().any(|part| part.heads != heads) && parts.len() > 1;
        let padded = map.width(width).next_multiple_of(4);
        let parts: Vec<Rows> = if mixed {
            let one = |part: &Rows| self.summed(b, &[*part], padded);
            parts.iter().map(one).collect::<Result<_>>()?
        } else {
            parts.to_vec()
        };
        self.through(b, &parts, &shape, map, Slot::Input(n), to, weights)
    }

    /// The gradient of the values, which the normaliser's column may follow.
    pub(super) fn unpad(&self, b: &mut Builder, values: Rows) -> Result<()> {
        let (kv_heads, value) = (self.kv_heads(), self.shape().value);
        let padded = value.next_multiple_of(4);
        let narrow = if self.value == padded {
            values
        } else {
            let narrow = self.scratch(b, values.heads, padded);
            let vecs = (padded / 4) as u32;
            adjoint::drop_column(
                b,
                self.call.caps,
                self.band(values.heads),
                vecs,
                [values.slot, narrow.slot],
            );
            narrow
        };
        let map = FeatureMap::Identity;
        self.finish(b, &[narrow], 2, [kv_heads, value], map, Default::default())
    }

    pub(super) fn decay_gradient(
        &self,
        b: &mut Builder,
        flows: Flows,
        [s, d]: [Slot; 2],
        more: Option<Slot>,
        grad: Slot,
    ) -> Result<()> {
        let (caps, kv_heads) = (self.call.caps, self.kv_heads());
        let mut table: Vec<adjoint::Chunk> = Vec::new();
        let mut base = 0;
        for (batch, tokens) in self.sequences() {
            let chunks = tokens.len().div_ceil(GRAIN as usize);
            for chunk in 0..chunks {
                let begin = tokens.start + chunk * GRAIN as usize;
                let end = (begin + GRAIN as usize).min(tokens.end);
                let row = [batch, begin, end, base, chunks + 1, chunk];
                table.push(row.map(|n| n as u32));
            }
            base += chunks + 1;
        }
        let chunks = table.len();
        let decay = self.call.options.decay;
        let per_head = decay == Decay::Head;
        let log_decay = self.call.slots.log_decay.ok_or_else(|| Error::Gpu {
            message: "no decay".into(),
        })?;
        let to = if per_head {
            b.add_scratch(4 * (chunks * kv_heads) as u64)
        } else {
            grad
        };
        if chunks * kv_heads == 0 {
            let words = if per_head { kv_heads } else { 0 };
            rows::fill(b, caps, grad, 0..words as u64, 0);
            return Ok(());
        }
        let params = DecayGradientParams {
            tokens: self.shape().tokens as u32,
            head_first: u32::from(self.shape().layout == Layout::Bhtd),
            heads: kv_heads as u32,
            head_count: kv_heads as u32,
            group: self.group as u32,
            spread: self.call.spread() as u32,
            key: self.call.options.feature_width(self.shape()) as u32,
            key_vecs: (self.key / 4) as u32,
            value: self.value as u32,
            ..DecayGradientParams::default()
        };
        adjoint::decay_gradient(
            b,
            caps,
            params,
            decay,
            &table,
            self.band(self.heads()),
            flows,
            [s, d, log_decay, to],
            more,
        );
        if per_head {
            adjoint::sum_rows(b, caps, chunks, kv_heads, [to, grad]);
        }
        Ok(())
    }

    /// The gradients of the initial state and z, those that are wanted, from a walk's state that may be the first of several.
    pub(super) fn initial_gradients(
        &self,
        b: &mut Builder,
        d: Slot,
        taken: Option<Slot>,
        kept: bool,
    ) {
        if let Some(grad) = self.initial {
            self.initial_gradient(b, d, taken, kept, 0..self.shape().value, grad);
        }
        if let Some(grad) = self.initial_z {
            let column = self.value - 4..self.value - 3;
            self.initial_gradient(b, d, taken, kept, column, grad);
        }
    }

    pub(super) fn initial_gradient(
        &self,
        b: &mut Builder,
        d: Slot,
        taken: Option<Slot>,
        kept: bool,
        columns: Range<usize>,
        grad: Slot,
    ) {
        let mut base = 0;
        let mut firsts = Vec::new();
        for (batch, tokens) in self.sequences() {
            let chunks = if kept {
                tokens.len().div_ceil(GRAIN as usize)
            } else {
                0
            };
            let first = [batch, tokens.start, tokens.end, base, chunks + 1];
            firsts.push(first.map(|n| n as u32));
            base += chunks + 1;
        }
        let params = InitialGradientParams {
            states: (firsts.len() * self.kv_heads()) as u32,
            tokens: self.shape().tokens as u32,
            head_first: u32::from(self.shape().layout == Layout::Bhtd),
            heads: self.kv_heads() as u32,
            group: self.group as u32,
            key: self.call.options.feature_width(self.shape()) as u32,
            value: columns.len() as u32,
            padded_key: self.key as u32,
            padded_value: self.value as u32,
            first_column: columns.start as u32,
            ..InitialGradientParams::default()
        };
        let rows = self.band(self.kv_heads()).rows;
        // Without tokens no decay is read, and one per token is empty.
        let decay = self.call.options.decay;
        let log_decay = self.call.slots.log_decay.filter(|_| rows > 0);
        let log_decay = log_decay.map(|slot| (slot, decay));
        adjoint::initial_gradient(
            b,
            self.call.caps,
            params,
            &firsts,
            log_decay,
            rows,
            d,
            taken,
            grad,
        );
    }
}
