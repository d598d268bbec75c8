//! Steps of one pass, cut so that no binding and no dispatch is too large.

use std::{ops::Range, sync::Arc};

use bytemuck::bytes_of;

use super::{
    end::{End, cut},
    group::{Group, Tile, matrices},
    kernels::{self, Columns, Ends, PackParams, StageParams},
    order::Mode,
    plan::{Entries, Product},
    shape::Kind,
};
use crate::{
    Error, Result,
    choice::{Choice, Entry},
    gpu::{Caps, Class, Dtype, Kernel},
    plan::{ALIGN, Bind, Builder, Step},
    rows::dispatches,
};

/// One pass over everything: x[units, p, after] to z[units, q, after].
pub(super) struct Pass {
    pub group: Group,
    /// Those of the only factor, or packed ones.
    pub entries: Option<Entries>,
    pub after: u64,
    pub units: u64,
    /// Among the units of all batches.
    pub first_unit: u64,
    pub units_of_batch: u64,
    pub batch: u64,
    /// The type of the call's tensors.
    pub dtype: Dtype,
    pub x: End,
    pub z: End,
    pub alpha: f32,
    pub beta: f32,
}

/// A kernel, and how much of the work is a workgroup's.
struct Form {
    kernel: Arc<Kernel>,
    /// Columns and outputs of a workgroup.
    tile: [u64; 2],
    group_ms: f64,
}

impl Pass {
    pub fn steps(&self, builder: &mut Builder, caps: &Caps) -> Result<()> {
        for units in self.pieces(caps)? {
            self.piece(builder, caps, &units);
        }
        Ok(())
    }

    fn items(&self, units: &Range<u64>, side: usize) -> Range<u64> {
        let unit = side as u64 * self.after;
        units.start * unit..units.end * unit
    }

    /// Units that go together: within one batch or of whole ones where these have a factor each, and within bindings.
    fn pieces(&self, caps: &Caps) -> Result<Vec<Range<u64>>> {
        let Mode { axis, p, q, .. } = self.group.mode;
        let fits = |units: &Range<u64>| {
            self.x.fits(&self.items(units, p), caps) && self.z.fits(&self.items(units, q), caps)
        };
        let too_large = || Error::Limit {
            what: format!("bytes in one binding, for axis {axis} of one row,"),
            needed: 4 * p.max(q) as u64 * self.after,
            available: caps.binding_bytes,
            remedy: "use fewer or smaller factors, or a device with larger bindings",
        };
        if self.group.mode.batch_stride == 0 {
            return cut(0..self.units, &fits).ok_or_else(too_large);
        }
        let (own, begin) = (self.units_of_batch, self.first_unit);
        let end = begin + self.units;
        let head = begin.next_multiple_of(own).min(end);
        let tail = (end / own * own).max(head);
        let counted = |range: Range<u64>| range.start - begin..range.end - begin;
        let mut pieces = Vec::new();
        for part in [begin..head, tail..end] {
            if !part.is_empty() {
                pieces.extend(cut(counted(part), &fits).ok_or_else(too_large)?);
            }
        }
        let units =
            |batches: &Range<u64>| counted(head + batches.start * own..head + batches.end * own);
        let batches = 0..(tail - head) / own;
        match cut(batches.clone(), &|batches: &Range<u64>| {
            fits(&units(batches))
        }) {
            Some(parts) => pieces.extend(parts.iter().map(units).filter(|part| !part.is_empty())),
            None => {
                for batch in batches {
                    let whole = units(&(batch..batch + 1));
                    pieces.extend(cut(whole, &fits).ok_or_else(too_large)?);
                }
            }
        }
        Ok(pieces)
    }

    fn piece(&self, builder: &mut Builder, caps: &Caps, units: &Range<u64>) {
        let mode = &self.group.mode;
        let (x, x_offset) = self.x.bind(&self.items(units, mode.p), false);
        let (z, z_offset) = self.z.bind(&self.items(units, mode.q), true);
        let mut bind = vec![x];
        let (mut f_offset, mut f_batch) = (0, mode.batch_stride as u64);
        if let Some(entries) = self.entries {
            let sets = if mode.batch_stride == 0 {
                1
            } else {
                self.batch
            };
            let own = if self.group.span > 1 {
                f_batch = f_batch.min(1) * packed(&self.group);
                packed(&self.group)
            } else if mode.kind == Kind::Dense {
                (mode.p * mode.q) as u64
            } else {
                mode.p as u64
            };
            let bytes = 4 * entries.first / ALIGN * ALIGN..4 * (entries.first + sets * own);
            f_offset = (entries.first - bytes.start / 4) as u32;
            bind.push(Bind {
                slot: entries.slot,
                bytes,
                write: false,
            });
        }
        bind.push(z);
        let count = units.end - units.start;
        let own = if mode.batch_stride == 0 {
            count
        } else {
            count.min(self.units_of_batch)
        };
        let form = self.form(caps, [x_offset, z_offset, f_offset]);
        let set_columns = own * self.after;
        let [columns, outputs] = form.tile;
        let tiles = set_columns.div_ceil(columns) * (mode.q as u64).div_ceil(outputs);
        let groups = count / own * tiles;
        let (xs, zs) = (self.x.place, self.z.place);
        for part in dispatches(0..groups, form.group_ms, caps) {
            let params = StageParams {
                p: mode.p as u32,
                q: mode.q as u32,
                r: self.after as u32,
                first_unit: units.start as u32,
                first: part.start as u32,
                groups: (part.end - part.start) as u32,
                f_offset,
                f_t: mode.t_stride as u32,
                f_j: mode.j_stride as u32,
                f_batch: f_batch as u32,
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
                kernel: form.kernel.clone(),
                bind: bind.clone(),
                params: bytes_of(&params).to_vec(),
                groups: part.end - part.start,
                predicted_ms: form.group_ms * (part.end - part.start) as f64,
            });
        }
    }

    fn ends(&self) -> Ends {
        Ends {
            x_dense: self.x.place.dense,
            z_dense: self.z.place.dense,
            dtype: self.x.dtype,
        }
    }

    fn form(&self, caps: &Caps, offsets: [u32; 3]) -> Form {
        let Mode { kind, p, q, .. } = self.group.mode;
        let (p, q) = (p as u64, q as u64);
        let ms = |flops: f64| flops / (caps.gflops * 1e6);
        let rows = self.group.mode.j_stride == 1;
        if let Some(units) = matrices(&self.group, self.dtype, caps) {
            let side = u64::from(kernels::UNITS * units.side);
            return Form {
                kernel: kernels::stage_matrices(units, self.after > 1, rows, self.ends(), caps),
                tile: [side, side],
                group_ms: ms((2 * side * side * p.next_multiple_of(16)) as f64),
            };
        }
        if let Some(form) = self.lanes(caps, offsets) {
            return form;
        }
        if self.group.span > 1
            && let Some(tile) = Tile::new(&self.group, self.after, caps)
        {
            let products = self.group.products() * tile.columns as f64;
            return Form {
                kernel: kernels::stage_fused(&self.group, tile, self.ends(), caps),
                tile: [tile.columns, q],
                group_ms: ms(4.0 * products),
            };
        }
        // Those that a tile's edges would not leave half empty.
        if kind == Kind::Dense && caps.invocations >= 256 && p * q >= 512 {
            return Form {
                kernel: kernels::stage_tiled(self.after > 1, rows, self.ends(), caps),
                tile: [64, 64],
                group_ms: ms((2 * 64 * 64 * p.next_multiple_of(16)) as f64),
            };
        }
        let each = if kind == Kind::Dense { p } else { 1 };
        let across = q.div_ceil(4).next_power_of_two().min(4);
        Form {
            kernel: kernels::stage(kind, across as u32, self.ends(), caps),
            tile: [64 / across, 4 * across],
            group_ms: ms((2 * 4 * 64 * (each + 2)) as f64),
        }
    }

    /// Software adapters pass factors round by shuffles, where these do not end loops too early.
    fn lanes(&self, caps: &Caps, offsets: [u32; 3]) -> Option<Form> {
        let Mode { kind, p, q, .. } = self.group.mode;
        let lanes = lanes_of(caps).filter(|_| kind == Kind::Dense && self.group.span == 1)?;
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
        let quads =
            self.group.mode.j_stride == 1 && q.is_multiple_of(4) && f_offset.is_multiple_of(4);
        let quick = quads && !matches!(columns, Columns::Any(_));
        let outputs = outputs(q, lanes, quick);
        // Those of loops, were nothing unrolled.
        let turns = |sets: &u32| {
            let (sets, sums) = (u64::from(*sets), u64::from(*sets * outputs));
            (p as u64).div_ceil(4) * (1 + sets + sums) + 2 * sums
        };
        let mut fewer = [caps.choose(&SETS), 1].into_iter();
        let sets = fewer.find(|sets| turns(sets) < caps.loop_iterations)?;
        let flops = 8 * u64::from(lanes * sets * outputs) * (p as u64 + 8);
        Some(Form {
            kernel: kernels::stage_lanes(columns, quick, [lanes, sets, outputs], caps),
            tile: [4 * u64::from(lanes * sets), outputs.into()],
            group_ms: flops as f64 / (caps.gflops * 1e6),
        })
    }
}

/// Times four columns that a lane of `stage_lanes` owns.
pub(crate) const SETS: Choice = Choice {
    name: "kronecker/stage_lanes.sets",
    legal: &[1, 2],
    table: &[Entry {
        class: Class::Cpu,
        value: 2,
        source: "1,024 rows by three factors of 8, 16, 32 in 2.7, 32, 289 ms, with 1 in 3.0, 33, 341 (llvmpipe, Mesa 22.3.6, 2026-11); \
                 with 4 the sums of 32 outputs go to memory",
    }],
    otherwise: 1,
};

/// Words of the packed factors of a pass, of one batch.
fn packed(group: &Group) -> u64 {
    let each = group.members.iter();
    each.map(|mode| (mode.p * mode.q.next_multiple_of(4)) as u64)
        .sum()
}

impl Product<'_> {
    /// Packs the factors of a pass that has several, one after another in its order; where they are then.
    pub(super) fn pack(
        &self,
        builder: &mut Builder,
        caps: &Caps,
        group: &Group,
    ) -> Option<Entries> {
        if group.span < 2 {
            return None;
        }
        let block = packed(group);
        let sets = if group.mode.batch_stride == 0 {
            1
        } else {
            self.shape.batch as u64
        };
        let into = builder.add_scratch(4 * block * sets);
        let mut base = 0;
        for mode in &group.members {
            let Some(entries) = self.factors.get(mode.stored) else {
                continue;
            };
            let own = if mode.batch_stride == 0 { 1 } else { sets };
            let start = 4 * entries.first / ALIGN * ALIGN;
            let words = sets * mode.p as u64 * mode.q.div_ceil(4) as u64;
            let groups = words.div_ceil(64);
            let params = PackParams {
                p: mode.p as u32,
                q: mode.q as u32,
                f_offset: (entries.first - start / 4) as u32,
                f_t: mode.t_stride as u32,
                f_j: mode.j_stride as u32,
                f_batch: mode.batch_stride as u32,
                sets: sets as u32,
                block: block as u32,
                base: base as u32,
                groups: groups as u32,
            };
            let end = 4 * (entries.first + own * (mode.p * mode.q) as u64);
            builder.steps.push(Step {
                kernel: kernels::pack_factor(),
                bind: vec![
                    Bind {
                        slot: entries.slot,
                        bytes: start..end,
                        write: false,
                    },
                    Bind {
                        slot: into,
                        bytes: 0..4 * block * sets,
                        write: true,
                    },
                ],
                params: bytes_of(&params).to_vec(),
                groups,
                predicted_ms: (words * 32) as f64 / (caps.gflops * 1e6),
            });
            base += (mode.p * mode.q.next_multiple_of(4)) as u64;
        }
        Some(Entries {
            slot: into,
            first: 0,
        })
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

#[cfg(test)]
mod tests {
    use crate::{
        gpu::Caps,
        kronecker::matmul::{Factor, Operator, Options, Shape, plan},
    };

    #[test]
    fn lanes_own_fewer_columns_where_loops_would_end_too_early() {
        for (p, sets) in [(1024, "SETS=2"), (4096, "SETS=1")] {
            let operator = Operator::new([Factor::dense(p, 32)]);
            let (shape, options) = (Shape::rows(64), Options::default());
            let plan = plan(&operator, &shape, &options, &Caps::lavapipe()).unwrap();
            let labels: Vec<String> = plan.steps.iter().map(|step| step.kernel.label()).collect();
            assert!(
                labels.iter().all(|label| label.contains(sets)),
                "{labels:?}"
            );
        }
    }
}
