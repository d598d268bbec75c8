//! Walks over rows and columns, and how they are cut: tiles into chunks, partners into parts, both into dispatches.

use std::{ops::Range, sync::Arc};

use bytemuck::bytes_of;

use super::{
    Logits, Options, Shape,
    kernels::{self, Params, Shared, TargetParams, Variant},
    shape::Band,
    tiles::{Extent, Form, Tile},
};
use crate::{
    Error, Result,
    elements::Access,
    gpu::{Caps, Class, Dtype, Kernel},
    plan::{ALIGN, Bind, Builder, STEP_MS, Slot, Step},
    rows::{Rows, dispatches},
};

/// Temporaries that are cut to this size by working on some tiles at a time.
const CHUNK_BYTES: u64 = 64 << 20;

/// The queries, or keys of one kind, with what goes with them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Set {
    pub keys: Slot,
    pub values: Slot,
    /// Rows of a unit.
    pub len: u64,
    /// Whether all units have the same rows.
    pub shared: bool,
    /// Which keys of a query's place these are: all, for the queries themselves.
    pub band: Band,
    pub biased: bool,
}

/// Owners, partners and columns of a walk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Roles {
    pub owner: Set,
    pub partner: Set,
    pub column: Set,
    /// Whether owners are queries; else partners are.
    pub of_query: bool,
    /// -1 where exchanging roles turned the sign of determinants.
    pub sign: f32,
}

/// What plans of one call share.
#[derive(Clone, Copy)]
pub(super) struct Planner<'a> {
    pub shape: &'a Shape,
    pub options: &'a Options,
    pub caps: &'a Caps,
}

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

impl<'a> Planner<'a> {
    pub fn access(&self) -> Access {
        let shape = self.shape;
        let access = Access::new(shape.dtype, [shape.width, shape.value], self.caps);
        Access {
            vectors: access.vectors && self.options.logits.step() == 4,
            ..access
        }
    }

    /// Queries, with gradients of outputs.
    pub fn queries(&self, grad_o: Slot) -> Set {
        Set {
            keys: Slot::Input(0),
            values: grad_o,
            len: (self.shape.group() * self.shape.queries) as u64,
            shared: false,
            band: Band::ALL,
            biased: false,
        }
    }

    /// Keys of the two kinds.
    pub fn sides(&self) -> [Set; 2] {
        let [first, second] = self.options.bands();
        let [of_first, of_second] = self.shape.keys.map(|n| n as u64);
        let side = |keys, values, len, band, biased| Set {
            keys: Slot::Input(keys),
            values: Slot::Input(values),
            len,
            shared: false,
            band,
            biased,
        };
        [
            side(1, 3, of_first, first, false),
            side(2, 4, of_second, second, self.options.biased()),
        ]
    }

    /// One key of ones with values of ones, which changes nothing in a product.
    pub fn ones(&self, builder: &mut Builder) -> Set {
        let one = match self.shape.dtype {
            Dtype::F16 => 0x3c00_3c00,
            Dtype::Bf16 => 0x3f80_3f80,
            _ => 1f32.to_bits(),
        };
        let width = self.shape.width.max(self.shape.value);
        let table = builder.add_table(vec![one; width.next_multiple_of(4)]);
        Set {
            keys: table,
            values: table,
            len: 1,
            shared: true,
            band: Band::ALL,
            biased: false,
        }
    }

    /// Outputs, owned by queries: the kinds of keys in the order that computes less.
    pub fn of_queries(&self, queries: Set, [first, second]: [Set; 2]) -> Roles {
        let roles = |partner, column, sign| Roles {
            owner: queries,
            partner,
            column,
            of_query: true,
            sign,
        };
        let swapped = match self.options.logits {
            Logits::Determinant => -1.0,
            _ => 1.0,
        };
        let cost = |roles: &Roles| {
            let extent = self.extent(roles);
            Tile::new(&extent, self.caps).cost(&extent)
        };
        let [straight, crossed] = [roles(first, second, 1.0), roles(second, first, swapped)];
        match !first.shared && cost(&crossed) < 0.98 * cost(&straight) {
            true => crossed,
            false => straight,
        }
    }

    /// Gradients of keys of one kind: det\[k1, q, k2\] = -det\[q, k1, k2\] = -det\[k2, q, k1\].
    pub fn of_keys(&self, owner: Set, queries: Set, column: Set, first: bool) -> Roles {
        Roles {
            owner,
            partner: queries,
            column,
            of_query: false,
            sign: match self.options.logits {
                Logits::Determinant if first => -1.0,
                _ => 1.0,
            },
        }
    }

    fn extent(&self, roles: &Roles) -> Extent {
        Extent {
            owners: roles.owner.len,
            partners: roles.partner.len,
            columns: roles.column.len,
            group: self.shape.group().max(1) as u64,
            of_query: roles.of_query,
            row: match roles.of_query {
                true => roles.partner.band,
                false => roles.owner.band,
            },
            column: roles.column.band,
        }
    }

    fn key_chunks(&self) -> u64 {
        (self.shape.width as u64).div_ceil(self.options.logits.step())
    }

    fn value_chunks(&self) -> u64 {
        (self.shape.value as u64).div_ceil(4)
    }

    fn variant(&self, roles: &Roles, tile: Tile, slice: u64) -> Variant {
        let sets = [roles.owner, roles.partner, roles.column];
        let biased = sets.iter().zip(1u32..).find(|(set, _)| set.biased);
        Variant {
            tile,
            logits: self.options.logits,
            access: self.access(),
            of_query: roles.of_query,
            shared: match (roles.partner.shared, roles.column.shared) {
                (true, _) => Shared::Partner,
                (false, true) => Shared::Column,
                (false, false) => Shared::None,
            },
            biased: biased.map_or(0, |(_, n)| n),
            slice,
            slab: tile.form.slab(self.key_chunks().max(self.value_chunks())),
        }
    }

    /// The walk that computes outputs.
    pub fn outputs(self, roles: Roles) -> Walk<'a> {
        let extent = self.extent(&roles);
        let tile = Tile::new(&extent, self.caps);
        let (keys, values) = (self.key_chunks(), self.value_chunks());
        let slice = tile.form.slice(values);
        let slices = values.div_ceil(slice);
        let turns = tile.form.score_turns(keys) + tile.form.weigh_turns(values);
        self.walk(
            roles,
            tile,
            [slices, values + slices],
            [turns, 8 * (keys + values.min(slice))],
            self.variant(&roles, tile, slice).attention(),
            Vec::new(),
        )
    }

    /// The walk that computes gradients of owners' keys, of what goes with them, or of both.
    pub fn gradients(self, roles: Roles, rows: Slot, wanted: [bool; 2]) -> Walk<'a> {
        let extent = self.extent(&roles);
        let tile = Tile::new(&extent, self.caps);
        let (keys, values) = (self.key_chunks(), self.value_chunks());
        let [of_keys, of_values] = wanted.map(u64::from);
        let chunks = (of_keys * keys).max(of_values * values);
        let slice = tile.form.slice(chunks);
        let turns = tile.form.score_turns(keys)
            + of_keys * (tile.form.score_turns(values) + tile.form.weigh_turns(keys))
            + of_values * tile.form.weigh_turns(values);
        let products = keys + of_keys * (values + keys.min(slice)) + of_values * values.min(slice);
        let block = of_keys * keys + of_values * values;
        let queries = self.shape.group() * self.shape.queries;
        self.walk(
            roles,
            tile,
            [chunks.div_ceil(slice), block],
            [turns, 8 * products],
            self.variant(&roles, tile, slice).grad(wanted),
            vec![(rows, 2 * queries)],
        )
    }

    /// Whether one walk of a group of invocations holds the gradients of keys and those of what goes with them.
    pub fn both_fit(&self) -> bool {
        let chunks = self.key_chunks().max(self.value_chunks());
        matches!(Form::new(self.caps), Form::Lanes(_)) || chunks <= 16
    }

    fn walk(
        self,
        roles: Roles,
        tile: Tile,
        [slices, block]: [u64; 2],
        [turns, flops]: [u64; 2],
        kernel: Arc<Kernel>,
        extra: Vec<(Slot, usize)>,
    ) -> Walk<'a> {
        let area = tile.form.rows() * tile.form.columns();
        Walk {
            planner: self,
            roles,
            extent: self.extent(&roles),
            tile,
            slices,
            block,
            turns,
            block_ms: (area * flops) as f64 / (self.caps.gflops * 1e6),
            kernel,
            extra,
        }
    }

    /// Units whose tensors fit bindings together.
    pub fn blocks(&self) -> Result<Vec<Range<u64>>> {
        let shape = self.shape;
        let rows = (shape.group() * shape.queries).max(shape.keys[0].max(shape.keys[1]));
        let unit_bytes = 4 * (rows * shape.width.max(shape.value).max(2)) as u64;
        let fit = self.caps.binding_bytes.saturating_sub(ALIGN) / unit_bytes.max(1);
        if fit == 0 {
            return Err(Error::Limit {
                what: "bytes in one binding, for one head of keys,".into(),
                needed: unit_bytes + ALIGN,
                available: self.caps.binding_bytes,
                remedy: "use fewer tokens",
            });
        }
        let units = shape.units() as u64;
        let starts = (0..units).step_by(usize::try_from(fit).unwrap_or(usize::MAX));
        Ok(starts
            .map(|n| n..units.min(n.saturating_add(fit)))
            .collect())
    }
}

impl Walk<'_> {
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
