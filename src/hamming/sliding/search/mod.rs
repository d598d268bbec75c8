//! The search for short patterns with at most k mismatches, many at once.

#[cfg(feature = "cli")]
pub(crate) mod cases;
pub mod plan;
mod scan;

use super::{Classes, Pattern, Text};
use crate::{
    Error, Result,
    error::length,
    gpu::{Dtype, Elem, Gpu, Pass, Tensor},
};

pub(in crate::hamming) const OP: &str = "k_mismatch";

/// The longest pattern of a search.
pub const MAX_PATTERN: usize = 64;

/// One of the patterns of a search.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// The pattern, of at most [`MAX_PATTERN`] symbols.
    pub pattern: Pattern,
    /// The most mismatches of a hit.
    pub k: u32,
    /// Symbols that must match in any case, such as the motif beside a guide's target: bit j mod 32 of word j / 32, `⌈m/32⌉`
    /// words.
    pub must_match: Option<Vec<u32>>,
}

impl Query {
    /// A pattern with at most k mismatches anywhere.
    pub fn new(pattern: Pattern, k: u32) -> Query {
        Query {
            pattern,
            k,
            must_match: None,
        }
    }

    /// With symbols that must match.
    pub fn with_must_match(self, mask: &[u32]) -> Query {
        Query {
            must_match: Some(mask.to_vec()),
            ..self
        }
    }

    fn check(&self, dtype: Dtype, classes: bool) -> Result<()> {
        self.pattern.check(OP, dtype, classes)?;
        let m = self.pattern.symbols_len();
        if m > MAX_PATTERN {
            return Err(Error::Unsupported {
                op: OP,
                what: format!(
                    "patterns of more than {MAX_PATTERN} symbols, such as one of {m}; use `sliding` and compare its distances"
                ),
            });
        }
        match &self.must_match {
            Some(mask) => length(OP, "query.must_match", mask.len(), m.div_ceil(32)),
            None => Ok(()),
        }
    }
}

/// What [`k_mismatch`] writes: tensors of equal length, the capacity.
#[derive(Debug)]
pub struct Hits<'a> {
    /// Where in the text each hit begins.
    pub position: &'a mut Tensor<u32>,
    /// The number of its pattern.
    pub pattern: &'a mut Tensor<u32>,
    /// Its distance.
    pub distance: &'a mut Tensor<u32>,
    /// The number of hits, `[1]`; 2^32 - 1 where there are that many or more.
    pub total: &'a mut Tensor<u32>,
}

/// Finds every place in a text where some of the patterns have at most k mismatches, each its own k.
///
/// ```text
/// hit (i, p): D_p[i] <= k_p, and T[i + j] matches P_p[j] wherever j must match
/// ```
///
/// Hits are ordered by position, then by the pattern's number; the rest of the capacity is
/// [`ABSENT`](crate::hamming::ABSENT) in all three. Returns how many there are. Where the capacity does not hold them all, none
/// is written and the error says how many there are; [`k_mismatch_count`] asks beforehand.
///
/// Cost: two passes over the text's bit planes, `2 n` times the patterns times the planes; the second one only where there are
/// hits. Temporaries: log2 σ bits a symbol, for σ distinct symbols in all the patterns, and a word for 256 positions.
///
/// Accuracy: exact.
///
/// # Errors
/// `Argument` for empty patterns, masks or outputs of another length, symbols that do not fit the text; `Unsupported` for
/// patterns of more than 64 symbols; `Limit` when the capacity is too small, or for more patterns than an invocation may loop over;
/// `Shader`, `OutOfMemory`, `Timeout`, `DeviceLost` from the device.
pub fn k_mismatch<T: Elem>(
    gpu: &Gpu,
    text: &Text<'_, T>,
    queries: &[Query],
    classes: Option<&Classes>,
    hits: Hits<'_>,
) -> Result<usize> {
    let Hits {
        position,
        pattern,
        distance,
        total,
    } = hits;
    let mut pass = gpu.pass("patterns with mismatches");
    let hits = Hits {
        position,
        pattern,
        distance,
        total: &mut *total,
    };
    let capacity = hits.position.len();
    record(&mut pass, text, queries, classes, hits)?;
    pass.submit()?;
    let total = total.download()?.first().copied().unwrap_or(0);
    accept(total, capacity)?;
    Ok(total as usize)
}

/// [`k_mismatch`], recorded into a pass that the caller submits: afterwards `total` beyond the capacity says that nothing was
/// written.
///
/// # Errors
/// As [`k_mismatch`], but for the capacity.
pub fn record<T: Elem>(
    pass: &mut Pass,
    text: &Text<'_, T>,
    queries: &[Query],
    classes: Option<&Classes>,
    hits: Hits<'_>,
) -> Result<()> {
    let capacity = hits.position.len();
    let plan = plan::search(&text.shape(), queries, classes, Some(capacity), pass.caps())?;
    let views = text.views(OP)?;
    length(OP, "hits.pattern", hits.pattern.len(), capacity)?;
    length(OP, "hits.distance", hits.distance.len(), capacity)?;
    length(OP, "hits.total", hits.total.len(), 1)?;
    let Hits {
        position,
        pattern,
        distance,
        total,
    } = hits;
    let outputs = &mut [
        position.view_mut(),
        pattern.view_mut(),
        distance.view_mut(),
        total.view_mut(),
    ];
    pass.run(&plan, &views, outputs)
}

/// How many hits [`k_mismatch`] would find.
///
/// # Errors
/// As [`k_mismatch`]; `Limit` for 2^32 - 1 hits or more.
pub fn k_mismatch_count<T: Elem>(
    gpu: &Gpu,
    text: &Text<'_, T>,
    queries: &[Query],
    classes: Option<&Classes>,
) -> Result<usize> {
    let mut pass = gpu.pass("count of patterns with mismatches");
    let plan = plan::search(&text.shape(), queries, classes, None, pass.caps())?;
    let mut total = gpu.zeros::<u32>(1)?;
    pass.run(&plan, &text.views(OP)?, &mut [total.view_mut()])?;
    pass.submit()?;
    let total = total.download()?.first().copied().unwrap_or(0);
    accept(total, u32::MAX as usize - 1)?;
    Ok(total as usize)
}

/// Whether so many hits were written.
pub(super) fn accept(total: u32, capacity: usize) -> Result<()> {
    if total as usize <= capacity {
        return Ok(());
    }
    Err(Error::Limit {
        what: format!("{OP}: capacity"),
        needed: total.into(),
        available: capacity as u64,
        remedy: "raise the capacity to what `k_mismatch_count` says, or lower k",
    })
}
