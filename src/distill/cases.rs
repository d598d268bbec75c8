//! `hedgehog_distill` as the program, the tests and the benches see it: the losses, and the gradients of their mean.

use serde_json::json;

use super::{KEPT, OP as NAME, Options, Shape, cpu, plan};
use crate::{
    Error,
    case::{Array, Bench, Case, Failure, Numbers, Op, Output, Problem, Reference},
    gpu::{Caps, Class, Dtype},
    plan::{Builder, Plan, Slot, Work},
};

/// The operator's entry in the table.
pub(crate) const OP: Op = Op {
    name: NAME,
    bind,
    builtin,
    benches,
};

struct Distill {
    shape: Shape,
    options: Options,
    /// q, k, φ(q), φ(k).
    inputs: [Array; 4],
}

fn bind(case: &Case) -> Result<Box<dyn Problem>, Failure> {
    let names = ["q", "k", "phi_q", "phi_k"];
    let q = case.input("q")?;
    let [batch, heads, tokens, key] = case.axes("q", "[batch, heads, tokens, key]")?;
    let [.., features] = case.axes::<4>("phi_q", "[batch, heads, tokens, features]")?;
    let shape = Shape {
        batch,
        heads,
        tokens,
        key,
        features,
        dtype: q.dtype,
    };
    let causal = case.flag("causal", true)?;
    let scale = case.number("scale")?.unwrap_or((key as f64).powf(-0.5));
    let options = Options {
        causal,
        scale: scale as f32,
    };
    shape.check(&options)?;
    for (name, dtype, width) in [
        ("k", q.dtype, key),
        ("phi_q", Dtype::F32, features),
        ("phi_k", Dtype::F32, features),
    ] {
        case.shaped(name, dtype, &[batch, heads, tokens, width])?;
    }
    let [q, k, phi_q, phi_k] = names.map(|name| case.input(name).cloned());
    Ok(Box::new(Distill {
        shape,
        options,
        inputs: [q?, k?, phi_q?, phi_k?],
    }))
}

impl Problem for Distill {
    fn inputs(&self) -> Vec<&Array> {
        self.inputs.iter().collect()
    }

    fn outputs(&self) -> Vec<Output> {
        let Shape {
            batch,
            heads,
            tokens,
            features,
            ..
        } = self.shape;
        let output = |name, shape, ratio| Output {
            name,
            dtype: Dtype::F32,
            shape,
            ratio,
            per_magnitude: 0.0,
            per_value: 0.0,
        };
        let (rows, wide) = (
            vec![batch, heads, tokens],
            vec![batch, heads, tokens, features],
        );
        vec![
            output("loss", rows.clone(), 1e-5),
            output("entropy", rows, 1e-5),
            output("grad.phi_q", wide.clone(), 2e-5),
            output("grad.phi_k", wide, 2e-5),
        ]
    }

    /// Losses, then gradients; what the one keeps for the other is a temporary.
    fn plans(&self, caps: &Caps, _all: bool) -> Result<Vec<Plan>, Error> {
        let (shape, options) = (&self.shape, &self.options);
        let [losses, gradients] = [
            plan::forward(shape, options, caps)?,
            plan::backward(shape, options, caps)?,
        ];
        let label = format!("{}, then {}", losses.label, gradients.label);
        let rows = 4.0 * (KEPT * shape.rows()) as f64;
        let read: usize = self.inputs.iter().map(|input| input.bytes.len()).sum();
        let work = Work {
            flops: losses.work.flops + gradients.work.flops,
            // Both count the inputs and what passes between them.
            bytes: losses.work.bytes + gradients.work.bytes - 2.0 * rows - read as f64,
            ..Work::default()
        };
        let mut builder = Builder::default();
        let kept = builder.add_scratch(rows as u64);
        let [q, k, phi_q, phi_k] = [0, 1, 2, 3].map(Slot::Input);
        let [loss, entropy, grad_q, grad_k] = [0, 1, 2, 3].map(Slot::Output);
        builder.append(losses, &[q, k, phi_q, phi_k], &[loss, entropy, kept])?;
        builder.append(gradients, &[q, k, phi_q, phi_k, kept], &[grad_q, grad_k])?;
        let plan = builder.plan(NAME, label, work);
        plan.check(caps)?;
        Ok(vec![plan])
    }

    fn reference(&self) -> Result<Vec<Reference>, Error> {
        let [q, k, phi_q, phi_k] = self.inputs.each_ref().map(Array::values);
        let inputs = cpu::Inputs {
            q: &q,
            k: &k,
            phi_q: &phi_q,
            phi_k: &phi_k,
        };
        let found = cpu::forward(&self.shape, &self.options, &inputs)?;
        let grads = cpu::backward(&self.shape, &self.options, &inputs)?;
        let reference = |values| Reference {
            values,
            magnitude: Vec::new(),
        };
        Ok([found.loss, found.entropy, grads.phi_q, grads.phi_k]
            .map(reference)
            .into())
    }

    fn sizes(&self) -> Vec<(&'static str, usize)> {
        let shape = &self.shape;
        vec![
            ("b", shape.batch),
            ("h", shape.heads),
            ("t", shape.tokens),
            ("d", shape.key),
            ("f", shape.features),
        ]
    }
}

/// A case made from a formula: q and k in (-2, 2), features in (0, 1), from a linear congruential generator.
fn made(name: &str, dtype: Dtype, causal: bool, sizes: [usize; 5]) -> Case {
    let [batch, heads, tokens, key, features] = sizes;
    let mut numbers = Numbers::of(name);
    let mut array = |dtype, width, centre, factor| {
        numbers.array(dtype, &[batch, heads, tokens, width], centre, factor)
    };
    let inputs = [
        ("q", array(dtype, key, 0.0, 2.0)),
        ("k", array(dtype, key, 0.0, 2.0)),
        ("phi_q", array(Dtype::F32, features, 0.5, 0.5)),
        ("phi_k", array(Dtype::F32, features, 0.5, 0.5)),
    ];
    Case::made(name, NAME, json!({ "causal": causal }), inputs)
}

fn builtin() -> Vec<Case> {
    vec![
        made("distill", Dtype::F32, true, [2, 3, 70, 32, 64]),
        made("distill_full", Dtype::F32, false, [1, 2, 65, 16, 24]),
        made("distill_odd_f16", Dtype::F16, true, [1, 2, 35, 7, 9]),
        made("distill_bf16", Dtype::Bf16, false, [1, 1, 40, 64, 128]),
        made("distill_no_tokens", Dtype::F32, true, [1, 2, 0, 8, 8]),
    ]
}

fn benches(class: Class) -> Vec<Bench> {
    let lengths: &[usize] = match class {
        Class::Cpu => &[256, 512],
        _ => &[512, 2048, 8192],
    };
    let bench = |tokens: &usize| {
        let (name, tokens) = (format!("{NAME}/both_h8_d64_f128_t{tokens}"), *tokens);
        Bench {
            name: name.clone(),
            make: Box::new(move || made(&name, Dtype::F16, true, [1, 8, tokens, 64, 128])),
        }
    };
    lengths.iter().map(bench).collect()
}
