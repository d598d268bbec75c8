//! The steps of a chunk of rows: what is counted, weighed and merged.

use std::ops::Range;

use bytemuck::bytes_of;

use super::{
    KEPT,
    kernels::{self, Beside, Limits, Tally},
    params::{CutParams, MergeParams, Params},
    plan::finds_last,
    planner::{Chunk, Planner, Slots},
    tiles::Form,
};
use crate::{
    elements::Access,
    gpu::Dtype,
    hamming::bits::last_mask,
    plan::{Bind, Builder, Slot, Step},
    rows::{Rows, dispatches, fill},
};

impl Planner<'_> {
    /// Everything for some tiles, from counts to outputs.
    pub(super) fn chunk(&self, builder: &mut Builder, slots: &Slots, chunk: &Chunk, splits: u64) {
        let rows = (chunk.tiles.end - chunk.tiles.start) * self.rows();
        let limits = self.limits();
        match limits {
            Limits::None => {}
            Limits::Least => {
                fill(builder, self.caps, slots.least, 0..rows, 0);
                self.tally(builder, slots, chunk, Tally::Least);
            }
            Limits::Kept => {
                let bins = self.shape.bits as u64 + 1;
                fill(builder, self.caps, slots.bins, 0..rows * bins, 0);
                self.tally(builder, slots, chunk, Tally::Bins);
                self.cut(builder, slots, chunk);
                if finds_last(self.options) {
                    let segments = self.longest().div_ceil(self.segment());
                    fill(builder, self.caps, slots.ties, 0..rows * segments, 0);
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
                0..rows * splits * (self.value() + 1),
                0,
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
