//! Plans of popcount attention: pure functions of shape, options and capabilities.

use std::ops::Range;

use bytemuck::bytes_of;

use super::{
    KEPT, OP, Options, Shape,
    gradients::Gradients,
    kernels::{self, Beside, CutParams, Form, Limits, MergeParams, Params, Spans, Tally, Tile},
    shape::{Sequence, fits, wrong},
};
use crate::{
    Error, Result,
    elements::{Access, pack_steps},
    gpu::{Caps, Class, Dtype},
    hamming::bits::last_mask,
    linear::walk::fill,
    plan::{ALIGN, Bind, Builder, Plan, STEP_MS, Slot, Step, Work},
    rows::{Rows, dispatches},
};

/// What [`forward`] is to write beside o, and whether the device says how many keys there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The logarithms of the sums of weights.
    pub lse: bool,
    /// What [`backward`] needs of each query.
    pub kept: bool,
    /// Keys of each batch entry come from a tensor.
    pub lengths: bool,
}

/// Which gradients [`backward`] is to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WantedGradients {
    /// Of the queries' codes.
    pub q: bool,
    /// Of the keys' codes.
    pub k: bool,
    /// Of the values.
    pub v: bool,
}

/// Plans the outputs. Inputs: q, k, v, the lengths if they are given; outputs: o, then lse and what is kept where wanted.
///
/// # Errors
/// `Argument` when sizes or options make no sense; `Limit` when one head exceeds a binding or a temporary its budget.
pub fn forward(shape: &Shape, options: &Options, wanted: Wanted, caps: &Caps) -> Result<Plan> {
    let tile = Tile::choose(caps, unit_rows(shape, options));
    Planner::new(shape, options, wanted.lengths, tile, caps)?.forward(wanted, options.splits)
}

/// Rows that read one head of keys and lie together.
fn unit_rows(shape: &Shape, options: &Options) -> usize {
    match options.sequences {
        Some(_) => shape.queries,
        None => shape.group() * shape.queries,
    }
}

/// Every plan of [`forward`]: the choice first, then with other tiles and more parts of the keys.
///
/// # Errors
/// As [`forward`].
pub fn variants(
    shape: &Shape,
    options: &Options,
    wanted: Wanted,
    caps: &Caps,
) -> Result<Vec<Plan>> {
    let chosen = Tile::choose(caps, unit_rows(shape, options));
    let tiles = [(64, Form::Staged), (32, Form::Staged), (32, Form::Direct)];
    let tiles = tiles.map(|(rows, form)| Tile { rows, form });
    let fitting = |tile: &Tile| tile.rows == 32 || caps.workgroup_bytes >= 32 << 10;
    let others = tiles.into_iter().filter(|tile| *tile != chosen);
    let mut plans = vec![forward(shape, options, wanted, caps)?];
    for tile in others.filter(fitting) {
        let planner = Planner::new(shape, options, wanted.lengths, tile, caps)?;
        plans.push(planner.forward(wanted, options.splits)?);
    }
    let planner = Planner::new(shape, options, wanted.lengths, chosen, caps)?;
    plans.push(planner.forward(wanted, Some(3))?);
    Ok(plans)
}

/// Plans the gradients. Inputs: q, k, v, o, what [`forward`] kept, the gradient of o; outputs: those wanted of q, k and v.
///
/// # Errors
/// As [`forward`].
pub fn backward(
    shape: &Shape,
    options: &Options,
    wanted: WantedGradients,
    caps: &Caps,
) -> Result<Plan> {
    let tile = Tile::choose(caps, shape.queries).square();
    Gradients::new(shape, options, tile, caps)?.plan(wanted)
}

/// Plans a clip of gradients in place, see [`StraightThrough`](super::StraightThrough). Input: x; output: the gradients.
///
/// # Errors
/// `Argument` when the clip is not a number of at least 0; `Limit` when a device is too small.
pub fn clip(elements: usize, clip: f32, threshold: f32, caps: &Caps) -> Result<Plan> {
    if !(clip >= 0.0 && threshold.is_finite()) {
        let expected = "a clip of at least 0 about a finite threshold";
        return wrong("clip", expected, format!("{clip} about {threshold}"));
    }
    let most = caps.binding_bytes / 4 / ALIGN * ALIGN;
    let mut builder = Builder::default();
    for first in (0..elements as u64).step_by(most as usize) {
        let count = most.min(elements as u64 - first);
        let params = kernels::ClipParams {
            clip,
            threshold,
            count: count as u32,
        };
        let bind = [(Slot::Input(0), false), (Slot::Output(0), true)].map(|(slot, write)| Bind {
            slot,
            bytes: 4 * first..4 * (first + count),
            write,
        });
        builder.steps.push(Step {
            kernel: kernels::clip(),
            bind: bind.into(),
            params: bytes_of(&params).to_vec(),
            groups: count.div_ceil(64),
            predicted_ms: 12.0 * count as f64 / (caps.gflops * 1e6),
        });
    }
    let plan = builder.plan(OP, "clipped".into(), Work::default());
    plan.check(caps)?;
    Ok(plan)
}

/// How long [`forward`] is predicted to take on a device of the presumed rate, in milliseconds: every pair of a query and a key
/// that it sees costs its words and its values.
///
/// # Errors
/// `Argument` when sizes or options make no sense.
pub fn predicted_ms(shape: &Shape, options: &Options, caps: &Caps) -> Result<f64> {
    options.check(shape)?;
    let passes = passes(shape, options);
    let words = 6.0 * shape.words() as f64;
    let each = 2.0 * shape.value as f64 + words * (1.0 + passes);
    Ok(pairs(shape, options) * each / (caps.gflops * 1e6))
}

/// Passes over the codes before values are weighed.
fn passes(shape: &Shape, options: &Options) -> f64 {
    match (options.counts(), options.fixed(shape.bits)) {
        (true, _) if finds_last(options) => 2.0,
        (true, _) | (_, false) => 1.0,
        (false, true) => 0.0,
    }
}

/// Whether some of the keys at the cut-off count and others do not.
fn finds_last(options: &Options) -> bool {
    options.top_n.is_some_and(|n| n > 0) && !options.include_ties
}

/// Pairs of queries and keys that see each other.
pub(super) fn pairs(shape: &Shape, options: &Options) -> f64 {
    let of_head: usize = options
        .sequences(shape)
        .into_iter()
        .map(|Sequence { queries, keys }| {
            let seen = |at| options.seen(at, queries.len(), keys.len());
            let count = |at| seen(at).into_iter().map(|range| range.len()).sum::<usize>();
            (0..queries.len()).map(count).sum::<usize>()
        })
        .sum();
    of_head as f64 * (shape.batch * shape.heads) as f64
}

/// The weights of every number of beta: of the distances 0 to b, then where they rise with the distance, and what lse adds.
pub(super) fn table(shape: &Shape, options: &Options) -> Vec<u32> {
    let fixed = options.fixed(shape.bits);
    let bits = shape.bits as f64;
    let mut table = Vec::new();
    for beta in options.beta.values() {
        let beta = f64::from(*beta);
        let weight = |d: usize| match fixed {
            true => (beta * (bits - 2.0 * d as f64)).exp(),
            false => (-2.0 * beta.abs() * d as f64).exp(),
        };
        let rest = [
            if beta < 0.0 { bits } else { 0.0 },
            if fixed { 0.0 } else { beta },
            beta,
        ];
        let all = (0..=shape.bits).map(weight).chain(rest);
        table.extend(all.map(|x| (x as f32).to_bits()));
    }
    table
}

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
struct Slots {
    table: Slot,
    spans: Option<Bind>,
    sums: Slot,
    kept: Slot,
    least: Slot,
    bins: Slot,
    ties: Slot,
    o: Slot,
    lse: Option<Slot>,
    keep: Option<Slot>,
}

/// Tiles of some units that pass through the temporaries together.
struct Chunk {
    units: Range<u64>,
    tiles: Range<u64>,
}

/// Temporaries that are cut to this size by working on some rows at a time.
const CHUNK_BYTES: u64 = 64 << 20;

impl<'a> Planner<'a> {
    pub fn new(
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
    pub fn ms(&self, pairs: u64, each: f64) -> f64 {
        pairs as f64 * each / (self.caps.gflops * 1e6)
    }

    fn rows(&self) -> u64 {
        self.tile.rows.into()
    }

    fn words(&self) -> u64 {
        self.shape.words() as u64
    }

    fn value(&self) -> u64 {
        self.shape.value as u64
    }

    fn units(&self) -> u64 {
        (self.shape.batch * self.shape.heads) as u64 / self.fold
    }

    /// The most keys of a sequence.
    fn longest(&self) -> u64 {
        let all = self.options.sequences(self.shape).into_iter();
        all.map(|s| s.keys.len() as u64).max().unwrap_or_default()
    }

    fn limits(&self) -> Limits {
        match (self.options.counts(), self.options.fixed(self.shape.bits)) {
            _ if self.longest() == 0 => Limits::None,
            (true, _) => Limits::Kept,
            (false, false) => Limits::Least,
            (false, true) => Limits::None,
        }
    }

    /// Parts into which keys are cut, so that few rows keep the device busy.
    fn splits(&self) -> u64 {
        let slices = (self.value()).div_ceil(self.tile.value_tile(self.shape.value).into());
        let groups = (self.units() * self.tiles * slices).max(1);
        let wanted = match self.caps.class {
            Class::Cpu => u64::from(self.caps.fill) / groups,
            _ => 4 * u64::from(self.caps.fill) / groups,
        };
        wanted.clamp(1, (self.longest() / (4 * self.rows())).max(1))
    }

    /// Keys in a segment of those whose ties are counted.
    fn segment(&self) -> u64 {
        // One lane in 64 scans its share of a segment, twice.
        let share = self.caps.loop_iterations / (8 * (self.words() + 1));
        let most = share.saturating_mul(64).max(64);
        (self.longest() / 64)
            .next_multiple_of(64)
            .clamp(256.min(most), most)
    }

    /// Keys that one dispatch walks, by what it may take in turns of loops and in time.
    pub fn most_keys(&self, turns: u64, pair_ms: f64, len: u64) -> u64 {
        let by_turns = (self.caps.loop_iterations / 16 * 15 / turns).max(1);
        let by_time = (STEP_MS / (pair_ms * (self.rows() * self.rows()) as f64)).max(1.0) as u64;
        let tiles = by_turns.min(by_time);
        tiles.saturating_mul(self.rows()).min(len.max(1))
    }

    /// Units that fit a binding together, by whole heads of keys where they are fewer than those that read one.
    fn blocks(&self) -> Result<Vec<Range<u64>>> {
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

    fn chunks(&self, splits: u64) -> Result<Vec<Chunk>> {
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

    fn forward(&self, wanted: Wanted, splits: Option<usize>) -> Result<Plan> {
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

    fn label(&self, splits: u64) -> String {
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

    fn work(&self) -> Work {
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
    pub fn span_bind(&self, builder: &mut Builder, pieces: &[u32]) -> Option<Bind> {
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

    fn slots(&self, builder: &mut Builder, wanted: Wanted, splits: u64, chunks: &[Chunk]) -> Slots {
        let tiles = chunks
            .iter()
            .map(|chunk| chunk.tiles.end - chunk.tiles.start);
        let rows = tiles.max().unwrap_or_default() * self.rows();
        let limits = self.limits();
        let mut scratch = |used: bool, words: u64| match used {
            true => builder.add_scratch(4 * rows * words),
            false => Slot::Scratch(u8::MAX),
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
        let keep = Slot::Output(1 + u8::from(wanted.lse));
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

    /// Everything for some tiles, from counts to outputs.
    fn chunk(&self, builder: &mut Builder, slots: &Slots, chunk: &Chunk, splits: u64) {
        let rows = (chunk.tiles.end - chunk.tiles.start) * self.rows();
        let limits = self.limits();
        match limits {
            Limits::None => {}
            Limits::Least => {
                fill(builder, self.caps, slots.least, rows);
                self.tally(builder, slots, chunk, Tally::Least);
            }
            Limits::Kept => {
                let bins = self.shape.bits as u64 + 1;
                fill(builder, self.caps, slots.bins, rows * bins);
                self.tally(builder, slots, chunk, Tally::Bins);
                self.cut(builder, slots, chunk);
                if finds_last(self.options) {
                    let segments = self.longest().div_ceil(self.segment());
                    fill(builder, self.caps, slots.ties, rows * segments);
                    self.tally(builder, slots, chunk, Tally::Ties);
                    self.last(builder, slots, chunk);
                }
            }
        }
        if self.longest() == 0 {
            fill(
                builder,
                self.caps,
                slots.sums,
                rows * splits * (self.value() + 1),
            );
        } else {
            self.sweep(builder, slots, chunk, splits);
        }
        self.merge(builder, slots, chunk, splits);
    }

    fn params(&self, chunk: &Chunk) -> Params {
        let (shape, options) = (self.shape, self.options);
        Params {
            words: shape.words() as u32,
            last: last_mask(shape.bits),
            heads: options.beta.values().len() as u32,
            kv_heads: shape.kv_heads as u32,
            group: shape.group() as u32,
            fold: self.fold as u32,
            queries: shape.queries as u32,
            keys: self.longest() as u32,
            capacity: shape.capacity as u32,
            tiles: self.tiles as u32,
            tile_base: chunk.tiles.start as u32,
            causal: options.causal.into(),
            window: options.window.map_or(1 << 30, |w| w.min(1 << 30)) as u32,
            sinks: options.sinks.min(1 << 29) as u32,
            value: shape.value as u32,
            bits: shape.bits as u32,
            segment: self.segment() as u32,
            ..Params::default()
        }
    }

    /// The codes of the units' queries and of the keys that they read, with offsets and ends in rows.
    fn codes(&self, units: &Range<u64>, params: &mut Params) -> [Bind; 2] {
        let shape = self.shape;
        let rows = self.fold * shape.queries as u64;
        let kv = self.kv_of(units);
        let tensor = |slot, stride| Rows {
            slot,
            dtype: Dtype::U32,
            stride,
        };
        let q = tensor(Slot::Input(0), rows as usize * shape.words());
        let k = tensor(Slot::Input(1), shape.capacity * shape.words());
        let ((a, a_offset), (b, b_offset)) = (q.bind(units, false), k.bind(&kv, false));
        params.a_offset = a_offset;
        params.b_offset = b_offset;
        params.a_len = (units.end * rows) as u32;
        params.b_len = (kv.end * shape.capacity as u64) as u32;
        [a, b]
    }

    /// The heads of keys that units read.
    fn kv_of(&self, units: &Range<u64>) -> Range<u64> {
        let group = self.shape.group() as u64;
        units.start * self.fold / group..(units.end * self.fold).div_ceil(group)
    }

    /// Steps over pairs: parts of the keys, each in dispatches that are quick.
    fn walk(
        &self,
        builder: &mut Builder,
        step: &Step,
        params: Params,
        [groups, turns]: [u64; 2],
        each: f64,
    ) {
        let pair_ms = self.ms(1, each);
        let len = u64::from(params.split_len);
        let most = self.most_keys(turns, pair_ms, len);
        let group_ms = pair_ms * (self.rows() * most) as f64;
        for begin in (0..len).step_by(most as usize) {
            for groups in dispatches(0..groups, group_ms, self.caps) {
                let count = groups.end - groups.start;
                let params = Params {
                    first: groups.start as u32,
                    groups: count as u32,
                    begin: begin as u32,
                    end: len.min(begin + most) as u32,
                    ..params
                };
                builder.steps.push(Step {
                    params: bytes_of(&params).to_vec(),
                    groups: count,
                    predicted_ms: group_ms * count as f64,
                    ..step.clone()
                });
            }
        }
    }

    /// What a split has of the keys, in whole tiles.
    fn split_len(&self, splits: u64) -> u64 {
        self.longest()
            .div_ceil(splits)
            .next_multiple_of(self.rows())
    }

    fn sweep(&self, builder: &mut Builder, slots: &Slots, chunk: &Chunk, splits: u64) {
        let shape = self.shape;
        let mut params = self.params(chunk);
        let [a, b] = self.codes(&chunk.units, &mut params);
        let values = Rows {
            slot: Slot::Input(2),
            dtype: shape.dtype,
            stride: shape.capacity * shape.value,
        };
        let (v, v_offset) = values.bind(&self.kv_of(&chunk.units), false);
        params.v_offset = v_offset;
        params.splits = splits as u32;
        params.split_len = self.split_len(splits) as u32;
        let limits = self.limits();
        let access = Access::new(shape.dtype, [shape.value; 2], self.caps);
        let tiles = chunk.tiles.end - chunk.tiles.start;
        let rows = tiles * self.rows();
        let mut bind = vec![a, b, v, self.table_bind(slots)];
        bind.extend(self.limits_bind(slots, limits, rows));
        bind.push(whole(slots.sums, rows * splits * (self.value() + 1), true));
        bind.extend(slots.spans.clone());
        let step = Step {
            kernel: kernels::sweep(self.tile, shape.value, self.spans, limits, access),
            bind,
            params: Vec::new(),
            groups: 0,
            predicted_ms: 0.0,
        };
        let slices = self
            .value()
            .div_ceil(self.tile.value_tile(shape.value).into());
        let turns = self.tile.sweep_turns(self.words(), shape.value);
        let columns = shape.value.min(self.tile.value_tile(shape.value) as usize);
        let each = 2.0 * columns as f64 + 6.0 * self.words() as f64;
        self.walk(
            builder,
            &step,
            params,
            [tiles * splits * slices, turns],
            each,
        );
    }

    fn tally(&self, builder: &mut Builder, slots: &Slots, chunk: &Chunk, tally: Tally) {
        let mut params = self.params(chunk);
        let [a, b] = self.codes(&chunk.units, &mut params);
        let splits = self.splits();
        params.splits = splits as u32;
        params.split_len = self.split_len(splits) as u32;
        let owned = splits == 1 && matches!(self.tile.form, Form::Lanes(_));
        let tiles = chunk.tiles.end - chunk.tiles.start;
        let rows = tiles * self.rows();
        let mut bind = vec![a, b];
        match tally {
            Tally::Least => {
                bind.push(self.table_bind(slots));
                bind.push(whole(slots.least, rows, true));
            }
            Tally::Bins => {
                let bins = rows * (self.shape.bits as u64 + 1);
                bind.push(whole(slots.bins, bins, true));
            }
            Tally::Ties => {
                let segments = self.longest().div_ceil(self.segment());
                bind.push(whole(slots.kept, rows * KEPT as u64, false));
                bind.push(whole(slots.ties, rows * segments, true));
            }
        }
        bind.extend(slots.spans.clone());
        let step = Step {
            kernel: kernels::tally(self.tile, self.spans, tally, owned),
            bind,
            params: Vec::new(),
            groups: 0,
            predicted_ms: 0.0,
        };
        let turns = self.tile.tally_turns(self.words());
        let each = 6.0 * self.words() as f64 + 8.0;
        self.walk(builder, &step, params, [tiles * splits, turns], each);
    }

    fn cut(&self, builder: &mut Builder, slots: &Slots, chunk: &Chunk) {
        let Params {
            heads,
            kv_heads,
            group,
            fold,
            queries,
            keys,
            tiles,
            tile_base,
            bits,
            ..
        } = self.params(chunk);
        let options = self.options;
        let all = |n: Option<usize>| n.map_or(u32::MAX, |n| n.min(u32::MAX as usize - 1) as u32);
        let rows = (chunk.tiles.end - chunk.tiles.start) * self.rows();
        let bins = rows * (u64::from(bits) + 1);
        let mut bind = vec![
            whole(slots.bins, bins, false),
            self.table_bind(slots),
            whole(slots.kept, rows * KEPT as u64, true),
        ];
        bind.extend(slots.spans.clone());
        let row_ms = self.ms(u64::from(bits) + 64, 16.0);
        for groups in dispatches(0..rows, row_ms, self.caps) {
            let params = CutParams {
                heads,
                kv_heads,
                group,
                fold,
                queries,
                keys,
                tiles,
                tile_base,
                bits,
                top_n: all(options.top_n),
                radius: all(options.radius),
                ties: options.include_ties.into(),
                first: groups.start as u32,
                groups: (groups.end - groups.start) as u32,
            };
            builder.steps.push(Step {
                kernel: kernels::cut(self.tile, self.spans, options.fixed(self.shape.bits)),
                bind: bind.clone(),
                params: bytes_of(&params).to_vec(),
                groups: groups.end - groups.start,
                predicted_ms: row_ms * (groups.end - groups.start) as f64,
            });
        }
    }

    fn last(&self, builder: &mut Builder, slots: &Slots, chunk: &Chunk) {
        let mut params = self.params(chunk);
        let [a, b] = self.codes(&chunk.units, &mut params);
        let rows = (chunk.tiles.end - chunk.tiles.start) * self.rows();
        let segments = self.longest().div_ceil(self.segment());
        let mut bind = vec![
            a,
            b,
            whole(slots.kept, rows * KEPT as u64, true),
            whole(slots.ties, rows * segments, false),
        ];
        bind.extend(slots.spans.clone());
        let row_ms = self.ms(self.segment(), 8.0 * self.words() as f64 + 8.0);
        for groups in dispatches(0..rows, row_ms, self.caps) {
            let params = Params {
                first: groups.start as u32,
                groups: (groups.end - groups.start) as u32,
                ..params
            };
            builder.steps.push(Step {
                kernel: kernels::last(self.tile, self.spans),
                bind: bind.clone(),
                params: bytes_of(&params).to_vec(),
                groups: groups.end - groups.start,
                predicted_ms: row_ms * (groups.end - groups.start) as f64,
            });
        }
    }

    fn merge(&self, builder: &mut Builder, slots: &Slots, chunk: &Chunk, splits: u64) {
        let Params {
            heads,
            kv_heads,
            group,
            fold,
            queries,
            keys,
            tiles,
            tile_base,
            value,
            bits,
            ..
        } = self.params(chunk);
        let limits = self.limits();
        let rows = (chunk.tiles.end - chunk.tiles.start) * self.rows();
        let unit_rows = self.fold as usize * self.shape.queries;
        let out = |slot, width| {
            let rows = Rows {
                slot,
                dtype: Dtype::F32,
                stride: unit_rows * width,
            };
            rows.bind(&chunk.units, true)
        };
        let (o, o_offset) = out(slots.o, self.shape.value);
        let sums = rows * splits * (self.value() + 1);
        let mut bind = vec![whole(slots.sums, sums, false), o];
        let (mut lse_offset, mut kept_offset) = (0, 0);
        if let Some(slot) = slots.lse {
            let (lse, offset) = out(slot, 1);
            bind.push(lse);
            lse_offset = offset;
        }
        bind.push(self.table_bind(slots));
        bind.extend(self.limits_bind(slots, limits, rows));
        if let Some(slot) = slots.keep {
            let (kept, offset) = out(slot, KEPT);
            bind.push(kept);
            // The shader counts in vectors.
            kept_offset = offset.cast_signed().div_euclid(4).cast_unsigned();
        }
        bind.extend(slots.spans.clone());
        let beside = Beside {
            lse: slots.lse.is_some(),
            kept: slots.keep.is_some(),
        };
        let elements = rows * self.value();
        let group_ms = self.ms(64 * splits, 24.0);
        for groups in dispatches(0..elements.div_ceil(64), group_ms, self.caps) {
            let params = MergeParams {
                heads,
                kv_heads,
                group,
                fold,
                queries,
                keys,
                tiles,
                tile_base,
                splits: splits as u32,
                value,
                bits,
                o_offset,
                lse_offset,
                kept_offset,
                first: (64 * groups.start) as u32,
                end: (64 * groups.end).min(elements) as u32,
            };
            builder.steps.push(Step {
                kernel: kernels::merge(self.tile, self.spans, limits, beside),
                bind: bind.clone(),
                params: bytes_of(&params).to_vec(),
                groups: groups.end - groups.start,
                predicted_ms: group_ms * (groups.end - groups.start) as f64,
            });
        }
    }

    fn table_bind(&self, slots: &Slots) -> Bind {
        let entries = self.options.beta.values().len() * (self.shape.bits + 4);
        whole(slots.table, entries as u64, false)
    }

    fn limits_bind(&self, slots: &Slots, limits: Limits, rows: u64) -> Option<Bind> {
        match limits {
            Limits::None => None,
            Limits::Least => Some(whole(slots.least, rows, false)),
            Limits::Kept => Some(whole(slots.kept, rows * KEPT as u64, false)),
        }
    }
}

/// So many words of a slot, from its start.
pub(super) fn whole(slot: Slot, words: u64, write: bool) -> Bind {
    Bind {
        slot,
        bytes: 0..4 * words,
        write,
    }
}
