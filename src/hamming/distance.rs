//! Distances of all pairs of codes.

use std::{ops::Range, sync::Arc};

use bytemuck::bytes_of;

use super::bits::{check_bits, last_mask, words};
use crate::{
    Error, Result,
    error::length,
    gpu::{Caps, Class, Dtype, Gpu, Kernel, Needs, Part, Pass, Spec, Tensor, params, part},
    plan::{ALIGN, Bind, Builder, Plan, Slot, Step, Work},
    rows::{Rows, dispatches},
};

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

params! {
    /// Parameters of `distance`.
    DistanceParams {
        a_offset: u32,
        b_offset: u32,
        a_len: u32,
        b_len: u32,
        words: u32,
        last: u32,
        across: u32,
        tile_begin: u32,
        tile_end: u32,
        tiles: u32,
        first: u32,
        groups: u32,
        out_offset: u32,
        out_stride: u32,
    }
}

impl Pairs {
    fn check(&self, op: &'static str, count: Count) -> Result<()> {
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

    fn work(&self, pairs: f64, out_words: f64) -> Work {
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

/// Plans [`distances`]. Inputs: a, b; output: the distances.
///
/// # Errors
/// As [`distances`].
pub fn plan(shape: &Pairs, count: Count, store: Store, caps: &Caps) -> Result<Plan> {
    plan_tiled(shape, count, store, Tile::new(caps), caps)
}

/// [`plan`] with the tile given.
pub(crate) fn plan_tiled(
    shape: &Pairs,
    count: Count,
    store: Store,
    tile: Tile,
    caps: &Caps,
) -> Result<Plan> {
    check(shape, count, store)?;
    let emit = match store {
        Store::U32 => part!("hamming/store_u32.wgsl"),
        Store::U16 => part!("hamming/store_u16.wgsl"),
    };
    let planner = Planner::new(shape, count, emit, false, tile, caps);
    let steps = planner.matrix(store, Slot::Input(1))?;
    let pairs = shape.rows as f64 * shape.columns as f64;
    let out_words = (shape.rows * store.row_words(shape.columns)) as u64;
    planner.finish(OP, steps, out_words, shape.work(pairs, out_words as f64))
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
    plan_symmetric_tiled([n, bits], count, triangle, Tile::new(caps), caps)
}

/// [`plan_symmetric`] with the tile given.
pub(crate) fn plan_symmetric_tiled(
    [n, bits]: [usize; 2],
    count: Count,
    triangle: Triangle,
    tile: Tile,
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
            (part!("hamming/store_mirrored.wgsl"), true)
        }
        Triangle::Full => (part!("hamming/store_u32.wgsl"), false),
        Triangle::Condensed => (part!("hamming/store_condensed.wgsl"), true),
    };
    let planner = Planner::new(&shape, count, emit, folded, tile, caps);
    let steps = match folded {
        true => planner.triangle(triangle)?,
        false => planner.matrix(Store::U32, Slot::Input(0))?,
    };
    let pairs = 0.5 * n as f64 * (n as f64 - 1.0);
    let out_words = triangle.words(n) as u64;
    let mut work = shape.work(pairs, out_words as f64);
    // Both sides are one input.
    work.bytes -= 4.0 * (n * words(bits)) as f64;
    planner.finish(SYMMETRIC, steps, out_words, work)
}

/// How a kernel computes tiles of pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tile {
    /// Rows and columns of a tile.
    pub side: u32,
    /// Whether words pass through workgroup memory.
    staged: bool,
}

impl Tile {
    /// The one for a device.
    pub fn new(caps: &Caps) -> Tile {
        let [staged, direct] = Tile::all();
        match caps.class {
            Class::Cpu => direct,
            _ => staged,
        }
    }

    /// All there are.
    pub fn all() -> [Tile; 2] {
        let tile = |side, staged| Tile { side, staged };
        [tile(64, true), tile(32, false)]
    }

    /// Invocations of a workgroup.
    pub fn lanes(self) -> u32 {
        (self.side / 4).pow(2)
    }

    /// Workgroup memory of the tile part.
    pub fn workgroup_bytes(self) -> u32 {
        match self.staged {
            // Two operands, eight words.
            true => 2 * 4 * 8 * self.side,
            false => 0,
        }
    }

    /// The part that computes a tile's pairs, and the one that counts.
    pub fn parts(self, count: Count) -> [Part; 2] {
        let tile = match self.staged {
            true => part!("hamming/tile_staged.wgsl"),
            false => part!("hamming/tile_direct.wgsl"),
        };
        let pair = match count {
            Count::Bits => part!("hamming/pair_xor.wgsl"),
            Count::Symbols(_) => part!("hamming/pair_symbols.wgsl"),
            Count::Common => part!("hamming/pair_and.wgsl"),
        };
        [tile, pair]
    }

    /// The constants that the parts ask for.
    pub fn spec(self, count: Count) -> Spec {
        let spec = Spec::default().with("TILE", self.side);
        match count {
            // The highest bit of each field.
            Count::Symbols(width) => spec.with("TOP", top_bits(width)),
            _ => spec,
        }
    }
}

/// A word with the highest bit of each field of so many bits.
pub(super) fn top_bits(width: u32) -> u32 {
    (1..=32 / width.max(1)).fold(0, |bits, field| bits | 1 << (field * width - 1))
}

struct Planner<'a> {
    shape: &'a Pairs,
    caps: &'a Caps,
    tile: Tile,
    kernel: Arc<Kernel>,
    group_ms: f64,
}

impl<'a> Planner<'a> {
    fn new(
        shape: &'a Pairs,
        count: Count,
        emit: Part,
        folded: bool,
        tile: Tile,
        caps: &'a Caps,
    ) -> Planner<'a> {
        let kernel = Kernel {
            name: "hamming/distance",
            parts: [
                part!("hamming/distance.wgsl"),
                emit,
                part!("common/grid.wgsl"),
            ]
            .into_iter()
            .chain(tile.parts(count))
            .collect(),
            spec: tile.spec(count).with("FOLDED", folded),
            needs: Needs::default(),
            params: DistanceParams::FIELDS,
            workgroup: [tile.lanes(), 1, 1],
            workgroup_bytes: tile.workgroup_bytes(),
        };
        // A word of a pair is taken for eight operations: loads, and a count that not every device has in hardware.
        let operations = 8.0 * (words(shape.bits) + 2) as f64;
        let pairs = f64::from(tile.side).powi(2);
        Planner {
            shape,
            caps,
            tile,
            kernel: Arc::new(kernel),
            group_ms: pairs * operations / (caps.gflops * 1e6),
        }
    }

    fn finish(
        &self,
        op: &'static str,
        steps: Vec<Step>,
        out_words: u64,
        work: Work,
    ) -> Result<Plan> {
        let out_bytes = 4 * out_words;
        if out_bytes > self.caps.buffer_bytes {
            return Err(Error::Limit {
                what: "bytes of the result".into(),
                needed: out_bytes,
                available: self.caps.buffer_bytes,
                remedy: "compute the distances of some rows at a time",
            });
        }
        let builder = Builder {
            steps,
            ..Builder::default()
        };
        let plan = builder.plan(
            op,
            format!(
                "tiles of {}{}",
                self.tile.side,
                if self.tile.staged { ", staged" } else { "" }
            ),
            work,
        );
        plan.check(self.caps)?;
        Ok(plan)
    }

    fn codes(&self, slot: Slot) -> Rows {
        Rows {
            slot,
            dtype: Dtype::U32,
            stride: words(self.shape.bits),
        }
    }

    /// Codes that one binding takes, in whole tiles.
    fn codes_in_a_binding(&self) -> Result<u64> {
        self.whole_tiles(
            self.caps.binding_bytes.saturating_sub(ALIGN) / (4 * words(self.shape.bits) as u64),
        )
    }

    /// The largest whole number of tiles in so many codes.
    fn whole_tiles(&self, codes: u64) -> Result<u64> {
        let side = u64::from(self.tile.side);
        match codes / side {
            0 => Err(Error::Limit {
                what: format!(
                    "codes in one binding, for a tile of distances of {} bits,",
                    self.shape.bits
                ),
                needed: side,
                available: codes,
                remedy: "use a device with larger bindings",
            }),
            tiles => Ok(tiles * side),
        }
    }

    fn params(&self) -> DistanceParams {
        let bits = self.shape.bits;
        DistanceParams {
            words: words(bits) as u32,
            last: last_mask(bits),
            ..DistanceParams::default()
        }
    }

    /// Dispatches over tiles that have their bindings.
    fn push(&self, steps: &mut Vec<Step>, bind: &[Bind], groups: u64, params: DistanceParams) {
        for groups in dispatches(0..groups, self.group_ms, self.caps) {
            let len = groups.end - groups.start;
            let params = DistanceParams {
                first: groups.start as u32,
                groups: len as u32,
                ..params
            };
            steps.push(Step {
                kernel: self.kernel.clone(),
                bind: bind.to_vec(),
                params: bytes_of(&params).to_vec(),
                groups: len,
                predicted_ms: self.group_ms * len as f64,
            });
        }
    }

    /// All pairs, in stripes of columns and of rows that fit bindings.
    fn matrix(&self, store: Store, b: Slot) -> Result<Vec<Step>> {
        let (rows, columns) = (self.shape.rows as u64, self.shape.columns as u64);
        let side = u64::from(self.tile.side);
        let out_stride = store.row_words(self.shape.columns) as u64;
        let room = (self.caps.binding_bytes.saturating_sub(ALIGN) / 4).min(1 << 31);
        let codes = self.codes_in_a_binding()?;
        let across = self.whole_tiles(room)?.min(codes);
        let mut steps = Vec::new();
        for first_column in (0..columns).step_by(across as usize) {
            let stripe = first_column..columns.min(first_column + across);
            // Words of a row between the first and the last column.
            let width = store.row_words((stripe.end - stripe.start) as usize) as u64;
            let fit = 1 + (room - width) / out_stride;
            let down = if fit >= side { fit / side * side } else { fit }.min(codes);
            for first_row in (0..rows).step_by(down as usize) {
                let band = first_row..rows.min(first_row + down);
                let (a, a_offset) = self.codes(Slot::Input(0)).bind(&band, false);
                let (b, b_offset) = self.codes(b).bind(&stripe, false);
                let start = band.start * out_stride + store.row_words(stripe.start as usize) as u64;
                let end = (band.end - 1) * out_stride + store.row_words(stripe.end as usize) as u64;
                let out = Rows {
                    slot: Slot::Output(0),
                    dtype: Dtype::U32,
                    stride: 1,
                };
                let (out, _) = out.bind(&(start..end), true);
                let across = (stripe.end - stripe.start).div_ceil(side);
                let local = |offset: u32, codes: &Range<u64>| {
                    offset.wrapping_add(
                        (codes.start as u32).wrapping_mul(words(self.shape.bits) as u32),
                    )
                };
                let params = DistanceParams {
                    a_offset: local(a_offset, &band),
                    b_offset: local(b_offset, &stripe),
                    a_len: (band.end - band.start) as u32,
                    b_len: (stripe.end - stripe.start) as u32,
                    across: across as u32,
                    out_offset: (start - out.bytes.start / 4) as u32,
                    out_stride: out_stride as u32,
                    ..self.params()
                };
                let groups = across * (band.end - band.start).div_ceil(side);
                self.push(&mut steps, &[a, b, out], groups, params);
            }
        }
        Ok(steps)
    }

    /// The pairs above the diagonal, in bands of tile rows whose results fit a binding.
    fn triangle(&self, triangle: Triangle) -> Result<Vec<Step>> {
        let n = self.shape.rows as u64;
        let side = u64::from(self.tile.side);
        let tiles = n.div_ceil(side);
        if self.codes_in_a_binding()? < n {
            return Err(Error::Limit {
                what: "codes in one binding, for a set's distances to itself,".into(),
                needed: n,
                available: self.codes_in_a_binding()?,
                remedy: "compute the distances between parts of the set",
            });
        }
        // Words before row i.
        let before = |i: u64| match triangle {
            Triangle::Full => i.min(n) * n,
            Triangle::Condensed => i.min(n) * n - i.min(n) * (i.min(n) + 1) / 2,
        };
        let words_of = |tiles: &Range<u64>| before(tiles.start * side)..before(tiles.end * side);
        let fits = |tiles: &Range<u64>| {
            let words = words_of(tiles);
            words.end == words.start
                || 4 * (words.end - words.start) + ALIGN <= self.caps.binding_bytes
        };
        let bands = match triangle {
            Triangle::Full => vec![0..tiles],
            Triangle::Condensed => crate::rows::cut(0..tiles, 1, 0.0, &fits)?,
        };
        let mut steps = Vec::new();
        for band in bands {
            let span = words_of(&band);
            if span.is_empty() {
                continue;
            }
            let (codes, offset) = self.codes(Slot::Input(0)).bind(&(0..n), false);
            let start = 4 * span.start / ALIGN * ALIGN;
            let out = Bind {
                slot: Slot::Output(0),
                bytes: start..4 * span.end,
                write: true,
            };
            let across = 2 * tiles - band.start - band.end + 1;
            let params = DistanceParams {
                a_offset: offset,
                b_offset: offset,
                a_len: n as u32,
                b_len: n as u32,
                across: across as u32,
                tile_begin: band.start as u32,
                tile_end: band.end as u32,
                tiles: tiles as u32,
                out_offset: 0u64.wrapping_sub(start / 4) as u32,
                out_stride: n as u32,
                ..self.params()
            };
            let groups = across * (band.end - band.start).div_ceil(2);
            self.push(&mut steps, &[codes.clone(), codes, out], groups, params);
        }
        Ok(steps)
    }
}
