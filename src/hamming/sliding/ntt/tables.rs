//! Numbers that the host computes for the transforms.

use std::ops::Range;

use super::super::{Pattern, symbols::Alphabet};

/// The modulus.
const Q: u64 = 65_537;

/// Lengths of transforms: powers of 16.
const LENGTHS: [usize; 2] = [4096, 65_536];

/// What a table of ranks holds where there is no symbol.
pub(super) const NONE: u32 = u32::MAX;

/// Length of the transforms for a pattern and a text, and of the pieces into which they cut the pattern: what needs the fewest
/// operations, blocks counted whole.
pub(in crate::hamming::sliding) fn sizes(m: usize, n: usize) -> [usize; 2] {
    let piece = |length: usize| m.div_ceil(m.div_ceil(length / 2));
    let cost = |length: usize| {
        let piece = piece(length);
        n.div_ceil(length - piece + 1) * m.div_ceil(piece) * length * length.ilog2() as usize
    };
    let [short, long] = LENGTHS;
    let length = if cost(short) <= cost(long) {
        short
    } else {
        long
    };
    [length, piece(length)]
}

/// Ranks of a piece of the pattern where correlation wants them: symbol j of the piece at -j, around the end.
pub(super) fn placed(
    pattern: &Pattern,
    alphabet: &Alphabet,
    piece: &Range<u64>,
    length: u64,
) -> Vec<u32> {
    let mut placed = vec![NONE; length as usize];
    for (j, symbol) in pattern.tame() {
        let j = j as u64;
        if piece.contains(&j)
            && let Some(rank) = placed.get_mut(((length - (j - piece.start)) % length) as usize)
        {
            *rank = alphabet.code(symbol);
        }
    }
    placed
}

/// What the numbers of a transform there and back are multiplied with.
pub(super) fn scale(length: u64) -> u32 {
    power(length, Q - 2) as u32
}

/// x^e modulo 65537.
fn power(x: u64, e: u64) -> u64 {
    match e {
        0 => 1,
        e if e % 2 == 1 => x * power(x, e - 1) % Q,
        e => power(x * x % Q, e / 2),
    }
}

/// root^e for e < 256, then root^(256 e), where root has order 65536 and its 4096th power is 4. 3 is such a root but for the
/// last, so some odd power of it is.
pub(super) fn roots() -> Vec<u32> {
    let odd = (0..8).map(|n| 2 * n + 1);
    let found = odd
        .map(|e| power(3, e))
        .find(|root| power(*root, 4096) == 4);
    let root = found.unwrap_or(3);
    let powers = |root: u64| (0..256).map(move |e| power(root, e) as u32);
    powers(root).chain(powers(power(root, 256))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_has_order_65536_and_4_among_its_powers() {
        let table = roots();
        let root = u64::from(table[1]);
        assert_eq!((power(root, 4096), power(root, 32_768)), (4, Q - 1));
        for e in [0, 1, 255, 256, 257, 4096, 40_000, 65_535] {
            let product = u64::from(table[256 + e / 256]) * u64::from(table[e % 256]) % Q;
            assert_eq!(product, power(root, e as u64));
        }
        for length in LENGTHS {
            assert_eq!(u64::from(scale(length as u64)) * length as u64 % Q, 1);
        }
    }

    #[test]
    fn pieces_fill_half_a_transform_at_most_and_cover_the_pattern() {
        for m in [1, 100, 2048, 2049, 4096, 32_768, 32_769, 65_537, 1_000_000] {
            for n in [m, m + 5000, 10_000_000] {
                let [length, piece] = sizes(m, n);
                assert!(
                    piece <= length / 2 && piece * m.div_ceil(piece) >= m,
                    "{m} {n}"
                );
            }
        }
        assert_eq!(sizes(100, 3000)[0], 4096);
        assert_eq!(sizes(4000, 10_000_000)[0], 65_536);
    }
}
