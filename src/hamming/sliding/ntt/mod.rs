//! Distances by transforms modulo 65537, overlapping blocks of the text at a time.
//!
//! The matches of a symbol are the correlation of its indicators in text and pattern, a product of their transforms; products are
//! summed over the symbols before the one transform back. Counts are at most 65,536, so nothing is lost modulo 65537.

mod kernels;
mod tables;

use std::{ops::Range, sync::Arc};

use bytemuck::bytes_of;

use self::{
    kernels::{DistanceParams, FirstParams, RanksParams, StageParams, SumParams},
    tables::{NONE, placed, roots, scale},
};
use super::{
    Pattern,
    plan::{Planner, UNIT, distances},
};
use crate::{
    Result,
    gpu::{Class, Kernel},
    plan::{Bind, Slot},
};

pub(super) use tables::sizes;

/// Operations of 16 numbers in one stage.
const STAGE: u64 = 16 * 40;

/// What all steps of a call share.
struct Transforms {
    /// Length of a transform.
    length: u64,
    /// Positions of a block.
    hop: u64,
    /// Transforms summed: one a symbol, and that of all that are not wild where the text may be wild.
    symbols: u64,
    /// The number of that last one.
    kept: u32,
    /// Transforms of symbols done at once.
    at_once: u64,
    /// Powers of the root.
    roots: Bind,
    /// [at_once, blocks, length], [at_once, length], [blocks, length].
    values: Slot,
    own: Slot,
    sums: Slot,
}

pub(super) fn steps(planner: &mut Planner<'_>, pattern: &Pattern) -> Result<()> {
    let m = pattern.symbols_len() as u64;
    let positions = planner.shape.outputs(pattern.symbols_len()) as u64;
    let [length, piece] = sizes(pattern.symbols_len(), planner.shape.len).map(|n| n as u64);
    let hop = length - piece + 1;
    let caps = planner.caps;
    // Words of the blocks of a chunk, and of the transforms of some symbols over them.
    let room = match caps.class {
        Class::Cpu => 4 << 20,
        _ => 16 << 20,
    };
    let room = room
        .min(caps.binding_bytes / 4)
        .min(caps.scratch_bytes / 32);
    let blocks = (room / length).clamp(1, positions.div_ceil(hop));
    let chunk_len = (blocks * hop / UNIT * UNIT).max(UNIT);
    let chunks: Vec<_> = planner
        .chunks(positions, m, 32, UNIT)?
        .into_iter()
        .flat_map(|chunk| {
            let end = chunk.end;
            chunk
                .step_by(chunk_len as usize)
                .map(move |start| start..end.min(start + chunk_len))
        })
        .collect();
    let blocks = chunk_len.min(positions).div_ceil(hop);
    let wild = planner.shape.wild;
    let ranks = planner.alphabet.ranks() as u64;
    let symbols = ranks + u64::from(wild);
    let turns = caps.loop_iterations / 32;
    let at_once = (room / (blocks * length)).clamp(1, symbols.min(turns));
    let roots = roots();
    let transforms = Transforms {
        length,
        hop,
        symbols,
        kept: if wild { ranks as u32 } else { NONE },
        at_once,
        roots: Bind {
            bytes: 0..4 * roots.len() as u64,
            slot: planner.builder.add_table(roots),
            write: false,
        },
        values: planner.builder.add_scratch(4 * at_once * blocks * length),
        own: planner.builder.add_scratch(4 * at_once * length),
        sums: planner.builder.add_scratch(4 * blocks * length),
    };
    let longest = chunks.iter().map(|chunk| chunk.end - chunk.start).max();
    let ranks_slot = planner
        .builder
        .add_scratch(4 * (longest.unwrap_or(0) + m - 1));
    for begin in (0..m).step_by(piece as usize) {
        let own = begin..m.min(begin + piece);
        let placed = placed(pattern, &planner.alphabet, &own, length);
        let placed = Bind {
            bytes: 0..4 * length,
            slot: planner.builder.add_table(placed),
            write: false,
        };
        for chunk in &chunks {
            transforms.piece(planner, pattern, (&own, &placed), chunk, ranks_slot);
        }
    }
    Ok(())
}

impl Transforms {
    /// The distances of a piece of the pattern at some positions.
    fn piece(
        &self,
        planner: &mut Planner<'_>,
        pattern: &Pattern,
        (piece, placed): (&Range<u64>, &Bind),
        chunk: &Range<u64>,
        ranks: Slot,
    ) {
        let len = chunk.end - chunk.start;
        let blocks = len.div_ceil(self.hop);
        let symbols = planner.under(chunk, pattern.symbols_len() as u64);
        let ranks = ranks_of(planner, &symbols, ranks);
        for first_symbol in (0..self.symbols).step_by(self.at_once as usize) {
            let count = self.at_once.min(self.symbols - first_symbol);
            let group = first_symbol..first_symbol + count;
            self.first(planner, &group, placed, [0, 1], self.own);
            for span in self.spans() {
                let sequences = bind(self.own, count * self.length, true);
                self.stage(planner, kernels::forward(), (sequences, count), span);
            }
            let at = [piece.start, blocks];
            self.first(planner, &group, &ranks, at, self.values);
            for span in self.spans().filter(|span| *span > 16) {
                let all = count * blocks;
                let sequences = bind(self.values, all * self.length, true);
                self.stage(planner, kernels::forward(), (sequences, all), span);
            }
            self.sum(planner, &group, blocks);
        }
        let mut spans: Vec<u64> = self.spans().collect();
        spans.reverse();
        for span in spans {
            let sequences = bind(self.sums, blocks * self.length, true);
            self.stage(planner, kernels::backward(), (sequences, blocks), span);
        }
        let counted = (piece.start..piece.end).filter(|j| pattern.counts(*j as usize));
        self.distance(planner, chunk, blocks, piece.start > 0, counted.count());
    }

    /// The spans of the stages after the first.
    fn spans(&self) -> impl Iterator<Item = u64> + use<> {
        std::iter::successors(Some(self.length / 16), |span| Some(span / 16))
            .take_while(|span| *span >= 16)
    }

    /// Workgroups for some sequences, a lane for 16 numbers.
    fn groups(&self, sequences: u64) -> u64 {
        (sequences * self.length / 16).div_ceil(64)
    }

    fn first(
        &self,
        planner: &mut Planner<'_>,
        group: &Range<u64>,
        ranks: &Bind,
        [offset, blocks]: [u64; 2],
        into: Slot,
    ) {
        let count = group.end - group.start;
        let kernel = kernels::first();
        let binds = [
            self.roots.clone(),
            ranks.clone(),
            bind(into, count * blocks * self.length, true),
        ];
        let symbols = (ranks.bytes.end - ranks.bytes.start) / 4;
        planner.step(
            &kernel,
            &binds,
            self.groups(blocks),
            (64 * count * STAGE) as f64,
            |first, groups| {
                let params = FirstParams {
                    length: self.length as u32,
                    symbols: symbols as u32,
                    offset: offset as u32,
                    hop: self.hop as u32,
                    blocks: blocks as u32,
                    first_symbol: group.start as u32,
                    count: count as u32,
                    kept: self.kept,
                    first,
                    groups,
                };
                bytes_of(&params).to_vec()
            },
        );
    }

    fn stage(
        &self,
        planner: &mut Planner<'_>,
        kernel: Arc<Kernel>,
        (values, sequences): (Bind, u64),
        span: u64,
    ) {
        planner.step(
            &kernel,
            &[self.roots.clone(), values],
            self.groups(sequences),
            (64 * STAGE) as f64,
            |first, groups| {
                let params = StageParams {
                    length: self.length as u32,
                    span: span as u32,
                    sequences: sequences as u32,
                    first,
                    groups,
                };
                bytes_of(&params).to_vec()
            },
        );
    }

    fn sum(&self, planner: &mut Planner<'_>, group: &Range<u64>, blocks: u64) {
        let count = group.end - group.start;
        let kernel = kernels::sum();
        let binds = [
            self.roots.clone(),
            bind(self.values, count * blocks * self.length, false),
            bind(self.own, count * self.length, false),
            bind(self.sums, blocks * self.length, true),
        ];
        planner.step(
            &kernel,
            &binds,
            self.groups(blocks),
            (64 * count * STAGE) as f64,
            |first, groups| {
                let params = SumParams {
                    length: self.length as u32,
                    blocks: blocks as u32,
                    first_symbol: group.start as u32,
                    count: count as u32,
                    kept: self.kept,
                    first,
                    groups,
                };
                bytes_of(&params).to_vec()
            },
        );
    }

    fn distance(
        &self,
        planner: &mut Planner<'_>,
        chunk: &Range<u64>,
        blocks: u64,
        accumulate: bool,
        counted: usize,
    ) {
        let kernel = kernels::distance();
        let binds = [
            self.roots.clone(),
            bind(self.sums, blocks * self.length, false),
            distances(chunk),
        ];
        let start = if planner.shape.wild { 0 } else { counted };
        planner.step(
            &kernel,
            &binds,
            self.groups(blocks),
            (64 * STAGE) as f64,
            |first, groups| {
                let params = DistanceParams {
                    length: self.length as u32,
                    hop: self.hop as u32,
                    blocks: blocks as u32,
                    outputs: (chunk.end - chunk.start) as u32,
                    scale: scale(self.length),
                    start: start as u32,
                    accumulate: accumulate.into(),
                    first,
                    groups,
                };
                bytes_of(&params).to_vec()
            },
        );
    }
}

/// Binds so many words.
fn bind(slot: Slot, words: u64, write: bool) -> Bind {
    Bind {
        slot,
        bytes: 0..4 * words,
        write,
    }
}

/// Adds the steps that rank some symbols.
fn ranks_of(planner: &mut Planner<'_>, symbols: &Range<u64>, slot: Slot) -> Bind {
    let len = symbols.end - symbols.start;
    let kernel = kernels::ranks(planner);
    let mut binds = planner.coded(symbols);
    binds.push(bind(slot, len, true));
    let keys = planner.keys();
    planner.step(
        &kernel,
        &binds,
        len.div_ceil(256),
        256.0 * 300.0,
        |first, groups| {
            let params = RanksParams {
                symbols: len as u32,
                keys,
                first,
                groups,
            };
            bytes_of(&params).to_vec()
        },
    );
    bind(slot, len, false)
}
