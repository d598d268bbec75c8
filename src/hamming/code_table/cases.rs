//! `code_table_attention` as the program, the tests and the benches see it.

mod made;

use serde_json::Value;

use super::{OP as NAME, Options, Shape, plan, plan::States};
use crate::{
    Error,
    case::{Array, Case, Failure, Op, Output, Problem, Reference},
    gpu::{Caps, Dtype},
    hamming::cpu::code_table as cpu,
    plan::Plan,
};

pub(crate) use made::COMPARED;

/// The operator's entry in the table.
pub(crate) const OP: Op = Op {
    name: NAME,
    bind,
    builtin: made::builtin,
    benches: made::benches,
};

struct Attention {
    shape: Shape,
    options: Options,
    q: Array,
    k: Array,
    v: Array,
    initial_state: Option<Array>,
    final_state: bool,
    grad_o: Option<Array>,
}

/// A parameter that is a number or a list of numbers.
fn numbers(case: &Case, name: &str) -> Result<Vec<f32>, Failure> {
    let wrong = || {
        case.wrong(format!(
            "parameter {name} must be a number or a list of numbers"
        ))
    };
    let number = |value: &Value| value.as_f64().map(|x| x as f32).ok_or_else(wrong);
    match case.params.get(name) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(values)) => values.iter().map(number).collect(),
        Some(value) => number(value).map(|x| vec![x]),
    }
}

fn bind(case: &Case) -> Result<Box<dyn Problem>, Failure> {
    let [batch, heads, queries, _] = case.axes("q", "[batch, heads, queries, 1]")?;
    let [_, kv_heads, keys, value] = case.axes("v", "[batch, kv_heads, keys, value]")?;
    let shape = Shape {
        batch,
        heads,
        kv_heads,
        queries,
        keys,
        value,
    };
    let options = Options {
        bits: case.needed("bits", case.count("bits")?)?,
        beta: case.needed(
            "beta",
            Some(numbers(case, "beta")?).filter(|beta| !beta.is_empty()),
        )?,
        scales: numbers(case, "scales")?,
        causal: case.flag("causal", false)?,
        chunk: case.count("chunk")?,
    };
    shape.check(&options)?;
    let state = [
        batch,
        kv_heads,
        shape.share(&options),
        1 << options.bits,
        value + 1,
    ];
    let initial_state = match case.inputs.contains_key("initial_state") {
        true => Some(case.shaped("initial_state", Dtype::F32, &state)?.clone()),
        false => None,
    };
    let grad_o = case.grad_outputs.get("o").cloned();
    let o = [batch, heads, queries, value];
    if let Some(grad) = grad_o
        .as_ref()
        .filter(|grad| grad.dtype != Dtype::F32 || grad.shape != o)
    {
        return Err(case.wrong(format!("the gradient of o must be f32 {o:?}, got {grad:?}")));
    }
    Ok(Box::new(Attention {
        q: case
            .shaped("q", Dtype::U32, &[batch, heads, queries, 1])?
            .clone(),
        k: case
            .shaped("k", Dtype::U32, &[batch, kv_heads, keys, 1])?
            .clone(),
        v: case
            .shaped("v", Dtype::F32, &[batch, kv_heads, keys, value])?
            .clone(),
        final_state: case.flag("final_state", false)?,
        shape,
        options,
        initial_state,
        grad_o,
    }))
}

/// The tensors of a problem as the reference takes them.
struct Values {
    q: Vec<u32>,
    k: Vec<u32>,
    v: Vec<f64>,
    state: Option<Vec<f64>>,
}

impl Values {
    fn inputs(&self) -> cpu::Inputs<'_> {
        cpu::Inputs {
            q: &self.q,
            k: &self.k,
            v: &self.v,
            initial_state: self.state.as_deref(),
        }
    }
}

impl Attention {
    fn values(&self) -> Values {
        let words = |array: &Array| array.values().into_iter().map(|x| x as u32).collect();
        Values {
            q: words(&self.q),
            k: words(&self.k),
            v: self.v.values(),
            state: self.initial_state.as_ref().map(Array::values),
        }
    }

    /// The bound of the module's text: 4 u (b + log2 T) of the sum of absolute terms.
    fn per_magnitude(&self) -> f64 {
        let tokens = self.shape.keys.max(2) as f64;
        4.0 * (-24f64).exp2() * (self.options.bits as f64 + tokens.log2())
    }

    fn state_shape(&self) -> Vec<usize> {
        let shape = &self.shape;
        let share = shape.share(&self.options);
        vec![
            shape.batch,
            shape.kv_heads,
            share,
            1 << self.options.bits,
            shape.value + 1,
        ]
    }
}

fn output(name: &'static str, shape: Vec<usize>, ratio: f64, per_magnitude: f64) -> Output {
    Output {
        name,
        dtype: Dtype::F32,
        shape,
        ratio,
        per_magnitude,
        per_value: 0.0,
    }
}

impl Problem for Attention {
    fn inputs(&self) -> Vec<&Array> {
        let inputs = [&self.q, &self.k, &self.v].into_iter();
        inputs.chain(&self.initial_state).collect()
    }

    fn outputs(&self) -> Vec<Output> {
        let Shape {
            batch,
            heads,
            queries,
            value,
            ..
        } = self.shape;
        let o = vec![batch, heads, queries, value];
        let mut outputs = vec![output("o", o, 1e-5, self.per_magnitude())];
        if self.final_state {
            outputs.push(output("final_state", self.state_shape(), 1e-5, 0.0));
        }
        outputs
    }

    /// The planner's choice, and where causal other chunks.
    fn plans(&self, caps: &Caps, all: bool) -> Result<Vec<Plan>, Error> {
        let states = States {
            initial: self.initial_state.is_some(),
            last: self.final_state,
        };
        let mut plans = vec![plan::forward(&self.shape, &self.options, states, caps)?];
        if all && self.options.causal && self.options.chunk.is_none() {
            for chunk in [7, 256] {
                let options = Options {
                    chunk: Some(chunk),
                    ..self.options.clone()
                };
                plans.push(plan::forward(&self.shape, &options, states, caps)?);
            }
        }
        Ok(plans)
    }

    /// Pair by pair where there are not too many pairs, else by way of the table.
    fn reference(&self) -> Result<Vec<Reference>, Error> {
        let mut values = self.values();
        let (shape, options) = (&self.shape, &self.options);
        if shape.output_len() * shape.keys > 1 << 28 && !self.final_state && values.state.is_none()
        {
            let o = cpu::by_table(shape, options, &values.inputs())?;
            values.v.iter_mut().for_each(|v| *v = v.abs());
            let magnitude = cpu::by_table(shape, options, &values.inputs())?;
            return Ok(vec![Reference {
                values: o,
                magnitude,
            }]);
        }
        let found = cpu::forward(shape, options, &values.inputs())?;
        let mut references = vec![Reference {
            values: found.o,
            magnitude: found.magnitude,
        }];
        if self.final_state {
            references.push(Reference {
                values: found.final_state,
                magnitude: Vec::new(),
            });
        }
        Ok(references)
    }

    /// By way of the table where there is nothing but o.
    fn native(&self) -> Result<Vec<Array>, Error> {
        let values = self.values();
        let values = if self.final_state || values.state.is_some() {
            let references = self.reference()?.into_iter();
            references.map(|reference| reference.values).collect()
        } else {
            vec![cpu::by_table(&self.shape, &self.options, &values.inputs())?]
        };
        let outputs = self.outputs();
        Ok(outputs
            .iter()
            .zip(&values)
            .map(|(output, values)| Array::rounded(output.dtype, &output.shape, values))
            .collect())
    }

    fn sizes(&self) -> Vec<(&'static str, usize)> {
        let shape = &self.shape;
        vec![
            ("b", shape.batch),
            ("h", shape.heads),
            ("t", shape.keys),
            ("bits", self.options.bits),
            ("v", shape.value),
        ]
    }

    fn adjoint(&self) -> Option<Box<dyn Problem + '_>> {
        let grad_o = self.grad_o.clone()?;
        Some(Box::new(Adjoint {
            problem: self,
            grad_o,
        }))
    }
}

/// Gradients of h, of g and of v, under the names of q, k and v.
struct Adjoint<'a> {
    problem: &'a Attention,
    grad_o: Array,
}

impl Problem for Adjoint<'_> {
    fn inputs(&self) -> Vec<&Array> {
        let inputs = self.problem.inputs().into_iter();
        inputs.chain([&self.grad_o]).collect()
    }

    fn outputs(&self) -> Vec<Output> {
        let Shape {
            batch,
            heads,
            kv_heads,
            queries,
            keys,
            value,
        } = self.problem.shape;
        let bits = self.problem.options.bits;
        vec![
            output("q", vec![batch, heads, queries, bits], 2e-5, 0.0),
            output("k", vec![batch, kv_heads, keys, bits], 2e-5, 0.0),
            output("v", vec![batch, kv_heads, keys, value], 2e-5, 0.0),
        ]
    }

    fn plans(&self, caps: &Caps, all: bool) -> Result<Vec<Plan>, Error> {
        let problem = self.problem;
        let options = &problem.options;
        let mut plans = vec![plan::backward(&problem.shape, options, caps)?];
        if all && options.causal && options.chunk.is_none() {
            let options = Options {
                chunk: Some(7),
                ..options.clone()
            };
            plans.push(plan::backward(&problem.shape, &options, caps)?);
        }
        Ok(plans)
    }

    fn reference(&self) -> Result<Vec<Reference>, Error> {
        let problem = self.problem;
        let values = problem.values();
        let grads = cpu::backward(
            &problem.shape,
            &problem.options,
            &values.inputs(),
            &self.grad_o.values(),
        )?;
        let reference = |values| Reference {
            values,
            magnitude: Vec::new(),
        };
        Ok([grads.h, grads.g, grads.v].map(reference).into())
    }

    fn sizes(&self) -> Vec<(&'static str, usize)> {
        self.problem.sizes()
    }
}
