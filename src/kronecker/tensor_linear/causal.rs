//! Steps where queries see earlier keys only: sums of chunks, sums of what is before each, and a scan of each chunk's tokens.
//!
//! States are functions of two kinds of rows, features and values, and every result is a sum over one kind's columns that keeps
//! the other's: one set of kernels serves both ways round. Windows are never made by subtraction: a chunk sees of the run of
//! chunks before its own a suffix sum, of its own run a prefix sum, and of the one chunk that leaves its window a suffix again.

use std::ops::Range;

use super::{
    batch::Batch,
    kernels::{self, Params, Scan},
    plan::{Ends, Planner, table},
};
use crate::{
    plan::{Bind, Builder, Slot},
    rows::Sum,
};

impl Planner<'_> {
    /// Chunks of a head, a whole number of runs.
    pub fn chunks(&self) -> u64 {
        let chunks = self.most_tokens().div_ceil(self.chunk());
        chunks.next_multiple_of(self.run())
    }

    /// Chunks of a run, where sums are of all chunks before.
    pub fn run(&self) -> u64 {
        let chunks = self.most_tokens().div_ceil(self.chunk());
        let all = (0..self.shape.sets()).any(|set| self.window_chunks(set) == 0);
        match all {
            true => (chunks.isqrt()).clamp(1, 64),
            false => 1,
        }
    }

    /// A set's window in chunks, 0 where there is none.
    fn window_chunks(&self, set: usize) -> u64 {
        self.shape.window(self.form.mask, set).unwrap_or(0) as u64 / self.chunk()
    }

    /// Whether any set has a window.
    fn windows(&self) -> bool {
        (0..self.shape.sets()).any(|set| self.window_chunks(set) > 0)
    }
}

/// Rows of one kind: of the keys of all sets, of queries, and their width.
#[derive(Clone, Copy)]
struct Side {
    keys: Slot,
    queries: Slot,
    width: u64,
}

/// Rows that are summed over, rows that are kept, and a range of the latter's vectors.
#[derive(Clone)]
struct Way {
    x: Side,
    y: Side,
    quads: Range<u64>,
}

impl Batch<'_> {
    fn features(&self) -> Side {
        Side {
            keys: self.space.keys,
            queries: self.space.queries,
            width: self.planner.inner(),
        }
    }

    /// Values, and what the gradients of outputs are made of.
    fn values(&self) -> Side {
        Side {
            keys: self.space.values,
            queries: self.space.slopes,
            width: self.planner.outer(),
        }
    }

    /// Ranges of vectors of Y whose sums of chunks fit, an even number of them each.
    fn ways(&self, x: Side, y: Side) -> Vec<Way> {
        let planner = self.planner;
        let each = 4 * planner.sets() * self.count() * planner.chunks() * x.width;
        let most = (self.space.chunk_numbers / each.max(1) / 2 * 2).max(2);
        let end = y.width / 4;
        let starts = (0..end).step_by(most as usize);
        let ranges = starts.map(|first| first..end.min(first + most));
        ranges.map(|quads| Way { x, y, quads }).collect()
    }

    fn params(&self, way: &Way) -> Params {
        let planner = self.planner;
        Params {
            inner: way.x.width as u32,
            outer: way.y.width as u32,
            quad: way.quads.start as u32,
            quads: (way.quads.end - way.quads.start) as u32,
            heads: self.count() as u32,
            group: planner.group() as u32,
            tokens: planner.most_tokens() as u32,
            queries: planner.shape.queries as u32,
            offset: (planner.most_tokens() - planner.queries()) as u32,
            parts: planner.chunks() as u32,
            span: planner.chunk() as u32,
            sets: planner.sets() as u32,
            ..Params::default()
        }
    }

    /// Vectors of the sums of a head's chunks, in all sets.
    fn cells(&self, way: &Way) -> u64 {
        way.x.width * (way.quads.end - way.quads.start)
    }

    fn sums_bind(&self, slot: Slot, way: &Way, write: bool) -> Bind {
        let planner = self.planner;
        let chunks = planner.sets() * self.count() * planner.chunks();
        self.held(slot, 4 * chunks * self.cells(way), write)
    }

    fn keys_bind(&self, slot: Slot, side: Side, write: bool) -> Bind {
        let rows = self.planner.sets() * self.count() * self.planner.most_tokens();
        self.held(slot, rows * side.width, write)
    }

    fn queries_bind(&self, slot: Slot, side: Side, write: bool) -> Bind {
        self.held(slot, self.rows(None) * side.width, write)
    }

    /// Sums of chunks to sums of what is before them.
    fn prefix(&self, builder: &mut Builder, way: &Way, reverse: bool, into: Slot) {
        let planner = self.planner;
        let (chunks, run) = (planner.chunks(), planner.run());
        let cells = self.cells(way);
        let from = self.space.chunks;
        let all = (0..planner.shape.sets()).any(|set| planner.window_chunks(set) == 0);
        let runs = planner.sets() * self.count() * (chunks / run);
        if all {
            let sum = Sum {
                sums: from,
                sets: runs,
                parts: run,
                block: 4 * cells,
                accumulate: false,
            };
            sum.step(builder, planner.caps, 0..4 * cells, self.space.runs);
        }
        for set in 0..planner.shape.sets() {
            let window = planner.window_chunks(set);
            let span = if window > 0 { window } else { run };
            let params = Params {
                key_set: set as u32,
                window: window as u32,
                span: span as u32,
                ..self.params(way)
            };
            let mut bind = vec![self.sums_bind(from, way, false)];
            if window == 0 {
                bind.push(self.held(self.space.runs, 4 * runs * cells, false));
            }
            bind.push(self.sums_bind(into, way, true));
            let turns = if window > 0 {
                2 * window
            } else {
                run + chunks / run
            };
            let items = self.count() * chunks.div_ceil(span) * cells;
            let kernel = kernels::prefix(window > 0, reverse);
            self.push(builder, kernel, bind, [items, 16 * turns], params);
        }
    }

    /// Sums of what is before every chunk, of all sets.
    fn before(&self, builder: &mut Builder, way: &Way) {
        let planner = self.planner;
        let (chunks, tokens) = (planner.chunks(), planner.most_tokens());
        for set in 0..planner.sets() {
            let row = set * self.count() * tokens;
            let params = Params {
                x_offset: (row * way.x.width / 4) as u32,
                y_offset: (row * way.y.width / 4) as u32,
                out_offset: (set * self.count() * chunks * self.cells(way)) as u32,
                ..self.params(way)
            };
            let bind = vec![
                self.keys_bind(way.x.keys, way.x, false),
                self.keys_bind(way.y.keys, way.y, false),
                self.sums_bind(self.space.chunks, way, true),
            ];
            let items = self.count() * chunks * self.cells(way) / 16;
            let flops = 160 * planner.chunk() + 64;
            self.push(builder, kernels::linear(), bind, [items, flops], params);
        }
        self.prefix(builder, way, false, self.space.before);
    }

    /// Adds the dispatches of a scan, over ranges of X's columns that loops take.
    fn scan(
        &self,
        builder: &mut Builder,
        (what, set, window): (Scan, usize, u64),
        way: &Way,
        heads: u64,
        bind: Vec<Bind>,
    ) {
        let planner = self.planner;
        let (chunk, sets) = (planner.chunk(), planner.sets());
        let windows = planner.windows();
        let kernel = kernels::scan(what, planner.shape.sets(), chunk, windows);
        // Turns of loops for each of X's columns: of the states, and of what is made of them.
        let states = 1 + sets * (1 + if windows { 2 } else { 1 } * (chunk + 1) + chunk);
        let terms = states + (chunk + 1) * (planner.group() + 2);
        let turns = match what {
            Scan::Outputs => states + 2 * chunk,
            Scan::Sums => terms + chunk,
            Scan::Gradients => terms + 2 * chunk,
        };
        let most = (planner.caps.loop_iterations.saturating_sub(4096) / turns).max(1);
        let flops = 8 * chunk * (2 * sets + 2) * if windows { 2 } else { 1 };
        let quads = way.quads.end - way.quads.start;
        let items = heads * planner.chunks() * quads;
        for from in (0..way.x.width).step_by(most.min(way.x.width) as usize) {
            let until = way.x.width.min(from.saturating_add(most));
            let params = Params {
                key_set: set as u32,
                since: from as u32,
                until: until as u32,
                window: window as u32,
                accumulate: u32::from(from > 0 || window > 0),
                ..self.params(way)
            };
            let each = [items, flops * (until - from)];
            self.push(builder, kernel.clone(), bind.clone(), each, params);
        }
    }

    /// What every scan reads.
    fn scan_binds(&self, ends: &Ends, way: &Way) -> Vec<Bind> {
        vec![
            table(ends.windows, self.planner.shape.sets()),
            self.keys_bind(way.x.keys, way.x, false),
            self.keys_bind(way.y.keys, way.y, false),
            self.sums_bind(self.space.before, way, false),
            self.queries_bind(way.x.queries, way.x, false),
        ]
    }

    fn scan_outputs(&self, builder: &mut Builder, ends: &Ends, way: &Way, into: Slot) {
        let mut bind = self.scan_binds(ends, way);
        bind.push(self.queries_bind(into, way.y, true));
        let heads = self.query_heads();
        self.scan(builder, (Scan::Outputs, 0, 0), way, heads, bind);
    }

    /// Gradients of the kept rows of keys.
    fn scan_gradients(&self, builder: &mut Builder, ends: &Ends, way: &Way, into: Slot) {
        let mut bind = self.scan_binds(ends, way);
        bind.push(self.queries_bind(way.y.queries, way.y, false));
        let mut sums = bind.clone();
        sums.push(self.sums_bind(self.space.chunks, way, true));
        let sets = 0..self.planner.shape.sets();
        for set in sets.clone() {
            self.scan(
                builder,
                (Scan::Sums, set, 0),
                way,
                self.count(),
                sums.clone(),
            );
        }
        self.prefix(builder, way, true, self.space.after);
        bind.push(self.sums_bind(self.space.after, way, false));
        bind.push(self.keys_bind(into, way.y, true));
        for set in sets {
            let windows = [0, self.planner.window_chunks(set)];
            // Queries of the window's last chunk are added to those before.
            for window in windows.into_iter().take(1 + usize::from(windows != [0, 0])) {
                let what = (Scan::Gradients, set, window);
                self.scan(builder, what, way, self.count(), bind.clone());
            }
        }
    }

    fn pack_all(&self, builder: &mut Builder, ends: &Ends) {
        for set in 0..self.planner.shape.sets() {
            let at = set as u64 * self.rows(Some(set));
            self.pack_features(builder, ends, Some(set), self.space.keys, at);
            self.pack_values(builder, set, self.space.values, at);
        }
        self.pack_features(builder, ends, None, self.space.queries, 0);
    }

    /// The sums that outputs are made of.
    pub fn scanned_sums(&self, builder: &mut Builder, ends: &Ends) {
        if self.rows(None) == 0 {
            return;
        }
        self.pack_all(builder, ends);
        for way in self.ways(self.features(), self.values()) {
            self.before(builder, &way);
            self.scan_outputs(builder, ends, &way, self.space.sums);
        }
    }

    /// Gradients of queries, keys and values.
    pub fn scanned_gradients(&self, builder: &mut Builder, ends: &Ends) {
        let space = self.space;
        let (features, values) = (self.features(), self.values());
        match self.planner.form.normalize {
            Some(_) => self.scanned_sums(builder, ends),
            None => self.pack_all(builder, ends),
        }
        self.pack_slopes(builder);
        for way in self.ways(features, values) {
            self.before(builder, &way);
            self.scan_gradients(builder, ends, &way, space.value_slopes);
        }
        for way in self.ways(values, features) {
            self.before(builder, &way);
            self.scan_outputs(builder, ends, &way, space.query_slopes);
            self.scan_gradients(builder, ends, &way, space.key_slopes);
        }
        self.unpack_features(builder, ends, None, space.query_slopes, 0);
        for set in 0..self.planner.shape.sets() {
            let at = set as u64 * self.rows(Some(set));
            self.unpack_values(builder, set, at);
            self.unpack_features(builder, ends, Some(set), space.key_slopes, at);
        }
    }
}
