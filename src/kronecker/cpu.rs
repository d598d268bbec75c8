//! References, stage by stage: f64 for real numbers, exact for the others.

use super::butterfly::{Factors, OP, Shape};
pub use super::matmul::cpu::{Gradients, apply, gradients as matmul_gradients, matmul};
use crate::{Result, error::length};

pub mod fp4;
pub mod multilinear;
pub mod sketch;

/// [`butterfly()`](super::butterfly()) on any items: `both(a, u, c, v)` is a u + c v in the algebra.
///
/// # Errors
/// `Argument` when sizes do not fit together.
pub fn butterfly<S: Copy, T: Copy>(
    shape: &Shape,
    sets: Factors,
    factors: &[S],
    x: &[T],
    both: impl Fn(S, T, S, T) -> T,
) -> Result<Vec<T>> {
    shape.check(OP)?;
    length(OP, "factors", factors.len(), shape.factors_len(sets))?;
    length(OP, "x", x.len(), shape.items())?;
    let mut y = x.to_vec();
    let slab = (shape.inner << shape.bits).max(1);
    for (outer, items) in y.chunks_exact_mut(slab).enumerate() {
        let own = match sets {
            Factors::Shared => 0,
            Factors::PerOuter => outer,
        };
        let set = factors.chunks_exact(4).skip(own * shape.bits);
        for (bit, factor) in set.take(shape.bits).enumerate() {
            let [a, b, c, d] = factor else { continue };
            let half = shape.inner << bit;
            for both_halves in items.chunks_exact_mut(2 * half) {
                let (low, high) = both_halves.split_at_mut(half);
                for (u, v) in low.iter_mut().zip(high) {
                    (*u, *v) = (both(*a, *u, *c, *v), both(*b, *u, *d, *v));
                }
            }
        }
    }
    Ok(y)
}

/// [`hadamard()`](super::hadamard()) in f64.
///
/// # Errors
/// `Argument` when sizes do not fit together.
pub fn hadamard(rows: usize, width: usize, x: &[f64]) -> Result<Vec<f64>> {
    let shape = super::hadamard::shape(rows, width)?;
    let factors = [1.0, 1.0, 1.0, -1.0].repeat(shape.bits);
    let y = butterfly(&shape, Factors::Shared, &factors, x, real)?;
    let scale = (width as f64).sqrt();
    Ok(y.into_iter().map(|y| y / scale).collect())
}

/// Sums of products.
pub fn real(a: f64, u: f64, c: f64, v: f64) -> f64 {
    a * u + c * v
}

/// Sums of products modulo 2^32.
pub fn integer(a: i32, u: i32, c: i32, v: i32) -> i32 {
    a.wrapping_mul(u).wrapping_add(c.wrapping_mul(v))
}

/// The lesser of two distances with their indices, of which the lower wins a tie.
pub fn nearest(a: u32, u: [u32; 2], c: u32, v: [u32; 2]) -> [u32; 2] {
    let further = |by: u32, [distance, index]: [u32; 2]| match distance.checked_add(by) {
        Some(sum) if sum < u32::MAX => [sum, index],
        _ => [u32::MAX; 2],
    };
    further(a, u).min(further(c, v))
}
