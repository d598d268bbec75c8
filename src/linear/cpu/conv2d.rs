//! Depthwise convolution and its adjoint, straight from the formula.

use rayon::prelude::*;

use super::dot;
use crate::{
    Result,
    error::length,
    linear::{Conv2d, Layout, conv2d::OP},
};

/// What [`depthwise_conv2d_adjoint`] returns: gradients in the shapes of x, the weights and the bias.
#[derive(Clone, Debug, PartialEq)]
pub struct Conv2dGradients {
    /// Of x.
    pub x: Vec<f64>,
    /// Of the weights.
    pub weight: Vec<f64>,
    /// Of the bias, whether or not there is one.
    pub bias: Vec<f64>,
}

/// [`linear::depthwise_conv2d`](crate::linear::depthwise_conv2d) in f64, without what it is added to.
///
/// # Errors
/// `Argument` for an impossible shape or a slice of the wrong length.
pub fn depthwise_conv2d(
    shape: &Conv2d,
    x: &[f64],
    weight: &[f64],
    bias: Option<&[f64]>,
) -> Result<Vec<f64>> {
    check(shape, x, weight)?;
    if let Some(bias) = bias {
        length(OP, "bias", bias.len(), shape.kernels())?;
    }
    let rows: Vec<Row> = rows(shape);
    let out = rows.par_iter().flat_map_iter(|row| {
        (0..shape.value).map(|v| {
            let channel = shape.channel(row.head, v);
            let kernel = &weight[channel * shape.taps()..][..shape.taps()];
            let shift = bias.map_or(0.0, |bias| bias[channel]);
            let read = |other: &Option<usize>| other.map_or(0.0, |row| x[row * shape.value + v]);
            let around: Vec<f64> = row.around.iter().map(read).collect();
            shift + dot(kernel, &around)
        })
    });
    Ok(out.collect())
}

/// [`linear::depthwise_conv2d_adjoint`](crate::linear::depthwise_conv2d_adjoint) in f64: gradients of Σ `grad` ⊙ o.
///
/// # Errors
/// As [`depthwise_conv2d`].
pub fn depthwise_conv2d_adjoint(
    shape: &Conv2d,
    x: &[f64],
    weight: &[f64],
    grad: &[f64],
) -> Result<Conv2dGradients> {
    check(shape, x, weight)?;
    length(OP, "grad", grad.len(), shape.len())?;
    let mut all = Conv2dGradients {
        x: vec![0.0; shape.len()],
        weight: vec![0.0; weight.len()],
        bias: vec![0.0; shape.kernels()],
    };
    for (at, row) in rows(shape).iter().enumerate() {
        for v in 0..shape.value {
            let channel = shape.channel(row.head, v);
            let d = grad[at * shape.value + v];
            all.bias[channel] += d;
            for (tap, other) in row.around.iter().enumerate() {
                if let Some(other) = other {
                    let (tap, other) = (channel * shape.taps() + tap, other * shape.value + v);
                    all.x[other] += d * weight[tap];
                    all.weight[tap] += d * x[other];
                }
            }
        }
    }
    Ok(all)
}

fn check(shape: &Conv2d, x: &[f64], weight: &[f64]) -> Result<()> {
    shape.check("depthwise_conv2d")?;
    length(OP, "x", x.len(), shape.len())?;
    length(OP, "weight", weight.len(), shape.kernels() * shape.taps())
}

/// A token of a head, and the rows that its kernel meets, in the kernel's order; none outside the grid.
struct Row {
    head: usize,
    around: Vec<Option<usize>>,
}

/// Every row of x, in order.
fn rows(shape: &Conv2d) -> Vec<Row> {
    let (tokens, heads) = (shape.tokens(), shape.heads);
    let [lines, columns] = shape.grid;
    let [kh, kw] = shape.kernel;
    let all = 0..shape.batch * tokens * heads;
    let row = |at: usize| {
        let (batch, rest) = (at / (tokens * heads), at % (tokens * heads));
        let (token, head) = match shape.layout {
            Layout::Bthd => (rest / heads, rest % heads),
            Layout::Bhtd => (rest % tokens, rest / tokens),
        };
        let place = |line: usize, column: usize| {
            let token = line * columns + column;
            let within = match shape.layout {
                Layout::Bthd => token * heads + head,
                Layout::Bhtd => head * tokens + token,
            };
            batch * tokens * heads + within
        };
        let beside = |from: usize, tap: usize, kernel: usize, end: usize| {
            (from + tap).checked_sub(kernel / 2).filter(|at| *at < end)
        };
        let around = (0..kh * kw).map(|tap| {
            let line = beside(token / columns, tap / kw, kh, lines)?;
            let column = beside(token % columns, tap % kw, kw, columns)?;
            Some(place(line, column))
        });
        Row {
            head,
            around: around.collect(),
        }
    };
    all.map(row).collect()
}
