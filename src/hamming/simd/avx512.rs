//! AVX-512F with VPOPCNTDQ: 16 codes a register, 4 queries × 64 codes in 16 accumulators.

use std::arch::x86_64::*;

use super::level::{BLOCK, Block, Run, first_hit};
use crate::hamming::Compare;

/// How far ahead of the arithmetic a scan for few queries asks for memory.
const AHEAD_BYTES: usize = 16 << 10;

/// See [`Native::scan`](super::level::Native::scan).
///
/// An accumulator starts at -limit, so that its sign tells a hit and the signs of all join by `or`.
#[target_feature(enable = "avx512f,avx512vpopcntdq")]
pub(super) fn scan<const Q: usize>(run: &Run<'_, Q>, block: &mut Block<Q>) -> Option<usize> {
    let start = run
        .limits
        .map(|limit| _mm512_set1_epi32((limit as i32).wrapping_neg()));
    let zero = _mm512_setzero_si512();
    first_hit(run, block, |codes, block| {
        let mut sums = start.map(|start| [start; 4]);
        let (words, _) = codes.as_chunks::<BLOCK>();
        let (queries, _) = run.queries.as_chunks::<Q>();
        for (word, queries) in words.iter().zip(queries) {
            let (parts, _) = word.as_chunks::<16>();
            let [a, b, c, d] = parts else { break };
            let codes = [load(a), load(b), load(c), load(d)];
            if Q < 4 {
                parts.iter().for_each(|part| fetch(part));
            }
            for (sums, query) in sums.iter_mut().zip(queries) {
                let query = _mm512_set1_epi32(*query as i32);
                for (sum, code) in sums.iter_mut().zip(codes) {
                    let ones = _mm512_popcnt_epi32(_mm512_xor_si512(code, query));
                    *sum = _mm512_add_epi32(*sum, ones);
                }
            }
        }
        let mut any = zero;
        for [a, b, c, d] in sums {
            any = or(or(any, a, b), c, d);
        }
        if _mm512_cmplt_epi32_mask(any, zero) == 0 {
            return false;
        }
        spill(&sums, &start, block);
        true
    })
}

/// Writes what the accumulators hold. Apart from the loop over codes, lest that keep its accumulators in memory.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512vpopcntdq")]
fn spill<const Q: usize>(sums: &[[__m512i; 4]; Q], start: &[__m512i; Q], block: &mut Block<Q>) {
    let rows = block.distance.iter_mut().zip(&mut block.hits);
    for ((sums, start), (distance, hits)) in sums.iter().zip(start).zip(rows) {
        let (parts, _) = distance.as_chunks_mut::<16>();
        *hits = 0;
        for (at, (sum, part)) in sums.iter().zip(parts).enumerate() {
            store(part, _mm512_sub_epi32(*sum, *start));
            *hits |= u64::from(_mm512_cmplt_epi32_mask(*sum, _mm512_setzero_si512())) << (16 * at);
        }
    }
}

/// See [`Native::pack`](super::level::Native::pack).
#[target_feature(enable = "avx512f")]
pub(super) fn pack(x: &[f32], thresholds: &[f32], compare: Compare, out: &mut [u32]) {
    let (x, _) = x.as_chunks::<16>();
    let (t, _) = thresholds.as_chunks::<16>();
    for (word, (x, t)) in out.iter_mut().zip(x.chunks_exact(2).zip(t.chunks_exact(2))) {
        *word = x.iter().zip(t).rev().fold(0, |word, (x, t)| {
            let (x, t) = (load_f32(x), load_f32(t));
            word << 16
                | u32::from(match compare {
                    Compare::Greater => _mm512_cmp_ps_mask::<_CMP_GT_OQ>(x, t),
                    Compare::GreaterEqual => _mm512_cmp_ps_mask::<_CMP_GE_OQ>(x, t),
                    Compare::Less => _mm512_cmp_ps_mask::<_CMP_LT_OQ>(x, t),
                })
        });
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn or(a: __m512i, b: __m512i, c: __m512i) -> __m512i {
    _mm512_ternarylogic_epi32::<0xFE>(a, b, c)
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load(x: &[u32; 16]) -> __m512i {
    // SAFETY: the array is the 64 bytes read.
    unsafe { _mm512_loadu_si512(x.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load_f32(x: &[f32; 16]) -> __m512 {
    // SAFETY: the array is the 64 bytes read.
    unsafe { _mm512_loadu_ps(x.as_ptr()) }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store(to: &mut [u32; 16], x: __m512i) {
    // SAFETY: the array is the 64 bytes written.
    unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), x) }
}

#[inline]
#[target_feature(enable = "avx512f")]
#[allow(
    unused_unsafe,
    reason = "not safe in every compiler from rust-version on"
)]
fn fetch(x: &[u32; 16]) {
    // SAFETY: a prefetch may name any address.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(x.as_ptr().cast::<i8>().wrapping_add(AHEAD_BYTES)) }
}
