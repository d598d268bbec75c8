//! The linear and the polynomial form as the program, the tests and the benches see them; with a gradient handed to o, also their
//! gradients.

use serde_json::{Value, json};

use super::{
    Extent, Mask, Options, Shape, cpu, plan,
    poly::{self, Degree},
    shape::OP as NAME,
};
use crate::{
    Error,
    case::{Array, Bench, Case, Failure, Numbers, Op, Output, Problem, Reference},
    gpu::{Caps, Class, Dtype},
    linear::FeatureMap,
    plan::{Builder, Plan, Slot, Work},
};

/// The operator's entry in the table.
pub(crate) const OP: Op = Op {
    name: NAME,
    bind,
    builtin,
    benches,
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

/// Random tensors of a case; entries in (-1, 1).
fn made(name: &str, dtype: Dtype, params: Value, shape: &Shape, gradients: bool) -> Case {
    let mut numbers = Numbers::of(name);
    let key_size = params.get("size").and_then(Value::as_f64).unwrap_or(1.0);
    let mut array = |heads: usize, tokens: usize, width: usize, size: f64| {
        numbers.array(dtype, &[shape.batch, heads, tokens, width], 0.0, size)
    };
    let mut tensors = vec![("q", array(shape.heads, shape.queries, shape.key, key_size))];
    for ((k, v), tokens) in KEYS.iter().zip(VALUES).zip(&shape.keys) {
        tensors.push((k, array(shape.kv_heads, *tokens, shape.key, key_size)));
        tensors.push((v, array(shape.kv_heads, *tokens, shape.value, 1.0)));
    }
    let grad = array(shape.heads, shape.queries, shape.value, 1.0);
    let case = Case::made(name, NAME, params, tensors);
    if gradients {
        case.handing("o", grad)
    } else {
        case
    }
}

/// A shape of one batch from [heads, kv_heads, queries, key, value] and the keys.
fn sized([heads, kv_heads, queries, key, value]: [usize; 5], keys: &[usize]) -> Shape {
    Shape {
        batch: 1,
        heads,
        kv_heads,
        queries,
        keys: keys.to_vec(),
        key,
        value,
        dtype: Dtype::F32,
    }
}

fn builtin() -> Vec<Case> {
    let plain = json!({ "scale": 0.1 });
    let normal = json!({ "scale": 0.5, "feature_map": "elu1", "normalize": true, "eps": 1e-6 });
    let causal = json!({ "scale": 0.1, "causal": true });
    let causal_normal = json!({
        "scale": 0.5, "causal": true, "feature_map": "exp", "normalize": true,
    });
    let windows = |w: &[usize]| json!({ "scale": 0.5, "feature_map": "elu1", "window": w, "normalize": true });
    let poly = |more: Value| {
        let mut params = json!({ "kernel": "poly", "scale": 0.2, "degree": 3, "size": 0.8 });
        if let (Value::Object(params), Value::Object(more)) = (&mut params, more) {
            params.extend(more);
        }
        params
    };
    let f32 = Dtype::F32;
    let rows: Vec<(&str, Dtype, Value, Shape)> = vec![
        (
            "full",
            f32,
            plain.clone(),
            sized([2, 2, 50, 16, 24], &[70, 45]),
        ),
        (
            "full_normalized",
            f32,
            normal.clone(),
            sized([4, 2, 33, 12, 9], &[65, 90]),
        ),
        (
            "full_one_set",
            f32,
            normal.clone(),
            sized([2, 1, 20, 5, 7], &[40]),
        ),
        (
            "full_three_sets",
            f32,
            plain.clone(),
            sized([2, 2, 20, 9, 8], &[21, 33, 18]),
        ),
        (
            "full_f16",
            Dtype::F16,
            normal.clone(),
            sized([2, 1, 19, 8, 7], &[30, 31]),
        ),
        (
            "full_bf16",
            Dtype::Bf16,
            plain.clone(),
            sized([2, 2, 19, 7, 12], &[30, 31]),
        ),
        (
            "no_queries",
            f32,
            plain.clone(),
            sized([2, 1, 0, 4, 4], &[8, 8]),
        ),
        (
            "no_keys",
            f32,
            normal.clone(),
            sized([1, 1, 5, 4, 4], &[0, 8]),
        ),
        (
            "causal",
            f32,
            causal.clone(),
            sized([2, 2, 67, 12, 20], &[67, 67]),
        ),
        (
            "causal_normalized",
            f32,
            causal_normal.clone(),
            sized([4, 2, 40, 8, 5], &[53, 53]),
        ),
        (
            "causal_one_set",
            f32,
            causal_normal,
            sized([2, 1, 21, 6, 8], &[21]),
        ),
        (
            "causal_three_sets",
            f32,
            causal.clone(),
            sized([2, 1, 19, 8, 8], &[24, 24, 24]),
        ),
        (
            "causal_f16",
            Dtype::F16,
            causal,
            sized([2, 1, 17, 7, 9], &[17, 17]),
        ),
        (
            "windows",
            f32,
            windows(&[8, 20]),
            sized([2, 1, 60, 6, 10], &[60, 60]),
        ),
        (
            "windows_mixed",
            f32,
            windows(&[24, 99]),
            sized([2, 2, 50, 7, 8], &[70, 70]),
        ),
        (
            "windows_odd",
            f32,
            windows(&[5, 12]),
            sized([2, 2, 30, 8, 4], &[33, 33]),
        ),
        (
            "windows_of_one",
            f32,
            json!({ "scale": 0.5, "window": [1, 1] }),
            sized([1, 1, 9, 4, 4], &[9, 9]),
        ),
        (
            "windows_three_sets",
            f32,
            windows(&[4, 8, 99]),
            sized([1, 1, 30, 4, 4], &[30, 30, 30]),
        ),
        (
            "poly",
            f32,
            poly(json!({})),
            sized([2, 1, 40, 6, 10], &[50, 33]),
        ),
        (
            "poly_tolerance",
            f32,
            poly(json!({ "degree": null, "tolerance": 0.01 })),
            sized([1, 1, 30, 4, 8], &[30, 30]),
        ),
        (
            "poly_centred",
            f32,
            poly(json!({ "center": true })),
            sized([4, 2, 20, 4, 6], &[31, 30]),
        ),
        (
            "poly_causal",
            f32,
            poly(json!({ "causal": true })),
            sized([2, 1, 33, 3, 5], &[33, 33]),
        ),
        (
            "poly_window",
            f32,
            poly(json!({ "window": [8, 4] })),
            sized([1, 1, 25, 3, 5], &[25, 25]),
        ),
        (
            "poly_three_sets",
            f32,
            poly(json!({ "degree": 4 })),
            sized([1, 1, 12, 3, 4], &[12, 13, 14]),
        ),
        (
            "poly_bf16",
            Dtype::Bf16,
            poly(json!({ "degree": 1 })),
            sized([2, 1, 12, 5, 5], &[15, 13]),
        ),
    ];
    let each = rows.into_iter().map(|(name, dtype, params, shape)| {
        let shape = Shape { dtype, ..shape };
        let name = format!("tensor_linear_{name}");
        made(&name, dtype, params, &shape, true)
    });
    each.collect()
}

fn benches(class: Class) -> Vec<Bench> {
    let (lengths, causal_lengths): (&[usize], &[usize]) = match class {
        Class::Cpu => (&[32, 64, 128, 256, 1024, 2048, 4096], &[256, 512, 1024]),
        _ => (
            &[128, 256, 512, 1024, 4096, 16_384, 32_768, 65_536],
            &[1024, 4096, 8192, 16_384],
        ),
    };
    let heads = if class == Class::Cpu { 1 } else { 8 };
    let bench = |form: &'static str, tokens: usize, key: usize, params: Value| {
        let name = format!("{NAME}/{form}_h{heads}_d{key}_v64_t{tokens}");
        Bench {
            name: name.clone(),
            make: Box::new(move || {
                let shape = sized([heads, heads, tokens, key, 64], &[tokens, tokens]);
                let gradients = form.ends_with("both");
                made(&name, Dtype::F32, params.clone(), &shape, gradients)
            }),
        }
    };
    let linear = json!({ "scale": 0.1 });
    let causal = json!({ "scale": 0.1, "causal": true });
    let poly = json!({ "kernel": "poly", "scale": 0.125, "degree": 3, "size": 0.8 });
    let full = lengths.iter().flat_map(|tokens| {
        [
            bench("full", *tokens, 64, linear.clone()),
            bench("poly3", *tokens, 8, poly.clone()),
        ]
    });
    let causal = causal_lengths.iter().flat_map(|tokens| {
        [
            bench("full_both", *tokens, 64, linear.clone()),
            bench("causal", *tokens, 64, causal.clone()),
            bench("causal_both", *tokens, 64, causal.clone()),
        ]
    });
    full.chain(causal).collect()
}
