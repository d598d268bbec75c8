//! Cases made from formulas: those that travel with the program, and those that it times.

use serde_json::{Value, json};

use super::{KEYS, NAME, VALUES};
use crate::{
    case::{Bench, Case, Numbers},
    gpu::{Class, Dtype},
    kronecker::tensor_linear::Shape,
};

/// Random tensors of a case; entries in (-1, 1).
fn made(name: &str, dtype: Dtype, params: Value, shape: &Shape, gradients: bool) -> Case {
    let mut numbers = Numbers::of(name);
    let key_size = params.get("size").and_then(Value::as_f64).unwrap_or(1.0);
    let mut array = |heads: usize, tokens: usize, width: usize, size: f64| {
        numbers.array(dtype, &[shape.batch, heads, tokens, width], 0.0, size)
    };
    let mut tensors = vec![("q", array(shape.heads, shape.queries, shape.key, key_size))];
    for ((k, v), tokens) in KEYS.iter().zip(VALUES).zip(&shape.keys) {
        tensors.push((k, array(shape.kv_heads, *tokens, shape.key, key_size)));
        tensors.push((v, array(shape.kv_heads, *tokens, shape.value, 1.0)));
    }
    let grad = array(shape.heads, shape.queries, shape.value, 1.0);
    let case = Case::made(name, NAME, params, tensors);
    if gradients {
        case.handing("o", grad)
    } else {
        case
    }
}

/// A shape of one batch from [heads, kv_heads, queries, key, value] and the keys.
fn sized([heads, kv_heads, queries, key, value]: [usize; 5], keys: &[usize]) -> Shape {
    Shape {
        batch: 1,
        heads,
        kv_heads,
        queries,
        keys: keys.to_vec(),
        key,
        value,
        dtype: Dtype::F32,
    }
}

pub(super) fn builtin() -> Vec<Case> {
    let plain = json!({ "scale": 0.1 });
    let normal = json!({ "scale": 0.5, "feature_map": "elu1", "normalize": true, "eps": 1e-6 });
    let causal = json!({ "scale": 0.1, "causal": true });
    let causal_normal = json!({
        "scale": 0.5, "causal": true, "feature_map": "exp", "normalize": true,
    });
    let windows = |w: &[usize]| json!({ "scale": 0.5, "feature_map": "elu1", "window": w, "normalize": true });
    let poly = |more: Value| {
        let mut params = json!({ "kernel": "poly", "scale": 0.2, "degree": 3, "size": 0.8 });
        if let (Value::Object(params), Value::Object(more)) = (&mut params, more) {
            params.extend(more);
        }
        params
    };
    let f32 = Dtype::F32;
    let rows: Vec<(&str, Dtype, Value, Shape)> = vec![
        (
            "full",
            f32,
            plain.clone(),
            sized([2, 2, 50, 16, 24], &[70, 45]),
        ),
        (
            "full_normalized",
            f32,
            normal.clone(),
            sized([4, 2, 33, 12, 9], &[65, 90]),
        ),
        (
            "full_one_set",
            f32,
            normal.clone(),
            sized([2, 1, 20, 5, 7], &[40]),
        ),
        (
            "full_three_sets",
            f32,
            plain.clone(),
            sized([2, 2, 20, 9, 8], &[21, 33, 18]),
        ),
        (
            "full_f16",
            Dtype::F16,
            normal.clone(),
            sized([2, 1, 19, 8, 7], &[30, 31]),
        ),
        (
            "full_bf16",
            Dtype::Bf16,
            plain.clone(),
            sized([2, 2, 19, 7, 12], &[30, 31]),
        ),
        (
            "no_queries",
            f32,
            plain.clone(),
            sized([2, 1, 0, 4, 4], &[8, 8]),
        ),
        (
            "no_keys",
            f32,
            normal.clone(),
            sized([1, 1, 5, 4, 4], &[0, 8]),
        ),
        (
            "causal",
            f32,
            causal.clone(),
            sized([2, 2, 67, 12, 20], &[67, 67]),
        ),
        (
            "causal_normalized",
            f32,
            causal_normal.clone(),
            sized([4, 2, 40, 8, 5], &[53, 53]),
        ),
        (
            "causal_one_set",
            f32,
            causal_normal,
            sized([2, 1, 21, 6, 8], &[21]),
        ),
        (
            "causal_three_sets",
            f32,
            causal.clone(),
            sized([2, 1, 19, 8, 8], &[24, 24, 24]),
        ),
        (
            "causal_f16",
            Dtype::F16,
            causal,
            sized([2, 1, 17, 7, 9], &[17, 17]),
        ),
        (
            "windows",
            f32,
            windows(&[8, 20]),
            sized([2, 1, 60, 6, 10], &[60, 60]),
        ),
        (
            "windows_mixed",
            f32,
            windows(&[24, 99]),
            sized([2, 2, 50, 7, 8], &[70, 70]),
        ),
        (
            "windows_odd",
            f32,
            windows(&[5, 12]),
            sized([2, 2, 30, 8, 4], &[33, 33]),
        ),
        (
            "windows_of_one",
            f32,
            json!({ "scale": 0.5, "window": [1, 1] }),
            sized([1, 1, 9, 4, 4], &[9, 9]),
        ),
        (
            "windows_three_sets",
            f32,
            windows(&[4, 8, 99]),
            sized([1, 1, 30, 4, 4], &[30, 30, 30]),
        ),
        (
            "poly",
            f32,
            poly(json!({})),
            sized([2, 1, 40, 6, 10], &[50, 33]),
        ),
        (
            "poly_tolerance",
            f32,
            poly(json!({ "degree": null, "tolerance": 0.01 })),
            sized([1, 1, 30, 4, 8], &[30, 30]),
        ),
        (
            "poly_centred",
            f32,
            poly(json!({ "center": true })),
            sized([4, 2, 20, 4, 6], &[31, 30]),
        ),
        (
            "poly_causal",
            f32,
            poly(json!({ "causal": true })),
            sized([2, 1, 33, 3, 5], &[33, 33]),
        ),
        (
            "poly_window",
            f32,
            poly(json!({ "window": [8, 4] })),
            sized([1, 1, 25, 3, 5], &[25, 25]),
        ),
        (
            "poly_three_sets",
            f32,
            poly(json!({ "degree": 4 })),
            sized([1, 1, 12, 3, 4], &[12, 13, 14]),
        ),
        (
            "poly_bf16",
            Dtype::Bf16,
            poly(json!({ "degree": 1 })),
            sized([2, 1, 12, 5, 5], &[15, 13]),
        ),
    ];
    let each = rows.into_iter().map(|(name, dtype, params, shape)| {
        let shape = Shape { dtype, ..shape };
        let name = format!("tensor_linear_{name}");
        made(&name, dtype, params, &shape, true)
    });
    each.collect()
}

pub(super) fn benches(class: Class) -> Vec<Bench> {
    let (lengths, causal_lengths): (&[usize], &[usize]) = match class {
        Class::Cpu => (&[32, 64, 128, 256, 1024, 2048, 4096], &[256, 512, 1024]),
        _ => (
            &[128, 256, 512, 1024, 4096, 16_384, 32_768, 65_536],
            &[1024, 4096, 8192, 16_384],
        ),
    };
    let heads = if class == Class::Cpu { 1 } else { 8 };
    let bench = |form: &'static str, tokens: usize, key: usize, params: Value| {
        let name = format!("{NAME}/{form}_h{heads}_d{key}_v64_t{tokens}");
        Bench {
            name: name.clone(),
            make: Box::new(move || {
                let shape = sized([heads, heads, tokens, key, 64], &[tokens, tokens]);
                let gradients = form.ends_with("both");
                made(&name, Dtype::F32, params.clone(), &shape, gradients)
            }),
        }
    };
    let linear = json!({ "scale": 0.1 });
    let causal = json!({ "scale": 0.1, "causal": true });
    let poly = json!({ "kernel": "poly", "scale": 0.125, "degree": 3, "size": 0.8 });
    let full = lengths.iter().flat_map(|tokens| {
        [
            bench("full", *tokens, 64, linear.clone()),
            bench("poly3", *tokens, 8, poly.clone()),
        ]
    });
    let causal = causal_lengths.iter().flat_map(|tokens| {
        [
            bench("full_both", *tokens, 64, linear.clone()),
            bench("causal", *tokens, 64, causal.clone()),
            bench("causal_both", *tokens, 64, causal.clone()),
        ]
    });
    full.chain(causal).collect()
}
