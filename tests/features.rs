//! Feature maps: the CPU reference against the formulas and finite differences, kernels on the adapter against the reference.

#[path = "common/device.rs"]
mod device;

#[path = "common/effort.rs"]
mod effort;

use device::{Number, download, gpu, round, upload};
use effort::by_turns;
use half::{bf16, f16};
use subquad::{
    Error, Tensor,
    gpu::{Caps, Dtype},
    linear::{
        FeatureGradients, FeatureInputs, FeatureMap, FeatureShape, Layout, Options, Shape, cpu,
        features, features as maps, features_adjoint,
    },
    plan::Step,
};

struct Random(u64);

impl Random {
    /// In (0, 1).
    fn unit(&mut self) -> f64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 40) as f64 + 0.5) / f64::from(1 << 24)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.unit() * n as f64) as usize
    }

    /// Of either sign, away from 0, where maps have kinks.
    fn values(&mut self, len: usize) -> Vec<f64> {
        let mut value = |_| (0.1 + 0.9 * self.unit()) * if self.unit() < 0.5 { -1.0 } else { 1.0 };
        (0..len).map(&mut value).collect()
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn shape(batch: usize, tokens: usize, heads: usize, key: usize, layout: Layout) -> FeatureShape {
    FeatureShape {
        batch,
        tokens,
        heads,
        key,
        layout,
        dtype: Dtype::F32,
    }
}

/// A call that owns its tensors, and the gradient handed to φ(x).
#[derive(Clone, Debug)]
struct Call {
    shape: FeatureShape,
    map: FeatureMap,
    x: Vec<f64>,
    weight: Option<Vec<f64>>,
    bias: Option<Vec<f64>>,
    grad: Vec<f64>,
}

impl Call {
    /// `sets` of weights, where the map has weights: 1 or one a head.
    fn random(random: &mut Random, shape: FeatureShape, map: FeatureMap, own: bool) -> Call {
        let sets = if own { shape.heads } else { 1 };
        let each = map.weight_len(shape.key);
        Call {
            x: random.values(shape.rows() * shape.key),
            weight: each.map(|each| random.values(sets * each)),
            bias: each
                .filter(|_| own || random.unit() < 0.7)
                .map(|_| random.values(sets * shape.key)),
            grad: random.values(shape.rows() * map.width(shape.key)),
            shape,
            map,
        }
    }

    fn forward(&self) -> Vec<f64> {
        let (weight, bias) = (self.weight.as_deref(), self.bias.as_deref());
        cpu::features(&self.shape, self.map, &self.x, weight, bias).unwrap()
    }

    fn adjoint(&self) -> cpu::FeatureGradients {
        let (weight, bias) = (self.weight.as_deref(), self.bias.as_deref());
        cpu::features_adjoint(&self.shape, self.map, &self.x, weight, bias, &self.grad).unwrap()
    }

    fn tensors(&mut self) -> [Option<&mut Vec<f64>>; 3] {
        [Some(&mut self.x), self.weight.as_mut(), self.bias.as_mut()]
    }
}

/// y = Wx + b, and the map's definition written element by element.
fn formula(map: FeatureMap, x: &[f64], weight: &[f64], bias: &[f64]) -> Vec<f64> {
    let k = x.len();
    let y: Vec<f64> = if map.projects() {
        (0..k)
            .map(|i| bias[i] + (0..k).map(|j| weight[i * k + j] * x[j]).sum::<f64>())
            .collect()
    } else {
        x.to_vec()
    };
    let sum = |f: &dyn Fn(f64) -> f64| y.iter().map(|y| f(*y)).sum::<f64>();
    let most = y.iter().copied().fold(f64::MIN, f64::max);
    let least = y.iter().copied().fold(f64::MAX, f64::min);
    let halves = |first: &dyn Fn(f64) -> f64, second: &dyn Fn(f64) -> f64| -> Vec<f64> {
        let first = y.iter().map(|y| first(*y));
        first.chain(y.iter().map(|y| second(*y))).collect()
    };
    let rolled = |sign: f64, nu: u32| -> Vec<f64> {
        let r = halves(&|y| y.max(0.0), &|y| {
            if sign > 0.0 {
                (-y).max(0.0)
            } else {
                -y.max(0.0)
            }
        });
        let mut out = Vec::new();
        for j in 1..=nu as usize {
            let mut roll = r.clone();
            for _ in 0..j {
                roll.rotate_right(1);
            }
            out.extend(r.iter().zip(&roll).map(|(a, b)| a * b));
        }
        out
    };
    let kf = k as f64;
    match map {
        FeatureMap::Identity => y,
        FeatureMap::Relu | FeatureMap::T2r => y.iter().map(|y| y.max(0.0)).collect(),
        FeatureMap::Relu2 => y.iter().map(|y| y.max(0.0) * y.max(0.0)).collect(),
        FeatureMap::Elu1 => y
            .iter()
            .map(|y| if *y > 0.0 { y + 1.0 } else { y.exp() })
            .collect(),
        FeatureMap::Exp => y.iter().map(|y| y.exp()).collect(),
        FeatureMap::Silu => y.iter().map(|y| y / (1.0 + (-y).exp())).collect(),
        FeatureMap::Sigmoid => y.iter().map(|y| 1.0 / (1.0 + (-y).exp())).collect(),
        FeatureMap::GeluTanh => y
            .iter()
            .map(|y| {
                let u = (2.0 / std::f64::consts::PI).sqrt() * (y + 0.044715 * y * y * y);
                0.5 * y * (1.0 + u.tanh())
            })
            .collect(),
        FeatureMap::Softmax => {
            let total = sum(&f64::exp);
            y.iter().map(|y| y.exp() / total).collect()
        }
        FeatureMap::L2Norm => {
            let length = (sum(&|y| y * y) + 1e-6).sqrt();
            y.iter().map(|y| y / length).collect()
        }
        FeatureMap::HedgehogSoftmax => {
            let total = sum(&|y| (2.0 * y).exp() + (-2.0 * y).exp());
            halves(&|y| (2.0 * y).exp() / total, &|y| (-2.0 * y).exp() / total)
        }
        FeatureMap::HedgehogSoftmax2 => {
            let (plus, minus) = (sum(&f64::exp), sum(&|y| (-y).exp()));
            halves(&|y| y.exp() / plus, &|y| (-y).exp() / minus)
        }
        FeatureMap::HedgehogExp => halves(&f64::exp, &|y| (-y).exp()),
        FeatureMap::HedgehogExpShift => halves(&|y| (y - most).exp(), &|y| (least - y).exp()),
        FeatureMap::Dpfp { nu } => rolled(1.0, nu),
        FeatureMap::DpfpFla { nu } => rolled(-1.0, nu),
        FeatureMap::Taylor2 => {
            let mut out = vec![1.0];
            out.extend(y.iter().map(|y| y / kf.sqrt().sqrt()));
            out.extend(y.iter().map(|y| y * y / (2.0 * kf).sqrt()));
            for i in 0..k {
                out.extend((i + 1..k).map(|j| y[i] * y[j] / kf.sqrt()));
            }
            out
        }
        FeatureMap::Rebased => {
            let mean = sum(&|y| y) / kf;
            let variance = sum(&|y| (y - mean).powi(2)) / kf;
            let z: Vec<f64> = (0..k)
                .map(|i| weight[i] * (y[i] - mean) / (variance + 1e-5).sqrt() + bias[i])
                .collect();
            let mut out: Vec<f64> = z.iter().map(|z| z * z / kf.sqrt()).collect();
            for i in 0..k {
                out.extend((i + 1..k).map(|j| (2.0 / kf).sqrt() * z[i] * z[j]));
            }
            out
        }
        other => panic!("no formula of {}", other.name()),
    }
}

#[test]
fn every_map_matches_its_formula() {
    let mut random = Random(1);
    for map in FeatureMap::all(3) {
        for (key, layout) in [(1, Layout::Bthd), (4, Layout::Bhtd), (7, Layout::Bthd)] {
            for own in [false, true] {
                let shape = shape(2, 3, 2, key, layout);
                let call = Call::random(&mut random, shape, map, own);
                let width = map.width(key);
                let out = call.forward();
                assert_eq!(out.len(), shape.rows() * width, "{}", map.name());
                for (row, got) in out.chunks(width).enumerate() {
                    let head = match layout {
                        Layout::Bthd => row % 2,
                        Layout::Bhtd => row / 3 % 2,
                    };
                    let set = if own { head } else { 0 };
                    let each = map.weight_len(key).unwrap_or(0);
                    let weight = call.weight.as_ref().map_or(&[][..], |w| &w[set * each..]);
                    let none = vec![0.0; key];
                    let bias = call.bias.as_ref().map_or(&none[..], |b| &b[set * key..]);
                    let expected = formula(map, &call.x[row * key..][..key], weight, bias);
                    assert_eq!(got.len(), expected.len(), "{}", map.name());
                    for (a, b) in got.iter().zip(&expected) {
                        let error = (a - b).abs();
                        assert!(
                            error <= 1e-12 * b.abs().max(1.0),
                            "{}: {a} and {b}",
                            map.name()
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn adjoints_are_the_finite_differences() {
    let mut random = Random(2);
    for map in FeatureMap::all(2) {
        for n in 0..12 {
            let layout = [Layout::Bthd, Layout::Bhtd][n % 2];
            let shape = shape(1 + n % 2, 3, 2, 1 + random.below(6), layout);
            let mut call = Call::random(&mut random, shape, map, n % 3 == 0);
            let found = call.adjoint();
            for (at, gradient) in [found.x, found.weight, found.bias].into_iter().enumerate() {
                let Some(len) = call.tensors()[at].as_ref().map(|tensor| tensor.len()) else {
                    assert!(gradient.is_empty());
                    continue;
                };
                assert_eq!(gradient.len(), len);
                for probe in 0..4 {
                    let direction = if probe == 0 {
                        random.values(len)
                    } else {
                        let mut one = vec![0.0; len];
                        one[random.below(len)] = 1.0;
                        one
                    };
                    let step = 1e-4;
                    let along = |factor: f64| {
                        let mut moved = call.clone();
                        let tensor = moved.tensors().into_iter().nth(at).flatten().unwrap();
                        for (x, d) in tensor.iter_mut().zip(&direction) {
                            *x += factor * step * d;
                        }
                        dot(&moved.forward(), &moved.grad)
                    };
                    // Fourth order: the error is that of rounding.
                    let near = along(1.0) - along(-1.0);
                    let far = along(2.0) - along(-2.0);
                    let difference = (8.0 * near - far) / (12.0 * step);
                    let expected = dot(&gradient, &direction);
                    let pairs = gradient.iter().zip(&direction);
                    let size: f64 = pairs.map(|(g, d)| (g * d).abs()).sum();
                    assert!(
                        (difference - expected).abs() <= 1e-6 * size + 1e-8,
                        "{} {n}, tensor {at}, probe {probe}: {difference} and {expected} in {call:?}",
                        map.name()
                    );
                }
            }
        }
    }
}

#[test]
fn maps_of_one_width_differ_from_each_other() {
    let mut random = Random(3);
    let shape = shape(1, 2, 1, 4, Layout::Bthd);
    let weight = random.values(16);
    let x = random.values(8);
    let maps = FeatureMap::all(1);
    let out = maps.map(|map| {
        let weight = map.weight_len(4).map(|len| &weight[..len]);
        cpu::features(&shape, map, &x, weight, None).unwrap()
    });
    let mut compared = 0;
    for (n, a) in out.iter().enumerate() {
        for (m, b) in out.iter().enumerate().skip(n + 1) {
            if a.len() == b.len() {
                compared += 1;
                let most = a
                    .iter()
                    .zip(b)
                    .fold(0.0f64, |most, (a, b)| most.max((a - b).abs()));
                assert!(most > 1e-2, "{} and {}", maps[n].name(), maps[m].name());
            }
        }
    }
    // The four Hedgehogs and the two of one roll alone are 15 pairs.
    assert!(compared > 15 + 40, "{compared}");
}

#[test]
fn products_of_features_are_the_kernels_they_stand_for() {
    let mut random = Random(4);
    for key in [1, 3, 8] {
        let shape = shape(1, 2, 1, key, Layout::Bthd);
        let x = random.values(2 * key);
        let (q, k) = x.split_at(key);
        let product = |map: FeatureMap, weight: Option<&[f64]>| {
            let out = cpu::features(&shape, map, &x, weight, None).unwrap();
            let (q, k) = out.split_at(map.width(key));
            dot(q, k)
        };
        let s = dot(q, k) / (key as f64).sqrt();
        let taylor = product(FeatureMap::Taylor2, None);
        assert!((taylor - (1.0 + s + s * s / 2.0)).abs() < 1e-12);
        let normal = |x: &[f64]| {
            let mean = x.iter().sum::<f64>() / key as f64;
            let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / key as f64;
            let normal = x.iter().map(|x| (x - mean) / (variance + 1e-5).sqrt());
            normal.collect::<Vec<_>>()
        };
        let rebased = product(FeatureMap::Rebased, Some(&vec![1.0; key]));
        let expected = dot(&normal(q), &normal(k)).powi(2) / key as f64;
        assert!((rebased - expected).abs() < 1e-12 * expected.max(1.0));
    }
}

#[test]
fn floors_hold_and_large_arguments_stay_finite() {
    let shape = shape(1, 1, 1, 2, Layout::Bthd);
    let one = [1.0, 0.0, 0.0, 1.0];
    let far = [1e4, -1e4];
    for map in [
        FeatureMap::HedgehogSoftmax,
        FeatureMap::HedgehogSoftmax2,
        FeatureMap::HedgehogExpShift,
    ] {
        let out = cpu::features(&shape, map, &far, Some(&one), None).unwrap();
        let least = if map == FeatureMap::HedgehogSoftmax {
            0.0
        } else {
            1e-12
        };
        assert!(out.iter().all(|x| x.is_finite() && *x >= least), "{out:?}");
        assert_eq!(out.iter().copied().fold(1.0, f64::min), least);
        let grad =
            cpu::features_adjoint(&shape, map, &far, Some(&one), None, &[1.0, 2.0, 3.0, 4.0]);
        assert!(grad.unwrap().x.iter().all(|x| x.is_finite()));
    }
}

#[test]
fn weights_that_fit_no_head_are_refused() {
    let mut call = Shape {
        batch: 1,
        tokens: 1,
        heads: 2,
        kv_heads: 2,
        key: 3,
        value: 1,
        layout: Layout::Bthd,
        dtype: Dtype::F32,
    };
    let options = Options {
        feature_map: FeatureMap::T2r,
        ..Options::plain()
    };
    let zeros = [0.0; 18];
    let run = |call: &Shape, options: &Options, weight: usize, bias: Option<usize>| {
        let inputs = cpu::Inputs {
            fm_weight: Some(&zeros[..weight]),
            fm_bias: bias.map(|len| &zeros[..len]),
            ..cpu::Inputs::new(
                &zeros[..6],
                &zeros[..3 * call.kv_heads],
                &zeros[..call.kv_heads],
            )
        };
        cpu::forward(call, options, &inputs).map(|_| ())
    };
    let refused = |result: Result<(), Error>, at: &str| match result {
        Err(Error::Argument { what, .. }) => assert_eq!(what, at),
        other => panic!("{other:?}"),
    };
    assert!(run(&call, &options, 9, None).is_ok());
    assert!(run(&call, &options, 9, Some(3)).is_ok());
    assert!(run(&call, &options, 18, Some(6)).is_ok());
    refused(run(&call, &options, 12, None), "fm_weight");
    refused(run(&call, &options, 18, Some(3)), "fm_bias");
    call.kv_heads = 1;
    assert!(run(&call, &options, 9, None).is_ok());
    refused(run(&call, &options, 18, None), "fm_weight");
    let rolls = Options {
        feature_map: FeatureMap::Dpfp { nu: 0 },
        ..Options::plain()
    };
    refused(run(&call, &rolls, 9, None), "nu");
    let relu = Options {
        feature_map: FeatureMap::Relu,
        ..Options::plain()
    };
    refused(run(&call, &relu, 9, None), "fm_weight");
}

// On the adapter.

/// A tensor that shows what a kernel leaves out.
fn spoilt<T: Number>(len: usize) -> Tensor<T> {
    upload::<T>(&vec![f64::NAN; len])
}

/// The error relative to the expected values, or to `least` where those are smaller.
fn ratio(got: &[f64], expected: &[f64], least: f64) -> f64 {
    assert_eq!(got.len(), expected.len());
    let pairs = got.iter().zip(expected);
    let error: f64 = pairs.map(|(a, b)| (a - b).powi(2)).sum();
    (error / dot(expected, expected).max(least * least)).sqrt()
}

/// The call with its tensors rounded to what the device gets.
fn rounded<T: Number>(mut call: Call) -> Call {
    call.shape.dtype = T::DTYPE;
    call.x = round::<T>(&call.x);
    call.grad = round::<f32>(&call.grad);
    call.weight = call.weight.map(|w| round::<f32>(&w));
    call.bias = call.bias.map(|b| round::<f32>(&b));
    call
}

/// Runs a call forward, in the type Y, and its adjoint.
fn on_device<T: Number, Y: Number>(call: &Call) -> (Vec<f64>, cpu::FeatureGradients) {
    let gpu = gpu();
    let x = upload::<T>(&call.x);
    let [weight, bias] = [&call.weight, &call.bias].map(|w| w.as_ref().map(|w| upload::<f32>(w)));
    let inputs = FeatureInputs {
        x: &x,
        weight: weight.as_ref(),
        bias: bias.as_ref(),
    };
    let mut y = spoilt::<Y>(call.grad.len());
    features(gpu, &call.shape, call.map, &inputs, &mut y).unwrap();
    let mut dx = spoilt::<T>(call.x.len());
    let [mut dweight, mut dbias] =
        [&weight, &bias].map(|w| w.as_ref().map(|w| spoilt::<f32>(w.len())));
    let gradients = FeatureGradients {
        x: &mut dx,
        weight: dweight.as_mut(),
        bias: dbias.as_mut(),
    };
    let grad = upload::<f32>(&call.grad);
    features_adjoint(gpu, &call.shape, call.map, &inputs, &grad, gradients).unwrap();
    let values = |tensor: Option<Tensor<f32>>| tensor.map_or(Vec::new(), |t| download(&t));
    let gradients = cpu::FeatureGradients {
        x: download(&dx),
        weight: values(dweight),
        bias: values(dbias),
    };
    (download(&y), gradients)
}

/// Bounds on the relative errors of φ(x) and of gradients.
fn bounds(dtype: Dtype) -> (f64, f64) {
    match dtype {
        Dtype::F16 => (5e-4, 1e-3),
        Dtype::Bf16 => (4e-3, 4e-3),
        _ => (5e-6, 2e-5),
    }
}

fn holds<T: Number, Y: Number>(call: Call) {
    let call = rounded::<T>(call);
    let (y, gradients) = on_device::<T, Y>(&call);
    let expected = call.adjoint();
    let what = format!(
        "{} {:?} to {}",
        call.map.name(),
        call.shape,
        Y::DTYPE.name()
    );
    let y = ratio(&y, &call.forward(), 1e-12);
    assert!(y <= bounds(Y::DTYPE).0, "{what}: y {y:e}");
    let pairs = [
        ("x", T::DTYPE, gradients.x, expected.x),
        ("weight", Dtype::F32, gradients.weight, expected.weight),
        ("bias", Dtype::F32, gradients.bias, expected.bias),
    ];
    for (name, dtype, got, expected) in pairs {
        // Rows of one column, or of two less their mean, have a direction alone: gradients are what rounding leaves of terms of
        // this size.
        let least = if call.shape.key <= 2 {
            dot(&call.grad, &call.grad).sqrt()
        } else {
            1e-12
        };
        let ratio = ratio(&got, &expected, least);
        assert!(
            ratio <= bounds(dtype).1,
            "{what}: gradient of {name} {ratio:e}"
        );
    }
}

/// A map in some widths, in the storage type where that holds its values.
fn map_holds<T: Number>(random: &mut Random, map: FeatureMap, keys: &[usize]) {
    for (n, key) in by_turns(keys.iter().enumerate(), (random.0 >> 40) as usize) {
        let layout = [Layout::Bthd, Layout::Bhtd][n % 2];
        let shape = shape(2, 5 + 8 * n, 3, *key, layout);
        let call = Call::random(random, shape, map, n / 2 % 2 == 1);
        if map.storage(T::DTYPE) == T::DTYPE {
            holds::<T, T>(call);
        } else {
            holds::<T, f32>(call);
        }
    }
}

#[test]
fn elementwise_and_reducing_maps_hold_on_the_adapter() {
    let mut random = Random(5);
    for map in FeatureMap::all(1)
        .into_iter()
        .filter(|map| map.weight_len(1).is_none())
    {
        if map.width(8) == 8 {
            map_holds::<f32>(&mut random, map, &[1, 3, 8, 60, 300]);
            map_holds::<f16>(&mut random, map, &[7, 64]);
            map_holds::<bf16>(&mut random, map, &[64, 9]);
        }
    }
}

#[test]
fn projected_maps_hold_on_the_adapter() {
    let mut random = Random(6);
    for map in FeatureMap::all(1).into_iter().filter(|map| map.projects()) {
        map_holds::<f32>(&mut random, map, &[1, 3, 8, 20]);
        map_holds::<f16>(&mut random, map, &[12, 7, 9, 8]);
        map_holds::<bf16>(&mut random, map, &[7, 8, 12, 6]);
    }
    map_holds::<f32>(
        &mut random,
        FeatureMap::HedgehogSoftmax,
        &[66, 100, 64, 130],
    );
}

#[test]
fn maps_of_products_hold_on_the_adapter() {
    let mut random = Random(7);
    for map in FeatureMap::all(3)
        .into_iter()
        .filter(|map| !map.projects() && map.width(8) != 8)
    {
        map_holds::<f32>(&mut random, map, &[1, 2, 5, 8, 24]);
        map_holds::<f16>(&mut random, map, &[6, 7, 16]);
        map_holds::<bf16>(&mut random, map, &[3, 8, 5]);
    }
    map_holds::<f32>(&mut random, FeatureMap::Taylor2, &[70]);
}

#[test]
fn large_arguments_stay_finite_on_the_adapter() {
    let shape = shape(1, 2, 1, 4, Layout::Bthd);
    let mut one = vec![0.0; 16];
    (0..4).for_each(|i| one[5 * i] = 1.0);
    for (map, size) in [
        (FeatureMap::HedgehogSoftmax, 1e4),
        (FeatureMap::HedgehogSoftmax2, 1e4),
        (FeatureMap::HedgehogExpShift, 1e4),
        (FeatureMap::HedgehogExp, 40.0),
        (FeatureMap::Exp, 40.0),
        (FeatureMap::Softmax, 1e4),
        (FeatureMap::Silu, 1e4),
        (FeatureMap::Sigmoid, 1e4),
        (FeatureMap::GeluTanh, 1e4),
        (FeatureMap::L2Norm, 1e4),
    ] {
        let weight = map.weight_len(4).map(|_| one.clone());
        let signs = [1.0, -1.0, 0.5, 0.0, -0.25, 1.0, 1.0, 0.0];
        let call = Call {
            x: signs.map(|sign| sign * size).to_vec(),
            bias: None,
            grad: vec![1.0; 2 * map.width(4)],
            weight,
            shape,
            map,
        };
        let (y, gradients) = on_device::<f32, f32>(&call);
        for values in [&y, &gradients.x, &gradients.weight] {
            let finite = values.iter().all(|x| x.is_finite());
            assert!(finite, "{}: {values:?}", map.name());
        }
        let ratio = ratio(&y, &call.forward(), 1e-12);
        assert!(ratio <= 1e-5, "{}: {ratio:e}", map.name());
    }
}

#[test]
fn calls_without_rows_write_zeros_for_the_weights() {
    let empty = shape(2, 0, 3, 4, Layout::Bhtd);
    for map in [FeatureMap::Relu, FeatureMap::T2r, FeatureMap::Rebased] {
        let mut call = Call::random(&mut Random(8), empty, map, true);
        call.bias = map.weight_len(4).map(|_| vec![0.5; 12]);
        let (y, gradients) = on_device::<f32, f32>(&call);
        assert!(y.is_empty() && gradients.x.is_empty());
        assert_eq!(gradients.weight.len(), call.weight.map_or(0, |w| w.len()));
        let zeros = [gradients.weight, gradients.bias].concat();
        assert!(zeros.iter().all(|x| *x == 0.0));
    }
}

#[test]
fn plans_of_large_calls_fit_every_preset() {
    for caps in Caps::presets() {
        for layout in [Layout::Bthd, Layout::Bhtd] {
            for map in FeatureMap::all(1) {
                // Products have many columns.
                let (tokens, key) = match map.width(64) {
                    0..=128 => (16_384, 64),
                    _ => (1024, 32),
                };
                let shape = FeatureShape {
                    batch: 4,
                    tokens,
                    heads: 16,
                    key,
                    layout,
                    dtype: Dtype::F16,
                };
                let weight = map.weight_len(key).map(|each| 16 * each);
                let weights = maps::Weights {
                    weight,
                    bias: weight.map(|_| 16 * key),
                };
                let out = map.storage(shape.dtype);
                let forward = maps::plan(&shape, map, weights, out, &caps).unwrap();
                let adjoint = maps::plan_adjoint(&shape, map, weights, &caps).unwrap();
                for plan in [forward, adjoint] {
                    let slow = plan.steps.iter().find(|step| step.predicted_ms > 100.0);
                    assert!(slow.is_none(), "{} {slow:?}", caps.name);
                    let bytes =
                        |step: &Step| step.bind.iter().map(|b| b.bytes.end - b.bytes.start).max();
                    let most = plan.steps.iter().filter_map(bytes).max();
                    assert!(most.is_some_and(|most| most <= caps.binding_bytes));
                }
            }
        }
    }
}

#[test]
fn wrong_arguments_of_the_device_calls_are_named() {
    let shape = shape(1, 2, 2, 4, Layout::Bthd);
    let x = upload::<f32>(&[0.5; 16]);
    let weight = upload::<f32>(&[0.5; 16]);
    let refused = |result: subquad::Result<()>, at: &str| match result {
        Err(Error::Argument { what, .. }) => assert_eq!(what, at),
        other => panic!("{other:?}"),
    };
    let bare = FeatureInputs {
        x: &x,
        weight: None,
        bias: None,
    };
    let weighted = FeatureInputs {
        weight: Some(&weight),
        ..bare
    };
    let mut y = upload::<f32>(&[0.0; 16]);
    refused(
        features(gpu(), &shape, FeatureMap::T2r, &bare, &mut y),
        "fm_weight",
    );
    refused(
        features(gpu(), &shape, FeatureMap::Relu, &weighted, &mut y),
        "fm_weight",
    );
    refused(
        features(gpu(), &shape, FeatureMap::Dpfp { nu: 65 }, &bare, &mut y),
        "nu",
    );
    refused(
        features(gpu(), &shape, FeatureMap::Taylor2, &bare, &mut y),
        "y",
    );
    let half = FeatureShape {
        dtype: Dtype::F16,
        ..shape
    };
    refused(
        features(gpu(), &half, FeatureMap::Relu, &bare, &mut y),
        "shape.dtype",
    );
    let mut halves = upload::<f16>(&[0.0; 16]);
    refused(
        features(gpu(), &shape, FeatureMap::Relu, &bare, &mut halves),
        "the type of φ(x)",
    );
    let longer = FeatureShape { tokens: 3, ..shape };
    refused(
        features(gpu(), &longer, FeatureMap::Relu, &bare, &mut y),
        "x",
    );
    let mut dx = upload::<f32>(&[0.0; 16]);
    let gradients = FeatureGradients {
        x: &mut dx,
        weight: None,
        bias: None,
    };
    let adjoint = features_adjoint(gpu(), &shape, FeatureMap::T2r, &weighted, &x, gradients);
    refused(adjoint, "dweight");
}

#[cfg(feature = "cli")]
#[test]
fn cases_name_every_map_and_take_weights_per_head() {
    use subquad::case::{Array, Case};
    let mut random = Random(9);
    let mut array = |shape: &[usize]| {
        let values = random.values(shape.iter().product());
        Array::rounded(Dtype::F32, shape, &values)
    };
    for map in FeatureMap::all(2) {
        for own in [false, true] {
            let mut inputs = std::collections::BTreeMap::new();
            for name in ["q", "k", "v"] {
                inputs.insert(name.to_owned(), array(&[1, 3, 2, 4]));
            }
            if map.weight_len(4).is_some() {
                let mut weight = vec![4; 1 + usize::from(map.projects())];
                let mut bias = vec![4];
                if own {
                    weight.insert(0, 2);
                    bias.insert(0, 2);
                }
                inputs.insert("fm_weight".into(), array(&weight));
                inputs.insert("fm_bias".into(), array(&bias));
            }
            let params = serde_json::json!({
                "layout": "bthd", "scale": 1.0, "causal": true,
                "feature_map": map.name(), "nu": 2,
            });
            let case = Case {
                name: map.name().into(),
                op: "linear_attention".into(),
                params: params.as_object().cloned().unwrap(),
                source: "made here".into(),
                inputs,
                grad_outputs: [("o".to_owned(), array(&[1, 3, 2, 4]))].into(),
                expected: Default::default(),
                expected_grads: Default::default(),
            };
            let problem = case.bind().unwrap();
            let outputs = problem.outputs();
            assert_eq!(outputs[1].shape, [1, 2, map.width(4), 4], "{}", map.name());
            assert_eq!(
                problem.reference().unwrap()[1].values.len(),
                8 * map.width(4)
            );
            let adjoint = problem.adjoint().unwrap();
            let gradients = adjoint.reference().unwrap();
            let named = adjoint.outputs().into_iter().zip(gradients);
            let weights = named.filter(|(output, _)| output.name.contains("fm_"));
            let sets = if own { 2 } else { 1 };
            let expected = map.weight_len(4).map_or(0, |each| sets * (each + 4));
            assert_eq!(
                weights.map(|(_, found)| found.values.len()).sum::<usize>(),
                expected
            );
        }
    }
}
