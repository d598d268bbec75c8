//! The plan of the gradients: what each row needs, then one sweep by queries and two by keys.

use std::{ops::Range, sync::Arc};

use bytemuck::bytes_of;

use super::{
    KEPT, OP, Options, Shape,
    kernels::{self, Grad},
    params::{GradParams, RowsParams},
    plan::{WantedGradients, pairs, table},
    planner::Planner,
    shape::Sequence,
    steps::whole,
    tiles::{FEATURES, Tile},
};
use crate::{
    Error, Result,
    elements::Access,
    gpu::{Caps, Dtype, Kernel},
    hamming::bits::last_mask,
    plan::{ALIGN, Bind, Builder, Plan, Slot, Step, Work},
    rows::{Rows, dispatches},
};

/// Words of what the gradients need of each row.
const ROW_WORDS: usize = 5;

pub(super) struct Gradients<'a> {
    /// The plan by queries: one head a unit.
    planner: Planner<'a>,
    /// Tiles of a head of keys, for packed sequences with what the shader reads of each.
    key_tiles: u64,
    key_pieces: Vec<u32>,
}

/// Temporaries, tables and outputs.
struct Slots {
    table: Slot,
    rows: Slot,
    /// What tiles of queries and of keys are.
    spans: [Option<Bind>; 2],
}

impl<'a> Gradients<'a> {
    pub fn new(
        shape: &'a Shape,
        options: &'a Options,
        tile: Tile,
        caps: &'a Caps,
    ) -> Result<Gradients<'a>> {
        let mut planner = Planner::new(shape, options, false, tile, caps)?;
        let rows = tile.rows as usize;
        if planner.fold > 1 {
            planner.fold = 1;
            planner.tiles = shape.queries.div_ceil(rows) as u64;
        }
        let mut key_pieces = Vec::new();
        let mut key_tiles = shape.capacity.div_ceil(rows) as u64;
        if options.sequences.is_some() {
            // Rows to spare have no queries.
            let spare = Sequence {
                queries: 0..0,
                keys: shape.keys..shape.capacity,
            };
            for Sequence { queries, keys } in options.sequences(shape).into_iter().chain([spare]) {
                for first in keys.clone().step_by(rows) {
                    let ends = [queries.start, queries.end, keys.start, keys.end];
                    let piece = [first, keys.end].into_iter().chain(ends);
                    key_pieces.extend(piece.map(|n| n as u32));
                }
            }
            key_tiles = key_pieces.len() as u64 / 6;
        }
        Ok(Gradients {
            planner,
            key_tiles,
            key_pieces,
        })
    }

    pub fn plan(&self, wanted: WantedGradients) -> Result<Plan> {
        let (shape, options, caps) = (self.planner.shape, self.planner.options, self.planner.caps);
        let mut builder = Builder::default();
        let outputs = [
            (wanted.q, Grad::Queries, shape.query_len()),
            (wanted.k, Grad::Keys, shape.key_len()),
            (wanted.v, Grad::Values, shape.value_len()),
        ];
        let outputs = outputs.into_iter().filter(|(wanted, ..)| *wanted);
        let pieces = &self.planner.pieces;
        let slots = Slots {
            table: builder.add_table(table(shape, options)),
            rows: builder.add_scratch((4 * ROW_WORDS * shape.rows()) as u64),
            spans: [
                self.planner.span_bind(&mut builder, pieces),
                self.planner.span_bind(&mut builder, &self.key_pieces),
            ],
        };
        let blocks = self.blocks()?;
        if shape.rows() > 0 && shape.keys > 0 {
            for heads in &blocks {
                self.rows(&mut builder, &slots, heads);
            }
        }
        for (n, (_, grad, len)) in outputs.enumerate() {
            let to = Slot::Output(n as u16);
            let nothing = shape.rows() == 0 || shape.keys == 0;
            if nothing && len > 0 {
                let width = match grad {
                    Grad::Values => len,
                    _ => len / shape.words() * shape.bits,
                };
                crate::rows::fill(&mut builder, caps, to, 0..width as u64, 0);
            } else if !nothing {
                for heads in &blocks {
                    self.sweep(&mut builder, &slots, heads, grad, to);
                }
            }
        }
        let pairs = pairs(shape, options);
        let each = |wanted: bool, width: usize| if wanted { 2.0 * width as f64 } else { 0.0 };
        let codes = wanted.q || wanted.k;
        let flops = each(wanted.q, shape.bits)
            + each(wanted.k, shape.bits)
            + each(wanted.v, shape.value)
            + each(codes, shape.value);
        let element = shape.dtype.bytes() as f64;
        let read = 4.0 * (shape.query_len() + shape.key_len() + KEPT * shape.rows()) as f64
            + element * (shape.value_len() + 2 * shape.output_len()) as f64;
        let written = each(wanted.q, 2 * shape.rows() * shape.bits)
            + each(wanted.k, 2 * shape.key_rows() * shape.bits)
            + each(wanted.v, 2 * shape.value_len());
        let work = Work {
            flops: pairs * flops,
            popcounts: pairs * shape.words() as f64,
            bytes: read + written,
        };
        let label = format!("gradients, tiles of {}", self.planner.tile.rows);
        let plan = builder.plan(OP, label, work);
        plan.check(caps)?;
        Ok(plan)
    }

    /// Heads of keys that fit a binding together, with the queries that read them.
    fn blocks(&self) -> Result<Vec<Range<u64>>> {
        let shape = self.planner.shape;
        let heads = (shape.batch * shape.kv_heads) as u64;
        let widest = shape.bits.max(shape.value).max(ROW_WORDS) as u64;
        let rows = (shape.group() * shape.queries).max(shape.capacity) as u64;
        let needed = 4 * rows * widest;
        let fit = self.planner.caps.binding_bytes.saturating_sub(ALIGN) / needed.max(1);
        if fit == 0 {
            return Err(Error::Limit {
                what: "bytes in one binding, for one head of keys,".into(),
                needed: needed + ALIGN,
                available: self.planner.caps.binding_bytes,
                remedy: "use fewer tokens",
            });
        }
        let block = |first: u64| first..heads.min(first.saturating_add(fit));
        let fit = usize::try_from(fit).unwrap_or(usize::MAX);
        Ok((0..heads).step_by(fit).map(block).collect())
    }

    /// Rows of queries or keys of some heads of keys.
    fn bind(
        &self,
        slot: Slot,
        heads: &Range<u64>,
        dtype: Dtype,
        stride: usize,
        write: bool,
    ) -> (Bind, u32) {
        let rows = Rows {
            slot,
            dtype,
            stride,
        };
        rows.bind(heads, write)
    }

    /// What every row needs.
    fn rows(&self, builder: &mut Builder, slots: &Slots, heads: &Range<u64>) {
        let shape = self.planner.shape;
        let caps = self.planner.caps;
        let rows = shape.group() * shape.queries;
        let (kept, kept_offset) = self.bind(Slot::Input(4), heads, Dtype::U32, rows * KEPT, false);
        let wide = |slot| self.bind(slot, heads, shape.dtype, rows * shape.value, false);
        let ((o, o_offset), (grad_o, _)) = (wide(Slot::Input(3)), wide(Slot::Input(5)));
        let (to, rows_offset) = self.bind(slots.rows, heads, Dtype::U32, rows * ROW_WORDS, true);
        let all = heads.start * rows as u64..heads.end * rows as u64;
        let access = Access::new(shape.dtype, [shape.value; 2], caps);
        let group_ms = 64.0 * 4.0 * shape.value as f64 / (caps.gflops * 1e6);
        let count = all.end - all.start;
        for groups in dispatches(0..count.div_ceil(64), group_ms, caps) {
            let params = RowsParams {
                value: shape.value as u32,
                o_offset,
                kept_offset: kept_offset.cast_signed().div_euclid(4).cast_unsigned(),
                rows_offset,
                first: (all.start + 64 * groups.start) as u32,
                end: (all.start + 64 * groups.end).min(all.end) as u32,
            };
            builder.steps.push(Step {
                kernel: kernels::grad_rows(access),
                bind: vec![kept.clone(), o.clone(), grad_o.clone(), to.clone()],
                params: bytes_of(&params).to_vec(),
                groups: groups.end - groups.start,
                predicted_ms: group_ms * (groups.end - groups.start) as f64,
            });
        }
    }

    fn sweep(
        &self,
        builder: &mut Builder,
        slots: &Slots,
        heads: &Range<u64>,
        grad: Grad,
        to: Slot,
    ) {
        let (shape, options, caps) = (self.planner.shape, self.planner.options, self.planner.caps);
        let tile = self.planner.tile;
        let of_queries = grad == Grad::Queries;
        let query_rows = shape.group() * shape.queries;
        let bind = |slot, dtype, stride, write| self.bind(slot, heads, dtype, stride, write);
        let words = shape.words();
        let q = bind(Slot::Input(0), Dtype::U32, query_rows * words, false);
        let k = bind(Slot::Input(1), Dtype::U32, shape.capacity * words, false);
        let q_len = (heads.end * query_rows as u64) as u32;
        let k_len = (heads.end * shape.capacity as u64) as u32;
        let [(a, a_offset, a_len), (b, b_offset, b_len)] = match of_queries {
            true => [(q.0, q.1, q_len), (k.0, k.1, k_len)],
            false => [(k.0, k.1, k_len), (q.0, q.1, q_len)],
        };
        let stride = shape.capacity * shape.value;
        let (v, v_offset) = bind(Slot::Input(2), shape.dtype, stride, false);
        let (rows, rows_offset) = bind(slots.rows, Dtype::U32, query_rows * ROW_WORDS, false);
        let stride = query_rows * shape.value;
        let (grad_o, do_offset) = bind(Slot::Input(5), shape.dtype, stride, false);
        let (width, rows_of_head) = match grad {
            Grad::Queries => (shape.bits, query_rows),
            Grad::Keys => (shape.bits, shape.capacity),
            Grad::Values => (shape.value, shape.capacity),
        };
        let (out, out_offset) = bind(to, Dtype::F32, rows_of_head * width, true);
        let entries = options.beta.values().len() * (shape.bits + 4);
        let mut binds = vec![a, b];
        if grad != Grad::Values {
            binds.push(v);
        }
        binds.extend([whole(slots.table, entries as u64, false), rows, grad_o, out]);
        let [of_query, of_key] = &slots.spans;
        let spans = if of_queries { of_query } else { of_key };
        binds.extend(spans.clone());
        let tiles = match of_queries {
            true => self.planner.tiles,
            false => self.key_tiles,
        };
        let params = GradParams {
            a_offset,
            b_offset,
            a_len,
            b_len,
            words: words as u32,
            last: last_mask(shape.bits),
            heads: options.beta.values().len() as u32,
            kv_heads: shape.kv_heads as u32,
            group: shape.group() as u32,
            fold: 1,
            queries: shape.queries as u32,
            keys: shape.keys as u32,
            capacity: shape.capacity as u32,
            tiles: tiles as u32,
            causal: options.causal.into(),
            window: options.window.map_or(1 << 30, |w| w.min(1 << 30)) as u32,
            sinks: options.sinks.min(1 << 29) as u32,
            value: shape.value as u32,
            v_offset,
            bits: shape.bits as u32,
            rows_offset,
            do_offset,
            out_offset,
            ..GradParams::default()
        };
        let access = Access::new(shape.dtype, [shape.value; 2], caps);
        let kernel = kernels::grad(tile, self.planner.spans, grad, access);
        let slices = (width as u64).div_ceil(FEATURES.into());
        let units = match of_queries {
            true => heads.start * shape.group() as u64..heads.end * shape.group() as u64,
            false => heads.clone(),
        };
        let groups = units.start * tiles * slices..units.end * tiles * slices;
        self.dispatch(builder, &kernel, &binds, params, groups, grad);
    }

    /// Dispatches over all groups, for each part of the columns that a shader may walk.
    fn dispatch(
        &self,
        builder: &mut Builder,
        kernel: &Arc<Kernel>,
        binds: &[Bind],
        params: GradParams,
        groups: Range<u64>,
        grad: Grad,
    ) {
        let planner = &self.planner;
        let shape = planner.shape;
        let tile = u64::from(planner.tile.rows);
        let value = if grad == Grad::Values { 0 } else { shape.value };
        let each = 2.0 * value as f64 + 2.0 * f64::from(FEATURES) + 6.0 * shape.words() as f64;
        let pair_ms = planner.ms(1, each);
        let turns = planner.tile.grad_turns(shape.words() as u64, value);
        // By queries, columns are keys; by keys, they are tiles of the queries of every head of the group.
        let (len, unit) = match grad {
            Grad::Queries => (shape.keys as u64, 1),
            _ => {
                let tiles = shape.queries.div_ceil(planner.tile.rows as usize);
                ((shape.group() * tiles) as u64 * tile, tile)
            }
        };
        let most = planner.most_keys(turns, pair_ms, len);
        let group_ms = pair_ms * (tile * most) as f64;
        for begin in (0..len).step_by(most as usize) {
            for groups in dispatches(groups.clone(), group_ms, planner.caps) {
                let count = groups.end - groups.start;
                let params = GradParams {
                    first: groups.start as u32,
                    groups: count as u32,
                    begin: (begin / unit) as u32,
                    end: (len.min(begin + most) / unit) as u32,
                    ..params
                };
                builder.steps.push(Step {
                    kernel: kernel.clone(),
                    bind: binds.to_vec(),
                    params: bytes_of(&params).to_vec(),
                    groups: count,
                    predicted_ms: group_ms * count as f64,
                });
            }
        }
    }
}
