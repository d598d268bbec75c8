//! References in f64, one file an operator, straight from the formulas.

pub mod ecoformer;
pub mod kernel_hash;
