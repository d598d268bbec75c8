//! Plots on linear axes.

use plotters::prelude::*;

use super::chart::{GRID, INK, SIZE, Series, colour, failed, themed};
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
        let mut svg = String::new();
        {
            let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
            let mut chart = ChartBuilder::on(&area)
                .margin(12)
                .margin_right(24)
                .x_label_area_size(44)
                .y_label_area_size(62)
                .build_cartesian_2d(x, y)
                .map_err(failed)?;
            let text = ("sans-serif", 14).into_font().color(&INK);
            chart
                .configure_mesh()
                .bold_line_style(GRID)
                .light_line_style(TRANSPARENT)
                .axis_style(INK)
                .label_style(text.clone())
                .axis_desc_style(text)
                .x_desc(self.x)
                .y_desc(self.y)
                .x_labels(7)
                .y_labels(6)
                .draw()
                .map_err(failed)?;
            for (n, series) in self.series.iter().enumerate() {
                let finite = || {
                    let points = series.points.iter().copied();
                    points.filter(|(x, y)| x.is_finite() && y.is_finite())
                };
                if series.marks {
                    let marks = finite().map(|point| Circle::new(point, 2, colour(n).filled()));
                    chart.draw_series(marks).map_err(failed)?;
                } else {
                    let line = LineSeries::new(finite(), colour(n).stroke_width(2));
                    chart.draw_series(line).map_err(failed)?;
                }
            }
            area.present().map_err(failed)?;
        }
        Ok(themed(&svg))
    }
}
