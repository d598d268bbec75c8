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
    /// Atomic subtractions.
    atomics: f64,
    /// Symbols of the text that get their code from a table of bytes; searching takes longer.
    coded: f64,
    /// Butterflies modulo 65537.
    butterflies: f64,
}

/// By class of device. Software adapters: from the processor's time of llvmpipe (Mesa 22.3, 256 bits), n = 2^20, m from 64 to
/// 16,384, which these numbers meet within a fifth. GPUs: computed from the instruction rates of an H200, unverified; the others
/// are taken to have the same ratios.
fn rates(class: Class) -> Rates {
    match class {
        Class::Cpu => Rates {
            popcounts: 2.5e9,
            logic: 3.7e9,
            compared: [5.5e9, 1.6e9],
            atomics: 1.6e8,
            coded: 1.2e8,
            butterflies: 7.0e8,
        },
        _ => Rates {
            popcounts: 4.2e12,
            logic: 16.7e12,
            compared: [16.7e12 / 1.5, 16.7e12 / 2.0],
            atomics: 1.6e11,
            coded: 5.0e11,
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
        coded,
        butterflies,
    } = rates(class);
    let Sizes { n, m, .. } = *sizes;
    let bytewise = sizes.dtype == Dtype::U8;
    let search = if bytewise {
        0.0
    } else {
        (sizes.ranks + 1.0).log2() / 10.0
    };
    let coding = n * (1.0 + search) / coded;
    match method {
        Method::Auto => f64::INFINITY,
        Method::Planes => {
            let steps = n * ((m + 31.0) / 32.0).ceil();
            coding + steps * (1.0 / popcounts).max((sizes.planes + 1.0) / logic)
        }
        Method::Direct if bytewise => n * m / bytes,
        Method::Direct => n * m / words,
        Method::Scatter => coding + sizes.matches / atomics,
        Method::Ntt => {
            let [length, piece] = sizes.transform;
            let blocks = (n / (length - piece + 1.0)).ceil() * (m / piece).ceil();
            let transforms = sizes.ranks + 1.0 + f64::from(u8::from(sizes.wild));
            coding + transforms * blocks * length / 2.0 * length.log2() / butterflies
        }
    }
}
