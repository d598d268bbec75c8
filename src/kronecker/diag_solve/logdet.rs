//! The determinant of K + D over observed cells, estimated.

use rayon::prelude::*;

use super::{
    super::{
        matrix::{Matrix, eigen},
        spectrum::Spectrum,
    },
    DiagOptions, Diagonal, OP,
    cpu::{Operator, dot, product},
    prepared,
};
use crate::{Error, Result, random::Random};

/// Options of [`observed_logdet`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogdetOptions {
    /// Random vectors; the standard error falls with their square root.
    pub probes: usize,
    /// Steps of Lanczos for each.
    pub steps: usize,
    /// What the random signs are made of.
    pub seed: u64,
}

impl Default for LogdetOptions {
    fn default() -> LogdetOptions {
        LogdetOptions {
            probes: 16,
            steps: 20,
            seed: 0,
        }
    }
}

/// An estimate, with what it is worth.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LogdetEstimate {
    /// Of log det (K + D) over observed cells.
    pub value: f64,
    /// The standard error that the probes leave. It says nothing of steps that were too few: see the next.
    pub standard_error: f64,
    /// By how much the last step of Lanczos changed the value.
    pub last_increment: f64,
}

/// Estimates log det (K + D) over the cells that are not missing, on the host in f64.
///
/// ```text
/// Σ log D + Σ log M + tr log (M^(-1/2) (I + √Λ Vᵀ W V √Λ) M^(-1/2))        M = 1 + mean(W) Λ
/// ```
///
/// The first two sums are exact. The trace is the mean over random signs s of sᵀ log(·) s, by `steps` of Lanczos with full
/// reorthogonalisation each; it is small where M is near, so that the estimate is better than one of the whole would be.
///
/// Cost: `probes · steps` times `4 N Σ n_i` operations, probes in parallel with `steps` vectors of N each.
///
/// # Errors
/// `Numeric` when a factor is not semidefinite; `Argument` when the diagonal's length differs, there are fewer than 2 probes or no steps.
pub fn observed_logdet(
    spectrum: &Spectrum,
    diagonal: &Diagonal,
    options: &LogdetOptions,
) -> Result<LogdetEstimate> {
    let spectrum = prepared(spectrum, diagonal, &DiagOptions::default())?;
    for (what, got, least) in [
        ("options.probes", options.probes, 2),
        ("options.steps", options.steps, 1),
    ] {
        if got < least {
            return Err(Error::Argument {
                op: OP,
                what: what.into(),
                expected: format!("at least {least}"),
                got: got.to_string(),
            });
        }
    }
    let operator = Operator::new(&spectrum, diagonal);
    let exact = diagonal.log_sum() + operator.preconditioner.iter().map(|m| m.ln()).sum::<f64>();
    let random = Random::new(options.seed);
    let traces: Vec<[f64; 2]> = (0..options.probes as u64)
        .into_par_iter()
        .map(|probe| trace(&operator, options.steps, &random, probe))
        .collect::<Result<_>>()?;
    let count = traces.len() as f64;
    let mean = |n: usize| traces.iter().filter_map(|trace| trace.get(n)).sum::<f64>() / count;
    let [value, before] = [mean(0), mean(1)];
    let squares: f64 = traces
        .iter()
        .map(|[trace, _]| (trace - value).powi(2))
        .sum();
    Ok(LogdetEstimate {
        value: exact + value,
        standard_error: (squares / (count - 1.0) / count).sqrt(),
        last_increment: (value - before).abs(),
    })
}

/// sᵀ log(·) s for signs s, with all steps and with one less.
fn trace(operator: &Operator<'_>, steps: usize, random: &Random, probe: u64) -> Result<[f64; 2]> {
    let len = operator.roots.len();
    let halves: Vec<f64> = operator
        .preconditioner
        .iter()
        .map(|m| 1.0 / m.sqrt())
        .collect();
    let norm = (len as f64).sqrt();
    let sign = |e: u64| random.sign(probe * len as u64 + e) / norm;
    let mut basis: Vec<Vec<f64>> = vec![(0..len as u64).map(sign).collect()];
    let (mut diagonal, mut beside): (Vec<f64>, Vec<f64>) = (Vec::new(), Vec::new());
    while let Some(last) = basis.last().filter(|_| diagonal.len() < steps) {
        let mut next = product(&halves, &operator.apply(&product(&halves, last)));
        diagonal.push(dot(last, &next));
        // Twice is enough.
        for own in basis.iter().chain(&basis) {
            let share = dot(own, &next);
            for (x, v) in next.iter_mut().zip(own) {
                *x -= share * v;
            }
        }
        let size = dot(&next, &next).sqrt();
        if size < 1e-12 || basis.len() == len {
            break;
        }
        beside.push(size);
        basis.push(next.into_iter().map(|x| x / size).collect());
    }
    let whole = quadrature(&diagonal, &beside)?;
    let before = match diagonal.len() {
        0 | 1 => 0.0,
        n => quadrature(diagonal.get(..n - 1).unwrap_or_default(), &beside)?,
    };
    Ok([len as f64 * whole, len as f64 * before])
}

/// e_1ᵀ log(T) e_1 of a tridiagonal T.
fn quadrature(diagonal: &[f64], beside: &[f64]) -> Result<f64> {
    let entry = |i: usize, j: usize| {
        let found = match i.abs_diff(j) {
            0 => diagonal.get(i),
            1 => beside.get(i.min(j)),
            _ => None,
        };
        found.copied().unwrap_or(0.0)
    };
    let tridiagonal = Matrix::of(diagonal.len(), diagonal.len(), entry);
    let (values, vectors) = eigen(OP, "the tridiagonal of Lanczos", &tridiagonal)?;
    let terms = values.iter().enumerate();
    Ok(terms
        .map(|(n, value)| vectors.at(0, n).powi(2) * value.max(f64::MIN_POSITIVE).ln())
        .sum())
}
