//! References of the operators on binary codes, straight from the definitions.

pub mod search;
