//! What all steps share: the planner's state, and steps over heads, cut so that no binding and no dispatch is too large.

use std::{ops::Range, sync::Arc};

use bytemuck::bytes_of;

use super::{
    Options, Shape,
    kernels::{self, HeadParams},
    plan::OP,
};
use crate::{
    Error, Result,
    elements::Access,
    gpu::{Caps, Dtype, Kernel},
    plan::{ALIGN, Bind, Builder, Plan, STEP_MS, Slot, Step, Work},
    rows::Rows,
};

/// A number of f32 a head, rounded up so that a temporary may be bound from any head on.
pub(super) fn padded(len: usize) -> u64 {
    (len as u64).max(1).next_multiple_of(ALIGN / 4)
}

/// A buffer with the same number of elements for every head, bound from the first head of a dispatch on.
#[derive(Clone, Copy)]
pub(super) struct Buffer {
    pub heads: Rows,
    write: bool,
}

impl Buffer {
    pub fn read(slot: Slot, stride: u64) -> Buffer {
        let heads = Rows {
            slot,
            dtype: Dtype::F32,
            stride: stride as usize,
        };
        Buffer {
            heads,
            write: false,
        }
    }

    pub fn write(slot: Slot, stride: u64) -> Buffer {
        Buffer::read(slot, stride).written()
    }

    /// The same, written to.
    pub fn written(self) -> Buffer {
        Buffer {
            write: true,
            ..self
        }
    }

    /// The binding, and the offset for indices counted from head 0.
    pub fn bind(&self, heads: &Range<u64>) -> (Bind, u32) {
        self.heads.bind(heads, self.write)
    }
}

pub(super) struct Planner<'a> {
    pub shape: &'a Shape,
    pub options: Options,
    pub caps: &'a Caps,
    pub access: Access,
    pub builder: Builder,
}

impl<'a> Planner<'a> {
    pub fn new(
        shape: &'a Shape,
        options: &Options,
        pooled: bool,
        caps: &'a Caps,
    ) -> Result<Planner<'a>> {
        shape.check(OP)?;
        options.check(OP)?;
        shape.fits(caps)?;
        if pooled {
            shape.check_pooled(OP)?;
        }
        Ok(Planner {
            shape,
            options: *options,
            caps,
            access: Access::new(shape.dtype, [shape.width, shape.value], caps),
            builder: Builder::default(),
        })
    }

    pub fn finish(self, label: String, work: Work) -> Result<Plan> {
        let idle = self.shape.rows() == 0;
        let mut plan = self.builder.plan(OP, label, work);
        if idle {
            plan.scratch.clear();
        }
        plan.check(self.caps)?;
        Ok(plan)
    }

    /// A temporary of so many f32 a head.
    pub fn head_scratch(&mut self, stride: u64) -> Slot {
        self.builder
            .add_scratch(4 * stride * self.shape.rows() as u64)
    }

    pub fn p_stride(&self) -> u64 {
        padded(self.shape.landmarks * self.shape.landmarks)
    }

    pub fn r_stride(&self) -> u64 {
        padded(self.shape.landmarks)
    }

    pub fn y_stride(&self, parts: usize) -> u64 {
        padded(self.shape.landmarks * parts * self.shape.value)
    }

    /// A tensor of landmarks, in the storage type.
    pub fn landmark_buffer(&self, slot: Slot) -> Buffer {
        Buffer {
            heads: Rows {
                slot,
                dtype: self.shape.dtype,
                stride: self.shape.landmarks * self.shape.width,
            },
            write: false,
        }
    }

    pub fn scale(&self) -> f32 {
        (0.5 / (self.shape.width as f64).sqrt()) as f32
    }

    /// Parameters that all kernels over heads share, for so many right sides.
    pub fn head_params(&self, parts: usize) -> HeadParams {
        let shape = self.shape;
        HeadParams {
            landmarks: shape.landmarks as u32,
            width: shape.width as u32,
            value: shape.value as u32,
            columns: (parts * shape.value) as u32,
            parts: parts as u32,
            p_stride: self.p_stride() as u32,
            y_stride: self.y_stride(parts) as u32,
            r_stride: self.r_stride() as u32,
            ridge: self.options.ridge,
            scale: self.scale(),
            ..HeadParams::default()
        }
    }

    /// Dispatches over windows of heads; `params` gets the heads and the groups of each. Windows begin at even heads, so that
    /// two never share a word of a 16-bit tensor.
    pub fn windowed(
        &mut self,
        kernel: Arc<Kernel>,
        buffers: &[Buffer],
        groups: &dyn Fn(u64) -> u64,
        head_flops: f64,
        params: &dyn Fn(&Range<u64>, u64) -> Vec<u8>,
    ) -> Result<()> {
        let rows = self.shape.rows() as u64;
        let head_bytes = buffers.iter().map(|buffer| buffer.heads.row_bytes());
        let head_bytes = head_bytes.max().unwrap_or(1).max(1);
        let room = self.caps.binding_bytes.saturating_sub(ALIGN);
        let fit = room / head_bytes;
        if fit < rows.min(2) {
            return Err(Error::Limit {
                what: format!(
                    "bytes in one binding, for what {} needs of two heads,",
                    kernel.name
                ),
                needed: rows.min(2) * head_bytes + ALIGN,
                available: self.caps.binding_bytes,
                remedy: "use fewer landmarks",
            });
        }
        let head_ms = head_flops / (self.caps.gflops * 1e6);
        let quick = (STEP_MS / head_ms.max(1e-12)) as u64;
        let per_dim = u64::from(self.caps.groups_per_dim);
        let few = (per_dim * per_dim) / groups(1).max(1);
        let most = (fit.min(quick).min(few) / 2 * 2).max(2);
        for first in (0..rows).step_by(most as usize) {
            let window = first..rows.min(first + most);
            let len = window.end - window.start;
            let groups = groups(len);
            self.builder.steps.push(Step {
                kernel: kernel.clone(),
                bind: buffers
                    .iter()
                    .map(|buffer| buffer.bind(&window).0)
                    .collect(),
                params: params(&window, groups),
                groups,
                predicted_ms: head_ms * len as f64,
            });
        }
        Ok(())
    }

    /// A step with [`HeadParams`]; the last buffer's offset goes to `out_offset`, the first one's to `l_offset`.
    pub fn over_heads(
        &mut self,
        kernel: Arc<Kernel>,
        buffers: &[Buffer],
        groups: impl Fn(u64) -> u64,
        head_flops: f64,
        params: HeadParams,
    ) -> Result<()> {
        let offset = |buffer: Option<&Buffer>, window: &Range<u64>| {
            buffer.map_or(0, |buffer| buffer.bind(window).1)
        };
        self.windowed(kernel, buffers, &groups, head_flops, &|window, groups| {
            let params = HeadParams {
                heads: (window.end - window.start) as u32,
                first_head: window.start as u32,
                groups: groups as u32,
                l_offset: offset(buffers.first(), window),
                out_offset: offset(buffers.last(), window),
                ..params
            };
            bytes_of(&params).to_vec()
        })
    }

    /// [`Planner::over_heads`] with one invocation for each of so many elements a head.
    pub fn over_elements(
        &mut self,
        kernel: Arc<Kernel>,
        buffers: &[Buffer],
        elements: u64,
        element_flops: f64,
        params: HeadParams,
    ) -> Result<()> {
        let groups = |heads: u64| (heads * elements).div_ceil(256);
        let flops = elements as f64 * element_flops;
        self.over_heads(kernel, buffers, groups, flops, params)
    }

    pub fn landmark_grad(
        &mut self,
        landmarks: Slot,
        pieces: Slot,
        slopes: Slot,
        grad: Slot,
        params: HeadParams,
    ) -> Result<()> {
        let buffers = [
            self.landmark_buffer(landmarks),
            Buffer::read(pieces, params.piece_stride.into()),
            Buffer::read(slopes, self.p_stride()),
            self.landmark_buffer(grad).written(),
        ];
        let elements = (self.shape.landmarks * self.shape.width) as u64;
        let flops = (3 * self.shape.landmarks) as f64 + f64::from(params.segments);
        let kernel = kernels::landmark_grad(self.shape.dtype);
        self.over_elements(kernel, &buffers, elements, flops, params)
    }
}
