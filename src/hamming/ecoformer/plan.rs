//! Plans of attention and of its gradients: pure functions of shape, options and capabilities.

use super::{
    OP, Options, Shape,
    kernels::{Put, Source},
    steps::Batch,
};
use crate::{
    Error, Result,
    elements::{Access, pack_steps},
    gpu::{Caps, Class, Dtype},
    hamming::bits::words,
    plan::{ALIGN, Builder, Plan, Slot, Work},
};

/// Invocations of a workgroup.
pub(super) const LANES: u64 = 64;

/// Bytes of a vector of temporaries.
pub(super) const VECTOR: u64 = 16;

/// Plans the outputs. Inputs: codes, v; output: o.
///
/// # Errors
/// `Argument` when sizes or options make no sense; `Limit` when one head exceeds a binding or the scratch budget.
pub fn forward(shape: &Shape, options: &Options, caps: &Caps) -> Result<Plan> {
    let planner = Planner::new(shape, options, caps)?;
    let mut builder = Builder::default();
    let narrows = !planner.stored().vectors && shape.dtype != Dtype::F32;
    let wide = match narrows {
        true => builder.add_scratch(4 * shape.value_len() as u64),
        false => Slot::Output(0),
    };
    let scratch = planner.scratch(&mut builder, false)?;
    planner.each(&scratch, |batch| {
        batch.states(&mut builder, Source::Values);
        batch.outputs(&mut builder, Source::Values, Put::Typed, wide);
    });
    if narrows {
        let slots = [wide, Slot::Output(0)];
        pack_steps(
            &mut builder,
            caps,
            shape.dtype,
            slots,
            shape.value_len() as u64,
        );
    }
    planner.plan(builder, 1.0, 0.0)
}

/// Plans the gradients. Inputs: codes, v, the gradient of o; outputs: the gradients of v and of the signs.
///
/// # Errors
/// As [`forward`].
pub fn backward(shape: &Shape, options: &Options, caps: &Caps) -> Result<Plan> {
    let planner = Planner::new(shape, options, caps)?;
    let mut builder = Builder::default();
    let scratch = planner.scratch(&mut builder, true)?;
    planner.each(&scratch, |batch| {
        batch.states(&mut builder, Source::Values);
        batch.outputs(&mut builder, Source::Values, Put::Rows, batch.scratch.rows);
        batch.rows(&mut builder);
        batch.states(&mut builder, Source::Rows);
        batch.outputs(&mut builder, Source::Rows, Put::Wide, Slot::Output(0));
        if options.causal {
            batch.pairs(&mut builder);
        }
        batch.bits(&mut builder);
    });
    let written = 4.0 * (shape.value_len() + shape.signs_len()) as f64;
    planner.plan(builder, 4.0, written)
}

pub(super) struct Planner<'a> {
    pub shape: &'a Shape,
    pub options: &'a Options,
    pub caps: &'a Caps,
    /// Tokens of a part: its state is kept.
    pub span: u64,
    /// Tokens of a lane.
    pub rows: u64,
}

/// Temporaries of the heads that are worked on at a time.
pub(super) struct Scratch {
    pub heads: u64,
    pub state: Slot,
    /// Of the gradients only.
    pub rows: Slot,
    pub rows_state: Slot,
    pub pairs: Slot,
}

impl<'a> Planner<'a> {
    fn new(shape: &'a Shape, options: &'a Options, caps: &'a Caps) -> Result<Planner<'a>> {
        shape.check(options)?;
        let mut planner = Planner {
            shape,
            options,
            caps,
            span: 0,
            // Software adapters load lane by lane; GPUs want many lanes.
            rows: if caps.class == Class::Cpu { 8 } else { 4 },
        };
        planner.span = planner.choose_span();
        Ok(planner)
    }

    /// Where causal, about as much work within a part as between parts. Otherwise parts only fill the device.
    fn choose_span(&self) -> u64 {
        if self.options.causal {
            return if self.shape.bits <= 64 { 64 } else { 128 };
        }
        let sets = (self.shape.bits as u64).div_ceil(8);
        let groups = self.shape.heads_len() as u64 * sets * self.columns() / LANES;
        let parts = (4 * u64::from(self.caps.fill)).div_ceil(groups.max(1));
        let even = self.tokens().div_ceil(parts).next_multiple_of(64);
        even.clamp(64, 512)
    }

    pub fn tokens(&self) -> u64 {
        self.shape.tokens as u64
    }

    fn heads(&self) -> u64 {
        self.shape.heads_len() as u64
    }

    pub fn parts(&self) -> u64 {
        self.tokens().div_ceil(self.span)
    }

    /// Vectors of a row of values, and with its weight.
    pub fn quads(&self) -> u64 {
        (self.shape.value as u64).div_ceil(4)
    }

    pub fn columns(&self) -> u64 {
        self.quads() + 1
    }

    /// Vectors of a state.
    pub fn state_len(&self) -> u64 {
        (self.shape.bits as u64 + 1) * self.columns()
    }

    /// How v, its gradient and o are read and written.
    pub fn stored(&self) -> Access {
        Access::new(self.shape.dtype, [self.shape.value; 2], self.caps)
    }

    /// As [`Planner::stored`], of f32.
    pub fn wide(&self) -> Access {
        Access::new(Dtype::F32, [self.shape.value; 2], self.caps)
    }

    /// Whether denominators are exact integers.
    pub fn whole(&self) -> bool {
        let c = f64::from(self.options.offset);
        let most = self.tokens() as f64 * (self.shape.bits as f64 + c);
        c.fract() == 0.0 && most < f64::from(i32::MAX)
    }

    /// Temporaries for as many heads at a time as bindings and the budget take.
    fn scratch(&self, builder: &mut Builder, backward: bool) -> Result<Scratch> {
        let shape = self.shape;
        let tokens = self.tokens();
        let state = VECTOR * self.parts() * self.state_len();
        let (rows, pairs) = match (backward, self.options.causal) {
            (false, _) => (0, 0),
            (true, false) => (VECTOR * tokens * self.columns(), 0),
            (true, true) => (
                VECTOR * tokens * self.columns(),
                4 * tokens * self.span.max(1),
            ),
        };
        let rows_state = if backward { state } else { 0 };
        let signs = if backward { 4 * shape.bits as u64 } else { 0 };
        let widest = [4 * words(shape.bits) as u64, 4 * shape.value as u64, signs];
        let widest = tokens * widest.into_iter().max().unwrap_or(0);
        let bound = [state, rows, pairs, widest].into_iter().max().unwrap_or(0);
        let held = state + rows + rows_state + pairs;
        let taken: u64 = builder.scratch.iter().sum();
        // Sizes are rounded up.
        let budget = self.caps.scratch_bytes.saturating_sub(taken + 256);
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
        if self.parts() > self.caps.loop_iterations {
            return Err(Error::Limit {
                what: format!("{OP}, parts of one head,"),
                needed: self.parts(),
                available: self.caps.loop_iterations,
                remedy: "use fewer tokens or another device",
            });
        }
        let heads = fit.min(self.heads()).max(1);
        let mut add = |bytes: u64| match bytes {
            0 => Slot::Scratch(u16::MAX),
            bytes => builder.add_scratch(heads * bytes),
        };
        Ok(Scratch {
            heads,
            state: add(state),
            rows: add(rows),
            rows_state: add(rows_state),
            pairs: add(pairs),
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
        let adds = shape.rows() as f64 * (shape.bits + 1) as f64 * shape.value as f64;
        let value_bytes = shape.value_len() as f64 * shape.dtype.bytes() as f64;
        let work = Work {
            flops: passes * 2.0 * adds,
            bytes: 4.0 * shape.codes_len() as f64 + 2.0 * value_bytes + more_bytes,
            ..Work::default()
        };
        let form = if self.options.causal {
            "causal"
        } else {
            "full"
        };
        let label = format!("{form}, parts of {}", self.span);
        let plan = builder.plan(OP, label, work);
        plan.check(self.caps)?;
        Ok(plan)
    }
}
