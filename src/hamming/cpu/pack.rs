//! Reference of packing.

use crate::hamming::{
    bits::{last_mask, words},
    pack::Compare,
};

/// Codes of rows of `dims` numbers, compared with one threshold or with one for each dimension.
pub fn pack_bits(x: &[f64], dims: usize, compare: Compare, threshold: &[f64]) -> Vec<u32> {
    let bit = |(i, x): (usize, &f64)| {
        let limit = match threshold {
            [one] => one,
            many => many.get(i).unwrap_or(&f64::NAN),
        };
        match compare {
            Compare::Greater => x > limit,
            Compare::GreaterEqual => x >= limit,
            Compare::Less => x < limit,
        }
    };
    let mut packed = Vec::new();
    for row in x.chunks_exact(dims.max(1)) {
        let bits: Vec<bool> = row.iter().enumerate().map(bit).collect();
        packed.extend(bits.chunks(32).map(|bits| {
            let ones = bits.iter().enumerate().filter(|(_, bit)| **bit);
            ones.fold(0, |word, (i, _)| word | 1 << i)
        }));
    }
    packed
}

/// Numbers of codes: `high` where a bit is 1, else `low`.
pub fn unpack_bits(packed: &[u32], bits: usize, [low, high]: [f64; 2]) -> Vec<f64> {
    let mut x = Vec::new();
    for code in packed.chunks_exact(words(bits).max(1)) {
        let bit = |i: &usize| {
            code.get(i / 32)
                .is_some_and(|word| word >> (i % 32) & 1 == 1)
        };
        x.extend((0..bits).map(|i| if bit(&i) { high } else { low }));
    }
    x
}

/// A code without what its pad holds.
pub fn without_pad(code: &[u32], bits: usize) -> Vec<u32> {
    let last = words(bits).saturating_sub(1);
    let mask = |(w, word): (usize, &u32)| {
        if w == last {
            word & last_mask(bits)
        } else {
            *word
        }
    };
    code.iter().enumerate().map(mask).collect()
}

/// Number of bits of each code that are 1.
pub fn popcounts(packed: &[u32], bits: usize) -> Vec<u32> {
    packed
        .chunks_exact(words(bits).max(1))
        .map(|code| {
            without_pad(code, bits)
                .iter()
                .map(|word| word.count_ones())
                .sum()
        })
        .collect()
}
