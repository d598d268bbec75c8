//! `tensor_attention` as the program, the tests and the benches see it.

mod made;

use serde_json::Value;

use super::{
    Logits, OP as NAME, Options, Shape, cpu,
    plan::{self, Wanted},
};
use crate::{
    Error,
    case::{Array, Case, Failure, Op, Output, Problem, Reference},
    gpu::{Caps, Dtype},
    kronecker::tensor_linear,
    plan::{Builder, Plan, Slot, Work},
};

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
    lse: bool,
    /// q, k1, k2, v1, v2.
    inputs: Vec<Array>,
    grad_o: Option<Array>,
}

fn bind(case: &Case) -> Result<Box<dyn Problem>, Failure> {
    // Weights by a softmax of scores are computed here, scores themselves and polynomials of them in linear time elsewhere.
    let kernels = [("softmax", true), ("linear", false), ("poly", false)];
    match case.choice("kernel", &kernels)? {
        true => exact(case),
        false => tensor_linear::cases::bind(case),
    }
}

/// The windows of the two kinds of keys.
fn window(case: &Case) -> Result<[Option<usize>; 2], Failure> {
    let wrong = || case.wrong("parameter window must be null or two whole numbers, each or null");
    let one = |value: &Value| match value {
        Value::Null => Ok(None),
        other => {
            let n = other.as_u64().and_then(|n| usize::try_from(n).ok());
            n.map(Some).ok_or_else(wrong)
        }
    };
    match case.params.get("window") {
        None | Some(Value::Null) => Ok([None; 2]),
        Some(Value::Array(values)) => match values.as_slice() {
            [first, second] => Ok([one(first)?, one(second)?]),
            _ => Err(wrong()),
        },
        Some(_) => Err(wrong()),
    }
}

fn exact(case: &Case) -> Result<Box<dyn Problem>, Failure> {
    let dtype = case.input("q")?.dtype;
    let [batch, heads, queries, width] = case.axes("q", "[batch, heads, queries, width]")?;
    let [_, kv_heads, first, value] = case.axes("v1", "[batch, kv_heads, keys, value]")?;
    let [_, _, second, _] = case.axes("v2", "[batch, kv_heads, keys, value]")?;
    let shape = Shape {
        batch,
        heads,
        kv_heads,
        queries,
        keys: [first, second],
        width,
        value,
        dtype,
    };
    let logits = [
        Logits::Trilinear,
        Logits::Determinant,
        Logits::PairSum,
        Logits::Sum,
    ];
    let q_offset = case.number("q_offset")?;
    if q_offset.is_some_and(|n| n.fract() != 0.0) {
        return Err(case.wrong("parameter q_offset must be a whole number"));
    }
    let options = Options {
        scale: case.needed("scale", case.number("scale")?)? as f32,
        causal: case.flag("causal", false)?,
        window: window(case)?,
        q_offset: q_offset.map(|n| n as i64),
        logits: case.choice("logits", &logits.map(|logits| (logits.name(), logits)))?,
        k2_bias: case.number("k2_bias")?.unwrap_or(0.0) as f32,
        v2_bias: case.number("v2_bias")?.unwrap_or(0.0) as f32,
    };
    options.check(&shape)?;
    let axes = |keys, width| [batch, kv_heads, keys, width];
    let inputs = vec![
        case.input("q")?.clone(),
        case.shaped("k1", dtype, &axes(first, width))?.clone(),
        case.shaped("k2", dtype, &axes(second, width))?.clone(),
        case.shaped("v1", dtype, &axes(first, value))?.clone(),
        case.shaped("v2", dtype, &axes(second, value))?.clone(),
    ];
    let outputs = [batch, heads, queries, value];
    let grad_o = case.grad_outputs.get("o");
    if let Some(grad) = grad_o.filter(|grad| grad.shape != outputs) {
        let message = format!("tensor grad_out.o must be {outputs:?}, got {grad:?}");
        return Err(case.wrong(message));
    }
    Ok(Box::new(Attention {
        shape,
        options,
        lse: case.flag("lse", false)?,
        inputs,
        grad_o: grad_o.map(|grad| Array::rounded(dtype, &grad.shape, &grad.values())),
    }))
}

/// u = 2⁻²⁴.
const UNIT: f64 = 1.0 / (1 << 24) as f64;

impl Attention {
    /// Hands the inputs of the reference to a function.
    fn with_inputs<T>(&self, then: impl FnOnce(&cpu::Inputs<'_>) -> T) -> Option<T> {
        let [q, k1, k2, v1, v2] = self.inputs.as_slice() else {
            return None;
        };
        let [q, k1, k2, v1, v2] = [q, k1, k2, v1, v2].map(Array::values);
        let inputs = cpu::Inputs {
            q: &q,
            keys: [&k1, &k2],
            values: [&v1, &v2],
        };
        Some(then(&inputs))
    }

    /// The unit of the storage type, where it is not f32, and the bounds on root mean squares of outputs and gradients.
    fn storage(&self) -> (f64, f64, f64) {
        match self.shape.dtype {
            Dtype::F16 => (2f64.powi(-11), 1e-3, 2e-3),
            Dtype::Bf16 => (2f64.powi(-8), 4e-3, 1e-2),
            _ => (0.0, 5e-6, 2e-5),
        }
    }
}

impl Problem for Attention {
    fn inputs(&self) -> Vec<&Array> {
        self.inputs.iter().collect()
    }

    fn outputs(&self) -> Vec<Output> {
        let shape = &self.shape;
        let (per_value, ratio, _) = self.storage();
        let o = Output {
            name: "o",
            dtype: shape.dtype,
            shape: vec![shape.batch, shape.heads, shape.queries, shape.value],
            ratio,
            per_magnitude: 4.0 * UNIT,
            per_value,
        };
        let lse = Output {
            name: "lse",
            dtype: Dtype::F32,
            shape: vec![shape.batch, shape.heads, shape.queries],
            ratio: 5e-6,
            per_magnitude: 4.0 * UNIT,
            per_value: 4.0 * UNIT,
        };
        match self.lse {
            true => vec![o, lse],
            false => vec![o],
        }
    }

    fn plans(&self, caps: &Caps, _all: bool) -> Result<Vec<Plan>, Error> {
        let plan = plan::forward(&self.shape, &self.options, self.lse, caps)?;
        Ok(vec![plan])
    }

    fn reference(&self) -> Result<Vec<Reference>, Error> {
        let found = self.with_inputs(|inputs| cpu::forward(&self.shape, &self.options, inputs));
        let found = found.transpose()?.unwrap_or_default();
        let [of_o, of_lse] = found.magnitudes;
        let all = [(found.o, of_o), (found.lse, of_lse)];
        let all = all.map(|(values, magnitude)| Reference { values, magnitude });
        let outputs = if self.lse { 2 } else { 1 };
        Ok(all.into_iter().take(outputs).collect())
    }

    fn sizes(&self) -> Vec<(&'static str, usize)> {
        let shape = &self.shape;
        vec![
            ("b", shape.batch),
            ("h", shape.heads),
            ("t", shape.queries),
            ("t1", shape.keys[0]),
            ("t2", shape.keys[1]),
            ("d", shape.width),
            ("v", shape.value),
        ]
    }

    fn adjoint(&self) -> Option<Box<dyn Problem + '_>> {
        let grad_o = self.grad_o.as_ref()?;
        Some(Box::new(Adjoint {
            forward: self,
            grad_o,
        }))
    }
}

/// The gradients of all inputs.
struct Adjoint<'a> {
    forward: &'a Attention,
    grad_o: &'a Array,
}

impl Problem for Adjoint<'_> {
    fn inputs(&self) -> Vec<&Array> {
        let mut inputs = self.forward.inputs();
        inputs.push(self.grad_o);
        inputs
    }

    fn outputs(&self) -> Vec<Output> {
        let (stored, _, ratio) = self.forward.storage();
        let names = ["q", "k1", "k2", "v1", "v2"];
        let outputs = names.into_iter().zip(&self.forward.inputs);
        let output = |(name, input): (&'static str, &Array)| Output {
            name,
            dtype: Dtype::F32,
            shape: input.shape.clone(),
            ratio,
            // The given o comes rounded to its storage type.
            per_magnitude: 8.0 * UNIT + stored,
            per_value: 0.0,
        };
        outputs.map(output).collect()
    }

    /// Outputs, then gradients; what the one hands to the other are temporaries.
    fn plans(&self, caps: &Caps, _all: bool) -> Result<Vec<Plan>, Error> {
        let (shape, options) = (&self.forward.shape, &self.forward.options);
        let outputs = plan::forward(shape, options, true, caps)?;
        let gradients = plan::backward(shape, options, Wanted::ALL, caps)?;
        let label = format!("{}, then {}", outputs.label, gradients.label);
        let work = Work {
            flops: outputs.work.flops + gradients.work.flops,
            bytes: gradients.work.bytes,
            ..Work::default()
        };
        let mut builder = Builder::default();
        let o = builder.add_scratch(shape.output_len() as u64 * shape.dtype.bytes());
        let lse = builder.add_scratch(4 * shape.rows() as u64);
        let [q, k1, k2, v1, v2, grad_o] = [0, 1, 2, 3, 4, 5].map(Slot::Input);
        builder.append(outputs, &[q, k1, k2, v1, v2], &[o, lse])?;
        let inputs = [q, k1, k2, v1, v2, o, lse, grad_o];
        builder.append(gradients, &inputs, &[0, 1, 2, 3, 4].map(Slot::Output))?;
        let plan = builder.plan(NAME, label, work);
        plan.check(caps)?;
        Ok(vec![plan])
    }

    fn reference(&self) -> Result<Vec<Reference>, Error> {
        let Attention { shape, options, .. } = self.forward;
        let grad_o = self.grad_o.values();
        let grads = self
            .forward
            .with_inputs(|inputs| cpu::backward(shape, options, inputs, &grad_o));
        let grads = grads.transpose()?.unwrap_or_default();
        let all = grads.values.into_iter().zip(grads.magnitudes);
        let reference = |(values, magnitude)| Reference { values, magnitude };
        Ok(all.map(reference).collect())
    }

    fn sizes(&self) -> Vec<(&'static str, usize)> {
        self.forward.sizes()
    }
}
