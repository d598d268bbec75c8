//! Matrices of a factor's size on the host, in f64, and their factorisations.

use faer::{
    Mat, MatRef, Side,
    linalg::solvers::{DenseSolveCore, SelfAdjointEigen},
};
use rayon::prelude::*;

use crate::{Error, Result};

/// The largest side of a factor that the host decomposes.
pub const MAX_SIDE: usize = 4096;

/// How far a factor may be from symmetric, relative to its largest entry: what rounding to f32 leaves.
const SYMMETRY: f64 = 1e-6;

/// A matrix on the host, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub columns: usize,
    /// `entries[row * columns + column]`.
    pub entries: Vec<f64>,
}

impl Matrix {
    /// A matrix of these entries, row after row.
    ///
    /// # Errors
    /// `Argument` when their number is not `rows · columns`, or one of these is 0.
    pub fn new(rows: usize, columns: usize, entries: Vec<f64>) -> Result<Matrix> {
        if rows == 0 || columns == 0 || rows.checked_mul(columns) != Some(entries.len()) {
            return Err(Error::Argument {
                op: "Matrix::new",
                what: "entries".into(),
                expected: format!("{rows} x {columns} numbers, at least one"),
                got: entries.len().to_string(),
            });
        }
        Ok(Matrix {
            rows,
            columns,
            entries,
        })
    }

    /// The matrix with entry f(row, column).
    pub fn of(rows: usize, columns: usize, f: impl Fn(usize, usize) -> f64) -> Matrix {
        let row = |i| (0..columns).map(move |j| (i, j));
        let entries = (0..rows).flat_map(row).map(|(i, j)| f(i, j)).collect();
        Matrix {
            rows,
            columns,
            entries,
        }
    }

    /// The identity.
    pub fn identity(side: usize) -> Matrix {
        Matrix::of(side, side, |i, j| f64::from(u8::from(i == j)))
    }

    /// An entry, or NaN outside.
    pub fn at(&self, row: usize, column: usize) -> f64 {
        let index = (row < self.rows && column < self.columns).then(|| row * self.columns + column);
        let entry = index.and_then(|index| self.entries.get(index));
        entry.copied().unwrap_or(f64::NAN)
    }

    /// The transpose.
    pub fn transposed(&self) -> Matrix {
        Matrix::of(self.columns, self.rows, |i, j| self.at(j, i))
    }

    /// The entries rounded to f32.
    pub fn rounded(&self) -> Vec<f32> {
        self.entries.iter().map(|x| *x as f32).collect()
    }

    /// The largest absolute value of an entry.
    pub fn largest(&self) -> f64 {
        self.entries.iter().fold(0.0, |most, x| most.max(x.abs()))
    }

    /// The largest sum of absolute values in a column.
    fn column_norm(&self) -> f64 {
        let mut sums = vec![0.0; self.columns];
        for row in self.entries.chunks_exact(self.columns) {
            for (sum, x) in sums.iter_mut().zip(row) {
                *sum += x.abs();
            }
        }
        sums.into_iter().fold(0.0, f64::max)
    }

    fn view(&self) -> MatRef<'_, f64> {
        MatRef::from_row_major_slice(&self.entries, self.rows, self.columns)
    }

    fn from_faer(matrix: MatRef<'_, f64>) -> Matrix {
        let columns: Vec<Vec<f64>> = (matrix.col_iter())
            .map(|column| column.iter().copied().collect())
            .collect();
        let entries =
            (0..matrix.nrows()).flat_map(|i| columns.iter().filter_map(move |c| c.get(i)));
        Matrix {
            rows: matrix.nrows(),
            columns: matrix.ncols(),
            entries: entries.copied().collect(),
        }
    }

    /// Whether the host takes the matrix as a factor: finite, and of sides that it can decompose.
    pub(super) fn check(&self, op: &'static str, name: &str) -> Result<()> {
        let side = self.rows.max(self.columns);
        if side > MAX_SIDE {
            return Err(Error::Limit {
                what: format!("side of {name}"),
                needed: side as u64,
                available: MAX_SIDE as u64,
                remedy: "split the factor or use conjugate gradients on its products",
            });
        }
        let finite = self.entries.iter().all(|x| x.is_finite());
        if !finite || self.rows * self.columns != self.entries.len() || side == 0 {
            return Err(Error::Argument {
                op,
                what: name.into(),
                expected: "a matrix of finite numbers with at least one row and column".into(),
                got: format!(
                    "{} x {} with {} entries{}",
                    self.rows,
                    self.columns,
                    self.entries.len(),
                    if finite { "" } else { ", some not finite" }
                ),
            });
        }
        Ok(())
    }

    /// [`Matrix::check`] and that the matrix is square.
    pub(super) fn check_square(&self, op: &'static str, name: &str) -> Result<()> {
        self.check(op, name)?;
        if self.rows == self.columns {
            return Ok(());
        }
        Err(Error::Argument {
            op,
            what: name.into(),
            expected: "square".into(),
            got: format!("{} x {}", self.rows, self.columns),
        })
    }

    /// The mean with the transpose, where the two differ by rounding alone.
    pub(super) fn symmetric(&self, op: &'static str, name: &str) -> Result<Matrix> {
        self.check_square(op, name)?;
        let transposed = self.transposed();
        let pairs = self.entries.iter().zip(&transposed.entries);
        let apart = pairs.fold(0.0f64, |most, (a, b)| most.max((a - b).abs()));
        let largest = self.largest();
        if apart > SYMMETRY * largest {
            return Err(Error::Numeric {
                op,
                what: format!(
                    "{name} is not symmetric: an entry and its mirror differ by {apart:.3e}, the largest entry is {largest:.3e}; use `General`, which factorises by elimination"
                ),
            });
        }
        Ok(Matrix::of(self.rows, self.columns, |i, j| {
            0.5 * (self.at(i, j) + self.at(j, i))
        }))
    }

    fn is_diagonal(&self) -> bool {
        let rows = self.entries.chunks_exact(self.columns.max(1)).enumerate();
        rows.into_iter()
            .all(|(i, row)| row.iter().enumerate().all(|(j, x)| i == j || *x == 0.0))
    }
}

/// Eigenvalues and, as columns, orthonormal eigenvectors of a symmetric matrix.
///
/// Eigenvalues below n ε times the largest cannot be told from 0 and are 0. Those of a diagonal matrix are its entries.
pub(super) fn eigen(op: &'static str, name: &str, matrix: &Matrix) -> Result<(Vec<f64>, Matrix)> {
    if matrix.is_diagonal() {
        let values = (0..matrix.rows).map(|i| matrix.at(i, i)).collect();
        return Ok((values, Matrix::identity(matrix.rows)));
    }
    let eigen: SelfAdjointEigen<f64> = (matrix.view().self_adjoint_eigen(Side::Lower))
        .map_err(|_| unfinished(op, name, "eigenvalues"))?;
    let values = eigen.S().column_vector().iter().copied();
    let mut values: Vec<f64> = values.collect();
    let most = values.iter().fold(0.0f64, |most, x| most.max(x.abs()));
    let least = matrix.rows as f64 * f64::EPSILON * most;
    for value in &mut values {
        if value.abs() <= least {
            *value = 0.0;
        }
    }
    Ok((values, Matrix::from_faer(eigen.U())))
}

fn unfinished(op: &'static str, name: &str, what: &str) -> Error {
    Error::Numeric {
        op,
        what: format!("the {what} of {name} did not converge"),
    }
}

/// A v = λ C v of a symmetric and a positive definite matrix.
pub(super) struct Pencil {
    pub values: Vec<f64>,
    /// Columns with Vᵀ C V = I.
    pub vectors: Matrix,
    pub logdet: f64,
    /// Least and largest eigenvalue of C.
    pub spread: [f64; 2],
}

impl Pencil {
    pub fn new(op: &'static str, name: &str, a: &Matrix, metric: &Matrix) -> Result<Pencil> {
        let metric_name = format!("the metric of {name}");
        let (values, _) = eigen(op, &metric_name, metric)?;
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        let most = values.iter().copied().fold(0.0, f64::max);
        let indefinite = || Error::Numeric {
            op,
            what: format!(
                "{metric_name} is not positive definite: its least eigenvalue is {least:.3e}, its largest {most:.3e}"
            ),
        };
        if least <= 0.0 {
            return Err(indefinite());
        }
        let cholesky = (metric.view().llt(Side::Lower)).map_err(|_| indefinite())?;
        let lower = cholesky.L();
        // S = L⁻¹ A L⁻ᵀ: columns, then columns of the transpose.
        let mut half: Mat<f64> = a.view().to_owned();
        lower.solve_lower_triangular_in_place(half.as_mut());
        let mut whole: Mat<f64> = half.transpose().to_owned();
        lower.solve_lower_triangular_in_place(whole.as_mut());
        let whole = Matrix::from_faer(whole.as_ref());
        let mean = Matrix::of(whole.rows, whole.columns, |i, j| {
            0.5 * (whole.at(i, j) + whole.at(j, i))
        });
        let (values, vectors) = eigen(op, name, &mean)?;
        let mut vectors: Mat<f64> = vectors.view().to_owned();
        (lower.transpose()).solve_upper_triangular_in_place(vectors.as_mut());
        let diagonal = lower.diagonal().column_vector().iter();
        Ok(Pencil {
            values,
            vectors: Matrix::from_faer(vectors.as_ref()),
            logdet: 2.0 * diagonal.map(|x| x.ln()).sum::<f64>(),
            spread: [least, most],
        })
    }
}

/// What elimination with partial pivoting tells of a square matrix.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Elimination {
    /// -1, 0 or 1.
    pub sign: i8,
    /// Of the determinant's absolute value; -inf where it is singular.
    pub log_det: f64,
    /// None where it is singular.
    pub inverse: Option<Matrix>,
    /// ‖F‖₁ ‖F⁻¹‖₁.
    pub condition: f64,
}

impl Elimination {
    pub fn new(matrix: &Matrix) -> Elimination {
        let lu = matrix.view().partial_piv_lu();
        let pivots: Vec<f64> = (lu.U().diagonal().column_vector().iter())
            .copied()
            .collect();
        let most = pivots.iter().fold(0.0f64, |most, x| most.max(x.abs()));
        let least = matrix.rows as f64 * f64::EPSILON * most;
        let triangular = matrix.is_diagonal();
        let singular = |x: &f64| *x == 0.0 || (!triangular && x.abs() <= least);
        if pivots.iter().any(singular) {
            return Elimination {
                sign: 0,
                log_det: f64::NEG_INFINITY,
                inverse: None,
                condition: f64::INFINITY,
            };
        }
        let negative = pivots.iter().filter(|x| **x < 0.0).count();
        let odd = (negative + exchanges(lu.P().arrays().0)) % 2 == 1;
        let inverse = Matrix::from_faer(lu.inverse().as_ref());
        Elimination {
            sign: if odd { -1 } else { 1 },
            log_det: pivots.iter().map(|x| x.abs().ln()).sum(),
            condition: matrix.column_norm() * inverse.column_norm(),
            inverse: Some(inverse),
        }
    }
}

/// How many exchanges of two make a permutation: each cycle one less than its length.
fn exchanges(permutation: &[usize]) -> usize {
    let mut seen = vec![false; permutation.len()];
    let mut count = 0;
    for start in 0..permutation.len() {
        let mut at = start;
        let mut length = 0usize;
        while let Some(visited) = seen.get_mut(at).filter(|visited| !**visited) {
            *visited = true;
            length += 1;
            at = permutation.get(at).copied().unwrap_or(at);
        }
        count += length.saturating_sub(1);
    }
    count
}

/// U diag(s) Vᵀ of a rectangular matrix, as thin as it goes; singular values descend.
pub(super) struct Singular {
    pub left: Matrix,
    pub values: Vec<f64>,
    pub right: Matrix,
}

impl Singular {
    pub fn new(op: &'static str, name: &str, matrix: &Matrix) -> Result<Singular> {
        let svd =
            (matrix.view().thin_svd()).map_err(|_| unfinished(op, name, "singular values"))?;
        Ok(Singular {
            left: Matrix::from_faer(svd.U()),
            values: svd.S().column_vector().iter().copied().collect(),
            right: Matrix::from_faer(svd.V()),
        })
    }
}

/// One factor of a product, as it stands or transposed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mode<'a> {
    pub matrix: &'a Matrix,
    pub transposed: bool,
}

/// y = x (op(F_0) ⊗ op(F_1) ⊗ …) for rows of x, one mode after another from the last, in f64.
pub(super) fn multiply(rows: usize, x: &[f64], modes: &[Mode<'_>]) -> Vec<f64> {
    let mut y = x.to_vec();
    let mut right = 1;
    for (n, mode) in modes.iter().enumerate().rev() {
        let Mode { matrix, transposed } = mode;
        let (p, q) = match transposed {
            false => (matrix.rows, matrix.columns),
            true => (matrix.columns, matrix.rows),
        };
        let before = modes.iter().take(n).map(|mode| match mode.transposed {
            false => mode.matrix.rows,
            true => mode.matrix.columns,
        });
        let left = rows * before.product::<usize>();
        y = match transposed {
            false => stage(left, p, right, &y, matrix),
            true => stage(left, p, right, &y, &matrix.transposed()),
        };
        right *= q;
    }
    y
}

/// Y[l, j, r] = Σ_t X[l, t, r] F[t, j], each sum in the order of t.
fn stage(left: usize, p: usize, right: usize, x: &[f64], factor: &Matrix) -> Vec<f64> {
    let q = factor.columns;
    let mut y = vec![0.0; left * q * right];
    if y.is_empty() {
        return y;
    }
    if right >= 16 {
        let columns = factor.transposed();
        y.par_chunks_mut(right).enumerate().for_each(|(n, sums)| {
            let slab = x.chunks_exact(right).skip(n / q * p).take(p);
            let column = columns.entries.iter().skip(n % q * p);
            for (row, f) in slab.zip(column) {
                for (sum, x) in sums.iter_mut().zip(row) {
                    *sum += f * x;
                }
            }
        });
    } else {
        let slabs = y.par_chunks_mut(q * right).zip(x.par_chunks(p * right));
        slabs.with_min_len(16).for_each(|(sums, slab)| {
            let rows = factor.entries.chunks_exact(q);
            for (row, xs) in rows.zip(slab.chunks_exact(right)) {
                for (sums, f) in sums.chunks_exact_mut(right).zip(row) {
                    for (sum, x) in sums.iter_mut().zip(xs) {
                        *sum += f * x;
                    }
                }
            }
        });
    }
    y
}
