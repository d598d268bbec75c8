//! Plans of the loss and of its gradient: pure functions of shape, options and capabilities.

use std::{ops::Range, sync::Arc};

use bytemuck::bytes_of;

use super::{KEPT, OP, Options, Shape};
use crate::{
    Error, Result,
    elements::Access,
    gpu::{Caps, Dtype, Kernel, Part, Spec, params, part},
    plan::{ALIGN, Bind, Plan, Slot, Step, Work},
    rows::{Rows, dispatches},
};

params! {
    /// Parameters of every kernel here.
    Params {
        tokens: u32,
        key: u32,
        features: u32,
        tiles: u32,
        slices: u32,
        first: u32,
        groups: u32,
        begin: u32,
        end: u32,
        qk_offset: u32,
        phi_offset: u32,
        rows_offset: u32,
        loss_offset: u32,
        scale: f32,
        weight: f32,
    }
}

/// Plans the losses. Inputs: q, k, φ(q), φ(k); outputs: loss, entropy, and what the gradient needs of each query.
///
/// # Errors
/// `Argument` when sizes or options make no sense; `Limit` when one head exceeds a binding.
pub fn forward(shape: &Shape, options: &Options, caps: &Caps) -> Result<Plan> {
    let planner = Planner::new(shape, options, caps)?;
    planner.plan(
        &[Kind::Loss],
        1,
        4.0 * (KEPT + 2) as f64 * shape.rows() as f64,
    )
}

/// Plans the gradients. Inputs: q, k, φ(q), φ(k), what [`forward`] kept; outputs: the gradients of φ(q) and φ(k).
///
/// # Errors
/// As [`forward`].
pub fn backward(shape: &Shape, options: &Options, caps: &Caps) -> Result<Plan> {
    let planner = Planner::new(shape, options, caps)?;
    planner.plan(
        &[Kind::Queries, Kind::Keys],
        2,
        4.0 * (KEPT * shape.rows() + 2 * shape.features_len()) as f64,
    )
}

/// What a dispatch computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The losses of queries.
    Loss,
    /// The gradients of queries' features.
    Queries,
    /// The gradients of keys' features.
    Keys,
}

struct Planner<'a> {
    shape: &'a Shape,
    options: &'a Options,
    caps: &'a Caps,
    /// Rows and columns of a tile.
    tile: u64,
}

/// Columns of the gradient that a workgroup sums.
const FEATURES: u64 = 64;

impl<'a> Planner<'a> {
    fn new(shape: &'a Shape, options: &'a Options, caps: &'a Caps) -> Result<Planner<'a>> {
        shape.check(options)?;
        // A tile of 64 takes 24 KiB for the gradient, one of 32 takes 8 KiB.
        let tile = if caps.workgroup_bytes >= 24 << 10 && caps.invocations >= 256 {
            64
        } else {
            32
        };
        Ok(Planner {
            shape,
            options,
            caps,
            tile,
        })
    }

    fn plan(&self, kinds: &[Kind], products: usize, out_bytes: f64) -> Result<Plan> {
        let mut steps = Vec::new();
        for kind in kinds {
            self.steps(*kind, &mut steps)?;
        }
        let shape = self.shape;
        let q_bytes = shape.key_len() as f64 * shape.dtype.bytes() as f64;
        let phi_bytes = 4.0 * shape.features_len() as f64;
        let plan = Plan {
            op: OP,
            label: format!("streamed, tiles of {}", self.tile),
            steps,
            scratch: Vec::new(),
            tables: Vec::new(),
            work: Work {
                flops: self.pairs() * 2.0 * (shape.key + products * shape.features) as f64,
                bytes: 2.0 * (q_bytes + phi_bytes) + out_bytes,
                ..Work::default()
            },
        };
        plan.check(self.caps)?;
        Ok(plan)
    }

    /// Pairs of queries and keys that see each other.
    fn pairs(&self) -> f64 {
        let tokens = self.tokens() as f64;
        let of_head = if self.options.causal {
            0.5 * tokens * (tokens + 1.0)
        } else {
            tokens * tokens
        };
        of_head * self.shape.heads_len() as f64
    }

    fn tokens(&self) -> u64 {
        self.shape.tokens as u64
    }

    fn tiles(&self) -> u64 {
        self.tokens().div_ceil(self.tile)
    }

    /// Invocations of a workgroup.
    fn lanes(&self) -> u64 {
        (self.tile / 4).pow(2)
    }

    /// Workgroups that share the columns of a gradient.
    fn slices(&self, kind: Kind) -> u64 {
        match kind {
            Kind::Loss => 1,
            _ => (self.shape.features as u64).div_ceil(FEATURES),
        }
    }

    /// Columns that one dispatch walks: as many tiles as a device lets an invocation's loops turn, nested ones included.
    fn columns(&self, kind: Kind) -> u64 {
        let lanes = self.lanes();
        let product =
            |width: usize| (width as u64).div_ceil(16) * (1 + 4 * self.tile / lanes + 4 * (1 + 4));
        let rest = match kind {
            Kind::Loss => 4,
            _ => {
                let rows = self.tile * FEATURES / 4 / lanes;
                let slabs = 1 + (4 * FEATURES).div_ceil(lanes) + 16 * (1 + rows);
                4 + 4 * (1 + 4) + self.tile / 16 * slabs
            }
        };
        let turns = 1 + product(self.shape.key) + product(self.shape.features) + rest;
        let most = (self.caps.loop_iterations / 16 * 15 / turns).max(1);
        most.saturating_mul(self.tile).min(self.tokens())
    }

    /// Dispatches of one kind: cut in heads where a binding does not take all, in columns where a shader may not walk all, and
    /// in groups by time.
    fn steps(&self, kind: Kind, steps: &mut Vec<Step>) -> Result<()> {
        let heads = self.shape.heads_len() as u64;
        if heads * self.tokens() == 0 {
            return Ok(());
        }
        let fit = self.heads_in_a_binding()?;
        let per_head = self.tiles() * self.slices(kind);
        let columns = self.columns(kind);
        let shape = self.shape;
        let width = shape.key
            + shape.features
            + if kind == Kind::Loss {
                0
            } else {
                FEATURES as usize
            };
        let group_flops = (self.tile * columns) as f64 * 2.0 * width as f64;
        let group_ms = group_flops / (self.caps.gflops * 1e6);
        let kernel = Arc::new(self.kernel(kind));
        let mut from = 0;
        while from < heads {
            let bound = from..(from + fit).min(heads);
            let mut begin = 0;
            while begin < self.tokens() {
                let walked = begin..(begin + columns).min(self.tokens());
                let groups = bound.start * per_head..bound.end * per_head;
                for groups in dispatches(groups, group_ms, self.caps) {
                    let ms = group_ms * (groups.end - groups.start) as f64;
                    steps.push(self.step(kind, &kernel, &bound, &walked, groups, ms));
                }
                begin = walked.end;
            }
            from = bound.end;
        }
        Ok(())
    }

    fn heads_in_a_binding(&self) -> Result<u64> {
        let shape = self.shape;
        let widest = (shape.key as u64 * shape.dtype.bytes())
            .max(4 * shape.features as u64)
            .max(4 * KEPT as u64);
        let needed = self.tokens() * widest + ALIGN;
        match self.caps.binding_bytes.saturating_sub(ALIGN) / (self.tokens() * widest) {
            0 => Err(Error::Limit {
                what: "bytes in one binding, for one head,".into(),
                needed,
                available: self.caps.binding_bytes,
                remedy: "use fewer tokens",
            }),
            fit => Ok(fit),
        }
    }

    fn kernel(&self, kind: Kind) -> Kernel {
        let Shape {
            dtype,
            key,
            features,
            ..
        } = *self.shape;
        let access = Access::new(dtype, [key, features], self.caps);
        let (name, own): (_, Part) = match kind {
            Kind::Loss => ("distill/loss", part!("distill/loss.wgsl")),
            _ => ("distill/gradient", part!("distill/gradient.wgsl")),
        };
        let (tile, lanes) = (self.tile as u32, self.lanes() as u32);
        let arena = 8 * tile;
        let spec = Spec::default()
            .with("TILE", tile)
            .with("ARENA", arena)
            .with("CAUSAL", self.options.causal)
            .with("OF_KEYS", kind == Kind::Keys);
        let (spec, own_bytes) = match kind {
            Kind::Loss => (spec, 16 * lanes),
            _ => (spec.with("FEATURES", FEATURES as u32), 4 * tile * tile),
        };
        Kernel {
            name,
            parts: [own, part!("distill/pairs.wgsl"), part!("common/grid.wgsl")]
                .into_iter()
                .chain(access.parts())
                .collect(),
            spec,
            needs: access.needs(),
            params: Params::FIELDS,
            workgroup: [lanes, 1, 1],
            workgroup_bytes: 16 * arena + own_bytes,
        }
    }

    fn step(
        &self,
        kind: Kind,
        kernel: &Arc<Kernel>,
        heads: &Range<u64>,
        columns: &Range<u64>,
        groups: Range<u64>,
        predicted_ms: f64,
    ) -> Step {
        let shape = self.shape;
        let bind = |slot, width, dtype| self.bind(slot, heads, width as u64, dtype);
        let (q, qk_offset) = bind(Slot::Input(0), shape.key, shape.dtype);
        let (k, _) = bind(Slot::Input(1), shape.key, shape.dtype);
        let (phi_q, phi_offset) = bind(Slot::Input(2), shape.features, Dtype::F32);
        let (phi_k, _) = bind(Slot::Input(3), shape.features, Dtype::F32);
        let mut binds = vec![q, k, phi_q, phi_k];
        let mut loss_offset = 0;
        let rows_offset = match kind {
            Kind::Loss => {
                let (rows, offset) = bind(Slot::Output(2), KEPT, Dtype::F32);
                let (loss, at) = bind(Slot::Output(0), 1, Dtype::F32);
                loss_offset = at;
                binds.extend([rows, loss, bind(Slot::Output(1), 1, Dtype::F32).0]);
                offset
            }
            _ => {
                let (rows, offset) = bind(Slot::Input(4), KEPT, Dtype::F32);
                let slot = Slot::Output((kind == Kind::Keys).into());
                binds.extend([rows, bind(slot, shape.features, Dtype::F32).0]);
                offset
            }
        };
        let params = Params {
            tokens: shape.tokens as u32,
            key: shape.key as u32,
            features: shape.features as u32,
            tiles: self.tiles() as u32,
            slices: self.slices(kind) as u32,
            first: groups.start as u32,
            groups: (groups.end - groups.start) as u32,
            begin: columns.start as u32,
            end: columns.end as u32,
            qk_offset,
            phi_offset,
            rows_offset,
            loss_offset,
            scale: self.options.scale,
            weight: shape.weight() as f32,
        };
        Step {
            kernel: kernel.clone(),
            bind: binds,
            params: bytes_of(&params).to_vec(),
            groups: groups.end - groups.start,
            predicted_ms,
        }
    }

    /// The part of a tensor that some heads occupy, and the offset in elements for indices counted from its start.
    fn bind(&self, slot: Slot, heads: &Range<u64>, width: u64, dtype: Dtype) -> (Bind, u32) {
        let rows = Rows {
            slot,
            dtype,
            stride: (self.tokens() * width) as usize,
        };
        rows.bind(heads, !matches!(slot, Slot::Input(_)))
    }
}
