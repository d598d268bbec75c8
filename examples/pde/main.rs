//! Differential equations with steep waves solved by Gaussian processes on grids: GP-HM with spectral mixtures.
//!
//! `cargo run --release --example pde [report.html]`: the relative L2 error of each problem must reach what `problems.rs` promises.
//! Systems on planes are solved on the device by products with factors of the grid's sides; kernels are learnt on the host.
#[path = "../common/mod.rs"]
mod common;
mod page;
mod problems;

use std::{path::PathBuf, process::ExitCode, time::Instant};

use common::Progress;
use problems::{Task, tasks};
use subquad::{
    Gpu, Select,
    case::{Failure, write_whole},
    kronecker::pde::Solver,
};

/// Coordinates along an axis at which predictions are compared with the solution.
const COMPARED: usize = 300;

/// Errors of which the report says when they were reached.
const MARKS: [f64; 3] = [1e-2, 1e-3, 1e-4];

/// How far a problem was after a step.
struct Moment {
    seconds: f64,
    error: f64,
    iterations: usize,
}

/// A problem solved.
struct Solved {
    task: Task,
    moments: Vec<Moment>,
    /// u as predicted and as it is, where they are compared.
    predicted: Vec<f64>,
    truth: Vec<f64>,
}

impl Solved {
    /// The error of the solution with the smallest residual, which is what the method would hand out.
    fn error(&self) -> f64 {
        self.moments.last().map_or(f64::INFINITY, |last| last.error)
    }

    fn iterations(&self) -> usize {
        self.moments.iter().map(|moment| moment.iterations).sum()
    }

    /// Seconds until the error was this small.
    fn reached(&self, error: f64) -> Option<f64> {
        let moment = self.moments.iter().find(|moment| moment.error <= error)?;
        Some(moment.seconds)
    }
}

struct Findings {
    device: String,
    solved: Vec<Solved>,
}

fn relative(predicted: &[f64], truth: &[f64]) -> f64 {
    let apart = predicted.iter().zip(truth).map(|(a, b)| (a - b) * (a - b));
    let whole: f64 = truth.iter().map(|x| x * x).sum();
    (apart.sum::<f64>() / whole).sqrt()
}

/// Takes at most `steps` steps of a problem.
fn solve(gpu: &Gpu, task: Task, steps: usize) -> Result<Solved, Failure> {
    let [first, second] = [0, 1].map(|axis| task.coordinates(axis, COMPARED));
    let truth = task.truth(&first, &second);
    let mut solver = Solver::new(task.problem(), task.options())?.on(gpu);
    let progress = Progress::new(steps);
    let started = Instant::now();
    let mut solved = Solved {
        task,
        moments: Vec::new(),
        predicted: Vec::new(),
        truth,
    };
    for step in 1..=steps {
        let found = solver.step()?;
        solved.predicted = solver.predict(&first, &second);
        let error = relative(&solved.predicted, &solved.truth);
        solved.moments.push(Moment {
            seconds: started.elapsed().as_secs_f64(),
            error,
            iterations: found.iterations,
        });
        progress.tell(step, format!("{}: error {error:.1e}", solved.task.name));
    }
    progress.finish();
    Ok(solved)
}

fn run() -> Result<(), Failure> {
    let path = std::env::args_os().nth(1);
    let path = path.map_or("subquad-pde.html".into(), PathBuf::from);
    let gpu = Gpu::open(&Select::from_env())?;
    let mut findings = Findings {
        device: gpu.caps().name.clone(),
        solved: Vec::new(),
    };
    let mut missed = Vec::new();
    for task in tasks() {
        let steps = task.steps;
        let solved = solve(&gpu, task, steps)?;
        let (name, error) = (solved.task.name, solved.error());
        let last = solved.moments.last().map_or(0.0, |last| last.seconds);
        println!(
            "{name}: relative error {error:.1e} after {steps} steps, {} iterations, {last:.1} s",
            solved.iterations()
        );
        if let Some(promise) = solved.task.promise.filter(|promise| error > *promise) {
            missed.push(format!("{name}: {error:.1e} instead of {promise:.0e}"));
        }
        findings.solved.push(solved);
    }
    write_whole(&path, page::page(&findings)?.as_bytes())?;
    println!("report: {}", path.display());
    if missed.is_empty() {
        Ok(())
    } else {
        Err(Failure::Missed(missed.join("; ")))
    }
}

fn main() -> ExitCode {
    common::exit(run())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_the_derivatives_of_solutions() {
        let h = 1e-5;
        for task in tasks() {
            let u = task.solution;
            let (x, y) = (0.37, if task.is_plane() { 0.21 } else { 0.0 });
            let second = |low: f64, at: f64, high: f64| (low - 2.0 * at + high) / (h * h);
            let along_x = second(u(x - h, y), u(x, y), u(x + h, y));
            let along_y = second(u(x, y - h), u(x, y), u(x, y + h));
            let found = match task.equation {
                subquad::kronecker::pde::Equation::Advection { speed } => {
                    let x = (u(x + h, y) - u(x - h, y)) / (2.0 * h);
                    speed * x + (u(0.37, y + h) - u(0.37, y - h)) / (2.0 * h)
                }
                _ if task.is_plane() => along_x + along_y,
                _ => along_x,
            };
            let expected = (task.derivatives)(x, y);
            assert!(
                (found - expected).abs() < 1e-2 + 1e-4 * expected.abs(),
                "{}: {found} {expected}",
                task.name
            );
        }
    }

    #[test]
    fn a_few_steps_on_a_small_grid_come_close() {
        let gpu = Gpu::open(&Select::from_env()).unwrap();
        let mut task = tasks().swap_remove(5);
        task.points = 32;
        task.highest_frequency = 1.6;
        task.solution = |x, y| (8.0 * x).sin() * (8.0 * y).sin();
        task.derivatives = |x, y| -128.0 * (8.0 * x).sin() * (8.0 * y).sin();
        let solved = solve(&gpu, task, 2).unwrap();
        assert!(solved.error() < 2e-2, "{}", solved.error());
    }
}
