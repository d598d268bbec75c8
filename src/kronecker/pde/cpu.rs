//! The f64 reference of what a device computes: preconditioned conjugate gradients on the normal equations.

use faer::Mat;

use super::{
    Options,
    system::{System, hadamard},
};

/// The solution of the normal equations.
pub(super) struct Found {
    pub y: Mat<f64>,
    pub iterations: usize,
}

/// M⁻¹ of a system.
pub(super) struct Preconditioner {
    diagonal: Mat<f64>,
    swapped: Option<Mat<f64>>,
}

impl Preconditioner {
    pub fn new(system: &System) -> Preconditioner {
        let (diagonal, swapped) = system.preconditioner();
        Preconditioner { diagonal, swapped }
    }

    /// M⁻¹ r.
    pub fn apply(&self, r: &Mat<f64>) -> Mat<f64> {
        let z = hadamard(&self.diagonal, r);
        match &self.swapped {
            None => z,
            Some(swapped) => z + hadamard(swapped, &crossed(r)),
        }
    }

    /// √(rᵀ M⁻¹ r).
    pub fn norm(&self, r: &Mat<f64>) -> f64 {
        dot(r, &self.apply(r)).sqrt()
    }
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
        (i2, j2) if (i + j).is_multiple_of(2) => y[(i2, j2)],
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
    let preconditioner = Preconditioner::new(system);
    let enough = (options.tolerance * preconditioner.norm(right)).powi(2);
    let (mut y, mut r) = match guess {
        None => (Mat::zeros(right.nrows(), right.ncols()), right.clone()),
        Some(y) => {
            let r = right - system.apply(&y);
            (y, r)
        }
    };
    let mut z = preconditioner.apply(&r);
    let mut p = z.clone();
    let mut rz = dot(&r, &z);
    let mut iterations = 0;
    while iterations < options.iterations && rz > enough {
        let applied = system.apply(&p);
        let step = rz / dot(&p, &applied);
        y += step * &p;
        r -= step * &applied;
        z = preconditioner.apply(&r);
        let next = dot(&r, &z);
        p = &z + (next / rz) * &p;
        rz = next;
        iterations += 1;
    }
    Found { y, iterations }
}
