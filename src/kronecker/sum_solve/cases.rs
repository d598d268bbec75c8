//! `kron_sum_solve` as the program, the tests and the benches see it: Poisson's equation on a box.

use serde_json::{Value, json};

use super::{
    super::{
        solve::cases::{basis, output, reference, rows_of},
        spectral,
        spectrum::{Axis, Combine, Function, Spectrum},
    },
    Boundary, OP, laplacian,
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

struct Poisson {
    spectrum: Spectrum,
    function: Function,
    rows: usize,
    b: Array,
    basis: [Array; 2],
}

/// `axes` is a list of points, length and boundary; `shift` is c.
fn bind(case: &Case) -> Result<Box<dyn Problem>, Failure> {
    let words = "parameter axes must be a list of [points, length, \"dirichlet\" or \"neumann\" or \"periodic\"]";
    let wrong = || case.wrong(words);
    let axes = case.params.get("axes").and_then(Value::as_array);
    let axes = axes.ok_or_else(wrong)?.iter().map(|axis| {
        let part = |n: usize| axis.get(n);
        let points = part(0).and_then(Value::as_u64).ok_or_else(wrong)?;
        let length = part(1).and_then(Value::as_f64).ok_or_else(wrong)?;
        let boundary = match part(2).and_then(Value::as_str) {
            Some("dirichlet") => Boundary::Dirichlet,
            Some("neumann") => Boundary::Neumann,
            Some("periodic") => Boundary::Periodic,
            _ => return Err(wrong()),
        };
        let points = usize::try_from(points).map_err(|_| wrong())?;
        Ok(laplacian(points, length, boundary)?)
    });
    let axes = axes.collect::<Result<Vec<Axis>, Failure>>()?;
    let spectrum = Spectrum::new(axes, Combine::Sum)?;
    let (rows, b) = rows_of(case, "b", spectrum.len())?;
    let function = Function::MinimumNorm(case.number("shift")?.unwrap_or(0.0));
    Ok(Box::new(Poisson {
        basis: basis(&spectrum),
        spectrum,
        function,
        rows,
        b,
    }))
}

impl Problem for Poisson {
    fn inputs(&self) -> Vec<&Array> {
        [&self.b].into_iter().chain(&self.basis).collect()
    }

    fn outputs(&self) -> Vec<Output> {
        vec![output("x", vec![self.rows, self.spectrum.len()], 1e-6)]
    }

    fn plans(&self, caps: &Caps, _all: bool) -> Result<Vec<Plan>, Error> {
        let plan = spectral::plan(&self.spectrum, &self.function, self.rows, caps)?;
        Ok(vec![Plan { op: OP, ..plan }])
    }

    fn reference(&self) -> Result<Vec<Reference>, Error> {
        let x = self
            .spectrum
            .apply(&self.function, self.rows, &self.b.values())?;
        Ok(vec![reference(x)])
    }

    fn sizes(&self) -> Vec<(&'static str, usize)> {
        vec![
            ("m", self.rows),
            ("n", self.spectrum.len()),
            ("axes", self.spectrum.axes().len()),
        ]
    }
}

fn made(name: &str, rows: usize, axes: &[(usize, f64, &str)]) -> Case {
    let width: usize = axes.iter().map(|(points, ..)| points).product();
    let b = Numbers::of(name).array(Dtype::F32, &[rows, width], 0.0, 1.0);
    Case::made(name, OP, json!({ "axes": axes }), [("b", b)])
}

fn builtin() -> Vec<Case> {
    let of = |name: &str, rows, axes: &[(usize, f64, &str)]| {
        made(&format!("kron_sum_solve_{name}"), rows, axes)
    };
    vec![
        of("line", 3, &[(50, 1.0, "dirichlet")]),
        of(
            "square",
            2,
            &[(15, 1.0, "dirichlet"), (16, 2.0, "dirichlet")],
        ),
        of("cube", 1, &[(9, 1.0, "dirichlet"); 3]),
        of("neumann", 1, &[(12, 1.0, "neumann"), (7, 1.0, "neumann")]),
        of("periodic", 2, &[(8, 1.0, "periodic"), (9, 3.0, "periodic")]),
        of(
            "mixed",
            1,
            &[
                (5, 1.0, "dirichlet"),
                (6, 1.0, "neumann"),
                (7, 2.0, "periodic"),
            ],
        ),
        of("none", 0, &[(4, 1.0, "dirichlet")]),
    ]
}

fn benches(class: Class) -> Vec<Bench> {
    let sizes: &[usize] = match class {
        Class::Cpu => &[31],
        _ => &[128, 256],
    };
    let bench = |points: &usize| {
        let points = *points;
        let name = format!("{OP}/poisson_{points}^3");
        Bench {
            name: name.clone(),
            make: Box::new(move || made(&name, 1, &[(points, 1.0, "dirichlet"); 3])),
        }
    };
    sizes.iter().map(bench).collect()
}
