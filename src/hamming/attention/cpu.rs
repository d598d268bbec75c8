//! Reference in f64, straight from the formula; parallel over the rows of o.

#![allow(clippy::indexing_slicing, reason = "lengths are checked on entry")]

use rayon::prelude::*;

use super::{OP, Options, Shape};
use crate::{
    Result,
    error::length,
    hamming::bits::{last_mask, words},
};

/// What [`forward`] and [`backward`] read, in the layouts of [`attention::Inputs`](super::Inputs).
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// Codes of the queries.
    pub q: &'a [u32],
    /// Codes of the keys.
    pub k: &'a [u32],
    /// Values.
    pub v: &'a [f64],
    /// Keys of each batch entry that count.
    pub lengths: Option<&'a [u32]>,
}

/// What [`forward`] returns.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outputs {
    /// `[B, H, T_q, V]`.
    pub o: Vec<f64>,
    /// Σ_j P_ij |v_j|, as o.
    pub magnitude: Vec<f64>,
    /// ln Σ_j exp(logit_ij), `[B, H, T_q]`; -3.4028235e38 where there is no key.
    pub lse: Vec<f64>,
}

/// What [`backward`] returns. Gradients of codes are those of h = 2·bit - 1.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gradients {
    /// `[B, H, T_q, bits]`.
    pub q: Vec<f64>,
    /// `[B, H_kv, capacity, bits]`.
    pub k: Vec<f64>,
    /// `[B, H_kv, capacity, V]`.
    pub v: Vec<f64>,
    /// Of beta, `[H]`.
    pub beta: Vec<f64>,
    /// The sums of the absolute values of the terms of q, k and v.
    pub magnitudes: [Vec<f64>; 3],
}

/// One query: the rows of k it attends to, with their distances and weights.
struct Row {
    keys: Vec<(usize, u32, f64)>,
    lse: f64,
}

impl Inputs<'_> {
    fn check(&self, shape: &Shape, options: &Options) -> Result<()> {
        options.check(shape)?;
        length(OP, "q", self.q.len(), shape.query_len())?;
        length(OP, "k", self.k.len(), shape.key_len())?;
        length(OP, "v", self.v.len(), shape.value_len())?;
        match self.lengths {
            Some(lengths) => length(OP, "lengths", lengths.len(), shape.batch),
            None => Ok(()),
        }
    }

    /// The row `at` of o, counted over batch, heads and queries.
    fn row(&self, shape: &Shape, options: &Options, at: usize) -> Row {
        let (unit, t) = (at / shape.queries, at % shape.queries);
        let kv = unit / shape.group();
        let beta = options.beta.of(unit % shape.heads);
        let all = options.sequences(shape);
        let Some(sequence) = all.iter().find(|s| s.queries.contains(&t)) else {
            return Row {
                keys: Vec::new(),
                lse: f64::from(f32::MIN),
            };
        };
        let end = match self.lengths {
            Some(lengths) => sequence.keys.end.min(lengths[unit / shape.heads] as usize),
            None => sequence.keys.end,
        };
        let begin = sequence.keys.start;
        let seen = options.seen(
            t - sequence.queries.start,
            sequence.queries.len(),
            end - begin,
        );
        let words = shape.words();
        let code = &self.q[at * words..][..words];
        let mut keys: Vec<(usize, u32, f64)> = seen
            .into_iter()
            .flatten()
            .map(|j| {
                let row = kv * shape.capacity + begin + j;
                let d = distance(code, &self.k[row * words..][..words], shape.bits);
                (row, d, beta * (shape.bits as f64 - 2.0 * f64::from(d)))
            })
            .collect();
        select(options, &mut keys);
        let most = keys.iter().fold(f64::NEG_INFINITY, |m, key| m.max(key.2));
        let sum: f64 = keys.iter().map(|key| (key.2 - most).exp()).sum();
        let lse = most + sum.ln();
        for key in &mut keys {
            key.2 = (key.2 - most).exp() / sum;
        }
        Row {
            lse: if keys.is_empty() {
                f64::from(f32::MIN)
            } else {
                lse
            },
            keys,
        }
    }
}

/// Bits in which two codes differ.
fn distance(a: &[u32], b: &[u32], bits: usize) -> u32 {
    let differing = |(n, (a, b)): (usize, (&u32, &u32))| {
        let mask = if n + 1 == words(bits) {
            last_mask(bits)
        } else {
            u32::MAX
        };
        ((a ^ b) & mask).count_ones()
    };
    a.iter().zip(b).enumerate().map(differing).sum()
}

/// Keeps the keys that the options select: these come by ascending index.
fn select(options: &Options, keys: &mut Vec<(usize, u32, f64)>) {
    if let Some(radius) = options.radius {
        keys.retain(|key| key.1 as usize <= radius);
    }
    let Some(top_n) = options.top_n else {
        return;
    };
    keys.sort_by_key(|key| (key.1, key.0));
    let last = keys.get(top_n.wrapping_sub(1)).map(|key| key.1);
    let kept = match last {
        Some(last) if options.include_ties => keys.partition_point(|key| key.1 <= last),
        _ => top_n,
    };
    keys.truncate(kept);
}

/// [`attention::forward`](super::forward) in f64.
///
/// # Errors
/// `Argument` when a slice has the wrong length or sizes and options do not fit together.
pub fn forward(shape: &Shape, options: &Options, inputs: &Inputs<'_>) -> Result<Outputs> {
    inputs.check(shape, options)?;
    let v = shape.value;
    let rows: Vec<(Vec<f64>, Vec<f64>, f64)> = (0..shape.rows())
        .into_par_iter()
        .map(|at| {
            let row = inputs.row(shape, options, at);
            let mut sums = (vec![0.0; v], vec![0.0; v], row.lse);
            for (j, _, p) in row.keys {
                for c in 0..v {
                    let term = p * inputs.v[j * v + c];
                    sums.0[c] += term;
                    sums.1[c] += term.abs();
                }
            }
            sums
        })
        .collect();
    let mut out = Outputs::default();
    for (o, magnitude, lse) in rows {
        out.o.extend(o);
        out.magnitude.extend(magnitude);
        out.lse.push(lse);
    }
    Ok(out)
}

/// [`attention::backward`](super::backward) in f64.
///
/// # Errors
/// As [`forward`].
pub fn backward(
    shape: &Shape,
    options: &Options,
    inputs: &Inputs<'_>,
    grad_o: &[f64],
) -> Result<Gradients> {
    inputs.check(shape, options)?;
    length(OP, "grad_o", grad_o.len(), shape.output_len())?;
    let (v, bits, words) = (shape.value, shape.bits, shape.words());
    let sign = |codes: &[u32], row: usize, r: usize| {
        f64::from(codes[row * words + r / 32] >> (r % 32) & 1) * 2.0 - 1.0
    };
    let mut grads = Gradients {
        q: vec![0.0; shape.rows() * bits],
        k: vec![0.0; shape.key_rows() * bits],
        v: vec![0.0; shape.value_len()],
        beta: vec![0.0; shape.heads],
        magnitudes: [
            vec![0.0; shape.rows() * bits],
            vec![0.0; shape.key_rows() * bits],
            vec![0.0; shape.value_len()],
        ],
    };
    let rows: Vec<Row> = (0..shape.rows())
        .into_par_iter()
        .map(|at| inputs.row(shape, options, at))
        .collect();
    for (at, row) in rows.iter().enumerate() {
        let head = at / shape.queries % shape.heads;
        let beta = options.beta.of(head);
        let upstream = &grad_o[at * v..][..v];
        let product = |j: usize| -> [f64; 2] {
            let terms = (0..v).map(|c| upstream[c] * inputs.v[j * v + c]);
            terms.fold([0.0; 2], |[sum, size], x| [sum + x, size + x.abs()])
        };
        let products: Vec<[f64; 2]> = row.keys.iter().map(|key| product(key.0)).collect();
        let mean = row
            .keys
            .iter()
            .zip(&products)
            .fold([0.0; 2], |m, (k, x)| [m[0] + k.2 * x[0], m[1] + k.2 * x[1]]);
        for ((j, d, p), x) in row.keys.iter().zip(&products) {
            let ds = p * (x[0] - mean[0]);
            let size = beta.abs() * p * (x[1] + mean[1]);
            grads.beta[head] += ds * (bits as f64 - 2.0 * f64::from(*d));
            for r in 0..bits {
                grads.q[at * bits + r] += beta * ds * sign(inputs.k, *j, r);
                grads.k[j * bits + r] += beta * ds * sign(inputs.q, at, r);
                grads.magnitudes[0][at * bits + r] += size;
                grads.magnitudes[1][j * bits + r] += size;
            }
            for (c, x) in upstream.iter().enumerate() {
                grads.v[j * v + c] += p * x;
                grads.magnitudes[2][j * v + c] += p * x.abs();
            }
        }
    }
    Ok(grads)
}
