//! A call with its tensors, on the reference and on the adapter, by the plans of software adapters and of GPUs.

use subquad::{
    Tensor,
    case::Numbers,
    gpu::Caps,
    kronecker::tensor_attention::{
        Logits, Options, Shape, cpu,
        plan::{self, Wanted},
    },
    plan::Plan,
};

use crate::device::gpu;
pub use crate::devices::{devices, devices_for};

/// u = 2⁻²⁴.
const UNIT: f64 = 1.0 / (1 << 24) as f64;

/// q, k1, k2, v1, v2 and the gradient of o.
#[derive(Clone)]
pub struct Call {
    pub shape: Shape,
    pub options: Options,
    pub inputs: [Vec<f32>; 5],
    pub grad_o: Vec<f32>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Out {
    pub o: Vec<f32>,
    pub lse: Vec<f32>,
}

impl Call {
    /// Numbers in (-1, 1).
    pub fn new(shape: Shape, options: Options) -> Call {
        let mut numbers = Numbers::of("tensor attention");
        let mut values =
            |len: usize| -> Vec<f32> { (0..len).map(|_| numbers.signed() as f32).collect() };
        let ([k1, k2], [v1, v2]) = (shape.key_lens(), shape.value_lens());
        Call {
            inputs: [shape.query_len(), k1, k2, v1, v2].map(&mut values),
            grad_o: values(shape.output_len()),
            shape,
            options,
        }
    }

    /// Runs on the adapter as a plan says.
    pub fn run_plan(&self, plan: &Plan) -> Out {
        let tensors: Vec<Tensor<f32>> = self.upload();
        let views: Vec<_> = tensors.iter().map(Tensor::view).collect();
        let mut o = gpu()
            .upload(&vec![f32::NAN; self.shape.output_len()])
            .unwrap();
        let mut lse = gpu().upload(&vec![f32::NAN; self.shape.rows()]).unwrap();
        let mut pass = gpu().pass("test");
        pass.run(plan, &views, &mut [o.view_mut(), lse.view_mut()])
            .unwrap();
        pass.submit().unwrap();
        Out {
            o: o.download().unwrap(),
            lse: lse.download().unwrap(),
        }
    }

    fn upload(&self) -> Vec<Tensor<f32>> {
        let inputs = self.inputs.iter();
        inputs.map(|x| gpu().upload(x).unwrap()).collect()
    }

    pub fn plan(&self, caps: &Caps) -> Plan {
        plan::forward(&self.shape, &self.options, true, caps).unwrap()
    }

    pub fn run(&self, caps: &Caps) -> Out {
        self.run_plan(&self.plan(caps))
    }

    /// The gradients of all inputs, from the outputs of a run.
    pub fn backward(&self, caps: &Caps) -> Vec<Vec<f32>> {
        let plan = plan::backward(&self.shape, &self.options, Wanted::ALL, caps).unwrap();
        self.backward_plan(&plan, &self.run(caps))
    }

    pub fn backward_plan(&self, plan: &Plan, out: &Out) -> Vec<Vec<f32>> {
        let mut tensors = self.upload();
        tensors.extend([&out.o, &out.lse, &self.grad_o].map(|x| gpu().upload(x).unwrap()));
        let views: Vec<_> = tensors.iter().map(Tensor::view).collect();
        let blank = |x: &Vec<f32>| gpu().upload(&vec![f32::NAN; x.len()]).unwrap();
        let mut grads: Vec<Tensor<f32>> = self.inputs.iter().map(blank).collect();
        let mut pass = gpu().pass("test");
        let mut outputs: Vec<_> = grads.iter_mut().map(Tensor::view_mut).collect();
        pass.run(plan, &views, &mut outputs).unwrap();
        pass.submit().unwrap();
        grads.iter().map(|x| x.download().unwrap()).collect()
    }

    fn wide(&self) -> Vec<Vec<f64>> {
        self.inputs.iter().map(|x| wide(x)).collect()
    }

    pub fn reference(&self) -> cpu::Outputs {
        reference(&self.shape, &self.options, &self.wide())
    }

    pub fn reference_gradients(&self) -> cpu::Gradients {
        let x = self.wide();
        cpu::backward(&self.shape, &self.options, &of(&x), &wide(&self.grad_o)).unwrap()
    }

    /// Holds the outputs of the devices' plans to the bounds; two runs are bit-equal.
    pub fn holds(&self, what: &str) {
        let reference = self.reference();
        for caps in devices_for(what) {
            let out = self.run(&caps);
            assert_eq!(out, self.run(&caps), "{what}: two runs differ");
            self.judge(&out, &reference, &format!("{what}, {:?}", caps.class));
        }
    }

    pub fn judge(&self, out: &Out, reference: &cpu::Outputs, what: &str) {
        let [of_o, of_lse] = &reference.magnitudes;
        let miss = worst(&out.o, &reference.o, of_o, 4.0 * UNIT, 0.0);
        let ratio = ratio(&out.o, &reference.o);
        assert!(miss <= 1.0, "{what}: o, {miss} of the bound");
        assert!(ratio <= 5e-6, "{what}: o, {ratio:e}");
        let miss = worst(&out.lse, &reference.lse, of_lse, 4.0 * UNIT, 4.0 * UNIT);
        assert!(miss <= 1.0, "{what}: lse, {miss} of the bound");
    }

    pub fn gradients_hold(&self, what: &str) {
        let reference = self.reference_gradients();
        for caps in devices_for(what) {
            let grads = self.backward(&caps);
            assert_eq!(grads, self.backward(&caps), "{what}: two runs differ");
            let all = grads.iter().zip(&reference.values);
            for ((grad, name), size) in all
                .zip(["q", "k1", "k2", "v1", "v2"])
                .zip(&reference.magnitudes)
            {
                let (grad, values) = grad;
                let miss = worst(grad, values, size, 8.0 * UNIT, 0.0);
                let what = format!("{what}, {:?}, {name}", caps.class);
                assert!(miss <= 1.0, "{what}: {miss} of the bound");
                // Of terms that cancel nothing but rounding is left.
                let norm = |x: &[f64]| x.iter().map(|x| x * x).sum::<f64>().sqrt();
                let ratio = ratio(grad, values);
                let cancelled = norm(values) <= 1e-9 * norm(size);
                assert!(cancelled || ratio <= 2e-5, "{what}: {ratio:e}");
            }
        }
    }
}

pub fn of(x: &[Vec<f64>]) -> cpu::Inputs<'_> {
    cpu::Inputs {
        q: &x[0],
        keys: [&x[1], &x[2]],
        values: [&x[3], &x[4]],
    }
}

pub fn reference(shape: &Shape, options: &Options, x: &[Vec<f64>]) -> cpu::Outputs {
    cpu::forward(shape, options, &of(x)).unwrap()
}

pub fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|x| f64::from(*x)).collect()
}

/// The root mean square of the differences over that of the values.
pub fn ratio(got: &[f32], values: &[f64]) -> f64 {
    assert_eq!(got.len(), values.len());
    let square = |x: f64| x * x;
    let error: f64 = got
        .iter()
        .zip(values)
        .map(|(x, y)| square(f64::from(*x) - y))
        .sum();
    let norm: f64 = values.iter().map(|y| square(*y)).sum();
    if error == 0.0 {
        0.0
    } else {
        (error / norm).sqrt()
    }
}

/// The largest error of an element over its own bound.
fn worst(got: &[f32], values: &[f64], size: &[f64], per_size: f64, per_value: f64) -> f64 {
    assert_eq!(got.len(), values.len());
    let elements = got.iter().zip(values).zip(size);
    elements.fold(0.0, |worst, ((got, value), size)| {
        let allowed = per_size * size + per_value * value.abs() + f64::from(f32::MIN_POSITIVE);
        let miss = (f64::from(*got) - value).abs() / allowed;
        if miss.is_nan() {
            f64::INFINITY
        } else {
            worst.max(miss)
        }
    })
}

/// Options of a form with the biases that it takes.
pub fn biased(logits: Logits) -> Options {
    let [k2_bias, v2_bias] = match logits {
        Logits::Trilinear => [0.25, 0.5],
        _ => [0.0; 2],
    };
    Options {
        logits,
        k2_bias,
        v2_bias,
        ..Options::new(0.7)
    }
}
