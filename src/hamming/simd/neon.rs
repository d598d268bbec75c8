//! NEON: bits counted per byte, 4 codes a register, 4 queries × 16 codes at a time.

use std::arch::aarch64::*;

use super::level::{BLOCK, Block, Run, first_hit};
use super::scalar::below;
use crate::hamming::Compare;

/// Words whose counts fit a byte lane: 31 · 8 ≤ 255.
const BYTE_WORDS: usize = 31;

/// See [`Native::scan`](super::level::Native::scan).
#[target_feature(enable = "neon")]
pub(super) fn scan<const Q: usize>(run: &Run<'_, Q>, block: &mut Block<Q>) -> Option<usize> {
    let limits = run.limits.map(|limit| vdupq_n_u32(limit));
    first_hit(run, block, |codes, block| {
        let mut signs = vdupq_n_u32(0);
        for part in 0..4 {
            let mut sums = [[vdupq_n_u32(0); 4]; Q];
            let words = codes.chunks(BLOCK * BYTE_WORDS);
            for (codes, queries) in words.zip(run.queries.chunks(Q * BYTE_WORDS)) {
                let bytes = byte_counts::<Q>(codes, queries, part);
                for (sums, bytes) in sums.iter_mut().zip(bytes) {
                    for (sum, bytes) in sums.iter_mut().zip(bytes) {
                        *sum = vaddq_u32(*sum, vpaddlq_u16(vpaddlq_u8(bytes)));
                    }
                }
            }
            let rows = block.distance.iter_mut().zip(limits);
            for (sums, (row, limit)) in sums.into_iter().zip(rows) {
                let (to, _) = row.as_chunks_mut::<4>();
                for (sum, to) in sums.into_iter().zip(to.iter_mut().skip(4 * part)) {
                    signs = vorrq_u32(signs, vsubq_u32(sum, limit));
                    store(to, sum);
                }
            }
        }
        vmaxvq_u32(signs) >> 31 != 0 && below(block, &run.limits)
    })
}

/// Counts in byte lanes for the 16 codes of a quarter block, over at most [`BYTE_WORDS`] words.
#[inline]
#[target_feature(enable = "neon")]
fn byte_counts<const Q: usize>(
    codes: &[u32],
    queries: &[u32],
    part: usize,
) -> [[uint8x16_t; 4]; Q] {
    let mut sums = [[vdupq_n_u8(0); 4]; Q];
    let (words, _) = codes.as_chunks::<BLOCK>();
    let (queries, _) = queries.as_chunks::<Q>();
    for (word, queries) in words.iter().zip(queries) {
        let (parts, _) = word.as_chunks::<4>();
        let Some([a, b, c, d]) = parts.get(4 * part..4 * part + 4) else {
            break;
        };
        let codes = [load(a), load(b), load(c), load(d)];
        for (sums, query) in sums.iter_mut().zip(queries) {
            let query = vdupq_n_u32(*query);
            for (sum, code) in sums.iter_mut().zip(codes) {
                let ones = vcntq_u8(vreinterpretq_u8_u32(veorq_u32(code, query)));
                *sum = vaddq_u8(*sum, ones);
            }
        }
    }
    sums
}

/// See [`Native::pack`](super::level::Native::pack).
#[target_feature(enable = "neon")]
pub(super) fn pack(x: &[f32], thresholds: &[f32], compare: Compare, out: &mut [u32]) {
    let (x, _) = x.as_chunks::<4>();
    let (t, _) = thresholds.as_chunks::<4>();
    let lanes = load(&[1, 2, 4, 8]);
    for (word, (x, t)) in out.iter_mut().zip(x.chunks_exact(8).zip(t.chunks_exact(8))) {
        *word = x.iter().zip(t).rev().fold(0, |word, (x, t)| {
            let (x, t) = (load_f32(x), load_f32(t));
            let bits = match compare {
                Compare::Greater => vcgtq_f32(x, t),
                Compare::GreaterEqual => vcgeq_f32(x, t),
                Compare::Less => vcltq_f32(x, t),
            };
            word << 4 | vaddvq_u32(vandq_u32(bits, lanes))
        });
    }
}

#[inline]
#[target_feature(enable = "neon")]
fn load(x: &[u32; 4]) -> uint32x4_t {
    // SAFETY: the array is the 16 bytes read.
    unsafe { vld1q_u32(x.as_ptr()) }
}

#[inline]
#[target_feature(enable = "neon")]
fn load_f32(x: &[f32; 4]) -> float32x4_t {
    // SAFETY: the array is the 16 bytes read.
    unsafe { vld1q_f32(x.as_ptr()) }
}

#[inline]
#[target_feature(enable = "neon")]
fn store(to: &mut [u32; 4], x: uint32x4_t) {
    // SAFETY: the array is the 16 bytes written.
    unsafe { vst1q_u32(to.as_mut_ptr(), x) }
}
