//! `hamming_gram`.

use serde_json::json;

use super::words_of;
use crate::{
    Error,
    case::{Array, Bench, Case, Failure, Numbers, Op, Output, Problem, Reference, each_choice},
    gpu::{Caps, Class, Dtype},
    hamming::{
        bits::words,
        cpu,
        distance::{self, Pairs},
        gram::{self, Function},
    },
    plan::Plan,
};

/// The entry in the table of operators.
pub(crate) const OP: Op = Op {
    name: gram::OP,
    bind,
    builtin,
    benches,
};

struct Gram {
    shape: Pairs,
    function: Function,
    inputs: [Array; 2],
}

fn bind(case: &Case) -> Result<Box<dyn Problem>, Failure> {
    let [rows, _] = case.axes("a", "[rows, words]")?;
    let [columns, _] = case.axes("b", "[columns, words]")?;
    let shape = Pairs {
        rows,
        columns,
        bits: case.needed("bits", case.count("bits")?)?,
    };
    let function = case.choice(
        "function",
        &[
            ("neural_tangent", Function::NeuralTangent),
            ("jaccard", Function::Jaccard),
        ],
    )?;
    gram::check(&shape, function)?;
    let codes = |name, len| {
        case.shaped(name, Dtype::U32, &[len, words(shape.bits)])
            .cloned()
    };
    Ok(Box::new(Gram {
        shape,
        function,
        inputs: [codes("a", rows)?, codes("b", columns)?],
    }))
}

impl Problem for Gram {
    fn inputs(&self) -> Vec<&Array> {
        self.inputs.iter().collect()
    }

    fn outputs(&self) -> Vec<Output> {
        vec![Output {
            name: "gram",
            dtype: Dtype::F32,
            shape: vec![self.shape.rows, self.shape.columns],
            ratio: 1e-6,
            per_magnitude: 0.0,
            per_value: 2e-6,
        }]
    }

    fn plans(&self, caps: &Caps, all: bool) -> Result<Vec<Plan>, Error> {
        each_choice(distance::OP, caps, all, |caps| {
            gram::plan(&self.shape, self.function, caps)
        })
    }

    fn reference(&self) -> Result<Vec<Reference>, Error> {
        let [a, b] = self.inputs.each_ref().map(words_of);
        let values = cpu::gram::gram(&a, &b, self.shape.bits, self.function);
        // Values bound their own errors.
        let magnitude = vec![0.0; values.len()];
        Ok(vec![Reference { values, magnitude }])
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

fn made(name: &str, [rows, columns, bits]: [usize; 3], function: &str) -> Case {
    let mut numbers = Numbers::of(name);
    let inputs = [
        ("a", numbers.words(&[rows, words(bits)])),
        ("b", numbers.words(&[columns, words(bits)])),
    ];
    let params = json!({ "bits": bits, "function": function });
    Case::made(name, gram::OP, params, inputs)
}

fn builtin() -> Vec<Case> {
    vec![
        made("gram", [70, 40, 50], "neural_tangent"),
        made("gram_two_bits", [9, 9, 2], "neural_tangent"),
        made("gram_jaccard", [33, 70, 100], "jaccard"),
        made("gram_none", [0, 5, 32], "jaccard"),
    ]
}

fn benches(class: Class) -> Vec<Bench> {
    let n = match class {
        Class::Cpu => 2048,
        _ => 16_384,
    };
    let name = format!("{}/neural_tangent_n{n}_b256", gram::OP);
    vec![Bench {
        name: name.clone(),
        make: Box::new(move || made(&name, [n, n, 256], "neural_tangent")),
    }]
}
