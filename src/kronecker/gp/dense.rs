//! Gaussian processes on a few cells, exactly: Cholesky factors of the cells' own covariance in f64 on the host.
//!
//! It is the reference for what is computed on whole grids, and the objective of learning from blocks of cells.

use faer::{
    Col, Mat, Side,
    linalg::solvers::{Llt, Solve},
};

use super::{Grid, OP, Parameters, kernel::table};
use crate::{Error, Result};

/// Observed cells and what they said, less the mean.
#[derive(Clone, Debug, PartialEq)]
pub struct Cells {
    places: Vec<Vec<usize>>,
    values: Vec<f64>,
    /// The coordinates that occur, of each axis: `places` count in these.
    axes: Vec<Vec<f64>>,
}

/// The mean of what is observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trend {
    /// 0: values come without their mean.
    Zero,
    /// A constant that is not known.
    Unknown,
}

/// A value and its slopes in the logarithms of the parameters.
#[derive(Clone, Debug, PartialEq)]
pub struct Likelihood {
    /// log p(y).
    pub value: f64,
    /// Its slopes in [`Parameters::logs`].
    pub slopes: Vec<f64>,
}

impl Cells {
    /// These cells of a grid and their values.
    pub fn new(grid: &Grid, cells: &[usize], values: &[f64]) -> Cells {
        let places: Vec<Vec<usize>> = cells.iter().map(|cell| grid.places(*cell)).collect();
        // Only coordinates that occur have entries in the tables.
        let mut used: Vec<Vec<usize>> = vec![Vec::new(); grid.axes.len()];
        for place in &places {
            for (used, at) in used.iter_mut().zip(place) {
                used.push(*at);
            }
        }
        for used in &mut used {
            used.sort_unstable();
            used.dedup();
        }
        let renumbered = |place: &Vec<usize>| {
            let each = place.iter().zip(&used);
            each.map(|(at, used)| used.binary_search(at).unwrap_or(0))
                .collect()
        };
        let axes = used.iter().zip(&grid.axes).map(|(used, axis)| {
            used.iter()
                .filter_map(|at| axis.get(*at).copied())
                .collect()
        });
        Cells {
            places: places.iter().map(renumbered).collect(),
            axes: axes.collect(),
            values: values.to_vec(),
        }
    }

    /// How many they are.
    #[allow(clippy::len_without_is_empty, reason = "nobody asks")]
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// k and its slope of each axis, between all pairs of that axis's coordinates.
    fn tables(&self, parameters: &Parameters) -> Vec<(usize, Vec<[f64; 2]>)> {
        let each = self.axes.iter().zip(&parameters.lengths);
        each.map(|(axis, length)| (axis.len(), table(parameters.family, *length, axis, axis)))
            .collect()
    }

    fn factor(&self, parameters: &Parameters) -> Result<(Mat<f64>, Llt<f64>)> {
        let tables = self.tables(parameters);
        let n = self.len();
        let mut kernel = Mat::zeros(n, n);
        for (j, b) in self.places.iter().enumerate() {
            for (i, a) in self.places.iter().enumerate().skip(j) {
                let product: f64 = entries(&tables, a, b).map(|[k, _]| k).product();
                kernel[(i, j)] = parameters.variance * product;
                kernel[(j, i)] = kernel[(i, j)];
            }
        }
        let mut noisy = kernel.clone();
        for i in 0..n {
            noisy[(i, i)] += parameters.noise;
        }
        let factor = noisy.llt(Side::Lower).map_err(|_| Error::Numeric {
            op: OP,
            what: "the covariance of the cells is not positive definite; raise the noise".into(),
        })?;
        Ok((kernel, factor))
    }

    /// log p(y) = -½ yᵀ A⁻¹ y - ½ log det A - (n/2) log 2π, A = K + σ² I, with its slopes ½ (αᵀ A' α - tr A⁻¹ A'), α = A⁻¹ y.
    ///
    /// With an unknown mean, P = A⁻¹ - A⁻¹ 1 1ᵀ A⁻¹ / 1ᵀ A⁻¹ 1 takes the place of A⁻¹, log det A + log 1ᵀ A⁻¹ 1 that of log det A and
    /// n - 1 that of n: the restricted likelihood, that of differences between cells.
    ///
    /// # Errors
    /// `Argument` when parameters do not fit the grid; `Numeric` when A is not positive definite in f64.
    pub fn likelihood(&self, parameters: &Parameters, trend: Trend) -> Result<Likelihood> {
        parameters.check(self.axes.len())?;
        let (kernel, factor) = self.factor(parameters)?;
        let n = self.len();
        let y = Col::from_fn(n, |i| self.values.get(i).copied().unwrap_or(0.0));
        let mut alpha = factor.solve(&y);
        let mut log_det: f64 = (0..n).map(|i| 2.0 * factor.L()[(i, i)].ln()).sum();
        let mut inverse = factor.solve(Mat::<f64>::identity(n, n));
        if trend == Trend::Unknown {
            let beta = factor.solve(Col::<f64>::ones(n));
            let total = beta.sum();
            let fit = beta.transpose() * &y;
            alpha -= (fit / total) * &beta;
            inverse -= (1.0 / total) * (&beta * beta.transpose());
            log_det += total.ln();
        }
        let tables = self.tables(parameters);
        let axes = self.axes.len();
        let mut slopes = vec![0.0; axes + 2];
        for (j, b) in self.places.iter().enumerate() {
            for (i, a) in self.places.iter().enumerate().skip(j) {
                // Half of ½ (α αᵀ - A⁻¹) for entries of the diagonal, which are met once.
                let half = if i == j { 0.5 } else { 1.0 };
                let weight = half * (alpha[i] * alpha[j] - inverse[(i, j)]);
                let value = weight * kernel[(i, j)];
                for (slope, [k, dk]) in slopes.iter_mut().zip(entries(&tables, a, b)) {
                    if dk != 0.0 {
                        *slope += value * (dk / k);
                    }
                }
                if let Some(slope) = slopes.get_mut(axes) {
                    *slope += value;
                }
                if i == j
                    && let Some(slope) = slopes.get_mut(axes + 1)
                {
                    *slope += weight * parameters.noise;
                }
            }
        }
        let fit: f64 = y.transpose() * &alpha;
        let free = match trend {
            Trend::Zero => n,
            Trend::Unknown => n - 1,
        };
        let constant = free as f64 * (2.0 * std::f64::consts::PI).ln();
        Ok(Likelihood {
            value: -0.5 * (fit + log_det + constant),
            slopes,
        })
    }

    /// The posterior mean of f and its variance at other points of the grid's plane, each with a coordinate for every axis.
    ///
    /// # Errors
    /// As [`Cells::likelihood`].
    pub fn predict(&self, parameters: &Parameters, at: &[Vec<f64>]) -> Result<Vec<[f64; 2]>> {
        parameters.check(self.axes.len())?;
        let (_, factor) = self.factor(parameters)?;
        let n = self.len();
        let y = Col::from_fn(n, |i| self.values.get(i).copied().unwrap_or(0.0));
        let alpha = factor.solve(&y);
        let Parameters {
            family,
            lengths,
            variance,
            ..
        } = parameters;
        let cross = |i: usize, point: &Vec<f64>| -> f64 {
            let place = self.places.get(i).into_iter().flatten();
            let axes = place.zip(&self.axes).zip(point).zip(lengths);
            let each = axes.map(|(((at, axis), x), length)| {
                let own = axis.get(*at).copied().unwrap_or(0.0);
                family.at((x - own).abs() / length)[0]
            });
            variance * each.product::<f64>()
        };
        let mut half = Mat::from_fn(n, at.len(), |i, j| at.get(j).map_or(0.0, |at| cross(i, at)));
        let means = half.transpose() * alpha;
        factor.L().solve_lower_triangular_in_place(&mut half);
        let rows = means.iter().zip(half.col_iter());
        Ok(rows
            .map(|(mean, column)| [*mean, variance - column.squared_norm_l2()])
            .collect())
    }
}

/// Entries of the axes' tables for two cells.
fn entries<'a>(
    tables: &'a [(usize, Vec<[f64; 2]>)],
    a: &'a [usize],
    b: &'a [usize],
) -> impl Iterator<Item = [f64; 2]> + 'a {
    let each = tables.iter().zip(a).zip(b);
    each.map(|(((side, table), a), b)| table.get(a * side + b).copied().unwrap_or_default())
}
