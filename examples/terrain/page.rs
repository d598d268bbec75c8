//! The report: what was learnt, how well it predicts, and the maps.
use subquad::{
    case::Failure,
    cli::report::{Page, Picture, Plot, Series},
};

use crate::{CROP, EXACT, Findings, HOLE, Hole, SAMPLES, Scenario, Terrain};

pub fn page(findings: &Findings) -> Result<String, Failure> {
    let [rows, columns] = findings.terrain.sides;
    let mut page = Page::new(
        "An elevation model with hidden cells",
        &format!("Means, samples and variances on {}.", findings.device),
    );
    page.text(&format!(
        "{rows} x {columns} heights of the Jacksboro fault in metres (USGS, public domain). Cells are hidden at random and predicted by a \
         Gaussian process: a product of two Matérn 5/2 kernels, a variance and a noise, learnt from observed cells alone. The matrix of \
         all cells would have {:.0} billion entries; what is computed with are one matrix of {rows} x {rows} and one of \
         {columns} x {columns}.",
        (rows * columns).pow(2) as f64 / 1e9
    ));
    let facts: Vec<(String, String)> = findings
        .scenarios
        .iter()
        .flat_map(|scenario| {
            let hidden = 100.0 * scenario.hidden;
            [
                (
                    format!("{:.2} m", scenario.rmse),
                    format!("held-out error with {hidden:.0} % hidden"),
                ),
                (
                    format!("{:.1} %", 100.0 * scenario.coverage),
                    format!("within 95 % intervals with {hidden:.0} % hidden"),
                ),
            ]
        })
        .collect();
    page.facts(&facts);
    table(&mut page, findings);
    learning(&mut page, findings)?;
    for scenario in &findings.scenarios {
        maps(&mut page, &findings.terrain, scenario);
    }
    hole(&mut page, &findings.hole);
    Ok(page.finish())
}

fn table(page: &mut Page, findings: &Findings) {
    let line = |name: &str, of: &dyn Fn(&Scenario) -> String| -> Vec<String> {
        let values = findings.scenarios.iter().map(of);
        std::iter::once(name.to_owned()).chain(values).collect()
    };
    let length = |n: usize| move |s: &Scenario| format!("{:.2} cells", s.parameters.lengths[n]);
    let seconds = |n: usize| move |s: &Scenario| format!("{:.1} s", s.seconds[n]);
    let rows = vec![
        line("held-out RMSE", &|s| format!("{:.2} m", s.rmse)),
        line("the same of the nearest observed cell", &|s| {
            format!("{:.2} m", s.nearest)
        }),
        line("within 95 % intervals", &|s| {
            format!("{:.1} %", 100.0 * s.coverage)
        }),
        line("length, north to south", &length(0)),
        line("length, west to east", &length(1)),
        line("deviation of heights", &|s| {
            format!("{:.1} m", s.parameters.variance.sqrt())
        }),
        line("deviation of noise", &|s| {
            format!("{:.2} m", s.parameters.noise.sqrt())
        }),
        line("iterations", &|s| s.report.solve.iterations.to_string()),
        line("residual", &|s| {
            format!("{:.1e}", s.report.solve.residual.unwrap_or(0.0))
        }),
        line("estimated error of the mean", &|s| {
            format!("{:.1e}", s.report.mean_error)
        }),
        line("learning", &seconds(0)),
        line("the mean", &seconds(1)),
        line(&format!("{SAMPLES} samples"), &seconds(2)),
        line(&format!("{EXACT} exact variances"), &seconds(3)),
    ];
    let shares = findings
        .scenarios
        .iter()
        .map(|s| format!("{:.0} % hidden", 100.0 * s.hidden));
    let shares: Vec<String> = shares.collect();
    let head: Vec<&str> = std::iter::once("")
        .chain(shares.iter().map(String::as_str))
        .collect();
    page.table(&head, &rows);
    page.text(
        "Linear interpolation on Delaunay triangles, measured elsewhere on such hidden cells, has errors of 6.60 m and 10.76 m, cubic \
         interpolation on them 4.00 m and 7.53 m. Intervals are those of Student's t about the mean, with the spread of samples of the \
         posterior and the noise.",
    );
}

fn learning(page: &mut Page, findings: &Findings) -> Result<(), Failure> {
    page.heading("Learning");
    let series = |scenario: &Scenario| Series {
        name: format!("{:.0} % hidden", 100.0 * scenario.hidden),
        points: (scenario.curve.iter().enumerate())
            .map(|(step, value)| (step as f64, *value))
            .collect(),
        marks: false,
    };
    page.plot(
        &Plot {
            x: "step",
            y: "log likelihood a cell, nats",
            series: findings.scenarios.iter().map(series).collect(),
        },
        "Exact log marginal likelihood of blocks of observed cells spread over the map, each with an unknown mean of its own.",
    )?;
    for scenario in &findings.scenarios {
        page.text(&format!(
            "{:.0} % hidden: at {} held-out cells the deviation by samples is {}; solved for exactly it is {} (metres).",
            100.0 * scenario.hidden,
            scenario.exact.len(),
            list(scenario.exact.iter().map(|[samples, _]| *samples)),
            list(scenario.exact.iter().map(|[_, exact]| *exact)),
        ));
    }
    Ok(())
}

fn list(values: impl Iterator<Item = f64>) -> String {
    values
        .map(|x| format!("{x:.1}"))
        .collect::<Vec<_>>()
        .join(", ")
}

/// The heights between which a map's colours lie.
fn range(terrain: &Terrain) -> [f64; 2] {
    let heights = terrain.heights.iter();
    heights.fold([f64::INFINITY, f64::NEG_INFINITY], |[low, high], x| {
        [low.min(*x), high.max(*x)]
    })
}

/// What was observed, predicted and how far off it is, in pictures.
fn pictures(
    page: &mut Page,
    terrain: &Terrain,
    observed: &[bool],
    [mean, deviation]: [&[f64]; 2],
    most: f64,
) {
    let [low, high] = range(terrain);
    let picture = |values: Vec<f64>, range: [f64; 2], signed: bool| Picture {
        width: terrain.sides[1],
        values,
        range,
        signed,
    };
    let seen = terrain.heights.iter().zip(observed);
    let seen = seen.map(|(height, seen)| if *seen { *height } else { f64::NAN });
    let error = mean
        .iter()
        .zip(&terrain.heights)
        .map(|(mean, height)| mean - height);
    let captions = [
        "What was observed; hidden cells are grey.".to_owned(),
        format!("Predicted, from {low:.0} m (dark) to {high:.0} m (yellow)."),
        "The truth, in the same colours.".to_owned(),
        format!("Predicted less true, from -{most:.0} m (blue) to {most:.0} m (red)."),
        format!("The predicted deviation, from 0 (dark) to {most:.0} m (yellow)."),
    ];
    page.pictures(&[
        (
            picture(seen.collect(), [low, high], false),
            captions[0].as_str(),
        ),
        (
            picture(mean.to_vec(), [low, high], false),
            captions[1].as_str(),
        ),
        (
            picture(terrain.heights.clone(), [low, high], false),
            captions[2].as_str(),
        ),
        (
            picture(error.collect(), [-most, most], true),
            captions[3].as_str(),
        ),
        (
            picture(deviation.to_vec(), [0.0, most], false),
            captions[4].as_str(),
        ),
    ]);
}

fn maps(page: &mut Page, terrain: &Terrain, scenario: &Scenario) {
    page.heading(&format!(
        "{:.0} % of the cells hidden",
        100.0 * scenario.hidden
    ));
    let both = [scenario.mean.as_slice(), scenario.deviation.as_slice()];
    pictures(page, terrain, &scenario.observed, both, 20.0);
}

fn hole(page: &mut Page, hole: &Hole) {
    page.heading("A hidden block");
    page.text(&format!(
        "A corner of {CROP} x {CROP} cells in which a block of {HOLE} x {HOLE} is hidden whole, besides 30 % of the others. A stationary \
         kernel knows nothing there: in the block's middle the mean is the map's mean, off by {:.0} m; the predicted deviation is {:.0} m. \
         Such a block takes {} iterations.",
        hole.error, hole.predicted, hole.iterations
    ));
    let both = [hole.mean.as_slice(), hole.deviation.as_slice()];
    pictures(
        page,
        &hole.terrain,
        &hole.observed,
        both,
        2.0 * hole.predicted,
    );
}
