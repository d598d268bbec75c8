//! `gp_pde` as the program and the tests see it: the normal equations of one collocation problem, whose solution is Y.

use serde_json::json;

use super::{
    Axis, Equation, Mixture, OP, Options, Plane, cpu, device,
    learn::Precisions,
    plan::{Sizes, plan},
    system::System,
};
use crate::{
    Error,
    case::{Array, Bench, Case, Failure, Numbers, Op, Output, Problem, Reference},
    gpu::{Caps, Class, Dtype},
    plan::Plan,
};

/// The operator's entry in the table.
pub(crate) const ENTRY: Op = Op {
    name: OP,
    bind,
    builtin,
    benches,
};

const EQUATIONS: [(&str, Equation); 3] = [
    ("poisson", Equation::Poisson),
    ("allen_cahn", Equation::AllenCahn),
    ("advection", Equation::Advection { speed: 1.5 }),
];

struct Collocation {
    system: System,
    right: faer::Mat<f64>,
    /// What plans read, and the right side, which the residual starts from.
    inputs: [Array; 5],
    start: Array,
    zero: Array,
    iterations: usize,
}

/// `source` is f, `u` where the nonlinear part is linearised; both `[N1, N2]` over [0, 1]². u is given as 0 on all sides but the last of
/// an advection.
fn bind(case: &Case) -> Result<Box<dyn Problem>, Failure> {
    let [n, m] = case.axes("source", "[N1, N2]")?;
    let source = case.shaped("source", Dtype::F32, &[n, m])?.values();
    let u = case.shaped("u", Dtype::F32, &[n, m])?.values();
    let equation = case.choice("equation", &EQUATIONS)?;
    let axis = |points| Axis {
        ends: [0.0, 1.0],
        points,
    };
    let end = match equation {
        Equation::Advection { .. } => None,
        _ => Some(vec![0.0; n]),
    };
    let plane = Plane {
        axes: [axis(n), axis(m)],
        equation,
        source,
        sides: [
            [Some(vec![0.0; m]), Some(vec![0.0; m])],
            [Some(vec![0.0; n]), end],
        ],
    };
    plane.check()?;
    let options = Options::new(case.number("highest_frequency")?.unwrap_or(5.0));
    let mixture = Mixture::spread(
        options.family,
        options.components,
        options.highest_frequency,
    )?;
    let precisions = Precisions {
        boundary: case.number("tau")?.unwrap_or(0.05),
        equation: case.number("v")?.unwrap_or(3e-4),
    };
    let mut system = System::new(&plane, &[mixture.clone(), mixture], precisions, &options)?;
    let near = faer::Mat::from_fn(n, m, |i, j| u.get(i * m + j).copied().unwrap_or(0.0));
    let target = system.linearise(&plane, &near);
    let right = system.right(&plane, &target);
    // Scaled to 1, as the call does.
    let right = (1.0 / right.norm_max().max(f64::MIN_POSITIVE)) * right;
    let vectors = device::inputs(&system).map(|values| Array::f32(&[values.len()], &values));
    Ok(Box::new(Collocation {
        start: Array::f32(&[n, m], &device::rounded(&right)),
        zero: Array::f32(&[n, m], &vec![0.0; n * m]),
        inputs: vectors,
        system,
        right,
        iterations: case.count("iterations")?.unwrap_or(40),
    }))
}

impl Problem for Collocation {
    fn inputs(&self) -> Vec<&Array> {
        self.inputs.iter().collect()
    }

    fn outputs(&self) -> Vec<Output> {
        let shape = vec![self.right.nrows(), self.right.ncols()];
        let output = |name, ratio| Output {
            name,
            dtype: Dtype::F32,
            shape: shape.clone(),
            ratio,
            per_magnitude: 0.0,
            per_value: 0.0,
        };
        // The residual is near 0 at the end, and no number to compare.
        vec![output("y", 1e-4), output("residual", 0.0)]
    }

    fn prefill(&self, output: usize) -> Option<&Array> {
        Some(if output == 0 { &self.zero } else { &self.start })
    }

    fn plans(&self, caps: &Caps, _all: bool) -> Result<Vec<Plan>, Error> {
        Ok(vec![plan(
            Sizes::of(&self.system),
            1e-6,
            self.iterations,
            caps,
        )?])
    }

    fn reference(&self) -> Result<Vec<Reference>, Error> {
        let options = Options {
            tolerance: 1e-12,
            iterations: 10 * self.iterations,
            ..Options::new(1.0)
        };
        let found = cpu::conjugate_gradients(&self.system, &self.right, None, &options);
        Ok(vec![Reference {
            values: device::rounded(&found.y)
                .into_iter()
                .map(f64::from)
                .collect(),
            magnitude: Vec::new(),
        }])
    }

    fn sizes(&self) -> Vec<(&'static str, usize)> {
        vec![
            ("n1", self.right.nrows()),
            ("n2", self.right.ncols()),
            ("iterations", self.iterations),
        ]
    }
}

fn made(name: &str, equation: &str, sides: [usize; 2], iterations: usize) -> Case {
    let mut numbers = Numbers::of(name);
    let params = json!({ "equation": equation, "iterations": iterations });
    let source = numbers.array(Dtype::F32, &sides, 0.0, 1.0);
    let u = numbers.array(Dtype::F32, &sides, 0.0, 1.0);
    Case::made(name, OP, params, [("source", source), ("u", u)])
}

fn builtin() -> Vec<Case> {
    vec![
        made("gp_pde_poisson", "poisson", [12, 9], 40),
        made("gp_pde_allen_cahn", "allen_cahn", [8, 11], 40),
        made("gp_pde_advection", "advection", [9, 10], 40),
    ]
}

/// None: how many iterations a system takes depends on it, and those of real problems are what the example times.
fn benches(_class: Class) -> Vec<Bench> {
    Vec::new()
}
