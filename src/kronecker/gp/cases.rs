//! `gp_grid` as the program, the tests and the benches see it: the posterior mean on a whole grid for given parameters.

use serde_json::{Value, json};

use super::{Family, Grid, OP, Parameters, regression::factors};
use crate::{
    Error,
    case::{Array, Bench, Case, Failure, Numbers, Op, Output, Problem, Reference},
    gpu::{Caps, Class, Dtype},
    kronecker::{
        Function, Spectrum,
        solve::cases::{basis, output, reference, rows_of},
        spectral,
    },
    plan::Plan,
};

/// The operator's entry in the table.
pub(crate) const ENTRY: Op = Op {
    name: OP,
    bind,
    builtin,
    benches,
};

const FAMILIES: [(&str, Family); 3] = [
    ("matern52", Family::Matern52),
    ("matern32", Family::Matern32),
    ("rbf", Family::Rbf),
];

struct Mean {
    spectrum: Spectrum,
    noise: f64,
    rows: usize,
    y: Array,
    basis: [Array; 2],
}

/// `x0`, `x1`, … are the coordinates of the axes, `y` `[rows, N]`.
fn bind(case: &Case) -> Result<Box<dyn Problem>, Failure> {
    let mut axes = Vec::new();
    while case.inputs.contains_key(&format!("x{}", axes.len())) {
        let name = format!("x{}", axes.len());
        let [_] = case.axes::<1>(&name, "one axis of coordinates")?;
        axes.push(case.input(&name)?.values());
    }
    let lengths = match case.params.get("lengths") {
        Some(Value::Array(lengths)) => lengths.iter().filter_map(Value::as_f64).collect(),
        _ => Vec::new(),
    };
    let parameters = Parameters {
        family: case.choice("kernel", &FAMILIES)?,
        lengths,
        variance: case.number("variance")?.unwrap_or(1.0),
        noise: case.needed("noise", case.number("noise")?)?,
    };
    let grid = Grid { axes };
    grid.check()?;
    parameters.check(grid.axes.len())?;
    let spectrum = Spectrum::product(&factors(&grid, &parameters)?)?.semidefinite()?;
    let (rows, y) = rows_of(case, "y", spectrum.len())?;
    Ok(Box::new(Mean {
        basis: basis(&spectrum),
        spectrum,
        noise: parameters.noise,
        rows,
        y,
    }))
}

impl Problem for Mean {
    fn inputs(&self) -> Vec<&Array> {
        [&self.y].into_iter().chain(&self.basis).collect()
    }

    fn outputs(&self) -> Vec<Output> {
        vec![output("mean", vec![self.rows, self.spectrum.len()], 2e-6)]
    }

    fn plans(&self, caps: &Caps, _all: bool) -> Result<Vec<Plan>, Error> {
        let shrink = Function::Shrink(self.noise);
        let plan = spectral::plan(&self.spectrum, &shrink, self.rows, caps)?;
        Ok(vec![Plan { op: OP, ..plan }])
    }

    fn reference(&self) -> Result<Vec<Reference>, Error> {
        let shrink = Function::Shrink(self.noise);
        let mean = self.spectrum.apply(&shrink, self.rows, &self.y.values())?;
        Ok(vec![reference(mean)])
    }

    fn sizes(&self) -> Vec<(&'static str, usize)> {
        vec![("m", self.rows), ("n", self.spectrum.len())]
    }
}

fn made(name: &str, kernel: &str, rows: usize, sides: &[usize], noise: f64) -> Case {
    const NAMES: [&str; 3] = ["x0", "x1", "x2"];
    let mut numbers = Numbers::of(name);
    let mut inputs = Vec::new();
    for (name, n) in NAMES.into_iter().zip(sides) {
        // Uneven steps.
        let axis: Vec<f32> = (0..*n)
            .map(|i| i as f32 + 0.3 * numbers.signed() as f32)
            .collect();
        inputs.push((name, Array::f32(&[*n], &axis)));
    }
    let lengths: Vec<f64> = (0..sides.len()).map(|t| 2.0 + t as f64).collect();
    let y = numbers.array(Dtype::F32, &[rows, sides.iter().product()], 0.0, 1.0);
    inputs.push(("y", y));
    let params = json!({ "kernel": kernel, "lengths": lengths, "variance": 1.5, "noise": noise });
    Case::made(name, OP, params, inputs)
}

fn builtin() -> Vec<Case> {
    vec![
        made("gp_grid_matern52", "matern52", 1, &[17, 23], 0.1),
        made("gp_grid_matern32", "matern32", 3, &[8, 9, 5], 1e-2),
        made("gp_grid_rbf", "rbf", 2, &[40], 1e-3),
    ]
}

fn benches(class: Class) -> Vec<Bench> {
    let sides: &[[usize; 2]] = match class {
        Class::Cpu => &[[128, 128]],
        _ => &[[344, 403], [2048, 2048]],
    };
    let bench = |sides: &[usize; 2]| {
        let sides = *sides;
        let name = format!("{OP}/n{}x{}", sides[0], sides[1]);
        Bench {
            name: name.clone(),
            make: Box::new(move || made(&name, "matern52", 1, &sides, 0.1)),
        }
    };
    sides.iter().map(bench).collect()
}
