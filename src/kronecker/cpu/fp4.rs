//! Four-bit floats by their tables: every code is looked up among all, in f64 that holds each comparison exactly.

use super::{butterfly, real};
use crate::{
    Result,
    error::length,
    kronecker::{
        butterfly::{Factors, Shape as Items},
        fp4::{
            DEQUANTIZE, Options, QUANTIZE, Rounding, Rule, ScaleFormat, Shape, rotation_factor,
            tensor_unit,
        },
    },
};

/// What the codes 0 to 7 stand for.
pub const VALUES: [f64; 8] = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];

/// A quantised tensor on the host.
#[derive(Clone, Debug, PartialEq)]
pub struct Quantized {
    /// Words of eight codes.
    pub codes: Vec<u32>,
    /// Codes of the scales.
    pub scales: Vec<u8>,
    /// The scale of the tensor.
    pub tensor_scale: f32,
}

/// [`quantize`](crate::kronecker::fp4::quantize), by looking through tables. The rotation is in f32, sum by sum as on a device.
///
/// # Errors
/// `Argument` when sizes and options do not fit together.
pub fn quantize(shape: &Shape, options: &Options, x: &[f32]) -> Result<Quantized> {
    shape.check(QUANTIZE, options)?;
    length(QUANTIZE, "x", x.len(), shape.elements())?;
    let y = rotated(shape, options, x)?;
    let finite = y.iter().map(|y| y.abs()).filter(|y| y.is_finite());
    let tensor_scale = match options.format {
        ScaleFormat::E4m3 => finite.fold(0.0, f32::max) * tensor_unit(),
        ScaleFormat::E8m0 | ScaleFormat::Ue5m3 => 1.0,
    };
    let mut scales = Vec::new();
    let mut codes = Vec::new();
    for (n, block) in y.chunks_exact(options.block).enumerate() {
        let code = scale_code(options, tensor_scale, block);
        let scale = match code == options.format.nan() || block.iter().all(|y| *y == 0.0) {
            true => 0.0,
            false => scale_of(options.format, code, tensor_scale),
        };
        scales.push(code);
        for (i, y) in block.iter().enumerate() {
            let element = (n * options.block + i) as u64;
            codes.push(element_code(options, scale, f64::from(*y), element));
        }
    }
    let word = |codes: &[u32]| codes.iter().rev().fold(0, |word, code| word << 4 | code);
    Ok(Quantized {
        codes: codes.chunks_exact(8).map(word).collect(),
        scales,
        tensor_scale,
    })
}

/// [`dequantize`](crate::kronecker::fp4::dequantize) in f64.
///
/// # Errors
/// `Argument` when sizes and options do not fit together.
pub fn dequantize(
    shape: &Shape,
    options: &Options,
    rotate_back: bool,
    quantized: &Quantized,
) -> Result<Vec<f64>> {
    shape.check(DEQUANTIZE, options)?;
    let Quantized {
        codes,
        scales,
        tensor_scale,
    } = quantized;
    length(DEQUANTIZE, "codes", codes.len(), shape.code_words())?;
    length(DEQUANTIZE, "scales", scales.len(), shape.blocks(options))?;
    let scale = |code: u8| match code == options.format.nan() {
        true => f64::NAN,
        false => scale_of(options.format, code, *tensor_scale),
    };
    let nibbles = codes
        .iter()
        .flat_map(|word| (0..8).map(move |n| word >> (4 * n) & 15));
    let scales = scales
        .iter()
        .flat_map(|code| std::iter::repeat_n(scale(*code), options.block));
    let value = |code: u32| {
        let size = VALUES.get((code & 7) as usize).copied().unwrap_or(0.0);
        if code & 8 == 0 { size } else { -size }
    };
    let mut x: Vec<f64> = nibbles
        .zip(scales)
        .map(|(code, scale)| value(code) * scale)
        .collect();
    if let Some(rotation) = options.rotation.filter(|_| rotate_back) {
        let items = items(shape, rotation.width);
        let factors = [1.0, 1.0, 1.0, -1.0].repeat(items.bits);
        x = butterfly(&items, Factors::Shared, &factors, &x, real)?;
        for row in x.chunks_exact_mut(shape.width) {
            for (i, x) in row.iter_mut().enumerate() {
                let sign = rotation.signs.map_or(1.0, |signs| signs.sign(i as u64));
                *x *= sign / (rotation.width as f64).sqrt();
            }
        }
    }
    Ok(x)
}

fn items(shape: &Shape, width: usize) -> Items {
    Items {
        outer: shape.elements() / width,
        bits: width.trailing_zeros() as usize,
        inner: 1,
    }
}

fn rotated(shape: &Shape, options: &Options, x: &[f32]) -> Result<Vec<f32>> {
    let Some(rotation) = options.rotation else {
        return Ok(x.to_vec());
    };
    let signed: Vec<f32> = x
        .iter()
        .enumerate()
        .map(|(n, x)| match rotation.signs {
            Some(signs) => signs.sign((n % shape.width) as u64) as f32 * x,
            None => *x,
        })
        .collect();
    let items = items(shape, rotation.width);
    let factors = [1.0f32, 1.0, 1.0, -1.0].repeat(items.bits);
    let both = |a, u, c, v| a * u + c * v;
    let y = butterfly(&items, Factors::Shared, &factors, &signed, both)?;
    let factor = rotation_factor(options);
    Ok(y.into_iter().map(|y| y * factor).collect())
}

/// A scale's value, rounded to f32 as on a device.
fn scale_of(format: ScaleFormat, code: u8, tensor_scale: f32) -> f64 {
    match format {
        ScaleFormat::E8m0 => format.value(code),
        ScaleFormat::E4m3 | ScaleFormat::Ue5m3 => {
            f64::from(format.value(code) as f32 * tensor_scale)
        }
    }
}

fn scale_code(options: &Options, tensor_scale: f32, block: &[f32]) -> u8 {
    let format = options.format;
    if block.iter().any(|y| !y.is_finite()) {
        return format.nan();
    }
    let peak = block
        .iter()
        .fold(0.0f64, |peak, y| peak.max(y.abs().into()));
    if peak == 0.0 {
        return 0;
    }
    let top = format.nan() - 1;
    let suffices = |code: u8| match options.rule {
        Rule::Up => 6.0 * scale_of(format, code, tensor_scale) >= peak,
        Rule::Nearest => {
            let middle = 0.5 * (format.value(code) + format.value(code + 1));
            let middle = match format {
                ScaleFormat::E8m0 => middle,
                ScaleFormat::E4m3 | ScaleFormat::Ue5m3 => f64::from(middle as f32 * tensor_scale),
            };
            peak < 6.0 * middle || (peak == 6.0 * middle && code.is_multiple_of(2))
        }
        // The least exponent of which the next is too large.
        Rule::Ocp => 4.0 * format.value(code + 1) > peak,
    };
    (0..top).find(|code| suffices(*code)).unwrap_or(top)
}

fn element_code(options: &Options, scale: f64, y: f64, element: u64) -> u32 {
    if scale == 0.0 {
        return 0;
    }
    let a = y.abs();
    let neighbours = VALUES.iter().zip(VALUES.iter().skip(1));
    let code = match options.rounding {
        Rounding::Nearest => {
            let beyond = neighbours.enumerate().filter(|(code, (low, high))| {
                let middle = 0.5 * (*low + *high) * scale;
                a > middle || (a == middle && !code.is_multiple_of(2))
            });
            beyond.count() as u32
        }
        Rounding::Random(random) => {
            let below = VALUES.iter().filter(|value| a >= **value * scale).count() - 1;
            let up = neighbours.skip(below).take(1).any(|(low, high)| {
                let share = (random.word(element) >> 8) as f32 * (-24f32).exp2();
                let share = share * ((high - low) * scale) as f32;
                f64::from(share) < a - low * scale
            });
            below as u32 + u32::from(up)
        }
    };
    code | if y.is_sign_negative() { 8 } else { 0 }
}
