//! Distances of all pairs of codes.

mod steps;

use super::{
    bits::{check_bits, words},
    tile::Tile,
};
use crate::{
    Error, Result,
    error::length,
    gpu::{Caps, Gpu, Part, Pass, Tensor, part},
    plan::{Builder, Plan, Slot, Work},
};

pub(super) use steps::Planner;

pub(crate) const OP: &str = "hamming_distance";
pub(crate) const SYMMETRIC: &str = "hamming_symmetric";

/// Sizes of two sets of codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pairs {
    /// Codes of a, the rows of the result; 0 is legal.
    pub rows: usize,
    /// Codes of b, the columns of the result; 0 is legal.
    pub columns: usize,
    /// Bits of a code: 1 to [`MAX_BITS`](super::MAX_BITS).
    pub bits: usize,
}

/// What is counted of a pair of codes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Count {
    /// Bits that differ: the Hamming distance.
    #[default]
    Bits,
    /// Symbols that differ, fields of so many bits: 2, 4, 8, 16 or 32. Codes have a whole number of them.
    Symbols(u32),
    /// Bits that both have: ⟨a, b⟩ of codes as sets.
    Common,
}

/// How distances lie in the result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Store {
    /// As words, `[rows, columns]`.
    #[default]
    U32,
    /// Of 16 bits, two to a word, the lower column in the lower half: `[rows, ⌈columns/2⌉]` words; what is left of the last word is
    /// 0. Codes have at most 65,535 bits.
    U16,
}

impl Store {
    /// Words of a row.
    pub fn row_words(self, columns: usize) -> usize {
        match self {
            Store::U32 => columns,
            Store::U16 => columns.div_ceil(2),
        }
    }
}

/// Which pairs of one set with itself are stored, as words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Triangle {
    /// All: `[n, n]`.
    #[default]
    Full,
    /// Those of i with j > i, row after row: n(n-1)/2 words, that of i and j at i·n - i(i+1)/2 + j - i - 1, as SciPy's `pdist`.
    Condensed,
}

impl Pairs {
    pub(super) fn check(&self, op: &'static str, count: Count) -> Result<()> {
        check_bits(op, self.bits)?;
        let wrong = |what: &str, expected: String, got: String| {
            Err(Error::Argument {
                op,
                what: what.into(),
                expected,
                got,
            })
        };
        if let Count::Symbols(width) = count {
            if !matches!(width, 2 | 4 | 8 | 16 | 32) {
                return wrong(
                    "count",
                    "symbols of 2, 4, 8, 16 or 32 bits".into(),
                    width.to_string(),
                );
            }
            if !self.bits.is_multiple_of(width as usize) {
                let expected = format!("a multiple of the symbols' {width}");
                return wrong("bits", expected, self.bits.to_string());
            }
        }
        for (what, len) in [("rows", self.rows), ("columns", self.columns)] {
            if len as u64 > u64::from(u32::MAX) - 1 {
                return wrong(what, "at most 2^32 - 2".into(), len.to_string());
            }
        }
        Ok(())
    }

    pub(super) fn work(&self, pairs: f64, out_words: f64) -> Work {
        let words = words(self.bits) as f64;
        Work {
            popcounts: pairs * words,
            bytes: 4.0 * ((self.rows + self.columns) as f64 * words + out_words),
            ..Work::default()
        }
    }
}

/// Distances of every code of a to every code of b: d_ij = popcount(a_i xor b_j), pads apart.
///
/// Shapes: a `[rows, ⌈bits/32⌉]`, b `[columns, ⌈bits/32⌉]`, out as [`Store`] says; row-major.
///
/// Cost: rows · columns · ⌈bits/32⌉ popcounts, no temporaries. Exact; results larger than a binding become several dispatches, those
/// larger than a buffer are refused: call with some rows at a time.
///
/// # Errors
/// `Argument` when lengths or sizes do not fit together; `Limit` when the result exceeds a buffer; `Shader`, `OutOfMemory`,
/// `DeviceLost` from the device.
pub fn distances(
    gpu: &Gpu,
    shape: &Pairs,
    count: Count,
    store: Store,
    a: &Tensor<u32>,
    b: &Tensor<u32>,
    out: &mut Tensor<u32>,
) -> Result<()> {
    let mut pass = gpu.pass(OP);
    record_distances(&mut pass, shape, count, store, a, b, out)?;
    pass.submit().map(drop)
}

/// [`distances`], recorded into a pass that the caller submits.
///
/// # Errors
/// As [`distances`].
pub fn record_distances(
    pass: &mut Pass,
    shape: &Pairs,
    count: Count,
    store: Store,
    a: &Tensor<u32>,
    b: &Tensor<u32>,
    out: &mut Tensor<u32>,
) -> Result<()> {
    let plan = plan(shape, count, store, pass.caps())?;
    let words = words(shape.bits);
    length(OP, "a", a.len(), shape.rows * words)?;
    length(OP, "b", b.len(), shape.columns * words)?;
    let expected = shape.rows * store.row_words(shape.columns);
    length(OP, "out", out.len(), expected)?;
    pass.run(&plan, &[a.view(), b.view()], &mut [out.view_mut()])
}

/// Distances of the codes of one set to each other, each computed once.
///
/// Shapes: a `[n, ⌈bits/32⌉]`, out as [`Triangle`] says.
///
/// Cost: n² ⌈bits/32⌉ / 2 popcounts. Where a full result exceeds a binding, all pairs are computed.
///
/// # Errors
/// As [`distances`].
pub fn symmetric(
    gpu: &Gpu,
    [n, bits]: [usize; 2],
    count: Count,
    triangle: Triangle,
    a: &Tensor<u32>,
    out: &mut Tensor<u32>,
) -> Result<()> {
    let mut pass = gpu.pass(SYMMETRIC);
    let plan = plan_symmetric([n, bits], count, triangle, pass.caps())?;
    length(SYMMETRIC, "a", a.len(), n * words(bits))?;
    length(SYMMETRIC, "out", out.len(), triangle.words(n))?;
    pass.run(&plan, &[a.view()], &mut [out.view_mut()])?;
    pass.submit().map(drop)
}

impl Triangle {
    /// Words of the result for so many codes.
    pub fn words(self, n: usize) -> usize {
        match self {
            Triangle::Full => n * n,
            Triangle::Condensed => n * n.saturating_sub(1) / 2,
        }
    }
}

/// Whether the sizes and options of a call make sense.
pub(crate) fn check(shape: &Pairs, count: Count, store: Store) -> Result<()> {
    shape.check(OP, count)?;
    if store == Store::U16 && shape.bits > usize::from(u16::MAX) {
        return Err(Error::Argument {
            op: OP,
            what: "bits".into(),
            expected: format!("at most {} for distances of 16 bits", u16::MAX),
            got: shape.bits.to_string(),
        });
    }
    Ok(())
}

/// Distances themselves, for [`words_store`].
const STORED_COUNT: Part = part!("hamming/stored_count.wgsl");

/// How words of pairs are stored in rows of so many.
pub(in crate::hamming) fn words_store(columns: usize) -> Part {
    if columns.is_multiple_of(4) {
        part!("hamming/store_vectors.wgsl")
    } else {
        part!("hamming/store_u32.wgsl")
    }
}

/// Plans [`distances`]. Inputs: a, b; output: the distances.
///
/// # Errors
/// As [`distances`].
pub fn plan(shape: &Pairs, count: Count, store: Store, caps: &Caps) -> Result<Plan> {
    check(shape, count, store)?;
    let emit = match store {
        Store::U32 => vec![words_store(shape.columns), STORED_COUNT],
        Store::U16 => vec![part!("hamming/store_u16.wgsl")],
    };
    let tile = Tile::new(count, shape.bits, caps);
    let planner = Planner::new(shape, count, &emit, false, tile, caps);
    let builder = Builder {
        steps: planner.matrix(store, Slot::Input(1))?,
        ..Builder::default()
    };
    let pairs = shape.rows as f64 * shape.columns as f64;
    let out_words = (shape.rows * store.row_words(shape.columns)) as u64;
    planner.finish(OP, builder, out_words, shape.work(pairs, out_words as f64))
}

/// Plans [`symmetric`]. Input: a; output: the distances.
///
/// # Errors
/// As [`symmetric`].
pub fn plan_symmetric(
    [n, bits]: [usize; 2],
    count: Count,
    triangle: Triangle,
    caps: &Caps,
) -> Result<Plan> {
    let shape = Pairs {
        rows: n,
        columns: n,
        bits,
    };
    shape.check(SYMMETRIC, count)?;
    let out_bytes = 4 * triangle.words(n) as u64;
    let (emit, folded) = match triangle {
        Triangle::Full if out_bytes <= caps.binding_bytes => {
            (vec![part!("hamming/store_mirrored.wgsl")], true)
        }
        Triangle::Full => (vec![words_store(n), STORED_COUNT], false),
        Triangle::Condensed => (vec![part!("hamming/store_condensed.wgsl")], true),
    };
    let tile = Tile::new(count, bits, caps);
    let planner = Planner::new(&shape, count, &emit, folded, tile, caps);
    let steps = match folded {
        true => planner.triangle(triangle)?,
        false => planner.matrix(Store::U32, Slot::Input(0))?,
    };
    let builder = Builder {
        steps,
        ..Builder::default()
    };
    let pairs = 0.5 * n as f64 * (n as f64 - 1.0);
    let out_words = triangle.words(n) as u64;
    let mut work = shape.work(pairs, out_words as f64);
    // Both sides are one input.
    work.bytes -= 4.0 * (n * words(bits)) as f64;
    planner.finish(SYMMETRIC, builder, out_words, work)
}
