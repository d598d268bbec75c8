//! References in f64.

pub mod code_table;
