//! Cases made from formulas: those that travel with the program, and those that it times.

use serde_json::{Value, json};

use super::NAME;
use crate::{
    case::{Array, Bench, Case, Numbers},
    gpu::{Class, Dtype},
    hamming::{attention::Shape, code_table},
};

/// A case made from a formula: random words, pads among them, and values in (-1, 1).
#[derive(Clone)]
struct Made {
    name: String,
    shape: Shape,
    params: Value,
    betas: Option<Vec<f32>>,
    ends: Option<[Vec<i32>; 2]>,
    lengths: Option<Vec<u32>>,
    backward: bool,
}

impl Made {
    /// Batch, heads, tokens; bits; width of values.
    fn new(name: &str, sizes: [usize; 3], bits: usize, value: usize, params: Value) -> Made {
        Made {
            name: name.into(),
            shape: Shape::square(sizes, bits, value, Dtype::F32),
            params,
            betas: None,
            ends: None,
            lengths: None,
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

    /// Other numbers of keys and of rows for them.
    fn keys(mut self, keys: usize, capacity: usize) -> Made {
        (self.shape.keys, self.shape.capacity) = (keys, capacity);
        self
    }

    fn betas(mut self, betas: &[f32]) -> Made {
        self.betas = Some(betas.into());
        self
    }

    fn packed(mut self, queries: &[i32], keys: &[i32]) -> Made {
        self.ends = Some([queries.into(), keys.into()]);
        self
    }

    fn lengths(mut self, lengths: &[u32]) -> Made {
        self.lengths = Some(lengths.into());
        self
    }

    fn backward(mut self) -> Made {
        self.backward = true;
        self
    }

    fn case(self) -> Case {
        let shape = self.shape;
        let mut numbers = Numbers::of(&self.name);
        let codes = |numbers: &mut Numbers, heads: usize, rows: usize| {
            // Near a few centres, so that distances vary and tie.
            let axes = [shape.batch, heads, rows, shape.words()];
            let mut array = numbers.words(&axes);
            let noise = numbers.words(&axes);
            for (n, (byte, noise)) in array.bytes.iter_mut().zip(&noise.bytes).enumerate() {
                if !(n / (4 * shape.words())).is_multiple_of(3) {
                    *byte &= noise;
                }
            }
            array
        };
        let q = codes(&mut numbers, shape.heads, shape.queries);
        let k = codes(&mut numbers, shape.kv_heads, shape.capacity);
        let axes = [shape.batch, shape.kv_heads, shape.capacity, shape.value];
        let v = numbers.array(shape.dtype, &axes, 0.0, 1.0);
        let mut inputs = vec![("q", q), ("k", k), ("v", v)];
        if let Some(betas) = &self.betas {
            inputs.push(("beta", Array::f32(&[betas.len()], betas)));
        }
        if let Some(ends) = &self.ends {
            for (name, ends) in ["cu_seqlens", "cu_seqlens_k"].into_iter().zip(ends) {
                let ends: Vec<f64> = ends.iter().map(|n| f64::from(*n)).collect();
                inputs.push((name, Array::rounded(Dtype::I32, &[ends.len()], &ends)));
            }
        }
        if let Some(lengths) = &self.lengths {
            inputs.push(("lengths", Array::u32(&[lengths.len()], lengths)));
        }
        let mut params = self.params;
        if let Value::Object(params) = &mut params {
            params.insert("bits".into(), shape.bits.into());
            params.insert("keys".into(), shape.keys.into());
        }
        let case = Case::made(&self.name, NAME, params, inputs);
        if !self.backward {
            return case;
        }
        let axes = [shape.batch, shape.heads, shape.queries, shape.value];
        case.handing("o", numbers.array(Dtype::F32, &axes, 0.0, 1.0))
    }
}

pub(super) fn builtin() -> Vec<Case> {
    let made = |name: &str, sizes, bits, value, params| {
        Made::new(
            &format!("hamming_attention_{name}"),
            sizes,
            bits,
            value,
            params,
        )
    };
    let all = [
        made(
            "dense",
            [2, 2, 70],
            64,
            32,
            json!({ "beta": 0.125, "lse": true }),
        )
        .backward(),
        made(
            "causal",
            [1, 2, 65],
            40,
            24,
            json!({ "beta": 0.2, "causal": true }),
        )
        .backward(),
        made(
            "shifted",
            [1, 2, 50],
            100,
            9,
            json!({ "beta": 2.5, "lse": true }),
        )
        .backward(),
        made(
            "integer",
            [1, 2, 66],
            33,
            20,
            json!({ "beta": 0.3, "denominator": "integer", "causal": true, "lse": true }),
        ),
        made(
            "top_n",
            [1, 2, 100],
            128,
            16,
            json!({ "beta": 0.1, "top_n": 8, "lse": true }),
        )
        .backward(),
        made(
            "top_n_ties",
            [1, 1, 90],
            6,
            5,
            json!({ "beta": 0.4, "top_n": 7, "causal": true }),
        )
        .backward(),
        made(
            "all_ties",
            [1, 1, 70],
            5,
            8,
            json!({ "beta": 9.0, "top_n": 4, "include_ties": true }),
        ),
        made(
            "radius",
            [1, 2, 80],
            64,
            12,
            json!({ "beta": -0.2, "radius": 24, "window": 30 }),
        )
        .backward(),
        made(
            "window",
            [1, 2, 150],
            96,
            16,
            json!({ "beta": 0.1, "causal": true, "window": 20, "sinks": 3 }),
        )
        .backward(),
        made(
            "about",
            [1, 1, 99],
            17,
            33,
            json!({ "beta": 0.5, "window": 7 }),
        ),
        made("heads", [2, 6, 40], 64, 64, json!({ "causal": true }))
            .kv_heads(2)
            .betas(&[0.1, -0.2, 0.0, 0.05, 0.3, -0.1])
            .backward(),
        made(
            "heads_shifted",
            [1, 4, 33],
            70,
            7,
            json!({ "causal": true, "lse": true }),
        )
        .kv_heads(2)
        .betas(&[1.5, -1.5, 0.0, -3.0]),
        made(
            "packed",
            [1, 2, 100],
            64,
            16,
            json!({ "beta": 0.1, "causal": true }),
        )
        .keys(90, 95)
        .packed(&[0, 30, 30, 100], &[0, 40, 41, 90])
        .backward(),
        made(
            "packed_top_n",
            [1, 2, 100],
            64,
            16,
            json!({ "beta": 0.9, "top_n": 5 }),
        )
        .packed(&[0, 1, 64, 100], &[0, 1, 64, 100]),
        made(
            "f16",
            [1, 2, 80],
            128,
            64,
            json!({ "beta": 0.1, "causal": true }),
        )
        .dtype(Dtype::F16)
        .backward(),
        made("odd_f16", [1, 1, 41], 31, 7, json!({ "beta": 0.2 })).dtype(Dtype::F16),
        made("odd_bf16", [1, 1, 41], 65, 130, json!({ "beta": 0.2 }))
            .dtype(Dtype::Bf16)
            .backward(),
        made(
            "decode",
            [2, 8, 1],
            128,
            64,
            json!({ "beta": 0.1, "causal": true, "splits": 4 }),
        )
        .kv_heads(2)
        .keys(300, 320),
        made(
            "decode_lengths",
            [3, 4, 2],
            64,
            16,
            json!({ "beta": 1.1, "causal": true, "lse": true }),
        )
        .kv_heads(1)
        .keys(200, 256)
        .lengths(&[0, 200, 77]),
        made(
            "decode_top_n",
            [1, 4, 1],
            96,
            20,
            json!({ "beta": 0.1, "causal": true, "top_n": 16 }),
        )
        .kv_heads(2)
        .keys(700, 700)
        .lengths(&[650]),
        made(
            "more_queries",
            [1, 1, 60],
            64,
            4,
            json!({ "beta": 0.1, "causal": true, "lse": true }),
        )
        .keys(20, 20)
        .backward(),
        made(
            "wide",
            [1, 1, 20],
            3000,
            4,
            json!({ "beta": 0.01, "top_n": 3 }),
        ),
        made(
            "no_keys",
            [1, 2, 5],
            64,
            8,
            json!({ "beta": 0.1, "lse": true }),
        )
        .keys(0, 0),
        made("no_tokens", [1, 2, 0], 64, 8, json!({ "beta": 0.1 })),
    ];
    all.into_iter().map(Made::case).collect()
}

pub(super) fn benches(class: Class) -> Vec<Bench> {
    let made = |name: &str, sizes, bits, params| {
        Made::new(&format!("{NAME}/{name}"), sizes, bits, 64, params)
    };
    let mut all = Vec::new();
    let lengths: &[usize] = match class {
        Class::Cpu => &[1024, 4096],
        _ => &[1024, 4096, 16_384],
    };
    let dense = json!({ "beta": 0.125 });
    let causal = json!({ "beta": 0.125, "causal": true });
    for t in lengths.iter().copied() {
        let heads = [1, 8, t];
        all.push(made(
            &format!("dense_h8_b64_v64_t{t}"),
            heads,
            64,
            dense.clone(),
        ));
        all.push(made(
            &format!("causal_h8_b64_v64_t{t}"),
            heads,
            64,
            causal.clone(),
        ));
        all.push(made(
            &format!("causal_h8_b128_v64_t{t}"),
            heads,
            128,
            causal.clone(),
        ));
        let top_n = json!({ "beta": 0.125, "causal": true, "top_n": t / 32 });
        all.push(made(&format!("top_n_h8_b128_v64_t{t}"), heads, 128, top_n));
        let decode = made(
            &format!("decode_h8_kv2_b128_v64_t{t}"),
            [1, 8, 1],
            128,
            causal.clone(),
        );
        all.push(decode.kv_heads(2).keys(t, t));
    }
    all.push(made("backward_h8_b64_v64_t1024", [1, 8, 1024], 64, causal).backward());
    // The quadratic form, which a number of splits asks for, beside `code_table_attention` of the same names.
    let heads = if class == Class::Cpu { 1 } else { 8 };
    for (form, bits, lengths) in code_table::cases::COMPARED {
        for t in *lengths {
            let params = json!({ "beta": 0.125, "causal": *form == "causal", "splits": 1 });
            let name = format!("{form}_b{bits}_v64_t{t}");
            all.push(made(&name, [1, heads, *t], *bits, params));
        }
    }
    all.into_iter()
        .map(|made| Bench {
            name: made.name.clone(),
            make: Box::new(move || made.clone().case()),
        })
        .collect()
}
