//! Kronecker products, by operator.

#[path = "../common/device.rs"]
#[allow(dead_code)]
mod device;

mod butterfly;
mod cases;
mod random;
mod sketch;
