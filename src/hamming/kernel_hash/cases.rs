//! `kernel_hash` as the program, the tests and the benches see it; with a gradient handed to the signs `h`, also that of x.

use serde_json::{Value, json};

use super::{OP as NAME, Shape, Sigma, plan};
use crate::{
    Error,
    case::{Array, Bench, Case, Failure, Numbers, Op, Output, Problem, Reference, Undecided},
    gpu::{Caps, Class, Dtype},
    hamming::{bits::words, cpu::kernel_hash as cpu},
    plan::{Builder, Plan, Slot, Work},
};

/// The operator's entry in the table.
pub(crate) const OP: Op = Op {
    name: NAME,
    bind,
    builtin,
    benches,
};

/// How far a device's projection may be off, relative to the sum of its terms; a bit whose projection is closer to 0 than that
/// may come out either way.
const TOLERANCE: f64 = 1e-5;

struct Hash {
    shape: Shape,
    sigma: Sigma,
    /// Whether the projection is wanted beside the words.
    projection: bool,
    /// x, anchors, mean, weight, and the gradient of the signs if there is one.
    inputs: Vec<Array>,
}

fn bind(case: &Case) -> Result<Box<dyn Problem>, Failure> {
    let x = case.input("x")?;
    let [batch, heads, tokens, channels] = case.axes("x", "[batch, heads, tokens, channels]")?;
    let [.., anchors, _] = case.axes::<3>("anchors", "[heads, anchors, channels]")?;
    let bits = case.needed("bits", case.count("bits")?)?;
    let sigma = match case.params.get("sigma") {
        Some(Value::String(text)) if text == "sequence_mean" => Sigma::SequenceMean,
        Some(Value::Number(_)) => {
            let sigma = case.needed("sigma", case.number("sigma")?)?;
            Sigma::Frozen(sigma as f32)
        }
        other => {
            let got = other.map_or("nothing".into(), Value::to_string);
            return Err(case.wrong(format!(
                "parameter sigma must be a number or \"sequence_mean\", got {got}"
            )));
        }
    };
    let shape = Shape {
        batch,
        heads,
        tokens,
        channels,
        anchors,
        bits,
        dtype: x.dtype,
    };
    shape.check(sigma)?;
    let sets = [
        ("anchors", vec![heads, anchors, channels]),
        ("mean", vec![heads, anchors]),
        ("weight", vec![heads, bits, anchors]),
    ];
    let mut inputs = vec![x.clone()];
    for (name, shape) in sets {
        inputs.push(case.shaped(name, Dtype::F32, &shape)?.clone());
    }
    if let Some(grad) = case.grad_outputs.get("h") {
        if grad.dtype != Dtype::F32 || grad.shape != [batch, heads, tokens, bits] {
            let message = "tensor grad_out.h must be f32 [batch, heads, tokens, bits]";
            return Err(case.wrong(format!("{message}, got {grad:?}")));
        }
        inputs.push(grad.clone());
    }
    Ok(Box::new(Hash {
        shape,
        sigma,
        projection: case.flag("projection", true)?,
        inputs,
    }))
}

impl Hash {
    fn pulls(&self) -> bool {
        self.inputs.len() > 4
    }

    fn values(&self) -> Vec<Vec<f64>> {
        self.inputs.iter().map(Array::values).collect()
    }

    /// Words and projection by the reference, and the gradient of x.
    fn found(&self) -> Result<(cpu::Outputs, Option<Vec<f64>>), Error> {
        let (shape, sigma) = (&self.shape, self.sigma);
        let values = self.values();
        let mut values = values.iter().map(Vec::as_slice);
        let mut next = || values.next().unwrap_or(&[]);
        let inputs = cpu::Inputs {
            x: next(),
            anchors: next(),
            mean: next(),
            weight: next(),
        };
        let grad = match self.pulls() {
            true => Some(cpu::backward(shape, sigma, &inputs, next())?),
            false => None,
        };
        Ok((cpu::forward(shape, sigma, &inputs)?, grad))
    }
}

impl Problem for Hash {
    fn inputs(&self) -> Vec<&Array> {
        self.inputs.iter().collect()
    }

    fn outputs(&self) -> Vec<Output> {
        let Shape {
            batch,
            heads,
            tokens,
            channels,
            bits,
            ..
        } = self.shape;
        let output = |name, dtype, width, ratio, per_magnitude| Output {
            name,
            dtype,
            shape: vec![batch, heads, tokens, width],
            ratio,
            per_magnitude,
            per_value: 0.0,
        };
        // Words are judged bit by bit.
        let mut outputs = vec![output("words", Dtype::U32, words(bits), 0.0, 0.0)];
        if self.projection {
            outputs.push(output("projection", Dtype::F32, bits, TOLERANCE, TOLERANCE));
        }
        if self.pulls() {
            outputs.push(output("grad.x", Dtype::F32, channels, 2e-5, 0.0));
        }
        outputs
    }

    /// Codes, then the gradient.
    fn plans(&self, caps: &Caps, _all: bool) -> Result<Vec<Plan>, Error> {
        let (shape, sigma) = (&self.shape, self.sigma);
        let forward = plan::forward(shape, sigma, self.projection, caps)?;
        if !self.pulls() {
            return Ok(vec![forward]);
        }
        let backward = plan::backward(shape, sigma, caps)?;
        let label = format!("{}, with gradients", forward.label);
        let read: usize = self.inputs.iter().take(4).map(|x| x.bytes.len()).sum();
        let work = Work {
            flops: forward.work.flops + backward.work.flops,
            bytes: forward.work.bytes + backward.work.bytes - read as f64,
            ..Work::default()
        };
        let mut builder = Builder::default();
        let inputs = [0, 1, 2, 3, 4].map(Slot::Input);
        let outputs = [0, 1].map(Slot::Output);
        let grad = Slot::Output(1 + u16::from(self.projection));
        builder.append(forward, &inputs, &outputs)?;
        builder.append(backward, &inputs, &[grad])?;
        let plan = builder.plan(NAME, label, work);
        plan.check(caps)?;
        Ok(vec![plan])
    }

    fn reference(&self) -> Result<Vec<Reference>, Error> {
        let (found, grad) = self.found()?;
        let words = found.words.into_iter().map(f64::from);
        let mut references = vec![Reference {
            values: words.collect(),
            magnitude: Vec::new(),
        }];
        if self.projection {
            references.push(Reference {
                values: found.projection,
                magnitude: found.magnitude,
            });
        }
        references.extend(grad.map(|values| Reference {
            values,
            magnitude: Vec::new(),
        }));
        Ok(references)
    }

    fn undecided(&self, output: usize) -> Result<Option<Undecided>, Error> {
        if output > 0 {
            return Ok(None);
        }
        let (found, _) = self.found()?;
        let bits = found.projection.iter().zip(&found.magnitude);
        let close: Vec<bool> = bits.map(|(u, size)| u.abs() < TOLERANCE * size).collect();
        let mask = |bits: &[bool]| {
            let set = bits.iter().enumerate().filter(|(_, close)| **close);
            set.fold(0u32, |mask, (n, _)| mask | 1 << n)
        };
        let rows = close.chunks(self.shape.bits);
        Ok(Some(Undecided {
            masks: rows.flat_map(|row| row.chunks(32).map(mask)).collect(),
            bits: close.len(),
        }))
    }

    fn sizes(&self) -> Vec<(&'static str, usize)> {
        let shape = &self.shape;
        vec![
            ("b", shape.batch),
            ("h", shape.heads),
            ("t", shape.tokens),
            ("c", shape.channels),
            ("m", shape.anchors),
            ("bits", shape.bits),
        ]
    }
}

/// What a made case asks for.
#[derive(Clone, Copy)]
struct Ask {
    sigma: Option<f64>,
    gradients: bool,
    projection: bool,
}

/// Tokens in (-1, 1) around anchors of about unit length.
fn made(name: &str, dtype: Dtype, ask: Ask, sizes: [usize; 6]) -> Case {
    let [batch, heads, tokens, channels, anchors, bits] = sizes;
    let mut numbers = Numbers::of(name);
    let mut array =
        |dtype, shape: &[usize], centre, factor| numbers.array(dtype, shape, centre, factor);
    let unit = (3.0 / channels as f64).sqrt();
    let inputs = [
        (
            "x",
            array(dtype, &[batch, heads, tokens, channels], 0.0, 1.0),
        ),
        (
            "anchors",
            array(Dtype::F32, &[heads, anchors, channels], 0.0, unit),
        ),
        ("mean", array(Dtype::F32, &[heads, anchors], 0.6, 0.1)),
        (
            "weight",
            array(Dtype::F32, &[heads, bits, anchors], 0.0, 1.0),
        ),
    ];
    let sigma = ask
        .sigma
        .map_or(json!("sequence_mean"), |sigma| json!(sigma));
    let params = json!({ "bits": bits, "sigma": sigma, "projection": ask.projection });
    let case = Case::made(name, NAME, params, inputs);
    if ask.gradients {
        let rows = [batch, heads, tokens, bits];
        case.handing("h", array(Dtype::F32, &rows, 0.0, 1.0))
    } else {
        case
    }
}

fn builtin() -> Vec<Case> {
    let ask = |letters: &str| Ask {
        sigma: letters.contains('f').then_some(1.7),
        gradients: letters.contains('g'),
        projection: letters.contains('p'),
    };
    [
        ("hash", Dtype::F32, "fpg", [2, 2, 98, 32, 25, 16]),
        ("hash_sequence", Dtype::F32, "pg", [2, 2, 210, 32, 25, 16]),
        ("hash_words_alone", Dtype::F32, "f", [1, 3, 70, 24, 10, 64]),
        ("hash_odd_f16", Dtype::F16, "pg", [1, 2, 45, 7, 3, 45]),
        ("hash_f16", Dtype::F16, "f", [1, 2, 45, 12, 5, 100]),
        ("hash_bf16", Dtype::Bf16, "fpg", [1, 2, 33, 8, 4, 1]),
        ("hash_odd_bf16", Dtype::Bf16, "", [1, 1, 33, 5, 4, 33]),
        ("hash_no_tokens", Dtype::F32, "pg", [1, 2, 0, 8, 4, 16]),
    ]
    .into_iter()
    .map(|(name, dtype, letters, sizes)| made(name, dtype, ask(letters), sizes))
    .collect()
}

fn benches(class: Class) -> Vec<Bench> {
    let sizes: &[[usize; 3]] = match class {
        Class::Cpu => &[[5, 196, 32], [1, 3136, 32]],
        _ => &[[5, 196, 32], [1, 3136, 32], [32, 65_536, 64]],
    };
    let bench = |[heads, tokens, channels]: [usize; 3], letters: &'static str| {
        let sigma = if letters == "f" { "frozen" } else { "sequence" };
        let name = format!("{NAME}/forward_{sigma}_h{heads}_c{channels}_m25_b16_t{tokens}");
        Bench {
            name: name.clone(),
            make: Box::new(move || {
                let ask = Ask {
                    sigma: (letters == "f").then_some(1.7),
                    gradients: false,
                    projection: false,
                };
                let sizes = [1, heads, tokens, channels, 25, 16];
                made(&name, Dtype::F32, ask, sizes)
            }),
        }
    };
    let each = sizes.iter();
    each.flat_map(|sizes| [bench(*sizes, "f"), bench(*sizes, "")])
        .collect()
}
