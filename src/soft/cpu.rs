//! Reference in f64, straight from the formulas, with the solves by Cholesky whatever the solver asked for. Parallel over
//! heads; results do not depend on the thread count.

#![allow(clippy::indexing_slicing, reason = "lengths are checked on entry")]

use rayon::prelude::*;

use super::{Options, Shape, plan::OP, run_of_landmark};
use crate::{Error, Result, error::length};

/// What [`forward`] and [`backward`] read: values already rounded to their storage type, shaped as in [`Shape`].
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// Queries and keys.
    pub q: &'a [f64],
    /// Landmarks; see [`pool_landmarks`] for those made from q.
    pub landmarks: &'a [f64],
    /// Values.
    pub v: &'a [f64],
}

/// What [`backward`] returns, each shaped as its input.
#[derive(Clone, Debug, PartialEq)]
pub struct Gradients {
    /// Of q, as queries and keys; through the landmarks only by [`pool_landmarks_backward`].
    pub q: Vec<f64>,
    /// Of the landmarks.
    pub landmarks: Vec<f64>,
    /// Of v.
    pub v: Vec<f64>,
}

/// A matrix, row-major.
#[derive(Clone, Debug)]
struct Matrix {
    rows: usize,
    columns: usize,
    at: Vec<f64>,
}

impl Matrix {
    fn from(rows: usize, columns: usize, value: impl Fn(usize, usize) -> f64) -> Matrix {
        let at = (0..rows * columns)
            .map(|n| value(n / columns, n % columns))
            .collect();
        Matrix { rows, columns, at }
    }

    fn row(&self, i: usize) -> &[f64] {
        &self.at[i * self.columns..(i + 1) * self.columns]
    }

    fn of(&self, i: usize, j: usize) -> f64 {
        self.at[i * self.columns + j]
    }

    fn turned(&self) -> Matrix {
        Matrix::from(self.columns, self.rows, |i, j| self.of(j, i))
    }

    /// self · other
    fn times(&self, other: &Matrix) -> Matrix {
        let mut product = Matrix::from(self.rows, other.columns, |_, _| 0.0);
        for i in 0..self.rows {
            let target = &mut product.at[i * other.columns..(i + 1) * other.columns];
            for (x, row) in self.row(i).iter().zip(other.at.chunks(other.columns)) {
                for (sum, y) in target.iter_mut().zip(row) {
                    *sum += x * y;
                }
            }
        }
        product
    }

    /// Rows scaled by s.
    fn scaled(&self, s: &[f64]) -> Matrix {
        Matrix::from(self.rows, self.columns, |i, j| s[i] * self.of(i, j))
    }
}

/// The lower triangle L of P = L Lᵀ, or none where P is not positive definite.
fn cholesky(p: &Matrix) -> Option<Matrix> {
    let mut l = Matrix::from(p.rows, p.rows, |_, _| 0.0);
    for i in 0..p.rows {
        for j in 0..=i {
            let known: f64 = (0..j).map(|k| l.of(i, k) * l.of(j, k)).sum();
            let rest = p.of(i, j) - known;
            l.at[i * p.rows + j] = match i == j {
                true if rest > 0.0 => rest.sqrt(),
                true => return None,
                false => rest / l.of(j, j),
            };
        }
    }
    Some(l)
}

/// P⁻¹ x from the factor of P.
fn solve(l: &Matrix, x: &Matrix) -> Matrix {
    let mut y = x.clone();
    let n = x.columns;
    let eliminate = |y: &mut Matrix, i: usize, from: usize, factor: f64| {
        for c in 0..n {
            y.at[i * n + c] -= factor * y.at[from * n + c];
        }
    };
    let divide = |y: &mut Matrix, i: usize| {
        for c in 0..n {
            y.at[i * n + c] /= l.of(i, i);
        }
    };
    for i in 0..l.rows {
        for k in 0..i {
            eliminate(&mut y, i, k, l.of(i, k));
        }
        divide(&mut y, i);
    }
    for i in (0..l.rows).rev() {
        for k in i + 1..l.rows {
            eliminate(&mut y, i, k, l.of(k, i));
        }
        divide(&mut y, i);
    }
    y
}

fn squared_distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| (x - y) * (x - y)).sum()
}

/// exp(−‖x_i − l_a‖² / (2√D))
fn kernel(x: &Matrix, l: &Matrix) -> Matrix {
    let scale = 1.0 / (2.0 * (l.columns as f64).sqrt());
    Matrix::from(x.rows, l.rows, |i, a| {
        (-scale * squared_distance(x.row(i), l.row(a))).exp()
    })
}

/// The landmarks of a head, their kernel matrix without and with its ridge, and the factor of the latter.
struct System {
    l: Matrix,
    p0: Matrix,
    p: Matrix,
    factor: Matrix,
}

impl System {
    fn new(shape: &Shape, options: &Options, landmarks: &[f64], n: usize) -> Result<System> {
        let m = shape.landmarks;
        let l = Matrix::from(m, shape.width, |a, d| {
            landmarks[(n * m + a) * shape.width + d]
        });
        let p0 = kernel(&l, &l);
        let ridge = f64::from(options.ridge);
        let p = Matrix::from(m, m, |a, b| p0.of(a, b) + if a == b { ridge } else { 0.0 });
        let factor = cholesky(&p).ok_or_else(|| Error::Numeric {
            op: OP,
            what: format!(
                "batch {}, head {}: the kernel matrix of the landmarks is not positive definite; raise the ridge",
                n / shape.heads,
                n % shape.heads
            ),
        })?;
        Ok(System { l, p0, p, factor })
    }
}

/// One head: its tensors and what forward and backward share.
struct Head {
    q: Matrix,
    v: Matrix,
    c: Matrix,
    system: System,
    /// (P 1)^(−1/2), or ones without the normalisation.
    s: Vec<f64>,
}

fn rows_of(shape: &Shape, tensor: &[f64], n: usize, width: usize) -> Matrix {
    let [batch, head, token] = shape.strides().map(|stride| stride as usize);
    let first = n / shape.heads * batch + n % shape.heads * head;
    Matrix::from(shape.tokens, width, |t, w| {
        tensor[(first + t * token) * width + w]
    })
}

impl Head {
    fn new(shape: &Shape, options: &Options, inputs: &Inputs<'_>, n: usize) -> Result<Head> {
        let q = rows_of(shape, inputs.q, n, shape.width);
        let v = rows_of(shape, inputs.v, n, shape.value);
        let system = System::new(shape, options, inputs.landmarks, n)?;
        let c = kernel(&q, &system.l);
        let s = (0..shape.landmarks)
            .map(|a| match options.symmetric_norm {
                true => system.p.row(a).iter().sum::<f64>().sqrt().recip(),
                false => 1.0,
            })
            .collect();
        Ok(Head { q, v, c, system, s })
    }

    /// P⁻¹ (s ⊙ Cᵀ x), and s ⊙ Cᵀ x.
    fn solved(&self, x: &Matrix) -> (Matrix, Matrix) {
        let right = self.c.turned().times(x).scaled(&self.s);
        (solve(&self.system.factor, &right), right)
    }
}

fn check(shape: &Shape, options: &Options, inputs: &Inputs<'_>) -> Result<()> {
    shape.check(OP)?;
    options.check(OP)?;
    length(OP, "q", inputs.q.len(), shape.query_len())?;
    length(
        OP,
        "landmarks",
        inputs.landmarks.len(),
        shape.landmark_len(),
    )?;
    length(OP, "v", inputs.v.len(), shape.value_len())
}

/// Puts the rows of each head where the layout has them.
fn gather<'a>(shape: &Shape, width: usize, heads: impl Iterator<Item = &'a Matrix>) -> Vec<f64> {
    let [batch, head, token] = shape.strides().map(|stride| stride as usize);
    let mut tensor = vec![0.0; shape.rows() * shape.tokens * width];
    for (n, matrix) in heads.enumerate() {
        for t in 0..shape.tokens {
            let row = n / shape.heads * batch + n % shape.heads * head + t * token;
            tensor[row * width..(row + 1) * width].copy_from_slice(matrix.row(t));
        }
    }
    tensor
}

/// [`soft_attention`](super::soft_attention) in f64.
///
/// # Errors
/// `Argument` when a slice has the wrong length or the shape or options make no sense; `Numeric` when P is not positive
/// definite.
pub fn forward(shape: &Shape, options: &Options, inputs: &Inputs<'_>) -> Result<Vec<f64>> {
    check(shape, options, inputs)?;
    let heads = (0..shape.rows())
        .into_par_iter()
        .map(|n| {
            let head = Head::new(shape, options, inputs, n)?;
            let y = head.solved(&head.v).0.scaled(&head.s);
            Ok(head.c.times(&y))
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(gather(shape, shape.value, heads.iter()))
}

/// Condition number of P for each head, `[batch, heads]`, by which errors grow: its largest eigenvalue over its smallest, each
/// approached from inside by 100 steps of power iteration.
///
/// # Errors
/// As [`forward`].
pub fn condition(shape: &Shape, options: &Options, landmarks: &[f64]) -> Result<Vec<f64>> {
    shape.check(OP)?;
    options.check(OP)?;
    length(OP, "landmarks", landmarks.len(), shape.landmark_len())?;
    (0..shape.rows())
        .into_par_iter()
        .map(|n| {
            let System { p, factor, .. } = System::new(shape, options, landmarks, n)?;
            let largest = largest_eigenvalue(p.rows, |x| p.times(x));
            Ok(largest * largest_eigenvalue(p.rows, |x| solve(&factor, x)))
        })
        .collect()
}

fn largest_eigenvalue(n: usize, apply: impl Fn(&Matrix) -> Matrix) -> f64 {
    // A start with a part along every eigenvector that is likely: no two entries alike.
    let mut x = Matrix::from(n, 1, |a, _| 1.0 + (1.7 * a as f64).sin());
    let mut value = 0.0;
    for _ in 0..100 {
        let length = x.at.iter().map(|x| x * x).sum::<f64>().sqrt();
        x.at.iter_mut().for_each(|x| *x /= length);
        let image = apply(&x);
        value = x.at.iter().zip(&image.at).map(|(x, y)| x * y).sum();
        x = image;
    }
    value
}

/// [`backward`](super::backward) in f64: the gradients of Σ `grad_o` · o, with the inverse differentiated in closed form
/// (dP = −P⁻¹ dY (P⁻¹ X)ᵀ).
///
/// # Errors
/// As [`forward`].
pub fn backward(
    shape: &Shape,
    options: &Options,
    inputs: &Inputs<'_>,
    grad_o: &[f64],
) -> Result<Gradients> {
    check(shape, options, inputs)?;
    length(OP, "grad_o", grad_o.len(), shape.value_len())?;
    let heads = (0..shape.rows())
        .into_par_iter()
        .map(|n| {
            let head = Head::new(shape, options, inputs, n)?;
            let grad_o = rows_of(shape, grad_o, n, shape.value);
            Ok(head_backward(shape, options, &head, &grad_o))
        })
        .collect::<Result<Vec<_>>>()?;
    Ok(Gradients {
        q: gather(shape, shape.width, heads.iter().map(|[q, ..]| q)),
        landmarks: heads.iter().flat_map(|[_, l, _]| l.at.clone()).collect(),
        v: gather(shape, shape.value, heads.iter().map(|[.., v]| v)),
    })
}

fn head_backward(shape: &Shape, options: &Options, head: &Head, grad_o: &Matrix) -> [Matrix; 3] {
    let Head { q, v, c, s, system } = head;
    let System { l, p0, .. } = system;
    let (m, width) = (shape.landmarks, shape.width);
    let (y1, x) = head.solved(v);
    let (z, dy) = head.solved(grad_o);
    let (y, dx) = (y1.scaled(s), z.scaled(s));
    // x and dy are scaled by s already: s³ of the formula is s² here.
    let row_term = |a: usize| -> f64 {
        if !options.symmetric_norm {
            return 0.0;
        }
        let sum: f64 = (0..shape.value)
            .map(|w| dy.of(a, w) * y1.of(a, w) + z.of(a, w) * x.of(a, w))
            .sum();
        0.5 * s[a] * s[a] * sum
    };
    let terms: Vec<f64> = (0..m).map(row_term).collect();
    let dp = {
        let product = z.times(&y1.turned());
        Matrix::from(m, m, |a, b| -product.of(a, b) - terms[a])
    };
    let root = (width as f64).sqrt();
    let (by_o, by_v) = (grad_o.times(&y.turned()), v.times(&dx.turned()));
    let h = Matrix::from(shape.tokens, m, |i, a| {
        (by_o.of(i, a) + by_v.of(i, a)) * c.of(i, a) / root
    });
    let j = Matrix::from(m, m, |a, b| {
        (dp.of(a, b) + dp.of(b, a)) * p0.of(a, b) / root
    });
    let mut dq = Matrix::from(shape.tokens, width, |_, _| 0.0);
    let mut dl = Matrix::from(m, width, |_, _| 0.0);
    for i in 0..shape.tokens {
        for a in 0..m {
            for d in 0..width {
                let part = h.of(i, a) * (q.of(i, d) - l.of(a, d));
                dq.at[i * width + d] -= part;
                dl.at[a * width + d] += part;
            }
        }
    }
    for a in 0..m {
        for b in 0..m {
            for d in 0..width {
                dl.at[a * width + d] -= j.of(a, b) * (l.of(a, d) - l.of(b, d));
            }
        }
    }
    [dq, dl, c.times(&dx)]
}

/// [`pool_landmarks`](super::pool_landmarks) in f64.
///
/// # Errors
/// `Argument` when q has the wrong length, or there are more landmarks than tokens.
pub fn pool_landmarks(shape: &Shape, q: &[f64]) -> Result<Vec<f64>> {
    shape.check(OP)?;
    shape.check_pooled(OP)?;
    length(OP, "q", q.len(), shape.query_len())?;
    let mut landmarks = Vec::with_capacity(shape.landmark_len());
    for n in 0..shape.rows() {
        let rows = rows_of(shape, q, n, shape.width);
        for a in 0..shape.landmarks {
            let run = run_of_landmark(shape.tokens, shape.landmarks, a);
            let len = run.len() as f64;
            landmarks.extend(
                (0..shape.width).map(|d| run.clone().map(|t| rows.of(t, d)).sum::<f64>() / len),
            );
        }
    }
    Ok(landmarks)
}

/// Adds to the gradient of q what reaches it through [`pool_landmarks`]: each token its share of its landmark's gradient.
///
/// # Errors
/// `Argument` when a slice has the wrong length, or there are more landmarks than tokens.
pub fn pool_landmarks_backward(
    shape: &Shape,
    grad_landmarks: &[f64],
    grad_q: &mut [f64],
) -> Result<()> {
    shape.check(OP)?;
    shape.check_pooled(OP)?;
    length(
        OP,
        "grad_landmarks",
        grad_landmarks.len(),
        shape.landmark_len(),
    )?;
    length(OP, "grad_q", grad_q.len(), shape.query_len())?;
    let [batch, head, token] = shape.strides().map(|stride| stride as usize);
    let (m, width) = (shape.landmarks, shape.width);
    for n in 0..shape.rows() {
        for a in 0..m {
            let run = run_of_landmark(shape.tokens, m, a);
            let len = run.len() as f64;
            for t in run {
                let row = n / shape.heads * batch + n % shape.heads * head + t * token;
                for d in 0..width {
                    grad_q[row * width + d] += grad_landmarks[(n * m + a) * width + d] / len;
                }
            }
        }
    }
    Ok(())
}
