//! A call of linear attention that owns its inputs, on the device and in f64.

use std::ops::Range;

use half::{bf16, f16};
use subquad::{
    gpu::{Caps, Dtype, Elem},
    linear::{
        Decay, FeatureMap, Form, Inputs, Layout, Options, Outputs, Shape, cpu, forward,
        plan::{self, States},
        step,
    },
    plan::Plan,
};

use crate::{
    common::{Random, map},
    gpu,
};

/// A call with random inputs; what it has no use for is empty.
#[derive(Clone, Debug)]
pub struct Call {
    pub shape: Shape,
    pub options: Options,
    pub q: Vec<f32>,
    pub k: Vec<f32>,
    pub v: Vec<f32>,
    pub g: Vec<f32>,
    pub beta: Vec<f32>,
    /// The initial state.
    pub state: Vec<f32>,
    /// The initial sum of keys, with the normaliser: zero, as the reference has no other.
    pub z: Vec<f32>,
    /// The feature map's weights and bias.
    pub weights: [Vec<f32>; 2],
    pub bounds: Option<Vec<u32>>,
}

/// What a call returns.
#[derive(Clone, Debug, PartialEq)]
pub struct Out {
    pub o: Vec<f32>,
    pub state: Vec<f32>,
    pub z: Vec<f32>,
}

impl Call {
    /// Lightning attention over one sequence of f32.
    pub fn new(tokens: usize, heads: usize, key: usize, value: usize) -> Call {
        let shape = Shape {
            batch: 1,
            tokens,
            heads,
            kv_heads: heads,
            key,
            value,
            layout: Layout::Bthd,
            dtype: Dtype::F32,
        };
        let mut random = Random((tokens * 31 + heads * 7 + key) as u64);
        let mut call = Call::with(shape, Options::lightning(), None, &mut random);
        call.g = (0..heads).map(|h| -0.3 / (1 << h) as f32).collect();
        call
    }

    /// Values in (-1, 1), rounded to their type. Keys have a norm below 1, which the delta rule needs; what is normalised is
    /// positive, so that no denominator is nearly 0.
    pub fn with(
        shape: Shape,
        options: Options,
        bounds: Option<Vec<u32>>,
        random: &mut Random,
    ) -> Call {
        let round = |x: f64| rounded(shape.dtype, x);
        let mut values = |len: usize, positive: bool, factor: f64| -> Vec<f32> {
            let values = random.values(len, positive);
            values.into_iter().map(|x| round(factor * x)).collect()
        };
        let normalized = options.normalize.is_some();
        let positive = normalized && options.feature_map == FeatureMap::Identity;
        let (q, k, v) = (
            values(shape.query_len(), positive, 1.0),
            values(shape.key_len(), positive, (shape.key as f64).powf(-0.5)),
            values(shape.value_len(), false, 1.0),
        );
        let per_token = shape.state_rows() * shape.tokens;
        let sequences = bounds
            .as_ref()
            .map_or(shape.batch, |bounds| bounds.len() - 1);
        let features = options.feature_width(&shape);
        let sums = sequences * shape.kv_heads * features;
        let mut wide = |len: usize, positive: bool, factor: f64| -> Vec<f32> {
            let values = random.values(len, positive);
            values.into_iter().map(|x| (factor * x) as f32).collect()
        };
        let decays = match options.decay {
            Decay::None => 0,
            Decay::Head => shape.kv_heads,
            Decay::Token => per_token,
            _ => per_token * features,
        };
        let each = options.feature_map.weight_len(shape.key);
        Call {
            q,
            k,
            v,
            g: wide(decays, true, -0.3),
            beta: wide(if options.delta { per_token } else { 0 }, true, 1.0),
            state: wide(sums * shape.value, false, 1.0),
            z: vec![0.0; if normalized { sums } else { 0 }],
            weights: each.map_or_else(Default::default, |each| {
                let root = (shape.key as f64).powf(-0.5);
                [wide(each, false, root), wide(shape.key, false, 0.3)]
            }),
            shape,
            options,
            bounds,
        }
    }

    pub fn form(mut self, form: Form) -> Call {
        self.options.form = form;
        self
    }

    /// The sequences and their heads of keys.
    pub fn states(&self) -> usize {
        let bounds = self.bounds.as_ref();
        bounds.map_or(self.shape.batch, |bounds| bounds.len() - 1) * self.shape.kv_heads
    }

    /// `forward`.
    pub fn run(&self) -> Out {
        match self.shape.dtype {
            Dtype::F16 => self.run_as(f16::from_f32, f16::to_f32, false),
            Dtype::Bf16 => self.run_as(bf16::from_f32, bf16::to_f32, false),
            _ => self.run_as(|x| x, |x| x, false),
        }
    }

    /// `step`, from the initial state.
    pub fn step(&self) -> Out {
        match self.shape.dtype {
            Dtype::F16 => self.run_as(f16::from_f32, f16::to_f32, true),
            Dtype::Bf16 => self.run_as(bf16::from_f32, bf16::to_f32, true),
            _ => self.run_as(|x| x, |x| x, true),
        }
    }

    fn run_as<T: Elem>(&self, narrow: fn(f32) -> T, widen: fn(T) -> f32, stepwise: bool) -> Out {
        let gpu = gpu();
        let narrow = |values: &[f32]| -> Vec<T> { values.iter().map(|x| narrow(*x)).collect() };
        let [q, k, v] = [&self.q, &self.k, &self.v].map(|x| gpu.upload(&narrow(x)).unwrap());
        let [g, beta, mut state, mut z, weight, bias] = self
            .given()
            .map(|values| values.map(|values| gpu.upload(values).unwrap()));
        let inputs = Inputs {
            log_decay: g.as_ref(),
            beta: beta.as_ref(),
            fm_weight: weight.as_ref(),
            fm_bias: bias.as_ref(),
            ..Inputs::new(&q, &k, &v)
        };
        let nan = narrow(&vec![f32::NAN; self.shape.output_len()]);
        let mut o = gpu.upload(&nan).unwrap();
        let down = |o: Vec<T>, state: Vec<f32>, z: Vec<f32>| Out {
            o: o.into_iter().map(widen).collect(),
            state,
            z,
        };
        if stepwise {
            let (shape, options) = (&self.shape, &self.options);
            let own = state.as_mut().unwrap();
            step(gpu, shape, options, &inputs, own, z.as_mut(), &mut o).unwrap();
            let z = z.map_or(Vec::new(), |z| z.download().unwrap());
            return down(o.download().unwrap(), own.download().unwrap(), z);
        }
        let sums = self.states() * self.features();
        let mut last = gpu
            .upload(&vec![f32::NAN; sums * self.shape.value])
            .unwrap();
        let mut last_z = gpu.upload(&vec![f32::NAN; sums]).unwrap();
        let normalized = self.options.normalize.is_some();
        forward(
            gpu,
            &self.shape,
            &self.options,
            &Inputs {
                initial_state: state.as_ref(),
                initial_z: z.as_ref(),
                cu_seqlens: self.bounds.as_deref(),
                ..inputs
            },
            Outputs {
                o: &mut o,
                final_state: Some(&mut last),
                final_z: normalized.then_some(&mut last_z),
            },
        )
        .unwrap();
        let z = if normalized {
            last_z.download().unwrap()
        } else {
            Vec::new()
        };
        down(o.download().unwrap(), last.download().unwrap(), z)
    }

    /// Width of queries and keys after the feature map.
    pub fn features(&self) -> usize {
        self.options.feature_width(&self.shape)
    }

    /// Decays, beta, initial state, initial z, weights and bias, where the call has them; they may be empty for lack of tokens.
    pub fn given(&self) -> [Option<&Vec<f32>>; 6] {
        let any = |values| Some(values).filter(|values: &&Vec<f32>| !values.is_empty());
        let [weight, bias] = &self.weights;
        [
            (self.options.decay != Decay::None).then_some(&self.g),
            self.options.delta.then_some(&self.beta),
            any(&self.state),
            any(&self.z),
            any(weight),
            any(bias),
        ]
    }

    /// The plan for another device.
    pub fn plan(&self, caps: &Caps) -> Plan {
        let normalized = self.options.normalize.is_some();
        let states = States {
            initial: !self.state.is_empty(),
            initial_z: !self.z.is_empty(),
            last: true,
            last_z: normalized,
            fm_weight: self.given()[4].map(Vec::len),
            fm_bias: self.given()[5].map(Vec::len),
            cu_seqlens: self.bounds.as_deref(),
        };
        plan::forward(&self.shape, &self.options, states, caps).unwrap()
    }

    /// Runs a plan of this call in f32, without run-time checks.
    pub fn run_plan(&self, plan: &Plan) -> Out {
        let gpu = gpu();
        let inputs: Vec<_> = [&self.q, &self.k, &self.v]
            .into_iter()
            .chain(self.given().into_iter().flatten())
            .map(|values| gpu.upload(values).unwrap())
            .collect();
        let sums = self.states() * self.features();
        let sizes = [
            self.shape.output_len(),
            sums * self.shape.value,
            if self.options.normalize.is_some() {
                sums
            } else {
                0
            },
        ];
        let mut outputs = sizes.map(|len| gpu.upload(&vec![f32::NAN; len]).unwrap());
        let views: Vec<_> = inputs.iter().map(|tensor| tensor.view()).collect();
        let mut targets: Vec<_> = outputs.iter_mut().map(|tensor| tensor.view_mut()).collect();
        targets.truncate(if sizes[2] == 0 { 2 } else { 3 });
        let mut pass = gpu.pass("plan");
        pass.run_checked(plan, &views, &mut targets, false).unwrap();
        pass.submit().unwrap();
        let [o, state, z] = outputs.map(|tensor| tensor.download().unwrap());
        Out { o, state, z }
    }

    pub fn reference(&self) -> cpu::Outputs {
        self.in_f64(|inputs| cpu::forward(&self.shape, &self.options, inputs).unwrap())
    }

    /// What a function makes of the inputs in f64; the sum of keys that the reference starts from is zero.
    pub fn in_f64<T>(&self, then: impl FnOnce(&cpu::Inputs<'_>) -> T) -> T {
        let given = self.given().map(|values| values.map(|values| wide(values)));
        let [g, beta, state, _, weight, bias] = &given;
        then(&cpu::Inputs {
            log_decay: g.as_deref(),
            beta: beta.as_deref(),
            initial_state: state.as_deref(),
            fm_weight: weight.as_deref(),
            fm_bias: bias.as_deref(),
            cu_seqlens: self.bounds.as_deref(),
            ..cpu::Inputs::new(&wide(&self.q), &wide(&self.k), &wide(&self.v))
        })
    }

    /// The largest relative error over its bound, of o, state and z.
    pub fn miss(&self, out: &Out, reference: &cpu::Outputs) -> f64 {
        let f32s = if self.options.delta { 1e-5 } else { 5e-6 };
        let bound = match self.shape.dtype {
            Dtype::F16 => 1e-3,
            Dtype::Bf16 => 4e-3,
            _ => f32s,
        };
        let errors = [
            ratio(&out.o, &reference.o) / bound,
            ratio(&out.state, &reference.final_state) / f32s,
            ratio(&out.z, &reference.final_z) / f32s,
        ];
        // NaN counts as a miss.
        errors
            .into_iter()
            .fold(0.0, |most, e| if e <= most { most } else { e })
    }

    /// The same call in another shape, with states that stay: `source` says from which batch, token and head a row comes.
    pub fn map(&self, shape: Shape, source: impl Fn(bool, [usize; 3]) -> [usize; 3]) -> Call {
        let rows = |x: &[f32], query: bool, width: usize| {
            map(x, &self.shape, &shape, query, width, |at| source(query, at))
        };
        let g = match self.options.decay {
            Decay::Token => rows(&self.g, false, 1),
            Decay::Channel => rows(&self.g, false, self.features()),
            _ => self.g.clone(),
        };
        let beta = match self.beta.as_slice() {
            [] => Vec::new(),
            beta => rows(beta, false, 1),
        };
        Call {
            q: rows(&self.q, true, shape.key),
            k: rows(&self.k, false, shape.key),
            v: rows(&self.v, false, shape.value),
            g,
            beta,
            shape,
            ..self.clone()
        }
    }

    /// Some tokens, from a given state (and sum of keys).
    pub fn cut(&self, tokens: Range<usize>, state: Vec<f32>, z: Vec<f32>) -> Call {
        let shape = Shape {
            tokens: tokens.len(),
            ..self.shape
        };
        let cut = self.map(shape, |_, [b, t, h]| [b, t + tokens.start, h]);
        Call { state, z, ..cut }
    }

    /// A tensor of o's rows with those of another call's shape.
    pub fn turned(&self, o: &[f32], shape: Shape) -> Vec<f32> {
        map(o, &self.shape, &shape, true, shape.value, |at| at)
    }

    /// The rows of o of some tokens of every head, batch by batch.
    pub fn tokens(&self, o: &[f32], tokens: Range<usize>) -> Vec<f32> {
        let shape = Shape {
            tokens: tokens.len(),
            layout: Layout::Bthd,
            ..self.shape
        };
        let source = |[b, t, h]: [usize; 3]| [b, t + tokens.start, h];
        map(o, &self.shape, &shape, true, shape.value, source)
    }
}

/// A number as a type stores it.
pub fn rounded(dtype: Dtype, x: f64) -> f32 {
    match dtype {
        Dtype::F16 => f16::from_f64(x).to_f32(),
        Dtype::Bf16 => bf16::from_f64(x).to_f32(),
        _ => x as f32,
    }
}

pub fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|x| f64::from(*x)).collect()
}

/// Root-mean-square error over the root mean square.
pub fn ratio(got: &[f32], reference: &[f64]) -> f64 {
    assert_eq!(got.len(), reference.len());
    let error: f64 = got
        .iter()
        .zip(reference)
        .map(|(a, b)| (f64::from(*a) - b).powi(2))
        .sum();
    let norm: f64 = reference.iter().map(|x| x * x).sum();
    // Nothing expected and nothing wrong.
    if error == 0.0 {
        0.0
    } else {
        (error / norm).sqrt()
    }
}
