//! Cases made from formulas: those that travel with the program, and those that it times.

use serde_json::{Value, json};

use super::OP;
use crate::{
    case::{Bench, Case, Numbers},
    gpu::{Class, Dtype},
};

/// What a made case asks for.
struct Ask<'a> {
    name: &'a str,
    dtype: Dtype,
    /// None for a case without a batch.
    batch: Option<usize>,
    rows: usize,
    /// Sides as stored.
    factors: &'a [[usize; 2]],
    params: Value,
}

/// Normal sizes: entries of a factor so large that products keep the size of x.
fn made(ask: &Ask) -> Case {
    let Ask {
        name,
        dtype,
        batch,
        rows,
        factors,
        ..
    } = *ask;
    let mut numbers = Numbers::of(name);
    let word = |name: &str| ask.params.get(name).cloned().unwrap_or(Value::Null);
    let list =
        |name: &str| -> Vec<usize> { serde_json::from_value(word(name)).unwrap_or_default() };
    let (own, diagonals) = (list("own"), list("diagonal"));
    let identities: Vec<[usize; 2]> = serde_json::from_value(word("identity")).unwrap_or_default();
    let mut case = Case::made(name, OP, ask.params.clone(), []);
    let [mut from, mut to] = [1, 1];
    for (n, [p, q]) in factors.iter().enumerate() {
        let flag = match word("transpose") {
            Value::Array(flags) => flags.get(n) == Some(&Value::Bool(true)),
            flag => flag == Value::Bool(true),
        };
        let [p_own, q_own] = if flag { [*q, *p] } else { [*p, *q] };
        (from, to) = (from * p_own, to * q_own);
        if identities.iter().any(|[place, _]| *place == n) {
            continue;
        }
        let mut axes = Vec::new();
        if own.contains(&n) {
            axes.extend(batch);
        }
        axes.extend(if diagonals.contains(&n) {
            vec![*p]
        } else {
            vec![*p, *q]
        });
        let scale = (3.0 / p_own as f64).sqrt();
        let scale = if diagonals.contains(&n) { 1.0 } else { scale };
        let array = numbers.array(Dtype::F32, &axes, 0.0, scale);
        case.inputs.insert(format!("f{n}"), array);
    }
    let gap = word("gap").as_u64().unwrap_or(0) as usize;
    let left = word("side") == json!("left");
    let axes = |width: usize| -> Vec<usize> {
        let own = if left {
            [width, rows + gap]
        } else {
            [rows, width + gap]
        };
        batch.into_iter().chain(own).collect()
    };
    let (from, to) = if left { (to, from) } else { (from, to) };
    let x = numbers.array(dtype, &axes(from), 0.0, 1.0);
    case.inputs.insert("x".into(), x);
    if gap > 0 || word("beta").as_f64().unwrap_or(0.0) != 0.0 {
        let z = numbers.array(dtype, &axes(to), 0.0, 1.0);
        case.inputs.insert("z".into(), z);
    }
    if word("gradients") == json!(true) {
        let grad = numbers.array(dtype, &axes(to), 0.0, 1.0);
        case.grad_outputs.insert("y".into(), grad);
    }
    case
}

pub(super) fn builtin() -> Vec<Case> {
    let plain = |name, rows, factors| Ask {
        name,
        dtype: Dtype::F32,
        batch: None,
        rows,
        factors,
        params: json!({}),
    };
    let twos = [[2, 2]; 12];
    let ones = [[1, 1]; 70];
    let asks = [
        Ask {
            params: json!({ "gradients": true }),
            ..plain("kron_8_8_8", 20, &[[8, 8]; 3])
        },
        plain(
            "kron_6_primes",
            5,
            &[[5, 3], [2, 7], [3, 3], [1, 2], [4, 1]],
        ),
        plain("kron_twos", 3, &twos),
        plain("kron_ones", 7, &ones),
        plain("kron_scalar", 9, &[]),
        plain("kron_no_rows", 0, &[[3, 4], [2, 2]]),
        plain("kron_one_row", 1, &[[33, 17], [20, 31]]),
        plain("kron_wide", 4, &[[129, 130]]),
        plain("kron_tall", 3, &[[31, 63], [70, 5]]),
        Ask {
            params: json!({ "transpose": [true, false, true], "alpha": 2, "beta": 1, "gradients": true }),
            ..plain("kron_flags", 6, &[[4, 6], [5, 5], [7, 3]])
        },
        Ask {
            params: json!({ "side": "left", "gradients": true }),
            ..plain("kron_left", 19, &[[6, 4], [5, 7]])
        },
        Ask {
            batch: Some(3),
            params: json!({ "own": [0, 2], "diagonal": [2], "identity": [[1, 4]], "alpha": -0.5, "gradients": true }),
            ..plain("kron_batch", 5, &[[3, 6], [4, 4], [5, 5]])
        },
        Ask {
            batch: Some(2),
            params: json!({ "side": "left", "own": [1], "gap": 3, "beta": 0.5, "gradients": true }),
            ..plain("kron_left_batch_gap", 10, &[[8, 8], [4, 9], [3, 3]])
        },
        Ask {
            params: json!({ "gap": 5 }),
            ..plain("kron_gap", 11, &[[9, 2], [3, 8]])
        },
        Ask {
            dtype: Dtype::F16,
            params: json!({ "beta": 0.25, "gradients": true }),
            ..plain("kron_f16", 9, &[[7, 5], [3, 3]])
        },
        // Factors for matrix units, of x and of what comes between.
        Ask {
            dtype: Dtype::F16,
            ..plain("kron_f16_16_17", 5, &[[16, 16], [17, 20]])
        },
        Ask {
            dtype: Dtype::F16,
            params: json!({ "alpha": 2, "beta": 1 }),
            ..plain("kron_f16_128", 3, &[[128, 16]])
        },
        Ask {
            dtype: Dtype::F16,
            batch: Some(2),
            params: json!({ "side": "left", "own": [0], "gap": 2, "alpha": -0.5, "gradients": true }),
            ..plain("kron_f16_left_64", 8, &[[31, 64]])
        },
        Ask {
            dtype: Dtype::F16,
            params: json!({ "transpose": true, "beta": 0.5 }),
            ..plain("kron_f16_turned", 3, &[[31, 17], [2, 3], [33, 16]])
        },
        Ask {
            dtype: Dtype::Bf16,
            batch: Some(2),
            params: json!({ "side": "left", "gap": 1, "identity": [[0, 3]] }),
            ..plain("kron_bf16_left_gap", 5, &[[3, 3], [5, 4]])
        },
        Ask {
            dtype: Dtype::F16,
            params: json!({ "diagonal": [0, 1] }),
            ..plain("kron_f16_diagonal", 3, &[[5, 5], [3, 3]])
        },
    ];
    asks.iter().map(made).collect()
}

/// n factors of p x p for so many rows.
pub(super) fn benches(class: Class) -> Vec<Bench> {
    let cpu: &[[usize; 3]] = &[[1024, 8, 3], [1024, 16, 3], [1024, 32, 3]];
    let gpu: &[[usize; 3]] = &[
        [1024, 8, 3],
        [1024, 16, 3],
        [1024, 32, 3],
        [1024, 8, 6],
        [1024, 16, 5],
        [1024, 32, 4],
        [1024, 64, 3],
        [320, 128, 3],
        [16, 16, 6],
        [1, 100, 3],
        [64, 256, 2],
    ];
    // The time against the sum of products of modes.
    let few: &[[usize; 3]] = &[
        [1 << 17, 8, 1],
        [1 << 14, 8, 2],
        [1 << 11, 8, 3],
        [1 << 8, 8, 4],
        [1 << 5, 8, 5],
        [1 << 2, 8, 6],
    ];
    let sizes = if class == Class::Cpu { cpu } else { gpu };
    let each = few.iter().chain(sizes).map(|[rows, p, count]| {
        let (rows, p, count) = (*rows, *p, *count);
        let name = format!("{OP}/m{rows}_p{p}_n{count}");
        Bench {
            name: name.clone(),
            make: Box::new(move || {
                made(&Ask {
                    name: &name,
                    dtype: Dtype::F32,
                    batch: None,
                    rows,
                    factors: &vec![[p, p]; count],
                    params: json!({}),
                })
            }),
        }
    });
    each.collect()
}
