//! The problems: equations whose solutions are known, and what must be reached.
use std::f64::consts::TAU;

use subquad::kronecker::pde::{Axis, Equation, Line, Options, Plane, Problem};

/// u and f of an equation, as functions of both coordinates; on a line the second is 0.
type Function = fn(f64, f64) -> f64;

/// A problem and its promise.
pub struct Task {
    pub name: &'static str,
    pub equation: Equation,
    /// Ends of each axis; a line has one.
    pub ends: &'static [[f64; 2]],
    /// Points of each axis.
    pub points: usize,
    pub highest_frequency: f64,
    pub solution: Function,
    /// The derivatives' part of f: that of the equation without its nonlinear term.
    pub derivatives: Function,
    /// Steps at most; fewer where the promise is kept earlier.
    pub steps: usize,
    /// Logarithms of the precisions at the start, where they are not the usual ones.
    pub log_precisions: Option<[f64; 2]>,
    /// The relative L2 error to reach, where one is promised.
    pub promise: Option<f64>,
}

const CIRCLE: [f64; 2] = [0.0, TAU];

fn wave(k: f64, x: f64) -> f64 {
    (k * x).sin()
}

/// sin 6x cos kx and its second derivative.
fn beat(k: f64, x: f64) -> f64 {
    (6.0 * x).sin() * (k * x).cos()
}

fn beat_curvature(k: f64, x: f64) -> f64 {
    -(36.0 + k * k) * beat(k, x) - 12.0 * k * (6.0 * x).cos() * (k * x).sin()
}

impl Task {
    /// Whether it takes a plane.
    pub fn is_plane(&self) -> bool {
        self.ends.len() == 2
    }

    fn axis(&self, n: usize) -> Axis {
        Axis {
            ends: self.ends[n],
            points: self.points,
        }
    }

    fn source(&self, x: f64, y: f64) -> f64 {
        let u = (self.solution)(x, y);
        let rest = if self.equation == Equation::AllenCahn {
            u * u * u - u
        } else {
            0.0
        };
        (self.derivatives)(x, y) + rest
    }

    pub fn problem(&self) -> Problem {
        let n = self.points;
        let first = self.axis(0);
        if !self.is_plane() {
            return Problem::Line(Line {
                axis: first,
                equation: self.equation,
                source: (0..n).map(|i| self.source(first.at(i), 0.0)).collect(),
                boundary: first.ends.map(|x| (self.solution)(x, 0.0)),
            });
        }
        let second = self.axis(1);
        let row = |i: usize| (0..n).map(move |j| self.source(first.at(i), second.at(j)));
        let across = |x: f64| Some((0..n).map(|j| (self.solution)(x, second.at(j))).collect());
        let along = |y: f64| Some((0..n).map(|i| (self.solution)(first.at(i), y)).collect());
        // Of time only the beginning is given.
        let end = match self.equation {
            Equation::Advection { .. } => None,
            _ => along(second.ends[1]),
        };
        Problem::Plane(Plane {
            axes: [first, second],
            equation: self.equation,
            source: (0..n).flat_map(row).collect(),
            sides: [first.ends.map(across), [along(second.ends[0]), end]],
        })
    }

    pub fn options(&self) -> Options {
        let mut options = Options::new(self.highest_frequency);
        if let Equation::Advection { .. } = self.equation {
            options.boundary_weight = 500.0;
        }
        if let Some(log_precisions) = self.log_precisions {
            options.log_precisions = log_precisions;
        }
        options
    }

    /// So many coordinates along an axis, where predictions are compared with the solution.
    pub fn coordinates(&self, axis: usize, count: usize) -> Vec<f64> {
        let Some([begin, end]) = self.ends.get(axis) else {
            return Vec::new();
        };
        let step = (end - begin) / (count - 1) as f64;
        (0..count).map(|i| begin + step * i as f64).collect()
    }

    /// u at the crossings of coordinates, row by row.
    pub fn truth(&self, first: &[f64], second: &[f64]) -> Vec<f64> {
        if second.is_empty() {
            return first.iter().map(|x| (self.solution)(*x, 0.0)).collect();
        }
        let row = |x: &f64| {
            let x = *x;
            second.iter().map(move |y| (self.solution)(x, *y))
        };
        first.iter().flat_map(row).collect()
    }
}

/// Problems on lines, then on planes.
pub fn tasks() -> Vec<Task> {
    let line = Task {
        name: "u'' = f, u = sin 100x",
        equation: Equation::Poisson,
        ends: &[CIRCLE],
        points: 400,
        highest_frequency: 20.0,
        solution: |x, _| wave(100.0, x),
        derivatives: |x, _| -1e4 * wave(100.0, x),
        steps: 60,
        log_precisions: None,
        promise: Some(1e-3),
    };
    let toy = Task {
        name: "Δu = f, u = sin 16x · sin 16y",
        ends: &[CIRCLE, CIRCLE],
        points: 64,
        highest_frequency: 3.2,
        solution: |x, y| wave(16.0, x) * wave(16.0, y),
        derivatives: |x, y| -512.0 * wave(16.0, x) * wave(16.0, y),
        steps: 20,
        promise: Some(5e-4),
        ..line
    };
    vec![
        Task { ..line },
        Task {
            name: "u'' = f, u = sin 6x · cos 100x",
            solution: |x, _| beat(100.0, x),
            derivatives: |x, _| beat_curvature(100.0, x),
            ..line
        },
        Task {
            name: "u'' = f, u = sin x + 0.1 sin 20x + 0.05 sin 100x",
            ends: &[[0.0, 1.0]],
            points: 900,
            highest_frequency: 30.0,
            solution: |x, _| wave(1.0, x) + 0.1 * wave(20.0, x) + 0.05 * wave(100.0, x),
            derivatives: |x, _| -wave(1.0, x) - 40.0 * wave(20.0, x) - 500.0 * wave(100.0, x),
            ..line
        },
        Task {
            name: "u'' = f, u = x sin 200x",
            points: 900,
            highest_frequency: 50.0,
            solution: |x, _| x * wave(200.0, x),
            derivatives: |x, _| 400.0 * (200.0 * x).cos() - 4e4 * x * wave(200.0, x),
            ..line
        },
        Task {
            name: "u'' + u³ - u = f, u = sin 100x",
            equation: Equation::AllenCahn,
            ..line
        },
        Task { ..toy },
        Task {
            name: "Δu + u³ - u = f, u = sin 16x · sin 16y",
            equation: Equation::AllenCahn,
            ..toy
        },
        Task {
            name: "20 u_x + u_t = 0, u = sin(x - 20t)",
            equation: Equation::Advection { speed: 20.0 },
            ends: &[CIRCLE, [0.0, 1.0]],
            solution: |x, t| wave(1.0, x - 20.0 * t),
            derivatives: |_, _| 0.0,
            promise: Some(2e-3),
            ..toy
        },
        Task {
            name: "Δu = f, u = sin 100x · sin 100y",
            points: 400,
            highest_frequency: 20.0,
            solution: |x, y| wave(100.0, x) * wave(100.0, y),
            derivatives: |x, y| -2e4 * wave(100.0, x) * wave(100.0, y),
            steps: 1,
            log_precisions: Some([8.0, -8.0]),
            promise: Some(2e-3),
            ..toy
        },
    ]
}
