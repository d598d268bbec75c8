//! The linear and the polynomial form as the program, the tests and the benches see them; with a gradient handed to o, also their
//! gradients.

mod made;

use serde_json::Value;

use super::{
    Extent, Mask, Options, Shape, cpu, plan,
    poly::{self, Degree},
    shape::OP as NAME,
};
use crate::{
    Error,
    case::{Array, Case, Failure, Op, Output, Problem, Reference},
    gpu::{Caps, Dtype},
    linear::FeatureMap,
    plan::{Builder, Plan, Slot, Work},
};

/// The operator's entry in the table.
pub(crate) const OP: Op = Op {
    name: NAME,
    bind,
    builtin: made::builtin,
    benches: made::benches,
};

const GRAD_KEYS: [&str; 8] = [
    "grad.k1", "grad.k2", "grad.k3", "grad.k4", "grad.k5", "grad.k6", "grad.k7", "grad.k8",
];
const GRAD_VALUES: [&str; 8] = [
    "grad.v1", "grad.v2", "grad.v3", "grad.v4", "grad.v5", "grad.v6", "grad.v7", "grad.v8",
];
const KEYS: [&str; 8] = ["k1", "k2", "k3", "k4", "k5", "k6", "k7", "k8"];
const VALUES: [&str; 8] = ["v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8"];

/// Which form, with its options.
enum Form {
    Linear(Options),
    Poly(poly::Options),
}

struct Attention {
    shape: Shape,
    form: Form,
    tensors: Vec<Array>,
    grad: Option<Array>,
}

/// Makes a problem of a case with `kernel` linear (the default) or poly: tensors q, k1, v1, k2, v2, ...
pub(crate) fn bind(case: &Case) -> Result<Box<dyn Problem>, Failure> {
    let [batch, heads, queries, key] = case.axes("q", "[batch, heads, queries, key]")?;
    let named = KEYS.iter().zip(VALUES);
    let given: Vec<_> = named
        .take_while(|(k, _)| case.inputs.contains_key(**k))
        .collect();
    if given.is_empty() {
        case.input("k1")?;
    }
    let mut keys = Vec::new();
    let (mut kv_heads, mut value) = (1, 1);
    for (_, v) in &given {
        let [_, heads, tokens, width] = case.axes(v, "[batch, kv_heads, keys, value]")?;
        (kv_heads, value) = (heads, width);
        keys.push(tokens);
    }
    let dtype = case.input("q")?.dtype;
    let shape = Shape {
        batch,
        heads,
        kv_heads,
        queries,
        keys,
        key,
        value,
        dtype,
    };
    let form = form(case, &shape)?;
    let mut tensors = vec![case.input("q")?.clone()];
    for ((name, _), tokens) in given.iter().zip(&shape.keys) {
        let sizes = [batch, kv_heads, *tokens, key];
        tensors.push(case.shaped(name, dtype, &sizes)?.clone());
    }
    for ((_, name), tokens) in given.iter().zip(&shape.keys) {
        let sizes = [batch, kv_heads, *tokens, value];
        tensors.push(case.shaped(name, dtype, &sizes)?.clone());
    }
    let grad = case.grad_outputs.get("o").cloned();
    let sizes = [batch, heads, queries, value];
    if let Some(grad) = &grad
        && (grad.dtype != dtype || grad.shape != sizes)
    {
        let words = format!(
            "tensor grad_out.o must be {} {sizes:?}, got {grad:?}",
            dtype.name()
        );
        return Err(case.wrong(words));
    }
    Ok(Box::new(Attention {
        shape,
        form,
        tensors,
        grad,
    }))
}

fn form(case: &Case, shape: &Shape) -> Result<Form, Failure> {
    for name in ["logits", "q_offset", "k2_bias", "v2_bias"] {
        if case
            .params
            .get(name)
            .is_some_and(|value| *value != "trilinear")
        {
            return Err(case.unavailable(format!("parameter {name} of this kernel"), ""));
        }
    }
    let scale = case.number("scale")?.unwrap_or(1.0) as f32;
    let causal = case.flag("causal", false)?;
    let mask = match case.params.get("window") {
        None | Some(Value::Null) if causal => Mask::Causal,
        None | Some(Value::Null) => Mask::Full,
        Some(Value::Array(windows)) => {
            let each = windows
                .iter()
                .map(|window| window.as_u64().map(|n| n as usize));
            match each.collect() {
                Some(windows) => Mask::Window(windows),
                None => {
                    return Err(case.wrong(
                        "parameter window must be a list of lengths, or of null with causal",
                    ));
                }
            }
        }
        Some(other) => {
            let words = format!("parameter window must be a list of lengths, got {other}");
            return Err(case.wrong(words));
        }
    };
    let poly = case.choice("kernel", &[("linear", false), ("poly", true)])?;
    if !poly {
        let named = FeatureMap::all(case.count("nu")?.unwrap_or(1) as u32);
        let words: Vec<_> = named.iter().map(|map| (map.name(), *map)).collect();
        let eps = case.number("eps")?.unwrap_or(0.0) as f32;
        let options = Options {
            scale,
            mask,
            feature_map: case.choice("feature_map", &words)?,
            normalize: case.flag("normalize", false)?.then_some(eps),
        };
        options.check(shape)?;
        return Ok(Form::Linear(options));
    }
    let tolerance = case.number("tolerance")?;
    let degree = match (case.count("degree")?, tolerance) {
        (Some(degree), None) => Degree::Fixed(degree),
        (None, Some(tolerance)) => Degree::Within(tolerance),
        _ => return Err(case.wrong("kernel poly takes either parameter degree or tolerance")),
    };
    Ok(Form::Poly(poly::Options {
        mask,
        degree,
        max_rank: case.count("max_rank")?.unwrap_or(1024),
        center: case.flag("center", false)?,
        ..poly::Options::within(scale, 1.0)
    }))
}

impl Attention {
    fn values(&self) -> cpu::Inputs {
        let sets = self.shape.sets();
        let mut all = self.tensors.iter().map(Array::values);
        cpu::Inputs {
            q: all.next().unwrap_or_default(),
            k: all.by_ref().take(sets).collect(),
            v: all.collect(),
        }
    }

    /// The polynomial, from the tensors here.
    fn choice(&self, options: &poly::Options) -> Result<poly::Choice, Error> {
        let extent = Extent::of(&self.shape, &self.values());
        poly::choose(&self.shape, options, Some(&extent))
    }
}

impl Problem for Attention {
    fn inputs(&self) -> Vec<&Array> {
        self.tensors.iter().chain(&self.grad).collect()
    }

    fn outputs(&self) -> Vec<Output> {
        let shape = &self.shape;
        // Half a unit in the last place of the storage type.
        let (ratio, per_value) = match shape.dtype {
            Dtype::F16 => (1e-3, 2f64.powi(-11)),
            Dtype::Bf16 => (4e-3, 2f64.powi(-8)),
            _ => (5e-6, 0.0),
        };
        let rank = match &self.form {
            Form::Linear(options) => options.feature_map.width(shape.key),
            Form::Poly(options) => self.choice(options).map_or(1, |choice| choice.rank),
        };
        let long = (shape.keys.iter().sum::<usize>() + rank) as f64;
        let mut outputs = vec![Output {
            name: "o",
            dtype: shape.dtype,
            shape: vec![shape.batch, shape.heads, shape.queries, shape.value],
            ratio,
            per_magnitude: 4.0 * 2f64.powi(-24) * long.sqrt(),
            per_value,
        }];
        if self.grad.is_some() {
            let names = ["grad.q"].iter();
            let names = names.chain(GRAD_KEYS.iter().take(shape.sets()));
            let names = names.chain(GRAD_VALUES.iter().take(shape.sets()));
            outputs.extend(names.zip(&self.tensors).map(|(name, tensor)| Output {
                name,
                dtype: Dtype::F32,
                shape: tensor.shape.clone(),
                ratio: 2e-5,
                per_magnitude: 0.0,
                per_value: 0.0,
            }));
        }
        outputs
    }

    /// Outputs, then gradients.
    fn plans(&self, caps: &Caps, _all: bool) -> Result<Vec<Plan>, Error> {
        let shape = &self.shape;
        let backward = self.grad.is_some();
        let (forward, backward) = match &self.form {
            Form::Linear(options) => (
                plan::forward(shape, options, caps)?,
                backward.then(|| plan::backward(shape, options, caps)),
            ),
            Form::Poly(options) => {
                let choice = self.choice(options)?;
                (
                    poly::plan_forward(shape, options, &choice, caps)?,
                    backward.then(|| poly::plan_backward(shape, options, &choice, caps)),
                )
            }
        };
        let Some(backward) = backward.transpose()? else {
            return Ok(vec![forward]);
        };
        let label = format!("{}, with gradients", forward.label);
        let read: usize = self.tensors.iter().map(|tensor| tensor.bytes.len()).sum();
        let work = Work {
            flops: forward.work.flops + backward.work.flops,
            bytes: forward.work.bytes + backward.work.bytes - read as f64,
            ..Work::default()
        };
        let mut builder = Builder::default();
        let inputs: Vec<Slot> = (0..=self.tensors.len())
            .map(|n| Slot::Input(n as u16))
            .collect();
        let outputs: Vec<Slot> = (0..=self.tensors.len())
            .map(|n| Slot::Output(n as u16))
            .collect();
        let (first, rest) = outputs.split_at(1);
        builder.append(forward, &inputs, first)?;
        builder.append(backward, &inputs, rest)?;
        let plan = builder.plan(NAME, label, work);
        plan.check(caps)?;
        Ok(vec![plan])
    }

    fn reference(&self) -> Result<Vec<Reference>, Error> {
        let (shape, inputs) = (&self.shape, self.values());
        let grad = self.grad.as_ref().map(Array::values);
        let (found, slopes) = match &self.form {
            Form::Linear(options) => {
                let found = cpu::forward(shape, options, &inputs)?;
                let slopes = grad.map(|grad| cpu::backward(shape, options, &inputs, &grad));
                (found, slopes)
            }
            Form::Poly(options) => {
                let weights = self.choice(options)?.weights();
                let (mask, scale) = (&options.mask, options.scale);
                let found = cpu::poly_forward(shape, mask, scale, &weights, &inputs)?;
                let slopes = grad
                    .map(|grad| cpu::poly_backward(shape, mask, scale, &weights, &inputs, &grad));
                (found, slopes)
            }
        };
        let mut references = vec![Reference {
            values: found.o,
            magnitude: found.magnitude,
        }];
        if let Some(slopes) = slopes.transpose()? {
            let all = [slopes.q].into_iter().chain(slopes.k).chain(slopes.v);
            references.extend(all.map(|values| Reference {
                values,
                magnitude: Vec::new(),
            }));
        }
        Ok(references)
    }

    fn sizes(&self) -> Vec<(&'static str, usize)> {
        let shape = &self.shape;
        vec![
            ("b", shape.batch),
            ("h", shape.heads),
            ("hkv", shape.kv_heads),
            ("m", shape.sets()),
            ("tq", shape.queries),
            ("t", shape.keys.iter().copied().max().unwrap_or(0)),
            ("d", shape.key),
            ("v", shape.value),
        ]
    }
}
