//! The gradients of a case as a problem of its own: the inputs and what is handed to the outputs go in, gradients come back.

use super::LinearAttention;
use crate::{
    Error,
    case::{Array, Output, Problem, Reference},
    gpu::{Caps, Dtype},
    linear::{Form, Options, cpu, plan},
    plan::Plan,
};

pub(super) struct Adjoint<'a> {
    pub problem: &'a LinearAttention,
    pub grad_o: Array,
    pub grad_state: Option<Array>,
}

impl Adjoint<'_> {
    /// The inputs that have gradients, by name.
    fn sources(&self) -> impl Iterator<Item = (&'static str, &Array)> {
        let names = ["q", "k", "v", "log_decay"];
        let problem = self.problem;
        let more = [
            ("beta", &problem.beta),
            ("initial_state", &problem.initial_state),
            ("fm_weight", &problem.fm_weight),
            ("fm_bias", &problem.fm_bias),
        ];
        let more = more
            .into_iter()
            .filter_map(|(name, array)| Some((name, array.as_ref()?)));
        names.into_iter().zip(&problem.inputs).chain(more)
    }
}

impl Problem for Adjoint<'_> {
    fn inputs(&self) -> Vec<&Array> {
        let inputs = self.problem.inputs().into_iter();
        inputs
            .chain([&self.grad_o])
            .chain(&self.grad_state)
            .collect()
    }

    fn outputs(&self) -> Vec<Output> {
        let outputs = self.sources().map(|(name, input)| {
            let (_, ratio, unit) = self.problem.bounds(input.dtype);
            let (_, wide, _) = self.problem.bounds(self.problem.shape.dtype);
            Output {
                name,
                dtype: input.dtype,
                shape: input.shape.clone(),
                // What comes of inputs and gradients that were rounded is judged like them.
                ratio: if input.dtype == Dtype::F32 {
                    ratio.max(wide)
                } else {
                    ratio
                },
                per_magnitude: 0.0,
                per_value: unit,
            }
        });
        outputs.collect()
    }

    fn plans(&self, caps: &Caps, all: bool) -> Result<Vec<Plan>, Error> {
        let problem = self.problem;
        let upstream = plan::Upstream {
            initial: problem.initial_state.is_some(),
            initial_z: problem.initial_z.is_some(),
            last: self.grad_state.is_some(),
            log_decay: problem.inputs.len() > 3,
            beta: problem.beta.is_some(),
            initial_gradient: problem.initial_state.is_some(),
            fm_weight: problem.fm_weight.as_ref().map(Array::elements),
            fm_bias: problem.fm_bias.as_ref().map(Array::elements),
            cu_seqlens: problem.cu_seqlens.as_deref(),
            ..plan::Upstream::default()
        };
        let plan = |form, caps: &Caps| {
            let options = Options {
                form,
                ..problem.options
            };
            plan::backward(&problem.shape, &options, upstream, caps)
        };
        let mut plans = vec![plan(problem.options.form, caps)?];
        if all {
            // Walks by chunks on matrix units, which a software adapter does not choose.
            let on_units = |plan: &Plan| {
                let mut parts = plan.steps.iter().flat_map(|step| &step.kernel.parts);
                parts.any(|part| part.path == "linear/chunk_matrices.wgsl")
            };
            let units = caps.each_matrices().into_iter();
            let fused = units.filter_map(|caps| plan(Form::Fused, &caps).ok());
            plans.extend(fused.filter(on_units));
        }
        Ok(plans)
    }

    fn reference(&self) -> Result<Vec<Reference>, Error> {
        let problem = self.problem;
        let values = problem.values();
        let out = cpu::backward(
            &problem.shape,
            &problem.options,
            &values.inputs(problem),
            &self.grad_o.values(),
            self.grad_state.as_ref().map(Array::values).as_deref(),
        )?;
        let mut by_name = [
            ("q", out.q),
            ("k", out.k),
            ("v", out.v),
            ("log_decay", out.log_decay),
            ("beta", out.beta),
            ("initial_state", out.initial_state),
            ("fm_weight", out.fm_weight),
            ("fm_bias", out.fm_bias),
        ];
        let references = self.sources().map(|(name, _)| {
            let found = by_name.iter_mut().find(|(other, _)| *other == name);
            Reference {
                values: found
                    .map(|(_, values)| std::mem::take(values))
                    .unwrap_or_default(),
                magnitude: Vec::new(),
            }
        });
        Ok(references.collect())
    }

    fn sizes(&self) -> Vec<(&'static str, usize)> {
        self.problem.sizes()
    }
}
