//! LiT: the CPU reference against the formula and finite differences, the adapter against the reference.

#[path = "common/device.rs"]
mod device;

#[path = "common/effort.rs"]
mod effort;

use device::{Number, download, gpu, round, upload};
use effort::sample;
use half::{bf16, f16};
use subquad::{
    Error,
    case::{Array, Case, ops},
    gpu::{Caps, Dtype},
    linear::{
        Channels, Conv2d, Conv2dInputs, Layout, Lit, LitGradients, LitInputs, cpu, lit,
        lit_backward,
    },
};

fn shape(grid: [usize; 2], heads: usize, [key, value]: [usize; 2], kernel: usize) -> Lit {
    Lit {
        key,
        eps: 1e-6,
        conv: Conv2d {
            batch: 2,
            grid,
            heads,
            value,
            layout: Layout::Bthd,
            dtype: Dtype::F32,
            kernel: [kernel; 2],
            channels: Channels::OfHead,
        },
    }
}

/// Numbers of either sign, at least 0.1 in size: away from the kink at 0.
fn values(len: usize, seed: &mut u64) -> Vec<f64> {
    let mut unit = || {
        *seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (*seed >> 40) as f64 / f64::from(1 << 24)
    };
    let mut value = || {
        let size = 0.1 + 0.9 * unit();
        if unit() < 0.5 { -size } else { size }
    };
    (0..len).map(|_| value()).collect()
}

/// A call's tensors in the precision that the device gets.
struct Call {
    shape: Lit,
    qkv: [Vec<f64>; 3],
    weight: Vec<f64>,
    bias: Option<Vec<f64>>,
    grad: Vec<f64>,
}

impl Call {
    fn new<T: Number>(mut shape: Lit, bias: bool) -> Call {
        shape.conv.dtype = T::DTYPE;
        let conv = &shape.conv;
        let keys = conv.len() / conv.value * shape.key;
        let mut seed = 7;
        let mut values = |len| values(len, &mut seed);
        let lens = [keys, keys, conv.len()];
        Call {
            qkv: lens.map(|len| round::<T>(&values(len))),
            weight: round::<f32>(&values(conv.kernels() * conv.taps())),
            bias: bias.then(|| round::<f32>(&values(conv.kernels()))),
            grad: round::<T>(&values(conv.len())),
            shape,
        }
    }

    fn qkv(&self) -> [&[f64]; 3] {
        let [q, k, v] = &self.qkv;
        [q, k, v]
    }

    fn reference(&self) -> (Vec<f64>, cpu::LitGradients) {
        let (qkv, weight) = (self.qkv(), &self.weight);
        let o = cpu::lit(&self.shape, qkv, weight, self.bias.as_deref());
        let gradients = cpu::lit_backward(&self.shape, qkv, weight, &self.grad);
        (o.unwrap(), gradients.unwrap())
    }

    /// o and the gradients by the public calls; the outputs hold NaN before.
    fn run<T: Number>(&self) -> (Vec<f64>, cpu::LitGradients) {
        let spoilt = |like: &[f64]| vec![f64::NAN; like.len()];
        let [q, k, v] = self.qkv().map(upload::<T>);
        let weight = upload::<f32>(&self.weight);
        let bias = self.bias.as_ref().map(|bias| upload::<f32>(bias));
        let inputs = LitInputs {
            q: &q,
            k: &k,
            v: Conv2dInputs {
                x: &v,
                weight: &weight,
                bias: bias.as_ref(),
            },
        };
        let mut o = upload::<T>(&spoilt(&self.grad));
        lit(gpu(), &self.shape, &inputs, &mut o).unwrap();
        let [mut dq, mut dk, mut dv] = self.qkv().map(|x| upload::<T>(&spoilt(x)));
        let mut dweight = upload::<f32>(&spoilt(&self.weight));
        let mut dbias = self.bias.as_ref().map(|bias| upload::<f32>(&spoilt(bias)));
        let gradients = LitGradients {
            q: &mut dq,
            k: &mut dk,
            v: &mut dv,
            weight: &mut dweight,
            bias: dbias.as_mut(),
        };
        let grad = upload::<T>(&self.grad);
        lit_backward(gpu(), &self.shape, &inputs, &grad, gradients).unwrap();
        let gradients = cpu::LitGradients {
            q: download(&dq),
            k: download(&dk),
            v: download(&dv),
            weight: download(&dweight),
            bias: dbias.map_or_else(Vec::new, |bias| download(&bias)),
        };
        (download(&o), gradients)
    }

    /// Two runs are bit-equal and close to the reference.
    fn holds<T: Number>(&self) {
        let (forward, backward) = match T::DTYPE {
            Dtype::F16 => (1e-3, 1e-3),
            Dtype::Bf16 => (4e-3, 4e-3),
            _ => (5e-6, 2e-5),
        };
        let found = self.run::<T>();
        assert_eq!(found, self.run::<T>(), "{:?}", self.shape);
        let ((o, d), (expected_o, expected)) = (found, self.reference());
        let check = |what: &str, got: &[f64], expected: &[f64], bound: f64| {
            let ratio = ratio(got, expected);
            let what = format!("{what} of {:?}", self.shape);
            assert!(ratio <= bound, "{what}: {ratio:e}");
        };
        check("o", &o, &expected_o, forward);
        check("dq", &d.q, &expected.q, backward);
        check("dk", &d.k, &expected.k, backward);
        check("dv", &d.v, &expected.v, backward);
        check("dweight", &d.weight, &expected.weight, 2e-5);
        if self.bias.is_some() {
            check("dbias", &d.bias, &expected.bias, 2e-5);
        }
    }
}

fn ratio(got: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(got.len(), expected.len());
    let squares = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>();
    let error = squares(&mut got.iter().zip(expected).map(|(a, b)| a - b));
    (error / squares(&mut expected.iter().copied())).sqrt()
}

/// One head on a grid of 2 x 3, from the formula, with sums written out.
#[test]
fn the_reference_is_the_formula() {
    let mut shape = shape([2, 3], 1, [2, 2], 3);
    shape.conv.batch = 1;
    let call = Call::new::<f32>(shape, true);
    let ([q, k, v], bias) = (call.qkv(), call.bias.as_ref().unwrap());
    let (o, _) = call.reference();
    for t in 0..6 {
        for c in 0..2 {
            let (mut above, mut below) = (0.0, f64::from(shape.eps));
            for s in 0..6 {
                let product = (0..2).map(|i| q[2 * t + i].max(0.0) * k[2 * s + i].max(0.0));
                let product: f64 = product.sum();
                above += product * v[2 * s + c];
                below += product;
            }
            let mut expected = above / below + bias[c];
            for i in 0..3 {
                for j in 0..3 {
                    let (line, column) = (t / 3 + i, t % 3 + j);
                    if (1..=2).contains(&line) && (1..=3).contains(&column) {
                        let at = (line - 1) * 3 + column - 1;
                        expected += call.weight[c * 9 + i * 3 + j] * v[2 * at + c];
                    }
                }
            }
            assert!((o[2 * t + c] - expected).abs() < 1e-12);
        }
    }
}

#[test]
fn reference_gradients_are_finite_differences() {
    let call = Call::new::<f32>(shape([2, 3], 2, [3, 2], 3), true);
    let (_, found) = call.reference();
    let bias = call.bias.clone().unwrap();
    let given = [
        &call.qkv[0],
        &call.qkv[1],
        &call.qkv[2],
        &call.weight,
        &bias,
    ];
    let loss = |x: &[Vec<f64>]| {
        let o = cpu::lit(&call.shape, [&x[0], &x[1], &x[2]], &x[3], Some(&x[4])).unwrap();
        o.iter().zip(&call.grad).map(|(o, g)| o * g).sum::<f64>()
    };
    let gradients = [found.q, found.k, found.v, found.weight, found.bias];
    for (n, gradient) in gradients.iter().enumerate() {
        for (at, expected) in gradient.iter().enumerate() {
            // No value is within 0.1 of the kink at 0.
            let moved = |by: f64| {
                let mut x = given.map(Vec::clone);
                x[n][at] += by;
                loss(&x)
            };
            let slope = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            assert!(
                (slope - expected).abs() < 1e-7,
                "{n} {at}: {slope} {expected}"
            );
        }
    }
}

#[test]
fn single_precision_matches_the_reference() {
    let all = [
        ([4, 5], 2, [32, 32], 3),
        ([4, 5], 3, [192, 192], 5),
        ([2, 3], 2, [288, 288], 5),
        ([14, 14], 3, [32, 32], 5),
        ([14, 14], 2, [32, 192], 3),
        ([3, 5], 2, [30, 33], 3),
        ([1, 4], 1, [512, 512], 3),
    ];
    for (n, (grid, heads, widths, kernel)) in sample(all.into_iter().enumerate()) {
        let mut shape = shape(grid, heads, widths, kernel);
        shape.conv.layout = [Layout::Bthd, Layout::Bhtd][n % 2];
        shape.conv.channels = [Channels::OfHead, Channels::Each, Channels::Heads][n % 3];
        Call::new::<f32>(shape, n % 3 != 1).holds::<f32>();
    }
}

#[test]
fn half_precision_matches_the_reference() {
    let all = [
        ([4, 5], 3, [32, 32], 3),
        ([14, 14], 2, [32, 32], 5),
        ([3, 4], 2, [192, 192], 5),
        ([2, 3], 2, [288, 288], 3),
        ([3, 5], 2, [30, 33], 3),
    ];
    for (n, (grid, heads, widths, kernel)) in sample(all.into_iter().enumerate()) {
        let mut shape = shape(grid, heads, widths, kernel);
        shape.conv.layout = [Layout::Bhtd, Layout::Bthd][n % 2];
        Call::new::<f16>(shape, n % 2 == 0).holds::<f16>();
        Call::new::<bf16>(shape, n % 2 == 1).holds::<bf16>();
    }
}

/// Queries that the map makes zero read nothing but the convolution, with an eps that f32 squares to nothing.
#[test]
fn queries_and_keys_below_zero_leave_the_convolution() {
    let mut shape = shape([3, 4], 2, [8, 8], 3);
    shape.eps = 1e-15;
    let mut call = Call::new::<f32>(shape, true);
    call.qkv[0].iter_mut().for_each(|q| *q = -q.abs());
    let (o, d) = call.run::<f32>();
    let conv = cpu::depthwise_conv2d(
        &shape.conv,
        &call.qkv[2],
        &call.weight,
        call.bias.as_deref(),
    );
    assert!(ratio(&o, &conv.unwrap()) <= 5e-6);
    assert!(d.q.iter().chain(&d.k).all(|d| *d == 0.0));
    assert!(d.v.iter().all(|d| d.is_finite()));
}

/// The attention and the convolution share v and o.
#[test]
fn plans_are_credited_with_every_tensor_once() {
    let shape = shape([4, 5], 2, [24, 32], 3);
    let rows = shape.conv.len() / 32;
    let weights = (shape.conv.taps() + 1) * shape.conv.kernels();
    let plan = subquad::linear::lit::plan(&shape, true, &Caps::nvidia()).unwrap();
    let elements = rows * (24 + 24 + 32 + 32) + weights;
    assert_eq!(plan.work.bytes, 4.0 * elements as f64);
}

#[test]
fn cases_that_do_not_fit_are_refused() {
    let op = |name: &str| ops().iter().find(|op| op.name == name).unwrap();
    let lit = (op("lit_attention").builtin)().remove(0);
    let conv = (op("depthwise_conv2d").builtin)().remove(0);
    let refused = |case: &Case, words: &str, change: &dyn Fn(&mut Case)| {
        assert!(case.bind().is_ok());
        let mut case = case.clone();
        change(&mut case);
        let error = case.bind().err().expect(words).to_string();
        assert!(error.contains(words), "{error}");
    };
    let param = |name: &'static str, value: serde_json::Value| {
        move |case: &mut Case| drop(case.params.insert(name.into(), value.clone()))
    };
    let tensor = |name: &'static str, shape: &'static [usize]| {
        let zeros = vec![0.0; shape.iter().product()];
        move |case: &mut Case| drop(case.inputs.insert(name.into(), Array::f32(shape, &zeros)))
    };
    refused(&lit, "make the 72 tokens of v", &param("lines", 5.into()));
    refused(&lit, "parameter columns is", &param("columns", ().into()));
    refused(&lit, "parameter eps is", &param("eps", ().into()));
    refused(&lit, "normalize", &param("eps", (-1.0).into()));
    refused(&lit, "have 96 kernels", &param("channels", "each".into()));
    refused(&conv, "have 2 kernels", &param("channels", "heads".into()));
    refused(&lit, "tensor k must be", &tensor("k", &[2, 72, 3, 31]));
    refused(&lit, "tensor bias must be", &tensor("bias", &[31]));
    refused(&lit, "kernel must be", &tensor("weight", &[32, 4, 5]));
    refused(&lit, "tensor grad_out.o must", &|case| {
        let grad = Array::f32(&[1], &[0.0]);
        case.grad_outputs.insert("o".into(), grad);
    });
    refused(&conv, "no input tensor `x`", &|case| {
        case.inputs.remove("x");
    });
}

#[test]
fn plans_fit_small_devices() {
    let shape = shape([14, 14], 3, [192, 192], 5);
    for caps in [Caps::webgpu_floor(), Caps::lavapipe()] {
        let plan = subquad::linear::lit::plan(&shape, true, &caps).unwrap();
        plan.check(&caps).unwrap();
        let plan = subquad::linear::lit::plan_backward(&shape, true, &caps).unwrap();
        plan.check(&caps).unwrap();
    }
}

#[test]
fn arguments_that_do_not_fit_are_refused() {
    let call = Call::new::<f32>(shape([4, 5], 2, [8, 8], 3), true);
    let [q, k, v] = call.qkv().map(upload::<f32>);
    let weight = upload::<f32>(&call.weight);
    let bias = upload::<f32>(call.bias.as_ref().unwrap());
    let inputs = LitInputs {
        q: &q,
        k: &k,
        v: Conv2dInputs {
            x: &v,
            weight: &weight,
            bias: Some(&bias),
        },
    };
    let refused = |shape: Lit, inputs: &LitInputs<'_, f32>, at: &str| {
        let mut o = gpu().zeros::<f32>(v.len()).unwrap();
        match lit(gpu(), &shape, inputs, &mut o) {
            Err(Error::Argument { what, .. }) => assert_eq!(what, at),
            other => panic!("{other:?}"),
        }
    };
    let with = |change: fn(&mut Lit)| {
        let mut shape = call.shape;
        change(&mut shape);
        shape
    };
    refused(with(|shape| shape.key = 9), &inputs, "q");
    refused(with(|shape| shape.key = 513), &inputs, "key width");
    refused(with(|shape| shape.eps = -1.0), &inputs, "normalize");
    refused(with(|shape| shape.eps = f32::NAN), &inputs, "normalize");
    refused(with(|shape| shape.conv.kernel = [4, 3]), &inputs, "kernel");
    refused(
        with(|shape| shape.conv.grid = [usize::MAX, 2]),
        &inputs,
        "shape",
    );
    refused(
        call.shape,
        &LitInputs {
            k: &weight,
            ..inputs
        },
        "k",
    );

    let [mut dq, mut dk, mut dv] = [q.len(), k.len(), v.len()].map(|n| gpu().zeros(n).unwrap());
    let mut dweight = gpu().zeros(weight.len()).unwrap();
    let gradients = LitGradients {
        q: &mut dq,
        k: &mut dk,
        v: &mut dv,
        weight: &mut dweight,
        bias: None,
    };
    match lit_backward(gpu(), &call.shape, &inputs, &v, gradients) {
        Err(Error::Argument { what, .. }) => assert_eq!(what, "the gradient of bias"),
        other => panic!("{other:?}"),
    }
}
