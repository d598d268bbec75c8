//! `random` as the program, the tests and the benches see it.

use serde_json::json;

use super::{Draw, OP as NAME, Random, plan, sign, uniform};
use crate::{
    Error,
    case::{Array, Bench, Case, Failure, Op, Output, Problem, Reference},
    gpu::{Caps, Class},
    plan::Plan,
};

/// The operator's entry in the table.
pub(crate) const OP: Op = Op {
    name: NAME,
    bind,
    builtin,
    benches,
};

struct Fill {
    random: Random,
    draw: Draw,
    first: u64,
    len: usize,
}

fn bind(case: &Case) -> Result<Box<dyn Problem>, Failure> {
    let draws = [
        ("words", Draw::Words),
        ("uniform", Draw::Uniform),
        ("signs", Draw::Signs),
    ];
    let fill = Fill {
        random: Random::new(case.count("seed")?.unwrap_or(0) as u64),
        draw: case.choice("draw", &draws)?,
        first: case.count("first")?.unwrap_or(0) as u64,
        len: case.needed("len", case.count("len")?)?,
    };
    // Whatever the device: the one error is of the elements.
    plan(
        &fill.random,
        fill.draw,
        fill.first,
        fill.len,
        &Caps::webgpu_floor(),
    )?;
    Ok(Box::new(fill))
}

impl Problem for Fill {
    fn inputs(&self) -> Vec<&Array> {
        Vec::new()
    }

    fn outputs(&self) -> Vec<Output> {
        vec![Output {
            name: "y",
            dtype: self.draw.dtype(),
            shape: vec![self.len],
            ratio: 0.0,
            per_magnitude: 0.0,
            per_value: 0.0,
        }]
    }

    fn plans(&self, caps: &Caps, _all: bool) -> Result<Vec<Plan>, Error> {
        plan(&self.random, self.draw, self.first, self.len, caps).map(|plan| vec![plan])
    }

    fn reference(&self) -> Result<Vec<Reference>, Error> {
        let words = (self.first..).take(self.len).map(|at| self.random.word(at));
        let values = words.map(|word| match self.draw {
            Draw::Words => f64::from(word),
            Draw::Uniform => uniform(word),
            Draw::Signs => f64::from(sign(word)),
        });
        Ok(vec![Reference {
            values: values.collect(),
            magnitude: Vec::new(),
        }])
    }

    fn sizes(&self) -> Vec<(&'static str, usize)> {
        vec![("n", self.len)]
    }
}

fn made(name: &str, draw: &str, first: u64, len: usize) -> Case {
    let params = json!({ "draw": draw, "seed": 0x1_2345_6789u64, "first": first, "len": len });
    Case::made(name, NAME, params, [])
}

fn builtin() -> Vec<Case> {
    let carry = (1 << 32) - 100;
    vec![
        made("random_words", "words", 0, 1000),
        made("random_words_carry", "words", carry, 321),
        made("random_uniform", "uniform", 5, 1001),
        made("random_signs", "signs", carry, 333),
        made("random_none", "words", 0, 0),
    ]
}

fn benches(_: Class) -> Vec<Bench> {
    vec![Bench {
        name: format!("{NAME}/n1048576"),
        make: Box::new(|| made("random", "words", 0, 1 << 20)),
    }]
}
