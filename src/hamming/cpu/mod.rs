//! References on this machine's processor, straight from the formulas, and quicker paths where they are simple.

pub mod sliding;
