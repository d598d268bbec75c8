//! Operators on codes as the program, the tests and the benches see them.

pub(crate) mod distance;
pub(crate) mod gram;
pub(crate) mod maxsim;
pub(crate) mod pack;

use crate::case::{Array, Output, Reference};
use crate::gpu::Dtype;

/// An output of whole numbers, which must be exact.
pub(super) fn exact(name: &'static str, shape: &[usize]) -> Output {
    Output {
        name,
        dtype: Dtype::U32,
        shape: shape.to_vec(),
        ratio: 0.0,
        per_magnitude: 0.0,
        per_value: 0.0,
    }
}

/// Expected whole numbers.
pub(super) fn expect(values: Vec<u32>) -> Reference {
    Reference {
        values: values.into_iter().map(f64::from).collect(),
        magnitude: Vec::new(),
    }
}

/// The words of an array.
pub(super) fn words_of(array: &Array) -> Vec<u32> {
    array.values().into_iter().map(|word| word as u32).collect()
}
