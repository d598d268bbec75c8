//! Gradients: the reference against differences, the adapter against the reference.

use subquad::{
    case::Numbers,
    kronecker::tensor_attention::{Logits, Options, Shape},
};

use crate::effort::{by_turns, sample};

use super::call::{Call, biased, reference, wide};

const FORMS: [Logits; 4] = [
    Logits::Trilinear,
    Logits::Determinant,
    Logits::PairSum,
    Logits::Sum,
];

/// A small call of each form: heads that share keys, other numbers of queries than of keys, windows.
fn small(logits: Logits, queries: usize, keys: [usize; 2]) -> Call {
    let shape = Shape {
        kv_heads: 1,
        queries,
        keys,
        ..Shape::square([2, 2, 0], 6, 5)
    };
    let options = Options {
        logits,
        causal: true,
        window: [None, Some(4)],
        q_offset: Some(2),
        ..biased(logits)
    };
    Call::new(shape, options)
}

#[test]
fn the_reference_gives_the_slopes_of_its_outputs() {
    for logits in FORMS {
        let call = small(logits, 5, [6, 7]);
        let inputs: Vec<Vec<f64>> = call.inputs.iter().map(|x| wide(x)).collect();
        let grad_o = wide(&call.grad_o);
        let loss = |inputs: &[Vec<f64>]| -> f64 {
            let o = reference(&call.shape, &call.options, inputs).o;
            o.iter().zip(&grad_o).map(|(a, b)| a * b).sum()
        };
        let mut numbers = Numbers::of("slopes");
        let grads = call.reference_gradients();
        for (n, (grad, size)) in grads.values.iter().zip(&grads.magnitudes).enumerate() {
            for _ in 0..12 {
                let at = numbers.below(grad.len());
                let moved = |by: f64| {
                    let mut inputs = inputs.clone();
                    inputs[n][at] += by;
                    loss(&inputs)
                };
                let slope = (moved(1e-4) - moved(-1e-4)) / 2e-4;
                let allowed = 1e-7 * (1.0 + size[at]);
                assert!(
                    (grad[at] - slope).abs() <= allowed,
                    "{logits:?}, input {n} at {at}: {} {slope}",
                    grad[at]
                );
            }
        }
    }
}

#[test]
fn every_form_of_scores_has_gradients() {
    for logits in sample(FORMS) {
        small(logits, 20, [23, 30]).gradients_hold(&format!("{logits:?}"));
    }
}

#[test]
fn windows_and_shared_heads_have_gradients() {
    let cases = [
        (7, 3, 5, [Some(1), Some(4)], false),
        (64, 16, 12, [Some(32), Some(4)], false),
        (40, 16, 12, [None, None], true),
        (40, 3, 5, [Some(4), None], true),
        (1, 1, 5, [None; 2], false),
    ];
    for (tokens, width, value, window, causal) in by_turns(cases, 2) {
        let shape = Shape {
            kv_heads: 1,
            ..Shape::square([1, 2, tokens], width, value)
        };
        let options = Options {
            causal,
            window,
            ..Options::new(0.9)
        };
        Call::new(shape, options).gradients_hold(&format!("{tokens} tokens {window:?}"));
    }
}

#[test]
fn wide_results_are_sliced() {
    let call = Call::new(Shape::square([1, 1, 14], 72, 136), Options::new(0.3));
    call.holds("72 and 136 channels");
    call.gradients_hold("72 and 136 channels");
}
