//! Reports: one HTML file each, readable without a network, on a phone and in the dark.

mod chart;
mod frame;
mod picture;
mod plot;

pub use chart::{Bars, Chart, Heat, Series};
pub use picture::Picture;
pub use plot::Plot;

use super::bench::{
    Change, Crossover, FirstCall, Results, Row, Small, crossovers, doublings, length_series,
};
use crate::{case::Failure, choice::choices, gpu::Caps};

const STYLE: &str = "
:root { color-scheme: light dark; --paper: #fff; --ink: #1c2530; --soft: #5b6774; --grid: #dde3e9; --card: #f5f7f9;
  --s0: #0b63c5; --s1: #c2410c; --s2: #15803d; --s3: #7c3aed; --s4: #b0146b; --s5: #0e7490; }
@media (prefers-color-scheme: dark) { :root { --paper: #12171d; --ink: #e4e9ee; --soft: #9aa7b4; --grid: #2b343e; --card: #1a2129;
  --s0: #6cb0ff; --s1: #ff9d5c; --s2: #5fd38a; --s3: #b79cff; --s4: #ff86c3; --s5: #56cde0; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
main { max-width: 56rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .5rem; } h2 { font-size: 1.2rem; margin: 2.5rem 0 .5rem; }
p { margin: .5rem 0; max-width: 44rem; } .soft, figcaption { color: var(--soft); font-size: .9rem; }
figure { margin: 1rem 0; } svg { display: block; width: 100%; max-width: 42rem; height: auto; }
.legend { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; font-size: .9rem; margin: .25rem 0; padding: 0; list-style: none; }
.legend i { display: inline-block; width: .8rem; height: .8rem; border-radius: 50%; margin-right: .4rem; vertical-align: -.05rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: .85rem; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .35rem .6rem; border-bottom: 1px solid var(--grid); white-space: nowrap; }
th { color: var(--soft); font-weight: 600; } th:first-child, td:first-child { text-align: left; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 17rem), 1fr)); gap: 1rem; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(10rem, 1fr)); gap: .75rem; margin: 1rem 0; }
.facts div { background: var(--card); border-radius: .5rem; padding: .6rem .8rem; } .facts b { display: block; font-size: 1.25rem; }
";

/// Text with the characters that HTML gives a meaning replaced.
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

/// A drawing with its caption.
fn figure(drawing: &str, caption: &str) -> String {
    let caption = escape(caption);
    format!("<figure>{drawing}<figcaption>{caption}</figcaption></figure>")
}

/// A page under construction. All texts are escaped.
pub struct Page {
    title: String,
    body: String,
}

impl Page {
    /// A page with a title and a line below it.
    pub fn new(title: &str, subtitle: &str) -> Page {
        Page {
            title: escape(title),
            body: format!(
                "<h1>{}</h1>\n<p class=\"soft\">{}</p>\n",
                escape(title),
                escape(subtitle)
            ),
        }
    }

    /// A section's title.
    pub fn heading(&mut self, text: &str) {
        self.body += &format!("<h2>{}</h2>\n", escape(text));
    }

    /// A paragraph.
    pub fn text(&mut self, text: &str) {
        self.body += &format!("<p>{}</p>\n", escape(text));
    }

    /// Figures that matter most: a value and what it is.
    pub fn facts(&mut self, facts: &[(String, String)]) {
        self.body += "<div class=\"facts\">";
        for (value, what) in facts {
            self.body += &format!("<div><b>{}</b>{}</div>", escape(value), escape(what));
        }
        self.body += "</div>\n";
    }

    /// A table; the first column is text, the others are numbers.
    pub fn table(&mut self, head: &[&str], rows: &[Vec<String>]) {
        let line = |tag: &str, cells: &mut dyn Iterator<Item = &str>| {
            let cells: String = cells
                .map(|cell| format!("<{tag}>{}</{tag}>", escape(cell)))
                .collect();
            format!("<tr>{cells}</tr>\n")
        };
        self.body += "<div class=\"scroll\"><table>\n";
        self.body += &line("th", &mut head.iter().copied());
        for row in rows {
            self.body += &line("td", &mut row.iter().map(String::as_str));
        }
        self.body += "</table></div>\n";
    }

    /// A plot with its legend.
    ///
    /// # Errors
    /// `Usage` when the plot cannot be drawn.
    pub fn chart(&mut self, chart: &Chart, caption: &str) -> Result<(), Failure> {
        self.drawing(&chart.series, &chart.svg()?, caption);
        Ok(())
    }

    /// A plot on linear axes with its legend.
    ///
    /// # Errors
    /// `Usage` when the plot cannot be drawn.
    pub fn plot(&mut self, plot: &Plot, caption: &str) -> Result<(), Failure> {
        self.drawing(&plot.series, &plot.svg()?, caption);
        Ok(())
    }

    fn drawing(&mut self, series: &[Series], svg: &str, caption: &str) {
        let legend: String = series
            .iter()
            .enumerate()
            .map(|(n, series)| {
                format!(
                    "<li><i style=\"background: var(--s{})\"></i>{}</li>",
                    n % frame::COLOURS,
                    escape(&series.name)
                )
            })
            .collect();
        let drawing = format!("<ul class=\"legend\">{legend}</ul>{svg}");
        self.body += &figure(&drawing, caption);
        self.body += "\n";
    }

    /// Bars.
    ///
    /// # Errors
    /// `Usage` when the plot cannot be drawn.
    pub fn bars(&mut self, bars: &Bars, caption: &str) -> Result<(), Failure> {
        self.body += &figure(&bars.svg()?, caption);
        self.body += "\n";
        Ok(())
    }

    /// Matrices side by side, each with its caption.
    pub fn heats(&mut self, heats: &[(Heat, &str)]) {
        self.body += "<div class=\"pair\">";
        for (heat, caption) in heats {
            self.body += &figure(&heat.svg(), caption);
        }
        self.body += "</div>\n";
    }

    /// Pictures side by side, each with its caption.
    pub fn pictures(&mut self, pictures: &[(Picture, &str)]) {
        self.body += "<div class=\"pair\">";
        for (picture, caption) in pictures {
            self.body += &figure(&picture.html(), caption);
        }
        self.body += "</div>\n";
    }

    /// The finished document.
    pub fn finish(self) -> String {
        format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
             <title>{}</title><style>{STYLE}</style></head>\n<body><main>\n{}\
             <p class=\"soft\">subquad {}</p>\n</main></body></html>\n",
            self.title,
            self.body,
            env!("CARGO_PKG_VERSION")
        )
    }
}

/// The report of `bench`.
///
/// # Errors
/// `Usage` when a plot cannot be drawn.
pub fn bench_page(caps: &Caps, results: &Results) -> Result<String, Failure> {
    let device = format!("{}, {}, {}", caps.name, caps.backend, caps.driver);
    let mut page = Page::new("subquad benchmarks", &device);
    let mut facts = vec![
        (
            format!("{:.1} GB/s", results.roofs.copy_gb_s),
            "copy roof, read and written".into(),
        ),
        (
            format!("{:.0} GFLOP/s", results.roofs.fma_gflop_s),
            "multiply-add roof".into(),
        ),
        (
            format!("{:.1} Gword/s", results.roofs.popcount_g_s),
            "popcount roof".into(),
        ),
    ];
    if let Some(host) = &results.host {
        facts.push((
            format!("{:.0} µs", host.us),
            "host time of a warm call".into(),
        ));
    }
    page.facts(&facts);

    page.heading("Roofline");
    page.chart(
        &roofline(results),
        "Each point is a case: operations per necessary byte against the rate reached. No point can be above the lower of the \
         two measured roofs.",
    )?;

    let series = length_series(&results.rows);
    if !series.is_empty() {
        page.heading("Time against length");
        page.chart(
            &length_chart(&series),
            "Both axes are logarithmic: linear cost is a slope of one.",
        )?;
        page.table(
            &["series", "tokens", "time at twice the tokens, over time"],
            &series
                .iter()
                .flat_map(|(name, rows)| {
                    doublings(rows).into_iter().map(move |(tokens, ratio)| {
                        vec![name.clone(), tokens.to_string(), format!("{ratio:.2}")]
                    })
                })
                .collect::<Vec<_>>(),
        );
    }

    let crossovers = crossovers(&results.rows);
    if !crossovers.is_empty() {
        page.heading("Operators that do the same job");
        let row = |crossover: &Crossover| {
            let [short, long] = crossover.series.clone();
            vec![long, short, crossover.quicker.text()]
        };
        page.table(
            &[
                "for long sequences",
                "for short ones",
                "where the first is quicker",
            ],
            &crossovers.iter().map(row).collect::<Vec<_>>(),
        );
    }

    small_tables(&mut page, results);

    page.heading("Cases");
    let rows: Vec<Vec<String>> = results.rows.iter().map(table_row).collect();
    page.table(
        &[
            "case",
            "type",
            "variant",
            "median ms",
            "min",
            "quartiles",
            "max",
            "GFLOP/s",
            "GB/s",
            "Gword/s",
            "of roof",
            "roof",
            "compared",
        ],
        &rows,
    );
    page.text(
        "Median over several submissions. Operations and bytes are what the operator needs, not what a variant does. \
         Cases not compared with the CPU reference here are too long for it.",
    );

    page.heading("Why these variants");
    for (op, choice) in choices() {
        let (value, reason) = (caps.choose(choice), caps.reason(choice));
        page.text(&format!("{} = {value}, of {op}: {reason}.", choice.name));
    }
    page.text(
        "Variants follow from shapes, the limits of the device and these choices, which `subquad tune` measures on an adapter.",
    );
    Ok(page.finish())
}

/// What small calls and first calls cost, and what changed since an earlier run.
fn small_tables(page: &mut Page, results: &Results) {
    if !results.small.is_empty() {
        page.heading("Many small calls in one recording");
        let row = |small: &Small| {
            vec![
                small.name.clone(),
                small.dispatches.to_string(),
                format!("{:.1}", small.record_us),
                format!("{:.1}", small.replay_us),
                format!("{:.0}", small.recorded_per_s),
                format!("{:.0}", small.replayed_per_s),
                format!("{:.0}", small.floor_per_s),
            ]
        };
        let head = [
            "case",
            "dispatches",
            "recorded, µs each",
            "replayed, µs each",
            "runs/s recorded",
            "runs/s replayed",
            "runs/s at the copy rate",
        ];
        page.table(&head, &results.small.iter().map(row).collect::<Vec<_>>());
        page.text("A run is a token through as many layers as the recording holds; microseconds are of the host's time.");
    }
    if !results.first.is_empty() {
        page.heading("First calls");
        let row = |first: &FirstCall| {
            let kept = first.kept_ms.map(|ms| format!("{ms:.1}"));
            vec![
                first.name.clone(),
                first.pipelines.to_string(),
                format!("{:.1}", first.cold_ms),
                kept.unwrap_or_else(|| "no such cache".into()),
                format!("{:.2}", first.warm_ms),
            ]
        };
        let head = [
            "case",
            "pipelines",
            "cold ms",
            "pipelines kept on disk",
            "second call",
        ];
        page.table(&head, &results.first.iter().map(row).collect::<Vec<_>>());
    }
    if !results.changes.is_empty() {
        page.heading("Beside an earlier run");
        let row = |change: &Change| {
            vec![
                change.name.clone(),
                format!("{:.4}", change.ms[0]),
                format!("{:.4}", change.ms[1]),
                format!("{:.2}", change.ratio),
                if change.regressed { "slower" } else { "" }.into(),
            ]
        };
        let head = ["case", "ms before", "ms now", "ratio", "beyond the noise"];
        page.table(&head, &results.changes.iter().map(row).collect::<Vec<_>>());
    }
}

fn table_row(row: &Row) -> Vec<String> {
    vec![
        row.name.clone(),
        row.dtype.into(),
        row.variant.clone(),
        format!("{:.4}", row.time.median_ms),
        format!("{:.4}", row.time.min_ms),
        format!(
            "{:.4} to {:.4}",
            row.time.quartiles_ms[0], row.time.quartiles_ms[1]
        ),
        format!("{:.4}", row.time.max_ms),
        format!("{:.1}", row.gflop_s()),
        format!("{:.2}", row.gb_s()),
        format!("{:.2}", row.popcount_g_s()),
        format!("{:.1} %", 100.0 * row.share),
        row.bound.name().into(),
        if row.verified { "yes" } else { "no" }.into(),
    ]
}

fn roofline(results: &Results) -> Chart {
    let roofs = &results.roofs;
    let intensities = results
        .rows
        .iter()
        .filter(|row| row.work.bytes > 0.0 && row.work.flops > 0.0)
        .map(|row| row.work.flops / row.work.bytes);
    let ridge = roofs.fma_gflop_s / roofs.copy_gb_s;
    let (least, most) = intensities.fold((ridge, ridge), |(a, b), x| (a.min(x), b.max(x)));
    let ends = [least / 2.0, most * 2.0];
    let line = |name: &str, rate: &dyn Fn(f64) -> f64| Series {
        name: name.into(),
        points: ends.iter().map(|x| (*x, rate(*x))).collect(),
        marks: false,
    };
    let mut series = vec![
        line("copy roof", &|x| x * roofs.copy_gb_s),
        line("multiply-add roof", &|_| roofs.fma_gflop_s),
    ];
    let counted = results.rows.iter().filter(|row| row.work.flops > 0.0);
    for op in distinct(counted.map(|row| row.op.as_str())) {
        series.push(Series {
            name: op.into(),
            points: results
                .rows
                .iter()
                .filter(|row| row.op == op && row.work.bytes > 0.0 && row.work.flops > 0.0)
                .map(|row| (row.work.flops / row.work.bytes, row.gflop_s()))
                .collect(),
            marks: true,
        });
    }
    Chart {
        x: "operations per byte",
        y: "GFLOP/s",
        joined: false,
        series,
    }
}

fn length_chart(series: &[(String, Vec<&Row>)]) -> Chart {
    Chart {
        x: "tokens",
        y: "milliseconds",
        joined: true,
        series: series
            .iter()
            .map(|(name, rows)| Series {
                name: name.clone(),
                points: rows
                    .iter()
                    .filter_map(|row| Some((row.size("t")? as f64, row.time.median_ms)))
                    .collect(),
                marks: true,
            })
            .collect(),
    }
}

fn distinct<'a>(names: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut seen = Vec::new();
    for name in names {
        if !seen.contains(&name) {
            seen.push(name);
        }
    }
    seen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_escaped_everywhere() {
        let bad = "<script>\"&'";
        let mut page = Page::new(bad, bad);
        page.heading(bad);
        page.text(bad);
        page.facts(&[(bad.into(), bad.into())]);
        page.table(&[bad], &[vec![bad.into()]]);
        let chart = Chart {
            x: "x",
            y: "y",
            joined: true,
            series: vec![Series {
                name: bad.into(),
                points: vec![(1.0, 2.0), (10.0, 5.0)],
                marks: true,
            }],
        };
        page.chart(&chart, bad).unwrap();
        let text = page.finish();
        assert!(!text.contains("<script>"));
        assert!(
            !text.contains("http://")
                || text.matches("http").count()
                    == text.matches("http://www.w3.org/2000/svg").count()
        );
    }
}
