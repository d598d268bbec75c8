//! What the methods cost: the numbers by which the planner chooses among them.

use super::Method;
use crate::gpu::{Class, Dtype};

/// Operations a second. Only their ratios matter to the choice.
struct Rates {
    /// Population counts of words.
    popcounts: f64,
    /// Bitwise operations on words of planes.
    logic: f64,
    /// Comparisons of bytes, and of u32.
    compared: [f64; 2],
    /// Atomic subtractions, and symbols of the text read for them.
    atomics: f64,
    /// Butterflies modulo 65537.
    butterflies: f64,
}

/// By class of device. Software adapters: measured with llvmpipe on two x86-64 cores. GPUs: computed from the instruction rates
/// of an H200, unverified; other GPUs are taken to have the same ratios.
fn rates(class: Class) -> Rates {
    match class {
        Class::Cpu => Rates {
            popcounts: 2.0e9,
            logic: 8.0e9,
            compared: [2.0e9, 1.0e9],
            atomics: 1.0e8,
            butterflies: 5.0e8,
        },
        _ => Rates {
            popcounts: 4.2e12,
            logic: 16.7e12,
            compared: [16.7e12 / 1.5, 16.7e12 / 2.0],
            atomics: 1.6e11,
            butterflies: 1.2e12,
        },
    }
}

/// What decides the cost of a call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    /// Symbols of the text.
    pub n: f64,
    /// Symbols of the pattern.
    pub m: f64,
    /// Distinct symbols of the pattern.
    pub ranks: f64,
    /// Bit planes of their ranks.
    pub planes: f64,
    /// Pairs that match.
    pub matches: f64,
    /// Whether the text may have wild symbols, which takes a transform more.
    pub wild: bool,
    /// Length of the transforms, and of the pieces into which they cut the pattern.
    pub transform: [f64; 2],
    /// Type of the text's symbols.
    pub dtype: Dtype,
}

/// Seconds that a method is estimated to take.
pub(super) fn seconds(method: Method, sizes: &Sizes, class: Class) -> f64 {
    let Rates {
        popcounts,
        logic,
        compared: [bytes, words],
        atomics,
        butterflies,
    } = rates(class);
    let Sizes { n, m, .. } = *sizes;
    match method {
        Method::Auto => f64::INFINITY,
        Method::Planes => {
            let steps = n * ((m + 31.0) / 32.0).ceil();
            steps * (1.0 / popcounts).max((sizes.planes + 1.0) / logic)
        }
        Method::Direct if sizes.dtype == Dtype::U8 => n * m / bytes,
        Method::Direct => n * m / words,
        Method::Scatter => (n + sizes.matches) / atomics,
        Method::Ntt => {
            let [length, piece] = sizes.transform;
            let blocks = (n / (length - piece + 1.0)).ceil() * (m / piece).ceil();
            let transforms = sizes.ranks + 1.0 + f64::from(u8::from(sizes.wild));
            transforms * blocks * length / 2.0 * length.log2() / butterflies
        }
    }
}
