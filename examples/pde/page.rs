//! The report: how each problem's error fell, and its solution against the truth.
use subquad::{
    case::Failure,
    cli::report::{Chart, Page, Picture, Plot, Series},
};

use crate::{COMPARED, Findings, MARKS, Solved};

fn exponent(x: f64) -> String {
    format!("{x:.1e}")
}

pub fn page(findings: &Findings) -> Result<String, Failure> {
    let mut page = Page::new(
        "Differential equations by Gaussian processes on grids",
        &format!(
            "Systems on planes solved on {}, kernels learnt on the host.",
            findings.device
        ),
    );
    page.text(
        "Each axis of a grid has a kernel whose spectrum is a mixture of 30 bumps (Student t), at frequencies spread evenly at the \
         start. A step finds the values at the grid's points that fit the equation and the boundary best, then moves weights, widths \
         and frequencies of the bumps by one step of Adam. On a plane the system is solved by conjugate gradients on products with \
         matrices of the axes' sizes: a grid of 400 x 400 points has 160,000 unknowns and matrices of 400 x 400; no matrix of \
         160,000 x 160,000 is formed anywhere.",
    );
    page.heading("Errors");
    let mut head = vec!["problem", "points", "steps", "iterations", "s", "error"];
    let marks = MARKS.map(|mark| format!("s to {mark:.0e}"));
    head.extend(marks.iter().map(String::as_str));
    let rows: Vec<Vec<String>> = findings.solved.iter().map(row).collect();
    page.table(&head, &rows);
    page.text(&format!(
        "The error is the relative L2 error of the solution with the smallest residual so far, over {COMPARED} coordinates an axis, most of which are \
         no points of the grid. Seconds count everything: kernels, factors, systems, gradients, predictions."
    ));
    let curve = |solved: &Solved| Series {
        name: solved.task.name.into(),
        points: (solved.moments.iter().enumerate())
            .map(|(n, moment)| (n as f64 + 1.0, moment.error))
            .collect(),
        marks: solved.moments.len() == 1,
    };
    for (plane, which) in [(false, "on lines"), (true, "on planes")] {
        let own = findings
            .solved
            .iter()
            .filter(|solved| solved.task.is_plane() == plane);
        let series: Vec<Series> = own.map(curve).collect();
        if series.is_empty() {
            continue;
        }
        page.chart(
            &Chart {
                x: "step",
                y: "relative L2 error",
                joined: true,
                series,
            },
            &format!("Errors of the problems {which}. Both axes are logarithmic."),
        )?;
    }
    for solved in &findings.solved {
        page.heading(solved.task.name);
        if solved.task.is_plane() {
            maps(&mut page, solved);
        } else {
            lines(&mut page, solved)?;
        }
    }
    Ok(page.finish())
}

fn row(solved: &Solved) -> Vec<String> {
    let task = &solved.task;
    let size = match task.is_plane() {
        true => format!("{0} x {0}", task.points),
        false => task.points.to_string(),
    };
    let seconds = solved.moments.last().map_or(0.0, |last| last.seconds);
    let mut row = vec![
        task.name.to_owned(),
        size,
        solved.moments.len().to_string(),
        match task.is_plane() {
            true => solved.iterations().to_string(),
            false => "direct".into(),
        },
        format!("{seconds:.1}"),
        exponent(solved.error()),
    ];
    row.extend(MARKS.map(|mark| match solved.reached(mark) {
        Some(seconds) => format!("{seconds:.1}"),
        None => "never".into(),
    }));
    row
}

/// The errors at the points compared.
fn apart(solved: &Solved) -> Vec<f64> {
    let both = solved.predicted.iter().zip(&solved.truth);
    both.map(|(predicted, truth)| predicted - truth).collect()
}

fn lines(page: &mut Page, solved: &Solved) -> Result<(), Failure> {
    let x = solved.task.coordinates(0, COMPARED);
    // The first tenth, in which waves can be told apart.
    let shown = COMPARED / 10;
    let series = |name: &str, values: &[f64], count: usize, marks: bool| Series {
        name: name.into(),
        points: x
            .iter()
            .copied()
            .zip(values.iter().copied())
            .take(count)
            .collect(),
        marks,
    };
    page.plot(
        &Plot {
            x: "x",
            y: "u",
            series: vec![
                series("the solution", &solved.truth, shown, false),
                series("found", &solved.predicted, shown, true),
            ],
        },
        "The first tenth of the interval.",
    )?;
    page.plot(
        &Plot {
            x: "x",
            y: "error",
            series: vec![series(
                "found less the solution",
                &apart(solved),
                COMPARED,
                false,
            )],
        },
        "The error over the whole interval.",
    )
}

fn maps(page: &mut Page, solved: &Solved) {
    let most = |values: &[f64]| values.iter().fold(1e-300f64, |most, x| most.max(x.abs()));
    let picture = |values: &[f64], most: f64| Picture {
        width: COMPARED,
        values: values.to_vec(),
        range: [-most, most],
        signed: true,
    };
    let apart = apart(solved);
    let (height, error) = (most(&solved.truth), most(&apart));
    let captions = [
        format!(
            "The solution, from {:.2} (blue) to {height:.2} (red).",
            -height
        ),
        "Found, in the same colours.".to_owned(),
        format!(
            "The error, from {} (blue) to {} (red).",
            exponent(-error),
            exponent(error)
        ),
    ];
    let pictures = [
        (picture(&solved.truth, height), captions[0].as_str()),
        (picture(&solved.predicted, height), captions[1].as_str()),
        (picture(&apart, error), captions[2].as_str()),
    ];
    page.pictures(&pictures);
}
