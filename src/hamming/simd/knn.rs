//! The k nearest codes.

use super::{
    Database,
    level::BLOCK,
    sweep::{Split, Sweep, ones},
    threads,
};
use crate::{
    Error, Result,
    hamming::{ABSENT, Allowed},
};

const OP: &str = "hamming_knn";

/// Neighbouring blocks of a sample.
const SAMPLE_RUN: usize = 4;

/// The k nearest items of every query, ordered by (distance, index). Both are [`ABSENT`] where fewer items are allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Neighbours {
    /// `[N, k]`.
    pub distance: Vec<u32>,
    /// `[N, k]`.
    pub index: Vec<u32>,
}

impl Database {
    /// The k nearest allowed items of every query: the stable counting sort of all of them by distance, cut at k. Any k.
    ///
    /// A limit per query, from a sample of the database and then from what was found, keeps all but a few items from leaving
    /// the registers; whatever the order of the database, an item costs a constant number of steps.
    ///
    /// # Errors
    /// `Argument` when `queries` or a part of `allowed` does not fit, `Limit` when N·k items cannot be addressed,
    /// `Unsupported` when the machine lacks the level.
    pub fn knn(&self, queries: &[u32], k: usize, allowed: &Allowed<'_>) -> Result<Neighbours> {
        let sweep = Sweep::new(OP, self, queries, allowed)?;
        let kept = k.min(self.len());
        let query_bytes = 4 * (self.bits() + 1) + 8 * Nearest::capacity(kept).min(self.len());
        search(&sweep, k, sweep.split(query_bytes))
    }
}

/// The search with given tasks.
pub(super) fn search(sweep: &Sweep<'_>, k: usize, split: Split) -> Result<Neighbours> {
    let Some(len) = sweep
        .count
        .checked_mul(k)
        .filter(|len| *len <= isize::MAX as usize / 8)
    else {
        return Err(Error::Limit {
            what: format!("{OP} (elements of the result)"),
            needed: (sweep.count as u64).saturating_mul(k as u64),
            available: isize::MAX as u64 / 8,
            remedy: "lower k or split the queries",
        });
    };
    let mut distance = vec![ABSENT; len];
    let mut index = vec![ABSENT; len];
    let kept = k.min(sweep.database.len());
    if kept == 0 {
        return Ok(Neighbours { distance, index });
    }
    let outputs = distance
        .chunks_mut(split.batch * k)
        .zip(index.chunks_mut(split.batch * k));
    for (at, (distance, index)) in outputs.enumerate() {
        let start = at * split.batch;
        let queries = distance.len() / k;
        let limits = sample(sweep, start, queries, kept);
        let new = |limit| Nearest::new(kept, sweep.database.bits(), limit);
        let lists = sweep.states(start, &limits, split, new, Nearest::take, Nearest::finish);
        let rows = split.queries * k;
        let tasks = distance
            .chunks_mut(rows)
            .zip(index.chunks_mut(rows))
            .zip(lists.chunks(split.segments));
        threads::share(
            sweep.database.options.threads,
            tasks,
            |((distance, index), segments)| {
                let mut starts = vec![0; sweep.database.bits() + 1];
                let rows = distance.chunks_mut(k).zip(index.chunks_mut(k));
                for (query, (distance, index)) in rows.enumerate() {
                    let lists = segments.iter().filter_map(|lists| lists.get(query));
                    place(lists, &mut starts, distance, index);
                }
            },
        );
    }
    Ok(Neighbours { distance, index })
}

/// For each query a distance above those of its k nearest items, from a strided part of the database: its k-th smallest
/// distance bounds that of the whole.
fn sample(sweep: &Sweep<'_>, start: usize, queries: usize, k: usize) -> Vec<u32> {
    let bits = sweep.database.bits();
    let mut limits = vec![bits as u32 + 1; queries];
    let blocks = sweep.database.blocks_len();
    let sampled = |stride: &usize| blocks * BLOCK / stride;
    let Some(stride) = [64, 32, 16, 8]
        .into_iter()
        .find(|stride| sampled(stride) >= (16 * k).max(4096))
    else {
        return limits;
    };
    const TASK: usize = 32;
    threads::share(
        sweep.database.options.threads,
        limits.chunks_mut(TASK).enumerate(),
        |(at, limits)| {
            let all = bits as u32 + 1;
            let mut states: Vec<_> = limits.iter().map(|_| Nearest::new(k, bits, all)).collect();
            let starts = (0..blocks).step_by(SAMPLE_RUN * stride);
            let runs = starts.map(|at| at..(at + SAMPLE_RUN).min(blocks));
            let first = start + at * TASK;
            sweep.over(
                first..first + limits.len(),
                runs,
                &mut states,
                limits,
                &Nearest::take,
            );
            limits
                .iter_mut()
                .for_each(|limit| *limit = all.min(*limit + 1));
        },
    );
    limits
}

/// The items of a query that may be among its k nearest so far, in ascending order of their indices.
struct Nearest {
    k: usize,
    /// distance · 2³² + index.
    items: Vec<u64>,
    /// How many of them there are at each distance up to the limit.
    counts: Vec<u32>,
    /// How many are below the limit: fewer than k.
    below: usize,
    /// Later items count only below this.
    limit: u32,
}

impl Nearest {
    fn new(k: usize, bits: usize, limit: u32) -> Self {
        Self {
            k,
            items: Vec::with_capacity(Self::capacity(k).min(1024)),
            counts: vec![0; bits + 1],
            below: 0,
            limit,
        }
    }

    /// Items held before those that no longer matter are dropped; fewer than 2k matter.
    const fn capacity(k: usize) -> usize {
        4 * k + BLOCK
    }

    /// Takes the hits of a block.
    fn take(&mut self, distances: &[u32; BLOCK], mask: u64, first: u32) -> u32 {
        for lane in ones(mask) {
            let distance = distances.get(lane).copied().unwrap_or(ABSENT);
            let Some(count) = self
                .counts
                .get_mut(distance as usize)
                .filter(|_| distance < self.limit)
            else {
                continue;
            };
            *count += 1;
            self.items
                .push(u64::from(distance) << 32 | u64::from(first + lane as u32));
            self.below += 1;
            while self.below >= self.k {
                self.limit -= 1;
                self.below -= self
                    .counts
                    .get(self.limit as usize)
                    .map_or(0, |count| *count as usize);
            }
        }
        if self.items.len() >= Self::capacity(self.k) {
            self.drop_far();
        }
        self.limit
    }

    /// Drops what k others precede.
    fn drop_far(&mut self) {
        let limit = u64::from(self.limit);
        self.items.retain(|item| item >> 32 <= limit);
    }

    fn finish(mut self) -> Vec<u64> {
        self.drop_far();
        self.items
    }
}

/// Stable counting sort by distance of the items of lists (distance · 2³² + index), cut at the length of the outputs.
/// `starts` has one element per distance.
pub(super) fn place<'a>(
    lists: impl Iterator<Item = &'a Vec<u64>> + Clone,
    starts: &mut [u32],
    distance: &mut [u32],
    index: &mut [u32],
) {
    let of = |item: &u64| (item >> 32) as usize;
    starts.fill(0);
    for count in lists.clone().flatten().map(of) {
        starts
            .get_mut(count)
            .into_iter()
            .for_each(|count| *count += 1);
    }
    let mut sum = 0;
    for start in starts.iter_mut() {
        sum += std::mem::replace(start, sum);
    }
    for item in lists.flatten() {
        let Some(start) = starts.get_mut(of(item)) else {
            continue;
        };
        let at = *start as usize;
        *start += 1;
        if let Some((distance, index)) = distance.get_mut(at).zip(index.get_mut(at)) {
            *distance = of(item) as u32;
            *index = *item as u32;
        }
    }
}
