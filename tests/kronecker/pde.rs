//! Collocation with spectral mixtures: errors that must be reached, and refusals.

use std::f64::consts::TAU;

use crate::{cases::hold, device::gpu};

use subquad::{
    Error,
    kronecker::pde::{Axis, Equation, Line, Options, Plane, Problem, Solver},
};

fn relative(found: &[f64], truth: &[f64]) -> f64 {
    assert_eq!(found.len(), truth.len());
    let apart: f64 = found.iter().zip(truth).map(|(a, b)| (a - b).powi(2)).sum();
    (apart / truth.iter().map(|x| x * x).sum::<f64>()).sqrt()
}

fn coordinates([begin, end]: [f64; 2], count: usize) -> Vec<f64> {
    let step = (end - begin) / (count - 1) as f64;
    (0..count).map(|i| begin + step * i as f64).collect()
}

/// u'' = f for u = sin kx.
fn wave(points: usize, k: f64) -> Line {
    let axis = Axis {
        ends: [0.0, TAU],
        points,
    };
    Line {
        axis,
        equation: Equation::Poisson,
        source: (0..points)
            .map(|i| -k * k * (k * axis.at(i)).sin())
            .collect(),
        boundary: axis.ends.map(|x| (k * x).sin()),
    }
}

/// Δu = f for u = sin kx sin ky.
fn waves(points: usize, k: f64) -> Plane {
    let axis = Axis {
        ends: [0.0, TAU],
        points,
    };
    let sine: Vec<f64> = (0..points).map(|i| (k * axis.at(i)).sin()).collect();
    let row = |a: &f64| {
        let a = *a;
        sine.iter().map(move |b| -2.0 * k * k * a * b)
    };
    let side = || Some(vec![0.0; points]);
    Plane {
        axes: [axis; 2],
        equation: Equation::Poisson,
        source: sine.iter().flat_map(row).collect(),
        sides: [[side(), side()], [side(), side()]],
    }
}

#[test]
fn a_hundred_waves_on_a_line_are_found() {
    let mut solver = Solver::new(Problem::Line(wave(400, 100.0)), Options::new(20.0)).unwrap();
    for _ in 0..42 {
        solver.step().unwrap();
    }
    let x = coordinates([0.0, TAU], 300);
    let truth: Vec<f64> = x.iter().map(|x| (100.0 * x).sin()).collect();
    let error = relative(&solver.predict(&x, &[]), &truth);
    assert!(error <= 1e-3, "{error:e}");
}

#[test]
fn waves_on_a_plane_are_found() {
    let mut solver = Solver::new(Problem::Plane(waves(64, 16.0)), Options::new(3.2)).unwrap();
    for _ in 0..20 {
        solver.step().unwrap();
    }
    let x = coordinates([0.0, TAU], 300);
    let sine: Vec<f64> = x.iter().map(|x| (16.0 * x).sin()).collect();
    let truth: Vec<f64> = sine
        .iter()
        .flat_map(|a| sine.iter().map(move |b| a * b))
        .collect();
    let error = relative(&solver.predict(&x, &x), &truth);
    assert!(error <= 5e-4, "{error:e}");
}

fn sentence(problem: Problem, options: Options) -> String {
    let refused: Error = Solver::new(problem, options).err().unwrap();
    refused.to_string()
}

#[test]
fn wrong_arguments_are_refused_in_words() {
    let options = Options::new(2.0);
    let line = wave(16, 1.0);
    let mut bad = line.clone();
    bad.axis.ends = [1.0, 1.0];
    assert_eq!(
        sentence(Problem::Line(bad), options),
        "gp_pde: the ends of an axis must be finite and ascending, got [1.0, 1.0]"
    );
    let mut bad = line.clone();
    bad.axis.points = 3;
    assert_eq!(
        sentence(Problem::Line(bad), options),
        "gp_pde: the points of an axis must be 4 to 4096, got 3"
    );
    let mut bad = line.clone();
    bad.source.pop();
    assert_eq!(
        sentence(Problem::Line(bad), options),
        "gp_pde: source must be 16 elements for this shape, got 15"
    );
    let mut bad = line.clone();
    bad.equation = Equation::Advection { speed: 1.0 };
    assert_eq!(
        sentence(Problem::Line(bad), options),
        "gp_pde does not support advection on a line; space and time are the two axes of a plane"
    );
    let none = Options {
        components: 0,
        ..options
    };
    assert_eq!(
        sentence(Problem::Line(line), none),
        "gp_pde: components must be at least 1, got 0"
    );
    let mut bad = waves(16, 1.0);
    bad.sides = [[None, None], [None, None]];
    assert_eq!(
        sentence(Problem::Plane(bad), options),
        "gp_pde: sides must be given on at least one side, got none"
    );
    let mut bad = waves(16, 1.0);
    bad.sides[1][0] = Some(vec![0.0; 15]);
    assert_eq!(
        sentence(Problem::Plane(bad), options),
        "gp_pde: sides must be 16 elements for this shape, got 15"
    );
}

#[test]
fn the_device_finds_what_the_host_finds() {
    let axis = Axis {
        ends: [0.0, TAU],
        points: 22,
    };
    for equation in [
        Equation::Poisson,
        Equation::AllenCahn,
        Equation::Advection { speed: 2.0 },
    ] {
        let wave = |x: f64, y: f64| (3.0 * x - 2.0 * y).sin();
        let cells = |f: &dyn Fn(f64, f64) -> f64| -> Vec<f64> {
            let row = |i: usize| (0..22).map(move |j| (axis.at(i), axis.at(j)));
            (0..22).flat_map(row).map(|(x, y)| f(x, y)).collect()
        };
        let source = cells(&|x, y| match equation {
            Equation::Poisson => -13.0 * wave(x, y),
            Equation::AllenCahn => wave(x, y).powi(3) - 14.0 * wave(x, y),
            Equation::Advection { .. } => 4.0 * (3.0 * x - 2.0 * y).cos(),
        });
        let across = |x: f64| Some((0..22).map(|j| wave(x, axis.at(j))).collect());
        let along = |y: f64| Some((0..22).map(|i| wave(axis.at(i), y)).collect());
        let plane = Plane {
            axes: [axis; 2],
            equation,
            source,
            sides: [[across(0.0), across(TAU)], [along(0.0), None]],
        };
        // Precisions at which conjugate gradients converge on both.
        let options = Options {
            log_precisions: [0.0, -4.6],
            tolerance: 1e-6,
            ..Options::new(1.1)
        };
        let x = coordinates([0.0, TAU], 40);
        let run = |solver: Solver| {
            let mut solver = solver;
            let step = solver.step().unwrap();
            assert!(step.iterations < 300, "{step:?}");
            solver.predict(&x, &x)
        };
        let host = run(Solver::new(Problem::Plane(plane.clone()), options).unwrap());
        let device = || {
            run(Solver::new(Problem::Plane(plane.clone()), options)
                .unwrap()
                .on(gpu()))
        };
        let found = device();
        let error = relative(&found, &host);
        assert!(error < 1e-4, "{equation:?}: {error:e}");
        assert!(found == device(), "{equation:?}: two runs differ");
    }
}

#[test]
fn the_adapter_gives_what_the_reference_gives() {
    hold("gp_pde");
}
