//! Making cases from formulas: numbers from a linear congruential generator, the same in every run.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Array, Case};
use crate::gpu::Dtype;

/// Numbers that depend on a name alone.
#[derive(Clone, Debug)]
pub struct Numbers(u64);

impl Numbers {
    /// The sequence of this name.
    pub fn of(name: &str) -> Numbers {
        let seed = name.bytes().fold(1u64, |seed, byte| {
            seed.wrapping_mul(31).wrapping_add(byte.into())
        });
        Numbers(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        self.0
    }

    /// In [-1, 1).
    pub fn signed(&mut self) -> f64 {
        (self.next() >> 40) as f64 / f64::from(1 << 23) - 1.0
    }

    /// A word whose bits are all random.
    pub fn word(&mut self) -> u32 {
        // The low bits of such a generator have short periods.
        (self.next() >> 32) as u32
    }

    /// At least 0 and less than `n`.
    pub fn below(&mut self, n: usize) -> usize {
        ((u64::from(self.word()) * n as u64) >> 32) as usize
    }

    /// An array of values in (centre - factor, centre + factor).
    pub fn array(&mut self, dtype: Dtype, shape: &[usize], centre: f64, factor: f64) -> Array {
        let values: Vec<f64> = (0..shape.iter().product())
            .map(|_| centre + factor * self.signed())
            .collect();
        Array::rounded(dtype, shape, &values)
    }

    /// An array of random words.
    pub fn words(&mut self, shape: &[usize]) -> Array {
        let words: Vec<u32> = (0..shape.iter().product()).map(|_| self.word()).collect();
        Array::u32(shape, &words)
    }
}

impl Case {
    /// A case without expectations: parameters and inputs by name.
    pub fn made(
        name: &str,
        op: &str,
        params: Value,
        inputs: impl IntoIterator<Item = (&'static str, Array)>,
    ) -> Case {
        let params = match params {
            Value::Object(params) => params,
            _ => Default::default(),
        };
        let inputs = inputs
            .into_iter()
            .map(|(name, array)| (name.to_owned(), array));
        Case {
            name: name.into(),
            op: op.into(),
            params,
            source: "generated".into(),
            inputs: inputs.collect(),
            grad_outputs: BTreeMap::new(),
            expected: BTreeMap::new(),
            expected_grads: BTreeMap::new(),
        }
    }

    /// With a gradient handed to an output.
    pub fn handing(mut self, output: &str, grad: Array) -> Case {
        self.grad_outputs.insert(output.into(), grad);
        self
    }
}
