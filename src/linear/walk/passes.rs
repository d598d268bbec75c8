//! The passes of a walk: one, or three over segments.

use std::ops::Range;

use bytemuck::bytes_of;

use super::{Tile, Walk, step::Place};
use crate::{
    Result,
    gpu::Caps,
    linear::{
        kernels::{self, Fading, Rule, Start, StateScanParams},
        window::{ALIGN, Cut, GRAIN, segments},
    },
    plan::{Bind, Builder, Slot, Step},
};

/// Temporaries of segments.
#[derive(Clone, Copy)]
struct Segments {
    states: Slot,
    z: Option<Slot>,
    totals: Option<Slot>,
}

impl Walk<'_> {
    pub(super) fn push_windows(
        &self,
        builder: &mut Builder,
        caps: &Caps,
        tile: &Tile,
    ) -> Result<()> {
        let slices = (self.value as u64).div_ceil(tile.columns().into());
        let wanted = self.segments(caps);
        let solved = self.solved(tile, Slot::Scratch(0));
        let cut = Cut {
            field: &self.field,
            caps,
            tensors: self
                .tensors()
                .chain(solved)
                .map(|(rows, bytes)| (rows.heads, bytes))
                .collect(),
            // The solved systems of a window get a part of the budget.
            temporary: solved
                .map(|(rows, bytes)| (rows.heads, bytes, (caps.scratch_bytes / 4).max(1 << 20))),
            state_bytes: self.state_bytes(),
            slots: self.slots(self.field.tokens),
            segments: wanted,
            slices,
            most_tokens: self.most_tokens(tile, caps),
            flops: self.flops(),
        };
        let mut windows = cut.windows()?;
        if self.reverse {
            windows.reverse();
        }
        // Short windows are walked in one pass, and so are those that nothing is added in.
        let most = windows
            .iter()
            .filter(|_| self.sources.is_some())
            .map(|window| (window, segments(window.tokens_len(), wanted).0))
            .filter(|(_, count)| *count > 1)
            .map(|(window, count)| window.walkers_len() * count)
            .max();
        let scratch = most.map(|most| self.add_segments(builder, slices, most));
        let solved = solved.map(|(rows, bytes)| {
            let most = windows.iter().map(|window| {
                let span = window.span(&self.field, rows.heads, bytes);
                span.end - span.start
            });
            (builder.add_scratch(most.max().unwrap_or(0)), bytes)
        });
        for window in &windows {
            let first = if self.reverse {
                window.tokens.end == self.field.tokens as u64
            } else {
                window.tokens.start == 0
            };
            let start = if first { self.start } else { Start::Resume };
            let (count, tokens) = segments(window.tokens_len(), wanted);
            let place = Place {
                window,
                segments: count,
                segment_tokens: tokens,
                slices,
                groups: window.walkers_len() * count * slices,
                first_walker: window.walkers.start,
                table: None,
                apart: false,
                third: None,
                solved: None,
            };
            let ms = cut.predicted_ms(window);
            match scratch.filter(|_| count > 1) {
                Some(scratch) => self.in_segments(builder, caps, tile, start, &place, scratch, ms),
                None => self.in_order(builder, tile, start, place, solved, ms),
            }
        }
        Ok(())
    }

    /// One pass, after the delta rule's systems where there are such.
    pub(super) fn in_order(
        &self,
        builder: &mut Builder,
        tile: &Tile,
        start: Start,
        mut place: Place<'_>,
        solved: Option<(Slot, u64)>,
        ms: f64,
    ) {
        if let (Some((slot, row_bytes)), Tile::Chunk(tile)) = (solved, tile) {
            let span = place.window.span(&self.field, self.field.heads, row_bytes);
            let rows = (
                slot,
                0..span.end - span.start,
                0u64.wrapping_sub(span.start / 4) as u32,
            );
            let chunks = place.longest(tile.chunk);
            let prepare = Place {
                slices: chunks,
                groups: place.groups / place.slices * chunks,
                third: Some(rows.clone()),
                ..place.clone()
            };
            let plain = Walk {
                readers: None,
                rule: Rule::Delta,
                ..self.clone()
            };
            plain.step(
                builder,
                kernels::delta_prepare(tile, &self.variant(start)),
                &prepare,
                ms,
            );
            place.solved = Some(rows);
        }
        self.step(builder, self.kernel(tile, start, false), &place, ms);
    }

    /// States, sums of keys and sums of log decays of so many segments.
    fn add_segments(&self, builder: &mut Builder, slices: u64, count: u64) -> Segments {
        let width = self.totals_width();
        Segments {
            states: builder.add_scratch(count * self.state_bytes()),
            z: (self.rule == Rule::Normalized)
                .then(|| builder.add_scratch(4 * count * slices * self.key as u64)),
            totals: (width > 0).then(|| builder.add_scratch(4 * count * width)),
        }
    }

    /// Sums of log decays that a segment has.
    fn totals_width(&self) -> u64 {
        match self.fading {
            Fading::None => 0,
            Fading::Head | Fading::Token => 1,
            Fading::Rows => self.key as u64,
            Fading::Columns => self.value as u64,
        }
    }

    /// What each segment adds, then the states between them, then every segment from its own.
    #[allow(clippy::too_many_arguments, reason = "one argument per quantity")]
    fn in_segments(
        &self,
        builder: &mut Builder,
        caps: &Caps,
        tile: &Tile,
        start: Start,
        place: &Place<'_>,
        scratch: Segments,
        ms: f64,
    ) {
        let count = place.window.walkers_len() * place.segments;
        let apart = Walk {
            state: scratch.states,
            aid: scratch.z,
            ..self.clone()
        };
        let adds = Walk {
            readers: None,
            keeps: false,
            ..apart.clone()
        };
        let totals = scratch.totals.map(|slot| {
            let width = self.totals_width();
            let first = place.window.walkers.start * place.segments * width;
            (slot, 0..4 * count * width, 0u64.wrapping_sub(first) as u32)
        });
        let first = Place {
            apart: true,
            third: totals.clone(),
            ..place.clone()
        };
        adds.step(
            builder,
            adds.kernel(tile, Start::Zero, totals.is_some()),
            &first,
            ms,
        );
        let (key, value) = (self.key as u64, self.value as u64);
        let totals = totals.map(|(slot, bytes, _)| (slot, bytes));
        self.scan(
            builder,
            caps,
            self.fading,
            start,
            place,
            [scratch.states, self.state],
            totals.clone(),
            [key, value],
        );
        if let (Some(from), Some(to)) = (scratch.z, self.aid) {
            let fading = if self.fading == Fading::Rows {
                Fading::Columns
            } else {
                self.fading
            };
            self.scan(
                builder,
                caps,
                fading,
                start,
                place,
                [from, to],
                totals,
                [place.slices, key],
            );
        }
        let kernel = self.kernel(tile, Start::Resume, false);
        if self.keeps {
            self.step(builder, kernel, place, ms);
        } else if self.readers.is_some() {
            let last = Place {
                apart: true,
                ..place.clone()
            };
            apart.step(builder, kernel, &last, ms);
        }
    }

    #[allow(clippy::too_many_arguments, reason = "one argument per quantity")]
    fn scan(
        &self,
        builder: &mut Builder,
        caps: &Caps,
        fading: Fading,
        start: Start,
        place: &Place<'_>,
        [states, state]: [Slot; 2],
        totals: Option<(Slot, Range<u64>)>,
        [rows, columns]: [u64; 2],
    ) {
        let Place {
            window, segments, ..
        } = *place;
        let walkers = window.walkers_len();
        let size = 4 * rows * columns;
        let slots = self.slots(self.field.tokens);
        let slot = |token: u64| if self.keeps { token.div_ceil(GRAIN) } else { 0 };
        let first = window.walkers.start * slots * size;
        let bytes = first / ALIGN * ALIGN..window.walkers.end * slots * size;
        let params = StateScanParams {
            walkers: walkers as u32,
            rows: rows as u32,
            columns: columns as u32,
            segments: segments as u32,
            slots: slots as u32,
            first_slot: slot(window.tokens.start) as u32,
            last_slot: slot(window.tokens.end) as u32,
            segment_slots: slot(place.segment_tokens) as u32,
            state_offset: ((first - bytes.start) / 4) as u32,
            groups: (walkers * rows * columns.div_ceil(4)).div_ceil(64) as u32,
        };
        let bind = |slot: Slot, bytes: Range<u64>, write: bool| Bind { slot, bytes, write };
        let mut binds = vec![bind(states, 0..walkers * segments * size, true)];
        binds.extend(totals.map(|(slot, bytes)| bind(slot, bytes, false)));
        binds.push(bind(state, bytes, true));
        builder.steps.push(Step {
            kernel: kernels::state_scan(
                columns.is_multiple_of(4) && self.access.vectors,
                fading,
                start,
                [self.reverse, self.keeps],
            ),
            bind: binds,
            params: bytes_of(&params).to_vec(),
            groups: params.groups.into(),
            predicted_ms: 8.0 * (walkers * segments * size) as f64 / (caps.gflops * 1e6),
        });
    }
}
