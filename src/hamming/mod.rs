//! Operators on binary codes: packing, distances and search, attention by Hamming distance, sliding distances.
//!
//! A code of b bits is a row of ⌈b/32⌉ u32 words: bit i is bit i mod 32 of word i / 32, as bytes the least significant bit first.
//! The bits of the last word beyond b are its pad: packers write zeros, and readers never trust them. The ±1 view of a bit is
//! h = 2·bit - 1, so that codes at distance d = popcount(a xor b) have ⟨h_a, h_b⟩ = b - 2d.
//!
//! [`simd`] has packing, distances and search for a machine without a GPU; [`cpu`] holds the references of all operators.
//!
//! Distances and indices are u32; [`ABSENT`] in both stands where there is no item. Every ordered result is ordered by (distance,
//! index), ascending, so that ties go to the lower index on every device.

pub mod allowed;
pub mod attention;
pub mod bits;
#[cfg(feature = "cli")]
pub(crate) mod cases;
pub mod code_table;
pub mod cpu;
pub mod distance;
pub mod ecoformer;
pub mod gram;
pub mod kernel_hash;
pub mod ksh_fit;
pub mod maxsim;
pub mod pack;
pub mod search;
pub mod simd;
pub mod sliding;
pub(crate) mod tile;

pub use allowed::{Allowed, Filter};
pub use bits::{ABSENT, MAX_BITS, words};
pub use ecoformer::{
    ecoformer_attention, ecoformer_attention_backward, record_ecoformer_attention,
    record_ecoformer_attention_backward,
};
pub use kernel_hash::{
    kernel_hash, kernel_hash_backward, record_kernel_hash, record_kernel_hash_backward,
};
pub use ksh_fit::ksh_fit;
pub use pack::Compare;
pub use search::{count, histogram, knn, radius, radius_count};
pub use sliding::{k_mismatch, sliding};
