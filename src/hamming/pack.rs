//! From numbers to codes and back.

use bytemuck::bytes_of;

use super::bits::{check_bits, last_mask, words};
use crate::{
    Error, Result,
    error::length,
    gpu::{Caps, Dtype, Elem, Gpu, Pass, Spec, Tensor, params, part},
    over::{Held, OverRows, Placed, kernel},
    plan::{Builder, Plan, Slot, Work},
    rows::Rows,
};

pub(crate) const PACK: &str = "pack_bits";
pub(crate) const UNPACK: &str = "unpack_bits";
pub(crate) const POPCOUNTS: &str = "popcounts";

/// When a bit is 1. NaN, of a number or of its threshold, gives 0 in each; -0 equals 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compare {
    /// x > threshold.
    #[default]
    Greater,
    /// x >= threshold, as FAISS and BinaryAttention have it.
    GreaterEqual,
    /// x < threshold, as Larq Compute Engine has it.
    Less,
}

/// What numbers are compared with.
#[derive(Clone, Copy, Debug)]
pub enum Threshold<'a> {
    /// One number for all dimensions.
    Scalar(f32),
    /// A number for each dimension, `[dims]`: means or medians of a data set, say.
    Row(&'a Tensor<f32>),
}

/// Numbers to be packed: `rows` codes of `dims` bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackShape {
    /// Codes; 0 is legal.
    pub rows: usize,
    /// Numbers of a row, bits of its code: 1 to [`MAX_BITS`](super::MAX_BITS).
    pub dims: usize,
    /// Storage type of the numbers: f32, f16 or bf16.
    pub dtype: Dtype,
}

params! {
    /// Parameters of `pack`.
    PackParams {
        x_offset: u32,
        words_offset: u32,
        first_row: u32,
        first: u32,
        end: u32,
        dims: u32,
        words: u32,
        threshold: u32,
    }
}

params! {
    /// Parameters of `unpack`.
    UnpackParams {
        words_offset: u32,
        x_offset: u32,
        first_row: u32,
        first: u32,
        end: u32,
        bits: u32,
        words: u32,
        low: f32,
        high: f32,
    }
}

params! {
    /// Parameters of `popcounts`.
    PopcountsParams {
        words_offset: u32,
        counts_offset: u32,
        first_row: u32,
        first: u32,
        end: u32,
        words: u32,
        last: u32,
    }
}

/// Codes of numbers: bit i of row r is 1 where `x[r, i]` is greater than its threshold.
///
/// Shapes: x `[rows, dims]`, words `[rows, ⌈dims/32⌉]`; row-major. Pad bits are 0. Numbers are compared as stored: denormals,
/// infinities and NaN count as IEEE 754 has them on every device.
///
/// # Errors
/// `Argument` when lengths or sizes do not fit together; `Limit` when a row exceeds a binding; `Shader`, `OutOfMemory`,
/// `DeviceLost` from the device.
pub fn pack_bits<T: Elem>(
    gpu: &Gpu,
    shape: &PackShape,
    compare: Compare,
    x: &Tensor<T>,
    threshold: Threshold<'_>,
    words: &mut Tensor<u32>,
) -> Result<()> {
    let mut pass = gpu.pass("pack_bits");
    record_pack_bits(&mut pass, shape, compare, x, threshold, words)?;
    pass.submit().map(drop)
}

/// [`pack_bits`], recorded into a pass that the caller submits.
///
/// # Errors
/// As [`pack_bits`].
pub fn record_pack_bits<T: Elem>(
    pass: &mut Pass,
    shape: &PackShape,
    compare: Compare,
    x: &Tensor<T>,
    threshold: Threshold<'_>,
    packed: &mut Tensor<u32>,
) -> Result<()> {
    let (scalar, row) = match threshold {
        Threshold::Scalar(number) => (Some(number), None),
        Threshold::Row(row) => (None, Some(row)),
    };
    let plan = plan_pack(shape, compare, scalar, pass.caps())?;
    crate::error::stored_as::<T>(PACK, shape.dtype)?;
    length(PACK, "x", x.len(), shape.rows * shape.dims)?;
    length(PACK, "words", packed.len(), shape.rows * words(shape.dims))?;
    let mut inputs = vec![x.view()];
    if let Some(row) = row {
        length(PACK, "threshold", row.len(), shape.dims)?;
        inputs.push(row.view());
    }
    pass.run(&plan, &inputs, &mut [packed.view_mut()])
}

/// Plans [`pack_bits`]. Inputs: x, then the thresholds unless `scalar` is given; output: words.
///
/// # Errors
/// As [`pack_bits`].
pub fn plan_pack(
    shape: &PackShape,
    compare: Compare,
    scalar: Option<f32>,
    caps: &Caps,
) -> Result<Plan> {
    let PackShape { rows, dims, dtype } = *shape;
    check(PACK, rows, dims)?;
    let element = match dtype {
        Dtype::F32 => part!("hamming/bits_f32.wgsl"),
        Dtype::F16 => part!("hamming/bits_f16.wgsl"),
        Dtype::Bf16 => part!("hamming/bits_bf16.wgsl"),
        _ => {
            return Err(Error::Argument {
                op: PACK,
                what: "dtype".into(),
                expected: "f32, f16 or bf16".into(),
                got: dtype.name().into(),
            });
        }
    };
    let limit = match scalar {
        Some(_) => part!("hamming/threshold_scalar.wgsl"),
        None => part!("hamming/threshold_row.wgsl"),
    };
    let mut held = vec![
        Held::Rows(rows_of(Slot::Input(0), dtype, dims)),
        Held::Written(rows_of(Slot::Output(0), Dtype::U32, words(dims))),
    ];
    if scalar.is_none() {
        held.push(Held::Whole(Slot::Input(1), dims as u64));
    }
    let over = OverRows {
        kernel: kernel(
            "hamming/pack",
            [part!("hamming/pack.wgsl"), element, limit],
            Spec::default().with("COMPARE", compare as u32),
            PackParams::FIELDS,
        ),
        held,
        rows: rows as u64,
        per_row: words(dims) as u64,
        row_flops: 16.0 * dims as f64,
    };
    planned(PACK, &over, caps, |placed| {
        let params = PackParams {
            x_offset: placed.offset(0),
            words_offset: placed.offset(1),
            first_row: placed.first_row,
            first: placed.first,
            end: placed.end,
            dims: dims as u32,
            words: words(dims) as u32,
            // -0 is 0 in the shader; every other number is itself.
            threshold: scalar.unwrap_or(0.0).to_bits(),
        };
        bytes_of(&params).to_vec()
    })
}

/// Numbers of codes: `high` where a bit is 1, else `low`; with -1 and 1 the ±1 view of a code.
///
/// Shapes: words `[rows, ⌈bits/32⌉]`, x `[rows, bits]`; row-major.
///
/// # Errors
/// As [`pack_bits`].
pub fn unpack_bits(
    gpu: &Gpu,
    [rows, bits]: [usize; 2],
    packed: &Tensor<u32>,
    [low, high]: [f32; 2],
    x: &mut Tensor<f32>,
) -> Result<()> {
    let mut pass = gpu.pass("unpack_bits");
    let plan = plan_unpack([rows, bits], [low, high], pass.caps())?;
    length(UNPACK, "words", packed.len(), rows * words(bits))?;
    length(UNPACK, "x", x.len(), rows * bits)?;
    pass.run(&plan, &[packed.view()], &mut [x.view_mut()])?;
    pass.submit().map(drop)
}

/// Plans [`unpack_bits`]. Input: words; output: x.
///
/// # Errors
/// As [`unpack_bits`].
pub fn plan_unpack([rows, bits]: [usize; 2], [low, high]: [f32; 2], caps: &Caps) -> Result<Plan> {
    check(UNPACK, rows, bits)?;
    let over = OverRows {
        kernel: kernel(
            "hamming/unpack",
            [part!("hamming/unpack.wgsl")],
            Spec::default(),
            UnpackParams::FIELDS,
        ),
        held: vec![
            Held::Rows(rows_of(Slot::Input(0), Dtype::U32, words(bits))),
            Held::Written(rows_of(Slot::Output(0), Dtype::F32, bits)),
        ],
        rows: rows as u64,
        per_row: bits as u64,
        row_flops: 8.0 * bits as f64,
    };
    planned(UNPACK, &over, caps, |placed| {
        let params = UnpackParams {
            words_offset: placed.offset(0),
            x_offset: placed.offset(1),
            first_row: placed.first_row,
            first: placed.first,
            end: placed.end,
            bits: bits as u32,
            words: words(bits) as u32,
            low,
            high,
        };
        bytes_of(&params).to_vec()
    })
}

/// Number of bits of each code that are 1: words `[rows, ⌈bits/32⌉]`, counts `[rows]`.
///
/// # Errors
/// As [`pack_bits`].
pub fn popcounts(
    gpu: &Gpu,
    [rows, bits]: [usize; 2],
    packed: &Tensor<u32>,
    counts: &mut Tensor<u32>,
) -> Result<()> {
    let mut pass = gpu.pass("popcounts");
    let plan = plan_popcounts([rows, bits], pass.caps())?;
    length(POPCOUNTS, "words", packed.len(), rows * words(bits))?;
    length(POPCOUNTS, "counts", counts.len(), rows)?;
    pass.run(&plan, &[packed.view()], &mut [counts.view_mut()])?;
    pass.submit().map(drop)
}

/// Plans [`popcounts`]. Input: words; output: counts.
///
/// # Errors
/// As [`popcounts`].
pub fn plan_popcounts([rows, bits]: [usize; 2], caps: &Caps) -> Result<Plan> {
    check(POPCOUNTS, rows, bits)?;
    let over = OverRows {
        kernel: kernel(
            "hamming/popcounts",
            [part!("hamming/popcounts.wgsl")],
            Spec::default(),
            PopcountsParams::FIELDS,
        ),
        held: vec![
            Held::Rows(rows_of(Slot::Input(0), Dtype::U32, words(bits))),
            Held::Written(rows_of(Slot::Output(0), Dtype::U32, 1)),
        ],
        rows: rows as u64,
        per_row: 1,
        row_flops: 8.0 * words(bits) as f64,
    };
    planned(POPCOUNTS, &over, caps, |placed| {
        let params = PopcountsParams {
            words_offset: placed.offset(0),
            counts_offset: placed.offset(1),
            first_row: placed.first_row,
            first: placed.first,
            end: placed.end,
            words: words(bits) as u32,
            last: last_mask(bits),
        };
        bytes_of(&params).to_vec()
    })
}

/// Sizes of a call on `rows` codes.
fn check(op: &'static str, rows: usize, bits: usize) -> Result<()> {
    check_bits(op, bits)?;
    if rows as u64 > u64::from(u32::MAX) - 1 {
        return Err(Error::Argument {
            op,
            what: "rows".into(),
            expected: "at most 2^32 - 2".into(),
            got: rows.to_string(),
        });
    }
    Ok(())
}

fn rows_of(slot: Slot, dtype: Dtype, stride: usize) -> Rows {
    Rows {
        slot,
        dtype,
        stride,
    }
}

/// A plan of a kernel's steps over rows.
fn planned(
    op: &'static str,
    over: &OverRows,
    caps: &Caps,
    params: impl Fn(&Placed) -> Vec<u8>,
) -> Result<Plan> {
    let mut builder = Builder::default();
    over.steps(&mut builder, caps, params)?;
    let row_bytes = over.held.iter().map(|held| match held {
        Held::Rows(rows) | Held::Written(rows) => rows.row_bytes(),
        Held::Whole(..) => 0,
    });
    let work = Work {
        bytes: (over.rows * row_bytes.sum::<u64>()) as f64,
        ..Work::default()
    };
    let plan = builder.plan(op, "by rows".into(), work);
    plan.check(caps)?;
    Ok(plan)
}
