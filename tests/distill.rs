//! Distillation: the f64 reference against differences, the adapter against the reference.

#[path = "common/device.rs"]
#[allow(dead_code, reason = "each test takes what it needs")]
mod device;
#[path = "common/effort.rs"]
mod effort;

use device::gpu;
use effort::{by_turns, sample};
use half::{bf16, f16};
use subquad::{
    Error, Gpu,
    distill::{self, Gradients, Inputs, KEPT, Options, Outputs, Shape, cpu, plan},
    gpu::{Caps, Class, Dtype, Elem},
};

fn shape([batch, heads, tokens, key, features]: [usize; 5], dtype: Dtype) -> Shape {
    Shape {
        batch,
        heads,
        tokens,
        key,
        features,
        dtype,
    }
}

/// Numbers between -1 and 1.
fn values(len: usize, mut seed: u64) -> Vec<f64> {
    (0..len)
        .map(|_| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            f64::from((seed >> 40) as f32 / (1 << 23) as f32 - 1.0)
        })
        .collect()
}

/// q, k and non-negative features; some rows of features are 0, so that their products are floored.
fn problem(shape: &Shape) -> [Vec<f64>; 4] {
    let round = |values: Vec<f64>| -> Vec<f64> {
        let to = |x: f64| match shape.dtype {
            Dtype::F16 => f16::from_f64(x).to_f64(),
            Dtype::Bf16 => bf16::from_f64(x).to_f64(),
            _ => f64::from(x as f32),
        };
        values.into_iter().map(to).collect()
    };
    let features = |seed| -> Vec<f64> {
        let rows = values(shape.features_len(), seed);
        let row_of = |n: usize| n / shape.features;
        let rows = rows.iter().enumerate();
        rows.map(|(n, x)| if row_of(n) % 7 == 5 { 0.0 } else { x.abs() })
            .collect()
    };
    let keys = |seed| values(shape.key_len(), seed).into_iter().map(|x| 2.0 * x);
    [
        round(keys(1).collect()),
        round(keys(2).collect()),
        features(3),
        features(4),
    ]
}

fn inputs(tensors: &[Vec<f64>; 4]) -> cpu::Inputs<'_> {
    let [q, k, phi_q, phi_k] = tensors;
    cpu::Inputs { q, k, phi_q, phi_k }
}

fn options(causal: bool) -> Options {
    Options { causal, scale: 0.9 }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn ratio(got: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(got.len(), expected.len());
    let error: f64 = got
        .iter()
        .zip(expected)
        .map(|(a, b)| (f64::from(*a) - b).powi(2))
        .sum();
    let norm: f64 = expected.iter().map(|x| x * x).sum();
    let ratio = (error / norm.max(1e-30)).sqrt();
    if ratio.is_nan() { f64::INFINITY } else { ratio }
}

#[test]
fn gradients_of_the_reference_are_its_slopes() {
    for causal in [false, true] {
        let shape = shape([1, 2, 9, 3, 4], Dtype::F32);
        let mut tensors = problem(&shape);
        let grads = cpu::backward(&shape, &options(causal), &inputs(&tensors)).unwrap();
        let loss = |tensors: &[Vec<f64>; 4]| {
            mean(
                &cpu::forward(&shape, &options(causal), &inputs(tensors))
                    .unwrap()
                    .loss,
            )
        };
        for (n, grads) in [(2, grads.phi_q), (3, grads.phi_k)] {
            for (at, grad) in grads.iter().enumerate() {
                // Zeroed rows sit on the floor's corner, where the loss has no slope.
                if [2, 3].into_iter().any(|m| {
                    let row = at / shape.features;
                    m == n && tensors[m][row * shape.features] == 0.0
                }) {
                    assert_eq!(*grad, 0.0);
                    continue;
                }
                let x = tensors[n][at];
                let h = 1e-5;
                tensors[n][at] = x + h;
                let up = loss(&tensors);
                tensors[n][at] = x - h;
                let down = loss(&tensors);
                tensors[n][at] = x;
                let slope = (up - down) / (2.0 * h);
                assert!((slope - grad).abs() < 1e-8, "{n} {at}: {slope} {grad}");
            }
        }
    }
}

#[test]
fn divergence_is_zero_where_student_and_teacher_agree_and_positive_elsewhere() {
    let shape = shape([1, 2, 20, 4, 4], Dtype::F32);
    let [q, k, phi_q, phi_k] = problem(&shape);
    // Equal scores and equal products: both spread evenly.
    let even = [
        vec![0.0; q.len()],
        k.clone(),
        phi_q.clone(),
        vec![0.5; phi_k.len()],
    ];
    let out = cpu::forward(&shape, &options(false), &inputs(&even)).unwrap();
    for (loss, entropy) in out.loss.iter().zip(&out.entropy) {
        assert!((loss - entropy).abs() < 1e-12, "{loss} {entropy}");
        assert!((entropy - 20f64.ln()).abs() < 1e-12);
    }
    let out = cpu::forward(&shape, &options(false), &inputs(&[q, k, phi_q, phi_k])).unwrap();
    let rows = out.loss.iter().zip(&out.entropy);
    assert!(rows.clone().all(|(loss, entropy)| loss - entropy > -1e-12));
    assert!(rows.map(|(loss, entropy)| loss - entropy).sum::<f64>() > 1.0);
}

/// Loss, entropy and both gradients by the plans for these capabilities, from outputs that start as NaN.
fn on_device<T: Elem>(
    gpu: &Gpu,
    caps: &Caps,
    shape: &Shape,
    options: &Options,
    tensors: &[Vec<f64>; 4],
    store: impl Fn(f64) -> T,
    checked: bool,
) -> [Vec<f32>; 4] {
    let [q, k] = [0, 1].map(|n| {
        let stored: Vec<T> = tensors[n].iter().map(|x| store(*x)).collect();
        gpu.upload(&stored).unwrap()
    });
    let [phi_q, phi_k] = [2, 3].map(|n| {
        let stored: Vec<f32> = tensors[n].iter().map(|x| *x as f32).collect();
        gpu.upload(&stored).unwrap()
    });
    let nan = |len| gpu.upload(&vec![f32::NAN; len]).unwrap();
    let (mut loss, mut entropy) = (nan(shape.rows()), nan(shape.rows()));
    let mut rows = nan(KEPT * shape.rows());
    let (mut grad_q, mut grad_k) = (nan(shape.features_len()), nan(shape.features_len()));
    let views = [q.view(), k.view(), phi_q.view(), phi_k.view()];
    let mut pass = gpu.pass("distill");
    let forward = plan::forward(shape, options, caps).unwrap();
    let outputs = &mut [loss.view_mut(), entropy.view_mut(), rows.view_mut()];
    pass.run_checked(&forward, &views, outputs, checked)
        .unwrap();
    let backward = plan::backward(shape, options, caps).unwrap();
    let views = [views[0], views[1], views[2], views[3], rows.view()];
    let outputs = &mut [grad_q.view_mut(), grad_k.view_mut()];
    pass.run_checked(&backward, &views, outputs, checked)
        .unwrap();
    pass.submit().unwrap();
    [loss, entropy, grad_q, grad_k].map(|x| x.download().unwrap())
}

fn compare(gpu: &Gpu, caps: &Caps, shape: &Shape, causal: bool, checked: bool) {
    let options = options(causal);
    let tensors = problem(shape);
    let got = match shape.dtype {
        Dtype::F16 => on_device(gpu, caps, shape, &options, &tensors, f16::from_f64, checked),
        Dtype::Bf16 => on_device(
            gpu,
            caps,
            shape,
            &options,
            &tensors,
            bf16::from_f64,
            checked,
        ),
        _ => on_device(gpu, caps, shape, &options, &tensors, |x| x as f32, checked),
    };
    let rounded = tensors.map(|x| x.iter().map(|x| f64::from(*x as f32)).collect());
    let out = cpu::forward(shape, &options, &inputs(&rounded)).unwrap();
    let grads = cpu::backward(shape, &options, &inputs(&rounded)).unwrap();
    let expected = [out.loss, out.entropy, grads.phi_q, grads.phi_k];
    for ((name, bound), (got, expected)) in [
        ("loss", 1e-5),
        ("entropy", 1e-5),
        ("phi_q", 2e-5),
        ("phi_k", 2e-5),
    ]
    .into_iter()
    .zip(got.iter().zip(&expected))
    {
        let ratio = ratio(got, expected);
        println!("{shape:?} causal {causal} {name}: {ratio:.1e}");
        assert!(
            ratio <= bound,
            "{shape:?} causal {causal} checked {checked} {name}: {ratio:e}"
        );
    }
}

/// The device's own plan, and that with small tiles.
fn variants(gpu: &Gpu) -> [Caps; 2] {
    let own = gpu.caps().clone();
    let small = Caps {
        workgroup_bytes: 16 << 10,
        ..own.clone()
    };
    [own, small]
}

#[test]
fn results_match_the_reference_at_ragged_sizes() {
    let gpu = gpu();
    let sizes = [
        [2, 3, 33, 8, 12],
        [1, 2, 65, 16, 40],
        [1, 1, 130, 33, 7],
        [1, 2, 97, 20, 130],
        [2, 2, 200, 32, 64],
        [1, 1, 1, 1, 1],
    ];
    let [own, small] = variants(gpu);
    let ways = [
        (&own, Dtype::F32, true, true),
        (&own, Dtype::F32, false, false),
        (&own, Dtype::F16, true, false),
        (&own, Dtype::Bf16, false, false),
        (&small, Dtype::F32, true, false),
    ];
    for (n, sizes) in sample(sizes).enumerate() {
        for (caps, dtype, causal, checked) in by_turns(ways, n) {
            compare(gpu, caps, &shape(sizes, dtype), causal, checked);
        }
    }
    let packed = Caps {
        f16: false,
        ..gpu.caps().clone()
    };
    compare(
        gpu,
        &packed,
        &shape([1, 2, 65, 15, 12], Dtype::F16),
        true,
        false,
    );
}

#[test]
fn work_cut_in_heads_tokens_and_groups_gives_the_same() {
    let gpu = gpu();
    for (n, caps) in variants(gpu).into_iter().enumerate() {
        let cut = Caps {
            loop_iterations: 700,
            binding_bytes: 200 << 10,
            gflops: 1e-3,
            ..caps
        };
        for causal in by_turns([false, true], n) {
            let shape = shape([2, 3, 300, 16, 80], Dtype::F32);
            let plan = plan::backward(&shape, &options(causal), &cut).unwrap();
            assert!(plan.steps.len() > 12, "{}", plan.steps.len());
            compare(gpu, &cut, &shape, causal, false);
        }
    }
}

#[test]
fn long_sequences_and_large_scores_stay_exact() {
    let gpu = gpu();
    let shape = shape([1, 1, 3000, 8, 8], Dtype::F32);
    let mut tensors = problem(&shape);
    tensors[0].iter_mut().for_each(|x| *x *= 20.0);
    let options = options(true);
    let caps = gpu.caps().clone();
    let got = on_device(gpu, &caps, &shape, &options, &tensors, |x| x as f32, false);
    let rounded = tensors.map(|x| x.iter().map(|x| f64::from(*x as f32)).collect());
    let out = cpu::forward(&shape, &options, &inputs(&rounded)).unwrap();
    assert!(ratio(&got[0], &out.loss) <= 1e-5);
    let grads = cpu::backward(&shape, &options, &inputs(&rounded)).unwrap();
    for (got, expected) in [(&got[2], &grads.phi_q), (&got[3], &grads.phi_k)] {
        let ratio = ratio(got, expected);
        assert!(ratio <= 2e-5, "{ratio:e}");
    }
}

#[test]
fn runs_are_bit_equal_and_the_calls_are_the_plans() {
    let gpu = gpu();
    let shape = shape([1, 3, 150, 16, 24], Dtype::F32);
    let options = options(false);
    let tensors = problem(&shape);
    let caps = gpu.caps().clone();
    let run = || on_device(gpu, &caps, &shape, &options, &tensors, |x| x as f32, false);
    let bits = |all: &[Vec<f32>; 4]| all.concat().iter().map(|x| x.to_bits()).collect::<Vec<_>>();
    let first = run();
    assert_eq!(bits(&first), bits(&run()));

    let up = |n: usize| {
        let stored: Vec<f32> = tensors[n].iter().map(|x| *x as f32).collect();
        gpu.upload(&stored).unwrap()
    };
    let (q, k, phi_q, phi_k) = (up(0), up(1), up(2), up(3));
    let inputs = Inputs {
        q: &q,
        k: &k,
        phi_q: &phi_q,
        phi_k: &phi_k,
    };
    let zeros = |len| gpu.zeros::<f32>(len).unwrap();
    let (mut loss, mut entropy) = (zeros(shape.rows()), zeros(shape.rows()));
    let mut rows = zeros(KEPT * shape.rows());
    let (mut grad_q, mut grad_k) = (zeros(shape.features_len()), zeros(shape.features_len()));
    let outputs = Outputs {
        loss: &mut loss,
        entropy: &mut entropy,
        rows: &mut rows,
    };
    distill::forward(gpu, &shape, &options, &inputs, outputs).unwrap();
    let gradients = Gradients {
        phi_q: &mut grad_q,
        phi_k: &mut grad_k,
    };
    distill::backward(gpu, &shape, &options, &inputs, &rows, gradients).unwrap();
    let called = [loss, entropy, grad_q, grad_k].map(|x| x.download().unwrap());
    assert_eq!(bits(&first), bits(&called));

    // A tensor too short, and a type that is not the shape's.
    let short = zeros(3);
    let wrong = Inputs {
        k: &short,
        ..inputs
    };
    let mut out = [
        zeros(shape.rows()),
        zeros(shape.rows()),
        zeros(KEPT * shape.rows()),
    ];
    let [loss, entropy, rows] = &mut out;
    let refused = distill::forward(
        gpu,
        &shape,
        &options,
        &wrong,
        Outputs {
            loss,
            entropy,
            rows,
        },
    );
    assert!(matches!(refused, Err(Error::Argument { ref what, .. }) if what == "k"));
}

#[test]
fn plans_fit_every_preset() {
    for caps in Caps::presets() {
        for causal in [false, true] {
            for sizes in [[2, 12, 5000, 64, 128], [1, 1, 20_000, 512, 1000]] {
                let shape = shape(sizes, Dtype::F16);
                for plan in [plan::forward, plan::backward] {
                    let plan = plan(&shape, &options(causal), &caps).unwrap();
                    assert!(!plan.steps.is_empty());
                    let slowest = plan.steps.iter().map(|step| step.predicted_ms);
                    let one_group = plan.steps.iter().any(|step| step.groups == 1);
                    assert!(one_group || slowest.fold(0.0, f64::max) <= 100.0);
                }
            }
            let none = shape([1, 8, 0, 64, 64], Dtype::F32);
            assert!(
                plan::backward(&none, &options(causal), &caps)
                    .unwrap()
                    .steps
                    .is_empty()
            );
        }
    }
    let caps = Caps {
        class: Class::Other,
        ..Caps::webgpu_floor()
    };
    let long = shape([1, 1, 1 << 20, 64, 64], Dtype::F32);
    assert!(matches!(
        plan::forward(&long, &options(true), &caps),
        Err(Error::Limit { .. })
    ));
    for wrong in [
        shape([1, 1, 4, 0, 4], Dtype::F32),
        shape([1, 1, 4, 4, 4], Dtype::U32),
        shape([1 << 20, 1 << 20, 4, 4, 4], Dtype::F32),
    ] {
        assert!(plan::forward(&wrong, &options(true), &caps).is_err());
    }
    let nan = Options {
        causal: true,
        scale: f32::NAN,
    };
    assert!(plan::forward(&shape([1, 1, 4, 4, 4], Dtype::F32), &nan, &caps).is_err());
}
