//! Plans of quantisation and of its reverse.

use std::sync::Arc;

use bytemuck::bytes_of;

use super::{DEQUANTIZE, Options, QUANTIZE, Rounding, ScaleFormat, Shape, rotate};
use crate::{
    Result,
    gpu::{Caps, Kernel, Part, Spec, params, part},
    kronecker::signs::Signs,
    over::kernel,
    plan::{Bind, Builder, Plan, STEP_MS, Slot, Step, Work},
    rows::fill,
};

params! {
    /// Parameters of `fp4_quantize`.
    QuantizeParams {
        key_low: u32,
        key_high: u32,
        element: u32,
        words: u32,
        first: u32,
        factor: f32,
    }
}

params! {
    /// Parameters of `fp4_dequantize`.
    DequantizeParams {
        words: u32,
        first: u32,
        nan: u32,
    }
}

params! {
    /// Parameters of `fp4_peak`.
    PeakParams {
        len: u32,
        peaks: u32,
        factor: f32,
        unit: f32,
    }
}

/// The scale of a tensor over its largest magnitude: 1 / (6 · 448), so much more that roundings never leave a block above 6 times the
/// largest scale.
pub(in crate::kronecker) fn tensor_unit() -> f32 {
    ((1.0 + (-22f64).exp2()) / (6.0 * 448.0)) as f32
}

/// What a rotated number is multiplied with: 1 / √b, rounded.
pub(in crate::kronecker) fn rotation_factor(options: &Options) -> f32 {
    let width = options.rotation.map_or(1, |rotation| rotation.width);
    (1.0 / (width as f64).sqrt()) as f32
}

/// Plans [`quantize`](super::quantize). Input: x; outputs: codes, scales, the scale of the tensor.
///
/// # Errors
/// As [`quantize`](super::quantize), but for those of the device.
pub fn quantize(shape: &Shape, options: &Options, caps: &Caps) -> Result<Plan> {
    shape.check(QUANTIZE, options)?;
    let mut builder = Builder::default();
    let whole = Slot::Output(2);
    let mut x = Slot::Input(0);
    if let Some(rotation) = &options.rotation {
        let rotated = builder.add_scratch(4 * shape.elements() as u64);
        let source = match rotation.signs {
            Some(random) => {
                let signs = columns(shape, random);
                signs.spread(&mut builder, caps, [x, rotated])?;
                None
            }
            None => Some(x),
        };
        rotate(shape, rotation.width, source, rotated, false).steps(&mut builder, caps)?;
        x = rotated;
    }
    if options.format == ScaleFormat::E4m3 && shape.elements() > 0 {
        peak(&mut builder, caps, shape, options, [x, whole]);
    } else {
        let one = match options.format {
            ScaleFormat::E4m3 => 0.0f32,
            ScaleFormat::E8m0 | ScaleFormat::Ue5m3 => 1.0,
        };
        fill(&mut builder, caps, whole, 0..1, one.to_bits());
    }
    let kernel = quantizer(options);
    let [key_low, key_high] = match options.rounding {
        Rounding::Nearest => [0; 2],
        Rounding::Random(random) => random.key(),
    };
    let words = shape.code_words() as u64;
    let flops = match options.rounding {
        Rounding::Nearest => 320.0,
        Rounding::Random(_) => 1200.0,
    };
    for piece in pieces(words, 8, flops, caps) {
        let mut bind = vec![bound(x, piece.from, piece.words, 32, 1, false)];
        bind.extend((options.format == ScaleFormat::E4m3).then(|| word(whole)));
        bind.push(bound(Slot::Output(0), piece.from, piece.words, 4, 1, true));
        let per_scale = (options.block / 8) as u64;
        let scales = bound(Slot::Output(1), piece.from, piece.words, 1, per_scale, true);
        bind.push(scales);
        let params = QuantizeParams {
            key_low,
            key_high,
            element: (8 * piece.from) as u32,
            words: piece.words as u32,
            first: (64 * piece.groups.start) as u32,
            factor: rotation_factor(options),
        };
        piece.step(&mut builder, kernel.clone(), bind, bytes_of(&params));
    }
    let elements = shape.elements() as f64;
    let work = Work {
        bytes: elements * (4.5 + 1.0 / options.block as f64),
        ..Work::default()
    };
    let plan = builder.plan(QUANTIZE, label(options), work);
    plan.check(caps)?;
    Ok(plan)
}

/// Plans [`dequantize`](super::dequantize). Inputs: codes, the scale of the tensor, scales; output: x.
///
/// # Errors
/// As [`dequantize`](super::dequantize), but for those of the device.
pub fn dequantize(
    shape: &Shape,
    options: &Options,
    rotate_back: bool,
    caps: &Caps,
) -> Result<Plan> {
    shape.check(DEQUANTIZE, options)?;
    let mut builder = Builder::default();
    let rotation = options.rotation.filter(|_| rotate_back);
    let x = match rotation {
        Some(_) => builder.add_scratch(4 * shape.elements() as u64),
        None => Slot::Output(0),
    };
    let kernel = kernel(
        "kronecker/fp4_dequantize",
        [part!("kronecker/fp4_dequantize.wgsl")]
            .into_iter()
            .chain(scale_parts(options)),
        scale_spec(options),
        DequantizeParams::FIELDS,
    );
    for piece in pieces(shape.code_words() as u64, 8, 200.0, caps) {
        let mut bind = vec![bound(Slot::Input(0), piece.from, piece.words, 4, 1, false)];
        bind.extend((options.format == ScaleFormat::E4m3).then(|| word(Slot::Input(1))));
        let per_scale = (options.block / 8) as u64;
        let scales = bound(Slot::Input(2), piece.from, piece.words, 1, per_scale, false);
        bind.push(scales);
        bind.push(bound(x, piece.from, piece.words, 32, 1, true));
        let params = DequantizeParams {
            words: piece.words as u32,
            first: (64 * piece.groups.start) as u32,
            nan: f32::NAN.to_bits(),
        };
        piece.step(&mut builder, kernel.clone(), bind, bytes_of(&params));
    }
    if let Some(rotation) = &rotation {
        let out = Slot::Output(0);
        let width = rotation.width;
        match rotation.signs {
            Some(random) => {
                rotate(shape, width, None, x, true).steps(&mut builder, caps)?;
                columns(shape, random).sum(&mut builder, caps, 1.0, [x, out])?;
            }
            None => {
                rotate(shape, width, Some(x), out, true).steps(&mut builder, caps)?;
            }
        }
    }
    let elements = shape.elements() as f64;
    let work = Work {
        bytes: elements * (4.5 + 1.0 / options.block as f64),
        ..Work::default()
    };
    let plan = builder.plan(DEQUANTIZE, label(options), work);
    plan.check(caps)?;
    Ok(plan)
}

fn label(options: &Options) -> String {
    let rotation = options.rotation.map_or(0, |rotation| rotation.width);
    format!(
        "{:?} by {}, rotation {rotation}",
        options.format, options.block
    )
}

/// Random signs of columns.
fn columns(shape: &Shape, random: crate::random::Random) -> Signs {
    Signs {
        random,
        outer: shape.rows,
        blocks: 1,
        len: shape.width,
        padded: shape.width,
        inner: 1,
    }
}

fn scale_spec(options: &Options) -> Spec {
    let spec = Spec::default()
        .with("BLOCK", options.block as u32)
        .with("RULE", options.rule as u32);
    let bias = match options.format {
        ScaleFormat::E8m0 => return spec,
        ScaleFormat::E4m3 => 7u32,
        ScaleFormat::Ue5m3 => 15,
    };
    spec.with("BIAS", bias)
        .with("NAN_CODE", u32::from(options.format.nan()))
}

fn scale_parts(options: &Options) -> Vec<Part> {
    match options.format {
        ScaleFormat::E8m0 => vec![part!("kronecker/fp4_e8m0.wgsl")],
        ScaleFormat::E4m3 => vec![
            part!("kronecker/fp4_minifloat.wgsl"),
            part!("kronecker/fp4_tensor_given.wgsl"),
        ],
        ScaleFormat::Ue5m3 => vec![
            part!("kronecker/fp4_minifloat.wgsl"),
            part!("kronecker/fp4_tensor_one.wgsl"),
        ],
    }
}

fn quantizer(options: &Options) -> Arc<Kernel> {
    let mut parts = vec![part!("kronecker/fp4_quantize.wgsl")];
    match options.rounding {
        Rounding::Nearest => parts.push(part!("kronecker/fp4_round_nearest.wgsl")),
        Rounding::Random(_) => {
            parts.push(part!("kronecker/fp4_round_random.wgsl"));
            parts.push(part!("common/threefry.wgsl"));
        }
    }
    parts.extend(scale_parts(options));
    let plain = kernel(
        "kronecker/fp4_quantize",
        parts,
        scale_spec(options),
        QuantizeParams::FIELDS,
    );
    // What the lanes of a block tell each other.
    Arc::new(Kernel {
        workgroup_bytes: 2 * 64 * 4,
        ..(*plain).clone()
    })
}

/// The scale of the tensor: the largest finite magnitude, level by level.
fn peak(
    builder: &mut Builder,
    caps: &Caps,
    shape: &Shape,
    options: &Options,
    [x, whole]: [Slot; 2],
) {
    // Whole bindings at offsets that stay aligned when they become 64 times shorter.
    let most = (caps.binding_bytes / 4).min(1 << 28) / 4096 * 4096;
    let (mut from, mut len) = (x, shape.elements() as u64);
    let mut first = true;
    loop {
        let peaks = len.div_ceil(64);
        let last = peaks == 1;
        let into = match last {
            true => whole,
            false => builder.add_scratch(4 * peaks),
        };
        let kernel = kernel(
            "kronecker/fp4_peak",
            [part!("kronecker/fp4_peak.wgsl")],
            Spec::default().with("FIRST", first).with("LAST", last),
            PeakParams::FIELDS,
        );
        for at in (0..len).step_by(most.max(4096) as usize) {
            let count = most.max(4096).min(len - at);
            let params = PeakParams {
                len: count as u32,
                peaks: count.div_ceil(64) as u32,
                factor: rotation_factor(options),
                unit: tensor_unit(),
            };
            builder.steps.push(Step {
                kernel: kernel.clone(),
                bind: vec![
                    bound(from, at, count, 4, 1, false),
                    bound(into, at / 64, count.div_ceil(64), 4, 1, true),
                ],
                params: bytes_of(&params).to_vec(),
                groups: count.div_ceil(64).div_ceil(64),
                predicted_ms: 16.0 * count as f64 / (caps.gflops * 1e6),
            });
        }
        if last {
            return;
        }
        (from, len, first) = (into, peaks, false);
    }
}

/// One word of a slot.
fn word(slot: Slot) -> Bind {
    bound(slot, 0, 1, 4, 1, false)
}

/// Some items of a slot, of which `per` take so many bytes.
fn bound(slot: Slot, from: u64, items: u64, bytes: u64, per: u64, write: bool) -> Bind {
    let bytes = from * bytes / per..((from + items) * bytes / per).next_multiple_of(4);
    Bind { slot, bytes, write }
}

/// Words of codes that a dispatch has: some of those in its bindings.
struct Piece {
    from: u64,
    words: u64,
    groups: std::ops::Range<u64>,
    group_ms: f64,
}

/// Cuts words to bindings, at multiples that keep offsets aligned, and to dispatches.
fn pieces(words: u64, elements: u64, flops: f64, caps: &Caps) -> Vec<Piece> {
    let unit = 1024;
    let most = (caps.binding_bytes / (4 * elements) / unit * unit).max(unit);
    let group_ms = 64.0 * flops / (caps.gflops * 1e6);
    let groups = ((STEP_MS / group_ms) as u64).clamp(1, 1 << 24);
    let mut pieces = Vec::new();
    for from in (0..words).step_by(most as usize) {
        let words = most.min(words - from);
        let all = words.div_ceil(64);
        for start in (0..all).step_by(groups as usize) {
            pieces.push(Piece {
                from,
                words,
                groups: start..all.min(start + groups),
                group_ms,
            });
        }
    }
    pieces
}

impl Piece {
    fn step(&self, builder: &mut Builder, kernel: Arc<Kernel>, bind: Vec<Bind>, params: &[u8]) {
        let groups = self.groups.end - self.groups.start;
        builder.steps.push(Step {
            kernel,
            bind,
            params: params.to_vec(),
            groups,
            predicted_ms: self.group_ms * groups as f64,
        });
    }
}
