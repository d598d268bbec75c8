//! One axis of a collocation grid: equispaced points and the matrices of a mixture on them.

use faer::{
    Col, Mat, Side, c64,
    linalg::solvers::{Llt, SelfAdjointEigen},
};

use super::{Mixture, OP};
use crate::{Error, Result};

/// Added to the diagonal of every kernel matrix, so that it has a Cholesky factor.
const NUGGET: f64 = 1e-6;

/// Equispaced points from one end to the other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Axis {
    /// Where it begins and ends.
    pub ends: [f64; 2],
    /// Points, both ends among them.
    pub points: usize,
}

/// The order of a derivative along an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    First,
    Second,
}

impl Order {
    /// The derivative of this order.
    fn of(self, [_, first, second]: [f64; 3]) -> f64 {
        match self {
            Order::First => first,
            Order::Second => second,
        }
    }

    /// The slopes of a sum of k and of the derivative of this order.
    fn jet(self, [kernel, derivative]: [f64; 2]) -> [f64; 3] {
        match self {
            Order::First => [kernel, derivative, 0.0],
            Order::Second => [kernel, 0.0, derivative],
        }
    }
}

impl Axis {
    pub(super) fn check(&self) -> Result<()> {
        let [begin, end] = self.ends;
        let (what, expected, got) = if !(begin.is_finite() && end.is_finite() && begin < end) {
            (
                "the ends of an axis",
                "finite and ascending",
                format!("{:?}", self.ends),
            )
        } else if !(4..=4096).contains(&self.points) {
            (
                "the points of an axis",
                "4 to 4096",
                self.points.to_string(),
            )
        } else {
            return Ok(());
        };
        Err(Error::Argument {
            op: OP,
            what: what.into(),
            expected: expected.into(),
            got,
        })
    }

    fn step(&self) -> f64 {
        let [begin, end] = self.ends;
        (end - begin) / (self.points - 1) as f64
    }

    /// The coordinate of a point.
    pub fn at(&self, point: usize) -> f64 {
        self.ends[0] + point as f64 * self.step()
    }

    /// The distances between points, each once.
    fn lags(&self) -> impl Iterator<Item = f64> {
        let step = self.step();
        (0..self.points).map(move |lag| lag as f64 * step)
    }

    /// K and its derivative of some order in the first argument.
    pub(super) fn matrices(&self, mixture: &Mixture, order: Order) -> [Mat<f64>; 2] {
        let jets: Vec<[f64; 3]> = self.lags().map(|lag| mixture.at(lag)).collect();
        let jet = |lag: usize| jets.get(lag).copied().unwrap_or_default();
        let n = self.points;
        let kernel = Mat::from_fn(n, n, |i, j| {
            let nugget = if i == j { NUGGET } else { 0.0 };
            jet(i.abs_diff(j))[0] + nugget
        });
        let derivative = Mat::from_fn(n, n, |i, j| {
            let value = order.of(jet(i.abs_diff(j)));
            match order {
                Order::First if i == j => 0.0,
                Order::First if i < j => -value,
                _ => value,
            }
        });
        [kernel, derivative]
    }

    /// The slopes in the mixture's parameters, from those in the entries of K and of its derivative.
    pub(super) fn pull(
        &self,
        mixture: &Mixture,
        order: Order,
        kernel: &Mat<f64>,
        derivative: &Mat<f64>,
        slopes: &mut [f64],
    ) {
        let n = self.points;
        let mut sums = vec![[0.0; 2]; n];
        for j in 0..n {
            for (i, (k, d)) in (kernel.col(j).iter())
                .zip(derivative.col(j).iter())
                .enumerate()
            {
                if let Some(sum) = sums.get_mut(i.abs_diff(j)) {
                    sum[0] += k;
                    sum[1] += match order {
                        Order::First if i == j => 0.0,
                        Order::First if i < j => -d,
                        _ => *d,
                    };
                }
            }
        }
        for (lag, sum) in self.lags().zip(sums) {
            mixture.pull(lag, order.jet(sum), slopes);
        }
    }

    /// K between other coordinates and the points.
    pub(super) fn cross(&self, mixture: &Mixture, others: &[f64]) -> Mat<f64> {
        let mut cross = Mat::zeros(others.len(), self.points);
        for (i, x) in others.iter().enumerate() {
            for j in 0..self.points {
                cross[(i, j)] = mixture.at((x - self.at(j)).abs())[0];
            }
        }
        cross
    }
}

/// The lower Cholesky factor.
pub(super) fn cholesky(matrix: &Mat<f64>, what: &str) -> Result<Llt<f64>> {
    matrix.llt(Side::Lower).map_err(|_| Error::Numeric {
        op: OP,
        what: format!("{what} is not positive definite; lower the caps of the precisions"),
    })
}

/// L⁻¹ M.
pub(super) fn solved(factor: &Llt<f64>, matrix: &Mat<f64>) -> Mat<f64> {
    let mut result = matrix.clone();
    factor.L().solve_lower_triangular_in_place(&mut result);
    result
}

/// The axis in the basis in which its derivative is simple: K = T Tᵀ, derivative = T D Tᵀ.
///
/// D is diag(e) for a second derivative. A first derivative is antisymmetric: D is made of blocks e J, J = [[0, -1], [1, 0]], on
/// neighbouring coordinates, both of which carry the same e; an odd last one carries 0.
pub(super) struct Basis {
    /// T, and its inverse.
    pub t: Mat<f64>,
    pub inverse: Mat<f64>,
    /// Tᵀ T.
    pub gram: Mat<f64>,
    /// e.
    pub e: Col<f64>,
}

impl Basis {
    pub fn new(axis: &Axis, mixture: &Mixture, order: Order) -> Result<Basis> {
        let [kernel, derivative] = axis.matrices(mixture, order);
        let factor = cholesky(&kernel, "the kernel matrix of an axis")?;
        let n = axis.points;
        // L⁻¹ M L⁻ᵀ, by two solves from the left.
        let half = solved(&factor, &derivative);
        let mut core = solved(&factor, &half.transpose().to_owned());
        let failed = |_| Error::Numeric {
            op: OP,
            what: "the eigenvalues of an axis did not converge".into(),
        };
        let (v, e) = match order {
            Order::Second => {
                core = Mat::from_fn(n, n, |i, j| 0.5 * (core[(i, j)] + core[(j, i)]));
                let eigen: SelfAdjointEigen<f64> =
                    core.self_adjoint_eigen(Side::Lower).map_err(failed)?;
                (eigen.U().to_owned(), eigen.S().column_vector().to_owned())
            }
            Order::First => {
                // The transpose above turned the sign of an antisymmetric matrix; i times it is Hermitian, with eigenvalues in
                // pairs ±e, and S (a + i b) = -i e (a + i b) says S a = e b, S b = -e a.
                let hermitian = Mat::from_fn(n, n, |i, j| {
                    c64::new(0.0, 0.5 * (core[(j, i)] - core[(i, j)]))
                });
                let eigen: SelfAdjointEigen<c64> =
                    hermitian.self_adjoint_eigen(Side::Lower).map_err(failed)?;
                let (u, s) = (eigen.U(), eigen.S().column_vector());
                // Ascending: the last half are the positive ones, the largest first here.
                let at = |column: usize| n - 1 - column / 2;
                let odd = n % 2 == 1;
                let v = Mat::from_fn(n, n, |i, j| {
                    let value = u[(i, at(j))];
                    if odd && j + 1 == n {
                        // The one of eigenvalue 0 is real up to a phase.
                        let turn = phase(u.col(at(j)).iter().copied());
                        (value * turn).re
                    } else if j % 2 == 0 {
                        2f64.sqrt() * value.re
                    } else {
                        2f64.sqrt() * value.im
                    }
                });
                let e = Col::from_fn(n, |j| {
                    if odd && j + 1 == n {
                        0.0
                    } else {
                        s[at(j)].re.max(0.0)
                    }
                });
                (v, e)
            }
        };
        let t = factor.L() * &v;
        let inverse = v.transpose() * solved(&factor, &Mat::identity(n, n));
        let gram = t.transpose() * &t;
        Ok(Basis {
            t,
            inverse,
            gram,
            e,
        })
    }
}

/// What turns a complex vector, real up to a phase, real.
fn phase(values: impl Iterator<Item = c64>) -> c64 {
    let largest = values.fold(c64::new(0.0, 0.0), |a, b| {
        if b.norm_sqr() > a.norm_sqr() { b } else { a }
    });
    if largest.norm_sqr() > 0.0 {
        largest.conj() / largest.norm_sqr().sqrt()
    } else {
        c64::new(1.0, 0.0)
    }
}
