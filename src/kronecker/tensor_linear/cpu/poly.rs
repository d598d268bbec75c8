//! The polynomial form, whose features are monomials.

use super::{Call, Gradients, Inputs, Outputs, dot};
use crate::{
    Result,
    error::length,
    kronecker::tensor_linear::{
        minimax::Polynomial,
        monomials::{Table, query_weights, shifted},
        shape::{Mask, OP, Shape},
    },
};

/// A polynomial of the logits instead of exp, with its centres where queries are centred: the middle of every logit column, times
/// the scale, `[key heads, D]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Weights {
    /// The polynomial.
    pub polynomial: Polynomial,
    /// The centres.
    pub middles: Option<Vec<f64>>,
}

/// [`tensor_poly::forward`](crate::kronecker::tensor_linear::poly::forward()) in f64, with a polynomial that is given.
///
/// # Errors
/// `Argument` when sizes do not fit together.
pub fn poly_forward(
    shape: &Shape,
    mask: &Mask,
    scale: f32,
    weights: &Weights,
    inputs: &Inputs,
) -> Result<Outputs> {
    shape.check(mask)?;
    inputs.check(shape)?;
    let features = Features::new(shape, scale, weights);
    Ok(features.call(mask, inputs).forward())
}

/// [`tensor_poly::backward`](crate::kronecker::tensor_linear::poly::backward()) in f64, with a polynomial that is given: coefficients and centres are
/// constants.
///
/// # Errors
/// `Argument` when sizes do not fit together.
pub fn poly_backward(
    shape: &Shape,
    mask: &Mask,
    scale: f32,
    weights: &Weights,
    inputs: &Inputs,
    grad_o: &[f64],
) -> Result<Gradients> {
    shape.check(mask)?;
    inputs.check(shape)?;
    length(OP, "grad_o", grad_o.len(), shape.query_rows() * shape.value)?;
    let features = Features::new(shape, scale, weights);
    let slopes = features.call(mask, inputs).backward(grad_o);
    let (width, rank) = (shape.key, features.table.rank());
    let rows = inputs
        .q
        .chunks_exact(width)
        .zip(slopes.q.chunks_exact(rank));
    let q = rows.enumerate().flat_map(|(at, (row, slope))| {
        let weights = features.weights_at(at, row);
        let slope: Vec<f64> = slope.iter().zip(weights).map(|(d, w)| d * w).collect();
        features.table.adjoint(row, &slope)
    });
    let k = inputs.k.iter().zip(&slopes.k).map(|(k, slopes)| {
        let rows = k.chunks_exact(width).zip(slopes.chunks_exact(rank));
        rows.flat_map(|(row, slope)| features.table.adjoint(row, slope))
            .collect()
    });
    Ok(Gradients {
        q: q.collect(),
        k: k.collect(),
        v: slopes.v,
    })
}

/// Monomials of queries and keys.
struct Features<'a> {
    shape: &'a Shape,
    table: Table,
    weights: &'a Weights,
    query_weights: Vec<f64>,
    /// The degree of every monomial.
    degrees: Vec<usize>,
}

impl<'a> Features<'a> {
    fn new(shape: &'a Shape, scale: f32, weights: &'a Weights) -> Features<'a> {
        let degree = weights.polynomial.coefficients.len().saturating_sub(1);
        let table = Table::new(shape.key, degree);
        let centred = weights.middles.is_some();
        let scale = f64::from(scale);
        Features {
            shape,
            query_weights: query_weights(&table, &weights.polynomial, scale, centred),
            degrees: table.variables_of().iter().map(Vec::len).collect(),
            table,
            weights,
        }
    }

    /// The weights of a query's monomials.
    fn weights_at(&self, row: usize, q: &[f64]) -> Vec<f64> {
        let Some(middles) = &self.weights.middles else {
            return self.query_weights.clone();
        };
        let head = row / (self.shape.queries * self.shape.group()).max(1);
        let middle = middles.chunks_exact(self.shape.key).nth(head);
        let c = dot(q, middle.unwrap_or_default());
        let own = shifted(&self.weights.polynomial, c);
        let each = self.query_weights.iter().zip(&self.degrees);
        each.map(|(weight, degree)| weight * own.get(*degree).copied().unwrap_or(0.0))
            .collect()
    }

    fn call(&self, mask: &'a Mask, inputs: &'a Inputs) -> Call<'a> {
        let width = self.shape.key;
        let rows = inputs.q.chunks_exact(width).enumerate();
        let queries = rows.flat_map(|(at, row)| {
            let values = self.table.values(row).into_iter();
            values.zip(self.weights_at(at, row)).map(|(x, w)| x * w)
        });
        let of = |k: &Vec<f64>| -> Vec<f64> {
            let rows = k.chunks_exact(width);
            rows.flat_map(|row| self.table.values(row)).collect()
        };
        Call {
            shape: self.shape,
            mask,
            normalize: Some(0.0),
            rank: self.table.rank(),
            queries: queries.collect(),
            keys: inputs.k.iter().map(of).collect(),
            values: &inputs.v,
        }
    }
}
