//! Cases made from formulas: those that travel with the program, and those that it times.

use serde_json::{Value, json};

use super::NAME;
use crate::{
    case::{Bench, Case, Numbers},
    gpu::{Class, Dtype},
    kronecker::tensor_attention::Shape,
};

/// A case made from a formula: numbers in (-1, 1).
#[derive(Clone)]
struct Made {
    name: String,
    shape: Shape,
    params: Value,
    backward: bool,
}

impl Made {
    /// Batch, heads, tokens; widths of keys and values.
    fn new(name: &str, sizes: [usize; 3], widths: [usize; 2], params: Value) -> Made {
        Made {
            name: name.into(),
            shape: Shape::square(sizes, widths[0], widths[1]),
            params,
            backward: false,
        }
    }

    fn dtype(mut self, dtype: Dtype) -> Made {
        self.shape.dtype = dtype;
        self
    }

    fn kv_heads(mut self, kv_heads: usize) -> Made {
        self.shape.kv_heads = kv_heads;
        self
    }

    /// Other numbers of keys.
    fn keys(mut self, keys: [usize; 2]) -> Made {
        self.shape.keys = keys;
        self
    }

    fn backward(mut self) -> Made {
        self.backward = true;
        self
    }

    fn case(self) -> Case {
        let Shape {
            batch,
            heads,
            kv_heads,
            queries,
            keys: [first, second],
            width,
            value,
            dtype,
        } = self.shape;
        let mut numbers = Numbers::of(&self.name);
        let mut array = |axes: [usize; 4]| numbers.array(dtype, &axes, 0.0, 1.0);
        let inputs = [
            ("q", array([batch, heads, queries, width])),
            ("k1", array([batch, kv_heads, first, width])),
            ("k2", array([batch, kv_heads, second, width])),
            ("v1", array([batch, kv_heads, first, value])),
            ("v2", array([batch, kv_heads, second, value])),
        ];
        let case = Case::made(&self.name, NAME, self.params, inputs);
        if !self.backward {
            return case;
        }
        let axes = [batch, heads, queries, value];
        case.handing("o", numbers.array(Dtype::F32, &axes, 0.0, 1.0))
    }
}

pub(super) fn builtin() -> Vec<Case> {
    let made = |name: &str, sizes, widths, params| {
        Made::new(&format!("{NAME}_{name}"), sizes, widths, params)
    };
    let (fours, odd) = ([16, 12], [7, 5]);
    let all = [
        made(
            "full",
            [1, 2, 37],
            fours,
            json!({ "scale": 0.7, "lse": true }),
        )
        .backward(),
        made(
            "causal",
            [2, 1, 41],
            odd,
            json!({ "scale": 1.0, "causal": true, "lse": true }),
        )
        .backward(),
        made(
            "window",
            [1, 4, 70],
            fours,
            json!({ "scale": 0.5, "window": [5, 33] }),
        )
        .kv_heads(1)
        .backward(),
        made(
            "cross",
            [1, 6, 19],
            fours,
            json!({ "scale": -0.4, "window": [null, 9], "q_offset": 3 }),
        )
        .kv_heads(2)
        .keys([50, 11])
        .backward(),
        made(
            "decode",
            [2, 4, 1],
            fours,
            json!({ "scale": 0.5, "causal": true, "lse": true }),
        )
        .kv_heads(2)
        .keys([90, 90]),
        made(
            "determinant",
            [1, 2, 30],
            [6, 5],
            json!({ "scale": 0.9, "causal": true, "logits": "determinant", "lse": true }),
        ),
        made(
            "pair_sum",
            [1, 2, 35],
            odd,
            json!({ "scale": 0.3, "window": [20, 7], "logits": "pair_sum" }),
        ),
        made(
            "sum",
            [1, 4, 45],
            odd,
            json!({ "scale": 0.5, "window": [null, 12], "logits": "sum", "lse": true }),
        )
        .kv_heads(2)
        .backward(),
        made("f16", [1, 2, 20], fours, json!({ "scale": 0.5 })).dtype(Dtype::F16),
        made(
            "bf16",
            [1, 1, 21],
            odd,
            json!({ "scale": 0.5, "causal": true, "lse": true }),
        )
        .dtype(Dtype::Bf16)
        .backward(),
        made(
            "no_keys",
            [1, 1, 5],
            fours,
            json!({ "scale": 1.0, "lse": true }),
        )
        .keys([0, 3]),
    ];
    all.into_iter().map(Made::case).collect()
}

/// Growing lengths without limits, whose cost is cubic, and with windows, whose cost is not; then one query at a time.
pub(super) fn benches(class: Class) -> Vec<Bench> {
    let (full, windowed, decoded, widths): (&[usize], &[usize], &[usize], [usize; 2]) = match class
    {
        Class::Cpu => (&[32, 64, 128], &[256, 512, 1024], &[512], [32, 32]),
        _ => (
            &[128, 256, 512, 1024],
            &[1024, 2048, 4096, 8192],
            &[8192],
            [128, 128],
        ),
    };
    let heads = if class == Class::Cpu { 4 } else { 64 };
    let windows = if class == Class::Cpu {
        [8, 32]
    } else {
        [32, 512]
    };
    let mut all: Vec<(String, Made)> = Vec::new();
    let scale = 1.0 / (widths[0] as f64).sqrt();
    let mut add = |kind: &str, tokens: usize, made: Made| {
        let name = format!("{NAME}/{kind}_t{tokens}");
        all.push((name.clone(), Made { name, ..made }));
    };
    for tokens in full {
        let params = json!({ "scale": scale, "causal": true });
        let made = Made::new("", [1, heads, *tokens], widths, params);
        add("causal", *tokens, made.clone().kv_heads(1));
        add("causal_grad", *tokens, made.kv_heads(1).backward());
    }
    // What `tensor_linear` is to overtake: the cost is cubic.
    let (rivals, rival_heads): (&[usize], usize) = match class {
        Class::Cpu => (&[32, 64, 128, 256], 1),
        _ => (&[128, 256, 512, 1024], 8),
    };
    for tokens in rivals {
        let params = json!({ "scale": 0.1 });
        let made = Made::new("", [1, rival_heads, *tokens], [64, 64], params);
        add(
            &format!("full_h{rival_heads}_d64_v64"),
            *tokens,
            made.kv_heads(rival_heads),
        );
    }
    for tokens in windowed {
        let params = json!({ "scale": scale, "window": windows });
        let made = Made::new("", [1, heads, *tokens], widths, params);
        add("window", *tokens, made.kv_heads(1));
    }
    for tokens in decoded {
        let params = json!({ "scale": scale, "window": [windows[1], windows[1]] });
        let made = Made::new("", [1, heads, 1], widths, params);
        add("decode", *tokens, made.kv_heads(1).keys([*tokens; 2]));
    }
    let bench = |(name, made): (String, Made)| Bench {
        name,
        make: Box::new(move || made.clone().case()),
    };
    all.into_iter().map(bench).collect()
}
