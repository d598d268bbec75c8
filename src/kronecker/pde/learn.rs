//! The outer loop: solve for U, set the precisions, one Adam step on the mixtures.

use std::sync::Arc;

use super::{Line, Mixture, Options, Plane, line, plane};
use crate::{Error, Gpu, Result, kronecker::adam::Adam};

/// What one unit of misfit costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Precisions {
    /// τ, of boundary values.
    pub boundary: f64,
    /// v, of the equation.
    pub equation: f64,
}

/// How well a solution fits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Judged {
    /// Sums of squares, and of how many terms.
    pub boundary: f64,
    pub boundary_points: usize,
    pub residual: f64,
    pub points: usize,
}

impl Precisions {
    /// The precisions of greatest likelihood, capped.
    fn fitted(judged: &Judged, options: &Options) -> Precisions {
        let fit = |points: usize, sum: f64, cap: f64| (points as f64 / sum).min(cap.exp());
        let [boundary, equation] = options.log_caps;
        Precisions {
            boundary: fit(judged.boundary_points, judged.boundary, boundary),
            equation: fit(judged.points, judged.residual, equation),
        }
    }
}

/// What a step found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Root mean square of the equation's residual over the points.
    pub residual: f64,
    /// Root mean square of the misfit at the boundary.
    pub boundary: f64,
    /// Iterations of conjugate gradients; 0 where the system is solved directly.
    pub iterations: usize,
}

/// What can be solved.
#[derive(Clone, Debug, PartialEq)]
pub enum Problem {
    /// An equation on a line.
    Line(Line),
    /// An equation on a plane.
    Plane(Plane),
}

enum Solution {
    Line(Box<line::Solution>),
    Plane(Box<plane::Solution>),
}

/// A problem being solved, turn by turn.
pub struct Solver {
    gpu: Option<Gpu>,
    problem: Problem,
    options: Options,
    mixtures: Vec<Mixture>,
    precisions: Precisions,
    adams: Vec<Adam>,
    last: Option<Arc<Solution>>,
    best: Option<Best>,
}

/// The solution of the smallest residual.
struct Best {
    residual: f64,
    mixtures: Vec<Mixture>,
    solution: Arc<Solution>,
}

impl Solver {
    /// Starts from spread mixtures.
    ///
    /// # Errors
    /// `Argument` when sizes or lengths do not fit together; `Unsupported` for advection on a line.
    pub fn new(problem: Problem, options: Options) -> Result<Solver> {
        let axes = match &problem {
            Problem::Line(line) => line.check().map(|()| 1),
            Problem::Plane(plane) => plane.check().map(|()| 2),
        }?;
        let mixture = Mixture::spread(
            options.family,
            options.components,
            options.highest_frequency,
        )?;
        let adam = || Adam::new(options.rate, mixture.parameters().len());
        let [boundary, equation] = options.log_precisions.map(f64::exp);
        Ok(Solver {
            gpu: None,
            adams: (0..axes).map(|_| adam()).collect(),
            mixtures: vec![mixture; axes],
            problem,
            options,
            precisions: Precisions { boundary, equation },
            last: None,
            best: None,
        })
    }

    /// With the systems of planes solved on a device, in f32 with residuals in f64 in between. Lines stay on the host, whose matrices are
    /// no larger than the kernels'.
    pub fn on(self, gpu: &Gpu) -> Solver {
        Solver {
            gpu: Some(gpu.clone()),
            ..self
        }
    }

    /// One turn: the best U for the mixtures and precisions as they are, then new ones.
    ///
    /// # Errors
    /// `Numeric` when a matrix has no Cholesky factor or no eigenvalues in f64; those of the
    /// device.
    pub fn step(&mut self) -> Result<Step> {
        let (solution, judged, iterations, slopes) = match &self.problem {
            Problem::Line(line) => {
                let near = match self.last.as_deref() {
                    Some(Solution::Line(last)) => Some(&last.u),
                    _ => None,
                };
                let mixture = self.mixtures.first().ok_or_else(lost)?;
                let solution = line::solve(line, mixture, self.precisions, &self.options, near)?;
                let slopes = solution.slopes(line, mixture, self.precisions.equation);
                let judged = solution.judged(line);
                (Solution::Line(Box::new(solution)), judged, 0, vec![slopes])
            }
            Problem::Plane(plane) => {
                let near = match self.last.as_deref() {
                    Some(Solution::Plane(last)) => Some(&last.u),
                    _ => None,
                };
                let solution = plane::solve(
                    plane,
                    &self.mixtures,
                    self.precisions,
                    &self.options,
                    near,
                    self.gpu.as_ref(),
                )?;
                let slopes = solution.slopes(plane, &self.mixtures);
                let (judged, iterations) = (solution.judged(plane), solution.iterations);
                (
                    Solution::Plane(Box::new(solution)),
                    judged,
                    iterations,
                    slopes,
                )
            }
        };
        let solution = Arc::new(solution);
        self.last = Some(solution.clone());
        let residual = judged.residual;
        if self
            .best
            .as_ref()
            .is_none_or(|best| residual < best.residual)
        {
            self.best = Some(Best {
                residual,
                mixtures: self.mixtures.clone(),
                solution,
            });
        }
        // The slopes are those of the objective that this U minimises, so that U need not be differentiated.
        self.precisions = Precisions::fitted(&judged, &self.options);
        let each = self.mixtures.iter_mut().zip(&mut self.adams).zip(slopes);
        for ((mixture, adam), slopes) in each {
            adam.descend(mixture.parameters_mut(), &slopes);
        }
        Ok(Step {
            residual: (residual / judged.points as f64).sqrt(),
            boundary: (judged.boundary / judged.boundary_points as f64).sqrt(),
            iterations,
        })
    }

    /// u at other coordinates, on a plane row by row of their grid, by the solution of the smallest residual so far; `second` are
    /// those of a plane's second axis. Empty before the first step.
    pub fn predict(&self, first: &[f64], second: &[f64]) -> Vec<f64> {
        let Some(best) = &self.best else {
            return Vec::new();
        };
        match (&self.problem, best.solution.as_ref()) {
            (Problem::Line(line), Solution::Line(solution)) => match best.mixtures.first() {
                Some(mixture) => solution.predict(line, mixture, first),
                None => Vec::new(),
            },
            (Problem::Plane(plane), Solution::Plane(solution)) => {
                solution.predict(plane, &best.mixtures, [first, second])
            }
            _ => Vec::new(),
        }
    }
}

fn lost() -> Error {
    Error::Gpu {
        message: "a line has one mixture".into(),
    }
}
