//! What a caller asks for, and whether it makes sense.

use std::ops::Range;

use super::OP;
use crate::{
    Error, Result,
    gpu::{Caps, Dtype},
};

/// The most queries and keys of a head: places and windows are signed 32-bit numbers in shaders.
pub const MAX_TOKENS: usize = 1 << 28;

/// Sizes of a call. Heads come before tokens: q is `[batch, heads, queries, width]`, k1 and k2 are `[batch, kv_heads, keys, width]`,
/// v1 and v2 `[batch, kv_heads, keys, value]`, each with its own number of keys, o is `[batch, heads, queries, value]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Batch entries.
    pub batch: usize,
    /// Heads of queries and outputs.
    pub heads: usize,
    /// Heads of keys and values; divides `heads`. Query head h reads head h · kv_heads / heads.
    pub kv_heads: usize,
    /// Queries of a head; 0 is legal.
    pub queries: usize,
    /// Keys of a head in k1 and in k2; 0 is legal.
    pub keys: [usize; 2],
    /// Width of queries and keys, at least 1.
    pub width: usize,
    /// Width of values and outputs, at least 1.
    pub value: usize,
    /// Storage type of all tensors but gradients: f32, f16 or bf16. Arithmetic is f32.
    pub dtype: Dtype,
}

impl Shape {
    /// As many keys of both kinds as queries, and as many heads, in f32.
    pub fn square([batch, heads, tokens]: [usize; 3], width: usize, value: usize) -> Shape {
        Shape {
            batch,
            heads,
            kv_heads: heads,
            queries: tokens,
            keys: [tokens; 2],
            width,
            value,
            dtype: Dtype::F32,
        }
    }

    /// Queries of all heads.
    pub fn rows(&self) -> usize {
        self.batch * self.heads * self.queries
    }

    /// Heads of keys of all batch entries.
    pub fn units(&self) -> usize {
        self.batch * self.kv_heads
    }

    /// Elements of q.
    pub fn query_len(&self) -> usize {
        self.rows() * self.width
    }

    /// Elements of k1 and of k2.
    pub fn key_lens(&self) -> [usize; 2] {
        self.keys.map(|keys| self.units() * keys * self.width)
    }

    /// Elements of v1 and of v2.
    pub fn value_lens(&self) -> [usize; 2] {
        self.keys.map(|keys| self.units() * keys * self.value)
    }

    /// Elements of o.
    pub fn output_len(&self) -> usize {
        self.rows() * self.value
    }

    /// Query heads that read one head of keys.
    pub(super) fn group(&self) -> usize {
        self.heads / self.kv_heads.max(1)
    }

    /// Whether no query or no key exists.
    pub(super) fn is_empty(&self) -> bool {
        self.rows() == 0 || self.keys.contains(&0)
    }

    fn check(&self) -> Result<()> {
        for (what, width) in [("width", self.width), ("value", self.value)] {
            if !(1..=1 << 16).contains(&width) {
                return wrong(what, "1 to 65536", width.to_string());
            }
        }
        if !matches!(self.dtype, Dtype::F32 | Dtype::F16 | Dtype::Bf16) {
            return wrong("dtype", "f32, f16 or bf16", self.dtype.name());
        }
        if self.heads > 0 && (self.kv_heads == 0 || !self.heads.is_multiple_of(self.kv_heads)) {
            let expected = format!("a divisor of the {} heads", self.heads);
            return wrong("kv_heads", expected, self.kv_heads.to_string());
        }
        let tokens = [self.queries, self.keys[0], self.keys[1]];
        // Elements of all heads are counted in 32 bits.
        let elements = tokens.map(|tokens| {
            let sizes = [
                self.batch,
                self.heads,
                tokens,
                self.width.max(self.value).next_multiple_of(4),
            ];
            let sizes = sizes.map(|n| n.max(1) as u64).into_iter();
            sizes.fold(1u64, u64::saturating_mul)
        });
        if elements.iter().any(|n| *n >= 1 << 32) || tokens.iter().any(|n| *n > MAX_TOKENS) {
            let expected = "of less than 2^32 elements and at most 2^28 tokens a head";
            return wrong("shape", expected, format!("{self:?}"));
        }
        Ok(())
    }
}

/// What the score of a query with two keys is, before the scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Logits {
    /// Σ_d q_d k1_d k2_d.
    Trilinear,
    /// The sum over triples of channels of det\[q, k1, k2\]; the width is a multiple of 3. A rotation of all triples alike changes
    /// nothing.
    Determinant,
    /// q·k1 + q·k2 + k1·k2.
    PairSum,
    /// q·k1 + q·k2: o is the product of two ordinary attentions, and costs no more than these.
    Sum,
}

impl Logits {
    /// The name in case files.
    pub fn name(self) -> &'static str {
        match self {
            Logits::Trilinear => "trilinear",
            Logits::Determinant => "determinant",
            Logits::PairSum => "pair_sum",
            Logits::Sum => "sum",
        }
    }
}

/// Options of [`forward`](super::forward()) and [`backward`](super::backward()).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// The factor of scores; papers use 1/√width and 1/width.
    pub scale: f32,
    /// Whether a query sees keys up to its own place only.
    pub causal: bool,
    /// The query at place t sees keys t - w < j <= t of k1 and of k2; `None` sets no limit to that kind.
    pub window: [Option<usize>; 2],
    /// Query i stands at place i + q_offset among the keys; `None` is keys - queries, so that the last query stands at the last key,
    /// and needs as many keys of both kinds where places matter.
    pub q_offset: Option<i64>,
    /// What scores are.
    pub logits: Logits,
    /// Added to every element of k2.
    pub k2_bias: f32,
    /// Added to every element of v2.
    pub v2_bias: f32,
}

impl Options {
    /// All keys, trilinear scores, no biases.
    pub fn new(scale: f32) -> Options {
        Options {
            scale,
            causal: false,
            window: [None; 2],
            q_offset: None,
            logits: Logits::Trilinear,
            k2_bias: 0.0,
            v2_bias: 0.0,
        }
    }

    /// Whether it matters where queries stand.
    fn places(&self) -> bool {
        self.causal || self.window.iter().any(Option::is_some)
    }

    /// The place of the first query.
    pub(super) fn shift(&self, shape: &Shape) -> i64 {
        match self.q_offset {
            _ if !self.places() => 0,
            Some(offset) => offset,
            None => shape.keys[0] as i64 - shape.queries as i64,
        }
    }

    /// Which keys a query sees around its place.
    pub(super) fn bands(&self) -> [Band; 2] {
        self.window.map(|window| match window {
            Some(window) => Band {
                behind: (window as u64).min(Band::FAR),
                ahead: 0,
            },
            None => Band {
                behind: Band::FAR,
                ahead: if self.causal { 0 } else { Band::FAR },
            },
        })
    }

    /// Whether keys and values have biases.
    pub(super) fn biased(&self) -> bool {
        self.k2_bias != 0.0 || self.v2_bias != 0.0
    }

    pub(super) fn check(&self, shape: &Shape) -> Result<()> {
        shape.check()?;
        for (what, x) in [
            ("scale", self.scale),
            ("k2_bias", self.k2_bias),
            ("v2_bias", self.v2_bias),
        ] {
            if !x.is_finite() {
                return wrong(what, "finite", x.to_string());
            }
        }
        if self.window.contains(&Some(0)) {
            return wrong("window", "of at least 1", format!("{:?}", self.window));
        }
        if self.logits == Logits::Determinant && !shape.width.is_multiple_of(3) {
            let expected = "a multiple of 3 with determinants";
            return wrong("width", expected, shape.width.to_string());
        }
        match self.q_offset {
            Some(offset) if offset.unsigned_abs() > MAX_TOKENS as u64 => {
                wrong("q_offset", "within 2^28 of 0", offset.to_string())
            }
            None if self.places() && shape.keys[0] != shape.keys[1] => {
                let expected = "given where k1 and k2 have different numbers of keys";
                wrong("q_offset", expected, "none")
            }
            _ => Ok(()),
        }
    }

    /// The keys of both kinds that query t of a head sees.
    pub(super) fn seen(&self, shape: &Shape, t: usize) -> [Range<usize>; 2] {
        let place = t as i64 + self.shift(shape);
        let [first, second] = self.bands();
        [
            first.seen(place, shape.keys[0]),
            second.seen(place, shape.keys[1]),
        ]
    }

    /// Triples of a query and two keys that see each other, in all heads.
    pub(super) fn triples(&self, shape: &Shape) -> f64 {
        let of_head = |t| {
            let [first, second] = self.seen(shape, t);
            first.len() as f64 * second.len() as f64
        };
        let all: f64 = (0..shape.queries).map(of_head).sum();
        all * (shape.batch * shape.heads) as f64
    }

    /// Pairs of a query and a key of either kind that see each other, in all heads.
    pub(super) fn pairs(&self, shape: &Shape) -> f64 {
        let of_head = |t| {
            let [first, second] = self.seen(shape, t);
            (first.len() + second.len()) as f64
        };
        let all: f64 = (0..shape.queries).map(of_head).sum();
        all * (shape.batch * shape.heads) as f64
    }
}

/// Which keys a query at place t sees: t - behind < j <= t + ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Band {
    pub behind: u64,
    pub ahead: u64,
}

impl Band {
    /// Beyond every key.
    pub const FAR: u64 = 1 << 29;

    /// Without limits.
    pub const ALL: Band = Band {
        behind: Band::FAR,
        ahead: Band::FAR,
    };

    fn seen(self, place: i64, keys: usize) -> Range<usize> {
        let within = |n: i64| n.clamp(0, keys as i64) as usize;
        let begin = within(place - self.behind as i64 + 1);
        begin..within(place + self.ahead as i64 + 1).max(begin)
    }

    /// The most keys, of so many, that some of `tokens` neighbouring places see.
    pub fn most(self, tokens: u64, keys: u64) -> u64 {
        keys.min(self.behind + self.ahead + tokens - 1)
    }

    /// About how many they are in the mean: half of the keys where only one side is open.
    pub fn mean(self, tokens: u64, keys: u64) -> f64 {
        let most = self.most(tokens, keys);
        match self.behind < keys || self.ahead > 0 {
            true => most as f64,
            false => 0.5 * (keys + tokens) as f64,
        }
    }
}

/// Whether the tensors of a call exist on a device: one larger than its largest buffer cannot.
pub(super) fn fits(shape: &Shape, caps: &Caps) -> Result<()> {
    let element = shape.dtype.bytes();
    let [k1, k2] = shape.key_lens();
    let [v1, v2] = shape.value_lens();
    for (what, len) in [
        ("bytes of q", shape.query_len()),
        ("bytes of k1", k1),
        ("bytes of k2", k2),
        ("bytes of v1", v1),
        ("bytes of v2", v2),
        ("bytes of o", shape.output_len()),
    ] {
        let needed = element * len as u64;
        if needed > caps.buffer_bytes {
            return Err(Error::Limit {
                what: what.into(),
                needed,
                available: caps.buffer_bytes,
                remedy: "cut the batch or the sequence",
            });
        }
    }
    Ok(())
}

pub(super) fn wrong<T>(
    what: &str,
    expected: impl Into<String>,
    got: impl Into<String>,
) -> Result<T> {
    Err(Error::Argument {
        op: OP,
        what: what.into(),
        expected: expected.into(),
        got: got.into(),
    })
}
