//! Plain Rust, for machines without a level of their own.

use super::level::{BLOCK, Block, Run, first_hit};
use super::pack::bit;
use crate::hamming::Compare;

/// See [`Native::scan`](super::level::Native::scan).
pub(super) fn scan<const Q: usize>(run: &Run<'_, Q>, block: &mut Block<Q>) -> Option<usize> {
    first_hit(run, block, |codes, block| {
        block.distance = [[0; BLOCK]; Q];
        for (codes, queries) in codes.chunks_exact(BLOCK).zip(run.queries.chunks_exact(Q)) {
            for (distance, query) in block.distance.iter_mut().zip(queries) {
                for (distance, code) in distance.iter_mut().zip(codes) {
                    *distance += (code ^ query).count_ones();
                }
            }
        }
        below(block, &run.limits)
    })
}

/// Writes a bit per distance below its query's limit, and says whether there is one.
#[inline]
pub(super) fn below<const Q: usize>(block: &mut Block<Q>, limits: &[u32; Q]) -> bool {
    let rows = block.distance.iter().zip(limits);
    let signs = rows.clone().fold(0, |signs, (row, limit)| {
        let row = row
            .iter()
            .fold(0, |signs, d| signs | d.wrapping_sub(*limit));
        signs | row
    });
    if signs >> 31 == 0 {
        return false;
    }
    for ((row, limit), hits) in rows.zip(&mut block.hits) {
        let bits = row.iter().rev();
        *hits = bits.fold(0, |hits, d| hits << 1 | u64::from(d < limit));
    }
    true
}

/// See [`Native::pack`](super::level::Native::pack).
pub(super) fn pack(x: &[f32], thresholds: &[f32], compare: Compare, out: &mut [u32]) {
    let words = x.chunks(32).zip(thresholds.chunks(32));
    for (word, (x, t)) in out.iter_mut().zip(words) {
        let bits = x.iter().zip(t).rev();
        *word = bits.fold(0, |word, (x, t)| {
            word << 1 | u32::from(bit(*x, *t, compare))
        });
    }
}
