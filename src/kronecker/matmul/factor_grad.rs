//! The gradient of one factor: partial sums over columns, then their sums in order.

use std::ops::Range;

use bytemuck::bytes_of;

use super::{
    end::cut,
    kernels::{self, FactorGradParams, Items},
    order::Mode,
    shape::Kind,
    steps::{Pass, lanes_of},
};
use crate::{
    Error, Result,
    gpu::Caps,
    plan::{Bind, Builder, Slot, Step},
    rows::{Sum, dispatches},
};

/// The most words of partial sums.
const PARTIALS: u64 = 1 << 23;

/// The most columns of a part: a sum in order of so many rounds no worse than its bound, and loops end in time.
const MOST_COLUMNS: u64 = 1 << 13;

/// Adds alpha sum_(l, r) x[l, i, r] z[l, j, r] to the gradient of the pass's factor, of which z is the gradient of its output.
pub(super) struct FactorGrad<'a> {
    pub pass: &'a Pass,
    pub alpha: f32,
    pub into: Slot,
    /// Whether to add to what is there.
    pub accumulate: bool,
}

/// How the sums are spread over workgroups.
struct Tiles {
    /// Items of x and of z that a workgroup has.
    sides: [u64; 2],
    /// Time for one column of a tile.
    column_ms: f64,
}

impl FactorGrad<'_> {
    pub fn steps(&self, builder: &mut Builder, caps: &Caps) -> Result<()> {
        let pass = self.pass;
        let Mode { p, q, .. } = pass.group.mode;
        let own = pass.group.mode.batch_stride != 0;
        let unit = if own { pass.units_of_batch } else { 1 };
        let items = |units: &Range<u64>, side: usize| {
            let slab = unit * side as u64 * pass.after;
            units.start * slab..units.end * slab
        };
        let fits = |units: &Range<u64>| {
            pass.x.fits(&items(units, p), caps) && pass.z.fits(&items(units, q), caps)
        };
        let whole = 0..pass.units / unit;
        let parts = match cut(whole.clone(), &fits) {
            Some(parts) if !own || parts.len() == 1 => parts,
            _ => {
                return Err(Error::Limit {
                    what: format!(
                        "bytes in one binding, for the gradient of factor {},",
                        pass.group.mode.axis
                    ),
                    needed: 4 * items(&whole, p.max(q)).end,
                    available: caps.binding_bytes,
                    remedy: "use fewer batches or smaller factors",
                });
            }
        };
        for (n, units) in parts.into_iter().enumerate() {
            let columns = (units.end - units.start) * unit * pass.after;
            let sets = if own { units.end - units.start } else { 1 };
            let (x, x_offset) = pass.x.bind(&items(&units, p), false);
            let (z, z_offset) = pass.z.bind(&items(&units, q), false);
            // Units are counted from the first that is bound.
            let first = [p, q].map(|side| items(&units, side).start as u32);
            let offsets = [
                x_offset.wrapping_add(first[0]),
                z_offset.wrapping_add(first[1]),
            ];
            let accumulate = self.accumulate || n > 0;
            self.part(
                builder,
                caps,
                [sets, columns / sets],
                [x, z],
                offsets,
                accumulate,
            );
        }
        Ok(())
    }

    fn part(
        &self,
        builder: &mut Builder,
        caps: &Caps,
        [sets, columns]: [u64; 2],
        [x, z]: [Bind; 2],
        offsets: [u32; 2],
        mut accumulate: bool,
    ) {
        let mode = &self.pass.group.mode;
        let block = if mode.kind == Kind::Dense {
            (mode.p * mode.q) as u64
        } else {
            mode.p as u64
        };
        let (kernel, tiles) = self.kernel(caps, offsets);
        let [down, across] = tiles.sides;
        let of_part = (mode.p as u64).div_ceil(down)
            * if mode.kind == Kind::Dense {
                (mode.q as u64).div_ceil(across)
            } else {
                1
            };
        let room = (PARTIALS / (block * sets)).max(1);
        let busy = (4 * u64::from(caps.fill)).div_ceil(of_part * sets);
        let wanted = busy.max(columns.div_ceil(MOST_COLUMNS));
        let parts = wanted.min(columns.div_ceil(64)).min(room).max(1);
        let part_columns = columns
            .div_ceil(parts)
            .min(MOST_COLUMNS)
            .next_multiple_of(64);
        let sums = builder.add_scratch(4 * block * sets * parts);
        let params = FactorGradParams {
            p: mode.p as u32,
            q: mode.q as u32,
            r: self.pass.after as u32,
            set_columns: columns as u32,
            part_columns: part_columns as u32,
            x_offset: offsets[0],
            g_offset: offsets[1],
            i_stride: mode.t_stride as u32,
            j_stride: mode.j_stride as u32,
            block: block as u32,
            alpha: self.alpha,
            ..FactorGradParams::default()
        };
        for first in (0..columns).step_by((part_columns * parts) as usize) {
            let last = columns.min(first + part_columns * parts);
            let parts = (last - first).div_ceil(part_columns);
            let sums_bind = Bind {
                slot: sums,
                bytes: 0..4 * block * sets * parts,
                write: true,
            };
            let group_ms = tiles.column_ms * part_columns as f64;
            for groups in dispatches(0..sets * parts * of_part, group_ms, caps) {
                let params = FactorGradParams {
                    first_column: first as u32,
                    last_column: last as u32,
                    parts: parts as u32,
                    first: groups.start as u32,
                    groups: (groups.end - groups.start) as u32,
                    ..params
                };
                builder.steps.push(Step {
                    kernel: kernel.clone(),
                    bind: vec![x.clone(), z.clone(), sums_bind.clone()],
                    params: bytes_of(&params).to_vec(),
                    groups: groups.end - groups.start,
                    predicted_ms: group_ms * (groups.end - groups.start) as f64,
                });
            }
            let sum = Sum {
                sums,
                sets,
                parts,
                block,
                accumulate,
            };
            sum.step(builder, caps, 0..block, self.into);
            accumulate = true;
        }
    }

    fn kernel(
        &self,
        caps: &Caps,
        offsets: [u32; 2],
    ) -> (std::sync::Arc<crate::gpu::Kernel>, Tiles) {
        let pass = self.pass;
        let Mode { kind, p, q, .. } = pass.group.mode;
        let rate = caps.gflops * 1e6;
        if kind != Kind::Dense {
            let tiles = Tiles {
                sides: [64, 1],
                column_ms: 64.0 * 16.0 / rate,
            };
            return (kernels::factor_grad_diagonal(), tiles);
        }
        let Some(lanes) = lanes_of(caps) else {
            let tiles = Tiles {
                sides: [32, 32],
                column_ms: 2.0 * 1024.0 / rate,
            };
            return (kernels::factor_grad(pass.after > 1), tiles);
        };
        let aligned = offsets.iter().all(|offset| offset.is_multiple_of(4));
        let items = if aligned && pass.after.is_multiple_of(4) {
            Items::Inner
        } else if aligned && pass.after == 1 && p.is_multiple_of(4) && q.is_multiple_of(4) {
            Items::Trailing
        } else {
            Items::Any
        };
        let outputs = super::steps::outputs(q, lanes, items != Items::Any);
        let tiles = Tiles {
            sides: [4 * u64::from(lanes), outputs.into()],
            column_ms: f64::from(8 * lanes * outputs) / rate,
        };
        (kernels::factor_grad_lanes(items, [lanes, outputs]), tiles)
    }
}
