//! AVX2: bits counted per nibble by a table look-up, 8 codes a register, 4 queries × 16 codes at a time.

use std::arch::x86_64::*;

use super::level::{BLOCK, Block, Run, first_hit};
use super::scalar::below;
use crate::hamming::Compare;

/// Words whose counts fit a byte lane: 31 · 8 ≤ 255.
const BYTE_WORDS: usize = 31;

/// See [`Native::scan`](super::level::Native::scan).
#[target_feature(enable = "avx2")]
pub(super) fn scan<const Q: usize>(run: &Run<'_, Q>, block: &mut Block<Q>) -> Option<usize> {
    let limits = run.limits.map(|limit| _mm256_set1_epi32(limit as i32));
    first_hit(run, block, |codes, block| {
        let mut signs = _mm256_setzero_si256();
        for part in 0..4 {
            let mut sums = [[_mm256_setzero_si256(); 2]; Q];
            let words = codes.chunks(BLOCK * BYTE_WORDS);
            for (codes, queries) in words.zip(run.queries.chunks(Q * BYTE_WORDS)) {
                let bytes = byte_counts::<Q>(codes, queries, part);
                for (sums, bytes) in sums.iter_mut().zip(bytes) {
                    for (sum, bytes) in sums.iter_mut().zip(bytes) {
                        *sum = _mm256_add_epi32(*sum, widen(bytes));
                    }
                }
            }
            let rows = block.distance.iter_mut().zip(limits);
            for ([a, b], (row, limit)) in sums.into_iter().zip(rows) {
                let below = [_mm256_sub_epi32(a, limit), _mm256_sub_epi32(b, limit)];
                signs = below
                    .into_iter()
                    .fold(signs, |signs, below| _mm256_or_si256(signs, below));
                let (to, _) = row.as_chunks_mut::<8>();
                if let Some([to_a, to_b]) = to.get_mut(2 * part..2 * part + 2) {
                    store(to_a, a);
                    store(to_b, b);
                }
            }
        }
        _mm256_movemask_ps(_mm256_castsi256_ps(signs)) != 0 && below(block, &run.limits)
    })
}

/// Counts in byte lanes for the 16 codes of a quarter block, over at most [`BYTE_WORDS`] words.
#[inline]
#[target_feature(enable = "avx2")]
fn byte_counts<const Q: usize>(codes: &[u32], queries: &[u32], part: usize) -> [[__m256i; 2]; Q] {
    let table = _mm256_broadcastsi128_si256(_mm_setr_epi8(
        0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,
    ));
    let low = _mm256_set1_epi8(15);
    let mut sums = [[_mm256_setzero_si256(); 2]; Q];
    let (words, _) = codes.as_chunks::<BLOCK>();
    let (queries, _) = queries.as_chunks::<Q>();
    for (word, queries) in words.iter().zip(queries) {
        let (parts, _) = word.as_chunks::<8>();
        let Some([a, b]) = parts.get(2 * part..2 * part + 2) else {
            break;
        };
        let codes = [load(a), load(b)];
        for (sums, query) in sums.iter_mut().zip(queries) {
            let query = _mm256_set1_epi32(*query as i32);
            for (sum, code) in sums.iter_mut().zip(codes) {
                let differ = _mm256_xor_si256(code, query);
                let lower = _mm256_shuffle_epi8(table, _mm256_and_si256(differ, low));
                let upper = _mm256_and_si256(_mm256_srli_epi16::<4>(differ), low);
                let ones = _mm256_add_epi8(lower, _mm256_shuffle_epi8(table, upper));
                *sum = _mm256_add_epi8(*sum, ones);
            }
        }
    }
    sums
}

/// The sum of the four bytes of each lane.
#[inline]
#[target_feature(enable = "avx2")]
fn widen(bytes: __m256i) -> __m256i {
    let pairs = _mm256_maddubs_epi16(bytes, _mm256_set1_epi8(1));
    _mm256_madd_epi16(pairs, _mm256_set1_epi16(1))
}

/// See [`Native::pack`](super::level::Native::pack).
#[target_feature(enable = "avx2")]
pub(super) fn pack(x: &[f32], thresholds: &[f32], compare: Compare, out: &mut [u32]) {
    let (x, _) = x.as_chunks::<8>();
    let (t, _) = thresholds.as_chunks::<8>();
    for (word, (x, t)) in out.iter_mut().zip(x.chunks_exact(4).zip(t.chunks_exact(4))) {
        *word = x.iter().zip(t).rev().fold(0, |word, (x, t)| {
            let (x, t) = (load_f32(x), load_f32(t));
            let bits = match compare {
                Compare::Greater => _mm256_cmp_ps::<_CMP_GT_OQ>(x, t),
                Compare::GreaterEqual => _mm256_cmp_ps::<_CMP_GE_OQ>(x, t),
                Compare::Less => _mm256_cmp_ps::<_CMP_LT_OQ>(x, t),
            };
            word << 8 | _mm256_movemask_ps(bits) as u32
        });
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load(x: &[u32; 8]) -> __m256i {
    // SAFETY: the array is the 32 bytes read.
    unsafe { _mm256_loadu_si256(x.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn load_f32(x: &[f32; 8]) -> __m256 {
    // SAFETY: the array is the 32 bytes read.
    unsafe { _mm256_loadu_ps(x.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store(to: &mut [u32; 8], x: __m256i) {
    // SAFETY: the array is the 32 bytes written.
    unsafe { _mm256_storeu_si256(to.as_mut_ptr().cast(), x) }
}
