//! Sketches and random projections: definitions, adjoints, means over seeds.

use subquad::{
    Error,
    case::Numbers,
    gpu::Caps,
    kronecker::{
        cpu::sketch as cpu,
        fastfood::{self, Fastfood, Form, Scale},
        least_squares, srht,
        srht::Shape,
        srht_adjoint,
        tensor_srht::{self, Columns},
    },
    random::Random,
};

use crate::{cases::hold, device::gpu, devices::devices};

#[test]
fn the_adapter_gives_what_the_reference_gives() {
    hold("srht");
    hold("tensor_srht");
    hold("fastfood");
}

fn numbers(name: &str, len: usize) -> Vec<f32> {
    let mut numbers = Numbers::of(name);
    (0..len).map(|_| numbers.signed() as f32).collect()
}

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|x| f64::from(*x)).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Whether the mean of some draws is within five standard errors.
fn near(draws: &[f64], expected: f64) {
    let n = draws.len() as f64;
    let mean = draws.iter().sum::<f64>() / n;
    let variance = draws.iter().map(|draw| (draw - mean).powi(2)).sum::<f64>() / (n - 1.0);
    let error = (mean - expected).abs();
    let bound = 5.0 * (variance / n).sqrt() + 1e-12 * expected.abs();
    assert!(error <= bound, "mean {mean} of {expected}, bound {bound}");
}

#[test]
fn sketches_keep_inner_products_on_average() {
    let [x, y] = ["x", "y"].map(|name| wide(&numbers(name, 20)));
    let shape = Shape {
        rows: 20,
        columns: 2,
        samples: 4,
    };
    let both: Vec<f64> = x.iter().zip(&y).flat_map(|(x, y)| [*x, *y]).collect();
    let [mut squares, mut products] = [Vec::new(), Vec::new()];
    for seed in 0..4000 {
        let sketch = cpu::srht(&shape, &Random::new(seed), &both).unwrap();
        squares.push(sketch.iter().step_by(2).map(|x| x * x).sum());
        products.push(sketch.chunks_exact(2).map(|xy| xy[0] * xy[1]).sum());
    }
    near(&squares, dot(&x, &x));
    near(&products, dot(&x, &y));
}

#[test]
fn sketches_of_products_keep_inner_products_on_average() {
    let x = ["a", "b", "c"].map(|name| wide(&numbers(name, 6)));
    let y = ["d", "e", "f"].map(|name| wide(&numbers(name, 6)));
    let factors: Vec<Vec<f64>> = x
        .iter()
        .zip(&y)
        .map(|(x, y)| x.iter().zip(y).flat_map(|(x, y)| [*x, *y]).collect())
        .collect();
    let shape = tensor_srht::Shape {
        factors: vec![[6, 2]; 3],
        samples: 5,
        columns: Columns::KhatriRao,
    };
    let [mut squares, mut products] = [Vec::new(), Vec::new()];
    for seed in 0..4000 {
        let sketch = cpu::tensor_srht(&shape, &Random::new(seed), &factors).unwrap();
        squares.push(sketch.iter().step_by(2).map(|x| x * x).sum());
        products.push(sketch.chunks_exact(2).map(|xy| xy[0] * xy[1]).sum());
    }
    let each = |of: &dyn Fn(usize) -> f64| (0..3).map(of).product::<f64>();
    near(&squares, each(&|t| dot(&x[t], &x[t])));
    near(&products, each(&|t| dot(&x[t], &y[t])));
}

#[test]
fn a_sketch_of_a_kronecker_product_is_that_of_the_product_formed() {
    let random = Random::new(12);
    let factors = [wide(&numbers("a", 15)), wide(&numbers("b", 8))];
    let shape = tensor_srht::Shape {
        factors: vec![[5, 3], [4, 2]],
        samples: 9,
        columns: Columns::Kronecker,
    };
    let sketch = cpu::tensor_srht(&shape, &random, &factors).unwrap();
    // Each vector of the product by itself.
    for (c, (c0, c1)) in [(0, (0, 0)), (3, (1, 1)), (4, (2, 0))] {
        let column = |factor: &[f64], d: usize, c: usize| -> Vec<f64> {
            factor.iter().skip(c).step_by(d).copied().collect()
        };
        let vectors = [column(&factors[0], 3, c0), column(&factors[1], 2, c1)];
        let single = tensor_srht::Shape {
            factors: vec![[5, 1], [4, 1]],
            ..shape.clone()
        };
        let expected = cpu::tensor_srht(&single, &random, &vectors).unwrap();
        for (r, expected) in expected.iter().enumerate() {
            assert!((sketch[r * 6 + c] - expected).abs() < 1e-12);
        }
    }
}

#[test]
fn transposes_are_adjoint() {
    let random = Random::new(5);
    let shape = Shape {
        rows: 700,
        columns: 3,
        samples: 90,
    };
    let (a, y) = (numbers("a", 2100), numbers("y", 270));
    let (given_a, given_y) = (gpu().upload(&a).unwrap(), gpu().upload(&y).unwrap());
    let mut sketch = gpu().zeros::<f32>(270).unwrap();
    let mut back = gpu().zeros::<f32>(2100).unwrap();
    srht(gpu(), &shape, &random, &given_a, &mut sketch).unwrap();
    srht_adjoint(gpu(), &shape, &random, &given_y, &mut back).unwrap();
    let left = dot(&wide(&sketch.download().unwrap()), &wide(&y));
    let right = dot(&wide(&a), &wide(&back.download().unwrap()));
    assert!((left - right).abs() <= 1e-5 * left.abs().max(1.0));
}

/// V of a projection, row-major, and its transpose as the adjoint gives it.
fn matrices(shape: &fastfood::Shape, random: &Random) -> [Vec<f64>; 2] {
    let fastfood = Fastfood::new(gpu(), shape, random).unwrap();
    let identity = |n: usize| -> Vec<f32> {
        (0..n * n)
            .map(|at| f32::from(u8::from(at / n == at % n)))
            .collect()
    };
    let (input, output) = (shape.input, shape.output);
    let given = gpu().upload(&identity(input)).unwrap();
    let mut columns = gpu().zeros::<f32>(input * output).unwrap();
    fastfood
        .project(gpu(), input, &given, &mut columns)
        .unwrap();
    let given = gpu().upload(&identity(output)).unwrap();
    let mut rows = gpu().zeros::<f32>(input * output).unwrap();
    fastfood.adjoint(gpu(), output, &given, &mut rows).unwrap();
    let columns = wide(&columns.download().unwrap());
    let turned = (0..output).flat_map(|t| columns.iter().skip(t).step_by(output));
    [turned.copied().collect(), wide(&rows.download().unwrap())]
}

#[test]
fn rows_and_columns_of_a_projection_have_their_lengths() {
    for form in [Form::Blocks, Form::Single] {
        for scale in [Scale::Rows, Scale::Columns] {
            let shape = fastfood::Shape {
                input: 16,
                output: 64,
                form,
                scale,
            };
            let [v, adjoint] = matrices(&shape, &Random::new(2));
            for (v, adjoint) in v.iter().zip(&adjoint) {
                assert!((v - adjoint).abs() < 1e-6, "{v} {adjoint}");
            }
            let row = |row: &[f64]| dot(row, row).sqrt();
            let column = |c: usize| {
                v.iter()
                    .skip(c)
                    .step_by(16)
                    .map(|x| x * x)
                    .sum::<f64>()
                    .sqrt()
            };
            match (form, scale) {
                // A block's columns have length 1, and there are four.
                (Form::Blocks, Scale::Rows) => {
                    assert!(v.chunks_exact(16).all(|v| (row(v) - 1.0).abs() < 1e-6));
                    assert!((0..16).all(|c| (column(c) - 2.0).abs() < 1e-6));
                }
                _ => {
                    assert!((0..16).all(|c| (column(c) - 1.0).abs() < 1e-6));
                }
            }
        }
    }
}

#[test]
fn features_approximate_the_gaussian_kernel() {
    let (width, output, sigma) = (20, 4096, 1.5);
    let shape = fastfood::Shape {
        input: width,
        output,
        form: Form::Blocks,
        scale: Scale::Gaussian,
    };
    let fastfood = Fastfood::new(gpu(), &shape, &Random::new(40)).unwrap();
    let x = numbers("points", 2 * width);
    let given = gpu().upload(&x).unwrap();
    let mut y = gpu().zeros::<f32>(2 * output).unwrap();
    fastfood.project(gpu(), 2, &given, &mut y).unwrap();
    let y = wide(&y.download().unwrap());
    // cos cos + sin sin is the cosine of the difference.
    let cosines = (0..output).map(|t| ((y[t] - y[output + t]) / sigma).cos());
    let kernel = cosines.sum::<f64>() / output as f64;
    let x = wide(&x);
    let distance: f64 = (0..width).map(|i| (x[i] - x[width + i]).powi(2)).sum();
    let expected = (-distance / (2.0 * sigma * sigma)).exp();
    // Cosines have a deviation of at most 1/√2.
    let bound = 5.0 * (0.5 / output as f64).sqrt();
    assert!((kernel - expected).abs() < bound, "{kernel} {expected}");
}

#[test]
fn sketches_do_not_depend_on_how_they_are_cut() {
    let shape = tensor_srht::Shape {
        factors: vec![[60, 3], [33, 5], [7, 2]],
        samples: 400,
        columns: Columns::Kronecker,
    };
    let factors: Vec<_> = [180, 165, 14]
        .map(|len| gpu().upload(&numbers("cut", len)).unwrap())
        .into();
    for caps in devices() {
        let small = Caps {
            binding_bytes: 4096,
            gflops: 1e-2,
            ..caps.clone()
        };
        let mut found = Vec::new();
        for caps in [&caps, &small] {
            let plan = tensor_srht::plan(&shape, &Random::new(3), caps).unwrap();
            let mut out = gpu().zeros::<f32>(shape.output_len()).unwrap();
            let mut pass = gpu().pass("cut");
            let views: Vec<_> = factors.iter().map(|factor| factor.view()).collect();
            pass.run(&plan, &views, &mut [out.view_mut()]).unwrap();
            pass.submit().unwrap();
            found.push((plan.steps.len(), out.download().unwrap()));
        }
        assert!(found[1].0 > 2 * found[0].0);
        assert_eq!(found[0].1, found[1].1);
    }
}

#[test]
fn wrong_arguments_are_refused_in_a_sentence() {
    let caps = Caps::webgpu_floor();
    let random = Random::new(1);
    let says = |error: Error, sentence: &str| assert_eq!(error.to_string(), sentence);
    let shape = Shape {
        rows: 0,
        columns: 1,
        samples: 1,
    };
    says(
        srht::plan(&shape, &random, &caps).unwrap_err(),
        "srht: rows of factor 0 must be from 1 to 2^24, got 0",
    );
    let shape = Shape {
        rows: 9,
        samples: 0,
        ..shape
    };
    says(
        srht::plan_adjoint(&shape, &random, &caps).unwrap_err(),
        "srht: samples must be from 1 to 2^24, got 0",
    );
    let shape = |factors: &[[usize; 2]], columns| tensor_srht::Shape {
        factors: factors.to_vec(),
        samples: 3,
        columns,
    };
    let refused =
        |shape: &tensor_srht::Shape| tensor_srht::plan(shape, &random, &caps).unwrap_err();
    says(
        refused(&shape(&[], Columns::Kronecker)),
        "tensor_srht: factors must be 1 to 64 of them, got 0",
    );
    says(
        refused(&shape(&[[4, 2], [4, 3]], Columns::KhatriRao)),
        "tensor_srht: columns of factor 1 must be 2 as those of factor 0, got 3",
    );
    says(
        refused(&shape(&[[4, 1 << 12]; 4], Columns::Kronecker)),
        "tensor_srht: factors must be such that the sketch has at most 2^32 - 1 elements, got 281474976710656 columns",
    );
    let shape = fastfood::Shape {
        input: 3,
        output: 0,
        form: Form::Blocks,
        scale: Scale::Rows,
    };
    says(
        fastfood::plan(&shape, &random, 1, &caps).unwrap_err(),
        "fastfood: output must be from 1 to 2^24, got 0",
    );
    let shape = fastfood::Shape { output: 5, ..shape };
    let fastfood = Fastfood::new(gpu(), &shape, &random).unwrap();
    let x = gpu().zeros::<f32>(5).unwrap();
    let mut y = gpu().zeros::<f32>(10).unwrap();
    says(
        fastfood.project(gpu(), 2, &x, &mut y).unwrap_err(),
        "fastfood: x must be 6 elements for this shape, got 5",
    );
}

#[test]
fn sketched_regressions_come_near_the_least_residual() {
    let shape = Shape {
        rows: 1500,
        columns: 6,
        samples: 200,
    };
    let a = numbers("a", 9000);
    let truth = [1.0, -2.0, 0.5, 0.0, 3.0, -1.0];
    let noise = numbers("noise", 1500);
    let rows = a.chunks_exact(6).zip(&noise);
    let b: Vec<f32> = rows
        .map(|(row, n)| {
            row.iter()
                .zip(truth)
                .map(|(a, x)| a * x as f32)
                .sum::<f32>()
                + 0.1 * n
        })
        .collect();
    let found = least_squares(gpu(), &shape, &Random::new(8), &a, &b).unwrap();
    // The coefficients behind b leave the noise.
    let least = 0.1 * wide(&noise).iter().map(|n| n * n).sum::<f64>().sqrt();
    assert!(
        found.residual > 0.99 * least && found.residual < 1.1 * least,
        "{found:?}"
    );
    assert!(found.sketched < found.residual * 1.1);
    for (x, expected) in found.x.iter().zip(truth) {
        assert!((x - expected).abs() < 0.1, "{found:?}");
    }
    // Without noise the sketch finds them.
    let exact: Vec<f32> = a.chunks_exact(6).map(|row| row[1] - 4.0 * row[5]).collect();
    let found = least_squares(gpu(), &shape, &Random::new(9), &a, &exact).unwrap();
    assert!(found.residual < 1e-4 * wide(&exact).iter().map(|b| b * b).sum::<f64>().sqrt());
    let few = Shape {
        samples: 5,
        ..shape
    };
    let refused = least_squares(gpu(), &few, &Random::new(1), &a, &b).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "srht: samples must be at least the 6 columns, got 5"
    );
}
