//! What a solution says of itself is what a dense matrix in f64 says of it.

use subquad::kronecker::{
    Basis, DiagOptions, Diagonal, Matrix, Solution, SolveOptions, Spectrum, diag_solve, solve,
};

use crate::{
    cases::hold_files,
    dense::{apart, covariance, definite, eliminate, kronecker, norm, numbers, shifted, times},
    device::{download, gpu, round, upload},
};

fn near(found: f64, expected: f64, what: &str) {
    assert!(
        (found - expected).abs() <= 1e-6 * expected.abs(),
        "{what}: {found:e} {expected:e}"
    );
}

#[test]
fn residuals_condition_and_backward_error_are_those_of_the_dense_matrix() {
    for (name, factors) in [
        (
            "definite",
            vec![
                definite("r0", 7, 0.1),
                definite("r1", 6, 0.1),
                definite("r2", 3, 0.1),
            ],
        ),
        ("covariances", vec![covariance(12, 2.0), covariance(9, 3.0)]),
        ("one", vec![definite("r3", 40, 0.01)]),
    ] {
        let spectrum = Spectrum::product(&factors).unwrap();
        let n = spectrum.len();
        let basis = Basis::new(gpu(), spectrum.clone()).unwrap();
        for noise in [1e-1, 1e-4] {
            let whole = shifted(&kronecker(&factors), noise);
            let b = round::<f32>(&numbers(name, 3 * n));
            let mut x = gpu().zeros::<f32>(3 * n).unwrap();
            let options = SolveOptions {
                verify: true,
                ..SolveOptions::noise(noise)
            };
            let report = solve(gpu(), &basis, &options, 3, &upload::<f32>(&b), &mut x).unwrap();
            let x = download(&x);
            let (exact, _, _) = eliminate(&whole, &b);
            // The eigenvalues of a dense matrix are those of a product of one factor.
            let dense = Spectrum::product(std::slice::from_ref(&whole)).unwrap();
            let [least, most] = dense.extremes(0.0);
            let image = times(&whole, &x);
            let [mut residual, mut backward] = [0.0f64; 2];
            for row in 0..3 {
                let of = |x: &[f64]| x[n * row..][..n].to_vec();
                let (b, x, image, exact) = (of(&b), of(&x), of(&image), of(&exact));
                let rest = norm(&image.iter().zip(&b).map(|(a, b)| a - b).collect::<Vec<_>>());
                residual = residual.max(rest / norm(&b));
                backward = backward.max(rest / (most * norm(&x) + norm(&b)));
                // A x = b, as far as the report says, and x as well.
                let error = apart(&x, &exact);
                assert!(
                    error <= report.error_bound,
                    "{name} {noise}: {error:e} {report}"
                );
                assert!(
                    rest <= 1e-6 * (most * norm(&x) + norm(&b)),
                    "{name} {noise}: {report:?}"
                );
            }
            near(report.residual.unwrap(), residual, "residual");
            near(report.backward_error.unwrap(), backward, "backward error");
            near(report.condition, most / least, "condition");
        }
    }
}

#[test]
fn case_files_hold_on_every_plan() {
    hold_files("kron_solve", 3);
}

/// What conjugate gradients stop by is √(rᵀM⁻¹r / bᵀM⁻¹b) of the system with z; it falls with the tolerance, and so do both errors.
#[test]
fn errors_of_conjugate_gradients_are_within_what_they_say_at_every_tolerance() {
    let factors = [covariance(14, 2.0), covariance(13, 2.5)];
    let spectrum = Spectrum::product(&factors).unwrap();
    let n = spectrum.len();
    let variances = numbers("variances", n);
    let d: Vec<f64> = variances
        .iter()
        .enumerate()
        .map(|(e, x)| {
            if e % 4 == 1 {
                f64::INFINITY
            } else {
                0.055 + 0.045 * x
            }
        })
        .collect();
    let y = round::<f32>(&numbers("y", n));
    // By elimination over the observed cells.
    let k = kronecker(&factors);
    let seen: Vec<usize> = (0..n).filter(|e| d[*e].is_finite()).collect();
    let own = Matrix::of(seen.len(), seen.len(), |i, j| {
        k.at(seen[i], seen[j]) + if i == j { d[seen[i]] } else { 0.0 }
    });
    let right: Vec<f64> = seen.iter().map(|e| y[*e]).collect();
    let mut alpha = vec![0.0; n];
    for (e, x) in seen.iter().zip(eliminate(&own, &right).0) {
        alpha[*e] = x;
    }
    let mean = times(&k, &alpha);

    let basis = Basis::new(gpu(), spectrum).unwrap();
    let diagonal = Diagonal::new(&d).unwrap();
    let mut before = 0;
    for tolerance in [1e-2, 1e-3, 1e-4, 1e-5, 1e-6] {
        let options = DiagOptions {
            tolerance,
            ..DiagOptions::default()
        };
        let [mut found_alpha, mut found_mean] = [0; 2].map(|_| gpu().zeros::<f32>(n).unwrap());
        let mut solution = Solution {
            alpha: &mut found_alpha,
            mean: &mut found_mean,
        };
        let report = diag_solve(
            gpu(),
            &basis,
            &diagonal,
            &options,
            1,
            &upload::<f32>(&y),
            &mut solution,
        )
        .unwrap();
        let [of_mean, of_alpha] = [
            apart(&download(&found_mean), &mean),
            apart(&download(&found_alpha), &alpha),
        ];
        println!("{tolerance:e}: mean {of_mean:.1e}, alpha {of_alpha:.1e}, {report:?}");
        assert!(
            report.solve.converged && report.solve.residual.unwrap() <= tolerance,
            "{report:?}"
        );
        assert!(
            of_mean <= report.mean_error && of_mean <= 10.0 * tolerance,
            "{of_mean:e} {report:?}"
        );
        assert!(
            of_alpha <= report.solve.error_bound,
            "{of_alpha:e} {report:?}"
        );
        assert!(report.solve.iterations > before, "{report:?}");
        before = report.solve.iterations;
    }
}
