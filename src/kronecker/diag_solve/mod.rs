//! Systems with a Kronecker product plus any diagonal, and missing cells, by conjugate gradients.
//!
//! ```text
//! (K + D) α = y,  K = V Λ Vᵀ,  D > 0, infinite where a cell is missing        W = 1 / D, 0 where a cell is missing
//! (I + √Λ Vᵀ W V √Λ) z = √Λ Vᵀ (W ∘ y)        preconditioned by M = 1 + mean(W) Λ, a diagonal
//! f = K α = V √Λ z        α = W ∘ (y − f)
//! ```
//!
//! The system in z has no eigenvalue below 1, whatever is missing; the one in α has some as large as D. Each iteration takes the two products
//! Vᵀ and V. Scalars stay on the device. [`DiagForm::Direct`] is the system in α as it stands, for what the one in z does not take.

#[cfg(feature = "cli")]
pub(crate) mod cases;
pub mod cpu;
mod direct;
pub(super) mod kernels;
mod logdet;
mod plan;

use super::{
    solve::{Method, SolveReport, UNIT, constant, worst},
    spectral::{Basis, Parts, finish, fits},
    spectrum::Spectrum,
};
use crate::{
    Error, Result,
    gpu::{Gpu, Tensor, View},
};

pub use logdet::{LogdetEstimate, LogdetOptions, observed_logdet};
use plan::SCALARS;
pub use plan::plan;

pub(super) const OP: &str = "kron_diag_solve";

/// The host looks at the scalars after so many iterations.
const LOOK: usize = 8;

/// D of K + D: infinite where a cell is missing.
#[derive(Clone, Debug, PartialEq)]
pub struct Diagonal {
    variances: Vec<f64>,
    /// 1 / D.
    weights: Vec<f64>,
    /// Their mean, least and largest; infinite where a variance is 0.
    mean: f64,
    least: f64,
    most: f64,
}

impl Diagonal {
    /// Of the variances of all cells, one after another as in a row of y.
    ///
    /// # Errors
    /// `Argument` when one is negative or not a number, or none is positive and finite.
    pub fn new(variances: &[f64]) -> Result<Diagonal> {
        let refuse = |expected: &str, got: String| Error::Argument {
            op: OP,
            what: "diagonal".into(),
            expected: expected.into(),
            got,
        };
        let wrong = variances.iter().enumerate();
        let wrong = wrong.into_iter().find(|(_, d)| d.is_nan() || **d < 0.0);
        if let Some((index, d)) = wrong {
            let expected = "of numbers of at least 0, infinite where a cell is missing";
            return Err(refuse(expected, format!("{d} at cell {index}")));
        }
        if !variances.iter().any(|d| *d > 0.0 && d.is_finite()) {
            let expected = "positive and finite for at least one cell";
            return Err(refuse(
                expected,
                format!("{} cells without", variances.len()),
            ));
        }
        let weights: Vec<f64> = variances.iter().map(|d| 1.0 / d).collect();
        Ok(Diagonal {
            mean: weights.iter().sum::<f64>() / weights.len() as f64,
            least: weights.iter().copied().fold(f64::INFINITY, f64::min),
            most: weights.iter().copied().fold(0.0, f64::max),
            variances: variances.to_vec(),
            weights,
        })
    }

    /// 1 / D: 0 at missing cells, infinite where D is 0.
    pub fn weights(&self) -> &[f64] {
        &self.weights
    }

    /// The harmonic mean of the positive D that are finite.
    fn harmonic(&self) -> f64 {
        let own = self.weights.iter().filter(|w| **w > 0.0 && w.is_finite());
        let [count, sum] = own.fold([0.0, 0.0], |[count, sum], w| [count + 1.0, sum + w]);
        count / sum
    }

    /// What the plans of a form read: weights, or variances with -1 at missing cells.
    fn rounded(&self, form: DiagForm) -> Vec<f32> {
        match form {
            DiagForm::Precision => self.weights.iter().map(|w| *w as f32).collect(),
            DiagForm::Direct => {
                let of = |d: &f64| if d.is_finite() { *d as f32 } else { -1.0 };
                self.variances.iter().map(of).collect()
            }
        }
    }

    /// Σ log D over cells that are not missing.
    fn log_sum(&self) -> f64 {
        let observed = self.weights.iter().filter(|w| **w > 0.0);
        -observed.map(|w| w.ln()).sum::<f64>()
    }
}

/// Which system is iterated on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DiagForm {
    /// The one in z: positive D, positive semidefinite factors.
    #[default]
    Precision,
    /// The one in α, preconditioned by (K + c I)⁻¹ with c the harmonic mean of the positive D: D may have zeros and K negative
    /// eigenvalues while K + D over the observed cells is positive definite. Twice the products an iteration, and many more
    /// iterations where cells are missing.
    Direct,
}

/// Options of [`diag_solve`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DiagOptions {
    /// Which system is iterated on.
    pub form: DiagForm,
    /// √(rᵀ M⁻¹ r / bᵀ M⁻¹ b) to stop at; f32 gets to about 1e-7.
    pub tolerance: f64,
    /// The most iterations.
    pub max_iterations: usize,
    /// Whether what did not converge is returned with `converged` false, or is an error.
    pub accept_unconverged: bool,
}

impl Default for DiagOptions {
    fn default() -> DiagOptions {
        DiagOptions {
            form: DiagForm::default(),
            tolerance: 1e-6,
            max_iterations: 1000,
            accept_unconverged: false,
        }
    }
}

impl DiagOptions {
    fn check(&self) -> Result<()> {
        if self.tolerance > 0.0 && self.tolerance < 1.0 {
            return Ok(());
        }
        Err(Error::Argument {
            op: OP,
            what: "options.tolerance".into(),
            expected: "between 0 and 1".into(),
            got: self.tolerance.to_string(),
        })
    }
}

/// How good α and f are: the worst of their rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DiagReport {
    /// The iterations; the error bound is that of α, the condition a bound on that of the system in z.
    pub solve: SolveReport,
    /// An estimate of ‖f̂ − f‖ / ‖f‖.
    pub mean_error: f64,
}

/// Where [`diag_solve`] writes.
#[derive(Debug)]
pub struct Solution<'a> {
    /// α = (K + D)⁻¹ y, 0 at missing cells.
    pub alpha: &'a mut Tensor<f32>,
    /// f = K α, at all cells.
    pub mean: &'a mut Tensor<f32>,
}

/// The spectrum as the form takes it: in the precision form factors' eigenvalues below 0 by rounding are 0.
fn prepared(spectrum: &Spectrum, diagonal: &Diagonal, options: &DiagOptions) -> Result<Spectrum> {
    options.check()?;
    crate::error::length(OP, "diagonal", diagonal.weights.len(), spectrum.len())?;
    match options.form {
        DiagForm::Direct => Ok(spectrum.clone()),
        DiagForm::Precision if diagonal.most.is_infinite() => Err(Error::Argument {
            op: OP,
            what: "diagonal".into(),
            expected: "positive in this form; `DiagForm::Direct` takes zeros".into(),
            got: "0 at some cell".into(),
        }),
        DiagForm::Precision => spectrum.semidefinite(),
    }
}

/// Solves (K + D) α = y for each row of y, with K a Kronecker product or sum of positive semidefinite factors and D any positive
/// diagonal, infinite at missing cells, where y may hold anything but NaN and infinities.
///
/// y, α and f are `[rows, N]`. f = K α is the posterior mean of a Gaussian process at all cells, observed or not.
///
/// Cost: an iteration takes `4 N Σ n_i` operations and about 12 passes over vectors of a row; temporaries are 7 of them and those of
/// products. The host reads eight numbers a row every 8 iterations.
///
/// Accuracy: f to 10 times the tolerance, α to what [`SolveReport::error_bound`] says, which is more. There is no refinement.
/// Deterministic: two runs are bit-equal.
///
/// # Errors
/// `Numeric` when a factor is not semidefinite, named by its number, when a row does not converge within the iterations or a direction
/// has no positive curvature: α and f are then written and not what they should be, and the message has the report, which
/// [`DiagOptions::accept_unconverged`] returns instead. `Argument` when lengths or options do not fit together; `Limit`, `Shader`,
/// `OutOfMemory`, `Timeout`, `DeviceLost` from the device.
pub fn diag_solve(
    gpu: &Gpu,
    basis: &Basis,
    diagonal: &Diagonal,
    options: &DiagOptions,
    rows: usize,
    y: &Tensor<f32>,
    solution: &mut Solution<'_>,
) -> Result<DiagReport> {
    let spectrum = prepared(basis.spectrum(), diagonal, options)?;
    let each = [
        ("y", y),
        ("alpha", &*solution.alpha),
        ("mean", &*solution.mean),
    ];
    fits(&spectrum, rows, &each)?;
    let caps = gpu.caps();
    let system = plan::Solver::new(&spectrum, diagonal, options, rows)?;
    let report = |scalars: &[f32], sums: &[f64]| {
        report(&spectrum, diagonal, options.form, rows, scalars, sums)
    };
    if rows == 0 {
        return Ok(report(&[], &[]));
    }
    let width = rows * spectrum.len();
    let parts = Parts::new(spectrum.len());
    let weights = gpu.upload(&diagonal.rounded(options.form))?;
    let mut state: Vec<Tensor<f32>> = [width, width, width, rows * SCALARS]
        .into_iter()
        .map(|len| gpu.zeros(len))
        .collect::<Result<_>>()?;
    let [vectors, values] = basis.views();
    let inputs: [View<'_>; 4] = [y.view(), vectors, values, weights.view()];
    let run = |plan: &crate::plan::Plan, state: &mut [Tensor<f32>]| -> Result<()> {
        let mut outputs: Vec<_> = state.iter_mut().map(Tensor::view_mut).collect();
        let mut pass = gpu.pass(OP);
        pass.run(plan, &inputs, &mut outputs)?;
        pass.submit().map(drop)
    };
    run(&system.begin(caps)?, &mut state)?;
    let mut done = 0;
    let mut scalars = Vec::new();
    loop {
        if let Some(tensor) = state.last() {
            scalars = tensor.download()?;
        }
        let running = scalars
            .chunks_exact(SCALARS)
            .any(|row| row.get(4) == Some(&0.0));
        let next = LOOK.min(options.max_iterations.saturating_sub(done));
        if !running || next == 0 {
            break;
        }
        run(&system.iterate(next, caps)?, &mut state)?;
        done += next;
    }
    let mut sums = gpu.zeros::<f32>((plan::SUMS * parts.len(rows)) as usize)?;
    let Some(z) = state.first_mut() else {
        return Ok(report(&[], &[]));
    };
    let mut outputs = [
        z.view_mut(),
        solution.alpha.view_mut(),
        solution.mean.view_mut(),
        sums.view_mut(),
    ];
    let mut pass = gpu.pass(OP);
    pass.run(&system.finish(caps)?, &inputs, &mut outputs)?;
    pass.submit()?;
    judged(report(&scalars, &finish(&sums.download()?, parts)), options)
}

fn judged(report: DiagReport, options: &DiagOptions) -> Result<DiagReport> {
    if report.solve.converged || options.accept_unconverged {
        return Ok(report);
    }
    Err(Error::Numeric {
        op: OP,
        what: format!(
            "not converged to {:e} ({}); raise the iterations or the tolerance, or accept what did not converge",
            options.tolerance, report.solve
        ),
    })
}

/// From the scalars of all rows, and the sums of squares of residuals, f and α.
fn report(
    spectrum: &Spectrum,
    diagonal: &Diagonal,
    form: DiagForm,
    rows: usize,
    scalars: &[f32],
    sums: &[f64],
) -> DiagReport {
    let of = |n: usize| {
        scalars
            .chunks_exact(SCALARS)
            .filter_map(move |row| row.get(n).copied())
    };
    let norms = |block: usize| -> Vec<f64> {
        let own = sums.iter().skip(block * rows).take(rows);
        own.map(|x| x.sqrt()).collect()
    };
    let [residual, mean, alpha] = [0, 1, 2].map(norms);
    let stop = of(0).zip(of(6)).map(|(rho, first)| match first {
        0.0 => 0.0,
        _ => (f64::from(rho) / f64::from(first)).sqrt(),
    });
    let stop = stop.fold(
        0.0,
        |most: f64, x| if x > most || x.is_nan() { x } else { most },
    );
    let sides = spectrum.axes().iter().map(|axis| axis.side());
    let rounding = constant(sides) * UNIT;
    let largest = spectrum.extremes(0.0)[1];
    let [to_alpha, to_mean, cancelled, condition] = match form {
        // f̂ − f = V √Λ B⁻¹ r, and √Λ B⁻¹ √Λ is at most 1 / (1 / λ_max + min W); α̂ − α alike with √W V √Λ B⁻¹ √Λ Vᵀ √W at most 1.
        DiagForm::Precision => {
            let Diagonal { least, most, .. } = diagonal;
            [
                most.sqrt(),
                1.0 / (1.0 / largest + least).sqrt(),
                // What the rounding of f, weighed, does to α.
                worst(&mean, &alpha) * most,
                1.0 + largest * most,
            ]
        }
        // α̂ − α = (K + D)⁻¹ r over observed cells, whose least eigenvalue is at least the sum of both.
        DiagForm::Direct => {
            let observed = diagonal.variances.iter().copied();
            let observed = observed.filter(|d| d.is_finite());
            let [low, high] = observed.fold([f64::INFINITY, 0.0], |[low, high], d| {
                [d.min(low), d.max(high)]
            });
            let least = (spectrum.least_shifted(0.0) + low).max(0.0);
            let condition = (largest + high) / least;
            [1.0 / least, largest / least, condition, condition]
        }
    };
    DiagReport {
        solve: SolveReport {
            method: Method::ConjugateGradients,
            iterations: of(5).fold(0.0, f32::max) as usize,
            converged: of(4).all(|status| status == 1.0) && stop.is_finite(),
            residual: Some(stop),
            condition,
            error_bound: to_alpha * worst(&residual, &alpha) + rounding * (1.0 + cancelled),
            backward_error: None,
        },
        mean_error: to_mean * worst(&residual, &mean) + rounding,
    }
}
