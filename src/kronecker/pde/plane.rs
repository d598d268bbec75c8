//! Collocation on a plane: the problem, the linear system of its solution, and the slopes of the objective.

use faer::{Col, Mat};

use super::{
    Axis, Equation, Mixture, OP, Options,
    axis::{Basis, Order},
    cpu, device,
    learn::{Judged, Precisions},
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
    fn speeds(&self) -> [f64; 2] {
        match self.equation {
            Equation::Advection { speed } => [speed, 1.0],
            _ => [1.0, 1.0],
        }
    }

    fn source(&self) -> Mat<f64> {
        let [n, m] = self.axes.map(|axis| axis.points);
        Mat::from_fn(n, m, |i, j| {
            self.source.get(i * m + j).copied().unwrap_or(0.0)
        })
    }

    /// The sides of an axis that are given: at which point of it, and the values.
    fn given(&self, axis: usize) -> Vec<(usize, &Vec<f64>)> {
        let last = self.axes.get(axis).map_or(0, |axis| axis.points - 1);
        let sides = self.sides.get(axis).into_iter().flatten();
        let placed = [0, last].into_iter().zip(sides);
        placed
            .filter_map(|(at, side)| side.as_ref().map(|side| (at, side)))
            .collect()
    }
}

/// The normal equations of the objective in the basis of the axes: with U = T1 Y T2ᵀ,
///
/// ```text
/// Y + v Dᵀ(T1ᵀ T1 D(Y) T2ᵀ T2) + b (B1ᵀ B1 Y G2 + G1 Y B2ᵀ B2) = b (B1ᵀ g1 T2 + T1ᵀ g2 B2) + v Dᵀ(T1ᵀ f T2)
/// D(Y) = β1 D1 Y + β2 Y D2ᵀ        B: the rows of T at given sides, g their values
/// ```
///
/// and with a slope C of the equation's nonlinear part, T1 D(Y) T2ᵀ + C ∘ U in place of T1 D(Y) T2ᵀ.
pub(super) struct System {
    pub basis: [Basis; 2],
    pub order: Order,
    pub speeds: [f64; 2],
    /// B of each axis.
    pub ends: [Mat<f64>; 2],
    /// W τ and v.
    pub bound: f64,
    pub v: f64,
    /// C.
    pub slope: Option<Mat<f64>>,
}

impl System {
    pub fn new(
        plane: &Plane,
        mixtures: &[Mixture],
        precisions: Precisions,
        options: &Options,
    ) -> Result<System> {
        let order = plane.order();
        let (Some(first), Some(second)) = (mixtures.first(), mixtures.last()) else {
            return Err(Error::Gpu {
                message: "a plane has two mixtures".into(),
            });
        };
        let basis = [
            Basis::new(&plane.axes[0], first, order)?,
            Basis::new(&plane.axes[1], second, order)?,
        ];
        let ends = [(0, &basis[0].t), (1, &basis[1].t)].map(|(axis, t)| {
            let at: Vec<usize> = plane.given(axis).iter().map(|(at, _)| *at).collect();
            Mat::from_fn(at.len(), t.ncols(), |i, j| {
                at.get(i).map_or(0.0, |at| t[(*at, j)])
            })
        });
        Ok(System {
            basis,
            order,
            speeds: plane.speeds(),
            ends,
            bound: options.boundary_weight * precisions.boundary,
            v: precisions.equation,
            slope: None,
        })
    }

    /// D(Y), or with `adjoint` Dᵀ(Y).
    pub fn derivative(&self, y: &Mat<f64>, adjoint: bool) -> Mat<f64> {
        let [first, second] = &self.basis;
        let [b1, b2] = self.speeds;
        match self.order {
            Order::Second => Mat::from_fn(y.nrows(), y.ncols(), |i, j| {
                (b1 * first.e[i] + b2 * second.e[j]) * y[(i, j)]
            }),
            Order::First => {
                let turn = if adjoint { -1.0 } else { 1.0 };
                let (n, m) = (y.nrows(), y.ncols());
                // Row 2k of e J y is -e y at row 2k + 1, that of 2k + 1 is e y at row 2k.
                let sign = |i: usize| if i.is_multiple_of(2) { -turn } else { turn };
                Mat::from_fn(n, m, |i, j| {
                    let down = if (i ^ 1) < n { y[(i ^ 1, j)] } else { 0.0 };
                    let across = if (j ^ 1) < m { y[(i, j ^ 1)] } else { 0.0 };
                    b1 * sign(i) * first.e[i] * down + b2 * sign(j) * second.e[j] * across
                })
            }
        }
    }

    /// T1 Y T2ᵀ.
    pub fn out_of(&self, y: &Mat<f64>) -> Mat<f64> {
        &self.basis[0].t * y * self.basis[1].t.transpose()
    }

    /// Takes the equation as linear near U; what its left side is to be then.
    pub fn linearise(&mut self, plane: &Plane, u: &Mat<f64>) -> Mat<f64> {
        let source = plane.source();
        if plane.equation != Equation::AllenCahn {
            return source;
        }
        let (n, m) = (u.nrows(), u.ncols());
        let slope = Mat::from_fn(n, m, |i, j| plane.equation.slope(u[(i, j)]));
        let target = Mat::from_fn(n, m, |i, j| {
            source[(i, j)] - plane.equation.value(u[(i, j)]) + slope[(i, j)] * u[(i, j)]
        });
        self.slope = Some(slope);
        target
    }

    /// The Y of a U.
    fn guess(&self, u: &Mat<f64>) -> Mat<f64> {
        &self.basis[0].inverse * u * self.basis[1].inverse.transpose()
    }

    /// T1ᵀ X T2.
    fn pulled_back(&self, x: &Mat<f64>) -> Mat<f64> {
        self.basis[0].t.transpose() * x * &self.basis[1].t
    }

    /// The left side at Y.
    pub fn apply(&self, y: &Mat<f64>) -> Mat<f64> {
        let [first, second] = &self.basis;
        let inner = self.derivative(y, false);
        let mut result = match &self.slope {
            None => self.derivative(&(&first.gram * inner * &second.gram), true),
            Some(slope) => {
                let fit = self.out_of(&inner) + hadamard(slope, &self.out_of(y));
                self.adjoint(&fit)
            }
        };
        result = self.v * result + y;
        let [b1, b2] = &self.ends;
        if b1.nrows() > 0 {
            result += self.bound * b1.transpose() * (b1 * y * &second.gram);
        }
        if b2.nrows() > 0 {
            result += self.bound * (&first.gram * (y * b2.transpose())) * b2;
        }
        result
    }

    /// The adjoint of what maps Y to the equation's left side at the points.
    fn adjoint(&self, fit: &Mat<f64>) -> Mat<f64> {
        let result = self.derivative(&self.pulled_back(fit), true);
        match &self.slope {
            None => result,
            Some(slope) => result + self.pulled_back(&hadamard(slope, fit)),
        }
    }

    /// The right side, for this source.
    pub fn right(&self, plane: &Plane, source: &Mat<f64>) -> Mat<f64> {
        let [first, second] = &self.basis;
        let mut right = self.v * self.adjoint(source);
        let [n, m] = plane.axes.map(|axis| axis.points);
        let values = |axis: usize, other: usize| {
            let given = plane.given(axis);
            Mat::from_fn(given.len(), other, |i, j| {
                let side = given.get(i).and_then(|(_, side)| side.get(j));
                side.copied().unwrap_or(0.0)
            })
        };
        let [b1, b2] = &self.ends;
        if b1.nrows() > 0 {
            right += self.bound * b1.transpose() * (values(0, m) * &second.t);
        }
        if b2.nrows() > 0 {
            right += self.bound * (first.t.transpose() * values(1, n).transpose()) * b2;
        }
        right
    }

    /// The preconditioner's inverse: what multiplies Y elementwise, and for first derivatives also what multiplies J Y Jᵀ.
    pub fn preconditioner(&self) -> (Mat<f64>, Option<Mat<f64>>) {
        let [first, second] = &self.basis;
        let [b1, b2] = self.speeds;
        // Both coordinates of a pair take the pair's mean.
        let paired = |values: Col<f64>| match self.order {
            Order::Second => values,
            Order::First => Col::from_fn(values.nrows(), |i| {
                let other = if (i ^ 1) < values.nrows() { i ^ 1 } else { i };
                0.5 * (values[i] + values[other])
            }),
        };
        let diagonal = |basis: &Basis| paired(basis.gram.diagonal().column_vector().to_owned());
        let squares = |ends: &Mat<f64>| {
            paired(Col::from_fn(ends.ncols(), |j| {
                ends.col(j).squared_norm_l2()
            }))
        };
        let (g1, g2) = (diagonal(first), diagonal(second));
        let (s1, s2) = (squares(&self.ends[0]), squares(&self.ends[1]));
        let mean = self.slope.as_ref().map_or(0.0, |slope| {
            slope.sum() / (slope.nrows() * slope.ncols()) as f64
        });
        let plain = |i: usize, j: usize| 1.0 + self.bound * (s1[i] * g2[j] + g1[i] * s2[j]);
        let weight = |i: usize, j: usize| self.v * g1[i] * g2[j];
        let terms = |i: usize, j: usize| (b1 * first.e[i], b2 * second.e[j]);
        let (n, m) = (first.e.nrows(), second.e.nrows());
        match self.order {
            Order::Second => {
                let diagonal = Mat::from_fn(n, m, |i, j| {
                    let (a, b) = terms(i, j);
                    1.0 / (plain(i, j) + weight(i, j) * (a + b + mean).powi(2))
                });
                (diagonal, None)
            }
            Order::First => {
                // DᵀD = (a² + b²) - 2 a b J ⊗ J on each pair of pairs, and (J ⊗ J)² = 1.
                let parts = |i: usize, j: usize| {
                    let (a, b) = terms(i, j);
                    let p = plain(i, j) + weight(i, j) * (a * a + b * b);
                    let q = 2.0 * weight(i, j) * a * b;
                    (p, q, (p - q) * (p + q))
                };
                let diagonal = Mat::from_fn(n, m, |i, j| {
                    let (p, _, d) = parts(i, j);
                    p / d
                });
                let crossed = Mat::from_fn(n, m, |i, j| {
                    let (_, q, d) = parts(i, j);
                    q / d
                });
                (diagonal, Some(crossed))
            }
        }
    }
}

pub(super) fn hadamard(a: &Mat<f64>, b: &Mat<f64>) -> Mat<f64> {
    Mat::from_fn(a.nrows(), a.ncols(), |i, j| a[(i, j)] * b[(i, j)])
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
mod tests {
    use faer::linalg::solvers::Solve;

    use super::{super::axis::cholesky, *};

    fn plane(equation: Equation) -> Plane {
        let axes = [
            Axis {
                ends: [0.0, 2.0],
                points: 7,
            },
            Axis {
                ends: [-0.5, 1.0],
                points: 6,
            },
        ];
        let side = |n: usize, by: f64| Some((0..n).map(|i| (by * i as f64).sin()).collect());
        Plane {
            axes,
            equation,
            source: (0..42).map(|n| (0.7 * n as f64).cos()).collect(),
            sides: [[side(6, 0.3), side(6, 0.9)], [side(7, 0.5), None]],
        }
    }

    const PRECISIONS: Precisions = Precisions {
        boundary: 0.02,
        equation: 0.7,
    };

    fn equations() -> [Equation; 3] {
        [
            Equation::Poisson,
            Equation::AllenCahn,
            Equation::Advection { speed: 1.5 },
        ]
    }

    fn options() -> Options {
        let mut options = Options::new(1.0);
        options.components = 2;
        options.tolerance = 1e-12;
        options.iterations = 500;
        options
    }

    /// Both matrices of an axis.
    fn matrices(plane: &Plane, mixtures: &[Mixture]) -> [[Mat<f64>; 2]; 2] {
        [0, 1].map(|axis| plane.axes[axis].matrices(&mixtures[axis], plane.order()))
    }

    /// The objective's parts that depend on U, or on the mixtures, from matrices of the axes and their inverses.
    fn objective(plane: &Plane, mixtures: &[Mixture], u: &Mat<f64>, precisions: Precisions) -> f64 {
        let [[k1, d1], [k2, d2]] = matrices(plane, mixtures);
        let (l1, l2) = (cholesky(&k1, "K").unwrap(), cholesky(&k2, "K").unwrap());
        let log_det = |l: &Mat<f64>| -> f64 { (0..l.nrows()).map(|i| l[(i, i)].ln()).sum() };
        let first = l1.solve(u);
        let second = l2.solve(u.transpose()).transpose().to_owned();
        let both = l2.solve(first.transpose());
        let fit =
            plane.speeds()[0] * (&d1 * &first) + plane.speeds()[1] * (&second * d2.transpose());
        let prior: f64 = (0..u.ncols())
            .map(|j| u.col(j).transpose() * both.transpose().col(j))
            .sum();
        let source = plane.source();
        let mut misfit = 0.0;
        for i in 0..u.nrows() {
            for j in 0..u.ncols() {
                let value = fit[(i, j)] + plane.equation.value(u[(i, j)]) - source[(i, j)];
                misfit += value * value;
            }
        }
        let mut boundary = 0.0;
        for axis in [0, 1] {
            for (at, side) in plane.given(axis) {
                for (n, value) in side.iter().enumerate() {
                    let u = if axis == 0 { u[(at, n)] } else { u[(n, at)] };
                    boundary += (u - value) * (u - value);
                }
            }
        }
        let (n, m) = (u.nrows() as f64, u.ncols() as f64);
        m * log_det(&l1.L().to_owned())
            + n * log_det(&l2.L().to_owned())
            + 0.5 * prior
            + 0.5 * 200.0 * precisions.boundary * boundary
            + 0.5 * precisions.equation * misfit
    }

    #[test]
    fn the_solution_is_a_stationary_point_of_the_objective() {
        for equation in equations() {
            let (plane, mut options) = (plane(equation), options());
            // Gauss-Newton has settled after so many turns.
            options.newton_turns = 40;
            let mixtures = vec![Mixture::spread(options.family, 2, 1.0).unwrap(); 2];
            let solution = solve(&plane, &mixtures, PRECISIONS, &options, None, None).unwrap();
            let mut u = solution.u.clone();
            let value = objective(&plane, &mixtures, &u, PRECISIONS);
            let h = 1e-4;
            for (i, j) in [(0, 0), (3, 2), (6, 5), (2, 0), (5, 4)] {
                let keep = u[(i, j)];
                u[(i, j)] = keep + h;
                let up = objective(&plane, &mixtures, &u, PRECISIONS) - value;
                u[(i, j)] = keep - h;
                let down = objective(&plane, &mixtures, &u, PRECISIONS) - value;
                u[(i, j)] = keep;
                // The slope against the curvature, both by differences.
                assert!(
                    (up - down).abs() < 2e-3 * (up + down),
                    "{equation:?} {i} {j}: {up} {down}"
                );
            }
        }
    }

    #[test]
    fn slopes_are_those_of_the_objective_at_a_fixed_solution() {
        for equation in equations() {
            let (plane, options) = (plane(equation), options());
            let mut mixtures = vec![
                Mixture::spread(options.family, 2, 1.0).unwrap(),
                Mixture::spread(options.family, 2, 0.6).unwrap(),
            ];
            let solution = solve(&plane, &mixtures, PRECISIONS, &options, None, None).unwrap();
            let slopes = solution.slopes(&plane, &mixtures);
            let h = 1e-5;
            for (axis, slopes) in slopes.iter().enumerate() {
                for (at, found) in slopes.iter().enumerate() {
                    let keep = mixtures[axis].parameters()[at];
                    let mut value = |p: f64| {
                        mixtures[axis].parameters_mut()[at] = p;
                        objective(&plane, &mixtures, &solution.u, PRECISIONS)
                    };
                    let slope = (value(keep + h) - value(keep - h)) / (2.0 * h);
                    value(keep);
                    assert!(
                        (slope - found).abs() < 1e-4 * (1.0 + slope.abs()),
                        "{equation:?} {axis} {at}: {slope} {found}"
                    );
                }
            }
        }
    }
}
