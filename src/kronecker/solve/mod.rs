//! Systems with a Kronecker product plus a multiple of the identity: the calls.

#[cfg(feature = "cli")]
pub(crate) mod cases;
pub mod cpu;
mod general;
mod gradients;
mod least_squares;
mod report;

use super::{
    spectral::{Basis, Parts, RowSums, Spectral, finish, fits, plan as spectral_plan},
    spectrum::{Combine, Function, Spectrum},
};
use crate::{
    Error, Result,
    gpu::{Caps, Gpu, Tensor},
    plan::{Builder, Plan, Slot},
};

pub use general::General;
pub use gradients::{FactorGradients, dots_plan, gradients};
pub use least_squares::{LeastSquares, Ridge};
pub use report::{Method, SolveReport};
pub(super) use report::{UNIT, constant, worst};

pub(super) const OP: &str = "kron_solve";

/// How far below 0, relative to the largest, an eigenvalue of a factor may be: what rounding of the factor to f32 leaves.
const DEFINITE: f64 = 1e-6;

/// Where a system is solved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// On the device, in f32.
    #[default]
    Device,
    /// On the host, in f64; b and x travel.
    HostF64,
}

/// Options of [`solve`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SolveOptions {
    /// σ².
    pub noise: f64,
    /// The largest error bound that is no error; none takes any and reports it.
    pub tolerance: Option<f64>,
    /// Whether the residual is measured, in f64 on the host, which downloads b and x.
    pub verify: bool,
    /// Where the system is solved.
    pub precision: Precision,
}

impl SolveOptions {
    /// With this σ².
    pub fn noise(noise: f64) -> SolveOptions {
        SolveOptions {
            noise,
            ..SolveOptions::default()
        }
    }
}

/// Solves (⊗A_i + σ² I) x = b for each row of b, with positive definite factors of a [`Spectrum`] on the device.
///
/// ```text
/// x = V (Λ + σ² I)⁻¹ Vᵀ b        Σ_i A_i + σ² I for a Kronecker sum, ⊗A_i + σ² ⊗C_i for pencils
/// ```
///
/// b and x are `[rows, Π n_i]`. Cost and memory: those of [`spectral()`](super::spectral()) and a pass over b and x.
///
/// Accuracy: [`SolveReport::error_bound`] of every call bounds ‖x̂ − x‖ / ‖x‖ of every row. Root-mean-square error to the f64
/// reference, relative, <= 1e-6 for b that are not smooth, of any condition. There is no refinement: with a residual in f32 it would
/// make x worse.
///
/// # Errors
/// `Numeric` when a factor is indefinite, named by its number, or the whole with σ² is not positive definite; when the error
/// bound exceeds the tolerance: x is then written and not that good; when values leave the range of f32. `Argument` when lengths or options do not
/// fit together; `Limit`, `Shader`, `OutOfMemory`, `Timeout`, `DeviceLost` from the device.
pub fn solve(
    gpu: &Gpu,
    basis: &Basis,
    options: &SolveOptions,
    rows: usize,
    b: &Tensor<f32>,
    x: &mut Tensor<f32>,
) -> Result<SolveReport> {
    let spectrum = basis.spectrum();
    check(spectrum, options)?;
    fits(spectrum, rows, &[("b", b), ("x", x)])?;
    if rows == 0 {
        return Ok(report::of_spectrum(spectrum, options, &[], &[]));
    }
    let report = match options.precision {
        Precision::HostF64 => {
            let host: Vec<f64> = b.download()?.iter().map(|x| f64::from(*x)).collect();
            let solution = cpu::solve(spectrum, options.noise, rows, &host)?;
            let rounded: Vec<f32> = solution.iter().map(|x| *x as f32).collect();
            x.write(&rounded)?;
            let norms = [&host, &solution].map(|x| cpu::norms(x, spectrum.len()));
            report::of_spectrum(spectrum, options, &norms[0], &norms[1])
        }
        Precision::Device => {
            let parts = Parts::new(spectrum.len());
            let len = 2 * parts.len(rows) as usize;
            let plan = plan(spectrum, options.noise, rows, gpu.caps())?;
            let mut partial = gpu.zeros::<f32>(len)?;
            let mut pass = gpu.pass(OP);
            let [vectors, values] = basis.views();
            let mut outputs = [x.view_mut(), partial.view_mut()];
            pass.run(&plan, &[b.view(), vectors, values], &mut outputs)?;
            pass.submit()?;
            let sums = finish(&partial.download()?, parts);
            let norms: Vec<f64> = sums.iter().map(|x| x.sqrt()).collect();
            let (b, x) = norms.split_at(rows.min(norms.len()));
            report::of_spectrum(spectrum, options, b, x)
        }
    };
    let report = match options.verify {
        false => report,
        true => {
            let host = |tensor: &Tensor<f32>| -> Result<Vec<f64>> {
                Ok(tensor.download()?.into_iter().map(f64::from).collect())
            };
            report.verified(spectrum, options.noise, rows, &host(b)?, &host(x)?)?
        }
    };
    report.judged(OP, options.tolerance)
}

/// Plans [`solve`] on the device. Inputs: b, eigenvectors, eigenvalues as for [`spectral::plan`](super::spectral::plan); outputs: x,
/// and the partial sums of squares of the rows of b, then of x.
///
/// # Errors
/// As [`solve`], but for those of the device and of its results.
pub fn plan(spectrum: &Spectrum, noise: f64, rows: usize, caps: &Caps) -> Result<Plan> {
    let function = Function::Inverse(noise);
    let whole = spectral_plan(spectrum, &function, rows, caps)?;
    let (label, mut work) = (whole.label.clone(), whole.work);
    let mut builder = Builder::default();
    let inputs = [Slot::Input(0), Slot::Input(1), Slot::Input(2)];
    builder.append(whole, &inputs, &[Slot::Output(0)])?;
    for (slot, block) in [(Slot::Input(0), 0), (Slot::Output(0), 1)] {
        let squares = RowSums::squares(slot, (Slot::Output(1), block));
        squares.steps(&mut builder, caps, spectrum.len(), rows)?;
    }
    work.flops += 4.0 * (rows * spectrum.len()) as f64;
    let plan = builder.plan(OP, label, work);
    plan.check(caps)?;
    Ok(plan)
}

/// bᵀ (⊗A_i + σ² I)⁻¹ b for each row of b: Σ (Vᵀ b)² / (λ + σ²), half the products of a solution.
///
/// Accuracy: 1e-5 relative, as all terms are positive. Deterministic: two runs are bit-equal.
///
/// # Errors
/// As [`solve`].
pub fn quadratic(
    gpu: &Gpu,
    basis: &Basis,
    noise: f64,
    rows: usize,
    b: &Tensor<f32>,
) -> Result<Vec<f64>> {
    let spectrum = basis.spectrum();
    check(spectrum, &SolveOptions::noise(noise))?;
    fits(spectrum, rows, &[("b", b)])?;
    if rows == 0 {
        return Ok(Vec::new());
    }
    let plan = quadratic_plan(spectrum, noise, rows, gpu.caps())?;
    let parts = Parts::new(spectrum.len());
    let mut partial = gpu.zeros::<f32>(parts.len(rows) as usize)?;
    let mut pass = gpu.pass(OP);
    let [vectors, values] = basis.views();
    pass.run(
        &plan,
        &[b.view(), vectors, values],
        &mut [partial.view_mut()],
    )?;
    pass.submit()?;
    Ok(finish(&partial.download()?, parts))
}

/// Plans [`quadratic`]. Inputs: those of [`plan`]; output: partial sums.
///
/// # Errors
/// As [`plan`].
pub fn quadratic_plan(spectrum: &Spectrum, noise: f64, rows: usize, caps: &Caps) -> Result<Plan> {
    let mut builder = Builder::default();
    let spectral = Spectral::new(spectrum, rows, Slot::Input(1));
    let function = Function::Inverse(noise);
    function.check(spectrum)?;
    let rounded = function.rounded(spectrum)?;
    let basis = builder.add_scratch(4 * spectral.elements());
    spectral.analyse(&mut builder, caps, [Slot::Input(0), basis])?;
    let tables = spectral.tables(Slot::Input(2));
    let sums = RowSums::weighted(rounded, tables, basis, (Slot::Output(0), 0));
    sums.steps(&mut builder, caps, spectrum.len(), rows)?;
    let mut work = spectral.work();
    work.flops /= 2.0;
    let plan = builder.plan(OP, "quadratic form".into(), work);
    plan.check(caps)?;
    Ok(plan)
}

/// Whether the whole is a positive definite one.
pub(super) fn check(spectrum: &Spectrum, options: &SolveOptions) -> Result<()> {
    let noise = options.noise;
    let argument = |what: &str, got: String| {
        Err(Error::Argument {
            op: OP,
            what: what.into(),
            expected: "a finite number of at least 0".into(),
            got,
        })
    };
    if !noise.is_finite() || noise < 0.0 {
        return argument("options.noise", noise.to_string());
    }
    if let Some(tolerance) = options.tolerance.filter(|x| !x.is_finite() || *x < 0.0) {
        return argument("options.tolerance", tolerance.to_string());
    }
    if spectrum.combine() == Combine::Product {
        for (index, axis) in spectrum.axes().iter().enumerate() {
            let [least, most] = axis.range();
            let largest = least.abs().max(most.abs());
            if least < -DEFINITE * largest && most > DEFINITE * largest {
                return Err(Error::Numeric {
                    op: OP,
                    what: format!(
                        "factor {index} is indefinite: its eigenvalues reach from {least:.3e} to {most:.3e}; `spectral` with `Function::Inverse` takes such factors"
                    ),
                });
            }
        }
    }
    let lowest = spectrum.least_shifted(noise);
    if lowest > 0.0 {
        return Ok(());
    }
    Err(Error::Numeric {
        op: OP,
        what: format!(
            "the whole is not positive definite: its least eigenvalue with the noise {noise:e} is {lowest:.3e}; raise the noise"
        ),
    })
}
