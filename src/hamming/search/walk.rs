//! Walks of queries over the codes of a database, cut into segments and steps; an epilogue takes what is near enough.

use std::ops::Range;

use bytemuck::bytes_of;

use super::{
    Allowed, Filter, Search,
    tables::{kernel, words},
};
use crate::{
    Error, Result,
    gpu::{Caps, Class, Dtype, Spec, params, part},
    hamming::bits,
    plan::{ALIGN, Bind, Builder, Slot, Step},
    rows::{Rows, dispatches},
};

params! {
    /// Parameters of `walk`.
    WalkParams {
        units: u32,
        last: u32,
        query_offset: u32,
        database_offset: u32,
        queries: u32,
        first_query: u32,
        items: u32,
        first_item: u32,
        tiles_apart: u32,
        positions: u32,
        segment_len: u32,
        begin_segment: u32,
        end_segment: u32,
        first_segment: u32,
        first: u32,
        groups: u32,
        filter_offset: u32,
        filter_stride: u32,
        ranges_offset: u32,
        table_offset: u32,
        query_stride: u32,
        segment_stride: u32,
        bin_stride: u32,
        limit: u32,
        out_offset: u32,
        out_stride: u32,
    }
}

/// Lanes of a group.
const LANES: u64 = 64;

/// Items of a tile, of which a sample takes every so manieth.
pub(super) const TILE: u64 = 64;

/// What the lanes of a group differ in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Across {
    /// Queries, over the same items.
    Queries,
    /// Items, for one query.
    Items,
    /// Segments, of one query: each lane walks its items in order.
    Segments,
}

impl Across {
    pub fn name(self) -> &'static str {
        match self {
            Across::Queries => "lanes of queries",
            Across::Items => "lanes of items",
            Across::Segments => "lanes of segments",
        }
    }
}

/// Codes of a database that are bound at once.
#[derive(Clone, Debug)]
struct Chunk {
    slot: Slot,
    /// Rows of the tensor.
    rows: Range<u64>,
    /// The index of the first.
    first: u64,
}

impl Chunk {
    fn items(&self) -> u64 {
        self.rows.end - self.rows.start
    }

    fn positions(&self, tiles_apart: u64) -> u64 {
        match tiles_apart {
            1 => self.items(),
            _ => self.items().div_ceil(TILE).div_ceil(tiles_apart) * TILE,
        }
    }
}

/// How a walk is cut.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    pub across: Across,
    /// 1, or of how many tiles a sample takes one.
    pub tiles_apart: u64,
    pub segment_len: u64,
    /// Segments of all chunks.
    pub segments: u64,
}

/// Segments of a chunk.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    chunk: usize,
    segments: Range<u64>,
}

/// Segments of pieces.
pub(super) fn segments(pieces: &[Piece]) -> u64 {
    let len = |piece: &Piece| piece.segments.end - piece.segments.start;
    pieces.iter().map(len).sum()
}

/// What happens to a pair near enough.
pub(super) enum Take {
    /// It is counted, at strides of queries, segments and distances.
    Count {
        table: Bind,
        offset: u32,
        strides: [u64; 3],
    },
    /// It joins its query's list of at most `cap`.
    Append {
        counters: Slot,
        lists: Slot,
        cap: u64,
    },
    /// It is written at its place, where that is less than the limit.
    Select {
        places: Bind,
        strides: [u64; 3],
        out: [(Bind, u32); 2],
        out_stride: u64,
        limit: u32,
    },
}

/// The database and the queries as walks see them.
pub(super) struct Walks<'a> {
    search: &'a Search<'a>,
    caps: &'a Caps,
    chunks: Vec<Chunk>,
}

impl<'a> Walks<'a> {
    /// Inputs: queries, filter and ranges where there are any, `more` inputs, the parts of the database.
    pub fn new(search: &'a Search<'a>, more: usize, caps: &'a Caps) -> Result<Walks<'a>> {
        let first = search.first_part(more);
        let row_bytes = 4 * search.shape.words() as u64;
        let most = match caps.binding_bytes / row_bytes {
            fit @ TILE.. => fit / TILE * TILE,
            _ => (caps.binding_bytes - ALIGN) / row_bytes,
        };
        if most == 0 {
            return Err(Error::Limit {
                what: "bytes in one binding, for one code,".into(),
                needed: row_bytes,
                available: caps.binding_bytes,
                remedy: "use fewer bits",
            });
        }
        let mut chunks = Vec::new();
        let mut index = 0;
        for (n, rows) in search.parts.iter().enumerate() {
            let rows = *rows as u64;
            for begin in (0..rows).step_by(most as usize) {
                chunks.push(Chunk {
                    slot: Slot::Input((first + n) as u16),
                    rows: begin..rows.min(begin + most),
                    first: index + begin,
                });
            }
            index += rows;
        }
        Ok(Walks {
            search,
            caps,
            chunks,
        })
    }

    /// Words that kernels take at once.
    fn per_unit(&self) -> u64 {
        match self.search.shape.words() % 4 {
            0 => 4,
            2 => 2,
            _ => 1,
        }
    }

    fn units(&self) -> u64 {
        self.search.shape.words() as u64 / self.per_unit()
    }

    /// Items of which a segment is made whole.
    fn unit(across: Across) -> u64 {
        match across {
            Across::Items => 8 * LANES,
            _ => TILE,
        }
    }

    /// The longest segment, as many turns as a device lets an invocation's loops make.
    fn longest(&self, across: Across) -> u64 {
        let turns = self.caps.loop_iterations / 16 * 15 / (self.units() + 9);
        let unit = Walks::unit(across);
        let items = match across {
            Across::Items => turns.saturating_mul(8 * LANES),
            _ => turns.saturating_mul(8),
        };
        (items / unit * unit).clamp(unit, 1 << 31)
    }

    /// The fewest segments there can be.
    pub fn fewest(&self, across: Across) -> u64 {
        let longest = self.longest(across);
        let segments = |chunk: &Chunk| chunk.items().div_ceil(longest);
        self.chunks.iter().map(segments).sum()
    }

    /// Segments enough to fill the device, at most so many unless loops would get too long.
    pub fn cut(&self, across: Across, tiles_apart: u64, queries: u64, most: u64) -> Cut {
        let caps = self.caps;
        let groups = match caps.class {
            Class::Cpu => 64,
            _ => 16 * u64::from(caps.fill.max(64)),
        };
        let (wanted, shortest) = match across {
            Across::Queries => (groups.div_ceil(queries.div_ceil(LANES).max(1)), 256),
            Across::Items => (groups.div_ceil(queries.max(1)), 512),
            Across::Segments => (groups.max(256).div_ceil(queries.max(1)), 64),
        };
        let positions: Vec<u64> = self
            .chunks
            .iter()
            .map(|c| c.positions(tiles_apart))
            .collect();
        let all: u64 = positions.iter().sum();
        let unit = Walks::unit(across);
        let longest = self.longest(across);
        let count = |len: u64| positions.iter().map(|n| n.div_ceil(len)).sum::<u64>();
        let wanted = wanted.clamp(1, all.div_ceil(shortest).max(1));
        let mut segment_len = (all.div_ceil(wanted).next_multiple_of(unit)).clamp(unit, longest);
        // Chunks round up each for itself.
        while count(segment_len) > most && segment_len < longest {
            segment_len = (2 * segment_len).min(longest);
        }
        Cut {
            across,
            tiles_apart,
            segment_len,
            segments: count(segment_len),
        }
    }

    /// All segments, in rounds of at most so many.
    pub fn rounds(&self, cut: &Cut, most: u64) -> Vec<Vec<Piece>> {
        let (mut rounds, mut round, mut room) = (Vec::new(), Vec::new(), most);
        for (chunk, codes) in self.chunks.iter().enumerate() {
            let end = codes.positions(cut.tiles_apart).div_ceil(cut.segment_len);
            let mut first = 0;
            while first < end {
                if room == 0 {
                    rounds.push(std::mem::take(&mut round));
                    room = most;
                }
                let segments = first..end.min(first.saturating_add(room));
                room -= segments.end - segments.start;
                first = segments.end;
                round.push(Piece { chunk, segments });
            }
        }
        rounds.push(round);
        rounds
    }

    /// Adds the steps of a walk of some queries over the whole database.
    pub fn all(
        &self,
        builder: &mut Builder,
        batch: &Range<u64>,
        cut: &Cut,
        bounds: Slot,
        take: &Take,
    ) {
        for pieces in self.rounds(cut, u64::MAX) {
            self.steps(builder, batch, cut, &pieces, bounds, take);
        }
    }

    /// Adds the steps of a walk of some queries over pieces of the database.
    pub fn steps(
        &self,
        builder: &mut Builder,
        batch: &Range<u64>,
        cut: &Cut,
        pieces: &[Piece],
        bounds: Slot,
        take: &Take,
    ) {
        let search = self.search;
        let shape = &search.shape;
        let words_len = shape.words();
        let queries = batch.end - batch.start;
        let per_unit = self.per_unit() as u32;
        let row = |slot, stride| Rows {
            slot,
            dtype: Dtype::U32,
            stride,
        };
        let (query_bind, query_base) = local(&row(Slot::Input(0), words_len), batch, false);
        let mut params = WalkParams {
            units: self.units() as u32,
            last: bits::last_mask(shape.bits),
            query_offset: query_base / per_unit,
            queries: queries as u32,
            first_query: batch.start as u32,
            tiles_apart: cut.tiles_apart as u32,
            segment_len: cut.segment_len as u32,
            ..WalkParams::default()
        };
        let own = own_binds(take, &mut params, queries);
        let filter_words = shape.items.div_ceil(32);
        let ranges = search
            .ranges()
            .map(|slot| local(&row(slot, 2), batch, false));
        params.ranges_offset = ranges.as_ref().map_or(0, |(_, base)| *base);
        let kernel = self.kernel(cut.across, take);
        let mut first_segment = 0;
        for Piece { chunk, segments } in pieces {
            let Some(chunk) = self.chunks.get(*chunk) else {
                continue;
            };
            let codes = row(chunk.slot, words_len);
            let (database, base) = local(&codes, &chunk.rows, false);
            params.database_offset = base / per_unit;
            params.items = chunk.items() as u32;
            params.first_item = chunk.first as u32;
            params.positions = chunk.positions(cut.tiles_apart) as u32;
            params.begin_segment = segments.start as u32;
            params.end_segment = segments.end as u32;
            // Wraps: segments of the chunk are counted from its first one.
            params.first_segment = (first_segment as u32).wrapping_sub(params.begin_segment);
            let segments = segments.end - segments.start;
            first_segment += segments;
            let filter = search.filter().map(|slot| match search.allowed.filter {
                Filter::PerQuery => {
                    params.filter_stride = filter_words as u32;
                    local(&row(slot, filter_words), batch, false)
                }
                _ => {
                    // Words that hold the chunk's bits, counted from the first of all.
                    let words = chunk.first / 32..(chunk.first + chunk.items()).div_ceil(32);
                    row(slot, 1).bind(&words, false)
                }
            });
            params.filter_offset = filter.as_ref().map_or(0, |(_, base)| *base);
            let mut bind = vec![query_bind.clone(), database, words(bounds, queries, false)];
            bind.extend(own.iter().cloned());
            bind.extend(filter.map(|(bind, _)| bind));
            bind.extend(ranges.clone().map(|(bind, _)| bind));
            let lanes = match cut.across {
                Across::Items => 1,
                _ => LANES,
            };
            let groups = match cut.across {
                Across::Queries => segments * queries.div_ceil(LANES),
                Across::Items => segments * queries,
                Across::Segments => segments.div_ceil(LANES) * queries,
            };
            let pair_ms = 8.0 * words_len as f64 / (self.caps.gflops * 1e6);
            let group_ms = (lanes * cut.segment_len) as f64 * pair_ms;
            for groups in dispatches(0..groups, group_ms, self.caps) {
                params.first = groups.start as u32;
                params.groups = (groups.end - groups.start) as u32;
                builder.steps.push(Step {
                    kernel: kernel.clone(),
                    bind: bind.clone(),
                    params: bytes_of(&params).to_vec(),
                    groups: params.groups.into(),
                    predicted_ms: group_ms * f64::from(params.groups),
                });
            }
        }
    }

    fn kernel(&self, across: Across, take: &Take) -> std::sync::Arc<crate::gpu::Kernel> {
        let (name, own) = match take {
            Take::Count { .. } => ("hamming/histogram", part!("hamming/histogram.wgsl")),
            Take::Append { .. } => ("hamming/append", part!("hamming/append.wgsl")),
            Take::Select { .. } => ("hamming/select", part!("hamming/select.wgsl")),
        };
        let Allowed {
            filter,
            ranges,
            exclude_self,
        } = self.search.allowed;
        let unit = match self.per_unit() {
            4 => part!("hamming/unit_4.wgsl"),
            2 => part!("hamming/unit_2.wgsl"),
            _ => part!("hamming/unit_1.wgsl"),
        };
        let filter = match filter {
            Filter::None => part!("hamming/filter_none.wgsl"),
            _ => part!("hamming/filter_bits.wgsl"),
        };
        let ranges = match ranges {
            false => part!("hamming/ranges_none.wgsl"),
            true => part!("hamming/ranges_given.wgsl"),
        };
        let across = match across {
            Across::Queries => 0u32,
            Across::Items => 1,
            Across::Segments => 2,
        };
        let spec = Spec::default()
            .with("ACROSS", across)
            .with("EXCLUDE_SELF", exclude_self);
        let parts = vec![
            own,
            part!("hamming/walk.wgsl"),
            unit,
            filter,
            ranges,
            part!("common/grid.wgsl"),
        ];
        kernel(name, parts, spec, WalkParams::FIELDS)
    }
}

/// The bindings of an epilogue; its parameters go with the others.
fn own_binds(take: &Take, params: &mut WalkParams, queries: u64) -> Vec<Bind> {
    let mut stride = |[query, segment, bin]: [u64; 3]| {
        params.query_stride = query as u32;
        params.segment_stride = segment as u32;
        params.bin_stride = bin as u32;
    };
    match take {
        Take::Count {
            table,
            offset,
            strides,
        } => {
            stride(*strides);
            params.table_offset = *offset;
            vec![table.clone()]
        }
        Take::Append {
            counters,
            lists,
            cap,
        } => {
            params.limit = *cap as u32;
            vec![
                words(*counters, queries, true),
                words(*lists, 2 * cap * queries, true),
            ]
        }
        Take::Select {
            places,
            strides,
            out: [(distance, base), (index, _)],
            out_stride,
            limit,
        } => {
            stride(*strides);
            params.limit = *limit;
            params.out_offset = *base;
            params.out_stride = *out_stride as u32;
            vec![places.clone(), distance.clone(), index.clone()]
        }
    }
}

/// Some rows, and the offset in elements for indices counted from the first of them.
pub(super) fn local(rows: &Rows, range: &Range<u64>, write: bool) -> (Bind, u32) {
    let (bind, offset) = rows.bind(range, write);
    let first = (range.start * rows.stride as u64) as u32;
    (bind, offset.wrapping_add(first))
}
