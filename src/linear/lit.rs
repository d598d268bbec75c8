//! LiT: linear attention for images, whose rank a depthwise convolution of the values makes up for.

#[cfg(feature = "cli")]
pub(crate) mod cases;

use super::{
    Conv2d, Conv2dInputs, FeatureMap, Options, Shape, conv2d,
    plan::{self as attention, States, Upstream},
};
use crate::{
    Error, Result,
    error::length,
    gpu::{Caps, Elem, Gpu, Pass, Tensor},
    plan::{Builder, Plan, Slot, Work},
};

/// The operator's name in case files and messages.
const OP: &str = "lit_attention";

/// Sizes of a call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lit {
    /// Width of queries and keys, 1 to [`MAX_WIDTH`](super::MAX_WIDTH).
    pub key: usize,
    /// The values' grid, heads, width, layout and type, and their kernels.
    pub conv: Conv2d,
    /// What is added to the denominator, at least 0. Published code has 1e-15 and 1e-6.
    pub eps: f32,
}

impl Lit {
    /// The shape and the options of the attention.
    pub fn attention(&self) -> (Shape, Options) {
        let conv = &self.conv;
        let shape = Shape {
            batch: conv.batch,
            tokens: conv.tokens(),
            heads: conv.heads,
            kv_heads: conv.heads,
            key: self.key,
            value: conv.value,
            layout: conv.layout,
            dtype: conv.dtype,
        };
        let options = Options {
            causal: false,
            normalize: Some(self.eps),
            feature_map: FeatureMap::Relu,
            ..Options::plain()
        };
        (shape, options)
    }

    /// Bytes of the values, as a count of traffic.
    fn tensor_bytes(&self) -> f64 {
        self.conv.len() as f64 * self.conv.dtype.bytes() as f64
    }

    fn check(&self) -> Result<(Shape, Options)> {
        // First: it bounds the grid, whose sides are multiplied.
        self.conv.check(OP)?;
        let (shape, options) = self.attention();
        shape.check(OP)?;
        options.check(OP)?;
        Ok((shape, options))
    }
}

/// Plans [`lit`]. Inputs: q, k, v, the kernels, then the bias where there is one; output: o.
///
/// # Errors
/// `Argument` for impossible shapes, `Limit` when the call exceeds the device or its scratch budget.
pub fn plan(shape: &Lit, bias: bool, caps: &Caps) -> Result<Plan> {
    let (sizes, options) = shape.check()?;
    let [q, k, v, weight] = [0, 1, 2, 3].map(Slot::Input);
    let parts = [
        (
            attention::forward(&sizes, &options, States::default(), caps)?,
            vec![q, k, v],
            vec![Slot::Output(0)],
        ),
        (
            conv2d::plan(&shape.conv, bias, true, caps)?,
            [v, weight]
                .into_iter()
                .chain(bias.then_some(Slot::Input(4)))
                .collect(),
            vec![Slot::Output(0)],
        ),
    ];
    join(parts, 3.0 * shape.tensor_bytes(), caps)
}

/// Plans [`lit_backward`]. Inputs: q, k, v, the kernels, the gradient of o; outputs: the gradients of q, k, v, the kernels, then
/// of the bias where there is one.
///
/// # Errors
/// As [`plan`].
pub fn plan_backward(shape: &Lit, bias: bool, caps: &Caps) -> Result<Plan> {
    let (sizes, options) = shape.check()?;
    let [q, k, v, weight, grad] = [0, 1, 2, 3, 4].map(Slot::Input);
    let [dq, dk, dv, dweight, dbias] = [0, 1, 2, 3, 4].map(Slot::Output);
    let parts = [
        (
            attention::backward(&sizes, &options, Upstream::default(), caps)?,
            vec![q, k, v, grad],
            vec![dq, dk, dv],
        ),
        (
            conv2d::plan_adjoint(&shape.conv, bias, true, caps)?,
            vec![v, weight, grad],
            [dv, dweight]
                .into_iter()
                .chain(bias.then_some(dbias))
                .collect(),
        ),
    ];
    join(parts, 4.0 * shape.tensor_bytes(), caps)
}

/// The attention, then the convolution that adds to what it wrote; both count so many bytes of tensors.
fn join(parts: [(Plan, Vec<Slot>, Vec<Slot>); 2], twice: f64, caps: &Caps) -> Result<Plan> {
    let mut builder = Builder::default();
    let (mut work, mut labels) = (Work::default(), Vec::new());
    for (plan, inputs, outputs) in parts {
        work.flops += plan.work.flops;
        work.bytes += plan.work.bytes;
        labels.push(plan.label.clone());
        builder.append(plan, &inputs, &outputs)?;
    }
    work.bytes -= twice;
    let plan = builder.plan(OP, labels.join(", then "), work);
    plan.check(caps)?;
    Ok(plan)
}

/// What [`lit`] and [`lit_backward`] read.
#[derive(Clone, Copy, Debug)]
pub struct LitInputs<'a, T: Elem> {
    /// Queries, `[batch, lines * columns, heads, key]`, or heads before tokens.
    pub q: &'a Tensor<T>,
    /// Keys, of that shape.
    pub k: &'a Tensor<T>,
    /// Values, `[batch, lines * columns, heads, value]`, and the kernels they go through.
    pub v: Conv2dInputs<'a, T>,
}

impl<T: Elem> LitInputs<'_, T> {
    fn check(&self, shape: &Lit) -> Result<()> {
        let (sizes, _) = shape.check()?;
        length(OP, "q", self.q.len(), sizes.query_len())?;
        length(OP, "k", self.k.len(), sizes.key_len())?;
        self.v.check(&shape.conv)
    }
}

/// What [`lit_backward`] writes: gradients in the shapes of the inputs.
#[derive(Debug)]
pub struct LitGradients<'a, T: Elem> {
    /// Of the queries.
    pub q: &'a mut Tensor<T>,
    /// Of the keys.
    pub k: &'a mut Tensor<T>,
    /// Of the values.
    pub v: &'a mut Tensor<T>,
    /// Of the kernels.
    pub weight: &'a mut Tensor<f32>,
    /// Of the bias, exactly where there is one.
    pub bias: Option<&'a mut Tensor<f32>>,
}

/// The attention of LiT: normalised linear attention of an image's tokens with the map max(x, 0), plus a depthwise convolution
/// of the values on the tokens' grid.
///
/// ```text
/// S = sum_s relu(k_s) v_sᵀ        z = sum_s relu(k_s)                          over all tokens s
/// o_t = Sᵀ relu(q_t) / (z · relu(q_t) + eps) + conv(v)_t                       the quotient is 0 where it is 0 / 0
/// conv(v)[line, column] = bias + sum_ij weight[i, j] v[line + i − KH/2, column + j − KW/2]
/// ```
///
/// Shapes: q, k `[B, lines · columns, H, K]`, v, o `[B, lines · columns, H, V]`, tokens line by line (or head-first, see
/// [`Layout`](super::Layout)); K and V up to 512; weight `[C, KH, KW]`, bias `[C]`, C kernels as
/// [`Channels`](super::Channels) says. Storage f32, f16 or bf16; sums, weights and bias f32. The published models have few and
/// wide heads (2 to 4, 192 to 288 columns) and 5 x 5 kernels.
///
/// Cost: about `4 T H K V` operations for the attention and `2 T H V KH KW` for the convolution. 16-bit outputs are rounded
/// twice, before and after the convolution is added. Temporaries are those of the two parts.
///
/// Accuracy: root-mean-square error to the f64 reference, relative, <= 5e-6 (f32), 1e-3 (f16), 4e-3 (bf16). Deterministic: two
/// runs are bit-equal.
///
/// Returns when the work is submitted; downloading waits for it.
///
/// # Errors
/// `Argument` when sizes, types or `eps` do not fit together; `Limit` when the call exceeds the device or its scratch budget;
/// `Shader`, `OutOfMemory`, `Timeout`, `DeviceLost` from the device.
///
/// Source: J. Wang et al., LiT: Delving into a Simplified Linear Diffusion Transformer for Image Generation, 2025.
pub fn lit<T: Elem>(
    gpu: &Gpu,
    shape: &Lit,
    inputs: &LitInputs<'_, T>,
    o: &mut Tensor<T>,
) -> Result<()> {
    let mut pass = gpu.pass(OP);
    record_lit(&mut pass, shape, inputs, o)?;
    pass.submit().map(drop)
}

/// [`lit`], recorded into a pass that the caller submits.
///
/// # Errors
/// As [`lit`].
pub fn record_lit<T: Elem>(
    pass: &mut Pass,
    shape: &Lit,
    inputs: &LitInputs<'_, T>,
    o: &mut Tensor<T>,
) -> Result<()> {
    inputs.check(shape)?;
    length(OP, "o", o.len(), shape.conv.len())?;
    let plan = plan(shape, inputs.v.bias.is_some(), pass.caps())?;
    let views: Vec<_> = [inputs.q.view(), inputs.k.view(), inputs.v.x.view()]
        .into_iter()
        .chain([inputs.v.weight.view()])
        .chain(inputs.v.bias.map(Tensor::view))
        .collect();
    pass.run(&plan, &views, &mut [o.view_mut()])
}

/// Gradients of Σ `grad` ⊙ o with respect to every input of [`lit`], from those inputs alone.
///
/// The formulas are those of [`backward`](super::backward) and of
/// [`depthwise_conv2d_adjoint`](super::depthwise_conv2d_adjoint); the values' gradient is the sum of both, rounded twice in 16
/// bits. max(x, 0) has the derivative 0 at 0.
///
/// Cost: about four times the forward. Accuracy: relative root-mean-square error <= 2e-5 (f32; kernels and bias in any type),
/// 1e-3 (f16), 4e-3 (bf16). Deterministic: two runs are bit-equal.
///
/// # Errors
/// As [`lit`]; `Limit` also when a sequence exceeds a binding.
pub fn lit_backward<T: Elem>(
    gpu: &Gpu,
    shape: &Lit,
    inputs: &LitInputs<'_, T>,
    grad: &Tensor<T>,
    gradients: LitGradients<'_, T>,
) -> Result<()> {
    let mut pass = gpu.pass("lit, backward");
    record_lit_backward(&mut pass, shape, inputs, grad, gradients)?;
    pass.submit().map(drop)
}

/// [`lit_backward`], recorded into a pass that the caller submits.
///
/// # Errors
/// As [`lit_backward`].
pub fn record_lit_backward<T: Elem>(
    pass: &mut Pass,
    shape: &Lit,
    inputs: &LitInputs<'_, T>,
    grad: &Tensor<T>,
    gradients: LitGradients<'_, T>,
) -> Result<()> {
    inputs.check(shape)?;
    let conv = &inputs.v;
    let LitGradients {
        q,
        k,
        v,
        weight,
        bias,
    } = gradients;
    for (what, len, expected) in [
        ("the gradient of o", grad.len(), shape.conv.len()),
        ("the gradient of q", q.len(), inputs.q.len()),
        ("the gradient of k", k.len(), inputs.k.len()),
        ("the gradient of v", v.len(), shape.conv.len()),
        ("the gradient of weight", weight.len(), conv.weight.len()),
    ] {
        length(OP, what, len, expected)?;
    }
    let wanted = bias.as_ref().map(|bias| bias.len());
    let given = conv.bias.map(Tensor::len);
    if wanted != given {
        let say = |len: Option<usize>| len.map_or("none".into(), |len| format!("{len} elements"));
        return Err(Error::Argument {
            op: OP,
            what: "the gradient of bias".into(),
            expected: format!("{}, like bias", say(given)),
            got: say(wanted),
        });
    }
    let plan = plan_backward(shape, bias.is_some(), pass.caps())?;
    let views = [
        inputs.q.view(),
        inputs.k.view(),
        conv.x.view(),
        conv.weight.view(),
        grad.view(),
    ];
    let mut written = vec![q.view_mut(), k.view_mut(), v.view_mut(), weight.view_mut()];
    written.extend(bias.map(Tensor::view_mut));
    pass.run(&plan, &views, &mut written)
}
