//! Operators on binary codes, by operator.

#[path = "../common/device.rs"]
#[allow(dead_code)]
mod device;

mod code_table;
