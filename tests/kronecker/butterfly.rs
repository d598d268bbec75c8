//! The butterfly and the Hadamard transform: the reference against dense products, the adapter against the reference.

use subquad::{
    Error,
    case::Numbers,
    gpu::Caps,
    kronecker::{
        self, Algebra, Factor, Factors, Operator, Shape, cpu,
        matmul::{self, Options},
    },
};

use crate::{
    cases::{hold, hold_files},
    device::gpu,
    devices::devices,
    effort::{by_turns, sample},
};

#[test]
fn the_adapter_gives_what_the_reference_gives() {
    hold("hadamard");
    hold("butterfly");
}

#[test]
fn case_files_hold_on_every_plan() {
    hold_files("hadamard", 2);
}

/// One output of the dense product.
fn dense(factors: &[f64], bits: usize, from: usize, to: usize) -> f64 {
    (0..bits)
        .map(|n| factors[4 * n + 2 * (from >> n & 1) + (to >> n & 1)])
        .product()
}

#[test]
fn the_reference_is_the_dense_product() {
    let mut numbers = Numbers::of("dense");
    for (bits, inner) in [(0, 3), (1, 1), (3, 2), (6, 3)] {
        let shape = Shape {
            outer: 2,
            bits,
            inner,
        };
        let factors: Vec<f64> = (0..shape.factors_len(Factors::PerOuter))
            .map(|_| numbers.signed())
            .collect();
        let x: Vec<f64> = (0..shape.items()).map(|_| numbers.signed()).collect();
        let y = cpu::butterfly(&shape, Factors::PerOuter, &factors, &x, cpu::real).unwrap();
        for (at, y) in y.iter().enumerate() {
            let (l, i, r) = ((at / inner) >> bits, at / inner % (1 << bits), at % inner);
            let own = &factors[4 * bits * l..];
            let expected: f64 = (0..1 << bits)
                .map(|j| x[((l << bits) + j) * inner + r] * dense(own, bits, j, i))
                .sum();
            assert!(
                (y - expected).abs() < 1e-12,
                "{bits} bits at {at}: {y} {expected}"
            );
        }
    }
}

#[test]
fn hadamard_is_its_own_inverse_and_keeps_whole_numbers_exact() {
    for (rows, width) in [(3, 2), (5, 64), (2, 1 << 13)] {
        let x: Vec<f32> = (0..rows * width)
            .map(|n| (n * 37 % 101) as f32 - 50.0)
            .collect();
        let signs: Vec<f64> = x.iter().map(|x| f64::from(*x)).collect();
        let given = gpu().upload(&x).unwrap();
        let mut y = gpu().zeros::<f32>(x.len()).unwrap();
        let mut back = gpu().zeros::<f32>(x.len()).unwrap();
        kronecker::hadamard(gpu(), rows, width, &given, &mut y).unwrap();
        kronecker::hadamard(gpu(), rows, width, &y, &mut back).unwrap();
        for (x, back) in x.iter().zip(back.download().unwrap()) {
            assert!((x - back).abs() <= 1e-4, "{width}: {x} {back}");
        }
        // Even powers are scaled by a power of two: every sum is exact.
        if width.trailing_zeros() % 2 == 0 {
            let expected = cpu::hadamard(rows, width, &signs).unwrap();
            for (y, expected) in y.download().unwrap().into_iter().zip(expected) {
                assert_eq!(f64::from(y), expected);
            }
        }
    }
}

/// Twice the unit of f32 and the root of the number of stages, of the same sums of absolute values.
fn near(got: &[f32], values: &[f64], sizes: &[f64], bits: usize) {
    assert_eq!(got.len(), values.len());
    let bound = 2f64.powi(-23) * (bits as f64).sqrt();
    for (at, ((got, value), size)) in got.iter().zip(values).zip(sizes).enumerate() {
        let error = (f64::from(*got) - value).abs();
        assert!(
            error <= bound * size,
            "{bits} bits, element {at}: {got} for {value}"
        );
    }
}

#[test]
fn every_element_is_within_its_own_bound() {
    let mut numbers = Numbers::of("bounds");
    let mut values =
        |len: usize| -> Vec<f32> { (0..len).map(|_| numbers.signed() as f32).collect() };
    let wide = |x: &[f32]| x.iter().map(|x| f64::from(*x)).collect::<Vec<f64>>();
    let sizes = |x: &[f32]| x.iter().map(|x| f64::from(x.abs())).collect::<Vec<f64>>();
    for (n, bits) in sample([1, 4, 7, 12, 15].into_iter().enumerate()) {
        let (rows, width) = (2, 1 << bits);
        let x = values(rows * width);
        for caps in by_turns(devices(), n) {
            let plan = kronecker::hadamard_plan(rows, width, &caps).unwrap();
            let (given, mut y) = (
                gpu().upload(&x).unwrap(),
                gpu().zeros::<f32>(x.len()).unwrap(),
            );
            let mut pass = gpu().pass("bounds");
            pass.run(&plan, &[given.view()], &mut [y.view_mut()])
                .unwrap();
            pass.submit().unwrap();
            let expected = cpu::hadamard(rows, width, &wide(&x)).unwrap();
            let shape = Shape {
                outer: rows,
                bits,
                inner: 1,
            };
            let ones = vec![(-0.5f64).exp2(); 4 * bits];
            let all =
                cpu::butterfly(&shape, Factors::Shared, &ones, &sizes(&x), cpu::real).unwrap();
            near(&y.download().unwrap(), &expected, &all, bits);
        }
    }
    let shapes = [[3, 2, 5], [2, 9, 3], [1, 13, 2]];
    for (n, [outer, bits, inner]) in shapes.into_iter().enumerate() {
        let shape = Shape { outer, bits, inner };
        let factors = values(shape.factors_len(Factors::PerOuter));
        let x = values(shape.items());
        let of = |factors: &[f64], x: &[f64]| {
            cpu::butterfly(&shape, Factors::PerOuter, factors, x, cpu::real).unwrap()
        };
        let (expected, all) = (
            of(&wide(&factors), &wide(&x)),
            of(&sizes(&factors), &sizes(&x)),
        );
        for caps in by_turns(devices(), n) {
            let plan = kronecker::butterfly::plan(&shape, Algebra::Real, Factors::PerOuter, &caps)
                .unwrap();
            let (factors, mut y) = (gpu().upload(&factors).unwrap(), gpu().upload(&x).unwrap());
            let mut pass = gpu().pass("bounds");
            pass.run(&plan, &[factors.view()], &mut [y.view_mut()])
                .unwrap();
            pass.submit().unwrap();
            near(&y.download().unwrap(), &expected, &all, bits);
        }
    }
}

/// H by its definition, by a butterfly of floats, by one of whole numbers and by general factors: bit for bit, and H H = 2^k.
#[test]
fn sums_and_differences_of_whole_numbers_are_exact_whoever_takes_them() {
    let (rows, bits) = (3, 6);
    let width = 1 << bits;
    let mut numbers = Numbers::of("whole");
    let x: Vec<i32> = (0..rows * width)
        .map(|_| numbers.below(2001) as i32 - 1000)
        .collect();
    let expected: Vec<i32> = (0..rows * width)
        .map(|at| {
            let (row, j) = (&x[at / width * width..][..width], at % width);
            let signed = row
                .iter()
                .enumerate()
                .map(|(i, x)| match (i & j).count_ones() % 2 {
                    0 => *x,
                    _ => -x,
                });
            signed.sum()
        })
        .collect();
    let floats: Vec<f32> = x.iter().map(|x| *x as f32).collect();
    let wanted: Vec<f32> = expected.iter().map(|y| *y as f32).collect();
    let shape = Shape {
        outer: rows,
        bits,
        inner: 1,
    };
    let signs = [1.0f32, 1.0, 1.0, -1.0];

    let factors = gpu().upload(&signs.repeat(bits)).unwrap();
    let mut y = gpu().upload(&floats).unwrap();
    kronecker::butterfly(
        gpu(),
        &shape,
        Algebra::Real,
        Factors::Shared,
        &factors,
        &mut y,
    )
    .unwrap();
    assert_eq!(y.download().unwrap(), wanted);

    let factors = gpu().upload(&[1, 1, 1, -1].repeat(bits)).unwrap();
    let mut y = gpu().upload(&x).unwrap();
    let back: Vec<i32> = x.iter().map(|x| x << bits).collect();
    for wanted in [expected, back] {
        kronecker::butterfly(
            gpu(),
            &shape,
            Algebra::Integer,
            Factors::Shared,
            &factors,
            &mut y,
        )
        .unwrap();
        assert_eq!(y.download().unwrap(), wanted);
    }

    let given = gpu().upload(&floats).unwrap();
    let operator = Operator::new(vec![Factor::dense(2, 2); bits]);
    let factor = gpu().upload(&signs).unwrap();
    let mut y = gpu().zeros::<f32>(x.len()).unwrap();
    kronecker::matmul(
        gpu(),
        &operator,
        &matmul::Shape::rows(rows),
        &Options::default(),
        &vec![&factor; bits],
        &given,
        &mut y,
    )
    .unwrap();
    assert_eq!(y.download().unwrap(), wanted);

    // Divided by 2^(k/2), which loses nothing of an even power, and its own inverse to the bit.
    let mut back = gpu().zeros::<f32>(x.len()).unwrap();
    kronecker::hadamard(gpu(), rows, width, &given, &mut y).unwrap();
    let scaled: Vec<f32> = wanted.iter().map(|y| y / 8.0).collect();
    assert_eq!(y.download().unwrap(), scaled);
    kronecker::hadamard(gpu(), rows, width, &y, &mut back).unwrap();
    assert_eq!(back.download().unwrap(), floats);
}

#[test]
fn least_distances_find_the_nearest_code() {
    let (bits, keys) = (10, 37);
    let mut numbers = Numbers::of("nearest");
    let codes: Vec<usize> = (0..keys).map(|_| numbers.below(1 << bits)).collect();
    // Every key lies at its own code; of equal codes the first counts.
    let mut items = vec![u32::MAX; 2 << bits];
    for (index, code) in codes.iter().enumerate().rev() {
        items[2 * code..2 * code + 2].copy_from_slice(&[0, index as u32]);
    }
    let shape = Shape {
        outer: 1,
        bits,
        inner: 1,
    };
    let factors = gpu().upload(&[0u32, 1, 1, 0].repeat(bits)).unwrap();
    let mut x = gpu().upload(&items).unwrap();
    kronecker::butterfly(
        gpu(),
        &shape,
        Algebra::Nearest,
        Factors::Shared,
        &factors,
        &mut x,
    )
    .unwrap();
    for (code, found) in x.download().unwrap().chunks_exact(2).enumerate() {
        let distances = codes.iter().map(|key| (key ^ code).count_ones());
        let nearest = distances.zip(0u32..).min().unwrap();
        assert_eq!((found[0], found[1]), nearest, "code {code}");
    }
}

#[test]
fn transposes_are_adjoint() {
    let shape = Shape {
        outer: 2,
        bits: 9,
        inner: 3,
    };
    let mut numbers = Numbers::of("adjoint");
    let mut values =
        |len: usize| -> Vec<f32> { (0..len).map(|_| numbers.signed() as f32).collect() };
    let factors = values(shape.factors_len(Factors::PerOuter));
    let transposed: Vec<f32> = factors
        .chunks_exact(4)
        .flat_map(|f| [f[0], f[2], f[1], f[3]])
        .collect();
    let (x, y) = (values(shape.items()), values(shape.items()));
    let through = |factors: &[f32], x: &[f32]| {
        let factors = gpu().upload(factors).unwrap();
        let mut x = gpu().upload(x).unwrap();
        kronecker::butterfly(
            gpu(),
            &shape,
            Algebra::Real,
            Factors::PerOuter,
            &factors,
            &mut x,
        )
        .unwrap();
        x.download().unwrap()
    };
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter()
            .zip(b)
            .map(|(a, b)| f64::from(*a) * f64::from(*b))
            .sum()
    };
    let (left, right) = (
        dot(&through(&factors, &x), &y),
        dot(&x, &through(&transposed, &y)),
    );
    assert!(
        (left - right).abs() <= 1e-5 * left.abs().max(1.0),
        "{left} {right}"
    );
}

#[test]
fn bindings_and_dispatches_may_be_small() {
    let shape = Shape {
        outer: 7,
        bits: 8,
        inner: 3,
    };
    let mut numbers = Numbers::of("small");
    let factors: Vec<f32> = (0..shape.factors_len(Factors::PerOuter))
        .map(|_| numbers.signed() as f32)
        .collect();
    let items: Vec<f32> = (0..shape.items())
        .map(|_| numbers.signed() as f32)
        .collect();
    for caps in devices() {
        let slab = 4 * (3 << 8);
        let small = Caps {
            binding_bytes: 2 * slab + 256,
            gflops: 1e-5,
            ..caps.clone()
        };
        let mut found = Vec::new();
        for caps in [&caps, &small] {
            let plan =
                kronecker::butterfly::plan(&shape, Algebra::Real, Factors::PerOuter, caps).unwrap();
            let factors = gpu().upload(&factors).unwrap();
            let mut x = gpu().upload(&items).unwrap();
            let mut pass = gpu().pass("small");
            pass.run(&plan, &[factors.view()], &mut [x.view_mut()])
                .unwrap();
            pass.submit().unwrap();
            found.push((plan.steps.len(), x.download().unwrap()));
        }
        assert!(found[1].0 > 3 * found[0].0);
        assert_eq!(found[0].1, found[1].1);
    }
    let small = Caps {
        binding_bytes: 256,
        ..Caps::webgpu_floor()
    };
    let refused = kronecker::butterfly::plan(&shape, Algebra::Real, Factors::Shared, &small);
    assert!(matches!(refused, Err(Error::Limit { .. })));
}

#[test]
fn wrong_arguments_are_named() {
    let named = |result: subquad::Result<()>, name: &str| match result {
        Err(Error::Argument { what, .. }) => assert_eq!(what, name),
        other => panic!("{name}: {other:?}"),
    };
    let caps = Caps::webgpu_floor();
    let plan = |rows, width| kronecker::hadamard_plan(rows, width, &caps).map(drop);
    named(plan(1, 3), "width");
    named(plan(1, 1), "width");
    named(plan(1, 0), "width");
    named(plan(1, 1 << 25), "width");
    let x = gpu().zeros::<f32>(16).unwrap();
    let mut y = gpu().zeros::<f32>(15).unwrap();
    named(kronecker::hadamard(gpu(), 2, 8, &x, &mut y), "y");
    let shape = Shape {
        outer: 1,
        bits: 25,
        inner: 1,
    };
    named(
        kronecker::butterfly::plan(&shape, Algebra::Real, Factors::Shared, &caps).map(drop),
        "bits",
    );
    let shape = Shape {
        outer: 1,
        bits: 4,
        inner: 1,
    };
    let factors = gpu().zeros::<f32>(16).unwrap();
    let mut x = gpu().zeros::<f32>(15).unwrap();
    let result = kronecker::butterfly(
        gpu(),
        &shape,
        Algebra::Real,
        Factors::Shared,
        &factors,
        &mut x,
    );
    named(result, "x");
    let result = kronecker::butterfly(
        gpu(),
        &shape,
        Algebra::Integer,
        Factors::Shared,
        &factors,
        &mut x,
    );
    named(result, "x");
}
