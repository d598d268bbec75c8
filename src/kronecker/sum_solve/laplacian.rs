//! Second differences on an interval, whose eigenvectors are sines and cosines.

use std::f64::consts::PI;

use super::{
    super::{matrix::Matrix, spectrum::Axis},
    OP,
};
use crate::{Error, Result, kronecker::MAX_SIDE};

/// What holds at both ends of an interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Boundary {
    /// u = 0, one step beyond the first and the last point: h = L / (n + 1).
    Dirichlet,
    /// u' = 0, half a step beyond them: points are the centres of n cells, h = L / n.
    Neumann,
    /// u goes round: h = L / n.
    Periodic,
}

/// −d²/dx² on n points of an interval of this length by second differences, with its eigenvalues and orthonormal eigenvectors in
/// closed form.
///
/// ```text
/// (A u)_j = (2 u_j − u_(j-1) − u_(j+1)) / h²
/// Dirichlet   v_k[j] = √(2 / (n + 1)) sin(π j k / (n + 1))    λ_k = 4 / h² sin²(π k / (2 (n + 1)))    j, k = 1 … n
/// Neumann     v_k[j] = √(2 / n) c_k cos(π k (2 j + 1) / (2 n))    λ_k = 4 / h² sin²(π k / (2 n))    j, k = 0 … n − 1, c_0 = 1 / √2
/// Periodic    cosines and sines of 2 π k j / n    λ_k = 4 / h² sin²(π k / n)
/// ```
///
/// # Errors
/// `Argument` when there are no points or more than [`MAX_SIDE`], or the length is not positive.
pub fn laplacian(points: usize, length: f64, boundary: Boundary) -> Result<Axis> {
    let refuse = |what: &str, expected: String, got: String| {
        Err(Error::Argument {
            op: OP,
            what: what.into(),
            expected,
            got,
        })
    };
    if points == 0 || points > MAX_SIDE {
        return refuse(
            "points",
            format!("from 1 to {MAX_SIDE}"),
            points.to_string(),
        );
    }
    if !length.is_finite() || length <= 0.0 {
        return refuse("length", "a positive number".into(), length.to_string());
    }
    let n = points as f64;
    let h = match boundary {
        Boundary::Dirichlet => length / (n + 1.0),
        _ => length / n,
    };
    let square = |angle: f64| 4.0 / (h * h) * angle.sin().powi(2);
    let column = |k: usize| k as f64;
    // The frequency of a periodic column: 0, 1, 1, 2, 2, …, a cosine before a sine.
    let frequency = |k: usize| k.div_ceil(2);
    let (values, vectors): (Vec<f64>, Matrix) = match boundary {
        Boundary::Dirichlet => (
            (0..points)
                .map(|k| square(PI * (column(k) + 1.0) / (2.0 * (n + 1.0))))
                .collect(),
            Matrix::of(points, points, |j, k| {
                // The angle reduced by whole turns, as integers.
                let turns = (j + 1) * (k + 1) % (2 * (points + 1));
                (2.0 / (n + 1.0)).sqrt() * (PI * turns as f64 / (n + 1.0)).sin()
            }),
        ),
        Boundary::Neumann => (
            (0..points)
                .map(|k| square(PI * column(k) / (2.0 * n)))
                .collect(),
            Matrix::of(points, points, |j, k| {
                let turns = k * (2 * j + 1) % (4 * points);
                let norm = if k == 0 { 1.0 } else { 2.0 };
                (norm / n).sqrt() * (PI * turns as f64 / (2.0 * n)).cos()
            }),
        ),
        Boundary::Periodic => (
            (0..points)
                .map(|k| square(PI * column(frequency(k)) / n))
                .collect(),
            Matrix::of(points, points, |j, k| {
                let own = frequency(k);
                let angle = 2.0 * PI * (own * j % points) as f64 / n;
                let norm = if own == 0 || 2 * own == points {
                    1.0
                } else {
                    2.0
                };
                let wave = if k % 2 == 1 || k == 0 {
                    angle.cos()
                } else {
                    angle.sin()
                };
                (norm / n).sqrt() * wave
            }),
        ),
    };
    let factor = Matrix::of(points, points, |i, j| {
        let around = |distance: usize| boundary == Boundary::Periodic && distance == points - 1;
        let distance = i.abs_diff(j);
        let mut entry = if i == j { 2.0 } else { 0.0 };
        if distance == 1 {
            entry -= 1.0;
        }
        if around(distance) {
            entry -= 1.0;
        }
        if points == 1 && boundary == Boundary::Periodic {
            entry -= 1.0;
        }
        if boundary == Boundary::Neumann && i == j {
            entry -= f64::from(u8::from(i == 0)) + f64::from(u8::from(i + 1 == points));
        }
        entry / (h * h)
    });
    Axis::known(values, vectors, factor)
}
