//! Samples of Gaussian vectors whose covariance is a whole.

use rayon::prelude::*;

use super::{
    diag_solve::{DiagOptions, DiagReport, Diagonal, Solution, diag_solve},
    spectral::{Basis, Operand, RowSums, Spectral, fits, scale},
    spectrum::{Function, OP, Rounded, Spectrum},
};
use crate::{
    Result,
    gpu::{Caps, Gpu, Tensor, part},
    plan::{Builder, Plan, Slot},
    random::Random,
};

/// So many standard normal numbers of a stream, from element `first` on, rounded to f32.
fn normals(random: &Random, first: u64, len: usize) -> Vec<f32> {
    let elements = (0..len as u64).into_par_iter();
    elements.map(|e| random.normal(first + e) as f32).collect()
}

/// Vectors of covariance A + σ² I: V √(λ + σ²) ε with standard normal ε of a stream, `[rows, N]`.
///
/// Cost: one product with V, and the numbers from the host.
///
/// # Errors
/// `Numeric` when an eigenvalue with σ² is negative; `Argument` when the length does not fit; `Limit`, `Shader`, `OutOfMemory`,
/// `Timeout`, `DeviceLost` from the device.
pub fn sample(
    gpu: &Gpu,
    basis: &Basis,
    noise: f64,
    random: &Random,
    rows: usize,
    out: &mut Tensor<f32>,
) -> Result<()> {
    let spectrum = basis.spectrum();
    let plan = sample_plan(spectrum, noise, rows, gpu.caps())?;
    fits(spectrum, rows, &[("out", out)])?;
    let mut epsilon = gpu.upload(&normals(random, 0, out.len()))?;
    let [vectors, values] = basis.views();
    let mut pass = gpu.pass(OP);
    let mut outputs = [epsilon.view_mut(), out.view_mut()];
    pass.run(&plan, &[vectors, values], &mut outputs)?;
    pass.submit().map(drop)
}

/// Plans [`sample`]. Inputs: eigenvectors, eigenvalues; outputs: ε, which is overwritten, and the samples.
///
/// # Errors
/// As [`sample`], but for those of the device.
pub fn sample_plan(spectrum: &Spectrum, noise: f64, rows: usize, caps: &Caps) -> Result<Plan> {
    let mut builder = Builder::default();
    let spectral = Spectral::new(spectrum, rows, Slot::Input(0));
    let source = spectral.source(&mut builder, &Function::Root(noise), Slot::Input(1))?;
    if rows > 0 {
        let epsilon = Slot::Output(0);
        scale(&mut builder, caps, spectral.sizes(), &source, epsilon)?;
        spectral.synthesise(&mut builder, caps, [epsilon, Slot::Output(1)])?;
    }
    let mut work = spectral.work();
    work.flops /= 2.0;
    let plan = builder.plan(OP, "sample".into(), work);
    plan.check(caps)?;
    Ok(plan)
}

/// Vectors f of covariance A given y = f + noise of variance σ² at every cell, one for each row of y.
///
/// ```text
/// V (λ / (λ + σ²) Vᵀ y + √(λ σ² / (λ + σ²)) ε)
/// ```
///
/// # Errors
/// `Numeric` when a factor is not semidefinite or σ² is not positive; otherwise as [`sample`].
pub fn posterior_sample(
    gpu: &Gpu,
    basis: &Basis,
    noise: f64,
    random: &Random,
    rows: usize,
    y: &Tensor<f32>,
    out: &mut Tensor<f32>,
) -> Result<()> {
    let spectrum = basis.spectrum();
    let plan = posterior_plan(spectrum, noise, rows, gpu.caps())?;
    fits(spectrum, rows, &[("y", y), ("out", out)])?;
    let mut epsilon = gpu.upload(&normals(random, 0, out.len()))?;
    let [vectors, values] = basis.views();
    let mut pass = gpu.pass(OP);
    let mut outputs = [epsilon.view_mut(), out.view_mut()];
    pass.run(&plan, &[y.view(), vectors, values], &mut outputs)?;
    pass.submit().map(drop)
}

/// Plans [`posterior_sample`]. Inputs: y, eigenvectors, eigenvalues; outputs: ε, which is overwritten, and the samples.
///
/// # Errors
/// As [`posterior_sample`], but for those of the device.
pub fn posterior_plan(spectrum: &Spectrum, noise: f64, rows: usize, caps: &Caps) -> Result<Plan> {
    let mut builder = Builder::default();
    let spectral = Spectral::new(spectrum, rows, Slot::Input(1));
    let values = Slot::Input(2);
    let mut function = |function| spectral.source(&mut builder, &function, values);
    let shrink = function(Function::Shrink(noise))?;
    let deviation = function(Function::Deviation(noise))?;
    if rows > 0 {
        let (epsilon, sizes) = (Slot::Output(0), spectral.sizes());
        let basis = builder.add_scratch(4 * spectral.elements());
        spectral.analyse(&mut builder, caps, [Slot::Input(0), basis])?;
        scale(&mut builder, caps, sizes, &shrink, basis)?;
        scale(&mut builder, caps, sizes, &deviation, epsilon)?;
        add(&mut builder, caps, [spectrum.len(), rows], [epsilon, basis])?;
        spectral.synthesise(&mut builder, caps, [basis, Slot::Output(1)])?;
    }
    let plan = builder.plan(OP, "posterior sample".into(), spectral.work());
    plan.check(caps)?;
    Ok(plan)
}

/// b ← b + a.
fn add(
    builder: &mut Builder,
    caps: &Caps,
    [width, rows]: [usize; 2],
    [a, b]: [Slot; 2],
) -> Result<()> {
    let parts = super::spectral::Parts::new(width);
    let sums = builder.add_scratch(4 * parts.len(rows));
    let pass = RowSums {
        terms: vec![part!("kronecker/term_add.wgsl")],
        tables: None,
        function: Rounded::default(),
        form: false,
        before: vec![Operand::read(a), Operand::write(b)],
        after: Vec::new(),
        sums: (sums, 0),
    };
    pass.steps(builder, caps, width, rows)
}

/// Vectors f of covariance K given y = f + noise of variances D, infinite where a cell is missing, one for each row of y: a sample
/// of f and the noise, and the mean given what y has beyond them.
///
/// ```text
/// f_0 = K^(1/2) ε,  r = y − f_0 − √D ε'        f = f_0 + K (K + D)⁻¹ r
/// ```
///
/// # Errors
/// As [`diag_solve`] and [`sample`].
///
/// Source: G. Matheron's rule of conditioning by kriging, as in A. G. Journel and C. J. Huijbregts, "Mining geostatistics", 1978.
#[allow(
    clippy::too_many_arguments,
    reason = "those of `diag_solve` and a stream"
)]
pub fn masked_posterior_sample(
    gpu: &Gpu,
    basis: &Basis,
    diagonal: &Diagonal,
    options: &DiagOptions,
    random: &Random,
    rows: usize,
    y: &Tensor<f32>,
    out: &mut Tensor<f32>,
) -> Result<DiagReport> {
    let spectrum = basis.spectrum();
    fits(spectrum, rows, &[("y", y), ("out", out)])?;
    sample(gpu, basis, 0.0, random, rows, out)?;
    let len = out.len();
    let noise = normals(random, len as u64, len);
    let weights = diagonal.weights().iter().cycle();
    let each = y
        .download()?
        .into_iter()
        .zip(out.download()?)
        .zip(noise)
        .zip(weights);
    let rest: Vec<f32> = each
        .map(|(((y, f), noise), w)| match *w {
            0.0 => 0.0,
            w => y - f - (f64::from(noise) / w.sqrt()) as f32,
        })
        .collect();
    let rest = gpu.upload(&rest)?;
    let mut mean = gpu.zeros(len)?;
    let mut solution = Solution {
        alpha: &mut gpu.zeros(len)?,
        mean: &mut mean,
    };
    let report = diag_solve(gpu, basis, diagonal, options, rows, &rest, &mut solution)?;
    if rows > 0 {
        let mut builder = Builder::default();
        let sizes = [spectrum.len(), rows];
        add(
            &mut builder,
            gpu.caps(),
            sizes,
            [Slot::Input(0), Slot::Output(0)],
        )?;
        let plan = builder.plan(OP, "sum".into(), Default::default());
        let mut pass = gpu.pass(OP);
        pass.run(&plan, &[mean.view()], &mut [out.view_mut()])?;
        pass.submit()?;
    }
    Ok(report)
}
