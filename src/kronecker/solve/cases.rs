//! `kron_solve` as the program, the tests and the benches see it.

use serde_json::json;

use super::{
    super::{
        matrix::Matrix,
        spectral::{self, vectors},
        spectrum::{Function, Spectrum, tables},
    },
    OP, SolveOptions, check, cpu,
};
use crate::{
    Error,
    case::{Array, Bench, Case, Failure, Numbers, Op, Output, Problem, Reference},
    gpu::{Caps, Class, Dtype},
    plan::{Builder, Plan, Slot},
    rows::fill,
};

/// The operator's entry in the table.
pub(crate) const ENTRY: Op = Op {
    name: OP,
    bind,
    builtin,
    benches,
};

/// The names of factors and of metrics in case files: as many as any whole within limits has axes that are not 1, and some.
pub(in crate::kronecker) const FACTORS: [&str; 16] = [
    "f0", "f1", "f2", "f3", "f4", "f5", "f6", "f7", "f8", "f9", "f10", "f11", "f12", "f13", "f14",
    "f15",
];

/// The square factors of a case, `f0` and on.
pub(in crate::kronecker) fn factors(case: &Case, names: &[&str]) -> Result<Vec<Matrix>, Failure> {
    let names = names
        .iter()
        .take_while(|name| case.inputs.contains_key(**name));
    let each = names.map(|name| {
        let [rows, columns] = case.axes(name, "[n, n]")?;
        let array = case.shaped(name, Dtype::F32, &[rows, columns])?;
        Ok(Matrix::new(rows, columns, array.values())?)
    });
    each.collect()
}

/// A tensor of rows as long as a whole.
pub(in crate::kronecker) fn rows_of(
    case: &Case,
    name: &str,
    width: usize,
) -> Result<(usize, Array), Failure> {
    let [rows, _] = case.axes(name, "[rows, product of the factors' sides]")?;
    let array = case.shaped(name, Dtype::F32, &[rows, width])?;
    Ok((rows, array.clone()))
}

/// Eigenvectors and eigenvalues as plans read them.
pub(in crate::kronecker) fn basis(spectrum: &Spectrum) -> [Array; 2] {
    let of = |numbers: Vec<f32>| Array::f32(&[numbers.len()], &numbers);
    [of(vectors(spectrum)), of(tables(spectrum.grid()))]
}

pub(in crate::kronecker) fn output(name: &'static str, shape: Vec<usize>, ratio: f64) -> Output {
    Output {
        name,
        dtype: Dtype::F32,
        shape,
        ratio,
        per_magnitude: 0.0,
        per_value: 0.0,
    }
}

pub(in crate::kronecker) fn reference(values: Vec<f64>) -> Reference {
    Reference {
        values,
        magnitude: Vec::new(),
    }
}

struct Solve {
    spectrum: Spectrum,
    noise: f64,
    rows: usize,
    b: Array,
    basis: [Array; 2],
    logdet: f64,
}

fn bind(case: &Case) -> Result<Box<dyn Problem>, Failure> {
    let spectrum = Spectrum::product(&factors(case, &FACTORS)?)?;
    let noise = case.number("noise")?.unwrap_or(0.0);
    check(&spectrum, &SolveOptions::noise(noise))?;
    let (rows, b) = rows_of(case, "b", spectrum.len())?;
    Ok(Box::new(Solve {
        basis: basis(&spectrum),
        logdet: spectrum.logdet(noise)?,
        spectrum,
        noise,
        rows,
        b,
    }))
}

impl Problem for Solve {
    fn inputs(&self) -> Vec<&Array> {
        [&self.b].into_iter().chain(&self.basis).collect()
    }

    fn outputs(&self) -> Vec<Output> {
        vec![
            output("x", vec![self.rows, self.spectrum.len()], 1e-6),
            // Twice the rounding to f32, which the expected one has too.
            output("logdet", vec![1], 1.2e-7),
        ]
    }

    /// The solution, and the determinant that the host found.
    fn plans(&self, caps: &Caps, _all: bool) -> Result<Vec<Plan>, Error> {
        let function = Function::Inverse(self.noise);
        let plan = spectral::plan(&self.spectrum, &function, self.rows, caps)?;
        let (label, work) = (plan.label.clone(), plan.work);
        let mut builder = Builder::default();
        let inputs = [Slot::Input(0), Slot::Input(1), Slot::Input(2)];
        builder.append(plan, &inputs, &[Slot::Output(0)])?;
        let bits = (self.logdet as f32).to_bits();
        fill(&mut builder, caps, Slot::Output(1), 0..1, bits);
        Ok(vec![builder.plan(OP, label, work)])
    }

    fn reference(&self) -> Result<Vec<Reference>, Error> {
        let x = cpu::solve(&self.spectrum, self.noise, self.rows, &self.b.values())?;
        Ok(vec![reference(x), reference(vec![self.logdet])])
    }

    fn sizes(&self) -> Vec<(&'static str, usize)> {
        vec![
            ("m", self.rows),
            ("n", self.spectrum.len()),
            ("factors", self.spectrum.axes().len()),
        ]
    }
}

/// A covariance exp(−(i − j)² / (2 l²)) of n points one apart.
pub(in crate::kronecker) fn covariance(n: usize, length: f64) -> Array {
    let entry = |i: usize, j: usize| (-0.5 * ((i as f64 - j as f64) / length).powi(2)).exp();
    let values = Matrix::of(n, n, entry).entries;
    Array::rounded(Dtype::F32, &[n, n], &values)
}

/// B Bᵀ / n + I / 2.
pub(in crate::kronecker) fn definite(numbers: &mut Numbers, n: usize) -> Array {
    let rows: Vec<Vec<f64>> = (0..n)
        .map(|_| (0..n).map(|_| numbers.signed()).collect())
        .collect();
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let lines = rows.iter().enumerate().flat_map(|(i, a)| {
        let each = rows.iter().enumerate();
        each.map(move |(j, b)| dot(a, b) / n as f64 + if i == j { 0.5 } else { 0.0 })
    });
    Array::rounded(Dtype::F32, &[n, n], &lines.collect::<Vec<_>>())
}

pub(in crate::kronecker) fn sides(factors: &[Array]) -> usize {
    let each = factors.iter().filter_map(|factor| factor.shape.first());
    each.product()
}

fn made(name: &str, noise: f64, rows: usize, factors: Vec<Array>) -> Case {
    let b = Numbers::of(name).array(Dtype::F32, &[rows, sides(&factors)], 0.0, 1.0);
    let factors = FACTORS.into_iter().zip(factors);
    Case::made(
        name,
        OP,
        json!({ "noise": noise }),
        factors.chain([("b", b)]),
    )
}

fn builtin() -> Vec<Case> {
    let of = |name: &str, noise, rows, sides: &[usize]| {
        let mut numbers = Numbers::of(name);
        let factors = sides.iter().map(|n| definite(&mut numbers, *n)).collect();
        made(name, noise, rows, factors)
    };
    let rbf = |name: &str, noise, sides: &[usize]| {
        let factors = sides.iter().map(|n| covariance(*n, 3.0)).collect();
        made(name, noise, 1, factors)
    };
    vec![
        of("kron_solve_scalar", 0.25, 3, &[]),
        of("kron_solve_one", 0.0, 2, &[37]),
        of("kron_solve_ones", 0.5, 5, &[1, 1, 3, 1]),
        of("kron_solve_two", 0.1, 3, &[16, 24]),
        of("kron_solve_three", 0.01, 2, &[5, 8, 31]),
        of("kron_solve_twos", 0.2, 2, &[2; 9]),
        of("kron_solve_unequal", 1.0, 1, &[127, 2, 3]),
        of("kron_solve_no_rows", 0.1, 0, &[3, 4]),
        rbf("kron_solve_rbf", 0.1, &[32, 32]),
        rbf("kron_solve_rbf_small_noise", 1e-3, &[12, 10, 9]),
    ]
}

fn benches(class: Class) -> Vec<Bench> {
    let sizes: &[(usize, &[usize])] = match class {
        Class::Cpu => &[(1, &[64, 64]), (1, &[32, 32, 32])],
        _ => &[
            (1, &[64, 64, 64]),
            (1, &[100, 200, 210, 5]),
            (64, &[256, 256]),
        ],
    };
    let bench = |(rows, sides): &(usize, &'static [usize])| {
        let (rows, sides) = (*rows, *sides);
        let words: Vec<String> = sides.iter().map(usize::to_string).collect();
        let name = format!("{OP}/m{rows}_{}", words.join("x"));
        Bench {
            name: name.clone(),
            make: Box::new(move || {
                let factors = sides.iter().map(|n| covariance(*n, 5.0));
                made(&name, 0.1, rows, factors.collect())
            }),
        }
    };
    sizes.iter().map(bench).collect()
}
