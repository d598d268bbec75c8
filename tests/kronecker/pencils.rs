//! Two terms, Sylvester equations and general factors with more than 800 unknowns, on every path: eigenvectors on the host, on the
//! adapter, elimination and singular values, against dense matrices in f64.

use subquad::kronecker::{
    Basis, Combine, Function, General, Matrix, SolveOptions, Spectrum, solve, spectral,
};

use crate::{
    dense::{apart, definite, eliminate, general, kronecker, kronecker_sum, numbers, plus},
    device::{download, gpu, round, upload},
    solve::damped,
};

const SIDES: [usize; 2] = [28, 30];
const WHOLE: usize = 840;

fn diagonal(n: usize, entry: impl Fn(usize) -> f64) -> Matrix {
    Matrix::of(n, n, |i, j| if i == j { entry(i) } else { 0.0 })
}

/// Solves own + c metric by every path; `own` and `metric` are dense.
fn holds(spectrum: &Spectrum, [own, metric]: [&Matrix; 2], c: f64, name: &str) {
    let b = round::<f32>(&numbers(name, WHOLE));
    let dense = plus(own, metric, c);
    let (x, sign, log) = eliminate(&dense, &b);
    assert_eq!(sign, 1, "{name}");
    let bound = 1e-9 * WHOLE as f64 + 1e-12 * log.abs();
    let found = spectrum.logdet(c).unwrap();
    assert!((found - log).abs() <= bound, "{name}: {found} {log}");
    assert_eq!(spectrum.slogdet(c).unwrap(), (1, found), "{name}");
    let found = spectrum.apply(&Function::Inverse(c), 1, &b).unwrap();
    assert!(apart(&found, &x) < 1e-10, "{name}");
    let image = spectrum.multiply(c, 1, &x).unwrap();
    assert!(apart(&image, &b) < 1e-10, "{name}");

    let basis = Basis::new(gpu(), spectrum.clone()).unwrap();
    let tensor = upload::<f32>(&b);
    let mut on_device = gpu().zeros::<f32>(WHOLE).unwrap();
    let options = SolveOptions {
        verify: true,
        ..SolveOptions::noise(c)
    };
    let report = solve(gpu(), &basis, &options, 1, &tensor, &mut on_device).unwrap();
    let error = apart(&download(&on_device), &x);
    println!("{name}: {error:.2e}, {report:?}");
    assert!(
        error <= report.error_bound && error <= 1e-6,
        "{name}: {error:e} {report}"
    );
    assert!(report.backward_error.unwrap() <= 1e-6, "{name}: {report:?}");
    // The function by its name is the same.
    let mut by_function = gpu().zeros::<f32>(WHOLE).unwrap();
    spectral(
        gpu(),
        &basis,
        &Function::Inverse(c),
        1,
        &tensor,
        &mut by_function,
    )
    .unwrap();
    assert_eq!(download(&by_function), download(&on_device), "{name}");
}

#[test]
fn two_terms_of_hundreds_of_unknowns() {
    let own = SIDES.map(|n| definite(&format!("own {n}"), n, 0.2));
    let beside = SIDES.map(|n| definite(&format!("beside {n}"), n, 0.5));
    let spectrum = Spectrum::pencil(&own, &beside, Combine::Product).unwrap();
    holds(
        &spectrum,
        [&kronecker(&own), &kronecker(&beside)],
        0.3,
        "two terms",
    );
}

/// The second term is a Kronecker product of diagonals, all equal or not.
#[test]
fn diagonals_that_are_products_of_hundreds_of_unknowns() {
    let own = SIDES.map(|n| definite(&format!("own {n}"), n, 0.2));
    for (name, constant) in [("constant diagonals", true), ("diagonals", false)] {
        let beside = SIDES.map(|n| {
            diagonal(n, |i| {
                if constant {
                    1.5
                } else {
                    0.5 + i as f64 / n as f64
                }
            })
        });
        let spectrum = Spectrum::pencil(&own, &beside, Combine::Product).unwrap();
        holds(
            &spectrum,
            [&kronecker(&own), &kronecker(&beside)],
            0.1,
            name,
        );
    }
}

/// A X + X B, and A X C + D X B.
#[test]
fn sylvester_equations_of_hundreds_of_unknowns() {
    let own = SIDES.map(|n| definite(&format!("own {n}"), n, 0.2));
    let identities = SIDES.map(Matrix::identity);
    let spectrum = Spectrum::sum(&own).unwrap();
    holds(
        &spectrum,
        [&kronecker_sum(&own, &identities), &kronecker(&identities)],
        0.0,
        "sylvester",
    );
    let beside = SIDES.map(|n| definite(&format!("beside {n}"), n, 0.5));
    let spectrum = Spectrum::pencil(&own, &beside, Combine::Sum).unwrap();
    holds(
        &spectrum,
        [&kronecker_sum(&own, &beside), &kronecker(&beside)],
        0.4,
        "generalised sylvester",
    );
}

#[test]
fn elimination_and_least_squares_of_hundreds_of_unknowns() {
    let factors = SIDES.map(|n| general(&format!("general {n}"), n, n));
    let b = round::<f32>(&numbers("b", WHOLE));
    let (x, sign, log) = eliminate(&kronecker(&factors), &b);
    let whole = General::new(&factors).unwrap();
    let found = whole.slogdet();
    assert_eq!(found.0, sign);
    let bound = 1e-9 * WHOLE as f64 + 1e-12 * log.abs();
    assert!((found.1 - log).abs() <= bound, "{} {log}", found.1);
    assert!(apart(&whole.apply(1, &b).unwrap(), &x) < 1e-8);
    let mut on_device = gpu().zeros::<f32>(WHOLE).unwrap();
    let report = whole
        .solve(gpu(), 1, &upload::<f32>(&b), &mut on_device)
        .unwrap();
    let error = apart(&download(&on_device), &x);
    assert!(error <= report.error_bound, "{error:e} {report}");

    let factors = [general("tall", 31, 28), general("taller", 34, 30)];
    damped(&factors, 0.5, 1e-9);
}
