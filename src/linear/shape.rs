//! What a caller asks for, and whether it makes sense.

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

/// Sizes of a call. q and k have `key` columns, v and o `value` columns; states are `[batch, heads, key, value]` in f32.
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
    /// Sequences times heads.
    pub fn rows(&self) -> usize {
        self.batch * self.heads
    }

    /// Elements of q, or of k.
    pub fn key_len(&self) -> usize {
        self.rows() * self.tokens * self.key
    }

    /// Elements of v, or of o.
    pub fn value_len(&self) -> usize {
        self.rows() * self.tokens * self.value
    }

    /// Elements of a state.
    pub fn state_len(&self) -> usize {
        self.rows() * self.key * self.value
    }

    /// Distance in rows of a tensor between (batches, heads, tokens).
    pub(super) fn strides(&self) -> [u64; 3] {
        let (h, t) = (self.heads as u64, self.tokens as u64);
        match self.layout {
            Layout::Bthd => [h * t, 1, h],
            Layout::Bhtd => [h * t, t, 1],
        }
    }

    /// Whether the tensors exist on a device: one larger than its largest buffer cannot.
    pub(super) fn fits(&self, caps: &Caps) -> Result<()> {
        let elem = self.dtype.bytes();
        for (what, len, bytes) in [
            ("q", self.key_len(), elem),
            ("v", self.value_len(), elem),
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
    /// By one factor per token, head and row of the state: `log_decay [batch, tokens, kv_heads, key]`, or head-first.
    Channel,
}

/// What queries and keys go through before the operator sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FeatureMap {
    /// Nothing.
    Identity,
    /// max(x, 0).
    Relu,
    /// x + 1 above 0, exp(x) below: positive everywhere.
    Elu1,
    /// softmax([2y, -2y]) over twice the width, y = Wx + b with weights shared by the heads (flash-linear-attention's
    /// Hedgehog).
    HedgehogSoftmax,
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

    pub(super) fn check(&self, op: &'static str) -> Result<()> {
        if !self.scale.is_finite() {
            return Err(Error::Argument {
                op,
                what: "scale".into(),
                expected: "finite".into(),
                got: self.scale.to_string(),
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
