//! Reference in f64, straight from the formula: all pairs of keys of every query, parallel over queries, or over heads of keys.

#![allow(clippy::indexing_slicing, reason = "lengths are checked on entry")]

use rayon::prelude::*;

use super::{Logits, OP, Options, Shape};
use crate::{Result, error::length};

/// What [`forward`] and [`backward`] read, in the layouts of [`Inputs`](super::Inputs).
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// Queries.
    pub q: &'a [f64],
    /// Keys of both kinds.
    pub keys: [&'a [f64]; 2],
    /// Values of both kinds.
    pub values: [&'a [f64]; 2],
}

/// What [`forward`] returns.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outputs {
    /// `[B, H, T_q, V]`.
    pub o: Vec<f64>,
    /// ln Σ_jl exp(s_ijl), `[B, H, T_q]`; the lowest f32 where no pair is seen.
    pub lse: Vec<f64>,
    /// Of o: Σ_jl P_ijl |v1_j ∘ v2_l| g_ijl, where g = √n + 2 |scale| Σ |terms of t| + 3 + 2 |s - lse| bounds the error of P relative
    /// to u; of lse: Σ_jl P_ijl g_ijl.
    pub magnitudes: [Vec<f64>; 2],
}

/// What [`backward`] returns.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gradients {
    /// Of q, k1, k2, v1, v2.
    pub values: [Vec<f64>; 5],
    /// The sums of the absolute values of their terms, each times its g.
    pub magnitudes: [Vec<f64>; 5],
}

/// One query with what it sees.
struct Row {
    /// The heads of keys, counted over the batch.
    unit: usize,
    first: std::ops::Range<usize>,
    second: std::ops::Range<usize>,
    /// Weights and their g, pair by pair.
    weights: Vec<[f64; 2]>,
    lse: f64,
}

/// Channel d of the gradients of t with respect to q, k1 and k2, and the same of absolute values.
fn partials(logits: Logits, [q, a, b]: [&[f64]; 3], d: usize) -> [[f64; 2]; 3] {
    let both = |x: f64, y: f64| [x * y, (x * y).abs()];
    let sum = |x: f64, y: f64| [x + y, x.abs() + y.abs()];
    match logits {
        Logits::Trilinear => [both(a[d], b[d]), both(q[d], b[d]), both(q[d], a[d])],
        Logits::PairSum => [sum(a[d], b[d]), sum(q[d], b[d]), sum(q[d], a[d])],
        Logits::Sum => [sum(a[d], b[d]), sum(q[d], 0.0), sum(q[d], 0.0)],
        Logits::Determinant => {
            let (e, f) = (d / 3 * 3 + (d + 1) % 3, d / 3 * 3 + (d + 2) % 3);
            let cross = |x: &[f64], y: &[f64]| {
                let [p, m] = [x[e] * y[f], x[f] * y[e]];
                [p - m, p.abs() + m.abs()]
            };
            [cross(a, b), cross(b, q), cross(q, a)]
        }
    }
}

/// t, and the sum of the absolute values of its terms.
fn score(logits: Logits, rows: [&[f64]; 3]) -> [f64; 2] {
    let [q, a, b] = rows;
    let add = |sum: [f64; 2], term: f64| [sum[0] + term, sum[1] + term.abs()];
    let channels = 0..q.len();
    match logits {
        Logits::Trilinear => channels.fold([0.0; 2], |sum, d| add(sum, q[d] * a[d] * b[d])),
        Logits::PairSum => channels.fold([0.0; 2], |sum, d| {
            add(add(add(sum, q[d] * a[d]), q[d] * b[d]), a[d] * b[d])
        }),
        Logits::Sum => channels.fold([0.0; 2], |sum, d| add(add(sum, q[d] * a[d]), q[d] * b[d])),
        Logits::Determinant => channels.fold([0.0; 2], |sum, d| {
            let [cross, size] = partials(logits, rows, d)[0];
            [sum[0] + q[d] * cross, sum[1] + q[d].abs() * size]
        }),
    }
}

impl Inputs<'_> {
    fn check(&self, shape: &Shape, options: &Options) -> Result<()> {
        options.check(shape)?;
        let ([k1, k2], [v1, v2]) = (shape.key_lens(), shape.value_lens());
        length(OP, "q", self.q.len(), shape.query_len())?;
        length(OP, "k1", self.keys[0].len(), k1)?;
        length(OP, "k2", self.keys[1].len(), k2)?;
        length(OP, "v1", self.values[0].len(), v1)?;
        length(OP, "v2", self.values[1].len(), v2)
    }

    /// The query `at`, counted over batch, heads and tokens.
    fn row(&self, shape: &Shape, options: &Options, at: usize) -> Row {
        let unit = at / shape.queries / shape.group();
        let [first, second] = options.seen(shape, at % shape.queries);
        let d = shape.width;
        let key = |n: usize, j: usize| &self.keys[n][(unit * shape.keys[n] + j) * d..][..d];
        let q = &self.q[at * d..][..d];
        let scale = f64::from(options.scale);
        let pairs = first.len() * second.len();
        let mut weights = Vec::with_capacity(pairs);
        for j in first.clone() {
            for l in second.clone() {
                let [t, size] = score(options.logits, [q, key(0, j), key(1, l)]);
                weights.push([scale * t, scale.abs() * size]);
            }
        }
        let most = weights.iter().fold(f64::NEG_INFINITY, |m, w| m.max(w[0]));
        let sum: f64 = weights.iter().map(|w| (w[0] - most).exp()).sum();
        let lse = match pairs {
            0 => f64::from(f32::MIN),
            _ => most + sum.ln(),
        };
        for [s, size] in &mut weights {
            let x = *s - lse;
            *size = (pairs as f64).sqrt() + 2.0 * *size + 3.0 + 2.0 * x.abs();
            *s = x.exp();
        }
        Row {
            unit,
            first,
            second,
            weights,
            lse,
        }
    }
}

impl Row {
    /// Pairs with their weights.
    fn pairs(&self) -> impl Iterator<Item = ([usize; 2], [f64; 2])> {
        let all = self
            .first
            .clone()
            .flat_map(|j| self.second.clone().map(move |l| [j, l]));
        all.zip(self.weights.iter().copied())
    }
}

/// Rows of k2 and v2 with their biases.
fn biased(values: &[f64], bias: f32) -> Vec<f64> {
    values.iter().map(|x| x + f64::from(bias)).collect()
}

/// [`forward()`](super::forward()) in f64.
///
/// # Errors
/// `Argument` when a slice has the wrong length or sizes and options do not fit together.
pub fn forward(shape: &Shape, options: &Options, inputs: &Inputs<'_>) -> Result<Outputs> {
    inputs.check(shape, options)?;
    let k2 = biased(inputs.keys[1], options.k2_bias);
    let v2 = biased(inputs.values[1], options.v2_bias);
    let inputs = Inputs {
        keys: [inputs.keys[0], &k2],
        values: [inputs.values[0], &v2],
        ..*inputs
    };
    let v = shape.value;
    let rows: Vec<(Vec<f64>, Vec<f64>, [f64; 2])> = (0..shape.rows())
        .into_par_iter()
        .map(|at| {
            let row = inputs.row(shape, options, at);
            let (mut o, mut size, mut of_lse) = (vec![0.0; v], vec![0.0; v], 0.0);
            for ([j, l], [p, g]) in row.pairs() {
                let [j, l] = [row.unit * shape.keys[0] + j, row.unit * shape.keys[1] + l];
                let pair = inputs.values[0][j * v..][..v]
                    .iter()
                    .zip(&inputs.values[1][l * v..][..v]);
                for ((o, size), (a, b)) in o.iter_mut().zip(&mut size).zip(pair) {
                    *o += p * a * b;
                    *size += g * (p * a * b).abs();
                }
                of_lse += p * g;
            }
            (o, size, [row.lse, of_lse])
        })
        .collect();
    let mut out = Outputs::default();
    for (o, size, [lse, of_lse]) in rows {
        out.o.extend(o);
        out.magnitudes[0].extend(size);
        out.lse.push(lse);
        out.magnitudes[1].push(of_lse);
    }
    Ok(out)
}

/// [`backward()`](super::backward()) in f64.
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
    let k2 = biased(inputs.keys[1], options.k2_bias);
    let v2 = biased(inputs.values[1], options.v2_bias);
    let inputs = Inputs {
        keys: [inputs.keys[0], &k2],
        values: [inputs.values[0], &v2],
        ..*inputs
    };
    let units: Vec<[Vec<[f64; 2]>; 5]> = (0..shape.units())
        .into_par_iter()
        .map(|unit| of_unit(shape, options, &inputs, grad_o, unit))
        .collect();
    let mut grads = Gradients::default();
    for unit in units {
        let into = grads.values.iter_mut().zip(&mut grads.magnitudes);
        for ((values, magnitudes), of_unit) in into.zip(unit) {
            values.extend(of_unit.iter().map(|x| x[0]));
            magnitudes.extend(of_unit.iter().map(|x| x[1]));
        }
    }
    Ok(grads)
}

/// Gradients of one head of keys and of the queries that read it, with magnitudes.
fn of_unit(
    shape: &Shape,
    options: &Options,
    inputs: &Inputs<'_>,
    grad_o: &[f64],
    unit: usize,
) -> [Vec<[f64; 2]>; 5] {
    let (d, v) = (shape.width, shape.value);
    let queries = shape.group() * shape.queries;
    let lens = [
        queries * d,
        shape.keys[0] * d,
        shape.keys[1] * d,
        shape.keys[0] * v,
        shape.keys[1] * v,
    ];
    let [mut dq, mut dk1, mut dk2, mut dv1, mut dv2] = lens.map(|len| vec![[0.0; 2]; len]);
    let add = |into: &mut [f64; 2], x: f64, size: f64| {
        into[0] += x;
        into[1] += size;
    };
    let scale = f64::from(options.scale);
    for at in 0..queries {
        let query = unit * queries + at;
        let row = inputs.row(shape, options, query);
        let upstream = &grad_o[query * v..][..v];
        let key = |n: usize, j: usize| &inputs.keys[n][(unit * shape.keys[n] + j) * d..][..d];
        let value = |n: usize, j: usize| &inputs.values[n][(unit * shape.keys[n] + j) * v..][..v];
        let product = |j: usize, l: usize| -> [f64; 2] {
            let pair = value(0, j).iter().zip(value(1, l));
            let terms = upstream.iter().zip(pair).map(|(x, (a, b))| x * a * b);
            terms.fold([0.0; 2], |sum, x| [sum[0] + x, sum[1] + x.abs()])
        };
        let products: Vec<[f64; 2]> = row.pairs().map(|([j, l], _)| product(j, l)).collect();
        let mean = row.pairs().zip(&products).fold([0.0; 2], |m, ((_, w), x)| {
            [m[0] + w[0] * x[0], m[1] + w[0] * x[1]]
        });
        let q = &inputs.q[query * d..][..d];
        for (([j, l], [p, g]), x) in row.pairs().zip(&products) {
            let ds = scale * p * (x[0] - mean[0]);
            let size = g * scale.abs() * p * (x[1] + mean[1]);
            for c in 0..d {
                let [of_q, of_k1, of_k2] = partials(options.logits, [q, key(0, j), key(1, l)], c);
                add(&mut dq[at * d + c], ds * of_q[0], size * of_q[1]);
                add(&mut dk1[j * d + c], ds * of_k1[0], size * of_k1[1]);
                add(&mut dk2[l * d + c], ds * of_k2[0], size * of_k2[1]);
            }
            for (c, x) in upstream.iter().enumerate() {
                let [a, b] = [p * x * value(1, l)[c], p * x * value(0, j)[c]];
                add(&mut dv1[j * v + c], a, g * a.abs());
                add(&mut dv2[l * v + c], b, g * b.abs());
            }
        }
    }
    [dq, dk1, dk2, dv1, dv2]
}
