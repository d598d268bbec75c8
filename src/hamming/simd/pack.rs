//! Sign bits of vectors.

use super::{Options, threads};
use crate::{
    Error, Result,
    error::length,
    hamming::{
        Compare,
        bits::{check_bits, words},
    },
};

const OP: &str = "pack_bits";

/// Vectors per task.
const TASK_ELEMENTS: usize = 1 << 18;

/// What elements are compared with.
#[derive(Clone, Copy, Debug)]
pub enum Threshold<'a> {
    /// One number for all.
    Same(f32),
    /// One per dimension.
    Each(&'a [f32]),
}

/// The bits of vectors `[N, dims]` as codes `[N, ⌈dims/32⌉]`: bit i compares element i with its threshold. Pads are 0.
///
/// # Errors
/// `Argument` when `dims` is no legal width or a slice does not fit it, `Unsupported` when the machine lacks the level.
pub fn pack_bits(
    x: &[f32],
    dims: usize,
    threshold: Threshold<'_>,
    compare: Compare,
    options: &Options,
) -> Result<Vec<u32>> {
    check_bits(OP, dims)?;
    let native = options.level.native(OP)?;
    if !x.len().is_multiple_of(dims) {
        return Err(Error::Argument {
            op: OP,
            what: "x".into(),
            expected: format!("a multiple of dims = {dims} in length"),
            got: x.len().to_string(),
        });
    }
    let thresholds = match threshold {
        Threshold::Same(threshold) => vec![threshold; dims],
        Threshold::Each(thresholds) => {
            length(OP, "threshold", thresholds.len(), dims)?;
            thresholds.to_vec()
        }
    };
    let row_len = words(dims);
    let mut out = vec![0; x.len() / dims * row_len];
    let rows = (TASK_ELEMENTS / dims).max(1);
    let tasks = x.chunks(rows * dims).zip(out.chunks_mut(rows * row_len));
    threads::share(options.threads, tasks, |(x, out)| {
        let (whole, rest) = thresholds.split_at(dims / 32 * 32);
        for (x, out) in x.chunks_exact(dims).zip(out.chunks_exact_mut(row_len)) {
            let (x, tail) = x.split_at(whole.len());
            native.pack(x, whole, compare, out);
            if let (false, Some(last)) = (rest.is_empty(), out.last_mut()) {
                let bits = tail.iter().zip(rest).rev();
                *last = bits.fold(0, |word, (x, t)| {
                    word << 1 | u32::from(bit(*x, *t, compare))
                });
            }
        }
    });
    Ok(out)
}

/// One bit.
#[inline]
pub(super) fn bit(x: f32, threshold: f32, compare: Compare) -> bool {
    match compare {
        Compare::Greater => x > threshold,
        Compare::GreaterEqual => x >= threshold,
        Compare::Less => x < threshold,
    }
}
