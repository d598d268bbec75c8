//! Exact softmax attention: the quadratic rival that the sub-quadratic operators are measured against.
//!
//! ```text
//! o_t = sum_j w_tj v_j / sum_j w_tj        w_tj = exp(scale · q_t·k_j)        over j <= t where causal, else over all j
//! ```
//!
//! The kernels stream over the keys with a running maximum, so memory is linear in the number of tokens; the arithmetic is not.

pub(crate) mod cases;
mod reference;

use std::{ops::Range, sync::Arc};

use bytemuck::bytes_of;

pub use reference::cpu;

use crate::{
    Error, Result,
    elements::{Access, pack_steps},
    gpu::{Caps, Class, Dtype, Kernel, Needs, Part, Spec, params, part},
    linear::{Layout, Shape},
    plan::{ALIGN, Bind, Builder, Plan, Slot, Step, Work},
    rows::{Rows, dispatches},
};

const OP: &str = "softmax_attention";

/// Turns of its loops, nested ones included, that an invocation of `lanes` takes in a dispatch: llvmpipe ends a shader
/// silently after 65,536.
const MOST_TURNS: u64 = 60_000;

params! {
    /// Parameters of both kernels.
    Params {
        tokens: u32,
        heads: u32,
        key: u32,
        value: u32,
        tiles: u32,
        slices: u32,
        first: u32,
        groups: u32,
        key_begin: u32,
        key_end: u32,
        batch_stride: u32,
        head_stride: u32,
        token_stride: u32,
        q_offset: u32,
        k_offset: u32,
        v_offset: u32,
        o_offset: u32,
        rows_offset: u32,
        scale: f32,
    }
}

/// Which kernel, with its tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tile {
    /// Software adapters: a subgroup of lanes with `rows` queries each, by blocks of keys.
    Lanes { lanes: u32, rows: u32, keys: u32 },
    /// GPUs: square tiles in workgroup memory.
    Square { tile: u32, value_tile: u32 },
}

impl Tile {
    fn choose(shape: &Shape, caps: &Caps) -> Tile {
        match (caps.class, caps.subgroup) {
            (Class::Cpu, Some((smallest, largest))) if smallest == largest && largest <= 32 => {
                Tile::Lanes {
                    lanes: largest,
                    rows: 4,
                    // 8 lanes: 21 to 24 GFLOP/s at widths of 64 on 2 cores; with 32 keys the compiler gives up on
                    // unrolling, and reaches 9 (llvmpipe, Mesa 22.3.6, 2026-11).
                    keys: 2 * largest,
                }
            }
            _ => {
                let tile = if caps.workgroup_bytes >= 32 << 10 {
                    64
                } else {
                    32
                };
                let value_tile = (shape.value as u32).next_power_of_two();
                Tile::Square {
                    tile,
                    value_tile: value_tile.clamp(1024 / tile, 128),
                }
            }
        }
    }

    /// Keys that one dispatch walks.
    fn keys(self, shape: &Shape) -> u64 {
        let Tile::Lanes { lanes, rows, keys } = self else {
            return shape.tokens as u64;
        };
        let [lanes, rows, keys] = [lanes, rows, keys].map(u64::from);
        let quads = keys / lanes * (1 + lanes / 4 * (1 + rows));
        let chunks = |width: usize| (width as u64).div_ceil(4);
        let turns = (rows * keys)
            + chunks(shape.key) * (1 + rows + quads)
            + chunks(shape.value) * (1 + 6 * rows + quads);
        ((MOST_TURNS / turns).max(1) * keys).min(shape.tokens as u64)
    }

    /// Queries of a workgroup.
    fn rows(self) -> u64 {
        match self {
            Tile::Lanes { lanes, rows, .. } => u64::from(lanes * rows),
            Tile::Square { tile, .. } => tile.into(),
        }
    }

    /// Workgroups that share the columns of o.
    fn slices(self, shape: &Shape) -> u64 {
        match self {
            Tile::Lanes { .. } => 1,
            Tile::Square { value_tile, .. } => (shape.value as u64).div_ceil(value_tile.into()),
        }
    }

    /// Whether outputs are f32 in a temporary first: 16-bit ones that accumulate in memory or whose rows share words.
    fn wide(self, access: Access) -> bool {
        let direct = matches!(self, Tile::Square { .. }) && access.vectors;
        access.dtype != Dtype::F32 && !direct
    }

    fn kernel(self, access: Access, causal: bool, carries: bool) -> Kernel {
        let [elem, rows_access] = access.parts();
        let out = if self.wide(access) {
            part!("softmax/out_wide.wgsl")
        } else {
            part!("softmax/out_typed.wgsl")
        };
        let shared = [
            part!("softmax/rows.wgsl"),
            part!("common/products.wgsl"),
            part!("common/grid.wgsl"),
            elem,
            rows_access,
            out,
        ];
        let needs = access.needs();
        let with = |own: &[Part]| own.iter().copied().chain(shared).collect();
        match self {
            Tile::Lanes { lanes, rows, keys } => {
                let rest = if carries {
                    part!("softmax/carried.wgsl")
                } else {
                    part!("softmax/once.wgsl")
                };
                Kernel {
                    name: "softmax/lanes",
                    parts: with(&[part!("softmax/lanes.wgsl"), rest]),
                    spec: Spec::default()
                        .with("LANES", lanes)
                        .with("ROWS", rows)
                        .with("KEYS", keys)
                        .with("CAUSAL", causal),
                    needs: Needs {
                        subgroup: true,
                        ..needs
                    },
                    params: Params::FIELDS,
                    workgroup: [lanes, 1, 1],
                    workgroup_bytes: 0,
                }
            }
            Tile::Square { tile, value_tile } => Kernel {
                name: "softmax/attention",
                parts: with(&[part!("softmax/attention.wgsl")]),
                spec: Spec::default()
                    .with("TILE", tile)
                    .with("VALUE_TILE", value_tile)
                    .with("CAUSAL", causal),
                needs,
                params: Params::FIELDS,
                workgroup: [256, 1, 1],
                workgroup_bytes: 16 * (8 * tile).max(4 * value_tile)
                    + 4 * tile * tile
                    + 4 * 256
                    + 4 * tile,
            },
        }
    }
}

/// Plans softmax attention, stored as f32, f16 or bf16, summed in f32. Inputs: q, k, v in the shape's layout; output: o.
///
/// The result is `softmax(scale · q kᵀ) v`, restricted to keys up to each query's own where `causal`. Work is credited with
/// half of the scores where causal.
///
/// # Errors
/// `Argument` for a shape of another type or with shared keys, or a scale that is not finite; `Limit` when one batch (`bthd`) or one head (`bhtd`)
/// exceeds a binding.
pub fn attention(shape: &Shape, scale: f32, causal: bool, caps: &Caps) -> Result<Plan> {
    check(shape, scale)?;
    let tile = Tile::choose(shape, caps);
    let planner = Planner {
        shape,
        scale,
        causal,
        caps,
        tile,
        access: Access::new(shape.dtype, [shape.key, shape.value], caps),
    };
    let mut builder = Builder::default();
    planner.steps(&mut builder)?;
    let label = match tile {
        Tile::Lanes { .. } => "streamed, by lanes",
        Tile::Square { .. } => "streamed, by tiles",
    };
    let elements = (shape.query_len() + shape.output_len()) as f64;
    let work = Work {
        flops: planner.flops(shape.rows() as f64),
        bytes: 2.0 * shape.dtype.bytes() as f64 * elements,
        ..Work::default()
    };
    let plan = builder.plan(OP, label.into(), work);
    plan.check(caps)?;
    Ok(plan)
}

fn check(shape: &Shape, scale: f32) -> Result<()> {
    let wrong = |what: &str, expected: &str, got: String| {
        Err(Error::Argument {
            op: OP,
            what: what.into(),
            expected: expected.into(),
            got,
        })
    };
    if !matches!(shape.dtype, Dtype::F32 | Dtype::F16 | Dtype::Bf16) {
        return wrong("dtype", "f32, f16 or bf16", shape.dtype.name().into());
    }
    if shape.kv_heads != shape.heads {
        let got = format!("{} for {} heads", shape.kv_heads, shape.heads);
        return wrong("kv_heads", "as many as heads", got);
    }
    if !scale.is_finite() {
        return wrong("scale", "finite", scale.to_string());
    }
    if shape.key == 0 || shape.value == 0 {
        return wrong(
            "widths",
            "at least 1",
            format!("{} and {}", shape.key, shape.value),
        );
    }
    Ok(())
}

struct Planner<'a> {
    shape: &'a Shape,
    scale: f32,
    causal: bool,
    caps: &'a Caps,
    tile: Tile,
    access: Access,
}

/// Where a plan's outputs go at first, and what is carried between dispatches.
struct Slots {
    out: Slot,
    wide: bool,
    rows: Option<Slot>,
}

impl Planner<'_> {
    /// Operations on so many heads.
    fn flops(&self, heads: f64) -> f64 {
        let tokens = self.shape.tokens as f64;
        let scores = if self.causal {
            0.5 * tokens * (tokens + 1.0)
        } else {
            tokens * tokens
        };
        heads * scores * 2.0 * (self.shape.key + self.shape.value) as f64
    }

    fn tokens(&self) -> u64 {
        self.shape.tokens as u64
    }

    fn tiles(&self) -> u64 {
        self.tokens().div_ceil(self.tile.rows())
    }

    fn keys(&self) -> u64 {
        self.tile.keys(self.shape)
    }

    fn carries(&self) -> bool {
        self.keys() < self.tokens()
    }

    /// Batches, or heads where each lies by itself: what a binding may be cut between. Its number, and heads in each.
    fn units(&self) -> (u64, u64) {
        let (batch, heads) = (self.shape.batch as u64, self.shape.heads as u64);
        match self.shape.layout {
            Layout::Bthd => (batch, heads),
            Layout::Bhtd => (batch * heads, 1),
        }
    }

    fn steps(&self, builder: &mut Builder) -> Result<()> {
        let (units, heads) = self.units();
        let shape = self.shape;
        let rows = shape.rows() as u64 * self.tokens();
        if rows == 0 {
            return Ok(());
        }
        let wide = self.tile.wide(self.access);
        let carried = self.carries().then(|| builder.add_scratch(8 * rows));
        let slots = Slots {
            out: if wide {
                builder.add_scratch(4 * shape.output_len() as u64)
            } else {
                Slot::Output(0)
            },
            wide,
            rows: carried,
        };
        // Two words: what is carried for a row.
        let width = shape.key.max(shape.value).max(2) as u64;
        let unit_bytes = 4 * heads * self.tokens() * width;
        let fit = self.caps.binding_bytes.saturating_sub(ALIGN) / unit_bytes;
        if fit == 0 {
            return Err(Error::Limit {
                what: "bytes in one binding, for one sequence,".into(),
                needed: unit_bytes + ALIGN,
                available: self.caps.binding_bytes,
                remedy: "use the layout bhtd or fewer tokens",
            });
        }
        let per_head = self.tiles() * self.tile.slices(shape);
        let mut first_unit = 0;
        while first_unit < units {
            let last_unit = (first_unit + fit).min(units);
            let groups = first_unit * heads * per_head..last_unit * heads * per_head;
            self.unit_steps(first_unit..last_unit, groups, &slots, &mut builder.steps);
            first_unit = last_unit;
        }
        if wide {
            let elements = shape.output_len() as u64;
            let places = [slots.out, Slot::Output(0)];
            pack_steps(builder, self.caps, shape.dtype, places, elements);
        }
        Ok(())
    }

    /// Dispatches over the workgroups of some units: cut in keys where a shader may not walk all, and in groups by time.
    fn unit_steps(
        &self,
        units: Range<u64>,
        groups: Range<u64>,
        slots: &Slots,
        steps: &mut Vec<Step>,
    ) {
        let row_flops = 2.0 * (self.shape.key + self.shape.value) as f64;
        let group_ms =
            self.tile.rows() as f64 * self.keys() as f64 * row_flops / (self.caps.gflops * 1e6);
        let kernel = Arc::new(
            self.tile
                .kernel(self.access, self.causal, slots.rows.is_some()),
        );
        let mut key_begin = 0;
        while key_begin < self.tokens() {
            let keys = key_begin..(key_begin + self.keys()).min(self.tokens());
            for groups in dispatches(groups.clone(), group_ms, self.caps) {
                let ms = group_ms * (groups.end - groups.start) as f64;
                steps.push(self.step(&kernel, &units, &keys, groups, slots, ms));
            }
            key_begin = keys.end;
        }
    }

    fn step(
        &self,
        kernel: &Arc<Kernel>,
        units: &Range<u64>,
        keys: &Range<u64>,
        groups: Range<u64>,
        slots: &Slots,
        predicted_ms: f64,
    ) -> Step {
        let shape = self.shape;
        let (h, t) = (shape.heads as u32, shape.tokens as u32);
        let [batch_stride, head_stride, token_stride] = match shape.layout {
            Layout::Bthd => [h * t, 1, h],
            Layout::Bhtd => [h * t, t, 1],
        };
        let dtype = shape.dtype;
        let bind = |slot, dtype, width: usize| self.bind(slot, dtype, units, width);
        let (q, q_offset) = bind(Slot::Input(0), dtype, shape.key);
        let (k, k_offset) = bind(Slot::Input(1), dtype, shape.key);
        let (v, v_offset) = bind(Slot::Input(2), dtype, shape.value);
        let out = if slots.wide { Dtype::F32 } else { dtype };
        let (o, o_offset) = bind(slots.out, out, shape.value);
        let mut binds = vec![q, k, v, o];
        let mut rows_offset = 0;
        if let Some(rows) = slots.rows {
            // The shader counts in pairs.
            let (rows, offset) = bind(rows, Dtype::F32, 2);
            rows_offset = offset.cast_signed().div_euclid(2).cast_unsigned();
            binds.push(rows);
        }
        let params = Params {
            tokens: t,
            heads: h,
            key: shape.key as u32,
            value: shape.value as u32,
            tiles: self.tiles() as u32,
            slices: self.tile.slices(shape) as u32,
            first: groups.start as u32,
            groups: (groups.end - groups.start) as u32,
            key_begin: keys.start as u32,
            key_end: keys.end as u32,
            batch_stride,
            head_stride,
            token_stride,
            q_offset,
            k_offset,
            v_offset,
            o_offset,
            rows_offset,
            scale: self.scale,
        };
        Step {
            kernel: kernel.clone(),
            bind: binds,
            params: bytes_of(&params).to_vec(),
            groups: groups.end - groups.start,
            predicted_ms,
        }
    }

    /// The part of a tensor that some units occupy, and the offset in elements for indices counted from its start.
    fn bind(&self, slot: Slot, dtype: Dtype, units: &Range<u64>, width: usize) -> (Bind, u32) {
        let rows = Rows {
            slot,
            dtype,
            stride: (self.units().1 * self.tokens()) as usize * width,
        };
        rows.bind(units, !matches!(slot, Slot::Input(_)))
    }
}
