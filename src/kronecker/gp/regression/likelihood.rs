//! The log marginal likelihood and its slopes.

use super::Regression;
use crate::{
    Result,
    gpu::Tensor,
    kronecker::{
        Factor, LogdetOptions, Operator,
        gp::{Likelihood, Parameters, kernel::table},
        matmul::{self, Options, Shape},
        observed_logdet, quadratic,
    },
    random::Random,
};

/// An estimate of a log marginal likelihood.
#[derive(Clone, Debug, PartialEq)]
pub struct Estimate {
    /// log p(y) and its slopes in [`Parameters::logs`].
    pub likelihood: Likelihood,
    /// Standard error of the value that random probes leave: 0 on a whole grid, where there are none.
    pub standard_error: f64,
    /// The same of each slope.
    pub slope_errors: Vec<f64>,
}

impl Regression {
    /// Σ over everything but axis t of a ⊗ (K of the others) b, for every axis: what a slope in K_t sees of α and of probes.
    fn factor_sums(&self, a: &Tensor<f32>, b: &Tensor<f32>) -> Result<Vec<Vec<f64>>> {
        let gpu = &self.gpu;
        let tensors: Vec<Tensor<f32>> = self
            .factors
            .iter()
            .map(|factor| gpu.upload(&factor.rounded()))
            .collect::<Result<_>>()?;
        let operator = Operator::new(self.factors.iter().map(|f| Factor::dense(f.rows, f.rows)));
        let mut grads: Vec<Tensor<f32>> = tensors
            .iter()
            .map(|tensor| gpu.zeros(tensor.len()))
            .collect::<Result<_>>()?;
        matmul::gradients(
            gpu,
            &operator,
            &Shape::rows(1),
            &Options::default(),
            &tensors.iter().collect::<Vec<_>>(),
            a,
            b,
            &mut gpu.zeros(a.len())?,
            &mut grads.iter_mut().collect::<Vec<_>>(),
        )?;
        let wide = |grad: &Tensor<f32>| Ok(grad.download()?.into_iter().map(f64::from).collect());
        grads.iter().map(wide).collect()
    }

    /// log p(y) = -½ yᵀ A⁻¹ y - ½ log det A - (n/2) log 2π over the n observed cells, and its slopes.
    ///
    /// ```text
    /// slope in θ of K_t: ½ ⟨αᵀ(·)α - tr A⁻¹(·), dK_t/dθ⟩        α = A⁻¹ y
    /// ```
    ///
    /// On a whole grid both terms of traces come from eigenvalues in f64. With missing cells the determinant is estimated by
    /// [`observed_logdet`](crate::kronecker::observed_logdet) and the traces by as many random signs z, zᵀ A⁻¹ (·) z: unbiased, with a
    /// solution each.
    ///
    /// # Errors
    /// As [`Regression::mean`].
    pub fn likelihood(&self, probes: &LogdetOptions) -> Result<Estimate> {
        let Parameters { noise, .. } = self.parameters;
        let (alpha, _, _) = self.solved(1, &self.y)?;
        let own = alpha.download()?;
        let mut slopes = self.pulled(&self.factor_sums(&alpha, &alpha)?, dot(&own, &own));
        let count = self.observed.iter().filter(|seen| **seen).count() as f64;
        let mut slope_errors = vec![0.0; slopes.len()];
        let (form, log_det, standard_error) = match &self.diagonal {
            None => {
                let spectrum = self.basis.spectrum();
                let gradient = spectrum.logdet_gradient(noise)?;
                let traces: Vec<Vec<f64>> = gradient
                    .factors
                    .into_iter()
                    .map(|own| own.entries)
                    .collect();
                subtract(&mut slopes, &self.pulled(&traces, gradient.noise), 1.0);
                let form = quadratic(&self.gpu, &self.basis, noise, 1, &self.y)?;
                (
                    form.first().copied().unwrap_or(0.0),
                    spectrum.logdet(noise)?,
                    0.0,
                )
            }
            Some(diagonal) => {
                let estimate = observed_logdet(self.basis.spectrum(), diagonal, probes)?;
                let traces = self.traces(probes)?;
                let share = 1.0 / traces.len() as f64;
                let mut mean = vec![0.0; slopes.len()];
                traces
                    .iter()
                    .for_each(|trace| subtract(&mut mean, trace, -share));
                for trace in &traces {
                    for ((error, own), mean) in slope_errors.iter_mut().zip(trace).zip(&mean) {
                        *error += (own - mean).powi(2);
                    }
                }
                let errors = slope_errors.iter_mut();
                errors.for_each(|sum| *sum = (*sum * share / (traces.len() - 1) as f64).sqrt());
                subtract(&mut slopes, &mean, 1.0);
                let form = dot(&own, &self.y.download()?);
                (form, estimate.value, 0.5 * estimate.standard_error)
            }
        };
        let constant = count * (2.0 * std::f64::consts::PI).ln();
        Ok(Estimate {
            likelihood: Likelihood {
                value: -0.5 * (form + log_det + constant),
                slopes,
            },
            standard_error,
            slope_errors,
        })
    }

    /// ½ zᵀ A⁻¹ A' z for random signs z at observed cells and every slope: one list a probe.
    fn traces(&self, probes: &LogdetOptions) -> Result<Vec<Vec<f64>>> {
        let random = Random::new(probes.seed).fork(1);
        let len = self.grid.len();
        let probe = |probe: usize| {
            let sign = |(cell, seen): (usize, &bool)| match seen {
                true => random.sign((probe * len + cell) as u64) as f32,
                false => 0.0,
            };
            let signs: Vec<f32> = self.observed.iter().enumerate().map(sign).collect();
            let z = self.gpu.upload(&signs)?;
            let (solved, _, _) = self.solved(1, &z)?;
            let sums = self.factor_sums(&solved, &z)?;
            Ok(self.pulled(&sums, dot(&solved.download()?, &signs)))
        };
        (0..probes.probes).map(probe).collect()
    }

    /// ½ ⟨sums, dK_t/dθ⟩ for every slope, and ½ σ² times the last sum for that in the noise.
    fn pulled(&self, sums: &[Vec<f64>], noise: f64) -> Vec<f64> {
        let Parameters {
            family,
            lengths,
            variance,
            ..
        } = &self.parameters;
        let mut scale = *variance;
        let mut slopes = Vec::new();
        for ((axis, length), sum) in self.grid.axes.iter().zip(lengths).zip(sums) {
            let entries = table(*family, *length, axis, axis);
            slopes.push(0.5 * inner(sum, entries.iter().map(|[_, slope]| scale * slope)));
            scale = 1.0;
        }
        let first = sums.iter().zip(&self.factors).next();
        slopes.push(first.map_or(0.0, |(sum, factor)| {
            0.5 * inner(sum, factor.entries.iter().copied())
        }));
        slopes.push(0.5 * self.parameters.noise * noise);
        slopes
    }
}

/// ⟨a, b⟩ in f64.
fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter()
        .zip(b)
        .map(|(a, b)| f64::from(*a) * f64::from(*b))
        .sum()
}

/// Σ_ij a_ij b_ij.
fn inner(a: &[f64], b: impl Iterator<Item = f64>) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// a ← a - by · b.
fn subtract(a: &mut [f64], b: &[f64], by: f64) {
    for (a, b) in a.iter_mut().zip(b) {
        *a -= by * b;
    }
}
