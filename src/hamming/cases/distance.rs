//! `hamming_distance` and `hamming_symmetric`.

use serde_json::{Value, json};

use super::{exact, expect, words_of};
use crate::{
    Error,
    case::{
        Array, Bench, Case, Failure, Numbers, Op, Output, Problem, Reference, each_choice, rounded,
    },
    gpu::{Caps, Class, Dtype},
    hamming::{
        bits::words,
        cpu,
        distance::{self, Count, Pairs, Store, Triangle},
        simd,
    },
    plan::Plan,
};

/// The entry of `hamming_distance` in the table of operators.
pub(crate) const OP: Op = Op {
    name: distance::OP,
    bind,
    builtin,
    benches,
};

/// The entry of `hamming_symmetric`.
pub(crate) const SYMMETRIC: Op = Op {
    name: distance::SYMMETRIC,
    bind: bind_symmetric,
    builtin: builtin_symmetric,
    benches: benches_symmetric,
};

struct Matrix {
    shape: Pairs,
    count: Count,
    store: Store,
    inputs: [Array; 2],
}

fn counted(case: &Case) -> Result<Count, Failure> {
    let symbols = case.count("symbol_bits")?.unwrap_or(1);
    let pair = case.choice("pair", &[("xor", false), ("and", true)])?;
    Ok(match (pair, symbols) {
        (true, _) => Count::Common,
        (false, 1) => Count::Bits,
        (false, width) => Count::Symbols(u32::try_from(width).unwrap_or(u32::MAX)),
    })
}

fn bind(case: &Case) -> Result<Box<dyn Problem>, Failure> {
    let [rows, _] = case.axes("a", "[rows, words]")?;
    let [columns, _] = case.axes("b", "[columns, words]")?;
    let shape = Pairs {
        rows,
        columns,
        bits: case.needed("bits", case.count("bits")?)?,
    };
    let (count, store) = (
        counted(case)?,
        case.choice("store", &[("u32", Store::U32), ("u16", Store::U16)])?,
    );
    distance::check(&shape, count, store)?;
    let codes = |name, len| {
        case.shaped(name, Dtype::U32, &[len, words(shape.bits)])
            .cloned()
    };
    Ok(Box::new(Matrix {
        shape,
        count,
        store,
        inputs: [codes("a", rows)?, codes("b", columns)?],
    }))
}

impl Problem for Matrix {
    fn inputs(&self) -> Vec<&Array> {
        self.inputs.iter().collect()
    }

    fn outputs(&self) -> Vec<Output> {
        let columns = self.store.row_words(self.shape.columns);
        vec![exact("distance", &[self.shape.rows, columns])]
    }

    fn plans(&self, caps: &Caps, all: bool) -> Result<Vec<Plan>, Error> {
        each_choice(distance::OP, caps, all, |caps| {
            distance::plan(&self.shape, self.count, self.store, caps)
        })
    }

    fn reference(&self) -> Result<Vec<Reference>, Error> {
        let [a, b] = self.inputs.each_ref().map(words_of);
        let found = cpu::distance::distances(&a, &b, self.shape.bits, self.count);
        Ok(vec![expect(match self.store {
            Store::U32 => found,
            Store::U16 => found
                .chunks(self.shape.columns.max(1))
                .flat_map(|row| row.chunks(2))
                .map(|pair| pair.iter().rev().fold(0, |word, d| word << 16 | d))
                .collect(),
        })])
    }

    fn native(&self) -> Result<Vec<Array>, Error> {
        let [a, b] = self.inputs.each_ref().map(words_of);
        let (bits, options) = (self.shape.bits, simd::Options::default());
        if self.count != Count::Bits || self.store != Store::U32 {
            return Ok(rounded(self.outputs(), self.reference()?));
        }
        let database = simd::Database::new(&b, bits, options)?;
        let found = database.distances(&a)?;
        Ok(vec![Array::u32(
            &[self.shape.rows, self.shape.columns],
            &found,
        )])
    }

    fn sizes(&self) -> Vec<(&'static str, usize)> {
        let Pairs {
            rows,
            columns,
            bits,
        } = self.shape;
        vec![("n", rows), ("m", columns), ("b", bits)]
    }
}

struct Symmetric {
    n: usize,
    bits: usize,
    count: Count,
    triangle: Triangle,
    a: Array,
}

fn bind_symmetric(case: &Case) -> Result<Box<dyn Problem>, Failure> {
    let [n, _] = case.axes("a", "[n, words]")?;
    let bits = case.needed("bits", case.count("bits")?)?;
    let count = counted(case)?;
    let shape = Pairs {
        rows: n,
        columns: n,
        bits,
    };
    distance::check(&shape, count, Store::U32)?;
    let triangle = case.choice(
        "triangle",
        &[("full", Triangle::Full), ("condensed", Triangle::Condensed)],
    )?;
    Ok(Box::new(Symmetric {
        n,
        bits,
        count,
        triangle,
        a: case.shaped("a", Dtype::U32, &[n, words(bits)])?.clone(),
    }))
}

impl Problem for Symmetric {
    fn inputs(&self) -> Vec<&Array> {
        vec![&self.a]
    }

    fn outputs(&self) -> Vec<Output> {
        vec![match self.triangle {
            Triangle::Full => exact("distance", &[self.n, self.n]),
            Triangle::Condensed => exact("distance", &[self.triangle.words(self.n)]),
        }]
    }

    fn plans(&self, caps: &Caps, all: bool) -> Result<Vec<Plan>, Error> {
        each_choice(distance::OP, caps, all, |caps| {
            distance::plan_symmetric([self.n, self.bits], self.count, self.triangle, caps)
        })
    }

    fn reference(&self) -> Result<Vec<Reference>, Error> {
        let a = words_of(&self.a);
        Ok(vec![expect(cpu::distance::symmetric(
            &a,
            self.bits,
            self.count,
            self.triangle,
        ))])
    }

    fn sizes(&self) -> Vec<(&'static str, usize)> {
        vec![("n", self.n), ("b", self.bits)]
    }
}

fn made(name: &str, [rows, columns, bits]: [usize; 3], params: Value) -> Case {
    let mut numbers = Numbers::of(name);
    let inputs = [
        ("a", numbers.words(&[rows, words(bits)])),
        ("b", numbers.words(&[columns, words(bits)])),
    ];
    let mut case = Case::made(name, distance::OP, params, inputs);
    case.params.insert("bits".into(), bits.into());
    case
}

fn builtin() -> Vec<Case> {
    vec![
        made("distance", [70, 130, 96], json!({})),
        made("distance_odd_u16", [33, 77, 70], json!({ "store": "u16" })),
        made("distance_bytes", [20, 40, 64], json!({ "symbol_bits": 8 })),
        made("distance_common", [5, 66, 300], json!({ "pair": "and" })),
        made("distance_long", [70, 66, 300], json!({})),
        made(
            "distance_long_u16",
            [33, 77, 270],
            json!({ "store": "u16" }),
        ),
        made("distance_one_bit", [3, 3, 1], json!({})),
        made("distance_no_rows", [0, 5, 32], json!({})),
        made("distance_no_columns", [5, 0, 32], json!({ "store": "u16" })),
    ]
}

fn made_symmetric(name: &str, [n, bits]: [usize; 2], triangle: &str) -> Case {
    let a = Numbers::of(name).words(&[n, words(bits)]);
    let params = json!({ "bits": bits, "triangle": triangle });
    Case::made(name, distance::SYMMETRIC, params, [("a", a)])
}

fn builtin_symmetric() -> Vec<Case> {
    let made = made_symmetric;
    vec![
        made("symmetric", [150, 100], "full"),
        made("symmetric_condensed", [200, 40], "condensed"),
        made("symmetric_long", [70, 256], "full"),
        made("symmetric_condensed_long", [67, 290], "condensed"),
        made("symmetric_one", [1, 40], "condensed"),
        made("symmetric_none", [0, 40], "full"),
    ]
}

fn benches(class: Class) -> Vec<Bench> {
    let n = match class {
        Class::Cpu => 4096,
        _ => 16_384,
    };
    let bench = |bits: usize| {
        let name = format!("{}/n{n}_b{bits}", distance::OP);
        Bench {
            name: name.clone(),
            make: Box::new(move || made(&name, [n, n, bits], json!({}))),
        }
    };
    [128, 256, 1024].map(bench).into()
}

fn benches_symmetric(class: Class) -> Vec<Bench> {
    let n = match class {
        Class::Cpu => 4096,
        _ => 16_384,
    };
    ["full", "condensed"]
        .map(|triangle| {
            let name = format!("{}/{triangle}_n{n}_b256", distance::SYMMETRIC);
            Bench {
                name: name.clone(),
                make: Box::new(move || made_symmetric(&name, [n, 256], triangle)),
            }
        })
        .into()
}
