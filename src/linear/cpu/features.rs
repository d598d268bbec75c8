//! Feature maps and their adjoints, row by row.

use std::borrow::Cow;

use rayon::prelude::*;

use super::{Inputs, dot};
use crate::linear::{FeatureMap, Shape};

/// Rows whose parameter gradients are summed together: fixed, so that the sums do not depend on the thread count.
const ROWS: usize = 64;

/// φ of every row of q or k.
pub(super) fn apply<'a>(
    shape: &Shape,
    map: FeatureMap,
    inputs: &Inputs<'_>,
    x: &'a [f64],
) -> Cow<'a, [f64]> {
    match map {
        FeatureMap::Identity => Cow::Borrowed(x),
        FeatureMap::Relu => x.iter().map(|x| x.max(0.0)).collect(),
        FeatureMap::Elu1 => x
            .iter()
            .map(|x| if *x > 0.0 { x + 1.0 } else { x.exp() })
            .collect(),
        FeatureMap::HedgehogSoftmax => x
            .par_chunks(shape.key)
            .flat_map_iter(|x| softmax(&project(inputs, x)))
            .collect::<Vec<_>>()
            .into(),
    }
}

/// Gradients of x, the weights and the bias; the latter two are empty where the map has none.
pub(super) struct Adjoint {
    pub x: Vec<f64>,
    pub weight: Vec<f64>,
    pub bias: Vec<f64>,
}

/// The adjoint of [`apply`] at x.
pub(super) fn adjoint(
    shape: &Shape,
    map: FeatureMap,
    inputs: &Inputs<'_>,
    x: &[f64],
    grad: Vec<f64>,
) -> Adjoint {
    let slopes = |slope: fn(f64) -> f64| Adjoint {
        x: grad.iter().zip(x).map(|(d, x)| d * slope(*x)).collect(),
        weight: Vec::new(),
        bias: Vec::new(),
    };
    match map {
        FeatureMap::Identity => Adjoint {
            x: grad,
            weight: Vec::new(),
            bias: Vec::new(),
        },
        FeatureMap::Relu => slopes(|x| if x > 0.0 { 1.0 } else { 0.0 }),
        FeatureMap::Elu1 => slopes(|x| if x > 0.0 { 1.0 } else { x.exp() }),
        FeatureMap::HedgehogSoftmax => {
            let width = shape.key;
            let parts: Vec<Adjoint> = x
                .par_chunks(ROWS * width)
                .zip(grad.par_chunks(2 * ROWS * width))
                .map(|(x, grad)| projected(inputs, width, x, grad))
                .collect();
            let mut all = Adjoint {
                x: Vec::with_capacity(x.len()),
                weight: vec![0.0; width * width],
                bias: vec![0.0; width],
            };
            for part in parts {
                all.x.extend(part.x);
                super::backward::sum_into(&mut all.weight, &part.weight);
                super::backward::sum_into(&mut all.bias, &part.bias);
            }
            all
        }
    }
}

/// y = W x + b.
fn project(inputs: &Inputs<'_>, x: &[f64]) -> Vec<f64> {
    let weight = inputs.fm_weight.unwrap_or_default();
    let rows = weight.chunks_exact(x.len()).enumerate();
    let bias = |i: usize| inputs.fm_bias.map_or(0.0, |bias| bias[i]);
    rows.map(|(i, row)| bias(i) + dot(row, x)).collect()
}

/// softmax([2y, -2y]).
fn softmax(y: &[f64]) -> Vec<f64> {
    let most = y.iter().fold(0.0f64, |most, y| most.max(2.0 * y.abs()));
    let both = y.iter().map(|y| 2.0 * y).chain(y.iter().map(|y| -2.0 * y));
    let weights: Vec<f64> = both.map(|y| (y - most).exp()).collect();
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / sum).collect()
}

fn projected(inputs: &Inputs<'_>, width: usize, x: &[f64], grad: &[f64]) -> Adjoint {
    let weight = inputs.fm_weight.unwrap_or_default();
    let mut all = Adjoint {
        x: Vec::with_capacity(x.len()),
        weight: vec![0.0; width * width],
        bias: vec![0.0; width],
    };
    for (x, grad) in x.chunks_exact(width).zip(grad.chunks_exact(2 * width)) {
        let s = softmax(&project(inputs, x));
        let mean = dot(&s, grad);
        let t = |i: usize| s[i] * (grad[i] - mean);
        let dy: Vec<f64> = (0..width).map(|i| 2.0 * (t(i) - t(width + i))).collect();
        let mut dx = vec![0.0; width];
        for (i, dy) in dy.iter().enumerate() {
            for (dx, w) in dx.iter_mut().zip(&weight[i * width..][..width]) {
                *dx += w * dy;
            }
            for (dw, x) in all.weight[i * width..][..width].iter_mut().zip(x) {
                *dw += dy * x;
            }
        }
        super::backward::sum_into(&mut all.bias, &dy);
        all.x.extend(dx);
    }
    all
}
