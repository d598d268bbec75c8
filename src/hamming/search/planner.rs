//! The steps of a search, batch of queries by batch.

use std::ops::Range;

use super::{
    Order, Radius, Search,
    tables::{Rule, Steps, Table, words},
    walk::{Across, Cut, Piece, TILE, Take, Walks, local, segments},
};
use crate::{
    Error, Result,
    gpu::{Caps, Class, Dtype},
    plan::{ALIGN, Bind, Builder, Plan, Slot, Work},
    rows::{Rows, fill},
};

/// Pairs of a list.
pub(super) const CAP: u64 = 1024;

/// How a k-nearest-neighbour search goes about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    /// One walk into lists, behind a sample of one of so many tiles.
    Bounded { tiles_apart: u64 },
    /// Two walks, behind a sample where there is one.
    TwoPass { tiles_apart: Option<u64> },
}

/// What lanes differ in, where each must have its items in order and where it need not.
pub(super) fn lanes(search: &Search<'_>, caps: &Caps) -> (Across, Across) {
    let few = match caps.class {
        Class::Cpu => 8,
        _ => 31,
    };
    if search.shape.queries <= few {
        (Across::Segments, Across::Items)
    } else {
        (Across::Queries, Across::Queries)
    }
}

pub(super) fn row(slot: Slot, stride: u64) -> Rows {
    Rows {
        slot,
        dtype: Dtype::U32,
        stride: stride as usize,
    }
}

pub(super) fn largest(batches: &[Range<u64>]) -> u64 {
    batches
        .iter()
        .map(|batch| batch.end - batch.start)
        .max()
        .unwrap_or(0)
}

/// Where pairs are put: rows that start where a tensor says or at their own stride, so many to a row or in all.
struct Put {
    rows: Option<(Bind, u32)>,
    out: [(Bind, u32); 2],
    out_stride: u64,
    limit: u32,
}

/// What adds the steps of a search.
pub(super) struct Planner<'a> {
    search: &'a Search<'a>,
    caps: &'a Caps,
    pub walks: Walks<'a>,
}

impl<'a> Planner<'a> {
    pub fn new(search: &'a Search<'a>, more: usize, caps: &'a Caps) -> Result<Planner<'a>> {
        let walks = Walks::new(search, more, caps)?;
        Ok(Planner {
            search,
            caps,
            walks,
        })
    }

    pub fn on<'b>(&'b self, builder: &'b mut Builder) -> Steps<'b> {
        Steps {
            builder,
            caps: self.caps,
        }
    }

    /// Distances there are.
    pub fn bins(&self) -> u64 {
        self.search.shape.bits as u64 + 1
    }

    /// Bytes that counters may take.
    fn budget(&self) -> u64 {
        self.caps.binding_bytes.min(self.caps.scratch_bytes / 4)
    }

    /// Whether numbers of all queries fit a binding.
    pub fn whole_rows(&self) -> Result<()> {
        let needed = 4 * (self.search.shape.queries as u64 + 1);
        self.fits(needed, needed)
    }

    fn fits(&self, needed: u64, bytes: u64) -> Result<()> {
        if bytes <= self.budget() {
            return Ok(());
        }
        Err(Error::Limit {
            what: "bytes in one binding, for the counts of queries,".into(),
            needed,
            available: self.budget(),
            remedy: "search fewer queries at a time, use fewer bits or a smaller k",
        })
    }

    /// Queries that are searched together, where one takes so many bytes of some binding.
    pub fn batches(&self, query_bytes: u64) -> Result<Vec<Range<u64>>> {
        let shape = &self.search.shape;
        let query_bytes = query_bytes
            .max(4 * shape.words() as u64)
            .max(self.search.filter_row_bytes())
            .max(8);
        self.fits(query_bytes + ALIGN, query_bytes + ALIGN)?;
        let queries = shape.queries as u64;
        let most = (self.budget() - ALIGN) / query_bytes;
        let batches = queries.div_ceil(most).max(1);
        // Of one size, as nearly as can be.
        let len = queries.div_ceil(batches).max(1);
        let ranges = (0..queries).step_by(len as usize);
        Ok(ranges
            .map(|first| first..queries.min(first + len))
            .collect())
    }

    /// Bytes of counters that each query of a batch should have: of all segments, or of as many as lanes take at once.
    fn counter_bytes(&self, bins: u64, owner: Across) -> u64 {
        let fitting = self.budget().saturating_sub(ALIGN) / (4 * bins);
        4 * bins * self.walks.fewest(owner).min(64).min(fitting).max(1)
    }

    /// A table of counters for batches of at most so many queries: of all segments, or of those of a round.
    fn table(&self, builder: &mut Builder, bins: u64, queries: u64, owner: Across) -> (Table, Cut) {
        let most = (self.budget() / (4 * bins * queries.max(1))).max(1);
        let cut = self.walks.cut(owner, 1, queries, most);
        let segments = cut.segments.min(most);
        let table = Table {
            counts: builder.add_scratch(4 * bins * segments * queries),
            sums: builder.add_scratch(4 * bins * queries),
            bounds: builder.add_scratch(4 * queries),
            bins,
            segments,
            queries,
        };
        (table, cut)
    }

    /// The samples to take, by the distance between their tiles: a small one keeps most of a larger one from being counted.
    fn samples(&self, k: u64, scheme: Scheme) -> Vec<u64> {
        let items = self.search.shape.items as u64;
        let (Scheme::Bounded { tiles_apart }
        | Scheme::TwoPass {
            tiles_apart: Some(tiles_apart),
        }) = scheme
        else {
            return Vec::new();
        };
        let small = 16 * tiles_apart;
        let of_use = items >= small * (8 * TILE).max(4 * k);
        [small, tiles_apart]
            .into_iter()
            .skip(usize::from(!of_use))
            .collect()
    }

    pub fn knn(
        &self,
        builder: &mut Builder,
        k: u64,
        scheme: Scheme,
        owner: Across,
        free: Across,
    ) -> Result<()> {
        let bins = self.bins();
        let listed = match scheme {
            Scheme::Bounded { .. } => CAP.min(self.budget() / 16),
            Scheme::TwoPass { .. } => 0,
        };
        let query_bytes = self.counter_bytes(bins, owner).max(4 * k).max(8 * listed);
        let batches = self.batches(query_bytes)?;
        let (whole, cut) = self.table(builder, bins, largest(&batches), owner);
        let counts = builder.add_scratch(4 * whole.queries);
        let lists = (listed > 0)
            .then(|| [4, 8 * listed].map(|bytes| builder.add_scratch(bytes * whole.queries)));
        for batch in batches {
            let queries = batch.end - batch.start;
            let table = Table { queries, ..whole };
            let out = [0, 1].map(|n| local(&row(Slot::Output(n), k), &batch, true));
            fill(builder, self.caps, table.bounds, 0..queries, bins as u32);
            let count = || (words(counts, queries, true), 0);
            let across = match (listed > 0, owner) {
                (true, _) => free,
                (false, Across::Queries) => owner,
                (false, _) => Across::Items,
            };
            for tiles_apart in self.samples(k, scheme) {
                // The k-th smallest distance of a part bounds that of the whole.
                fill(builder, self.caps, table.sums, 0..bins * queries, 0);
                let cut = self.walks.cut(across, tiles_apart, queries, u64::MAX);
                let take = Take::Count {
                    table: words(table.sums, bins * queries, true),
                    offset: 0,
                    strides: [1, 0, queries],
                };
                self.walks.all(builder, &batch, &cut, table.bounds, &take);
                self.on(builder).offsets(&table, count(), k as u32);
            }
            if let Some([counters, lists]) = lists {
                fill(builder, self.caps, counters, 0..queries, 0);
                let cut = self.walks.cut(free, 1, queries, u64::MAX);
                let take = Take::Append {
                    counters,
                    lists,
                    cap: listed,
                };
                self.walks.all(builder, &batch, &cut, table.bounds, &take);
                let mut steps = self.on(builder);
                steps.short([counters, lists], listed, queries, k, out.clone());
                let counted = (words(counters, queries, false), 0);
                steps.bounds(
                    Rule::Overflow(listed as u32),
                    counted,
                    table.bounds,
                    queries,
                );
            }
            self.count_all(builder, &batch, &cut, &table);
            self.on(builder).offsets(&table, count(), k as u32);
            let put = Put {
                rows: None,
                out,
                out_stride: k,
                limit: k as u32,
            };
            self.place_all(builder, &batch, &cut, &table, put);
        }
        Ok(())
    }

    /// Counts the wanted pairs of pieces of the database in their segments.
    fn count_pieces(
        &self,
        builder: &mut Builder,
        batch: &Range<u64>,
        cut: &Cut,
        table: &Table,
        pieces: &[Piece],
    ) {
        self.on(builder).clear(table);
        let take = Take::Count {
            table: table.counters(),
            offset: 0,
            strides: table.strides(),
        };
        self.walks
            .steps(builder, batch, cut, pieces, table.bounds, &take);
    }

    /// Counts every wanted pair, in its segment where the table holds all of them, and the sums over segments.
    fn count_all(&self, builder: &mut Builder, batch: &Range<u64>, cut: &Cut, table: &Table) {
        let words_len = table.bins * table.queries;
        match self.walks.rounds(cut, table.segments).as_slice() {
            [pieces] => {
                let table = Table {
                    segments: segments(pieces),
                    ..*table
                };
                self.count_pieces(builder, batch, cut, &table, pieces);
                self.on(builder).sums(&table);
            }
            _ => {
                fill(builder, self.caps, table.sums, 0..words_len, 0);
                let [query, _, bin] = Table {
                    segments: 1,
                    ..*table
                }
                .strides();
                let take = Take::Count {
                    table: words(table.sums, words_len, true),
                    offset: 0,
                    strides: [query, 0, bin],
                };
                self.walks.all(builder, batch, cut, table.bounds, &take);
            }
        }
    }

    /// Puts every wanted pair where the sums say, round by round.
    fn place_all(
        &self,
        builder: &mut Builder,
        batch: &Range<u64>,
        cut: &Cut,
        table: &Table,
        mut put: Put,
    ) {
        let rounds = self.walks.rounds(cut, table.segments);
        for pieces in &rounds {
            let table = Table {
                segments: segments(pieces),
                ..*table
            };
            if rounds.len() > 1 {
                self.count_pieces(builder, batch, cut, &table, pieces);
            }
            // Once a row has started, its places go on.
            self.on(builder).places(&table, put.rows.take());
            let take = Take::Select {
                places: table.counters(),
                strides: table.strides(),
                out: put.out.clone(),
                out_stride: put.out_stride,
                limit: put.limit,
            };
            self.walks
                .steps(builder, batch, cut, pieces, table.bounds, &take);
        }
    }

    /// The bounds that a radius makes.
    fn within(&self, builder: &mut Builder, radius: Radius, batch: &Range<u64>, bounds: Slot) {
        let (queries, bits) = (batch.end - batch.start, self.search.shape.bits as u32);
        match radius {
            Radius::All(r) => fill(builder, self.caps, bounds, 0..queries, r.min(bits) + 1),
            Radius::PerQuery => {
                let radii = Slot::Input(self.search.first_part(0) as u16);
                let given = local(&row(radii, 1), batch, false);
                self.on(builder)
                    .bounds(Rule::Radius(bits), given, bounds, queries);
            }
        }
    }

    /// How many items each query has within a radius.
    pub fn count(&self, builder: &mut Builder, radius: Radius, counts: Slot) -> Result<()> {
        let (_, free) = lanes(self.search, self.caps);
        fill(
            builder,
            self.caps,
            counts,
            0..self.search.shape.queries as u64,
            0,
        );
        let batches = self.batches(8)?;
        let bounds = builder.add_scratch(4 * largest(&batches));
        for batch in batches {
            let len = batch.end - batch.start;
            self.within(builder, radius, &batch, bounds);
            let cut = self.walks.cut(free, 1, len, u64::MAX);
            let (table, offset) = local(&row(counts, 1), &batch, true);
            let take = Take::Count {
                table,
                offset,
                strides: [1, 0, 0],
            };
            self.walks.all(builder, &batch, &cut, bounds, &take);
        }
        Ok(())
    }

    pub fn radius(
        &self,
        builder: &mut Builder,
        radius: Radius,
        order: Order,
        capacity: u64,
        owner: Across,
    ) -> Result<()> {
        let all = self.search.shape.queries as u64;
        let bins = match (order, radius) {
            (Order::Index, _) => 1,
            (Order::Distance, Radius::All(r)) => {
                u64::from(r.min(self.search.shape.bits as u32)) + 1
            }
            (Order::Distance, Radius::PerQuery) => self.bins(),
        };
        let batches = self.batches(self.counter_bytes(bins, owner))?;
        let (whole, cut) = self.table(builder, bins, largest(&batches), owner);
        let counts = builder.add_scratch(4 * all);
        let total = || local(&row(Slot::Output(0), 1), &(all..all + 1), false);
        // Several batches share the counters: where rows start is found before the first.
        let several = batches.len() > 1;
        if several {
            self.count(builder, radius, counts)?;
            self.on(builder).row_offsets(counts, Slot::Output(0), all);
        }
        for batch in batches {
            let queries = batch.end - batch.start;
            let table = Table { queries, ..whole };
            self.within(builder, radius, &batch, table.bounds);
            self.count_all(builder, &batch, &cut, &table);
            let counted: (Bind, u32) = local(&row(counts, 1), &batch, true);
            self.on(builder).offsets(&table, counted, u32::MAX);
            let mut steps = self.on(builder);
            if !several {
                steps.row_offsets(counts, Slot::Output(0), all);
            }
            // The total is the last of the row offsets.
            steps.bounds(
                Rule::Capacity(capacity as u32),
                total(),
                table.bounds,
                queries,
            );
            let put = Put {
                rows: Some(local(&row(Slot::Output(0), 1), &batch, false)),
                out: [1, 2].map(|n| (words(Slot::Output(n), capacity, true), 0)),
                out_stride: 0,
                limit: capacity as u32,
            };
            self.place_all(builder, &batch, &cut, &table, put);
        }
        Ok(())
    }

    pub fn finish(
        &self,
        builder: Builder,
        op: &'static str,
        label: &str,
        out_bytes: u64,
    ) -> Result<Plan> {
        let shape = &self.search.shape;
        let words = shape.words() as f64;
        let pairs = shape.queries as f64 * shape.items as f64;
        let read = (shape.queries + shape.items) as f64 * 4.0 * words;
        // What the operator needs is one count of each word of each pair, however many passes a plan makes.
        let work = Work {
            popcounts: pairs * words,
            bytes: read + out_bytes as f64,
            ..Work::default()
        };
        let plan = builder.plan(op, label.into(), work);
        plan.check(self.caps)?;
        Ok(plan)
    }
}
