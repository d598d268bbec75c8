//! EcoFormer's attention: the reference against explicit weights and differences, the adapter against both.

use half::{bf16, f16};
use subquad::{
    Error, Gpu,
    gpu::{Caps, Dtype},
    hamming::{
        bits::words,
        cpu::ecoformer as cpu,
        ecoformer::{Gradients, Inputs, Normalizer, Options, Shape, plan},
        ecoformer_attention, ecoformer_attention_backward,
    },
    plan::Plan,
};

use crate::{
    device::{Number, download, gpu, round, upload},
    effort::sample,
};

/// Numbers between -1 and 1, the same in every run.
pub fn values(len: usize, seed: u64) -> Vec<f64> {
    let words = random_words(len, seed).into_iter();
    words
        .map(|x| f64::from(x >> 8) / f64::from(1 << 23) - 1.0)
        .collect()
}

pub fn random_words(len: usize, mut seed: u64) -> Vec<u32> {
    (0..len)
        .map(|_| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (seed >> 32) as u32
        })
        .collect()
}

/// Root-mean-square error, relative.
pub fn ratio(got: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(got.len(), expected.len());
    let both = got.iter().zip(expected);
    let error: f64 = both.map(|(a, b)| (a - b) * (a - b)).sum();
    let norm: f64 = expected.iter().map(|x| x * x).sum();
    let ratio = (error / norm.max(1e-30)).sqrt();
    if ratio.is_nan() { f64::INFINITY } else { ratio }
}

fn shape([batch, heads, tokens, value, bits]: [usize; 5], dtype: Dtype) -> Shape {
    Shape {
        batch,
        heads,
        tokens,
        value,
        bits,
        dtype,
    }
}

fn all_options(bits: usize) -> Vec<Options> {
    let mut all = Vec::new();
    for normalizer in [Normalizer::Exact, Normalizer::Released] {
        for causal in [false, true] {
            for offset in [bits as f32 + 1.0, bits as f32 + 2.25] {
                all.push(Options {
                    offset,
                    normalizer,
                    causal,
                });
            }
        }
    }
    all
}

/// Outputs for signs that need not be ±1, by explicit weights: the formula itself.
fn explicit(shape: &Shape, options: &Options, h: &[f64], v: &[f64]) -> Vec<f64> {
    let Shape {
        tokens,
        value,
        bits,
        ..
    } = *shape;
    let c = f64::from(options.offset);
    let mut out = Vec::new();
    for head in 0..shape.heads_len() {
        for i in 0..tokens {
            let seen = if options.causal { i + 1 } else { tokens };
            let row = |t: usize| &h[(head * tokens + t) * bits..][..bits];
            let score = |j: usize| {
                let both = row(i).iter().zip(row(j));
                both.map(|(a, b)| a * b).sum::<f64>()
            };
            let den: f64 = (0..seen).map(|j| score(j) + c).sum();
            for n in 0..value {
                let v = |t: usize| v[(head * tokens + t) * value + n];
                let sum: f64 = match options.normalizer {
                    Normalizer::Exact => (0..seen).map(|j| (score(j) + c) * v(j)).sum(),
                    Normalizer::Released => {
                        (0..seen).map(|j| score(j) * v(j)).sum::<f64>() + c * v(i)
                    }
                };
                out.push(sum / den);
            }
        }
    }
    out
}

fn signs(shape: &Shape, codes: &[u32]) -> Vec<f64> {
    let sign = |code: &[u32], r: usize| f64::from(code[r / 32] >> (r % 32) & 1) * 2.0 - 1.0;
    let codes = codes.chunks(words(shape.bits));
    codes
        .flat_map(|code| (0..shape.bits).map(move |r| sign(code, r)))
        .collect()
}

#[test]
fn the_reference_is_the_sum_over_explicit_weights() {
    for bits in [1, 16, 33] {
        let shape = shape([2, 2, 23, 3, bits], Dtype::F32);
        let codes = random_words(shape.codes_len(), 1);
        let v = values(shape.value_len(), 2);
        for options in all_options(bits) {
            let out = cpu::forward(&shape, &options, &codes, &v).unwrap();
            let expected = explicit(&shape, &options, &signs(&shape, &codes), &v);
            for (a, b) in out.o.iter().zip(&expected) {
                assert!((a - b).abs() < 1e-12, "{options:?}: {a} {b}");
            }
            assert!(out.o.iter().zip(&out.magnitude).all(|(o, m)| o.abs() <= *m));
        }
    }
}

#[test]
fn gradients_of_the_reference_are_the_slopes_of_explicit_weights() {
    let shape = shape([1, 2, 9, 3, 5], Dtype::F32);
    let codes = random_words(shape.codes_len(), 3);
    let grad_o = values(shape.value_len(), 5);
    for options in all_options(shape.bits) {
        let mut tensors = [signs(&shape, &codes), values(shape.value_len(), 4)];
        let grads = cpu::backward(&shape, &options, &codes, &tensors[1], &grad_o).unwrap();
        let loss = |[h, v]: &[Vec<f64>; 2]| {
            let o = explicit(&shape, &options, h, v);
            o.iter().zip(&grad_o).map(|(o, g)| o * g).sum::<f64>()
        };
        for (n, grads) in [grads.h, grads.v].into_iter().enumerate() {
            for (at, grad) in grads.iter().enumerate() {
                let x = tensors[n][at];
                let step = 1e-5;
                tensors[n][at] = x + step;
                let up = loss(&tensors);
                tensors[n][at] = x - step;
                let down = loss(&tensors);
                tensors[n][at] = x;
                let slope = (up - down) / (2.0 * step);
                assert!((slope - grad).abs() < 1e-8, "{n} {at}: {slope} {grad}");
            }
        }
    }
}

/// o, dv and dh by the adapter's own plans.
fn on_device<T: Number>(
    shape: &Shape,
    options: &Options,
    codes: &[u32],
    v: &[f64],
    grad_o: &[f64],
) -> [Vec<f64>; 3] {
    let gpu: &Gpu = gpu();
    let codes = gpu.upload(codes).unwrap();
    let (v, grad_o) = (upload::<T>(v), upload::<T>(grad_o));
    let mut o = gpu.upload(&vec![T::from(f64::NAN); v.len()]).unwrap();
    let inputs = Inputs {
        codes: &codes,
        v: &v,
    };
    ecoformer_attention(gpu, shape, options, &inputs, &mut o).unwrap();
    let nan = |len: usize| gpu.upload(&vec![f32::NAN; len]).unwrap();
    let (mut grad_v, mut grad_h) = (nan(shape.value_len()), nan(shape.signs_len()));
    let gradients = Gradients {
        v: &mut grad_v,
        h: &mut grad_h,
    };
    ecoformer_attention_backward(gpu, shape, options, &inputs, &grad_o, gradients).unwrap();
    [download(&o), download(&grad_v), download(&grad_h)]
}

fn agrees<T: Number>(shape: &Shape, options: &Options, tolerance: f64) {
    let codes = random_words(shape.codes_len(), 6);
    let v = round::<T>(&values(shape.value_len(), 7));
    let grad_o = round::<T>(&values(shape.value_len(), 8));
    let [o, grad_v, grad_h] = on_device::<T>(shape, options, &codes, &v, &grad_o);
    let expected = cpu::forward(shape, options, &codes, &v).unwrap();
    let grads = cpu::backward(shape, options, &codes, &v, &grad_o).unwrap();
    let about = format!("{shape:?} {options:?}");
    assert!(ratio(&o, &expected.o) < tolerance, "o of {about}");
    assert!(ratio(&grad_v, &grads.v) < 2e-5, "dv of {about}");
    assert!(ratio(&grad_h, &grads.h) < 2e-5, "dh of {about}");
}

#[test]
fn the_adapter_agrees_in_every_option_and_type() {
    for options in sample(all_options(16)) {
        agrees::<f32>(&shape([1, 2, 150, 12, 16], Dtype::F32), &options, 1e-5);
    }
    for options in sample(all_options(70).into_iter().skip(1).step_by(3)) {
        agrees::<f32>(&shape([2, 1, 133, 6, 70], Dtype::F32), &options, 1e-5);
        agrees::<f16>(&shape([1, 2, 70, 5, 70], Dtype::F16), &options, 1e-3);
        agrees::<bf16>(&shape([1, 2, 70, 8, 70], Dtype::Bf16), &options, 4e-3);
    }
}

#[test]
fn errors_stay_within_the_bound_of_explicit_weights() {
    for bits in [1, 16, 64] {
        let shape = shape([1, 1, 500, 4, bits], Dtype::F32);
        // All of one sign: sums grow as long as they can.
        let v: Vec<f64> = round::<f32>(&values(shape.value_len(), 9));
        let v: Vec<f64> = v.into_iter().map(f64::abs).collect();
        let codes = random_words(shape.codes_len(), 10);
        for options in sample(all_options(bits)) {
            let [o, ..] = on_device::<f32>(&shape, &options, &codes, &v, &v);
            let expected = explicit(&shape, &options, &signs(&shape, &codes), &v);
            let magnitude = cpu::forward(&shape, &options, &codes, &v)
                .unwrap()
                .magnitude;
            let unit = 2f64.powi(-24) * 4.0 * (bits as f64 + (shape.tokens as f64).log2());
            for ((o, x), m) in o.iter().zip(&expected).zip(&magnitude) {
                assert!((o - x).abs() <= unit * m, "{options:?}: {o} {x}");
            }
        }
    }
}

#[test]
fn integer_values_and_offsets_are_exact_up_to_the_division() {
    let shape = shape([1, 2, 300, 5, 16], Dtype::F32);
    let codes = random_words(shape.codes_len(), 11);
    let v: Vec<f64> = values(shape.value_len(), 12)
        .into_iter()
        .map(|x| (20.0 * x).round())
        .collect();
    let whole = all_options(16).into_iter();
    for options in sample(whole.filter(|o| o.offset.fract() == 0.0)) {
        let [o, ..] = on_device::<f32>(&shape, &options, &codes, &v, &v);
        let expected = explicit(&shape, &options, &signs(&shape, &codes), &v);
        for (o, x) in o.iter().zip(&expected) {
            // WebGPU's division: 2.5 units in the last place.
            assert!((o - x).abs() <= 3.0 * 2f64.powi(-24) * x.abs(), "{o} {x}");
        }
    }
}

#[test]
fn the_released_normaliser_adds_the_token_itself() {
    let shape = shape([1, 1, 90, 4, 16], Dtype::F32);
    let codes = random_words(shape.codes_len(), 13);
    let v = values(shape.value_len(), 14);
    let h = signs(&shape, &codes);
    let exact = Options::new(16);
    let released = Options {
        normalizer: Normalizer::Released,
        ..exact
    };
    let a = cpu::forward(&shape, &exact, &codes, &v).unwrap().o;
    let b = cpu::forward(&shape, &released, &codes, &v).unwrap().o;
    let (n, c) = (shape.tokens, 17.0);
    for i in 0..n {
        let dot = |j: usize| (0..16).map(|r| h[i * 16 + r] * h[j * 16 + r]).sum::<f64>();
        let den: f64 = (0..n).map(|j| dot(j) + c).sum();
        for k in 0..4 {
            let total: f64 = (0..n).map(|j| v[j * 4 + k]).sum();
            let moved = a[i * 4 + k] - c * total / den + c * v[i * 4 + k] / den;
            assert!((moved - b[i * 4 + k]).abs() < 1e-12);
        }
    }
}

#[test]
fn causal_outputs_ignore_later_tokens_and_pads_ignore_everything() {
    let shape = shape([1, 1, 200, 8, 20], Dtype::F32);
    let options = Options {
        causal: true,
        ..Options::new(20)
    };
    let mut codes = random_words(shape.codes_len(), 15);
    let mut v = values(shape.value_len(), 16);
    let [before, ..] = on_device::<f32>(&shape, &options, &codes, &v, &v);
    let cut = 77;
    for code in &mut codes[cut..] {
        *code = !*code;
    }
    // Pads of earlier tokens, too.
    for code in &mut codes[..cut] {
        *code ^= 0xfff0_0000;
    }
    v[cut * 8..].fill(1e6);
    let [after, ..] = on_device::<f32>(&shape, &options, &codes, &v, &v);
    assert_eq!(before[..cut * 8], after[..cut * 8]);
    assert_ne!(before, after);
    // The first token sees itself alone.
    for (o, v) in before.iter().zip(&round::<f32>(&v[..8])) {
        assert!((o - v).abs() <= 4e-7 * v.abs());
    }
}

#[test]
fn one_column_of_ones_gives_ones() {
    let shape = shape([1, 3, 333, 1, 16], Dtype::F32);
    let codes = random_words(shape.codes_len(), 17);
    let ones = vec![1.0; shape.value_len()];
    for causal in [false, true] {
        let options = Options {
            causal,
            ..Options::new(16)
        };
        let [o, ..] = on_device::<f32>(&shape, &options, &codes, &ones, &ones);
        assert!(o.iter().all(|o| (o - 1.0).abs() < 2e-7));
    }
}

/// Runs a plan without run-time checks, on tensors between guards that must survive; outputs start as ones in every bit.
pub fn guarded(plan: &Plan, inputs: &[Vec<u8>], outputs: &[usize]) -> Vec<Vec<u8>> {
    let gpu = gpu();
    let buffer = |bytes: &[u8]| {
        let mut all = vec![0xa5; 512 + bytes.len().next_multiple_of(256)];
        all[256..256 + bytes.len()].copy_from_slice(bytes);
        gpu.upload(&all).unwrap().into_buffer()
    };
    let wrap = |buffer, len| gpu.wrap::<u8>(buffer, 256, len).unwrap();
    let inputs: Vec<_> = inputs.iter().map(|x| wrap(buffer(x), x.len())).collect();
    let buffers: Vec<_> = outputs
        .iter()
        .map(|len| buffer(&vec![0xff; *len]))
        .collect();
    let lengths = outputs.iter().copied();
    let mut written: Vec<_> = buffers
        .iter()
        .cloned()
        .zip(lengths)
        .map(|(buffer, len)| wrap(buffer, len))
        .collect();
    let mut pass = gpu.pass("guards");
    let views: Vec<_> = inputs.iter().map(|x| x.view()).collect();
    let mut out: Vec<_> = written.iter_mut().map(|x| x.view_mut()).collect();
    pass.run_checked(plan, &views, &mut out, false).unwrap();
    pass.submit().unwrap();
    let all = buffers.into_iter().zip(outputs).map(|(buffer, len)| {
        let size = buffer.size() as usize;
        let all = gpu.wrap::<u8>(buffer, 0, size).unwrap().download().unwrap();
        // Storage is written by whole words.
        let end = 256 + len.next_multiple_of(4);
        let around = all[..256].iter().chain(&all[end..]);
        assert!(around.copied().all(|byte| byte == 0xa5), "{}", plan.label);
        all[256..256 + len].to_vec()
    });
    all.collect()
}

pub fn bytes<T: Number>(values: &[f64]) -> Vec<u8> {
    let values: Vec<T> = values.iter().map(|x| T::from(*x)).collect();
    bytemuck::cast_slice(&values).to_vec()
}

fn plans_agree<T: Number>(shape: &Shape, options: &Options) {
    let codes = random_words(shape.codes_len(), 18);
    let [v, grad] = [19, 20].map(|seed| bytes::<T>(&values(shape.value_len(), seed)));
    let inputs = [bytemuck::cast_slice(&codes).to_vec(), v, grad];
    type Planner = fn(&Shape, &Options, &Caps) -> subquad::Result<Plan>;
    let kinds: [(Planner, usize, Vec<usize>); 2] = [
        (plan::forward, 2, vec![inputs[1].len()]),
        (
            plan::backward,
            3,
            vec![4 * shape.value_len(), 4 * shape.signs_len()],
        ),
    ];
    for (planner, count, outputs) in kinds {
        let whole = planner(shape, options, gpu().caps()).unwrap();
        // Not enough for all heads at a time.
        let caps = Caps {
            scratch_bytes: whole.scratch_bytes() * 4 / 5,
            ..gpu().caps().clone()
        };
        let plans = [whole, planner(shape, options, &caps).unwrap()];
        assert!(plans[0].steps.len() < plans[1].steps.len());
        let [a, b] = plans.map(|plan| guarded(&plan, &inputs[..count], &outputs));
        assert_eq!(a, b);
    }
}

#[test]
fn small_budgets_take_heads_in_turns_with_the_same_result_and_spare_their_surroundings() {
    for options in sample(all_options(16).iter().skip(1).step_by(2)) {
        plans_agree::<f32>(&shape([2, 3, 140, 8, 16], Dtype::F32), options);
        plans_agree::<f16>(&shape([1, 5, 77, 7, 16], Dtype::F16), options);
    }
}

#[test]
fn wrong_arguments_are_named() {
    let good = shape([1, 2, 10, 4, 16], Dtype::F32);
    let options = Options::new(16);
    let change = |change: &dyn Fn(&mut Shape, &mut Options)| {
        let (mut shape, mut options) = (good, options);
        change(&mut shape, &mut options);
        match plan::forward(&shape, &options, &Caps::webgpu_floor()) {
            Err(Error::Argument { what, .. }) => what,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(change(&|_, o| o.offset = 16.0), "offset");
    assert_eq!(change(&|_, o| o.offset = f32::NAN), "offset");
    assert_eq!(change(&|s, _| s.bits = 0), "bits");
    assert_eq!(change(&|s, _| s.bits = 1025), "bits");
    assert_eq!(change(&|s, _| s.value = 0), "value");
    assert_eq!(change(&|s, _| s.dtype = Dtype::U32), "dtype");
    assert_eq!(change(&|s, _| s.tokens = 1 << 30), "tokens");
    assert_eq!(change(&|s, _| s.batch = 1 << 40), "shape");
    let gpu = gpu();
    let v = upload::<f32>(&values(good.value_len(), 1));
    let codes = gpu.upload(&[0u32; 19]).unwrap();
    let inputs = Inputs {
        codes: &codes,
        v: &v,
    };
    let mut o = gpu.zeros::<f32>(v.len()).unwrap();
    let refused = ecoformer_attention(gpu, &good, &options, &inputs, &mut o).unwrap_err();
    let words = refused.to_string();
    assert_eq!(
        words,
        "ecoformer_attention: codes must be 20 elements for this shape, got 19"
    );
    // One head that no binding takes.
    let long = shape([1, 1, 1 << 23, 64, 16], Dtype::F32);
    let refused = plan::forward(&long, &options, &Caps::webgpu_floor());
    assert!(matches!(refused, Err(Error::Limit { .. })));
}
