//! `softmax_attention` as the program, the tests and the benches see it.

use serde_json::json;

use super::{OP as NAME, attention, cpu};
use crate::{
    Error,
    case::{Array, Bench, Case, Failure, Numbers, Op, Output, Problem, Reference},
    gpu::{Caps, Class, Dtype},
    linear::{Layout, Shape},
    plan::Plan,
};

/// Its entry in the table of operators.
pub(crate) const OP: Op = Op {
    name: NAME,
    bind,
    builtin,
    benches,
};

struct Softmax {
    shape: Shape,
    scale: f32,
    causal: bool,
    tensors: [Array; 3],
}

fn bind(case: &Case) -> Result<Box<dyn Problem>, Failure> {
    let layout = case.choice("layout", &[("bthd", Layout::Bthd), ("bhtd", Layout::Bhtd)])?;
    let axes = "[batch, tokens, heads, width] or, in layout bhtd, [batch, heads, tokens, width]";
    let [batch, a, b, key] = case.axes("q", axes)?;
    let [_, _, _, value] = case.axes("v", axes)?;
    let (tokens, heads) = match layout {
        Layout::Bthd => (a, b),
        Layout::Bhtd => (b, a),
    };
    let dtype = case.input("q")?.dtype;
    let shape = Shape {
        batch,
        tokens,
        heads,
        kv_heads: heads,
        key,
        value,
        layout,
        dtype,
    };
    let tensor = |name, width| -> Result<Array, Failure> {
        Ok(case.shaped(name, dtype, &[batch, a, b, width])?.clone())
    };
    let softmax = Softmax {
        scale: case.needed("scale", case.number("scale")?)? as f32,
        causal: case.flag("causal", false)?,
        tensors: [tensor("q", key)?, tensor("k", key)?, tensor("v", value)?],
        shape,
    };
    // What a planner refuses is refused here, before anything is computed.
    super::check(&softmax.shape, softmax.scale)?;
    Ok(Box::new(softmax))
}

impl Problem for Softmax {
    fn inputs(&self) -> Vec<&Array> {
        self.tensors.iter().collect()
    }

    fn outputs(&self) -> Vec<Output> {
        let [.., v] = &self.tensors;
        vec![Output {
            name: "o",
            dtype: v.dtype,
            shape: v.shape.clone(),
            ratio: match v.dtype {
                Dtype::F16 => 1e-3,
                Dtype::Bf16 => 4e-3,
                _ => 5e-6,
            },
            per_magnitude: 0.0,
            per_value: 0.0,
        }]
    }

    fn plans(&self, caps: &Caps, all: bool) -> Result<Vec<Plan>, Error> {
        let own = attention(&self.shape, self.scale, self.causal, caps)?;
        let mut plans = vec![own];
        if all && caps.class == Class::Cpu {
            let tiles = Caps {
                class: Class::Other,
                ..caps.clone()
            };
            plans.push(attention(&self.shape, self.scale, self.causal, &tiles)?);
        }
        Ok(plans)
    }

    fn reference(&self) -> Result<Vec<Reference>, Error> {
        let [q, k, v] = self.tensors.each_ref().map(Array::values);
        let values = cpu(&self.shape, self.scale, self.causal, &q, &k, &v)?;
        Ok(vec![Reference {
            values,
            magnitude: Vec::new(),
        }])
    }

    fn sizes(&self) -> Vec<(&'static str, usize)> {
        let shape = &self.shape;
        vec![
            ("b", shape.batch),
            ("t", shape.tokens),
            ("h", shape.heads),
            ("k", shape.key),
            ("v", shape.value),
        ]
    }
}

fn made(
    name: &str,
    [batch, heads, tokens, key, value]: [usize; 5],
    causal: bool,
    dtype: Dtype,
) -> Case {
    let mut numbers = Numbers::of(name);
    let mut tensor = |width: usize| numbers.array(dtype, &[batch, heads, tokens, width], 0.0, 1.0);
    let (q, k, v) = (tensor(key), tensor(key), tensor(value));
    let scale = (key.max(1) as f64).powf(-0.5);
    let params = json!({ "layout": "bhtd", "scale": scale, "causal": causal });
    Case::made(name, NAME, params, [("q", q), ("k", k), ("v", v)])
}

fn builtin() -> Vec<Case> {
    let sizes = [
        ("softmax_full", [1, 2, 70, 16, 24], false, Dtype::F32),
        ("softmax_causal", [2, 1, 131, 20, 64], true, Dtype::F32),
        ("softmax_causal_f16", [1, 2, 100, 64, 32], true, Dtype::F16),
        ("softmax_bf16", [1, 1, 65, 32, 64], false, Dtype::Bf16),
        ("softmax_odd_f16", [1, 2, 33, 7, 5], true, Dtype::F16),
        ("softmax_one_token", [1, 1, 1, 4, 4], true, Dtype::F32),
        ("softmax_no_tokens", [1, 1, 0, 4, 4], false, Dtype::F32),
    ];
    sizes
        .into_iter()
        .map(|(name, sizes, causal, dtype)| made(name, sizes, causal, dtype))
        .collect()
}

/// The sizes at which lightning attention is timed: what it is to beat, and from what length on it does.
fn benches(class: Class) -> Vec<Bench> {
    let lengths: &[usize] = match class {
        Class::Cpu => &[512, 1024, 2048],
        _ => &[512, 1024, 2048, 4096, 8192],
    };
    let f32s = lengths.iter().map(|t| (*t, Dtype::F32, ""));
    let f16s = lengths
        .iter()
        .rev()
        .take(1)
        .map(|t| (*t, Dtype::F16, "f16_"));
    f32s.chain(f16s)
        .map(|(t, dtype, stored)| {
            let name = format!("{NAME}/causal_forward_{stored}h8_d64_t{t}");
            Bench {
                name: name.clone(),
                make: Box::new(move || made(&name, [1, 8, t, 64, 64], true, dtype)),
            }
        })
        .collect()
}
