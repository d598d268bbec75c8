//! Operators on binary codes, by operator.

#[path = "../common/device.rs"]
mod device;
mod ecoformer;
mod kernel_hash;
mod ksh_fit;
