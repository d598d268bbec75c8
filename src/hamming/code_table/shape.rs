//! What a call is about: sizes, options, and the factors that follow from them.

use super::OP;
use crate::{Error, Result, gpu::Class, hamming::bits::check_bits};

/// The longest codes: a table has 2^bits rows.
pub const MAX_BITS: usize = 18;

/// The widest values.
pub const MAX_VALUE: usize = 512;

/// The largest range of logits, 2 Σ_r |β_r|: the least weight relative to the largest is e^-80, a normal f32.
pub const MAX_RANGE: f64 = 80.0;

/// The longest chunk of the causal form.
pub const MAX_CHUNK: usize = 256;

/// Sizes of a call. Heads come before tokens: q is `[batch, heads, queries, 1]`, k `[batch, kv_heads, keys, 1]`, v
/// `[batch, kv_heads, keys, value]`, o `[batch, heads, queries, value]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Sequences.
    pub batch: usize,
    /// Heads of queries.
    pub heads: usize,
    /// Heads of keys and values; query head h reads head h / (heads / kv_heads).
    pub kv_heads: usize,
    /// Queries per sequence; 0 is legal.
    pub queries: usize,
    /// Keys per sequence; as many as queries where causal. Without keys o is 0.
    pub keys: usize,
    /// Width of values.
    pub value: usize,
}

/// Options of a call.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Bits of a code that count: the low ones of its word, at most [`MAX_BITS`]. The rest is ignored.
    pub bits: usize,
    /// β: one number, or one for each head of queries. Where it is the same for all heads that share keys, they share tables.
    pub beta: Vec<f32>,
    /// What multiplies β for each bit; empty stands for ones.
    pub scales: Vec<f32>,
    /// Whether a query sees only its own key and earlier ones.
    pub causal: bool,
    /// Tokens between two insertions of the causal form, up to [`MAX_CHUNK`]; none leaves it to the planner. It shows in rounding
    /// and time alone.
    pub chunk: Option<usize>,
}

impl Options {
    /// Codes of so many bits at one β, all keys seen.
    pub fn new(bits: usize, beta: f32) -> Options {
        Options {
            bits,
            beta: vec![beta],
            scales: Vec::new(),
            causal: false,
            chunk: None,
        }
    }

    /// The chunk that is asked for, or: 128 where dispatches are what costs; on a software adapter no more than half of the bits
    /// have codes, so that a token's own chunk costs no more than the table.
    pub(crate) fn chunk(&self, class: Class) -> usize {
        let chunk = match class {
            Class::Cpu => (1 << (self.bits / 2)).clamp(32, 128),
            _ => 128,
        };
        self.chunk.unwrap_or(chunk)
    }

    /// β of every bit for a head of queries.
    pub(crate) fn betas(&self, head: usize) -> Vec<f64> {
        let beta = self.beta.get(head).or(self.beta.first());
        let beta = f64::from(beta.copied().unwrap_or(0.0));
        let scale = |bit: usize| f64::from(self.scales.get(bit).copied().unwrap_or(1.0));
        (0..self.bits).map(|bit| beta * scale(bit)).collect()
    }
}

/// The weights of an equal and of a differing bit, e^β and e^-β over the greater of the two.
pub(crate) fn bit_weights(beta: f64) -> [f64; 2] {
    [(beta - beta.abs()).exp(), (-beta - beta.abs()).exp()]
}

impl Shape {
    /// Lists of queries.
    pub fn query_lists(&self) -> usize {
        self.batch * self.heads
    }

    /// Lists of keys.
    pub fn key_lists(&self) -> usize {
        self.batch * self.kv_heads
    }

    /// Elements of q.
    pub fn query_len(&self) -> usize {
        self.query_lists() * self.queries
    }

    /// Elements of k.
    pub fn key_len(&self) -> usize {
        self.key_lists() * self.keys
    }

    /// Elements of v.
    pub fn value_len(&self) -> usize {
        self.key_len() * self.value
    }

    /// Elements of o.
    pub fn output_len(&self) -> usize {
        self.query_len() * self.value
    }

    /// Elements of a state: `[batch, kv_heads, tables, 2^bits, value + 1]`, tables 1, or the heads that share keys where their β
    /// differ.
    pub fn state_len(&self, options: &Options) -> usize {
        (self.key_lists() * self.share(options) * (self.value + 1)) << options.bits
    }

    /// Heads of queries that share keys.
    pub(crate) fn group(&self) -> usize {
        self.heads / self.kv_heads.max(1)
    }

    /// Tables of a list of keys.
    pub(crate) fn share(&self, options: &Options) -> usize {
        let group = self.group().max(1);
        let mut groups = options.beta.chunks(group);
        let equal = groups.all(|betas| betas.iter().all(|beta| Some(beta) == betas.first()));
        if options.beta.len() == 1 || equal {
            1
        } else {
            group
        }
    }

    /// Whether sizes and options go together.
    ///
    /// # Errors
    /// `Argument` or `Unsupported`, as the call documents.
    pub fn check(&self, options: &Options) -> Result<()> {
        let wrong = |what: &str, expected: String, got: String| {
            Err(Error::Argument {
                op: OP,
                what: what.into(),
                expected,
                got,
            })
        };
        let Options {
            bits,
            beta,
            scales,
            chunk,
            ..
        } = options;
        check_bits(OP, *bits)?;
        if *bits > MAX_BITS {
            return Err(Error::Unsupported {
                op: OP,
                what: format!(
                    "codes of {bits} bits, only up to {MAX_BITS}: a table has 2^bits rows; use hamming_attention"
                ),
            });
        }
        if self.kv_heads == 0 || self.heads == 0 || !self.heads.is_multiple_of(self.kv_heads) {
            let got = format!("{} and {}", self.heads, self.kv_heads);
            return wrong(
                "heads",
                "a multiple of kv_heads, both at least 1".into(),
                got,
            );
        }
        if self.value == 0 || self.value > MAX_VALUE {
            return wrong("value", format!("1 to {MAX_VALUE}"), self.value.to_string());
        }
        if beta.len() != 1 && beta.len() != self.heads {
            let expected = format!("one number or {}, one for each head", self.heads);
            return wrong("beta", expected, format!("{} numbers", beta.len()));
        }
        if !scales.is_empty() && scales.len() != *bits {
            let expected = format!("nothing or {bits} numbers, one for each bit");
            return wrong("scales", expected, format!("{} numbers", scales.len()));
        }
        if let Some(chunk) = chunk.filter(|chunk| *chunk == 0 || *chunk > MAX_CHUNK) {
            return wrong("chunk", format!("1 to {MAX_CHUNK}"), chunk.to_string());
        }
        if options.causal && self.queries != self.keys {
            let got = format!("{} and {}", self.queries, self.keys);
            return wrong("queries", "as many as keys where causal".into(), got);
        }
        for head in 0..beta.len() {
            let betas = options.betas(head);
            if let Some(beta) = betas.iter().find(|beta| !beta.is_finite()) {
                return wrong("beta", "finite, times scales too".into(), beta.to_string());
            }
            let range: f64 = betas.iter().map(|beta| 2.0 * beta.abs()).sum();
            if range > MAX_RANGE {
                return Err(Error::Unsupported {
                    op: OP,
                    what: format!(
                        "logits in a range of 2 Σ|β| = {range}, only up to {MAX_RANGE} (smaller weights underflow); use hamming_attention"
                    ),
                });
            }
        }
        // Rows are counted in 32 bits, over all heads, and in products with small factors in 64.
        let sizes = [self.batch, self.heads, self.queries.max(self.keys)];
        let rows = sizes
            .iter()
            .try_fold(1u64, |rows, size| rows.checked_mul(*size as u64));
        if rows.is_none_or(|rows| rows > 1 << 31) {
            let expected = "of at most 2^31 queries and keys of all heads".into();
            return wrong("shape", expected, format!("{self:?}"));
        }
        Ok(())
    }
}
