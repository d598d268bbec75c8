//! One walk over tokens as steps: sources a bᵀ enter each walker's state, readers x take Sᵀ x from it.
//!
//! The operator, its gradients and its pieces are walks with tensors in different roles: the gradient of the queries reads
//! the transposed state with that of the outputs, and those of keys and values are walks from the last token to the first.

mod passes;
mod sweep;
#[cfg(test)]
mod tests;

use std::{ops::Range, sync::Arc};

use bytemuck::bytes_of;

use super::{
    FeatureMap, Form, Layout,
    kernels::{self, Access, CopyParams, Fading, Rule, Second, Start, Variant, WalkParams},
    tiles::{CHUNK_UNITS, ChunkTile, RecurrentTile, SweepTile},
    window::{ALIGN, Field, GRAIN, STEP_MS, Window, segments},
};
use crate::{
    Error, Result,
    gpu::{Caps, Class, Kernel, Matrices},
    plan::{Bind, Builder, Slot, Step},
    rows,
};

pub(super) use sweep::{Like, Sweep};

/// Bindings of a walk that has all it can have.
const MERGED_BUFFERS: u32 = 12;

/// A tensor as a walk binds it: its buffer, heads, and bytes of an element.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rows {
    pub slot: Slot,
    pub heads: usize,
    pub elem: u64,
}

/// The sequences of a packed call.
#[derive(Clone, Debug)]
pub(super) struct Packed {
    pub sequences: Vec<Range<usize>>,
}

/// A walk.
#[derive(Clone, Debug)]
pub(super) struct Walk<'a> {
    pub field: Field,
    pub packed: Option<&'a Packed>,
    pub key: usize,
    pub value: usize,
    pub access: Access,
    /// x and y.
    pub readers: Option<[Rows; 2]>,
    /// a and b.
    pub sources: Option<[Rows; 2]>,
    pub fading: Fading,
    pub log_decay: Option<Rows>,
    pub rule: Rule,
    /// beta, or z for the normaliser.
    pub aid: Option<Slot>,
    pub map: FeatureMap,
    /// Whether the entries of all tensors are f16 numbers, however they are stored.
    pub halves: bool,
    pub reverse: bool,
    pub strict: bool,
    pub keeps: bool,
    pub start: Start,
    pub state: Slot,
    pub scale: f32,
    /// Factor on b.
    pub source_scale: f32,
    pub eps: f32,
    /// Which kernels walk.
    pub form: Form,
    /// Second tensors like x and y, or like a, b and y; these, flows and `weighed` want [`Walk::merges`].
    pub second: Second,
    pub seconds: [Option<Slot>; 3],
    /// A tensor like y along which flows are counted, and where they go: like y where columns fade by themselves, otherwise a
    /// number for every token, head and slice.
    pub flows: Option<[Slot; 2]>,
    /// What is missed, times beta.
    pub weighed: Option<Slot>,
    /// The gradients' own walk, which is this one's tensors and more.
    pub sweep: Option<Sweep>,
}

/// The kernel that walks.
enum Tile {
    Chunk(ChunkTile),
    Recurrent(RecurrentTile),
    Sweep(SweepTile),
}

impl Tile {
    /// Columns a workgroup takes.
    fn columns(&self) -> u32 {
        match self {
            Tile::Chunk(tile) => tile.value_tile,
            Tile::Recurrent(tile) => 4 * tile.lanes,
            Tile::Sweep(tile) => tile.value_tile(),
        }
    }
}

impl Walk<'_> {
    /// States that a walker of a sequence of so many tokens keeps.
    pub fn slots(&self, tokens: usize) -> u64 {
        if self.keeps {
            (tokens as u64).div_ceil(GRAIN) + 1
        } else {
            1
        }
    }

    /// Whether one pass can do with the state what else takes two: in short blocks in a subgroup, with room for the bindings, where
    /// all tensors have the heads of states.
    pub fn merges(&self, caps: &Caps) -> bool {
        let heads = self.field.heads;
        let mut rows = self.readers.iter().chain(&self.sources).flatten();
        let flows = 4 * self.field.walkers() * self.field.tokens as u64 * self.slices(caps);
        caps.storage_buffers >= MERGED_BUFFERS
            && flows <= caps.binding_bytes
            && rows.all(|rows| rows.heads == heads)
            && matches!(self.tile(caps), Tile::Recurrent(tile) if tile.subgroup)
    }

    /// Readers of a walker's state: y has as many heads as the larger of readers and states.
    fn group(&self) -> u32 {
        if self.second == Second::Reader {
            return 2;
        }
        let heads = self.readers.map_or(0, |[x, _]| x.heads);
        (heads / self.field.heads.max(1)).max(1) as u32
    }

    fn variant(&self, start: Start) -> Variant {
        Variant {
            access: self.access,
            fading: self.fading,
            rule: self.rule,
            start,
            reads: self.readers.is_some() && self.rule != Rule::Missed,
            adds: self.sources.is_some(),
            packed: self.packed.is_some(),
            reverse: self.reverse,
            strict: self.strict,
            keeps: self.keeps,
            group: if self.rule == Rule::Missed {
                1
            } else {
                self.group()
            },
            map: self.map,
            second: self.second,
            flows: self.flows.is_some(),
            weighs: self.weighed.is_some(),
        }
    }

    fn state_bytes(&self) -> u64 {
        4 * (self.key * self.value) as u64
    }

    /// Operations that a token of a walker takes.
    fn flops(&self) -> f64 {
        let products = match self.rule {
            Rule::Delta => 6,
            _ => 4,
        };
        let products = products + 2 * usize::from(self.pairs()) + self.sweep_products();
        let readers = self.group() as usize;
        ((products + 2 * (readers - 1)) * self.key * self.value
            + 64 * readers * (self.key + self.value)) as f64
    }

    fn tile(&self, caps: &Caps) -> Tile {
        if let Some(sweep) = &self.sweep {
            return Tile::Sweep(sweep.tile);
        }
        let longest = match self.packed {
            Some(packed) => packed
                .sequences
                .iter()
                .map(|tokens| tokens.len())
                .max()
                .unwrap_or(0),
            None => self.field.tokens,
        };
        // The delta rule's solved systems of packed sequences: up to 256 bytes a token and head, all at once.
        let solved = match (self.delta(), self.packed) {
            (true, Some(_)) => 256 * self.field.walkers() * self.field.tokens as u64,
            _ => 0,
        };
        let serial = caps.class == Class::Cpu || longest < 32 || solved > caps.scratch_bytes / 4;
        match self.form {
            Form::Fused | Form::Segments(_) => {}
            Form::Auto if !serial => {}
            _ => {
                // Two readers of different tensors are worth as many tokens a block as one.
                let group = if self.second == Second::Reader {
                    1
                } else {
                    self.group()
                };
                let tokens = self.field.tokens;
                return Tile::Recurrent(RecurrentTile::choose(
                    tokens,
                    self.key,
                    self.value,
                    group,
                    self.delta(),
                    caps,
                ));
            }
        }
        let normalized = self.rule == Rule::Normalized;
        let tile = ChunkTile::choose(self.key, self.value, self.fading, normalized, caps);
        let on_units = |units| tile.on_units(units, self.key, caps);
        let units = caps.units(&CHUNK_UNITS).filter(|_| self.suits_units());
        Tile::Chunk(units.and_then(on_units).unwrap_or(tile))
    }

    /// Whether products may be of halves: tensors are, states fade as a whole, and nothing is solved or divided.
    fn suits_units(&self) -> bool {
        self.halves
            && self.map == FeatureMap::Identity
            && self.rule == Rule::Additive
            && matches!(self.fading, Fading::None | Fading::Head | Fading::Token)
    }

    /// Workgroups that share a walker's columns.
    pub fn slices(&self, caps: &Caps) -> u64 {
        (self.value as u64).div_ceil(self.tile(caps).columns().into())
    }

    /// Tokens of a segment that an invocation can walk on a device that counts its loop iterations.
    fn most_tokens(&self, tile: &Tile, caps: &Caps) -> u64 {
        let (iterations, tokens) = match tile {
            Tile::Chunk(tile) => (tile.iterations(self.group(), self.delta()), tile.chunk),
            Tile::Recurrent(tile) => (
                tile.iterations(
                    self.key,
                    self.group() + u32::from(self.pairs()),
                    self.delta(),
                    self.fading == Fading::Rows,
                ),
                tile.tokens,
            ),
            Tile::Sweep(tile) => (
                tile.iterations(self.key, self.sweeps_delta()),
                tile.tokens(),
            ),
        };
        let blocks = caps.loop_iterations / u64::from(iterations.max(1));
        (blocks.saturating_mul(tokens.into()) / GRAIN * GRAIN).max(GRAIN)
    }

    /// Segments that are walked at the same time.
    pub fn segments(&self, caps: &Caps) -> u64 {
        let kept_sums = self.keeps && self.rule == Rule::Normalized;
        if self.packed.is_some() || self.delta() || kept_sums {
            return 1;
        }
        if self.field.walkers() == 0 {
            return 1;
        }
        let chunks = (self.field.tokens as u64).div_ceil(GRAIN);
        let groups = self.field.walkers() * self.slices(caps);
        let fill = u64::from(caps.fill);
        let wanted = match (self.form, self.tile(caps)) {
            (Form::Segments(n), _) => u64::from(n).min(chunks),
            (Form::Auto, Tile::Chunk(_)) if 2 * groups < fill && chunks >= 16 => {
                fill.div_ceil(groups.max(1)).min(chunks / 8)
            }
            _ => 1,
        };
        // `state_scan` loops over them; nobody asked for more temporaries than a quarter of the budget.
        let most = match self.form {
            Form::Auto => {
                caps.scratch_bytes / 4 / (self.field.walkers() * self.state_bytes()).max(1)
            }
            _ => u64::MAX,
        };
        let wanted = wanted.min(caps.loop_iterations / 16).min(most);
        segments(self.field.tokens as u64, wanted).0.max(1)
    }

    /// What the walk's form is called.
    pub fn label(&self, caps: &Caps) -> String {
        let Tile::Chunk(tile) = self.tile(caps) else {
            return "recurrent".into();
        };
        let form = match self.segments(caps) {
            1 => "fused".into(),
            n => format!("{n} segments"),
        };
        form + &tile.units.map(Matrices::label).unwrap_or_default()
    }

    /// Appends the walk's steps.
    ///
    /// # Errors
    /// `Limit` where one head of 64 tokens exceeds a binding, `Unsupported` for segments of the delta rule.
    pub fn push(&self, builder: &mut Builder, caps: &Caps) -> Result<()> {
        if self.delta() && matches!(self.form, Form::Segments(_)) {
            return Err(Error::Unsupported {
                op: super::plan::OP,
                what:
                    "segments of the delta rule: what a segment adds depends on the state before it"
                        .into(),
            });
        }
        if self.field.tokens == 0 {
            return Ok(());
        }
        let tile = self.tile(caps);
        match self.packed {
            Some(packed) => self.push_packed(builder, caps, &tile, packed),
            None => self.push_windows(builder, caps, &tile),
        }
    }

    fn kernel(&self, tile: &Tile, start: Start, totals: bool) -> Arc<Kernel> {
        match tile {
            Tile::Chunk(tile) => kernels::chunk(tile, &self.variant(start), totals),
            Tile::Recurrent(tile) => kernels::recurrent(tile, &self.variant(start), self.key),
            Tile::Sweep(tile) => kernels::sweep(tile, self.sweep_variant(start), self.key),
        }
    }

    /// The rows of the delta rule's solved systems, where chunks need them, with the bytes of one.
    fn solved(&self, tile: &Tile, slot: Slot) -> Option<(Rows, u64)> {
        match tile {
            Tile::Chunk(tile) if self.delta() => {
                let heads = self.field.heads;
                Some((
                    Rows {
                        slot,
                        heads,
                        elem: 4,
                    },
                    4 * u64::from(tile.chunk),
                ))
            }
            _ => None,
        }
    }

    fn pairs(&self) -> bool {
        matches!(self.second, Second::Source | Second::Missed)
    }

    fn delta(&self) -> bool {
        matches!(self.rule, Rule::Delta | Rule::Missed)
    }

    /// Every sequence's pieces in rounds: all first pieces, all second ones, and so on.
    fn push_packed(
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

    /// Every tensor of rows, with the bytes of a row.
    fn tensors(&self) -> impl Iterator<Item = (Rows, u64)> {
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
    fn decay_row(&self) -> Option<(Rows, u64)> {
        let width = match self.fading {
            Fading::None | Fading::Head => return None,
            Fading::Token => 1,
            Fading::Rows => self.key as u64,
            Fading::Columns => self.value as u64,
        };
        self.log_decay.map(|rows| (rows, 4 * width))
    }

    fn step(
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

/// What one step of a walk covers.
#[derive(Clone)]
struct Place<'a> {
    window: &'a Window,
    segments: u64,
    segment_tokens: u64,
    slices: u64,
    groups: u64,
    first_walker: u64,
    /// The table of pieces, its bytes, and the states of all sequences a head.
    table: Option<(Slot, u64, u64)>,
    /// Whether every segment has a state of its own, counted from the window's first walker.
    apart: bool,
    /// What is bound in the place of outputs: slot, bytes and offset of indices.
    third: Option<(Slot, Range<u64>, u32)>,
    /// The delta rule's solved systems in the place of beta.
    solved: Option<(Slot, Range<u64>, u32)>,
}

impl Place<'_> {
    /// Chunks of so many tokens in the longest segment or piece.
    fn longest(&self, chunk: u32) -> u64 {
        self.segment_tokens
            .min(self.window.tokens_len())
            .div_ceil(chunk.into())
            .max(1)
    }
}

/// Pieces of packed sequences that one step walks: rows of the table.
struct Run {
    round: u64,
    first: u64,
    count: u64,
    ms: f64,
}

/// Copies `rows` rows of so many f32, at these distances; every row of the source goes to `repeat` rows.
#[allow(clippy::too_many_arguments, reason = "one argument per quantity")]
pub(crate) fn copy(
    builder: &mut Builder,
    caps: &Caps,
    from: Slot,
    to: Slot,
    rows: u64,
    words: u64,
    [from_stride, to_stride]: [u64; 2],
    repeat: u64,
) {
    // Rows whose first words are aligned on both sides: a power of two of them, times `repeat`.
    let aligned = |stride: u64| 64 >> stride.trailing_zeros().min(6);
    let unit = repeat * aligned(from_stride).max(aligned(to_stride));
    let widest = 4 * from_stride.max(to_stride).max(1);
    let row_ms = 32.0 * words.max(1) as f64 / (caps.gflops * 1e6);
    let most = (caps.binding_bytes / widest).min((STEP_MS / row_ms) as u64);
    let most = (most / unit * unit).max(unit);
    for first in (0..rows).step_by(most as usize) {
        let count = most.min(rows - first);
        let source = first / repeat;
        let params = CopyParams {
            rows: count as u32,
            words: words as u32,
            from_stride: from_stride as u32,
            to_stride: to_stride as u32,
            repeat: repeat as u32,
            groups: (count * words).div_ceil(1024) as u32,
        };
        let last = |rows: u64, stride: u64| 4 * ((rows - 1) * stride + words);
        builder.steps.push(Step {
            kernel: kernels::copy(),
            bind: vec![
                Bind {
                    slot: from,
                    bytes: 4 * source * from_stride
                        ..4 * source * from_stride + last(count.div_ceil(repeat), from_stride),
                    write: false,
                },
                Bind {
                    slot: to,
                    bytes: 4 * first * to_stride..4 * first * to_stride + last(count, to_stride),
                    write: true,
                },
            ],
            params: bytes_of(&params).to_vec(),
            groups: params.groups.into(),
            predicted_ms: count as f64 * row_ms,
        });
    }
}

/// Fills so many f32 with zero.
pub(super) fn fill(builder: &mut Builder, caps: &Caps, to: Slot, words: u64) {
    rows::fill(builder, caps, to, 0..words, 0);
}
