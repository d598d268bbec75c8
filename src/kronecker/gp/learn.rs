//! Learning the parameters: ascent on the log marginal likelihood, of a whole grid or of blocks of it.

use rayon::prelude::*;

use super::{Cells, Grid, Likelihood, OP, Parameters, Trend};
use crate::{Error, Result, kronecker::adam::Adam};

/// Square blocks of a partly observed grid, spread over it: the sum of their exact log marginal likelihoods stands for that of the
/// whole, whose determinant has no closed form where cells are missing.
///
/// Blocks are taken as independent of each other, a composite likelihood: its maximum is consistent as the number of blocks grows, and
/// what it gives away is what correlations across blocks would say about parameters. Each block has an unknown mean of its own, so
/// that the lengths need not explain how blocks far apart differ.
#[derive(Clone, Debug, PartialEq)]
pub struct Blocks {
    cells: Vec<Cells>,
}

impl Blocks {
    /// `per_axis` blocks along each axis, evenly spread, of about `observed` observed cells each; `values` has a number for every cell of
    /// the grid, less the mean, and `mask` says which are observed.
    ///
    /// # Errors
    /// `Argument` when lengths do not fit, or no cell is observed.
    pub fn spread(
        grid: &Grid,
        values: &[f64],
        mask: &[bool],
        per_axis: usize,
        observed: usize,
    ) -> Result<Blocks> {
        grid.check()?;
        crate::error::length(OP, "values", values.len(), grid.len())?;
        crate::error::length(OP, "mask", mask.len(), grid.len())?;
        let seen = mask.iter().filter(|seen| **seen).count();
        if seen == 0 || per_axis == 0 || observed == 0 {
            return Err(Error::Argument {
                op: OP,
                what: "blocks".into(),
                expected: "at least one, of at least one observed cell".into(),
                got: format!("{per_axis} an axis of {observed} of {seen} cells"),
            });
        }
        // A block's side, so that it has as many observed cells as asked for where they are spread evenly.
        let volume = observed as f64 * grid.len() as f64 / seen as f64;
        let side = volume.powf(1.0 / grid.axes.len() as f64).round().max(2.0) as usize;
        let starts = |n: usize| -> Vec<(usize, usize)> {
            let side = side.min(n);
            let count = per_axis.min(n / side).max(1);
            let at = |k: usize| ((2 * k + 1) * n / (2 * count)).saturating_sub(side / 2);
            (0..count).map(|k| (at(k).min(n - side), side)).collect()
        };
        let mut corners: Vec<Vec<(usize, usize)>> = vec![Vec::new()];
        for axis in &grid.axes {
            let own = starts(axis.len());
            let longer = |corner: &Vec<(usize, usize)>| {
                let corner = corner.clone();
                own.iter()
                    .map(move |start| {
                        let mut corner = corner.clone();
                        corner.push(*start);
                        corner
                    })
                    .collect::<Vec<_>>()
            };
            corners = corners.iter().flat_map(longer).collect();
        }
        let mut found: Vec<(Vec<usize>, Vec<f64>)> = vec![Default::default(); corners.len()];
        for (cell, (value, seen)) in values.iter().zip(mask).enumerate() {
            if !seen {
                continue;
            }
            let places = grid.places(cell);
            for (corner, (cells, own)) in corners.iter().zip(&mut found) {
                let mut each = places.iter().zip(corner);
                if each.all(|(at, (start, side))| (*start..start + side).contains(at)) {
                    cells.push(cell);
                    own.push(*value);
                }
            }
        }
        let filled = found.iter().filter(|(cells, _)| !cells.is_empty());
        Ok(Blocks {
            cells: filled
                .map(|(cells, own)| Cells::new(grid, cells, own))
                .collect(),
        })
    }

    /// Blocks, and cells in all of them.
    pub fn sizes(&self) -> [usize; 2] {
        [self.cells.len(), self.cells.iter().map(Cells::len).sum()]
    }

    /// The sum of the blocks' log marginal likelihoods, in f64 on the host. Cost: n³ for a block of n observed cells.
    ///
    /// # Errors
    /// As [`Cells::likelihood`].
    pub fn likelihood(&self, parameters: &Parameters) -> Result<Likelihood> {
        let each: Vec<Likelihood> = self
            .cells
            .par_iter()
            .map(|cells| cells.likelihood(parameters, Trend::Unknown))
            .collect::<Result<_>>()?;
        let mut sum = Likelihood {
            value: 0.0,
            slopes: vec![0.0; parameters.lengths.len() + 2],
        };
        for own in each {
            sum.value += own.value;
            for (sum, own) in sum.slopes.iter_mut().zip(own.slopes) {
                *sum += own;
            }
        }
        Ok(sum)
    }
}

/// Adam on the logarithms of the parameters.
pub struct Learner {
    parameters: Parameters,
    adam: Adam,
}

impl Learner {
    /// Starts from these, with this rate.
    pub fn new(parameters: Parameters, rate: f64) -> Learner {
        Learner {
            adam: Adam::new(rate, parameters.lengths.len() + 2),
            parameters,
        }
    }

    /// The parameters now.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Another rate from now on.
    pub fn set_rate(&mut self, rate: f64) {
        self.adam.set_rate(rate);
    }

    /// One step up, by the slopes of the likelihood at the parameters as they are.
    pub fn ascend(&mut self, likelihood: &Likelihood) {
        let mut logs = self.parameters.logs();
        let down: Vec<f64> = likelihood.slopes.iter().map(|slope| -slope).collect();
        self.adam.descend(&mut logs, &down);
        self.parameters = self.parameters.with_logs(&logs);
    }
}
