//! Systems with a Kronecker sum: Poisson's equation on a box, Sylvester's equation.

#[cfg(feature = "cli")]
pub(crate) mod cases;
mod laplacian;

use super::{
    solve::{Method, SolveReport, UNIT, constant, worst},
    spectral::{Basis, Parts, RowSums, Spectral, finish, fits, scale},
    spectrum::{Combine, Form, Function, Spectrum},
};
use crate::{
    Error, Result,
    gpu::{Caps, Gpu, Tensor},
    plan::{Builder, Plan, Slot},
};

pub use laplacian::{Boundary, laplacian};

pub(super) const OP: &str = "kron_sum_solve";

/// The largest part of b, relative to it, in the null space that is no error.
const REMOVED: f64 = 1e-5;

/// Options of [`sum_solve`].
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SumOptions {
    /// c of Σ A_i + c I.
    pub shift: f64,
    /// Whether a right-hand side with a part in the null space is solved without it, or is an error.
    pub allow_mean: bool,
}

/// How good a solution is, and what of b it does not solve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SumReport {
    /// The condition is that of the rest of the space where there is a null space.
    pub solve: SolveReport,
    /// The norm of b's part in the null space over that of b: with periodic or Neumann boundaries the mean.
    pub removed: f64,
}

/// Solves (Σ_i I ⊗ … ⊗ A_i ⊗ … ⊗ I + c I) x = b for each row of b by diagonalisation, with a [`Spectrum`] of sums on the device: of
/// [`laplacian`]s, Poisson's equation on a box.
///
/// Where an eigenvalue with c is 0, x is the solution of least norm, of b without its part in the null space.
///
/// b and x are `[rows, Π n_i]`. Cost and memory: those of [`spectral()`](super::spectral()). Accuracy: root-mean-square error to the
/// f64 reference, relative, <= 1e-6 for Poisson's equation; every call's [`SolveReport::error_bound`] bounds it.
///
/// # Errors
/// `Numeric` when b has a part in the null space of more than 1e-5 of it and `options.allow_mean` is false: x is then written. `Argument`
/// when the spectrum is of a product, or lengths or options do not fit together; `Limit`, `Shader`, `OutOfMemory`, `Timeout`,
/// `DeviceLost` from the device.
///
/// Source: R. E. Lynch, J. R. Rice and D. H. Thomas, "Direct solution of partial difference equations by tensor product methods",
/// 1964.
pub fn sum_solve(
    gpu: &Gpu,
    basis: &Basis,
    options: &SumOptions,
    rows: usize,
    b: &Tensor<f32>,
    x: &mut Tensor<f32>,
) -> Result<SumReport> {
    let spectrum = basis.spectrum();
    let plan = plan(spectrum, options, rows, gpu.caps())?;
    fits(spectrum, rows, &[("b", b), ("x", x)])?;
    if rows == 0 {
        return judged(report(spectrum, options, 0, &[]), options);
    }
    let parts = Parts::new(spectrum.len());
    let mut sums = gpu.zeros::<f32>(3 * parts.len(rows) as usize)?;
    let mut pass = gpu.pass(OP);
    let [vectors, values] = basis.views();
    let mut outputs = [x.view_mut(), sums.view_mut()];
    pass.run(&plan, &[b.view(), vectors, values], &mut outputs)?;
    pass.submit()?;
    let sums = finish(&sums.download()?, parts);
    judged(report(spectrum, options, rows, &sums), options)
}

/// Plans [`sum_solve`]. Inputs: b, eigenvectors, eigenvalues as for [`spectral::plan`](super::spectral::plan); outputs: x, and the
/// partial sums of squares of the rows of b, of x, and of b's part in the null space.
///
/// # Errors
/// As [`sum_solve`], but for those of the device and of its results.
pub fn plan(spectrum: &Spectrum, options: &SumOptions, rows: usize, caps: &Caps) -> Result<Plan> {
    if spectrum.combine() != Combine::Sum {
        return Err(Error::Argument {
            op: OP,
            what: "spectrum".into(),
            expected: "of a Kronecker sum; `solve` takes products".into(),
            got: "a product".into(),
        });
    }
    let mut builder = Builder::default();
    let spectral = Spectral::new(spectrum, rows, Slot::Input(1));
    let function = Function::MinimumNorm(options.shift);
    let source = spectral.source(&mut builder, &function, Slot::Input(2))?;
    let mut null = function.rounded(spectrum)?;
    (null.form, null.gain) = (Form::Null, 1.0);
    let tables = spectral.tables(Slot::Input(2));
    if rows > 0 {
        let (b, x, sums) = (Slot::Input(0), Slot::Output(0), Slot::Output(1));
        let width = spectrum.len();
        let basis = builder.add_scratch(4 * spectral.elements());
        spectral.analyse(&mut builder, caps, [b, basis])?;
        let of_null = RowSums::weighted(null, tables, basis, (sums, 2));
        of_null.steps(&mut builder, caps, width, rows)?;
        scale(&mut builder, caps, spectral.sizes(), &source, basis)?;
        spectral.synthesise(&mut builder, caps, [basis, x])?;
        for (slot, block) in [(b, 0), (x, 1)] {
            RowSums::squares(slot, (sums, block)).steps(&mut builder, caps, width, rows)?;
        }
    }
    let label = format!("{} axes", spectrum.axes().len());
    let plan = builder.plan(OP, label, spectral.work());
    plan.check(caps)?;
    Ok(plan)
}

/// From the sums of squares of b, x and what was removed.
fn report(spectrum: &Spectrum, options: &SumOptions, rows: usize, sums: &[f64]) -> SumReport {
    let norms = |block: usize| -> Vec<f64> {
        let own = sums.iter().skip(block * rows).take(rows);
        own.map(|x| x.sqrt()).collect()
    };
    let [b, x, removed] = [0, 1, 2].map(norms);
    let [least, most] = spectrum.nonzero_extremes(options.shift);
    let sides = spectrum.axes().iter().map(|axis| axis.side());
    let spread = spectrum.metric_spread();
    let amplified = spread * worst(&b, &x) / least + spectrum.metric_condition() - 1.0;
    SumReport {
        solve: SolveReport {
            method: Method::FastDiagonalisation,
            iterations: 0,
            converged: true,
            residual: None,
            condition: most / least,
            error_bound: if rows == 0 {
                0.0
            } else {
                constant(sides) * UNIT * amplified
            },
            backward_error: None,
        },
        removed: worst(&removed, &b),
    }
}

fn judged(report: SumReport, options: &SumOptions) -> Result<SumReport> {
    if report.removed <= REMOVED || options.allow_mean {
        return Ok(report);
    }
    Err(Error::Numeric {
        op: OP,
        what: format!(
            "the system is singular and {:.3e} of the right-hand side lies in its null space; take the mean out of b or set `allow_mean`",
            report.removed
        ),
    })
}
