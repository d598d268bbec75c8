//! Kriging of a real elevation model: a Gaussian process on a grid of 344 x 403 cells, of which many are hidden.
//!
//! `cargo run --release --example terrain [report.html]`: with 30 % and 70 % of the cells hidden the held-out error must stay below what
//! `PROMISES` says. Lengths, variance and noise are learnt from blocks of observed cells on the host; means, samples and variances on the
//! device.
#[path = "../common/mod.rs"]
mod common;
mod page;

use std::{path::PathBuf, process::ExitCode, time::Instant};

use common::Progress;
use safetensors::SafeTensors;
use subquad::{
    Gpu, Select,
    case::{Failure, write_whole},
    kronecker::{
        DiagOptions, DiagReport,
        gp::{Blocks, Family, Grid, Learner, Parameters, Regression},
    },
    random::Random,
};

const ELEVATION: &[u8] = include_bytes!("../data/elevation.safetensors");

/// The share of hidden cells, and the root-mean-square error in metres to stay below. Linear interpolation on Delaunay triangles of such
/// observations has 6.60 and 10.76.
const PROMISES: [(f64, f64); 2] = [(0.3, 4.1), (0.7, 7.8)];

/// Steps of learning, and their rate at first.
const STEPS: usize = 40;
const RATE: f64 = 0.1;

/// Blocks along each axis, and observed cells in each.
const BLOCKS: usize = 4;
const OBSERVED: usize = 300;

/// Samples of the posterior, whose spread about its mean gives intervals of all cells; and cells whose variance is solved for.
const SAMPLES: usize = 4;
const EXACT: usize = 4;

/// Student's t of [`SAMPLES`] degrees of freedom between which 95 % lie: the mean is known, the spread is that of so many samples.
const STUDENT: f64 = 2.776;

/// The side of the crop with a hidden block, and that of the block.
const CROP: usize = 120;
const HOLE: usize = 40;

/// Heights in metres, row by row from the north.
pub struct Terrain {
    pub sides: [usize; 2],
    pub heights: Vec<f64>,
}

impl Terrain {
    fn load() -> Result<Terrain, Failure> {
        let broken = |message: String| Failure::File {
            path: "the bundled elevation model".into(),
            message,
        };
        let file =
            SafeTensors::deserialize(ELEVATION).map_err(|error| broken(error.to_string()))?;
        let view = file
            .tensor("elevation_m")
            .map_err(|error| broken(error.to_string()))?;
        let &[rows, columns] = view.shape() else {
            return Err(broken("elevation_m is not [rows, columns]".into()));
        };
        let heights = view.data().chunks_exact(2);
        Ok(Terrain {
            sides: [rows, columns],
            heights: heights
                .map(|b| f64::from(u16::from_le_bytes([b[0], b[1]])))
                .collect(),
        })
    }

    /// The rows and columns from the corner on.
    fn crop(&self, side: usize) -> Terrain {
        let rows = self.heights.chunks(self.sides[1]).take(side);
        Terrain {
            sides: [side; 2],
            heights: rows
                .flat_map(|row| row.iter().take(side).copied())
                .collect(),
        }
    }

    /// Which cells are observed, each with its own chance.
    fn observed(&self, hidden: f64) -> Vec<bool> {
        let random = Random::new(2026);
        (0..self.heights.len())
            .map(|cell| random.uniform(cell as u64) >= hidden)
            .collect()
    }
}

/// One share of hidden cells: what was learnt and how well it predicts.
pub struct Scenario {
    pub hidden: f64,
    pub observed: Vec<bool>,
    /// Log likelihood of the blocks, a cell, before each step and after the last.
    pub curve: Vec<f64>,
    pub parameters: Parameters,
    pub mean: Vec<f64>,
    /// Standard deviations of the heights as predicted, by samples.
    pub deviation: Vec<f64>,
    pub report: DiagReport,
    /// Root-mean-square errors of the held-out cells, of the mean and of the nearest observed cell.
    pub rmse: f64,
    pub nearest: f64,
    /// The share of held-out cells within their 95 % interval.
    pub coverage: f64,
    /// Held-out cells: deviation by samples, and by a solution of their own.
    pub exact: Vec<[f64; 2]>,
    /// Of learning, the mean, the samples and the exact variances.
    pub seconds: [f64; 4],
}

/// A hidden block, far from everything observed.
pub struct Hole {
    pub terrain: Terrain,
    pub observed: Vec<bool>,
    pub mean: Vec<f64>,
    pub deviation: Vec<f64>,
    pub iterations: usize,
    /// Root mean squares over the middle of the block: of the error and of the predicted deviation.
    pub error: f64,
    pub predicted: f64,
}

pub struct Findings {
    pub device: String,
    pub terrain: Terrain,
    pub scenarios: Vec<Scenario>,
    pub hole: Hole,
}

fn root_mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = values.fold((0.0, 0), |(sum, count), x| (sum + x * x, count + 1));
    (sum / f64::from(count.max(1))).sqrt()
}

/// Lengths, variance and noise of greatest likelihood over blocks.
fn learn(
    terrain: &Terrain,
    observed: &[bool],
    steps: usize,
) -> Result<(Parameters, Vec<f64>), Failure> {
    let seen = terrain
        .heights
        .iter()
        .zip(observed)
        .filter(|(_, seen)| **seen);
    let heights: Vec<f64> = seen.map(|(height, _)| *height).collect();
    let level = heights.iter().sum::<f64>() / heights.len() as f64;
    let variance = root_mean(heights.iter().map(|height| height - level)).powi(2);
    let blocks = Blocks::spread(
        &Grid::cells(&terrain.sides),
        &terrain.heights,
        observed,
        BLOCKS,
        OBSERVED,
    )?;
    let [_, cells] = blocks.sizes();
    let mut learner = Learner::new(
        Parameters {
            family: Family::Matern52,
            lengths: vec![4.0; 2],
            variance: variance / 4.0,
            noise: variance / 1000.0,
        },
        RATE,
    );
    let progress = Progress::new(steps);
    let mut curve = Vec::new();
    for step in 1..=steps {
        let likelihood = blocks.likelihood(learner.parameters())?;
        curve.push(likelihood.value / cells as f64);
        learner.set_rate(RATE * (1.0 - 0.9 * (step - 1) as f64 / steps as f64));
        learner.ascend(&likelihood);
        progress.tell(
            step,
            format!(
                "log likelihood {:.4} a cell",
                likelihood.value / cells as f64
            ),
        );
    }
    progress.finish();
    let last = blocks.likelihood(learner.parameters())?;
    curve.push(last.value / cells as f64);
    Ok((learner.parameters().clone(), curve))
}

/// The height of the nearest observed cell, by rings around each hidden one.
fn nearest(terrain: &Terrain, observed: &[bool]) -> f64 {
    let [rows, columns] = terrain.sides.map(|n| n as i64);
    let at = |i: i64, j: i64| {
        let inside = (0..rows).contains(&i) && (0..columns).contains(&j);
        let cell = (i * columns + j) as usize;
        (inside && observed[cell]).then(|| terrain.heights[cell])
    };
    let errors = (0..terrain.heights.len())
        .filter(|cell| !observed[*cell])
        .map(|cell| {
            let (i, j) = (cell as i64 / columns, cell as i64 % columns);
            let mut offsets: Vec<(i64, i64)> = (-6..=6)
                .flat_map(|a| (-6..=6).map(move |b| (a, b)))
                .collect();
            offsets.sort_by_key(|(a, b)| a * a + b * b);
            let found = offsets.iter().find_map(|(a, b)| at(i + a, j + b));
            found.map_or(0.0, |height| height - terrain.heights[cell])
        });
    root_mean(errors)
}

fn options(tolerance: f64) -> DiagOptions {
    DiagOptions {
        tolerance,
        ..DiagOptions::default()
    }
}

/// What the process says of every cell.
struct Prediction {
    regression: Regression,
    mean: Vec<f64>,
    /// Of the heights, by samples about the mean.
    deviation: Vec<f64>,
    report: DiagReport,
    /// Of the mean, and of the samples.
    seconds: [f64; 2],
}

fn predict(
    gpu: &Gpu,
    terrain: &Terrain,
    observed: &[bool],
    parameters: &Parameters,
) -> Result<Prediction, Failure> {
    let regression = |tolerance: f64| {
        Regression::new(
            gpu,
            Grid::cells(&terrain.sides),
            parameters.clone(),
            &terrain.heights,
            Some(observed),
            options(tolerance),
        )
    };
    let started = Instant::now();
    let fine = regression(1e-5)?;
    let (mean, report) = fine.mean()?;
    let mean_seconds = started.elapsed().as_secs_f64();
    let report = report.ok_or_else(|| Failure::Usage("no cell is hidden".into()))?;
    // A tenth of a deviation is close enough for intervals.
    let coarse = regression(1e-3)?;
    let progress = Progress::new(SAMPLES);
    let mut squares = vec![0.0; mean.len()];
    for sample in 0..SAMPLES {
        let (drawn, _) = coarse.samples(1, &Random::new(7).fork(sample as u32))?;
        for (square, (drawn, mean)) in squares.iter_mut().zip(drawn.iter().flatten().zip(&mean)) {
            *square += (drawn - mean).powi(2);
        }
        progress.tell(sample + 1, "samples of the posterior".into());
    }
    progress.finish();
    let deviation = squares
        .iter()
        .map(|sum| (sum / SAMPLES as f64 + parameters.noise).sqrt());
    let seconds = started.elapsed().as_secs_f64() - mean_seconds;
    Ok(Prediction {
        regression: fine,
        mean,
        deviation: deviation.collect(),
        report,
        seconds: [mean_seconds, seconds],
    })
}

fn scenario(gpu: &Gpu, terrain: &Terrain, hidden: f64, steps: usize) -> Result<Scenario, Failure> {
    let observed = terrain.observed(hidden);
    let started = Instant::now();
    let (parameters, curve) = learn(terrain, &observed, steps)?;
    let learning = started.elapsed().as_secs_f64();
    let Prediction {
        regression,
        mean,
        deviation,
        report,
        seconds: [of_mean, of_samples],
    } = predict(gpu, terrain, &observed, &parameters)?;
    let held_out: Vec<usize> = (0..observed.len())
        .filter(|cell| !observed[*cell])
        .collect();
    let error = |cell: usize| mean[cell] - terrain.heights[cell];
    let inside = held_out
        .iter()
        .filter(|cell| error(**cell).abs() <= STUDENT * deviation[**cell]);
    let coverage = inside.count() as f64 / held_out.len() as f64;
    let started = Instant::now();
    let chosen: Vec<usize> = held_out
        .iter()
        .copied()
        .step_by(held_out.len() / EXACT)
        .take(EXACT)
        .collect();
    let (variances, _) = regression.variance_at(&chosen)?;
    let exact = chosen.iter().zip(variances);
    Ok(Scenario {
        hidden,
        curve,
        rmse: root_mean(held_out.iter().map(|cell| error(*cell))),
        nearest: nearest(terrain, &observed),
        coverage,
        exact: exact
            .map(|(cell, variance)| [deviation[*cell], (variance + parameters.noise).sqrt()])
            .collect(),
        seconds: [
            learning,
            of_mean,
            of_samples,
            started.elapsed().as_secs_f64(),
        ],
        observed,
        parameters,
        mean,
        deviation,
        report,
    })
}

/// A block without any observation, in a corner of the map with few hidden cells around.
fn hole(gpu: &Gpu, terrain: &Terrain, parameters: &Parameters) -> Result<Hole, Failure> {
    let terrain = terrain.crop(CROP);
    let mut observed = terrain.observed(0.3);
    let begin = (CROP - HOLE) / 2;
    let within = |cell: usize, margin: usize| {
        let range = begin + margin..begin + HOLE - margin;
        range.contains(&(cell / CROP)) && range.contains(&(cell % CROP))
    };
    for (cell, seen) in observed.iter_mut().enumerate() {
        *seen &= !within(cell, 0);
    }
    let Prediction {
        mean,
        deviation,
        report,
        ..
    } = predict(gpu, &terrain, &observed, parameters)?;
    let middle: Vec<usize> = (0..mean.len()).filter(|cell| within(*cell, 10)).collect();
    Ok(Hole {
        error: root_mean(
            middle
                .iter()
                .map(|cell| mean[*cell] - terrain.heights[*cell]),
        ),
        predicted: root_mean(middle.iter().map(|cell| deviation[*cell])),
        iterations: report.solve.iterations,
        terrain,
        observed,
        mean,
        deviation,
    })
}

fn run() -> Result<(), Failure> {
    let path = std::env::args_os().nth(1);
    let path = path.map_or("subquad-terrain.html".into(), PathBuf::from);
    let gpu = Gpu::open(&Select::from_env())?;
    let terrain = Terrain::load()?;
    let (mut scenarios, mut missed) = (Vec::new(), Vec::new());
    for (hidden, promise) in PROMISES {
        let found = scenario(&gpu, &terrain, hidden, STEPS)?;
        println!(
            "{:.0} % hidden: held-out RMSE {:.2} m, nearest cell {:.2} m, {:.1} % within 95 % intervals, {}, {:.0} s",
            100.0 * hidden,
            found.rmse,
            found.nearest,
            100.0 * found.coverage,
            found.report.solve,
            found.seconds.iter().sum::<f64>()
        );
        if found.rmse > promise {
            missed.push(format!(
                "{:.2} m with {:.0} % hidden, not {promise} m",
                found.rmse,
                100.0 * hidden
            ));
        }
        if !(0.85..=0.99).contains(&found.coverage) {
            missed.push(format!(
                "{:.3} of the heights within intervals of 95 %",
                found.coverage
            ));
        }
        scenarios.push(found);
    }
    let hole = hole(&gpu, &terrain, &scenarios[0].parameters)?;
    println!(
        "inside a hidden block of {HOLE} x {HOLE}: error {:.0} m, predicted deviation {:.0} m",
        hole.error, hole.predicted
    );
    let findings = Findings {
        device: gpu.caps().name.clone(),
        terrain,
        scenarios,
        hole,
    };
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
    fn a_corner_of_the_map_is_predicted_better_than_by_the_nearest_cell() {
        let gpu = Gpu::open(&Select::from_env()).unwrap();
        let corner = Terrain::load().unwrap().crop(48);
        let found = scenario(&gpu, &corner, 0.3, 10).unwrap();
        assert!(
            found.rmse < 0.8 * found.nearest,
            "{} {}",
            found.rmse,
            found.nearest
        );
        assert!((0.8..=1.0).contains(&found.coverage), "{}", found.coverage);
        assert!(found.curve[10] > found.curve[0]);
    }
}
