//! The gradients' walks that have all columns of a state, on software adapters.

use std::{ops::Range, sync::Arc};

use bytemuck::bytes_of;

use super::{Walk, step::Place};
use crate::{
    gpu::Kernel,
    linear::{
        Layout,
        kernels::{Start, SweepVariant, WalkParams},
        tiles::SweepTile,
        window::{ALIGN, Window},
    },
    plan::{Bind, Builder, Slot, Step},
};

/// What a tensor of a sweep has for each token and head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::linear) enum Like {
    /// As many numbers as keys.
    Keys,
    /// As many as values.
    Values,
    /// One.
    Number,
    /// It has a number for every kept state instead, the heads of a state number together.
    States,
}

/// What a sweep binds in the order of its bindings: before the state, after log decays, and after the table of packed sequences.
#[derive(Clone, Debug)]
pub(in crate::linear) struct Sweep {
    pub tile: SweepTile,
    pub delta: bool,
    pub flows: bool,
    pub beta: bool,
    pub read: Vec<(Slot, Like)>,
    pub aid: Option<(Slot, Like)>,
    pub rest: Vec<(Slot, Like, bool)>,
}

impl Walk<'_> {
    pub(super) fn sweep_variant(&self, start: Start) -> SweepVariant {
        let of = |what: fn(&Sweep) -> bool| self.sweep.as_ref().is_some_and(what);
        SweepVariant {
            fading: self.fading,
            start,
            packed: self.packed.is_some(),
            back: self.reverse,
            delta: of(|sweep| sweep.delta),
            flows: of(|sweep| sweep.flows),
            beta: of(|sweep| sweep.beta),
        }
    }

    pub(super) fn sweeps_delta(&self) -> bool {
        self.sweep.as_ref().is_some_and(|sweep| sweep.delta)
    }

    /// Products with the state beside those of one reader and one source.
    pub(super) fn sweep_products(&self) -> usize {
        match (&self.sweep, self.sweeps_delta()) {
            (None, _) => 0,
            (Some(_), false) => 2,
            (Some(_), true) => 6,
        }
    }

    pub(super) fn sweep_step(
        &self,
        builder: &mut Builder,
        sweep: &Sweep,
        kernel: Arc<Kernel>,
        place: &Place<'_>,
        predicted_ms: f64,
    ) {
        let Place { window, .. } = *place;
        let heads = self.field.heads;
        // Walking back, a decay is that of the token after.
        let reach = Window {
            walkers: window.walkers.clone(),
            tokens: window.tokens.start
                ..(window.tokens.end + u64::from(self.reverse)).min(self.field.tokens as u64),
        };
        let slots = self.slots(self.field.tokens);
        let all = place.table.as_ref().map(|(_, _, states)| *states);
        let kept = all.unwrap_or(self.field.batch as u64 * slots) * heads as u64;
        let row_bytes = |like: Like| match like {
            Like::Keys => 4 * self.key as u64,
            Like::Values => 4 * self.value as u64,
            Like::Number | Like::States => 4,
        };
        let span = |like: Like| match like {
            Like::States => 0..4 * kept,
            _ => reach.span(&self.field, heads, row_bytes(like)),
        };
        let offset = |bytes: Range<u64>| 0u64.wrapping_sub(bytes.start / 4) as u32;
        let bind = |slot: Slot, like: Like, write: bool| Bind {
            slot,
            bytes: span(like),
            write,
        };
        let read = sweep.read.iter();
        let mut binds: Vec<Bind> = read.map(|(slot, like)| bind(*slot, *like, false)).collect();

        let size = self.state_bytes();
        let (first, end) = (
            window.walkers.start * slots * size,
            window.walkers.end * slots * size,
        );
        let states = match all {
            Some(_) => 0..kept * size,
            None => first / ALIGN * ALIGN..end,
        };
        binds.push(Bind {
            slot: self.state,
            bytes: states.clone(),
            write: true,
        });
        let mut g_offset = 0;
        if let Some(log_decay) = self.log_decay {
            let bytes = match self.decay_row() {
                Some((rows, bytes)) => {
                    let bytes = reach.span(&self.field, rows.heads, bytes);
                    g_offset = offset(bytes.clone());
                    bytes
                }
                None => 0..4 * log_decay.heads as u64,
            };
            binds.push(Bind {
                slot: log_decay.slot,
                bytes,
                write: false,
            });
        }
        binds.extend(sweep.aid.map(|(slot, like)| bind(slot, like, false)));
        binds.extend(place.table.map(|(slot, bytes, _)| Bind {
            slot,
            bytes: 0..bytes,
            write: false,
        }));
        let rest = sweep.rest.iter();
        binds.extend(rest.map(|(slot, like, write)| bind(*slot, *like, *write)));
        let heads = heads as u32;
        let params = WalkParams {
            first_token: window.tokens.start as u32,
            tokens: window.tokens_len() as u32,
            total: self.field.tokens as u32,
            head_first: u32::from(self.field.layout == Layout::Bhtd),
            state_heads: heads,
            q_heads: heads,
            k_heads: heads,
            v_heads: heads,
            g_heads: heads,
            first_walker: place.first_walker as u32,
            key: self.key as u32,
            value: self.value as u32,
            segments: 1,
            segment_tokens: place.segment_tokens as u32,
            slots: slots as u32,
            slices: 1,
            groups: place.groups as u32,
            k_offset: offset(span(Like::Keys)),
            v_offset: offset(span(Like::Values)),
            g_offset,
            beta_offset: offset(span(Like::Number)),
            state_offset: offset(states),
            scale: self.scale,
            source_scale: self.source_scale,
            ..WalkParams::default()
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
