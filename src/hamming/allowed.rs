//! Which items count for which query.

use crate::{Error, Result, error::length};

/// The items that count; all of them by default. Others appear nowhere, not even in counts.
///
/// Item j counts for query i if the filter keeps it, `ranges[i]` contains it, and j ≠ i under `exclude_self`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Allowed<'a> {
    /// One bit per item, 1 to keep it: bit j mod 32 of word j / 32.
    pub filter: Option<Filter<'a>>,
    /// One interval per query: lo ≤ j < hi.
    pub ranges: Option<&'a [[u32; 2]]>,
    /// Item i does not count for query i.
    pub exclude_self: bool,
}

/// Bits of ⌈M/32⌉ words for M items.
#[derive(Clone, Copy, Debug)]
pub enum Filter<'a> {
    /// One row for all queries.
    Shared(&'a [u32]),
    /// A row per query.
    Each(&'a [u32]),
}

impl<'a> Allowed<'a> {
    /// Whether the parts fit so many queries and items.
    pub(crate) fn check(&self, op: &'static str, queries: usize, items: usize) -> Result<()> {
        let row = items.div_ceil(32);
        match self.filter {
            Some(Filter::Shared(words)) => length(op, "allowed.filter", words.len(), row)?,
            Some(Filter::Each(words)) => length(
                op,
                "allowed.filter",
                words.len(),
                queries.saturating_mul(row),
            )?,
            None => (),
        }
        let Some(ranges) = self.ranges else {
            return Ok(());
        };
        length(op, "allowed.ranges", ranges.len(), queries)?;
        let wrong = |[lo, hi]: &[u32; 2]| lo > hi || *hi as usize > items;
        match ranges
            .iter()
            .position(wrong)
            .zip(ranges.iter().find(|r| wrong(r)))
        {
            None => Ok(()),
            Some((query, [lo, hi])) => Err(Error::Argument {
                op,
                what: format!("allowed.ranges[{query}]"),
                expected: format!("lo <= hi <= {items}"),
                got: format!("[{lo}, {hi}]"),
            }),
        }
    }

    /// The filter's words for a query over so many items.
    pub(crate) fn filter_row(&self, query: usize, items: usize) -> Option<&'a [u32]> {
        let row = items.div_ceil(32);
        match self.filter? {
            Filter::Shared(words) => Some(words),
            Filter::Each(words) => words.get(query * row..(query + 1) * row),
        }
    }

    /// The interval of a query over so many items.
    pub(crate) fn range(&self, query: usize, items: usize) -> [u32; 2] {
        let all = [0, items as u32];
        self.ranges
            .map_or(all, |ranges| ranges.get(query).copied().unwrap_or(all))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_that_do_not_fit_are_refused() {
        let check = |allowed: Allowed<'_>| allowed.check("test", 2, 40);
        assert!(check(Allowed::default()).is_ok());
        for (words, shared, each) in [(1, false, false), (2, true, false), (4, false, true)] {
            let words = vec![0; words];
            let filter = |filter| Allowed {
                filter: Some(filter),
                ..Allowed::default()
            };
            assert_eq!(check(filter(Filter::Shared(&words))).is_ok(), shared);
            assert_eq!(check(filter(Filter::Each(&words))).is_ok(), each);
        }
        let ranges = |ranges| {
            check(Allowed {
                ranges: Some(ranges),
                ..Allowed::default()
            })
        };
        assert!(ranges(&[[0, 0], [40, 40]]).is_ok());
        assert!(ranges(&[[0, 40]]).is_err());
        let error = ranges(&[[0, 40], [0, 41]]).unwrap_err().to_string();
        assert!(error.contains("allowed.ranges[1]") && error.contains("[0, 41]"));
        assert!(ranges(&[[2, 1], [0, 0]]).is_err());
    }
}
