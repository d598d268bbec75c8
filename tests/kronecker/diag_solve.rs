//! Any diagonal and missing cells, sums of Laplacians.

use subquad::{
    Result,
    kronecker::{
        Basis, Boundary, Combine, DiagForm, DiagOptions, DiagReport, Diagonal, Function,
        LogdetOptions, Matrix, Solution, Spectrum, SumOptions, SumReport, diag_solve,
        diag_solve_cpu, laplacian, masked_posterior_sample, observed_logdet, sum_solve,
    },
    random::Random,
};

use crate::{
    dense::{apart, covariance, eliminate, indefinite, kronecker, numbers, times},
    device::{download, gpu, round, upload},
};

fn refused<T: std::fmt::Debug>(result: Result<T>, words: &str) {
    let message = match result {
        Err(error) => error.to_string(),
        Ok(value) => panic!("{words}: {value:?}"),
    };
    assert!(message.contains(words), "{message} lacks {words}");
}

/// Variances in [0.01, 0.1]; a cell is missing where `missing` says so.
fn variances(n: usize, missing: impl Fn(usize) -> bool) -> Vec<f64> {
    let each = numbers("variances", n).into_iter().enumerate();
    each.map(|(e, x)| {
        if missing(e) {
            f64::INFINITY
        } else {
            0.055 + 0.045 * x
        }
    })
    .collect()
}

/// Every third cell or so.
fn scattered(n: usize, share: f64) -> impl Fn(usize) -> bool {
    let random: Vec<f64> = numbers("missing", n);
    move |e| (random[e] + 1.0) / 2.0 < share
}

/// α and K α by elimination over the observed cells, and the logarithm of the determinant.
fn dense(k: &Matrix, d: &[f64], y: &[f64]) -> (Vec<f64>, Vec<f64>, f64) {
    let observed: Vec<usize> = (0..d.len()).filter(|e| d[*e].is_finite()).collect();
    let own = Matrix::of(observed.len(), observed.len(), |i, j| {
        k.at(observed[i], observed[j]) + if i == j { d[observed[i]] } else { 0.0 }
    });
    let right: Vec<f64> = observed.iter().map(|e| y[*e]).collect();
    let (found, _, log) = eliminate(&own, &right);
    let mut alpha = vec![0.0; d.len()];
    for (e, x) in observed.iter().zip(found) {
        alpha[*e] = x;
    }
    let mean = times(k, &alpha);
    (alpha, mean, log)
}

fn solved(
    spectrum: Spectrum,
    d: &[f64],
    options: &DiagOptions,
    y: &[f64],
) -> Result<(DiagReport, Vec<f64>, Vec<f64>)> {
    let basis = Basis::new(gpu(), spectrum).unwrap();
    let rows = y.len() / d.len();
    let [mut alpha, mut mean] = [0; 2].map(|_| gpu().zeros::<f32>(y.len()).unwrap());
    let mut solution = Solution {
        alpha: &mut alpha,
        mean: &mut mean,
    };
    let diagonal = Diagonal::new(d)?;
    let y = upload::<f32>(y);
    let report = diag_solve(gpu(), &basis, &diagonal, options, rows, &y, &mut solution)?;
    Ok((report, download(&alpha), download(&mean)))
}

#[test]
fn missing_cells_have_the_mean_of_the_dense_system() {
    let factors = [covariance(30, 3.0), covariance(30, 4.0)];
    let spectrum = Spectrum::product(&factors).unwrap();
    let k = kronecker(&factors);
    let n = 900;
    let y = round::<f32>(&numbers("y", n));
    let options = DiagOptions::default();
    for share in [0.0, 0.3] {
        let d = variances(n, scattered(n, share));
        let (alpha, mean, log) = dense(&k, &d, &y);
        let (report, found_alpha, found) = solved(spectrum.clone(), &d, &options, &y).unwrap();
        let [error, alpha_error] = [apart(&found, &mean), apart(&found_alpha, &alpha)];
        println!(
            "{share}: mean {error:.2e} of {:.2e}, alpha {alpha_error:.2e}; {}",
            report.mean_error, report.solve
        );
        assert!(report.solve.converged && report.solve.residual.unwrap() <= 1e-6);
        assert!(
            error <= 1e-5 && error <= report.mean_error,
            "{share}: {error}"
        );
        assert!(
            alpha_error <= report.solve.error_bound,
            "{share}: {alpha_error}"
        );
        // The reference in f64 takes as many iterations.
        let diagonal = Diagonal::new(&d).unwrap();
        let exact = diag_solve_cpu::diag_solve(&spectrum, &diagonal, &options, 1, &y).unwrap();
        assert!(exact[0].iterations.abs_diff(report.solve.iterations) <= 3);
        assert!(apart(&exact[0].mean, &mean) < 1e-5);
        for ((alpha, d), y) in found_alpha.iter().zip(&d).zip(&y) {
            assert!(d.is_finite() || (*alpha == 0.0 && y.is_finite()));
        }
        let logdet = |steps| {
            let options = LogdetOptions {
                steps,
                ..LogdetOptions::default()
            };
            observed_logdet(&spectrum, &diagonal, &options).unwrap()
        };
        let estimate = logdet(20);
        println!("{log:.3}: {estimate:?}");
        let error = (estimate.value - log).abs();
        assert!(error <= 4.0 * estimate.standard_error + 10.0 * estimate.last_increment);
        assert!(estimate.standard_error < 0.01 * log.abs());
        // Too few steps show in the increment.
        assert!(logdet(2).last_increment > 10.0 * estimate.last_increment);
    }
}

#[test]
fn iterations_are_as_few_as_the_preconditioner_allows() {
    // 32³, RBF, to 1e-6, by a program of its own over six draws of D, y and the missing cells: 10 to 11, 14 to 15, 7 to 8. The adapter
    // takes as many as f64.
    let n = 32 * 32 * 32;
    let random = Random::new(1);
    let normals =
        |from: u64| -> Vec<f64> { (from..from + n as u64).map(|e| random.normal(e)).collect() };
    let options = DiagOptions::default();
    for (length, share, expected) in [(0.1, 0.0, 10), (0.1, 0.3, 14), (0.3, 0.3, 7)] {
        let factor = covariance(32, length * 31.0);
        let spectrum = Spectrum::product(&[factor.clone(), factor.clone(), factor]).unwrap();
        let spectrum = spectrum.semidefinite().unwrap();
        let d = variances(n, scattered(n, share));
        let f = spectrum
            .apply(&Function::Root(0.0), 1, &normals(0))
            .unwrap();
        let noise = normals(n as u64);
        let y = f
            .iter()
            .zip(&d)
            .zip(noise)
            .map(|((f, d), e)| match d.is_finite() {
                true => f + d.sqrt() * e,
                false => 0.0,
            });
        let y: Vec<f64> = y.collect();
        let diagonal = Diagonal::new(&d).unwrap();
        let found = diag_solve_cpu::diag_solve(&spectrum, &diagonal, &options, 1, &y).unwrap();
        let iterations = found[0].iterations;
        println!("{length} {share}: {iterations}");
        assert!(
            iterations.abs_diff(expected) <= 3,
            "{length} {share}: {iterations}"
        );
        if length == 0.3 {
            let (report, _, mean) = solved(spectrum, &d, &options, &y).unwrap();
            assert!(
                report.solve.iterations.abs_diff(iterations) <= 1,
                "{report:?}"
            );
            assert!(apart(&mean, &found[0].mean) <= 1e-5);
        }
    }
}

#[test]
fn zeros_and_negative_eigenvalues_are_for_the_direct_form() {
    let options = DiagOptions {
        form: DiagForm::Direct,
        ..DiagOptions::default()
    };
    let rough = [covariance(8, 0.8), covariance(7, 0.8)];
    let bent = [indefinite("bent", 8), indefinite("over", 7)];
    for (factors, lift, zeros) in [
        (&rough, 0.0, true),
        (&rough, 0.0, false),
        (&bent, 4.0, false),
    ] {
        let k = kronecker(factors);
        let d: Vec<f64> = (variances(56, |e| e % 6 == 1).iter().enumerate())
            .map(|(e, d)| if zeros && e % 5 == 0 { 0.0 } else { d + lift })
            .collect();
        let y = round::<f32>(&numbers("y", 2 * 56));
        let spectrum = Spectrum::product(factors).unwrap();
        let (report, alpha, mean) = solved(spectrum.clone(), &d, &options, &y).unwrap();
        println!("{}", report.solve);
        let diagonal = Diagonal::new(&d).unwrap();
        let found = diag_solve_cpu::diag_solve(&spectrum, &diagonal, &options, 2, &y).unwrap();
        for (row, found) in found.iter().enumerate() {
            let own = 56 * row..56 * (row + 1);
            let (exact, image, _) = dense(&k, &d, &y[own.clone()]);
            assert!(apart(&alpha[own.clone()], &exact) <= report.solve.error_bound);
            assert!(apart(&mean[own.clone()], &image) <= report.mean_error.min(1e-4));
            assert!(apart(&found.alpha, &exact) < 1e-4);
            assert!(found.iterations <= report.solve.iterations + 3);
        }
    }
    // K + D itself is indefinite.
    let spectrum = Spectrum::product(&bent).unwrap();
    refused(
        solved(spectrum, &[0.01; 56], &options, &numbers("y", 56)),
        "not converged to 1e-6",
    );
}

#[test]
fn rows_converge_by_themselves_and_zero_rows_at_once() {
    let factors = [covariance(9, 2.0), covariance(7, 2.0)];
    let spectrum = Spectrum::product(&factors).unwrap();
    let d = variances(63, |e| e % 5 == 0);
    let one = round::<f32>(&numbers("one", 63));
    let two = round::<f32>(&numbers("two", 63));
    let all: Vec<f64> = [one.as_slice(), &[0.0; 63], &two].concat();
    let options = DiagOptions::default();
    let (_, _, mean) = solved(spectrum.clone(), &d, &options, &all).unwrap();
    assert!(mean[63..126].iter().all(|x| *x == 0.0));
    for (row, y) in [(0, one), (2, two)] {
        let (_, _, own) = solved(spectrum.clone(), &d, &options, &y).unwrap();
        assert_eq!(own, mean[63 * row..63 * (row + 1)]);
    }
    let (report, alpha, _) = solved(spectrum, &d, &options, &[]).unwrap();
    assert!(alpha.is_empty() && report.solve.converged);
}

#[test]
fn what_does_not_converge_is_an_error_with_the_report() {
    let factors = [covariance(20, 3.0), covariance(20, 3.0)];
    let spectrum = Spectrum::product(&factors).unwrap();
    let d = variances(400, |e| e % 400 < 200);
    let y = numbers("y", 400);
    let few = DiagOptions {
        max_iterations: 3,
        ..DiagOptions::default()
    };
    refused(
        solved(spectrum.clone(), &d, &few, &y),
        "kron_diag_solve: not converged to 1e-6 (ConjugateGradients: 3 iterations, condition",
    );
    let accepted = DiagOptions {
        accept_unconverged: true,
        ..few
    };
    let (report, _, mean) = solved(spectrum.clone(), &d, &accepted, &y).unwrap();
    assert!(!report.solve.converged && report.solve.residual.unwrap() > 1e-6);
    // The estimate is no worse for that.
    let (_, exact, _) = dense(&kronecker(&factors), &d, &y);
    assert!(apart(&mean, &exact) <= report.mean_error);
    refused(
        diag_solve_cpu::diag_solve(&spectrum, &Diagonal::new(&d).unwrap(), &few, 1, &y),
        "not converged to 1e-6",
    );
    refused(
        Diagonal::new(&[1.0, -0.5]),
        "diagonal must be of numbers of at least 0, infinite where a cell is missing, got -0.5 at cell 1",
    );
    refused(
        Diagonal::new(&[f64::INFINITY, 0.0]),
        "diagonal must be positive and finite for at least one cell, got 2 cells without",
    );
    let zeros = variances(400, |e| e == 7)
        .into_iter()
        .map(|d| if d.is_finite() { d } else { 0.0 });
    refused(
        solved(spectrum.clone(), &zeros.collect::<Vec<_>>(), &few, &y),
        "kron_diag_solve: diagonal must be positive in this form; `DiagForm::Direct` takes zeros, got 0 at some cell",
    );
    refused(
        solved(spectrum.clone(), &[1.0; 3], &few, &y[..3]),
        "kron_diag_solve: diagonal must be 400 elements for this shape, got 3",
    );
    let none = DiagOptions {
        tolerance: 0.0,
        ..few
    };
    refused(
        solved(spectrum, &d, &none, &y),
        "options.tolerance must be between 0 and 1, got 0",
    );
    let factors = [covariance(4, 1.0), indefinite("bad", 5)];
    let spectrum = Spectrum::product(&factors).unwrap();
    refused(
        solved(spectrum.clone(), &[1.0; 20], &few, &[0.0; 20]),
        "kron_spectral: factor 1 is not positive semidefinite: its eigenvalues reach from",
    );
    let diagonal = Diagonal::new(&[1.0; 20]).unwrap();
    let one = LogdetOptions {
        probes: 1,
        ..LogdetOptions::default()
    };
    let spectrum = Spectrum::product(&factors[..1]).unwrap();
    let four = Diagonal::new(&[1.0; 4]).unwrap();
    refused(
        observed_logdet(&spectrum, &four, &one),
        "options.probes must be at least 2, got 1",
    );
    refused(
        observed_logdet(&spectrum, &diagonal, &one),
        "diagonal must be 4 elements for this shape, got 20",
    );
}

#[test]
fn samples_given_some_cells_have_their_posterior() {
    let factors = [covariance(3, 1.5), covariance(3, 1.0)];
    let k = kronecker(&factors);
    let d = variances(9, |e| e == 2 || e == 4);
    let y = round::<f32>(&numbers("y", 9));
    let (_, mean, _) = dense(&k, &d, &y);
    let rows = 3000;
    let basis = Basis::new(gpu(), Spectrum::product(&factors).unwrap()).unwrap();
    let diagonal = Diagonal::new(&d).unwrap();
    let all: Vec<f64> = y.iter().copied().cycle().take(9 * rows).collect();
    let mut out = gpu().zeros::<f32>(9 * rows).unwrap();
    let random = Random::new(3);
    let options = DiagOptions::default();
    masked_posterior_sample(
        gpu(),
        &basis,
        &diagonal,
        &options,
        &random,
        rows,
        &upload::<f32>(&all),
        &mut out,
    )
    .unwrap();
    let samples = download::<f32>(&out);
    for e in 0..9 {
        // Variance K_ee − k_eᵀ (K + D)⁻¹ k_e.
        let column: Vec<f64> = (0..9).map(|i| k.at(i, e)).collect();
        let (_, image, _) = dense(&k, &d, &column);
        let variance = k.at(e, e) - image[e];
        let own = samples.chunks(9).map(|x| x[e] - mean[e]);
        let first: f64 = own.clone().sum::<f64>() / rows as f64;
        let second: f64 = own.map(|x| x * x).sum::<f64>() / rows as f64;
        assert!(
            first.abs() < 5.0 * (variance / rows as f64).sqrt(),
            "{e}: {first}"
        );
        let error = variance * (2.0 / rows as f64).sqrt();
        assert!(
            (second - variance).abs() < 5.0 * error,
            "{e}: {second} {variance}"
        );
    }
}

#[test]
fn laplacians_have_the_eigenvectors_said() {
    for boundary in [Boundary::Dirichlet, Boundary::Neumann, Boundary::Periodic] {
        for points in [1, 2, 3, 4, 7, 12] {
            let axis = laplacian(points, 1.7, boundary).unwrap();
            let spectrum = Spectrum::new(vec![axis], Combine::Sum).unwrap();
            let b = numbers("b", points);
            let plain = spectrum.multiply(0.0, 1, &b).unwrap();
            let by_vectors = spectrum.apply(&Function::Shifted(0.0), 1, &b).unwrap();
            let scale = spectrum.extremes(0.0)[1].max(1.0);
            for (a, b) in plain.iter().zip(&by_vectors) {
                assert!((a - b).abs() < 1e-12 * scale, "{boundary:?} {points}");
            }
            let round = spectrum.synthesise(1, &spectrum.analyse(1, &b));
            assert!(apart(&round, &b) < 1e-13);
        }
    }
    refused(
        laplacian(0, 1.0, Boundary::Neumann),
        "kron_sum_solve: points must be from 1 to 4096, got 0",
    );
    refused(
        laplacian(3, 0.0, Boundary::Neumann),
        "kron_sum_solve: length must be a positive number, got 0",
    );
}

fn poisson(
    axes: &[(usize, f64, Boundary)],
    options: &SumOptions,
    b: &[f64],
) -> Result<(SumReport, f64)> {
    let axes = axes
        .iter()
        .map(|(points, length, boundary)| laplacian(*points, *length, *boundary));
    let spectrum = Spectrum::new(axes.collect::<Result<_>>()?, Combine::Sum)?;
    let rows = b.len() / spectrum.len();
    let function = Function::MinimumNorm(options.shift);
    let exact = spectrum.apply(&function, rows, b).unwrap();
    let basis = Basis::new(gpu(), spectrum).unwrap();
    let mut x = gpu().zeros::<f32>(b.len()).unwrap();
    let report = sum_solve(gpu(), &basis, options, rows, &upload::<f32>(b), &mut x)?;
    Ok((report, apart(&download(&x), &exact)))
}

#[test]
fn poisson_on_boxes() {
    use Boundary::{Dirichlet, Neumann, Periodic};
    let plain = SumOptions::default();
    let b = round::<f32>(&numbers("b", 31 * 31 * 31));
    let (report, error) = poisson(&[(31, 1.0, Dirichlet); 3], &plain, &b).unwrap();
    println!("{error:.2e} {report:?}");
    assert!(error <= 1e-6 && error <= report.solve.error_bound && report.removed == 0.0);
    let mixed = [(6, 1.0, Dirichlet), (8, 2.0, Neumann), (7, 1.0, Periodic)];
    let (report, error) = poisson(&mixed, &plain, &round::<f32>(&numbers("b", 2 * 336))).unwrap();
    assert!(error <= 1e-6 && error <= report.solve.error_bound);
    // A right-hand side without a mean is solved, one with a mean is not unless that is allowed.
    let closed = [(10, 1.0, Neumann), (12, 1.0, Periodic)];
    let b = numbers("b", 120);
    let mean = b.iter().sum::<f64>() / 120.0;
    let centred: Vec<f64> = b.iter().map(|x| x - mean).collect();
    let (report, error) = poisson(&closed, &plain, &round::<f32>(&centred)).unwrap();
    assert!(
        error <= 1e-6 && report.removed <= 1e-6,
        "{error} {report:?}"
    );
    let lifted: Vec<f64> = round::<f32>(&b.iter().map(|x| x + 1.0).collect::<Vec<_>>());
    refused(
        poisson(&closed, &plain, &lifted),
        "of the right-hand side lies in its null space; take the mean out of b or set `allow_mean`",
    );
    let allowed = SumOptions {
        allow_mean: true,
        ..plain
    };
    let (report, error) = poisson(&closed, &allowed, &lifted).unwrap();
    let own = 120f64.sqrt() * (mean + 1.0) / lifted.iter().map(|x| x * x).sum::<f64>().sqrt();
    assert!(
        error <= 1e-6 && (report.removed / own.abs() - 1.0).abs() < 1e-4,
        "{error} {report:?}"
    );
    let shifted = SumOptions {
        shift: 0.5,
        ..plain
    };
    let (report, _) = poisson(&closed, &shifted, &lifted).unwrap();
    assert_eq!(report.removed, 0.0);
    let product = Spectrum::product(&[covariance(3, 1.0)]).unwrap();
    let basis = Basis::new(gpu(), product).unwrap();
    let (b, mut x) = (upload::<f32>(&[1.0; 3]), gpu().zeros(3).unwrap());
    refused(
        sum_solve(gpu(), &basis, &plain, 1, &b, &mut x),
        "kron_sum_solve: spectrum must be of a Kronecker sum; `solve` takes products, got a product",
    );
}
