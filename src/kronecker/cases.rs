//! `hadamard` and `butterfly` as the program, the tests and the benches see them.

mod call;
pub(crate) mod fp4;
pub(crate) mod multilinear;
pub(crate) mod sketch;

use serde_json::json;

use super::{
    Algebra, Factors, Shape, butterfly, cpu,
    hadamard::{self, OP as HADAMARD_NAME},
};
use crate::{
    Error,
    case::{Array, Bench, Case, Failure, Numbers, Op, Output, Problem, Reference},
    gpu::{Caps, Class, Dtype},
    plan::Plan,
};

/// The transform's entry in the table.
pub(crate) const HADAMARD: Op = Op {
    name: HADAMARD_NAME,
    bind: bind_hadamard,
    builtin: hadamards,
    benches,
};

/// The general product's entry.
pub(crate) const BUTTERFLY: Op = Op {
    name: butterfly::OP,
    bind: bind_butterfly,
    builtin: butterflies,
    benches: |_| Vec::new(),
};

fn output(dtype: Dtype, shape: Vec<usize>, ratio: f64) -> Vec<Output> {
    vec![Output {
        name: "y",
        dtype,
        shape,
        ratio,
        per_magnitude: 0.0,
        per_value: 0.0,
    }]
}

fn reference(values: Vec<f64>) -> Vec<Reference> {
    vec![Reference {
        values,
        magnitude: Vec::new(),
    }]
}

struct Hadamard {
    rows: usize,
    width: usize,
    x: Array,
}

fn bind_hadamard(case: &Case) -> Result<Box<dyn Problem>, Failure> {
    let [rows, width] = case.axes("x", "[rows, 2^k]")?;
    hadamard::shape(rows, width)?;
    let x = case.shaped("x", Dtype::F32, &[rows, width])?.clone();
    Ok(Box::new(Hadamard { rows, width, x }))
}

impl Problem for Hadamard {
    fn inputs(&self) -> Vec<&Array> {
        vec![&self.x]
    }

    fn outputs(&self) -> Vec<Output> {
        output(Dtype::F32, vec![self.rows, self.width], 1e-6)
    }

    fn plans(&self, caps: &Caps, _all: bool) -> Result<Vec<Plan>, Error> {
        Ok(vec![hadamard::plan(self.rows, self.width, caps)?])
    }

    fn reference(&self) -> Result<Vec<Reference>, Error> {
        cpu::hadamard(self.rows, self.width, &self.x.values()).map(reference)
    }

    fn sizes(&self) -> Vec<(&'static str, usize)> {
        vec![("m", self.rows), ("n", self.width)]
    }
}

struct Butterfly {
    shape: Shape,
    algebra: Algebra,
    sets: Factors,
    factors: Array,
    x: Array,
}

fn bind_butterfly(case: &Case) -> Result<Box<dyn Problem>, Failure> {
    let algebra = case.choice(
        "algebra",
        &[
            ("real", Algebra::Real),
            ("integer", Algebra::Integer),
            ("nearest", Algebra::Nearest),
        ],
    )?;
    let x = case.input("x")?;
    let (outer, width, inner) = match (algebra, x.shape.as_slice()) {
        (Algebra::Nearest, [outer, width, inner, 2]) => (*outer, *width, *inner),
        (Algebra::Real | Algebra::Integer, [outer, width, inner]) => (*outer, *width, *inner),
        _ => {
            let words = "tensor x must be [outer, 2^bits, inner], of pairs with algebra nearest";
            return Err(case.wrong(words));
        }
    };
    if !width.is_power_of_two() {
        return Err(case.wrong("the second axis of tensor x must be a power of two"));
    }
    let shape = Shape {
        outer,
        bits: width.trailing_zeros() as usize,
        inner,
    };
    shape.check(butterfly::OP)?;
    let [groups, ..] = case.axes::<4>("factors", "[1 or outer, bits, 2, 2]")?;
    let sets = if groups == 1 {
        Factors::Shared
    } else {
        Factors::PerOuter
    };
    let groups = if groups == 1 { 1 } else { outer };
    case.shaped("factors", algebra.dtype(), &[groups, shape.bits, 2, 2])?;
    case.shaped("x", algebra.dtype(), &x.shape)?;
    Ok(Box::new(Butterfly {
        shape,
        algebra,
        sets,
        factors: case.input("factors")?.clone(),
        x: x.clone(),
    }))
}

impl Problem for Butterfly {
    fn inputs(&self) -> Vec<&Array> {
        vec![&self.factors]
    }

    fn outputs(&self) -> Vec<Output> {
        let ratio = match self.algebra {
            Algebra::Real => 1e-6,
            _ => 0.0,
        };
        output(self.algebra.dtype(), self.x.shape.clone(), ratio)
    }

    fn prefill(&self, _output: usize) -> Option<&Array> {
        Some(&self.x)
    }

    fn plans(&self, caps: &Caps, _all: bool) -> Result<Vec<Plan>, Error> {
        let plan = butterfly::plan(&self.shape, self.algebra, self.sets, caps)?;
        Ok(vec![plan])
    }

    fn reference(&self) -> Result<Vec<Reference>, Error> {
        let (shape, sets) = (&self.shape, self.sets);
        let (factors, x) = (self.factors.values(), self.x.values());
        let values = match self.algebra {
            Algebra::Real => cpu::butterfly(shape, sets, &factors, &x, cpu::real)?,
            Algebra::Integer => {
                let words = |x: &[f64]| x.iter().map(|x| *x as i32).collect::<Vec<_>>();
                let y = cpu::butterfly(shape, sets, &words(&factors), &words(&x), cpu::integer)?;
                y.into_iter().map(f64::from).collect()
            }
            Algebra::Nearest => {
                let words = |x: &[f64]| x.iter().map(|x| *x as u32).collect::<Vec<_>>();
                let items: Vec<[u32; 2]> = words(&x)
                    .chunks_exact(2)
                    .map(|pair| [pair.first(), pair.last()].map(|x| x.copied().unwrap_or(0)))
                    .collect();
                let y = cpu::butterfly(shape, sets, &words(&factors), &items, cpu::nearest)?;
                y.into_iter().flatten().map(f64::from).collect()
            }
        };
        Ok(reference(values))
    }

    fn sizes(&self) -> Vec<(&'static str, usize)> {
        let Shape { outer, bits, inner } = self.shape;
        vec![("outer", outer), ("bits", bits), ("inner", inner)]
    }
}

fn hadamard(name: &str, rows: usize, width: usize) -> Case {
    let x = Numbers::of(name).array(Dtype::F32, &[rows, width], 0.0, 1.0);
    Case::made(name, HADAMARD_NAME, json!({}), [("x", x)])
}

fn hadamards() -> Vec<Case> {
    let made = (1..=17usize).map(|bits| {
        let rows = (1usize << 10 >> bits).max(1) * 3 + 1;
        hadamard(&format!("hadamard_{}", 1 << bits), rows, 1 << bits)
    });
    let none = [hadamard("hadamard_no_rows", 0, 64)];
    made.chain(none).collect()
}

/// Real factors near 1, small whole numbers, and distances of which some are absent.
fn made(name: &str, algebra: Algebra, sets: usize, [outer, bits, inner]: [usize; 3]) -> Case {
    let mut numbers = Numbers::of(name);
    let mut axes = vec![outer, 1 << bits, inner];
    let factors = [sets, bits, 2, 2];
    let (factors, x, word) = match algebra {
        Algebra::Real => (
            numbers.array(Dtype::F32, &factors, 0.0, 1.0),
            numbers.array(Dtype::F32, &axes, 0.0, 1.0),
            "real",
        ),
        Algebra::Integer => (
            numbers.array(Dtype::I32, &factors, 0.0, 4.0),
            numbers.array(Dtype::I32, &axes, 0.0, 2e9),
            "integer",
        ),
        Algebra::Nearest => {
            axes.push(2);
            let mut words: Vec<u32> = Vec::new();
            for n in 0..(outer * inner) << bits {
                let absent = numbers.below(3) == 0;
                words.extend(if absent {
                    [u32::MAX; 2]
                } else {
                    [numbers.below(4) as u32, n as u32]
                });
            }
            (
                numbers.array(Dtype::U32, &factors, 2.0, 2.0),
                Array::u32(&axes, &words),
                "nearest",
            )
        }
    };
    Case::made(
        name,
        butterfly::OP,
        json!({ "algebra": word }),
        [("factors", factors), ("x", x)],
    )
}

fn butterflies() -> Vec<Case> {
    let mut cases = Vec::new();
    for bits in 1..=9 {
        let name = format!("butterfly_{bits}_bits");
        cases.push(made(&name, Algebra::Real, 3, [3, bits, 5]));
    }
    for bits in [3, 8, 13] {
        let (name, inner) = (format!("butterfly_integer_{bits}_bits"), 1 + bits % 3);
        cases.push(made(&name, Algebra::Integer, 1, [2, bits, inner]));
        let name = format!("butterfly_nearest_{bits}_bits");
        cases.push(made(&name, Algebra::Nearest, 2, [2, bits, inner]));
    }
    cases.push(made("butterfly_wide", Algebra::Real, 1, [1, 10, 65]));
    cases.push(made("butterfly_none", Algebra::Real, 1, [0, 4, 3]));
    cases
}

fn benches(class: Class) -> Vec<Bench> {
    let sizes: &[(usize, usize)] = match class {
        Class::Cpu => &[(1, 1 << 20), (256, 1 << 12)],
        _ => &[
            (1, 1 << 20),
            (64, 1 << 20),
            (1 << 14, 1 << 12),
            (1 << 18, 1 << 8),
        ],
    };
    let bench = |(rows, width): &(usize, usize)| {
        let (name, rows, width) = (format!("{HADAMARD_NAME}/m{rows}_n{width}"), *rows, *width);
        Bench {
            name: name.clone(),
            make: Box::new(move || hadamard(&name, rows, width)),
        }
    };
    sizes.iter().map(bench).collect()
}
