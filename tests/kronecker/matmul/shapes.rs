//! Every size, flag, stride and type against the reference, and the reference against dense products.

use std::path::Path;

use subquad::{
    case::{Case, judge, run},
    choice::Profile,
    cli::case_files,
    gpu::Caps,
    kronecker::{
        self, Factor, Operator, Side, cpu,
        matmul::{Options, Shape, Strides, plan},
    },
};

use super::{Call, devices, devices_for};
use crate::{
    device::gpu,
    effort::{by_turns, thorough},
};

#[test]
fn the_reference_is_the_dense_product() {
    let sides = [[2, 3], [1, 4], [5, 1], [2, 2]];
    for flags in [[false; 4], [true; 4], [true, false, false, true]] {
        for side in [Side::Right, Side::Left] {
            let factors = sides.iter().zip(flags).map(|([r, c], flag)| {
                let factor = Factor::dense(*r, *c);
                if flag { factor.transpose() } else { factor }
            });
            let operator = Operator::new(factors);
            let shape = Shape {
                side,
                ..Shape::rows(3)
            };
            let call = Call::new("dense", operator.clone(), shape);
            let (rows, columns) = (operator.rows(), operator.columns());
            let entry = |mut i: usize, mut j: usize| {
                let mut product = 1.0;
                for ((factor, entries), [_, c]) in
                    operator.factors.iter().zip(&call.factors).zip(sides).rev()
                {
                    let [p, q] = factor.sides();
                    let at = if factor.transposed {
                        j % q * c + i % p
                    } else {
                        i % p * c + j % q
                    };
                    product *= f64::from(entries[at]);
                    (i, j) = (i / p, j / q);
                }
                product
            };
            let x = |n: usize| f64::from(call.x[n]);
            let dense: Vec<f64> = match side {
                Side::Right => (0..3 * columns)
                    .map(|n| {
                        let (m, j) = (n / columns, n % columns);
                        (0..rows).map(|i| x(m * rows + i) * entry(i, j)).sum()
                    })
                    .collect(),
                Side::Left => (0..3 * rows)
                    .map(|n| {
                        let (i, m) = (n / 3, n % 3);
                        (0..columns).map(|j| x(j * 3 + m) * entry(i, j)).sum()
                    })
                    .collect(),
            };
            for (got, dense) in call.reference().into_iter().zip(dense) {
                assert!((got - dense).abs() < 1e-12, "{side:?} {flags:?}");
            }
        }
    }
}

#[test]
fn one_factor_of_every_size() {
    let square = [
        1, 2, 3, 4, 5, 6, 8, 12, 16, 24, 31, 32, 50, 55, 62, 64, 127, 128, 129, 255, 297, 512, 1024,
    ];
    let oblong = [
        [1, 4],
        [5, 1],
        [2, 4],
        [31, 63],
        [63, 31],
        [297, 127],
        [936, 505],
    ];
    let square = square.iter().map(|n| [*n, *n]);
    for [p, q] in square.chain(oblong) {
        let rows = if p > 200 { 3 } else { 9 };
        let name = format!("{p} x {q}");
        Call::dense(&name, &[[p, q]], rows).check(&name);
    }
}

#[test]
fn lists_of_factors() {
    let lists: [&[[usize; 2]]; 9] = [
        &[],
        &[[2, 3], [5, 2], [6, 4]],
        &[[14, 15], [19, 13], [34, 23], [21, 34]],
        &[[2, 2]; 16],
        &[[1, 1]; 70],
        &[[128, 8], [6, 6], [8, 128]],
        &[[8, 8]; 4],
        &[[33, 32], [65, 64]],
        &[[1, 4], [4, 1], [1, 1], [3, 1], [1, 7]],
    ];
    for (n, list) in lists.into_iter().enumerate() {
        let large: usize = list.iter().map(|[p, q]| p.max(q)).product();
        let rows = if large > 1 << 12 { [1, 2] } else { [3, 257] };
        for rows in by_turns(rows, n) {
            let name = format!("list {n}, {rows} rows");
            Call::dense(&name, list, rows).check(&name);
        }
    }
}

/// Against the butterfly in f64, whose factor 0 is the last here.
#[test]
fn twenty_factors_of_two_by_two() {
    let call = Call::dense("twenty", &[[2, 2]; 20], 1);
    let shape = kronecker::Shape {
        outer: 1,
        bits: 20,
        inner: 1,
    };
    let through = |entry: &dyn Fn(f32) -> f64| {
        let factors: Vec<f64> = call
            .factors
            .iter()
            .rev()
            .flatten()
            .map(|f| entry(*f))
            .collect();
        let x: Vec<f64> = call.x.iter().map(|x| entry(*x)).collect();
        cpu::butterfly(&shape, kronecker::Factors::Shared, &factors, &x, cpu::real).unwrap()
    };
    let [values, sizes] = [through(&f64::from), through(&|x| f64::from(x.abs()))];
    let bound = 2f64.powi(-23) * call.lengths().sqrt();
    for caps in devices() {
        let z = call.run(&caps);
        assert_eq!(z.len(), values.len());
        for ((z, value), size) in z.iter().zip(&values).zip(&sizes) {
            assert!(
                (f64::from(*z) - value).abs() <= bound * size,
                "{:?}: {z} for {value}",
                caps.class
            );
        }
    }
}

#[test]
fn more_factors_than_a_word_has_bits() {
    for count in [63, 64, 65] {
        let mut sides = vec![[1, 1]; count];
        (sides[0], sides[count - 1]) = ([4, 3], [2, 5]);
        let name = format!("{count} factors");
        Call::dense(&name, &sides, 3).check(&name);
    }
}

#[test]
fn as_many_factors_as_there_may_be() {
    let mut call = Call::dense("most", &[[1, 1]; 4096], 3);
    // Halves and twos, so that no product leaves the range of f32 and each is exact.
    for (n, factor) in call.factors.iter_mut().enumerate() {
        factor[0] = [0.5, -2.0, 1.0][n % 3];
    }
    let expected: Vec<f32> = call.reference().into_iter().map(|z| z as f32).collect();
    assert!(
        expected
            .iter()
            .zip(&call.x)
            .all(|(z, x)| z.abs() == x.abs() || z.abs() == x.abs() / 2.0)
    );
    for caps in devices() {
        assert_eq!(call.run(&caps), expected);
    }
}

#[test]
fn every_choice_of_flags() {
    for side in [Side::Right, Side::Left] {
        for flags in 0..8 {
            let factors = [[4, 4], [3, 3], [5, 2]].into_iter().enumerate();
            let factors = factors.map(|(n, [r, c])| match flags >> n & 1 {
                0 => Factor::dense(r, c),
                _ => Factor::dense(r, c).transpose(),
            });
            let shape = Shape {
                side,
                ..Shape::rows(3)
            };
            let name = format!("flags {flags:03b}, {side:?}");
            Call::new(&name, Operator::new(factors), shape).check(&name);
        }
    }
}

#[test]
fn each_operand_may_be_one_for_all_batches() {
    for own in 0..16 {
        let factors = [[3, 5], [4, 2], [6, 7]].into_iter().enumerate();
        let factors = factors.map(|(n, [r, c])| match own >> n & 1 {
            0 => Factor::dense(r, c),
            _ => Factor::dense(r, c).per_batch(),
        });
        let row = 3 * 4 * 6;
        let shape = Shape {
            x: (own >> 3 == 0).then_some(Strides { row, batch: 0 }),
            ..Shape::rows(2).batched(3)
        };
        let name = format!("own {own:04b}");
        Call::new(&name, Operator::new(factors), shape).check(&name);
    }
}

#[test]
fn rows_of_every_number() {
    for rows in [0, 1, 3, 16, 20, 257] {
        for side in [Side::Right, Side::Left] {
            let factors = [[4, 6], [5, 5], [9, 3]].map(|[p, q]| Factor::dense(p, q));
            let shape = Shape {
                side,
                ..Shape::rows(rows)
            };
            let name = format!("{rows} rows, {side:?}");
            Call::new(&name, Operator::new(factors), shape).check(&name);
        }
    }
}

/// Factors of all kinds, flags and batches.
fn mixed() -> Operator {
    Operator::new([
        Factor::dense(4, 6).transpose(),
        Factor::diagonal(3).per_batch(),
        Factor::dense(5, 2).per_batch(),
        Factor::identity(2),
        Factor::dense(3, 7).transpose().per_batch(),
        Factor::diagonal(2),
    ])
}

#[test]
fn strides_and_broadcasts() {
    for side in [Side::Right, Side::Left] {
        let operator = mixed();
        let base = Shape {
            side,
            ..Shape::rows(5).batched(3)
        };
        let [x, z] = match side {
            Side::Right => [operator.rows(), operator.columns()],
            Side::Left => [5, 5],
        };
        let lines = |n: usize| if side == Side::Right { 5 } else { n };
        let [x_lines, z_lines] = [lines(operator.columns()), lines(operator.rows())];
        let apart = |row: usize, batch: usize| Some(Strides { row, batch });
        let gaps = apart(z + 3, (z + 3) * z_lines + 7);
        for (name, from, to) in [
            ("gaps in x", apart(x + 1, (x + 1) * x_lines + 2), None),
            ("gaps in z", None, gaps),
            ("gaps in both", apart(x + 2, (x + 2) * x_lines), gaps),
            ("one batch of x", apart(x, 0), None),
            ("one row of x", apart(0, x), None),
            ("one row of x in all", apart(0, 0), gaps),
        ] {
            let shape = Shape {
                x: from,
                z: to,
                ..base
            };
            let name = format!("{name}, {side:?}");
            let mut call = Call::new(&name, operator.clone(), shape);
            call.check(&name);
            call.options = Options {
                alpha: 2.0,
                beta: 1.0,
            };
            call.z = (0..call.z.len()).map(|n| n as f32 / 64.0).collect();
            call.check(&name);
        }
    }
}

#[test]
fn case_files_hold_on_every_device() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/cases/kronecker");
    if !folder.is_dir() {
        println!("skipped: no folder {}", folder.display());
        return;
    }
    let mut found = 0;
    for file in case_files(&[folder]).unwrap() {
        let case = Case::read(&file, None, &Default::default()).unwrap();
        if case.op != "kron_matmul" {
            continue;
        }
        found += 1;
        let problem = case.bind().unwrap();
        let references = problem.reference().unwrap();
        for caps in devices_for(&case.name) {
            for plan in problem.plans(&caps, thorough()).unwrap() {
                let arrays = run(gpu(), problem.as_ref(), &plan, false).unwrap();
                for ((output, array), reference) in
                    problem.outputs().iter().zip(&arrays).zip(&references)
                {
                    let judged =
                        judge(output, array, &reference.values, Some(&reference.magnitude));
                    assert!(judged.holds(), "{} {}: {judged:?}", case.name, output.name);
                    let expected = case.expectation(output).unwrap().values();
                    let judged = judge(output, array, &expected, None);
                    assert!(judged.holds(), "{} {}: {judged:?}", case.name, output.name);
                }
            }
        }
    }
    assert!(found >= 4, "only {found} case files");
}

#[test]
fn rows_applied_by_the_reference() {
    let call = Call::dense("apply", &[[3, 2], [2, 5]], 4);
    let f64s = |values: &[f32]| values.iter().map(|x| f64::from(*x)).collect::<Vec<f64>>();
    let factors: Vec<Vec<f64>> = call.factors.iter().map(|f| f64s(f)).collect();
    let factors: Vec<&[f64]> = factors.iter().map(Vec::as_slice).collect();
    let y = cpu::apply(&call.operator, &factors, &f64s(&call.x)).unwrap();
    assert_eq!(y, call.reference());
}

/// However many rows the passes walk over at a time, sums are the same.
#[test]
fn walks_over_fewer_rows_give_the_same() {
    let factors = [
        Factor::identity(64),
        Factor::dense(8, 8),
        Factor::dense(8, 8),
    ];
    let call = Call::new("walks", Operator::new(factors), Shape::rows(600));
    let caps = |mib: u32| {
        let single = Profile::default().with("kronecker/stage.fused", 0);
        let profile = single.and_then(|single| single.with("kronecker/walk.mib", mib));
        Caps {
            profile: profile.unwrap(),
            ..gpu().caps().clone()
        }
    };
    let steps = |mib: u32| {
        let plan = plan(&call.operator, &call.shape, &call.options, &caps(mib)).unwrap();
        plan.steps.len()
    };
    // An intermediate result of a row takes 16 KiB: 64 rows make one MiB, and three walks are too few.
    assert_eq!([0, 1, 4].map(steps), [2, 20, 2]);
    let whole = call.run(&caps(0));
    call.holds(&whole, "whole");
    assert_eq!(call.run(&caps(1)), whole);
}
