//! Kernel hashing: the reference against differences, the adapter against the reference.

use half::f16;
use subquad::{
    Error,
    gpu::{Caps, Dtype},
    hamming::{
        bits::words,
        cpu::kernel_hash as cpu,
        kernel_hash,
        kernel_hash::{Inputs, Outputs, Shape, Sigma, plan},
        kernel_hash_backward,
    },
};

use crate::{
    device::{Number, download, gpu, round, upload},
    ecoformer::{bytes, guarded, ratio, values},
};

fn shape([batch, heads, tokens, channels, anchors, bits]: [usize; 6], dtype: Dtype) -> Shape {
    Shape {
        batch,
        heads,
        tokens,
        channels,
        anchors,
        bits,
        dtype,
    }
}

/// x, anchors of about unit length, means of about what kernels have, weights.
fn problem<T: Number>(shape: &Shape, seed: u64) -> [Vec<f64>; 4] {
    let unit = (3.0 / shape.channels as f64).sqrt();
    let scaled = |len, seed, centre: f64, factor: f64| {
        let values = values(len, seed).into_iter();
        values.map(|x| centre + factor * x).collect::<Vec<f64>>()
    };
    [
        round::<T>(&scaled(shape.x_len(), seed, 0.0, 1.0)),
        round::<f32>(&scaled(shape.anchors_len(), seed + 1, 0.0, unit)),
        round::<f32>(&scaled(shape.mean_len(), seed + 2, 0.6, 0.1)),
        round::<f32>(&scaled(shape.weight_len(), seed + 3, 0.0, 1.0)),
    ]
}

fn inputs(tensors: &[Vec<f64>; 4]) -> cpu::Inputs<'_> {
    let [x, anchors, mean, weight] = tensors;
    cpu::Inputs {
        x,
        anchors,
        mean,
        weight,
    }
}

const SIGMAS: [Sigma; 2] = [Sigma::Frozen(1.7), Sigma::SequenceMean];

#[test]
fn gradients_of_the_reference_are_the_slopes_of_the_projection() {
    let shape = shape([2, 2, 5, 4, 3, 6], Dtype::F32);
    for sigma in SIGMAS {
        let mut tensors = problem::<f32>(&shape, 20);
        // Weights so large that some bits pass no gradient.
        tensors[3].iter_mut().for_each(|w| *w *= 9.0);
        let grad_h = values(shape.signs_len(), 30);
        let grad = cpu::backward(&shape, sigma, &inputs(&tensors), &grad_h).unwrap();
        let start = cpu::forward(&shape, sigma, &inputs(&tensors)).unwrap();
        let passes: Vec<bool> = start.projection.iter().map(|u| u.abs() < 1.0).collect();
        let passing = passes.iter().filter(|p| **p).count();
        assert!(passing > 20 && passing + 20 < passes.len());
        let loss = |tensors: &[Vec<f64>; 4]| {
            let u = cpu::forward(&shape, sigma, &inputs(tensors)).unwrap();
            let terms = u.projection.iter().zip(&grad_h).zip(&passes);
            terms
                .map(|((u, g), passes)| if *passes { u * g } else { 0.0 })
                .sum::<f64>()
        };
        for (at, grad) in grad.iter().enumerate() {
            let x = tensors[0][at];
            let step = 1e-5;
            tensors[0][at] = x + step;
            let up = loss(&tensors);
            tensors[0][at] = x - step;
            let down = loss(&tensors);
            tensors[0][at] = x;
            let slope = (up - down) / (2.0 * step);
            assert!(
                (slope - grad).abs() < 1e-7,
                "{sigma:?} {at}: {slope} {grad}"
            );
        }
    }
}

/// Words, projection and the gradient of x by the adapter's own plans.
fn on_device<T: Number>(
    shape: &Shape,
    sigma: Sigma,
    tensors: &[Vec<f64>; 4],
    grad_h: &[f64],
) -> (Vec<u32>, Vec<f64>, Vec<f64>) {
    let gpu = gpu();
    let [x, anchors, mean, weight] = tensors;
    let x = upload::<T>(x);
    let [anchors, mean, weight, grad_h] = [anchors, mean, weight, grad_h].map(upload::<f32>);
    let inputs = Inputs {
        x: &x,
        anchors: &anchors,
        mean: &mean,
        weight: &weight,
    };
    let mut words = gpu.upload(&vec![u32::MAX; shape.words_len()]).unwrap();
    let mut projection = gpu.upload(&vec![f32::NAN; shape.signs_len()]).unwrap();
    let mut grad_x = gpu.upload(&vec![f32::NAN; shape.x_len()]).unwrap();
    let outputs = Outputs {
        words: &mut words,
        projection: Some(&mut projection),
    };
    kernel_hash(gpu, shape, sigma, &inputs, outputs).unwrap();
    kernel_hash_backward(gpu, shape, sigma, &inputs, &grad_h, &mut grad_x).unwrap();
    (
        words.download().unwrap(),
        download(&projection),
        download(&grad_x),
    )
}

fn agrees<T: Number>(shape: &Shape, sigma: Sigma) {
    let tensors = problem::<T>(shape, 40);
    let grad_h = round::<f32>(&values(shape.signs_len(), 50));
    let (codes, projection, grad_x) = on_device::<T>(shape, sigma, &tensors, &grad_h);
    let expected = cpu::forward(shape, sigma, &inputs(&tensors)).unwrap();
    let grad = cpu::backward(shape, sigma, &inputs(&tensors), &grad_h).unwrap();
    let about = format!("{shape:?} {sigma:?}");
    let mut close = 0;
    for (at, (u, size)) in expected
        .projection
        .iter()
        .zip(&expected.magnitude)
        .enumerate()
    {
        assert!((projection[at] - u).abs() <= 1e-5 * size, "{about} {at}");
        let (row, r) = (at / shape.bits, at % shape.bits);
        let word = row * words(shape.bits) + r / 32;
        if u.abs() < 1e-5 * size {
            close += 1;
            continue;
        }
        let differs = (codes[word] ^ expected.words[word]) >> (r % 32) & 1;
        assert_eq!(differs, 0, "{about} {at}: {u}");
    }
    assert!(
        1000 * close <= expected.projection.len(),
        "{about}: {close}"
    );
    // Pads are zeros.
    let pads = shape.bits % 32;
    if pads > 0 {
        let mut last = codes
            .chunks(words(shape.bits))
            .map(|code| code[code.len() - 1]);
        assert!(last.all(|word| word >> pads == 0));
    }
    assert!(
        ratio(&grad_x, &grad) < 2e-5,
        "{about}: {}",
        ratio(&grad_x, &grad)
    );
}

#[test]
fn the_adapter_agrees_with_the_reference() {
    for sigma in SIGMAS {
        agrees::<f32>(&shape([2, 2, 130, 32, 25, 16], Dtype::F32), sigma);
        agrees::<f32>(&shape([1, 1, 50, 7, 9, 100], Dtype::F32), sigma);
        agrees::<f16>(&shape([1, 2, 60, 8, 6, 33], Dtype::F16), sigma);
    }
}

#[test]
fn with_a_frozen_sigma_a_prefix_has_the_codes_of_a_prefix() {
    let long = shape([1, 2, 100, 8, 6, 16], Dtype::F32);
    let short = Shape { tokens: 37, ..long };
    let tensors = problem::<f32>(&long, 60);
    let prefix = |x: &[f64], width: usize| -> Vec<f64> {
        let heads = x.chunks(long.tokens * width);
        heads
            .flat_map(|x| &x[..short.tokens * width])
            .copied()
            .collect()
    };
    let mut cut = tensors.clone();
    cut[0] = prefix(&tensors[0], 8);
    for (sigma, same) in [(Sigma::Frozen(1.2), true), (Sigma::SequenceMean, false)] {
        let grad = |shape: &Shape| vec![0.0; shape.signs_len()];
        let (_, whole, _) = on_device::<f32>(&long, sigma, &tensors, &grad(&long));
        let (_, part, _) = on_device::<f32>(&short, sigma, &cut, &grad(&short));
        assert_eq!(prefix(&whole, 16) == part, same);
    }
}

#[test]
fn odd_inputs_have_defined_codes() {
    // x: NaN, zero, tiny, infinite, and an anchor itself.
    let shape = shape([1, 1, 5, 4, 2, 3], Dtype::F32);
    let anchors = vec![1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0];
    let mut x = vec![0.0; 20];
    x[0] = f64::NAN;
    x[8] = 1e-14;
    x[12] = f64::INFINITY;
    x[16] = 3.0;
    let mean = vec![0.5, 0.5];
    // A bit that is always 1 elsewhere, one that is never, and one whose projection is 0.
    let weight = vec![2.0, 2.0, -2.0, -2.0, 0.0, 0.0];
    let tensors = [x, anchors, mean, weight];
    let (codes, projection, grad) =
        on_device::<f32>(&shape, Sigma::Frozen(2.0), &tensors, &[1.0; 15]);
    assert_eq!(codes[0], 0, "NaN");
    assert_eq!((codes[1], codes[2], codes[4]), (1, 1, 1));
    assert!(projection[3..9].iter().all(|u| u.is_finite()));
    let expected = cpu::backward(&shape, Sigma::Frozen(2.0), &inputs(&tensors), &[1.0; 15]);
    for n in [4, 5, 6, 7, 8, 9, 10, 11, 16, 17, 18, 19] {
        let expected = expected.as_ref().unwrap()[n];
        let scale = expected.abs().max(1e-6);
        assert!(
            (grad[n] - expected).abs() <= 1e-5 * scale,
            "{n}: {} {expected}",
            grad[n]
        );
    }
}

#[test]
fn small_budgets_take_heads_in_turns_with_the_same_result_and_spare_their_surroundings() {
    let shape = shape([1, 5, 70, 7, 6, 19], Dtype::F16);
    let [x, anchors, mean, weight] = problem::<f16>(&shape, 70);
    let grad = values(shape.signs_len(), 75);
    let rest = [anchors, mean, weight, grad].map(|x| bytes::<f32>(&x));
    let inputs: Vec<_> = [bytes::<f16>(&x)].into_iter().chain(rest).collect();
    let caps = Caps {
        scratch_bytes: 40 << 10,
        ..gpu().caps().clone()
    };
    for sigma in SIGMAS {
        for backward in [false, true] {
            let plans = [gpu().caps(), &caps].map(|caps| match backward {
                false => plan::forward(&shape, sigma, true, caps).unwrap(),
                true => plan::backward(&shape, sigma, caps).unwrap(),
            });
            let outputs = match backward {
                false => vec![4 * shape.words_len(), 4 * shape.signs_len()],
                true => vec![4 * shape.x_len()],
            };
            let count = if backward { 5 } else { 4 };
            // Two or three heads at a time.
            if backward {
                assert!(plans[0].steps.len() < plans[1].steps.len());
            }
            let [a, b] = plans.map(|plan| guarded(&plan, &inputs[..count], &outputs));
            assert_eq!(a, b);
        }
    }
}

#[test]
fn wrong_arguments_are_named() {
    let good = shape([1, 2, 10, 4, 3, 16], Dtype::F32);
    let refused =
        |shape: &Shape, sigma| match plan::forward(shape, sigma, true, &Caps::webgpu_floor()) {
            Err(Error::Argument { what, .. }) => what,
            other => panic!("{other:?}"),
        };
    for sigma in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        assert_eq!(refused(&good, Sigma::Frozen(sigma)), "sigma");
    }
    let mean = Sigma::SequenceMean;
    assert_eq!(refused(&Shape { bits: 0, ..good }, mean), "bits");
    assert_eq!(refused(&Shape { anchors: 0, ..good }, mean), "anchors");
    assert_eq!(
        refused(
            &Shape {
                channels: 0,
                ..good
            },
            mean
        ),
        "channels"
    );
    let dtype = Dtype::I32;
    assert_eq!(refused(&Shape { dtype, ..good }, mean), "dtype");
    let [x, anchors, ..] = problem::<f32>(&good, 80);
    let (x, anchors) = (upload::<f32>(&x), upload::<f32>(&anchors));
    let mut words = gpu().zeros(good.words_len()).unwrap();
    let inputs = Inputs {
        x: &x,
        anchors: &anchors,
        mean: &anchors,
        weight: &x,
    };
    let outputs = Outputs {
        words: &mut words,
        projection: None,
    };
    let refused = kernel_hash(gpu(), &good, mean, &inputs, outputs).unwrap_err();
    let words = refused.to_string();
    assert_eq!(
        words,
        "kernel_hash: mean must be 6 elements for this shape, got 24"
    );
}
