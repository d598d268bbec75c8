//! Microscaled four-bit floats: numbers in blocks that share a scale, with or without a rotation first.
//!
//! A code is E2M1: 0 to 7 stand for 0, 1/2, 1, 3/2, 2, 3, 4, 6, and bit 3 is the sign; code i is in bits 4 (i mod 8) of word i / 8. Blocks
//! of 16 or 32 neighbours share a scale of one byte. A rotation by Hadamard's matrix spreads outliers over 16 to 128 neighbours along a
//! row; since (X D H)(H D W) = X W up to a factor, operands of a product that are rotated alike need not be rotated back.

use super::{butterfly, hadamard::Transform};
use crate::{
    Error, Result,
    error::length,
    gpu::{Gpu, Pass, Tensor},
    plan::Slot,
    random::Random,
};

mod plan;

pub use plan::{dequantize as plan_dequantize, quantize as plan_quantize};
pub(super) use plan::{rotation_factor, tensor_unit};

pub(super) const QUANTIZE: &str = "fp4_quantize";
pub(super) const DEQUANTIZE: &str = "fp4_dequantize";

/// The format of scales.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ScaleFormat {
    /// 2^(code - 127), 255 is NaN: the scales of OCP's MX formats.
    E8m0,
    /// Four bits of exponent with bias 7, three of significand, at most 448, 0x7F is NaN; times a scale of the whole tensor,
    /// max |x| / (6 · 448): the scales of NVFP4. Tensors whose largest magnitude is below 2^-90 are beyond it.
    E4m3,
    /// Five bits of exponent with bias 15, three of significand, subnormals, at most 114,688, 255 is NaN: a convention of this crate.
    Ue5m3,
}

impl ScaleFormat {
    /// The code of NaN, above all others.
    pub fn nan(self) -> u8 {
        match self {
            ScaleFormat::E8m0 | ScaleFormat::Ue5m3 => 255,
            ScaleFormat::E4m3 => 0x7f,
        }
    }

    /// The value of a code other than NaN's.
    pub fn value(self, code: u8) -> f64 {
        let bias = match self {
            ScaleFormat::E8m0 => return (f64::from(code) - 127.0).exp2(),
            ScaleFormat::E4m3 => 7.0,
            ScaleFormat::Ue5m3 => 15.0,
        };
        let significand = f64::from(code & 7) + if code < 8 { 0.0 } else { 8.0 };
        significand * (f64::from((code >> 3).max(1)) - bias - 3.0).exp2()
    }
}

/// How a block's scale comes of the largest magnitude in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Rule {
    /// The least scale that is no less than a sixth of it: nothing is clipped, and random rounding has no bias.
    #[default]
    Up,
    /// The scale nearest to a sixth of it, ties to the even code; what lies above is clipped to 6.
    Nearest,
    /// 2^(⌊log2 of it⌋ - 2), with [`ScaleFormat::E8m0`] alone; what lies above is clipped to 6: the rule of OCP's MX specification.
    Ocp,
}

/// How numbers between two codes are rounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rounding {
    /// To the nearest, ties to the even code.
    #[default]
    Nearest,
    /// Up with the probability that makes the mean exact, by the stream's word of the element: its place in the tensor.
    Random(Random),
}

/// A rotation of each row before it is quantised: X D H / √width, along blocks of `width` neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// 16, 32, 64 or 128.
    pub width: usize,
    /// Random signs D, one a column, from this stream; none for D = 1.
    pub signs: Option<Random>,
}

/// How a tensor is quantised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Neighbours that share a scale: 16 or 32.
    pub block: usize,
    /// The format of scales.
    pub format: ScaleFormat,
    /// How scales are chosen.
    pub rule: Rule,
    /// How numbers are rounded; without effect on [`dequantize`].
    pub rounding: Rounding,
    /// The rotation, if any.
    pub rotation: Option<Rotation>,
}

impl Options {
    /// MXFP4: blocks of 32 with scales E8M0 by the rule of OCP.
    pub fn mxfp4() -> Options {
        Options {
            block: 32,
            format: ScaleFormat::E8m0,
            rule: Rule::Ocp,
            rounding: Rounding::Nearest,
            rotation: None,
        }
    }

    /// NVFP4: blocks of 16 with scales E4M3 and one of the tensor.
    pub fn nvfp4() -> Options {
        Options {
            block: 16,
            format: ScaleFormat::E4m3,
            rule: Rule::Nearest,
            ..Options::mxfp4()
        }
    }

    fn check(&self, op: &'static str) -> Result<()> {
        let wrong = |what: &str, expected: &str, got: String| {
            Err(Error::Argument {
                op,
                what: what.into(),
                expected: expected.into(),
                got,
            })
        };
        if !matches!(self.block, 16 | 32) {
            return wrong("block", "16 or 32", self.block.to_string());
        }
        if self.rule == Rule::Ocp && self.format != ScaleFormat::E8m0 {
            let got = format!("Ocp with {:?}", self.format);
            return wrong("rule", "Up or Nearest where scales are not E8m0", got);
        }
        match self.rotation {
            Some(Rotation { width, .. }) if !matches!(width, 16 | 32 | 64 | 128) => {
                wrong("rotation", "16, 32, 64 or 128 wide", width.to_string())
            }
            _ => Ok(()),
        }
    }
}

/// Sizes of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Rows; 0 is legal.
    pub rows: usize,
    /// Numbers of a row, the axis of contraction: whole blocks, and whole blocks of the rotation.
    pub width: usize,
}

impl Shape {
    /// Numbers in all.
    pub fn elements(&self) -> usize {
        self.rows * self.width
    }

    /// Words of codes.
    pub fn code_words(&self) -> usize {
        self.elements() / 8
    }

    /// Blocks, each with a scale of one byte.
    pub fn blocks(&self, options: &Options) -> usize {
        self.elements() / options.block.max(1)
    }

    pub(super) fn check(&self, op: &'static str, options: &Options) -> Result<()> {
        options.check(op)?;
        let rotation = options.rotation.map_or(1, |rotation| rotation.width);
        let unit = options.block.max(rotation);
        let elements = (self.rows as u64).saturating_mul(self.width as u64);
        let (what, expected, got) = if self.width == 0 || !self.width.is_multiple_of(unit) {
            ("width", format!("a multiple of {unit}"), self.width)
        } else if elements > 1 << 32 {
            let expected = "such that there are at most 2^32 numbers".into();
            ("rows", expected, self.rows)
        } else {
            return Ok(());
        };
        Err(Error::Argument {
            op,
            what: what.into(),
            expected,
            got: got.to_string(),
        })
    }
}

/// What [`quantize`] writes and [`dequantize`] reads.
#[derive(Debug)]
pub struct Quantized {
    /// Codes, [`Shape::code_words`] words.
    pub codes: Tensor<u32>,
    /// Codes of the scales, [`Shape::blocks`] bytes.
    pub scales: Tensor<u8>,
    /// The scale of the tensor: 1 but with [`ScaleFormat::E4m3`].
    pub tensor_scale: Tensor<f32>,
}

impl Quantized {
    /// Room for a tensor.
    ///
    /// # Errors
    /// `Argument` when sizes and options do not fit together; `OutOfMemory`, `DeviceLost` from the device.
    pub fn zeros(gpu: &Gpu, shape: &Shape, options: &Options) -> Result<Quantized> {
        shape.check(QUANTIZE, options)?;
        Ok(Quantized {
            codes: gpu.zeros(shape.code_words())?,
            scales: gpu.zeros(shape.blocks(options))?,
            tensor_scale: gpu.zeros(1)?,
        })
    }

    fn check(&self, op: &'static str, shape: &Shape, options: &Options) -> Result<()> {
        length(op, "codes", self.codes.len(), shape.code_words())?;
        length(op, "scales", self.scales.len(), shape.blocks(options))?;
        length(op, "tensor_scale", self.tensor_scale.len(), 1)
    }
}

/// Quantises rows of f32 to four-bit floats in blocks that share a scale.
///
/// ```text
/// code[i] = round(y[i] / S)        y = x, or x D H / √b by blocks of b        S = scale of max |y| of the block, times that of the tensor
/// ```
///
/// `x` is `[rows, width]`, row-major. A block of zeros has scale 0 and codes 0; a block with NaN or an infinity has the scale NaN, codes 0,
/// and decodes to NaN. Numbers that round to 0 keep their sign.
///
/// Cost: one pass over x, two more with a rotation, one more with scales E4M3. Temporaries: the rotated tensor.
///
/// Accuracy: codes and scales are those of the definition, exactly, on every device whose sums and products are rounded correctly and
/// whose numbers are not below the least normal f32; a rotation adds its numbers in the order of Hadamard's butterfly, in f32.
/// Deterministic: yes, random rounding included.
///
/// # Errors
/// `Argument` when sizes, options or lengths do not fit together; `Limit` when the rotated tensor exceeds the scratch budget; `Shader`,
/// `OutOfMemory`, `Timeout`, `DeviceLost` from the device.
///
/// Source: Open Compute Project, "OCP microscaling formats (MX) specification 1.0", 2023; rotations: Ashkboos et al., "QuaRot: outlier-free
/// 4-bit inference in rotated LLMs", 2024; random rounding: Croci, Fasi, Higham, Mary and Mikaitis, "Stochastic rounding: implementation,
/// error analysis and applications", 2022.
pub fn quantize(
    gpu: &Gpu,
    shape: &Shape,
    options: &Options,
    x: &Tensor<f32>,
    out: &mut Quantized,
) -> Result<()> {
    let mut pass = gpu.pass(QUANTIZE);
    record_quantize(&mut pass, shape, options, x, out)?;
    pass.submit().map(drop)
}

/// [`quantize`], recorded into a pass that the caller submits.
///
/// # Errors
/// As [`quantize`].
pub fn record_quantize(
    pass: &mut Pass,
    shape: &Shape,
    options: &Options,
    x: &Tensor<f32>,
    out: &mut Quantized,
) -> Result<()> {
    let plan = plan::quantize(shape, options, pass.caps())?;
    length(QUANTIZE, "x", x.len(), shape.elements())?;
    out.check(QUANTIZE, shape, options)?;
    let outputs = &mut [
        out.codes.view_mut(),
        out.scales.view_mut(),
        out.tensor_scale.view_mut(),
    ];
    pass.run(&plan, &[x.view()], outputs)
}

/// The numbers of four-bit codes: x\[i\] = value(code\[i\]) · S, NaN where the scale is.
///
/// With `rotate_back` and a rotation the numbers are brought to the basis they came from, X H D / √b: the transpose of the rotation, and its
/// inverse. Otherwise they are those that were rounded.
///
/// Cost: one pass over the codes, two more to rotate back. Temporaries: none, or the rotated tensor.
///
/// Accuracy: exact, but for the rounding of S with a scale of the tensor; rotated back, root-mean-square error to the f64 reference,
/// relative, <= 1e-6.
///
/// # Errors
/// As [`quantize`].
pub fn dequantize(
    gpu: &Gpu,
    shape: &Shape,
    options: &Options,
    rotate_back: bool,
    quantized: &Quantized,
    x: &mut Tensor<f32>,
) -> Result<()> {
    let mut pass = gpu.pass(DEQUANTIZE);
    record_dequantize(&mut pass, shape, options, rotate_back, quantized, x)?;
    pass.submit().map(drop)
}

/// [`dequantize`], recorded into a pass that the caller submits.
///
/// # Errors
/// As [`quantize`].
pub fn record_dequantize(
    pass: &mut Pass,
    shape: &Shape,
    options: &Options,
    rotate_back: bool,
    quantized: &Quantized,
    x: &mut Tensor<f32>,
) -> Result<()> {
    let plan = plan::dequantize(shape, options, rotate_back, pass.caps())?;
    quantized.check(DEQUANTIZE, shape, options)?;
    length(DEQUANTIZE, "x", x.len(), shape.elements())?;
    let inputs = [
        quantized.codes.view(),
        quantized.tensor_scale.view(),
        quantized.scales.view(),
    ];
    pass.run(&plan, &inputs, &mut [x.view_mut()])
}

/// The rotation of every block; unscaled it is sums and differences alone, the same whether products and sums are fused or not.
fn rotate(
    shape: &Shape,
    width: usize,
    source: Option<Slot>,
    items: Slot,
    scaled: bool,
) -> Transform {
    Transform {
        shape: butterfly::Shape {
            outer: shape.elements() / width,
            bits: width.trailing_zeros() as usize,
            inner: 1,
        },
        source,
        items,
        scaled,
    }
}
