//! What a solution says of itself.

use super::{super::spectrum::Spectrum, Precision, SolveOptions, cpu};
use crate::{Error, Result};

/// How a system was solved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// By the eigenvectors of the factors, on the device.
    Spectral,
    /// By the eigenvectors of the factors, on the host in f64.
    SpectralHost,
    /// By inverses of the factors.
    Elimination,
    /// By the singular vectors of the factors.
    LeastSquares,
    /// By eigenvectors that are known without a solver.
    FastDiagonalisation,
    /// By conjugate gradients.
    ConjugateGradients,
}

/// How good a solution is: the worst of its rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SolveReport {
    /// How it was found.
    pub method: Method,
    /// Iterations; 0 of direct methods.
    pub iterations: usize,
    /// Whether it is what was asked for.
    pub converged: bool,
    /// ‖A x − b‖ / ‖b‖ where it was measured; of conjugate gradients what they stop by.
    pub residual: Option<f64>,
    /// Largest over least eigenvalue of the system, or a bound on that.
    pub condition: f64,
    /// A bound on ‖x̂ − x‖ / ‖x‖.
    pub error_bound: f64,
    /// ‖A x − b‖ / (‖A‖₂ ‖x‖ + ‖b‖) where it was measured.
    pub backward_error: Option<f64>,
}

/// Unit roundoff of f32.
pub(in crate::kronecker) const UNIT: f64 = 1.0 / (1u64 << 24) as f64;

/// What the rounding of two products with orthogonal factors of these sides amounts to, in units: sums of n terms in f32 are off by
/// about √n / 4 of them.
pub(in crate::kronecker) fn constant(sides: impl Iterator<Item = usize>) -> f64 {
    let roots: f64 = sides.map(|n| (n as f64).sqrt()).sum();
    (0.5 * roots).max(8.0)
}

/// The largest ratio of two rows' numbers, 0 where the first is 0.
pub(in crate::kronecker) fn worst(above: &[f64], below: &[f64]) -> f64 {
    let ratio = |(a, b): (&f64, &f64)| match (*a == 0.0, *b == 0.0) {
        (true, _) => 0.0,
        (false, true) => f64::INFINITY,
        _ => a / b,
    };
    let ratios = above.iter().zip(below).map(ratio);
    ratios.fold(0.0, |most, x| if x > most || x.is_nan() { x } else { most })
}

/// Of [`solve`](super::solve), from the norms of the rows of b and of x.
pub(super) fn of_spectrum(
    spectrum: &Spectrum,
    options: &SolveOptions,
    b: &[f64],
    x: &[f64],
) -> SolveReport {
    let ratio = worst(b, x);
    let amplified = spectrum.amplification(options.noise) * ratio;
    let sides = spectrum.axes().iter().map(|axis| axis.side());
    let units = constant(sides) * (amplified + spectrum.metric_condition() - 1.0);
    let (method, error_bound) = match options.precision {
        Precision::Device => (Method::Spectral, units * UNIT),
        // The rounding of x, and all else in f64.
        Precision::HostF64 => (Method::SpectralHost, UNIT + units * 0.5 * f64::EPSILON),
    };
    SolveReport {
        method,
        iterations: 0,
        converged: true,
        residual: None,
        condition: spectrum.condition(options.noise),
        error_bound: if b.is_empty() { 0.0 } else { error_bound },
        backward_error: None,
    }
}

impl SolveReport {
    /// With residuals, of b and x in f64.
    pub(super) fn verified(
        self,
        spectrum: &Spectrum,
        noise: f64,
        rows: usize,
        b: &[f64],
        x: &[f64],
    ) -> Result<SolveReport> {
        let product = spectrum.multiply(noise, rows, x)?;
        let apart: Vec<f64> = product.iter().zip(b).map(|(a, b)| a - b).collect();
        let [apart, b, x] = [&apart, b, x].map(|rows| cpu::norms(rows, spectrum.len()));
        let norm = spectrum.norm(noise);
        let scale: Vec<f64> = x.iter().zip(&b).map(|(x, b)| norm * x + b).collect();
        Ok(SolveReport {
            residual: Some(worst(&apart, &b)),
            backward_error: Some(worst(&apart, &scale)),
            ..self
        })
    }

    /// An error where the bound exceeds a tolerance.
    pub(super) fn judged(self, op: &'static str, tolerance: Option<f64>) -> Result<SolveReport> {
        let Some(tolerance) = tolerance else {
            return Ok(self);
        };
        if self.error_bound <= tolerance {
            return Ok(self);
        }
        Err(Error::Numeric {
            op,
            what: format!(
                "the error bound {:.3e} exceeds the tolerance {tolerance:e} at condition {:.3e}; raise the noise or take `Precision::HostF64`",
                self.error_bound, self.condition
            ),
        })
    }
}

impl std::fmt::Display for SolveReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let SolveReport {
            method,
            iterations,
            condition,
            error_bound,
            ..
        } = self;
        write!(
            f,
            "{method:?}: {iterations} iterations, condition {condition:.2e}, error bound {error_bound:.2e}"
        )?;
        if let Some(residual) = self.residual {
            write!(f, ", residual {residual:.2e}")?;
        }
        if !self.converged {
            write!(f, ", not converged")?;
        }
        Ok(())
    }
}
