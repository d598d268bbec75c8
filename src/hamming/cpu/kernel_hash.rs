//! Reference of kernel hashing in f64, straight from the formulas; parallel over batch and heads.

#![allow(clippy::indexing_slicing, reason = "lengths are checked on entry")]

use rayon::prelude::*;

use crate::{
    Result,
    error::length,
    hamming::{
        bits::words,
        kernel_hash::{OP, SMALL, Shape, Sigma},
    },
};

/// What [`forward`] and [`backward`] read, in the layouts of [`kernel_hash::Inputs`](crate::hamming::kernel_hash::Inputs).
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// Tokens.
    pub x: &'a [f64],
    /// Anchors.
    pub anchors: &'a [f64],
    /// Means of κ.
    pub mean: &'a [f64],
    /// Weights.
    pub weight: &'a [f64],
}

/// What [`forward`] returns.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outputs {
    /// Codes, `[B, H, T, ⌈bits/32⌉]`.
    pub words: Vec<u32>,
    /// u, `[B, H, T, bits]`.
    pub projection: Vec<f64>,
    /// Of each u, sum_s |weight_rs (κ_s - mean_s)|, by which rounding errors are judged.
    pub magnitude: Vec<f64>,
}

/// [`kernel_hash`](crate::hamming::kernel_hash()) in f64.
///
/// # Errors
/// `Argument` when a slice has the wrong length or sizes and σ do not fit together.
pub fn forward(shape: &Shape, sigma: Sigma, inputs: &Inputs<'_>) -> Result<Outputs> {
    inputs.check(shape, sigma)?;
    let heads: Vec<Outputs> = (0..shape.heads_len())
        .into_par_iter()
        .map(|head| Head::new(shape, sigma, inputs, head).forward())
        .collect();
    let mut all = Outputs::default();
    for head in heads {
        all.words.extend(head.words);
        all.projection.extend(head.projection);
        all.magnitude.extend(head.magnitude);
    }
    Ok(all)
}

/// [`kernel_hash_backward`](crate::hamming::kernel_hash_backward()) in f64: the gradient of x from that of the signs.
///
/// # Errors
/// As [`forward`].
pub fn backward(
    shape: &Shape,
    sigma: Sigma,
    inputs: &Inputs<'_>,
    grad_h: &[f64],
) -> Result<Vec<f64>> {
    inputs.check(shape, sigma)?;
    length(OP, "grad_h", grad_h.len(), shape.signs_len())?;
    let size = shape.tokens * shape.bits;
    let heads: Vec<Vec<f64>> = (0..shape.heads_len())
        .into_par_iter()
        .map(|head| {
            let grad_h = &grad_h[head * size..][..size];
            Head::new(shape, sigma, inputs, head).backward(grad_h)
        })
        .collect();
    Ok(heads.concat())
}

impl Inputs<'_> {
    fn check(&self, shape: &Shape, sigma: Sigma) -> Result<()> {
        shape.check(sigma)?;
        length(OP, "x", self.x.len(), shape.x_len())?;
        length(OP, "anchors", self.anchors.len(), shape.anchors_len())?;
        length(OP, "mean", self.mean.len(), shape.mean_len())?;
        length(OP, "weight", self.weight.len(), shape.weight_len())
    }
}

/// One sequence and head.
struct Head<'a> {
    shape: &'a Shape,
    /// Normalised tokens.
    y: Vec<f64>,
    /// What each was divided by.
    norms: Vec<f64>,
    anchors: &'a [f64],
    mean: &'a [f64],
    weight: &'a [f64],
    /// Squared distances, `[tokens, anchors]`.
    d: Vec<f64>,
    sigma: f64,
    /// Whether σ is a mean above its least.
    moves: bool,
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

impl<'a> Head<'a> {
    fn new(shape: &'a Shape, sigma: Sigma, inputs: &Inputs<'a>, head: usize) -> Head<'a> {
        let Shape {
            heads,
            tokens,
            channels,
            anchors: m,
            bits,
            ..
        } = *shape;
        let set = head % heads;
        let x = &inputs.x[head * tokens * channels..][..tokens * channels];
        let anchors = &inputs.anchors[set * m * channels..][..m * channels];
        let norms: Vec<f64> = x
            .chunks_exact(channels)
            .map(|x| dot(x, x).sqrt().max(SMALL))
            .collect();
        let rows = x.chunks_exact(channels).zip(&norms);
        let y: Vec<f64> = rows
            .flat_map(|(x, norm)| x.iter().map(move |x| x / norm))
            .collect();
        let sizes: Vec<f64> = anchors.chunks_exact(channels).map(|a| dot(a, a)).collect();
        let mut d = Vec::with_capacity(tokens * m);
        for y in y.chunks_exact(channels) {
            let size = dot(y, y);
            for (a, own) in anchors.chunks_exact(channels).zip(&sizes) {
                // A NaN stays one.
                let distance = size + own - 2.0 * dot(y, a);
                d.push(if distance < 0.0 { 0.0 } else { distance });
            }
        }
        let (sigma, moves) = match sigma {
            Sigma::Frozen(sigma) => (f64::from(sigma), false),
            Sigma::SequenceMean => {
                let mean = d.iter().sum::<f64>() / d.len() as f64;
                (mean.max(SMALL), mean > SMALL)
            }
        };
        Head {
            shape,
            y,
            norms,
            anchors,
            mean: &inputs.mean[set * m..][..m],
            weight: &inputs.weight[set * bits * m..][..bits * m],
            d,
            sigma,
            moves,
        }
    }

    /// κ of a token.
    fn kappa(&self, t: usize) -> Vec<f64> {
        let m = self.shape.anchors;
        let d = &self.d[t * m..][..m];
        d.iter().map(|d| (-d / (2.0 * self.sigma)).exp()).collect()
    }

    fn forward(&self) -> Outputs {
        let Shape {
            tokens,
            anchors: m,
            bits,
            ..
        } = *self.shape;
        let mut out = Outputs::default();
        for t in 0..tokens {
            let kappa = self.kappa(t);
            let change: Vec<f64> = kappa.iter().zip(self.mean).map(|(k, m)| k - m).collect();
            let mut code = vec![0u32; words(bits)];
            for (r, weight) in self.weight.chunks_exact(m).enumerate() {
                let terms = || weight.iter().zip(&change).map(|(w, k)| w * k);
                let u: f64 = terms().sum();
                code[r / 32] |= u32::from(u > 0.0) << (r % 32);
                out.projection.push(u);
                out.magnitude.push(terms().map(f64::abs).sum());
            }
            out.words.extend(code);
        }
        out
    }

    fn backward(&self, grad_h: &[f64]) -> Vec<f64> {
        let Shape {
            tokens,
            channels,
            anchors: m,
            bits,
            ..
        } = *self.shape;
        let sigma = self.sigma;
        let u = self.forward().projection;
        let mut pulls = vec![0.0; tokens * m];
        for t in 0..tokens {
            let kappa = self.kappa(t);
            for (r, weight) in self.weight.chunks_exact(m).enumerate() {
                let at = t * bits + r;
                if u[at].abs() < 1.0 {
                    for s in 0..m {
                        pulls[t * m + s] -= weight[s] * grad_h[at] * kappa[s] / (2.0 * sigma);
                    }
                }
            }
        }
        let spread = match self.moves {
            true => -dot(&pulls, &self.d) / sigma / self.d.len() as f64,
            false => 0.0,
        };
        let mut grad = vec![0.0; tokens * channels];
        for t in 0..tokens {
            let y = &self.y[t * channels..][..channels];
            let mut dy = vec![0.0; channels];
            for (s, a) in self.anchors.chunks_exact(channels).enumerate() {
                let e = pulls[t * m + s] + spread;
                for n in 0..channels {
                    dy[n] += 2.0 * e * (y[n] - a[n]);
                }
            }
            // Where the norm is its least, it does not depend on x.
            let along = match self.norms[t] > SMALL {
                true => dot(y, &dy),
                false => 0.0,
            };
            for n in 0..channels {
                grad[t * channels + n] = (dy[n] - y[n] * along) / self.norms[t];
            }
        }
        grad
    }
}
