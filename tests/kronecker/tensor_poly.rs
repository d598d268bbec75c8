//! Polynomial tensor attention: fits against published values, features against the polynomial, errors against certificates.

use subquad::{
    Error, Tensor,
    case::Numbers,
    gpu::Dtype,
    kronecker::tensor_linear::{
        Bounds, Extent, Gradients, Inputs, Mask, Shape, cpu,
        minimax::Polynomial,
        monomials::{Table, rank},
        poly::{self, Choice, Degree, Options, Report},
    },
};

use crate::device::gpu;

#[test]
fn fits_are_as_near_as_can_be() {
    // The least possible errors, to two digits.
    let table = [
        (0.5, [5.1e-3, 3.2e-4, 1.6e-5, 2.4e-8, 2.1e-11]),
        (1.0, [4.0e-2, 5.0e-3, 5.0e-4, 3.0e-6, 1.1e-8]),
        (2.0, [2.7e-1, 7.1e-2, 1.4e-2, 3.6e-4, 5.0e-6]),
        (4.0, [8.9e-1, 6.2e-1, 3.0e-1, 3.3e-2, 2.0e-3]),
    ];
    for (bound, errors) in table {
        for (degree, least) in [2, 3, 4, 6, 8].into_iter().zip(errors) {
            let fit = Polynomial::nearest_exp(degree, bound);
            let ratio = fit.epsilon / least;
            assert!(
                (0.95..1.05).contains(&ratio),
                "R {bound}, g {degree}: {}",
                fit.epsilon
            );
            let found = (0..=1000).map(|n| bound * (f64::from(n) / 500.0 - 1.0));
            let worst = found.map(|s| (fit.value(s) * (-s).exp() - 1.0).abs());
            assert!(worst.fold(0.0, f64::max) <= fit.epsilon);
        }
    }
    assert_eq!(Polynomial::nearest_exp(4, 30.0).epsilon, 1.0);
    assert_eq!(Polynomial::nearest_exp(4, f64::NAN).epsilon, 1.0);
    assert!(Polynomial::nearest_exp(2, 0.0).epsilon < 1e-9);
}

#[test]
fn features_make_powers_of_products() {
    let mut numbers = Numbers::of("features");
    for (variables, degree, expected) in
        [(4, 2, 15), (8, 3, 165), (4, 6, 210), (1, 5, 6), (8, 4, 495)]
    {
        let table = Table::new(variables, degree);
        assert_eq!(
            (table.rank(), rank(variables, degree)),
            (expected, expected)
        );
        let mut row = || -> Vec<f64> { (0..variables).map(|_| numbers.signed()).collect() };
        let rows = [row(), row(), row()];
        let dot: f64 = (0..variables)
            .map(|n| rows.iter().map(|row| row[n]).product::<f64>())
            .sum();
        let features = rows.map(|row| table.values(&row));
        let mut powers = vec![0.0; degree + 1];
        let degrees = table.variables_of().into_iter().map(|own| own.len());
        for (n, (degree, multinomial)) in degrees.zip(table.multinomials()).enumerate() {
            powers[degree] += multinomial * features.iter().map(|own| own[n]).product::<f64>();
        }
        for (a, power) in powers.iter().enumerate() {
            assert!(
                (power - dot.powi(a as i32)).abs() < 1e-12,
                "{variables} {degree}: {a}"
            );
        }
    }
    assert_eq!(rank(64, 3), 47_905);
    assert_eq!(rank(1024, 16), rank(16, 1024));
}

fn shape(keys: &[usize], queries: usize, [heads, kv_heads, key, value]: [usize; 4]) -> Shape {
    Shape {
        batch: 1,
        heads,
        kv_heads,
        queries,
        keys: keys.to_vec(),
        key,
        value,
        dtype: Dtype::F32,
    }
}

/// Entries in (-bound, bound), keys moved by `shift`; as the device gets them.
fn made(name: &str, shape: &Shape, bound: f64, shift: f64) -> cpu::Inputs {
    let mut numbers = Numbers::of(name);
    let mut values = |len: usize, shift: f64| -> Vec<f64> {
        let each = (0..len).map(|_| f64::from((shift + bound * numbers.signed()) as f32));
        each.collect()
    };
    let sets = 0..shape.sets();
    cpu::Inputs {
        q: values(shape.query_rows() * shape.key, 0.0),
        k: sets
            .clone()
            .map(|set| values(shape.key_rows(set) * shape.key, shift))
            .collect(),
        v: sets
            .map(|set| values(shape.key_rows(set) * shape.value, 0.0))
            .collect(),
    }
}

fn choice(shape: &Shape, options: &Options, inputs: &cpu::Inputs) -> Choice {
    poly::choose(shape, options, Some(&Extent::of(shape, inputs))).unwrap()
}

fn fixed(scale: f32, degree: usize, mask: Mask, center: bool) -> Options {
    Options {
        degree: Degree::Fixed(degree),
        mask,
        center,
        ..Options::within(scale, 1.0)
    }
}

/// The polynomial of every logit, summed over all combinations of keys.
#[test]
fn the_reference_is_the_direct_polynomial() {
    for (mask, center) in [
        (Mask::Full, false),
        (Mask::Full, true),
        (Mask::Causal, true),
    ] {
        let shape = shape(&[5, 5], 5, [2, 1, 3, 2]);
        let inputs = made("direct", &shape, 0.9, 0.3);
        let options = fixed(0.4, 4, mask.clone(), center);
        let chosen = choice(&shape, &options, &inputs);
        let weights = chosen.weights();
        let found = cpu::poly_forward(&shape, &mask, 0.4, &weights, &inputs).unwrap();
        for row in 0..10 {
            let q = &inputs.q[3 * row..][..3];
            let seen = if mask == Mask::Full { 5 } else { row % 5 + 1 };
            let middles = weights.middles.clone().unwrap_or_else(|| vec![0.0; 3]);
            let c: f64 = q.iter().zip(&middles).map(|(q, m)| q * m).sum();
            let (mut sum, mut den) = ([0.0; 2], 0.0);
            for j in 0..seen {
                for l in 0..seen {
                    let terms =
                        (0..3).map(|d| q[d] * inputs.k[0][3 * j + d] * inputs.k[1][3 * l + d]);
                    let s = f64::from(0.4f32) * terms.sum::<f64>();
                    assert!((s - c).abs() <= chosen.bounds.logits * (1.0 + 1e-12));
                    let weight = weights.polynomial.value(s - c);
                    den += weight;
                    for (n, sum) in sum.iter_mut().enumerate() {
                        *sum += weight * inputs.v[0][2 * j + n] * inputs.v[1][2 * l + n];
                    }
                }
            }
            for (n, sum) in sum.iter().enumerate() {
                let (got, expected) = (found.o[2 * row + n], sum / den);
                assert!((got - expected).abs() < 1e-11, "{got} {expected}");
            }
        }
    }
}

#[test]
fn gradients_are_those_of_differences() {
    for (keys, mask) in [
        (vec![6, 4], Mask::Full),
        (vec![6, 6], Mask::Causal),
        (vec![7, 7, 7], Mask::Window(vec![2, 3, 20])),
    ] {
        let shape = shape(&keys, 4, [2, 1, 3, 2]);
        let options = fixed(0.5, 3, mask.clone(), false);
        let inputs = made("slopes", &shape, 0.8, 0.0);
        let weights = choice(&shape, &options, &inputs).weights();
        let grad = made("handed", &shape, 1.0, 0.0).v[0].repeat(4)[..16].to_vec();
        let slopes = cpu::poly_backward(&shape, &mask, 0.5, &weights, &inputs, &grad).unwrap();
        let toward = made("toward", &shape, 1.0, 0.0);
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let moved = |step: f64| {
            let along = |(x, d): (&Vec<f64>, &Vec<f64>)| -> Vec<f64> {
                x.iter().zip(d).map(|(x, d)| x + step * d).collect()
            };
            let inputs = cpu::Inputs {
                q: along((&inputs.q, &toward.q)),
                k: inputs.k.iter().zip(&toward.k).map(along).collect(),
                v: inputs.v.iter().zip(&toward.v).map(along).collect(),
            };
            let found = cpu::poly_forward(&shape, &mask, 0.5, &weights, &inputs).unwrap();
            dot(&found.o, &grad)
        };
        let difference = (moved(1e-5) - moved(-1e-5)) / 2e-5;
        let sets = slopes
            .k
            .iter()
            .zip(&toward.k)
            .chain(slopes.v.iter().zip(&toward.v));
        let slope = dot(&slopes.q, &toward.q) + sets.map(|(a, b)| dot(a, b)).sum::<f64>();
        let near = (difference - slope).abs() <= 1e-7 * (1.0 + slope.abs());
        assert!(near, "{difference} {slope}");
    }
}

/// Tensors on the device.
struct Uploaded(Vec<Tensor<f32>>);

impl Uploaded {
    fn new(inputs: &cpu::Inputs) -> Uploaded {
        let all = [&inputs.q].into_iter().chain(&inputs.k).chain(&inputs.v);
        let each = all.map(|x| {
            let x: Vec<f32> = x.iter().map(|x| *x as f32).collect();
            gpu().upload(&x).unwrap()
        });
        Uploaded(each.collect())
    }

    fn with<R>(&self, then: impl FnOnce(&Inputs<'_, f32>) -> R) -> R {
        let sets: Vec<&Tensor<f32>> = self.0[1..].iter().collect();
        let (k, v) = sets.split_at(sets.len() / 2);
        then(&Inputs {
            q: &self.0[0],
            k,
            v,
        })
    }
}

fn forward(shape: &Shape, options: &Options, inputs: &cpu::Inputs) -> (Report, Vec<f32>) {
    tried(shape, options, inputs).unwrap()
}

fn tried(
    shape: &Shape,
    options: &Options,
    inputs: &cpu::Inputs,
) -> subquad::Result<(Report, Vec<f32>)> {
    let given = Uploaded::new(inputs);
    let mut o = gpu()
        .zeros::<f32>(shape.query_rows() * shape.value)
        .unwrap();
    let report = given.with(|inputs| poly::forward(gpu(), shape, options, inputs, &mut o))?;
    Ok((report, o.download()?))
}

#[test]
fn measured_errors_are_within_the_certificate() {
    let mut within = 0;
    for bound in [0.25, 0.5, 1.0, 1.5, 2.0] {
        for draw in 0..20 {
            let (degree, center) = (2 + draw % 4, draw % 3 == 0);
            let (mask, keys) = match draw % 8 {
                1 => (Mask::Causal, [24, 24]),
                5 => (Mask::Window(vec![6, 40]), [24, 24]),
                _ => (Mask::Full, [24, 17]),
            };
            let shape = shape(&keys, 20, [2, 1, 4, 3]);
            let shift = if center { 0.2 * bound } else { 0.0 };
            let inputs = made(&format!("draw {draw} of {bound}"), &shape, bound, shift);
            let options = Options {
                probe: true,
                ..fixed(0.25, degree, mask, center)
            };
            match tried(&shape, &options, &inputs) {
                Ok((report, _)) => {
                    let probe = report.probe.unwrap();
                    assert_eq!(probe.queries, 40);
                    assert!(
                        probe.measured <= report.certificate,
                        "B {bound}: {report:?}"
                    );
                    within += 1;
                }
                Err(Error::Unsupported { .. }) => assert!(bound >= 1.5),
                Err(other) => panic!("{other}"),
            }
        }
    }
    assert!(within >= 70, "{within} of 100");
}

#[test]
fn probes_see_what_uniform_attention_misses() {
    let shape = shape(&[30, 20], 25, [2, 1, 4, 3]);
    let inputs = made("probe", &shape, 1.0, 0.0);
    let options = Options {
        probe: true,
        ..fixed(0.25, 6, Mask::Causal, false)
    };
    let shape = Shape {
        keys: vec![30, 30],
        ..shape
    };
    let more = made("more", &shape, 1.0, 0.0);
    let inputs = cpu::Inputs {
        k: more.k,
        v: more.v,
        ..inputs
    };
    let (report, _) = forward(&shape, &options, &inputs);
    let probe = report.probe.unwrap();
    assert!(probe.measured < 1e-5 && probe.uniform > 1e-2, "{report:?}");
}

#[test]
fn the_smallest_degree_within_a_tolerance_is_chosen() {
    let shape = shape(&[20, 20], 20, [1, 1, 4, 3]);
    let inputs = made("tolerance", &shape, 0.8, 0.0);
    let extent = Extent::of(&shape, &inputs);
    let mut before = 0;
    for tolerance in [1e-1, 1e-2, 1e-3, 1e-4] {
        let options = Options::within(0.25, tolerance);
        let chosen = poly::choose(&shape, &options, Some(&extent)).unwrap();
        assert!(chosen.certificate <= tolerance);
        let degree = chosen.polynomial.coefficients.len() - 1;
        assert!(degree >= before);
        if degree > 1 {
            let lower = fixed(0.25, degree - 1, Mask::Full, false);
            let lower = poly::choose(&shape, &lower, Some(&extent)).unwrap();
            assert!(lower.certificate > tolerance);
        }
        before = degree;
    }
    assert!(before >= 4);
    // Centred queries need no more.
    let shifted = made("shifted", &shape, 0.3, 0.7);
    let extent = Extent::of(&shape, &shifted);
    let wide = extent.bounds(0.25, false).logits;
    let narrow = extent.bounds(0.25, true).logits;
    assert!(narrow < wide, "{narrow} {wide}");
}

#[test]
fn what_cannot_be_met_is_refused_with_the_numbers() {
    let shape = shape(&[20, 20], 20, [1, 1, 8, 3]);
    let bounds = |logits: f64| Bounds {
        logits,
        centre: 0.0,
        value: 1.0,
    };
    let options = |logits: f64, tolerance: f64, max_rank: usize| Options {
        bounds: Some(bounds(logits)),
        max_rank,
        ..Options::within(0.25, tolerance)
    };
    let refused = |options: &Options| poly::choose(&shape, options, None).unwrap_err();
    let far = refused(&options(3.0, 1e-3, 165));
    assert!(matches!(far, Error::Unsupported { .. }));
    assert_eq!(
        far.to_string(),
        "tensor_linear_attention does not support a polynomial for entries this large: logits reach 3.000, and the best \
         certificate within 165 features is 4.04e-1; use smaller entries or scale, a larger tolerance or max_rank, or exact \
         attention"
    );
    assert!(poly::choose(&shape, &options(0.5, 1e-3, 165), None).is_ok());
    let named = |options: &Options, words: &str| {
        assert_eq!(
            refused(options).to_string(),
            format!("tensor_linear_attention: {words}")
        );
    };
    named(
        &options(0.5, 1e-3, 8),
        "max_rank must be at least 9 for degree 1 in 8 variables, got 8",
    );
    named(
        &options(0.5, 0.0, 8),
        "tolerance must be more than 0, got 0",
    );
    named(
        &options(0.5, 1.0, 9000),
        "max_rank must be from 1 to 8192 under this mask, got 9000",
    );
    let degree = Options {
        degree: Degree::Fixed(17),
        ..options(0.5, 1.0, 9)
    };
    named(&degree, "degree must be from 1 to 16, got 17");
    let causal = Options {
        mask: Mask::Causal,
        ..options(0.5, 1.0, 1025)
    };
    named(
        &causal,
        "max_rank must be from 1 to 1024 under this mask, got 1025",
    );
    let centred = Options {
        center: true,
        ..options(0.5, 1.0, 9)
    };
    let got = "Bounds { logits: 0.5, centre: 0.0, value: 1.0 }";
    let words = "bounds must be absent with center, which needs the extent of every column, got";
    named(&centred, &format!("{words} {got}"));
    let none = Options {
        bounds: None,
        ..options(0.5, 1.0, 9)
    };
    named(&none, "bounds must be given, or measured, got none");
    let large = Options {
        bounds: None,
        ..options(0.5, 1e-3, 165)
    };
    let inputs = Uploaded::new(&made("large", &shape, 9.0, 0.0));
    let mut o = gpu().zeros::<f32>(60).unwrap();
    let refused = inputs.with(|inputs| poly::forward(gpu(), &shape, &large, inputs, &mut o));
    assert!(matches!(refused, Err(Error::Unsupported { .. })));
}

#[test]
fn extents_measured_there_are_those_measured_here() {
    for (keys, heads) in [
        (vec![300, 270], [4, 2]),
        (vec![3], [1, 1]),
        (vec![0, 5], [2, 1]),
    ] {
        let shape = shape(&keys, 7, [heads[0], heads[1], 3, 5]);
        let inputs = made("extent", &shape, 1.0, 0.5);
        let here = Extent::of(&shape, &inputs);
        let there = Uploaded::new(&inputs)
            .with(|inputs| Extent::measure(gpu(), &shape, inputs))
            .unwrap();
        assert_eq!(here, there);
    }
}

#[test]
fn outputs_ignore_later_tokens_and_reruns_are_equal() {
    let shape = shape(&[30, 30], 30, [2, 1, 3, 4]);
    let inputs = made("later", &shape, 0.8, 0.0);
    let options = Options {
        bounds: Some(Bounds {
            logits: 1.0,
            centre: 0.0,
            value: 1.0,
        }),
        ..fixed(0.5, 3, Mask::Causal, false)
    };
    let (_, before) = forward(&shape, &options, &inputs);
    let (_, again) = forward(&shape, &options, &inputs);
    assert_eq!(before, again);
    let mut changed = inputs.clone();
    changed.k[0][3 * 13..].fill(-0.3);
    changed.v[1][4 * 13..].fill(7.0);
    let (_, after) = forward(&shape, &options, &changed);
    for (before, after) in before.chunks_exact(120).zip(after.chunks_exact(120)) {
        assert_eq!(before[..52], after[..52]);
        assert_ne!(before[52..], after[52..]);
    }
}

#[test]
fn exact_attention_takes_over_where_entries_are_too_large() {
    for mask in [Mask::Full, Mask::Causal, Mask::Window(vec![4, 40])] {
        let shape = shape(&[14, 14], 11, [2, 1, 4, 3]);
        let inputs = made("over", &shape, 3.0, 0.0);
        let options = Options {
            exact: true,
            probe: true,
            mask: mask.clone(),
            ..Options::within(0.25, 1e-3)
        };
        let (report, o) = forward(&shape, &options, &inputs);
        assert!(report.exact && report.rank == 0, "{report:?}");
        assert!(report.probe.unwrap().measured < 1e-4, "{report:?}");
        // o is linear in either set's values.
        let given = Uploaded::new(&inputs);
        let zeros = |len: usize| gpu().zeros::<f32>(len).unwrap();
        let mut dq = zeros(shape.query_rows() * 4);
        let mut dk = [0, 1].map(|set| zeros(shape.key_rows(set) * 4));
        let mut dv = [0, 1].map(|set| zeros(shape.key_rows(set) * 3));
        let gradients = Gradients {
            q: &mut dq,
            k: dk.iter_mut().collect(),
            v: dv.iter_mut().collect(),
        };
        let handed = vec![0.5f32; o.len()];
        let grad = gpu().upload(&handed).unwrap();
        let report = given.with(|inputs| {
            poly::backward(gpu(), &shape, &options, inputs, &grad, gradients).unwrap()
        });
        assert!(report.exact);
        let expected: f64 = o.iter().map(|o| 0.5 * f64::from(*o)).sum();
        for (dv, v) in dv.iter().zip(&inputs.v) {
            let pairs = dv.download().unwrap().into_iter().zip(v);
            let got: f64 = pairs.map(|(d, v)| f64::from(d) * v).sum();
            assert!((got - expected).abs() < 1e-3, "{mask:?}: {got} {expected}");
        }
    }
    let one = shape(&[9], 9, [1, 1, 4, 3]);
    let options = Options {
        exact: true,
        ..Options::within(0.25, 1e-3)
    };
    let refused = poly::choose(&one, &options, None).unwrap_err().to_string();
    let words = "exact must be false but with two key sets, got true with 1";
    assert_eq!(refused, format!("tensor_linear_attention: {words}"));
}
