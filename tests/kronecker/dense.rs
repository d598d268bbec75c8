//! Dense matrices in f64, as slow and as plain as can be: what the structured ones are held against.

use subquad::{case::Numbers, kronecker::Matrix};

/// Numbers in [-1, 1).
pub fn numbers(name: &str, len: usize) -> Vec<f64> {
    let mut numbers = Numbers::of(name);
    (0..len).map(|_| numbers.signed()).collect()
}

/// Any matrix.
pub fn general(name: &str, rows: usize, columns: usize) -> Matrix {
    Matrix::new(rows, columns, numbers(name, rows * columns)).unwrap()
}

/// B Bᵀ / n + c I.
pub fn definite(name: &str, n: usize, c: f64) -> Matrix {
    let b = general(name, n, n);
    let dot = |i: usize, j: usize| (0..n).map(|k| b.at(i, k) * b.at(j, k)).sum::<f64>();
    Matrix::of(n, n, |i, j| {
        dot(i, j) / n as f64 + if i == j { c } else { 0.0 }
    })
}

/// (B + Bᵀ) / 2: some eigenvalues are negative.
pub fn indefinite(name: &str, n: usize) -> Matrix {
    let b = general(name, n, n);
    Matrix::of(n, n, |i, j| 0.5 * (b.at(i, j) + b.at(j, i)))
}

/// A covariance exp(-(i - j)² / (2 l²)) of n points one apart.
pub fn covariance(n: usize, length: f64) -> Matrix {
    let entry = |i: usize, j: usize| (-0.5 * ((i as f64 - j as f64) / length).powi(2)).exp();
    Matrix::of(n, n, entry)
}

pub fn kronecker(factors: &[Matrix]) -> Matrix {
    let one = Matrix::identity(1);
    factors.iter().fold(one, |a, b| {
        Matrix::of(a.rows * b.rows, a.columns * b.columns, |i, j| {
            a.at(i / b.rows, j / b.columns) * b.at(i % b.rows, j % b.columns)
        })
    })
}

/// Σ_i C_0 ⊗ … ⊗ A_i ⊗ … ⊗ C_k.
pub fn kronecker_sum(factors: &[Matrix], metrics: &[Matrix]) -> Matrix {
    let terms = (0..factors.len()).map(|i| {
        let mut each = metrics.to_vec();
        each[i] = factors[i].clone();
        kronecker(&each)
    });
    terms.reduce(|a, b| plus(&a, &b, 1.0)).unwrap()
}

/// a + s b.
pub fn plus(a: &Matrix, b: &Matrix, s: f64) -> Matrix {
    Matrix::of(a.rows, a.columns, |i, j| a.at(i, j) + s * b.at(i, j))
}

pub fn shifted(a: &Matrix, c: f64) -> Matrix {
    plus(a, &Matrix::identity(a.rows), c)
}

/// a x for each row x.
pub fn times(a: &Matrix, x: &[f64]) -> Vec<f64> {
    let rows = x.chunks_exact(a.columns);
    let each = rows.flat_map(|x| {
        let lines = a.entries.chunks_exact(a.columns);
        lines.map(move |line| line.iter().zip(x).map(|(a, x)| a * x).sum())
    });
    each.collect()
}

/// a⁻¹ b for each row b, and the sign and logarithm of the determinant: elimination with partial pivoting.
pub fn eliminate(a: &Matrix, b: &[f64]) -> (Vec<f64>, i8, f64) {
    let n = a.rows;
    let rows = b.len() / n;
    // Each line of the matrix, then its entries of every b.
    let width = n + rows;
    let mut lines: Vec<Vec<f64>> = (0..n)
        .map(|i| {
            let right = (0..rows).map(|m| b[m * n + i]);
            (0..n).map(|j| a.at(i, j)).chain(right).collect()
        })
        .collect();
    let (mut sign, mut log) = (1i8, 0.0);
    for k in 0..n {
        let pivot = (k..n)
            .max_by(|i, j| lines[*i][k].abs().total_cmp(&lines[*j][k].abs()))
            .unwrap();
        if pivot != k {
            lines.swap(pivot, k);
            sign = -sign;
        }
        let line = lines[k].clone();
        if line[k] < 0.0 {
            sign = -sign;
        }
        log += line[k].abs().ln();
        for own in &mut lines[k + 1..] {
            let share = own[k] / line[k];
            for j in k..width {
                own[j] -= share * line[j];
            }
        }
    }
    let mut x = vec![0.0; b.len()];
    for m in 0..rows {
        for i in (0..n).rev() {
            let rest: f64 = (i + 1..n).map(|j| lines[i][j] * x[m * n + j]).sum();
            x[m * n + i] = (lines[i][n + m] - rest) / lines[i][i];
        }
    }
    (x, sign, log)
}

pub fn norm(x: &[f64]) -> f64 {
    x.iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// ‖x − y‖ / ‖y‖.
pub fn apart(x: &[f64], y: &[f64]) -> f64 {
    assert_eq!(x.len(), y.len());
    let difference: Vec<f64> = x.iter().zip(y).map(|(x, y)| x - y).collect();
    norm(&difference) / norm(y).max(1e-300)
}
