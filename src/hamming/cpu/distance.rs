//! Reference of distances.

use super::pack::without_pad;
use crate::hamming::{
    bits::words,
    distance::{Count, Triangle},
};

/// What is counted of one pair of codes without pads.
fn pair(count: Count, a: &[u32], b: &[u32]) -> u32 {
    a.iter()
        .zip(b)
        .map(|(a, b)| match count {
            Count::Bits => (a ^ b).count_ones(),
            Count::Common => (a & b).count_ones(),
            Count::Symbols(width) => {
                let field =
                    |word: &u32, n: u32| u64::from(*word) >> (n * width) & ((1u64 << width) - 1);
                (0..32 / width)
                    .filter(|n| field(a, *n) != field(b, *n))
                    .count() as u32
            }
        })
        .sum()
}

/// Of every code of a with every code of b.
pub fn distances(a: &[u32], b: &[u32], bits: usize, count: Count) -> Vec<u32> {
    let codes = |packed: &[u32]| -> Vec<Vec<u32>> {
        let rows = packed.chunks_exact(words(bits).max(1));
        rows.map(|code| without_pad(code, bits)).collect()
    };
    let (a, b) = (codes(a), codes(b));
    a.iter()
        .flat_map(|a| b.iter().map(|b| pair(count, a, b)))
        .collect()
}

/// Of the codes of one set with each other.
pub fn symmetric(a: &[u32], bits: usize, count: Count, triangle: Triangle) -> Vec<u32> {
    let all = distances(a, a, bits, count);
    let n = a.len() / words(bits).max(1);
    match triangle {
        Triangle::Full => all,
        Triangle::Condensed => all
            .chunks_exact(n.max(1))
            .enumerate()
            .flat_map(|(i, row)| row.iter().skip(i + 1).copied())
            .collect(),
    }
}
