//! Plans of the search: hits are counted by block of positions, the counts summed, the hits of blocks that have some written.

use std::{ops::Range, sync::Arc};

use bytemuck::bytes_of;

use super::{
    OP, Query,
    scan::{TILE, scan},
};
use crate::{
    Error, Result,
    gpu::{Caps, Kernel, params, part},
    hamming::{
        ABSENT,
        sliding::{
            Classes, Facts, Shape,
            plan::{Planner, kernel},
            planes,
        },
    },
    plan::{Bind, Plan, Slot, Work},
    rows::fill,
};

params! {
    /// Parameters of `mismatch_count`.
    CountParams {
        stride: u32,
        symbols: u32,
        positions: u32,
        patterns: u32,
        first: u32,
        groups: u32,
    }
}

params! {
    /// Parameters of `mismatch_emit`.
    EmitParams {
        stride: u32,
        symbols: u32,
        positions: u32,
        patterns: u32,
        start: u32,
        capacity: u32,
        first: u32,
        groups: u32,
    }
}

/// Positions of a block, which is a workgroup.
const BLOCK: u64 = 256;

/// Positions between possible starts of chunks: whole aligned bindings of blocks.
const UNIT: u64 = 64 * BLOCK;

/// Plans the search, or where there is no capacity the count alone. Inputs: the text, and its mask where it may be wild; outputs:
/// positions, patterns, distances and the total, or the total.
///
/// # Errors
/// Those of [`k_mismatch`](super::k_mismatch) that do not come from the device.
pub fn search(
    shape: &Shape,
    queries: &[Query],
    classes: Option<&Classes>,
    capacity: Option<usize>,
    caps: &Caps,
) -> Result<Plan> {
    shape.check(OP)?;
    for query in queries {
        query.check(shape.dtype, classes.is_some())?;
    }
    let patterns = queries.iter().map(|query| &query.pattern);
    let mut planner = Planner::new(shape, patterns, classes, Facts::default(), caps);
    let lengths = || queries.iter().map(|query| query.pattern.symbols_len());
    let (shortest, longest) = (lengths().min(), lengths().max().unwrap_or(0) as u64);
    fits(&planner, queries.len(), longest)?;
    let total = Slot::Output(if capacity.is_some() { 3 } else { 0 });
    if let Some(capacity) = capacity {
        for n in 0..3 {
            let to = Slot::Output(n);
            fill(&mut planner.builder, caps, to, 0..capacity as u64, ABSENT);
        }
    }
    let positions = shortest.map_or(0, |m| shape.outputs(m)) as u64;
    if positions == 0 {
        fill(&mut planner.builder, caps, total, 0..1, 0);
    } else {
        steps(&mut planner, queries, positions, longest, (capacity, total))?;
    }
    let words: usize = lengths().map(|m| m.div_ceil(32)).sum();
    let work = Work {
        popcounts: (positions * words as u64) as f64,
        bytes: planner.text_bytes() + 4.0 + 12.0 * capacity.unwrap_or(0) as f64,
        ..Work::default()
    };
    let label = format!(
        "{} of {} patterns, bit planes: {}",
        if capacity.is_some() { "hits" } else { "count" },
        queries.len(),
        planner.alphabet.planes
    );
    let plan = planner.builder.plan(OP, label, work);
    plan.check(caps)?;
    Ok(plan)
}

/// Words that hold the symbols of the longest pattern.
fn words_of(longest: u64) -> u64 {
    longest.div_ceil(32).max(1)
}

/// Whether an invocation may loop over so many patterns, twice.
fn fits(planner: &Planner<'_>, patterns: usize, longest: u64) -> Result<()> {
    let turns = 2 * (1 + words_of(longest) * (1 + u64::from(planner.alphabet.planes))) + 5;
    let most = (planner.caps.loop_iterations / 16 * 15).saturating_sub(TILE + 3 * planner.rows());
    let most = (most / turns).min(1 << 24);
    if patterns as u64 <= most {
        return Ok(());
    }
    Err(Error::Limit {
        what: format!("{OP}: patterns of one search"),
        needed: patterns as u64,
        available: most,
        remedy: "search for some of them at a time",
    })
}

fn steps(
    planner: &mut Planner<'_>,
    queries: &[Query],
    positions: u64,
    longest: u64,
    (capacity, total): (Option<usize>, Slot),
) -> Result<()> {
    let chunks = planner.chunks(positions, longest, planner.rows(), UNIT)?;
    let words = words_of(longest);
    let table = table(planner, queries, words as usize);
    let patterns = Bind {
        bytes: 0..4 * table.len() as u64,
        slot: planner.builder.add_table(table),
        write: false,
    };
    let bytes = planes::scratch_bytes(planner, &chunks, longest);
    let slot = planner.builder.add_scratch(bytes);
    let blocks = positions.div_ceil(BLOCK);
    let counts = planner.builder.add_scratch(4 * (blocks + 1));
    let call = Call {
        queries: queries.len() as u32,
        operations: (BLOCK * queries.len() as u64 * (words * (2 * planner.rows() + 6) + 8)) as f64,
        longest,
        patterns,
        counts,
    };
    let planes_of = |planner: &mut Planner<'_>, chunk: &Range<u64>| {
        let symbols = planner.under(chunk, longest);
        planes::planes_of(planner, &symbols, slot)
    };
    let mut last = None;
    for chunk in &chunks {
        let text = planes_of(planner, chunk);
        call.count(planner, chunk, &text);
        last = Some(text);
    }
    scan(planner, counts, blocks, total);
    if let Some(capacity) = capacity {
        for chunk in &chunks {
            // One chunk has its planes still.
            let text = match (&last, chunks.len()) {
                (Some(text), 1) => text.clone(),
                _ => planes_of(planner, chunk),
            };
            call.emit(planner, chunk, &text, capacity, total);
        }
    }
    Ok(())
}

/// What the steps of a search share.
struct Call {
    queries: u32,
    operations: f64,
    longest: u64,
    patterns: Bind,
    counts: Slot,
}

impl Call {
    fn count(&self, planner: &mut Planner<'_>, chunk: &Range<u64>, (text, stride): &(Bind, u64)) {
        let counts = Bind {
            slot: self.counts,
            bytes: 4 * (chunk.start / BLOCK)..4 * chunk.end.div_ceil(BLOCK),
            write: true,
        };
        let kernel = Arc::new(mismatch(
            planner,
            words_of(self.longest),
            "hamming/mismatch_count",
            part!("hamming/mismatch_count.wgsl"),
            CountParams::FIELDS,
        ));
        let symbols = planner.under(chunk, self.longest);
        planner.step(
            &kernel,
            &[text.clone(), self.patterns.clone(), counts],
            (chunk.end - chunk.start).div_ceil(BLOCK),
            self.operations,
            |first, groups| {
                let params = CountParams {
                    stride: *stride as u32,
                    symbols: (symbols.end - symbols.start) as u32,
                    positions: (chunk.end - chunk.start) as u32,
                    patterns: self.queries,
                    first,
                    groups,
                };
                bytes_of(&params).to_vec()
            },
        );
    }

    fn emit(
        &self,
        planner: &mut Planner<'_>,
        chunk: &Range<u64>,
        (text, stride): &(Bind, u64),
        capacity: usize,
        total: Slot,
    ) {
        if capacity == 0 {
            return;
        }
        let read = |slot, bytes| Bind {
            slot,
            bytes,
            write: false,
        };
        let blocks = chunk.start / BLOCK..chunk.end.div_ceil(BLOCK);
        let hits = (0..3).map(|n| Bind {
            slot: Slot::Output(n),
            bytes: 0..4 * capacity as u64,
            write: true,
        });
        let binds: Vec<Bind> = [
            text.clone(),
            self.patterns.clone(),
            read(self.counts, 4 * blocks.start..4 * (blocks.end + 1)),
            read(total, 0..4),
        ]
        .into_iter()
        .chain(hits)
        .collect();
        let kernel = Arc::new(mismatch(
            planner,
            words_of(self.longest),
            "hamming/mismatch_emit",
            part!("hamming/mismatch_emit.wgsl"),
            EmitParams::FIELDS,
        ));
        let symbols = planner.under(chunk, self.longest);
        planner.step(
            &kernel,
            &binds,
            blocks.end - blocks.start,
            2.0 * self.operations,
            |first, groups| {
                let params = EmitParams {
                    stride: *stride as u32,
                    symbols: (symbols.end - symbols.start) as u32,
                    positions: (chunk.end - chunk.start) as u32,
                    patterns: self.queries,
                    start: chunk.start as u32,
                    capacity: capacity as u32,
                    first,
                    groups,
                };
                bytes_of(&params).to_vec()
            },
        );
    }
}

fn mismatch(
    planner: &Planner<'_>,
    words: u64,
    name: &'static str,
    own: crate::gpu::Part,
    params: &'static [crate::gpu::Field],
) -> Kernel {
    let parts = [own, part!("hamming/mismatch.wgsl"), planes::differ(planner)];
    let spec = planes::spec(planner)
        .with("ROWS", planner.rows() as u32)
        .with("WORDS", words as u32);
    Kernel {
        // Hits of each invocation.
        workgroup_bytes: 4 * 64,
        ..kernel(name, parts, spec, params)
    }
}

/// Length and k, then for every 32 symbols a word of those that count, one of those that must match, and one of each plane.
fn table(planner: &Planner<'_>, queries: &[Query], words: usize) -> Vec<u32> {
    let mut table = Vec::new();
    for query in queries {
        let mut rows = planes::words_of(&query.pattern, &planner.alphabet, words);
        let mask = rows.pop().unwrap_or_default();
        let must = query.must_match.clone().unwrap_or_default();
        table.extend([query.pattern.symbols_len() as u32, query.k]);
        for word in 0..words {
            let rows = [&mask, &must].into_iter().chain(&rows);
            table.extend(rows.map(|row| row.get(word).copied().unwrap_or(0)));
        }
    }
    table
}
