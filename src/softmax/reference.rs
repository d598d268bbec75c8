//! The f64 reference.

use rayon::prelude::*;

use super::OP;
use crate::{
    Error, Result,
    linear::{Layout, Shape},
};

/// [`attention`](super::attention) in f64, straight from the formula, parallel over batch and heads.
///
/// # Errors
/// `Argument` when a slice has the wrong length, or as [`attention`](super::attention).
pub fn cpu(
    shape: &Shape,
    scale: f32,
    causal: bool,
    q: &[f64],
    k: &[f64],
    v: &[f64],
) -> Result<Vec<f64>> {
    for (what, len, expected) in [
        ("q", q.len(), shape.query_len()),
        ("k", k.len(), shape.query_len()),
        ("v", v.len(), shape.output_len()),
    ] {
        if len != expected {
            return Err(Error::Argument {
                op: OP,
                what: what.into(),
                expected: format!("{expected} elements"),
                got: len.to_string(),
            });
        }
    }
    let row_of = |n: usize, t: usize| {
        let (b, h) = (n / shape.heads, n % shape.heads);
        match shape.layout {
            Layout::Bthd => (b * shape.tokens + t) * shape.heads + h,
            Layout::Bhtd => (b * shape.heads + h) * shape.tokens + t,
        }
    };
    let scale = f64::from(scale);
    let rows: Vec<(usize, Vec<f64>)> = (0..shape.rows() * shape.tokens)
        .into_par_iter()
        .map(|at| {
            let (n, t) = (at / shape.tokens, at % shape.tokens);
            let query = row(q, row_of(n, t), shape.key);
            let keys = if causal { t + 1 } else { shape.tokens };
            let scores: Vec<f64> = (0..keys)
                .map(|j| scale * dot(query, row(k, row_of(n, j), shape.key)))
                .collect();
            let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> = scores.iter().map(|s| (s - most).exp()).collect();
            let sum: f64 = weights.iter().sum();
            let mut out = vec![0.0; shape.value];
            for (j, weight) in weights.iter().enumerate() {
                for (o, x) in out.iter_mut().zip(row(v, row_of(n, j), shape.value)) {
                    *o += weight / sum * x;
                }
            }
            (row_of(n, t), out)
        })
        .collect();
    let mut o = vec![0.0; shape.output_len()];
    for (at, out) in rows {
        if let Some(target) = o.get_mut(at * shape.value..(at + 1) * shape.value) {
            target.copy_from_slice(&out);
        }
    }
    Ok(o)
}

fn row(tensor: &[f64], at: usize, width: usize) -> &[f64] {
    tensor.get(at * width..(at + 1) * width).unwrap_or_default()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}
