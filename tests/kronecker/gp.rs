//! Gaussian processes on grids: likelihoods and their slopes.

use subquad::{
    case::Numbers,
    kronecker::{
        DiagOptions, LogdetOptions,
        gp::{Blocks, Cells, Family, Grid, Learner, Parameters, Regression, Trend},
    },
    random::Random,
};

use crate::{cases::hold, device::gpu};

fn parameters(family: Family) -> Parameters {
    Parameters {
        family,
        lengths: vec![1.3, 2.1],
        variance: 1.7,
        noise: 0.2,
    }
}

/// A grid with uneven coordinates.
fn grid(n: usize, m: usize) -> Grid {
    let mut numbers = Numbers::of("grid");
    let mut axis = |n: usize| (0..n).map(|i| i as f64 + 0.3 * numbers.signed()).collect();
    Grid {
        axes: vec![axis(n), axis(m)],
    }
}

fn values(n: usize) -> Vec<f64> {
    let mut numbers = Numbers::of("values");
    (0..n).map(|_| numbers.signed()).collect()
}

const FAMILIES: [Family; 3] = [Family::Rbf, Family::Matern32, Family::Matern52];

#[test]
fn slopes_of_the_likelihood_are_slopes() {
    let grid = grid(5, 4);
    let cells: Vec<usize> = (0..20).filter(|cell| cell % 3 != 1).collect();
    let cells = Cells::new(&grid, &cells, &values(cells.len()));
    let h = 1e-5;
    for family in FAMILIES {
        for trend in [Trend::Zero, Trend::Unknown] {
            let parameters = parameters(family);
            let found = cells.likelihood(&parameters, trend).unwrap();
            let logs = parameters.logs();
            for (at, found) in found.slopes.iter().enumerate() {
                let value = |by: f64| {
                    let mut logs = logs.clone();
                    logs[at] += by;
                    let moved = parameters.with_logs(&logs);
                    cells.likelihood(&moved, trend).unwrap().value
                };
                let slope = (value(h) - value(-h)) / (2.0 * h);
                assert!(
                    (slope - found).abs() < 1e-6,
                    "{family:?} {trend:?} {at}: {slope} {found}"
                );
            }
        }
    }
}

#[test]
fn an_unknown_mean_leaves_no_trace() {
    let grid = grid(4, 4);
    let all: Vec<usize> = (0..16).collect();
    let own = values(16);
    let moved: Vec<f64> = own.iter().map(|y| y + 100.0).collect();
    let of = |values: &[f64]| {
        let cells = Cells::new(&grid, &all, values);
        cells
            .likelihood(&parameters(Family::Matern52), Trend::Unknown)
            .unwrap()
            .value
    };
    assert!((of(&own) - of(&moved)).abs() < 1e-8);
}

#[test]
fn two_observations_give_what_their_normal_density_says() {
    let grid = Grid::cells(&[1, 2]);
    let parameters = parameters(Family::Rbf);
    let cells = Cells::new(&grid, &[0, 1], &[0.4, -0.9]);
    let (a, b) = (1.9, 1.7 * (-0.5f64 / (2.1 * 2.1)).exp());
    let det = a * a - b * b;
    let form = (a * 0.16 + 2.0 * b * 0.36 + a * 0.81) / det;
    let expected = -0.5 * (form + det.ln()) - (2.0 * std::f64::consts::PI).ln();
    let found = cells.likelihood(&parameters, Trend::Zero).unwrap().value;
    assert!((found - expected).abs() < 1e-12, "{found} {expected}");
}

#[test]
fn an_observed_cell_without_noise_is_certain() {
    let grid = Grid::cells(&[4, 3]);
    let cells = [0, 2, 5, 7, 11];
    let own = values(5);
    let parameters = Parameters {
        noise: 1e-12,
        ..parameters(Family::Matern32)
    };
    let at: Vec<Vec<f64>> = cells
        .iter()
        .map(|cell| vec![(cell / 3) as f64, (cell % 3) as f64])
        .chain([vec![1e6, 1e6]])
        .collect();
    let found = Cells::new(&grid, &cells, &own)
        .predict(&parameters, &at)
        .unwrap();
    for ([mean, variance], y) in found.iter().zip(&own) {
        assert!((mean - y).abs() < 1e-9 && variance.abs() < 1e-9);
    }
    // Far away nothing is known.
    assert!(found[5][0].abs() < 1e-12 && (found[5][1] - 1.7).abs() < 1e-12);
}

#[test]
fn blocks_cover_what_they_are_asked_for_and_learning_climbs() {
    let grid = Grid::cells(&[30, 40]);
    let values: Vec<f64> = (0..1200)
        .map(|cell| (0.4 * (cell / 40) as f64).sin() + (0.3 * (cell % 40) as f64).cos())
        .collect();
    let mask: Vec<bool> = (0..1200).map(|cell| cell * 7 % 10 < 6).collect();
    let blocks = Blocks::spread(&grid, &values, &mask, 2, 50).unwrap();
    let [count, cells] = blocks.sizes();
    assert!(
        count == 4 && (150..=250).contains(&cells),
        "{count} {cells}"
    );
    let mut learner = Learner::new(parameters(Family::Matern52), 0.1);
    let first = blocks.likelihood(learner.parameters()).unwrap();
    learner.ascend(&first);
    for _ in 0..10 {
        let likelihood = blocks.likelihood(learner.parameters()).unwrap();
        learner.ascend(&likelihood);
    }
    let last = blocks.likelihood(learner.parameters()).unwrap().value;
    assert!(last > first.value + 10.0, "{} {last}", first.value);
}

#[test]
fn wrong_arguments_are_refused_in_words() {
    let grid = Grid::cells(&[3, 3]);
    let sentence = |values: usize, mask: &[bool], per_axis: usize| {
        let refused = Blocks::spread(&grid, &vec![0.0; values], mask, per_axis, 5);
        refused.unwrap_err().to_string()
    };
    assert_eq!(
        sentence(8, &[true; 9], 1),
        "gp_grid: values must be 9 elements for this shape, got 8"
    );
    assert_eq!(
        sentence(9, &[true; 8], 1),
        "gp_grid: mask must be 9 elements for this shape, got 8"
    );
    assert_eq!(
        sentence(9, &[false; 9], 1),
        "gp_grid: blocks must be at least one, of at least one observed cell, got 1 an axis of 5 of 0 cells"
    );
    let cells = Cells::new(&grid, &[0], &[1.0]);
    let refused = |parameters: Parameters| {
        cells
            .likelihood(&parameters, Trend::Zero)
            .unwrap_err()
            .to_string()
    };
    let good = parameters(Family::Rbf);
    let mut bad = good.clone();
    bad.lengths.pop();
    assert_eq!(
        refused(bad),
        "gp_grid: lengths must be one for each of 2 axes, got 1"
    );
    let mut bad = good.clone();
    bad.noise = 0.0;
    assert_eq!(
        refused(bad),
        "gp_grid: noise must be positive and finite, got 0"
    );
}

/// Cells with coordinates, whether each is observed, and what a dense process says of them.
struct Dense {
    grid: Grid,
    values: Vec<f64>,
    mask: Vec<bool>,
    cells: Cells,
    level: f64,
}

fn dense(missing: bool) -> Dense {
    let grid = grid(9, 8);
    let own = values(72);
    let mask: Vec<bool> = (0..72).map(|cell| !missing || cell * 5 % 7 < 4).collect();
    let seen: Vec<usize> = (0..72).filter(|cell| mask[*cell]).collect();
    let level = seen.iter().map(|cell| own[*cell]).sum::<f64>() / seen.len() as f64;
    let less: Vec<f64> = seen.iter().map(|cell| own[*cell] - level).collect();
    Dense {
        cells: Cells::new(&grid, &seen, &less),
        grid,
        values: own,
        mask,
        level,
    }
}

impl Dense {
    fn regression(&self, parameters: Parameters) -> Regression {
        let mask = self.mask.contains(&false).then_some(self.mask.as_slice());
        let options = DiagOptions {
            tolerance: 1e-6,
            ..DiagOptions::default()
        };
        Regression::new(
            gpu(),
            self.grid.clone(),
            parameters,
            &self.values,
            mask,
            options,
        )
        .unwrap()
    }

    fn points(grid: &Grid) -> Vec<Vec<f64>> {
        let point = |cell: usize| {
            let places = grid.places(cell);
            places
                .iter()
                .zip(&grid.axes)
                .map(|(at, axis)| axis[*at])
                .collect()
        };
        (0..grid.len()).map(point).collect()
    }
}

fn close(found: &[f64], expected: impl Iterator<Item = f64>, most: f64) {
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!((found - expected).abs() < most, "{at}: {found} {expected}");
    }
}

#[test]
fn the_device_agrees_with_a_dense_process() {
    for missing in [false, true] {
        let dense = dense(missing);
        for family in FAMILIES {
            let parameters = parameters(family);
            let regression = dense.regression(parameters.clone());
            let truth = dense
                .cells
                .predict(&parameters, &Dense::points(&dense.grid))
                .unwrap();
            let (mean, report) = regression.mean().unwrap();
            assert_eq!(report.is_some(), missing);
            close(
                &mean,
                truth.iter().map(|[mean, _]| mean + dense.level),
                2e-5,
            );
            let cells = [0, 17, 40, 71];
            let (variance, _) = regression.variance_at(&cells).unwrap();
            close(&variance, cells.iter().map(|cell| truth[*cell][1]), 5e-5);
            let other = grid(4, 5);
            let truth = dense
                .cells
                .predict(&parameters, &Dense::points(&other))
                .unwrap();
            let (mean, _) = regression.mean_on(&other).unwrap();
            close(
                &mean,
                truth.iter().map(|[mean, _]| mean + dense.level),
                5e-5,
            );
        }
    }
}

#[test]
fn variances_of_a_whole_grid_are_those_of_its_cells() {
    let dense = dense(false);
    let parameters = parameters(Family::Matern52);
    let truth = dense
        .cells
        .predict(&parameters, &Dense::points(&dense.grid))
        .unwrap();
    let variance = dense.regression(parameters).variance().unwrap();
    close(&variance, truth.iter().map(|[_, variance]| *variance), 1e-5);
}

#[test]
fn the_likelihood_of_a_whole_grid_is_exact() {
    let dense = dense(false);
    for family in FAMILIES {
        let parameters = parameters(family);
        let expected = dense.cells.likelihood(&parameters, Trend::Zero).unwrap();
        let probes = LogdetOptions::default();
        let found = dense.regression(parameters).likelihood(&probes).unwrap();
        assert_eq!(found.standard_error, 0.0);
        let likelihood = found.likelihood;
        let apart = (likelihood.value - expected.value).abs();
        assert!(
            apart < 1e-5 * expected.value.abs(),
            "{likelihood:?} {expected:?}"
        );
        close(&likelihood.slopes, expected.slopes.into_iter(), 1e-3);
    }
}

#[test]
fn the_likelihood_with_missing_cells_is_within_its_errors() {
    let dense = dense(true);
    let parameters = parameters(Family::Matern52);
    let expected = dense.cells.likelihood(&parameters, Trend::Zero).unwrap();
    let probes = LogdetOptions {
        probes: 36,
        steps: 40,
        seed: 3,
    };
    let found = dense.regression(parameters).likelihood(&probes).unwrap();
    let apart = (found.likelihood.value - expected.value).abs();
    assert!(
        found.standard_error < 0.5 && apart < 4.0 * found.standard_error + 1e-3,
        "{apart} {found:?}"
    );
    let slopes = found.likelihood.slopes.iter().zip(&expected.slopes);
    for ((found, expected), error) in slopes.zip(&found.slope_errors) {
        assert!(
            (found - expected).abs() < 4.0 * error + 1e-3,
            "{found} {expected} {error}"
        );
    }
}

#[test]
fn samples_spread_as_the_variance_says() {
    for missing in [false, true] {
        let dense = dense(missing);
        let parameters = parameters(Family::Matern52);
        let truth = dense
            .cells
            .predict(&parameters, &Dense::points(&dense.grid))
            .unwrap();
        let count = 96;
        let (samples, _) = dense
            .regression(parameters)
            .samples(count, &Random::new(5))
            .unwrap();
        for cell in [3, 30, 64] {
            let [mean, variance] = truth[cell];
            let each = samples
                .iter()
                .map(|sample| sample[cell] - dense.level - mean);
            let error = each.clone().sum::<f64>() / count as f64;
            assert!(
                error.abs() < 5.0 * (variance / count as f64).sqrt(),
                "{missing} {cell}: {error}"
            );
            let spread = each.map(|x| x * x).sum::<f64>() / count as f64;
            let most = 5.0 * variance * (2.0 / count as f64).sqrt();
            assert!(
                (spread - variance).abs() < most,
                "{missing} {cell}: {spread} {variance}"
            );
        }
    }
}

#[test]
fn regressions_refuse_in_words() {
    let dense = dense(true);
    let good = parameters(Family::Rbf);
    let refused = |values: &[f64], mask: &[bool]| {
        let grid = dense.grid.clone();
        let options = DiagOptions::default();
        let found = Regression::new(gpu(), grid, good.clone(), values, Some(mask), options);
        found.unwrap_err().to_string()
    };
    assert_eq!(
        refused(&dense.values[1..], &dense.mask),
        "gp_grid: values must be 72 elements for this shape, got 71"
    );
    assert_eq!(
        refused(&dense.values, &[false; 72]),
        "gp_grid: values must be finite at observed cells, of which there is at least one, got 0 observed cells"
    );
    let regression = dense.regression(good.clone());
    assert_eq!(
        regression.variance().unwrap_err().to_string(),
        "gp_grid does not support variances of all cells where some are missing; ask for chosen ones or for samples"
    );
    assert_eq!(
        regression.variance_at(&[72]).unwrap_err().to_string(),
        "gp_grid: cells must be less than 72, got 72"
    );
}

#[test]
fn the_adapter_gives_what_the_reference_gives() {
    hold("gp_grid");
}
