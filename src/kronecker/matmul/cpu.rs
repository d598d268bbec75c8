//! The product in f64, axis by axis in the operator's order.

use rayon::prelude::*;

use super::{
    OP,
    order::{Mode, modes},
    shape::{self, Kind, Operator, Options, Place, Shape, Side},
};
use crate::{Result, error::length};

/// [`matmul()`](super::matmul()): `factors` are the entries of each factor but identities; z is what it holds before, and may be empty
/// where beta is 0 and rows lie one after another.
///
/// # Errors
/// `Argument` when sizes do not fit together.
pub fn matmul(
    operator: &Operator,
    shape: &Shape,
    options: &Options,
    factors: &[&[f64]],
    x: &[f64],
    z: &[f64],
) -> Result<Vec<f64>> {
    check(operator, shape, options, factors, x)?;
    let target = shape.target(operator);
    let empty = z.is_empty() && options.beta == 0.0 && target.dense;
    if !empty {
        target.holds("z", z.len())?;
    }
    let mut out = if empty {
        vec![0.0; target.len()]
    } else {
        z.to_vec()
    };
    let [alpha, beta] = [options.alpha, options.beta].map(f64::from);
    let x = gather(&shape.source(operator), x);
    let y = product(operator, shape, factors, x);
    let rows = y.chunks_exact(target.width.max(1));
    for (row, at) in rows.zip(starts(&target)) {
        for (z, y) in out.iter_mut().skip(at).zip(row) {
            *z = alpha * y + if beta == 0.0 { 0.0 } else { beta * *z };
        }
    }
    Ok(out)
}

/// x K for rows of f64, one after another: what other references build on.
///
/// # Errors
/// `Argument` when sizes do not fit together.
pub fn apply(operator: &Operator, factors: &[&[f64]], x: &[f64]) -> Result<Vec<f64>> {
    let shape = Shape::rows(x.len() / operator.rows().max(1));
    matmul(operator, &shape, &Options::default(), factors, x, &[])
}

fn check(
    operator: &Operator,
    shape: &Shape,
    options: &Options,
    factors: &[&[f64]],
    x: &[f64],
) -> Result<()> {
    shape::check(operator, shape, options)?;
    super::counted(operator, factors.len())?;
    for (n, (factor, entries)) in operator.stored().zip(factors).enumerate() {
        let expected = factor.len(shape.batch);
        length(OP, &format!("factors[{n}]"), entries.len(), expected)?;
    }
    shape.source(operator).holds("x", x.len())
}

/// Where rows start.
fn starts(place: &Place) -> impl Iterator<Item = usize> + use<> {
    let Place { rows, strides, .. } = *place;
    (0..place.batch)
        .flat_map(move |batch| (0..rows).map(move |row| batch * strides.batch + row * strides.row))
}

/// Rows one after another.
pub(super) fn gather(place: &Place, x: &[f64]) -> Vec<f64> {
    let rows = starts(place).flat_map(|at| x.iter().skip(at).take(place.width));
    rows.copied().collect()
}

/// The product of rows that lie one after another.
pub(super) fn product(
    operator: &Operator,
    shape: &Shape,
    factors: &[&[f64]],
    mut x: Vec<f64>,
) -> Vec<f64> {
    let modes = modes(operator, shape.side);
    let inner = match shape.side {
        Side::Right => 1,
        Side::Left => shape.rows,
    };
    let per_batch = match shape.side {
        Side::Right => shape.rows,
        Side::Left => 1,
    };
    for (n, mode) in modes.iter().enumerate() {
        let before: usize = modes.iter().take(n).map(|mode| mode.q).product();
        let after: usize = modes.iter().skip(n + 1).map(|mode| mode.p).product();
        let entries = factors.get(mode.stored).copied().unwrap_or_default();
        x = contract(mode, entries, [before * per_batch, after * inner], &x);
    }
    x
}

/// One axis: y[l, j, r] = sum_t x[l, t, r] F[t, j], with `units` of l to a batch.
pub(super) fn contract(
    mode: &Mode,
    entries: &[f64],
    [units, r]: [usize; 2],
    x: &[f64],
) -> Vec<f64> {
    if mode.kind == Kind::Identity || r == 0 {
        return x.to_vec();
    }
    let slabs = x.par_chunks_exact(mode.p * r).enumerate();
    let out = slabs.map(|(l, x)| {
        let own = entries
            .get(l / units.max(1) * mode.batch_stride..)
            .unwrap_or_default();
        let entry = |t: usize, j: usize| {
            let at = match mode.kind {
                Kind::Dense => t * mode.t_stride + j * mode.j_stride,
                _ => j,
            };
            own.get(at).copied().unwrap_or(0.0)
        };
        let mut y = vec![0.0; mode.q * r];
        for (j, y) in y.chunks_exact_mut(r).enumerate() {
            for (t, x) in x.chunks_exact(r).enumerate() {
                if mode.kind == Kind::Diagonal && t != j {
                    continue;
                }
                let f = entry(t, j);
                for (y, x) in y.iter_mut().zip(x) {
                    *y += f * x;
                }
            }
        }
        y
    });
    out.flatten_iter().collect()
}

/// Gradients in f64.
#[derive(Clone, Debug, PartialEq)]
pub struct Gradients {
    /// With respect to x, summed over what x repeats.
    pub x: Vec<f64>,
    /// With respect to each factor that takes a tensor.
    pub factors: Vec<Vec<f64>>,
}

/// [`gradients()`](super::gradients()): axis by axis in the operator's order, and back.
///
/// # Errors
/// `Argument` when sizes do not fit together.
pub fn gradients(
    operator: &Operator,
    shape: &Shape,
    options: &Options,
    factors: &[&[f64]],
    x: &[f64],
    grad_z: &[f64],
) -> Result<Gradients> {
    check(operator, shape, options, factors, x)?;
    let (source, target) = (shape.source(operator), shape.target(operator));
    target.holds("grad_z", grad_z.len())?;
    let alpha = f64::from(options.alpha);
    let modes = modes(operator, shape.side);
    let (inner, per_batch) = match shape.side {
        Side::Right => (1, shape.rows),
        Side::Left => (shape.rows, 1),
    };
    let around = |n: usize| {
        let before: usize = modes.iter().take(n).map(|mode| mode.q).product();
        let after: usize = modes.iter().skip(n + 1).map(|mode| mode.p).product();
        [before * per_batch, after * inner]
    };
    let entries = |mode: &Mode| factors.get(mode.stored).copied().unwrap_or_default();
    let mut inputs = vec![gather(&source, x)];
    for (n, mode) in modes.iter().enumerate() {
        let x = inputs.last().map(Vec::as_slice).unwrap_or_default();
        inputs.push(contract(mode, entries(mode), around(n), x));
    }
    let mut g: Vec<f64> = gather(&target, grad_z);
    g.iter_mut().for_each(|g| *g *= alpha);
    let mut grads: Vec<Vec<f64>> = factors.iter().map(|f| vec![0.0; f.len()]).collect();
    for (n, mode) in modes.iter().enumerate().rev() {
        let x = inputs.get(n).map(Vec::as_slice).unwrap_or_default();
        if mode.kind != Kind::Identity
            && let Some(grad) = grads.get_mut(mode.stored)
        {
            factor_grad(mode, around(n), x, &g, grad);
        }
        g = contract(&mode.turned(), entries(mode), around(n), &g);
    }
    let lasting = super::grad_x_len(operator, shape);
    let mut grad_x = vec![0.0; lasting];
    let rows_kept = if source.strides.row == 0 {
        1
    } else {
        source.rows
    };
    for (n, row) in g.chunks_exact(source.width.max(1)).enumerate() {
        let (batch, row_of) = (n / source.rows.max(1), n % source.rows.max(1));
        let batch = if source.strides.batch == 0 { 0 } else { batch };
        let row_of = row_of.min(rows_kept - 1);
        let at = (batch * rows_kept + row_of) * source.width;
        for (sum, g) in grad_x.iter_mut().skip(at).zip(row) {
            *sum += g;
        }
    }
    Ok(Gradients {
        x: grad_x,
        factors: grads,
    })
}

/// F[i, j] += sum_(l, r) x[l, i, r] g[l, j, r], with `units` of l to a batch.
fn factor_grad(mode: &Mode, [units, r]: [usize; 2], x: &[f64], g: &[f64], grad: &mut [f64]) {
    let Mode { p, q, .. } = *mode;
    if r == 0 {
        return;
    }
    let slabs = x.chunks_exact(p * r).zip(g.chunks_exact(q * r));
    for (l, (x, g)) in slabs.enumerate() {
        let own = l / units.max(1) * mode.batch_stride;
        for (i, x) in x.chunks_exact(r).enumerate() {
            for (j, g) in g.chunks_exact(r).enumerate() {
                let at = match mode.kind {
                    Kind::Dense => i * mode.t_stride + j * mode.j_stride,
                    _ if i == j => i,
                    _ => continue,
                };
                if let Some(grad) = grad.get_mut(own + at) {
                    *grad += x.iter().zip(g).map(|(x, g)| x * g).sum::<f64>();
                }
            }
        }
    }
}
