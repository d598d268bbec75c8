//! `linear_attention` as the program, the tests and the benches see it.

mod adjoint;
mod made;

use adjoint::Adjoint;

use super::{
    Decay, FeatureMap, Layout, Options, Shape, cpu,
    plan::{self, States},
    shape::sequences,
};
use crate::{
    Error,
    case::{Array, Case, Failure, Op, Output, Problem, Reference, distinct},
    gpu::{Caps, Dtype},
    plan::Plan,
};

/// The operator's entry in the table.
pub(crate) const OP: Op = Op {
    name: plan::OP,
    bind,
    builtin: made::builtin,
    benches: made::benches,
};

struct LinearAttention {
    shape: Shape,
    options: Options,
    step: bool,
    /// q, k, v and log_decay, if there is one.
    inputs: Vec<Array>,
    beta: Option<Array>,
    initial_state: Option<Array>,
    initial_z: Option<Array>,
    fm_weight: Option<Array>,
    fm_bias: Option<Array>,
    cu_seqlens: Option<Vec<u32>>,
    /// Sequences: the batch, or those packed into it.
    sequences: usize,
    /// Gradients handed to o and the final state.
    grad_outputs: Option<[Option<Array>; 2]>,
}

fn bind(case: &Case) -> Result<Box<dyn Problem>, Failure> {
    let number = |name: &str| Ok::<_, Failure>(case.needed(name, case.number(name)?)? as f32);
    let layout = case.choice("layout", &[("bthd", Layout::Bthd), ("bhtd", Layout::Bhtd)])?;
    let scale = number("scale")?;
    let normalize = match case.flag("normalize", false)? {
        true => Some(number("eps")?),
        false => None,
    };
    let nu = u32::try_from(case.count("nu")?.unwrap_or(1)).unwrap_or(u32::MAX);
    let name = case.text("feature_map", "identity")?;
    let known = FeatureMap::all(nu);
    let feature_map = *known.iter().find(|map| map.name() == name).ok_or_else(|| {
        let names: Vec<_> = known.iter().map(|map| map.name()).collect();
        let known = format!(", known are: {}", names.join(", "));
        case.unavailable(format!("feature map {name} of linear_attention"), &known)
    })?;

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
    let decay = match case
        .text("decay", if given.is_some() { "head" } else { "none" })?
        .as_str()
    {
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
        causal: case.flag("causal", true)?,
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
            let decay = case.text("decay", "head").unwrap_or_default();
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
    let sums = [sequences, kv_heads, features];
    let initial_z = match case.inputs.get("initial_z") {
        Some(_) if normalize.is_none() => {
            return Err(case.wrong("tensor initial_z needs the parameter normalize"));
        }
        Some(z) => Some(f32s("initial_z", z.clone(), &sums)?),
        None => None,
    };
    let step = case.flag("step", false)?;
    // A step updates z in place, wherever it starts.
    let zeros = || Array::f32(&sums, &vec![0.0; sums.iter().product()]);
    let initial_z = initial_z.or_else(|| (step && normalize.is_some()).then(zeros));
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
    // Weights of the map, shared or a set for each head.
    let weights = |name: &str, width: &[usize]| {
        let Some(array) = case
            .inputs
            .get(name)
            .filter(|_| feature_map.weight_len(key).is_some())
        else {
            return Ok(None);
        };
        let own: Vec<usize> = [&[heads], width].concat();
        let shared = array.shape == width || heads != kv_heads;
        f32s(name, array.clone(), if shared { width } else { &own }).map(Some)
    };
    if feature_map.weight_len(key).is_some() {
        case.input("fm_weight")?;
    }
    let widths = vec![key; 1 + usize::from(feature_map.projects())];
    let fm_weight = weights("fm_weight", &widths)?;
    Ok(Box::new(LinearAttention {
        beta: optional("beta", &per_token)?,
        fm_bias: weights("fm_bias", &[key])?,
        fm_weight,
        shape,
        options,
        step,
        inputs,
        initial_state,
        initial_z,
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
    initial_z: Option<Vec<f64>>,
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
            initial_z: self.initial_z.as_deref(),
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
            initial_z: optional(&self.initial_z),
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
        let states = [&self.initial_state, &self.initial_z];
        let states = states.into_iter().flatten().filter(|_| !self.step);
        let inputs = self.inputs.iter().chain(&self.beta).chain(states);
        inputs.chain(&self.fm_weight).chain(&self.fm_bias).collect()
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
        let mut outputs = vec![
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
        ];
        if self.options.normalize.is_some() {
            let mut shape = self.state_shape();
            shape.pop();
            outputs.push(Output {
                name: "final_z",
                dtype: Dtype::F32,
                shape,
                ratio: state_ratio,
                per_magnitude: 0.0,
                per_value: 0.0,
            });
        }
        outputs
    }

    fn prefill(&self, output: usize) -> Option<&Array> {
        let states = [None, self.initial_state.as_ref(), self.initial_z.as_ref()];
        states.get(output).copied().flatten().filter(|_| self.step)
    }

    fn plans(&self, caps: &Caps, all: bool) -> Result<Vec<Plan>, Error> {
        let states = States {
            initial: self.initial_state.is_some(),
            initial_z: self.initial_z.is_some(),
            last: true,
            last_z: self.options.normalize.is_some(),
            fm_weight: self.fm_weight.as_ref().map(Array::elements),
            fm_bias: self.fm_bias.as_ref().map(Array::elements),
            cu_seqlens: self.cu_seqlens.as_deref(),
        };
        match (self.step, all) {
            (true, _) => plan::step(
                &self.shape,
                &self.options,
                [states.fm_weight, states.fm_bias],
                caps,
            )
            .map(|plan| vec![plan]),
            (false, false) => {
                plan::forward(&self.shape, &self.options, states, caps).map(|plan| vec![plan])
            }
            (false, true) => distinct(
                caps.each_matrices()
                    .iter()
                    .map(|caps| plan::variants(&self.shape, &self.options, states, caps)),
            ),
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
            Reference {
                values: out.final_z,
                magnitude: Vec::new(),
            },
        ])
    }

    fn adjoint(&self) -> Option<Box<dyn Problem + '_>> {
        let [grad_o, grad_state] = self.grad_outputs.as_ref()?;
        let shape = axes_of(&self.shape, self.shape.heads, &[self.shape.value]);
        let dtype = self.shape.dtype;
        let grad_o = match grad_o {
            Some(grad) => Array::rounded(dtype, &grad.shape, &grad.values()),
            None => Array::rounded(dtype, &shape, &vec![0.0; self.shape.output_len()]),
        };
        Some(Box::new(Adjoint {
            problem: self,
            grad_o,
            grad_state: grad_state.clone(),
        }))
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
}
