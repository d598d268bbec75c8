//! The steps of a walk over sequences packed into one batch entry.

use super::{Packed, Tile, Walk, step::Place};
use crate::{
    Result,
    gpu::Caps,
    linear::{
        kernels::Start,
        window::{GRAIN, STEP_MS, Window},
    },
    plan::{Builder, Slot},
};

/// Pieces of packed sequences that one step walks: rows of the table.
struct Run {
    round: u64,
    first: u64,
    count: u64,
    ms: f64,
}

impl Walk<'_> {
    /// Every sequence's pieces in rounds: all first pieces, all second ones, and so on.
    pub(super) fn push_packed(
        &self,
        builder: &mut Builder,
        caps: &Caps,
        tile: &Tile,
        packed: &Packed,
    ) -> Result<()> {
        let heads = self.field.heads as u64;
        if heads == 0 {
            return Ok(());
        }
        let slices = (self.value as u64).div_ceil(tile.columns().into());
        let token_ms = heads as f64 * self.flops() / (caps.gflops * 1e6);
        let in_time = ((STEP_MS / token_ms) as u64 / GRAIN * GRAIN).max(GRAIN);
        let length = self.most_tokens(tile, caps).min(in_time);
        let longest = packed
            .sequences
            .iter()
            .map(|tokens| tokens.len() as u64)
            .max();
        let rounds = longest.unwrap_or(0).div_ceil(length).max(1);
        let whole = Window {
            walkers: 0..heads,
            tokens: 0..self.field.tokens as u64,
        };
        // One table for all rounds: a plan has few tables.
        let mut table: Vec<u32> = Vec::new();
        let mut runs: Vec<Run> = Vec::new();
        let states = packed
            .sequences
            .iter()
            .map(|tokens| self.slots(tokens.len()))
            .sum();
        let solved = self.solved(tile, Slot::Scratch(0)).map(|(rows, bytes)| {
            let span = whole.span(&self.field, rows.heads, bytes);
            (builder.add_scratch(span.end), bytes)
        });
        for round in 0..rounds {
            let mut base = 0;
            for tokens in &packed.sequences {
                let slots = self.slots(tokens.len());
                let count = (tokens.len() as u64).div_ceil(length).max(1);
                if round < count {
                    let piece = if self.reverse {
                        count - 1 - round
                    } else {
                        round
                    };
                    let begin = tokens.start as u64 + piece * length;
                    let end = (begin + length).min(tokens.end as u64);
                    let row = [
                        begin,
                        end,
                        tokens.start as u64,
                        tokens.end as u64,
                        base,
                        slots,
                    ];
                    let first = (table.len() / 6) as u64;
                    table.extend(row.map(|n| n as u32));
                    let ms = (end - begin) as f64 * token_ms;
                    match runs.last_mut() {
                        Some(run) if run.round == round && run.ms + ms <= STEP_MS => {
                            run.count += 1;
                            run.ms += ms;
                        }
                        _ => runs.push(Run {
                            round,
                            first,
                            count: 1,
                            ms,
                        }),
                    }
                }
                base += slots;
            }
        }
        let bytes = 4 * table.len() as u64;
        let slot = builder.add_table(table);
        for Run {
            round,
            first,
            count,
            ms,
        } in runs
        {
            let start = if round == 0 {
                self.start
            } else {
                Start::Resume
            };
            let place = Place {
                window: &whole,
                segments: 1,
                segment_tokens: length.min(longest.unwrap_or(0)),
                slices,
                groups: count * heads * slices,
                first_walker: first * heads,
                table: Some((slot, bytes, states)),
                apart: false,
                third: None,
                solved: None,
            };
            self.in_order(builder, tile, start, place, solved, ms);
        }
        Ok(())
    }
}
