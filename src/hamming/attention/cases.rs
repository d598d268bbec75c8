//! `hamming_attention` as the program, the tests and the benches see it.

use serde_json::{Value, json};

use super::{
    Beta, Denominator, KEPT, OP as NAME, Options, Sequences, Shape, cpu,
    plan::{self, Wanted, WantedGradients},
};
use crate::{
    Error,
    case::{Array, Bench, Case, Failure, Numbers, Op, Output, Problem, Reference},
    gpu::{Caps, Class, Dtype},
    hamming::bits::words,
    plan::{Builder, Plan, Slot, Work},
};

/// The operator's entry in the table.
pub(crate) const OP: Op = Op {
    name: NAME,
    bind,
    builtin,
    benches,
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

/// A case made from a formula: random words, pads among them, and values in (-1, 1).
#[derive(Clone)]
struct Made {
    name: String,
    shape: Shape,
    params: Value,
    betas: Option<Vec<f32>>,
    ends: Option<[Vec<i32>; 2]>,
    lengths: Option<Vec<u32>>,
    backward: bool,
}

impl Made {
    /// Batch, heads, tokens; bits; width of values.
    fn new(name: &str, sizes: [usize; 3], bits: usize, value: usize, params: Value) -> Made {
        Made {
            name: name.into(),
            shape: Shape::square(sizes, bits, value, Dtype::F32),
            params,
            betas: None,
            ends: None,
            lengths: None,
            backward: false,
        }
    }

    fn dtype(mut self, dtype: Dtype) -> Made {
        self.shape.dtype = dtype;
        self
    }

    fn kv_heads(mut self, kv_heads: usize) -> Made {
        self.shape.kv_heads = kv_heads;
        self
    }

    /// Other numbers of keys and of rows for them.
    fn keys(mut self, keys: usize, capacity: usize) -> Made {
        (self.shape.keys, self.shape.capacity) = (keys, capacity);
        self
    }

    fn betas(mut self, betas: &[f32]) -> Made {
        self.betas = Some(betas.into());
        self
    }

    fn packed(mut self, queries: &[i32], keys: &[i32]) -> Made {
        self.ends = Some([queries.into(), keys.into()]);
        self
    }

    fn lengths(mut self, lengths: &[u32]) -> Made {
        self.lengths = Some(lengths.into());
        self
    }

    fn backward(mut self) -> Made {
        self.backward = true;
        self
    }

    fn case(self) -> Case {
        let shape = self.shape;
        let mut numbers = Numbers::of(&self.name);
        let codes = |numbers: &mut Numbers, heads: usize, rows: usize| {
            // Near a few centres, so that distances vary and tie.
            let axes = [shape.batch, heads, rows, shape.words()];
            let mut array = numbers.words(&axes);
            let noise = numbers.words(&axes);
            for (n, (byte, noise)) in array.bytes.iter_mut().zip(&noise.bytes).enumerate() {
                if n / (4 * shape.words()) % 3 > 0 {
                    *byte &= noise;
                }
            }
            array
        };
        let q = codes(&mut numbers, shape.heads, shape.queries);
        let k = codes(&mut numbers, shape.kv_heads, shape.capacity);
        let axes = [shape.batch, shape.kv_heads, shape.capacity, shape.value];
        let v = numbers.array(shape.dtype, &axes, 0.0, 1.0);
        let mut inputs = vec![("q", q), ("k", k), ("v", v)];
        if let Some(betas) = &self.betas {
            inputs.push(("beta", Array::f32(&[betas.len()], betas)));
        }
        if let Some(ends) = &self.ends {
            for (name, ends) in ["cu_seqlens", "cu_seqlens_k"].into_iter().zip(ends) {
                let ends: Vec<f64> = ends.iter().map(|n| f64::from(*n)).collect();
                inputs.push((name, Array::rounded(Dtype::I32, &[ends.len()], &ends)));
            }
        }
        if let Some(lengths) = &self.lengths {
            inputs.push(("lengths", Array::u32(&[lengths.len()], lengths)));
        }
        let mut params = self.params;
        if let Value::Object(params) = &mut params {
            params.insert("bits".into(), shape.bits.into());
            params.insert("keys".into(), shape.keys.into());
        }
        let case = Case::made(&self.name, NAME, params, inputs);
        if !self.backward {
            return case;
        }
        let axes = [shape.batch, shape.heads, shape.queries, shape.value];
        case.handing("o", numbers.array(Dtype::F32, &axes, 0.0, 1.0))
    }
}

fn builtin() -> Vec<Case> {
    let made = |name: &str, sizes, bits, value, params| {
        Made::new(
            &format!("hamming_attention_{name}"),
            sizes,
            bits,
            value,
            params,
        )
    };
    let all = [
        made(
            "dense",
            [2, 2, 70],
            64,
            32,
            json!({ "beta": 0.125, "lse": true }),
        )
        .backward(),
        made(
            "causal",
            [1, 2, 65],
            40,
            24,
            json!({ "beta": 0.2, "causal": true }),
        )
        .backward(),
        made(
            "shifted",
            [1, 2, 50],
            100,
            9,
            json!({ "beta": 2.5, "lse": true }),
        )
        .backward(),
        made(
            "integer",
            [1, 2, 66],
            33,
            20,
            json!({ "beta": 0.3, "denominator": "integer", "causal": true, "lse": true }),
        ),
        made(
            "top_n",
            [1, 2, 100],
            128,
            16,
            json!({ "beta": 0.1, "top_n": 8, "lse": true }),
        )
        .backward(),
        made(
            "top_n_ties",
            [1, 1, 90],
            6,
            5,
            json!({ "beta": 0.4, "top_n": 7, "causal": true }),
        )
        .backward(),
        made(
            "all_ties",
            [1, 1, 70],
            5,
            8,
            json!({ "beta": 9.0, "top_n": 4, "include_ties": true }),
        ),
        made(
            "radius",
            [1, 2, 80],
            64,
            12,
            json!({ "beta": -0.2, "radius": 24, "window": 30 }),
        )
        .backward(),
        made(
            "window",
            [1, 2, 150],
            96,
            16,
            json!({ "beta": 0.1, "causal": true, "window": 20, "sinks": 3 }),
        )
        .backward(),
        made(
            "about",
            [1, 1, 99],
            17,
            33,
            json!({ "beta": 0.5, "window": 7 }),
        ),
        made("heads", [2, 6, 40], 64, 64, json!({ "causal": true }))
            .kv_heads(2)
            .betas(&[0.1, -0.2, 0.0, 0.05, 0.3, -0.1])
            .backward(),
        made(
            "heads_shifted",
            [1, 4, 33],
            70,
            7,
            json!({ "causal": true, "lse": true }),
        )
        .kv_heads(2)
        .betas(&[1.5, -1.5, 0.0, -3.0]),
        made(
            "packed",
            [1, 2, 100],
            64,
            16,
            json!({ "beta": 0.1, "causal": true }),
        )
        .keys(90, 95)
        .packed(&[0, 30, 30, 100], &[0, 40, 41, 90])
        .backward(),
        made(
            "packed_top_n",
            [1, 2, 100],
            64,
            16,
            json!({ "beta": 0.9, "top_n": 5 }),
        )
        .packed(&[0, 1, 64, 100], &[0, 1, 64, 100]),
        made(
            "f16",
            [1, 2, 80],
            128,
            64,
            json!({ "beta": 0.1, "causal": true }),
        )
        .dtype(Dtype::F16)
        .backward(),
        made("odd_f16", [1, 1, 41], 31, 7, json!({ "beta": 0.2 })).dtype(Dtype::F16),
        made("odd_bf16", [1, 1, 41], 65, 130, json!({ "beta": 0.2 }))
            .dtype(Dtype::Bf16)
            .backward(),
        made(
            "decode",
            [2, 8, 1],
            128,
            64,
            json!({ "beta": 0.1, "causal": true, "splits": 4 }),
        )
        .kv_heads(2)
        .keys(300, 320),
        made(
            "decode_lengths",
            [3, 4, 2],
            64,
            16,
            json!({ "beta": 1.1, "causal": true, "lse": true }),
        )
        .kv_heads(1)
        .keys(200, 256)
        .lengths(&[1, 200, 77]),
        made(
            "decode_top_n",
            [1, 4, 1],
            96,
            20,
            json!({ "beta": 0.1, "causal": true, "top_n": 16 }),
        )
        .kv_heads(2)
        .keys(700, 700)
        .lengths(&[650]),
        made(
            "more_queries",
            [1, 1, 60],
            64,
            4,
            json!({ "beta": 0.1, "causal": true, "lse": true }),
        )
        .keys(20, 20)
        .backward(),
        made(
            "wide",
            [1, 1, 20],
            3000,
            4,
            json!({ "beta": 0.01, "top_n": 3 }),
        ),
        made(
            "no_keys",
            [1, 2, 5],
            64,
            8,
            json!({ "beta": 0.1, "lse": true }),
        )
        .keys(0, 0),
        made("no_tokens", [1, 2, 0], 64, 8, json!({ "beta": 0.1 })),
    ];
    all.into_iter().map(Made::case).collect()
}

fn benches(class: Class) -> Vec<Bench> {
    let made = |name: &str, sizes, bits, params| {
        Made::new(&format!("{NAME}/{name}"), sizes, bits, 64, params)
    };
    let mut all = Vec::new();
    let lengths: &[usize] = match class {
        Class::Cpu => &[1024, 4096],
        _ => &[1024, 4096, 16_384],
    };
    let dense = json!({ "beta": 0.125 });
    let causal = json!({ "beta": 0.125, "causal": true });
    for t in lengths.iter().copied() {
        let heads = [1, 8, t];
        all.push(made(
            &format!("dense_h8_b64_v64_t{t}"),
            heads,
            64,
            dense.clone(),
        ));
        all.push(made(
            &format!("causal_h8_b64_v64_t{t}"),
            heads,
            64,
            causal.clone(),
        ));
        all.push(made(
            &format!("causal_h8_b128_v64_t{t}"),
            heads,
            128,
            causal.clone(),
        ));
        let top_n = json!({ "beta": 0.125, "causal": true, "top_n": t / 32 });
        all.push(made(&format!("top_n_h8_b128_v64_t{t}"), heads, 128, top_n));
        let decode = made(
            &format!("decode_h8_kv2_b128_v64_t{t}"),
            [1, 8, 1],
            128,
            causal.clone(),
        );
        all.push(decode.kv_heads(2).keys(t, t));
    }
    all.push(made("backward_h8_b64_v64_t1024", [1, 8, 1024], 64, causal).backward());
    all.into_iter()
        .map(|made| Bench {
            name: made.name.clone(),
            make: Box::new(move || made.clone().case()),
        })
        .collect()
}
