//! Passes of queries over a database, cut into tasks.

use std::ops::Range;

use super::{
    Database,
    database::rows,
    level::{BLOCK, Block, Native, Run},
    threads,
};
use crate::{
    Result,
    hamming::{
        Allowed,
        bits::{last_mask, words},
    },
};

/// Queries scanned together.
const GROUP: usize = 4;

/// Bytes of codes that all queries of a task scan before the next ones: they stay in the second-level cache.
const TILE_BYTES: usize = 256 << 10;

/// The fewest blocks of a segment.
const SEGMENT_BLOCKS: usize = 64;

/// Bytes that a task's queries may keep.
const TASK_BYTES: usize = 8 << 20;

/// The most queries of a task.
const TASK_QUERIES: usize = 256;

/// The blocks of codes that a search passes over for the queries.
pub(super) struct Sweep<'a> {
    native: Native,
    pub database: &'a Database,
    queries: &'a [u32],
    pub count: usize,
    allowed: &'a Allowed<'a>,
}

/// How a search is cut into tasks: by queries and by segments of the database.
#[derive(Clone, Copy, Debug)]
pub(super) struct Split {
    /// Queries per task.
    pub queries: usize,
    /// Segments of the database.
    pub segments: usize,
    /// Queries whose tasks run together, a multiple of `queries`.
    pub batch: usize,
}

impl<'a> Sweep<'a> {
    pub(super) fn new(
        op: &'static str,
        database: &'a Database,
        queries: &'a [u32],
        allowed: &'a Allowed<'a>,
    ) -> Result<Self> {
        let native = database.options.level.native(op)?;
        let count = rows(op, "queries", queries, database.bits())?;
        allowed.check(op, count, database.len())?;
        Ok(Self {
            native,
            database,
            queries,
            count,
            allowed,
        })
    }

    /// Tasks enough for all threads, with so many bytes kept per query of a task.
    pub(super) fn split(&self, query_bytes: usize) -> Split {
        let threads = threads::count(self.database.options.threads);
        let most = (TASK_BYTES / query_bytes.max(1)).clamp(GROUP, TASK_QUERIES) / GROUP * GROUP;
        let queries = most.min(self.count.next_multiple_of(GROUP)).max(1);
        let tasks = if threads == 1 { 1 } else { 4 * threads };
        let segments = tasks.div_ceil(self.count.div_ceil(queries).max(1));
        let longest = self.database.blocks_len().div_ceil(SEGMENT_BLOCKS);
        Split {
            queries,
            segments: segments.min(longest).max(1),
            batch: queries * tasks,
        }
    }

    /// Takes a batch of queries with their limits over the database, and gives what is left of each query's state in each
    /// segment, `[task of queries, segment][query]`. `hit` is that of [`over`](Self::over).
    pub(super) fn states<T, R: Send + Clone>(
        &self,
        start: usize,
        limits: &[u32],
        split: Split,
        new: impl Fn(u32) -> T + Sync,
        hit: impl Fn(&mut T, &[u32; BLOCK], u64, u32) -> u32 + Sync,
        finish: impl Fn(T) -> R + Sync,
    ) -> Vec<Vec<R>> {
        let tasks = limits.len().div_ceil(split.queries) * split.segments;
        let mut results = vec![Vec::new(); tasks];
        let tasks = results.iter_mut().enumerate();
        threads::share(self.database.options.threads, tasks, |(task, results)| {
            let first = task / split.segments * split.queries;
            let rest = limits.get(first..).unwrap_or_default();
            let mut limits: Vec<u32> = rest.iter().take(split.queries).copied().collect();
            let mut states: Vec<T> = limits.iter().map(|limit| new(*limit)).collect();
            let queries = start + first..start + first + limits.len();
            let tiles = self.tiles(self.segment(task % split.segments, split.segments));
            self.over(queries, tiles, &mut states, &mut limits, &hit);
            *results = states.into_iter().map(&finish).collect();
        });
        results
    }

    /// The blocks of segment s of so many.
    fn segment(&self, s: usize, segments: usize) -> Range<usize> {
        let len = self.database.blocks_len().div_ceil(segments);
        let at = |s: usize| (s * len).min(self.database.blocks_len());
        at(s)..at(s + 1)
    }

    /// Cuts blocks into ranges that stay in a cache.
    fn tiles(&self, blocks: Range<usize>) -> impl Iterator<Item = Range<usize>> + use<> {
        let len = (TILE_BYTES / (4 * BLOCK * words(self.database.bits()))).max(1);
        blocks
            .clone()
            .step_by(len)
            .map(move |at| at..(at + len).min(blocks.end))
    }

    /// Takes `queries` over ranges of blocks. `hit` gets a query's state, the distances of a block, a bit for each allowed one
    /// below the query's limit and the index of the first; it returns the query's new limit, which may not rise.
    pub(super) fn over<T>(
        &self,
        queries: Range<usize>,
        blocks: impl Iterator<Item = Range<usize>>,
        states: &mut [T],
        limits: &mut [u32],
        hit: &impl Fn(&mut T, &[u32; BLOCK], u64, u32) -> u32,
    ) {
        let groups = self.groups(queries.clone());
        for blocks in blocks {
            let parts = states
                .chunks_mut(GROUP)
                .zip(limits.chunks_mut(GROUP))
                .zip(&groups);
            for (at, ((states, limits), group)) in parts.enumerate() {
                let first = queries.start + GROUP * at;
                let (range, words) = (blocks.clone(), group.as_slice());
                match limits.len() {
                    1 => self.visit::<1, T>(first, words, range, states, limits, hit),
                    2 => self.visit::<2, T>(first, words, range, states, limits, hit),
                    _ => self.visit::<GROUP, T>(first, words, range, states, limits, hit),
                }
            }
        }
    }

    /// Query words by groups, `[W, queries of the group]` with 3 queries as 4; pads are cleared.
    fn groups(&self, queries: Range<usize>) -> Vec<Vec<u32>> {
        let (words, bits) = (words(self.database.bits()), self.database.bits());
        let codes = self.queries.get(queries.start * words..queries.end * words);
        let groups = codes.unwrap_or_default().chunks(GROUP * words);
        let group = |codes: &[u32]| {
            let width = (codes.len() / words).next_power_of_two();
            let mut group = vec![0; words * width];
            for (q, code) in codes.chunks_exact(words).enumerate() {
                for (to, word) in group.iter_mut().skip(q).step_by(width).zip(code) {
                    *to = *word;
                }
            }
            group
                .iter_mut()
                .rev()
                .take(width)
                .for_each(|word| *word &= last_mask(bits));
            group
        };
        groups.map(group).collect()
    }

    /// One group over one range of blocks.
    fn visit<const Q: usize, T>(
        &self,
        first_query: usize,
        queries: &[u32],
        blocks: Range<usize>,
        states: &mut [T],
        limits: &mut [u32],
        hit: &impl Fn(&mut T, &[u32; BLOCK], u64, u32) -> u32,
    ) {
        let words = words(self.database.bits());
        let items = self.database.len();
        let mut ranges = [[0; 2]; Q];
        let mut keep = [[].as_slice(); Q];
        let mut run_limits = [0; Q];
        let mut span = [u32::MAX, 0];
        for (q, limit) in limits.iter().enumerate().take(Q) {
            let [lo, hi] = self.allowed.range(first_query + q, items);
            let row = self.allowed.filter_row(first_query + q, items);
            let parts = ranges.iter_mut().zip(&mut keep).zip(&mut run_limits);
            for ((range, keep), run_limit) in parts.skip(q).take(1) {
                (*range, *keep, *run_limit) = ([lo, hi], row.unwrap_or_default(), *limit);
            }
            if lo < hi {
                span = [span[0].min(lo), span[1].max(hi)];
            }
        }
        let mut at = blocks.start.max(span[0] as usize / BLOCK);
        let end = blocks.end.min((span[1] as usize).div_ceil(BLOCK));
        let mut block = Block::<Q>::new();
        while at < end && run_limits.iter().any(|limit| *limit > 0) {
            let filter = self
                .allowed
                .filter
                .map(|_| keep.map(|row| row.get(2 * at..).unwrap_or_default()));
            let codes = self
                .database
                .blocks()
                .get(at * BLOCK * words..end * BLOCK * words);
            let run = Run {
                codes: codes.unwrap_or_default(),
                words,
                queries,
                limits: run_limits,
                keep: filter,
            };
            let Some(found) = self.native.scan(&run, &mut block) else {
                break;
            };
            at += found;
            let first = (at * BLOCK) as u32;
            let rows = block.distance.iter().zip(block.hits).zip(ranges);
            let states = states.iter_mut().zip(&mut run_limits);
            for (q, ((state, limit), ((distance, hits), range))) in states.zip(rows).enumerate() {
                let mut mask = hits & inside(range, first);
                if self.allowed.exclude_self {
                    let own = (first_query + q).wrapping_sub(at * BLOCK);
                    mask &= if own < BLOCK { !(1 << own) } else { u64::MAX };
                }
                if mask != 0 {
                    *limit = hit(state, distance, mask, first);
                }
            }
            at += 1;
        }
        limits
            .iter_mut()
            .zip(run_limits)
            .for_each(|(limit, now)| *limit = now);
    }
}

/// The items of a block that lie in a range, as bits.
fn inside([lo, hi]: [u32; 2], first: u32) -> u64 {
    let below = |bound: u32| match bound.saturating_sub(first) {
        count @ 0..64 => (1 << count) - 1,
        _ => u64::MAX,
    };
    below(hi) & !below(lo)
}

/// The positions of the bits of a mask, ascending.
pub(super) fn ones(mut mask: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let at = mask.trailing_zeros() as usize;
        mask &= mask.wrapping_sub(1);
        (at < 64).then_some(at)
    })
}
