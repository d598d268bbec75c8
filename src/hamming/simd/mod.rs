//! The same operators on the CPU, by its vector instructions: AVX-512, AVX2, NEON or plain Rust, chosen at run time.
//!
//! [`Database`] owns codes in blocks of 64, word w of all of them together, so that a register holds one word of several codes.
//! A scan compares 4 queries with a block at a time and leaves the registers only where a distance is below its query's limit.
//! Work is shared between threads by queries and by segments of the database, so that a single query uses all of them. Results
//! are integers: they depend neither on the level nor on the number of threads.
//!
//! ```
//! use subquad::hamming::{Allowed, Compare, simd};
//!
//! let vectors = [0.5, -1.0, 2.0, -0.1, 0.3, 0.7, -0.2, -0.4, 0.9];
//! let options = simd::Options::default();
//! let threshold = simd::Threshold::Same(0.0);
//! let codes = simd::pack_bits(&vectors, 3, threshold, Compare::Greater, &options)?;
//! let database = simd::Database::new(&codes, 3, options)?;
//! let nearest = database.knn(&codes, 2, &Allowed { exclude_self: true, ..Allowed::default() })?;
//! assert_eq!(nearest.index, [2, 1, 2, 0, 0, 1]);
//! assert_eq!(nearest.distance, [1, 2, 1, 2, 1, 1]);
//! # Ok::<(), subquad::Error>(())
//! ```

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod database;
mod distance;
mod knn;
mod level;
#[cfg(target_arch = "aarch64")]
mod neon;
mod pack;
mod radius;
mod scalar;
mod sweep;
#[cfg(test)]
mod tests;
mod threads;

pub use database::Database;
pub use distance::{distances, distances_u16};
pub use knn::Neighbours;
pub use level::Level;
pub use pack::{Threshold, pack_bits};
pub use radius::{Order, Radius, Within};

/// How to run; no result depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// The vector instructions.
    pub level: Level,
    /// The most threads, 0 for all.
    pub threads: usize,
}

impl Default for Options {
    /// The best level and all threads.
    fn default() -> Self {
        Self {
            level: Level::detect(),
            threads: 0,
        }
    }
}
