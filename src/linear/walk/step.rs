//! One step of a walk: what it binds, and the parameters of its kernel.

use std::{ops::Range, sync::Arc};

use bytemuck::bytes_of;

use super::{Rows, Walk};
use crate::{
    gpu::Kernel,
    linear::{
        Layout,
        kernels::{Fading, Rule, Second, WalkParams},
        window::{ALIGN, Window},
    },
    plan::{Bind, Builder, Slot, Step},
};

/// What one step of a walk covers.
#[derive(Clone)]
pub(super) struct Place<'a> {
    pub window: &'a Window,
    pub segments: u64,
    pub segment_tokens: u64,
    pub slices: u64,
    pub groups: u64,
    pub first_walker: u64,
    /// The table of pieces, its bytes, and the states of all sequences a head.
    pub table: Option<(Slot, u64, u64)>,
    /// Whether every segment has a state of its own, counted from the window's first walker.
    pub apart: bool,
    /// What is bound in the place of outputs: slot, bytes and offset of indices.
    pub third: Option<(Slot, Range<u64>, u32)>,
    /// The delta rule's solved systems in the place of beta.
    pub solved: Option<(Slot, Range<u64>, u32)>,
}

impl Place<'_> {
    /// Chunks of so many tokens in the longest segment or piece.
    pub fn longest(&self, chunk: u32) -> u64 {
        self.segment_tokens
            .min(self.window.tokens_len())
            .div_ceil(chunk.into())
            .max(1)
    }
}

impl Walk<'_> {
    /// Every tensor of rows, with the bytes of a row.
    pub(super) fn tensors(&self) -> impl Iterator<Item = (Rows, u64)> {
        let (key, value) = (self.key as u64, self.value as u64);
        let row = |rows: Rows, width: u64| (rows, width * rows.elem);
        let readers = self
            .readers
            .into_iter()
            .flat_map(move |[x, y]| [row(x, key), row(y, value)]);
        let sources = self
            .sources
            .into_iter()
            .flat_map(move |[a, b]| [row(a, key), row(b, value)]);
        readers.chain(sources).chain(self.decay_row())
    }

    /// log_decay where it has a row per token, with the bytes of one.
    pub(super) fn decay_row(&self) -> Option<(Rows, u64)> {
        let width = match self.fading {
            Fading::None | Fading::Head => return None,
            Fading::Token => 1,
            Fading::Rows => self.key as u64,
            Fading::Columns => self.value as u64,
        };
        self.log_decay.map(|rows| (rows, 4 * width))
    }

    pub(super) fn step(
        &self,
        builder: &mut Builder,
        kernel: Arc<Kernel>,
        place: &Place<'_>,
        predicted_ms: f64,
    ) {
        if let Some(sweep) = &self.sweep {
            return self.sweep_step(builder, sweep, kernel, place, predicted_ms);
        }
        let Place { window, .. } = *place;
        let bind = |slot: Slot, bytes: Range<u64>, write: bool| Bind { slot, bytes, write };
        let mut binds = Vec::new();
        // Walking back, a decay is that of the token after.
        let reach = Window {
            walkers: window.walkers.clone(),
            tokens: window.tokens.start
                ..(window.tokens.end + u64::from(self.reverse)).min(self.field.tokens as u64),
        };
        // The offset for indices counted from row 0 of the whole tensor.
        let mut rows = |rows: Option<(Rows, u64)>, elem: u64, write: bool| match rows {
            None => 0,
            Some((tensor, row_bytes)) => {
                let bytes = reach.span(&self.field, tensor.heads, row_bytes);
                let offset = 0u64.wrapping_sub(bytes.start / elem) as u32;
                binds.push(bind(tensor.slot, bytes, write));
                offset
            }
        };
        let (key, value) = (self.key as u64, self.value as u64);
        let readers = self.readers.filter(|_| self.rule != Rule::Missed);
        let x = readers.map(|[x, _]| (x, key * x.elem));
        let a = self.sources.map(|[a, _]| (a, key * a.elem));
        let b = self.sources.map(|[_, b]| (b, value * b.elem));
        let y = self.readers.map(|[_, y]| (y, value * y.elem));
        let q_offset = rows(x, x.map_or(1, |(x, _)| x.elem), false);
        let k_offset = rows(a, a.map_or(1, |(a, _)| a.elem), false);
        let v_offset = rows(b, b.map_or(1, |(b, _)| b.elem), false);
        let mut o_offset = rows(y, y.map_or(1, |(y, _)| y.elem), true);
        if let Some((slot, bytes, offset)) = place.third.clone() {
            o_offset = offset;
            binds.push(bind(slot, bytes, true));
        }
        let size = self.state_bytes();
        let slots = if place.apart {
            place.segments
        } else {
            self.slots(self.field.tokens)
        };
        // The bytes of what every walker has so much of, and the offset for indices counted from walker 0.
        let of_walkers = |size: u64| {
            let (first, end) = (
                window.walkers.start * slots * size,
                window.walkers.end * slots * size,
            );
            match place.table {
                Some((_, _, states)) => (0..states * self.field.heads as u64 * size, 0),
                None if place.apart => (0..end - first, 0u64.wrapping_sub(first / 4) as u32),
                None => (
                    first / ALIGN * ALIGN..end,
                    0u64.wrapping_sub(first / ALIGN * ALIGN / 4) as u32,
                ),
            }
        };
        let (state, state_offset) = of_walkers(size);
        binds.push(bind(self.state, state, true));
        let mut g_offset = 0;
        if let Some(log_decay) = self.log_decay {
            match self.decay_row() {
                Some(decay) => {
                    let bytes = reach.span(&self.field, decay.0.heads, decay.1);
                    g_offset = 0u64.wrapping_sub(bytes.start / 4) as u32;
                    binds.push(bind(log_decay.slot, bytes, false));
                }
                None => binds.push(bind(log_decay.slot, 0..4 * log_decay.heads as u64, false)),
            }
        }
        let (mut beta_offset, mut z_offset) = (0, 0);
        if let Some((slot, bytes, offset)) = place.solved.clone() {
            beta_offset = offset;
            binds.push(bind(slot, bytes, false));
        } else if let Some(aid) = self.aid {
            if self.delta() {
                let heads = self.sources.map_or(1, |[a, _]| a.heads);
                let bytes = window.span(&self.field, heads, 4);
                beta_offset = 0u64.wrapping_sub(bytes.start / 4) as u32;
                binds.push(bind(aid, bytes, false));
            } else {
                let (bytes, offset) = of_walkers(4 * place.slices * key);
                z_offset = offset;
                binds.push(bind(aid, bytes, true));
            }
        }
        if let Some((slot, bytes, _)) = place.table {
            binds.push(bind(slot, 0..bytes, false));
        }
        if let (Some(slot), Some((y, row_bytes))) = (self.weighed, y) {
            let bytes = reach.span(&self.field, y.heads, row_bytes);
            binds.push(bind(slot, bytes, true));
        }
        if let (Some([along, flow]), Some((y, row_bytes))) = (self.flows, y) {
            let bytes = reach.span(&self.field, y.heads, row_bytes);
            binds.push(bind(along, bytes.clone(), false));
            let bytes = match self.fading {
                Fading::Columns => bytes,
                _ => 0..4 * self.field.walkers() * self.field.tokens as u64 * place.slices,
            };
            binds.push(bind(flow, bytes, true));
        }
        let like = match self.second {
            Second::Reader => [x, y, None],
            _ => [a, b, y],
        };
        for ((slot, like), n) in self.seconds.into_iter().zip(like).zip(0..) {
            let bytes = like.map(|(rows, bytes)| reach.span(&self.field, rows.heads, bytes));
            let write = self.second == Second::Reader && n == 1;
            binds.extend(
                slot.zip(bytes)
                    .map(|(slot, bytes)| bind(slot, bytes, write)),
            );
        }
        let heads = |rows: Option<(Rows, u64)>| rows.map_or(1, |(rows, _)| rows.heads as u32);
        let params = WalkParams {
            first_token: window.tokens.start as u32,
            tokens: window.tokens_len() as u32,
            total: self.field.tokens as u32,
            head_first: u32::from(self.field.layout == Layout::Bhtd),
            state_heads: self.field.heads as u32,
            q_heads: heads(x),
            k_heads: heads(a),
            v_heads: heads(b),
            g_heads: self.log_decay.map_or(1, |rows| rows.heads as u32),
            first_walker: place.first_walker as u32,
            key: self.key as u32,
            value: self.value as u32,
            segments: place.segments as u32,
            segment_tokens: place.segment_tokens as u32,
            slots: slots as u32,
            slices: place.slices as u32,
            groups: place.groups as u32,
            q_offset,
            k_offset,
            v_offset,
            o_offset,
            g_offset,
            beta_offset,
            state_offset,
            z_offset,
            scale: self.scale,
            source_scale: self.source_scale,
            eps: self.eps,
        };
        builder.steps.push(Step {
            kernel,
            bind: binds,
            params: bytes_of(&params).to_vec(),
            groups: place.groups,
            predicted_ms,
        });
    }
}
