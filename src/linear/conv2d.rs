//! Depthwise convolution of tokens that form a grid, as vision models add to linear attention.

use std::{ops::Range, sync::Arc};

use bytemuck::bytes_of;

use super::{
    FeatureShape, Layout,
    rows::{Io, Put, Rows, Sum, cut, pack_steps},
};
use crate::{
    Error, Result,
    gpu::{Caps, Dtype, Elem, Gpu, Kernel, Spec, Tensor, params, part},
    plan::{Bind, Builder, Plan, Slot, Step, Work},
};

const OP: &str = "depthwise_conv2d";

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

/// Which channels share a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Channels {
    /// None: `heads * value` kernels.
    Each,
    /// Those of one number in all heads: `value` kernels.
    OfHead,
    /// Those of one head: `heads` kernels.
    Heads,
}

/// Sizes of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2d {
    /// Sequences.
    pub batch: usize,
    /// Lines and columns of the grid; token t lies in line t / columns.
    pub grid: [usize; 2],
    /// Heads.
    pub heads: usize,
    /// Channels of a head, 1 to [`MAX_WIDTH`](super::MAX_WIDTH).
    pub value: usize,
    /// Order of the axes: `[batch, lines * columns, heads, value]`, or heads before tokens.
    pub layout: Layout,
    /// Storage type of x and o: f32, f16 or bf16.
    pub dtype: Dtype,
    /// Lines and columns of a kernel: 3, 5, 7 or 9.
    pub kernel: [usize; 2],
    /// Which channels share a kernel.
    pub channels: Channels,
}

impl Conv2d {
    /// Tokens of a sequence.
    pub fn tokens(&self) -> usize {
        self.grid[0] * self.grid[1]
    }

    /// Elements of x and of o.
    pub fn len(&self) -> usize {
        self.batch * self.tokens() * self.heads * self.value
    }

    /// Whether x has no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Kernels, which is the number of biases.
    pub fn kernels(&self) -> usize {
        match self.channels {
            Channels::Each => self.heads * self.value,
            Channels::OfHead => self.value,
            Channels::Heads => self.heads,
        }
    }

    /// Elements of a kernel.
    pub fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    /// The kernel of a channel of a head.
    pub(super) fn channel(&self, head: usize, v: usize) -> usize {
        match self.channels {
            Channels::Each => head * self.value + v,
            Channels::OfHead => v,
            Channels::Heads => head,
        }
    }

    pub(super) fn check(&self, op: &'static str) -> Result<()> {
        let odd = |n: usize| (3..=9).contains(&n) && n % 2 == 1;
        if !self.kernel.into_iter().all(odd) {
            return Err(Error::Argument {
                op,
                what: "kernel".into(),
                expected: "3, 5, 7 or 9 lines and columns".into(),
                got: format!("{} x {}", self.kernel[0], self.kernel[1]),
            });
        }
        let tokens = self.grid[0].checked_mul(self.grid[1]);
        FeatureShape {
            batch: self.batch,
            tokens: tokens.unwrap_or(usize::MAX),
            heads: self.heads,
            key: self.value,
            layout: self.layout,
            dtype: self.dtype,
        }
        .check(op)
    }

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
struct Conv<'a> {
    shape: &'a Conv2d,
    caps: &'a Caps,
    x: Slot,
    weight: Slot,
    bias: Option<Slot>,
    out: Slot,
    add: bool,
    flipped: bool,
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

    fn steps(&self, builder: &mut Builder) -> Result<()> {
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
            pack_steps(builder, caps, out.slot, held, shape.len() as u64);
        }
        Ok(())
    }
}

/// Adds the steps to the gradients of the kernels and biases.
fn weight_steps(
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

/// Plans [`depthwise_conv2d`]. Inputs: x, the weights, then the bias where there is one; output: o.
///
/// # Errors
/// `Argument` for impossible shapes, `Limit` when a line of an image and those its kernel reaches exceed a binding.
pub fn plan(shape: &Conv2d, bias: bool, add: bool, caps: &Caps) -> Result<Plan> {
    check(shape, caps)?;
    let mut builder = Builder::default();
    let conv = Conv {
        shape,
        caps,
        x: Slot::Input(0),
        weight: Slot::Input(1),
        bias: bias.then_some(Slot::Input(2)),
        out: Slot::Output(0),
        add,
        flipped: false,
    };
    conv.steps(&mut builder)?;
    finish(builder, shape, 1.0, 2.0 + f64::from(u8::from(add)), caps)
}

/// Plans [`depthwise_conv2d_adjoint`]. Inputs: x, the weights, the gradient of o; outputs: the gradients of x, of the weights,
/// then of the bias where there is one.
///
/// # Errors
/// As [`plan`]; `Limit` also when a sequence exceeds a binding.
pub fn plan_adjoint(shape: &Conv2d, bias: bool, add: bool, caps: &Caps) -> Result<Plan> {
    check(shape, caps)?;
    let mut builder = Builder::default();
    let conv = Conv {
        shape,
        caps,
        x: Slot::Input(2),
        weight: Slot::Input(1),
        bias: None,
        out: Slot::Output(0),
        add,
        flipped: true,
    };
    conv.steps(&mut builder)?;
    let bias = bias.then_some(Slot::Output(2));
    let (x, grad, weight) = (Slot::Input(0), Slot::Input(2), Slot::Output(1));
    weight_steps(&mut builder, shape, caps, x, grad, weight, bias)?;
    finish(builder, shape, 2.0, 3.0 + f64::from(u8::from(add)), caps)
}

fn check(shape: &Conv2d, caps: &Caps) -> Result<()> {
    shape.check(OP)?;
    let needed = shape.len() as u64 * shape.dtype.bytes();
    if needed > caps.buffer_bytes {
        return Err(Error::Limit {
            what: "bytes of x".into(),
            needed,
            available: caps.buffer_bytes,
            remedy: "cut the batch",
        });
    }
    Ok(())
}

fn finish(
    builder: Builder,
    shape: &Conv2d,
    passes: f64,
    tensors: f64,
    caps: &Caps,
) -> Result<Plan> {
    let plan = Plan {
        op: OP,
        label: format!("{} x {}", shape.kernel[0], shape.kernel[1]),
        steps: builder.steps,
        scratch: builder.scratch,
        work: Work {
            flops: passes * 2.0 * (shape.len() * shape.taps()) as f64,
            popcounts: 0.0,
            bytes: tensors * shape.len() as f64 * shape.dtype.bytes() as f64
                + passes * 4.0 * (shape.kernels() * (shape.taps() + 1)) as f64,
        },
    };
    plan.check(caps)?;
    Ok(plan)
}

/// What [`depthwise_conv2d`] and [`depthwise_conv2d_adjoint`] read.
#[derive(Clone, Copy, Debug)]
pub struct Conv2dInputs<'a, T: Elem> {
    /// `[batch, lines * columns, heads, value]`, or heads before tokens.
    pub x: &'a Tensor<T>,
    /// `[kernels, kernel lines, kernel columns]`; kernels as [`Channels`] says.
    pub weight: &'a Tensor<f32>,
    /// `[kernels]`.
    pub bias: Option<&'a Tensor<f32>>,
}

/// What [`depthwise_conv2d_adjoint`] writes.
#[derive(Debug)]
pub struct Conv2dGradients<'a, T: Elem> {
    /// The gradient of x, of its shape and type.
    pub x: &'a mut Tensor<T>,
    /// That of the weights.
    pub weight: &'a mut Tensor<f32>,
    /// That of the bias, exactly where there is one.
    pub bias: Option<&'a mut Tensor<f32>>,
}

impl<T: Elem> Conv2dInputs<'_, T> {
    fn check(&self, shape: &Conv2d) -> Result<()> {
        shape.check(OP)?;
        if T::DTYPE != shape.dtype {
            return Err(Error::Argument {
                op: OP,
                what: "dtype of the shape".into(),
                expected: format!("the type of x, {}", T::DTYPE.name()),
                got: shape.dtype.name().into(),
            });
        }
        length("x", self.x.len(), shape.len())?;
        length("weight", self.weight.len(), shape.kernels() * shape.taps())?;
        match self.bias {
            Some(bias) => length("bias", bias.len(), shape.kernels()),
            None => Ok(()),
        }
    }
}

pub(super) fn length(what: &str, len: usize, expected: usize) -> Result<()> {
    if len == expected {
        return Ok(());
    }
    Err(Error::Argument {
        op: OP,
        what: what.into(),
        expected: format!("{expected} elements for this shape"),
        got: len.to_string(),
    })
}

/// Depthwise convolution of the tokens' grid, zero outside, stride 1: every channel of every head by a kernel of its own or a
/// shared one.
///
/// ```text
/// o[line, column] = bias + sum_ij weight[i, j] x[line + i − KH/2, column + j − KW/2]        (+ o, with `add`)
/// ```
///
/// Shapes: x, o `[B, lines · columns, H, V]`, tokens line by line (or head-first); weight `[C, KH, KW]`, bias `[C]`, where C is
/// the number of kernels, see [`Channels`]. Storage f32, f16 or bf16; sums in f32, rounded once; weights and bias f32.
///
/// Cost: 2 KH KW operations an element; a temporary in f32 where x has 16 bits and V is not a multiple of 4.
///
/// Accuracy: root-mean-square error to the f64 reference, relative, <= 2e-6 (f32), 5e-4 (f16), 4e-3 (bf16). Deterministic:
/// two runs are bit-equal.
///
/// Returns when the work is submitted; downloading waits for it.
///
/// # Errors
/// `Argument` when sizes and types do not fit together or the kernel is not 3, 5, 7 or 9 wide; `Limit` when the call exceeds
/// the device or its scratch budget; `Shader`, `OutOfMemory`, `Timeout`, `DeviceLost` from the device.
///
/// Source: LiT (Wang et al., Delving into a simple linear diffusion transformer, 2025) adds this of V to normalised linear attention with
/// the map `relu`.
pub fn depthwise_conv2d<T: Elem>(
    gpu: &Gpu,
    shape: &Conv2d,
    inputs: &Conv2dInputs<'_, T>,
    add: bool,
    o: &mut Tensor<T>,
) -> Result<()> {
    inputs.check(shape)?;
    length("o", o.len(), shape.len())?;
    let plan = plan(shape, inputs.bias.is_some(), add, gpu.caps())?;
    let bias = inputs.bias.map(Tensor::view);
    let views: Vec<_> = [inputs.x.view(), inputs.weight.view()]
        .into_iter()
        .chain(bias)
        .collect();
    let mut pass = gpu.pass(OP);
    pass.run(&plan, &views, &mut [o.view_mut()])?;
    pass.submit().map(drop)
}

/// Gradients of Σ `grad` ⊙ o with respect to x (added to what is there, with `add`), the weights and the bias.
///
/// ```text
/// dx[line, column] = sum_ij weight[KH−1−i, KW−1−j] grad[line + i − KH/2, column + j − KW/2]
/// dweight[i, j] = sum grad[line, column] x[line + i − KH/2, column + j − KW/2]        dbias = sum grad
/// ```
///
/// Sums over tokens, and over channels that share a kernel, are in f32 in a fixed order. Shapes, cost and accuracy as
/// [`depthwise_conv2d`], the gradients of weights <= 2e-5; temporaries: partial sums, at most one binding.
///
/// # Errors
/// As [`depthwise_conv2d`]; `Limit` also when a sequence exceeds a binding.
pub fn depthwise_conv2d_adjoint<T: Elem>(
    gpu: &Gpu,
    shape: &Conv2d,
    inputs: &Conv2dInputs<'_, T>,
    grad: &Tensor<T>,
    add: bool,
    gradients: Conv2dGradients<'_, T>,
) -> Result<()> {
    inputs.check(shape)?;
    length("grad", grad.len(), shape.len())?;
    let Conv2dGradients { x, weight, bias } = gradients;
    length("the gradient of x", x.len(), shape.len())?;
    length("the gradient of weight", weight.len(), inputs.weight.len())?;
    let biases = inputs.bias.map_or(0, Tensor::len);
    length(
        "the gradient of bias",
        bias.as_ref().map_or(0, |bias| bias.len()),
        biases,
    )?;
    let plan = plan_adjoint(shape, bias.is_some(), add, gpu.caps())?;
    let views = [inputs.x.view(), inputs.weight.view(), grad.view()];
    let mut outputs = vec![x.view_mut(), weight.view_mut()];
    outputs.extend(bias.map(Tensor::view_mut));
    let mut pass = gpu.pass("depthwise_conv2d adjoint");
    pass.run(&plan, &views, &mut outputs)?;
    pass.submit().map(drop)
}
