//! `ecoformer_attention` as the program, the tests and the benches see it; with a gradient handed to o, also its gradients.

use serde_json::json;

use super::{Normalizer, OP as NAME, Options, Shape, plan};
use crate::{
    Error,
    case::{Array, Bench, Case, Failure, Numbers, Op, Output, Problem, Reference},
    gpu::{Caps, Class, Dtype},
    hamming::{bits::words, cpu::ecoformer as cpu},
    plan::{Builder, Plan, Slot, Work},
};

/// The operator's entry in the table.
pub(crate) const OP: Op = Op {
    name: NAME,
    bind,
    builtin,
    benches,
};

struct Ecoformer {
    shape: Shape,
    options: Options,
    codes: Array,
    v: Array,
    grad: Option<Array>,
}

fn bind(case: &Case) -> Result<Box<dyn Problem>, Failure> {
    let v = case.input("v")?;
    let [batch, heads, tokens, value] = case.axes("v", "[batch, heads, tokens, value]")?;
    let bits = case.needed("bits", case.count("bits")?)?;
    let shape = Shape {
        batch,
        heads,
        tokens,
        value,
        bits,
        dtype: v.dtype,
    };
    let plain = Options::new(bits);
    let offset = case.number("offset")?.map(|offset| offset as f32);
    let normalizers = [
        ("exact", Normalizer::Exact),
        ("released", Normalizer::Released),
    ];
    let options = Options {
        offset: offset.unwrap_or(plain.offset),
        normalizer: case.choice("normalizer", &normalizers)?,
        causal: case.flag("causal", false)?,
    };
    shape.check(&options)?;
    let rows = [batch, heads, tokens, words(bits)];
    let codes = case.shaped("codes", Dtype::U32, &rows)?.clone();
    let grad = case.grad_outputs.get("o").cloned();
    if let Some(grad) = &grad
        && (grad.dtype != v.dtype || grad.shape != v.shape)
    {
        return Err(case.wrong(format!("tensor grad_out.o must be as v, got {grad:?}")));
    }
    Ok(Box::new(Ecoformer {
        shape,
        options,
        codes,
        v: v.clone(),
        grad,
    }))
}

impl Problem for Ecoformer {
    fn inputs(&self) -> Vec<&Array> {
        [&self.codes, &self.v]
            .into_iter()
            .chain(&self.grad)
            .collect()
    }

    fn outputs(&self) -> Vec<Output> {
        let Shape {
            batch,
            heads,
            tokens,
            value,
            bits,
            dtype,
        } = self.shape;
        let rows = |width| vec![batch, heads, tokens, width];
        // Half a unit in the last place of the storage type, and the division's.
        let (ratio, per_value) = match dtype {
            Dtype::F16 => (1e-3, 2f64.powi(-11)),
            Dtype::Bf16 => (4e-3, 2f64.powi(-8)),
            _ => (1e-5, 0.0),
        };
        let u = 2f64.powi(-24);
        let long = (tokens.max(2) as f64).log2();
        let mut outputs = vec![Output {
            name: "o",
            dtype,
            shape: rows(value),
            ratio,
            per_magnitude: 4.0 * u * (bits as f64 + long),
            per_value,
        }];
        if self.grad.is_some() {
            let gradient = |name, width| Output {
                name,
                dtype: Dtype::F32,
                shape: rows(width),
                ratio: 2e-5,
                per_magnitude: 0.0,
                per_value: 0.0,
            };
            outputs.extend([gradient("grad.v", value), gradient("grad.h", bits)]);
        }
        outputs
    }

    /// Outputs, then gradients.
    fn plans(&self, caps: &Caps, _all: bool) -> Result<Vec<Plan>, Error> {
        let (shape, options) = (&self.shape, &self.options);
        let forward = plan::forward(shape, options, caps)?;
        if self.grad.is_none() {
            return Ok(vec![forward]);
        }
        let backward = plan::backward(shape, options, caps)?;
        let label = format!("{}, with gradients", forward.label);
        let read = (self.codes.bytes.len() + self.v.bytes.len()) as f64;
        let work = Work {
            flops: forward.work.flops + backward.work.flops,
            bytes: forward.work.bytes + backward.work.bytes - read,
            ..Work::default()
        };
        let mut builder = Builder::default();
        let [codes, v, grad] = [0, 1, 2].map(Slot::Input);
        let [o, grad_v, grad_h] = [0, 1, 2].map(Slot::Output);
        builder.append(forward, &[codes, v], &[o])?;
        builder.append(backward, &[codes, v, grad], &[grad_v, grad_h])?;
        let plan = builder.plan(NAME, label, work);
        plan.check(caps)?;
        Ok(vec![plan])
    }

    fn reference(&self) -> Result<Vec<Reference>, Error> {
        let (shape, options) = (&self.shape, &self.options);
        let codes: Vec<u32> = self.codes.values().iter().map(|x| *x as u32).collect();
        let v = self.v.values();
        let found = cpu::forward(shape, options, &codes, &v)?;
        let mut references = vec![Reference {
            values: found.o,
            magnitude: found.magnitude,
        }];
        if let Some(grad) = &self.grad {
            let grads = cpu::backward(shape, options, &codes, &v, &grad.values())?;
            references.extend([grads.v, grads.h].map(|values| Reference {
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
            ("t", shape.tokens),
            ("v", shape.value),
            ("bits", shape.bits),
        ]
    }
}

/// What a made case asks for.
struct Ask {
    causal: bool,
    released: bool,
    gradients: bool,
    /// Above the number of bits.
    above: f64,
}

/// Random codes, pads included, and values in (-1, 1).
fn made(name: &str, dtype: Dtype, ask: &Ask, sizes: [usize; 5]) -> Case {
    let [batch, heads, tokens, value, bits] = sizes;
    let mut numbers = Numbers::of(name);
    let codes = numbers.words(&[batch, heads, tokens, words(bits)]);
    let rows = [batch, heads, tokens, value];
    let v = numbers.array(dtype, &rows, 0.0, 1.0);
    let params = json!({
        "bits": bits,
        "offset": bits as f64 + ask.above,
        "normalizer": if ask.released { "released" } else { "exact" },
        "causal": ask.causal,
    });
    let case = Case::made(name, NAME, params, [("codes", codes), ("v", v)]);
    if ask.gradients {
        case.handing("o", numbers.array(dtype, &rows, 0.0, 1.0))
    } else {
        case
    }
}

fn builtin() -> Vec<Case> {
    let ask = |letters: &str| Ask {
        causal: letters.contains('c'),
        released: letters.contains('r'),
        gradients: letters.contains('g'),
        above: if letters.contains('/') { 0.75 } else { 1.0 },
    };
    [
        ("ecoformer", Dtype::F32, "g", [2, 2, 700, 32, 16]),
        ("ecoformer_causal", Dtype::F32, "cg", [1, 3, 200, 24, 16]),
        ("ecoformer_released", Dtype::F32, "rg", [1, 2, 65, 16, 16]),
        (
            "ecoformer_released_causal",
            Dtype::F32,
            "crg",
            [1, 2, 130, 8, 33],
        ),
        ("ecoformer_odd_f16", Dtype::F16, "g/", [1, 2, 77, 7, 45]),
        (
            "ecoformer_causal_f16",
            Dtype::F16,
            "cg/",
            [1, 2, 77, 12, 70],
        ),
        (
            "ecoformer_causal_odd_bf16",
            Dtype::Bf16,
            "cg",
            [1, 1, 67, 5, 1],
        ),
        ("ecoformer_bf16", Dtype::Bf16, "rg", [1, 1, 67, 4, 100]),
        ("ecoformer_one_token", Dtype::F32, "cg", [1, 1, 1, 3, 3]),
        ("ecoformer_no_tokens", Dtype::F32, "g", [1, 2, 0, 4, 8]),
    ]
    .into_iter()
    .map(|(name, dtype, letters, sizes)| made(name, dtype, &ask(letters), sizes))
    .collect()
}

fn benches(class: Class) -> Vec<Bench> {
    // Stages of a vision transformer's pyramid, then language.
    let sizes: &[[usize; 4]] = match class {
        Class::Cpu => &[[5, 196, 32, 16], [2, 784, 32, 16], [1, 3136, 32, 16]],
        _ => &[
            [5, 196, 32, 16],
            [2, 784, 32, 16],
            [1, 3136, 32, 16],
            [32, 65_536, 64, 16],
        ],
    };
    let bench = |[heads, tokens, value, bits]: [usize; 4], letters: &'static str| {
        let form = match letters {
            "c" => "causal",
            "g" => "both",
            _ => "forward",
        };
        let name = format!("{NAME}/{form}_h{heads}_v{value}_b{bits}_t{tokens}");
        Bench {
            name: name.clone(),
            make: Box::new(move || {
                let ask = Ask {
                    causal: letters == "c",
                    released: false,
                    gradients: letters == "g",
                    above: 1.0,
                };
                made(&name, Dtype::F32, &ask, [1, heads, tokens, value, bits])
            }),
        }
    };
    let each = sizes.iter().flat_map(|sizes| {
        let forms: &[&'static str] = &["", "c", "g"];
        forms.iter().map(|letters| bench(*sizes, letters))
    });
    each.collect()
}
