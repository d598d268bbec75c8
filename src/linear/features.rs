//! Feature maps: what queries and keys go through before the operator sees them.

mod kernels;
pub(super) mod steps;

use super::{Layout, Shape};
use crate::{
    Error, Result,
    gpu::{Caps, Dtype, Elem, Gpu, Tensor, View},
    plan::{Builder, Plan, Slot, Work},
};
pub(super) use kernels::elementwise;
use steps::{Grads, Mapping, ParamGrads, Rows, adjoint_steps, forward_steps};

/// The most rolls of a [`FeatureMap::Dpfp`].
pub const MAX_NU: u32 = 64;

/// What queries and keys go through before the operator sees them: K columns in, [`FeatureMap::width`] out.
///
/// d is the gradient of φ. Maps of y = Wx + b take weights W `[F, K]` shared by the heads, or `[H, F, K]`, and may take a bias
/// `[F]` or `[H, F]`; F = K.
///
/// | name | φ | columns | gradient of x, or of y |
/// |---|---|---|---|
/// | `identity` | x | K | d |
/// | `relu` | max(x, 0) | K | d where x > 0 |
/// | `relu2` | max(x, 0)² | K | 2 max(x, 0) d |
/// | `elu1` | x + 1 where x > 0, else exp(x) | K | d, or exp(x) d |
/// | `exp` | exp(x), for x <= 40 | K | φ d |
/// | `silu` | x σ(x) | K | σ (1 + x (1 − σ)) d |
/// | `sigmoid` | σ(x) | K | σ (1 − σ) d |
/// | `gelu_tanh` | x (1 + tanh u) / 2, u = √(2/π) (x + 0.044715 x³) | K | (1 + tanh u + x (1 − tanh² u) u') d / 2 |
/// | `softmax` | softmax(x) over the columns | K | φ (d − φ·d) |
/// | `l2norm` | r x, r = (x·x + 1e-6)^(-1/2): rows of unit length, whose products are cosines | K | r (d − φ (φ·d)) |
/// | `hedgehog_softmax` | softmax([2y, −2y]), one over both halves | 2K | 2 (t₁ − t₂), t = φ (d − φ·d) |
/// | `hedgehog_softmax2` | [softmax(y), softmax(−y)], at least 1e-12 | 2K | t₁ − t₂, each half with its own φ·d; 0 at the floor |
/// | `hedgehog_exp` | [exp(y), exp(−y)], for abs(y) <= 40 | 2K | φ₁ d₁ − φ₂ d₂ |
/// | `hedgehog_exp_shift` | [exp(y − max y), exp(min y − y)], at least 1e-12 | 2K | φ₁ d₁ − φ₂ d₂; the first largest y loses φ₁·d₁, the first smallest gains φ₂·d₂; 0 at the floor |
/// | `dpfp` | r ⊙ roll(r, j), j = 1..ν, one after the other; r = [max(x, 0), max(−x, 0)] | 2νK | product rule |
/// | `dpfp_fla` | the same with r = [max(x, 0), −max(x, 0)] | 2νK | product rule |
/// | `t2r` | max(y, 0) | K | d where y > 0 |
/// | `taylor2` | [1, x / K^¼, xᵢ² / √(2K), xᵢ xⱼ / √K for i < j]: φ(q)·φ(k) = 1 + s + s²/2, s = q·k/√K | 1 + 2K + K(K−1)/2 | product rule |
/// | `rebased` | y = γ ⊙ (x − mean) (var + 1e-5)^(-1/2) + β', then [yᵢ² / √K, √(2/K) yᵢ yⱼ for i < j]: φ(q)·φ(k) = (y_q·y_k)²/K | K(K+1)/2 | product rule |
///
/// `rebased` takes γ `[K]` or `[H, K]` as weights and β' as bias. roll(r, j) moves every element j places up, the last ones to
/// the front.
///
/// Sources: Katharopoulos et al. 2020 (`elu1`); Schlag et al., Linear Transformers Are Secretly Fast Weight Programmers, 2021
/// (`dpfp`); Kasai et al., Finetuning Pretrained Transformers into RNNs, 2021 (`t2r`); Zhang et al., The Hedgehog and the
/// Porcupine, 2024 (`hedgehog_exp`), as released in flash-linear-attention (`hedgehog_softmax`, `dpfp_fla`) and LoLCATs
/// (`hedgehog_softmax2`, `hedgehog_exp_shift`): four different models; Arora et al., Based, 2024 (`taylor2`); Aksenov et al.,
/// ReBased, 2024 (`rebased`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FeatureMap {
    /// Nothing.
    Identity,
    /// max(x, 0).
    Relu,
    /// max(x, 0)².
    Relu2,
    /// x + 1 above 0, exp(x) below: positive everywhere.
    Elu1,
    /// exp(x).
    Exp,
    /// x σ(x).
    Silu,
    /// σ(x).
    Sigmoid,
    /// The Gaussian error linear unit in its tanh form.
    GeluTanh,
    /// softmax over the columns.
    Softmax,
    /// Rows of unit length, so that products of queries and keys are cosines.
    L2Norm,
    /// softmax([2y, -2y]), y = Wx + b.
    HedgehogSoftmax,
    /// [softmax(y), softmax(-y)], y = Wx + b.
    HedgehogSoftmax2,
    /// [exp(y), exp(-y)], y = Wx + b.
    HedgehogExp,
    /// [exp(y - max y), exp(min y - y)], y = Wx + b.
    HedgehogExpShift,
    /// Products of [max(x, 0), max(-x, 0)] with itself rolled by 1 to `nu`.
    Dpfp {
        /// The number of rolls, from 1 to [`MAX_NU`].
        nu: u32,
    },
    /// Products of [max(x, 0), -max(x, 0)] with itself rolled by 1 to `nu`.
    DpfpFla {
        /// The number of rolls, from 1 to [`MAX_NU`].
        nu: u32,
    },
    /// max(y, 0), y = Wx + b.
    T2r,
    /// The Taylor series of exp to second order.
    Taylor2,
    /// Squares and products of a normalised, scaled and shifted row.
    Rebased,
}

impl FeatureMap {
    /// Every map, with `nu` where there is one.
    pub fn all(nu: u32) -> [FeatureMap; 19] {
        use FeatureMap::*;
        [
            Identity,
            Relu,
            Relu2,
            Elu1,
            Exp,
            Silu,
            Sigmoid,
            GeluTanh,
            Softmax,
            L2Norm,
            HedgehogSoftmax,
            HedgehogSoftmax2,
            HedgehogExp,
            HedgehogExpShift,
            Dpfp { nu },
            DpfpFla { nu },
            T2r,
            Taylor2,
            Rebased,
        ]
    }

    /// The name in case files, where `nu` is a parameter beside it.
    pub fn name(self) -> &'static str {
        match self {
            FeatureMap::Identity => "identity",
            FeatureMap::Relu => "relu",
            FeatureMap::Relu2 => "relu2",
            FeatureMap::Elu1 => "elu1",
            FeatureMap::Exp => "exp",
            FeatureMap::Silu => "silu",
            FeatureMap::Sigmoid => "sigmoid",
            FeatureMap::GeluTanh => "gelu_tanh",
            FeatureMap::Softmax => "softmax",
            FeatureMap::L2Norm => "l2norm",
            FeatureMap::HedgehogSoftmax => "hedgehog_softmax",
            FeatureMap::HedgehogSoftmax2 => "hedgehog_softmax2",
            FeatureMap::HedgehogExp => "hedgehog_exp",
            FeatureMap::HedgehogExpShift => "hedgehog_exp_shift",
            FeatureMap::Dpfp { .. } => "dpfp",
            FeatureMap::DpfpFla { .. } => "dpfp_fla",
            FeatureMap::T2r => "t2r",
            FeatureMap::Taylor2 => "taylor2",
            FeatureMap::Rebased => "rebased",
        }
    }

    /// Columns of φ(x) for rows of `key` columns.
    pub fn width(self, key: usize) -> usize {
        match self {
            FeatureMap::HedgehogSoftmax
            | FeatureMap::HedgehogSoftmax2
            | FeatureMap::HedgehogExp
            | FeatureMap::HedgehogExpShift => 2 * key,
            FeatureMap::Dpfp { nu } | FeatureMap::DpfpFla { nu } => 2 * nu as usize * key,
            FeatureMap::Taylor2 => 1 + key + key * (key + 1) / 2,
            FeatureMap::Rebased => key * (key + 1) / 2,
            _ => key,
        }
    }

    /// Whether the map begins with y = Wx + b.
    pub fn projects(self) -> bool {
        matches!(
            self,
            FeatureMap::HedgehogSoftmax
                | FeatureMap::HedgehogSoftmax2
                | FeatureMap::HedgehogExp
                | FeatureMap::HedgehogExpShift
                | FeatureMap::T2r
        )
    }

    /// Elements of the weights that one head uses, where the map has weights: K² for W, K for the γ of
    /// [`FeatureMap::Rebased`]. Such maps take a bias of K elements as well.
    pub fn weight_len(self, key: usize) -> Option<usize> {
        match self {
            FeatureMap::Rebased => Some(key),
            _ => self.projects().then_some(key * key),
        }
    }

    /// The type that φ(x) is kept in: that of x, or f32 where the values span too much for 16 bits.
    pub fn storage(self, dtype: Dtype) -> Dtype {
        match self {
            FeatureMap::Exp
            | FeatureMap::HedgehogExp
            | FeatureMap::Taylor2
            | FeatureMap::Rebased => Dtype::F32,
            _ => dtype,
        }
    }

    /// Refuses a number of rolls that makes no map.
    pub(super) fn check(self, op: &'static str) -> Result<()> {
        match self {
            FeatureMap::Dpfp { nu } | FeatureMap::DpfpFla { nu } if !(1..=MAX_NU).contains(&nu) => {
                Err(Error::Argument {
                    op,
                    what: "nu".into(),
                    expected: format!("from 1 to {MAX_NU}"),
                    got: nu.to_string(),
                })
            }
            _ => Ok(()),
        }
    }

    /// Sets of weights: 1 where the heads share one, else `heads`. Lengths are those of the tensors given.
    ///
    /// `heads` is absent where queries and keys have different numbers of heads: then one set must do.
    pub(super) fn weight_sets(
        self,
        op: &'static str,
        key: usize,
        heads: Option<usize>,
        weight: Option<usize>,
        bias: Option<usize>,
    ) -> Result<usize> {
        let wrong = |what: &str, expected: String, got: Option<usize>| {
            Err(Error::Argument {
                op,
                what: what.into(),
                expected,
                got: got.map_or("none".into(), |len| format!("{len} elements")),
            })
        };
        let Some(each) = self.weight_len(key) else {
            for (what, given) in [("fm_weight", weight), ("fm_bias", bias)] {
                if given.is_some() {
                    let expected = format!("absent with the feature map {}", self.name());
                    return wrong(what, expected, given);
                }
            }
            return Ok(1);
        };
        let own = heads.filter(|heads| *heads > 0);
        let sets = match weight {
            Some(len) if len == each => 1,
            Some(len) if own.is_some_and(|heads| len == heads * each) => own.unwrap_or(1),
            _ => {
                let more = match own {
                    Some(heads) => format!("{} for {heads} heads", heads * each),
                    None => "heads have no sets of their own where queries and keys have different numbers of heads".into(),
                };
                let expected = format!("{each} elements shared by the heads ({more})");
                return wrong("fm_weight", expected, weight);
            }
        };
        match bias {
            Some(len) if len != sets * key => wrong(
                "fm_bias",
                format!("{} elements beside such weights", sets * key),
                bias,
            ),
            _ => Ok(sets),
        }
    }
}

/// Sizes of a tensor whose rows are mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeatureShape {
    /// Sequences.
    pub batch: usize,
    /// Tokens per sequence; 0 is legal.
    pub tokens: usize,
    /// Heads.
    pub heads: usize,
    /// Columns, 1 to [`MAX_WIDTH`](super::MAX_WIDTH).
    pub key: usize,
    /// Order of the axes.
    pub layout: Layout,
    /// Storage type of x: f32, f16 or bf16.
    pub dtype: Dtype,
}

impl FeatureShape {
    /// The queries of a call.
    pub fn of_queries(shape: &Shape) -> FeatureShape {
        FeatureShape {
            batch: shape.batch,
            tokens: shape.tokens,
            heads: shape.heads,
            key: shape.key,
            layout: shape.layout,
            dtype: shape.dtype,
        }
    }

    /// The keys of a call.
    pub fn of_keys(shape: &Shape) -> FeatureShape {
        FeatureShape {
            heads: shape.kv_heads,
            ..FeatureShape::of_queries(shape)
        }
    }

    /// Rows: one a token and head.
    pub fn rows(&self) -> usize {
        self.batch * self.tokens * self.heads
    }

    /// The head of row r is (r / this) modulo the heads.
    pub(super) fn span(&self) -> usize {
        match self.layout {
            Layout::Bthd => 1,
            Layout::Bhtd => self.tokens.max(1),
        }
    }

    pub(super) fn check(&self, op: &'static str) -> Result<()> {
        // The rules of a tensor of queries.
        Shape {
            batch: self.batch,
            tokens: self.tokens,
            heads: self.heads,
            kv_heads: self.heads,
            key: self.key,
            value: 1,
            layout: self.layout,
            dtype: self.dtype,
        }
        .check(op)
    }
}

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
    first: u8,
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
        if T::DTYPE != shape.dtype {
            return Err(Error::Argument {
                op: OP,
                what: "shape.dtype".into(),
                expected: format!("the type of x, {}", T::DTYPE.name()),
                got: shape.dtype.name().into(),
            });
        }
        length("x", self.x.len(), shape.rows() * shape.key)
    }

    fn weight_views(&self) -> impl Iterator<Item = View<'_>> {
        [self.weight, self.bias]
            .into_iter()
            .flatten()
            .map(Tensor::view)
    }
}

fn length(what: &str, len: usize, expected: usize) -> Result<()> {
    if len == expected {
        return Ok(());
    }
    Err(Error::Argument {
        op: OP,
        what: what.into(),
        expected: format!("{expected} elements for this shape and map"),
        got: len.to_string(),
    })
}

/// A feature map of every row: y = φ(x), with the formulas of [`FeatureMap`].
///
/// Shapes: x `[B, T, H, K]` -> y `[B, T, H, F]`, F = [`FeatureMap::width`] (or head-first, see [`Layout`]); row-major, last
/// index fastest. Storage f32, f16 or bf16; y has the type of x or is f32, which `exp`, `hedgehog_exp`, `taylor2` and `rebased`
/// want ([`FeatureMap::storage`]). Arithmetic in f32, weights in f32.
///
/// Cost: a read of x and a write of y; maps of y = Wx + b add 2K² operations a row and a temporary `[B, T, H, K]` in f32.
///
/// Accuracy: root-mean-square error to the f64 reference, relative, <= 2e-6 (f32), 5e-4 (f16), 4e-3 (bf16). Deterministic:
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
    length("y", y.len(), shape.rows() * map.width(shape.key))?;
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
    length("grad", grad.len(), shape.rows() * map.width(shape.key))?;
    length("dx", dx.len(), inputs.x.len())?;
    let mut outputs = vec![dx.view_mut()];
    let pairs = [
        ("dweight", inputs.weight, dweight),
        ("dbias", inputs.bias, dbias),
    ];
    for (what, given, gradient) in pairs {
        match (given, gradient) {
            (None, None) => {}
            (Some(given), Some(gradient)) => {
                length(what, gradient.len(), given.len())?;
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
