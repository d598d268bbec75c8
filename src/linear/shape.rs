//! What a caller asks for, and whether it makes sense.

use std::ops::Range;

use super::FeatureMap;
use crate::{
    Error, Result,
    gpu::{Caps, Dtype},
};

/// The largest key and value width of the causal operators.
pub const MAX_WIDTH: usize = 512;

/// Order of the axes of q, k, v and o; the last axis is the width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Layout {
    /// `[batch, tokens, heads, width]`.
    Bthd,
    /// `[batch, heads, tokens, width]`.
    Bhtd,
}

impl Layout {
    /// The name in case files.
    pub fn name(self) -> &'static str {
        match self {
            Layout::Bthd => "bthd",
            Layout::Bhtd => "bhtd",
        }
    }
}

/// Sizes of a call. q and k have `key` columns, v and o `value` columns; states are `[batch, kv_heads, key, value]` in f32,
/// where `key` is the width after the feature map ([`Options::feature_width`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Sequences.
    pub batch: usize,
    /// Tokens per sequence; 0 is legal.
    pub tokens: usize,
    /// Heads of queries and outputs.
    pub heads: usize,
    /// Heads of keys, values, decays, beta and states; divides `heads`. Query head j uses head `j * kv_heads / heads`.
    pub kv_heads: usize,
    /// Width of queries and keys, 1 to 512.
    pub key: usize,
    /// Width of values and outputs, 1 to 512.
    pub value: usize,
    /// Order of the axes.
    pub layout: Layout,
    /// Storage type of q, k, v and o: f32, f16 or bf16. Arithmetic and states are f32.
    pub dtype: Dtype,
}

impl Shape {
    /// Sequences times heads of queries.
    pub fn rows(&self) -> usize {
        self.batch * self.heads
    }

    /// Sequences times heads of keys: the number of states.
    pub fn state_rows(&self) -> usize {
        self.batch * self.kv_heads
    }

    /// Elements of q.
    pub fn query_len(&self) -> usize {
        self.rows() * self.tokens * self.key
    }

    /// Elements of k.
    pub fn key_len(&self) -> usize {
        self.state_rows() * self.tokens * self.key
    }

    /// Elements of v.
    pub fn value_len(&self) -> usize {
        self.state_rows() * self.tokens * self.value
    }

    /// Elements of o.
    pub fn output_len(&self) -> usize {
        self.rows() * self.tokens * self.value
    }

    /// Elements of the states of all sequences and heads, where no feature map changes the width and nothing is packed.
    pub fn state_len(&self) -> usize {
        self.state_rows() * self.key * self.value
    }

    /// Whether the tensors exist on a device: one larger than its largest buffer cannot.
    pub(super) fn fits(&self, caps: &Caps) -> Result<()> {
        let elem = self.dtype.bytes();
        for (what, len, bytes) in [
            ("q", self.query_len(), elem),
            ("v", self.value_len(), elem),
            ("o", self.output_len(), elem),
            ("a state", self.state_len(), 4),
        ] {
            let (needed, available) = (len as u64 * bytes, caps.buffer_bytes);
            if needed > available {
                let remedy = "cut the batch or the sequence";
                return Err(Error::Limit {
                    what: format!("bytes of {what}"),
                    needed,
                    available,
                    remedy,
                });
            }
        }
        Ok(())
    }

    pub(super) fn check(&self, op: &'static str) -> Result<()> {
        for (what, width) in [("key width", self.key), ("value width", self.value)] {
            if !(1..=MAX_WIDTH).contains(&width) {
                return Err(Error::Argument {
                    op,
                    what: what.into(),
                    expected: format!("from 1 to {MAX_WIDTH}"),
                    got: width.to_string(),
                });
            }
        }
        if !matches!(self.dtype, Dtype::F32 | Dtype::F16 | Dtype::Bf16) {
            let expected = "f32, f16 or bf16".into();
            return Err(Error::Argument {
                op,
                what: "dtype".into(),
                expected,
                got: self.dtype.name().into(),
            });
        }
        let (heads, kv_heads) = (self.heads, self.kv_heads);
        let divides = kv_heads > 0 && heads > 0 && heads.is_multiple_of(kv_heads);
        if heads != kv_heads && !divides {
            return Err(Error::Argument {
                op,
                what: "kv_heads".into(),
                expected: format!("a divisor of the {heads} heads"),
                got: kv_heads.to_string(),
            });
        }
        // Empty axes count as 1: sizes that no array could have are refused whether or not another axis is empty.
        let widest = self.key.max(self.value) * self.key.min(self.value).max(8);
        let sizes = [self.batch, self.tokens, self.heads, widest].map(|n| n.max(1) as u64);
        let elements = sizes.into_iter().try_fold(1u64, u64::checked_mul);
        if elements.is_none_or(|n| n > 1 << 56) || sizes.into_iter().any(|n| n > 1 << 31) {
            let got = format!(
                "batch {} x tokens {} x heads {}",
                self.batch, self.tokens, self.heads
            );
            return Err(Error::Argument {
                op,
                what: "shape".into(),
                expected: "of at most 2^31 a side".into(),
                got,
            });
        }
        Ok(())
    }
}

/// The tokens of each sequence: all of them, or those between neighbours of `cu_seqlens`.
pub(super) fn sequences(
    shape: &Shape,
    op: &'static str,
    cu_seqlens: Option<&[u32]>,
) -> Result<Vec<Range<usize>>> {
    let Some(bounds) = cu_seqlens else {
        return Ok(vec![0..shape.tokens; shape.batch]);
    };
    let refuse = |expected: String, got: String| {
        Err(Error::Argument {
            op,
            what: "cu_seqlens".into(),
            expected,
            got,
        })
    };
    if shape.batch != 1 {
        let got = format!("given with {}", shape.batch);
        return refuse("absent unless the batch is 1".into(), got);
    }
    let ends = (bounds.first(), bounds.last());
    if bounds.len() < 2 || ends != (Some(&0), Some(&(shape.tokens as u32))) {
        let expected = format!("at least 2 numbers from 0 to the {} tokens", shape.tokens);
        return refuse(expected, format!("{bounds:?}"));
    }
    if !bounds.is_sorted() {
        return refuse("non-decreasing".into(), format!("{bounds:?}"));
    }
    let starts = bounds.iter().zip(bounds.iter().skip(1));
    Ok(starts
        .map(|(start, end)| *start as usize..*end as usize)
        .collect())
}

/// How old tokens fade.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Decay {
    /// Not at all: plain linear attention.
    None,
    /// By one factor per head: `log_decay [kv_heads]`, f32, natural logarithms <= 0.
    Head,
    /// By one factor per token and head: `log_decay [batch, tokens, kv_heads]`, or head-first in that layout.
    Token,
    /// By one factor per token, head and row of the state: `log_decay [batch, tokens, kv_heads, key]`, or
    /// head-first; `key` is the width after the feature map.
    Channel,
}

/// Which of the equivalent ways to compute the result; they differ by rounding only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Form {
    /// The planner's choice for the device and shape.
    Auto,
    /// One pass: each sequence is walked chunk by chunk with its state on chip. Temporary memory does not depend on the
    /// number of tokens.
    Fused,
    /// Three passes: each sequence is cut into this many segments that run in parallel; what each adds to the state, a scan,
    /// the outputs. Temporaries: `batch * heads * segments * key * value` words.
    Segments(u32),
    /// Token by token.
    Recurrent,
}

/// Options of [`forward`](super::forward) and [`step`](super::step).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// How old tokens fade.
    pub decay: Decay,
    /// The delta rule: `beta [batch, tokens, kv_heads]` times what the state misses of the value is added, not the value.
    pub delta: bool,
    /// Whether a token reads only itself and earlier ones. Otherwise every token reads the whole sequence's state; that takes
    /// no decay and no delta rule.
    pub causal: bool,
    /// Divides each output by scale * z.q + this, z the decayed sum of keys; not with the delta rule.
    pub normalize: Option<f32>,
    /// What queries and keys go through first.
    pub feature_map: FeatureMap,
    /// Factor on the outputs; it does not enter the state.
    pub scale: f32,
    /// How to compute it.
    pub form: Form,
}

impl Options {
    /// Plain causal linear attention: no decay, scale 1.
    pub fn plain() -> Options {
        Options {
            decay: Decay::None,
            delta: false,
            causal: true,
            normalize: None,
            feature_map: FeatureMap::Identity,
            scale: 1.0,
            form: Form::Auto,
        }
    }

    /// Lightning attention: one decay per head, scale 1. Pass `log_decay` = minus the slopes, which a model defines; see
    /// [`slopes_opennlplab`](super::slopes_opennlplab) and its siblings.
    pub fn lightning() -> Options {
        Options {
            decay: Decay::Head,
            ..Options::plain()
        }
    }

    /// Retention (RetNet): one decay per head, scale key^(-1/2). Pass `log_decay` from
    /// [`log_decay_retention`](super::log_decay_retention).
    pub fn retention(key: usize) -> Options {
        Options {
            scale: (key as f32).sqrt().recip(),
            ..Options::lightning()
        }
    }

    /// Simple GLA, which is the SSD of Mamba-2: one decay per token and head, scale key^(-1/2).
    pub fn simple_gla(key: usize) -> Options {
        Options {
            decay: Decay::Token,
            ..Options::retention(key)
        }
    }

    /// Gated linear attention (GLA): one decay per token, head and key channel, scale key^(-1/2).
    pub fn gla(key: usize) -> Options {
        Options {
            decay: Decay::Channel,
            ..Options::retention(key)
        }
    }

    /// The delta rule (DeltaNet), scale key^(-1/2). Keys should have unit length: it contracts while beta |k|² is in 0..=2.
    pub fn delta_rule(key: usize) -> Options {
        Options {
            decay: Decay::None,
            delta: true,
            ..Options::retention(key)
        }
    }

    /// The gated delta rule (Gated DeltaNet): one decay per token and head. Otherwise as [`Options::delta_rule`].
    pub fn gated_delta(key: usize) -> Options {
        Options {
            decay: Decay::Token,
            ..Options::delta_rule(key)
        }
    }

    /// Kimi delta attention (KDA): the delta rule with one decay per token, head and key channel.
    pub fn kda(key: usize) -> Options {
        Options {
            decay: Decay::Channel,
            ..Options::delta_rule(key)
        }
    }

    /// Width of queries and keys after the feature map, which is the number of rows of a state.
    pub fn feature_width(&self, shape: &Shape) -> usize {
        self.feature_map.width(shape.key)
    }

    pub(super) fn check(&self, op: &'static str) -> Result<()> {
        self.feature_map.check(op)?;
        if !self.scale.is_finite() {
            return Err(Error::Argument {
                op,
                what: "scale".into(),
                expected: "finite".into(),
                got: self.scale.to_string(),
            });
        }
        if let Some(eps) = self.normalize {
            let wrong = |expected: &str, got: &str| {
                Err(Error::Argument {
                    op,
                    what: "normalize".into(),
                    expected: expected.into(),
                    got: got.into(),
                })
            };
            if !eps.is_finite() || eps < 0.0 {
                return wrong("finite and at least 0", &eps.to_string());
            }
            if self.delta {
                return wrong("absent with the delta rule", &eps.to_string());
            }
        }
        if !self.causal && (self.delta || self.decay != Decay::None) {
            return Err(Error::Argument {
                op,
                what: "causal".into(),
                expected: "true with a decay or the delta rule".into(),
                got: "false".into(),
            });
        }
        if self.form == Form::Segments(0) {
            return Err(Error::Argument {
                op,
                what: "form".into(),
                expected: "at least 1 segment".into(),
                got: "0".into(),
            });
        }
        Ok(())
    }
}
