//! `hamming_attention` as the program, the tests and the benches see it.

mod made;

use super::{
    Beta, Denominator, KEPT, OP as NAME, Options, Sequences, Shape, cpu,
    plan::{self, Wanted, WantedGradients},
};
use crate::{
    Error,
    case::{Array, Case, Failure, Op, Output, Problem, Reference},
    gpu::{Caps, Dtype},
    hamming::bits::words,
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
    /// q, k, v, then the lengths where they are given.
    inputs: Vec<Array>,
    grad_o: Option<Array>,
}

fn bind(case: &Case) -> Result<Box<dyn Problem>, Failure> {
    let bits = case.needed("bits", case.count("bits")?)?;
    let v = case.input("v")?;
    let [batch, heads, queries, _] = case.axes("q", "[batch, heads, queries, words]")?;
    let [_, kv_heads, capacity, value] = case.axes("v", "[batch, kv_heads, keys, value]")?;
    let shape = Shape {
        batch,
        heads,
        kv_heads,
        queries,
        keys: case.count("keys")?.unwrap_or(capacity),
        capacity,
        bits,
        value,
        dtype: v.dtype,
    };
    let beta = match case.inputs.get("beta") {
        Some(_) => {
            let betas = case.shaped("beta", Dtype::F32, &[heads])?.values();
            Beta::PerHead(betas.into_iter().map(|x| x as f32).collect())
        }
        None => Beta::All(case.needed("beta", case.number("beta")?)? as f32),
    };
    let ends = |name: &str| -> Option<Vec<usize>> {
        let array = case.inputs.get(name)?;
        Some(array.values().into_iter().map(|x| x as usize).collect())
    };
    let sequences = ends("cu_seqlens").map(|queries| Sequences {
        keys: ends("cu_seqlens_k").unwrap_or_else(|| queries.clone()),
        queries,
    });
    let options = Options {
        beta,
        causal: case.flag("causal", false)?,
        window: case.count("window")?,
        sinks: case.count("sinks")?.unwrap_or(0),
        top_n: case.count("top_n")?,
        include_ties: case.flag("include_ties", false)?,
        radius: case.count("radius")?,
        denominator: case.choice(
            "denominator",
            &[
                ("auto", None),
                ("running", Some(Denominator::Running)),
                ("integer", Some(Denominator::Integer)),
            ],
        )?,
        sequences,
        splits: case.count("splits")?,
    };
    options.check(&shape)?;
    let axes = [batch, heads, queries, words(bits)];
    let mut inputs = vec![
        case.shaped("q", Dtype::U32, &axes)?.clone(),
        case.shaped("k", Dtype::U32, &[batch, kv_heads, capacity, words(bits)])?
            .clone(),
        case.shaped("v", v.dtype, &[batch, kv_heads, capacity, value])?
            .clone(),
    ];
    if case.inputs.contains_key("lengths") {
        inputs.push(case.shaped("lengths", Dtype::U32, &[batch])?.clone());
    }
    let outputs = [batch, heads, queries, value];
    let grad_o = case.grad_outputs.get("o");
    if let Some(grad) = grad_o.filter(|grad| grad.shape != outputs || inputs.len() > 3) {
        let message =
            format!("tensor grad_out.o must be {outputs:?}, without lengths, got {grad:?}");
        return Err(case.wrong(message));
    }
    Ok(Box::new(Attention {
        shape,
        options,
        lse: case.flag("lse", false)?,
        inputs,
        grad_o: grad_o.map(|grad| Array::rounded(v.dtype, &grad.shape, &grad.values())),
    }))
}

/// u = 2⁻²⁴ times 1 + log2 of a number of terms.
fn unit(terms: usize) -> f64 {
    2f64.powi(-24) * (1.0 + (terms.max(1) as f64).log2())
}

/// The words of an array of u32.
fn codes(array: &Array) -> Vec<u32> {
    let word = |bytes: &[u8]| {
        bytes
            .iter()
            .rev()
            .fold(0, |n, byte| n << 8 | u32::from(*byte))
    };
    array.bytes.chunks_exact(4).map(word).collect()
}

impl Attention {
    /// Hands the inputs of the reference to a function.
    fn with_inputs<T>(&self, then: impl FnOnce(&cpu::Inputs<'_>) -> T) -> Option<T> {
        let [q, k, v, rest @ ..] = self.inputs.as_slice() else {
            return None;
        };
        let (q, k, v) = (codes(q), codes(k), v.values());
        let lengths = rest.first().map(codes);
        let inputs = cpu::Inputs {
            q: &q,
            k: &k,
            v: &v,
            lengths: lengths.as_deref(),
        };
        Some(then(&inputs))
    }

    fn wanted(&self) -> Wanted {
        Wanted {
            lse: self.lse,
            kept: false,
            lengths: self.inputs.len() > 3,
        }
    }
}

impl Problem for Attention {
    fn inputs(&self) -> Vec<&Array> {
        self.inputs.iter().collect()
    }

    fn outputs(&self) -> Vec<Output> {
        let shape = &self.shape;
        let axes = vec![shape.batch, shape.heads, shape.queries, shape.value];
        let (ratio, per_value) = match shape.dtype {
            Dtype::F16 => (1e-3, 2f64.powi(-11)),
            Dtype::Bf16 => (4e-3, 2f64.powi(-8)),
            _ => (1e-5, 0.0),
        };
        let o = Output {
            name: "o",
            dtype: shape.dtype,
            shape: axes,
            ratio,
            per_magnitude: 8.0 * unit(shape.keys),
            per_value,
        };
        let lse = Output {
            name: "lse",
            dtype: Dtype::F32,
            shape: vec![shape.batch, shape.heads, shape.queries],
            ratio: 1e-5,
            per_magnitude: 8.0 * unit(shape.keys),
            per_value: 2f64.powi(-22),
        };
        match self.lse {
            true => vec![o, lse],
            false => vec![o],
        }
    }

    fn plans(&self, caps: &Caps, all: bool) -> Result<Vec<Plan>, Error> {
        let (shape, options, wanted) = (&self.shape, &self.options, self.wanted());
        match all {
            true => plan::variants(shape, options, wanted, caps),
            false => Ok(vec![plan::forward(shape, options, wanted, caps)?]),
        }
    }

    fn reference(&self) -> Result<Vec<Reference>, Error> {
        let found = self.with_inputs(|inputs| cpu::forward(&self.shape, &self.options, inputs));
        let found = found.transpose()?.unwrap_or_default();
        // Beside its own rounding, a logarithm has the relative error of its sum as an absolute one.
        let lse = Reference {
            magnitude: vec![1.0; found.lse.len()],
            values: found.lse,
        };
        let o = Reference {
            values: found.o,
            magnitude: found.magnitude,
        };
        Ok(match self.lse {
            true => vec![o, lse],
            false => vec![o],
        })
    }

    fn sizes(&self) -> Vec<(&'static str, usize)> {
        let shape = &self.shape;
        vec![
            ("b", shape.batch),
            ("h", shape.heads),
            ("tq", shape.queries),
            ("t", shape.keys),
            ("bits", shape.bits),
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

/// The gradients of q, k and v.
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
        let shape = &self.forward.shape;
        let ratio = match shape.dtype {
            Dtype::F16 => 2e-3,
            Dtype::Bf16 => 1e-2,
            _ => 2e-5,
        };
        // o comes rounded to its storage type, which is in the mean that gradients of codes are taken from.
        let rounding = match shape.dtype {
            Dtype::F16 => 2f64.powi(-11),
            Dtype::Bf16 => 2f64.powi(-8),
            _ => 0.0,
        };
        let terms = shape.keys.max(shape.group() * shape.queries) + shape.value;
        let output = |name, shape, rounding| Output {
            name,
            dtype: Dtype::F32,
            shape,
            ratio,
            per_magnitude: 16.0 * unit(terms) + rounding,
            per_value: 0.0,
        };
        let rows = |heads, rows, width| vec![shape.batch, heads, rows, width];
        vec![
            output("q", rows(shape.heads, shape.queries, shape.bits), rounding),
            output(
                "k",
                rows(shape.kv_heads, shape.capacity, shape.bits),
                rounding,
            ),
            output("v", rows(shape.kv_heads, shape.capacity, shape.value), 0.0),
        ]
    }

    /// Outputs, then gradients; what the one hands to the other are temporaries.
    fn plans(&self, caps: &Caps, _all: bool) -> Result<Vec<Plan>, Error> {
        let (shape, options) = (&self.forward.shape, &self.forward.options);
        let kept = Wanted {
            kept: true,
            ..Wanted::default()
        };
        let all = WantedGradients {
            q: true,
            k: true,
            v: true,
        };
        let outputs = plan::forward(shape, options, kept, caps)?;
        let gradients = plan::backward(shape, options, all, caps)?;
        let label = format!("{}, then {}", outputs.label, gradients.label);
        let work = Work {
            flops: outputs.work.flops + gradients.work.flops,
            popcounts: outputs.work.popcounts + gradients.work.popcounts,
            bytes: gradients.work.bytes,
        };
        let mut builder = Builder::default();
        let o = builder.add_scratch(shape.output_len() as u64 * shape.dtype.bytes());
        let kept = builder.add_scratch((4 * KEPT * shape.rows()) as u64);
        let [q, k, v, grad_o] = [0, 1, 2, 3].map(Slot::Input);
        builder.append(outputs, &[q, k, v], &[o, kept])?;
        let grads = [0, 1, 2].map(Slot::Output);
        builder.append(gradients, &[q, k, v, o, kept, grad_o], &grads)?;
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
        let [q, k, v] = grads.magnitudes;
        let all = [(grads.q, q), (grads.k, k), (grads.v, v)];
        let reference = |(values, magnitude)| Reference { values, magnitude };
        Ok(all.map(reference).into())
    }

    fn sizes(&self) -> Vec<(&'static str, usize)> {
        self.forward.sizes()
    }
}
