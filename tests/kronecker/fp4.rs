//! Four-bit floats: codes exact by the tables, decoding, rotations, means of random rounding.

use subquad::{
    Error,
    case::Numbers,
    gpu::Caps,
    kronecker::{
        cpu,
        fp4::{self, Options, Quantized, Rotation, Rounding, Rule, ScaleFormat, Shape},
    },
    random::Random,
};

use crate::{cases::hold, device::gpu, devices::devices, effort::by_turns};

fn options(format: ScaleFormat, block: usize) -> Options {
    Options {
        block,
        format,
        rule: Rule::Up,
        rounding: Rounding::Nearest,
        rotation: None,
    }
}

fn through(shape: &Shape, options: &Options, back: bool, x: &[f32]) -> (Quantized, Vec<f32>) {
    let given = gpu().upload(x).unwrap();
    let mut quantized = Quantized::zeros(gpu(), shape, options).unwrap();
    fp4::quantize(gpu(), shape, options, &given, &mut quantized).unwrap();
    let mut decoded = gpu().zeros::<f32>(x.len()).unwrap();
    fp4::dequantize(gpu(), shape, options, back, &quantized, &mut decoded).unwrap();
    let decoded = decoded.download().unwrap();
    (quantized, decoded)
}

fn numbers(name: &str, len: usize) -> Vec<f32> {
    let mut numbers = Numbers::of(name);
    (0..len).map(|_| numbers.signed() as f32).collect()
}

#[test]
fn codes_and_scales_are_those_of_the_tables() {
    hold("fp4_quantize");
}

#[test]
fn decoding_gives_what_the_tables_give() {
    hold("fp4_dequantize");
}

#[test]
fn every_representable_number_comes_back() {
    let shape = Shape { rows: 1, width: 32 };
    for format in [ScaleFormat::E8m0, ScaleFormat::E4m3, ScaleFormat::Ue5m3] {
        for scale in [0.25f32, 1.0, 96.0] {
            let values = (0..32).map(|n| cpu::fp4::VALUES[n % 8] as f32 * scale);
            let x: Vec<f32> = values
                .enumerate()
                .map(|(n, x)| if n % 16 < 8 { x } else { -x })
                .collect();
            // A sixth of 6 · 0.25, of 6 and of 6 · 64 · 1.5; the last is no power of two.
            if format == ScaleFormat::E8m0 && scale == 96.0 {
                continue;
            }
            let (_, back) = through(&shape, &options(format, 32), false, &x);
            let near = back.iter().zip(&x).all(|(back, x)| match format {
                // The scale of the tensor has bits to spare.
                ScaleFormat::E4m3 => (back - x).abs() <= x.abs() * 1e-6,
                _ => back == x,
            });
            assert!(near, "{format:?} {scale}: {back:?}");
        }
    }
}

#[test]
fn blocks_with_nan_or_infinity_decode_to_nan_and_leave_the_others_alone() {
    let shape = Shape { rows: 2, width: 64 };
    for format in [ScaleFormat::E8m0, ScaleFormat::E4m3, ScaleFormat::Ue5m3] {
        let clean = numbers("poison", 128);
        let mut x = clean.clone();
        x[20] = f32::NAN;
        x[100] = f32::INFINITY;
        let options = options(format, 16);
        let (quantized, back) = through(&shape, &options, false, &x);
        let (_, expected) = through(&shape, &options, false, &clean);
        let scales = quantized.scales.download().unwrap();
        for (n, (back, expected)) in back.iter().zip(&expected).enumerate() {
            if [1, 6].contains(&(n / 16)) {
                assert!(back.is_nan() && scales[n / 16] == format.nan());
            } else {
                assert_eq!(back, expected, "{format:?} at {n}");
            }
        }
    }
}

#[test]
fn rounding_up_never_clips_and_random_rounding_has_the_right_mean() {
    // One row again and again: every copy draws its own words.
    let (copies, width) = (4000, 32);
    let row = numbers("means", width);
    let x = row.repeat(copies);
    let shape = Shape {
        rows: copies,
        width,
    };
    for format in [ScaleFormat::E8m0, ScaleFormat::E4m3, ScaleFormat::Ue5m3] {
        let options = Options {
            rounding: Rounding::Random(Random::new(17)),
            ..options(format, 16)
        };
        let (_, back) = through(&shape, &options, false, &x);
        for (i, x) in row.iter().enumerate() {
            let draws = back.iter().skip(i).step_by(width).map(|x| f64::from(*x));
            let n = copies as f64;
            let mean = draws.clone().sum::<f64>() / n;
            let variance = draws.map(|draw| (draw - mean).powi(2)).sum::<f64>() / n;
            // Where all draws are equal the number is a code's, or within the room that the scale of the tensor leaves.
            let room = (-21f64).exp2() * f64::from(x.abs());
            let bound = 5.0 * (variance / n).sqrt() + room;
            let error = (mean - f64::from(*x)).abs();
            assert!(error <= bound, "{format:?} at {i}: {error} {bound}");
        }
    }
}

/// Of the tables, which the device holds to: every seed is a draw.
#[test]
fn four_thousand_seeds_have_the_right_mean_with_and_without_a_rotation() {
    let shape = Shape { rows: 1, width: 32 };
    let row = numbers("seeds", 32);
    let signs = Random::new(6);
    for format in [ScaleFormat::E8m0, ScaleFormat::E4m3, ScaleFormat::Ue5m3] {
        for rotated in [false, true] {
            let rotation = rotated.then_some(Rotation {
                width: 32,
                signs: Some(signs),
            });
            let mut draws = vec![Vec::new(); 32];
            for seed in 0..4000 {
                let options = Options {
                    rounding: Rounding::Random(Random::new(seed)),
                    rotation,
                    ..options(format, 16)
                };
                let quantized = cpu::fp4::quantize(&shape, &options, &row).unwrap();
                let back = cpu::fp4::dequantize(&shape, &options, true, &quantized).unwrap();
                for (draws, x) in draws.iter_mut().zip(back) {
                    draws.push(x);
                }
            }
            for (i, (draws, x)) in draws.iter().zip(&row).enumerate() {
                let n = draws.len() as f64;
                let mean = draws.iter().sum::<f64>() / n;
                let variance = draws.iter().map(|draw| (draw - mean).powi(2)).sum::<f64>() / n;
                // The rotation is in f32, and so is the scale of the tensor.
                let room = (-21f64).exp2() * f64::from(x.abs().max(1.0));
                let error = (mean - f64::from(*x)).abs();
                let bound = 5.0 * (variance / n).sqrt() + room;
                assert!(
                    error <= bound,
                    "{format:?} {rotated} at {i}: {error} {bound}"
                );
            }
        }
    }
}

#[test]
fn rotations_keep_products_and_are_undone() {
    let (rows, width) = (4, 256);
    let shape = Shape { rows, width };
    let x = numbers("rotated", rows * width);
    let mut w = numbers("weights", rows * width);
    // An outlier in every row.
    w.iter_mut().step_by(97).for_each(|x| *x *= 30.0);
    for (n, rotation_width) in [16, 32, 64, 128].into_iter().enumerate() {
        for signs in by_turns([None, Some(Random::new(3))], n) {
            let options = Options {
                rotation: Some(Rotation {
                    width: rotation_width,
                    signs,
                }),
                ..options(ScaleFormat::Ue5m3, 16)
            };
            let (_, back) = through(&shape, &options, true, &w);
            let (_, rotated) = through(&shape, &options, false, &w);
            let (_, other) = through(&shape, &options, false, &x);
            let dot = |a: &[f32], b: &[f32]| -> f64 {
                let products = a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b));
                products.sum()
            };
            let norm = dot(&w, &w).sqrt();
            let error: f64 = w
                .iter()
                .zip(&back)
                .map(|(w, back)| f64::from(w - back).powi(2))
                .sum();
            // Halfway between 4 and 6 a number is off by a fifth.
            assert!(error.sqrt() < 0.2 * norm, "{rotation_width} {signs:?}");
            // The rotated operands have the product of the operands, but for what rounding does to them.
            let product = dot(&x, &w) - dot(&other, &rotated);
            assert!(product.abs() < 0.2 * norm * dot(&x, &x).sqrt());
            assert!((dot(&rotated, &rotated) - dot(&back, &back)).abs() < 1e-5 * norm * norm);
        }
    }
}

#[test]
fn codes_do_not_depend_on_how_the_tensor_is_cut() {
    let shape = Shape {
        rows: 40,
        width: 1024,
    };
    let x = numbers("cut", shape.elements());
    let options = Options {
        rounding: Rounding::Random(Random::new(1)),
        ..options(ScaleFormat::E4m3, 16)
    };
    let reference = cpu::fp4::quantize(&shape, &options, &x).unwrap();
    for caps in devices() {
        let small = Caps {
            binding_bytes: 64 << 10,
            gflops: 1e-2,
            ..caps.clone()
        };
        let mut steps = Vec::new();
        for caps in [&caps, &small] {
            let plan = fp4::plan_quantize(&shape, &options, caps).unwrap();
            let given = gpu().upload(&x).unwrap();
            let mut out = Quantized::zeros(gpu(), &shape, &options).unwrap();
            let mut pass = gpu().pass("cut");
            let outputs = &mut [
                out.codes.view_mut(),
                out.scales.view_mut(),
                out.tensor_scale.view_mut(),
            ];
            pass.run(&plan, &[given.view()], outputs).unwrap();
            pass.submit().unwrap();
            steps.push(plan.steps.len());
            assert_eq!(out.codes.download().unwrap(), reference.codes);
            assert_eq!(out.scales.download().unwrap(), reference.scales);
        }
        assert!(steps[1] > steps[0] + 2);
    }
}

#[test]
fn wrong_arguments_are_refused_in_a_sentence() {
    let caps = Caps::webgpu_floor();
    let says = |shape: [usize; 2], options: &Options, sentence: &str| {
        let [rows, width] = shape;
        let plan = fp4::plan_quantize(&Shape { rows, width }, options, &caps);
        assert_eq!(plan.unwrap_err().to_string(), sentence);
    };
    let plain = options(ScaleFormat::Ue5m3, 16);
    says(
        [1, 24],
        &plain,
        "fp4_quantize: width must be a multiple of 16, got 24",
    );
    says(
        [1, 0],
        &plain,
        "fp4_quantize: width must be a multiple of 16, got 0",
    );
    says(
        [1 << 20, 1 << 20],
        &plain,
        "fp4_quantize: rows must be such that there are at most 2^32 numbers, got 1048576",
    );
    says(
        [1, 64],
        &options(ScaleFormat::E4m3, 8),
        "fp4_quantize: block must be 16 or 32, got 8",
    );
    let ocp = Options {
        rule: Rule::Ocp,
        ..plain
    };
    says(
        [1, 64],
        &ocp,
        "fp4_quantize: rule must be Up or Nearest where scales are not E8m0, got Ocp with Ue5m3",
    );
    let rotated = |width| Options {
        rotation: Some(Rotation { width, signs: None }),
        ..plain
    };
    says(
        [1, 64],
        &rotated(8),
        "fp4_quantize: rotation must be 16, 32, 64 or 128 wide, got 8",
    );
    says(
        [1, 32],
        &rotated(64),
        "fp4_quantize: width must be a multiple of 64, got 32",
    );
    let shape = Shape { rows: 1, width: 16 };
    let mut quantized = Quantized::zeros(gpu(), &shape, &plain).unwrap();
    let x = gpu().zeros::<f32>(15).unwrap();
    let result = fp4::quantize(gpu(), &shape, &plain, &x, &mut quantized);
    assert!(matches!(result, Err(Error::Argument { what, .. }) if what == "x"));
}
