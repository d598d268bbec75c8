//! Distances against the scalar oracle, and what holds of any distance.

use subquad::{
    gpu::Caps,
    hamming::{
        cpu,
        distance::{Count, Pairs, Store, Triangle, distances, plan, plan_symmetric, symmetric},
        gram::{self, Function},
        words,
    },
    plan::Plan,
};

use crate::{device::gpu, random_words};

fn found(shape: Pairs, count: Count, a: &[u32], b: &[u32]) -> Vec<u32> {
    let (a, b) = (gpu().upload(a).unwrap(), gpu().upload(b).unwrap());
    let mut out = gpu().upload(&vec![7; shape.rows * shape.columns]).unwrap();
    distances(gpu(), &shape, count, Store::U32, &a, &b, &mut out).unwrap();
    out.download().unwrap()
}

/// Runs a plan on codes of which the device sees as many words as the plan needs.
fn run(plan: &Plan, inputs: &[&[u32]], out_len: usize) -> Vec<u32> {
    let inputs: Vec<_> = inputs
        .iter()
        .map(|codes| gpu().upload(codes).unwrap())
        .collect();
    let views: Vec<_> = inputs.iter().map(|tensor| tensor.view()).collect();
    let mut out = gpu().upload(&vec![7u32; out_len]).unwrap();
    let mut pass = gpu().pass("test");
    pass.run(plan, &views, &mut [out.view_mut()]).unwrap();
    pass.submit().unwrap();
    out.download().unwrap()
}

fn pairs(rows: usize, columns: usize, bits: usize) -> Pairs {
    Pairs {
        rows,
        columns,
        bits,
    }
}

#[test]
fn distances_are_exact_whatever_the_pads() {
    for bits in [1, 31, 32, 33, 64, 65, 127, 128, 255, 300, 1000] {
        let a = random_words("a", 37 * words(bits));
        let b = random_words("b", 66 * words(bits));
        let expected = cpu::distance::distances(&a, &b, bits, Count::Bits);
        assert_eq!(
            found(pairs(37, 66, bits), Count::Bits, &a, &b),
            expected,
            "{bits}"
        );
        // What the pads hold does not show.
        let flip = |codes: &[u32]| -> Vec<u32> {
            let last = words(bits) - 1;
            let pad = !(u32::MAX >> (32 * words(bits) - bits));
            let word = |(n, word): (usize, &u32)| {
                if n % words(bits) == last {
                    word ^ pad
                } else {
                    *word
                }
            };
            codes.iter().enumerate().map(word).collect()
        };
        assert_eq!(
            found(pairs(37, 66, bits), Count::Bits, &flip(&a), &b),
            expected,
            "{bits}"
        );
    }
}

#[test]
fn distance_is_a_metric_that_a_common_mask_leaves_alone() {
    let bits = 70;
    let a = random_words("metric", 20 * 3);
    let d = found(pairs(20, 20, bits), Count::Bits, &a, &a);
    let at = |i: usize, j: usize| d[20 * i + j];
    for i in 0..20 {
        assert_eq!(at(i, i), 0);
        for j in 0..20 {
            assert_eq!(at(i, j), at(j, i));
            for k in 0..20 {
                assert!(at(i, k) <= at(i, j) + at(j, k));
            }
        }
    }
    let opposite: Vec<u32> = a.iter().map(|word| !word).collect();
    let far = found(pairs(20, 20, bits), Count::Bits, &a, &opposite);
    assert!((0..20).all(|i| far[21 * i] == 70));
    let mask = random_words("mask", 3);
    let masked: Vec<u32> = a
        .iter()
        .zip(mask.iter().cycle())
        .map(|(a, m)| a ^ m)
        .collect();
    assert_eq!(found(pairs(20, 20, bits), Count::Bits, &masked, &masked), d);
    // Bits in another order: words turned, for a width without pad.
    let whole = found(pairs(20, 20, 96), Count::Bits, &a, &a);
    let turned: Vec<u32> = a
        .chunks(3)
        .flat_map(|c| [c[2].rotate_left(5), c[0].reverse_bits(), c[1]])
        .collect();
    assert_eq!(
        found(pairs(20, 20, 96), Count::Bits, &turned, &turned),
        whole
    );
    // |a| + |b| - 2 |a and b|.
    let common = found(pairs(20, 20, bits), Count::Common, &a, &a);
    let ones = cpu::pack::popcounts(&a, bits);
    assert!((0..400).all(|n| d[n] + 2 * common[n] == ones[n / 20] + ones[n % 20]));
}

#[test]
fn symbols_of_every_width_differ_as_wholes() {
    for width in [2, 4, 8, 16, 32] {
        let mut a = random_words("symbols a", 9 * 2);
        let b = random_words("symbols b", 70 * 2);
        a[3] = b[3];
        let count = Count::Symbols(width);
        let expected = cpu::distance::distances(&a, &b, 64, count);
        assert_eq!(found(pairs(9, 70, 64), count, &a, &b), expected, "{width}");
    }
}

#[test]
fn a_set_with_itself_is_the_full_matrix() {
    for n in [0, 1, 2, 63, 64, 65, 130] {
        let a = random_words("symmetric", 2 * n);
        let full = cpu::distance::distances(&a, &a, 40, Count::Bits);
        for triangle in [Triangle::Full, Triangle::Condensed] {
            let codes = gpu().upload(&a).unwrap();
            let mut out = gpu().upload(&vec![7; triangle.words(n)]).unwrap();
            symmetric(gpu(), [n, 40], Count::Bits, triangle, &codes, &mut out).unwrap();
            let expected: Vec<u32> = match triangle {
                Triangle::Full => full.clone(),
                Triangle::Condensed => (0..n)
                    .flat_map(|i| (i + 1..n).map(move |j| (i, j)))
                    .map(|(i, j)| full[n * i + j])
                    .collect(),
            };
            assert_eq!(out.download().unwrap(), expected, "{n} {triangle:?}");
        }
    }
}

#[test]
fn small_bindings_change_nothing() {
    let caps = Caps {
        binding_bytes: 4096,
        ..Caps::lavapipe()
    };
    let (a, b) = (
        random_words("cut a", 150 * 3),
        random_words("cut b", 333 * 3),
    );
    let expected = cpu::distance::distances(&a, &b, 96, Count::Bits);
    let cut = plan(&pairs(150, 333, 96), Count::Bits, Store::U32, &caps).unwrap();
    assert!(cut.steps.len() > 10);
    assert_eq!(run(&cut, &[&a, &b], 150 * 333), expected);
    let wide = random_words("cut wide", 2500 * 3);
    let expected = cpu::distance::distances(&a, &wide, 96, Count::Bits);
    let cut = plan(&pairs(150, 2500, 96), Count::Bits, Store::U32, &caps).unwrap();
    assert_eq!(run(&cut, &[&a, &wide], 150 * 2500), expected);
    // A band of tiles at least must fit.
    let caps = Caps {
        binding_bytes: 40 << 10,
        ..caps
    };
    for triangle in [Triangle::Full, Triangle::Condensed] {
        let expected = cpu::distance::symmetric(&a, 96, Count::Bits, triangle);
        let cut = plan_symmetric([150, 96], Count::Bits, triangle, &caps).unwrap();
        assert!(cut.steps.len() > 1);
        assert_eq!(
            run(&cut, &[&a], triangle.words(150)),
            expected,
            "{triangle:?}"
        );
    }
}

/// A network of infinite width learns any permutation of k bits from the k unit vectors: the kernel's regression puts every output
/// on one of two levels that depend on the number of ones alone.
#[test]
fn kernel_regression_on_unit_vectors_decodes_every_input() {
    for k in [6usize, 10] {
        let units: Vec<u32> = (0..k).map(|i| 1 << i).collect();
        let inputs: Vec<u32> = (1..1 << k).collect();
        let shape = pairs(inputs.len(), k, k);
        let (a, b) = (
            gpu().upload(&inputs).unwrap(),
            gpu().upload(&units).unwrap(),
        );
        let mut out = gpu().zeros::<f32>(inputs.len() * k).unwrap();
        gram::gram(gpu(), &shape, Function::NeuralTangent, &a, &b, &mut out).unwrap();
        let theta = out.download().unwrap();
        // Theta(X, X) = (alpha - gamma) I + gamma 1 1', inverted by Sherman and Morrison.
        let (alpha, gamma) = (2.0, std::f64::consts::FRAC_1_PI);
        let shared = gamma / (alpha - gamma + k as f64 * gamma);
        let mut least = f64::INFINITY;
        for (input, row) in inputs.iter().zip(theta.chunks(k)) {
            let sum: f64 = row.iter().map(|x| f64::from(*x)).sum();
            let level = |x: f32| (f64::from(x) - shared * sum) / (alpha - gamma);
            let (mut high, mut low) = (f64::INFINITY, f64::NEG_INFINITY);
            for (i, x) in row.iter().enumerate() {
                match input >> i & 1 {
                    1 => high = high.min(level(*x)),
                    _ => low = low.max(level(*x)),
                }
            }
            if low > f64::NEG_INFINITY {
                least = least.min(high - low);
            }
        }
        assert!(least >= if k == 6 { 0.71 } else { 0.68 }, "{k}: {least}");
    }
}

#[test]
fn wrong_arguments_are_named() {
    let a = gpu().zeros::<u32>(10).unwrap();
    let mut out = gpu().zeros::<u32>(25).unwrap();
    let mut call = |rows, columns, bits, count, store| {
        let shape = pairs(rows, columns, bits);
        let found = distances(gpu(), &shape, count, store, &a, &a, &mut out);
        found.unwrap_err().to_string()
    };
    let bits = Count::Bits;
    assert_eq!(
        call(5, 5, 0, bits, Store::U32),
        "hamming_distance: bits must be 1 to 65536, got 0"
    );
    assert_eq!(
        call(5, 5, 65, bits, Store::U32),
        "hamming_distance: a must be 15 elements for this shape, got 10"
    );
    assert_eq!(
        call(5, 4, 64, bits, Store::U32),
        "hamming_distance: b must be 8 elements for this shape, got 10"
    );
    assert_eq!(
        call(5, 5, 64, bits, Store::U16),
        "hamming_distance: out must be 15 elements for this shape, got 25"
    );
    assert_eq!(
        call(5, 5, 65_536, bits, Store::U16),
        "hamming_distance: bits must be at most 65535 for distances of 16 bits, got 65536"
    );
    assert_eq!(
        call(5, 5, 64, Count::Symbols(3), Store::U32),
        "hamming_distance: count must be symbols of 2, 4, 8, 16 or 32 bits, got 3"
    );
    assert_eq!(
        call(5, 5, 60, Count::Symbols(8), Store::U32),
        "hamming_distance: bits must be a multiple of the symbols' 8, got 60"
    );
    let huge = plan(
        &pairs(1 << 20, 1 << 20, 64),
        bits,
        Store::U32,
        &Caps::lavapipe(),
    );
    assert_eq!(
        huge.unwrap_err().to_string(),
        "bytes of the result needs 4398046511104, the limit is 2147483647; compute the distances of some rows at a time"
    );
}
