//! Spectra on the host: against dense matrices in f64.

use proptest::prelude::*;
use subquad::{
    Error, Result,
    kronecker::{Axis, Combine, Function, General, Matrix, Spectrum},
};

use crate::dense::{
    apart, covariance, definite, eliminate, general, indefinite, kronecker, kronecker_sum, numbers,
    plus, shifted, times,
};

fn definites(sides: &[usize]) -> Vec<Matrix> {
    let each = sides.iter().enumerate();
    each.map(|(n, side)| definite(&format!("definite {n}"), *side, 0.1))
        .collect()
}

/// The error a call must give.
fn refused<T: std::fmt::Debug>(result: Result<T>, words: &str) {
    let message = match result {
        Err(error) => error.to_string(),
        Ok(value) => panic!("{words}: {value:?}"),
    };
    assert!(message.contains(words), "{message} lacks {words}");
}

#[test]
fn functions_are_those_of_the_dense_matrix() {
    for sides in [
        vec![],
        vec![1],
        vec![7],
        vec![3, 1, 4],
        vec![2, 3, 2, 5],
        vec![16, 17],
    ] {
        let factors = definites(&sides);
        let whole = kronecker(&factors);
        let spectrum = Spectrum::product(&factors).unwrap();
        assert_eq!(spectrum.len(), whole.rows);
        let b = numbers("b", 2 * whole.rows);
        let of = |function: Function, b: &[f64]| spectrum.apply(&function, 2, b).unwrap();
        let noisy = shifted(&whole, 0.3);
        let image = times(&noisy, &b);
        assert!(apart(&of(Function::Shifted(0.3), &b), &image) < 1e-13);
        assert!(apart(&spectrum.multiply(0.3, 2, &b).unwrap(), &image) < 1e-13);
        assert!(apart(&of(Function::Inverse(0.3), &image), &b) < 1e-12);
        assert!(apart(&of(Function::MinimumNorm(0.3), &image), &b) < 1e-12);
        let half = of(Function::Root(0.3), &b);
        assert!(apart(&of(Function::Root(0.3), &half), &image) < 1e-13);
        assert!(apart(&of(Function::InverseRoot(0.3), &half), &b) < 1e-12);
        let shrunk = of(Function::Shrink(0.3), &image);
        assert!(apart(&shrunk, &times(&whole, &b)) < 1e-12);
        let deviation = of(Function::Deviation(0.3), &of(Function::Deviation(0.3), &b));
        let variance: Vec<f64> = of(Function::Shrink(0.3), &b)
            .iter()
            .map(|x| 0.3 * x)
            .collect();
        assert!(apart(&deviation, &variance) < 1e-12);
        let power = |exponent| Function::Power {
            shift: 0.3,
            exponent,
        };
        assert!(apart(&of(power(2.0), &b), &times(&noisy, &image)) < 1e-13);
        let table: Vec<f32> = spectrum.eigenvalues().map(|x| x as f32).collect();
        let table = of(Function::Table(table.into()), &b);
        assert!(apart(&table, &times(&whole, &b)) < 1e-6);
        // exp by its series.
        let (mut series, mut term) = (b.clone(), b.clone());
        for n in 1..60 {
            term = times(&whole, &term)
                .iter()
                .map(|x| -0.5 * x / f64::from(n))
                .collect();
            for (sum, x) in series.iter_mut().zip(&term) {
                *sum += x;
            }
        }
        assert!(apart(&of(Function::Exp(-0.5), &b), &series) < 1e-12);
    }
}

#[test]
fn pencils_solve_sums_of_two_terms_and_sylvester_equations() {
    let factors = vec![
        indefinite("p0", 5),
        definite("p1", 4, 0.2),
        indefinite("p2", 3),
    ];
    let metrics = vec![
        definite("c0", 5, 0.5),
        definite("c1", 4, 0.5),
        definite("c2", 3, 0.5),
    ];
    let metric = kronecker(&metrics);
    let b = numbers("b", 60);
    for combine in [Combine::Product, Combine::Sum] {
        let spectrum = Spectrum::pencil(&factors, &metrics, combine).unwrap();
        let own = match combine {
            Combine::Product => kronecker(&factors),
            Combine::Sum => kronecker_sum(&factors, &metrics),
        };
        for c in [0.0, 0.7, -0.3] {
            let dense = plus(&own, &metric, c);
            let (x, sign, log) = eliminate(&dense, &b);
            let found = spectrum.apply(&Function::Inverse(c), 1, &b).unwrap();
            assert!(apart(&found, &x) < 1e-10, "{combine:?} {c}");
            let (found_sign, found_log) = spectrum.slogdet(c).unwrap();
            assert_eq!(found_sign, sign, "{combine:?} {c}");
            assert!((found_log - log).abs() < 1e-10 * log.abs().max(1.0));
            let image = spectrum.multiply(c, 1, &x).unwrap();
            assert!(apart(&image, &b) < 1e-10);
        }
    }
}

#[test]
fn determinants_are_those_of_elimination() {
    // The last has more than 800 rows.
    for sides in [vec![1, 1], vec![6], vec![4, 5], vec![3, 4, 5], vec![28, 30]] {
        let factors = definites(&sides);
        let whole = kronecker(&factors);
        let spectrum = Spectrum::product(&factors).unwrap();
        for c in [0.0, 0.05] {
            if whole.rows > 100 && c == 0.0 {
                continue;
            }
            let (_, sign, log) = eliminate(&shifted(&whole, c), &[]);
            assert_eq!(sign, 1);
            let found = spectrum.logdet(c).unwrap();
            let bound = 1e-9 * whole.rows as f64 + 1e-12 * log.abs();
            assert!((found - log).abs() < bound, "{sides:?} {c}: {found} {log}");
        }
        // log det (A ⊗ B) = n_B log det A + n_A log det B.
        let each = factors.iter().map(|factor| {
            let others = (whole.rows / factor.rows) as f64;
            others * eliminate(factor, &[]).2
        });
        let log: f64 = each.sum();
        assert!((spectrum.logdet(0.0).unwrap() - log).abs() < 1e-9 * whole.rows as f64);
    }
}

#[test]
fn determinants_scale_and_take_identities() {
    let factors = definites(&[5, 6]);
    let log = Spectrum::product(&factors).unwrap().logdet(0.2).unwrap();
    // det (c A) = c^N det A.
    let scaled = Matrix::of(5, 5, |i, j| 7.0 * factors[0].at(i, j));
    let spectrum = Spectrum::product(&[scaled, factors[1].clone()]).unwrap();
    let of_scaled = spectrum.logdet(7.0 * 0.2).unwrap();
    assert!((of_scaled - log - 30.0 * 7f64.ln()).abs() < 1e-10);
    let with_identity = [factors[0].clone(), Matrix::identity(4), factors[1].clone()];
    let whole = Spectrum::product(&with_identity)
        .unwrap()
        .logdet(0.2)
        .unwrap();
    assert!((whole - 4.0 * log).abs() < 1e-9);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// Signs, logarithms and solutions of products of symmetric and of general factors, the same scaled, and with an identity between.
    #[test]
    fn determinants_and_solutions_follow_the_rules_of_products(
        sides in prop::collection::vec(1usize..6, 1..4),
        seed in 0u32..1000,
        scale in -3f64..3.0,
        place in 0usize..4,
    ) {
        prop_assume!(scale.abs() > 0.05);
        let count = sides.iter().product::<usize>();
        let b = numbers(&format!("b {seed}"), count);
        let near = |found: (i8, f64), (sign, log): (i8, f64), size: usize| {
            let bound = 1e-9 * size as f64 + 1e-12 * log.abs();
            found.0 == sign && (found.1 - log).abs() <= bound
        };
        let with = |factors: &[Matrix], n: usize, other: Matrix| {
            let mut factors = factors.to_vec();
            factors.insert(n.min(factors.len()), other);
            factors
        };
        let scaled = |factors: &[Matrix]| {
            let mut factors = factors.to_vec();
            let own = &mut factors[seed as usize % sides.len()];
            own.entries.iter_mut().for_each(|x| *x *= scale);
            factors
        };
        // cᴺ det A and its sign; det (A ⊗ I_3) = (det A)³.
        let rules = |(sign, log): (i8, f64)| {
            let of_scale = if scale < 0.0 && count % 2 == 1 { -1 } else { 1 };
            [(sign * of_scale, log + count as f64 * scale.abs().ln()), (sign, 3.0 * log)]
        };
        let each = sides.iter().enumerate();
        let symmetric: Vec<Matrix> = each.clone().map(|(n, side)| indefinite(&format!("s {n} {seed}"), *side)).collect();
        let own: Vec<Matrix> = each.map(|(n, side)| general(&format!("g {n} {seed}"), *side, *side)).collect();

        let (x, sign, log) = eliminate(&kronecker(&symmetric), &b);
        let [by_scale, by_identity] = rules((sign, log));
        let of = |factors: &[Matrix]| Spectrum::product(factors).unwrap();
        let slogdet = |factors: &[Matrix]| of(factors).slogdet(0.0).unwrap();
        prop_assert!(near(slogdet(&symmetric), (sign, log), count));
        prop_assert!(near(slogdet(&scaled(&symmetric)), by_scale, count));
        prop_assert!(near(slogdet(&with(&symmetric, place, Matrix::identity(3))), by_identity, 3 * count));
        // A x = b, by the condition.
        let spectrum = of(&symmetric);
        let found = spectrum.apply(&Function::Inverse(0.0), 1, &b).unwrap();
        let bound = 1e-14 * spectrum.condition(0.0) + 1e-13;
        prop_assert!(apart(&found, &x) <= 10.0 * bound, "{} {bound}", apart(&found, &x));
        prop_assert!(apart(&times(&kronecker(&symmetric), &found), &b) <= bound);

        let (x, sign, log) = eliminate(&kronecker(&own), &b);
        let [by_scale, by_identity] = rules((sign, log));
        let of = |factors: &[Matrix]| General::new(factors).unwrap();
        prop_assert!(near(of(&own).slogdet(), (sign, log), count));
        prop_assert!(near(of(&scaled(&own)).slogdet(), by_scale, count));
        prop_assert!(near(of(&with(&own, place, Matrix::identity(3))).slogdet(), by_identity, 3 * count));
        let found = of(&own).apply(1, &b).unwrap();
        let bound = 1e-14 * of(&own).condition() + 1e-13;
        prop_assert!(apart(&found, &x) <= 10.0 * bound, "{} {bound}", apart(&found, &x));
        prop_assert!(apart(&times(&kronecker(&own), &found), &b) <= bound);
    }
}

#[test]
fn no_eigenvalue_is_clamped() {
    // Diagonal and rotated by 45 degrees: 1 and 1e-10 twice.
    let diagonal = Matrix::new(2, 2, vec![1.0, 0.0, 0.0, 1e-20]).unwrap();
    let spectrum = Spectrum::product(std::slice::from_ref(&diagonal)).unwrap();
    assert!((spectrum.logdet(0.0).unwrap() - 1e-20f64.ln()).abs() < 1e-12);
    assert_eq!(spectrum.condition(0.0), 1e20);
    let small = 1e-10;
    let turned = Matrix::new(
        2,
        2,
        vec![
            (1.0 + small) / 2.0,
            (1.0 - small) / 2.0,
            (1.0 - small) / 2.0,
            (1.0 + small) / 2.0,
        ],
    )
    .unwrap();
    let spectrum = Spectrum::product(&[turned.clone(), Matrix::identity(1), turned]).unwrap();
    // Two eigenvalues 1e-10, one 1, one 1e-20: -92.1, where a clamp at 1e-7 has -64.5.
    let log = spectrum.logdet(0.0).unwrap();
    assert!((log - 4.0 * small.ln()).abs() < 1e-5, "{log}");
    let twelve = Matrix::of(3, 3, |i, j| if i == j { 1.0 } else { 1.0 - 1e-12 });
    let least = Spectrum::product(&[twelve]).unwrap().extremes(0.0)[0];
    assert!((least / 1e-12 - 1.0).abs() < 1e-3, "{least}");
}

#[test]
fn determinants_keep_signs_and_zeros() {
    let ones = Matrix::of(3, 3, |_, _| 1.0);
    let factors = [ones, definite("beside", 4, 0.1)];
    let spectrum = Spectrum::product(&factors).unwrap();
    assert_eq!(spectrum.logdet(0.0).unwrap(), f64::NEG_INFINITY);
    assert_eq!(spectrum.slogdet(0.0).unwrap(), (0, f64::NEG_INFINITY));
    assert!(spectrum.logdet(0.1).unwrap().is_finite());
    assert_eq!(spectrum.condition(0.0), f64::INFINITY);
    refused(
        spectrum.apply(&Function::Inverse(0.0), 1, &[0.0; 12]),
        "has no inverse",
    );
    refused(spectrum.inverse_trace(0.0), "is singular");
    for (name, sides) in [("odd", [3, 5]), ("even", [4, 3]), ("more", [5, 5])] {
        let factors = [indefinite(name, sides[0]), indefinite("second", sides[1])];
        let spectrum = Spectrum::product(&factors).unwrap();
        for c in [0.0, 0.4] {
            let (_, sign, log) = eliminate(&shifted(&kronecker(&factors), c), &[]);
            let found = spectrum.slogdet(c).unwrap();
            assert_eq!(found.0, sign, "{name} {c}");
            assert!((found.1 - log).abs() < 1e-9, "{name} {c}");
        }
        refused(spectrum.logdet(0.0), "no real logarithm; use `slogdet`");
        refused(
            spectrum.apply(&Function::Root(0.0), 1, &vec![0.0; spectrum.len()]),
            "is negative",
        );
    }
}

#[test]
fn hundreds_of_factors_neither_overflow_nor_underflow() {
    for entry in [3e20, 1e-20, -2.0] {
        let mut factors = vec![Matrix::new(1, 1, vec![entry]).unwrap(); 70];
        factors.push(definite("last", 6, 0.1));
        let spectrum = Spectrum::product(&factors).unwrap();
        let (sign, log) = spectrum.slogdet(0.0).unwrap();
        let last = eliminate(&factors[70], &[]).2;
        let expected = last + 6.0 * 70.0 * entry.abs().ln();
        assert_eq!(sign, 1);
        assert!(
            (log - expected).abs() < 1e-12 * expected.abs(),
            "{log} {expected}"
        );
        let noisy = spectrum.logdet(1e-300);
        assert!(noisy.unwrap().is_finite());
    }
}

#[test]
fn gradients_of_the_determinant_are_slopes() {
    let factors = definites(&[3, 4, 2]);
    let noise = 0.2;
    let gradient = Spectrum::product(&factors)
        .unwrap()
        .logdet_gradient(noise)
        .unwrap();
    let log =
        |factors: &[Matrix], noise| Spectrum::product(factors).unwrap().logdet(noise).unwrap();
    let h = 1e-5;
    for (t, factor) in factors.iter().enumerate() {
        for (i, j) in [(0, 0), (1, 0), (factor.rows - 1, factor.rows - 1)] {
            // Both of a pair of mirrored entries.
            let moved = |h: f64| {
                let mut factors = factors.clone();
                factors[t] = Matrix::of(factor.rows, factor.rows, |a, b| {
                    let own = (a, b) == (i, j) || (b, a) == (i, j);
                    factor.at(a, b) + if own { h } else { 0.0 }
                });
                log(&factors, noise)
            };
            let slope = (moved(h) - moved(-h)) / (2.0 * h);
            let own = gradient.factors[t].at(i, j) + gradient.factors[t].at(j, i);
            let own = if i == j { own / 2.0 } else { own };
            assert!(
                (own - slope).abs() < 1e-6 * slope.abs().max(1.0),
                "{t} {i} {j}: {own} {slope}"
            );
        }
    }
    let slope = (log(&factors, noise + h) - log(&factors, noise - h)) / (2.0 * h);
    assert!((gradient.noise - slope).abs() < 1e-6 * slope);
    let sum = Spectrum::sum(&factors).unwrap();
    refused(
        sum.logdet_gradient(0.2),
        "does not support gradients of the determinant of a Kronecker sum",
    );
}

#[test]
fn sums_are_kronecker_sums() {
    let factors = [indefinite("s0", 4), definite("s1", 5, 0.1)];
    let identities = [Matrix::identity(4), Matrix::identity(5)];
    let dense = kronecker_sum(&factors, &identities);
    let spectrum = Spectrum::sum(&factors).unwrap();
    let b = numbers("b", 20);
    let (x, sign, log) = eliminate(&shifted(&dense, 0.1), &b);
    assert!(apart(&spectrum.apply(&Function::Inverse(0.1), 1, &b).unwrap(), &x) < 1e-10);
    let found = spectrum.slogdet(0.1).unwrap();
    assert_eq!(found.0, sign);
    assert!((found.1 - log).abs() < 1e-10);
}

#[test]
fn extremes_and_traces_are_those_of_all_eigenvalues() {
    let factors = [indefinite("e0", 6), indefinite("e1", 7)];
    let spectrum = Spectrum::product(&factors).unwrap();
    for c in [0.0, 0.3, -5.0] {
        let all: Vec<f64> = spectrum.eigenvalues().map(|x| x + c).collect();
        let least = all
            .iter()
            .fold(f64::INFINITY, |least, x| least.min(x.abs()));
        let most = all.iter().fold(0.0f64, |most, x| most.max(x.abs()));
        let found = spectrum.extremes(c);
        assert!((found[0] / least - 1.0).abs() < 1e-12 && (found[1] / most - 1.0).abs() < 1e-12);
        assert!((spectrum.condition(c) * least / most - 1.0).abs() < 1e-12);
        let trace: f64 = all.iter().map(|x| 1.0 / x).sum();
        assert!((spectrum.inverse_trace(c).unwrap() / trace - 1.0).abs() < 1e-9);
    }
}

#[test]
fn wrong_factors_are_named() {
    let good = covariance(4, 2.0);
    let mut bad = good.clone();
    bad.entries[1] += 1e-3;
    refused(
        Spectrum::product(&[good.clone(), bad.clone()]),
        "kron_spectral: factor 1 is not symmetric: an entry and its mirror differ by 1.000e-3, the largest entry is 1.000e0; use `General`, which factorises by elimination",
    );
    // What rounding to f32 leaves is none.
    bad.entries[1] -= 1e-3 - 1e-8;
    assert!(Spectrum::product(&[bad]).is_ok());
    refused(
        Spectrum::product(&[general("wide", 2, 3)]),
        "kron_spectral: factor 0 must be square, got 2 x 3",
    );
    let mut nan = good.clone();
    nan.entries[3] = f64::NAN;
    refused(
        Spectrum::sum(&[nan]),
        "factor 0 must be a matrix of finite numbers",
    );
    refused(
        Spectrum::pencil(
            std::slice::from_ref(&good),
            &[indefinite("metric", 4)],
            Combine::Product,
        ),
        "the metric of factor 0 is not positive definite: its least eigenvalue is",
    );
    refused(
        Spectrum::pencil(std::slice::from_ref(&good), &[], Combine::Product),
        "metrics must be 1, one for each factor, got 0",
    );
    refused(
        Axis::new(vec![1.0], Matrix::identity(2)),
        "values must be 2 finite numbers, one for each vector, got 1 numbers",
    );
    refused(
        Matrix::new(2, 2, vec![1.0; 3]),
        "entries must be 2 x 2 numbers, at least one, got 3",
    );
    let spectrum = Spectrum::product(&[good]).unwrap();
    refused(
        spectrum.logdet(f64::NAN),
        "shift must be a finite number, got NaN",
    );
    refused(
        spectrum.apply(&Function::Inverse(0.1), 2, &[0.0; 4]),
        "b must be 8 elements",
    );
    let table = Function::Table(vec![1.0f32; 3].into());
    refused(
        spectrum.apply(&table, 1, &[0.0; 4]),
        "function must be 4 values, at most 1048576, got 3",
    );
    let huge = Matrix::identity(4097);
    assert!(matches!(
        Spectrum::product(&[huge]),
        Err(Error::Limit { .. })
    ));
}
