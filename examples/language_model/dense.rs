//! The dense parts and their adjoints, in f32 on the host. Rows are tokens; results do not depend on the number of threads.
use rayon::prelude::*;

/// Rows that a thread takes at a time.
const ROWS: usize = 16;

/// x w, with x `[rows, inner]` and w `[inner, outer]`.
pub fn matmul(x: &[f32], w: &[f32], inner: usize) -> Vec<f32> {
    let outer = w.len() / inner;
    let mut y = vec![0.0; x.len() / inner * outer];
    y.par_chunks_mut(ROWS * outer)
        .zip(x.par_chunks(ROWS * inner))
        .for_each(|(y, x)| {
            for (y, x) in y.chunks_mut(outer).zip(x.chunks(inner)) {
                for (x, w) in x.iter().zip(w.chunks(outer)) {
                    axpy(*x, w, y);
                }
            }
        });
    y
}

/// The gradient of x from that of y = x w; the gradient of w is added to `dw`.
pub fn matmul_adjoint(x: &[f32], w: &[f32], inner: usize, dy: &[f32], dw: &mut [f32]) -> Vec<f32> {
    let outer = w.len() / inner;
    dw.par_chunks_mut(outer).enumerate().for_each(|(n, dw)| {
        for (x, dy) in x.chunks(inner).zip(dy.chunks(outer)) {
            axpy(x[n], dy, dw);
        }
    });
    let mut dx = vec![0.0; x.len()];
    dx.par_chunks_mut(ROWS * inner)
        .zip(dy.par_chunks(ROWS * outer))
        .for_each(|(dx, dy)| {
            for (dx, dy) in dx.chunks_mut(inner).zip(dy.chunks(outer)) {
                for (dx, w) in dx.iter_mut().zip(w.chunks(outer)) {
                    *dx = dot(dy, w);
                }
            }
        });
    dx
}

fn axpy(a: f32, x: &[f32], y: &mut [f32]) {
    y.iter_mut().zip(x).for_each(|(y, x)| *y += a * x);
}

/// Eight sums at a time, which the compiler turns into vectors.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let (whole, rest) = a.as_chunks::<8>();
    let (others, tail) = b.as_chunks::<8>();
    let mut sums = [0.0f32; 8];
    for (a, b) in whole.iter().zip(others) {
        for n in 0..8 {
            sums[n] += a[n] * b[n];
        }
    }
    let tail: f32 = rest.iter().zip(tail).map(|(a, b)| a * b).sum();
    sums.iter().sum::<f32>() + tail
}

const EPS: f32 = 1e-5;

fn inverse_norm(x: &[f32]) -> f32 {
    (x.iter().map(|x| x * x).sum::<f32>() / x.len() as f32 + EPS)
        .sqrt()
        .recip()
}

/// Each row over its root-mean-square, times w; rows are as long as w.
pub fn rms_norm(x: &[f32], w: &[f32]) -> Vec<f32> {
    let mut y = x.to_vec();
    for row in y.chunks_mut(w.len()) {
        let r = inverse_norm(row);
        row.iter_mut().zip(w).for_each(|(y, w)| *y *= r * w);
    }
    y
}

/// The gradient of x from that of y = `rms_norm(x, w)`; the gradient of w is added to `dw`.
pub fn rms_norm_adjoint(x: &[f32], w: &[f32], dy: &[f32], dw: &mut [f32]) -> Vec<f32> {
    let mut dx = vec![0.0; x.len()];
    let rows = x.chunks(w.len()).zip(dy.chunks(w.len()));
    for ((x, dy), dx) in rows.zip(dx.chunks_mut(w.len())) {
        let r = inverse_norm(x);
        let inner: f32 = (0..w.len()).map(|n| w[n] * dy[n] * x[n]).sum();
        let back = r * r * r * inner / w.len() as f32;
        for n in 0..w.len() {
            dw[n] += dy[n] * x[n] * r;
            dx[n] = r * w[n] * dy[n] - back * x[n];
        }
    }
    dx
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// x times its sigmoid.
pub fn silu(x: &[f32]) -> Vec<f32> {
    x.iter().map(|x| x * sigmoid(*x)).collect()
}

/// The gradient of x from that of `silu(x)`.
pub fn silu_adjoint(x: &[f32], dy: &[f32]) -> Vec<f32> {
    let slope = |x: f32| sigmoid(x) * (1.0 + x * (1.0 - sigmoid(x)));
    x.iter().zip(dy).map(|(x, dy)| dy * slope(*x)).collect()
}

/// Gated linear attention takes the sixteenth of a logarithm, so that gates of one half forget slowly.
const GATE: f32 = 1.0 / 16.0;

/// Decays from gates: the logarithm of the sigmoid of z, over 16.
pub fn log_gate(z: &[f32]) -> Vec<f32> {
    let log_sigmoid = |z: f32| z.min(0.0) - (-z.abs()).exp().ln_1p();
    z.iter().map(|z| GATE * log_sigmoid(*z)).collect()
}

/// The gradient of z from that of `log_gate(z)`.
pub fn log_gate_adjoint(z: &[f32], dg: &[f32]) -> Vec<f32> {
    let gates = z.iter().zip(dg);
    gates.map(|(z, dg)| dg * GATE * sigmoid(-z)).collect()
}

/// Adds b to every row of x.
pub fn add_bias(x: &mut [f32], b: &[f32]) {
    for row in x.chunks_mut(b.len()) {
        row.iter_mut().zip(b).for_each(|(x, b)| *x += b);
    }
}

/// Adds up the rows of dx into `db`.
pub fn add_bias_adjoint(dx: &[f32], db: &mut [f32]) {
    for row in dx.chunks(db.len()) {
        db.iter_mut().zip(row).for_each(|(b, x)| *b += x);
    }
}

/// x += y.
pub fn add(x: &mut [f32], y: &[f32]) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
}

/// Mean cross entropy of the rows of logits against the expected symbols, and its gradient.
pub fn cross_entropy(logits: &[f32], expected: &[usize]) -> (f64, Vec<f32>) {
    let (rows, symbols) = (expected.len(), logits.len() / expected.len());
    let mut gradient = vec![0.0; logits.len()];
    let mut loss = 0.0;
    let gradients = gradient.chunks_mut(symbols);
    for ((logits, gradient), at) in logits.chunks(symbols).zip(gradients).zip(expected) {
        let most = logits.iter().copied().fold(f32::MIN, f32::max);
        let weights = logits.iter().map(|x| f64::from(x - most).exp());
        let sum: f64 = weights.clone().sum();
        loss -= f64::from(logits[*at] - most) - sum.ln();
        for (g, weight) in gradient.iter_mut().zip(weights) {
            *g = (weight / sum / rows as f64) as f32;
        }
        gradient[*at] -= (rows as f32).recip();
    }
    (loss / rows as f64, gradient)
}
