//! `kron_spectral` as the program, the tests and the benches see it.

use serde_json::{Value, json};

use super::{
    super::{
        solve::cases::{FACTORS, basis, definite, factors, output, reference, rows_of, sides},
        spectrum::{Combine, Function, OP, Spectrum},
    },
    plan,
};
use crate::{
    Error,
    case::{Array, Case, Failure, Numbers, Op, Output, Problem, Reference},
    gpu::{Caps, Dtype},
    plan::Plan,
};

/// The operator's entry in the table.
pub(crate) const ENTRY: Op = Op {
    name: OP,
    bind,
    builtin,
    benches: |_| Vec::new(),
};

const METRICS: [&str; 4] = ["c0", "c1", "c2", "c3"];

struct Apply {
    spectrum: Spectrum,
    function: Function,
    rows: usize,
    b: Array,
    basis: [Array; 2],
}

fn bind(case: &Case) -> Result<Box<dyn Problem>, Failure> {
    let combine = case.choice(
        "combine",
        &[("product", Combine::Product), ("sum", Combine::Sum)],
    )?;
    let own = factors(case, &FACTORS)?;
    let metrics = factors(case, &METRICS)?;
    let spectrum = match (metrics.is_empty(), combine) {
        (false, _) => Spectrum::pencil(&own, &metrics, combine)?,
        (true, Combine::Product) => Spectrum::product(&own)?,
        (true, Combine::Sum) => Spectrum::sum(&own)?,
    };
    let number = |name: &str| Ok::<f64, Failure>(case.number(name)?.unwrap_or(0.0));
    let shift = number("shift")?;
    let power = Function::Power {
        shift,
        exponent: number("exponent")?,
    };
    let word = case.text("function", "inverse")?;
    let function = match word.as_str() {
        "shifted" => Function::Shifted(shift),
        "inverse" => Function::Inverse(shift),
        "minimum_norm" => Function::MinimumNorm(shift),
        "root" => Function::Root(shift),
        "inverse_root" => Function::InverseRoot(shift),
        "shrink" => Function::Shrink(shift),
        "deviation" => Function::Deviation(shift),
        "exp" => Function::Exp(number("time")?),
        "power" => power,
        "table" => {
            let table = case.shaped("table", Dtype::F32, &[spectrum.len()])?;
            let values = table.values().into_iter().map(|x| x as f32);
            Function::Table(values.collect())
        }
        other => {
            let hint = ", known are: shifted, inverse, minimum_norm, root, inverse_root, shrink, deviation, exp, power, table";
            return Err(case.unavailable(format!("the function {other}"), hint));
        }
    };
    function.check(&spectrum)?;
    let (rows, b) = rows_of(case, "b", spectrum.len())?;
    Ok(Box::new(Apply {
        basis: basis(&spectrum),
        spectrum,
        function,
        rows,
        b,
    }))
}

impl Problem for Apply {
    fn inputs(&self) -> Vec<&Array> {
        [&self.b].into_iter().chain(&self.basis).collect()
    }

    fn outputs(&self) -> Vec<Output> {
        vec![output("x", vec![self.rows, self.spectrum.len()], 2e-6)]
    }

    fn plans(&self, caps: &Caps, _all: bool) -> Result<Vec<Plan>, Error> {
        Ok(vec![plan(&self.spectrum, &self.function, self.rows, caps)?])
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
            ("factors", self.spectrum.axes().len()),
        ]
    }
}

fn made(name: &str, params: Value, rows: usize, sizes: &[usize], metrics: bool) -> Case {
    let mut numbers = Numbers::of(name);
    let own: Vec<Array> = sizes.iter().map(|n| definite(&mut numbers, *n)).collect();
    let beside = sizes.iter().filter(|_| metrics);
    let beside: Vec<Array> = beside.map(|n| definite(&mut numbers, *n)).collect();
    let b = numbers.array(Dtype::F32, &[rows, sides(&own)], 0.0, 1.0);
    let inputs = FACTORS.into_iter().zip(own);
    let inputs = inputs
        .chain(METRICS.into_iter().zip(beside))
        .chain([("b", b)]);
    Case::made(name, OP, params, inputs)
}

fn builtin() -> Vec<Case> {
    let of = |word: &str, rows, sizes: &[usize], combine: &str, metrics| {
        let name = format!("kron_spectral_{word}_{combine}");
        let params = json!({
            "function": word, "combine": combine, "shift": 0.2, "time": -0.3, "exponent": -1.5,
        });
        made(&name, params, rows, sizes, metrics)
    };
    let mut cases = vec![
        of("shifted", 2, &[6, 7], "product", false),
        of("inverse", 3, &[5, 4, 6], "sum", false),
        of("inverse", 2, &[7, 5], "product", true),
        of("minimum_norm", 1, &[8, 9], "sum", true),
        of("root", 2, &[3, 4, 5, 2], "product", false),
        of("inverse_root", 2, &[16, 16], "product", false),
        of("shrink", 1, &[40, 25], "product", false),
        of("deviation", 1, &[40, 25], "product", false),
        of("exp", 2, &[9, 11, 3], "sum", false),
        of("power", 2, &[12, 13], "product", false),
    ];
    let mut table = of("table", 2, &[6, 5], "product", false);
    let values = Numbers::of("table").array(Dtype::F32, &[30], 1.0, 0.5);
    table.inputs.insert("table".into(), values);
    cases.push(table);
    cases
}
