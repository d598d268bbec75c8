//! `hamming_maxsim`.

use serde_json::json;

use super::{exact, expect, words_of};
use crate::{
    Error,
    case::{Array, Bench, Case, Failure, Numbers, Op, Output, Problem, Reference},
    gpu::{Caps, Class, Dtype},
    hamming::{
        bits::{check_bits, words},
        cpu,
        maxsim::{self, Runs},
    },
    plan::Plan,
};

/// The entry in the table of operators.
pub(crate) const OP: Op = Op {
    name: maxsim::OP,
    bind,
    builtin,
    benches,
};

struct MaxSim {
    bits: usize,
    /// Whether the nearest tokens are asked for.
    nearest: bool,
    /// Bounds of queries and of documents.
    bounds: [Vec<u32>; 2],
    counted: Vec<bool>,
    inputs: [Array; 2],
}

impl MaxSim {
    fn runs(&self) -> Runs<'_> {
        let [queries, documents] = &self.bounds;
        Runs {
            bits: self.bits,
            queries,
            documents,
            counted: &self.counted,
        }
    }
}

fn bind(case: &Case) -> Result<Box<dyn Problem>, Failure> {
    let bits = case.needed("bits", case.count("bits")?)?;
    check_bits(maxsim::OP, bits)?;
    let bounds = |name: &str| {
        let array = case.input(name)?;
        match array.dtype {
            Dtype::U32 | Dtype::I32 => Ok(words_of(array)),
            _ => Err(case.wrong(format!("tensor {name} must be u32 or i32, got {array:?}"))),
        }
    };
    let mut problem = MaxSim {
        bits,
        nearest: case.flag("nearest", true)?,
        bounds: [bounds("cu_queries")?, bounds("cu_documents")?],
        counted: match case.inputs.get("counted") {
            Some(array) => array.values().into_iter().map(|flag| flag != 0.0).collect(),
            None => Vec::new(),
        },
        inputs: [Array::u32(&[0], &[]), Array::u32(&[0], &[])],
    };
    problem.runs().check()?;
    let tokens = [
        problem.runs().query_tokens(),
        problem.runs().document_tokens(),
    ];
    for (input, (name, len)) in problem
        .inputs
        .iter_mut()
        .zip(["queries", "documents"].into_iter().zip(tokens))
    {
        *input = case.shaped(name, Dtype::U32, &[len, words(bits)])?.clone();
    }
    Ok(Box::new(problem))
}

impl Problem for MaxSim {
    fn inputs(&self) -> Vec<&Array> {
        self.inputs.iter().collect()
    }

    fn outputs(&self) -> Vec<Output> {
        let [queries, documents] = self.runs().counts();
        let score = Output {
            dtype: Dtype::I32,
            ..exact("score", &[queries, documents])
        };
        let nearest = exact("nearest", &[documents, self.runs().query_tokens()]);
        [score]
            .into_iter()
            .chain(self.nearest.then_some(nearest))
            .collect()
    }

    fn plans(&self, caps: &Caps, _all: bool) -> Result<Vec<Plan>, Error> {
        Ok(vec![maxsim::plan(&self.runs(), self.nearest, caps)?])
    }

    fn reference(&self) -> Result<Vec<Reference>, Error> {
        let [queries, documents] = self.inputs.each_ref().map(words_of);
        let (scores, nearest) = cpu::maxsim::maxsim(&self.runs(), &queries, &documents);
        let scores = Reference {
            values: scores.into_iter().map(f64::from).collect(),
            magnitude: Vec::new(),
        };
        Ok([scores]
            .into_iter()
            .chain(self.nearest.then(|| expect(nearest)))
            .collect())
    }

    fn sizes(&self) -> Vec<(&'static str, usize)> {
        let [queries, documents] = self.runs().counts();
        vec![("n", queries), ("m", documents), ("b", self.bits)]
    }
}

fn made(name: &str, bits: usize, queries: &[u32], documents: &[u32]) -> Case {
    let mut numbers = Numbers::of(name);
    let mut codes = |bounds: &[u32]| {
        let tokens = bounds.last().copied().unwrap_or(0) as usize;
        numbers.words(&[tokens, words(bits)])
    };
    let inputs = [
        ("queries", codes(queries)),
        ("documents", codes(documents)),
        ("cu_queries", Array::u32(&[queries.len()], queries)),
        ("cu_documents", Array::u32(&[documents.len()], documents)),
    ];
    Case::made(name, maxsim::OP, json!({ "bits": bits }), inputs)
}

fn builtin() -> Vec<Case> {
    let mut masked = made("maxsim_masked", 70, &[0, 3, 3, 8], &[0, 0, 5, 6, 40, 40]);
    let counted = Array::u32(&[8], &[1, 0, 1, 1, 1, 0, 0, 1]);
    masked.inputs.insert("counted".into(), counted);
    let mut scores = made("maxsim_scores", 64, &[0, 3, 7], &[0, 9, 20]);
    scores.params.insert("nearest".into(), false.into());
    vec![
        scores,
        made("maxsim", 128, &[0, 32], &[0, 40, 41, 100]),
        masked,
        made("maxsim_empty", 33, &[0, 4], &[0, 0, 0]),
        made("maxsim_none", 33, &[0, 4], &[0]),
    ]
}

fn benches(class: Class) -> Vec<Bench> {
    let documents: u32 = match class {
        Class::Cpu => 1000,
        _ => 100_000,
    };
    let name = format!("{}/q32_d128_n{documents}_b128", maxsim::OP);
    vec![Bench {
        name: name.clone(),
        make: Box::new(move || {
            let bounds: Vec<u32> = (0..=documents).map(|d| 128 * d).collect();
            made(&name, 128, &[0, 32], &bounds)
        }),
    }]
}
