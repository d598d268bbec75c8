//! Depthwise convolution: the CPU reference against finite differences, the adapter against the reference.

#[path = "common/device.rs"]
mod device;
#[path = "common/effort.rs"]
mod effort;

use device::{Number, download, gpu, round, upload};
use effort::sample;
use half::{bf16, f16};
use subquad::{
    Error, Tensor,
    gpu::{Caps, Dtype},
    linear::{
        Channels, Conv2d, Conv2dGradients, Conv2dInputs, Layout, conv2d, cpu, depthwise_conv2d,
        depthwise_conv2d_adjoint,
    },
};

const ALL: [Channels; 3] = [Channels::Each, Channels::OfHead, Channels::Heads];

/// In (-1, 1).
fn values(len: usize, mut seed: u64) -> Vec<f64> {
    let mut value = || {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 40) as f64 / f64::from(1 << 23) - 1.0
    };
    (0..len).map(|_| value()).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn shape(grid: [usize; 2], heads: usize, value: usize, kernel: [usize; 2]) -> Conv2d {
    Conv2d {
        batch: 2,
        grid,
        heads,
        value,
        layout: Layout::Bthd,
        dtype: Dtype::F32,
        kernel,
        channels: Channels::Each,
    }
}

#[test]
fn a_kernel_with_one_tap_moves_the_grid() {
    for channels in ALL {
        for layout in [Layout::Bthd, Layout::Bhtd] {
            let shape = Conv2d {
                layout,
                channels,
                ..shape([4, 5], 2, 3, [3, 5])
            };
            let x = values(shape.len(), 1);
            for (i, j) in [(0, 0), (1, 2), (2, 4), (0, 3)] {
                let mut weight = vec![0.0; shape.kernels() * 15];
                for kernel in weight.chunks_mut(15) {
                    kernel[i * 5 + j] = 1.0;
                }
                let out = cpu::depthwise_conv2d(&shape, &x, &weight, None).unwrap();
                let at = |b: usize, line: usize, column: usize, h: usize, v: usize| {
                    let t = line * 5 + column;
                    match layout {
                        Layout::Bthd => ((b * 20 + t) * 2 + h) * 3 + v,
                        Layout::Bhtd => ((b * 2 + h) * 20 + t) * 3 + v,
                    }
                };
                for n in 0..shape.len() {
                    let (b, line, column) = (n / 120, n / 30 % 4, n / 6 % 5);
                    let (h, v) = (n / 3 % 2, n % 3);
                    let from = ((line + i).checked_sub(1), (column + j).checked_sub(2));
                    let expected = match from {
                        (Some(line), Some(column)) if line < 4 && column < 5 => {
                            x[at(b, line, column, h, v)]
                        }
                        _ => 0.0,
                    };
                    assert_eq!(out[at(b, line, column, h, v)], expected);
                }
            }
        }
    }
}

#[test]
fn adjoints_are_the_finite_differences() {
    for channels in ALL {
        for layout in [Layout::Bthd, Layout::Bhtd] {
            let shape = Conv2d {
                layout,
                channels,
                ..shape([3, 4], 2, 2, [3, 5])
            };
            let x = values(shape.len(), 1);
            let weight = values(shape.kernels() * shape.taps(), 2);
            let bias = values(shape.kernels(), 3);
            let grad = values(shape.len(), 4);
            let found = cpu::depthwise_conv2d_adjoint(&shape, &x, &weight, &grad).unwrap();
            let loss = |x: &[f64], weight: &[f64], bias: &[f64]| {
                let out = cpu::depthwise_conv2d(&shape, x, weight, Some(bias)).unwrap();
                dot(&out, &grad)
            };
            let moved = |values: &[f64], n: usize, by: f64| {
                let mut values = values.to_vec();
                values[n] += by;
                values
            };
            // Linear in each: a difference is exact but for rounding.
            let check = |gradient: &[f64], difference: &dyn Fn(usize, f64) -> f64| {
                for (n, expected) in gradient.iter().enumerate() {
                    let difference = (difference(n, 0.5) - difference(n, -0.5)) / 1.0;
                    assert!(
                        (difference - expected).abs() < 1e-11,
                        "{difference} {expected}"
                    );
                }
            };
            check(&found.x, &|n, by| loss(&moved(&x, n, by), &weight, &bias));
            check(&found.weight, &|n, by| {
                loss(&x, &moved(&weight, n, by), &bias)
            });
            check(&found.bias, &|n, by| {
                loss(&x, &weight, &moved(&bias, n, by))
            });
        }
    }
}

fn close(what: &str, got: &[f64], expected: &[f64], bound: f64) {
    assert_eq!(got.len(), expected.len(), "{what}");
    let pairs = got.iter().zip(expected);
    let error: f64 = pairs.map(|(a, b)| (a - b).powi(2)).sum();
    let ratio = (error / dot(expected, expected).max(1e-30)).sqrt();
    assert!(ratio <= bound, "{what}: {ratio:e}");
}

/// A call's tensors in the precision that the device gets.
struct Call {
    shape: Conv2d,
    x: Vec<f64>,
    weight: Vec<f64>,
    bias: Option<Vec<f64>>,
    grad: Vec<f64>,
    /// What results are added to.
    held: Option<Vec<f64>>,
}

impl Call {
    fn new<T: Number>(shape: Conv2d, bias: bool, add: bool) -> Call {
        let shape = Conv2d {
            dtype: T::DTYPE,
            ..shape
        };
        Call {
            x: round::<T>(&values(shape.len(), 1)),
            weight: round::<f32>(&values(shape.kernels() * shape.taps(), 2)),
            bias: bias.then(|| round::<f32>(&values(shape.kernels(), 3))),
            grad: round::<T>(&values(shape.len(), 4)),
            held: add.then(|| round::<T>(&values(shape.len(), 5))),
            shape,
        }
    }

    fn held<T: Number>(&self) -> Tensor<T> {
        match &self.held {
            Some(held) => upload(held),
            None => upload(&vec![f64::NAN; self.shape.len()]),
        }
    }

    /// o, then the gradients of x, the weights and the bias, by plans for such a device.
    fn run<T: Number>(&self, caps: &Caps) -> [Vec<f64>; 4] {
        let (bias, add) = (self.bias.is_some(), self.held.is_some());
        let (x, weight) = (upload::<T>(&self.x), upload::<f32>(&self.weight));
        let grad = upload::<T>(&self.grad);
        let biases = self.bias.as_ref().map(|bias| upload::<f32>(bias));
        let (mut o, mut dx) = (self.held::<T>(), self.held::<T>());
        let mut dweight = upload::<f32>(&vec![f64::NAN; self.weight.len()]);
        let mut dbias = upload::<f32>(&vec![f64::NAN; self.bias.as_ref().map_or(0, Vec::len)]);
        let mut pass = gpu().pass("conv2d");
        let mut views = vec![x.view(), weight.view()];
        views.extend(biases.as_ref().map(Tensor::view));
        let plan = conv2d::plan(&self.shape, bias, add, caps).unwrap();
        pass.run(&plan, &views, &mut [o.view_mut()]).unwrap();
        let plan = conv2d::plan_adjoint(&self.shape, bias, add, caps).unwrap();
        let mut outputs = vec![dx.view_mut(), dweight.view_mut(), dbias.view_mut()];
        pass.run(&plan, &[x.view(), weight.view(), grad.view()], &mut outputs)
            .unwrap();
        pass.submit().unwrap();
        [
            download(&o),
            download(&dx),
            download(&dweight),
            download(&dbias),
        ]
    }

    fn holds<T: Number>(&self, caps: &Caps) {
        let what = format!("{:?}, bias {}", self.shape, self.bias.is_some());
        let added = |values: Vec<f64>| match &self.held {
            Some(held) => values.iter().zip(held).map(|(a, b)| a + b).collect(),
            None => values,
        };
        let bound = match T::DTYPE {
            Dtype::F16 => 5e-4,
            Dtype::Bf16 => 4e-3,
            _ => 2e-6,
        };
        let [o, dx, dweight, dbias] = self.run::<T>(caps);
        let (x, weight, grad) = (&self.x, &self.weight, &self.grad);
        let expected = cpu::depthwise_conv2d(&self.shape, x, weight, self.bias.as_deref());
        close(&what, &o, &added(expected.unwrap()), bound);
        let expected = cpu::depthwise_conv2d_adjoint(&self.shape, x, weight, grad).unwrap();
        close(&what, &dx, &added(expected.x), bound);
        close(&what, &dweight, &expected.weight, 2e-5);
        if self.bias.is_some() {
            close(&what, &dbias, &expected.bias, 2e-5);
        }
    }
}

#[test]
fn results_match_the_reference() {
    let sizes = [
        shape([1, 1], 1, 1, [3, 3]),
        shape([5, 6], 2, 8, [3, 3]),
        shape([7, 3], 3, 5, [5, 5]),
        shape([4, 19], 2, 70, [7, 3]),
        shape([3, 2], 2, 12, [9, 9]),
    ];
    for (n, sizes) in sample(sizes.into_iter().enumerate()) {
        for (m, channels) in ALL.into_iter().enumerate() {
            let layout = [Layout::Bthd, Layout::Bhtd][(n + m) % 2];
            let shape = Conv2d {
                layout,
                channels,
                ..sizes
            };
            let (bias, add) = (m != 1, n % 2 == 1);
            let caps = gpu().caps();
            Call::new::<f32>(shape, bias, add).holds::<f32>(caps);
            match (n + m) % 3 {
                0 => Call::new::<f16>(shape, bias, !add).holds::<f16>(caps),
                1 => Call::new::<bf16>(shape, bias, !add).holds::<bf16>(caps),
                _ => {}
            }
        }
    }
}

#[test]
fn runs_are_bit_equal_and_small_devices_agree() {
    for (layout, channels) in [
        (Layout::Bthd, Channels::Each),
        (Layout::Bhtd, Channels::OfHead),
        (Layout::Bhtd, Channels::Heads),
    ] {
        let shape = Conv2d {
            batch: 5,
            layout,
            channels,
            ..shape([6, 9], 3, 8, [5, 3])
        };
        let call = Call::new::<f32>(shape, true, true);
        let own = gpu().caps();
        let whole = call.run::<f32>(own);
        assert_eq!(whole, call.run::<f32>(own));
        for caps in [
            Caps {
                binding_bytes: 12 << 10,
                ..own.clone()
            },
            Caps {
                gflops: 1e-5,
                ..own.clone()
            },
            Caps {
                loop_iterations: 100,
                ..own.clone()
            },
        ] {
            let plan = conv2d::plan_adjoint(&shape, true, true, &caps).unwrap();
            let uncut = conv2d::plan_adjoint(&shape, true, true, own).unwrap();
            assert_ne!(plan.steps, uncut.steps);
            call.holds::<f32>(&caps);
            let cut = call.run::<f32>(&caps);
            assert_eq!(whole[..2], cut[..2]);
        }
    }
}

#[test]
fn public_calls_write_what_their_plans_do() {
    let call = Call::new::<f32>(shape([4, 4], 2, 4, [3, 3]), true, false);
    let expected = call.run::<f32>(gpu().caps());
    let (x, weight) = (upload::<f32>(&call.x), upload::<f32>(&call.weight));
    let (bias, grad) = (
        upload::<f32>(call.bias.as_ref().unwrap()),
        upload::<f32>(&call.grad),
    );
    let inputs = Conv2dInputs {
        x: &x,
        weight: &weight,
        bias: Some(&bias),
    };
    let mut o = gpu().zeros::<f32>(x.len()).unwrap();
    depthwise_conv2d(gpu(), &call.shape, &inputs, false, &mut o).unwrap();
    assert_eq!(download(&o), expected[0]);
    let mut dx = gpu().zeros::<f32>(x.len()).unwrap();
    let mut dweight = gpu().zeros::<f32>(weight.len()).unwrap();
    let mut dbias = gpu().zeros::<f32>(bias.len()).unwrap();
    let gradients = Conv2dGradients {
        x: &mut dx,
        weight: &mut dweight,
        bias: Some(&mut dbias),
    };
    depthwise_conv2d_adjoint(gpu(), &call.shape, &inputs, &grad, false, gradients).unwrap();
    assert_eq!(download(&dx), expected[1]);
    assert_eq!(download(&dweight), expected[2]);
    assert_eq!(download(&dbias), expected[3]);

    let refused = |shape: Conv2d, inputs: &Conv2dInputs<'_, f32>, at: &str| {
        let mut o = gpu().zeros::<f32>(x.len()).unwrap();
        match depthwise_conv2d(gpu(), &shape, inputs, false, &mut o) {
            Err(Error::Argument { what, .. }) => assert_eq!(what, at),
            other => panic!("{other:?}"),
        }
    };
    let even = Conv2d {
        kernel: [3, 4],
        ..call.shape
    };
    refused(even, &inputs, "kernel");
    let longer = Conv2d {
        grid: [4, 5],
        ..call.shape
    };
    refused(longer, &inputs, "x");
    let shared = Conv2d {
        channels: Channels::Heads,
        ..call.shape
    };
    refused(shared, &inputs, "weight");
    let halves = Conv2d {
        dtype: Dtype::F16,
        ..call.shape
    };
    refused(halves, &inputs, "shape.dtype");
}
