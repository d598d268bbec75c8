use faer::linalg::solvers::Solve;

use super::{super::axis::cholesky, *};

fn plane(equation: Equation) -> Plane {
    let axes = [
        Axis {
            ends: [0.0, 2.0],
            points: 7,
        },
        Axis {
            ends: [-0.5, 1.0],
            points: 6,
        },
    ];
    let side = |n: usize, by: f64| Some((0..n).map(|i| (by * i as f64).sin()).collect());
    Plane {
        axes,
        equation,
        source: (0..42).map(|n| (0.7 * n as f64).cos()).collect(),
        sides: [[side(6, 0.3), side(6, 0.9)], [side(7, 0.5), None]],
    }
}

const PRECISIONS: Precisions = Precisions {
    boundary: 0.02,
    equation: 0.7,
};

fn equations() -> [Equation; 3] {
    [
        Equation::Poisson,
        Equation::AllenCahn,
        Equation::Advection { speed: 1.5 },
    ]
}

fn options() -> Options {
    let mut options = Options::new(1.0);
    options.components = 2;
    options.tolerance = 1e-12;
    options.iterations = 500;
    options
}

/// Both matrices of an axis.
fn matrices(plane: &Plane, mixtures: &[Mixture]) -> [[Mat<f64>; 2]; 2] {
    [0, 1].map(|axis| plane.axes[axis].matrices(&mixtures[axis], plane.order()))
}

/// The objective's parts that depend on U, or on the mixtures, from matrices of the axes and their inverses.
fn objective(plane: &Plane, mixtures: &[Mixture], u: &Mat<f64>, precisions: Precisions) -> f64 {
    let [[k1, d1], [k2, d2]] = matrices(plane, mixtures);
    let (l1, l2) = (cholesky(&k1, "K").unwrap(), cholesky(&k2, "K").unwrap());
    let log_det = |l: &Mat<f64>| -> f64 { (0..l.nrows()).map(|i| l[(i, i)].ln()).sum() };
    let first = l1.solve(u);
    let second = l2.solve(u.transpose()).transpose().to_owned();
    let both = l2.solve(first.transpose());
    let fit = plane.speeds()[0] * (&d1 * &first) + plane.speeds()[1] * (&second * d2.transpose());
    let prior: f64 = (0..u.ncols())
        .map(|j| u.col(j).transpose() * both.transpose().col(j))
        .sum();
    let source = plane.source();
    let mut misfit = 0.0;
    for i in 0..u.nrows() {
        for j in 0..u.ncols() {
            let value = fit[(i, j)] + plane.equation.value(u[(i, j)]) - source[(i, j)];
            misfit += value * value;
        }
    }
    let mut boundary = 0.0;
    for axis in [0, 1] {
        for (at, side) in plane.given(axis) {
            for (n, value) in side.iter().enumerate() {
                let u = if axis == 0 { u[(at, n)] } else { u[(n, at)] };
                boundary += (u - value) * (u - value);
            }
        }
    }
    let (n, m) = (u.nrows() as f64, u.ncols() as f64);
    m * log_det(&l1.L().to_owned())
        + n * log_det(&l2.L().to_owned())
        + 0.5 * prior
        + 0.5 * 200.0 * precisions.boundary * boundary
        + 0.5 * precisions.equation * misfit
}

#[test]
fn the_solution_is_a_stationary_point_of_the_objective() {
    for equation in equations() {
        let (plane, mut options) = (plane(equation), options());
        // Gauss-Newton has settled after so many turns.
        options.newton_turns = 40;
        let mixtures = vec![Mixture::spread(options.family, 2, 1.0).unwrap(); 2];
        let solution = solve(&plane, &mixtures, PRECISIONS, &options, None, None).unwrap();
        let mut u = solution.u.clone();
        let value = objective(&plane, &mixtures, &u, PRECISIONS);
        let h = 1e-4;
        for (i, j) in [(0, 0), (3, 2), (6, 5), (2, 0), (5, 4)] {
            let keep = u[(i, j)];
            u[(i, j)] = keep + h;
            let up = objective(&plane, &mixtures, &u, PRECISIONS) - value;
            u[(i, j)] = keep - h;
            let down = objective(&plane, &mixtures, &u, PRECISIONS) - value;
            u[(i, j)] = keep;
            // The slope against the curvature, both by differences.
            assert!(
                (up - down).abs() < 2e-3 * (up + down),
                "{equation:?} {i} {j}: {up} {down}"
            );
        }
    }
}

#[test]
fn slopes_are_those_of_the_objective_at_a_fixed_solution() {
    for equation in equations() {
        let (plane, options) = (plane(equation), options());
        let mut mixtures = vec![
            Mixture::spread(options.family, 2, 1.0).unwrap(),
            Mixture::spread(options.family, 2, 0.6).unwrap(),
        ];
        let solution = solve(&plane, &mixtures, PRECISIONS, &options, None, None).unwrap();
        let slopes = solution.slopes(&plane, &mixtures);
        let h = 1e-5;
        for (axis, slopes) in slopes.iter().enumerate() {
            for (at, found) in slopes.iter().enumerate() {
                let keep = mixtures[axis].parameters()[at];
                let mut value = |p: f64| {
                    mixtures[axis].parameters_mut()[at] = p;
                    objective(&plane, &mixtures, &solution.u, PRECISIONS)
                };
                let slope = (value(keep + h) - value(keep - h)) / (2.0 * h);
                value(keep);
                assert!(
                    (slope - found).abs() < 1e-4 * (1.0 + slope.abs()),
                    "{equation:?} {axis} {at}: {slope} {found}"
                );
            }
        }
    }
}
