//! Softmax attention on the adapter against its f64 reference.
#![cfg(feature = "cli")]

#[path = "common/device.rs"]
#[allow(dead_code, reason = "each test takes what it needs")]
mod device;
#[path = "common/effort.rs"]
mod effort;

use device::gpu;
use effort::{by_turns, sample};
use subquad::{
    Gpu,
    gpu::{Caps, Class, Dtype},
    linear::{Layout, Shape},
    softmax,
};

fn shape([batch, heads, tokens, key, value]: [usize; 5], layout: Layout) -> Shape {
    Shape {
        batch,
        tokens,
        heads,
        kv_heads: heads,
        key,
        value,
        layout,
        dtype: Dtype::F32,
    }
}

fn values(len: usize, mut seed: u64) -> Vec<f32> {
    (0..len)
        .map(|_| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (seed >> 40) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|x| f64::from(*x)).collect()
}

/// RMSE ratio of a plan's result, from outputs that start as NaN.
fn ratio(gpu: &Gpu, caps: &Caps, shape: &Shape, scale: f32, causal: bool, checked: bool) -> f64 {
    let plan = softmax::attention(shape, scale, causal, caps).unwrap();
    let [q, k, v] = [
        values(shape.query_len(), 1),
        values(shape.query_len(), 2),
        values(shape.output_len(), 3),
    ];
    let on_device = [&q, &k, &v].map(|x| gpu.upload(x).unwrap());
    let mut o = gpu.upload(&vec![f32::NAN; shape.output_len()]).unwrap();
    let views: Vec<_> = on_device.iter().map(|x| x.view()).collect();
    let mut pass = gpu.pass("softmax");
    pass.run_checked(&plan, &views, &mut [o.view_mut()], checked)
        .unwrap();
    pass.submit().unwrap();
    let got = o.download().unwrap();
    let expected = softmax::cpu(shape, scale, causal, &wide(&q), &wide(&k), &wide(&v)).unwrap();
    let error: f64 = got
        .iter()
        .zip(&expected)
        .map(|(a, b)| (f64::from(*a) - b).powi(2))
        .sum();
    let norm: f64 = expected.iter().map(|x| x * x).sum();
    (error / norm.max(1e-300)).sqrt()
}

/// The device's own plan, and the GPU plans with large and small tiles, which run on every device.
fn variants(gpu: &Gpu) -> Vec<Caps> {
    let own = gpu.caps().clone();
    let tiles = Caps {
        class: Class::Other,
        ..own.clone()
    };
    let small = Caps {
        workgroup_bytes: 16 << 10,
        ..tiles.clone()
    };
    vec![own, tiles, small]
}

#[test]
fn results_match_the_reference_at_ragged_sizes() {
    let gpu = gpu();
    let sizes = [
        [1, 2, 1, 4, 4],
        [2, 3, 33, 8, 12],
        [1, 2, 65, 16, 40],
        [1, 1, 130, 33, 7],
        [1, 2, 97, 100, 60],
        [1, 1, 70, 20, 300],
        [2, 1, 200, 64, 64],
    ];
    let ways = [
        (Layout::Bthd, true, true),
        (Layout::Bthd, true, false),
        (Layout::Bhtd, true, false),
        (Layout::Bthd, false, false),
    ];
    let variants = variants(gpu);
    for (n, sizes) in sample(sizes.into_iter().enumerate()) {
        for caps in by_turns(&variants, n) {
            for (layout, causal, checked) in by_turns(ways, n) {
                let shape = shape(sizes, layout);
                let ratio = ratio(gpu, caps, &shape, 0.7, causal, checked);
                assert!(
                    ratio <= 5e-6,
                    "{shape:?} causal {causal} checked {checked}: {ratio:e}"
                );
            }
        }
    }
}

#[test]
fn large_scores_and_keys_cut_into_dispatches_stay_exact() {
    let gpu = gpu();
    for caps in variants(gpu) {
        for (sizes, scale) in [([1, 1, 2100, 64, 32], 4.0), ([1, 2, 300, 512, 20], 1.0)] {
            let shape = shape(sizes, Layout::Bhtd);
            let ratio = ratio(gpu, &caps, &shape, scale, true, false);
            assert!(ratio <= 5e-6, "{shape:?}: {ratio:e}");
        }
    }
}

#[test]
fn plans_fit_every_preset_and_bind_within_limits() {
    for caps in Caps::presets() {
        for causal in [true, false] {
            for layout in [Layout::Bthd, Layout::Bhtd] {
                softmax::attention(&shape([2, 3, 5000, 512, 512], layout), 1.0, causal, &caps)
                    .unwrap();
                let plan =
                    softmax::attention(&shape([1, 8, 0, 64, 64], layout), 1.0, causal, &caps);
                assert!(plan.unwrap().steps.is_empty());
            }
        }
        let long = shape([1, 64, 131_072, 64, 64], Layout::Bhtd);
        let plan = softmax::attention(&long, 1.0, true, &caps).unwrap();
        assert!(plan.steps.len() > 1, "{}", caps.name);
    }
    let mut wrong = shape([1, 1, 8, 8, 8], Layout::Bthd);
    assert!(softmax::attention(&wrong, f32::NAN, true, &Caps::nvidia()).is_err());
    wrong.dtype = Dtype::U32;
    assert!(softmax::attention(&wrong, 1.0, true, &Caps::nvidia()).is_err());
    let huge = shape([1, 64, 131_072, 64, 64], Layout::Bthd);
    assert!(softmax::attention(&huge, 1.0, true, &Caps::webgpu_floor()).is_err());
}
