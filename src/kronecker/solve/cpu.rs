//! References in f64, by the same eigenvectors.

use super::{
    super::{
        matrix::{Matrix, Mode, multiply},
        spectrum::{Function, Spectrum},
    },
    OP, SolveOptions, check,
    gradients::factors,
};
use crate::{Result, error::length};

/// [`solve()`](super::solve()).
///
/// # Errors
/// As [`solve()`](super::solve()).
pub fn solve(spectrum: &Spectrum, noise: f64, rows: usize, b: &[f64]) -> Result<Vec<f64>> {
    check(spectrum, &SolveOptions::noise(noise))?;
    spectrum.apply(&Function::Inverse(noise), rows, b)
}

/// [`quadratic()`](super::quadratic()).
///
/// # Errors
/// As [`solve()`](super::solve()).
pub fn quadratic(spectrum: &Spectrum, noise: f64, rows: usize, b: &[f64]) -> Result<Vec<f64>> {
    check(spectrum, &SolveOptions::noise(noise))?;
    length(OP, "b", b.len(), rows.saturating_mul(spectrum.len()))?;
    let values = Function::Inverse(noise).values(spectrum);
    let basis = spectrum.analyse(rows, b);
    let sums = basis.chunks_exact(spectrum.len()).map(|row| {
        let terms = row.iter().zip(&values).map(|(x, f)| x * x * f);
        terms.sum()
    });
    Ok(sums.collect())
}

/// Gradients of what a solution goes into.
#[derive(Clone, Debug, PartialEq)]
pub struct Gradients {
    /// By b: `[rows, Π n_i]`.
    pub b: Vec<f64>,
    /// By the factors, symmetric.
    pub factors: Vec<Matrix>,
    /// By σ².
    pub noise: f64,
}

/// Gradients of Σ `grad_x` · x for x = (⊗A_i + σ² I)⁻¹ b.
///
/// ```text
/// w = (⊗A_i + σ² I)⁻¹ grad_x        db = w        dA_t = −sym(product of w with all factors but t, against x)        dσ² = −⟨w, x⟩
/// ```
///
/// # Errors
/// As [`solve()`](super::solve()); `Unsupported` for sums, pencils and factors of which only the eigenvectors are known.
pub fn gradients(
    spectrum: &Spectrum,
    noise: f64,
    rows: usize,
    b: &[f64],
    grad_x: &[f64],
) -> Result<Gradients> {
    let x = solve(spectrum, noise, rows, b)?;
    let w = solve(spectrum, noise, rows, grad_x)?;
    let dots = w.iter().zip(&x).map(|(w, x)| w * x);
    Ok(Gradients {
        factors: factor_gradients(spectrum, rows, &w, &x, -1.0)?,
        noise: -dots.sum::<f64>(),
        b: w,
    })
}

/// Gradients of Σ_m `grad_m` · bᵀ (⊗A_i + σ² I)⁻¹ b over rows m.
///
/// ```text
/// db = 2 g x        dA_t = −g (product of x with all factors but t, against x)        dσ² = −g ⟨x, x⟩
/// ```
///
/// # Errors
/// As [`gradients`].
pub fn quadratic_gradients(
    spectrum: &Spectrum,
    noise: f64,
    rows: usize,
    b: &[f64],
    grad: &[f64],
) -> Result<Gradients> {
    length(OP, "grad", grad.len(), rows)?;
    let x = solve(spectrum, noise, rows, b)?;
    let by_row = x.chunks_exact(spectrum.len()).zip(grad);
    let w: Vec<f64> = by_row
        .flat_map(|(row, g)| row.iter().map(move |x| g * x))
        .collect();
    let dots = w.iter().zip(&x).map(|(w, x)| w * x);
    Ok(Gradients {
        factors: factor_gradients(spectrum, rows, &w, &x, -1.0)?,
        noise: -dots.sum::<f64>(),
        b: w.iter().map(|w| 2.0 * w).collect(),
    })
}

/// s · sym of the product of a with all factors but t, against b, for each t.
fn factor_gradients(
    spectrum: &Spectrum,
    rows: usize,
    a: &[f64],
    b: &[f64],
    s: f64,
) -> Result<Vec<Matrix>> {
    let factors = factors(spectrum)?;
    let each = factors.iter().enumerate().map(|(t, factor)| {
        let n = factor.rows;
        let identity = Matrix::identity(n);
        let modes = factors.iter().enumerate().map(|(j, factor)| Mode {
            matrix: if j == t { &identity } else { factor },
            transposed: false,
        });
        let partial = multiply(rows, a, &modes.collect::<Vec<_>>());
        let right: usize = factors
            .iter()
            .skip(t + 1)
            .map(|factor| factor.rows)
            .product();
        let mut sums = vec![0.0; n * n];
        let slabs = partial
            .chunks_exact(n * right)
            .zip(b.chunks_exact(n * right));
        for (left, own) in slabs {
            for (sums, x) in sums.chunks_exact_mut(n).zip(left.chunks_exact(right)) {
                for (sum, y) in sums.iter_mut().zip(own.chunks_exact(right)) {
                    *sum += x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
                }
            }
        }
        let gradient = Matrix {
            rows: n,
            columns: n,
            entries: sums,
        };
        Matrix::of(n, n, |i, j| {
            0.5 * s * (gradient.at(i, j) + gradient.at(j, i))
        })
    });
    Ok(each.collect())
}

/// The norm of each row.
pub(super) fn norms(x: &[f64], width: usize) -> Vec<f64> {
    let rows = x.chunks_exact(width);
    rows.map(|row| row.iter().map(|x| x * x).sum::<f64>().sqrt())
        .collect()
}
