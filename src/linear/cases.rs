//! `linear_attention` as the program, the tests and the benches see it.

use serde_json::{Map, Value, json};

use super::{
    Decay, FeatureMap, Layout, Options, Shape, cpu, log_decay_retention,
    plan::{self, States},
    shape::sequences,
    slopes_opennlplab,
};
use crate::{
    Error,
    case::{Array, Bench, Case, Failure, Op, Output, Problem, Reference},
    gpu::{Caps, Class, Dtype},
    plan::Plan,
};

/// The operator's entry in the table.
pub(crate) const OP: Op = Op {
    name: plan::OP,
    bind,
    builtin,
    benches,
};

struct LinearAttention {
    shape: Shape,
    options: Options,
    step: bool,
    /// q, k, v and log_decay, if there is one.
    inputs: Vec<Array>,
    beta: Option<Array>,
    initial_state: Option<Array>,
    fm_weight: Option<Array>,
    fm_bias: Option<Array>,
    cu_seqlens: Option<Vec<u32>>,
    /// Sequences: the batch, or those packed into it.
    sequences: usize,
    /// Gradients handed to o and the final state.
    grad_outputs: Option<[Option<Array>; 2]>,
}

fn bind(case: &Case) -> Result<Box<dyn Problem>, Failure> {
    let text = |name: &str, default: &'static str| match case.params.get(name) {
        None => Ok(default.to_owned()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(other) => Err(case.wrong(format!("parameter {name} must be text, got {other}"))),
    };
    let flag = |name: &str, default: bool| match case.params.get(name) {
        None => Ok(default),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(other) => Err(case.wrong(format!(
            "parameter {name} must be true or false, got {other}"
        ))),
    };
    let number = |name: &str| {
        let number = case.params.get(name).and_then(Value::as_f64);
        match number.filter(|number| number.is_finite()) {
            Some(number) => Ok(number as f32),
            None => Err(case.wrong(format!("parameter {name} must be a finite number"))),
        }
    };
    let layout = match text("layout", "")?.as_str() {
        "bthd" => Layout::Bthd,
        "bhtd" => Layout::Bhtd,
        other => {
            return Err(case.wrong(format!(
                "parameter layout must be bthd or bhtd, got \"{other}\""
            )));
        }
    };
    let scale = number("scale")?;
    let normalize = match flag("normalize", false)? {
        true => Some(number("eps")?),
        false => None,
    };
    let feature_map = match text("feature_map", "identity")?.as_str() {
        "identity" => FeatureMap::Identity,
        "relu" => FeatureMap::Relu,
        "elu1" => FeatureMap::Elu1,
        "hedgehog_softmax" => FeatureMap::HedgehogSoftmax,
        other => {
            return Err(case.unavailable(
                format!("feature map {other} of linear_attention"),
                ", known are: identity, relu, elu1, hedgehog_softmax",
            ));
        }
    };

    let (q, k, v) = (
        with_batch(case.input("q")?, 4),
        with_batch(case.input("k")?, 4),
        with_batch(case.input("v")?, 4),
    );
    let dims = |array: &Array| match (layout, array.shape.as_slice()) {
        (Layout::Bthd, &[b, t, h, w]) | (Layout::Bhtd, &[b, h, t, w]) => Some([b, t, h, w]),
        _ => None,
    };
    let axes = match layout {
        Layout::Bthd => "[batch, tokens, heads, width]",
        Layout::Bhtd => "[batch, heads, tokens, width]",
    };
    let Some([batch, tokens, heads, key]) = dims(&q) else {
        return Err(case.wrong(format!("tensor q must be {axes}, got {:?}", q.shape)));
    };
    let kv_heads = match dims(&k) {
        Some([b, t, kv_heads, width]) if [b, t, width] == [batch, tokens, key] => kv_heads,
        _ => {
            return Err(case.wrong(format!(
                "tensor k must have the shape of q, {:?}, but for the heads, got {:?}",
                q.shape, k.shape
            )));
        }
    };
    let value = match dims(&v) {
        Some([b, t, h, value]) if [b, t, h] == [batch, tokens, kv_heads] => value,
        _ => {
            return Err(case.wrong(format!(
                "tensor v must be {axes} with the sizes of k but the last, got {:?}",
                v.shape
            )));
        }
    };
    if k.dtype != q.dtype || v.dtype != q.dtype {
        return Err(case.wrong(format!(
            "tensors q, k and v must have one type, got {:?}, {:?} and {:?}",
            q, k, v
        )));
    }
    let shape = Shape {
        batch,
        tokens,
        heads,
        kv_heads,
        key,
        value,
        layout,
        dtype: q.dtype,
    };

    let given = match (case.params.get("log_decay"), case.inputs.get("log_decay")) {
        (Some(list), _) => {
            let numbers: Option<Vec<f32>> = list
                .as_array()
                .and_then(|list| list.iter().map(|x| Some(x.as_f64()? as f32)).collect());
            let numbers = numbers
                .ok_or_else(|| case.wrong("parameter log_decay must be a list of numbers"))?;
            Some(Array::f32(&[numbers.len()], &numbers))
        }
        (None, tensor) => tensor.cloned(),
    };
    let decay = match text("decay", if given.is_some() { "head" } else { "none" })?.as_str() {
        "none" => Decay::None,
        "head" => Decay::Head,
        "token" => Decay::Token,
        "channel" => Decay::Channel,
        other => {
            return Err(case.wrong(format!(
                "parameter decay must be none, head, token or channel, got \"{other}\""
            )));
        }
    };
    let options = Options {
        decay,
        delta: case.inputs.contains_key("beta"),
        causal: flag("causal", true)?,
        normalize,
        feature_map,
        scale,
        ..Options::plain()
    };
    shape.check(plan::OP)?;
    options.check(plan::OP)?;

    let cu_seqlens = case.inputs.get("cu_seqlens").map(|bounds| {
        let numbers: Option<Vec<u32>> = bounds
            .values()
            .into_iter()
            .map(|n| (n >= 0.0 && n.fract() == 0.0).then_some(n as u32))
            .collect();
        numbers
            .filter(|_| matches!(bounds.dtype, Dtype::I32 | Dtype::U32))
            .ok_or_else(|| case.wrong("tensor cu_seqlens must be i32 or u32, from 0 to the tokens"))
    });
    let cu_seqlens = cu_seqlens.transpose()?;
    let sequences = sequences(&shape, plan::OP, cu_seqlens.as_deref())?.len();

    // Tensors beside q, k and v are f32, of one shape.
    let f32s = |name: &str, array: Array, expected: &[usize]| {
        if array.dtype == Dtype::F32 && array.shape == expected {
            return Ok(array);
        }
        Err(case.wrong(format!(
            "tensor {name} must be f32 {expected:?}, got {array:?}"
        )))
    };
    let optional = |name: &str, expected: &[usize]| {
        let array = case.inputs.get(name);
        let array = array.map(|array| with_batch(array, expected.len()));
        array.map(|array| f32s(name, array, expected)).transpose()
    };
    let features = options.feature_width(&shape);
    let per_token = axes_of(&shape, kv_heads, &[]);
    let mut inputs = vec![q, k, v];
    let expected = match decay {
        Decay::None => None,
        Decay::Head => Some((vec![kv_heads], "a number per head")),
        Decay::Token => Some((per_token.clone(), "a number per token and head")),
        Decay::Channel => Some((
            axes_of(&shape, kv_heads, &[features]),
            "a number per token, head and channel",
        )),
    };
    if let Some((expected, what)) = expected {
        let log_decay = given.ok_or_else(|| {
            let decay = text("decay", "head").unwrap_or_default();
            case.wrong(format!(
                "decay {decay} needs a tensor or parameter log_decay with {what}"
            ))
        })?;
        let log_decay = with_batch(&log_decay, expected.len());
        let log_decay = f32s("log_decay", log_decay, &expected)?;
        if let Some(positive) = log_decay
            .values()
            .into_iter()
            .find(|g| g.is_nan() || *g > 0.0)
        {
            return Err(case.wrong(format!("log_decay must be at most 0, got {positive}")));
        }
        inputs.push(log_decay);
    }
    let initial_state = match case.inputs.get("initial_state") {
        Some(state) => {
            let expected = [sequences, kv_heads, features, value];
            Some(f32s("initial_state", state.clone(), &expected)?)
        }
        None => None,
    };
    let step = flag("step", false)?;
    if step && initial_state.is_none() {
        return Err(case.wrong("a step needs the tensor initial_state"));
    }
    let grad_outputs = if case.grad_outputs.is_empty() {
        None
    } else {
        let sizes = [
            ("o", axes_of(&shape, heads, &[value])),
            ("final_state", vec![sequences, kv_heads, features, value]),
        ];
        let gradient = |(name, expected): &(&str, Vec<usize>)| {
            let Some(array) = case.grad_outputs.get(*name) else {
                return Ok(None);
            };
            let array = with_batch(array, 4);
            if array.shape == *expected {
                return Ok(Some(array));
            }
            Err(case.wrong(format!(
                "tensor grad_out.{name} must be {expected:?}, got {array:?}"
            )))
        };
        let [o, final_state] = &sizes;
        Some([gradient(o)?, gradient(final_state)?])
    };
    let projected = feature_map == FeatureMap::HedgehogSoftmax;
    if projected {
        case.input("fm_weight")?;
    }
    Ok(Box::new(LinearAttention {
        beta: optional("beta", &per_token)?,
        fm_weight: optional("fm_weight", &[key, key])?.filter(|_| projected),
        fm_bias: optional("fm_bias", &[key])?.filter(|_| projected),
        shape,
        options,
        step,
        inputs,
        initial_state,
        cu_seqlens,
        sequences,
        grad_outputs,
    }))
}

/// A tensor that lacks one axis has a batch of one.
fn with_batch(array: &Array, axes: usize) -> Array {
    let mut array = array.clone();
    if array.shape.len() + 1 == axes && axes > 1 {
        array.shape.insert(0, 1);
    }
    array
}

/// The axes of a tensor with so many heads, in the layout, and those that follow.
fn axes_of(shape: &Shape, heads: usize, more: &[usize]) -> Vec<usize> {
    let mut axes = match shape.layout {
        Layout::Bthd => vec![shape.batch, shape.tokens, heads],
        Layout::Bhtd => vec![shape.batch, heads, shape.tokens],
    };
    axes.extend(more);
    axes
}

/// The tensors of a problem in f64.
struct Values {
    inputs: Vec<Vec<f64>>,
    beta: Option<Vec<f64>>,
    initial_state: Option<Vec<f64>>,
    fm_weight: Option<Vec<f64>>,
    fm_bias: Option<Vec<f64>>,
}

impl Values {
    fn inputs<'a>(&'a self, problem: &'a LinearAttention) -> cpu::Inputs<'a> {
        let input = |n: usize| self.inputs.get(n).map(Vec::as_slice);
        let [q, k, v] = [0, 1, 2].map(|n| input(n).unwrap_or_default());
        cpu::Inputs {
            q,
            k,
            v,
            log_decay: input(3),
            beta: self.beta.as_deref(),
            initial_state: self.initial_state.as_deref(),
            fm_weight: self.fm_weight.as_deref(),
            fm_bias: self.fm_bias.as_deref(),
            cu_seqlens: problem.cu_seqlens.as_deref(),
        }
    }
}

impl LinearAttention {
    fn values(&self) -> Values {
        let optional = |array: &Option<Array>| array.as_ref().map(Array::values);
        Values {
            inputs: self.inputs.iter().map(Array::values).collect(),
            beta: optional(&self.beta),
            initial_state: optional(&self.initial_state),
            fm_weight: optional(&self.fm_weight),
            fm_bias: optional(&self.fm_bias),
        }
    }

    fn state_shape(&self) -> Vec<usize> {
        let features = self.options.feature_width(&self.shape);
        vec![
            self.sequences,
            self.shape.kv_heads,
            features,
            self.shape.value,
        ]
    }

    /// The most negative exponent that an `exp` here can take without its result vanishing.
    fn steepest(&self) -> f64 {
        let decays = self.inputs.get(3).map(Array::values).unwrap_or_default();
        decays
            .into_iter()
            .fold(0.0f64, |most, g| most.max((-64.0 * g).min(88.0)))
    }

    /// Bounds on the relative errors of o and of gradients, and the unit of the storage type.
    fn bounds(&self, dtype: Dtype) -> (f64, f64, f64) {
        match dtype {
            Dtype::F16 => (1e-3, 1e-3, 2f64.powi(-11)),
            Dtype::Bf16 => (4e-3, 4e-3, 2f64.powi(-8)),
            _ if self.options.delta => (1e-5, 5e-5, 0.0),
            _ => (5e-6, 2e-5, 0.0),
        }
    }
}

impl Problem for LinearAttention {
    fn inputs(&self) -> Vec<&Array> {
        let state = self.initial_state.as_ref().filter(|_| !self.step);
        self.inputs.iter().chain(state).collect()
    }

    fn outputs(&self) -> Vec<Output> {
        let Shape {
            tokens,
            heads,
            key,
            value,
            dtype,
            ..
        } = self.shape;
        let (ratio, _, unit) = self.bounds(dtype);
        let (state_ratio, ..) = self.bounds(Dtype::F32);
        // 8 units of f32 for sums that grow like the root of their length, and WebGPU's allowance for `exp`.
        let chunk = 64.0;
        let sums = 8.0 * 2f64.powi(-24) * (key as f64 + chunk + tokens as f64 / chunk).sqrt();
        let per_magnitude = sums + (3.0 + 2.0 * self.steepest()) * 2f64.powi(-23);
        vec![
            Output {
                name: "o",
                dtype,
                shape: axes_of(&self.shape, heads, &[value]),
                ratio,
                per_magnitude,
                per_value: unit,
            },
            Output {
                name: "final_state",
                dtype: Dtype::F32,
                shape: self.state_shape(),
                ratio: state_ratio,
                per_magnitude,
                per_value: 0.0,
            },
        ]
    }

    fn prefill(&self, output: usize) -> Option<&Array> {
        self.initial_state
            .as_ref()
            .filter(|_| self.step && output == 1)
    }

    fn plans(&self, caps: &Caps, all: bool) -> Result<Vec<Plan>, Error> {
        if self.cu_seqlens.is_some() {
            return Err(Error::Unsupported {
                op: plan::OP,
                what: "packed sequences on a device yet; the CPU reference does".into(),
            });
        }
        let states = States {
            initial: self.initial_state.is_some(),
            last: true,
        };
        match (self.step, all) {
            (true, _) => plan::step(&self.shape, &self.options, caps).map(|plan| vec![plan]),
            (false, false) => {
                plan::forward(&self.shape, &self.options, states, caps).map(|plan| vec![plan])
            }
            (false, true) => plan::variants(&self.shape, &self.options, states, caps),
        }
    }

    fn reference(&self) -> Result<Vec<Reference>, Error> {
        let values = self.values();
        let out = cpu::forward(&self.shape, &self.options, &values.inputs(self))?;
        Ok(vec![
            Reference {
                values: out.o,
                magnitude: out.o_magnitude,
            },
            Reference {
                values: out.final_state,
                magnitude: out.state_magnitude,
            },
        ])
    }

    fn gradients(&self) -> Result<Vec<(Output, Vec<f64>)>, Error> {
        let Some([grad_o, grad_state]) = &self.grad_outputs else {
            return Ok(Vec::new());
        };
        let values = self.values();
        let grad_o = match grad_o {
            Some(grad) => grad.values(),
            None => vec![0.0; self.shape.output_len()],
        };
        let grad_state = grad_state.as_ref().map(Array::values);
        let out = cpu::backward(
            &self.shape,
            &self.options,
            &values.inputs(self),
            &grad_o,
            grad_state.as_deref(),
        )?;
        let input = |n: usize| self.inputs.get(n);
        let all = [
            ("q", input(0), out.q),
            ("k", input(1), out.k),
            ("v", input(2), out.v),
            ("log_decay", input(3), out.log_decay),
            ("beta", self.beta.as_ref(), out.beta),
            (
                "initial_state",
                self.initial_state.as_ref(),
                out.initial_state,
            ),
            ("fm_weight", self.fm_weight.as_ref(), out.fm_weight),
            ("fm_bias", self.fm_bias.as_ref(), out.fm_bias),
        ];
        let gradients = all.into_iter().filter_map(|(name, input, values)| {
            let input = input?;
            let (_, ratio, unit) = self.bounds(input.dtype);
            let output = Output {
                name,
                dtype: input.dtype,
                shape: input.shape.clone(),
                ratio,
                per_magnitude: 0.0,
                per_value: unit,
            };
            Some((output, values))
        });
        Ok(gradients.collect())
    }

    fn sizes(&self) -> Vec<(&'static str, usize)> {
        let Shape {
            batch,
            tokens,
            heads,
            key,
            value,
            ..
        } = self.shape;
        vec![
            ("b", batch),
            ("h", heads),
            ("t", tokens),
            ("k", key),
            ("v", value),
        ]
    }

    fn ignored(&self) -> Option<&'static str> {
        self.grad_outputs
            .as_ref()
            .map(|_| "gradients are not available on a device yet")
    }
}

/// A case made from a formula: values in (-1, 1) from a linear congruential generator, keys scaled by K^(-1/2).
#[derive(Clone)]
struct Made {
    name: String,
    shape: Shape,
    log_decay: Option<Vec<f32>>,
    scale: f32,
    initial_state: bool,
    step: bool,
    mean: f64,
}

impl Made {
    fn new(name: &str, [batch, heads, tokens, key, value]: [usize; 5]) -> Made {
        let shape = Shape {
            batch,
            tokens,
            heads,
            kv_heads: heads,
            key,
            value,
            layout: Layout::Bthd,
            dtype: Dtype::F32,
        };
        Made {
            name: name.into(),
            shape,
            log_decay: None,
            scale: 1.0,
            initial_state: false,
            step: false,
            mean: 0.0,
        }
    }

    /// Decays of Lightning Attention's first layer.
    fn lightning(mut self) -> Made {
        self.log_decay = slopes_opennlplab(self.shape.heads, 0, 12)
            .ok()
            .map(|slopes| slopes.iter().map(|slope| -slope).collect());
        self
    }

    fn decay(mut self, log_decay: f32) -> Made {
        self.log_decay = Some(vec![log_decay; self.shape.heads]);
        self
    }

    fn dtype(mut self, dtype: Dtype) -> Made {
        self.shape.dtype = dtype;
        self
    }

    fn head_first(mut self) -> Made {
        self.shape.layout = Layout::Bhtd;
        self
    }

    fn with_state(mut self) -> Made {
        self.initial_state = true;
        self
    }

    fn case(self) -> Case {
        let Shape {
            batch,
            tokens,
            heads,
            kv_heads: _,
            key,
            value,
            layout,
            dtype,
        } = self.shape;
        let mut seed = self.name.bytes().fold(1u64, |seed, byte| {
            seed.wrapping_mul(31).wrapping_add(byte.into())
        });
        let mut array = |dtype: Dtype, shape: &[usize], factor: f64| {
            let mut next = || {
                seed = seed
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                (seed >> 40) as f64 / f64::from(1 << 23) - 1.0
            };
            let values: Vec<f64> = (0..shape.iter().product())
                .map(|_| factor * (self.mean + next()))
                .collect();
            Array::rounded(dtype, shape, &values)
        };
        let axes = |width: usize| match layout {
            Layout::Bthd => [batch, tokens, heads, width],
            Layout::Bhtd => [batch, heads, tokens, width],
        };
        let mut inputs = std::collections::BTreeMap::new();
        inputs.insert("q".into(), array(dtype, &axes(key), 1.0));
        inputs.insert(
            "k".into(),
            array(dtype, &axes(key), (key as f64).powf(-0.5)),
        );
        inputs.insert("v".into(), array(dtype, &axes(value), 1.0));
        if self.initial_state || self.step {
            inputs.insert(
                "initial_state".into(),
                array(Dtype::F32, &[batch, heads, key, value], 1.0),
            );
        }
        if let Some(log_decay) = &self.log_decay {
            inputs.insert("log_decay".into(), Array::f32(&[heads], log_decay));
        }
        let params = json!({
            "layout": layout.name(), "causal": true, "normalize": false, "scale": self.scale, "step": self.step,
            "decay": if self.log_decay.is_some() { "head" } else { "none" },
        });
        Case {
            name: self.name,
            op: plan::OP.into(),
            params: params.as_object().cloned().unwrap_or_else(Map::new),
            source: "generated".into(),
            inputs,
            grad_outputs: Default::default(),
            expected: Default::default(),
            expected_grads: Default::default(),
        }
    }
}

fn builtin() -> Vec<Case> {
    let mut retention = Made::new("retention", [1, 4, 129, 48, 64]);
    retention.log_decay = Some(log_decay_retention(4));
    retention.scale = 48f32.sqrt().recip();
    let mut steep = Made::new("steep_ragged", [1, 8, 193, 32, 32]).with_state();
    steep.log_decay = Some(vec![
        -8.0,
        -0.5,
        -50.0,
        f32::NEG_INFINITY,
        -20.0,
        -1e-6,
        0.0,
        -3.0,
    ]);
    let mut slow = Made::new("slow_decay_mean_one", [1, 1, 4096, 16, 16]).decay(-3e-6);
    slow.mean = 1.0;
    let mut step = Made::new("step_one_token", [2, 3, 1, 64, 64]).lightning();
    step.step = true;
    let mut steps = Made::new("step_five_tokens_odd", [1, 2, 5, 33, 10]).lightning();
    steps.step = true;
    let made = vec![
        Made::new("plain", [2, 3, 96, 16, 24]),
        Made::new("lightning", [2, 4, 130, 32, 32]).lightning(),
        Made::new("lightning_head_first", [1, 6, 77, 16, 40])
            .lightning()
            .head_first()
            .with_state(),
        Made::new("lightning_f16", [1, 4, 200, 64, 64])
            .lightning()
            .dtype(Dtype::F16),
        Made::new("lightning_bf16", [1, 2, 100, 64, 32])
            .lightning()
            .dtype(Dtype::Bf16)
            .with_state(),
        Made::new("odd_widths", [2, 2, 65, 33, 7])
            .lightning()
            .with_state(),
        Made::new("odd_widths_f16", [1, 3, 67, 5, 9])
            .lightning()
            .dtype(Dtype::F16),
        Made::new("odd_widths_bf16", [1, 1, 33, 7, 3])
            .lightning()
            .dtype(Dtype::Bf16),
        Made::new("width_one", [1, 1, 65, 1, 1]).lightning(),
        Made::new("one_token", [3, 2, 1, 20, 12])
            .lightning()
            .with_state(),
        Made::new("no_tokens", [1, 2, 0, 8, 8])
            .lightning()
            .with_state(),
        Made::new("no_tokens_no_state", [1, 2, 0, 8, 8]),
        Made::new("no_batch", [0, 2, 5, 8, 8]).lightning(),
        Made::new("wide_keys", [1, 1, 100, 512, 20]).lightning(),
        Made::new("wide_values", [1, 1, 100, 40, 512])
            .lightning()
            .head_first(),
        Made::new("key_256", [1, 2, 70, 256, 40]).lightning(),
        Made::new("width_100", [1, 2, 150, 100, 60]).lightning(),
        retention,
        steep,
        slow,
        step,
        steps,
    ];
    made.into_iter().map(Made::case).collect()
}

fn benches(class: Class) -> Vec<Bench> {
    let forward = |name: &str, sizes| {
        Made::new(&format!("{}/lightning_forward_{name}", plan::OP), sizes).lightning()
    };
    let f16 = |name: &str, sizes| forward(&format!("f16_{name}"), sizes).dtype(Dtype::F16);
    let mut made = Vec::new();
    for t in [512, 1024, 2048, 4096, 8192] {
        made.push(forward(&format!("h8_d64_t{t}"), [1, 8, t, 64, 64]));
    }
    for t in [2048, 8192] {
        made.push(f16(&format!("h8_d64_t{t}"), [1, 8, t, 64, 64]));
    }
    made.push(forward("bhtd_h8_d64_t2048", [1, 8, 2048, 64, 64]).head_first());
    made.push(forward("h1_d64_t16384", [1, 1, 16_384, 64, 64]));
    made.push(Made::new(
        "linear_attention/plain_forward_h8_d64_t2048",
        [1, 8, 2048, 64, 64],
    ));
    for heads in [8, 64, 512] {
        let name = format!("linear_attention/lightning_step_h{heads}_d64");
        let mut step = Made::new(&name, [1, heads, 1, 64, 64]).lightning();
        step.step = true;
        made.push(step);
    }
    if class != Class::Cpu {
        made.push(forward("h64_d128_t8192", [1, 64, 8192, 128, 128]));
        made.push(f16("h64_d128_t8192", [1, 64, 8192, 128, 128]));
        made.push(f16("h16_d64_t131072", [1, 16, 131_072, 64, 64]));
    }
    made.into_iter()
        .map(|made| Bench {
            name: made.name.clone(),
            make: Box::new(move || made.clone().case()),
        })
        .collect()
}
