//! Polynomials nearest to exp in relative error.

use std::f64::consts::PI;

/// Points that coefficients are fitted at.
const FITTED: usize = 2000;

/// Points that errors are measured at, and what these are multiplied by for what lies between.
const MEASURED: usize = 4096;
const BETWEEN: f64 = 1.001;

/// The widest interval that is tried: beyond it no polynomial of a degree offered here is of use.
const WIDEST: f64 = 24.0;

/// The most steps of the iteration, and how near to the least possible error it stops.
const STEPS: usize = 200;
const NEAR: f64 = 1.005;

/// p(s) = Σ_a c_a s^a, near exp(s) for |s| <= bound.
#[derive(Clone, Debug, PartialEq)]
pub struct Polynomial {
    /// c_0 to c_degree.
    pub coefficients: Vec<f64>,
    /// R, half the width of the interval.
    pub bound: f64,
    /// The greatest |p(s) exp(-s) - 1| over the interval.
    pub epsilon: f64,
}

impl Polynomial {
    /// The polynomial of a degree whose greatest relative error on [-bound, bound] is least.
    ///
    /// Lawson's iteration: weighted least squares at 2000 Chebyshev points, each weight multiplied by the error there until the
    /// greatest error is within 0.5 % of the weighted one, which no polynomial can be below. `epsilon` is measured at 4096 other
    /// points and multiplied by 1.001. Where the bound is beyond 24 or no number, `epsilon` is 1: of no use.
    ///
    /// Source: C. L. Lawson, Contributions to the theory of linear least maximum approximation, 1961.
    pub fn nearest_exp(degree: usize, bound: f64) -> Polynomial {
        let useless = Polynomial {
            coefficients: vec![0.0; degree + 1],
            bound,
            epsilon: 1.0,
        };
        if bound.is_nan() || bound > WIDEST {
            return useless;
        }
        // A wider interval than asked for does no harm, one of no width does.
        let bound = bound.max(2f64.powi(-10));
        let points = (0..FITTED).map(|n| (PI * (n as f64 + 0.5) / FITTED as f64).cos());
        let rows: Vec<Vec<f64>> = points
            .map(|x| {
                let factor = (-bound * x).exp();
                chebyshev(degree, x)
                    .into_iter()
                    .map(|t| factor * t)
                    .collect()
            })
            .collect();
        let mut weights = vec![1.0 / FITTED as f64; FITTED];
        let mut best = (f64::INFINITY, vec![0.0; degree + 1]);
        for _ in 0..STEPS {
            let fit = least_squares(&rows, &weights, degree + 1);
            let errors = rows.iter().map(|row| (dot(row, &fit) - 1.0).abs());
            let errors: Vec<f64> = errors.collect();
            let greatest = errors.iter().copied().fold(0.0, f64::max);
            let squares = weights.iter().zip(&errors).map(|(w, e)| w * e * e);
            let least = squares.sum::<f64>().sqrt();
            if greatest < best.0 {
                best = (greatest, fit);
            }
            let total: f64 = weights.iter().zip(&errors).map(|(w, e)| w * e).sum();
            if greatest.is_nan() || total <= 0.0 || greatest <= NEAR * least {
                break;
            }
            for (weight, error) in weights.iter_mut().zip(&errors) {
                *weight *= error / total;
            }
        }
        let polynomial = Polynomial {
            coefficients: powers(&best.1, bound),
            bound,
            epsilon: 0.0,
        };
        let at = |n: usize| bound * (2.0 * n as f64 / (MEASURED - 1) as f64 - 1.0);
        let error = |s: f64| (polynomial.value(s) * (-s).exp() - 1.0).abs();
        let epsilon = (0..MEASURED).map(|n| error(at(n))).fold(0.0, f64::max);
        if epsilon.is_nan() {
            return useless;
        }
        Polynomial {
            epsilon: epsilon * BETWEEN,
            ..polynomial
        }
    }

    /// p(s).
    pub fn value(&self, s: f64) -> f64 {
        let terms = self.coefficients.iter().rev();
        terms.fold(0.0, |sum, c| sum * s + c)
    }

    /// Σ_a |c_a| s^a.
    pub fn magnitude(&self, s: f64) -> f64 {
        let terms = self.coefficients.iter().rev();
        terms.fold(0.0, |sum, c| sum * s + c.abs())
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// T_0(x) to T_degree(x).
fn chebyshev(degree: usize, x: f64) -> Vec<f64> {
    let mut pair = (1.0, x);
    let terms = (0..=degree).map(|_| {
        let term = pair.0;
        pair = (pair.1, 2.0 * x * pair.1 - pair.0);
        term
    });
    terms.collect()
}

/// Coefficients of powers of s from those of T_n(s / bound).
fn powers(fit: &[f64], bound: f64) -> Vec<f64> {
    let mut sum = vec![0.0; fit.len()];
    // T_n in powers of x, and the one before.
    let (mut now, mut next) = (vec![1.0], vec![0.0, 1.0]);
    for b in fit {
        for (sum, t) in sum.iter_mut().zip(&now) {
            *sum += b * t;
        }
        let mut after: Vec<f64> = [0.0]
            .into_iter()
            .chain(next.iter().map(|t| 2.0 * t))
            .collect();
        for (after, t) in after.iter_mut().zip(&now) {
            *after -= t;
        }
        (now, next) = (next, after);
    }
    let scales = (0..).map(|a| bound.powi(-a));
    sum.into_iter()
        .zip(scales)
        .map(|(c, scale)| c * scale)
        .collect()
}

/// The b that minimises Σ w (row · b - 1)²: columns made orthogonal one after the other, twice.
fn least_squares(rows: &[Vec<f64>], weights: &[f64], columns: usize) -> Vec<f64> {
    let roots: Vec<f64> = weights.iter().map(|w| w.sqrt()).collect();
    let mut basis: Vec<Vec<f64>> = Vec::with_capacity(columns);
    // Column n of the rows is the sum of these times the basis.
    let mut triangle: Vec<Vec<f64>> = Vec::with_capacity(columns);
    for n in 0..columns {
        let entries = rows.iter().map(|row| row.get(n).copied().unwrap_or(0.0));
        let mut column: Vec<f64> = entries.zip(&roots).map(|(x, root)| x * root).collect();
        let mut parts = vec![0.0; n];
        for _ in 0..2 {
            for (part, unit) in parts.iter_mut().zip(&basis) {
                let along = dot(&column, unit);
                *part += along;
                for (x, unit) in column.iter_mut().zip(unit) {
                    *x -= along * unit;
                }
            }
        }
        let length = dot(&column, &column).sqrt();
        parts.push(length);
        let inverse = if length > 0.0 { 1.0 / length } else { 0.0 };
        basis.push(column.into_iter().map(|x| x * inverse).collect());
        triangle.push(parts);
    }
    let mut rest: Vec<f64> = basis.iter().map(|unit| dot(unit, &roots)).collect();
    let mut fit = vec![0.0; columns];
    for (n, column) in triangle.iter().enumerate().rev() {
        let (Some(right), Some(pivot)) = (rest.get(n).copied(), column.get(n).copied()) else {
            continue;
        };
        let b = if pivot > 0.0 { right / pivot } else { 0.0 };
        for (right, entry) in rest.iter_mut().zip(column) {
            *right -= b * entry;
        }
        if let Some(slot) = fit.get_mut(n) {
            *slot = b;
        }
    }
    fit
}
