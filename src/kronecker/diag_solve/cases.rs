//! `kron_diag_solve` as the program, the tests and the benches see it.

use serde_json::json;

use super::{
    super::{
        solve::cases::{FACTORS, basis, covariance, factors, output, reference, rows_of, sides},
        spectrum::Spectrum,
    },
    DiagForm, DiagOptions, Diagonal, OP, cpu,
    plan::{SCALARS, plan},
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

struct Solve {
    spectrum: Spectrum,
    diagonal: Diagonal,
    options: DiagOptions,
    rows: usize,
    y: Array,
    basis: [Array; 2],
    weights: Array,
}

/// `d` has the variances of all cells, infinite where a cell is missing.
fn bind(case: &Case) -> Result<Box<dyn Problem>, Failure> {
    let spectrum = Spectrum::product(&factors(case, &FACTORS)?)?;
    let (rows, y) = rows_of(case, "y", spectrum.len())?;
    let variances = case.shaped("d", Dtype::F32, &[spectrum.len()])?;
    let diagonal = Diagonal::new(&variances.values())?;
    let default = DiagOptions::default();
    let forms = [
        ("precision", DiagForm::Precision),
        ("direct", DiagForm::Direct),
    ];
    let form = case.choice("form", &forms)?;
    let weights = diagonal.rounded(form);
    let options = DiagOptions {
        form,
        tolerance: case.number("tolerance")?.unwrap_or(default.tolerance),
        max_iterations: case.count("iterations")?.unwrap_or(32),
        accept_unconverged: false,
    };
    Ok(Box::new(Solve {
        basis: basis(&spectrum),
        weights: Array::f32(&[weights.len()], &weights),
        spectrum,
        diagonal,
        options,
        rows,
        y,
    }))
}

impl Problem for Solve {
    fn inputs(&self) -> Vec<&Array> {
        let inputs = [&self.y].into_iter().chain(&self.basis);
        inputs.chain([&self.weights]).collect()
    }

    fn outputs(&self) -> Vec<Output> {
        let shape = || vec![self.rows, self.spectrum.len()];
        vec![
            output("alpha", shape(), 300.0 * self.options.tolerance),
            output("mean", shape(), 10.0 * self.options.tolerance),
            output("status", vec![self.rows, SCALARS], 0.0),
        ]
    }

    fn plans(&self, caps: &Caps, _all: bool) -> Result<Vec<Plan>, Error> {
        let plan = plan(
            &self.spectrum,
            &self.diagonal,
            &self.options,
            self.rows,
            caps,
        )?;
        Ok(vec![plan])
    }

    fn reference(&self) -> Result<Vec<Reference>, Error> {
        let options = DiagOptions {
            tolerance: 1e-12,
            max_iterations: 10_000,
            ..self.options
        };
        let y = self.y.values();
        let found = cpu::diag_solve(&self.spectrum, &self.diagonal, &options, self.rows, &y)?;
        let all = |of: fn(&cpu::Found) -> &[f64]| {
            let values = found.iter().flat_map(|row| of(row).iter().copied());
            reference(values.collect())
        };
        Ok(vec![all(|row| &row.alpha), all(|row| &row.mean)])
    }

    fn accept(&self, outputs: &[Array]) -> Result<(), Error> {
        let status = outputs.last().map(Array::values).unwrap_or_default();
        let rows = status.chunks_exact(SCALARS);
        let missed = rows.filter(|row| row.get(4) != Some(&1.0)).count();
        if missed == 0 {
            return Ok(());
        }
        Err(Error::Numeric {
            op: OP,
            what: format!(
                "{missed} of {} rows did not converge to {:e} in {} iterations; raise the iterations or the tolerance",
                self.rows, self.options.tolerance, self.options.max_iterations
            ),
        })
    }

    fn sizes(&self) -> Vec<(&'static str, usize)> {
        vec![
            ("m", self.rows),
            ("n", self.spectrum.len()),
            ("iterations", self.options.max_iterations),
        ]
    }
}

/// Variances in [0.01, 0.1], of which a share is missing.
fn made(name: &str, rows: usize, lengths: &[(usize, f64)], missing: usize, count: usize) -> Case {
    let mut numbers = Numbers::of(name);
    let own = lengths.iter().map(|(n, length)| covariance(*n, *length));
    // What rounding to f32 took from the eigenvalues.
    let own: Vec<Array> = own.map(lifted).collect();
    let width = sides(&own);
    let variances: Vec<f32> = (0..width)
        .map(|_| match numbers.below(100) < missing {
            true => f32::INFINITY,
            false => (0.055 + 0.045 * numbers.signed()) as f32,
        })
        .collect();
    let y = numbers.array(Dtype::F32, &[rows, width], 0.0, 1.0);
    let inputs = FACTORS.into_iter().zip(own);
    let inputs = inputs.chain([("d", Array::f32(&[width], &variances)), ("y", y)]);
    Case::made(name, OP, json!({ "iterations": count }), inputs)
}

/// With 1e-5 more on the diagonal.
fn lifted(factor: Array) -> Array {
    let n = factor.shape.first().copied().unwrap_or(1);
    let values = factor.values().into_iter().enumerate();
    let values = values.map(|(at, x)| if at % (n + 1) == 0 { x + 1e-5 } else { x });
    Array::rounded(Dtype::F32, &[n, n], &values.collect::<Vec<_>>())
}

fn builtin() -> Vec<Case> {
    let sizes = [(6, 0.8), (7, 0.8)];
    let mut direct = made("kron_diag_solve_direct", 2, &sizes, 20, 40);
    direct.params.insert("form".into(), "direct".into());
    // Zeros, and variances of the order of the covariances.
    let raised = direct.inputs.remove("d").map(|d| {
        let values = d.values().into_iter().enumerate();
        let values = values.map(|(e, d)| if e % 7 == 0 { 0.0 } else { d + 0.5 });
        Array::rounded(Dtype::F32, &d.shape, &values.collect::<Vec<_>>())
    });
    direct.inputs.extend(raised.map(|d| ("d".into(), d)));
    vec![
        direct,
        made("kron_diag_solve_full", 2, &[(8, 2.0), (9, 2.0)], 0, 24),
        made(
            "kron_diag_solve_missing",
            1,
            &[(16, 3.0), (12, 3.0)],
            30,
            32,
        ),
        made(
            "kron_diag_solve_three",
            1,
            &[(7, 2.0), (5, 1.0), (6, 2.0)],
            20,
            40,
        ),
        made("kron_diag_solve_line", 3, &[(60, 4.0)], 50, 32),
        made("kron_diag_solve_none", 0, &[(4, 1.0), (4, 1.0)], 0, 8),
    ]
}

fn benches(class: Class) -> Vec<Bench> {
    let sizes: &[usize] = match class {
        Class::Cpu => &[16],
        _ => &[32, 64],
    };
    let bench = |points: &usize| {
        let points = *points;
        let name = format!("{OP}/rbf_{points}^3_missing");
        Bench {
            name: name.clone(),
            make: Box::new(move || {
                let length = 0.06 * points as f64;
                made(&name, 1, &[(points, length); 3], 30, 60)
            }),
        }
    };
    sizes.iter().map(bench).collect()
}
