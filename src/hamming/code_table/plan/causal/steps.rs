//! The steps of a walk: items are sorted, tables and chunks are read, sums are divided, items inserted, slopes taken.

use std::ops::Range;

use super::{
    super::{Call, Piece, count, whole},
    Products, Walk,
};
use crate::{
    gpu::Class,
    hamming::code_table::kernels::{self, Into, Lanes, Params, Source},
    plan::Slot,
};

impl Call<'_> {
    /// Sorts the items of every chunk.
    pub(super) fn order(&mut self, walk: &Walk) {
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

    pub(super) fn query(
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

    pub(super) fn divide(&mut self, lists: &Range<u64>, tokens: &Range<u64>, sums: Slot) {
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

    pub(super) fn insert(&mut self, walk: &Walk, tokens: &Range<u64>) {
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
    pub(super) fn half_slopes(
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
