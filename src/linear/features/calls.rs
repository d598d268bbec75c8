//! The maps' own calls: plan, record, submit.

use super::{
    FeatureMap, FeatureShape,
    steps::{Grads, Mapping, ParamGrads, adjoint_steps, forward_steps},
};
use crate::{
    Error, Result,
    error::{length, stored_as},
    gpu::{Caps, Dtype, Elem, Gpu, Tensor, View},
    plan::{Builder, Plan, Slot, Work},
    rows::Rows,
};

/// The name of the maps' calls in errors.
const OP: &str = "features";

/// Which weights a caller passes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weights {
    /// Elements of the weights, where there are any.
    pub weight: Option<usize>,
    /// Elements of the bias, where there is one.
    pub bias: Option<usize>,
}

/// Plans [`features`]. Inputs: x, then the weights and the bias where there are such; output: φ(x) in the type `out`.
///
/// # Errors
/// `Argument` for impossible shapes, weights and types, `Limit` when a row exceeds a binding or temporaries the scratch budget.
pub fn plan(
    shape: &FeatureShape,
    map: FeatureMap,
    weights: Weights,
    out: Dtype,
    caps: &Caps,
) -> Result<Plan> {
    let sets = check(shape, map, weights, caps)?;
    if out != shape.dtype && out != Dtype::F32 {
        return Err(Error::Argument {
            op: OP,
            what: "the type of φ(x)".into(),
            expected: format!("that of x, {}, or f32", shape.dtype.name()),
            got: out.name().into(),
        });
    }
    let mut builder = Builder::default();
    let mapping = mapping(shape, map, sets, weights, 1, caps);
    let y = Rows {
        slot: Slot::Output(0),
        dtype: out,
        stride: map.width(shape.key),
    };
    forward_steps(&mut builder, &mapping, Slot::Input(0), y)?;
    let elements = shape.rows() as u64 * (shape.key as u64 * shape.dtype.bytes());
    let bytes = elements + (shape.rows() * y.stride) as u64 * out.bytes();
    finish(builder, shape, map, bytes, 1.0, caps)
}

/// Plans [`features_adjoint`]. Inputs: x, the gradient of φ(x) in f32, then the weights and the bias where there are such;
/// outputs: the gradients of x, of the weights and of the bias, likewise.
///
/// # Errors
/// As [`plan`].
pub fn plan_adjoint(
    shape: &FeatureShape,
    map: FeatureMap,
    weights: Weights,
    caps: &Caps,
) -> Result<Plan> {
    let sets = check(shape, map, weights, caps)?;
    let mut builder = Builder::default();
    let mapping = mapping(shape, map, sets, weights, 2, caps);
    let grads = Grads {
        parts: &[Slot::Input(1)],
        stride: map.width(shape.key),
        group: 1,
    };
    let dx = Rows {
        slot: Slot::Output(0),
        dtype: shape.dtype,
        stride: shape.key,
    };
    let params = ParamGrads {
        weight: weights.weight.map(|_| Slot::Output(1)),
        bias: weights.bias.map(|_| Slot::Output(2)),
        accumulate: false,
    };
    adjoint_steps(&mut builder, &mapping, Slot::Input(0), &grads, dx, params)?;
    let elements = shape.rows() as u64 * (2 * shape.key as u64 * shape.dtype.bytes());
    let bytes = elements + 4 * (shape.rows() * grads.stride) as u64;
    finish(builder, shape, map, bytes, 3.0, caps)
}

/// Sets of weights of a sensible call.
fn check(shape: &FeatureShape, map: FeatureMap, weights: Weights, caps: &Caps) -> Result<usize> {
    shape.check(OP)?;
    map.check(OP)?;
    let heads = Some(shape.heads);
    let sets = map.weight_sets(OP, shape.key, heads, weights.weight, weights.bias)?;
    // Rows are counted in 32 bits.
    let needed = shape.rows() as u64 * shape.key as u64 * shape.dtype.bytes();
    if needed > caps.buffer_bytes {
        return Err(Error::Limit {
            what: "bytes of x".into(),
            needed,
            available: caps.buffer_bytes,
            remedy: "cut the batch or the sequence",
        });
    }
    Ok(sets)
}

fn mapping<'a>(
    shape: &'a FeatureShape,
    map: FeatureMap,
    sets: usize,
    weights: Weights,
    first: u16,
    caps: &'a Caps,
) -> Mapping<'a> {
    Mapping {
        shape,
        map,
        sets,
        weight: weights.weight.map(|_| Slot::Input(first)),
        bias: weights.bias.map(|_| Slot::Input(first + 1)),
        caps,
    }
}

fn finish(
    builder: Builder,
    shape: &FeatureShape,
    map: FeatureMap,
    bytes: u64,
    products: f64,
    caps: &Caps,
) -> Result<Plan> {
    let key = shape.key as f64;
    let projection = if map.projects() {
        2.0 * products * key * key
    } else {
        0.0
    };
    let work = Work {
        flops: shape.rows() as f64 * (projection + map.width(shape.key) as f64),
        popcounts: 0.0,
        bytes: bytes as f64,
    };
    let plan = builder.plan(OP, map.name().into(), work);
    plan.check(caps)?;
    Ok(plan)
}

/// What [`features`] and [`features_adjoint`] read.
#[derive(Clone, Copy, Debug)]
pub struct FeatureInputs<'a, T: Elem> {
    /// `[batch, tokens, heads, K]` or in the layout `bhtd`.
    pub x: &'a Tensor<T>,
    /// `[K, K]`, rows of outputs, or `[heads, K, K]`; `[K]` or `[heads, K]` for [`FeatureMap::Rebased`]. Exactly with maps that
    /// take weights.
    pub weight: Option<&'a Tensor<f32>>,
    /// `[K]` or `[heads, K]`, as many sets as the weights; zero when absent.
    pub bias: Option<&'a Tensor<f32>>,
}

impl<T: Elem> FeatureInputs<'_, T> {
    fn weights(&self) -> Weights {
        Weights {
            weight: self.weight.map(Tensor::len),
            bias: self.bias.map(Tensor::len),
        }
    }

    fn check(&self, shape: &FeatureShape) -> Result<()> {
        stored_as::<T>(OP, shape.dtype)?;
        length(OP, "x", self.x.len(), shape.rows() * shape.key)
    }

    fn weight_views(&self) -> impl Iterator<Item = View<'_>> {
        [self.weight, self.bias]
            .into_iter()
            .flatten()
            .map(Tensor::view)
    }
}

/// A feature map of every row: y = φ(x), with the formulas of [`FeatureMap`].
///
/// Shapes: x `[B, T, H, K]` -> y `[B, T, H, F]`, F = [`FeatureMap::width`] (or head-first, see [`Layout`](crate::linear::Layout)); row-major, last
/// index fastest. Storage f32, f16 or bf16; y has the type of x or is f32, which `exp`, `hedgehog_exp`, `taylor2` and `rebased`
/// want ([`FeatureMap::storage`]). Arithmetic in f32, weights in f32.
///
/// Cost: a read of x and a write of y; maps of y = Wx + b add 2K² operations a row and a temporary `[B, T, H, K]` in f32.
///
/// Accuracy: root-mean-square error to the f64 reference, relative, <= 5e-6 (f32), 5e-4 (f16), 4e-3 (bf16). Deterministic:
/// two runs are bit-equal.
///
/// Returns when the work is submitted; downloading waits for it.
///
/// # Errors
/// `Argument` when sizes, types, weights or `nu` do not fit together; `Limit` when the call exceeds the device or its scratch
/// budget; `Shader`, `OutOfMemory`, `Timeout`, `DeviceLost` from the device.
///
/// Sources: see [`FeatureMap`].
pub fn features<T: Elem, Y: Elem>(
    gpu: &Gpu,
    shape: &FeatureShape,
    map: FeatureMap,
    inputs: &FeatureInputs<'_, T>,
    y: &mut Tensor<Y>,
) -> Result<()> {
    inputs.check(shape)?;
    let plan = plan(shape, map, inputs.weights(), Y::DTYPE, gpu.caps())?;
    length(OP, "y", y.len(), shape.rows() * map.width(shape.key))?;
    let views: Vec<_> = [inputs.x.view()]
        .into_iter()
        .chain(inputs.weight_views())
        .collect();
    let mut pass = gpu.pass("features");
    pass.run(&plan, &views, &mut [y.view_mut()])?;
    pass.submit().map(drop)
}

/// What [`features_adjoint`] writes.
#[derive(Debug)]
pub struct FeatureGradients<'a, T: Elem> {
    /// The gradient of x, of its shape and type.
    pub x: &'a mut Tensor<T>,
    /// That of the weights.
    pub weight: Option<&'a mut Tensor<f32>>,
    /// That of the bias.
    pub bias: Option<&'a mut Tensor<f32>>,
}

/// Gradients of Σ `grad` ⊙ φ(x) with respect to x, the weights and the bias; see [`FeatureMap`].
///
/// Shapes: `grad` is that of φ(x), in f32; the gradients of the weights and the bias are given exactly when these are. Sums over tokens (and over heads that share weights) are in f32, in a fixed order.
///
/// Cost: 6K² operations a row with weights; temporaries then: two tensors `[B, T, H, K]` in f32 and partial sums.
///
/// Accuracy: root-mean-square error to the f64 reference, relative, <= 2e-5 (f32), 1e-3 (f16), 4e-3 (bf16). Deterministic:
/// two runs are bit-equal.
///
/// # Errors
/// As [`features`].
pub fn features_adjoint<T: Elem>(
    gpu: &Gpu,
    shape: &FeatureShape,
    map: FeatureMap,
    inputs: &FeatureInputs<'_, T>,
    grad: &Tensor<f32>,
    gradients: FeatureGradients<'_, T>,
) -> Result<()> {
    let FeatureGradients {
        x: dx,
        weight: dweight,
        bias: dbias,
    } = gradients;
    inputs.check(shape)?;
    let plan = plan_adjoint(shape, map, inputs.weights(), gpu.caps())?;
    length(OP, "grad", grad.len(), shape.rows() * map.width(shape.key))?;
    length(OP, "dx", dx.len(), inputs.x.len())?;
    let mut outputs = vec![dx.view_mut()];
    let pairs = [
        ("dweight", inputs.weight, dweight),
        ("dbias", inputs.bias, dbias),
    ];
    for (what, given, gradient) in pairs {
        match (given, gradient) {
            (None, None) => {}
            (Some(given), Some(gradient)) => {
                length(OP, what, gradient.len(), given.len())?;
                outputs.push(gradient.view_mut());
            }
            (given, _) => {
                let (expected, got) = match given {
                    Some(_) => ("given with the tensor it is the gradient of", "none"),
                    None => ("absent with the tensor it is the gradient of", "a tensor"),
                };
                return Err(Error::Argument {
                    op: OP,
                    what: what.into(),
                    expected: expected.into(),
                    got: got.into(),
                });
            }
        }
    }
    let views: Vec<_> = [inputs.x.view(), grad.view()]
        .into_iter()
        .chain(inputs.weight_views())
        .collect();
    let mut pass = gpu.pass("features adjoint");
    pass.run(&plan, &views, &mut outputs)?;
    pass.submit().map(drop)
}
