//! The steps of attention between signed codes, for some heads at a time.

use std::{ops::Range, sync::Arc};

use bytemuck::bytes_of;

use super::{
    kernels::{self, Params, Put, Source},
    plan::{LANES, Planner, Scratch, VECTOR},
};
use crate::{
    gpu::{Dtype, Kernel},
    hamming::bits::{last_mask, words},
    plan::{Bind, Builder, Slot, Step},
    rows::{Rows, dispatches},
};

/// Some heads, and the temporaries they use.
pub(super) struct Batch<'a> {
    pub planner: &'a Planner<'a>,
    pub scratch: &'a Scratch,
    pub heads: Range<u64>,
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
    pub fn states(&self, builder: &mut Builder, source: Source) {
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
    pub fn outputs(&self, builder: &mut Builder, source: Source, put: Put, into: Slot) {
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
    pub fn rows(&self, builder: &mut Builder) {
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
    pub fn pairs(&self, builder: &mut Builder) {
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
    pub fn bits(&self, builder: &mut Builder) {
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
