//! Depthwise convolution of tokens that form a grid, as vision models add to linear attention.

mod steps;

use super::{FeatureShape, Layout};
use crate::{
    Error, Result,
    error::{length, stored_as},
    gpu::{Caps, Dtype, Elem, Gpu, Tensor},
    plan::{Builder, Plan, Slot, Work},
};
use steps::{Conv, weight_steps};

pub(super) const OP: &str = "depthwise_conv2d";

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
    let work = Work {
        flops: passes * 2.0 * (shape.len() * shape.taps()) as f64,
        popcounts: 0.0,
        bytes: tensors * shape.len() as f64 * shape.dtype.bytes() as f64
            + passes * 4.0 * (shape.kernels() * (shape.taps() + 1)) as f64,
    };
    let label = format!("{} x {}", shape.kernel[0], shape.kernel[1]);
    let plan = builder.plan(OP, label, work);
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
    pub(super) fn check(&self, shape: &Conv2d) -> Result<()> {
        shape.check(OP)?;
        stored_as::<T>(OP, shape.dtype)?;
        length(OP, "x", self.x.len(), shape.len())?;
        length(
            OP,
            "weight",
            self.weight.len(),
            shape.kernels() * shape.taps(),
        )?;
        match self.bias {
            Some(bias) => length(OP, "bias", bias.len(), shape.kernels()),
            None => Ok(()),
        }
    }
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
    length(OP, "o", o.len(), shape.len())?;
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
    length(OP, "grad", grad.len(), shape.len())?;
    let Conv2dGradients { x, weight, bias } = gradients;
    length(OP, "the gradient of x", x.len(), shape.len())?;
    length(
        OP,
        "the gradient of weight",
        weight.len(),
        inputs.weight.len(),
    )?;
    let biases = inputs.bias.map_or(0, Tensor::len);
    length(
        OP,
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
