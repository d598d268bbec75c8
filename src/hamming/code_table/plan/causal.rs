//! The causal form: chunk after chunk, readers look at the tables and at their own chunk, then its items go into the tables.

use std::ops::Range;

use super::{Call, Piece, count, weights, whole, words};
use crate::{
    Error, Result,
    gpu::Class,
    hamming::code_table::kernels::{self, Into, Lanes, Params, Source},
    linear::copy,
    plan::Slot,
};

/// Where the tables are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// In a temporary, from input 3 or from nothing.
    Scratch { initial: bool },
    /// In output 1, from input 3 or from nothing.
    Output { initial: bool },
    /// In output 1, which holds them already.
    InPlace,
}

/// Which bits of a code are transformed in the table (x) and which when it is read (y).
#[derive(Clone, Copy, Debug)]
struct Half {
    x_shift: u32,
    x_bits: u32,
    y_shift: u32,
    y_bits: u32,
    /// Weights of differences, for each set of factors.
    weights: Slot,
    sets: u64,
}

/// Items that are inserted.
#[derive(Clone)]
struct Items {
    codes: Slot,
    rows: Slot,
    source: Source,
    lists: Range<u64>,
    first_row: u64,
    /// Tables of a list.
    share: u64,
}

/// Those who read tables, and their own rows where products with those are asked for.
#[derive(Clone)]
struct Readers {
    codes: Slot,
    lists: Range<u64>,
    readers: u64,
    span: u64,
}

/// One walk over the chunks of a batch.
struct Walk {
    items: Items,
    readers: Readers,
    half: Half,
    table: Slot,
    /// Where the batch's first table is in the slot, counted in tables.
    first_slot: u64,
    order: Slot,
    reverse: bool,
}

/// Temporaries of gradients.
#[derive(Clone, Copy)]
struct Products {
    slot: Slot,
    betas: Slot,
    out: Slot,
}

impl Call<'_> {
    fn chunk(&self) -> u64 {
        let chunk = self.options.chunk(self.caps.class) as u64;
        chunk.min(self.keys().max(1))
    }

    /// What the causal form may not exceed on a device whose loops end early: a reader looks at half of the bits' rows and at a
    /// chunk, for each of its columns and tables.
    fn check_rows(&self, span: u64) -> Result<()> {
        let bits = self.options.bits as u64;
        let rows = (1 << (bits - bits / 2)) + self.chunk() + 2;
        let turns = span * rows * self.width().div_ceil(128);
        if turns > self.caps.loop_iterations {
            return Err(Error::Limit {
                what: "rows of tables that one token reads".into(),
                needed: turns,
                available: self.caps.loop_iterations,
                remedy: "use fewer heads for each head of keys, or a smaller chunk",
            });
        }
        Ok(())
    }

    /// The chunks, first to last.
    fn chunks(&self) -> Vec<Range<u64>> {
        let (keys, chunk) = (self.keys(), self.chunk());
        (0..keys)
            .step_by(chunk as usize)
            .map(|from| from..keys.min(from + chunk))
            .collect()
    }

    /// The form whose table is transformed along the high bits, or along the low ones.
    fn half(&mut self, high: bool, tables: u64) -> Half {
        let bits = self.options.bits as u32;
        let low_bits = bits / 2;
        let (low, rest) = ((0, low_bits), (low_bits, bits - low_bits));
        let ((x_shift, x_bits), (y_shift, y_bits)) = if high { (rest, low) } else { (low, rest) };
        let sets = self.sets(tables);
        let mut table = Vec::new();
        for betas in self.betas(tables) {
            for (shift, bits) in [(x_shift, x_bits), (y_shift, y_bits)] {
                let part = betas.iter().skip(shift as usize).take(bits as usize);
                let part: Vec<f64> = part.copied().collect();
                table.extend(words(weights(&part)));
            }
        }
        Half {
            x_shift,
            x_bits,
            y_shift,
            y_bits,
            weights: self.builder.add_table(table),
            sets,
        }
    }

    pub(super) fn causal(&mut self, kept: Kept) -> Result<String> {
        let value = self.shape.value as u64;
        let (keys, chunk) = (self.keys(), self.chunk());
        let tables = self.share * self.table_len();
        let all_tables = self.shape.state_len(self.options) as u64;
        let initial = match kept {
            Kept::Scratch { initial } | Kept::Output { initial } => initial,
            Kept::InPlace => false,
        };
        let label = format!("half tables of 2^{}, chunks of {chunk}", self.options.bits);
        // Without a state every batch starts from nothing in the same temporary.
        let fresh = kept == (Kept::Scratch { initial: false });
        let home = match kept {
            Kept::Scratch { initial: true } => self.scratch(all_tables),
            _ => Slot::Output(1),
        };
        if kept != Kept::InPlace && !fresh && all_tables > 0 {
            let len = self.table_len();
            if initial {
                let (from, rows) = (Slot::Input(3), all_tables / len);
                copy(
                    &mut self.builder,
                    self.caps,
                    from,
                    home,
                    rows,
                    len,
                    [len, len],
                    1,
                );
            } else {
                self.zero(home, all_tables);
            }
        }
        if self.shape.query_len() == 0 {
            return Ok(label);
        }
        self.check_rows(1)?;
        let sums = self.group * chunk * self.width();
        let scratch = [keys, sums, if fresh { tables } else { 4 }];
        let bound = [keys * value, self.group * keys * value, tables];
        let batches = self.batches(&bound, &scratch)?;
        let most = batches.first().map_or(0, count);
        let half = self.half(true, self.share);
        let [order, sums, own] = scratch.map(|words| self.scratch(most * words));
        for lists in &batches {
            let walk = Walk {
                items: Items {
                    codes: Slot::Input(1),
                    rows: Slot::Input(2),
                    source: Source::Values,
                    lists: lists.clone(),
                    first_row: 0,
                    share: self.share,
                },
                readers: self.key_readers(lists),
                half,
                table: if fresh { own } else { home },
                first_slot: if fresh { 0 } else { lists.start * self.share },
                order,
                reverse: false,
            };
            if fresh {
                self.zero(own, count(lists) * tables);
            }
            self.order(&walk);
            let chunks = self.chunks();
            for (n, tokens) in chunks.iter().enumerate() {
                self.query(&walk, tokens, Into::Chunk, (sums, 0));
                self.divide(&walk.readers.lists, tokens, sums);
                if !fresh || n + 1 < chunks.len() {
                    self.insert(&walk, tokens);
                }
            }
        }
        Ok(label)
    }

    /// The queries of some lists of keys.
    fn key_readers(&self, lists: &Range<u64>) -> Readers {
        Readers {
            codes: Slot::Input(0),
            lists: Self::times(lists, self.group),
            readers: self.group / self.share,
            span: 1,
        }
    }

    /// Four walks, two with each half: the queries' terms and gradients from first to last with keys in the tables, then those of
    /// keys and values from last to first with the queries' terms in tables of their own.
    pub(super) fn causal_gradients(&mut self) -> Result<String> {
        let (keys, chunk, group) = (self.keys(), self.chunk(), self.group);
        let bits = self.options.bits as u64;
        let label = format!("half tables of 2^{bits}, chunks of {chunk}");
        if self.shape.query_len() == 0 {
            return Ok(label);
        }
        self.check_rows(group)?;
        let value = self.shape.value as u64;
        let low_bits = bits / 2;
        let widest = (1 << (bits - low_bits)) + chunk;
        let scratch = [
            group * keys,
            group * keys * self.width(),
            group * self.table_len(),
            group * chunk * widest,
        ];
        let bound = [keys * value, group * keys * value];
        let batches = self.batches(&bound, &scratch)?;
        let most = batches.first().map_or(0, count);
        let [order, rows, table, products] = scratch.map(|words| self.scratch(most * words));
        let forward = [true, false].map(|high| self.half(high, self.share));
        let back = [true, false].map(|high| self.half(high, group));
        let [betas, back_betas] = [self.share, group].map(|tables| {
            let betas = words(self.betas(tables).into_iter().flatten());
            self.builder.add_table(betas)
        });
        let of_queries = Products {
            slot: products,
            betas,
            out: Slot::Output(0),
        };
        let of_keys = Products {
            slot: products,
            betas: back_betas,
            out: Slot::Output(1),
        };
        for lists in &batches {
            let queries = Self::times(lists, group);
            for (half, first) in forward.into_iter().zip([true, false]) {
                let walk = Walk {
                    items: Items {
                        codes: Slot::Input(1),
                        rows: Slot::Input(2),
                        source: Source::Values,
                        lists: lists.clone(),
                        first_row: 0,
                        share: self.share,
                    },
                    readers: self.key_readers(lists),
                    half,
                    table,
                    first_slot: 0,
                    order,
                    reverse: false,
                };
                self.zero(table, count(lists) * self.share * self.table_len());
                self.order(&walk);
                for tokens in self.chunks() {
                    if first {
                        self.query(&walk, &tokens, Into::Sums, (rows, queries.start));
                        self.terms(&queries, tokens.clone(), rows, queries.start);
                    }
                    let own = (Source::Terms, rows, queries.start);
                    self.half_slopes(&walk, &tokens, own, of_queries);
                    self.insert(&walk, &tokens);
                }
            }
            for (half, first) in back.into_iter().zip([true, false]) {
                let walk = Walk {
                    items: Items {
                        codes: Slot::Input(0),
                        rows,
                        source: Source::Terms,
                        lists: queries.clone(),
                        first_row: queries.start,
                        share: 1,
                    },
                    readers: Readers {
                        codes: Slot::Input(1),
                        lists: lists.clone(),
                        readers: 1,
                        span: group,
                    },
                    half,
                    table,
                    first_slot: 0,
                    order,
                    reverse: true,
                };
                self.zero(table, count(&queries) * self.table_len());
                self.order(&walk);
                for tokens in self.chunks().into_iter().rev() {
                    if first {
                        self.query(&walk, &tokens, Into::Values, (Slot::Output(2), 0));
                    }
                    let own = (Source::Values, Slot::Input(2), 0);
                    self.half_slopes(&walk, &tokens, own, of_keys);
                    self.insert(&walk, &tokens);
                }
            }
        }
        Ok(label)
    }

    /// Sorts the items of every chunk.
    fn order(&mut self, walk: &Walk) {
        let lists = count(&walk.items.lists);
        let all = lists * self.keys();
        let codes = self.piece(walk.items.codes, &walk.items.lists, self.keys(), false);
        let params = Params {
            items_offset: codes.offset,
            ..self.walk_params(walk, &(0..0), lists)
        };
        let binds = vec![codes.bind, whole(walk.order, all, true)];
        let chunk = self.chunk();
        let elements = (64 * chunk) as f64 / 16.0;
        self.push(
            kernels::order(chunk),
            binds,
            params,
            all.div_ceil(64),
            elements,
        );
    }

    fn walk_params(&self, walk: &Walk, tokens: &Range<u64>, lists: u64) -> Params {
        let half = &walk.half;
        Params {
            len: self.keys() as u32,
            lists: lists as u32,
            share: walk.items.share as u32,
            readers: walk.readers.readers as u32,
            span: walk.readers.span as u32,
            begin: tokens.start as u32,
            end: tokens.end as u32,
            first_table: (walk.items.lists.start * walk.items.share) as u32,
            x_shift: half.x_shift,
            x_bits: half.x_bits,
            y_shift: half.y_shift,
            y_bits: half.y_bits,
            ..self.params(half.sets)
        }
    }

    /// The tables of a walk.
    fn half_table(&self, walk: &Walk, write: bool) -> Piece {
        let tables = count(&walk.items.lists) * walk.items.share;
        let tables = walk.first_slot..walk.first_slot + tables;
        self.piece(walk.table, &tables, self.table_len(), write)
    }

    fn item_rows(&self, walk: &Walk) -> Piece {
        let items = &walk.items;
        let width = items.source.width(self.shape.value);
        let lists = items.lists.start - items.first_row..items.lists.end - items.first_row;
        self.piece(items.rows, &lists, self.keys() * width, false)
    }

    /// Codes of readers and of items, and the weights.
    fn codes(&self, walk: &Walk) -> [Piece; 3] {
        let half = &walk.half;
        let words = half.sets * ((1 << half.x_bits) + (1 << half.y_bits));
        [
            self.piece(walk.readers.codes, &walk.readers.lists, self.keys(), false),
            self.piece(walk.items.codes, &walk.items.lists, self.keys(), false),
            Piece {
                bind: whole(half.weights, words, false),
                offset: 0,
            },
        ]
    }

    fn query(
        &mut self,
        walk: &Walk,
        tokens: &Range<u64>,
        into: Into,
        (out, first_out): (Slot, u64),
    ) {
        let value = self.shape.value as u64;
        let lists = &walk.readers.lists;
        let columns = if into == Into::Values {
            value
        } else {
            value + 1
        };
        let lanes = Lanes::new(columns as usize).sliced(self.caps);
        let rows = self.item_rows(walk);
        let table = self.half_table(walk, false);
        let [codes, items, weights] = self.codes(walk);
        let of_out = lists.start - first_out..lists.end - first_out;
        let out = match into {
            Into::Chunk => Piece {
                bind: whole(out, count(lists) * count(tokens) * columns, true),
                offset: 0,
            },
            _ => self.piece(out, &of_out, self.keys() * columns, true),
        };
        let params = Params {
            codes_offset: codes.offset,
            items_offset: items.offset,
            rows_offset: rows.offset,
            out_offset: out.offset,
            table_offset: table.offset,
            ..self.walk_params(walk, tokens, count(lists))
        };
        let binds = vec![
            rows.bind,
            codes.bind,
            table.bind,
            out.bind,
            weights.bind,
            items.bind,
        ];
        let groups = (count(lists) * count(tokens)).div_ceil(lanes.rows());
        let each = (1 << walk.half.y_bits) + count(tokens);
        let elements = (lanes.rows() * columns * each * walk.readers.span) as f64;
        let kernel = kernels::query(walk.items.source, into, walk.reverse, &lanes);
        self.push(kernel, binds, params, groups, elements);
    }

    fn divide(&mut self, lists: &Range<u64>, tokens: &Range<u64>, sums: Slot) {
        let value = self.shape.value as u64;
        let lanes = Lanes::new(value as usize).narrow(self.caps);
        let out = self.piece(Slot::Output(0), lists, self.keys() * value, true);
        let rows = count(lists) * count(tokens);
        let params = Params {
            len: self.keys() as u32,
            lists: count(lists) as u32,
            begin: tokens.start as u32,
            end: tokens.end as u32,
            out_offset: out.offset,
            ..self.params(1)
        };
        let binds = vec![whole(sums, rows * (value + 1), false), out.bind];
        let elements = (lanes.rows() * value) as f64;
        let groups = rows.div_ceil(lanes.rows());
        self.push(kernels::divide(&lanes), binds, params, groups, elements);
    }

    fn insert(&mut self, walk: &Walk, tokens: &Range<u64>) {
        let width = self.width();
        let mut lanes = Lanes::new(width as usize);
        if self.caps.class != Class::Cpu {
            lanes.slices = 4;
        }
        let lists = count(&walk.items.lists);
        let rows = self.item_rows(walk);
        let table = self.half_table(walk, true);
        let [_, items, weights] = self.codes(walk);
        let params = Params {
            items_offset: items.offset,
            rows_offset: rows.offset,
            table_offset: table.offset,
            ..self.walk_params(walk, tokens, lists)
        };
        let order = whole(walk.order, lists * self.keys(), false);
        let binds = vec![rows.bind, order, table.bind, weights.bind, items.bind];
        let units =
            lists * walk.items.share * (1u64 << walk.half.x_bits).div_ceil(4) * lanes.slices;
        let in_a_group = lanes.lanes / lanes.columns;
        let each = count(tokens).div_ceil(lanes.slices) * 4;
        let elements = (in_a_group * width * each * 2) as f64;
        let kernel = kernels::insert(walk.items.source, &lanes);
        self.push(kernel, binds, params, units.div_ceil(in_a_group), elements);
    }

    /// Gradients of the readers' y bits.
    fn half_slopes(
        &mut self,
        walk: &Walk,
        tokens: &Range<u64>,
        (source, own, first_own): (Source, Slot, u64),
        products: Products,
    ) {
        let half = &walk.half;
        if half.y_bits == 0 {
            return;
        }
        let bits = self.options.bits as u64;
        let readers = &walk.readers;
        let lists = count(&readers.lists);
        let of_own = readers.lists.start - first_own..readers.lists.end - first_own;
        let own = self.piece(
            own,
            &of_own,
            self.keys() * source.width(self.shape.value),
            false,
        );
        let rows = self.item_rows(walk);
        let table = self.half_table(walk, false);
        let [codes, items, weights] = self.codes(walk);
        let out = self.piece(products.out, &readers.lists, self.keys() * bits, true);
        let params = Params {
            codes_offset: codes.offset,
            items_offset: items.offset,
            rows_offset: rows.offset,
            own_offset: own.offset,
            out_offset: out.offset,
            table_offset: table.offset,
            ..self.walk_params(walk, tokens, lists)
        };
        let each = (1 << half.y_bits) + count(tokens);
        let all = lists * readers.span * count(tokens) * each;
        let to = |write| whole(products.slot, all, write);
        let binds = vec![
            rows.bind,
            own.bind,
            codes.bind,
            table.bind,
            to(true),
            weights.bind,
            items.bind.clone(),
        ];
        let elements = (64 * 2 * self.width()) as f64;
        let kernel = kernels::dots(source, walk.items.source, walk.reverse);
        self.push(kernel, binds, params, all.div_ceil(64), elements);
        let betas = whole(products.betas, half.sets * bits, false);
        let binds = vec![to(false), betas, out.bind, items.bind];
        let groups = (lists * count(tokens) * u64::from(half.y_bits)).div_ceil(64);
        let elements = (64 * each * readers.span) as f64;
        self.push(kernels::half_slopes(), binds, params, groups, elements);
    }
}
