//! Product kernels on grids: one stationary kernel for each axis, a variance and a noise.

use crate::{Error, Result};

use super::OP;

/// A stationary kernel k(r), r = |x - x'| / ℓ, with k(0) = 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// e^(-r²/2): analytic functions.
    Rbf,
    /// (1 + √3 r) e^(-√3 r): functions with one derivative.
    Matern32,
    /// (1 + √5 r + 5 r²/3) e^(-√5 r): functions with two derivatives.
    Matern52,
}

impl Family {
    /// k(r) and its slope in log ℓ, which is -r k'(r).
    pub fn at(self, r: f64) -> [f64; 2] {
        match self {
            Family::Rbf => {
                let k = (-0.5 * r * r).exp();
                [k, r * r * k]
            }
            Family::Matern32 => {
                let u = 3f64.sqrt() * r;
                let e = (-u).exp();
                [(1.0 + u) * e, u * u * e]
            }
            Family::Matern52 => {
                let u = 5f64.sqrt() * r;
                let e = (-u).exp();
                [(1.0 + u + u * u / 3.0) * e, u * u / 3.0 * (1.0 + u) * e]
            }
        }
    }
}

/// cov(f(x), f(x')) = variance · Π_t k(|x_t - x'_t| / ℓ_t), and y = f + noise.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameters {
    /// The kernel of every axis.
    pub family: Family,
    /// ℓ of each axis, in its coordinates' unit.
    pub lengths: Vec<f64>,
    /// The variance of f, in the square of the values' unit.
    pub variance: f64,
    /// The variance of the noise of a cell, likewise.
    pub noise: f64,
}

impl Parameters {
    pub(super) fn check(&self, axes: usize) -> Result<()> {
        if self.lengths.len() != axes {
            return Err(Error::Argument {
                op: OP,
                what: "lengths".into(),
                expected: format!("one for each of {axes} axes"),
                got: self.lengths.len().to_string(),
            });
        }
        let all = self.logs();
        if let Some(at) = all.iter().position(|log| !log.is_finite()) {
            let value = all.get(at).map_or(0.0, |log| log.exp());
            let what = match at.checked_sub(axes) {
                None => format!("length {at}"),
                Some(0) => "variance".into(),
                Some(_) => "noise".into(),
            };
            return Err(Error::Argument {
                op: OP,
                what,
                expected: "positive and finite".into(),
                got: value.to_string(),
            });
        }
        Ok(())
    }

    /// Logarithms of the lengths, of the variance and of the noise: what learning moves.
    pub fn logs(&self) -> Vec<f64> {
        let rest = [self.variance, self.noise];
        self.lengths.iter().chain(&rest).map(|x| x.ln()).collect()
    }

    /// The same kernels with these logarithms.
    pub fn with_logs(&self, logs: &[f64]) -> Parameters {
        let mut values = logs.iter().map(|log| log.exp());
        Parameters {
            family: self.family,
            lengths: values.by_ref().take(self.lengths.len()).collect(),
            variance: values.next().unwrap_or(self.variance),
            noise: values.next().unwrap_or(self.noise),
        }
    }
}

/// Cells at the crossings of coordinates, the last axis fastest.
#[derive(Clone, Debug, PartialEq)]
pub struct Grid {
    /// The coordinates of each axis; ascending order and equal steps are not asked for.
    pub axes: Vec<Vec<f64>>,
}

impl Grid {
    /// Coordinates 0, 1, 2, … along axes of so many cells.
    pub fn cells(sizes: &[usize]) -> Grid {
        let axis = |n: &usize| (0..*n).map(|i| i as f64).collect();
        Grid {
            axes: sizes.iter().map(axis).collect(),
        }
    }

    /// Cells in all.
    #[allow(
        clippy::len_without_is_empty,
        reason = "a grid has at least one cell, nobody asks"
    )]
    pub fn len(&self) -> usize {
        self.axes.iter().map(Vec::len).product()
    }

    pub(super) fn check(&self) -> Result<()> {
        let fault = if self.axes.is_empty() || self.axes.iter().any(Vec::is_empty) {
            "an axis without coordinates"
        } else if !self.axes.iter().flatten().all(|x| x.is_finite()) {
            "one that is not"
        } else {
            return Ok(());
        };
        Err(Error::Argument {
            op: OP,
            what: "grid".into(),
            expected: "axes of at least one finite coordinate".into(),
            got: fault.into(),
        })
    }

    /// The places of a cell along the axes.
    pub fn places(&self, cell: usize) -> Vec<usize> {
        let mut rest = cell;
        let mut places: Vec<usize> = (self.axes.iter().rev())
            .map(|axis| {
                let place = rest % axis.len().max(1);
                rest /= axis.len().max(1);
                place
            })
            .collect();
        places.reverse();
        places
    }
}

/// k and its slope in log ℓ between all pairs of two sets of coordinates, row by row.
pub(super) fn table(family: Family, length: f64, rows: &[f64], columns: &[f64]) -> Vec<[f64; 2]> {
    let row = |a: &f64| {
        let a = *a;
        columns
            .iter()
            .map(move |b| family.at((a - b).abs() / length))
    };
    rows.iter().flat_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slopes_in_the_length_are_slopes() {
        let h = 1e-6;
        for family in [Family::Rbf, Family::Matern32, Family::Matern52] {
            for d in [0.0, 0.2, 1.0, 2.5] {
                let value = |log: f64| family.at(d / log.exp())[0];
                let slope = (value(0.3 + h) - value(0.3 - h)) / (2.0 * h);
                let found = family.at(d / 0.3f64.exp())[1];
                assert!(
                    (slope - found).abs() < 1e-8,
                    "{family:?} {d}: {slope} {found}"
                );
            }
        }
    }
}
