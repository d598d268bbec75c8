//! All codes within a distance, their number, and the number at every distance.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{
    Database,
    knn::place,
    level::BLOCK,
    sweep::{Split, Sweep, ones},
    threads,
};
use crate::{Error, Result, error::length, hamming::Allowed};

const OP: &str = "hamming_radius";
const HISTOGRAM: &str = "hamming_histogram";

/// The largest distance wanted, itself included.
#[derive(Clone, Copy, Debug)]
pub enum Radius<'a> {
    /// One for all queries.
    Same(u32),
    /// One per query.
    Each(&'a [u32]),
}

/// The order of a query's items.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// By index.
    #[default]
    Index,
    /// By (distance, index).
    Distance,
}

/// The items within a radius, query after query.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Within {
    /// `[N + 1]`: query i has the items from `row_offsets[i]` to `row_offsets[i + 1]`.
    pub row_offsets: Vec<u32>,
    /// `[row_offsets[N]]`.
    pub index: Vec<u32>,
    /// As `index`.
    pub distance: Vec<u32>,
}

impl Database {
    /// The allowed items at a distance of at most the radius of every query.
    ///
    /// # Errors
    /// `Argument` when `queries`, the radii or a part of `allowed` does not fit, `Limit` when there are 2³² items or more,
    /// `Unsupported` when the machine lacks the level.
    pub fn radius(
        &self,
        queries: &[u32],
        radius: Radius<'_>,
        order: Order,
        allowed: &Allowed<'_>,
    ) -> Result<Within> {
        let sweep = Sweep::new(OP, self, queries, allowed)?;
        let limits = limits(&sweep, radius)?;
        within(&sweep, &limits, order, sweep.split(32 << 10))
    }

    /// How many items [`radius`](Self::radius) finds for each query, `[N]`.
    ///
    /// # Errors
    /// As [`radius`](Self::radius), whatever the number of items.
    pub fn radius_count(
        &self,
        queries: &[u32],
        radius: Radius<'_>,
        allowed: &Allowed<'_>,
    ) -> Result<Vec<u32>> {
        let sweep = Sweep::new(OP, self, queries, allowed)?;
        let limits = limits(&sweep, radius)?;
        let split = sweep.split(4);
        let take = |(count, limit): &mut (u32, u32), _: &[u32; BLOCK], mask: u64, _| {
            *count += mask.count_ones();
            *limit
        };
        let mut counts = vec![0; sweep.count];
        let batches = counts
            .chunks_mut(split.batch)
            .zip(limits.chunks(split.batch));
        for (at, (counts, limits)) in batches.enumerate() {
            let finish = |(count, _)| [count];
            let parts = sweep.states(
                at * split.batch,
                limits,
                split,
                |limit| (0, limit),
                take,
                finish,
            );
            add(counts, &parts, split);
        }
        Ok(counts)
    }

    /// The number of allowed items at every distance from 0 to b, `[N, b + 1]`; a row sums to the number allowed.
    ///
    /// # Errors
    /// `Argument` when `queries` or a part of `allowed` does not fit, `Limit` when the result cannot be addressed,
    /// `Unsupported` when the machine lacks the level.
    pub fn histogram(&self, queries: &[u32], allowed: &Allowed<'_>) -> Result<Vec<u32>> {
        let sweep = Sweep::new(HISTOGRAM, self, queries, allowed)?;
        histogram(&sweep, sweep.split(4 * (self.bits() + 1)))
    }
}

/// The search with given tasks.
pub(super) fn within(
    sweep: &Sweep<'_>,
    limits: &[u32],
    order: Order,
    split: Split,
) -> Result<Within> {
    let total = AtomicU64::new(0);
    let full = || total.load(Ordering::Relaxed) > u64::from(u32::MAX);
    let take =
        |(items, limit): &mut (Vec<u64>, u32), distances: &[u32; BLOCK], mask, first: u32| {
            items.extend(ones(mask).map(|lane| {
                let distance = distances.get(lane).copied().unwrap_or_default();
                u64::from(distance) << 32 | u64::from(first + lane as u32)
            }));
            if full() { 0 } else { *limit }
        };
    let finish = |(items, _): (Vec<u64>, u32)| {
        total.fetch_add(items.len() as u64, Ordering::Relaxed);
        items
    };
    let mut within = Within {
        row_offsets: vec![0],
        ..Within::default()
    };
    for (at, limits) in limits.chunks(split.batch).enumerate() {
        let new = |limit| (Vec::new(), limit);
        let lists = sweep.states(at * split.batch, limits, split, new, take, finish);
        if full() {
            return Err(Error::Limit {
                what: format!("{OP} (items within the radius)"),
                needed: total.load(Ordering::Relaxed),
                available: u64::from(u32::MAX),
                remedy: "lower the radius or split the queries",
            });
        }
        append(&mut within, sweep, &lists, order, split);
    }
    Ok(within)
}

/// Adds the rows of a batch.
fn append(
    within: &mut Within,
    sweep: &Sweep<'_>,
    lists: &[Vec<Vec<u64>>],
    order: Order,
    split: Split,
) {
    let old_len = within.index.len();
    let mut len = old_len;
    for segments in lists.chunks(split.segments) {
        for query in 0..segments.first().map_or(0, Vec::len) {
            len += segments
                .iter()
                .flat_map(|lists| lists.get(query))
                .map(Vec::len)
                .sum::<usize>();
            within.row_offsets.push(len as u32);
        }
    }
    within.index.resize(len, 0);
    within.distance.resize(len, 0);
    let mut index = within.index.get_mut(old_len..).unwrap_or_default();
    let mut distance = within.distance.get_mut(old_len..).unwrap_or_default();
    let tasks: Vec<_> = lists
        .chunks(split.segments)
        .map(|segments| {
            let len = segments.iter().flatten().map(Vec::len).sum();
            let index = index.split_off_mut(..len).unwrap_or_default();
            let distance = distance.split_off_mut(..len).unwrap_or_default();
            (segments, index, distance)
        })
        .collect();
    let threads = sweep.database.options.threads;
    threads::share(
        threads,
        tasks.into_iter(),
        |(segments, mut index, mut distance)| {
            let mut starts = vec![0; sweep.database.bits() + 1];
            for query in 0..segments.first().map_or(0, Vec::len) {
                let lists = segments.iter().filter_map(|lists| lists.get(query));
                let len = lists.clone().map(Vec::len).sum();
                let index = index.split_off_mut(..len).unwrap_or_default();
                let distance = distance.split_off_mut(..len).unwrap_or_default();
                match order {
                    Order::Distance => place(lists, &mut starts, distance, index),
                    Order::Index => {
                        for (item, (distance, index)) in
                            lists.flatten().zip(distance.iter_mut().zip(index))
                        {
                            (*distance, *index) = ((item >> 32) as u32, *item as u32);
                        }
                    }
                }
            }
        },
    );
}

/// The counts with given tasks.
pub(super) fn histogram(sweep: &Sweep<'_>, split: Split) -> Result<Vec<u32>> {
    let bins = sweep.database.bits() + 1;
    let len = sweep
        .count
        .checked_mul(bins)
        .filter(|len| *len <= isize::MAX as usize / 4);
    let Some(len) = len else {
        return Err(Error::Limit {
            what: format!("{HISTOGRAM} (elements of the result)"),
            needed: (sweep.count as u64).saturating_mul(bins as u64),
            available: isize::MAX as u64 / 4,
            remedy: "split the queries",
        });
    };
    let take = |counts: &mut Vec<u32>, distances: &[u32; BLOCK], mask, _| {
        for distance in ones(mask).filter_map(|lane| distances.get(lane)) {
            let count = counts.get_mut(*distance as usize);
            count.into_iter().for_each(|count| *count += 1);
        }
        bins as u32
    };
    let mut counts = vec![0; len];
    for (at, counts) in counts.chunks_mut(split.batch * bins).enumerate() {
        let limits = vec![bins as u32; counts.len() / bins];
        let new = |_| vec![0; bins];
        let parts = sweep.states(at * split.batch, &limits, split, new, take, |counts| counts);
        add(counts, &parts, split);
    }
    Ok(counts)
}

/// Adds the rows found in every segment to those of a batch.
fn add<R: AsRef<[u32]>>(counts: &mut [u32], parts: &[Vec<R>], split: Split) {
    let mut rest = counts;
    for segments in parts.chunks(split.segments) {
        let len = segments
            .first()
            .map_or(0, |rows| rows.iter().map(|row| row.as_ref().len()).sum());
        let counts = rest.split_off_mut(..len).unwrap_or_default();
        for rows in segments {
            let row = rows.iter().flat_map(|row| row.as_ref());
            counts
                .iter_mut()
                .zip(row)
                .for_each(|(count, part)| *count += part);
        }
    }
}

/// One more than each query's radius, at most b + 1.
pub(super) fn limits(sweep: &Sweep<'_>, radius: Radius<'_>) -> Result<Vec<u32>> {
    let bits = sweep.database.bits() as u32;
    match radius {
        Radius::Same(radius) => Ok(vec![radius.min(bits) + 1; sweep.count]),
        Radius::Each(radii) => {
            length(OP, "radius", radii.len(), sweep.count)?;
            Ok(radii.iter().map(|radius| radius.min(&bits) + 1).collect())
        }
    }
}
