//! Softmax over every combination of keys, which both forms stand in for.

use std::ops::Range;

use rayon::prelude::*;

use super::{Inputs, quotient, row};
use crate::{
    Result,
    kronecker::tensor_linear::shape::{Mask, Shape},
};

/// Rows of softmax attention over every combination of seen keys, for some queries, each an index into `[B, H, Tq]`; with them the
/// rows of uniform weights.
///
/// # Errors
/// `Argument` when sizes do not fit together.
pub fn exact_rows(
    shape: &Shape,
    mask: &Mask,
    scale: f32,
    inputs: &Inputs,
    queries: &[usize],
) -> Result<[Vec<f64>; 2]> {
    shape.check(mask)?;
    inputs.check(shape)?;
    let found: Vec<[Vec<f64>; 2]> = queries
        .par_iter()
        .map(|at| {
            let (query_head, i) = (at / shape.queries.max(1), at % shape.queries.max(1));
            let head = query_head / shape.group();
            let q = row(&inputs.q, shape.key, *at);
            let mut softmax = Softmax::new(shape.value);
            let mut uniform = Softmax::new(shape.value);
            let start = (q.to_vec(), vec![1.0; shape.value]);
            let sets = Sets {
                shape,
                inputs,
                head,
                seen: (0..shape.sets())
                    .map(|set| shape.seen(mask, set, i))
                    .collect(),
            };
            sets.each(0, &start, &mut |a, v| {
                softmax.add(f64::from(scale) * a.iter().sum::<f64>(), v);
                uniform.add(0.0, v);
            });
            [softmax.output(), uniform.output()]
        })
        .collect();
    let mut rows = [Vec::new(), Vec::new()];
    for own in found {
        for (rows, own) in rows.iter_mut().zip(own) {
            rows.extend(own);
        }
    }
    Ok(rows)
}

/// The keys that a query sees.
struct Sets<'a> {
    shape: &'a Shape,
    inputs: &'a Inputs,
    head: usize,
    seen: Vec<Range<usize>>,
}

impl Sets<'_> {
    /// Does something for every combination of keys of the sets from one on: products with their keys, and with their values.
    fn each(
        &self,
        set: usize,
        so_far: &(Vec<f64>, Vec<f64>),
        then: &mut impl FnMut(&[f64], &[f64]),
    ) {
        let both = self.inputs.k.get(set).zip(self.inputs.v.get(set));
        let (Some((keys, values)), Some(seen)) = (both, self.seen.get(set)) else {
            then(&so_far.0, &so_far.1);
            return;
        };
        let tokens = self.shape.keys.get(set).copied().unwrap_or(0);
        for j in seen.clone() {
            let at = self.head * tokens + j;
            let times = |x: &[f64], row: &[f64]| x.iter().zip(row).map(|(x, y)| x * y).collect();
            let next = (
                times(&so_far.0, row(keys, self.shape.key, at)),
                times(&so_far.1, row(values, self.shape.value, at)),
            );
            self.each(set + 1, &next, then);
        }
    }
}

/// An online softmax.
struct Softmax {
    most: f64,
    weight: f64,
    sum: Vec<f64>,
}

impl Softmax {
    fn new(width: usize) -> Softmax {
        Softmax {
            most: f64::NEG_INFINITY,
            weight: 0.0,
            sum: vec![0.0; width],
        }
    }

    fn add(&mut self, logit: f64, v: &[f64]) {
        if logit > self.most {
            let factor = (self.most - logit).exp();
            self.weight *= factor;
            self.sum.iter_mut().for_each(|sum| *sum *= factor);
            self.most = logit;
        }
        let weight = (logit - self.most).exp();
        self.weight += weight;
        for (sum, v) in self.sum.iter_mut().zip(v) {
            *sum += weight * v;
        }
    }

    fn output(self) -> Vec<f64> {
        let each = self.sum.into_iter();
        each.map(|sum| quotient(sum, self.weight)).collect()
    }
}
