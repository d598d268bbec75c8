//! Reference of Gram matrices of codes as sets.

use std::f64::consts::PI;

use super::{distance::distances, pack::popcounts};
use crate::hamming::{distance::Count, gram::Function};

/// A function of sets of s and t elements with n in common.
pub fn function(function: Function, [s, t, n]: [u32; 3]) -> f64 {
    let [s, t, n] = [s, t, n].map(f64::from);
    match function {
        Function::Jaccard => 1.0 - if s + t > 0.0 { n / (s + t - n) } else { 1.0 },
        Function::NeuralTangent if s * t == 0.0 => 0.0,
        Function::NeuralTangent => {
            let rho = (s * t).sqrt();
            let angle = PI - (n / rho).min(1.0).acos();
            let zero = angle / PI;
            let one = (n / rho * angle + (1.0 - (n / rho).powi(2)).max(0.0).sqrt()) / PI;
            n * zero + rho * one
        }
    }
}

/// Of every code of a and every code of b.
pub fn gram(a: &[u32], b: &[u32], bits: usize, of: Function) -> Vec<f64> {
    let (s, t) = (popcounts(a, bits), popcounts(b, bits));
    let common = distances(a, b, bits, Count::Common);
    let sizes = s.iter().flat_map(|s| t.iter().map(move |t| [*s, *t]));
    sizes
        .zip(common)
        .map(|([s, t], n)| function(of, [s, t, n]))
        .collect()
}
