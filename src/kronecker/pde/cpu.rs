//! The f64 reference of what a device computes: preconditioned conjugate gradients on the normal equations.

use faer::Mat;

use super::{
    Options,
    plane::{System, hadamard},
};

/// The solution of the normal equations.
pub(super) struct Found {
    pub y: Mat<f64>,
    pub iterations: usize,
}

fn dot(a: &Mat<f64>, b: &Mat<f64>) -> f64 {
    let columns = a.col_iter().zip(b.col_iter());
    columns.map(|(a, b)| a.transpose() * b).sum()
}

/// J Y Jᵀ on pairs of rows and of columns.
fn crossed(y: &Mat<f64>) -> Mat<f64> {
    let (n, m) = (y.nrows(), y.ncols());
    Mat::from_fn(n, m, |i, j| match (i ^ 1, j ^ 1) {
        (i2, j2) if i2 >= n || j2 >= m => 0.0,
        (i2, j2) if (i + j) % 2 == 0 => y[(i2, j2)],
        (i2, j2) => -y[(i2, j2)],
    })
}

/// Solves `system` for this right side, from a guess.
pub(super) fn conjugate_gradients(
    system: &System,
    right: &Mat<f64>,
    guess: Option<Mat<f64>>,
    options: &Options,
) -> Found {
    let (diagonal, swapped) = system.preconditioner();
    let precondition = |r: &Mat<f64>| {
        let z = hadamard(&diagonal, r);
        match &swapped {
            None => z,
            Some(swapped) => z + hadamard(swapped, &crossed(r)),
        }
    };
    let enough = options.tolerance.powi(2) * dot(right, &precondition(right));
    let (mut y, mut r) = match guess {
        None => (Mat::zeros(right.nrows(), right.ncols()), right.clone()),
        Some(y) => {
            let r = right - system.apply(&y);
            (y, r)
        }
    };
    let mut z = precondition(&r);
    let mut p = z.clone();
    let mut rz = dot(&r, &z);
    let mut iterations = 0;
    while iterations < options.iterations && rz > enough {
        let applied = system.apply(&p);
        let step = rz / dot(&p, &applied);
        y += step * &p;
        r -= step * &applied;
        z = precondition(&r);
        let next = dot(&r, &z);
        p = &z + (next / rz) * &p;
        rz = next;
        iterations += 1;
    }
    Found { y, iterations }
}
