//! Long sequences, wide heads, long windows, and many heads to one of keys.

use std::ops::Range;

use subquad::kronecker::tensor_attention::{Logits, Options, Shape};

use super::call::{Call, biased, devices, ratio, wide};
use crate::effort::sample;

/// One batch entry, one head.
fn square(tokens: usize, width: usize) -> Shape {
    Shape::square([1, 1, tokens], width, width.min(12))
}

fn windowed(window: [Option<usize>; 2]) -> Options {
    Options {
        window,
        ..Options::new(0.6)
    }
}

#[test]
fn long_sequences_hold_under_windows_of_all_lengths() {
    for (tokens, width, window) in [
        (300, 16, [Some(4), Some(257)]),
        (300, 3, [Some(257), Some(1)]),
        (300, 1, [Some(32), Some(32)]),
        (300, 16, [None, Some(1)]),
        (129, 1, [None, None]),
        (129, 64, [Some(32), Some(4)]),
        (64, 128, [Some(4), Some(32)]),
    ] {
        let options = Options {
            causal: true,
            ..windowed(window)
        };
        let call = Call::new(square(tokens, width), options);
        call.holds(&format!("{tokens} tokens, {width} wide, {window:?}"));
    }
}

#[test]
fn long_sequences_and_wide_heads_have_gradients() {
    for (tokens, width, window) in sample([
        (300, 16, [Some(4), Some(257)]),
        (129, 3, [Some(32), Some(1)]),
        (64, 128, [Some(4), Some(32)]),
    ]) {
        let call = Call::new(square(tokens, width), windowed(window));
        call.gradients_hold(&format!("{tokens} tokens, {width} wide, {window:?}"));
    }
}

/// Two batch entries, two heads of keys.
fn grouped(group: usize) -> Shape {
    Shape {
        kv_heads: 2,
        ..Shape::square([2, 2 * group, 19], 16, 12)
    }
}

#[test]
fn one_and_four_and_sixteen_heads_read_one_head_of_keys() {
    for group in [1, 4, 16] {
        let call = Call::new(grouped(group), windowed([Some(5), Some(9)]));
        call.holds(&format!("{group} heads to one of keys"));
        call.gradients_hold(&format!("{group} heads to one of keys"));
    }
}

#[test]
fn heads_that_share_keys_are_heads_with_copies_of_them() {
    let call = Call::new(grouped(4), windowed([Some(5), Some(9)]));
    let shape = Shape {
        kv_heads: 8,
        ..call.shape
    };
    let mut apart = Call {
        shape,
        ..call.clone()
    };
    for (x, width) in apart.inputs[1..].iter_mut().zip([16, 16, 12, 12]) {
        let heads = x.chunks_exact(19 * width);
        *x = heads.flat_map(|head| head.repeat(4)).collect();
    }
    for caps in devices() {
        let [there, here] = [&call, &apart].map(|call| call.run(&caps));
        assert!(ratio(&there.o, &wide(&here.o)) <= 2e-6, "{:?}", caps.class);
        assert!(
            ratio(&there.lse, &wide(&here.lse)) <= 2e-6,
            "{:?}",
            caps.class
        );
        // A shared head's gradient is the sum of its copies'.
        let [there, here] = [&call, &apart].map(|call| call.backward(&caps));
        assert!(ratio(&there[0], &wide(&here[0])) <= 1e-5);
        for n in 1..5 {
            let len = 19 * [16, 16, 16, 12, 12][n];
            let sums = here[n].chunks_exact(4 * len).flat_map(|heads| {
                (0..len).map(|at| {
                    heads
                        .iter()
                        .skip(at)
                        .step_by(len)
                        .map(|x| f64::from(*x))
                        .sum()
                })
            });
            let miss = ratio(&there[n], &sums.collect::<Vec<f64>>());
            assert!(miss <= 1e-5, "{:?}, input {n}: {miss:e}", caps.class);
        }
    }
}

#[test]
fn batch_entries_are_those_by_themselves() {
    let call = Call::new(grouped(4), windowed([None, Some(9)]));
    for caps in devices() {
        let whole = call.run(&caps);
        for batch in 0..2 {
            let of = |x: &[f32]| x[x.len() / 2 * batch..][..x.len() / 2].to_vec();
            let one = Call {
                shape: Shape {
                    batch: 1,
                    ..call.shape
                },
                inputs: call.inputs.each_ref().map(|x| of(x)),
                ..call.clone()
            };
            let found = one.run(&caps);
            assert_eq!(
                (found.o, found.lse),
                (of(&whole.o), of(&whole.lse)),
                "{:?}",
                caps.class
            );
        }
    }
}

/// What `lse` is the natural logarithm of: of scores that are all 0, the number of pairs.
#[test]
fn statistics_are_natural_logarithms() {
    let mut call = Call::new(square(40, 16), windowed([Some(5), None]));
    call.options.causal = true;
    call.inputs[0].fill(0.0);
    for caps in devices() {
        for (t, lse) in call.run(&caps).lse.into_iter().enumerate() {
            let expected = (((t + 1).min(5) * (t + 1)) as f64).ln();
            let error = (f64::from(lse) - expected).abs();
            assert!(
                error <= 4e-7 * expected.max(1.0),
                "{:?}, query {t}: {lse}",
                caps.class
            );
        }
    }
}

/// Scores, weights and sums by the definition, all pairs of keys one after another.
#[test]
fn the_reference_is_the_definition() {
    let shape = Shape {
        batch: 2,
        kv_heads: 2,
        queries: 5,
        keys: [7, 6],
        ..Shape::square([2, 4, 0], 6, 3)
    };
    let options = |logits| Options {
        logits,
        q_offset: Some(1),
        window: [None, Some(3)],
        ..biased(logits)
    };
    for logits in [
        Logits::Trilinear,
        Logits::Determinant,
        Logits::PairSum,
        Logits::Sum,
    ] {
        let options = options(logits);
        let call = Call::new(shape, options);
        let found = call.reference();
        let [q, k1, k2, v1, v2] = call.inputs.each_ref().map(|x| wide(x));
        let bias = |x: Vec<f64>, bias: f32| {
            x.into_iter()
                .map(|x| x + f64::from(bias))
                .collect::<Vec<f64>>()
        };
        let (k2, v2) = (bias(k2, options.k2_bias), bias(v2, options.v2_bias));
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let det = |a: &[f64], b: &[f64], c: &[f64]| {
            a[0] * (b[1] * c[2] - b[2] * c[1]) - a[1] * (b[0] * c[2] - b[2] * c[0])
                + a[2] * (b[0] * c[1] - b[1] * c[0])
        };
        for row in 0..2 * 4 * 5 {
            let (unit, i) = (row / 5 / 2, row % 5);
            let q = &q[6 * row..][..6];
            // Query i stands at place i + 1, and sees three keys of the second kind.
            let seen: [Range<usize>; 2] = [0..7, (i + 2).saturating_sub(3)..i + 2];
            let (mut sum, mut den) = ([0.0; 3], 0.0);
            for j in seen[0].clone() {
                for l in seen[1].clone() {
                    let (a, b) = (
                        &k1[6 * (7 * unit + j)..][..6],
                        &k2[6 * (6 * unit + l)..][..6],
                    );
                    let t = match logits {
                        Logits::Trilinear => (0..6).map(|d| q[d] * a[d] * b[d]).sum::<f64>(),
                        Logits::Determinant => det(q, a, b) + det(&q[3..], &a[3..], &b[3..]),
                        Logits::PairSum => dot(q, a) + dot(q, b) + dot(a, b),
                        Logits::Sum => dot(q, a) + dot(q, b),
                    };
                    let weight = (f64::from(0.7f32) * t).exp();
                    den += weight;
                    for (c, sum) in sum.iter_mut().enumerate() {
                        *sum += weight * v1[3 * (7 * unit + j) + c] * v2[3 * (6 * unit + l) + c];
                    }
                }
            }
            assert!(
                (found.lse[row] - den.ln()).abs() < 1e-12,
                "{logits:?}, row {row}"
            );
            for (c, sum) in sum.iter().enumerate() {
                assert!(
                    (found.o[3 * row + c] - sum / den).abs() < 1e-12,
                    "{logits:?}, row {row}"
                );
            }
        }
    }
}
