//! Walks over rows and columns, and how they are cut: tiles into chunks, partners into parts, both into dispatches.

use std::{ops::Range, sync::Arc};

use bytemuck::bytes_of;

use super::{
    kernels::{self, Params, TargetParams},
    planner::{Planner, Roles, Set},
    tiles::{Extent, Form, Tile},
};
use crate::{
    Result,
    gpu::{Class, Dtype, Kernel},
    plan::{Bind, Builder, STEP_MS, Slot, Step},
    rows::{Rows, dispatches},
};

/// Temporaries that are cut to this size by working on some tiles at a time.
const CHUNK_BYTES: u64 = 64 << 20;

/// One walk, ready to be cut.
pub(super) struct Walk<'a> {
    planner: Planner<'a>,
    roles: Roles,
    extent: Extent,
    tile: Tile,
    /// Workgroups that share the channels of results.
    slices: u64,
    /// Vectors of a row in `parts`.
    block: u64,
    /// Turns of loops and operations of one tile.
    turns: u64,
    block_ms: f64,
    kernel: Arc<Kernel>,
    /// What the kernel binds beside the walk, by units.
    extra: Vec<(Slot, usize)>,
}

/// Tiles of some units that pass through the temporaries together.
struct Chunk {
    units: Range<u64>,
    tiles: Range<u64>,
}

/// How a walk is cut.
struct Cut {
    /// Parts of the partners, and partners of each.
    parts: u64,
    part: u64,
    /// Partners and columns of a dispatch.
    partners: u64,
    columns: u64,
    /// The most columns there are.
    all_columns: u64,
}

/// What an owner's rows are joined to.
pub(super) enum Join {
    /// Outputs and logarithms of sums.
    Merge { o: Slot, lse: Slot },
    /// Gradients of keys, and of what goes with them; added to what is there where so marked.
    Sum {
        keys: Option<(Slot, bool)>,
        values: Option<(Slot, bool)>,
    },
}

impl<'a> Walk<'a> {
    /// A walk of some roles: how many share the channels, vectors of a row, and what a tile takes.
    pub fn new(
        planner: Planner<'a>,
        roles: Roles,
        tile: Tile,
        [slices, block]: [u64; 2],
        [turns, flops]: [u64; 2],
        kernel: Arc<Kernel>,
        extra: Vec<(Slot, usize)>,
    ) -> Walk<'a> {
        let area = tile.form.rows() * tile.form.columns();
        Walk {
            planner,
            roles,
            extent: planner.extent(&roles),
            tile,
            slices,
            block,
            turns,
            block_ms: (area * flops) as f64 / (planner.caps.gflops * 1e6),
            kernel,
            extra,
        }
    }

    /// For people.
    pub fn label(&self) -> String {
        let form = match self.tile.form {
            Form::Tile => "tiles",
            Form::Lanes(_) => "lanes",
        };
        let (owners, partners) = (self.tile.owners(), self.tile.partners());
        format!("{form} of {owners} by {partners} rows")
    }

    fn tiles(&self) -> u64 {
        self.extent.owners.div_ceil(self.tile.owners())
    }

    fn budget(&self) -> u64 {
        let caps = self.planner.caps;
        CHUNK_BYTES
            .min(caps.binding_bytes)
            .min(caps.scratch_bytes / 4)
    }

    /// Bytes of the rows of a tile, with so many parts.
    fn tile_bytes(&self, parts: u64) -> u64 {
        16 * self.block * self.tile.form.rows() * parts
    }

    fn cut(&self) -> Cut {
        let caps = self.planner.caps;
        let (owners, partners) = (self.tile.owners(), self.tile.partners());
        let columns = self.tile.form.columns();
        let y_blocks = self.extent.most_partners(owners).div_ceil(partners).max(1);
        let all_columns = self.extent.most_columns(owners, partners);
        let z_blocks = all_columns.div_ceil(columns).max(1);
        let groups = self.planner.shape.units() as u64 * self.tiles() * self.slices;
        let wanted = match caps.class {
            Class::Cpu => u64::from(caps.fill) / groups.max(1),
            _ => 4 * u64::from(caps.fill) / groups.max(1),
        };
        let room = (self.budget() / self.tile_bytes(1)).max(1);
        let parts = wanted.clamp(1, y_blocks).min(room);
        let part_blocks = y_blocks.div_ceil(parts);
        let opening = 16 * (self.block + 4);
        let turns = (caps.loop_iterations / 16 * 15).saturating_sub(opening);
        let most = (turns / self.turns)
            .min((STEP_MS / self.block_ms) as u64)
            .max(1);
        let (y_most, z_most) = match most / z_blocks {
            0 => (1, most),
            n => (n.min(part_blocks), z_blocks),
        };
        Cut {
            parts: y_blocks.div_ceil(part_blocks),
            part: part_blocks * partners,
            partners: y_most * partners,
            columns: z_most * columns,
            all_columns,
        }
    }

    fn chunks(&self, parts: u64) -> Result<Vec<Chunk>> {
        let most = (self.budget() / self.tile_bytes(parts)).max(1);
        let mut chunks = Vec::new();
        for units in self.planner.blocks()? {
            let tiles = units.start * self.tiles()..units.end * self.tiles();
            for first in tiles.clone().step_by(most as usize) {
                chunks.push(Chunk {
                    units: units.clone(),
                    tiles: first..tiles.end.min(first + most),
                });
            }
        }
        Ok(chunks)
    }

    /// Adds the steps: chunk by chunk, rows are computed and joined.
    pub fn steps(&self, builder: &mut Builder, join: &Join) -> Result<()> {
        let cut = self.cut();
        let chunks = self.chunks(cut.parts)?;
        let tiles = chunks.iter().map(|c| c.tiles.end - c.tiles.start).max();
        let bytes = self.tile_bytes(cut.parts) * tiles.unwrap_or_default();
        let parts = builder.add_scratch(bytes);
        for chunk in &chunks {
            self.sweep(builder, chunk, &cut, parts);
            self.join(
                builder,
                chunk,
                (parts, cut.parts * self.tile.partners()),
                join,
            );
        }
        Ok(())
    }

    /// Rows of a set, of some units.
    fn bind(&self, slot: Slot, set: &Set, width: usize, units: &Range<u64>) -> (Bind, u32) {
        let rows = Rows {
            slot,
            dtype: self.planner.shape.dtype,
            stride: set.len as usize * width,
        };
        match set.shared {
            true => rows.bind(&(0..1), false),
            false => rows.bind(units, false),
        }
    }

    fn sweep(&self, builder: &mut Builder, chunk: &Chunk, cut: &Cut, parts: Slot) {
        let Planner {
            shape,
            options,
            caps,
        } = self.planner;
        let Roles {
            owner,
            partner,
            column,
            ..
        } = &self.roles;
        let keys =
            [owner, partner, column].map(|set| self.bind(set.keys, set, shape.width, &chunk.units));
        let values = [owner, partner, column]
            .map(|set| self.bind(set.values, set, shape.value, &chunk.units));
        let [(x, x_offset), (y, y_offset), (z, z_offset)] = keys;
        let [(xv, xv_offset), (yv, yv_offset), (zv, zv_offset)] = values;
        let mut bind = vec![x, y, z, yv, zv];
        let mut rows_offset = 0;
        for (slot, stride) in &self.extra {
            let rows = Rows {
                slot: *slot,
                dtype: Dtype::F32,
                stride: *stride,
            };
            let (rows, offset) = rows.bind(&chunk.units, false);
            bind.extend([xv.clone(), rows]);
            // The shader counts in pairs.
            rows_offset = offset.cast_signed().div_euclid(2).cast_unsigned();
        }
        let tiles = chunk.tiles.end - chunk.tiles.start;
        bind.push(Bind {
            slot: parts,
            bytes: 0..self.tile_bytes(cut.parts) * tiles,
            write: true,
        });
        let base = Params {
            x_offset,
            y_offset,
            z_offset,
            xv_offset,
            yv_offset,
            zv_offset,
            rows_offset,
            x_len: owner.len as u32,
            y_len: partner.len as u32,
            z_len: column.len as u32,
            group: shape.group() as u32,
            shift: (options.shift(shape) as i32).cast_unsigned(),
            row_behind: self.extent.row.behind as u32,
            row_ahead: self.extent.row.ahead as u32,
            column_behind: self.extent.column.behind as u32,
            column_ahead: self.extent.column.ahead as u32,
            key: shape.width as u32,
            value: shape.value as u32,
            y_bits: self.tile.y_bits,
            tiles: self.tiles() as u32,
            tile_base: chunk.tiles.start as u32,
            y_parts: cut.parts as u32,
            y_part: cut.part as u32,
            scale: self.roles.sign * options.scale,
            key_bias: options.k2_bias,
            value_bias: options.v2_bias,
            ..Params::default()
        };
        let groups = tiles * self.slices * cut.parts;
        let columns = self.tile.form.columns();
        let z_starts = (0..cut.all_columns.max(1)).step_by(cut.columns as usize);
        for y_from in (0..cut.part).step_by(cut.partners as usize) {
            for z_from in z_starts.clone() {
                let y_to = cut.part.min(y_from + cut.partners);
                let z_to = cut.all_columns.min(z_from + cut.columns);
                let blocks = (y_to - y_from).div_ceil(self.tile.partners())
                    * (z_to - z_from).div_ceil(columns).max(1);
                let group_ms = blocks as f64 * self.block_ms;
                for groups in dispatches(0..groups, group_ms, caps) {
                    let count = groups.end - groups.start;
                    let params = Params {
                        y_from: y_from as u32,
                        y_to: y_to as u32,
                        z_from: z_from as u32,
                        z_to: z_to as u32,
                        first: groups.start as u32,
                        groups: count as u32,
                        ..base
                    };
                    builder.steps.push(Step {
                        kernel: self.kernel.clone(),
                        bind: bind.clone(),
                        params: bytes_of(&params).to_vec(),
                        groups: count,
                        predicted_ms: group_ms * count as f64,
                    });
                }
            }
        }
    }

    fn join(&self, builder: &mut Builder, chunk: &Chunk, from: (Slot, u64), join: &Join) {
        let shape = self.planner.shape;
        let (keys, values) = (self.planner.key_chunks(), self.planner.value_chunks());
        let step = self.planner.options.logits.step();
        let target = |base, chunks, step: u64, width: usize, accumulate: bool| TargetParams {
            base: base as u32,
            chunks: chunks as u32,
            step: step as u32,
            width: width as u32,
            accumulate: accumulate.into(),
            ..TargetParams::default()
        };
        match join {
            Join::Merge { o, lse } => {
                let params = target(0, values, 4, shape.value, false);
                let outputs = [(*o, shape.value), (*lse, 1)];
                self.target(builder, chunk, from, &kernels::merge(), params, &outputs);
            }
            Join::Sum {
                keys: of_keys,
                values: of_values,
            } => {
                if let Some((slot, accumulate)) = of_keys {
                    let params = target(0, keys, step, shape.width, *accumulate);
                    let outputs = [(*slot, shape.width)];
                    self.target(builder, chunk, from, &kernels::sum(), params, &outputs);
                }
                if let Some((slot, accumulate)) = of_values {
                    let base = if of_keys.is_some() { keys } else { 0 };
                    let params = target(base, values, 4, shape.value, *accumulate);
                    let outputs = [(*slot, shape.value)];
                    self.target(builder, chunk, from, &kernels::sum(), params, &outputs);
                }
            }
        }
    }

    fn target(
        &self,
        builder: &mut Builder,
        chunk: &Chunk,
        (from, parts): (Slot, u64),
        kernel: &Arc<Kernel>,
        params: TargetParams,
        outputs: &[(Slot, usize)],
    ) {
        let caps = self.planner.caps;
        let tiles = chunk.tiles.end - chunk.tiles.start;
        let owners = tiles * self.tile.owners();
        let mut bind = vec![Bind {
            slot: from,
            bytes: 0..16 * self.block * owners * parts,
            write: false,
        }];
        let mut offsets = [0; 2];
        for ((slot, width), offset) in outputs.iter().zip(&mut offsets) {
            let rows = Rows {
                slot: *slot,
                dtype: Dtype::F32,
                stride: self.extent.owners as usize * width,
            };
            let (rows, from) = rows.bind(&chunk.units, true);
            *offset = from;
            bind.push(rows);
        }
        let [out_offset, lse_offset] = offsets;
        let end = owners * u64::from(params.chunks);
        let group_ms = 64.0 * 16.0 * parts as f64 / (caps.gflops * 1e6);
        for groups in dispatches(0..end.div_ceil(64), group_ms, caps) {
            let count = groups.end - groups.start;
            let params = TargetParams {
                x_len: self.extent.owners as u32,
                group: match self.roles.of_query {
                    true => self.extent.group as u32,
                    false => 1,
                },
                tiles: self.tiles() as u32,
                tile_base: chunk.tiles.start as u32,
                owners: self.tile.owners() as u32,
                parts: parts as u32,
                block: self.block as u32,
                out_offset,
                lse_offset,
                first: (64 * groups.start) as u32,
                end: end.min(64 * groups.end) as u32,
                ..params
            };
            builder.steps.push(Step {
                kernel: kernel.clone(),
                bind: bind.clone(),
                params: bytes_of(&params).to_vec(),
                groups: count,
                predicted_ms: group_ms * count as f64,
            });
        }
    }
}
