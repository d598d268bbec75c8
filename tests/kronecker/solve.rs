//! Solutions, quadratic forms, gradients and samples: the adapter against f64, f64 against dense matrices.

use subquad::{
    Error, Result,
    case::{judge, ops, run},
    gpu::{Caps, Class},
    kronecker::{
        Axis, Basis, Combine, Function, General, LeastSquares, Matrix, Precision, Ridge,
        SolveOptions, Spectrum, solve, spectral,
    },
    random::Random,
};

use crate::{
    dense::{
        apart, covariance, definite, eliminate, general, indefinite, kronecker, norm, numbers,
        shifted, times,
    },
    device::{download, gpu, round, upload},
    effort::sample,
};

/// The device as it is, with the plans of a GPU, and with bindings no larger than they must be.
fn devices(binding_bytes: u64) -> [Caps; 3] {
    let caps = gpu().caps().clone();
    let other = Caps {
        class: Class::Other,
        ..caps.clone()
    };
    let small = Caps {
        binding_bytes,
        gflops: 1e-2,
        ..caps.clone()
    };
    [caps, other, small]
}

#[test]
fn the_adapter_gives_what_the_reference_gives() {
    for name in [
        "kron_spectral",
        "kron_solve",
        "kron_sum_solve",
        "kron_diag_solve",
    ] {
        let op = ops().iter().find(|op| op.name == name).unwrap();
        for case in sample((op.builtin)()) {
            let problem = case.bind().unwrap();
            let reference = problem.reference().unwrap();
            let outputs = problem.outputs();
            let row = 4 * outputs[0].shape.last().copied().unwrap_or(1);
            let inputs = problem.inputs();
            let whole = inputs.iter().skip(1).map(|array| array.bytes.len());
            let most = whole.fold(2 * row + 512, usize::max).next_multiple_of(256);
            let mut before: Option<Vec<Vec<u8>>> = None;
            for caps in devices(most as u64) {
                let plan = problem.plans(&caps, true).unwrap().swap_remove(0);
                let arrays = run(gpu(), problem.as_ref(), &plan, false).unwrap();
                for ((output, array), reference) in outputs.iter().zip(&arrays).zip(&reference) {
                    let verdict = judge(output, array, &reference.values, None);
                    assert!(
                        verdict.holds(),
                        "{} {}: {verdict:?}",
                        case.name,
                        output.name
                    );
                }
                let bytes: Vec<Vec<u8>> = arrays.iter().map(|array| array.bytes.clone()).collect();
                // Cutting to bindings and dispatches changes no bit.
                if caps.class == Class::Cpu {
                    assert!(
                        before.as_ref().is_none_or(|before| *before == bytes),
                        "{}",
                        case.name
                    );
                    before = Some(bytes);
                }
            }
        }
    }
}

/// The error a call must give.
fn refused<T: std::fmt::Debug>(result: Result<T>, words: &str) {
    let message = match result {
        Err(error) => error.to_string(),
        Ok(value) => panic!("{words}: {value:?}"),
    };
    assert!(message.contains(words), "{message} lacks {words}");
}

fn basis(factors: &[Matrix]) -> Basis {
    Basis::new(gpu(), Spectrum::product(factors).unwrap()).unwrap()
}

#[test]
fn error_bounds_hold_for_smooth_and_for_white_right_hand_sides() {
    let factors = [covariance(48, 4.0), covariance(40, 5.0)];
    let basis = basis(&factors);
    let spectrum = basis.spectrum();
    let n = spectrum.len();
    let white = round::<f32>(&numbers("white", n));
    let smooth = round::<f32>(&spectrum.multiply(0.0, 1, &numbers("smooth", n)).unwrap());
    for noise in [1e-1, 1e-2, 1e-4, 1e-6] {
        for (name, b) in [("white", &white), ("smooth", &smooth)] {
            let exact = spectrum.apply(&Function::Inverse(noise), 1, b).unwrap();
            let mut options = SolveOptions {
                verify: true,
                ..SolveOptions::noise(noise)
            };
            let tensor = upload::<f32>(b);
            let mut x = gpu().zeros::<f32>(n).unwrap();
            let report = solve(gpu(), &basis, &options, 1, &tensor, &mut x).unwrap();
            let error = apart(&download(&x), &exact);
            println!("{name} {noise:e}: {error:.2e}; {report}");
            assert!(
                error <= report.error_bound,
                "{name} {noise}: {error} {report}"
            );
            assert!(report.backward_error.unwrap() <= 1e-6, "{report:?}");
            assert!(report.residual.unwrap().is_finite());
            assert!((report.condition / spectrum.condition(noise) - 1.0).abs() < 1e-12);
            if name == "white" {
                assert!(error <= 1e-6, "{noise}: {error}");
            }
            options.precision = Precision::HostF64;
            let report = solve(gpu(), &basis, &options, 1, &tensor, &mut x).unwrap();
            let error = apart(&download(&x), &exact);
            assert!(
                error <= 1e-7 && error <= report.error_bound,
                "{noise}: {error} {report}"
            );
        }
    }
    let options = SolveOptions {
        tolerance: Some(1e-5),
        ..SolveOptions::noise(1e-6)
    };
    let (tensor, mut x) = (upload::<f32>(&smooth), gpu().zeros::<f32>(n).unwrap());
    refused(
        solve(gpu(), &basis, &options, 1, &tensor, &mut x),
        "exceeds the tolerance 1e-5 at condition",
    );
    let host = SolveOptions {
        precision: Precision::HostF64,
        ..options
    };
    assert!(
        solve(gpu(), &basis, &host, 1, &tensor, &mut x)
            .unwrap()
            .error_bound
            <= 1e-5
    );
}

#[test]
fn bounds_hold_for_one_large_factor_and_for_many_small_ones() {
    for sides in [vec![300], vec![2; 10], vec![4; 5], vec![90, 1, 10], vec![1]] {
        let factors: Vec<Matrix> = (sides.iter().enumerate())
            .map(|(n, side)| definite(&format!("bound {n}"), *side, 0.05))
            .collect();
        let basis = basis(&factors);
        let n = basis.spectrum().len();
        for noise in [0.0, 1e-3] {
            let b = round::<f32>(&numbers("right", 3 * n));
            let exact = basis
                .spectrum()
                .apply(&Function::Inverse(noise), 3, &b)
                .unwrap();
            let mut x = gpu().zeros::<f32>(3 * n).unwrap();
            let options = SolveOptions::noise(noise);
            let report = solve(gpu(), &basis, &options, 3, &upload::<f32>(&b), &mut x).unwrap();
            let found = download(&x);
            for (found, exact) in found.chunks(n).zip(exact.chunks(n)) {
                let error = apart(found, exact);
                assert!(
                    error <= report.error_bound,
                    "{sides:?} {noise}: {error} {report}"
                );
            }
        }
    }
}

#[test]
fn solutions_and_quadratic_forms_are_those_of_the_dense_matrix() {
    // More than 800 rows.
    let factors = [definite("q0", 29, 0.1), definite("q1", 31, 0.1)];
    let whole = shifted(&kronecker(&factors), 0.05);
    let b = round::<f32>(&numbers("b", whole.rows));
    let (x, _, _) = eliminate(&whole, &b);
    let basis = basis(&factors);
    let mut found = gpu().zeros::<f32>(b.len()).unwrap();
    let tensor = upload::<f32>(&b);
    let options = SolveOptions::noise(0.05);
    solve(gpu(), &basis, &options, 1, &tensor, &mut found).unwrap();
    assert!(apart(&download(&found), &x) < 1e-6);
    let form: f64 = b.iter().zip(&x).map(|(b, x)| b * x).sum();
    let of_device = subquad::kronecker::quadratic(gpu(), &basis, 0.05, 1, &tensor).unwrap();
    let of_host = subquad::kronecker::solve_cpu::quadratic(basis.spectrum(), 0.05, 1, &b).unwrap();
    assert!((of_device[0] / form - 1.0).abs() < 1e-5);
    assert!((of_host[0] / form - 1.0).abs() < 1e-10);
    assert!(
        subquad::kronecker::quadratic(gpu(), &basis, 0.05, 0, &upload::<f32>(&[]))
            .unwrap()
            .is_empty()
    );
}

#[test]
fn gradients_are_slopes_and_the_adapter_has_them() {
    use subquad::kronecker::solve_cpu;
    let factors = vec![
        definite("g0", 4, 0.2),
        definite("g1", 3, 0.2),
        definite("g2", 5, 0.2),
    ];
    let spectrum = |factors: &[Matrix]| Spectrum::product(factors).unwrap();
    let (rows, noise, h) = (2, 0.3, 1e-5);
    let n = 60;
    let [b, grad_x] = ["b", "g"].map(|name| round::<f32>(&numbers(name, rows * n)));
    let whole = spectrum(&factors);
    let gradients = solve_cpu::gradients(&whole, noise, rows, &b, &grad_x).unwrap();
    let loss = |factors: &[Matrix], noise: f64, b: &[f64]| -> f64 {
        let x = solve_cpu::solve(&spectrum(factors), noise, rows, b).unwrap();
        x.iter().zip(&grad_x).map(|(x, g)| x * g).sum()
    };
    let weights = [0.7, -1.3];
    let forms = solve_cpu::quadratic_gradients(&whole, noise, rows, &b, &weights).unwrap();
    let form = |factors: &[Matrix], noise: f64, b: &[f64]| -> f64 {
        let forms = solve_cpu::quadratic(&spectrum(factors), noise, rows, b).unwrap();
        forms.iter().zip(&weights).map(|(x, w)| x * w).sum()
    };
    type Loss<'a> = &'a dyn Fn(&[Matrix], f64, &[f64]) -> f64;
    let both: [(&solve_cpu::Gradients, Loss<'_>); 2] = [(&gradients, &loss), (&forms, &form)];
    for (gradients, loss) in both {
        for t in 0..3 {
            let side = factors[t].rows;
            for (i, j) in [(0, 0), (1, 0), (side - 1, 1)] {
                let moved = |h: f64| {
                    let mut factors = factors.clone();
                    let own = factors[t].clone();
                    factors[t] = Matrix::of(side, side, |a, b| {
                        let here = (a, b) == (i, j) || (b, a) == (i, j);
                        own.at(a, b) + if here { h } else { 0.0 }
                    });
                    loss(&factors, noise, &b)
                };
                let slope = (moved(h) - moved(-h)) / (2.0 * h);
                let own = gradients.factors[t].at(i, j) * if i == j { 1.0 } else { 2.0 };
                assert!(
                    (own - slope).abs() < 1e-5 * slope.abs().max(1.0),
                    "{t} {i} {j}: {own} {slope}"
                );
            }
        }
        let slope = (loss(&factors, noise + h, &b) - loss(&factors, noise - h, &b)) / (2.0 * h);
        assert!((gradients.noise - slope).abs() < 1e-5 * slope.abs().max(1.0));
        for e in [0, 17, n + 3] {
            let moved = |h: f64| {
                let mut b = b.clone();
                b[e] += h;
                loss(&factors, noise, &b)
            };
            let slope = (moved(h) - moved(-h)) / (2.0 * h);
            assert!((gradients.b[e] - slope).abs() < 1e-6 * slope.abs().max(1.0));
        }
    }
    let basis = basis(&factors);
    let x = whole.apply(&Function::Inverse(noise), rows, &b).unwrap();
    let (x, upstream) = (upload::<f32>(&x), upload::<f32>(&grad_x));
    let mut grad_b = gpu().zeros::<f32>(rows * n).unwrap();
    let found =
        subquad::kronecker::solve_gradients(gpu(), &basis, noise, rows, &x, &upstream, &mut grad_b);
    let found = found.unwrap();
    assert!(apart(&download(&grad_b), &gradients.b) < 1e-6);
    assert!((found.noise / gradients.noise - 1.0).abs() < 1e-5);
    for (found, exact) in found.factors.iter().zip(&gradients.factors) {
        assert!(apart(&found.entries, &exact.entries) < 1e-5);
    }
    let sum = Spectrum::sum(&factors).unwrap();
    refused(
        solve_cpu::gradients(&sum, noise, rows, &b, &grad_x),
        "does not support gradients of anything but a product of factors without metrics",
    );
}

#[test]
fn determinants_of_general_factors_keep_the_parity_of_pivots() {
    // A cyclic exchange of three is even, of two odd; determinants below 1 and above.
    let cycle = |n: usize, s: f64| Matrix::of(n, n, |i, j| if (i + 1) % n == j { s } else { 0.0 });
    for (a, b) in [(3, 2), (3, 3), (2, 3), (2, 2), (4, 5), (5, 4)] {
        for s in [0.25, 4.0] {
            let factors = [cycle(a, s), general("beside", b, b)];
            let (_, sign, log) = eliminate(&kronecker(&factors), &[]);
            let found = General::new(&factors).unwrap().slogdet();
            assert_eq!(found.0, sign, "{a} {b} {s}");
            assert!(
                (found.1 - log).abs() < 1e-10 * log.abs().max(1.0),
                "{a} {b} {s}"
            );
        }
    }
    // The case a rival has -133 for: (+4.1) of two negative determinants.
    let factors = [
        general("first", 3, 3),
        general("second", 7, 7),
        general("third", 2, 2),
    ];
    let (_, sign, log) = eliminate(&kronecker(&factors), &[]);
    let found = General::new(&factors).unwrap().slogdet();
    assert_eq!(found.0, sign);
    assert!((found.1 - log).abs() < 1e-10 * log.abs().max(1.0));
    let singular = Matrix::of(3, 3, |i, j| (3 * i + j) as f64);
    let whole = General::new(&[factors[0].clone(), singular]).unwrap();
    assert_eq!(whole.slogdet(), (0, f64::NEG_INFINITY));
    refused(
        whole.apply(1, &[0.0; 9]),
        "kron_solve: factor 1 is singular",
    );
    refused(
        General::new(&[general("wide", 2, 3)]),
        "kron_solve: factor 0 must be square, got 2 x 3",
    );
}

#[test]
fn general_factors_and_least_squares_solve() {
    let factors = [
        general("first", 5, 5),
        general("second", 6, 6),
        general("third", 30, 30),
    ];
    let whole = General::new(&factors).unwrap();
    let b = round::<f32>(&numbers("b", 2 * 900));
    let x = whole.apply(2, &b).unwrap();
    assert!(apart(&times(&kronecker(&factors), &x), &b) < 1e-8);
    let mut found = gpu().zeros::<f32>(b.len()).unwrap();
    let report = whole
        .solve(gpu(), 2, &upload::<f32>(&b), &mut found)
        .unwrap();
    assert!(
        apart(&download(&found), &x) <= report.error_bound,
        "{report}"
    );
    assert_eq!(report.condition, whole.condition());
    let factors = [general("tall", 7, 3), general("wide", 4, 6)];
    for mu in [0.0, 0.5] {
        damped(&factors, mu, 1e-10);
    }
    // A cut-off above the second product of singular values leaves one direction.
    let system = LeastSquares::new(&factors, Ridge::CutOff(0.999)).unwrap();
    let [x, y] = [numbers("x", 28), numbers("y", 28)].map(|b| system.apply(1, &b).unwrap());
    let dot: f64 = x.iter().zip(&y).map(|(x, y)| x * y).sum();
    assert!((dot.abs() / norm(&x) / norm(&y) - 1.0).abs() < 1e-10);
    refused(
        LeastSquares::new(&factors, Ridge::Damped(-1.0)),
        "ridge must be a finite number of at least 0, got -1",
    );
}

#[test]
fn samples_have_the_covariance_asked_for() {
    let factors = [covariance(3, 1.0), covariance(4, 2.0)];
    let basis = basis(&factors);
    let (n, rows, noise) = (12, 4000, 0.1);
    let mut out = gpu().zeros::<f32>(rows * n).unwrap();
    let random = Random::new(7);
    let moments = |x: &[f64], dense: &Matrix| {
        for i in 0..n {
            for j in 0..=i {
                let sum: f64 = x.chunks(n).map(|x| x[i] * x[j]).sum();
                let variance = dense.at(i, i) * dense.at(j, j) + dense.at(i, j).powi(2);
                let error = (variance / rows as f64).sqrt();
                let apart = sum / rows as f64 - dense.at(i, j);
                assert!(apart.abs() < 5.0 * error, "{i} {j}: {apart} {error}");
            }
        }
    };
    let whole = kronecker(&factors);
    for noise in [0.0, noise] {
        subquad::kronecker::sample(gpu(), &basis, noise, &random, rows, &mut out).unwrap();
        moments(&download(&out), &shifted(&whole, noise));
    }
    // Posterior of y: mean K (K + σ²)⁻¹ y, covariance σ² K (K + σ²)⁻¹.
    let y = round::<f32>(&numbers("y", n));
    let mean = basis
        .spectrum()
        .apply(&Function::Shrink(noise), 1, &y)
        .unwrap();
    let every: Vec<f64> = y.iter().copied().cycle().take(rows * n).collect();
    subquad::kronecker::posterior_sample(
        gpu(),
        &basis,
        noise,
        &random,
        rows,
        &upload::<f32>(&every),
        &mut out,
    )
    .unwrap();
    let centred: Vec<f64> = download(&out)
        .iter()
        .zip(mean.iter().cycle())
        .map(|(x, m)| x - m)
        .collect();
    let columns: Vec<f64> = (0..n * n)
        .map(|at| f64::from(u8::from(at / n == at % n)))
        .collect();
    let shrunk = basis
        .spectrum()
        .apply(&Function::Shrink(noise), n, &columns)
        .unwrap();
    let variance: Vec<f64> = shrunk.iter().map(|x| noise * x).collect();
    moments(&centred, &Matrix::new(n, n, variance).unwrap());
}

#[test]
fn two_runs_are_bit_equal() {
    let basis = basis(&[covariance(20, 2.0), covariance(30, 3.0)]);
    let b = upload::<f32>(&numbers("b", 600));
    let of = || {
        let mut x = gpu().zeros::<f32>(600).unwrap();
        spectral(gpu(), &basis, &Function::InverseRoot(0.1), 1, &b, &mut x).unwrap();
        x.download().unwrap()
    };
    assert_eq!(of(), of());
}

#[test]
fn refusals_name_what_is_wrong() {
    let good = definite("good", 3, 0.5);
    let b = upload::<f32>(&[1.0; 9]);
    let mut x = gpu().zeros::<f32>(9).unwrap();
    let mut of = |factors: &[Matrix], options: &SolveOptions| {
        solve(gpu(), &basis(factors), options, 1, &b, &mut x)
    };
    let noise = SolveOptions::noise(0.1);
    let turned = Matrix::new(3, 3, vec![1.0, 0.0, 0.0, 0.0, -0.5, 0.0, 0.0, 0.0, 2.0]).unwrap();
    refused(
        of(&[good.clone(), turned.clone()], &noise),
        "kron_solve: factor 1 is indefinite: its eigenvalues reach from -5.000e-1 to 2.000e0; `spectral` with `Function::Inverse` takes such factors",
    );
    let negative = Matrix::of(3, 3, |i, j| -good.at(i, j));
    refused(
        of(&[good.clone(), negative.clone()], &noise),
        "kron_solve: the whole is not positive definite",
    );
    assert!(of(&[negative.clone(), negative], &noise).is_ok());
    let ones = Matrix::of(3, 3, |_, _| 1.0);
    refused(
        of(&[good.clone(), ones], &SolveOptions::noise(0.0)),
        "kron_solve: the whole is not positive definite: its least eigenvalue with the noise 0e0 is 0.000e0; raise the noise",
    );
    refused(
        of(&[good.clone(), good.clone()], &SolveOptions::noise(-0.1)),
        "kron_solve: options.noise must be a finite number of at least 0, got -0.1",
    );
    refused(
        of(std::slice::from_ref(&good), &noise),
        "kron_spectral: b must be 3 elements for this shape, got 9",
    );
    let tiny = Matrix::of(3, 3, |i, j| 1e-30 * good.at(i, j));
    refused(
        of(&[tiny.clone(), tiny], &SolveOptions::noise(0.0)),
        "leaves the range of f32; scale the factors, raise the shift or compute on the host with `Spectrum::apply`",
    );
    let tolerance = SolveOptions {
        tolerance: Some(f64::NAN),
        ..noise
    };
    refused(
        of(&[good.clone(), good.clone()], &tolerance),
        "options.tolerance must be a finite number of at least 0, got NaN",
    );
    // Indefinite factors have functions, but no solution by this name.
    let basis = basis(&[good, turned]);
    let plain = spectral(
        gpu(),
        &basis,
        &Function::Inverse(0.1),
        1,
        &b,
        &mut gpu().zeros(9).unwrap(),
    );
    assert!(plain.is_ok());
    refused(
        spectral(
            gpu(),
            &basis,
            &Function::Root(0.0),
            1,
            &b,
            &mut gpu().zeros(9).unwrap(),
        ),
        "kron_spectral: an eigenvalue plus 0e0 is negative, which has no real power; factors must be positive semidefinite",
    );
    let known = Axis::new(vec![1.0, 2.0], Matrix::identity(2)).unwrap();
    let known = Spectrum::new(vec![known], Combine::Product).unwrap();
    refused(
        known.multiply(0.0, 1, &[1.0, 1.0]),
        "products with a factor of which only the eigenvectors are known",
    );
    let limited = Caps {
        binding_bytes: 1024,
        ..Caps::webgpu_floor()
    };
    let large = Spectrum::product(&[indefinite("large", 40), indefinite("large", 30)]).unwrap();
    let plan = subquad::kronecker::spectral::plan(&large, &Function::Shifted(0.0), 1, &limited);
    assert!(matches!(plan, Err(Error::Limit { .. })));
}

/// The solution damped by μ has a slope of zero, Aᵀ (A x − b) + μ x, but for so much, and the adapter's is as good as f32 allows with
/// a condition of some hundreds.
pub fn damped(factors: &[Matrix], mu: f64, slope_limit: f64) {
    let dense = kronecker(factors);
    let b = round::<f32>(&numbers("right", dense.rows));
    let system = LeastSquares::new(factors, Ridge::Damped(mu)).unwrap();
    let x = system.apply(1, &b).unwrap();
    let rest: Vec<f64> = times(&dense, &x)
        .iter()
        .zip(&b)
        .map(|(a, b)| a - b)
        .collect();
    let slope = times(&dense.transposed(), &rest);
    let slope: Vec<f64> = slope.iter().zip(&x).map(|(s, x)| s + mu * x).collect();
    assert!(norm(&slope) < slope_limit, "{mu}: {:e}", norm(&slope));
    let mut found = gpu().zeros::<f32>(x.len()).unwrap();
    system
        .solve(gpu(), 1, &upload::<f32>(&b), &mut found)
        .unwrap();
    let error = apart(&download(&found), &x);
    assert!(error < 1e-4, "{mu}: {error:e}");
}
