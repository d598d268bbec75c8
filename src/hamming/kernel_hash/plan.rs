//! Plans of hashing and of its gradient: pure functions of shape, σ and capabilities.

use super::{OP, Shape, Sigma, steps::Batch};
use crate::{
    Error, Result,
    elements::Access,
    gpu::Caps,
    plan::{ALIGN, Builder, Plan, Slot, Work},
};

/// Invocations of a workgroup.
pub(super) const LANES: u64 = 64;

/// Numbers that a lane of `hash_sums` adds.
pub(super) const BLOCK: u64 = 64;

/// Plans the codes. Inputs: x, anchors, mean, weight; outputs: words and, if asked for, the projection.
///
/// # Errors
/// `Argument` when sizes or σ make no sense; `Limit` when one head exceeds a binding, the scratch budget or the device's loops.
pub fn forward(shape: &Shape, sigma: Sigma, projection: bool, caps: &Caps) -> Result<Plan> {
    let planner = Planner::new(shape, sigma, caps, false)?;
    let mut builder = Builder::default();
    let scratch = planner.scratch(&mut builder)?;
    planner.each(&scratch, |batch| {
        batch.distances(&mut builder);
        batch.hash(
            &mut builder,
            Some(Slot::Output(0)),
            projection.then_some(Slot::Output(1)),
        );
    });
    let written = shape.words_len() + if projection { shape.signs_len() } else { 0 };
    planner.plan(builder, 1.0, 4.0 * written as f64)
}

/// Plans the gradient. Inputs: x, anchors, mean, weight, the gradient of the signs; output: the gradient of x.
///
/// # Errors
/// As [`forward`].
pub fn backward(shape: &Shape, sigma: Sigma, caps: &Caps) -> Result<Plan> {
    let planner = Planner::new(shape, sigma, caps, true)?;
    let mut builder = Builder::default();
    let scratch = planner.scratch(&mut builder)?;
    planner.each(&scratch, |batch| {
        batch.distances(&mut builder);
        batch.hash(&mut builder, None, Some(batch.scratch.projection));
        batch.pull(&mut builder);
        batch.input(&mut builder);
    });
    planner.plan(
        builder,
        2.0,
        4.0 * (shape.signs_len() + shape.x_len()) as f64,
    )
}

pub(super) struct Planner<'a> {
    pub shape: &'a Shape,
    pub sigma: Sigma,
    pub caps: &'a Caps,
    pub backward: bool,
}

/// Temporaries of the heads that are worked on at a time.
pub(super) struct Scratch {
    pub heads: u64,
    pub distances: Slot,
    /// Sums of the distances, level by level; with σ a mean.
    pub squares: Vec<Slot>,
    /// Of the gradient only.
    pub projection: Slot,
    pub pulls: Slot,
    /// Sums of products of the two; with σ a mean.
    pub products: Vec<Slot>,
}

impl<'a> Planner<'a> {
    fn new(shape: &'a Shape, sigma: Sigma, caps: &'a Caps, backward: bool) -> Result<Planner<'a>> {
        shape.check(sigma)?;
        let [bits, anchors, channels] = [shape.bits, shape.anchors, shape.channels];
        let (anchors, quads) = (anchors as u64, (channels as u64).div_ceil(4));
        let mut turns = (5 * quads).max(anchors * 9 + 40);
        if backward {
            turns = turns
                .max(bits as u64 + 1)
                .max(anchors + quads * (anchors + 10));
        }
        if turns > caps.loop_iterations {
            return Err(Error::Limit {
                what: format!("{OP}, iterations of a shader's loops,"),
                needed: turns,
                available: caps.loop_iterations,
                remedy: "use fewer anchors or channels, or another device",
            });
        }
        Ok(Planner {
            shape,
            sigma,
            caps,
            backward,
        })
    }

    pub fn tokens(&self) -> u64 {
        self.shape.tokens as u64
    }

    fn heads(&self) -> u64 {
        self.shape.heads_len() as u64
    }

    /// Distances of a head.
    pub fn distances_len(&self) -> u64 {
        self.tokens() * self.shape.anchors as u64
    }

    /// What is left of a head's numbers after each round of sums.
    fn levels(&self) -> Vec<u64> {
        let mut levels = Vec::new();
        let mut count = self.distances_len();
        while levels.is_empty() || count > 1 {
            count = count.div_ceil(BLOCK);
            levels.push(count);
        }
        levels
    }

    pub fn access(&self) -> Access {
        Access::new(self.shape.dtype, [self.shape.channels; 2], self.caps)
    }

    /// Temporaries for as many heads at a time as bindings and the budget take.
    fn scratch(&self, builder: &mut Builder) -> Result<Scratch> {
        let shape = self.shape;
        let (tokens, distances) = (self.tokens(), 4 * self.distances_len());
        let signs = 4 * tokens * shape.bits as u64;
        let x = 4 * tokens * shape.channels as u64;
        let (projection, pulls) = match self.backward {
            true => (signs, distances),
            false => (0, 0),
        };
        let bound = distances.max(signs).max(x);
        // Each level of the sums is a 64th of the one before.
        let held = 2 * distances + projection + 2 * pulls;
        let budget = self.caps.scratch_bytes.saturating_sub(4096);
        let binding = self.caps.binding_bytes.saturating_sub(2 * ALIGN);
        let fit = (binding / bound.max(1)).min(budget / held.max(1));
        if fit == 0 {
            let (what, needed, available) = match bound > binding {
                true => ("bytes in one binding", bound, binding),
                false => ("bytes of scratch", held, budget),
            };
            return Err(Error::Limit {
                what: format!("{OP}, {what}, for one head,"),
                needed,
                available,
                remedy: "use fewer tokens or raise `Select::scratch_bytes`",
            });
        }
        let heads = fit.min(self.heads()).max(1);
        let levels = match self.sigma {
            Sigma::SequenceMean => self.levels(),
            Sigma::Frozen(_) => Vec::new(),
        };
        let mut add = |bytes: u64| match bytes {
            0 => Slot::Scratch(u16::MAX),
            bytes => builder.add_scratch(heads * bytes),
        };
        let distances = add(distances);
        let squares = levels.iter().map(|count| add(4 * count)).collect();
        let projection = add(projection);
        let products = levels.iter().filter(|_| pulls > 0);
        let products = products.map(|count| add(4 * count)).collect();
        Ok(Scratch {
            heads,
            distances,
            squares,
            projection,
            pulls: add(pulls),
            products,
        })
    }

    /// Does something for every batch of heads, in order.
    fn each(&self, scratch: &Scratch, mut steps: impl FnMut(&Batch<'_>)) {
        if self.heads() * self.tokens() == 0 {
            return;
        }
        for first in (0..self.heads()).step_by(scratch.heads as usize) {
            steps(&Batch {
                planner: self,
                scratch,
                heads: first..(first + scratch.heads).min(self.heads()),
            });
        }
    }

    fn plan(&self, builder: Builder, passes: f64, more_bytes: f64) -> Result<Plan> {
        let shape = self.shape;
        let per_row = 2.0 * shape.anchors as f64 * (shape.channels + shape.bits) as f64;
        let sets = shape.anchors_len() + shape.mean_len() + shape.weight_len();
        let x_bytes = shape.x_len() as f64 * shape.dtype.bytes() as f64;
        let work = Work {
            flops: passes * shape.rows() as f64 * per_row,
            bytes: x_bytes + 4.0 * sets as f64 + more_bytes,
            ..Work::default()
        };
        let label = match self.sigma {
            Sigma::Frozen(_) => "sigma frozen",
            Sigma::SequenceMean => "sigma by sequence",
        };
        let plan = builder.plan(OP, label.into(), work);
        plan.check(self.caps)?;
        Ok(plan)
    }
}
