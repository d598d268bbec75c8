//! Operators on binary codes, by operator.

#[path = "../common/device.rs"]
#[allow(dead_code, reason = "each operator takes what it needs")]
mod device;
mod sliding;
