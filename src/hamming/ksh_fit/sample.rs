//! One sequence of one head: its kernel values, its targets S0, and what is left of S = b S0 - sum y yᵀ.

#![allow(clippy::indexing_slicing, reason = "lengths are checked on entry")]

use crate::hamming::kernel_hash::SMALL;

/// Rows of S0: columns with their ±1, so many a row.
pub(super) struct Targets {
    pub rows: Vec<Vec<(usize, i8)>>,
}

pub(super) struct Sample {
    /// K, `[tokens, anchors]`.
    kernel: Vec<f64>,
    anchors: usize,
    targets: Targets,
    /// b, which S0 is multiplied with.
    bits: usize,
    /// The signs of the bits so far.
    earlier: Vec<Vec<i8>>,
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Kernel values of normalised tokens, not yet centred, and their σ.
pub(super) fn kernel(units: &[f64], anchors: &[f64], channels: usize) -> (Vec<f64>, f64) {
    let mut values: Vec<f64> = Vec::new();
    for y in units.chunks_exact(channels) {
        let distance = |a: &[f64]| {
            let terms = y.iter().zip(a).map(|(y, a)| (y - a) * (y - a));
            terms.sum::<f64>()
        };
        values.extend(anchors.chunks_exact(channels).map(distance));
    }
    let sigma = (values.iter().sum::<f64>() / values.len() as f64).max(SMALL);
    for d in &mut values {
        *d = (-*d / (2.0 * sigma)).exp();
    }
    (values, sigma)
}

/// Targets from products of rows.
pub(super) fn by_products(q: &[f64], k: &[f64], width: usize, pairs: usize) -> Targets {
    let rows = q.chunks_exact(width).map(|q| {
        let scores: Vec<f64> = k.chunks_exact(width).map(|k| dot(q, k)).collect();
        extremes(&scores, pairs)
    });
    Targets {
        rows: rows.collect(),
    }
}

/// Targets from rows of scores.
pub(super) fn by_rows(scores: &[f64], tokens: usize, pairs: usize) -> Targets {
    let rows = scores.chunks_exact(tokens);
    Targets {
        rows: rows.map(|row| extremes(row, pairs)).collect(),
    }
}

/// +1 at the largest, then -1 at the smallest; the earlier of equal ones first.
fn extremes(scores: &[f64], pairs: usize) -> Vec<(usize, i8)> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*a].total_cmp(&scores[*b]).then(a.cmp(b)));
    let smallest: Vec<usize> = order.iter().take(pairs).copied().collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b)));
    let largest = order.iter().take(pairs).filter(|n| !smallest.contains(n));
    let largest: Vec<(usize, i8)> = largest.map(|n| (*n, 1)).collect();
    let smallest = smallest.into_iter().map(|n| (n, -1));
    largest.into_iter().chain(smallest).collect()
}

impl Sample {
    pub fn new(kernel: Vec<f64>, anchors: usize, targets: Targets, bits: usize) -> Sample {
        Sample {
            kernel,
            anchors,
            targets,
            bits,
            earlier: Vec::new(),
        }
    }

    /// Takes the means off the kernel.
    pub fn centre(&mut self, mean: &[f64]) {
        for row in self.kernel.chunks_exact_mut(self.anchors) {
            row.iter_mut().zip(mean).for_each(|(k, m)| *k -= m);
        }
    }

    /// K a.
    fn project(&self, a: &[f64]) -> Vec<f64> {
        let rows = self.kernel.chunks_exact(self.anchors);
        rows.map(|row| dot(row, a)).collect()
    }

    /// Signs of K a.
    pub fn signs(&self, a: &[f64]) -> Vec<i8> {
        let u = self.project(a);
        u.iter().map(|u| if *u > 0.0 { 1 } else { -1 }).collect()
    }

    /// S y + Sᵀ y.
    pub fn both_ways(&self, y: &[f64]) -> Vec<f64> {
        let bits = self.bits as f64;
        let mut out = vec![0.0; y.len()];
        for (i, row) in self.targets.rows.iter().enumerate() {
            for (j, sign) in row {
                let sign = bits * f64::from(*sign);
                out[i] += sign * y[*j];
                out[*j] += sign * y[i];
            }
        }
        for earlier in &self.earlier {
            let along: f64 = earlier.iter().zip(y).map(|(e, y)| f64::from(*e) * y).sum();
            for (out, e) in out.iter_mut().zip(earlier) {
                *out -= 2.0 * along * f64::from(*e);
            }
        }
        out
    }

    /// yᵀ S y, exactly.
    pub fn score(&self, y: &[i8]) -> i64 {
        let mut score = 0i64;
        for (i, row) in self.targets.rows.iter().enumerate() {
            let sum: i64 = row.iter().map(|(j, sign)| i64::from(sign * y[*j])).sum();
            score += i64::from(y[i]) * sum;
        }
        score *= self.bits as i64;
        for earlier in &self.earlier {
            let along: i64 = earlier.iter().zip(y).map(|(e, y)| i64::from(e * y)).sum();
            score -= along * along;
        }
        score
    }

    /// Adds `factor` Kᵀ[½ (1 - y²) ∘ (S y + Sᵀ y)], y = tanh(K a / 2).
    pub fn add_gradient(&self, a: &[f64], factor: f64, gradient: &mut [f64]) {
        let y: Vec<f64> = self.project(a).iter().map(|u| (0.5 * u).tanh()).collect();
        let rows = self.kernel.chunks_exact(self.anchors);
        for ((row, y), s) in rows.zip(&y).zip(self.both_ways(&y)) {
            let weight = factor * 0.5 * (1.0 - y * y) * s;
            gradient
                .iter_mut()
                .zip(row)
                .for_each(|(g, k)| *g += weight * k);
        }
    }

    /// yᵀ S y with y = tanh(K a / 2), for differences.
    #[cfg(test)]
    pub fn soft_score(&self, a: &[f64]) -> f64 {
        let y: Vec<f64> = self.project(a).iter().map(|u| (0.5 * u).tanh()).collect();
        0.5 * dot(&y, &self.both_ways(&y))
    }

    /// Entry (i, j) of S.
    #[cfg(test)]
    pub fn left(&self, i: usize, j: usize) -> i64 {
        let target = self.targets.rows[i].iter().find(|(n, _)| *n == j);
        let target = target.map_or(0, |(_, sign)| i64::from(*sign) * self.bits as i64);
        let done = self.earlier.iter().map(|y| i64::from(y[i] * y[j]));
        target - done.sum::<i64>()
    }

    /// S ← S - y yᵀ.
    pub fn take(&mut self, y: Vec<i8>) {
        self.earlier.push(y);
    }
}
