//! What other planners ask of the steps and the public calls do not: padding, parts, groups, accumulation, small devices.

use half::{bf16, f16};

use super::*;
use crate::{
    Gpu, Select, Tensor,
    gpu::Elem,
    linear::{Layout, cpu},
    plan::Plan,
};

fn gpu() -> &'static Gpu {
    thread_local! {
        static GPU: &'static Gpu = Box::leak(Box::new(Gpu::open(&Select::from_env()).unwrap()));
    }
    GPU.with(|gpu| *gpu)
}

/// Multiples of 1/64 in (-1, 1), never 0: exact in every type.
fn values(len: usize, seed: u64) -> Vec<f64> {
    let mut seed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut value = || {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        f64::from(2 * ((seed >> 40) % 64) as i32 - 63) / 64.0
    };
    (0..len).map(|_| value()).collect()
}

fn upload<T: Elem>(values: &[f64], from: fn(f64) -> T) -> Tensor<T> {
    gpu()
        .upload(&values.iter().map(|x| from(*x)).collect::<Vec<_>>())
        .unwrap()
}

fn single(x: f64) -> f32 {
    x as f32
}

fn padded(width: usize) -> usize {
    width.next_multiple_of(4)
}

fn shape(tokens: usize, heads: usize, key: usize, layout: Layout, dtype: Dtype) -> FeatureShape {
    FeatureShape {
        batch: 2,
        tokens,
        heads,
        key,
        layout,
        dtype,
    }
}

fn plan(builder: Builder) -> Plan {
    builder.plan("features", "test".into(), Default::default())
}

fn close(what: &str, got: &[f32], expected: &[f64], bound: f64) {
    assert_eq!(got.len(), expected.len());
    let error: f64 = got
        .iter()
        .zip(expected)
        .map(|(a, b)| (f64::from(*a) - b).powi(2))
        .sum();
    let size: f64 = expected.iter().map(|x| x * x).sum();
    let ratio = (error / size.max(1e-30)).sqrt();
    assert!(ratio <= bound, "{what}: {ratio:e}");
}

/// A map with sets of weights in slots 1 and 2 of the inputs.
fn mapping<'a>(
    shape: &'a FeatureShape,
    map: FeatureMap,
    sets: usize,
    caps: &'a Caps,
) -> Mapping<'a> {
    let weighted = map.weight_len(shape.key).map(|_| Slot::Input(1));
    Mapping {
        shape,
        map,
        sets,
        weight: weighted,
        bias: weighted.map(|_| Slot::Input(2)),
        caps,
    }
}

fn padded_rows<T: Elem>(map: FeatureMap, key: usize, layout: Layout, from: fn(f64) -> T) {
    let shape = shape(5, 3, key, layout, T::DTYPE);
    let x = values(shape.rows() * key, 1);
    let each = map.weight_len(key);
    let weight = each.map(|len| values(len, 2));
    let bias = each.map(|_| values(key, 3));
    let width = map.width(key);
    let stride = padded(width);
    let mut builder = Builder::default();
    let y = Rows {
        slot: Slot::Output(0),
        dtype: Dtype::F32,
        stride,
    };
    let mapping = mapping(&shape, map, 1, gpu().caps());
    forward_steps(&mut builder, &mapping, Slot::Input(0), y).unwrap();
    let on_device = upload(&x, from);
    let weights = [&weight, &bias].map(|w| w.as_ref().map(|w| upload(w, single)));
    let views: Vec<_> = [on_device.view()]
        .into_iter()
        .chain(weights.iter().flatten().map(Tensor::view))
        .collect();
    let mut out = gpu()
        .upload(&vec![f32::NAN; shape.rows() * stride])
        .unwrap();
    let mut pass = gpu().pass("padded");
    pass.run(&plan(builder), &views, &mut [out.view_mut()])
        .unwrap();
    pass.submit().unwrap();
    let expected = cpu::features(&shape, map, &x, weight.as_deref(), bias.as_deref()).unwrap();
    let got = out.download().unwrap();
    let mut dense = Vec::new();
    for row in got.chunks(stride) {
        dense.extend(&row[..width]);
        assert!(row[width..].iter().all(|x| x.to_bits() == 0), "{row:?}");
    }
    if map == FeatureMap::Identity {
        let exact: Vec<f32> = x.iter().map(|x| *x as f32).collect();
        assert_eq!(dense, exact);
    }
    close(map.name(), &dense, &expected, 2e-6);
}

#[test]
fn rows_are_widened_and_padded_with_zeros() {
    for layout in [Layout::Bthd, Layout::Bhtd] {
        for key in [1, 7, 8, 65] {
            padded_rows(FeatureMap::Identity, key, layout, single);
            padded_rows(FeatureMap::Identity, key, layout, f16::from_f64);
            padded_rows(FeatureMap::Elu1, key, layout, bf16::from_f64);
        }
        padded_rows(FeatureMap::HedgehogExp, 3, layout, bf16::from_f64);
        padded_rows(FeatureMap::Dpfp { nu: 1 }, 5, layout, f16::from_f64);
        padded_rows(FeatureMap::Taylor2, 4, layout, single);
    }
}

/// A call of the adjoint with several parts, padded rows and groups of heads.
struct Summed {
    shape: FeatureShape,
    map: FeatureMap,
    parts: usize,
    group: usize,
    calls: usize,
    /// Sets of weights.
    sets: usize,
    caps: Caps,
}

impl Summed {
    fn grads(&self, part: usize) -> Vec<f64> {
        let (rows, width) = (
            self.shape.rows() * self.group,
            self.map.width(self.shape.key),
        );
        values(rows * width, 10 + part as u64)
    }

    /// dx, dW and db on the device; with two calls, those of the weights are summed over both.
    fn run(&self) -> [Vec<f32>; 3] {
        let Summed { shape, map, .. } = self;
        let key = shape.key;
        let each = self.sets * map.weight_len(key).unwrap_or(0);
        let width = map.width(key);
        let stride = padded(width);
        let slots: Vec<Slot> = (0..self.parts).map(|n| Slot::Input(3 + n as u16)).collect();
        let grads = Grads {
            parts: &slots,
            stride,
            group: self.group,
        };
        let dx = Rows {
            slot: Slot::Output(0),
            dtype: Dtype::F32,
            stride: key,
        };
        let given = |slot: u16| (each > 0).then_some(Slot::Output(slot));
        let mut builder = Builder::default();
        for call in 0..self.calls {
            let params = ParamGrads {
                weight: given(1),
                bias: given(2),
                accumulate: call > 0,
            };
            let mapping = mapping(shape, *map, self.sets, &self.caps);
            adjoint_steps(&mut builder, &mapping, Slot::Input(0), &grads, dx, params).unwrap();
        }
        let plan = plan(builder);
        plan.check(&self.caps).unwrap();
        let mut inputs = vec![
            upload(&values(shape.rows() * key, 1), single),
            upload(&values(each.max(1), 2), single),
            upload(&values(self.sets * key, 3), single),
        ];
        for part in 0..self.parts {
            let grads = self.grads(part);
            let rows = grads.chunks(width);
            let padding = vec![f64::NAN; stride - width];
            let rows: Vec<f64> = rows.flat_map(|row| [row, &padding].concat()).collect();
            inputs.push(upload(&rows, single));
        }
        let views: Vec<_> = inputs.iter().map(Tensor::view).collect();
        let mut outputs = [
            shape.rows() * key,
            each,
            if each > 0 { self.sets * key } else { 0 },
        ]
        .map(|len| gpu().upload(&vec![f32::NAN; len]).unwrap());
        let mut targets: Vec<_> = outputs.iter_mut().map(Tensor::view_mut).collect();
        let mut pass = gpu().pass("summed");
        pass.run(&plan, &views, &mut targets).unwrap();
        pass.submit().unwrap();
        outputs.map(|output| output.download().unwrap())
    }

    fn expected(&self) -> cpu::FeatureGradients {
        let Summed { shape, map, .. } = self;
        let (key, width) = (shape.key, map.width(shape.key));
        let (span, group) = (shape.span(), self.group);
        let mut summed = vec![0.0; shape.rows() * width];
        for part in 0..self.parts {
            let grads = self.grads(part);
            for (row, sum) in summed.chunks_mut(width).enumerate() {
                for member in 0..group {
                    let met = row / span * group * span + member * span + row % span;
                    let grads = &grads[met * width..][..width];
                    sum.iter_mut().zip(grads).for_each(|(sum, d)| *sum += d);
                }
            }
        }
        let each = map.weight_len(key);
        let weight = each.map(|len| values(self.sets * len, 2));
        let bias = each.map(|_| values(self.sets * key, 3));
        let x = values(shape.rows() * key, 1);
        let (weight, bias) = (weight.as_deref(), bias.as_deref());
        cpu::features_adjoint(shape, *map, &x, weight, bias, &summed).unwrap()
    }

    fn holds(&self) {
        let what = format!(
            "{} {:?}, {} parts, groups of {}",
            self.map.name(),
            self.shape,
            self.parts,
            self.group
        );
        let [x, weight, bias] = self.run();
        let expected = self.expected();
        let all =
            |values: &[f64]| -> Vec<f64> { values.iter().map(|x| self.calls as f64 * x).collect() };
        close(&what, &x, &expected.x, 2e-5);
        close(&what, &weight, &all(&expected.weight), 2e-5);
        close(&what, &bias, &all(&expected.bias), 2e-5);
    }
}

const MAPS: [FeatureMap; 5] = [
    FeatureMap::Silu,
    FeatureMap::Softmax,
    FeatureMap::HedgehogSoftmax,
    FeatureMap::DpfpFla { nu: 2 },
    FeatureMap::Rebased,
];

#[test]
fn gradients_of_parts_groups_and_calls_are_summed() {
    for (n, map) in MAPS.into_iter().enumerate() {
        for (parts, group, calls, layout) in [
            (1, 3, 1, Layout::Bthd),
            (2, 1, 2, Layout::Bhtd),
            (3, 2, 1, Layout::Bhtd),
            (4, 2, 2, Layout::Bthd),
        ] {
            Summed {
                shape: shape(5, 2, [6, 8][(n + parts) % 2], layout, Dtype::F32),
                map,
                parts,
                group,
                calls,
                sets: [1, 2][parts % 2],
                caps: gpu().caps().clone(),
            }
            .holds();
        }
    }
}

#[test]
fn small_bindings_and_slow_devices_give_the_same_rows() {
    for map in MAPS {
        for (layout, group, sets) in [
            (Layout::Bthd, 2, 1),
            (Layout::Bthd, 1, 3),
            (Layout::Bhtd, 1, 1),
            (Layout::Bhtd, 1, 3),
        ] {
            let mut call = Summed {
                shape: shape(150, 3, 8, layout, Dtype::F32),
                map,
                parts: 2,
                group,
                calls: 1,
                sets,
                caps: gpu().caps().clone(),
            };
            let whole = call.run();
            assert_eq!(whole, call.run(), "{}: a second run differs", map.name());
            call.caps.binding_bytes = 16 << 10;
            let cut = call.run();
            assert_eq!(whole[0], cut[0], "{}: gradients of x differ", map.name());
            call.holds();
            call.caps.binding_bytes = gpu().caps().binding_bytes;
            call.caps.gflops = 1e-4;
            call.holds();
        }
    }
}

#[test]
fn more_parts_than_the_kernel_binds_are_refused() {
    let shape = shape(5, 2, 8, Layout::Bthd, Dtype::F32);
    let mapping = mapping(&shape, FeatureMap::Relu, 1, gpu().caps());
    let dx = Rows {
        slot: Slot::Output(0),
        dtype: Dtype::F32,
        stride: 8,
    };
    for (parts, group) in [(0, 1), (5, 1), (1, 0)] {
        let grads = Grads {
            parts: &vec![Slot::Input(1); parts],
            stride: 8,
            group,
        };
        let mut builder = Builder::default();
        let params = ParamGrads::default();
        let steps = adjoint_steps(&mut builder, &mapping, Slot::Input(0), &grads, dx, params);
        assert!(matches!(steps, Err(Error::Gpu { .. })), "{parts} {group}");
    }
}
