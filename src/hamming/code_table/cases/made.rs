//! Cases made from formulas: those that travel with the program, and those that it times.

use serde_json::{Value, json};

use super::NAME;
use crate::{
    case::{Bench, Case, Numbers},
    gpu::{Class, Dtype},
    hamming::code_table::Shape,
};

/// A case made from a formula: codes of random bits, pads included, and values in (-1, 1).
#[derive(Clone)]
struct Made {
    name: String,
    shape: Shape,
    params: Value,
    gradient: bool,
    initial: bool,
}

impl Made {
    fn new(name: &str, bits: usize, [batch, heads, kv_heads, tokens, value]: [usize; 5]) -> Made {
        Made {
            name: name.into(),
            shape: Shape {
                batch,
                heads,
                kv_heads,
                queries: tokens,
                keys: tokens,
                value,
            },
            params: json!({ "bits": bits, "beta": (4.0 / bits as f64).min(1.0) }),
            gradient: true,
            initial: false,
        }
    }

    fn with(mut self, name: &str, value: impl Into<Value>) -> Made {
        if let Value::Object(params) = &mut self.params {
            params.insert(name.into(), value.into());
        }
        self
    }

    fn causal(self) -> Made {
        self.with("causal", true)
    }

    fn only_forward(mut self) -> Made {
        self.gradient = false;
        self
    }

    fn handed_over(mut self) -> Made {
        (self.initial, self.gradient) = (true, false);
        self.with("final_state", true)
    }

    fn queries(mut self, queries: usize) -> Made {
        self.shape.queries = queries;
        self
    }

    fn case(&self) -> Case {
        let mut numbers = Numbers::of(&self.name);
        let Shape {
            batch,
            heads,
            kv_heads,
            queries,
            keys,
            value,
        } = self.shape;
        let inputs = [
            ("q", numbers.words(&[batch, heads, queries, 1])),
            ("k", numbers.words(&[batch, kv_heads, keys, 1])),
            (
                "v",
                numbers.array(Dtype::F32, &[batch, kv_heads, keys, value], 0.0, 1.0),
            ),
        ];
        let mut case = Case::made(&self.name, NAME, self.params.clone(), inputs);
        if self.initial {
            let number = |name| case.params.get(name).and_then(Value::as_u64).unwrap_or(1) as usize;
            let tables = number("tables");
            let axes = [batch, kv_heads, tables, 1 << number("bits"), value + 1];
            let state = numbers.array(Dtype::F32, &axes, 1.0, 0.5);
            case.inputs.insert("initial_state".into(), state);
        }
        if !self.gradient {
            return case;
        }
        let grad = numbers.array(Dtype::F32, &[batch, heads, queries, value], 0.0, 1.0);
        case.handing("o", grad)
    }
}

pub(super) fn builtin() -> Vec<Case> {
    let new = Made::new;
    let made = [
        new("code_table_1", 1, [1, 1, 1, 20, 3]),
        new("code_table_2", 2, [2, 2, 2, 70, 8]),
        new("code_table_4", 4, [1, 4, 2, 300, 7]),
        new("code_table_8", 8, [2, 2, 1, 520, 16]).queries(37),
        new("code_table_10", 10, [1, 2, 2, 300, 33]).with(
            "scales",
            vec![1.5, 0.5, 1.0, 2.0, 0.0, 1.0, -1.0, 0.3, 0.7, 1.0],
        ),
        new("code_table_12", 12, [1, 2, 1, 700, 64]),
        new("code_table_wide", 5, [1, 1, 1, 40, 300]),
        new("code_table_betas", 6, [2, 4, 2, 90, 5]).with("beta", vec![0.5, 0.5, 0.2, -0.3]),
        new("code_table_no_tokens", 4, [1, 2, 2, 0, 4]),
        new("code_table_causal_1", 1, [1, 1, 1, 20, 3]).causal(),
        new("code_table_causal_2", 2, [2, 2, 2, 70, 8]).causal(),
        new("code_table_causal_5", 5, [1, 4, 2, 150, 7]).causal(),
        new("code_table_causal_8", 8, [1, 2, 2, 300, 16]).causal(),
        new("code_table_causal_11", 11, [1, 2, 1, 260, 64]).causal(),
        new("code_table_causal_wide", 4, [1, 1, 1, 40, 300]).causal(),
        new("code_table_causal_betas", 6, [2, 4, 2, 90, 5])
            .causal()
            .with("beta", vec![0.5, 0.5, 0.2, -0.3]),
        new("code_table_causal_state", 6, [2, 2, 1, 33, 9])
            .causal()
            .handed_over(),
        new("code_table_causal_last", 7, [1, 2, 2, 33, 64])
            .causal()
            .only_forward()
            .with("final_state", true),
        new("code_table_causal_states", 3, [2, 4, 2, 20, 6])
            .causal()
            .with("beta", vec![0.5, 0.1, 0.2, -0.3])
            .with("tables", 2)
            .handed_over(),
        new("code_table_causal_no_tokens", 4, [1, 2, 2, 0, 4]).causal(),
    ];
    made.iter().map(Made::case).collect()
}

/// Forms, bits and lengths that are timed beside the quadratic form: `bench` says from which length on tables are quicker.
pub(crate) const COMPARED: &[(&str, usize, &[usize])] = &[
    ("full", 12, &[256, 512, 1024, 2048, 8192]),
    ("full", 16, &[1024, 2048, 4096]),
    ("causal", 16, &[4096, 8192, 16_384]),
];

pub(super) fn benches(class: Class) -> Vec<Bench> {
    let longer: &[(&str, usize, usize)] = match class {
        Class::Cpu => &[
            ("full", 12, 65_536),
            ("full", 16, 65_536),
            ("causal", 12, 4096),
            ("full_gradient", 12, 4096),
            ("causal_gradient", 12, 2048),
        ],
        _ => &[
            ("full", 8, 65_536),
            ("full", 12, 65_536),
            ("full", 16, 65_536),
            ("causal", 8, 65_536),
            ("causal", 12, 65_536),
            ("causal", 16, 65_536),
            ("full_gradient", 12, 65_536),
            ("causal_gradient", 12, 65_536),
        ],
    };
    let bench = |(form, bits, tokens): &(&str, usize, usize)| {
        let name = format!("{NAME}/{form}_b{bits}_v64_t{tokens}");
        let heads = if class == Class::Cpu { 1 } else { 8 };
        let mut made = Made::new(&name, *bits, [1, heads, heads, *tokens, 64]);
        made.gradient = form.ends_with("gradient");
        let made = made.with("causal", form.starts_with("causal"));
        Bench {
            name,
            make: Box::new(move || made.case()),
        }
    };
    let compared = COMPARED
        .iter()
        .flat_map(|(form, bits, lengths)| lengths.iter().map(|t| (*form, *bits, *t)));
    let all: Vec<_> = compared.chain(longer.iter().copied()).collect();
    all.iter().map(bench).collect()
}
