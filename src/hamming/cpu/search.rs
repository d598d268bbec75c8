//! Exact search by definition: every distance of a query, sorted; parallel over queries.

#![allow(clippy::indexing_slicing, reason = "lengths are checked on entry")]

use rayon::prelude::*;

use crate::{
    Error, Result,
    error::length,
    hamming::{
        ABSENT,
        bits::last_mask,
        search::{Allowed, Filter, Order, Radius, Shape},
        simd::Neighbours,
    },
};

const OP: &str = "hamming_search";

/// What a search reads, in the layouts of [`search::Inputs`](crate::hamming::search::Inputs); empty where there is nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Inputs<'a> {
    /// Codes, `[queries, W]`.
    pub queries: &'a [u32],
    /// Codes, `[items, W]`.
    pub database: &'a [u32],
    /// Bits of items.
    pub filter: &'a [u32],
    /// lo and hi, `[queries, 2]`.
    pub ranges: &'a [u32],
    /// Distances, `[queries]`.
    pub radii: &'a [u32],
}

/// Items of every query in rows of their own lengths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    /// Where rows start, `[queries + 1]`.
    pub row_offsets: Vec<u32>,
    /// Distances.
    pub distance: Vec<u32>,
    /// Indices.
    pub index: Vec<u32>,
}

/// [`search::knn`](crate::hamming::search::knn) by sorting.
///
/// # Errors
/// `Argument` when a slice has the wrong length.
pub fn knn(shape: &Shape, k: usize, allowed: &Allowed, inputs: &Inputs<'_>) -> Result<Neighbours> {
    inputs.check(shape, allowed, None)?;
    let rows: Vec<Vec<(u32, u32)>> = (0..shape.queries)
        .into_par_iter()
        .map(|q| {
            let mut pairs = inputs.pairs(shape, allowed, q);
            if k < pairs.len() {
                pairs.select_nth_unstable(k);
                pairs.truncate(k);
            }
            pairs.sort_unstable();
            pairs.resize(k, (ABSENT, ABSENT));
            pairs
        })
        .collect();
    let (distance, index) = rows.into_iter().flatten().unzip();
    Ok(Neighbours { distance, index })
}

/// [`search::radius`](crate::hamming::search::radius) by filtering, with room for all.
///
/// # Errors
/// As [`knn`]; `Limit` when there are 2³² - 1 items or more.
pub fn radius(
    shape: &Shape,
    radius: Radius,
    order: Order,
    allowed: &Allowed,
    inputs: &Inputs<'_>,
) -> Result<Rows> {
    inputs.check(shape, allowed, Some(radius))?;
    let rows: Vec<Vec<(u32, u32)>> = (0..shape.queries)
        .into_par_iter()
        .map(|q| {
            let r = match radius {
                Radius::All(r) => r,
                Radius::PerQuery => inputs.radii[q],
            };
            let mut pairs = inputs.pairs(shape, allowed, q);
            pairs.retain(|(d, _)| *d <= r);
            if order == Order::Distance {
                pairs.sort_unstable();
            }
            pairs
        })
        .collect();
    let mut row_offsets = vec![0];
    let mut total = 0;
    for row in &rows {
        total += row.len();
        row_offsets.push(u32::try_from(total).unwrap_or(u32::MAX));
    }
    if total >= u32::MAX as usize {
        return Err(Error::Limit {
            what: "items within the radius".into(),
            needed: total as u64,
            available: u64::from(u32::MAX) - 1,
            remedy: "search fewer queries at a time",
        });
    }
    let (distance, index) = rows.into_iter().flatten().unzip();
    Ok(Rows {
        row_offsets,
        distance,
        index,
    })
}

/// [`search::histogram`](crate::hamming::search::histogram) by counting, `[queries, bits + 1]`.
///
/// # Errors
/// As [`knn`].
pub fn histogram(shape: &Shape, allowed: &Allowed, inputs: &Inputs<'_>) -> Result<Vec<u32>> {
    inputs.check(shape, allowed, None)?;
    let rows: Vec<Vec<u32>> = (0..shape.queries)
        .into_par_iter()
        .map(|q| {
            let mut counts = vec![0; shape.bits + 1];
            for (d, _) in inputs.pairs(shape, allowed, q) {
                counts[d as usize] += 1;
            }
            counts
        })
        .collect();
    Ok(rows.concat())
}

impl Inputs<'_> {
    /// Distance and index of every allowed item, by ascending index.
    fn pairs(&self, shape: &Shape, allowed: &Allowed, q: usize) -> Vec<(u32, u32)> {
        let words = shape.words();
        let query = &self.queries[q * words..][..words];
        let range = match allowed.ranges {
            false => 0..shape.items,
            true => self.ranges[2 * q] as usize..(self.ranges[2 * q + 1] as usize).min(shape.items),
        };
        let first_word = match allowed.filter {
            Filter::PerQuery => q * shape.filter_words(),
            _ => 0,
        };
        let kept = |j: usize| {
            allowed.filter == Filter::None || self.filter[first_word + j / 32] >> (j % 32) & 1 == 1
        };
        range
            .filter(|j| kept(*j) && !(allowed.exclude_self && *j == q))
            .map(|j| {
                let item = &self.database[j * words..][..words];
                (distance(query, item, last_mask(shape.bits)), j as u32)
            })
            .collect()
    }

    fn check(&self, shape: &Shape, allowed: &Allowed, radius: Option<Radius>) -> Result<()> {
        shape.check(OP)?;
        let words = shape.words();
        let filter = match allowed.filter {
            Filter::None => 0,
            Filter::Global => shape.filter_words(),
            Filter::PerQuery => shape.queries * shape.filter_words(),
        };
        let ranges = if allowed.ranges { 2 * shape.queries } else { 0 };
        length(OP, "queries", self.queries.len(), shape.queries * words)?;
        length(OP, "database", self.database.len(), shape.items * words)?;
        length(OP, "filter", self.filter.len(), filter)?;
        length(OP, "ranges", self.ranges.len(), ranges)?;
        match radius {
            Some(Radius::PerQuery) => length(OP, "radii", self.radii.len(), shape.queries),
            _ => length(OP, "radii", self.radii.len(), 0),
        }
    }
}

/// Bits in which two codes differ; of the last word those in a mask count.
fn distance(a: &[u32], b: &[u32], last: u32) -> u32 {
    let (Some((x, a)), Some((y, b))) = (a.split_last(), b.split_last()) else {
        return 0;
    };
    let whole: u32 = a.iter().zip(b).map(|(x, y)| (x ^ y).count_ones()).sum();
    whole + ((x ^ y) & last).count_ones()
}
