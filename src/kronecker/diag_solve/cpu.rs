//! References in f64: the same iteration, and what it solves.

use super::{
    super::spectrum::{Function, Spectrum},
    DiagForm, DiagOptions, Diagonal, OP,
    direct::preconditioner,
    prepared,
};
use crate::{Error, Result, error::length};

/// α and f of a row, and how the iteration went.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// (K + D)⁻¹ y, 0 at missing cells.
    pub alpha: Vec<f64>,
    /// K α.
    pub mean: Vec<f64>,
    /// Iterations.
    pub iterations: usize,
    /// √(rᵀ M⁻¹ r / bᵀ M⁻¹ b).
    pub residual: f64,
}

/// I + √Λ Vᵀ W V √Λ and M, for one row.
pub(super) struct Operator<'a> {
    spectrum: &'a Spectrum,
    weights: &'a [f64],
    pub roots: Vec<f64>,
    pub preconditioner: Vec<f64>,
}

impl<'a> Operator<'a> {
    pub fn new(spectrum: &'a Spectrum, diagonal: &'a Diagonal) -> Operator<'a> {
        let values: Vec<f64> = spectrum.eigenvalues().map(|x| x.max(0.0)).collect();
        Operator {
            spectrum,
            weights: &diagonal.weights,
            roots: values.iter().map(|x| x.sqrt()).collect(),
            preconditioner: values.iter().map(|x| 1.0 + diagonal.mean * x).collect(),
        }
    }

    /// √Λ Vᵀ (W ∘ x).
    fn weighed(&self, x: &[f64]) -> Vec<f64> {
        let weighed = x.iter().zip(self.weights).map(|(x, w)| match w {
            0.0 => 0.0,
            w => w * x,
        });
        let weighed: Vec<f64> = weighed.collect();
        product(&self.roots, &self.spectrum.analyse(1, &weighed))
    }

    /// V √Λ z.
    fn field(&self, z: &[f64]) -> Vec<f64> {
        self.spectrum.synthesise(1, &product(&self.roots, z))
    }

    /// (I + √Λ Vᵀ W V √Λ) x.
    pub fn apply(&self, x: &[f64]) -> Vec<f64> {
        let rest = self.weighed(&self.field(x));
        x.iter().zip(rest).map(|(x, rest)| x + rest).collect()
    }
}

pub(super) fn product(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a * b).collect()
}

pub(super) fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// [`diag_solve`](super::diag_solve) for every row.
///
/// # Errors
/// As [`diag_solve`](super::diag_solve).
pub fn diag_solve(
    spectrum: &Spectrum,
    diagonal: &Diagonal,
    options: &DiagOptions,
    rows: usize,
    y: &[f64],
) -> Result<Vec<Found>> {
    let spectrum = prepared(spectrum, diagonal, options)?;
    length(OP, "y", y.len(), rows.saturating_mul(spectrum.len()))?;
    let operator = Operator::new(&spectrum, diagonal);
    let found = y.chunks_exact(spectrum.len()).map(|y| {
        let found = match options.form {
            DiagForm::Precision => row(&operator, options, y)?,
            DiagForm::Direct => direct(&spectrum, diagonal, options, y)?,
        };
        if found.residual <= options.tolerance || options.accept_unconverged {
            return Ok(found);
        }
        Err(Error::Numeric {
            op: OP,
            what: format!(
                "not converged to {:e}: {:.3e} after {} iterations",
                options.tolerance, found.residual, found.iterations
            ),
        })
    });
    found.collect()
}

/// x with A x = b, by conjugate gradients; iterations and the measure they stop by.
fn iterate(
    options: &DiagOptions,
    b: Vec<f64>,
    apply: impl Fn(&[f64]) -> Result<Vec<f64>>,
    over: impl Fn(&[f64]) -> Result<Vec<f64>>,
) -> Result<(Vec<f64>, usize, f64)> {
    let mut r = b;
    let mut x = vec![0.0; r.len()];
    let mut direction = over(&r)?;
    let mut rho = dot(&r, &direction);
    let first = rho;
    let target = options.tolerance * options.tolerance * first;
    let mut iterations = 0;
    while rho > target && iterations < options.max_iterations {
        let image = apply(&direction)?;
        let curvature = dot(&direction, &image);
        if curvature <= 0.0 {
            break;
        }
        let step = rho / curvature;
        for (x, p) in x.iter_mut().zip(&direction) {
            *x += step * p;
        }
        for (r, q) in r.iter_mut().zip(&image) {
            *r -= step * q;
        }
        let scaled = over(&r)?;
        let next = dot(&r, &scaled);
        for (p, u) in direction.iter_mut().zip(scaled) {
            *p = u + next / rho * *p;
        }
        rho = next;
        iterations += 1;
    }
    let residual = if first == 0.0 {
        0.0
    } else {
        (rho / first).sqrt()
    };
    Ok((x, iterations, residual))
}

/// The system in α.
fn direct(
    spectrum: &Spectrum,
    diagonal: &Diagonal,
    options: &DiagOptions,
    y: &[f64],
) -> Result<Found> {
    let masked = |x: Vec<f64>| -> Vec<f64> {
        let each = x.into_iter().zip(&diagonal.variances);
        each.map(|(x, d)| if d.is_finite() { x } else { 0.0 })
            .collect()
    };
    let inverse = Function::Inverse(preconditioner(spectrum, diagonal));
    let plain = Function::Shifted(0.0);
    let apply = |x: &[f64]| {
        let image = spectrum.apply(&plain, 1, x)?.into_iter();
        let each = image.zip(x).zip(&diagonal.variances);
        Ok(masked(each.map(|((k, x), d)| k + d * x).collect()))
    };
    let over = |r: &[f64]| Ok(masked(spectrum.apply(&inverse, 1, r)?));
    let (alpha, iterations, residual) = iterate(options, masked(y.to_vec()), apply, over)?;
    Ok(Found {
        mean: spectrum.apply(&plain, 1, &alpha)?,
        alpha,
        iterations,
        residual,
    })
}

/// The system in z.
fn row(operator: &Operator<'_>, options: &DiagOptions, y: &[f64]) -> Result<Found> {
    let over = |r: &[f64]| {
        let each = r.iter().zip(&operator.preconditioner);
        Ok(each.map(|(r, m)| r / m).collect())
    };
    let apply = |x: &[f64]| Ok(operator.apply(x));
    let (z, iterations, residual) = iterate(options, operator.weighed(y), apply, over)?;
    let mean = operator.field(&z);
    let apart = y.iter().zip(&mean).zip(operator.weights);
    let alpha = apart.map(|((y, f), w)| match w {
        0.0 => 0.0,
        w => w * (y - f),
    });
    Ok(Found {
        alpha: alpha.collect(),
        mean,
        iterations,
        residual,
    })
}
