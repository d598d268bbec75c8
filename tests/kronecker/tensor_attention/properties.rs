//! What must hold of outputs.

use std::path::Path;

use serde_json::Map;
use subquad::{
    case::{Case, Failure, judge, run},
    cli::case_files,
    gpu::Class,
    kronecker::tensor_attention::{Logits, Options, Shape},
};

use super::call::{Call, devices, devices_for, ratio, reference, wide};
use crate::{
    device::gpu,
    effort::{by_turns, thorough},
};

/// As many keys as queries, in one batch entry.
fn square(heads: usize, tokens: usize, width: usize, value: usize) -> Shape {
    Shape::square([1, heads, tokens], width, value)
}

fn causal(scale: f32) -> Options {
    Options {
        causal: true,
        ..Options::new(scale)
    }
}

#[test]
fn case_files_hold_on_every_plan() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/cases/kronecker");
    if !folder.is_dir() {
        println!("skipped: no folder {}", folder.display());
        return;
    }
    let mut found = 0;
    for file in case_files(&[folder]).unwrap() {
        let case = Case::read(&file, None, &Map::new()).unwrap();
        if case.op != "tensor_attention" {
            continue;
        }
        let problem = match case.bind() {
            Err(Failure::Unavailable { what, .. }) => panic!("{}: {what}", case.name),
            bound => bound.unwrap(),
        };
        if case.params["kernel"] != "softmax" {
            // Bound by the operator of that form, which has tests of its own.
            continue;
        }
        found += 1;
        let adjoint = problem.adjoint();
        for (problem, expected) in [
            (Some(&problem), &case.expected),
            (adjoint.as_ref(), &case.expected_grads),
        ] {
            let Some(problem) = problem else { continue };
            for caps in devices_for(&case.name) {
                for plan in problem.plans(&caps, thorough()).unwrap() {
                    let arrays = run(gpu(), problem.as_ref(), &plan, thorough()).unwrap();
                    for (output, array) in problem.outputs().iter().zip(&arrays) {
                        let values = expected[output.name].values();
                        let verdict = judge(output, array, &values, None);
                        println!("{} {}: {:.1e}", case.name, output.name, verdict.ratio);
                        assert!(
                            verdict.holds(),
                            "{} {}: {verdict:?}",
                            case.name,
                            output.name
                        );
                    }
                }
            }
        }
    }
    assert!(found >= 2, "only {found} case files");
}

#[test]
fn lengths_widths_windows_and_shared_heads() {
    let windows = [
        [None; 2],
        [Some(1), Some(4)],
        [Some(32), Some(4)],
        [Some(4), None],
        [None, Some(32)],
    ];
    for (n, (tokens, width)) in [(1, 1), (7, 3), (64, 16), (50, 64), (129, 3)]
        .into_iter()
        .enumerate()
    {
        for (m, window) in windows.into_iter().enumerate() {
            let heads = [1, 4][(n + m) % 2];
            let shape = Shape {
                kv_heads: 1,
                ..square(heads, tokens, width, if width < 4 { 5 } else { 12 })
            };
            let options = Options {
                causal: m % 2 == 1,
                window,
                ..Options::new(0.9)
            };
            // The cubic ones once.
            if tokens > 64 && window == [None; 2] {
                continue;
            }
            Call::new(shape, options).holds(&format!("{shape:?} {window:?}"));
        }
    }
}

#[test]
fn numbers_of_queries_and_keys_differ() {
    for (queries, keys, q_offset) in [
        (1, [70, 9], None),
        (33, [8, 40], None),
        (9, [33, 20], Some(11)),
        (40, [5, 66], Some(-3)),
    ] {
        let shape = Shape {
            batch: 2,
            kv_heads: 2,
            queries,
            keys,
            ..square(4, 0, 16, 12)
        };
        let options = Options {
            causal: q_offset.is_some(),
            q_offset,
            ..Options::new(-0.7)
        };
        Call::new(shape, options).holds(&format!("{queries} queries, {keys:?} keys"));
    }
}

#[test]
fn other_forms_of_scores() {
    for logits in [Logits::Determinant, Logits::PairSum, Logits::Sum] {
        for window in [[None; 2], [Some(9), Some(3)]] {
            let options = Options {
                logits,
                window,
                ..causal(0.8)
            };
            let shape = Shape {
                kv_heads: 1,
                ..square(2, 35, 6, 5)
            };
            Call::new(shape, options).holds(&format!("{logits:?} {window:?}"));
        }
    }
}

/// The kinds of keys exchanged.
fn exchanged(call: &Call) -> Call {
    let [q, k1, k2, v1, v2] = call.inputs.clone();
    let [w1, w2] = call.options.window;
    let [t1, t2] = call.shape.keys;
    Call {
        shape: Shape {
            keys: [t2, t1],
            ..call.shape
        },
        options: Options {
            window: [w2, w1],
            ..call.options
        },
        inputs: [q, k2, k1, v2, v1],
        grad_o: call.grad_o.clone(),
    }
}

#[test]
fn kinds_of_keys_may_be_exchanged() {
    let all = [Logits::Trilinear, Logits::PairSum, Logits::Sum];
    for (n, logits) in all.into_iter().enumerate() {
        for least in by_turns([1, 5], n) {
            let options = Options {
                logits,
                window: [Some(least), Some(40)],
                ..Options::new(0.6)
            };
            let call = Call::new(square(2, 50, 7, 5), options);
            for caps in devices() {
                let [there, back] = [call.run(&caps), exchanged(&call).run(&caps)];
                let miss = ratio(&there.o, &wide(&back.o));
                assert!(miss <= 5e-6, "{logits:?}, {:?}: {miss:e}", caps.class);
                // Whichever comes first, the same kind is walked in the outer loop, if that computes less; by 4 lanes it may not.
                let few = caps.class == Class::Cpu && caps.subgroup == Some((4, 4));
                let alike = least == 1 || !few;
                assert!(!alike || there == back, "{logits:?}, {:?}", caps.class);
            }
        }
    }
    let call = Call::new(
        square(1, 30, 6, 5),
        Options {
            logits: Logits::Determinant,
            ..causal(0.6)
        },
    );
    let turned = exchanged(&Call {
        options: Options {
            scale: -0.6,
            ..call.options
        },
        ..call.clone()
    });
    for caps in devices() {
        let miss = ratio(&turned.run(&caps).o, &wide(&call.run(&caps).o));
        assert!(miss <= 2e-6, "{miss:e}");
    }
}

/// Ordinary attention in f64: what a query sees is up to the caller.
fn plain(call: &Call, [q, k, v]: [usize; 3], seen: impl Fn(usize, usize) -> bool) -> Vec<f64> {
    let Shape {
        heads,
        queries,
        keys: [keys, _],
        width,
        value,
        ..
    } = call.shape;
    let [q, k, v] = [q, k, v].map(|n| wide(&call.inputs[n]));
    let mut o = Vec::new();
    for row in 0..heads * queries {
        let (head, t) = (row / queries, row % queries);
        let of = |j: usize| (head * keys + j) * width;
        let weight = |j: usize| -> f64 {
            let terms = (0..width).map(|d| q[row * width + d] * k[of(j) + d]);
            if seen(t, j) {
                (f64::from(call.options.scale) * terms.sum::<f64>()).exp()
            } else {
                0.0
            }
        };
        let weights: Vec<f64> = (0..keys).map(weight).collect();
        let total: f64 = weights.iter().sum();
        o.extend((0..value).map(|c| {
            let terms = weights
                .iter()
                .enumerate()
                .map(|(j, w)| w * v[(head * keys + j) * value + c]);
            terms.sum::<f64>() / total
        }));
    }
    o
}

#[test]
fn with_ones_for_one_kind_it_is_ordinary_attention() {
    let mut call = Call::new(square(2, 40, 7, 5), causal(0.8));
    call.inputs[2].fill(1.0);
    call.inputs[4].fill(1.0);
    let expected = plain(&call, [0, 1, 3], |t, j| j <= t);
    for caps in devices() {
        let miss = ratio(&call.run(&caps).o, &expected);
        assert!(miss <= 5e-6, "{:?}: {miss:e}", caps.class);
    }
}

#[test]
fn sums_of_scores_are_products_of_attentions() {
    let options = Options {
        logits: Logits::Sum,
        window: [None, Some(7)],
        ..causal(0.8)
    };
    let call = Call::new(square(2, 40, 7, 5), options);
    let first = plain(&call, [0, 1, 3], |t, j| j <= t);
    let second = plain(&call, [0, 2, 4], |t, j| j <= t && t < j + 7);
    let expected: Vec<f64> = first.iter().zip(second).map(|(a, b)| a * b).collect();
    assert!(
        expected
            .iter()
            .zip(&call.reference().o)
            .all(|(a, b)| (a - b).abs() < 1e-12)
    );
    for caps in devices() {
        let miss = ratio(&call.run(&caps).o, &expected);
        assert!(miss <= 5e-6, "{:?}: {miss:e}", caps.class);
    }
}

#[test]
fn outputs_ignore_future_tokens() {
    for window in [[None; 2], [Some(6), Some(20)]] {
        let call = Call::new(
            square(1, 45, 16, 12),
            Options {
                window,
                ..causal(1.0)
            },
        );
        for caps in devices() {
            let whole = call.run(&caps);
            for t in [1, 8, 31, 32, 44] {
                let mut changed = call.clone();
                for (x, width) in changed.inputs.iter_mut().zip([16, 16, 16, 12, 12]) {
                    for x in &mut x[t * width..] {
                        *x = -3.0 * *x + 1.0;
                    }
                }
                let after = changed.run(&caps);
                assert_eq!(
                    whole.o[..t * 12],
                    after.o[..t * 12],
                    "{window:?}, token {t}"
                );
                assert_eq!(whole.lse[..t], after.lse[..t], "{window:?}, token {t}");
                assert_ne!(
                    whole.o[t * 12..][..12],
                    after.o[t * 12..][..12],
                    "{window:?}, token {t}"
                );
            }
        }
    }
}

#[test]
fn windows_as_long_as_the_sequence_are_causal() {
    let call = Call::new(square(1, 33, 16, 12), causal(1.0));
    let windowed = Options {
        window: [Some(33), Some(400)],
        causal: false,
        ..call.options
    };
    let expected = call.reference();
    let of_windows = Call {
        options: windowed,
        ..call.clone()
    };
    assert_eq!(expected, of_windows.reference());
    of_windows.holds("long windows");
}

#[test]
fn queries_that_see_nothing_give_nothing() {
    let options = Options {
        q_offset: Some(-10),
        ..causal(1.0)
    };
    let call = Call::new(square(1, 33, 16, 12), options);
    for caps in devices() {
        let out = call.run(&caps);
        assert!(out.o[..10 * 12].iter().all(|x| *x == 0.0));
        assert!(out.lse[..10].iter().all(|x| *x == f32::MIN));
        assert!(out.lse[10..].iter().all(|x| *x > -100.0));
    }
    call.holds("nothing seen");
    call.gradients_hold("nothing seen");
    // Past the last key of a window.
    let options = Options {
        window: [Some(4), None],
        q_offset: Some(90),
        ..Options::new(1.0)
    };
    Call::new(square(1, 33, 16, 12), options).holds("past a window");
    for keys in [[0, 7], [7, 0]] {
        let shape = Shape {
            keys,
            ..square(1, 5, 16, 12)
        };
        let call = Call::new(shape, Options::new(1.0));
        call.holds("no keys");
        call.gradients_hold("no keys");
    }
}

#[test]
fn large_scores_stay_finite() {
    for sign in [1.0, -1.0] {
        let mut call = Call::new(square(1, 40, 16, 12), causal(1.0));
        // Scores of ±80 and less.
        for (n, x) in call.inputs[0].iter_mut().enumerate() {
            *x = if n % 32 < 16 { 5.0 * sign } else { *x };
        }
        for n in [1, 2] {
            call.inputs[n]
                .iter_mut()
                .enumerate()
                .filter(|(n, _)| n / 16 % 3 == 0)
                .for_each(|(_, x)| *x = 1.0);
        }
        call.holds("large scores");
        call.gradients_hold("large scores");
        let out = call.run(gpu().caps());
        assert!(out.o.iter().chain(&out.lse).all(|x| x.is_finite()));
    }
}

#[test]
fn determinants_do_not_see_rotations() {
    let options = Options {
        logits: Logits::Determinant,
        ..causal(2.0)
    };
    let call = Call::new(square(1, 30, 6, 5), options);
    let mut turned = call.clone();
    let (s, c) = 1.1f32.sin_cos();
    let (t, d) = 0.4f32.sin_cos();
    for x in turned.inputs.iter_mut().take(3) {
        for triple in x.chunks_exact_mut(3) {
            let [x, y, z] = [
                c * triple[0] - s * triple[1],
                s * triple[0] + c * triple[1],
                triple[2],
            ];
            triple.copy_from_slice(&[x, d * y - t * z, t * y + d * z]);
        }
    }
    for caps in devices() {
        let miss = ratio(&turned.run(&caps).o, &wide(&call.run(&caps).o));
        assert!(miss <= 1e-5, "{:?}: {miss:e}", caps.class);
    }
}

#[test]
fn signal_is_far_above_noise() {
    let call = Call::new(square(1, 64, 16, 12), causal(0.25));
    let expected = reference(
        &call.shape,
        &call.options,
        &call.inputs.each_ref().map(|x| wide(x)),
    );
    for caps in devices() {
        let decibels = -20.0 * ratio(&call.run(&caps).o, &expected.o).log10();
        println!("{:?}: {decibels:.1} dB", caps.class);
        assert!(decibels > 110.0, "{:?}: {decibels} dB", caps.class);
    }
}
