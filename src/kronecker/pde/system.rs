//! The linear system of a solution on a plane.

use faer::{Col, Mat};

use super::{
    Equation, Mixture, Options, Plane,
    axis::{Basis, Order},
    learn::Precisions,
};
use crate::{Error, Result};

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
    pub fn guess(&self, u: &Mat<f64>) -> Mat<f64> {
        &self.basis[0].inverse * u * self.basis[1].inverse.transpose()
    }

    /// T1ᵀ X T2.
    pub fn pulled_back(&self, x: &Mat<f64>) -> Mat<f64> {
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
