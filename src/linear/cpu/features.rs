//! Feature maps and their adjoints, row by row.

use std::borrow::Cow;

use rayon::prelude::*;

use super::{Inputs, backward::sum_into, dot};
use crate::{
    Result,
    error::length,
    linear::{FeatureMap, FeatureShape, Shape},
};

/// Rows whose parameter gradients are summed together: fixed, so that the sums do not depend on the thread count.
const ROWS: usize = 64;

/// The least that the Hedgehogs with a floor return.
pub(crate) const FLOOR: f64 = 1e-12;

/// What [`features_adjoint`] returns: gradients in the shapes of x, the weights and the bias; the latter two are empty where
/// the map has none.
#[derive(Clone, Debug, PartialEq)]
pub struct FeatureGradients {
    /// Of x.
    pub x: Vec<f64>,
    /// Of the weights.
    pub weight: Vec<f64>,
    /// Of the bias.
    pub bias: Vec<f64>,
}

/// [`linear::features`](crate::linear::features()) in f64: φ of every row of x, see [`FeatureMap`].
///
/// # Errors
/// `Argument` when a slice has the wrong length.
pub fn features(
    shape: &FeatureShape,
    map: FeatureMap,
    x: &[f64],
    weight: Option<&[f64]>,
    bias: Option<&[f64]>,
) -> Result<Vec<f64>> {
    let rows = Rows::new(shape, map, x, weight, bias)?;
    Ok(rows.apply(x).into_owned())
}

/// [`linear::features_adjoint`](crate::linear::features_adjoint()) in f64: gradients of Σ `grad` ⊙ φ(x).
///
/// # Errors
/// `Argument` when a slice has the wrong length.
pub fn features_adjoint(
    shape: &FeatureShape,
    map: FeatureMap,
    x: &[f64],
    weight: Option<&[f64]>,
    bias: Option<&[f64]>,
    grad: &[f64],
) -> Result<FeatureGradients> {
    let rows = Rows::new(shape, map, x, weight, bias)?;
    length(
        super::OP,
        "grad",
        grad.len(),
        shape.rows() * map.width(shape.key),
    )?;
    let mut gradients = rows.adjoint(x, grad.to_vec());
    if bias.is_none() {
        gradients.bias.clear();
    }
    Ok(gradients)
}

/// φ of every row of q or k.
pub(super) fn apply<'a>(
    shape: &Shape,
    map: FeatureMap,
    inputs: &Inputs<'_>,
    x: &'a [f64],
) -> Cow<'a, [f64]> {
    Rows::of(shape, map, inputs).apply(x)
}

/// The adjoint of [`apply`] at x.
pub(super) fn adjoint(
    shape: &Shape,
    map: FeatureMap,
    inputs: &Inputs<'_>,
    x: &[f64],
    grad: Vec<f64>,
) -> FeatureGradients {
    Rows::of(shape, map, inputs).adjoint(x, grad)
}

/// A checked call.
struct Rows<'a> {
    map: FeatureMap,
    key: usize,
    /// Sets of weights.
    sets: usize,
    /// The set of row r is (r / span) modulo the sets.
    span: usize,
    weight: &'a [f64],
    bias: Option<&'a [f64]>,
}

impl<'a> Rows<'a> {
    fn new(
        shape: &FeatureShape,
        map: FeatureMap,
        x: &[f64],
        weight: Option<&'a [f64]>,
        bias: Option<&'a [f64]>,
    ) -> Result<Rows<'a>> {
        shape.check(super::OP)?;
        map.check(super::OP)?;
        length(super::OP, "x", x.len(), shape.rows() * shape.key)?;
        let lens = [weight, bias].map(|values| values.map(<[f64]>::len));
        let sets = map.weight_sets(super::OP, shape.key, Some(shape.heads), lens[0], lens[1])?;
        Ok(Rows {
            map,
            key: shape.key,
            sets,
            span: shape.span(),
            weight: weight.unwrap_or_default(),
            bias,
        })
    }

    /// Of a checked call of the operator, where sets of weights mean as many heads of keys as of queries.
    fn of(shape: &Shape, map: FeatureMap, inputs: &Inputs<'a>) -> Rows<'a> {
        let weight = inputs.fm_weight.unwrap_or_default();
        let each = map.weight_len(shape.key).unwrap_or(1);
        Rows {
            map,
            key: shape.key,
            sets: (weight.len() / each).max(1),
            span: FeatureShape::of_queries(shape).span(),
            weight,
            bias: inputs.fm_bias,
        }
    }

    fn apply<'x>(&self, x: &'x [f64]) -> Cow<'x, [f64]> {
        if self.map == FeatureMap::Identity {
            return Cow::Borrowed(x);
        }
        let rows = x.par_chunks(self.key).enumerate();
        rows.flat_map_iter(|(row, x)| expand(self.map, &self.prepare(row, x)))
            .collect::<Vec<_>>()
            .into()
    }

    fn adjoint(&self, x: &[f64], grad: Vec<f64>) -> FeatureGradients {
        let empty = || FeatureGradients {
            x: Vec::new(),
            weight: vec![0.0; self.weight.len()],
            bias: vec![
                0.0;
                self.map
                    .weight_len(self.key)
                    .map_or(0, |_| self.sets * self.key)
            ],
        };
        if self.map == FeatureMap::Identity {
            return FeatureGradients { x: grad, ..empty() };
        }
        let width = self.map.width(self.key);
        let parts: Vec<FeatureGradients> = x
            .par_chunks(ROWS * self.key)
            .zip(grad.par_chunks(ROWS * width))
            .enumerate()
            .map(|(n, (x, grad))| {
                let mut all = empty();
                let rows = x.chunks_exact(self.key).zip(grad.chunks_exact(width));
                for (row, (x, grad)) in (n * ROWS..).zip(rows) {
                    let dy = expand_adjoint(self.map, &self.prepare(row, x), grad);
                    self.prepare_adjoint(row, x, dy, &mut all);
                }
                all
            })
            .collect();
        let mut all = empty();
        for part in parts {
            all.x.extend(part.x);
            sum_into(&mut all.weight, &part.weight);
            sum_into(&mut all.bias, &part.bias);
        }
        all
    }

    fn set(&self, row: usize) -> usize {
        row / self.span % self.sets
    }

    /// The weights and the bias that a row meets.
    fn weights(&self, row: usize) -> (&[f64], impl Fn(usize) -> f64) {
        let each = self.weight.len() / self.sets;
        let first = self.set(row) * self.key;
        let bias = move |i| self.bias.map_or(0.0, |bias| bias[first + i]);
        (&self.weight[self.set(row) * each..][..each], bias)
    }

    /// The y of a row.
    fn prepare<'x>(&self, row: usize, x: &'x [f64]) -> Cow<'x, [f64]> {
        if self.map == FeatureMap::Rebased {
            let (gamma, bias) = self.weights(row);
            let (normal, _) = normalise(x);
            let y = normal.iter().zip(gamma).enumerate();
            return y.map(|(i, (n, gamma))| n * gamma + bias(i)).collect();
        }
        if !self.map.projects() {
            return Cow::Borrowed(x);
        }
        let (weight, bias) = self.weights(row);
        let rows = weight.chunks_exact(x.len()).enumerate();
        rows.map(|(i, row)| bias(i) + dot(row, x)).collect()
    }

    /// From the gradient of y to that of x, appended, and of the weights, added.
    fn prepare_adjoint(&self, row: usize, x: &[f64], dy: Vec<f64>, all: &mut FeatureGradients) {
        let (key, set) = (self.key, self.set(row));
        let (weight, _) = self.weights(row);
        if self.map == FeatureMap::Rebased {
            let (normal, rate) = normalise(x);
            sum_into(&mut all.bias[set * key..][..key], &dy);
            let dgamma: Vec<f64> = dy.iter().zip(&normal).map(|(d, n)| d * n).collect();
            sum_into(&mut all.weight[set * key..][..key], &dgamma);
            let dn: Vec<f64> = dy.iter().zip(weight).map(|(d, gamma)| d * gamma).collect();
            let mean = dn.iter().sum::<f64>() / key as f64;
            let along = dot(&dn, &normal) / key as f64;
            let dx = dn.iter().zip(&normal);
            all.x.extend(dx.map(|(d, n)| rate * (d - mean - n * along)));
            return;
        }
        if !self.map.projects() {
            return all.x.extend(dy);
        }
        let mut dx = vec![0.0; key];
        let dweight = &mut all.weight[set * key * key..][..key * key];
        for (i, dy) in dy.iter().enumerate() {
            for (dx, w) in dx.iter_mut().zip(&weight[i * key..][..key]) {
                *dx += w * dy;
            }
            for (dw, x) in dweight[i * key..][..key].iter_mut().zip(x) {
                *dw += dy * x;
            }
        }
        sum_into(&mut all.bias[set * key..][..key], &dy);
        all.x.extend(dx);
    }
}

/// (x − mean) / √(var + 1e-5) and the factor.
fn normalise(x: &[f64]) -> (Vec<f64>, f64) {
    let mean = x.iter().sum::<f64>() / x.len() as f64;
    let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / x.len() as f64;
    let rate = (variance + 1e-5).sqrt().recip();
    (x.iter().map(|x| (x - mean) * rate).collect(), rate)
}

/// exp(y − max y) and the place of the first largest y.
fn shifted(y: impl Iterator<Item = f64> + Clone) -> (Vec<f64>, usize) {
    let most = y.clone().fold(f64::NEG_INFINITY, f64::max);
    let place = y.clone().position(|y| y == most).unwrap_or(0);
    (y.map(|y| (y - most).exp()).collect(), place)
}

fn softmax(y: impl Iterator<Item = f64> + Clone) -> Vec<f64> {
    let (mut weights, _) = shifted(y);
    let sum: f64 = weights.iter().sum();
    weights.iter_mut().for_each(|weight| *weight /= sum);
    weights
}

/// s ⊙ (d − s·d), without what is floored.
fn softmax_adjoint(s: &[f64], d: &[f64], floor: f64) -> Vec<f64> {
    let live = |(s, d): (&f64, &f64)| if *s > floor { s * d } else { 0.0 };
    let mean: f64 = s.iter().zip(d).map(live).sum();
    let t = s.iter().zip(d).map(|pair| live(pair) - pair.0 * mean);
    t.collect()
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// tanh u and u' of the Gaussian error linear unit.
fn gelu_parts(x: f64) -> (f64, f64) {
    let rate = (2.0 / std::f64::consts::PI).sqrt();
    let u = rate * (x + 0.044715 * x.powi(3));
    (u.tanh(), rate * (1.0 + 3.0 * 0.044715 * x * x))
}

/// [max(x, 0), ± max(-x, 0)], and the sign of the second half.
fn rectified(x: &[f64], map: FeatureMap) -> Vec<f64> {
    let half = |second: bool| {
        x.iter().map(move |x| match (second, map) {
            (false, _) => x.max(0.0),
            (true, FeatureMap::DpfpFla { .. }) => -x.max(0.0),
            (true, _) => (-x).max(0.0),
        })
    };
    half(false).chain(half(true)).collect()
}

/// Every pair of columns i <= j that [`FeatureMap::Taylor2`] and [`FeatureMap::Rebased`] multiply, with its factor: squares,
/// then products.
fn pairs(map: FeatureMap, key: usize) -> impl Iterator<Item = (usize, usize, f64)> {
    let root = (key as f64).sqrt();
    let (square, product) = if map == FeatureMap::Rebased {
        (1.0 / root, (2.0 / key as f64).sqrt())
    } else {
        ((2.0 * key as f64).sqrt().recip(), 1.0 / root)
    };
    let squares = (0..key).map(move |i| (i, i, square));
    squares.chain((0..key).flat_map(move |i| (i + 1..key).map(move |j| (i, j, product))))
}

/// φ of a prepared row.
fn expand(map: FeatureMap, y: &[f64]) -> Vec<f64> {
    let each = |f: fn(f64) -> f64| y.iter().map(|y| f(*y)).collect();
    let negative = || y.iter().map(|y| -y);
    let floored = |x: Vec<f64>| x.into_iter().map(|x| x.max(FLOOR));
    match map {
        FeatureMap::Identity => y.to_vec(),
        FeatureMap::Relu | FeatureMap::T2r => each(|y| y.max(0.0)),
        FeatureMap::Relu2 => each(|y| y.max(0.0).powi(2)),
        FeatureMap::Elu1 => each(|y| if y > 0.0 { y + 1.0 } else { y.exp() }),
        FeatureMap::Exp => each(f64::exp),
        FeatureMap::Silu => each(|y| y * sigmoid(y)),
        FeatureMap::Sigmoid => each(sigmoid),
        FeatureMap::GeluTanh => each(|y| 0.5 * y * (1.0 + gelu_parts(y).0)),
        FeatureMap::Softmax => softmax(y.iter().copied()),
        FeatureMap::L2Norm => {
            let rate = (dot(y, y) + 1e-6).sqrt().recip();
            y.iter().map(|y| rate * y).collect()
        }
        FeatureMap::HedgehogSoftmax => {
            softmax(y.iter().map(|y| 2.0 * y).chain(y.iter().map(|y| -2.0 * y)))
        }
        FeatureMap::HedgehogSoftmax2 => floored(softmax(y.iter().copied()))
            .chain(floored(softmax(negative())))
            .collect(),
        FeatureMap::HedgehogExp => y.iter().copied().chain(negative()).map(f64::exp).collect(),
        FeatureMap::HedgehogExpShift => floored(shifted(y.iter().copied()).0)
            .chain(floored(shifted(negative()).0))
            .collect(),
        FeatureMap::Dpfp { nu } | FeatureMap::DpfpFla { nu } => {
            let r = rectified(y, map);
            let rolled = |j: usize, i: usize| r[(i + r.len() * j - j) % r.len()];
            (1..=nu as usize)
                .flat_map(|j| r.iter().enumerate().map(move |(i, r)| (i, j, r)))
                .map(|(i, j, r)| r * rolled(j, i))
                .collect()
        }
        FeatureMap::Taylor2 => {
            let root = (y.len() as f64).powf(0.25);
            std::iter::once(1.0)
                .chain(y.iter().map(|y| y / root))
                .chain(pairs(map, y.len()).map(|(i, j, c)| c * y[i] * y[j]))
                .collect()
        }
        FeatureMap::Rebased => pairs(map, y.len())
            .map(|(i, j, c)| c * y[i] * y[j])
            .collect(),
    }
}

/// The gradient of a prepared row from that of φ.
fn expand_adjoint(map: FeatureMap, y: &[f64], d: &[f64]) -> Vec<f64> {
    let key = y.len();
    let each = |slope: &dyn Fn(f64) -> f64| y.iter().zip(d).map(|(y, d)| d * slope(*y)).collect();
    let negative = || y.iter().map(|y| -y);
    let difference = |first: Vec<f64>, second: Vec<f64>, factor: f64| {
        let both = first.into_iter().zip(second);
        both.map(|(a, b)| factor * (a - b)).collect()
    };
    match map {
        FeatureMap::Identity => d.to_vec(),
        FeatureMap::Relu | FeatureMap::T2r => each(&|y| if y > 0.0 { 1.0 } else { 0.0 }),
        FeatureMap::Relu2 => each(&|y| 2.0 * y.max(0.0)),
        FeatureMap::Elu1 => each(&|y| if y > 0.0 { 1.0 } else { y.exp() }),
        FeatureMap::Exp => each(&f64::exp),
        FeatureMap::Silu => each(&|y| sigmoid(y) * (1.0 + y * (1.0 - sigmoid(y)))),
        FeatureMap::Sigmoid => each(&|y| sigmoid(y) * (1.0 - sigmoid(y))),
        FeatureMap::GeluTanh => each(&|y| {
            let (tanh, slope) = gelu_parts(y);
            0.5 * (1.0 + tanh + y * (1.0 - tanh * tanh) * slope)
        }),
        FeatureMap::Softmax => softmax_adjoint(&softmax(y.iter().copied()), d, 0.0),
        FeatureMap::L2Norm => {
            let rate = (dot(y, y) + 1e-6).sqrt().recip();
            let along = rate * rate * dot(y, d);
            y.iter()
                .zip(d)
                .map(|(y, d)| rate * (d - y * along))
                .collect()
        }
        FeatureMap::HedgehogSoftmax => {
            let s = expand(map, y);
            let mut t = softmax_adjoint(&s, d, 0.0);
            let second = t.split_off(key);
            difference(t, second, 2.0)
        }
        FeatureMap::HedgehogSoftmax2 => {
            let (first, second) = (softmax(y.iter().copied()), softmax(negative()));
            difference(
                softmax_adjoint(&first, &d[..key], FLOOR),
                softmax_adjoint(&second, &d[key..], FLOOR),
                1.0,
            )
        }
        FeatureMap::HedgehogExp => {
            let both = y.iter().zip(&d[..key]).zip(&d[key..]);
            both.map(|((y, a), b)| y.exp() * a - (-y).exp() * b)
                .collect()
        }
        FeatureMap::HedgehogExpShift => {
            let live = |x: Vec<f64>, d: &[f64]| -> Vec<f64> {
                let pairs = x.into_iter().zip(d);
                pairs
                    .map(|(x, d)| if x > FLOOR { x * d } else { 0.0 })
                    .collect()
            };
            let (first, largest) = shifted(y.iter().copied());
            let (second, smallest) = shifted(negative());
            let (mut first, mut second) = (live(first, &d[..key]), live(second, &d[key..]));
            first[largest] -= first.iter().sum::<f64>();
            second[smallest] -= second.iter().sum::<f64>();
            difference(first, second, 1.0)
        }
        FeatureMap::Dpfp { nu } | FeatureMap::DpfpFla { nu } => {
            let r = rectified(y, map);
            let mut dr = vec![0.0; r.len()];
            for (n, d) in d.iter().enumerate().take(nu as usize * r.len()) {
                let (i, j) = (n % r.len(), 1 + n / r.len());
                let rolled = (i + r.len() * j - j) % r.len();
                dr[i] += d * r[rolled];
                dr[rolled] += d * r[i];
            }
            let fla = matches!(map, FeatureMap::DpfpFla { .. });
            let half = |i: usize| match (y[i] > 0.0, fla) {
                (true, true) => dr[i] - dr[key + i],
                (true, false) => dr[i],
                (false, false) if y[i] < 0.0 => -dr[key + i],
                _ => 0.0,
            };
            (0..key).map(half).collect()
        }
        FeatureMap::Taylor2 | FeatureMap::Rebased => {
            let (mut dy, d) = if map == FeatureMap::Taylor2 {
                let root = (key as f64).powf(0.25);
                (d[1..=key].iter().map(|d| d / root).collect(), &d[1 + key..])
            } else {
                (vec![0.0; key], d)
            };
            for ((i, j, c), d) in pairs(map, key).zip(d) {
                dy[i] += c * d * y[j];
                dy[j] += c * d * y[i];
            }
            dy
        }
    }
}
