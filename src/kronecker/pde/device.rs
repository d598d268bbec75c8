//! The normal equations of a plane solved on a device: conjugate gradients in f32, and residuals in f64 between them.

use faer::Mat;

use super::{
    OP, Options,
    cpu::{Found, Preconditioner},
    plan::{SCALARS, Sizes, begin, iterate},
    system::System,
};
use crate::{
    Result,
    gpu::{Gpu, Tensor, View},
    plan::Plan,
};

/// Iterations between two looks at the scalars.
const LOOK: usize = 10;

/// What a correction reduces the residual by before it is taken anew, in f64: that of f32 drifts from it.
const CORRECTION: f64 = 1e-4;

/// A matrix in f32, row by row.
pub(super) fn rounded(matrix: &Mat<f64>) -> Vec<f32> {
    let rows = matrix.row_iter();
    rows.flat_map(|row| row.iter().map(|x| *x as f32).collect::<Vec<_>>())
        .collect()
}

/// The inputs of plans.
pub(super) fn inputs(system: &System) -> [Vec<f32>; 5] {
    let [first, second] = &system.basis;
    let [b1, b2] = &system.ends;
    let mut matrices = [rounded(&first.gram), rounded(&second.gram)].concat();
    if system.slope.is_some() {
        matrices.extend(rounded(&first.t));
        matrices.extend(rounded(&second.t));
    }
    matrices.extend(rounded(b1));
    matrices.extend(rounded(b2));
    let mut tables = vec![0.0];
    for (basis, speed) in system.basis.iter().zip(system.speeds) {
        tables.extend(basis.e.iter().map(|e| (speed * e) as f32));
    }
    let (scale, swap) = system.preconditioner();
    let optional = |matrix: Option<&Mat<f64>>| matrix.map_or(vec![0.0], rounded);
    [
        matrices,
        tables,
        rounded(&scale),
        optional(swap.as_ref()),
        optional(system.slope.as_ref()),
    ]
}

/// Solves `system` for this right side, from a guess: corrections in f32 on the device, each for the residual in f64 that the last one
/// left.
pub(super) fn conjugate_gradients(
    gpu: &Gpu,
    system: &System,
    right_side: &Mat<f64>,
    guess: Option<Mat<f64>>,
    options: &Options,
) -> Result<Found> {
    let sizes = Sizes::of(system);
    let caps = gpu.caps();
    let tensors: Vec<Tensor<f32>> = inputs(system)
        .iter()
        .map(|values| gpu.upload(values))
        .collect::<Result<_>>()?;
    let views: Vec<View<'_>> = tensors.iter().map(Tensor::view).collect();
    let measure = Preconditioner::new(system);
    let target = options.tolerance * measure.norm(right_side);
    let [n, m] = sizes.points;
    let mut y = guess.unwrap_or_else(|| Mat::zeros(n, m));
    let mut residual = right_side - system.apply(&y);
    let mut size = measure.norm(&residual);
    let mut iterations = 0;
    while iterations < options.iterations && size > target {
        // A correction gains so many digits; those beyond are the next one's.
        let tolerance = (target / size).max(CORRECTION);
        let scale = residual.norm_max();
        let right = rounded(&((1.0 / scale) * &residual));
        let mut state = vec![gpu.zeros::<f32>(n * m)?, gpu.upload(&right)?];
        for len in [n * m, n * m, SCALARS] {
            state.push(gpu.zeros(len)?);
        }
        let run = |plan: &Plan, state: &mut [Tensor<f32>]| -> Result<()> {
            let mut outputs: Vec<_> = state.iter_mut().map(Tensor::view_mut).collect();
            let mut pass = gpu.pass(OP);
            pass.run(plan, &views, &mut outputs)?;
            pass.submit().map(drop)
        };
        run(&begin(sizes, tolerance, caps)?, &mut state)?;
        let turn = iterate(sizes, tolerance, LOOK, caps)?;
        let mut done = 0;
        let mut scalars = Vec::new();
        loop {
            if let Some(tensor) = state.last() {
                scalars = tensor.download()?;
            }
            if scalars.get(4) != Some(&0.0) || iterations + done >= options.iterations {
                break;
            }
            run(&turn, &mut state)?;
            done += LOOK;
        }
        iterations += scalars.get(5).map_or(1, |count| (*count as usize).max(1));
        let correction = match state.first() {
            Some(tensor) => tensor.download()?,
            None => break,
        };
        let better = Mat::from_fn(n, m, |i, j| {
            let own = correction.get(i * m + j).copied().map_or(0.0, f64::from);
            y[(i, j)] + scale * own
        });
        let rest = right_side - system.apply(&better);
        let next = measure.norm(&rest);
        // What f32 cannot better stays as it is.
        if next.is_nan() || next >= size {
            break;
        }
        (y, residual, size) = (better, rest, next);
    }
    Ok(Found { y, iterations })
}
