//! Collocation on a plane: the problem, its solution, and the slopes of the objective.

use faer::Mat;

use super::{
    Axis, Equation, Mixture, OP, Options,
    axis::Order,
    cpu, device,
    learn::{Judged, Precisions},
    system::System,
};
use crate::{Error, Gpu, Result, error::length};

/// An equation on a grid of two axes, with u given along some sides.
#[derive(Clone, Debug, PartialEq)]
pub struct Plane {
    /// Where: x, then y (or t).
    pub axes: [Axis; 2],
    /// What holds inside.
    pub equation: Equation,
    /// f at every point, `[N1, N2]`.
    pub source: Vec<f64>,
    /// For each axis and each of its ends: u along that side, a value for each point of the other axis, or nothing if u is not given
    /// there.
    pub sides: [[Option<Vec<f64>>; 2]; 2],
}

impl Plane {
    pub(super) fn check(&self) -> Result<()> {
        let [first, second] = self.axes;
        first.check()?;
        second.check()?;
        length(
            OP,
            "source",
            self.source.len(),
            first.points * second.points,
        )?;
        for (ends, other) in self.sides.iter().zip([second, first]) {
            for side in ends.iter().flatten() {
                length(OP, "sides", side.len(), other.points)?;
            }
        }
        match self.sides.iter().flatten().all(Option::is_none) {
            true => Err(Error::Argument {
                op: OP,
                what: "sides".into(),
                expected: "given on at least one side".into(),
                got: "none".into(),
            }),
            false => Ok(()),
        }
    }

    pub(super) fn order(&self) -> Order {
        match self.equation {
            Equation::Advection { .. } => Order::First,
            _ => Order::Second,
        }
    }

    /// The factors of the derivatives along the two axes.
    pub(super) fn speeds(&self) -> [f64; 2] {
        match self.equation {
            Equation::Advection { speed } => [speed, 1.0],
            _ => [1.0, 1.0],
        }
    }

    pub(super) fn source(&self) -> Mat<f64> {
        let [n, m] = self.axes.map(|axis| axis.points);
        Mat::from_fn(n, m, |i, j| {
            self.source.get(i * m + j).copied().unwrap_or(0.0)
        })
    }

    /// The sides of an axis that are given: at which point of it, and the values.
    pub(super) fn given(&self, axis: usize) -> Vec<(usize, &Vec<f64>)> {
        let last = self.axes.get(axis).map_or(0, |axis| axis.points - 1);
        let sides = self.sides.get(axis).into_iter().flatten();
        let placed = [0, last].into_iter().zip(sides);
        placed
            .filter_map(|(at, side)| side.as_ref().map(|side| (at, side)))
            .collect()
    }
}

/// The solution for given kernel parameters.
pub(super) struct Solution {
    system: System,
    y: Mat<f64>,
    pub u: Mat<f64>,
    residual: Mat<f64>,
    pub iterations: usize,
}

/// Minimises the objective over U; equations with a nonlinear part are linearised around `near`.
pub(super) fn solve(
    plane: &Plane,
    mixtures: &[Mixture],
    precisions: Precisions,
    options: &Options,
    near: Option<&Mat<f64>>,
    gpu: Option<&Gpu>,
) -> Result<Solution> {
    let [n, m] = plane.axes.map(|axis| axis.points);
    let mut system = System::new(plane, mixtures, precisions, options)?;
    let source = plane.source();
    let mut u = near.cloned().unwrap_or_else(|| Mat::zeros(n, m));
    let mut y = Mat::zeros(n, m);
    let mut iterations = 0;
    let nonlinear = plane.equation == Equation::AllenCahn;
    for _ in 0..if nonlinear { options.newton_turns } else { 1 } {
        let target = system.linearise(plane, &u);
        let right = system.right(plane, &target);
        // U moves little from turn to turn, the basis with the mixtures.
        let guess = (near.is_some() || iterations > 0).then(|| system.guess(&u));
        let found = match gpu {
            Some(gpu) => device::conjugate_gradients(gpu, &system, &right, guess, options)?,
            None => cpu::conjugate_gradients(&system, &right, guess, options),
        };
        y = found.y;
        iterations += found.iterations;
        u = system.out_of(&y);
    }
    let fit = system.out_of(&system.derivative(&y, false));
    let residual = Mat::from_fn(n, m, |i, j| {
        fit[(i, j)] + plane.equation.value(u[(i, j)]) - source[(i, j)]
    });
    Ok(Solution {
        system,
        y,
        u,
        residual,
        iterations,
    })
}

impl Solution {
    pub(super) fn judged(&self, plane: &Plane) -> Judged {
        let (mut boundary, mut boundary_points) = (0.0, 0);
        for axis in [0, 1] {
            for (at, side) in plane.given(axis) {
                boundary_points += side.len();
                for (n, value) in side.iter().enumerate() {
                    let u = if axis == 0 {
                        self.u[(at, n)]
                    } else {
                        self.u[(n, at)]
                    };
                    boundary += (u - value).powi(2);
                }
            }
        }
        Judged {
            boundary,
            boundary_points,
            residual: self.residual.squared_norm_l2(),
            points: self.u.nrows() * self.u.ncols(),
        }
    }

    /// The slopes of the objective in the mixtures' parameters, U held fixed:
    ///
    /// ```text
    /// Q = T1ᵀ R T2        J̄_K1 = T1⁻ᵀ (½ (N2 - Y Yᵀ) - v β1 D1ᵀ Q Yᵀ) T1⁻¹        J̄_K1' = v β1 T1⁻ᵀ Q Yᵀ T1⁻¹        axis 2 alike
    /// ```
    pub(super) fn slopes(&self, plane: &Plane, mixtures: &[Mixture]) -> Vec<Vec<f64>> {
        let system = &self.system;
        let pulled = system.pulled_back(&self.residual);
        let both = [
            (&pulled * self.y.transpose(), &self.y * self.y.transpose()),
            (pulled.transpose() * &self.y, self.y.transpose() * &self.y),
        ];
        let others = [self.y.ncols(), self.y.nrows()];
        let mut all = Vec::new();
        let axes = plane.axes.iter().zip(&system.basis).zip(system.speeds);
        let each = mixtures.iter().zip(axes).zip(both.into_iter().zip(others));
        for ((mixture, ((axis, basis), speed)), ((cross, gram), other)) in each {
            let n = gram.nrows();
            let scaled = Mat::from_fn(n, n, |i, j| match system.order {
                Order::Second => basis.e[i] * cross[(i, j)],
                // Jᵀ: row 2k is that of 2k + 1, row 2k + 1 minus that of 2k.
                Order::First if (i ^ 1) >= n => 0.0,
                Order::First if i.is_multiple_of(2) => basis.e[i] * cross[(i ^ 1, j)],
                Order::First => -basis.e[i] * cross[(i ^ 1, j)],
            });
            let kernel = Mat::from_fn(n, n, |i, j| {
                let identity = if i == j { other as f64 } else { 0.0 };
                0.5 * (identity - gram[(i, j)]) - system.v * speed * scaled[(i, j)]
            });
            let outside = |inside: Mat<f64>| basis.inverse.transpose() * inside * &basis.inverse;
            let (kernel, derivative) = (outside(kernel), outside(system.v * speed * cross));
            let mut slopes = vec![0.0; mixture.parameters().len()];
            axis.pull(mixture, system.order, &kernel, &derivative, &mut slopes);
            all.push(slopes);
        }
        all
    }

    /// u on a grid of other coordinates, row by row.
    pub(super) fn predict(&self, plane: &Plane, mixtures: &[Mixture], at: [&[f64]; 2]) -> Vec<f64> {
        let mut sides = Vec::new();
        for (((axis, mixture), at), basis) in (plane.axes.iter().zip(mixtures))
            .zip(at)
            .zip(&self.system.basis)
        {
            sides.push(axis.cross(mixture, at) * basis.inverse.transpose());
        }
        let (Some(first), Some(second)) = (sides.first(), sides.last()) else {
            return Vec::new();
        };
        let predicted = first * &self.y * second.transpose();
        predicted
            .row_iter()
            .flat_map(|row| row.iter().copied().collect::<Vec<_>>())
            .collect()
    }
}

#[cfg(test)]
mod tests;
