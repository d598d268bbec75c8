//! `soft_attention` as the program, the tests and the benches see it.

use std::{collections::BTreeMap, sync::OnceLock};

use serde_json::{Map, Value, json};

use super::{Options, Shape, Solver, Status, cpu, plan, plan::Part};
use crate::{
    Error,
    case::{Array, Bench, Case, Failure, Numbers, Op, Output, Problem, Reference},
    gpu::{Caps, Class, Dtype},
    linear::Layout,
    plan::Plan,
};

/// The operator's entry in the table.
pub(crate) const OP: Op = Op {
    name: plan::OP,
    bind,
    builtin,
    benches,
};

struct SoftAttention {
    shape: Shape,
    options: Options,
    part: Part,
    pooled: bool,
    /// q, the landmarks unless they are pooled, v, the gradient of o if there is one.
    inputs: Vec<Array>,
    factor: OnceLock<f64>,
}

fn bind(case: &Case) -> Result<Box<dyn Problem>, Failure> {
    let layout = case.choice("layout", &[("bhtd", Layout::Bhtd), ("bthd", Layout::Bthd)])?;
    let number = |name: &str, default: f64| Ok::<_, Failure>(case.number(name)?.unwrap_or(default));
    let newton = Solver::Newton {
        tolerance: number("tolerance", 1e-3)? as f32,
        max_iterations: number("max_iterations", 64.0)? as u32,
    };
    let solver = case.choice(
        "solver",
        &[("cholesky", Solver::Cholesky), ("newton", newton)],
    )?;
    let options = Options {
        ridge: number("ridge", 0.01)? as f32,
        solver,
        symmetric_norm: case.flag("symmetric_norm", false)?,
    };

    let (q, v) = (case.input("q")?, case.input("v")?);
    let sizes = |name: &str, array: &Array| match (layout, array.shape.as_slice()) {
        (Layout::Bthd, &[b, t, h, w]) | (Layout::Bhtd, &[b, h, t, w]) => Ok([b, t, h, w]),
        _ => Err(case.wrong(format!("tensor {name} must have four axes, got {array:?}"))),
    };
    let [batch, tokens, heads, width] = sizes("q", q)?;
    let [.., value] = sizes("v", v)?;
    let landmarks = match case.inputs.get("landmarks") {
        Some(array) => match array.shape.as_slice() {
            &[b, h, m, d] if [b, h, d] == [batch, heads, width] => m,
            _ => {
                return Err(case.wrong(format!(
                    "tensor landmarks must be [{batch}, {heads}, landmarks, {width}], got {array:?}"
                )));
            }
        },
        None => number("landmarks", 0.0)? as usize,
    };
    let shape = Shape {
        batch,
        heads,
        tokens,
        landmarks,
        width,
        value,
        layout,
        dtype: q.dtype,
    };
    shape.check(plan::OP)?;
    options.check(plan::OP)?;
    let pooled = !case.inputs.contains_key("landmarks");
    if pooled {
        shape.check_pooled(plan::OP)?;
    }
    let values = axes(&shape, value);
    let mut inputs = vec![q.clone()];
    inputs.extend(case.inputs.get("landmarks").cloned());
    inputs.push(v.clone());
    let grad_o = case.grad_outputs.get("o");
    inputs.extend(grad_o.map(|grad| Array::rounded(shape.dtype, &grad.shape, &grad.values())));
    if v.shape != values || grad_o.is_some_and(|grad| grad.shape != values) {
        return Err(case.wrong(format!(
            "tensors v and grad_out.o must be {values:?}, got {v:?} and {grad_o:?}"
        )));
    }
    if let Some(other) = inputs.iter().find(|array| array.dtype != q.dtype) {
        return Err(case.wrong(format!(
            "tensors must have one type, got {q:?} and {other:?}"
        )));
    }
    let part = match (grad_o.is_some(), case.flag("backward", false)?) {
        (true, true) => Part::Backward,
        (true, false) => Part::Both,
        (false, false) => Part::Forward,
        (false, true) => return Err(case.wrong("the backward part needs the tensor grad_out.o")),
    };
    Ok(Box::new(SoftAttention {
        shape,
        options,
        part,
        pooled,
        inputs,
        factor: OnceLock::new(),
    }))
}

/// The axes of a tensor over tokens, in the layout.
fn axes(shape: &Shape, width: usize) -> Vec<usize> {
    match shape.layout {
        Layout::Bthd => vec![shape.batch, shape.tokens, shape.heads, width],
        Layout::Bhtd => vec![shape.batch, shape.heads, shape.tokens, width],
    }
}

/// Tensors in f64, the landmarks pooled and rounded to the storage type where none are given.
struct Values {
    q: Vec<f64>,
    landmarks: Vec<f64>,
    v: Vec<f64>,
    grad_o: Option<Vec<f64>>,
}

impl Values {
    fn inputs(&self) -> cpu::Inputs<'_> {
        cpu::Inputs {
            q: &self.q,
            landmarks: &self.landmarks,
            v: &self.v,
        }
    }
}

impl SoftAttention {
    fn values(&self) -> Result<Values, Error> {
        let mut inputs = self.inputs.iter().map(Array::values);
        let mut next = || inputs.next().unwrap_or_default();
        let q = next();
        let landmarks = if self.pooled {
            let means = cpu::pool_landmarks(&self.shape, &q)?;
            Array::rounded(self.shape.dtype, &[means.len()], &means).values()
        } else {
            next()
        };
        Ok(Values {
            q,
            landmarks,
            v: next(),
            grad_o: inputs.next(),
        })
    }

    fn grads(&self, values: &Values) -> Result<Vec<Vec<f64>>, Error> {
        let Some(grad_o) = &values.grad_o else {
            return Ok(Vec::new());
        };
        let mut grads = cpu::backward(&self.shape, &self.options, &values.inputs(), grad_o)?;
        if self.pooled {
            cpu::pool_landmarks_backward(&self.shape, &grads.landmarks, &mut grads.q)?;
            return Ok(vec![grads.q, grads.v]);
        }
        Ok(vec![grads.q, grads.landmarks, grads.v])
    }

    /// Names, shapes and bounds of the gradients.
    fn grad_outputs(&self) -> Vec<Output> {
        let shape = &self.shape;
        let marks = vec![shape.batch, shape.heads, shape.landmarks, shape.width];
        let q = self.output("grad.q", axes(shape, shape.width), 2e-5);
        let landmarks = self.output("grad.landmarks", marks, 2e-5);
        let v = self.output("grad.v", axes(shape, shape.value), 2e-5);
        match self.pooled {
            true => vec![q, v],
            false => vec![q, landmarks, v],
        }
    }

    /// By how much errors may grow: the condition of the worst head over 1,000, at least 1.
    fn factor(&self) -> f64 {
        *self.factor.get_or_init(|| {
            let conditions = self
                .values()
                .and_then(|values| cpu::condition(&self.shape, &self.options, &values.landmarks));
            let worst = conditions
                .unwrap_or_default()
                .into_iter()
                .fold(0.0, f64::max);
            (worst / 1000.0).max(1.0)
        })
    }

    fn output(&self, name: &'static str, shape: Vec<usize>, ratio: f64) -> Output {
        let dtype = self.shape.dtype;
        let (ratio, per_value) = match dtype {
            Dtype::F16 => (1e-3, 2f64.powi(-11)),
            Dtype::Bf16 => (4e-3, 2f64.powi(-8)),
            _ => (self.factor() * ratio, 0.0),
        };
        Output {
            name,
            dtype,
            shape,
            ratio,
            per_magnitude: 0.0,
            per_value,
        }
    }
}

impl Problem for SoftAttention {
    fn inputs(&self) -> Vec<&Array> {
        self.inputs.iter().collect()
    }

    fn outputs(&self) -> Vec<Output> {
        let shape = &self.shape;
        let mut outputs = Vec::new();
        if self.part != Part::Backward {
            outputs.push(self.output("o", axes(shape, shape.value), 5e-6));
        }
        if self.part != Part::Forward {
            outputs.extend(self.grad_outputs());
        }
        outputs.push(Output {
            name: "status",
            dtype: Dtype::F32,
            shape: vec![shape.batch, shape.heads, 4],
            ratio: 0.0,
            per_magnitude: 0.0,
            per_value: 0.0,
        });
        outputs
    }

    fn plans(&self, caps: &Caps, all: bool) -> Result<Vec<Plan>, Error> {
        let (shape, options) = (&self.shape, &self.options);
        match (all, self.part) {
            (true, part) => plan::variants(shape, options, self.pooled, part, caps),
            (false, Part::Forward) => Ok(vec![plan::forward(shape, options, self.pooled, caps)?]),
            (false, Part::Backward) => Ok(vec![plan::backward(shape, options, self.pooled, caps)?]),
            (false, Part::Both) => Ok(vec![plan::both(shape, options, self.pooled, caps)?]),
        }
    }

    fn reference(&self) -> Result<Vec<Reference>, Error> {
        let values = self.values()?;
        let mut all = Vec::new();
        if self.part != Part::Backward {
            all.push(cpu::forward(&self.shape, &self.options, &values.inputs())?);
        }
        if self.part != Part::Forward {
            all.extend(self.grads(&values)?);
        }
        let reference = |values| Reference {
            values,
            magnitude: Vec::new(),
        };
        Ok(all.into_iter().map(reference).collect())
    }

    fn accept(&self, outputs: &[Array]) -> Result<(), Error> {
        let status = outputs.last().map(Array::values).unwrap_or_default();
        let status: Vec<f32> = status.into_iter().map(|x| x as f32).collect();
        Status::judge(plan::OP, &self.shape, &self.options, &Status::read(&status))
    }

    fn sizes(&self) -> Vec<(&'static str, usize)> {
        let Shape {
            batch,
            heads,
            tokens,
            landmarks,
            width,
            value,
            ..
        } = self.shape;
        vec![
            ("b", batch),
            ("h", heads),
            ("t", tokens),
            ("m", landmarks),
            ("d", width),
            ("v", value),
        ]
    }
}

/// A case made from a formula: values in (-1, 1) from a linear congruential generator, q and the landmarks 1.5 times that.
#[derive(Clone)]
struct Made {
    name: String,
    shape: Shape,
    pooled: bool,
    part: Part,
    params: Vec<(&'static str, Value)>,
}

impl Made {
    fn new(
        name: &str,
        [batch, heads, tokens, landmarks, width, value]: [usize; 6],
        part: Part,
    ) -> Made {
        let shape = Shape {
            batch,
            heads,
            tokens,
            landmarks,
            width,
            value,
            layout: Layout::Bhtd,
            dtype: Dtype::F32,
        };
        Made {
            name: name.into(),
            shape,
            pooled: false,
            part,
            params: Vec::new(),
        }
    }

    fn tokens_first(mut self) -> Made {
        self.shape.layout = Layout::Bthd;
        self
    }

    fn dtype(mut self, dtype: Dtype) -> Made {
        self.shape.dtype = dtype;
        self
    }

    fn pooled(mut self) -> Made {
        self.pooled = true;
        self
    }

    fn with(mut self, name: &'static str, value: impl Into<Value>) -> Made {
        self.params.push((name, value.into()));
        self
    }

    fn newton(self) -> Made {
        self.with("solver", "newton")
    }

    fn case(self) -> Case {
        let shape = self.shape;
        let mut numbers = Numbers::of(&self.name);
        let mut array = |axes: &[usize], factor: f64| numbers.array(shape.dtype, axes, 0.0, factor);
        let mut inputs = BTreeMap::new();
        inputs.insert("q".into(), array(&axes(&shape, shape.width), 1.5));
        inputs.insert("v".into(), array(&axes(&shape, shape.value), 1.0));
        let marks = [shape.batch, shape.heads, shape.landmarks, shape.width];
        let mut params = json!({ "layout": shape.layout.name() })
            .as_object()
            .cloned()
            .unwrap_or_else(Map::new);
        if self.pooled {
            params.insert("landmarks".into(), shape.landmarks.into());
        } else {
            inputs.insert("landmarks".into(), array(&marks, 1.5));
        }
        let mut grad_outputs = BTreeMap::new();
        if self.part != Part::Forward {
            grad_outputs.insert("o".into(), array(&axes(&shape, shape.value), 1.0));
        }
        params.insert("backward".into(), (self.part == Part::Backward).into());
        params.extend(
            self.params
                .iter()
                .map(|(name, value)| ((*name).into(), value.clone())),
        );
        Case {
            name: self.name,
            op: plan::OP.into(),
            params,
            source: "generated".into(),
            inputs,
            grad_outputs,
            expected: BTreeMap::new(),
            expected_grads: BTreeMap::new(),
        }
    }
}

fn builtin() -> Vec<Case> {
    let both = |name: &str, sizes| Made::new(name, sizes, Part::Both);
    let forward = |name: &str, sizes| Made::new(name, sizes, Part::Forward);
    let made = [
        both("soft", [2, 3, 130, 49, 32, 24]),
        both("soft_newton", [1, 2, 100, 49, 16, 32]).newton(),
        both("soft_norm", [1, 2, 77, 20, 64, 40])
            .with("symmetric_norm", true)
            .tokens_first(),
        both("soft_newton_norm", [2, 1, 65, 33, 24, 12])
            .newton()
            .with("symmetric_norm", true),
        both("soft_pooled", [1, 3, 149, 16, 32, 32]).pooled(),
        both("soft_odd", [1, 3, 67, 7, 33, 9]).tokens_first(),
        both("soft_odd_f16", [1, 3, 67, 7, 5, 9]).dtype(Dtype::F16),
        both("soft_odd_bf16_pooled", [1, 3, 35, 5, 7, 3])
            .dtype(Dtype::Bf16)
            .pooled(),
        both("soft_f16", [1, 2, 100, 49, 64, 64]).dtype(Dtype::F16),
        both("soft_bf16_newton", [1, 2, 90, 20, 32, 16])
            .dtype(Dtype::Bf16)
            .newton(),
        both("soft_one_landmark", [2, 2, 50, 1, 8, 1]),
        both("soft_many_landmarks", [1, 1, 200, 130, 64, 20]).tokens_first(),
        forward("soft_wide", [1, 1, 100, 20, 300, 512]),
        forward("soft_no_tokens", [1, 2, 0, 5, 8, 8]),
        forward("soft_no_batch", [0, 2, 5, 5, 8, 8]),
    ];
    made.into_iter().map(Made::case).collect()
}

fn benches(class: Class) -> Vec<Bench> {
    let name = |text: &str| format!("{}/{text}", plan::OP);
    let forward = |text: &str, sizes| Made::new(&name(text), sizes, Part::Forward);
    let mut made = Vec::new();
    for t in [512, 1024, 2048, 4096, 8192] {
        made.push(forward(
            &format!("forward_h8_d64_m49_t{t}"),
            [1, 8, t, 49, 64, 64],
        ));
    }
    made.push(forward("forward_f16_h8_d64_m49_t2048", [1, 8, 2048, 49, 64, 64]).dtype(Dtype::F16));
    made.push(forward("forward_pooled_h8_d64_m49_t2048", [1, 8, 2048, 49, 64, 64]).pooled());
    made.push(forward("forward_newton_h8_d64_m49_t2048", [1, 8, 2048, 49, 64, 64]).newton());
    made.push(Made::new(
        &name("backward_h8_d64_m49_t2048"),
        [1, 8, 2048, 49, 64, 64],
        Part::Backward,
    ));
    if class != Class::Cpu {
        made.push(forward(
            "forward_h64_d128_m64_t8192",
            [1, 64, 8192, 64, 128, 128],
        ));
    }
    made.into_iter()
        .map(|made| Bench {
            name: made.name.clone(),
            make: Box::new(move || made.clone().case()),
        })
        .collect()
}
