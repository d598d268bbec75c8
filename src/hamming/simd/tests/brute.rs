//! Brute force.

use crate::hamming::{
    ABSENT, Allowed, Filter,
    bits::{last_mask, words},
    simd::{Neighbours, Order, Within},
};

pub(super) fn distance(a: &[u32], b: &[u32], bits: usize) -> u32 {
    let last = a.len() - 1;
    let mask = |at| {
        if at == last {
            last_mask(bits)
        } else {
            u32::MAX
        }
    };
    (0..a.len())
        .map(|at| ((a[at] ^ b[at]) & mask(at)).count_ones())
        .sum()
}

fn keeps(allowed: &Allowed<'_>, query: usize, item: usize, items: usize) -> bool {
    let bit = |words: &[u32], at: usize| words[at + item / 32] >> (item % 32) & 1 == 1;
    let kept = match allowed.filter {
        None => true,
        Some(Filter::Shared(words)) => bit(words, 0),
        Some(Filter::Each(words)) => bit(words, query * items.div_ceil(32)),
    };
    let inside = allowed.ranges.is_none_or(|ranges| {
        let [lo, hi] = ranges[query];
        (lo..hi).contains(&(item as u32))
    });
    kept && inside && !(allowed.exclude_self && item == query)
}

/// For every query its allowed items (distance, index) by index.
pub(super) fn all(
    queries: &[u32],
    codes: &[u32],
    bits: usize,
    allowed: &Allowed<'_>,
) -> Vec<Vec<(u32, u32)>> {
    let words = words(bits);
    let items = codes.len() / words;
    let row = |(query, code): (usize, &[u32])| {
        let items = (0..items).filter(|item| keeps(allowed, query, *item, codes.len() / words));
        items
            .map(|j| (distance(code, &codes[j * words..][..words], bits), j as u32))
            .collect()
    };
    assert_eq!(codes.len(), items * words);
    queries.chunks(words).enumerate().map(row).collect()
}

pub(super) fn nearest(rows: &[Vec<(u32, u32)>], k: usize) -> Neighbours {
    let (mut distance, mut index) = (Vec::new(), Vec::new());
    for row in rows {
        let mut row = row.clone();
        row.sort();
        row.resize(row.len().max(k), (ABSENT, ABSENT));
        distance.extend(row[..k].iter().map(|item| item.0));
        index.extend(row[..k].iter().map(|item| item.1));
    }
    Neighbours { distance, index }
}

pub(super) fn inside(rows: &[Vec<(u32, u32)>], radius: &[u32], order: Order) -> Within {
    let mut within = Within {
        row_offsets: vec![0],
        ..Within::default()
    };
    for (row, radius) in rows.iter().zip(radius) {
        let mut row: Vec<_> = row.iter().filter(|item| item.0 <= *radius).collect();
        if order == Order::Distance {
            row.sort();
        }
        within.distance.extend(row.iter().map(|item| item.0));
        within.index.extend(row.iter().map(|item| item.1));
        within.row_offsets.push(within.index.len() as u32);
    }
    within
}

pub(super) fn histogram(rows: &[Vec<(u32, u32)>], bits: usize) -> Vec<u32> {
    let row = |row: &Vec<(u32, u32)>| {
        let mut counts = vec![0; bits + 1];
        row.iter().for_each(|item| counts[item.0 as usize] += 1);
        counts
    };
    rows.iter().flat_map(row).collect()
}
