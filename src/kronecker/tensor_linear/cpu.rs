//! The f64 reference of both forms, token by token from states.

mod exact;
mod poly;

use std::ops::Range;

use rayon::prelude::*;

use super::shape::{Mask, OP, Options, Shape};
use crate::{
    Result,
    error::length,
    linear::{FeatureMap, cpu},
};

pub use exact::exact_rows;
pub use poly::{Weights, poly_backward, poly_forward};

/// What attention reads: queries, then keys and values of every set.
#[derive(Clone, Debug, PartialEq)]
pub struct Inputs {
    /// `[B, H, Tq, D]`.
    pub q: Vec<f64>,
    /// `[B, Hkv, T, D]` each.
    pub k: Vec<Vec<f64>>,
    /// `[B, Hkv, T, V]` each.
    pub v: Vec<Vec<f64>>,
}

impl Inputs {
    pub(super) fn check(&self, shape: &Shape) -> Result<()> {
        length(OP, "q", self.q.len(), shape.query_rows() * shape.key)?;
        length(OP, "the sets of k", self.k.len(), shape.sets())?;
        length(OP, "the sets of v", self.v.len(), shape.sets())?;
        for (set, (k, v)) in self.k.iter().zip(&self.v).enumerate() {
            let rows = shape.key_rows(set);
            length(OP, &format!("k{}", set + 1), k.len(), rows * shape.key)?;
            length(OP, &format!("v{}", set + 1), v.len(), rows * shape.value)?;
        }
        Ok(())
    }
}

/// Outputs, and the sums of the absolute values of the terms they are made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Outputs {
    /// `[B, H, Tq, V]`.
    pub o: Vec<f64>,
    /// Likewise.
    pub magnitude: Vec<f64>,
}

/// Gradients, in the shapes of the inputs.
pub type Gradients = Inputs;

/// [`tensor_linear::forward`](super::forward()) in f64.
///
/// # Errors
/// `Argument` when sizes or options do not fit together.
pub fn forward(shape: &Shape, options: &Options, inputs: &Inputs) -> Result<Outputs> {
    options.check(shape)?;
    inputs.check(shape)?;
    let call = Call::linear(shape, options, inputs)?;
    Ok(call.forward())
}

/// [`tensor_linear::backward`](super::backward()) in f64.
///
/// # Errors
/// `Argument` when sizes or options do not fit together.
pub fn backward(
    shape: &Shape,
    options: &Options,
    inputs: &Inputs,
    grad_o: &[f64],
) -> Result<Gradients> {
    options.check(shape)?;
    inputs.check(shape)?;
    length(OP, "grad_o", grad_o.len(), shape.query_rows() * shape.value)?;
    let mut slopes = Call::linear(shape, options, inputs)?.backward(grad_o);
    for slope in &mut slopes.q {
        *slope *= f64::from(options.scale);
    }
    let through = |set: Option<usize>, x: &[f64], slope: &[f64]| -> Result<Vec<f64>> {
        let rows = shape.rows_of(set);
        let found = cpu::features_adjoint(&rows, options.feature_map, x, None, None, slope)?;
        Ok(found.x)
    };
    slopes.q = through(None, &inputs.q, &slopes.q)?;
    for (set, (slope, k)) in slopes.k.iter_mut().zip(&inputs.k).enumerate() {
        *slope = through(Some(set), k, slope)?;
    }
    Ok(slopes)
}

/// A call once queries and keys are features.
struct Call<'a> {
    shape: &'a Shape,
    mask: &'a Mask,
    normalize: Option<f64>,
    rank: usize,
    queries: Vec<f64>,
    keys: Vec<Vec<f64>>,
    values: &'a [Vec<f64>],
}

/// Gradients of one head's features and values, per set.
struct HeadSlopes {
    queries: Vec<f64>,
    keys: Vec<Vec<f64>>,
    values: Vec<Vec<f64>>,
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// a / b, or 0 where b is 0.
fn quotient(a: f64, b: f64) -> f64 {
    if b == 0.0 { 0.0 } else { a / b }
}

impl<'a> Call<'a> {
    fn linear(shape: &'a Shape, options: &'a Options, inputs: &'a Inputs) -> Result<Call<'a>> {
        let map = options.feature_map;
        let of = |set: Option<usize>, x: &[f64]| match map {
            FeatureMap::Identity => Ok(x.to_vec()),
            map => cpu::features(&shape.rows_of(set), map, x, None, None),
        };
        let scale = f64::from(options.scale);
        let queries = of(None, &inputs.q)?;
        let keys = inputs.k.iter().enumerate();
        Ok(Call {
            shape,
            mask: &options.mask,
            normalize: options.normalize.map(f64::from),
            rank: map.width(shape.key),
            queries: queries.into_iter().map(|x| scale * x).collect(),
            keys: keys
                .map(|(set, k)| of(Some(set), k))
                .collect::<Result<_>>()?,
            values: &inputs.v,
        })
    }

    /// Columns of a state: values, and a one.
    fn columns(&self) -> usize {
        self.shape.value + 1
    }

    /// A key's features and its values.
    fn key(&self, set: usize, head: usize, j: usize) -> (&[f64], &[f64]) {
        let tokens = self.shape.keys.get(set).copied().unwrap_or(0);
        let keys = self.keys.get(set).map(Vec::as_slice).unwrap_or_default();
        let values = self.values.get(set).map(Vec::as_slice).unwrap_or_default();
        let at = head * tokens + j;
        (row(keys, self.rank, at), row(values, self.shape.value, at))
    }

    fn query(&self, head: usize, i: usize) -> &[f64] {
        row(&self.queries, self.rank, head * self.shape.queries + i)
    }

    fn forward(&self) -> Outputs {
        let heads = 0..self.shape.key_heads();
        let found: Vec<Vec<Outputs>> = heads
            .into_par_iter()
            .map(|head| {
                let group = self.shape.group();
                let queries = head * group..(head + 1) * group;
                queries
                    .map(|query| self.forward_head(query, head))
                    .collect()
            })
            .collect();
        let mut outputs = Outputs {
            o: Vec::new(),
            magnitude: Vec::new(),
        };
        for own in found.into_iter().flatten() {
            outputs.o.extend(own.o);
            outputs.magnitude.extend(own.magnitude);
        }
        outputs
    }

    fn forward_head(&self, query_head: usize, head: usize) -> Outputs {
        let mut walk = Walk::new(self, head, false);
        let mut absolute = Walk::new(self, head, true);
        let mut outputs = Outputs {
            o: Vec::new(),
            magnitude: Vec::new(),
        };
        for i in 0..self.shape.queries {
            let u = self.query(query_head, i);
            let sizes: Vec<f64> = u.iter().map(|u| u.abs()).collect();
            walk.to(i);
            absolute.to(i);
            let mut o = walk.times(u);
            let mut magnitude = absolute.times(&sizes);
            let (den, size) = (o.pop().unwrap_or(0.0), magnitude.pop().unwrap_or(0.0));
            if let Some(eps) = self.normalize {
                for (o, magnitude) in o.iter_mut().zip(&mut magnitude) {
                    *o = quotient(*o, den + eps);
                    *magnitude = quotient(*magnitude + o.abs() * size, (den + eps).abs());
                }
            }
            outputs.o.extend(o);
            outputs.magnitude.extend(magnitude);
        }
        outputs
    }

    /// Gradients of features and values.
    fn backward(&self, grad_o: &[f64]) -> Gradients {
        let heads = 0..self.shape.key_heads();
        let found: Vec<HeadSlopes> = heads
            .into_par_iter()
            .map(|head| self.backward_head(head, grad_o))
            .collect();
        let sets = self.shape.sets();
        let mut slopes = Gradients {
            q: Vec::new(),
            k: vec![Vec::new(); sets],
            v: vec![Vec::new(); sets],
        };
        for own in found {
            slopes.q.extend(own.queries);
            for (all, own) in slopes.k.iter_mut().zip(own.keys) {
                all.extend(own);
            }
            for (all, own) in slopes.v.iter_mut().zip(own.values) {
                all.extend(own);
            }
        }
        slopes
    }

    fn backward_head(&self, head: usize, grad_o: &[f64]) -> HeadSlopes {
        let (shape, group) = (self.shape, self.shape.group());
        let (rank, columns) = (self.rank, self.columns());
        let zeros = |width: usize| -> Vec<Vec<f64>> {
            let each = shape.keys.iter();
            each.map(|keys| vec![0.0; keys * width]).collect()
        };
        let mut slopes = HeadSlopes {
            queries: vec![0.0; group * shape.queries * rank],
            keys: zeros(rank),
            values: zeros(shape.value),
        };
        // What the queries from i on hand back to each set, where keys are seen by all later queries.
        let mut handed = vec![vec![0.0; rank * columns]; shape.sets()];
        let blocks = (0..shape.queries).step_by(BLOCK);
        for first in blocks.rev() {
            let mut walk = Walk::new(self, head, false);
            let block = first..(first + BLOCK).min(shape.queries);
            let kept: Vec<Vec<Vec<f64>>> = block
                .clone()
                .map(|i| {
                    walk.to(i);
                    walk.states.clone()
                })
                .collect();
            for (i, states) in block.zip(kept).rev() {
                let mut terms = vec![vec![0.0; rank * columns]; shape.sets()];
                for g in 0..group {
                    let query_head = head * group + g;
                    let u = self.query(query_head, i);
                    let grad = row(grad_o, shape.value, query_head * shape.queries + i);
                    let slope = self.slope(u, grad, &states);
                    let at = (g * shape.queries + i) * rank;
                    let own = slopes.queries.get_mut(at..at + rank).unwrap_or_default();
                    for (t, own) in own.iter_mut().enumerate() {
                        let products =
                            (0..columns).map(|c| product(&states, None, t * columns + c));
                        *own = products.zip(&slope).map(|(s, h)| s * h).sum();
                    }
                    for (set, term) in terms.iter_mut().enumerate() {
                        for (at, term) in term.iter_mut().enumerate() {
                            let (u, h) = (u.get(at / columns), slope.get(at % columns));
                            let both = u.zip(h).map_or(0.0, |(u, h)| u * h);
                            *term += both * product(&states, Some(set), at);
                        }
                    }
                }
                for (set, term) in terms.iter().enumerate() {
                    let seen = shape.seen(self.mask, set, i);
                    if shape.window(self.mask, set).is_some() {
                        for j in seen {
                            self.hand(&mut slopes, set, [head, j], term);
                        }
                        continue;
                    }
                    let Some(all) = handed.get_mut(set) else {
                        continue;
                    };
                    for (all, term) in all.iter_mut().zip(term) {
                        *all += term;
                    }
                    let before = match i.checked_sub(1) {
                        Some(before) => shape.seen(self.mask, set, before).end,
                        None => 0,
                    };
                    for j in before..seen.end {
                        self.hand(&mut slopes, set, [head, j], all);
                    }
                }
            }
        }
        slopes
    }

    /// The gradient of a query's sums, the last that of its weights', from that of its output.
    fn slope(&self, u: &[f64], grad: &[f64], states: &[Vec<f64>]) -> Vec<f64> {
        let Some(eps) = self.normalize else {
            return grad.iter().copied().chain([0.0]).collect();
        };
        let mut sums = times(states, u, self.columns());
        let den = sums.pop().unwrap_or(0.0) + eps;
        let mut slope: Vec<f64> = grad.iter().map(|grad| quotient(*grad, den)).collect();
        slope.push(-quotient(dot(&slope, &sums), den));
        slope
    }

    /// Adds what a key of a head gets from the gradient of its state.
    fn hand(&self, slopes: &mut HeadSlopes, set: usize, [head, j]: [usize; 2], state: &[f64]) {
        let (rank, columns, value) = (self.rank, self.columns(), self.shape.value);
        let (k, v) = self.key(set, head, j);
        let keys = slopes
            .keys
            .get_mut(set)
            .and_then(|all| all.get_mut(j * rank..(j + 1) * rank));
        let values = slopes.values.get_mut(set);
        let values = values.and_then(|all| all.get_mut(j * value..(j + 1) * value));
        let rows = state.chunks_exact(columns);
        for (dk, row) in keys.unwrap_or_default().iter_mut().zip(rows.clone()) {
            *dk += dot(row, v) + row.last().copied().unwrap_or(0.0);
        }
        let values = values.unwrap_or_default();
        for (k, row) in k.iter().zip(rows) {
            for (dv, row) in values.iter_mut().zip(row) {
                *dv += k * row;
            }
        }
    }
}

/// Queries whose states are kept at a time.
const BLOCK: usize = 64;

fn row(rows: &[f64], width: usize, at: usize) -> &[f64] {
    rows.get(at * width..(at + 1) * width).unwrap_or_default()
}

/// The product of all states, or of all but one, at an entry.
fn product(states: &[Vec<f64>], but: Option<usize>, at: usize) -> f64 {
    let others = states
        .iter()
        .enumerate()
        .filter(|(set, _)| Some(*set) != but);
    others
        .map(|(_, state)| state.get(at).copied().unwrap_or(0.0))
        .product()
}

/// A query's features times the product of the states.
fn times(states: &[Vec<f64>], u: &[f64], columns: usize) -> Vec<f64> {
    let mut sums = vec![0.0; columns];
    for (t, u) in u.iter().enumerate() {
        for (c, sum) in sums.iter_mut().enumerate() {
            *sum += u * product(states, None, t * columns + c);
        }
    }
    sums
}

/// The states of a head's key sets at one query after the other.
struct Walk<'a> {
    call: &'a Call<'a>,
    head: usize,
    /// Of absolute values.
    absolute: bool,
    seen: Vec<Range<usize>>,
    states: Vec<Vec<f64>>,
}

impl<'a> Walk<'a> {
    fn new(call: &'a Call<'a>, head: usize, absolute: bool) -> Walk<'a> {
        let sets = call.shape.sets();
        Walk {
            call,
            head,
            absolute,
            seen: vec![0..0; sets],
            states: vec![vec![0.0; call.rank * call.columns()]; sets],
        }
    }

    /// Adds what is newly seen, or sums a window anew.
    fn to(&mut self, query: usize) {
        let Walk {
            call,
            head,
            absolute,
            ..
        } = *self;
        for (set, (seen, state)) in self.seen.iter_mut().zip(&mut self.states).enumerate() {
            let wanted = call.shape.seen(call.mask, set, query);
            if seen.start != wanted.start || seen.end > wanted.end {
                state.fill(0.0);
                *seen = wanted.start..wanted.start;
            }
            for j in seen.end..wanted.end {
                let (k, v) = call.key(set, head, j);
                for (k, row) in k.iter().zip(state.chunks_exact_mut(call.columns())) {
                    for (state, v) in row.iter_mut().zip(v.iter().chain(&[1.0])) {
                        let term = k * v;
                        *state += if absolute { term.abs() } else { term };
                    }
                }
            }
            *seen = wanted;
        }
    }

    fn times(&self, u: &[f64]) -> Vec<f64> {
        times(&self.states, u, self.call.columns())
    }
}
