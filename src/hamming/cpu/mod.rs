//! References of the operators on codes, for clarity: scalar, exact in integers, f64 elsewhere.

pub mod code_table;
pub mod distance;
pub mod ecoformer;
pub mod gram;
pub mod kernel_hash;
pub mod maxsim;
pub mod pack;
pub mod search;
pub mod sliding;
