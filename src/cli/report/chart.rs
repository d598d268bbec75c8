//! Plots as inline SVG that follows the page's colours.

use std::fmt::Write as _;

use plotters::prelude::*;

use super::frame::{colour, failed, framed, lines};
use crate::case::Failure;

/// One set of points.
pub struct Series {
    /// Name in the legend.
    pub name: String,
    /// The points; those not positive are left out, as axes are logarithmic.
    pub points: Vec<(f64, f64)>,
    /// Whether points are marked; unmarked ones are joined always.
    pub marks: bool,
}

/// A plot on two logarithmic axes.
pub struct Chart {
    /// What the horizontal axis shows.
    pub x: &'static str,
    /// What the vertical axis shows.
    pub y: &'static str,
    /// Whether marked points are joined as well.
    pub joined: bool,
    /// What to draw.
    pub series: Vec<Series>,
}

/// Bars over small integers.
pub struct Bars {
    /// What the horizontal axis counts.
    pub x: &'static str,
    /// What the vertical axis shows.
    pub y: &'static str,
    /// Heights, from -1 to 1.
    pub heights: Vec<f64>,
}

/// A square matrix drawn as shades.
pub struct Heat {
    /// Rows and columns.
    pub size: usize,
    /// Values from -1 to 1, row by row; negative ones in the second colour.
    pub values: Vec<f64>,
}

/// A range around values, with a margin of half as much again.
fn around(values: impl Iterator<Item = f64>) -> Option<std::ops::Range<f64>> {
    let (least, most) = values.fold((f64::INFINITY, 0.0f64), |(a, b), x| (a.min(x), b.max(x)));
    (least.is_finite() && most.is_finite()).then(|| least / 1.5..most * 1.5)
}

/// A label on a logarithmic axis; only 1, 2 and 5 times powers of ten have one, the others would touch.
fn log_tick(value: f64) -> String {
    let mantissa = value / 10f64.powf(value.log10().floor());
    if [1.0, 2.0, 5.0, 10.0]
        .iter()
        .all(|m| (mantissa - m).abs() > 1e-6)
    {
        return String::new();
    }
    match value {
        x if x >= 1e6 => format!("{}M", value / 1e6),
        x if x >= 1e4 => format!("{}k", value / 1e3),
        _ => format!("{}", (value * 1e6).round() / 1e6),
    }
}

impl Chart {
    pub(super) fn svg(&self) -> Result<String, Failure> {
        let points = || {
            self.series
                .iter()
                .flat_map(|series| series.points.iter().copied())
                .filter(|(x, y)| *x > 0.0 && *y > 0.0)
        };
        let (Some(x), Some(y)) = (
            around(points().map(|(x, _)| x)),
            around(points().map(|(_, y)| y)),
        ) else {
            return Err(failed("there is no point"));
        };
        framed(
            (x.log_scale(), y.log_scale()),
            [self.x, self.y],
            24,
            |mesh| {
                mesh.x_label_formatter(&|value| log_tick(*value))
                    .y_label_formatter(&|value| log_tick(*value));
            },
            |chart| lines(chart, &self.series, self.joined, 4, |x| x > 0.0),
        )
    }
}

impl Bars {
    pub(super) fn svg(&self) -> Result<String, Failure> {
        let count = self.heights.len() as f64;
        let least = self.heights.iter().copied().fold(0.0, f64::min).max(-1.0);
        framed(
            (-0.5..count - 0.5, least..1.0),
            [self.x, self.y],
            12,
            |mesh| {
                mesh.disable_x_mesh()
                    .x_labels(self.heights.len())
                    .x_label_formatter(&|value| format!("{value:.0}"))
                    // Adding zero turns -0 into 0.
                    .y_label_formatter(&|value| {
                        format!("{:.1}", (value * 10.0).round() / 10.0 + 0.0)
                    });
            },
            |chart| {
                let bars = self.heights.iter().enumerate().map(|(n, height)| {
                    let x = n as f64;
                    Rectangle::new([(x - 0.35, 0.0), (x + 0.35, *height)], colour(0).filled())
                });
                chart.draw_series(bars).map_err(failed).map(drop)
            },
        )
    }
}

impl Heat {
    /// One path for each shade, so that the text stays small.
    pub(super) fn svg(&self) -> String {
        const SHADES: i32 = 12;
        let n = self.size;
        let mut svg =
            format!("<svg viewBox=\"0 0 {n} {n}\" role=\"img\" shape-rendering=\"crispEdges\">");
        let _ = write!(
            svg,
            "<rect width=\"{n}\" height=\"{n}\" fill=\"var(--card)\"/>"
        );
        for shade in (-SHADES..=SHADES).filter(|shade| *shade != 0) {
            let mut path = String::new();
            for (at, value) in self.values.iter().enumerate() {
                if (value * f64::from(SHADES)).round() as i32 == shade {
                    let _ = write!(path, "M{} {}h1v1h-1z", at % n, at / n);
                }
            }
            if !path.is_empty() {
                let colour = if shade > 0 { 0 } else { 1 };
                let opacity = f64::from(shade.abs()) / f64::from(SHADES);
                let _ = write!(
                    svg,
                    "<path d=\"{path}\" fill=\"var(--s{colour})\" fill-opacity=\"{opacity:.2}\"/>"
                );
            }
        }
        svg.push_str("</svg>");
        svg
    }
}
