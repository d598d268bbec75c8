//! What is counted: selections, ties, and sums of weights from numbers of keys.

use subquad::hamming::attention::{Denominator, Options, Shape, plan};

use super::{Call, Out, bits, causal, gpu, square, variants};
use crate::effort::{by_turns, sample};

#[test]
fn selections_of_everything_are_dense() {
    let shape = square([1, 2, 100], 64, 12);
    let integer = |beta| Options {
        denominator: Some(Denominator::Integer),
        ..causal(beta)
    };
    for beta in [0.1, -0.1, 3.0] {
        let dense = Call::new(shape, integer(beta)).out();
        for (top_n, radius) in [
            (Some(100), None),
            (Some(5000), None),
            (None, Some(64)),
            (Some(100), Some(70)),
        ] {
            let options = Options {
                top_n,
                radius,
                denominator: None,
                ..integer(beta)
            };
            let call = Call::new(shape, options);
            assert_eq!(bits(&call.out().o), bits(&dense.o), "{top_n:?} {radius:?}");
            call.judge(&call.plan(gpu().caps()));
        }
        let none = Call::new(
            shape,
            Options {
                top_n: Some(0),
                ..causal(beta)
            },
        );
        assert!(none.out().o.iter().all(|x| *x == 0.0));
    }
}

#[test]
fn ties_go_to_the_lower_index_across_segments() {
    // Few distances, so that thousands of keys tie; with equal codes all do.
    for (tokens, width, top_n, equal) in
        [(40, 4, 1000, false), (40, 4, 5, false), (33, 64, 700, true)]
    {
        let shape = Shape {
            keys: 2500,
            capacity: 2600,
            ..square([1, 1, tokens], width, 1)
        };
        for causal in [false, true] {
            let options = Options {
                top_n: Some(top_n),
                causal,
                ..Options::dense(0.2)
            };
            let mut call = Call::new(shape, options);
            if equal {
                let first = call.k[..shape.words()].to_vec();
                call.k = first.repeat(shape.capacity);
            }
            for caps in by_turns(variants(), tokens + usize::from(causal)) {
                call.judge(&call.plan(&caps));
            }
            // The cut-off itself: keys up to (distance, index) are as many as asked for.
            let out = call.out();
            for i in 0..tokens {
                let [_, cut, last, _] = out.kept[4 * i..][..4] else {
                    panic!()
                };
                let sees = if causal { 2500 - tokens + i + 1 } else { 2500 };
                let mask = if width == 4 { 15 } else { u32::MAX };
                let words = shape.words();
                let d = |j: usize| -> u32 {
                    (0..words)
                        .map(|w| {
                            ((call.q[i * words + w] ^ call.k[j * words + w]) & mask).count_ones()
                        })
                        .sum()
                };
                let counted = (0..sees)
                    .filter(|j| (d(*j), *j as u32) <= (cut, last))
                    .count();
                assert_eq!(counted, top_n);
            }
        }
    }
}

#[test]
fn a_row_without_keys_is_zero() {
    let shape = Shape {
        keys: 30,
        capacity: 30,
        ..square([1, 2, 50], 64, 3)
    };
    for options in [
        causal(0.1),
        causal(2.0),
        Options {
            top_n: Some(4),
            ..causal(0.1)
        },
        Options {
            radius: Some(3),
            ..causal(0.1)
        },
    ] {
        let call = Call::new(shape, options);
        let out = call.judge(&call.plan(gpu().caps()));
        for head in 0..2 {
            let first = head * 50;
            assert!(out.o[3 * first..][..3 * 20].iter().all(|x| *x == 0.0));
            assert!(out.lse[first..][..20].iter().all(|x| *x == f32::MIN));
        }
    }
}

#[test]
fn integer_denominators_do_not_depend_on_tiles_and_splits() {
    for options in sample([causal(0.2), causal(2.0), Options::dense(-0.7)]) {
        let options = Options {
            denominator: Some(Denominator::Integer),
            ..options
        };
        let call = Call::new(square([1, 2, 200], 60, 3), options);
        let sums = |out: &Out| -> Vec<u32> { out.kept.chunks_exact(4).map(|row| row[3]).collect() };
        let first = call.out();
        let plans = plan::variants(&call.shape, &call.options, call.wanted(), gpu().caps());
        for plan in plans.unwrap() {
            let out = call.judge(&plan);
            assert_eq!(sums(&out), sums(&first), "{}", plan.label);
            assert_eq!(bits(&out.lse), bits(&first.lse), "{}", plan.label);
        }
    }
}
