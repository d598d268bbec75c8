//! Collocation on a line: everything is factor-sized and dense, in f64 on the host.

use faer::{
    Col, Mat,
    linalg::solvers::{Llt, Solve},
};

use super::{
    Axis, Equation, Mixture, OP, Options,
    axis::{Order, cholesky, solved},
    learn::{Judged, Precisions},
};
use crate::{Error, Result, error::length};

/// u'' + c(u) = f on an axis, with u given at both ends.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Where.
    pub axis: Axis,
    /// What c is; [`Equation::Advection`] needs a plane.
    pub equation: Equation,
    /// f at every point.
    pub source: Vec<f64>,
    /// u at the ends.
    pub boundary: [f64; 2],
}

impl Line {
    pub(super) fn check(&self) -> Result<()> {
        self.axis.check()?;
        if let Equation::Advection { .. } = self.equation {
            return Err(Error::Unsupported {
                op: OP,
                what: "advection on a line; space and time are the two axes of a plane".into(),
            });
        }
        length(OP, "source", self.source.len(), self.axis.points)
    }
}

/// The solution for given kernel parameters: U at the points, and what prediction and learning need.
pub(super) struct Solution {
    factor: Llt<f64>,
    derivative: Mat<f64>,
    /// U and K⁻¹ U.
    pub u: Col<f64>,
    pub alpha: Col<f64>,
    residual: Col<f64>,
}

/// Minimises the objective over U; equations with a nonlinear c are linearised around `near`, as often as `turns` says.
pub(super) fn solve(
    line: &Line,
    mixture: &Mixture,
    precisions: Precisions,
    options: &Options,
    near: Option<&Col<f64>>,
) -> Result<Solution> {
    let n = line.axis.points;
    let [kernel, derivative] = line.axis.matrices(mixture, Order::Second);
    let factor = cholesky(&kernel, "the kernel matrix")?;
    let ends = [0, n - 1];
    let lower = factor.L().to_owned();
    // (K_xx L⁻ᵀ)ᵀ = L⁻¹ K_xx, as K_xx is symmetric.
    let curvature = solved(&factor, &derivative);
    let bound = options.boundary_weight * precisions.boundary;
    let v = precisions.equation;
    let mut u = near.cloned().unwrap_or_else(|| Col::zeros(n));
    let turns = if line.equation == Equation::Poisson {
        1
    } else {
        options.newton_turns
    };
    let mut alpha = Col::zeros(n);
    for _ in 0..turns {
        let (slope, rest) = line.equation.linearised(&u);
        let source = Col::from_fn(n, |i| line.source.get(i).copied().unwrap_or(0.0) - rest[i]);
        // The linear operator in y, U = L y, transposed.
        let operator = if line.equation == Equation::Poisson {
            curvature.clone()
        } else {
            &curvature + lower.transpose() * slope.as_diagonal()
        };
        let mut normal = v * &operator * operator.transpose();
        for i in 0..n {
            normal[(i, i)] += 1.0;
        }
        let mut right = v * (&operator * &source);
        for (end, value) in ends.into_iter().zip(line.boundary) {
            let row = lower.row(end);
            normal += bound * (row.transpose() * row);
            right += bound * value * row.transpose();
        }
        let y = cholesky(&normal, "the normal matrix")?.solve(&right);
        u = &lower * &y;
        alpha = y;
        factor
            .L()
            .transpose()
            .solve_upper_triangular_in_place(&mut alpha);
    }
    let residual = Col::from_fn(n, |i| {
        line.equation.value(u[i]) - line.source.get(i).copied().unwrap_or(0.0)
    });
    let residual = residual + &derivative * &alpha;
    Ok(Solution {
        factor,
        derivative,
        u,
        alpha,
        residual,
    })
}

impl Solution {
    pub(super) fn judged(&self, line: &Line) -> Judged {
        let n = line.axis.points;
        let ends = [0, n - 1].into_iter().zip(line.boundary);
        Judged {
            boundary: ends.map(|(end, value)| (self.u[end] - value).powi(2)).sum(),
            boundary_points: 2,
            residual: self.residual.squared_norm_l2(),
            points: n,
        }
    }

    /// The slopes of the objective in the mixture's parameters, U held fixed.
    pub(super) fn slopes(&self, line: &Line, mixture: &Mixture, v: f64) -> Vec<f64> {
        let n = line.axis.points;
        // K⁻¹ = L⁻ᵀ L⁻¹.
        let half = solved(&self.factor, &Mat::identity(n, n));
        let inverse = half.transpose() * &half;
        let pulled = &inverse * (&self.derivative * &self.residual);
        let kernel = 0.5 * (inverse - &self.alpha * self.alpha.transpose())
            - v * (&pulled * self.alpha.transpose());
        let derivative = v * (&self.residual * self.alpha.transpose());
        let mut slopes = vec![0.0; mixture.parameters().len()];
        line.axis
            .pull(mixture, Order::Second, &kernel, &derivative, &mut slopes);
        slopes
    }

    /// u at other coordinates.
    pub(super) fn predict(&self, line: &Line, mixture: &Mixture, at: &[f64]) -> Vec<f64> {
        let predicted = line.axis.cross(mixture, at) * &self.alpha;
        predicted.iter().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The part of the objective that depends on the mixture, for a fixed U.
    fn objective(line: &Line, mixture: &Mixture, u: &Col<f64>, v: f64) -> f64 {
        let [kernel, derivative] = line.axis.matrices(mixture, Order::Second);
        let factor = cholesky(&kernel, "K").unwrap();
        let alpha = factor.solve(u);
        let log_det: f64 = (0..u.nrows()).map(|i| factor.L()[(i, i)].ln()).sum();
        let fit = &derivative * &alpha;
        let misfit =
            (0..u.nrows()).map(|i| (fit[i] + line.equation.value(u[i]) - line.source[i]).powi(2));
        log_det + 0.5 * (u.transpose() * &alpha) + 0.5 * v * misfit.sum::<f64>()
    }

    #[test]
    fn slopes_are_those_of_the_objective_at_a_fixed_solution() {
        let axis = Axis {
            ends: [0.0, 2.0],
            points: 12,
        };
        let line = Line {
            axis,
            equation: Equation::AllenCahn,
            source: (0..12).map(|i| (5.0 * axis.at(i)).sin()).collect(),
            boundary: [0.3, -0.2],
        };
        let mut options = Options::new(2.0);
        options.components = 3;
        let mut mixture = Mixture::spread(options.family, 3, 2.0).unwrap();
        let precisions = Precisions {
            boundary: 3.0,
            equation: 0.7,
        };
        let solution = solve(&line, &mixture, precisions, &options, None).unwrap();
        let slopes = solution.slopes(&line, &mixture, 0.7);
        let h = 1e-5;
        for (at, found) in slopes.iter().enumerate() {
            let keep = mixture.parameters()[at];
            let mut value = |p: f64| {
                mixture.parameters_mut()[at] = p;
                objective(&line, &mixture, &solution.u, 0.7)
            };
            let slope = (value(keep + h) - value(keep - h)) / (2.0 * h);
            value(keep);
            assert!(
                (slope - found).abs() < 1e-4 * (1.0 + slope.abs()),
                "{at}: {slope} {found}"
            );
        }
    }
}
