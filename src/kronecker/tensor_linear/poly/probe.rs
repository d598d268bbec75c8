//! Measured errors: some outputs against exact ones, on the host.

use super::Options;
use crate::{
    Error, Result,
    gpu::{Dtype, Elem, Tensor},
    kronecker::tensor_linear::{
        Inputs, cpu,
        shape::{OP, Shape},
    },
};

/// Queries whose exact outputs a probe computes.
pub const PROBED: usize = 64;

/// The most combinations of keys a probe goes through, all queries together.
const MOST_COMBINATIONS: u64 = 1 << 28;

/// Exact outputs of some queries against those that were computed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Probe {
    /// Queries looked at.
    pub queries: usize,
    /// The greatest difference from softmax attention.
    pub measured: f64,
    /// The greatest difference of uniform attention from softmax attention: with small entries everything looks accurate.
    pub uniform: f64,
}

impl Probe {
    /// Exact outputs of some queries, spread over all, against those in `o`.
    pub(super) fn new<T: Elem>(
        shape: &Shape,
        options: &Options,
        inputs: &Inputs<'_, T>,
        o: &Tensor<T>,
    ) -> Result<Probe> {
        let rows = shape.query_rows();
        let count = rows.min(PROBED);
        let queries: Vec<usize> = (0..count).map(|n| n * rows / count).collect();
        let each = shape.keys.iter().map(|keys| *keys as u64);
        let combinations = each.fold(count as u64, u64::saturating_mul);
        if combinations > MOST_COMBINATIONS {
            return Err(Error::Limit {
                what: format!("{OP}, combinations of keys of a probe,"),
                needed: combinations,
                available: MOST_COMBINATIONS,
                remedy: "probe a shorter call",
            });
        }
        let host = |tensor: &Tensor<T>| tensor.download().map(numbers);
        let sets = |all: &[&Tensor<T>]| -> Result<Vec<Vec<f64>>> {
            all.iter().map(|tensor| host(tensor)).collect()
        };
        let read = cpu::Inputs {
            q: host(inputs.q)?,
            k: sets(inputs.k)?,
            v: sets(inputs.v)?,
        };
        let [exact, uniform] =
            cpu::exact_rows(shape, &options.mask, options.scale, &read, &queries)?;
        let found = host(o)?;
        let width = shape.value;
        let computed = queries.iter().flat_map(|row| {
            let own = found.get(row * width..(row + 1) * width);
            own.unwrap_or_default().iter().copied()
        });
        let far = |others: Vec<f64>| {
            let apart = others
                .iter()
                .zip(&exact)
                .map(|(x, exact)| (x - exact).abs());
            // A difference that is no number is as large as any.
            apart.fold(0.0, |most: f64, x| {
                if x.is_nan() {
                    f64::INFINITY
                } else {
                    most.max(x)
                }
            })
        };
        Ok(Probe {
            queries: count,
            measured: far(computed.collect()),
            uniform: far(uniform),
        })
    }
}

/// Elements as f64.
fn numbers<T: Elem>(elements: Vec<T>) -> Vec<f64> {
    let bytes: &[u8] = bytemuck::cast_slice(&elements);
    match T::DTYPE {
        Dtype::F16 => {
            let each = bytemuck::pod_collect_to_vec::<u8, half::f16>(bytes);
            each.into_iter().map(f64::from).collect()
        }
        Dtype::Bf16 => {
            let each = bytemuck::pod_collect_to_vec::<u8, half::bf16>(bytes);
            each.into_iter().map(f64::from).collect()
        }
        _ => {
            let each = bytemuck::pod_collect_to_vec::<u8, f32>(bytes);
            each.into_iter().map(f64::from).collect()
        }
    }
}
