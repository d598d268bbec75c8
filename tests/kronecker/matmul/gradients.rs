//! Gradients: the reference against differences, the adapter against the reference.

use subquad::{
    gpu::Caps,
    kronecker::{
        Factor, Operator, Side, cpu,
        matmul::{Options, Shape, Strides, grad_x_len, gradients, plan_gradients},
    },
};

use super::{Call, devices, f64s};
use crate::device::gpu;

fn operator() -> Operator {
    Operator::new([
        Factor::dense(4, 6).transpose(),
        Factor::diagonal(3).per_batch(),
        Factor::dense(5, 2).per_batch(),
        Factor::identity(2),
        Factor::dense(3, 7),
    ])
}

/// A call and a gradient of z.
fn call(name: &str, operator: Operator, shape: Shape) -> (Call, Vec<f32>) {
    let mut call = Call::new(name, operator, shape);
    call.options.alpha = -1.5;
    let grad = (0..call.z.len()).map(|n| (n as f32 * 0.7).sin()).collect();
    (call, grad)
}

fn reference(call: &Call, grad: &[f32], value: impl Fn(f64) -> f64) -> cpu::Gradients {
    let all = |values: &[f32]| f64s(values).into_iter().map(&value).collect::<Vec<f64>>();
    let factors: Vec<Vec<f64>> = call.factors.iter().map(|f| all(f)).collect();
    let factors: Vec<&[f64]> = factors.iter().map(Vec::as_slice).collect();
    let options = Options {
        alpha: value(f64::from(call.options.alpha)) as f32,
        ..call.options
    };
    let (operator, shape) = (&call.operator, &call.shape);
    cpu::matmul_gradients(
        operator,
        shape,
        &options,
        &factors,
        &all(&call.x),
        &all(grad),
    )
    .unwrap()
}

/// Gradients of x and of the factors.
fn run(call: &Call, grad: &[f32], caps: &Caps) -> Vec<Vec<f32>> {
    let plan = plan_gradients(&call.operator, &call.shape, &call.options, caps).unwrap();
    let upload = |values: &[f32]| gpu().upload(values).unwrap();
    let inputs: Vec<_> = [&call.x[..], grad]
        .into_iter()
        .chain(call.factors.iter().map(Vec::as_slice))
        .map(upload)
        .collect();
    let lens = [grad_x_len(&call.operator, &call.shape)].into_iter();
    let lens = lens.chain(call.factors.iter().map(Vec::len));
    let mut outputs: Vec<_> = lens.map(|len| upload(&vec![f32::NAN; len])).collect();
    let views: Vec<_> = inputs.iter().map(|input| input.view()).collect();
    let mut into: Vec<_> = outputs.iter_mut().map(|output| output.view_mut()).collect();
    let mut pass = gpu().pass("test");
    pass.run(&plan, &views, &mut into).unwrap();
    pass.submit().unwrap();
    outputs
        .iter()
        .map(|output| output.download().unwrap())
        .collect()
}

fn check(name: &str, call: &Call, grad: &[f32]) {
    let values = reference(call, grad, |x| x);
    let sizes = reference(call, grad, f64::abs);
    let [rows, columns] = [call.operator.rows(), call.operator.columns()];
    let all = call.shape.batch * call.shape.rows * rows.max(columns);
    let bound = 2f64.powi(-22) * (2.0 * call.lengths() + all as f64).sqrt();
    let values: Vec<Vec<f64>> = [values.x].into_iter().chain(values.factors).collect();
    let sizes: Vec<Vec<f64>> = [sizes.x].into_iter().chain(sizes.factors).collect();
    for caps in devices() {
        let found = run(call, grad, &caps);
        assert_eq!(found, run(call, grad, &caps), "{name}: two runs differ");
        for (n, ((found, values), sizes)) in found.iter().zip(&values).zip(&sizes).enumerate() {
            assert_eq!(found.len(), values.len());
            for (at, ((found, value), size)) in found.iter().zip(values).zip(sizes).enumerate() {
                let error = (f64::from(*found) - value).abs();
                assert!(
                    error <= bound * size + f64::from(f32::MIN_POSITIVE),
                    "{name} on {:?}, gradient {n} at {at}: {found} for {value}",
                    caps.class
                );
            }
        }
    }
}

#[test]
fn the_reference_is_what_differences_say() {
    for side in [Side::Right, Side::Left] {
        let shape = Shape {
            side,
            ..Shape::rows(2).batched(2)
        };
        let (call, grad) = call("differences", operator(), shape);
        let loss = |factors: &[Vec<f64>], x: &[f64]| -> f64 {
            let factors: Vec<&[f64]> = factors.iter().map(Vec::as_slice).collect();
            let z = cpu::matmul(&call.operator, &call.shape, &call.options, &factors, x, &[]);
            z.unwrap()
                .iter()
                .zip(&grad)
                .map(|(z, g)| z * f64::from(*g))
                .sum()
        };
        let factors: Vec<Vec<f64>> = call.factors.iter().map(|f| f64s(f)).collect();
        let x = f64s(&call.x);
        let found = reference(&call, &grad, |x| x);
        // Linear in each argument: differences are exact.
        for at in (0..x.len()).step_by(7) {
            let of = |step: f64| {
                let mut x = x.clone();
                x[at] += step;
                loss(&factors, &x)
            };
            let slope = of(0.5) - of(-0.5);
            assert!((slope - found.x[at]).abs() < 1e-9, "x at {at}");
        }
        for n in 0..factors.len() {
            for at in 0..factors[n].len() {
                let of = |step: f64| {
                    let mut factors = factors.clone();
                    factors[n][at] += step;
                    loss(&factors, &x)
                };
                let slope = of(0.5) - of(-0.5);
                let grad = found.factors[n][at];
                assert!(
                    (slope - grad).abs() < 1e-9,
                    "factor {n} at {at}: {slope} {grad}"
                );
            }
        }
    }
}

#[test]
fn gradients_of_every_kind_of_call() {
    let apart = |row: usize, batch: usize| Some(Strides { row, batch });
    for side in [Side::Right, Side::Left] {
        let base = Shape {
            side,
            ..Shape::rows(5).batched(3)
        };
        let operator = operator();
        let [x, z] = match side {
            Side::Right => [operator.rows(), operator.columns()],
            Side::Left => [5, 5],
        };
        let lines = |n: usize| if side == Side::Right { 5 } else { n };
        let [x_lines, z_lines] = [lines(operator.columns()), lines(operator.rows())];
        for (name, from, to) in [
            ("plain", None, None),
            (
                "gaps",
                apart(x + 2, (x + 2) * x_lines),
                apart(z + 3, (z + 3) * z_lines + 7),
            ),
            ("one batch of x", apart(x, 0), None),
            ("one row of x", apart(0, x), None),
            ("one row of x in all", apart(0, 0), None),
        ] {
            let shape = Shape {
                x: from,
                z: to,
                ..base
            };
            let name = format!("{name}, {side:?}");
            let (call, grad) = call(&name, operator.clone(), shape);
            check(&name, &call, &grad);
        }
    }
}

#[test]
fn gradients_of_lists_of_factors() {
    let lists: [&[[usize; 2]]; 7] = [
        &[],
        &[[3, 4]],
        &[[8, 8], [8, 8], [8, 8]],
        &[[2, 3], [5, 2], [6, 4]],
        &[[33, 70], [65, 40]],
        &[[1, 4], [4, 1], [1, 1]],
        &[[2, 2]; 8],
    ];
    for (n, list) in lists.into_iter().enumerate() {
        for rows in [0, 1, 19] {
            let name = format!("list {n}, {rows} rows");
            let factors = list.iter().map(|[p, q]| Factor::dense(*p, *q));
            let (call, grad) = call(&name, Operator::new(factors), Shape::rows(rows));
            check(&name, &call, &grad);
        }
    }
}

#[test]
fn gradients_of_a_thousand_factors() {
    let (mut call, grad) = call(
        "thousand",
        Operator::new(vec![Factor::dense(1, 1); 1000]),
        Shape::rows(3),
    );
    for (n, factor) in call.factors.iter_mut().enumerate() {
        factor[0] = [0.5, -2.0, -1.0][n % 3];
    }
    // Of factor n: what the others leave, which is the loss over its entry.
    let loss = dot(&call.run(gpu().caps()), &grad);
    let found = run(&call, &grad, gpu().caps());
    for (found, factor) in found[1..].iter().zip(&call.factors) {
        let expected = loss / f64::from(factor[0]);
        assert!(
            (f64::from(found[0]) - expected).abs() <= 1e-6 * expected.abs(),
            "{found:?} {expected}"
        );
    }
}

/// What the passes read is computed again for a few rows at a time, not kept.
#[test]
fn temporaries_of_gradients_do_not_grow_with_the_number_of_factors() {
    let rows = 8192;
    for sides in [vec![64; 2], vec![16; 3], vec![8; 4], vec![2; 12]] {
        let operator = Operator::new(sides.iter().map(|n| Factor::dense(*n, *n)));
        for caps in Caps::presets() {
            let plan =
                plan_gradients(&operator, &Shape::rows(rows), &Options::default(), &caps).unwrap();
            let x = 4 * (operator.rows() * rows) as u64;
            assert!(
                plan.scratch_bytes() <= x + x / 2,
                "{sides:?} on {}: {}",
                caps.name,
                plan.scratch_bytes()
            );
        }
    }
}

#[test]
fn long_sums_are_in_parts() {
    let (call, grad) = call(
        "long",
        Operator::new([Factor::dense(3, 2), Factor::dense(4, 4)]),
        Shape::rows(9000),
    );
    check("long", &call, &grad);
    for caps in devices() {
        let small = Caps {
            binding_bytes: 100_096,
            ..caps.clone()
        };
        let [found, whole] = [&small, &caps].map(|caps| run(&call, &grad, caps));
        // x alone has the same bits; sums of sums may not.
        assert_eq!(found[0], whole[0]);
        for (a, b) in found[1].iter().zip(&whole[1]) {
            assert!((a - b).abs() <= 1e-2, "{a} {b}");
        }
    }
}

/// Σ a b.
fn dot(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter()
        .zip(b)
        .map(|(a, b)| f64::from(*a) * f64::from(*b))
        .sum()
}

/// The gradient of factor k is linear in x, in the gradient of z and in every other factor, and its slope in each of these is again
/// a product or a gradient, with what comes down for factor k in its place.
#[test]
fn second_derivatives_are_products_and_gradients_again() {
    let operator = Operator::new([
        Factor::dense(4, 6).transpose(),
        Factor::dense(5, 2),
        Factor::diagonal(3),
    ]);
    for side in [Side::Right, Side::Left] {
        let shape = Shape {
            side,
            ..Shape::rows(7)
        };
        let (call, grad) = call("second", operator.clone(), shape);
        let size = |z: &[f64]| {
            z.iter()
                .zip(&grad)
                .map(|(z, g)| z * f64::from(g.abs()))
                .sum::<f64>()
        };
        let with = |n: usize, name: &str| {
            let other = Call::new(name, operator.clone(), shape);
            let mut call = call.clone();
            call.factors[n].clone_from(&other.factors[n]);
            call
        };
        for caps in devices() {
            let first = run(&call, &grad, &caps);
            for k in 0..3 {
                // C comes down for the gradient of factor k.
                let down = with(k, "down");
                let value = dot(&first[k + 1], &down.factors[k]);
                let near = |slope: f64, what: &str| {
                    let bound = 2f64.powi(-22) * size(&down.magnitude());
                    assert!(
                        (value - slope).abs() <= bound,
                        "{side:?}, factor {k}, {what}: {value} {slope}"
                    );
                };
                near(dot(&down.run(&caps), &grad), "z");
                let second = run(&down, &grad, &caps);
                near(dot(&second[0], &call.x), "x");
                for j in (0..3).filter(|j| *j != k) {
                    near(dot(&second[j + 1], &call.factors[j]), "another factor");
                    // Mixed slopes do not depend on which comes first.
                    let mut one = with(j, "other");
                    let other = one.factors[j].clone();
                    let there = dot(&run(&one, &grad, &caps)[k + 1], &down.factors[k]);
                    let back = dot(&second[j + 1], &other);
                    one.factors[k].clone_from(&down.factors[k]);
                    let bound = 2f64.powi(-22) * size(&one.magnitude());
                    assert!(
                        (there - back).abs() <= bound,
                        "{side:?}, factors {k} and {j}: {there} {back}"
                    );
                }
            }
        }
    }
}

#[test]
fn nan_reaches_the_gradients_that_depend_on_it() {
    let operator = Operator::new([Factor::dense(4, 3), Factor::dense(5, 6).per_batch()]);
    let (call, grad) = call("nan", operator, Shape::rows(4).batched(2));
    let mut poisoned = grad.clone();
    // Row 1 of batch 1, an item of column 2 of the second factor and of column 1 of the first.
    poisoned[(4 + 1) * 18 + 6 + 2] = f32::NAN;
    for caps in devices() {
        let [clean, found] = [&grad, &poisoned].map(|grad| run(&call, grad, &caps));
        let depends: [&dyn Fn(usize) -> bool; 3] = [&|at| at / 20 == 5, &|at| at % 3 == 1, &|at| {
            at / 30 == 1 && at % 6 == 2
        }];
        for (n, ((found, clean), depends)) in found.iter().zip(&clean).zip(depends).enumerate() {
            for (at, (found, clean)) in found.iter().zip(clean).enumerate() {
                let as_said = if depends(at) {
                    found.is_nan()
                } else {
                    found == clean
                };
                assert!(as_said, "gradient {n} at {at}: {found} {clean}");
            }
        }
    }
}

#[test]
fn wrong_gradients_are_named() {
    let operator = Operator::new([Factor::dense(3, 4)]);
    let shape = Shape::rows(2);
    let [f, x, z] = [12, 6, 8].map(|len| gpu().zeros::<f32>(len).unwrap());
    let of = |x_len: usize, f_len: usize, grad_z: &subquad::Tensor<f32>| {
        let mut grad_x = gpu().zeros::<f32>(x_len).unwrap();
        let mut grad_f = gpu().zeros::<f32>(f_len).unwrap();
        let options = Options::default();
        gradients(
            gpu(),
            &operator,
            &shape,
            &options,
            &[&f],
            &x,
            grad_z,
            &mut grad_x,
            &mut [&mut grad_f],
        )
        .map_err(|error| error.to_string())
    };
    of(6, 12, &z).unwrap();
    let named = |found: Result<(), String>, sentence: &str| {
        assert_eq!(found.unwrap_err(), sentence);
    };
    named(
        of(5, 12, &z),
        "kron_matmul: grad_x must be 6 elements for this shape, got 5",
    );
    named(
        of(6, 11, &z),
        "kron_matmul: grad_factors[0] must be 12 elements for this shape, got 11",
    );
    named(
        of(6, 12, &x),
        "kron_matmul: grad_z must be 8 elements for this shape, got 6",
    );
}
