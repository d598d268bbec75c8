//! What holds between products.

use proptest::prelude::*;
use subquad::{
    case::Numbers,
    gpu::Caps,
    kronecker::{
        Factor, Operator, Side, cpu,
        matmul::{Options, Shape, cost, plan},
    },
};

use super::{Call, devices};

fn whole(numbers: &mut Numbers, len: usize, below: usize) -> Vec<f32> {
    (0..len)
        .map(|_| numbers.below(2 * below) as f32 - below as f32)
        .collect()
}

#[test]
fn whole_numbers_are_exact() {
    let mut call = Call::dense("whole", &[[8, 8], [5, 7], [16, 3]], 6);
    let mut numbers = Numbers::of("whole numbers");
    call.x = whole(&mut numbers, call.x.len(), 4);
    for factor in &mut call.factors {
        *factor = whole(&mut numbers, factor.len(), 3);
    }
    let exact: Vec<f32> = call.reference().into_iter().map(|x| x as f32).collect();
    for caps in devices() {
        assert_eq!(call.run(&caps), exact);
    }
}

#[test]
fn an_identity_changes_no_bit() {
    for caps in devices() {
        let call = Call::dense("identity", &[[4, 4], [7, 5]], 6);
        let mut with = call.clone();
        with.operator = Operator::new([
            Factor::dense(4, 4),
            Factor::identity(1),
            Factor::dense(7, 5),
        ]);
        assert_eq!(call.run(&caps), with.run(&caps));
        let mut dense = Call::dense("identity", &[[6, 6], [7, 7]], 3);
        for (factor, n) in dense.factors.iter_mut().zip([6, 7]) {
            *factor = (0..n * n)
                .map(|at| f32::from(u8::from(at % (n + 1) == 0)))
                .collect();
        }
        assert_eq!(dense.run(&caps), dense.x);
        let mut none = dense.clone();
        none.operator = Operator::new([Factor::identity(6), Factor::identity(7)]);
        none.factors.clear();
        assert_eq!(none.run(&caps), none.x);
    }
}

#[test]
fn a_batch_is_a_loop_and_reruns_change_no_bit() {
    let operator = Operator::new([
        Factor::dense(8, 6).per_batch(),
        Factor::dense(5, 5),
        Factor::diagonal(3).per_batch(),
    ]);
    for side in [Side::Right, Side::Left] {
        let shape = Shape {
            side,
            ..Shape::rows(7).batched(3)
        };
        let call = Call::new("batch", operator.clone(), shape);
        for caps in devices() {
            let all = call.run(&caps);
            assert_eq!(all, call.run(&caps));
            for (batch, z) in all.chunks_exact(all.len() / 3).enumerate() {
                let of = |values: &[f32]| {
                    let len = values.len() / 3;
                    values[batch * len..][..len].to_vec()
                };
                let mut one = call.clone();
                one.shape.batch = 1;
                (one.x, one.z) = (of(&call.x), of(&call.z));
                one.factors[0] = of(&call.factors[0]);
                one.factors[2] = of(&call.factors[2]);
                assert_eq!(one.run(&caps), z);
            }
        }
    }
}

#[test]
fn pieces_under_small_limits_change_no_bit() {
    for side in [Side::Right, Side::Left] {
        let shape = Shape {
            side,
            ..Shape::rows(40).batched(2)
        };
        let operator = Operator::new([[6, 4], [5, 9], [4, 4]].map(|[p, q]| Factor::dense(p, q)));
        let call = Call::new("pieces", operator, shape);
        for caps in devices() {
            let small = Caps {
                binding_bytes: if side == Side::Right { 4096 } else { 40_960 },
                scratch_bytes: 60_000,
                ..caps.clone()
            };
            let steps = |caps| {
                plan(&call.operator, &call.shape, &call.options, caps)
                    .unwrap()
                    .steps
            };
            assert!(steps(&small).len() > steps(&caps).len());
            assert_eq!(call.run(&small), call.run(&caps), "{side:?}");
        }
    }
}

#[test]
fn temporaries_are_one_result_at_most() {
    for (rows, beta) in [(64, 0.0), (64, 1.0), (2, 1.0), (1, 1.0)] {
        let sides = [[40, 7], [9, 9], [3, 50], [5, 2], [33, 34]];
        let factors = sides.map(|[p, q]| Factor::dense(p, q));
        let operator = Operator::new(factors);
        let options = Options { alpha: 1.0, beta };
        for caps in Caps::presets() {
            let plan = plan(&operator, &Shape::rows(rows), &options, &caps).unwrap();
            let largest = operator.rows().max(operator.columns()) * rows;
            let limit = if rows == 1 { 2 * largest } else { largest };
            // Passes with several factors copy them.
            let limit = limit + sides.iter().map(|[p, q]| p * (q + 3)).sum::<usize>();
            assert!(
                plan.scratch_bytes() <= 4 * limit as u64,
                "{} {rows}",
                plan.label
            );
        }
    }
}

#[test]
fn garbage_in_z_is_harmless_and_beta_adds_it() {
    let mut call = Call::dense("beta", &[[6, 5], [7, 8]], 9);
    call.check("NaN before");
    call.z = (0..call.z.len()).map(|n| (n as f32).sin()).collect();
    call.options = Options {
        alpha: 2.0,
        beta: 1.0,
    };
    call.check("alpha 2, beta 1");
}

#[test]
fn nan_reaches_what_depends_on_it() {
    let clean = Call::dense("nan", &[[4, 4], [6, 5]], 8);
    for caps in devices() {
        let before = clean.run(&caps);
        let mut call = clean.clone();
        call.x[3 * 24 + 5] = f32::NAN;
        for (n, (z, clean)) in call.run(&caps).into_iter().zip(&before).enumerate() {
            if n / 20 == 3 {
                assert!(z.is_nan(), "element {n}");
            } else {
                assert_eq!(z, *clean, "element {n}");
            }
        }
        let mut call = clean.clone();
        // Row 1, column 2 of the second factor.
        call.factors[1][5 + 2] = f32::NAN;
        for (n, (z, clean)) in call.run(&caps).into_iter().zip(&before).enumerate() {
            if n % 5 == 2 {
                assert!(z.is_nan(), "element {n}");
            } else {
                assert_eq!(z, *clean, "element {n}");
            }
        }
    }
}

#[test]
fn the_adjoint_is_the_transpose() {
    for side in [Side::Right, Side::Left] {
        let operator = Operator::new([
            Factor::dense(4, 6).transpose(),
            Factor::dense(5, 3),
            Factor::diagonal(2),
        ]);
        let shape = Shape {
            side,
            ..Shape::rows(7)
        };
        let call = Call::new("adjoint", operator.clone(), shape);
        let mut back = Call::new("adjoint, back", operator.transpose(), shape);
        back.factors = call.factors.clone();
        for caps in devices() {
            let dot = |a: &[f32], b: &[f32]| -> f64 {
                a.iter()
                    .zip(b)
                    .map(|(a, b)| f64::from(*a) * f64::from(*b))
                    .sum()
            };
            let [there, again] = [
                dot(&call.run(&caps), &back.x),
                dot(&call.x, &back.run(&caps)),
            ];
            assert!((there - again).abs() < 1e-4, "{side:?}: {there} {again}");
            // K x is (xᵀ Kᵀ)ᵀ.
            let mut turned = call.clone();
            turned.operator = operator.transpose();
            turned.shape.side = if side == Side::Right {
                Side::Left
            } else {
                Side::Right
            };
            let lines = |len: usize| if side == Side::Right { 7 } else { len / 7 };
            let turn = |x: &[f32], lines: usize| -> Vec<f32> {
                let width = x.len() / lines;
                (0..x.len())
                    .map(|n| x[n % lines * width + n / lines])
                    .collect()
            };
            turned.x = turn(&call.x, lines(call.x.len()));
            let z = turned.run(&caps);
            let back = turn(&z, z.len() / lines(z.len()));
            turned.shape = call.shape;
            call.holds(&back, "turned");
        }
    }
}

#[test]
fn nan_reaches_what_depends_on_it_to_the_left_and_from_z() {
    let operator = Operator::new([Factor::dense(4, 5), Factor::dense(6, 3)]);
    let shape = Shape {
        side: Side::Left,
        ..Shape::rows(7)
    };
    let clean = Call::new("nan, left", operator, shape);
    let poisoned = |call: &Call, caps: &Caps, where_: &dyn Fn(usize) -> bool, before: &[f32]| {
        for (n, (z, clean)) in call.run(caps).into_iter().zip(before).enumerate() {
            if where_(n) {
                assert!(z.is_nan(), "element {n}");
            } else {
                assert_eq!(z, *clean, "element {n}");
            }
        }
    };
    for caps in devices() {
        let before = clean.run(&caps);
        // Column 4 of x, then line 2 of the first factor.
        let mut call = clean.clone();
        call.x[7 * 8 + 4] = f32::NAN;
        poisoned(&call, &caps, &|n| n % 7 == 4, &before);
        let mut call = clean.clone();
        call.factors[0][5 * 2 + 1] = f32::INFINITY;
        call.factors[0][5 * 2 + 3] = f32::NAN;
        poisoned(&call, &caps, &|n| n / (6 * 7) == 2, &before);
        // What z holds matters where beta is not 0, and there alone.
        let mut call = clean.clone();
        call.options.beta = -0.5;
        call.z.fill(0.25);
        let before = call.run(&caps);
        call.z[31] = f32::NAN;
        poisoned(&call, &caps, &|n| n == 31, &before);
    }
}

/// All orders of n things.
fn orders(n: usize) -> Vec<Vec<usize>> {
    if n == 0 {
        return vec![Vec::new()];
    }
    let shorter = orders(n - 1).into_iter();
    let each = shorter.flat_map(|order| {
        (0..n).map(move |at| {
            let mut order = order.clone();
            order.insert(at, n - 1);
            order
        })
    });
    each.collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_order_is_the_cheapest_of_all(sides in prop::collection::vec([1usize..40, 1usize..40], 1..7)) {
        let operator = Operator::new(sides.iter().map(|[p, q]| Factor::dense(*p, *q)));
        let found = plan(&operator, &Shape::rows(1), &Options::default(), &Caps::webgpu_floor());
        // Products without the sizes' limits: the plan's work counts two operations each.
        if let Ok(plan) = found {
            let best = orders(sides.len())
                .into_iter()
                .map(|order| cost(&sides, &order))
                .fold(f64::INFINITY, f64::min);
            prop_assert!((plan.work.flops - 2.0 * best).abs() <= 1e-9 * best, "{} {best}", plan.work.flops);
        }
    }

}

proptest! {
    // Every list has kernels of its own, which take long to compile.
    #![proptest_config(ProptestConfig { cases: 6, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn products_of_operators_are_operators_of_products(
        sides in prop::collection::vec([1usize..5, 1usize..5, 1usize..5], 1..4),
        rows in 1usize..4,
    ) {
        let pairs = |a: usize, b: usize| sides.iter().map(move |s| [s[a], s[b]]).collect::<Vec<_>>();
        let first = Call::dense("mixed, first", &pairs(0, 1), rows);
        let mut second = Call::dense("mixed, second", &pairs(1, 2), rows);
        let mut both = Call::dense("mixed, both", &pairs(0, 2), rows);
        both.x = first.x.clone();
        for (n, s) in sides.iter().enumerate() {
            let (a, b) = (&first.factors[n], &second.factors[n]);
            both.factors[n] = (0..s[0] * s[2])
                .map(|at| (0..s[1]).map(|k| a[at / s[2] * s[1] + k] * b[k * s[2] + at % s[2]]).sum())
                .collect();
        }
        for caps in devices() {
            second.x = first.run(&caps);
            let (twice, once) = (second.run(&caps), both.run(&caps));
            let scale = both.magnitude().into_iter().fold(1.0, f64::max) as f32;
            for (a, b) in twice.iter().zip(&once) {
                prop_assert!((a - b).abs() <= 2e-5 * scale, "{a} {b}");
            }
        }
    }

    #[test]
    fn grouping_does_not_matter(
        sides in prop::collection::vec([1usize..6, 1usize..6], 2..5),
        rows in 1usize..5,
    ) {
        // Two factors, or their product as one.
        let call = Call::dense("grouping", &sides, rows);
        let mut joined = call.clone();
        let [[p, q], [r, s]] = [sides[0], sides[1]];
        let entry = |i: usize, j: usize| {
            call.factors[0][i / r * q + j / s] * call.factors[1][i % r * s + j % s]
        };
        let dense = (0..p * r * q * s).map(|n| entry(n / (q * s), n % (q * s))).collect();
        joined.factors.splice(0..2, [dense]);
        joined.operator.factors.splice(0..2, [Factor::dense(p * r, q * s)]);
        for caps in devices() {
            call.holds(&call.run(&caps), "apart");
            let (apart, joined) = (call.run(&caps), joined.run(&caps));
            let scale = call.magnitude().into_iter().fold(1.0, f64::max) as f32;
            for (a, b) in apart.iter().zip(&joined) {
                prop_assert!((a - b).abs() <= 2e-5 * scale, "{a} {b}");
            }
        }
    }
}

/// One factor at a time, between identities, in every order.
#[test]
fn factors_may_be_applied_in_any_order() {
    let sides = [[3, 5], [4, 2], [2, 6]];
    let call = Call::dense("any order", &sides, 3);
    for caps in devices() {
        for order in orders(3) {
            let mut now = sides.map(|[p, _]| p);
            let mut x = call.x.clone();
            for n in order {
                let mut factors = now.map(Factor::identity);
                factors[n] = Factor::dense(sides[n][0], sides[n][1]);
                let mut one = Call::new("one", Operator::new(factors), call.shape);
                one.factors = vec![call.factors[n].clone()];
                one.x = x;
                x = one.run(&caps);
                now[n] = sides[n][1];
            }
            call.holds(&x, "one at a time");
        }
    }
}

#[test]
fn the_scalar_operator_scales() {
    let mut call = Call::dense("scalar", &[], 5);
    assert_eq!(call.x.len(), 5);
    call.options.alpha = 3.0;
    let y = cpu::apply(&call.operator, &[], &[1.0, 2.0]).unwrap();
    assert_eq!(y, [1.0, 2.0]);
    for caps in devices() {
        let expected: Vec<f32> = call.x.iter().map(|x| 3.0 * x).collect();
        assert_eq!(call.run(&caps), expected);
    }
}
