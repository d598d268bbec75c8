//! Learning codes: greedy kernel-based supervised hashing, on the CPU.
//!
//! A code of b bits should agree between tokens that attend to each other: sum_r y_ri y_rj = b - 2 d_ij is fitted to b S0_ij,
//! with S0_ij = 1 for the most similar tokens of a row, -1 for the least similar and 0 between. Bit by bit, a vector a of
//! weights is learnt so that y = sign(K a), K the centred kernel values between tokens and anchors, fits what the bits before
//! it left over. [`ksh_fit`] returns what [`kernel_hash`](crate::hamming::kernel_hash()) needs.

mod learner;
mod random;
mod sample;
#[cfg(test)]
mod tests;

use rayon::prelude::*;

use crate::{
    Error, Result,
    error::length,
    hamming::{bits::check_bits, kernel_hash},
};

use learner::{Learner, Try, judge};
use random::Random;

const OP: &str = "ksh_fit";

/// Sizes of what is learnt from: x is `[batch, heads, tokens, channels]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Samples.
    pub batch: usize,
    /// Heads, each of which learns for itself.
    pub heads: usize,
    /// Tokens of a sample.
    pub tokens: usize,
    /// Width of x.
    pub channels: usize,
}

impl Shape {
    /// Elements of x.
    pub fn x_len(&self) -> usize {
        self.rows() * self.channels
    }

    fn rows(&self) -> usize {
        self.batch * self.heads * self.tokens
    }
}

/// Who decides whether a learnt bit is better than the random one it started from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Accept {
    /// Each head for itself.
    #[default]
    PerHead,
    /// The sum of the losses of all heads, as in the published code.
    Global,
}

/// Options of [`ksh_fit`]; the defaults are those of the published code, but for [`Accept`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// b, bits of a code.
    pub bits: usize,
    /// m, anchors.
    pub anchors: usize,
    /// l, how many of a row's entries count as most similar, and how many as least.
    pub pairs: usize,
    /// Steps of gradient descent for a bit.
    pub steps: usize,
    /// Their rate.
    pub rate: f64,
    /// Their momentum, Nesterov's.
    pub momentum: f64,
    /// Who decides whether the result is kept.
    pub accept: Accept,
    /// Equal seeds give equal results.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            bits: 16,
            anchors: 25,
            pairs: 10,
            steps: 100,
            rate: 5e-4,
            momentum: 0.9,
            accept: Accept::PerHead,
            seed: 0,
        }
    }
}

/// What tells similar tokens from others: row i of S0 is 1 at the l largest entries of row i of a matrix, then -1 at the l
/// smallest; of equal entries, those that come first.
#[derive(Clone, Copy, Debug)]
pub enum Supervision<'a> {
    /// Products of the normalised rows of x, as in the published code.
    Inputs,
    /// Attention maps, or any scores, `[batch, heads, tokens, tokens]`.
    Maps(&'a [f32]),
    /// The maps of a softmax attention, from its queries and keys `[batch, heads, tokens, width]`. Softmax and a positive scale
    /// do not change the order in a row, so that products do, and no map is ever whole.
    Products {
        /// Queries.
        q: &'a [f32],
        /// Keys.
        k: &'a [f32],
        /// Their width.
        width: usize,
    },
}

/// What [`ksh_fit`] learnt: the arguments of [`kernel_hash`](crate::hamming::kernel_hash()).
#[derive(Clone, Debug, PartialEq)]
pub struct Fit {
    /// Normalised tokens, `[heads, anchors, channels]`.
    pub anchors: Vec<f32>,
    /// Means of the kernel over samples and tokens, `[heads, anchors]`.
    pub mean: Vec<f32>,
    /// Weights, `[heads, bits, anchors]`.
    pub weight: Vec<f32>,
    /// The mean over samples and heads of each sequence's mean squared distance, for freezing.
    pub sigma: f32,
    /// How each bit went.
    pub bits: Vec<Bit>,
}

/// How one bit went. Losses are exact: -sum over samples of yᵀ S y, one a head, with S what the bits before left over; over
/// `batch * heads * tokens * bits` they are the loss that descent lowers, at y = ±1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bit {
    /// Of the random weights that descent started from.
    pub start: Vec<i64>,
    /// Of the weights it ended with.
    pub learnt: Vec<i64>,
    /// Where the latter were kept.
    pub kept: Vec<bool>,
}

impl Bit {
    /// The losses of what was kept.
    pub fn losses(&self) -> Vec<i64> {
        let both = self.start.iter().zip(&self.learnt).zip(&self.kept);
        both.map(|((start, learnt), kept)| if *kept { *learnt } else { *start })
            .collect()
    }
}

/// Learns codes for tokens: greedy kernel-based supervised hashing.
///
/// ```text
/// a⁰ ~ N(0, 1)^m        L(a) = -mean(yᵀ S y) / (N b), y = tanh(K a / 2)
///                       grad = -mean Kᵀ[½ (1 - y²) ∘ (S y + Sᵀ y)] / (N b)
/// ```
///
/// over samples and heads, for each bit in turn: `steps` steps of descent from a⁰; with y = ±1, the sign of K a, the result is
/// kept if its loss is below that of a⁰, so that no bit is worse than a random one; then S ← S - y yᵀ, which starts as b S0. S
/// is not formed: S y = b S0 y - sum over earlier y' of y' (y'·y), and S0 has 2 l entries a row. Anchors are normalised rows of
/// sample 0 at m random positions, the same for all heads; σ is each sequence's mean squared distance.
///
/// `told` hears of every bit when it is done. Time: about `8 B H N (m + l + b) steps b` operations in f64, parallel over heads,
/// plus `B H N²` products once for the supervision. Memory: `B H N (m + 2 l + b)` numbers. Sums are f64 and hard losses
/// integers; equal seeds give equal results.
///
/// # Errors
/// `Argument` for wrong lengths, fewer tokens than 2 l or m, or options that make no sense; `Numeric` with the number of the
/// bit where weights stop being finite.
///
/// Source: J. Liu et al., EcoFormer: Energy-Saving Attention with Linear Complexity, 2022; W. Liu et al., Supervised Hashing
/// with Kernels, 2012.
pub fn ksh_fit(
    shape: &Shape,
    options: &Options,
    x: &[f32],
    supervision: Supervision<'_>,
    mut told: impl FnMut(usize, &Bit),
) -> Result<Fit> {
    check(shape, options, x, supervision)?;
    let mut random = Random::new(options.seed);
    let positions = random.distinct(options.anchors, shape.tokens);
    let learners: Vec<(Learner, f64)> = (0..shape.heads)
        .into_par_iter()
        .map(|head| Learner::new(shape, options, x, supervision, &positions, head))
        .collect();
    let sigma = learners.iter().map(|(_, sigma)| sigma).sum::<f64>() / shape.heads as f64;
    let mut learners: Vec<Learner> = learners.into_iter().map(|(learner, _)| learner).collect();
    let mut bits = Vec::new();
    for number in 0..options.bits {
        let starts: Vec<Vec<f64>> = learners
            .iter()
            .map(|_| (0..options.anchors).map(|_| random.normal()).collect())
            .collect();
        let tries: Vec<Try> = learners
            .par_iter()
            .zip(starts)
            .map(|(learner, start)| learner.learn(start))
            .collect();
        if !tries.iter().all(Try::finite) {
            return Err(Error::Numeric {
                op: OP,
                what: format!("the weights of bit {number} are not finite"),
            });
        }
        let bit = judge(options.accept, &tries);
        learners
            .par_iter_mut()
            .zip(tries)
            .zip(bit.kept.par_iter())
            .for_each(|((learner, Try { start, end, .. }), kept)| {
                learner.take(if *kept { end } else { start });
            });
        told(number, &bit);
        bits.push(bit);
    }
    let single = |values: &[f64]| -> Vec<f32> { values.iter().map(|x| *x as f32).collect() };
    Ok(Fit {
        anchors: learners.iter().flat_map(|l| single(&l.anchors)).collect(),
        mean: learners.iter().flat_map(|l| single(&l.mean)).collect(),
        weight: learners.iter().flat_map(|l| single(&l.weight)).collect(),
        sigma: sigma as f32,
        bits,
    })
}

fn check(shape: &Shape, options: &Options, x: &[f32], supervision: Supervision<'_>) -> Result<()> {
    let wrong = |what: &str, expected: String, got: String| {
        Err(Error::Argument {
            op: OP,
            what: what.into(),
            expected,
            got,
        })
    };
    check_bits(OP, options.bits)?;
    for (what, size) in [
        ("batch", shape.batch),
        ("heads", shape.heads),
        ("channels", shape.channels),
        ("anchors", options.anchors),
        ("pairs", options.pairs),
    ] {
        if size == 0 {
            return wrong(what, "at least 1".into(), "0".into());
        }
    }
    let least = options.anchors.max(2 * options.pairs);
    if shape.tokens < least {
        let expected = format!("at least {least}, the anchors and twice the pairs");
        return wrong("tokens", expected, shape.tokens.to_string());
    }
    for (what, number, most) in [
        ("rate", options.rate, f64::MAX),
        ("momentum", options.momentum, 1.0),
    ] {
        if !(0.0..=most).contains(&number) {
            return wrong(what, format!("0 to {most:e}"), number.to_string());
        }
    }
    length(OP, "x", x.len(), shape.x_len())?;
    match supervision {
        Supervision::Inputs => Ok(()),
        Supervision::Maps(maps) => length(OP, "maps", maps.len(), shape.rows() * shape.tokens),
        Supervision::Products { q, k, width } => {
            length(OP, "q", q.len(), shape.rows() * width)?;
            length(OP, "k", k.len(), shape.rows() * width)
        }
    }
}

impl Fit {
    /// The shape of [`kernel_hash`](crate::hamming::kernel_hash()) for tokens of which these are the codes.
    pub fn hash_shape(
        &self,
        shape: &Shape,
        options: &Options,
        dtype: crate::gpu::Dtype,
    ) -> kernel_hash::Shape {
        kernel_hash::Shape {
            batch: shape.batch,
            heads: shape.heads,
            tokens: shape.tokens,
            channels: shape.channels,
            anchors: options.anchors,
            bits: options.bits,
            dtype,
        }
    }
}
