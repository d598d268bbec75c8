//! Plots on linear axes.

use super::{
    chart::Series,
    frame::{failed, framed, lines},
};
use crate::case::Failure;

/// A plot of lines on two linear axes.
pub struct Plot {
    /// What the horizontal axis shows.
    pub x: &'static str,
    /// What the vertical axis shows.
    pub y: &'static str,
    /// What to draw; marks are drawn where asked for, and lines elsewhere.
    pub series: Vec<Series>,
}

/// The least and the most of some numbers, apart even if all are equal.
fn range(values: impl Iterator<Item = f64>) -> Option<std::ops::Range<f64>> {
    let (least, most) = values
        .filter(|x| x.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), x| {
            (a.min(x), b.max(x))
        });
    let margin = f64::max(0.04 * (most - least), 1e-9 * (1.0 + most.abs()));
    least.is_finite().then_some(least - margin..most + margin)
}

impl Plot {
    pub(super) fn svg(&self) -> Result<String, Failure> {
        let points = || self.series.iter().flat_map(|series| &series.points);
        let (Some(x), Some(y)) = (
            range(points().map(|(x, _)| *x)),
            range(points().map(|(_, y)| *y)),
        ) else {
            return Err(failed("there is no point"));
        };
        framed(
            (x, y),
            [self.x, self.y],
            24,
            |mesh| {
                mesh.x_labels(7).y_labels(6);
            },
            |chart| lines(chart, &self.series, false, 2, f64::is_finite),
        )
    }
}
