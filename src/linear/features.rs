//! Feature maps: what queries and keys go through before the operator sees them.

mod calls;
mod kernels;
pub(super) mod steps;
mod weights;

pub use calls::{
    FeatureGradients, FeatureInputs, Weights, features, features_adjoint, plan, plan_adjoint,
};

use super::{Layout, Shape};
use crate::{Error, Result, gpu::Dtype};
pub(super) use kernels::elementwise;

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
    pub(crate) fn check(self, op: &'static str) -> Result<()> {
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
