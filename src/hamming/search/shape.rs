//! What is searched and what counts, and the checks of both.

use crate::{
    Error, Result,
    hamming::bits::{check_bits, words},
    plan::Slot,
};

/// Parts that a database may have.
const MOST_PARTS: usize = 200;

/// Sizes of a search: codes `[queries, ⌈bits/32⌉]` and `[items, ⌈bits/32⌉]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Codes searched for; 0 is legal.
    pub queries: usize,
    /// Codes of the database; 0 is legal.
    pub items: usize,
    /// Bits of a code.
    pub bits: usize,
}

impl Shape {
    /// Words of a code.
    pub fn words(&self) -> usize {
        words(self.bits)
    }

    /// Words of one filter.
    pub fn filter_words(&self) -> usize {
        self.items.div_ceil(32)
    }

    pub(crate) fn check(&self, op: &'static str) -> Result<()> {
        check_bits(op, self.bits)?;
        for (what, len) in [("queries", self.queries), ("items", self.items)] {
            if len as u64 > u64::from(u32::MAX) - 1 {
                return Err(Error::Argument {
                    op,
                    what: what.into(),
                    expected: format!("at most {}", u32::MAX - 1),
                    got: len.to_string(),
                });
            }
        }
        Ok(())
    }
}

/// Bit sets of items: bit j mod 32 of word j / 32 is 1 where item j is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Filter {
    /// Every item is kept.
    #[default]
    None,
    /// One for all queries, `[⌈items/32⌉]`.
    Global,
    /// One to a query, `[queries, ⌈items/32⌉]`.
    PerQuery,
}

/// Which items count for a query; others appear nowhere, not even in counts. The default is all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    /// Items kept by bits.
    pub filter: Filter,
    /// Whether each query has a range lo ≤ j < hi, `[queries, 2]`.
    pub ranges: bool,
    /// Whether item q does not count for query q.
    pub exclude_self: bool,
}

/// What is searched: sizes, the rows of each part of the database, and what counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Search<'a> {
    /// Sizes.
    pub shape: Shape,
    /// Codes in each tensor of the database, in order.
    pub parts: &'a [usize],
    /// What counts.
    pub allowed: Allowed,
}

impl Search<'_> {
    pub(super) fn check(&self, op: &'static str) -> Result<()> {
        self.shape.check(op)?;
        let sum: usize = self.parts.iter().sum();
        let wrong = |what: &str, expected: String, got: String| {
            Err(Error::Argument {
                op,
                what: what.into(),
                expected,
                got,
            })
        };
        if sum != self.shape.items {
            return wrong(
                "parts",
                format!("{} items in all", self.shape.items),
                sum.to_string(),
            );
        }
        if self.parts.len() > MOST_PARTS {
            return wrong(
                "parts",
                format!("at most {MOST_PARTS} tensors"),
                self.parts.len().to_string(),
            );
        }
        Ok(())
    }

    pub(super) fn filter(&self) -> Option<Slot> {
        (self.allowed.filter != Filter::None).then_some(Slot::Input(1))
    }

    pub(super) fn ranges(&self) -> Option<Slot> {
        let place = 1 + u16::from(self.filter().is_some());
        self.allowed.ranges.then_some(Slot::Input(place))
    }

    /// The number of the first input that is a part of the database, behind `more` others of an operator.
    pub(super) fn first_part(&self, more: usize) -> usize {
        1 + usize::from(self.filter().is_some()) + usize::from(self.allowed.ranges) + more
    }

    /// Bytes of a filter that each query has for itself.
    pub(super) fn filter_row_bytes(&self) -> u64 {
        match self.allowed.filter {
            Filter::PerQuery => 4 * self.shape.filter_words() as u64,
            _ => 0,
        }
    }
}

/// How far is near enough; inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Radius {
    /// The same distance for all queries; 0 finds equal codes.
    All(u32),
    /// A distance for each query, from a tensor `[queries]`.
    PerQuery,
}

impl Radius {
    pub(super) fn inputs(self) -> usize {
        usize::from(self == Radius::PerQuery)
    }
}

/// The order of the items of a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Ascending index, as in canonical compressed sparse rows.
    #[default]
    Index,
    /// Ascending distance, ties by ascending index.
    Distance,
}
