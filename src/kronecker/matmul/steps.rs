//! Steps of one pass, cut so that no binding and no dispatch is too large.

use std::{ops::Range, sync::Arc};

use bytemuck::bytes_of;

use super::{
    kernels::{self, Columns, Ends, StageParams, StoreParams},
    order::Mode,
    plan::Entries,
    shape::{Kind, Place, Strides},
};
use crate::{
    Error, Result,
    gpu::{Caps, Class, Dtype, Kernel},
    plan::{ALIGN, Bind, Builder, Slot, Step},
    rows::dispatches,
};

/// Where a pass reads or writes: items of a slot, `first` being the one that the pass counts as 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct End {
    pub slot: Slot,
    pub dtype: Dtype,
    pub place: Place,
    pub first: u64,
}

impl End {
    /// Items in f32, one after another.
    pub fn dense(slot: Slot, first: u64, slab: u64) -> End {
        let width = slab as usize;
        let strides = Strides {
            row: width,
            batch: width,
        };
        End {
            slot,
            dtype: Dtype::F32,
            place: Place {
                batch: 1,
                rows: 1,
                width,
                strides,
                dense: true,
            },
            first,
        }
    }

    /// The elements of a range of items, counted from the end's first.
    fn elements(&self, items: &Range<u64>) -> Range<u64> {
        let items = items.start + self.first..items.end + self.first;
        if self.place.dense {
            return items;
        }
        let Place { rows, width, .. } = self.place;
        let (rows, width) = (rows as u64, width as u64);
        let (row, batch) = (
            self.place.strides.row as u64,
            self.place.strides.batch as u64,
        );
        let (from, to) = (items.start / width, (items.end - 1) / width);
        let (low, high) = if from / rows == to / rows {
            (from % rows, to % rows)
        } else {
            (0, rows - 1)
        };
        from / rows * batch + low * row..to / rows * batch + high * row + width
    }

    fn bytes(&self, items: &Range<u64>) -> Range<u64> {
        let elements = self.elements(items);
        let size = self.dtype.bytes();
        elements.start * size / ALIGN * ALIGN..(elements.end * size).next_multiple_of(4)
    }

    /// The binding of some items, and the offset for indices of elements.
    pub fn bind(&self, items: &Range<u64>, write: bool) -> (Bind, u32) {
        let bytes = self.bytes(items);
        let start = bytes.start / self.dtype.bytes();
        // Of rows one after another, items are elements.
        let first = if self.place.dense { self.first } else { 0 };
        let slot = self.slot;
        (
            Bind { slot, bytes, write },
            first.wrapping_sub(start) as u32,
        )
    }

    pub fn fits(&self, items: &Range<u64>, caps: &Caps) -> bool {
        let bytes = self.bytes(items);
        bytes.end - bytes.start <= caps.binding_bytes
    }
}

/// Halves a range until its parts fit.
pub(super) fn cut(
    range: Range<u64>,
    fits: &impl Fn(&Range<u64>) -> bool,
) -> Option<Vec<Range<u64>>> {
    if fits(&range) {
        return Some(vec![range]);
    }
    let middle = range.start + (range.end - range.start) / 2;
    if middle == range.start {
        return None;
    }
    let mut parts = cut(range.start..middle, fits)?;
    parts.extend(cut(middle..range.end, fits)?);
    Some(parts)
}

/// One pass over everything: x[units, p, after] to z[units, q, after].
pub(super) struct Pass {
    pub mode: Mode,
    pub entries: Option<Entries>,
    pub after: u64,
    pub units: u64,
    /// Among the units of all batches.
    pub first_unit: u64,
    pub units_of_batch: u64,
    pub batch: u64,
    pub x: End,
    pub z: End,
    pub alpha: f32,
    pub beta: f32,
}

impl Pass {
    pub fn steps(&self, builder: &mut Builder, caps: &Caps) -> Result<()> {
        let Mode { p, q, .. } = self.mode;
        let (from, to) = (p as u64 * self.after, q as u64 * self.after);
        let items = |units: &Range<u64>, unit: u64| units.start * unit..units.end * unit;
        let fits = |units: &Range<u64>| {
            self.x.fits(&items(units, from), caps) && self.z.fits(&items(units, to), caps)
        };
        let parts = cut(0..self.units, &fits).ok_or_else(|| Error::Limit {
            what: format!(
                "bytes in one binding, for axis {} of one row,",
                self.mode.axis
            ),
            needed: 4 * from.max(to),
            available: caps.binding_bytes,
            remedy: "use fewer or smaller factors, or a device with larger bindings",
        })?;
        for units in parts {
            self.part(
                builder,
                caps,
                &units,
                items(&units, from),
                items(&units, to),
            );
        }
        Ok(())
    }

    fn part(
        &self,
        builder: &mut Builder,
        caps: &Caps,
        units: &Range<u64>,
        from: Range<u64>,
        to: Range<u64>,
    ) {
        let mode = &self.mode;
        let (x, x_offset) = self.x.bind(&from, false);
        let (z, z_offset) = self.z.bind(&to, true);
        let mut bind = vec![x];
        let mut f_offset = 0;
        if mode.kind != Kind::Identity
            && let Some(entries) = self.entries
        {
            let sets = if mode.batch_stride == 0 {
                1
            } else {
                self.batch
            };
            let own = match mode.kind {
                Kind::Dense => mode.p * mode.q,
                _ => mode.p,
            };
            let bytes = 4 * entries.first / ALIGN * ALIGN..4 * (entries.first + sets * own as u64);
            f_offset = (entries.first - bytes.start / 4) as u32;
            bind.push(Bind {
                slot: entries.slot,
                bytes,
                write: false,
            });
        }
        bind.push(z);
        let count = units.end - units.start;
        let lanes = self.lanes(caps, units, [x_offset, z_offset, f_offset]);
        let (kernel, groups, group_ms, set_columns) = match lanes {
            Some(Lanes {
                kernel,
                lanes,
                outputs,
            }) => {
                let own = if mode.batch_stride == 0 {
                    count
                } else {
                    self.units_of_batch
                };
                let tiles = (own * self.after).div_ceil(4 * lanes);
                let blocks = (mode.q as u64).div_ceil(outputs);
                let flops = 8 * lanes * outputs * (mode.p as u64 + 8);
                let group_ms = flops as f64 / (caps.gflops * 1e6);
                let groups = count / own * tiles * blocks;
                (kernel, groups, group_ms, own * self.after)
            }
            None => {
                let ends = self.ends();
                let quads = (mode.q as u64).div_ceil(4);
                let groups = (count * quads * self.after).div_ceil(64);
                let products = 4.0 * 64.0 * mode.products() as f64 / mode.q as f64;
                let group_ms = (2.0 * products + 512.0) / (caps.gflops * 1e6);
                (kernels::stage(mode.kind, ends, caps), groups, group_ms, 1)
            }
        };
        let (xs, zs) = (self.x.place, self.z.place);
        for part in dispatches(0..groups, group_ms, caps) {
            let params = StageParams {
                p: mode.p as u32,
                q: mode.q as u32,
                r: self.after as u32,
                units: units.end as u32,
                first_unit: units.start as u32,
                first: part.start as u32,
                groups: (part.end - part.start) as u32,
                f_offset,
                f_t: mode.t_stride as u32,
                f_j: mode.j_stride as u32,
                f_batch: mode.batch_stride as u32,
                f_units: self.units_of_batch as u32,
                f_first: self.first_unit as u32,
                set_columns: set_columns as u32,
                f_set: ((self.first_unit + units.start) / self.units_of_batch) as u32,
                x_first: self.x.first as u32,
                x_offset,
                x_width: xs.width as u32,
                x_rows: xs.rows as u32,
                x_row: xs.strides.row as u32,
                x_batch: xs.strides.batch as u32,
                z_first: self.z.first as u32,
                z_offset,
                z_width: zs.width as u32,
                z_rows: zs.rows as u32,
                z_row: zs.strides.row as u32,
                z_batch: zs.strides.batch as u32,
                alpha: self.alpha,
                beta: self.beta,
            };
            builder.steps.push(Step {
                kernel: kernel.clone(),
                bind: bind.clone(),
                params: bytes_of(&params).to_vec(),
                groups: part.end - part.start,
                predicted_ms: group_ms * (part.end - part.start) as f64,
            });
        }
    }
}

/// Lanes of the subgroups of software adapters, where these have but one size.
pub(super) fn lanes_of(caps: &Caps) -> Option<u32> {
    match (caps.class, caps.subgroup) {
        (Class::Cpu, Some((least, most))) if least == most => Some(least),
        _ => None,
    }
}

/// Outputs of a lane, of q in all: few kinds, because kernels with unrolled loops take long to compile, and only where loads are
/// quick are there many.
pub(super) fn outputs(q: usize, lanes: u32, quick: bool) -> u32 {
    let all = |outputs: u32| (q as u32).div_ceil(outputs) * outputs;
    let kinds = [32, 16, 8].into_iter().filter(|n| quick && *n <= 4 * lanes);
    kinds.min_by_key(|n| all(*n)).unwrap_or(8)
}

/// The kernel of software adapters.
struct Lanes {
    kernel: Arc<Kernel>,
    lanes: u64,
    outputs: u64,
}

impl Pass {
    fn ends(&self) -> Ends {
        Ends {
            x_dense: self.x.place.dense,
            z_dense: self.z.place.dense,
            dtype: self.x.dtype,
        }
    }

    /// Whether to pass factors round by shuffles: on software adapters, where a workgroup's columns have one factor, and where the
    /// adapter does not end the loops too early.
    fn lanes(&self, caps: &Caps, units: &Range<u64>, offsets: [u32; 3]) -> Option<Lanes> {
        let Mode { p, q, .. } = self.mode;
        let lanes = lanes_of(caps)?;
        let first = self.first_unit + units.start;
        let whole = [first, self.first_unit + units.end];
        let apart = self.mode.batch_stride != 0
            && whole
                .iter()
                .any(|unit| !unit.is_multiple_of(self.units_of_batch));
        if self.mode.kind != Kind::Dense || apart {
            return None;
        }
        let [x_offset, z_offset, f_offset] = offsets;
        let ends = self.ends();
        let vectors = ends.x_dense
            && ends.z_dense
            && ends.dtype == Dtype::F32
            && x_offset.is_multiple_of(4)
            && z_offset.is_multiple_of(4);
        let columns = if vectors && self.after.is_multiple_of(4) {
            Columns::Inner
        } else if vectors && self.after == 1 && p.is_multiple_of(4) && q.is_multiple_of(4) {
            Columns::Trailing
        } else {
            Columns::Any(ends)
        };
        let quads = self.mode.j_stride == 1 && q.is_multiple_of(4) && f_offset.is_multiple_of(4);
        let quick = quads && !matches!(columns, Columns::Any(_));
        let outputs = outputs(q, lanes, quick);
        let turns = (p as u64).div_ceil(4) * (1 + u64::from(outputs)) + 2 * u64::from(outputs);
        if turns >= caps.loop_iterations {
            return None;
        }
        Some(Lanes {
            kernel: kernels::stage_lanes(columns, quick, [lanes, outputs], caps),
            lanes: lanes.into(),
            outputs: outputs.into(),
        })
    }
}

/// A result in f32 to a 16-bit z.
pub(super) struct StoreStep {
    pub y: End,
    pub z: Slot,
    pub dtype: Dtype,
    pub place: Place,
    /// Which items of z.
    pub elements: Range<u64>,
    pub beta: f32,
}

impl StoreStep {
    /// An invocation owns a word; of one that it does not fill it keeps the rest.
    pub fn steps(&self, builder: &mut Builder, caps: &Caps) -> Result<()> {
        let Range { start, end } = self.elements;
        let (width, rows) = if self.place.dense {
            (end, 1)
        } else {
            (self.place.width as u64, self.place.rows as u64)
        };
        let words = width.div_ceil(2);
        let word_of = |item: u64| item / width * words + item % width / 2;
        let all = word_of(start)..word_of(end - 1) + 1;
        let items = |range: &Range<u64>| {
            let item_of = |word: u64| word / words * width + (2 * (word % words)).min(width);
            item_of(range.start).max(start)..(item_of(range.end - 1) + 2).min(end)
        };
        let z = End {
            slot: self.z,
            dtype: self.dtype,
            place: self.place,
            first: 0,
        };
        let own = |range: &Range<u64>| range.start - start..range.end - start;
        let fits = |words: &Range<u64>| {
            let items = items(words);
            z.fits(&items, caps) && self.y.fits(&own(&items), caps)
        };
        let parts = cut(all, &fits).unwrap_or_default();
        let kernel = kernels::store(self.dtype);
        let group_ms = 64.0 * 32.0 / (caps.gflops * 1e6);
        for words_of_part in parts {
            let part_items = items(&words_of_part);
            let (y, y_offset) = self.y.bind(&own(&part_items), false);
            let (z, z_offset) = z.bind(&part_items, true);
            let count = words_of_part.end - words_of_part.start;
            for groups in dispatches(0..count.div_ceil(64), group_ms, caps) {
                let params = StoreParams {
                    width: width as u32,
                    words: words as u32,
                    first: words_of_part.start as u32,
                    first_group: groups.start as u32,
                    groups: (groups.end - groups.start) as u32,
                    count: count as u32,
                    items_start: start as u32,
                    items_end: end as u32,
                    y_offset: y_offset.wrapping_sub(start as u32),
                    z_offset,
                    z_rows: rows as u32,
                    z_row: self.place.strides.row as u32,
                    z_batch: self.place.strides.batch as u32,
                    beta: self.beta,
                };
                builder.steps.push(Step {
                    kernel: kernel.clone(),
                    bind: vec![y.clone(), z.clone()],
                    params: bytes_of(&params).to_vec(),
                    groups: groups.end - groups.start,
                    predicted_ms: group_ms * (groups.end - groups.start) as f64,
                });
            }
        }
        Ok(())
    }
}
