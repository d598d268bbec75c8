//! The small steps between the walks of a search: bounds, counts, where rows and distances start, sorted lists.

use std::{ops::Range, sync::Arc};

use bytemuck::{NoUninit, bytes_of};

use crate::{
    gpu::{Caps, Field, Kernel, Needs, Part, Spec, params, part},
    plan::{Bind, Builder, Slot, Step},
    rows::dispatches,
};

params! {
    /// Parameters of `bounds`.
    BoundsParams {
        offset: u32,
        most: u32,
        queries: u32,
        groups: u32,
    }
}

params! {
    /// Parameters of `clear`.
    ClearParams {
        bins: u32,
        columns: u32,
        queries: u32,
        groups: u32,
    }
}

params! {
    /// Parameters of `sums`.
    SumsParams {
        bins: u32,
        columns: u32,
        queries: u32,
        first: u32,
        groups: u32,
    }
}

params! {
    /// Parameters of `offsets`.
    OffsetsParams {
        bins: u32,
        queries: u32,
        k: u32,
        counts_offset: u32,
        groups: u32,
    }
}

params! {
    /// Parameters of `places`.
    PlacesParams {
        bins: u32,
        columns: u32,
        queries: u32,
        rows_offset: u32,
        first: u32,
        groups: u32,
    }
}

params! {
    /// Parameters of `select_short`.
    ShortParams {
        queries: u32,
        cap: u32,
        k: u32,
        out_offset: u32,
        first: u32,
        groups: u32,
    }
}

params! {
    /// Parameters of `row_blocks` and `row_offsets`.
    RowsParams {
        queries: u32,
        block: u32,
        blocks: u32,
        groups: u32,
    }
}

/// Words of a slot from its start.
pub(super) fn words(slot: Slot, words: u64, write: bool) -> Bind {
    let bytes = 0..4 * words.max(1);
    Bind { slot, bytes, write }
}

/// A kernel of 64 lanes without workgroup memory.
pub(super) fn kernel(
    name: &'static str,
    parts: Vec<Part>,
    spec: Spec,
    params: &'static [Field],
) -> Arc<Kernel> {
    Arc::new(Kernel {
        name,
        parts,
        spec,
        needs: Needs::default(),
        params,
        workgroup: [64, 1, 1],
        workgroup_bytes: 0,
    })
}

/// Counts by distance and segment: what a walk that selects needs of its queries.
#[derive(Clone, Copy, Debug)]
pub(super) struct Table {
    /// `[bins, segments, queries]`.
    pub counts: Slot,
    /// `[bins, queries]`.
    pub sums: Slot,
    /// `[queries]`: distances below are wanted.
    pub bounds: Slot,
    pub bins: u64,
    pub segments: u64,
    pub queries: u64,
}

impl Table {
    /// Counters of one distance.
    pub fn columns(&self) -> u64 {
        self.segments * self.queries
    }

    fn bind(&self, write: bool) -> Bind {
        words(self.counts, self.bins * self.columns(), write)
    }

    /// Strides of queries, segments and distances. One bin counts all distances.
    pub fn strides(&self) -> [u64; 3] {
        let bin = if self.bins == 1 { 0 } else { self.columns() };
        [1, self.queries, bin]
    }

    /// The counters as a walk binds them.
    pub fn counters(&self) -> Bind {
        self.bind(true)
    }
}

/// Where bounds come from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Rule {
    /// A radius to each query, at most so much.
    Radius(u32),
    /// Queries of which more items than this were counted.
    Overflow(u32),
    /// All queries, where the rows together hold at most so many.
    Capacity(u32),
}

/// Steps of one builder for one device.
pub(super) struct Steps<'a> {
    pub builder: &'a mut Builder,
    pub caps: &'a Caps,
}

impl Steps<'_> {
    /// A step of few invocations, so many words read and written by each.
    fn push<P: NoUninit>(
        &mut self,
        kernel: Arc<Kernel>,
        bind: Vec<Bind>,
        params: P,
        groups: u64,
        turns: u64,
    ) {
        self.builder.steps.push(Step {
            kernel,
            bind,
            params: bytes_of(&params).to_vec(),
            groups,
            predicted_ms: self.ms(groups, turns),
        });
    }

    fn ms(&self, groups: u64, turns: u64) -> f64 {
        64.0 * 16.0 * groups as f64 * turns as f64 / (self.caps.gflops * 1e6)
    }

    /// Bounds by a rule.
    pub fn bounds(&mut self, rule: Rule, (given, offset): (Bind, u32), bounds: Slot, queries: u64) {
        let (part, most) = match rule {
            Rule::Radius(most) => (part!("hamming/bound_radius.wgsl"), most),
            Rule::Overflow(most) => (part!("hamming/bound_overflow.wgsl"), most),
            Rule::Capacity(most) => (part!("hamming/bound_capacity.wgsl"), most),
        };
        let params = BoundsParams {
            offset,
            most,
            queries: queries as u32,
            groups: queries.div_ceil(64) as u32,
        };
        let parts = vec![
            part!("hamming/bounds.wgsl"),
            part,
            part!("common/grid.wgsl"),
        ];
        let kernel = kernel(
            "hamming/bounds",
            parts,
            Spec::default(),
            BoundsParams::FIELDS,
        );
        let bind = vec![given, words(bounds, queries, true)];
        self.push(kernel, bind, params, params.groups.into(), 2);
    }

    /// Zeros for the counters.
    pub fn clear(&mut self, table: &Table) {
        let params = ClearParams {
            bins: table.bins as u32,
            columns: table.columns() as u32,
            queries: table.queries as u32,
            groups: table.columns().div_ceil(64) as u32,
        };
        let parts = vec![part!("hamming/clear.wgsl"), part!("common/grid.wgsl")];
        let kernel = kernel("hamming/clear", parts, Spec::default(), ClearParams::FIELDS);
        let bind = vec![words(table.bounds, table.queries, false), table.bind(true)];
        self.push(kernel, bind, params, params.groups.into(), table.bins);
    }

    /// Sums of the counters over segments.
    pub fn sums(&mut self, table: &Table) {
        let parts = vec![part!("hamming/sums.wgsl"), part!("common/grid.wgsl")];
        let kernel = kernel("hamming/sums", parts, Spec::default(), SumsParams::FIELDS);
        for groups in self.bins(table) {
            let params = SumsParams {
                bins: table.bins as u32,
                columns: table.columns() as u32,
                queries: table.queries as u32,
                first: groups.start as u32,
                groups: (groups.end - groups.start) as u32,
            };
            let bind = vec![
                words(table.bounds, table.queries, false),
                table.bind(false),
                words(table.sums, table.bins * table.queries, true),
            ];
            self.push(
                kernel.clone(),
                bind,
                params,
                params.groups.into(),
                table.segments,
            );
        }
    }

    /// Where distances start, in place of the sums; how many items there are, `counts` from an element on; and bounds lowered to
    /// what k items need.
    pub fn offsets(&mut self, table: &Table, (counts, counts_offset): (Bind, u32), k: u32) {
        let params = OffsetsParams {
            bins: table.bins as u32,
            queries: table.queries as u32,
            k,
            counts_offset,
            groups: table.queries.div_ceil(64) as u32,
        };
        let parts = vec![part!("hamming/offsets.wgsl"), part!("common/grid.wgsl")];
        let kernel = kernel(
            "hamming/offsets",
            parts,
            Spec::default(),
            OffsetsParams::FIELDS,
        );
        let bind = vec![
            words(table.sums, table.bins * table.queries, true),
            words(table.bounds, table.queries, true),
            counts,
        ];
        self.push(kernel, bind, params, params.groups.into(), table.bins);
    }

    /// Where each segment's items of each distance go, in place of the counters: in rows of their own, or after the starts of rows.
    /// The sums become where those of later segments go.
    pub fn places(&mut self, table: &Table, rows: Option<(Bind, u32)>) {
        let base = match rows {
            None => part!("hamming/base_none.wgsl"),
            Some(_) => part!("hamming/base_rows.wgsl"),
        };
        let parts = vec![
            part!("hamming/places.wgsl"),
            base,
            part!("common/grid.wgsl"),
        ];
        let kernel = kernel(
            "hamming/places",
            parts,
            Spec::default(),
            PlacesParams::FIELDS,
        );
        for groups in self.bins(table) {
            let params = PlacesParams {
                bins: table.bins as u32,
                columns: table.columns() as u32,
                queries: table.queries as u32,
                rows_offset: rows.as_ref().map_or(0, |rows| rows.1),
                first: groups.start as u32,
                groups: (groups.end - groups.start) as u32,
            };
            let mut bind = vec![
                words(table.bounds, table.queries, false),
                words(table.sums, table.bins * table.queries, true),
                table.bind(true),
            ];
            bind.extend(rows.clone().map(|rows| rows.0));
            self.push(
                kernel.clone(),
                bind,
                params,
                params.groups.into(),
                2 * table.segments,
            );
        }
    }

    /// The groups that have a lane for every bin of every query, in dispatches.
    fn bins(&self, table: &Table) -> Vec<Range<u64>> {
        let groups = (table.bins * table.queries).div_ceil(64);
        dispatches(0..groups, self.ms(1, table.segments), self.caps).collect()
    }

    /// The k first of lists of at most `cap` pairs.
    pub fn short(
        &mut self,
        [counters, lists]: [Slot; 2],
        cap: u64,
        queries: u64,
        k: u64,
        out: [(Bind, u32); 2],
    ) {
        let [(distance, out_offset), (index, _)] = out;
        let parts = vec![
            part!("hamming/select_short.wgsl"),
            part!("common/grid.wgsl"),
        ];
        let kernel = kernel(
            "hamming/select_short",
            parts,
            Spec::default(),
            ShortParams::FIELDS,
        );
        let groups = queries * cap.div_ceil(64);
        // Lists are a quarter full.
        for groups in dispatches(0..groups, self.ms(1, cap) / 16.0, self.caps) {
            let params = ShortParams {
                queries: queries as u32,
                cap: cap as u32,
                k: k as u32,
                out_offset,
                first: groups.start as u32,
                groups: (groups.end - groups.start) as u32,
            };
            let bind = vec![
                words(counters, queries, false),
                words(lists, 2 * cap * queries, false),
                distance.clone(),
                index.clone(),
            ];
            self.push(
                kernel.clone(),
                bind,
                params,
                params.groups.into(),
                cap.div_ceil(16),
            );
        }
    }

    /// Where rows start, from their lengths.
    pub fn row_offsets(&mut self, counts: Slot, row_offsets: Slot, queries: u64) {
        let block = queries.isqrt().max(64);
        let blocks = queries.div_ceil(block);
        let sums = self.builder.add_scratch(4 * blocks);
        let params = RowsParams {
            queries: queries as u32,
            block: block as u32,
            blocks: blocks as u32,
            groups: blocks.div_ceil(64) as u32,
        };
        let saturating = part!("hamming/saturating.wgsl");
        let kernel = |name, own| {
            let parts = vec![own, saturating, part!("common/grid.wgsl")];
            kernel(name, parts, Spec::default(), RowsParams::FIELDS)
        };
        let counts = words(counts, queries, false);
        let bind = vec![counts.clone(), words(sums, blocks, true)];
        let first = kernel("hamming/row_blocks", part!("hamming/row_blocks.wgsl"));
        self.push(first, bind, params, params.groups.into(), block);
        let bind = vec![
            counts,
            words(sums, blocks, false),
            words(row_offsets, queries + 1, true),
        ];
        let second = kernel("hamming/row_offsets", part!("hamming/row_offsets.wgsl"));
        self.push(second, bind, params, params.groups.into(), 3 * block);
    }
}
