//! What plots share: their size, colours that follow the page's, and the axes.

use plotters::{
    chart::MeshStyle,
    coord::ranged1d::{AsRangedCoord, ValueFormatter},
    prelude::*,
};

use super::Series;
use crate::case::Failure;

/// Colours for series that the page defines.
pub(super) const COLOURS: usize = 6;

const SIZE: (u32, u32) = (560, 350);

// Stand-ins that `themed` replaces by the page's colours: plotters writes plain RGB only.
const INK: RGBColor = RGBColor(1, 1, 1);
const GRID: RGBColor = RGBColor(2, 2, 2);

pub(super) fn colour(n: usize) -> RGBColor {
    RGBColor(3, 3, (n % COLOURS) as u8)
}

fn themed(svg: &str) -> String {
    let mut text = svg
        .replace("#010101", "currentColor")
        .replace("#020202", "var(--grid)");
    for n in 0..COLOURS {
        text = text.replace(&format!("#03030{n}"), &format!("var(--s{n})"));
    }
    // The width comes from the page.
    let size = format!("width=\"{}\" height=\"{}\" ", SIZE.0, SIZE.1);
    text.replacen(&size, "role=\"img\" ", 1)
}

pub(super) fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::Usage(format!("a plot could not be drawn: {error}"))
}

type Axis<X> = <X as AsRangedCoord>::CoordDescType;
type Context<'a, X, Y> = ChartContext<'a, SVGBackend<'a>, Cartesian2d<X, Y>>;
type Mesh<'a, 'b, X, Y> = MeshStyle<'a, 'b, X, Y, SVGBackend<'a>>;

/// A plot on two axes with what they show, and a margin to the right; `label` adds to the mesh, `draw` fills it.
pub(super) fn framed<X, Y>(
    (x, y): (X, Y),
    [x_desc, y_desc]: [&str; 2],
    right: u32,
    label: impl FnOnce(&mut Mesh<'_, '_, Axis<X>, Axis<Y>>),
    draw: impl FnOnce(&mut Context<'_, Axis<X>, Axis<Y>>) -> Result<(), Failure>,
) -> Result<String, Failure>
where
    X: AsRangedCoord,
    Y: AsRangedCoord,
    Axis<X>: Ranged<ValueType = f64> + ValueFormatter<f64>,
    Axis<Y>: Ranged<ValueType = f64> + ValueFormatter<f64>,
{
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let mut chart = ChartBuilder::on(&area)
            .margin(12)
            .margin_right(right)
            .x_label_area_size(44)
            .y_label_area_size(62)
            .build_cartesian_2d(x, y)
            .map_err(failed)?;
        let text = ("sans-serif", 14).into_font().color(&INK);
        let mut mesh = chart.configure_mesh();
        mesh.bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .axis_style(INK)
            .label_style(text.clone())
            .axis_desc_style(text)
            .x_desc(x_desc)
            .y_desc(y_desc);
        label(&mut mesh);
        mesh.draw().map_err(failed)?;
        draw(&mut chart)?;
        area.present().map_err(failed)?;
    }
    Ok(themed(&svg))
}

/// Draws series in their colours: marks of this radius where asked for, and lines where there are none or points are `joined`.
pub(super) fn lines<X, Y>(
    chart: &mut Context<'_, X, Y>,
    series: &[Series],
    joined: bool,
    radius: i32,
    shown: impl Fn(f64) -> bool,
) -> Result<(), Failure>
where
    X: Ranged<ValueType = f64>,
    Y: Ranged<ValueType = f64>,
{
    for (n, series) in series.iter().enumerate() {
        let drawn = || {
            let points = series.points.iter().copied();
            points.filter(|(x, y)| shown(*x) && shown(*y))
        };
        if joined || !series.marks {
            let line = LineSeries::new(drawn(), colour(n).stroke_width(2));
            chart.draw_series(line).map_err(failed)?;
        }
        if series.marks {
            let marks = drawn().map(|point| Circle::new(point, radius, colour(n).filled()));
            chart.draw_series(marks).map_err(failed)?;
        }
    }
    Ok(())
}
