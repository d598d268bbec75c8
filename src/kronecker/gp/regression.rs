//! Gaussian processes conditioned on a grid, whole or with missing cells: means, variances, samples and likelihoods on a device.

mod likelihood;

use rayon::prelude::*;

use super::{Grid, OP, Parameters, kernel::table};
use crate::{
    Error, Result,
    error::length,
    gpu::{Gpu, Tensor},
    kronecker::{
        Basis, DiagOptions, DiagReport, Diagonal, Factor, Function, Matrix, Operator, Solution,
        Spectrum, diag_solve, masked_posterior_sample,
        matmul::{self, Options, Shape},
        posterior_sample, spectral,
    },
    random::Random,
};

pub use likelihood::Estimate;

/// What a solution took, where there was one to find: grids without missing cells need none.
pub type Report = Option<DiagReport>;

/// A Gaussian process with a product kernel, conditioned on a grid.
///
/// ```text
/// K = variance · ⊗_t K_t,  A = K + noise · I over observed cells        f | y: mean K A⁻¹ y, covariance K - K A⁻¹ K
/// ```
///
/// Values are taken less the mean of the observed ones, which is added to what comes back. Without missing cells everything follows from
/// the axes' eigenvectors; with missing cells each mean, variance and sample is a solution by conjugate gradients
/// ([`diag_solve()`](crate::kronecker::diag_solve())).
#[derive(Debug)]
pub struct Regression {
    gpu: Gpu,
    grid: Grid,
    parameters: Parameters,
    /// K_t, that of the first axis times the variance.
    factors: Vec<Matrix>,
    basis: Basis,
    /// Noise of observed cells, where some are missing.
    diagonal: Option<Diagonal>,
    observed: Vec<bool>,
    options: DiagOptions,
    /// The mean of what was observed, and what was observed less that, 0 at missing cells.
    level: f64,
    y: Tensor<f32>,
}

impl Regression {
    /// Conditions on `values`, one for every cell of the grid, of which `mask` says which are observed; without a mask all are.
    ///
    /// Cost: eigenvectors of each axis on the host, Σ n³.
    ///
    /// # Errors
    /// `Argument` when sizes do not fit together, a number is not finite or no cell is observed; `Limit` when an axis has more than 4096
    /// cells; `Numeric` when a kernel matrix has no eigenvalues; those of the device.
    pub fn new(
        gpu: &Gpu,
        grid: Grid,
        parameters: Parameters,
        values: &[f64],
        mask: Option<&[bool]>,
        options: DiagOptions,
    ) -> Result<Regression> {
        grid.check()?;
        parameters.check(grid.axes.len())?;
        length(OP, "values", values.len(), grid.len())?;
        let observed = match mask {
            None => vec![true; values.len()],
            Some(mask) => {
                length(OP, "mask", mask.len(), grid.len())?;
                mask.to_vec()
            }
        };
        let seen: Vec<f64> = values
            .iter()
            .zip(&observed)
            .filter_map(|(value, seen)| seen.then_some(*value))
            .collect();
        if seen.is_empty() || !seen.iter().all(|value| value.is_finite()) {
            return Err(Error::Argument {
                op: OP,
                what: "values".into(),
                expected: "finite at observed cells, of which there is at least one".into(),
                got: format!("{} observed cells", seen.len()),
            });
        }
        let level = seen.iter().sum::<f64>() / seen.len() as f64;
        let y: Vec<f32> = values
            .iter()
            .zip(&observed)
            .map(|(value, seen)| if *seen { (value - level) as f32 } else { 0.0 })
            .collect();
        let factors = factors(&grid, &parameters)?;
        let spectrum = Spectrum::product(&factors)?.semidefinite()?;
        let diagonal = if seen.len() == values.len() {
            None
        } else {
            let variance = |seen: &bool| {
                if *seen {
                    parameters.noise
                } else {
                    f64::INFINITY
                }
            };
            Some(Diagonal::new(
                &observed.iter().map(variance).collect::<Vec<_>>(),
            )?)
        };
        Ok(Regression {
            y: gpu.upload(&y)?,
            basis: Basis::new(gpu, spectrum)?,
            gpu: gpu.clone(),
            grid,
            parameters,
            factors,
            diagonal,
            observed,
            options,
            level,
        })
    }

    /// Which cells are observed.
    pub fn observed(&self) -> &[bool] {
        &self.observed
    }

    /// α and K α of rows of data.
    fn solved(&self, rows: usize, y: &Tensor<f32>) -> Result<(Tensor<f32>, Tensor<f32>, Report)> {
        let (mut alpha, mut mean) = (self.gpu.zeros(y.len())?, self.gpu.zeros(y.len())?);
        let noise = self.parameters.noise;
        let report = match &self.diagonal {
            None => {
                let inverse = Function::Inverse(noise);
                spectral(&self.gpu, &self.basis, &inverse, rows, y, &mut alpha)?;
                let shrink = Function::Shrink(noise);
                spectral(&self.gpu, &self.basis, &shrink, rows, y, &mut mean)?;
                None
            }
            Some(diagonal) => {
                let mut solution = Solution {
                    alpha: &mut alpha,
                    mean: &mut mean,
                };
                Some(diag_solve(
                    &self.gpu,
                    &self.basis,
                    diagonal,
                    &self.options,
                    rows,
                    y,
                    &mut solution,
                )?)
            }
        };
        Ok((alpha, mean, report))
    }

    /// The posterior mean of f at every cell.
    ///
    /// Accuracy: that of [`spectral()`](crate::kronecker::spectral()), or of `diag_solve` where cells are missing.
    ///
    /// # Errors
    /// `Numeric` when conjugate gradients do not converge; those of the device.
    pub fn mean(&self) -> Result<(Vec<f64>, Report)> {
        let (_, mean, report) = self.solved(1, &self.y)?;
        let mean = mean.download()?;
        Ok((
            mean.iter().map(|f| f64::from(*f) + self.level).collect(),
            report,
        ))
    }

    /// The posterior mean of f on another grid over the same axes: (⊗_t K_t(other, grid)) A⁻¹ y, factor by factor.
    ///
    /// # Errors
    /// As [`Regression::mean`]; `Argument` when the other grid has another number of axes.
    pub fn mean_on(&self, other: &Grid) -> Result<(Vec<f64>, Report)> {
        other.check()?;
        length(
            OP,
            "the other grid's axes",
            other.axes.len(),
            self.grid.axes.len(),
        )?;
        let (alpha, _, report) = self.solved(1, &self.y)?;
        let Parameters {
            family,
            lengths,
            variance,
            ..
        } = &self.parameters;
        let mut scale = *variance;
        let mut cross = Vec::new();
        let mut kinds = Vec::new();
        for ((own, new), length) in self.grid.axes.iter().zip(&other.axes).zip(lengths) {
            let entries = table(*family, *length, own, new);
            let entries: Vec<f32> = entries.iter().map(|[k, _]| (scale * k) as f32).collect();
            scale = 1.0;
            cross.push(self.gpu.upload(&entries)?);
            kinds.push(Factor::dense(own.len(), new.len()));
        }
        let operator = Operator::new(kinds);
        let mut mean = self.gpu.zeros::<f32>(other.len())?;
        matmul::matmul(
            &self.gpu,
            &operator,
            &Shape::rows(1),
            &Options::default(),
            &cross.iter().collect::<Vec<_>>(),
            &alpha,
            &mut mean,
        )?;
        let mean = mean.download()?;
        Ok((
            mean.iter().map(|f| f64::from(*f) + self.level).collect(),
            report,
        ))
    }

    /// The posterior variance of f at every cell of a grid without missing ones: (V ∘ V) [λ σ² / (λ + σ²)], by one product.
    ///
    /// # Errors
    /// `Unsupported` where cells are missing: then [`Regression::variance_at`] has that of chosen ones; those of the device.
    pub fn variance(&self) -> Result<Vec<f64>> {
        if self.diagonal.is_some() {
            return Err(Error::Unsupported {
                op: OP,
                what: "variances of all cells where some are missing; ask for chosen ones or for samples".into(),
            });
        }
        let spectrum = self.basis.spectrum();
        let noise = self.parameters.noise;
        let values: Vec<f32> = spectrum
            .eigenvalues()
            .map(|lambda| (lambda * noise / (lambda + noise)) as f32)
            .collect();
        let axes = spectrum.axes();
        let squares: Vec<Tensor<f32>> = axes
            .iter()
            .map(|axis| {
                let entries = axis.vectors().entries.iter();
                self.gpu
                    .upload(&entries.map(|v| (v * v) as f32).collect::<Vec<_>>())
            })
            .collect::<Result<_>>()?;
        let operator = Operator::new(axes.iter().map(|axis| {
            let n = axis.side();
            Factor::dense(n, n).transpose()
        }));
        let mut variance = self.gpu.zeros::<f32>(values.len())?;
        matmul::matmul(
            &self.gpu,
            &operator,
            &Shape::rows(1),
            &Options::default(),
            &squares.iter().collect::<Vec<_>>(),
            &self.gpu.upload(&values)?,
            &mut variance,
        )?;
        Ok(variance.download()?.into_iter().map(f64::from).collect())
    }

    /// The posterior variance of f at chosen cells, k(x, x) - k_xᵀ A⁻¹ k_x: a cell is a row of data, k_x, whose posterior mean at the cell
    /// is what the observations take away.
    ///
    /// Accuracy: ten times the tolerance of the options, relative to the prior variance; exact in what the method says.
    ///
    /// # Errors
    /// As [`Regression::mean`]; `Argument` when a cell is not one of the grid.
    pub fn variance_at(&self, cells: &[usize]) -> Result<(Vec<f64>, Report)> {
        let len = self.grid.len();
        if let Some(beyond) = cells.iter().find(|cell| **cell >= len) {
            return Err(Error::Argument {
                op: OP,
                what: "cells".into(),
                expected: format!("less than {len}"),
                got: beyond.to_string(),
            });
        }
        let row = |cell: &usize| -> Vec<f32> {
            let mut row = vec![1.0];
            for (place, factor) in self.grid.places(*cell).into_iter().zip(&self.factors) {
                let column: Vec<f64> = (0..factor.rows).map(|i| factor.at(i, place)).collect();
                row = row
                    .iter()
                    .flat_map(|a| column.iter().map(move |b| a * b))
                    .collect();
            }
            let each = row.iter().zip(&self.observed);
            each.map(|(k, seen)| if *seen { *k as f32 } else { 0.0 })
                .collect()
        };
        let rows: Vec<f32> = cells.par_iter().flat_map_iter(row).collect();
        let (_, mean, report) = self.solved(cells.len(), &self.gpu.upload(&rows)?)?;
        let mean = mean.download()?;
        let taken = cells.iter().zip(mean.chunks_exact(len));
        let variance = self.parameters.variance;
        let left = taken.map(|(cell, row)| {
            let own = row.get(*cell).copied().map_or(0.0, f64::from);
            (variance - own).max(0.0)
        });
        Ok((left.collect(), report))
    }

    /// Samples of f given the observations, one after another, with numbers of a stream. With missing cells by Matheron's rule.
    ///
    /// # Errors
    /// As [`Regression::mean`].
    pub fn samples(&self, count: usize, random: &Random) -> Result<(Vec<Vec<f64>>, Report)> {
        let len = self.grid.len();
        let one = self.y.download()?;
        let rows: Vec<f32> = (0..count).flat_map(|_| one.iter().copied()).collect();
        let y = self.gpu.upload(&rows)?;
        let mut out = self.gpu.zeros::<f32>(rows.len())?;
        let (gpu, basis) = (&self.gpu, &self.basis);
        let report = match &self.diagonal {
            None => {
                let noise = self.parameters.noise;
                posterior_sample(gpu, basis, noise, random, count, &y, &mut out)?;
                None
            }
            Some(diagonal) => Some(masked_posterior_sample(
                gpu,
                basis,
                diagonal,
                &self.options,
                random,
                count,
                &y,
                &mut out,
            )?),
        };
        let out = out.download()?;
        let rows = out.chunks_exact(len);
        let sample = |row: &[f32]| row.iter().map(|f| f64::from(*f) + self.level).collect();
        Ok((rows.map(sample).collect(), report))
    }
}

/// K_t of every axis, that of the first times the variance.
pub(super) fn factors(grid: &Grid, parameters: &Parameters) -> Result<Vec<Matrix>> {
    let mut scale = parameters.variance;
    let mut factors = Vec::new();
    for (axis, length) in grid.axes.iter().zip(&parameters.lengths) {
        let entries = table(parameters.family, *length, axis, axis);
        let entries = entries.iter().map(|[k, _]| scale * k).collect();
        scale = 1.0;
        factors.push(Matrix::new(axis.len(), axis.len(), entries)?);
    }
    Ok(factors)
}
