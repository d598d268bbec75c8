//! The full form: rows are summed by code in order of a stable sort, the table goes through the butterfly, readers gather.

use std::ops::Range;

use super::{Call, count, whole, words};
use crate::{
    Error, Result,
    hamming::code_table::{
        kernels::{self, BLOCK, Found, Lanes, Params, Source},
        shape::bit_weights,
    },
    kronecker::butterfly::{Algebra, Factors, Shape as Axis, Stages},
    plan::Slot,
};

/// The most bits that one pass of the sort takes.
const DIGIT: u32 = 9;

/// Temporaries of the sort and of the sums.
struct Scratch {
    ranks: Slot,
    counts: Slot,
    sorted: [Slot; 2],
    order: [Slot; 2],
    parts: Slot,
    table: Slot,
}

/// Items that go into tables: their codes, their rows, and where.
struct Items {
    codes: Slot,
    rows: Slot,
    source: Source,
    /// The lists, counted over the whole tensors; temporaries hold them from their start on.
    lists: Range<u64>,
    /// Where the first list is in `rows`.
    first_row: u64,
    len: u64,
    /// Tables of a list.
    share: u64,
}

/// Those who read tables.
struct Readers {
    codes: Slot,
    lists: Range<u64>,
    len: u64,
    /// Lists that read the same tables, and how many each reads.
    readers: u64,
    span: u64,
}

impl Call<'_> {
    /// Digits of the sort, and the bits of each.
    fn digits(&self) -> (u32, u32) {
        let bits = self.options.bits as u32;
        let digits = bits.div_ceil(DIGIT);
        (digits, bits.div_ceil(digits))
    }

    /// Words of the temporaries of [`Scratch`], in its order, for one list of keys: so many lists of so many items, with as many
    /// tables each.
    fn sort_words(&self, lists: u64, len: u64, share: u64) -> [u64; 8] {
        let blocks = len.div_ceil(BLOCK);
        let items = lists * len;
        let (digits, bits) = self.digits();
        let second = if digits > 1 { items } else { 4 };
        let parts = lists * share * blocks * self.width();
        let table = lists * share * self.table_len();
        let counts = lists * blocks << bits;
        [items, counts, items, second, items, second, parts, table]
    }

    fn sort_scratch(&mut self, each: [u64; 8], lists: u64) -> Scratch {
        let [ranks, counts, a, b, c, d, parts, table] =
            each.map(|words| self.scratch(lists * words));
        Scratch {
            ranks,
            counts,
            sorted: [a, b],
            order: [c, d],
            parts,
            table,
        }
    }

    /// Sorts items by code; the place of the result among the pairs of temporaries.
    fn sort(&mut self, items: &Items, s: &Scratch) -> usize {
        let (digits, bits) = self.digits();
        let lists = count(&items.lists);
        let blocks = items.len.div_ceil(BLOCK);
        let all = lists * items.len;
        let counts = lists * blocks << bits;
        let given = self.piece(items.codes, &items.lists, items.len, false);
        for digit in 0..digits {
            let now = (digit % 2) as usize;
            let [before, after] = [1 - now, now].map(|n| (s.sorted.get(n), s.order.get(n)));
            let (Some(sorted), Some(order)) = after else {
                continue;
            };
            let earlier = before.0.zip(before.1).filter(|_| digit > 0);
            let (codes, codes_offset) = match earlier {
                Some((sorted, _)) => (whole(*sorted, all, false), 0),
                None => (given.bind.clone(), given.offset),
            };
            let params = Params {
                len: items.len as u32,
                lists: lists as u32,
                blocks: blocks as u32,
                bins: 1 << bits,
                shift: digit * bits,
                codes_offset,
                ..self.params(1)
            };
            self.zero(s.counts, counts);
            let ranks = |write| whole(s.ranks, all, write);
            let places = |write| whole(s.counts, counts, write);
            let groups = (lists * blocks * BLOCK).div_ceil(64);
            let binds = vec![codes.clone(), ranks(true), places(true)];
            self.push(kernels::rank(), binds, params, groups, 64.0 * 16.0);
            let each = (blocks << bits) as f64;
            self.push(
                kernels::offsets(),
                vec![places(true)],
                params,
                lists,
                2.0 * each,
            );
            let mut binds = vec![codes, ranks(false), places(false)];
            binds.extend(earlier.map(|(_, order)| whole(*order, all, false)));
            binds.extend([sorted, order].map(|slot| whole(*slot, all, true)));
            let kernel = kernels::move_items(earlier.is_none());
            self.push(kernel, binds, params, groups, 64.0 * 6.0);
        }
        (digits as usize + 1) % 2
    }

    /// Sorts items and sums their rows into tables, which then go through the butterfly.
    fn tables(&mut self, items: &Items, s: &Scratch, factors: Slot, sets: u64) -> Result<()> {
        let found = self.sort(items, s);
        let lists = count(&items.lists);
        let tables = lists * items.share;
        let blocks = items.len.div_ceil(BLOCK);
        let all = lists * items.len;
        let parts_len = tables * blocks * self.width();
        let table_len = tables * self.table_len();
        self.zero(s.table, table_len);
        let width = items.source.width(self.shape.value);
        let of_rows = items.lists.start - items.first_row..items.lists.end - items.first_row;
        let rows = self.piece(items.rows, &of_rows, items.len * width, false);
        let (Some(sorted), Some(order)) = (s.sorted.get(found), s.order.get(found)) else {
            return Ok(());
        };
        let lanes = Lanes::new(self.shape.value + 1);
        let params = Params {
            len: items.len as u32,
            lists: lists as u32,
            share: items.share as u32,
            blocks: blocks as u32,
            rows_offset: rows.offset,
            ..self.params(1)
        };
        let groups = (tables * blocks).div_ceil(lanes.rows());
        let sorted = whole(*sorted, all, false);
        let binds = vec![
            rows.bind,
            sorted.clone(),
            whole(*order, all, false),
            whole(s.table, table_len, true),
            whole(s.parts, parts_len, true),
        ];
        let elements = (BLOCK * lanes.rows() * self.width()) as f64;
        let kernel = kernels::sum(items.source, &lanes);
        self.push(kernel, binds, params, groups, elements);
        if blocks > 1 {
            let binds = vec![
                sorted,
                whole(s.table, table_len, true),
                whole(s.parts, parts_len, false),
            ];
            // Where one code has all items, one group joins all parts.
            let elements = (2 * lanes.rows() * self.width() + blocks / 4) as f64;
            self.push(kernels::join(&lanes), binds, params, groups, elements);
        }
        let stages = Stages {
            shape: Axis {
                outer: tables as usize,
                bits: self.options.bits,
                inner: self.width() as usize,
            },
            algebra: Algebra::Real,
            sets: if sets == 1 {
                Factors::Shared
            } else {
                Factors::PerOuter
            },
            first: (items.lists.start * items.share) as usize,
            factors,
            source: None,
            items: s.table,
        };
        stages.steps(&mut self.builder, self.caps)
    }

    /// The 2 x 2 factors of every table, or of one where all are equal.
    fn factors(&mut self, tables: u64) -> (Slot, u64) {
        let sets = self.sets(tables);
        let round = if sets == 1 { 1 } else { self.shape.batch };
        let factor = |beta: &f64| {
            let [equal, differing] = bit_weights(*beta);
            [equal, differing, differing, equal]
        };
        let betas = self.betas(tables);
        let one: Vec<f64> = betas.iter().flatten().flat_map(factor).collect();
        (self.builder.add_table(words(one.repeat(round))), sets)
    }

    /// Gathers from the tables of a batch into some lists of a tensor.
    fn gather(&mut self, readers: &Readers, found: Found, s: &Scratch, out: Slot, first_out: u64) {
        let lists = count(&readers.lists);
        let tables = lists / readers.readers * readers.span;
        let columns = match found {
            Found::Sums => self.width(),
            _ => self.shape.value as u64,
        };
        let lanes = Lanes::new(columns as usize);
        let codes = self.piece(readers.codes, &readers.lists, readers.len, false);
        let of_out = readers.lists.start - first_out..readers.lists.end - first_out;
        let out = self.piece(out, &of_out, readers.len * columns, true);
        let params = Params {
            len: readers.len as u32,
            lists: lists as u32,
            readers: readers.readers as u32,
            span: readers.span as u32,
            codes_offset: codes.offset,
            out_offset: out.offset,
            ..self.params(1)
        };
        let table = whole(s.table, tables * self.table_len(), false);
        let groups = (lists * readers.len).div_ceil(lanes.rows());
        let elements = (lanes.rows() * columns * 2 * readers.span) as f64;
        let binds = vec![codes.bind, table, out.bind];
        self.push(
            kernels::gather(found, &lanes),
            binds,
            params,
            groups,
            elements,
        );
    }

    /// What the full form may not exceed on a device whose loops end early.
    fn check_blocks(&self, len: u64) -> Result<()> {
        let (_, bits) = self.digits();
        let blocks = len.div_ceil(BLOCK);
        let turns = (2 * blocks + 2) * (1u64 << bits).div_ceil(256) + 256;
        if turns > self.caps.loop_iterations {
            return Err(Error::Limit {
                what: "items of one list, in blocks,".into(),
                needed: blocks,
                available: self.caps.loop_iterations / 2 / (1u64 << bits).div_ceil(256),
                remedy: "use fewer tokens",
            });
        }
        Ok(())
    }

    pub fn full(&mut self) -> Result<String> {
        let (queries, keys) = (self.queries(), self.keys());
        if self.shape.query_len() == 0 {
            return Ok("nothing to do".into());
        }
        if keys == 0 {
            self.zero(Slot::Output(0), self.shape.output_len() as u64);
            return Ok("no keys".into());
        }
        self.check_blocks(keys)?;
        let value = self.shape.value as u64;
        let each = self.sort_words(1, keys, self.share);
        let bound = [keys * value, self.group * queries * value];
        let batches = self.batches(&bound, &each)?;
        let most = batches.first().map_or(0, count);
        let s = self.sort_scratch(each, most);
        let (factors, sets) = self.factors(self.share);
        for lists in &batches {
            let items = Items {
                codes: Slot::Input(1),
                rows: Slot::Input(2),
                source: Source::Values,
                lists: lists.clone(),
                first_row: 0,
                len: keys,
                share: self.share,
            };
            self.tables(&items, &s, factors, sets)?;
            let readers = self.query_readers(lists);
            self.gather(&readers, Found::Mean, &s, Slot::Output(0), 0);
        }
        Ok(format!("table of 2^{}", self.options.bits))
    }

    fn query_readers(&self, lists: &Range<u64>) -> Readers {
        Readers {
            codes: Slot::Input(0),
            lists: Self::times(lists, self.group),
            len: self.queries(),
            readers: self.group / self.share,
            span: 1,
        }
    }

    pub fn full_gradients(&mut self) -> Result<String> {
        let (queries, keys) = (self.queries(), self.keys());
        let (bits, width) = (self.options.bits as u64, self.width());
        let [to_queries, to_keys, to_values] = [0, 1, 2].map(Slot::Output);
        if self.shape.query_len() == 0 || keys == 0 {
            self.zero(to_queries, self.shape.query_len() as u64 * bits);
            self.zero(to_keys, self.shape.key_len() as u64 * bits);
            self.zero(to_values, self.shape.value_len() as u64);
            return Ok("nothing to do".into());
        }
        // Where heads share tables, their queries are one list.
        let (list_of, merged) = (self.share, self.group / self.share);
        self.check_blocks(keys.max(merged * queries))?;
        let of_keys = self.sort_words(1, keys, self.share);
        let of_queries = self.sort_words(list_of, merged * queries, 1);
        let mut each = of_keys;
        for (each, other) in each.iter_mut().zip(of_queries) {
            *each = other.max(*each);
        }
        let rows = self.group * queries * width;
        let products = (self.group * queries).max(self.share * keys) * (bits + 1);
        let value = self.shape.value as u64;
        let bound = [keys * value, self.group * queries * value];
        let scratch: Vec<u64> = each.into_iter().chain([rows, products]).collect();
        let batches = self.batches(&bound, &scratch)?;
        let most = batches.first().map_or(0, count);
        let s = self.sort_scratch(each, most);
        let [rows, products] = [rows, products].map(|words| self.scratch(most * words));
        let (factors, sets) = self.factors(self.share);
        let slopes = self.slope_factors();
        for lists in &batches {
            let queries_of = Self::times(lists, self.group);
            let items = Items {
                codes: Slot::Input(1),
                rows: Slot::Input(2),
                source: Source::Values,
                lists: lists.clone(),
                first_row: 0,
                len: keys,
                share: self.share,
            };
            self.tables(&items, &s, factors, sets)?;
            let readers = self.query_readers(lists);
            self.gather(&readers, Found::Sums, &s, rows, queries_of.start);
            self.terms(&queries_of, 0..queries, rows, queries_of.start);
            let own = (Source::Terms, rows, queries_of.start);
            self.slopes(&readers, own, &s, products, slopes, to_queries);
            let items = Items {
                codes: Slot::Input(0),
                rows,
                source: Source::Terms,
                lists: Self::times(lists, list_of),
                first_row: lists.start * list_of,
                len: merged * queries,
                share: 1,
            };
            self.tables(&items, &s, factors, sets)?;
            let readers = Readers {
                codes: Slot::Input(1),
                lists: lists.clone(),
                len: keys,
                readers: 1,
                span: self.share,
            };
            self.gather(&readers, Found::Total, &s, to_values, 0);
            let own = (Source::Values, Slot::Input(2), 0);
            self.slopes(&readers, own, &s, products, slopes, to_keys);
        }
        Ok(format!("tables of 2^{}", self.options.bits))
    }

    /// β coth 2β and β / sinh 2β of every bit, for every set of factors; 1/2 each at 0.
    fn slope_factors(&mut self) -> Slot {
        let pair = |beta: &f64| {
            if beta.abs() < 1e-9 {
                return [0.5, 0.5];
            }
            [beta / (2.0 * beta).tanh(), beta / (2.0 * beta).sinh()]
        };
        let factors = self.betas(self.share);
        let factors = words(factors.iter().flatten().flat_map(pair));
        self.builder.add_table(factors)
    }

    /// Gradients of the readers' codes.
    fn slopes(
        &mut self,
        readers: &Readers,
        (source, own, first_own): (Source, Slot, u64),
        s: &Scratch,
        products: Slot,
        factors: Slot,
        out: Slot,
    ) {
        let bits = self.options.bits as u64;
        let lists = count(&readers.lists);
        let tables = lists / readers.readers * readers.span;
        let sets = self.sets(self.share);
        let of_own = readers.lists.start - first_own..readers.lists.end - first_own;
        let width = source.width(self.shape.value);
        let own = self.piece(own, &of_own, readers.len * width, false);
        let codes = self.piece(readers.codes, &readers.lists, readers.len, false);
        let out = self.piece(out, &readers.lists, readers.len * bits, true);
        let params = Params {
            len: readers.len as u32,
            lists: lists as u32,
            readers: readers.readers as u32,
            span: readers.span as u32,
            codes_offset: codes.offset,
            own_offset: own.offset,
            out_offset: out.offset,
            first_table: (readers.lists.start / readers.readers * readers.span) as u32,
            ..self.params(sets)
        };
        let table = whole(s.table, tables * self.table_len(), false);
        let all = lists * readers.span * readers.len * (bits + 1);
        let binds = vec![
            own.bind,
            codes.bind.clone(),
            table,
            whole(products, all, true),
        ];
        let elements = (64 * 2 * self.width()) as f64;
        self.push(
            kernels::flip(source),
            binds,
            params,
            all.div_ceil(64),
            elements,
        );
        let factors_len = sets * bits * 2;
        let binds = vec![
            whole(products, all, false),
            whole(factors, factors_len, false),
            codes.bind,
            out.bind,
        ];
        let groups = (lists * readers.len * bits).div_ceil(64);
        let elements = (64 * 4 * readers.span) as f64;
        self.push(kernels::slopes(), binds, params, groups, elements);
    }

    /// Turns sums of some queries of each list into the terms of their gradients, in place.
    pub(super) fn terms(
        &mut self,
        lists: &Range<u64>,
        tokens: Range<u64>,
        rows: Slot,
        first_row: u64,
    ) {
        let value = self.shape.value as u64;
        let queries = self.queries();
        let grad = self.piece(Slot::Input(3), lists, queries * value, false);
        let of_rows = lists.start - first_row..lists.end - first_row;
        let sums = self.piece(rows, &of_rows, queries * (value + 1), true);
        let params = Params {
            len: queries as u32,
            lists: count(lists) as u32,
            begin: tokens.start as u32,
            end: tokens.end as u32,
            own_offset: grad.offset,
            ..self.params(1)
        };
        let groups = (count(lists) * count(&tokens)).div_ceil(64);
        let elements = (64 * 4 * value) as f64;
        let binds = vec![grad.bind, sums.bind];
        self.push(kernels::terms(), binds, params, groups, elements);
    }
}
