//! Operators on binary codes: packing, distances and search, attention by Hamming distance, sliding distances.
//!
//! A code of b bits is a row of ⌈b/32⌉ u32 words: bit i is bit i mod 32 of word i / 32, as bytes the least significant bit first.
//! The bits of the last word beyond b are its pad: packers write zeros, and readers never trust them. The ±1 view of a bit is
//! h = 2·bit - 1, so that codes at distance d = popcount(a xor b) have ⟨h_a, h_b⟩ = b - 2d.
//!
//! Distances and indices are u32; [`ABSENT`] in both stands where there is no item. Every ordered result is ordered by (distance,
//! index), ascending, so that ties go to the lower index on every device.

pub mod attention;
pub mod bits;

pub use bits::{ABSENT, MAX_BITS};
