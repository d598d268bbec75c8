//! Reference in f64, straight from the formula; parallel over batch and heads.

#![allow(clippy::indexing_slicing, reason = "lengths are checked on entry")]

use rayon::prelude::*;

use super::{FLOOR, OP, Options, Shape};
use crate::{Result, error::length};

/// What [`forward`] and [`backward`] read, in the layouts of [`distill::Inputs`](super::Inputs).
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// The teacher's queries.
    pub q: &'a [f64],
    /// The teacher's keys.
    pub k: &'a [f64],
    /// The student's φ(q).
    pub phi_q: &'a [f64],
    /// The student's φ(k).
    pub phi_k: &'a [f64],
}

/// What [`forward`] returns.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outputs {
    /// Cross entropies, `[B, H, T]`.
    pub loss: Vec<f64>,
    /// Entropies of the teacher's weights, `[B, H, T]`.
    pub entropy: Vec<f64>,
}

/// What [`backward`] returns.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gradients {
    /// With respect to φ(q), `[B, H, T, F]`.
    pub phi_q: Vec<f64>,
    /// With respect to φ(k), as φ(q).
    pub phi_k: Vec<f64>,
}

/// [`distill::forward`](super::forward) in f64.
///
/// # Errors
/// `Argument` when a slice has the wrong length or sizes and options do not fit together.
pub fn forward(shape: &Shape, options: &Options, inputs: &Inputs<'_>) -> Result<Outputs> {
    inputs.check(shape, options)?;
    let rows: Vec<(f64, f64)> = (0..shape.rows())
        .into_par_iter()
        .map(|at| {
            let Query { a, c, r } = query(shape, options, inputs, at);
            let log = |x: f64| if x > 0.0 { x.ln() } else { 0.0 };
            let cross: f64 = a.iter().zip(&c).map(|(a, c)| a * c.ln()).sum();
            let entropy: f64 = a.iter().map(|a| -a * log(*a)).sum();
            (r.ln() - cross, entropy)
        })
        .collect();
    let (loss, entropy) = rows.into_iter().unzip();
    Ok(Outputs { loss, entropy })
}

/// [`distill::backward`](super::backward) in f64.
///
/// # Errors
/// As [`forward`].
pub fn backward(shape: &Shape, options: &Options, inputs: &Inputs<'_>) -> Result<Gradients> {
    inputs.check(shape, options)?;
    let f = shape.features;
    let heads: Vec<(Vec<f64>, Vec<f64>)> = (0..shape.heads_len())
        .into_par_iter()
        .map(|head| {
            let mut grads = (vec![0.0; shape.tokens * f], vec![0.0; shape.tokens * f]);
            for i in 0..shape.tokens {
                let at = head * shape.tokens + i;
                let Query { a, c, r } = query(shape, options, inputs, at);
                for (j, (a, c)) in a.iter().zip(&c).enumerate() {
                    if *c <= FLOOR {
                        continue;
                    }
                    let change = shape.weight() * (1.0 / r - a / c);
                    let to = head * shape.tokens + j;
                    for n in 0..f {
                        grads.0[i * f + n] += change * inputs.phi_k[to * f + n];
                        grads.1[j * f + n] += change * inputs.phi_q[at * f + n];
                    }
                }
            }
            grads
        })
        .collect();
    let (phi_q, phi_k): (Vec<_>, Vec<_>) = heads.into_iter().unzip();
    Ok(Gradients {
        phi_q: phi_q.concat(),
        phi_k: phi_k.concat(),
    })
}

impl Inputs<'_> {
    fn check(&self, shape: &Shape, options: &Options) -> Result<()> {
        shape.check(options)?;
        length(OP, "q", self.q.len(), shape.key_len())?;
        length(OP, "k", self.k.len(), shape.key_len())?;
        length(OP, "phi_q", self.phi_q.len(), shape.features_len())?;
        length(OP, "phi_k", self.phi_k.len(), shape.features_len())
    }
}

/// One query against every key it sees.
struct Query {
    /// The teacher's weights.
    a: Vec<f64>,
    /// The student's weights before they are divided by r.
    c: Vec<f64>,
    /// Their sum.
    r: f64,
}

/// Query `at`, counted over batch, heads and tokens.
fn query(shape: &Shape, options: &Options, inputs: &Inputs<'_>, at: usize) -> Query {
    let (head, i) = (at / shape.tokens, at % shape.tokens);
    let seen = if options.causal { i + 1 } else { shape.tokens };
    let keys = || (0..seen).map(|j| head * shape.tokens + j);
    let product = |x: &[f64], y: &[f64], to: usize, width: usize| {
        let (x, y) = (&x[at * width..][..width], &y[to * width..][..width]);
        x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>()
    };
    let scale = f64::from(options.scale);
    let scores: Vec<f64> = keys()
        .map(|to| scale * product(inputs.q, inputs.k, to, shape.key))
        .collect();
    let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = scores.iter().map(|s| (s - most).exp()).sum();
    let c: Vec<f64> = keys()
        .map(|to| product(inputs.phi_q, inputs.phi_k, to, shape.features).max(FLOOR))
        .collect();
    Query {
        a: scores.iter().map(|s| (s - most).exp() / sum).collect(),
        r: c.iter().sum(),
        c,
    }
}
