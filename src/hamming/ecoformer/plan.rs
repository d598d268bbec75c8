//! Plans of attention and of its gradients: pure functions of shape, options and capabilities.

use std::{ops::Range, sync::Arc};

use bytemuck::bytes_of;

use super::{
    OP, Options, Shape,
    kernels::{self, Params, Put, Source},
};
use crate::{
    Error, Result,
    elements::{Access, pack_steps},
    gpu::{Caps, Class, Dtype, Kernel},
    hamming::bits::{last_mask, words},
    plan::{ALIGN, Bind, Builder, Plan, Slot, Step, Work},
    rows::{Rows, dispatches},
};

/// Invocations of a workgroup.
const LANES: u64 = 64;

/// Bytes of a vector of temporaries.
const VECTOR: u64 = 16;

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

struct Planner<'a> {
    shape: &'a Shape,
    options: &'a Options,
    caps: &'a Caps,
    /// Tokens of a part: its state is kept.
    span: u64,
    /// Tokens of a lane.
    rows: u64,
}

/// Temporaries of the heads that are worked on at a time.
struct Scratch {
    heads: u64,
    state: Slot,
    /// Of the gradients only.
    rows: Slot,
    rows_state: Slot,
    pairs: Slot,
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

    fn tokens(&self) -> u64 {
        self.shape.tokens as u64
    }

    fn heads(&self) -> u64 {
        self.shape.heads_len() as u64
    }

    fn parts(&self) -> u64 {
        self.tokens().div_ceil(self.span)
    }

    /// Vectors of a row of values, and with its weight.
    fn quads(&self) -> u64 {
        (self.shape.value as u64).div_ceil(4)
    }

    fn columns(&self) -> u64 {
        self.quads() + 1
    }

    /// Vectors of a state.
    fn state_len(&self) -> u64 {
        (self.shape.bits as u64 + 1) * self.columns()
    }

    /// How v, its gradient and o are read and written.
    fn stored(&self) -> Access {
        Access::new(self.shape.dtype, [self.shape.value; 2], self.caps)
    }

    /// As [`Planner::stored`], of f32.
    fn wide(&self) -> Access {
        Access::new(Dtype::F32, [self.shape.value; 2], self.caps)
    }

    /// Whether denominators are exact integers.
    fn whole(&self) -> bool {
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
            0 => Slot::Scratch(u8::MAX),
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

/// Some heads, and the temporaries they use.
struct Batch<'a> {
    planner: &'a Planner<'a>,
    scratch: &'a Scratch,
    heads: Range<u64>,
}

impl Batch<'_> {
    fn count(&self) -> u64 {
        self.heads.end - self.heads.start
    }

    /// The rows of a tensor that these heads occupy, and the offset of indices counted from its start.
    fn tensor(&self, slot: Slot, width: u64, dtype: Dtype, write: bool) -> (Bind, u32) {
        let rows = Rows {
            slot,
            dtype,
            stride: (self.planner.tokens() * width) as usize,
        };
        rows.bind(&self.heads, write)
    }

    /// A temporary, so many bytes a head.
    fn held(&self, slot: Slot, bytes: u64, write: bool) -> Bind {
        let bytes = 0..self.count() * bytes;
        Bind { slot, bytes, write }
    }

    fn codes(&self) -> (Bind, u32) {
        let width = words(self.planner.shape.bits) as u64;
        self.tensor(Slot::Input(0), width, Dtype::U32, false)
    }

    fn values(&self, slot: Slot) -> (Bind, u32) {
        let shape = self.planner.shape;
        self.tensor(slot, shape.value as u64, shape.dtype, false)
    }

    fn state(&self, slot: Slot, write: bool) -> Bind {
        let planner = self.planner;
        self.held(slot, VECTOR * planner.parts() * planner.state_len(), write)
    }

    fn rows_bind(&self, write: bool) -> Bind {
        let planner = self.planner;
        let bytes = VECTOR * planner.tokens() * planner.columns();
        self.held(self.scratch.rows, bytes, write)
    }

    fn pairs_bind(&self, write: bool) -> Bind {
        let planner = self.planner;
        self.held(
            self.scratch.pairs,
            4 * planner.tokens() * planner.span,
            write,
        )
    }

    /// What a source binds, with the offset of v.
    fn source(&self, source: Source) -> (Bind, u32) {
        match source {
            Source::Values => self.values(Slot::Input(1)),
            Source::Rows => (self.rows_bind(false), 0),
        }
    }

    /// The state that a source is summed into.
    fn state_of(&self, source: Source) -> Slot {
        match source {
            Source::Values => self.scratch.state,
            Source::Rows => self.scratch.rows_state,
        }
    }

    /// Adds a kernel's dispatches over so many items of these heads, each of which takes so many operations.
    fn push(
        &self,
        builder: &mut Builder,
        kernel: Arc<Kernel>,
        bind: Vec<Bind>,
        [items, flops]: [u64; 2],
        offsets: [u32; 3],
    ) {
        let Planner {
            shape,
            options,
            caps,
            span,
            ..
        } = *self.planner;
        let items = self.count() * items;
        let [codes_offset, v_offset, o_offset] = offsets;
        let group_ms = (LANES * flops) as f64 / (caps.gflops * 1e6);
        for groups in dispatches(0..items.div_ceil(LANES), group_ms, caps) {
            let count = groups.end - groups.start;
            let params = Params {
                tokens: shape.tokens as u32,
                bits: shape.bits as u32,
                words: words(shape.bits) as u32,
                value: shape.value as u32,
                quads: self.planner.quads() as u32,
                span: span as u32,
                parts: self.planner.parts() as u32,
                first_head: self.heads.start as u32,
                items: items as u32,
                first: groups.start as u32,
                groups: count as u32,
                codes_offset,
                v_offset,
                o_offset,
                last_mask: last_mask(shape.bits),
                whole: options.offset as u32,
                offset: options.offset,
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

    /// The states before each part, or the state of all in the place of the first.
    fn states(&self, builder: &mut Builder, source: Source) {
        let planner = self.planner;
        let (codes, codes_offset) = self.codes();
        let (x, v_offset) = self.source(source);
        let slot = self.state_of(source);
        let sets = (planner.shape.bits as u64).div_ceil(8);
        let items = planner.parts() * sets * planner.columns();
        self.push(
            builder,
            kernels::state(source, planner.stored()),
            vec![codes, x, self.state(slot, true)],
            [items, 80 * planner.span.min(planner.tokens())],
            [codes_offset, v_offset, 0],
        );
        let causal = planner.options.causal;
        if causal || planner.parts() > 1 {
            self.push(
                builder,
                kernels::scan(!causal, causal && source == Source::Rows),
                vec![self.state(slot, true)],
                [planner.state_len(), 8 * planner.parts()],
                [0; 3],
            );
        }
    }

    /// Outputs of values, or what rows add up to from the other end.
    fn outputs(&self, builder: &mut Builder, source: Source, put: Put, into: Slot) {
        let planner = self.planner;
        let shape = planner.shape;
        let (codes, codes_offset) = self.codes();
        let (x, v_offset) = self.source(source);
        let access = match source {
            Source::Values => planner.stored(),
            Source::Rows => planner.wide(),
        };
        let (o, o_offset) = match put {
            Put::Rows => (self.rows_bind(true), 0),
            // Whole vectors are in the storage type, elements in f32.
            Put::Typed if planner.stored().vectors => {
                self.tensor(into, shape.value as u64, shape.dtype, true)
            }
            Put::Typed | Put::Wide => self.tensor(into, shape.value as u64, Dtype::F32, true),
        };
        let within = match planner.options.causal {
            true => planner.span * (16 + 4 * words(shape.bits) as u64),
            false => 0,
        };
        let flops = planner.rows * (10 * (shape.bits as u64 + 1) + within);
        let items = planner.tokens().div_ceil(planner.rows) * planner.quads();
        let numbers = [planner.rows as u32, planner.whole().into()];
        self.push(
            builder,
            kernels::output(source, put, planner.options, numbers, access),
            vec![codes, x, self.state(self.state_of(source), false), o],
            [items, flops],
            [codes_offset, v_offset, o_offset],
        );
    }

    /// Rows of outputs to rows of gradients.
    fn rows(&self, builder: &mut Builder) {
        let planner = self.planner;
        let (grad, v_offset) = self.values(Slot::Input(2));
        self.push(
            builder,
            kernels::rows(planner.stored()),
            vec![grad, self.rows_bind(true)],
            [planner.tokens(), 32 * planner.quads()],
            [0, v_offset, 0],
        );
    }

    /// Gradients of the scores within parts.
    fn pairs(&self, builder: &mut Builder) {
        let planner = self.planner;
        let (v, v_offset) = self.values(Slot::Input(1));
        self.push(
            builder,
            kernels::pairs(planner.stored()),
            vec![v, self.rows_bind(false), self.pairs_bind(true)],
            [
                planner.tokens().div_ceil(4) * planner.span / 4,
                128 * planner.columns(),
            ],
            [0, v_offset, 0],
        );
    }

    /// Gradients of the signs.
    fn bits(&self, builder: &mut Builder) {
        let planner = self.planner;
        let bits = planner.shape.bits as u64;
        let (codes, codes_offset) = self.codes();
        let (v, v_offset) = self.values(Slot::Input(1));
        let (grad, o_offset) = self.tensor(Slot::Output(1), bits, Dtype::F32, true);
        let mut bind = vec![
            codes,
            v,
            self.rows_bind(false),
            self.state(self.scratch.state, false),
            self.state(self.scratch.rows_state, false),
        ];
        let causal = planner.options.causal;
        if causal {
            bind.push(self.pairs_bind(false));
        }
        bind.push(grad);
        let within = if causal { 64 * planner.span } else { 0 };
        self.push(
            builder,
            kernels::bits(causal, planner.stored()),
            bind,
            [
                planner.tokens().div_ceil(4) * bits.div_ceil(4),
                256 * planner.columns() + within,
            ],
            [codes_offset, v_offset, o_offset],
        );
    }
}
