//! Kronecker products, by operator.

#[path = "../common/device.rs"]
#[allow(dead_code)]
mod device;
#[path = "../common/devices.rs"]
mod devices;
#[path = "../common/effort.rs"]
mod effort;

mod butterfly;
mod cases;
mod dense;
mod diag_solve;
mod fp4;
mod gp;
mod matmul;
mod pde;
mod pencils;
mod random;
mod reports;
mod sketch;
mod solve;
mod spectrum;
mod tensor_attention;
mod tensor_linear;
mod tensor_poly;
mod transforms;
