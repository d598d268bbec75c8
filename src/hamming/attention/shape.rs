//! What a caller asks for, and whether it makes sense.

use std::ops::Range;

use super::OP;
use crate::{
    Error, Result,
    gpu::{Caps, Dtype},
    hamming::bits::{check_bits, words},
};

/// The largest width of values.
pub const MAX_VALUE: usize = 512;

/// Numbers that the forward part keeps of each query for the backward part: see [`Outputs::kept`](super::Outputs::kept).
pub const KEPT: usize = 4;

/// The largest range of logits, from the nearest to the farthest code, with which weights need no shift.
const MOST_RANGE: f64 = 80.0;

/// Sizes of a call. Heads come before tokens: q is `[batch, heads, queries, words]`, k `[batch, kv_heads, capacity, words]`, v
/// `[batch, kv_heads, capacity, value]`, o `[batch, heads, queries, value]`.
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
    /// Keys of a head; 0 is legal.
    pub keys: usize,
    /// Rows of a head in k and v, of which the first `keys` count.
    pub capacity: usize,
    /// Bits of a code, 1 to 65,536.
    pub bits: usize,
    /// Width of values and outputs, 1 to 512.
    pub value: usize,
    /// Storage type of v and o: f32, f16 or bf16. Arithmetic is f32.
    pub dtype: Dtype,
}

impl Shape {
    /// As many keys as queries, as many heads of both, and no room to spare.
    pub fn square(
        [batch, heads, tokens]: [usize; 3],
        bits: usize,
        value: usize,
        dtype: Dtype,
    ) -> Shape {
        Shape {
            batch,
            heads,
            kv_heads: heads,
            queries: tokens,
            keys: tokens,
            capacity: tokens,
            bits,
            value,
            dtype,
        }
    }

    /// Words of a code.
    pub fn words(&self) -> usize {
        words(self.bits)
    }

    /// Queries of all heads.
    pub fn rows(&self) -> usize {
        self.batch * self.heads * self.queries
    }

    /// Rows of k and of v.
    pub fn key_rows(&self) -> usize {
        self.batch * self.kv_heads * self.capacity
    }

    /// Words of q.
    pub fn query_len(&self) -> usize {
        self.rows() * self.words()
    }

    /// Words of k.
    pub fn key_len(&self) -> usize {
        self.key_rows() * self.words()
    }

    /// Elements of v.
    pub fn value_len(&self) -> usize {
        self.key_rows() * self.value
    }

    /// Elements of o.
    pub fn output_len(&self) -> usize {
        self.rows() * self.value
    }

    /// Query heads that read one head of keys.
    pub(super) fn group(&self) -> usize {
        self.heads / self.kv_heads.max(1)
    }

    fn check(&self) -> Result<()> {
        check_bits(OP, self.bits)?;
        if !(1..=MAX_VALUE).contains(&self.value) {
            let expected = format!("1 to {MAX_VALUE}");
            return wrong("value", expected, self.value.to_string());
        }
        if !matches!(self.dtype, Dtype::F32 | Dtype::F16 | Dtype::Bf16) {
            return wrong("dtype", "f32, f16 or bf16", self.dtype.name());
        }
        if self.heads > 0 && (self.kv_heads == 0 || !self.heads.is_multiple_of(self.kv_heads)) {
            let expected = format!("a divisor of the {} heads", self.heads);
            return wrong("kv_heads", expected, self.kv_heads.to_string());
        }
        if self.keys > self.capacity {
            let expected = format!("at most the capacity, {}", self.capacity);
            return wrong("keys", expected, self.keys.to_string());
        }
        // Positions are signed in shaders, and rows of all heads are counted in 32 bits.
        let rows = [self.queries, self.capacity].map(|tokens| {
            [self.batch, self.heads, tokens]
                .map(|n| n.max(1) as u64)
                .into_iter()
                .try_fold(1u64, u64::checked_mul)
        });
        if rows.iter().any(|rows| rows.is_none_or(|n| n > 1 << 31))
            || self.queries.max(self.capacity) >= 1 << 29
        {
            let got = format!(
                "batch {}, heads {}, queries {}, capacity {}",
                self.batch, self.heads, self.queries, self.capacity
            );
            return wrong("shape", "of at most 2^31 rows and 2^29 tokens a head", got);
        }
        Ok(())
    }
}

/// The factor of logits.
#[derive(Clone, Debug, PartialEq)]
pub enum Beta {
    /// One for all heads.
    All(f32),
    /// One for each query head.
    PerHead(Vec<f32>),
}

impl Beta {
    /// The factors: one, or one a head.
    pub fn values(&self) -> &[f32] {
        match self {
            Beta::All(beta) => std::slice::from_ref(beta),
            Beta::PerHead(betas) => betas,
        }
    }

    /// The factor of a head.
    pub(super) fn of(&self, head: usize) -> f64 {
        let betas = self.values();
        betas
            .get(head % betas.len().max(1))
            .map_or(0.0, |beta| f64::from(*beta))
    }
}

/// How the sum of a query's weights is formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denominator {
    /// With the weighted values, tile after tile.
    Running,
    /// From the number of keys at each distance, which costs a pass over the codes: the same bits for every tile and split.
    Integer,
}

/// Sequences packed one after the other into the tokens of one batch entry: each list ascends from 0 to the number of tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequences {
    /// Where sequences of queries begin, and the end of the last.
    pub queries: Vec<usize>,
    /// The same for keys, as many.
    pub keys: Vec<usize>,
}

/// Options of [`forward`](super::forward) and [`backward`](super::backward).
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// The factor of logits, of either sign.
    pub beta: Beta,
    /// Whether query i sees keys up to p_i = i + T_k - T_q only, so that the last query sees the last key.
    pub causal: bool,
    /// Keys closer to p_i than this are seen: p_i - w < j, and j < p_i + w where not causal.
    pub window: Option<usize>,
    /// The first keys of a sequence that are seen whatever the window.
    pub sinks: usize,
    /// Only the nearest keys of each query, by (distance, index).
    pub top_n: Option<usize>,
    /// With `top_n`: all keys at the last distance as well.
    pub include_ties: bool,
    /// Only keys at this distance or nearer.
    pub radius: Option<usize>,
    /// How weights are summed; `None` is `Integer` with `top_n` or `radius`, else `Running`.
    pub denominator: Option<Denominator>,
    /// Sequences packed into one batch entry.
    pub sequences: Option<Sequences>,
    /// Parts into which the keys are cut, summed in order; `None` leaves it to the planner.
    pub splits: Option<usize>,
}

impl Options {
    /// All keys, with one factor.
    pub fn dense(beta: f32) -> Options {
        Options {
            beta: Beta::All(beta),
            causal: false,
            window: None,
            sinks: 0,
            top_n: None,
            include_ties: false,
            radius: None,
            denominator: None,
            sequences: None,
            splits: None,
        }
    }

    /// Whether keys are selected by distance.
    pub(super) fn selects(&self) -> bool {
        self.top_n.is_some() || self.radius.is_some()
    }

    /// Whether numbers of keys at each distance are needed.
    pub(super) fn counts(&self) -> bool {
        self.selects() || self.denominator == Some(Denominator::Integer)
    }

    /// Whether weights need no shift by the row's largest.
    pub(super) fn fixed(&self, bits: usize) -> bool {
        let largest = self
            .beta
            .values()
            .iter()
            .fold(0.0f64, |most, beta| most.max(f64::from(beta.abs())));
        2.0 * largest * bits as f64 <= MOST_RANGE
    }

    pub(super) fn check(&self, shape: &Shape) -> Result<()> {
        shape.check()?;
        let betas = self.beta.values();
        if let Some(beta) = betas.iter().find(|beta| !beta.is_finite()) {
            return wrong("beta", "finite", beta.to_string());
        }
        if matches!(self.beta, Beta::PerHead(_)) && betas.len() != shape.heads {
            let expected = format!("one for each of the {} heads", shape.heads);
            return wrong("beta", expected, betas.len().to_string());
        }
        if self.window == Some(0) {
            return wrong("window", "at least 1", "0");
        }
        if self.include_ties && self.top_n.is_none() {
            return wrong("include_ties", "false without top_n", "true");
        }
        if self.splits == Some(0) {
            return wrong("splits", "at least 1", "0");
        }
        if self.selects() && self.denominator == Some(Denominator::Running) {
            return wrong("denominator", "Integer with top_n or radius", "Running");
        }
        let Some(Sequences { queries, keys }) = &self.sequences else {
            return Ok(());
        };
        if shape.batch != 1 {
            let expected = "1 where sequences are packed";
            return wrong("batch", expected, shape.batch.to_string());
        }
        for (what, ends, tokens) in [
            ("sequences.queries", queries, shape.queries),
            ("sequences.keys", keys, shape.keys),
        ] {
            if ends.first() != Some(&0) || ends.last() != Some(&tokens) || !ends.is_sorted() {
                let expected = format!("ascending from 0 to {tokens}");
                return wrong(what, expected, format!("{ends:?}"));
            }
        }
        if queries.len() != keys.len() {
            let expected = format!("{} as for queries", queries.len());
            return wrong("sequences.keys.len()", expected, keys.len().to_string());
        }
        Ok(())
    }
}

/// Tokens of one sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sequence {
    pub queries: Range<usize>,
    pub keys: Range<usize>,
}

impl Options {
    /// The sequences of a head: one, unless several are packed.
    pub(super) fn sequences(&self, shape: &Shape) -> Vec<Sequence> {
        let pairs = |ends: &[usize]| -> Vec<Range<usize>> {
            let pair = |pair: &[usize]| match pair {
                &[begin, end] => begin..end,
                _ => 0..0,
            };
            ends.windows(2).map(pair).collect()
        };
        match &self.sequences {
            None => vec![Sequence {
                queries: 0..shape.queries,
                keys: 0..shape.keys,
            }],
            Some(Sequences { queries, keys }) => pairs(queries)
                .into_iter()
                .zip(pairs(keys))
                .map(|(queries, keys)| Sequence { queries, keys })
                .collect(),
        }
    }

    /// Keys that the query at place `at` of a sequence may see: an interval, and sinks before it.
    pub(super) fn seen(&self, at: usize, queries: usize, keys: usize) -> [Range<usize>; 2] {
        let (at, len) = ((at + keys) as i64 - queries as i64, keys as i64);
        let window = self.window.map_or(1 << 30, |w| w.min(1 << 30) as i64);
        let ahead = if self.causal { 1 } else { window };
        let end = (at + ahead).clamp(0, len) as usize;
        let begin = (at - window + 1).clamp(0, len) as usize;
        let most = if self.causal { end } else { keys };
        [0..self.sinks.min(most).min(begin), begin..end.max(begin)]
    }
}

/// Whether the tensors of a call exist on a device: one larger than its largest buffer cannot.
pub(super) fn fits(shape: &Shape, caps: &Caps) -> Result<()> {
    let element = shape.dtype.bytes();
    for (what, needed) in [
        ("bytes of q", 4 * shape.query_len() as u64),
        ("bytes of k", 4 * shape.key_len() as u64),
        ("bytes of v", element * shape.value_len() as u64),
        ("bytes of o", element * shape.output_len() as u64),
    ] {
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
