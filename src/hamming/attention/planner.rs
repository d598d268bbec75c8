//! What plans of one call share, and how they are cut: tiles into units, rows into chunks, keys into splits.

use std::ops::Range;

use super::{
    KEPT, OP, Options, Shape,
    kernels::{Limits, Spans},
    plan::{Wanted, finds_last, pairs, table},
    shape::{Sequence, fits},
    tiles::{Form, Tile},
};
use crate::{
    Error, Result,
    elements::pack_steps,
    gpu::{Caps, Class, Dtype},
    plan::{ALIGN, Bind, Builder, Plan, STEP_MS, Slot, Work},
};

/// What plans of one call share.
pub(super) struct Planner<'a> {
    pub shape: &'a Shape,
    pub options: &'a Options,
    pub caps: &'a Caps,
    pub tile: Tile,
    pub spans: Spans,
    /// Heads of a unit.
    pub fold: u64,
    /// Tiles of a unit, for packed sequences with what the shader reads of each.
    pub tiles: u64,
    pub pieces: Vec<u32>,
}

/// Temporaries and tables of a forward plan.
pub(super) struct Slots {
    pub table: Slot,
    pub spans: Option<Bind>,
    pub sums: Slot,
    pub kept: Slot,
    pub least: Slot,
    pub bins: Slot,
    pub ties: Slot,
    pub o: Slot,
    pub lse: Option<Slot>,
    pub keep: Option<Slot>,
}

/// Tiles of some units that pass through the temporaries together.
pub(super) struct Chunk {
    pub units: Range<u64>,
    pub tiles: Range<u64>,
}

/// Temporaries that are cut to this size by working on some rows at a time.
const CHUNK_BYTES: u64 = 64 << 20;

impl<'a> Planner<'a> {
    pub(super) fn new(
        shape: &'a Shape,
        options: &'a Options,
        lengths: bool,
        tile: Tile,
        caps: &'a Caps,
    ) -> Result<Planner<'a>> {
        options.check(shape)?;
        fits(shape, caps)?;
        if lengths && options.sequences.is_some() {
            return Err(Error::Unsupported {
                op: OP,
                what: "lengths with packed sequences; end the sequences where their keys end"
                    .into(),
            });
        }
        let rows = u64::from(tile.rows);
        let few = (shape.queries as u64) < rows && options.sequences.is_none();
        let fold = if few { shape.group().max(1) as u64 } else { 1 };
        let mut pieces = Vec::new();
        let (spans, tiles) = match (&options.sequences, lengths) {
            (None, false) => (Spans::All, (fold * shape.queries as u64).div_ceil(rows)),
            (None, true) => (Spans::Lengths, (fold * shape.queries as u64).div_ceil(rows)),
            (Some(_), _) => {
                for Sequence { queries, keys } in options.sequences(shape) {
                    for first in queries.clone().step_by(tile.rows as usize) {
                        let piece = [first, queries.start, queries.end, keys.start, keys.end];
                        pieces.extend(piece.map(|n| n as u32));
                    }
                }
                (Spans::Packed, pieces.len() as u64 / 5)
            }
        };
        Ok(Planner {
            shape,
            options,
            caps,
            tile,
            spans,
            fold,
            tiles,
            pieces,
        })
    }

    /// Milliseconds of so many pairs, with so many operations each.
    pub(super) fn ms(&self, pairs: u64, each: f64) -> f64 {
        pairs as f64 * each / (self.caps.gflops * 1e6)
    }

    pub(super) fn rows(&self) -> u64 {
        self.tile.rows.into()
    }

    pub(super) fn words(&self) -> u64 {
        self.shape.words() as u64
    }

    pub(super) fn value(&self) -> u64 {
        self.shape.value as u64
    }

    pub(super) fn units(&self) -> u64 {
        (self.shape.batch * self.shape.heads) as u64 / self.fold
    }

    /// The most keys of a sequence.
    pub(super) fn longest(&self) -> u64 {
        let all = self.options.sequences(self.shape).into_iter();
        all.map(|s| s.keys.len() as u64).max().unwrap_or_default()
    }

    pub(super) fn limits(&self) -> Limits {
        match (self.options.counts(), self.options.fixed(self.shape.bits)) {
            _ if self.longest() == 0 => Limits::None,
            (true, _) => Limits::Kept,
            (false, false) => Limits::Least,
            (false, true) => Limits::None,
        }
    }

    /// Parts into which keys are cut, so that few rows keep the device busy.
    pub(super) fn splits(&self) -> u64 {
        let slices = (self.value()).div_ceil(self.tile.value_tile(self.shape.value).into());
        let groups = (self.units() * self.tiles * slices).max(1);
        let wanted = match self.caps.class {
            Class::Cpu => u64::from(self.caps.fill) / groups,
            _ => 4 * u64::from(self.caps.fill) / groups,
        };
        wanted.clamp(1, (self.longest() / (4 * self.rows())).max(1))
    }

    /// Keys in a segment of those whose ties are counted.
    pub(super) fn segment(&self) -> u64 {
        // One lane in 64 scans its share of a segment, twice.
        let share = self.caps.loop_iterations / (8 * (self.words() + 1));
        let most = share.saturating_mul(64).max(64);
        (self.longest() / 64)
            .next_multiple_of(64)
            .clamp(256.min(most), most)
    }

    /// Keys that one dispatch walks, by what it may take in turns of loops and in time.
    pub(super) fn most_keys(&self, turns: u64, pair_ms: f64, len: u64) -> u64 {
        let by_turns = (self.caps.loop_iterations / 16 * 15 / turns).max(1);
        let by_time = (STEP_MS / (pair_ms * (self.rows() * self.rows()) as f64)).max(1.0) as u64;
        let tiles = by_turns.min(by_time);
        tiles.saturating_mul(self.rows()).min(len.max(1))
    }

    /// Units that fit a binding together, by whole heads of keys where they are fewer than those that read one.
    pub(super) fn blocks(&self) -> Result<Vec<Range<u64>>> {
        let shape = self.shape;
        let most = self.caps.binding_bytes.saturating_sub(ALIGN);
        let rows = self.fold * shape.queries as u64;
        let unit_bytes = 4 * rows * self.words().max(self.value()).max(KEPT as u64);
        let row_bytes = (4 * self.words()).max(self.value() * shape.dtype.bytes());
        let head_bytes = shape.capacity as u64 * row_bytes;
        // Units that read one head of keys.
        let readers = shape.group() as u64 / self.fold;
        let fit =
            (most / unit_bytes.max(1)).min((most / head_bytes.max(1)).saturating_mul(readers));
        if fit == 0 {
            return Err(Error::Limit {
                what: "bytes in one binding, for one head,".into(),
                needed: unit_bytes.max(head_bytes) + ALIGN,
                available: self.caps.binding_bytes,
                remedy: "use fewer tokens",
            });
        }
        let mut blocks = Vec::new();
        let mut from = 0;
        while from < self.units() {
            let end = match fit / readers {
                0 => (from + fit).min(from / readers * readers + readers),
                heads => from + heads * readers,
            };
            blocks.push(from..end.min(self.units()));
            from = end;
        }
        Ok(blocks)
    }

    pub(super) fn chunks(&self, splits: u64) -> Result<Vec<Chunk>> {
        let (rows, bits) = (self.rows(), self.shape.bits as u64);
        let segments = self.longest().div_ceil(self.segment());
        let mut row_bytes = 4 * splits * (self.value() + 1);
        if self.options.counts() {
            row_bytes = row_bytes.max(4 * (bits + 1)).max(4 * segments);
        }
        let budget = CHUNK_BYTES
            .min(self.caps.binding_bytes)
            .min(self.caps.scratch_bytes / 4);
        let most = (budget / (rows * row_bytes)).max(1);
        let mut chunks = Vec::new();
        for units in self.blocks()? {
            let tiles = units.start * self.tiles..units.end * self.tiles;
            for first in tiles.clone().step_by(most as usize) {
                chunks.push(Chunk {
                    units: units.clone(),
                    tiles: first..tiles.end.min(first + most),
                });
            }
        }
        Ok(chunks)
    }

    pub(super) fn forward(&self, wanted: Wanted, splits: Option<usize>) -> Result<Plan> {
        let shape = self.shape;
        let most = (u64::MAX >> 32).min(self.longest().div_ceil(self.rows()).max(1));
        let splits = splits.map_or(self.splits(), |n| (n as u64).min(most));
        let mut builder = Builder::default();
        if shape.rows() > 0 {
            let chunks = self.chunks(splits)?;
            let slots = self.slots(&mut builder, wanted, splits, &chunks);
            for chunk in &chunks {
                self.chunk(&mut builder, &slots, chunk, splits);
            }
            if shape.dtype != Dtype::F32 {
                let ends = [slots.o, Slot::Output(0)];
                let elements = shape.output_len() as u64;
                pack_steps(&mut builder, self.caps, shape.dtype, ends, elements);
            }
        }
        let plan = builder.plan(OP, self.label(splits), self.work());
        plan.check(self.caps)?;
        Ok(plan)
    }

    pub(super) fn label(&self, splits: u64) -> String {
        let weights = match (self.options.fixed(self.shape.bits), self.options.counts()) {
            (_, true) => "counted",
            (true, false) => "fixed",
            (false, false) => "shifted",
        };
        let read = match self.tile.form {
            Form::Staged => "staged",
            Form::Direct => "direct",
            Form::Lanes(_) => "by lanes",
        };
        let (rows, fold) = (self.tile.rows, self.fold);
        format!("{weights}, tiles of {rows} {read}, {fold} heads a unit, {splits} splits")
    }

    pub(super) fn work(&self) -> Work {
        let shape = self.shape;
        let pairs = pairs(shape, self.options);
        let codes = 4.0 * (shape.query_len() + shape.key_len()) as f64;
        let values = (shape.value_len() + shape.output_len()) as f64 * shape.dtype.bytes() as f64;
        Work {
            flops: 2.0 * pairs * shape.value as f64,
            popcounts: pairs * shape.words() as f64,
            bytes: codes + values,
        }
    }

    /// The table that says what the tiles of packed sequences are, or the lengths.
    pub(super) fn span_bind(&self, builder: &mut Builder, pieces: &[u32]) -> Option<Bind> {
        let (slot, words) = match self.spans {
            Spans::All => return None,
            Spans::Lengths => (Slot::Input(3), self.shape.batch as u64),
            Spans::Packed => (builder.add_table(pieces.to_vec()), pieces.len() as u64),
        };
        Some(Bind {
            slot,
            bytes: 0..4 * words,
            write: false,
        })
    }

    pub(super) fn slots(
        &self,
        builder: &mut Builder,
        wanted: Wanted,
        splits: u64,
        chunks: &[Chunk],
    ) -> Slots {
        let tiles = chunks
            .iter()
            .map(|chunk| chunk.tiles.end - chunk.tiles.start);
        let rows = tiles.max().unwrap_or_default() * self.rows();
        let limits = self.limits();
        let mut scratch = |used: bool, words: u64| match used {
            true => builder.add_scratch(4 * rows * words),
            false => Slot::Scratch(u16::MAX),
        };
        let counted = limits == Limits::Kept;
        let segments = self.longest().div_ceil(self.segment());
        let sums = scratch(true, splits * (self.value() + 1));
        let kept = scratch(counted, KEPT as u64);
        let least = scratch(limits == Limits::Least, 1);
        let bins = scratch(counted, self.shape.bits as u64 + 1);
        let ties = scratch(counted && finds_last(self.options), segments);
        let o = match self.shape.dtype {
            Dtype::F32 => Slot::Output(0),
            _ => builder.add_scratch(4 * self.shape.output_len() as u64),
        };
        let lse = wanted.lse.then_some(Slot::Output(1));
        let keep = Slot::Output(1 + u16::from(wanted.lse));
        Slots {
            table: builder.add_table(table(self.shape, self.options)),
            spans: self.span_bind(builder, &self.pieces),
            sums,
            kept,
            least,
            bins,
            ties,
            o,
            lse,
            keep: wanted.kept.then_some(keep),
        }
    }
}
