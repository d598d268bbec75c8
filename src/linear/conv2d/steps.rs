//! From a convolution to steps. Pure.

use std::{ops::Range, sync::Arc};

use bytemuck::bytes_of;

use super::{Channels, Conv2d};
use crate::{
    Error, Result,
    elements::pack_steps,
    gpu::{Caps, Dtype, Kernel, Spec, params, part},
    linear::{
        Layout,
        rows::{Io, Put},
    },
    plan::{Bind, Builder, Slot, Step},
    rows::{Rows, Sum, cut},
};

/// Workgroup memory that the kernels of a workgroup's channels may take.
const KERNEL_BYTES: u32 = 16 << 10;

params! {
    /// Parameters of `conv2d`.
    ConvParams {
        first_row: u32,
        key: u32,
        first_line: u32,
        lines: u32,
        columns: u32,
        heads: u32,
        inner_heads: u32,
        line_blocks: u32,
        slices: u32,
        groups: u32,
        x_offset: u32,
        y_offset: u32,
        before_offset: u32,
        kernel_lines: u32,
    }
}

params! {
    /// Parameters of `conv2d_weights`.
    ConvWeightsParams {
        first_row: u32,
        key: u32,
        first_image: u32,
        lines: u32,
        columns: u32,
        heads: u32,
        inner_heads: u32,
        segments: u32,
        segment_lines: u32,
        parts: u32,
        units: u32,
        x_offset: u32,
        g_offset: u32,
    }
}

impl Conv2d {
    /// Heads whose channels lie beside each other in a token.
    fn inner_heads(&self) -> usize {
        match self.layout {
            Layout::Bthd => self.heads,
            Layout::Bhtd => 1,
        }
    }

    /// Grids: one a sequence, or a sequence and head where these lie apart.
    fn images(&self) -> usize {
        self.batch * self.heads / self.inner_heads()
    }

    /// A tensor of this shape by the lines of its images.
    fn lines(&self, slot: Slot, dtype: Dtype) -> Rows {
        Rows {
            slot,
            dtype,
            stride: self.grid[1] * self.inner_heads() * self.value,
        }
    }

    fn spec(&self) -> Spec {
        Spec::default()
            .with("KH", self.kernel[0] as u32)
            .with("KW", self.kernel[1] as u32)
            .with("CHANNELS", self.channels as u32)
    }

    fn io(&self, caps: &Caps, put: Put) -> Io {
        Io {
            dtype: self.dtype,
            native: self.dtype != Dtype::F16 || caps.f16,
            vectors: self.value.is_multiple_of(4),
            wide: false,
            put,
        }
    }
}

/// How `conv2d` runs.
pub(super) struct Conv<'a> {
    pub shape: &'a Conv2d,
    pub caps: &'a Caps,
    pub x: Slot,
    pub weight: Slot,
    pub bias: Option<Slot>,
    pub out: Slot,
    /// Whether the result is added to what is there.
    pub add: bool,
    /// Whether kernels are turned by 180 degrees.
    pub flipped: bool,
}

/// What a result is added to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Before {
    None,
    Here,
    Apart,
}

impl Conv<'_> {
    /// Channels of a workgroup, in fours.
    fn lanes(&self) -> u32 {
        let mut lanes = (self.shape.value as u32)
            .div_ceil(4)
            .next_power_of_two()
            .min(16);
        while 16 * lanes * self.shape.taps() as u32 > KERNEL_BYTES {
            lanes /= 2;
        }
        lanes
    }

    fn kernel(&self, put: Put, before: Before) -> Arc<Kernel> {
        let bias = if self.bias.is_some() {
            part!("linear/conv2d_bias_given.wgsl")
        } else {
            part!("linear/conv2d_bias_none.wgsl")
        };
        let before = match before {
            Before::None => part!("linear/before_none.wgsl"),
            Before::Here => part!("linear/before_here.wgsl"),
            Before::Apart => part!("linear/before_apart.wgsl"),
        };
        let parts = [
            part!("linear/conv2d.wgsl"),
            part!("linear/conv2d_channels.wgsl"),
            bias,
            before,
        ];
        let io = self.shape.io(self.caps, put);
        Arc::new(Kernel {
            spec: self
                .shape
                .spec()
                .with("LANES", self.lanes())
                .with("FLIPPED", self.flipped),
            params: ConvParams::FIELDS,
            workgroup_bytes: 16 * self.lanes() * self.shape.taps() as u32,
            ..io.kernel("linear/conv2d", parts, Some(put))
        })
    }

    /// Adds the steps of the convolution.
    pub fn steps(&self, builder: &mut Builder) -> Result<()> {
        let Conv { shape, caps, .. } = *self;
        let [lines, columns] = shape.grid;
        let all = (shape.images() * lines) as u64;
        if shape.is_empty() {
            return Ok(());
        }
        let vectors = shape.value.is_multiple_of(4);
        let packs = !vectors && shape.dtype != Dtype::F32;
        let put = match (vectors, shape.dtype) {
            (false, _) => Put::Single,
            (true, Dtype::F32) => Put::Wide,
            (true, _) => Put::Typed,
        };
        let before = match (self.add, packs) {
            (false, _) => Before::None,
            (true, false) => Before::Here,
            (true, true) => Before::Apart,
        };
        let kernel = self.kernel(put, before);
        let x = shape.lines(self.x, shape.dtype);
        let held = shape.lines(self.out, shape.dtype);
        let out = if packs {
            shape.lines(builder.add_scratch(4 * shape.len() as u64), Dtype::F32)
        } else {
            held
        };
        let lanes = u64::from(self.lanes());
        let slices = (shape.value as u64).div_ceil(4 * lanes);
        let line_blocks = (columns as u64).div_ceil(4 * (64 / lanes));
        let line_groups = line_blocks * shape.inner_heads() as u64 * slices;
        let line_ms = (columns * shape.inner_heads() * shape.value * 2 * shape.taps()) as f64
            / (caps.gflops * 1e6);
        // The lines that some lines read.
        let beside = (shape.kernel[0] / 2) as u64;
        let read =
            |rows: &Range<u64>| rows.start.saturating_sub(beside)..(rows.end + beside).min(all);
        let fits = |rows: &Range<u64>| {
            let spans = [x.span(&read(rows)), out.span(rows)];
            let small = |bytes: Range<u64>| bytes.end - bytes.start <= caps.binding_bytes;
            let per_dim = u64::from(caps.groups_per_dim);
            let groups = (rows.end - rows.start) * line_groups;
            spans.into_iter().all(small) && groups <= per_dim * per_dim
        };
        for rows in cut(0..all, 1, line_ms, &fits)? {
            let (x_bind, x_offset) = x.bind(&read(&rows), false);
            let (out_bind, y_offset) = out.bind(&rows, true);
            let (held_bind, held_offset) = held.bind(&rows, false);
            let count = rows.end - rows.start;
            let groups = count * line_groups;
            let params = ConvParams {
                first_row: (rows.start * (columns * shape.inner_heads()) as u64) as u32,
                key: shape.value as u32,
                first_line: rows.start as u32,
                lines: lines as u32,
                columns: columns as u32,
                heads: shape.heads as u32,
                inner_heads: shape.inner_heads() as u32,
                line_blocks: line_blocks as u32,
                slices: slices as u32,
                groups: groups as u32,
                x_offset,
                y_offset,
                before_offset: held_offset,
                kernel_lines: shape.kernel[0] as u32,
            };
            let weights = [(Some(self.weight), shape.taps()), (self.bias, 1)];
            let weights = weights.into_iter().filter_map(|(slot, each)| {
                Some(Bind {
                    slot: slot?,
                    bytes: 0..4 * (shape.kernels() * each) as u64,
                    write: false,
                })
            });
            let apart = (before == Before::Apart).then_some(held_bind);
            builder.steps.push(Step {
                kernel: kernel.clone(),
                bind: [x_bind, out_bind]
                    .into_iter()
                    .chain(weights)
                    .chain(apart)
                    .collect(),
                params: bytes_of(&params).to_vec(),
                groups,
                predicted_ms: line_ms * count as f64,
            });
        }
        if packs {
            pack_steps(
                builder,
                caps,
                held.dtype,
                [out.slot, held.slot],
                shape.len() as u64,
            );
        }
        Ok(())
    }
}

/// Adds the steps to the gradients of the kernels and biases.
pub(super) fn weight_steps(
    builder: &mut Builder,
    shape: &Conv2d,
    caps: &Caps,
    x: Slot,
    grad: Slot,
    weight: Slot,
    bias: Option<Slot>,
) -> Result<()> {
    let [lines, columns] = shape.grid;
    let (value, taps) = (shape.value as u64, shape.taps() as u64);
    let (heads, inner_heads) = (shape.heads as u64, shape.inner_heads() as u64);
    // Sets of kernels, blocks of partial sums of a (head, batch, segment), and elements of a block.
    let (sets, blocks, block) = match shape.channels {
        Channels::Each => (heads, 1, value * (taps + 1)),
        Channels::OfHead => (1, heads, value * (taps + 1)),
        Channels::Heads => (heads, value, taps + 1),
    };
    let of_kernels = block / (taps + 1) * taps;
    let sum = |builder: &mut Builder, sums: Slot, parts: u64, accumulate: bool| {
        let sum = Sum {
            sums,
            sets,
            parts,
            block,
            accumulate,
        };
        sum.step(builder, caps, 0..of_kernels, weight);
        if let Some(bias) = bias {
            sum.step(builder, caps, of_kernels..block, bias);
        }
    };
    if shape.is_empty() {
        if heads > 0 {
            let nothing = builder.add_scratch(16);
            sum(builder, nothing, 0, false);
        }
        return Ok(());
    }
    // Segments enough to fill the device, none with more turns than an invocation may take.
    let quads = value.div_ceil(4);
    let image_units = quads * shape.kernel[0] as u64;
    let wanted =
        (256 * u64::from(caps.fill)).div_ceil(image_units * shape.images() as u64 * inner_heads);
    let line_turns = (columns * (2 * shape.kernel[1] + 2) + 4 * shape.kernel[1]) as u64;
    let most = caps.loop_iterations / line_turns;
    if most == 0 {
        return Err(Error::Limit {
            what: "loop iterations over a line".into(),
            needed: line_turns,
            available: caps.loop_iterations,
            remedy: "use fewer columns",
        });
    }
    let segment_lines = (lines as u64).div_ceil(wanted).min(most);
    let segments = (lines as u64).div_ceil(segment_lines);
    let batch_lines = |slot| Rows {
        stride: shape.tokens() * shape.heads * shape.value,
        ..shape.lines(slot, shape.dtype)
    };
    let (x, grad) = (batch_lines(x), batch_lines(grad));
    let batch_sums = 4 * heads * segments * value * (taps + 1);
    let batch_units = image_units * heads * segments;
    let fits = |batches: &Range<u64>| {
        let bytes = x.span(batches);
        let count = batches.end - batches.start;
        let largest = (bytes.end - bytes.start).max(count * batch_sums);
        largest <= caps.binding_bytes && count * batch_units <= u64::from(u32::MAX)
    };
    let batch_ms = (x.stride * 2 * shape.taps()) as f64 / (caps.gflops * 1e6);
    let windows = cut(0..shape.batch as u64, 1, batch_ms, &fits)?;
    let most = windows
        .iter()
        .map(|batches| batches.end - batches.start)
        .max();
    let sums = builder.add_scratch(most.unwrap_or(0) * batch_sums);
    let kernel = Arc::new(Kernel {
        spec: shape.spec(),
        params: ConvWeightsParams::FIELDS,
        ..shape.io(caps, Put::Single).kernel(
            "linear/conv2d_weights",
            [part!("linear/conv2d_weights.wgsl")],
            None,
        )
    });
    for (n, batches) in windows.into_iter().enumerate() {
        let (x_bind, x_offset) = x.bind(&batches, false);
        let (g_bind, g_offset) = grad.bind(&batches, false);
        let count = batches.end - batches.start;
        let units = count * batch_units;
        let params = ConvWeightsParams {
            first_row: (batches.start * (shape.tokens() * shape.heads) as u64) as u32,
            key: value as u32,
            first_image: (batches.start * heads / inner_heads) as u32,
            lines: lines as u32,
            columns: columns as u32,
            heads: heads as u32,
            inner_heads: inner_heads as u32,
            segments: segments as u32,
            segment_lines: segment_lines as u32,
            parts: (count * segments) as u32,
            units: units as u32,
            x_offset,
            g_offset,
        };
        let sums_bind = Bind {
            slot: sums,
            bytes: 0..count * batch_sums,
            write: true,
        };
        builder.steps.push(Step {
            kernel: kernel.clone(),
            bind: vec![x_bind, g_bind, sums_bind],
            params: bytes_of(&params).to_vec(),
            groups: units.div_ceil(64),
            predicted_ms: batch_ms * count as f64,
        });
        sum(builder, sums, count * segments * blocks, n > 0);
    }
    Ok(())
}
