//! Problems of one output whose plan and reference are closures over their arguments.

use crate::{
    Error,
    case::{Array, Case, Failure, Output, Problem, Reference},
    gpu::{Caps, Dtype},
    plan::Plan,
};

type Plans = dyn Fn(&Caps, bool) -> Result<Vec<Plan>, Error> + Send + Sync;
type Values = dyn Fn() -> Result<Vec<f64>, Error> + Send + Sync;

/// A call of an operator.
pub(crate) struct Call {
    pub inputs: Vec<Array>,
    /// The output's shape.
    pub shape: Vec<usize>,
    pub dtype: Dtype,
    /// Bound on the relative root-mean-square error.
    pub ratio: f64,
    pub plans: Box<Plans>,
    pub reference: Box<Values>,
    pub sizes: Vec<(&'static str, usize)>,
}

impl Problem for Call {
    fn inputs(&self) -> Vec<&Array> {
        self.inputs.iter().collect()
    }

    fn outputs(&self) -> Vec<Output> {
        vec![Output {
            name: "y",
            dtype: self.dtype,
            shape: self.shape.clone(),
            ratio: self.ratio,
            per_magnitude: 0.0,
            per_value: 0.0,
        }]
    }

    fn plans(&self, caps: &Caps, all: bool) -> Result<Vec<Plan>, Error> {
        (self.plans)(caps, all)
    }

    fn reference(&self) -> Result<Vec<Reference>, Error> {
        Ok(vec![Reference {
            values: (self.reference)()?,
            magnitude: Vec::new(),
        }])
    }

    fn sizes(&self) -> Vec<(&'static str, usize)> {
        self.sizes.clone()
    }
}

/// A list of f32 tensors `name`0, `name`1, …, each of two axes.
pub(crate) fn matrices(case: &Case, name: &str) -> Result<Vec<(Array, [usize; 2])>, Failure> {
    let mut found = Vec::new();
    loop {
        let name = format!("{name}{}", found.len());
        if !case.inputs.contains_key(&name) {
            return Ok(found);
        }
        let sizes: [usize; 2] = case.axes(&name, "[rows, columns]")?;
        found.push((case.shaped(&name, Dtype::F32, &sizes)?.clone(), sizes));
    }
}
