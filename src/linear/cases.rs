//! `linear_attention` as the program, the tests and the benches see it.

mod adjoint;
mod bind;
mod made;

use adjoint::Adjoint;
use bind::bind;

use super::{
    Layout, Options, Shape, cpu,
    plan::{self, States},
};
use crate::{
    Error,
    case::{Array, Op, Output, Problem, Reference, distinct},
    gpu::{Caps, Dtype},
    plan::Plan,
};

/// The operator's entry in the table.
pub(crate) const OP: Op = Op {
    name: plan::OP,
    bind,
    builtin: made::builtin,
    benches: made::benches,
};

struct LinearAttention {
    shape: Shape,
    options: Options,
    step: bool,
    /// q, k, v and log_decay, if there is one.
    inputs: Vec<Array>,
    beta: Option<Array>,
    initial_state: Option<Array>,
    initial_z: Option<Array>,
    fm_weight: Option<Array>,
    fm_bias: Option<Array>,
    cu_seqlens: Option<Vec<u32>>,
    /// Sequences: the batch, or those packed into it.
    sequences: usize,
    /// Gradients handed to o and the final state.
    grad_outputs: Option<[Option<Array>; 2]>,
}

/// The axes of a tensor with so many heads, in the layout, and those that follow.
fn axes_of(shape: &Shape, heads: usize, more: &[usize]) -> Vec<usize> {
    let mut axes = match shape.layout {
        Layout::Bthd => vec![shape.batch, shape.tokens, heads],
        Layout::Bhtd => vec![shape.batch, heads, shape.tokens],
    };
    axes.extend(more);
    axes
}

/// The tensors of a problem in f64.
struct Values {
    inputs: Vec<Vec<f64>>,
    beta: Option<Vec<f64>>,
    initial_state: Option<Vec<f64>>,
    initial_z: Option<Vec<f64>>,
    fm_weight: Option<Vec<f64>>,
    fm_bias: Option<Vec<f64>>,
}

impl Values {
    fn inputs<'a>(&'a self, problem: &'a LinearAttention) -> cpu::Inputs<'a> {
        let input = |n: usize| self.inputs.get(n).map(Vec::as_slice);
        let [q, k, v] = [0, 1, 2].map(|n| input(n).unwrap_or_default());
        cpu::Inputs {
            q,
            k,
            v,
            log_decay: input(3),
            beta: self.beta.as_deref(),
            initial_state: self.initial_state.as_deref(),
            initial_z: self.initial_z.as_deref(),
            fm_weight: self.fm_weight.as_deref(),
            fm_bias: self.fm_bias.as_deref(),
            cu_seqlens: problem.cu_seqlens.as_deref(),
        }
    }
}

impl LinearAttention {
    fn values(&self) -> Values {
        let optional = |array: &Option<Array>| array.as_ref().map(Array::values);
        Values {
            inputs: self.inputs.iter().map(Array::values).collect(),
            beta: optional(&self.beta),
            initial_state: optional(&self.initial_state),
            initial_z: optional(&self.initial_z),
            fm_weight: optional(&self.fm_weight),
            fm_bias: optional(&self.fm_bias),
        }
    }

    fn state_shape(&self) -> Vec<usize> {
        let features = self.options.feature_width(&self.shape);
        vec![
            self.sequences,
            self.shape.kv_heads,
            features,
            self.shape.value,
        ]
    }

    /// The most negative exponent that an `exp` here can take without its result vanishing.
    fn steepest(&self) -> f64 {
        let decays = self.inputs.get(3).map(Array::values).unwrap_or_default();
        decays
            .into_iter()
            .fold(0.0f64, |most, g| most.max((-64.0 * g).min(88.0)))
    }

    /// Bounds on the relative errors of o and of gradients, and the unit of the storage type.
    fn bounds(&self, dtype: Dtype) -> (f64, f64, f64) {
        match dtype {
            Dtype::F16 => (1e-3, 1e-3, 2f64.powi(-11)),
            Dtype::Bf16 => (4e-3, 4e-3, 2f64.powi(-8)),
            _ if self.options.delta => (1e-5, 5e-5, 0.0),
            _ => (5e-6, 2e-5, 0.0),
        }
    }
}

impl Problem for LinearAttention {
    fn inputs(&self) -> Vec<&Array> {
        let states = [&self.initial_state, &self.initial_z];
        let states = states.into_iter().flatten().filter(|_| !self.step);
        let inputs = self.inputs.iter().chain(&self.beta).chain(states);
        inputs.chain(&self.fm_weight).chain(&self.fm_bias).collect()
    }

    fn outputs(&self) -> Vec<Output> {
        let Shape {
            tokens,
            heads,
            key,
            value,
            dtype,
            ..
        } = self.shape;
        let (ratio, _, unit) = self.bounds(dtype);
        let (state_ratio, ..) = self.bounds(Dtype::F32);
        // 8 units of f32 for sums that grow like the root of their length, and WebGPU's allowance for `exp`.
        let chunk = 64.0;
        let sums = 8.0 * 2f64.powi(-24) * (key as f64 + chunk + tokens as f64 / chunk).sqrt();
        let per_magnitude = sums + (3.0 + 2.0 * self.steepest()) * 2f64.powi(-23);
        let mut outputs = vec![
            Output {
                name: "o",
                dtype,
                shape: axes_of(&self.shape, heads, &[value]),
                ratio,
                per_magnitude,
                per_value: unit,
            },
            Output {
                name: "final_state",
                dtype: Dtype::F32,
                shape: self.state_shape(),
                ratio: state_ratio,
                per_magnitude,
                per_value: 0.0,
            },
        ];
        if self.options.normalize.is_some() {
            let mut shape = self.state_shape();
            shape.pop();
            outputs.push(Output {
                name: "final_z",
                dtype: Dtype::F32,
                shape,
                ratio: state_ratio,
                per_magnitude: 0.0,
                per_value: 0.0,
            });
        }
        outputs
    }

    fn prefill(&self, output: usize) -> Option<&Array> {
        let states = [None, self.initial_state.as_ref(), self.initial_z.as_ref()];
        states.get(output).copied().flatten().filter(|_| self.step)
    }

    fn plans(&self, caps: &Caps, all: bool) -> Result<Vec<Plan>, Error> {
        let states = States {
            initial: self.initial_state.is_some(),
            initial_z: self.initial_z.is_some(),
            last: true,
            last_z: self.options.normalize.is_some(),
            fm_weight: self.fm_weight.as_ref().map(Array::elements),
            fm_bias: self.fm_bias.as_ref().map(Array::elements),
            cu_seqlens: self.cu_seqlens.as_deref(),
        };
        match (self.step, all) {
            (true, _) => plan::step(
                &self.shape,
                &self.options,
                [states.fm_weight, states.fm_bias],
                caps,
            )
            .map(|plan| vec![plan]),
            (false, false) => {
                plan::forward(&self.shape, &self.options, states, caps).map(|plan| vec![plan])
            }
            (false, true) => distinct(
                caps.each_matrices()
                    .iter()
                    .map(|caps| plan::variants(&self.shape, &self.options, states, caps)),
            ),
        }
    }

    fn reference(&self) -> Result<Vec<Reference>, Error> {
        let values = self.values();
        let out = cpu::forward(&self.shape, &self.options, &values.inputs(self))?;
        Ok(vec![
            Reference {
                values: out.o,
                magnitude: out.o_magnitude,
            },
            Reference {
                values: out.final_state,
                magnitude: out.state_magnitude,
            },
            Reference {
                values: out.final_z,
                magnitude: Vec::new(),
            },
        ])
    }

    fn adjoint(&self) -> Option<Box<dyn Problem + '_>> {
        let [grad_o, grad_state] = self.grad_outputs.as_ref()?;
        let shape = axes_of(&self.shape, self.shape.heads, &[self.shape.value]);
        let dtype = self.shape.dtype;
        let grad_o = match grad_o {
            Some(grad) => Array::rounded(dtype, &grad.shape, &grad.values()),
            None => Array::rounded(dtype, &shape, &vec![0.0; self.shape.output_len()]),
        };
        Some(Box::new(Adjoint {
            problem: self,
            grad_o,
            grad_state: grad_state.clone(),
        }))
    }

    fn sizes(&self) -> Vec<(&'static str, usize)> {
        let Shape {
            batch,
            tokens,
            heads,
            key,
            value,
            ..
        } = self.shape;
        vec![
            ("b", batch),
            ("h", heads),
            ("t", tokens),
            ("k", key),
            ("v", value),
        ]
    }
}
