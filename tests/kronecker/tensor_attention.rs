//! Exact third-order attention: the reference against itself and against differences, the adapter against the reference.

mod call;
mod gradients;
mod plans;
mod properties;
mod sizes;
