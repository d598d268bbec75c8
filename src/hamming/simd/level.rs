//! The vector instructions of this machine, chosen at run time, and the two functions that each set offers.

use super::scalar;
use crate::{Error, Result, hamming::Compare};

#[cfg(target_arch = "aarch64")]
use super::neon;
#[cfg(target_arch = "x86_64")]
use super::{avx2, avx512};

/// Codes of a block: word w of all of them lies together.
pub(super) const BLOCK: usize = 64;

/// A set of vector instructions. Results do not depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Plain Rust.
    Scalar,
    /// x86-64 with AVX2.
    Avx2,
    /// x86-64 with AVX-512F and VPOPCNTDQ.
    Avx512,
    /// AArch64 with NEON.
    Neon,
}

impl Level {
    /// Every level, the best first.
    pub const ALL: [Level; 4] = [Level::Avx512, Level::Avx2, Level::Neon, Level::Scalar];

    /// The best level of this machine.
    pub fn detect() -> Level {
        let mut levels = Level::ALL.into_iter();
        levels
            .find(|level| level.available())
            .unwrap_or(Level::Scalar)
    }

    /// Whether this machine has it.
    pub fn available(self) -> bool {
        match self {
            Level::Scalar => true,
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => is_x86_feature_detected!("avx2"),
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => {
                is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vpopcntdq")
            }
            #[cfg(target_arch = "aarch64")]
            Level::Neon => std::arch::is_aarch64_feature_detected!("neon"),
            #[allow(unreachable_patterns, reason = "the levels of other architectures")]
            _ => false,
        }
    }

    /// Its name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Level::Scalar => "scalar",
            Level::Avx2 => "avx2",
            Level::Avx512 => "avx512",
            Level::Neon => "neon",
        }
    }

    /// The level's functions.
    ///
    /// # Errors
    /// `Unsupported` when the machine lacks it.
    pub(super) fn native(self, op: &'static str) -> Result<Native> {
        if self.available() {
            return Ok(Native(self));
        }
        Err(Error::Unsupported {
            op,
            what: format!(
                "the level {} on this machine; the best one here is {}",
                self.name(),
                Level::detect().name()
            ),
        })
    }
}

/// A level that this machine has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Native(Level);

/// What a scan reads: blocks of codes and a group of Q queries.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run<'a, const Q: usize> {
    /// Blocks of 64 codes, `[block, W, 64]`.
    pub codes: &'a [u32],
    /// W, the words of a code.
    pub words: usize,
    /// `[W, Q]`.
    pub queries: &'a [u32],
    /// A code is a hit at a distance below its query's limit, which is at most 2³¹.
    pub limits: [u32; Q],
    /// Filter words of each query, two per block, from the first block on; what lies beyond is not kept.
    pub keep: Option<[&'a [u32]; Q]>,
}

/// A block with hits: distances of its codes to the group, and a bit per hit.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub(super) struct Block<const Q: usize> {
    pub distance: [[u32; BLOCK]; Q],
    pub hits: [u64; Q],
}

impl<const Q: usize> Block<Q> {
    pub(super) fn new() -> Self {
        Self {
            distance: [[0; BLOCK]; Q],
            hits: [0; Q],
        }
    }
}

impl Native {
    /// The first block of the run with a hit, described in `block`.
    pub(super) fn scan<const Q: usize>(
        self,
        run: &Run<'_, Q>,
        block: &mut Block<Q>,
    ) -> Option<usize> {
        match self.0 {
            // SAFETY: `native` found AVX-512F and VPOPCNTDQ on this machine.
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => unsafe { avx512::scan(run, block) },
            // SAFETY: `native` found AVX2 on this machine.
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => unsafe { avx2::scan(run, block) },
            // SAFETY: `native` found NEON on this machine.
            #[cfg(target_arch = "aarch64")]
            Level::Neon => unsafe { neon::scan(run, block) },
            _ => scalar::scan(run, block),
        }
    }

    /// Bits of the row's whole words: 32 per element of `out`, from `x` and `thresholds` of 32 times its length.
    pub(super) fn pack(self, x: &[f32], thresholds: &[f32], compare: Compare, out: &mut [u32]) {
        match self.0 {
            // SAFETY: `native` found AVX-512F on this machine.
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => unsafe { avx512::pack(x, thresholds, compare, out) },
            // SAFETY: `native` found AVX2 on this machine.
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => unsafe { avx2::pack(x, thresholds, compare, out) },
            // SAFETY: `native` found NEON on this machine.
            #[cfg(target_arch = "aarch64")]
            Level::Neon => unsafe { neon::pack(x, thresholds, compare, out) },
            _ => scalar::pack(x, thresholds, compare, out),
        }
    }
}

/// The loop of every `scan`: asks `at` about each block of which anything is kept, and stops at the first kept hit.
///
/// `at` gets a block's words, writes distances and hits if there is any hit, and says whether there is.
#[inline(always)]
pub(super) fn first_hit<const Q: usize>(
    run: &Run<'_, Q>,
    block: &mut Block<Q>,
    mut at: impl FnMut(&[u32], &mut Block<Q>) -> bool,
) -> Option<usize> {
    let blocks = run.codes.chunks_exact(BLOCK * run.words).enumerate();
    let Some(keep) = run.keep else {
        for (position, codes) in blocks {
            if at(codes, block) {
                return Some(position);
            }
        }
        return None;
    };
    for (position, codes) in blocks {
        let word = |row: &[u32], w: usize| u64::from(row.get(w).copied().unwrap_or(0));
        let kept = keep.map(|row| word(row, 2 * position) | word(row, 2 * position + 1) << 32);
        if kept.iter().all(|kept| *kept == 0) || !at(codes, block) {
            continue;
        }
        block
            .hits
            .iter_mut()
            .zip(kept)
            .for_each(|(hits, kept)| *hits &= kept);
        if block.hits.iter().any(|hits| *hits != 0) {
            return Some(position);
        }
    }
    None
}
