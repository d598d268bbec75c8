//! Numbers that all eigenvalues make together: sums of as many terms as the whole has rows, on the host in f64.

use super::{Combine, Grid, OP, Scale, Spectrum, pairwise};
use crate::{
    Error, Result,
    kronecker::matrix::{Matrix, Mode, multiply},
};

/// d logdet(A + c C) by the factors and by c.
#[derive(Clone, Debug, PartialEq)]
pub struct LogdetGradient {
    /// By each factor A_i, symmetric.
    pub factors: Vec<Matrix>,
    /// By c.
    pub noise: f64,
}

impl Spectrum {
    /// log det(A + c C), with no eigenvalue clamped: -inf where one of A + c C is 0.
    ///
    /// ```text
    /// Σ log(λ + c) + Σ_i (N / n_i) log det C_i        for c = 0 and a product Σ_i (N / n_i) Σ log λ_i
    /// ```
    ///
    /// Accuracy: 1e-9 a row, absolute, and 1e-12 relative, to the determinant of the factors given.
    ///
    /// # Errors
    /// `Numeric` when an eigenvalue is negative: then [`Spectrum::slogdet`] has the sign and the logarithm of the absolute value.
    /// `Argument` when c is not finite.
    pub fn logdet(&self, c: f64) -> Result<f64> {
        finite(c)?;
        let lowest = self.least_shifted(c);
        if lowest < 0.0 {
            return Err(Error::Numeric {
                op: OP,
                what: format!(
                    "an eigenvalue of the whole is {lowest:.3e}, so that its determinant has no real logarithm; use `slogdet`"
                ),
            });
        }
        self.slogdet(c).map(|(_, log)| log)
    }

    /// The sign of det(A + c C), 0 where it is singular, and the logarithm of its absolute value.
    ///
    /// # Errors
    /// `Argument` when c is not finite.
    pub fn slogdet(&self, c: f64) -> Result<(i8, f64)> {
        finite(c)?;
        let metric = self.metric_logdet();
        if c == 0.0 && self.combine == Combine::Product {
            let (mut sign, mut log) = (1i8, 0.0);
            for axis in self.axes() {
                let others = self.len() / axis.side();
                let zero = axis.values().contains(&0.0);
                let negative = axis.values().iter().filter(|x| **x < 0.0).count();
                if zero {
                    return Ok((0, f64::NEG_INFINITY));
                }
                if negative % 2 == 1 && others % 2 == 1 {
                    sign = -sign;
                }
                let logs: Vec<f64> = axis.values().iter().map(|x| x.abs().ln()).collect();
                log += others as f64 * pairwise(&logs);
            }
            return Ok((sign, log + metric));
        }
        let shifted = self.shifted(c);
        let [least, _] = self.grid().extremes(|x| shifted.at(x));
        if least == 0.0 {
            return Ok((0, f64::NEG_INFINITY));
        }
        let negative = (self.grid()).sum(|x| f64::from(u8::from(shifted.at(x) < 0.0)));
        let logs = self.grid().sum(|x| shifted.at(x).abs().ln());
        let sign = if negative % 2.0 == 1.0 { -1 } else { 1 };
        let units = self.len() as f64 * shifted.unit.ln();
        Ok((sign, logs + units + metric))
    }

    fn metric_logdet(&self) -> f64 {
        let each = self.axes().iter().filter_map(|axis| {
            let others = (self.len() / axis.side()) as f64;
            Some(others * axis.metric.as_ref()?.logdet)
        });
        each.sum()
    }

    /// The least λ̂.
    pub(super) fn lowest(&self) -> f64 {
        let ends = |table: &[f64]| {
            let each = table.iter().copied();
            [
                each.clone().fold(f64::INFINITY, f64::min),
                each.fold(f64::NEG_INFINITY, f64::max),
            ]
        };
        let Grid { tables, combine } = self.grid();
        let mut range = [combine.neutral(); 2];
        for table in tables {
            let own = ends(table);
            let all = range
                .iter()
                .flat_map(|a| own.iter().map(|b| combine.of(*a, *b)))
                .collect::<Vec<_>>();
            range = ends(&all);
        }
        range[0]
    }

    /// The least λ + c.
    pub(crate) fn least_shifted(&self, c: f64) -> f64 {
        let shifted = self.shifted(c);
        let lowest = Scale::of(shifted.at(self.lowest()));
        lowest.times(shifted.unit).value()
    }

    /// ‖V‖² / min |λ + c|: how much rounding of Vᵀ b grows on the way to (A + c C)⁻¹ b.
    pub(crate) fn amplification(&self, c: f64) -> f64 {
        self.metric_spread() / self.extremes(c)[0]
    }

    /// ‖V‖²: 1 without metrics.
    pub(crate) fn metric_spread(&self) -> f64 {
        let metrics = self.axes().iter().filter_map(|axis| axis.metric.as_ref());
        metrics.map(|metric| 1.0 / metric.spread[0]).product()
    }

    /// The least and the largest |λ + c| but for those that are 0.
    pub(crate) fn nonzero_extremes(&self, c: f64) -> [f64; 2] {
        let shifted = self.shifted(c);
        let at = |x: f64| match shifted.at(x) {
            0.0 => f64::NAN,
            y => y,
        };
        // `f64::min` and `f64::max` pass NaN over.
        let both = self.grid().extremes(at);
        both.map(|x| Scale::of(x).times(shifted.unit).value())
    }

    /// The condition number of V: 1 without metrics.
    pub(crate) fn metric_condition(&self) -> f64 {
        let metrics = self.axes().iter().filter_map(|axis| axis.metric.as_ref());
        let each = metrics.map(|metric| (metric.spread[1] / metric.spread[0]).sqrt());
        each.product()
    }

    /// ‖A + c C‖₂, or with metrics the larger of ‖A‖₂ and |c| ‖C‖₂, which is at most that for semidefinite factors.
    pub(crate) fn norm(&self, c: f64) -> f64 {
        let own = |axis: &super::Axis| match &axis.metric {
            Some(metric) => [metric.norm, metric.spread[1]],
            None => [super::largest(axis.values()), 1.0],
        };
        if self.axes().iter().all(|axis| axis.metric.is_none()) {
            return self.extremes(c)[1];
        }
        let norms: Vec<[f64; 2]> = self.axes().iter().map(own).collect();
        let metrics: f64 = norms.iter().map(|norm| norm[1]).product();
        let factors = match self.combine {
            Combine::Product => norms.iter().map(|norm| norm[0]).product(),
            Combine::Sum => norms
                .iter()
                .map(|norm| norm[0] / norm[1] * metrics)
                .fold(0.0, f64::max),
        };
        f64::max(factors, c.abs() * metrics)
    }

    /// The least and the largest |λ + c|.
    pub fn extremes(&self, c: f64) -> [f64; 2] {
        let shifted = self.shifted(c);
        let both = self.grid().extremes(|x| shifted.at(x));
        both.map(|x| Scale::of(x).times(shifted.unit).value())
    }

    /// Largest over least |λ + c|: the condition number of A + c I. Infinite where that is singular.
    pub fn condition(&self, c: f64) -> f64 {
        let shifted = self.shifted(c);
        let [least, most] = self.grid().extremes(|x| shifted.at(x));
        most / least
    }

    /// tr (A + c C)⁻¹ C = Σ 1 / (λ + c), which is the derivative of the logarithm of the determinant by c.
    ///
    /// # Errors
    /// `Numeric` when A + c C is singular; `Argument` when c is not finite.
    pub fn inverse_trace(&self, c: f64) -> Result<f64> {
        finite(c)?;
        let shifted = self.shifted(c);
        let [least, _] = self.grid().extremes(|x| shifted.at(x));
        if least == 0.0 {
            return Err(singular());
        }
        let sum = self.grid().sum(|x| 1.0 / shifted.at(x));
        Ok(Scale::of(sum).over(shifted.unit))
    }

    /// Gradients of log det(⊗A_i + c I) by the factors and by c.
    ///
    /// ```text
    /// dA_t = V_t diag(c_t) V_tᵀ,  c_t[a] = Σ over the others of Π_{j≠t} λ_j / (λ + c)        dc = Σ 1 / (λ + c)
    /// ```
    ///
    /// # Errors
    /// `Unsupported` for sums; `Numeric` when the whole is singular; `Argument` when c is not finite.
    pub fn logdet_gradient(&self, c: f64) -> Result<LogdetGradient> {
        let noise = self.inverse_trace(c)?;
        if self.combine == Combine::Sum {
            return Err(Error::Unsupported {
                op: OP,
                what: "gradients of the determinant of a Kronecker sum".into(),
            });
        }
        let factors = (0..self.axes().len()).map(|t| {
            let others = self.axes().iter().enumerate().filter(|(j, _)| *j != t);
            let values: Vec<&[f64]> = others.map(|(_, axis)| axis.values()).collect();
            let own = self.axes().get(t).ok_or_else(singular)?;
            Ok(own.gradient(&values, c))
        });
        let factors = factors.collect::<Result<Vec<Matrix>>>()?;
        Ok(LogdetGradient { factors, noise })
    }
}

impl super::Axis {
    /// V diag(c) Vᵀ of [`Spectrum::logdet_gradient`].
    fn gradient(&self, others: &[&[f64]], c: f64) -> Matrix {
        let scaled: Vec<Vec<f64>> = (others.iter())
            .map(|values| {
                let most = super::largest(values);
                let over = |x: &f64| if *x == 0.0 { 0.0 } else { x / most };
                values.iter().map(over).collect()
            })
            .collect();
        let rest = (others.iter())
            .map(|values| Scale::of(super::largest(values)))
            .fold(Scale::ONE, Scale::times);
        let grid = Grid::new(Combine::Product, scaled.iter().map(Vec::as_slice));
        let coefficients = self.values.iter().map(|own| {
            // μ / (own μ + c) with μ = rest · μ̂: in units of rest, 1 / (own + c / μ).
            let shifted = super::Shifted::new(rest.times(Scale::of(*own)), c);
            let sum = grid.sum(|x| x / shifted.at(x));
            Scale::of(sum).times(rest).over(shifted.unit)
        });
        let coefficients: Vec<f64> = coefficients.collect();
        let vectors = &self.vectors;
        let scaled = Matrix::of(vectors.rows, vectors.columns, |i, j| {
            coefficients.get(j).copied().unwrap_or(0.0) * vectors.at(i, j)
        });
        let mode = Mode {
            matrix: vectors,
            transposed: true,
        };
        Matrix {
            entries: multiply(vectors.rows, &scaled.entries, &[mode]),
            ..scaled
        }
    }
}

fn singular() -> Error {
    Error::Numeric {
        op: OP,
        what: "an eigenvalue plus the shift is 0: the whole is singular".into(),
    }
}

pub(super) fn finite(c: f64) -> Result<()> {
    if c.is_finite() {
        return Ok(());
    }
    Err(Error::Argument {
        op: OP,
        what: "shift".into(),
        expected: "a finite number".into(),
        got: c.to_string(),
    })
}
