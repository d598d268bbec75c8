//! The report of the demonstration.

use super::{Findings, Timed, layer::SLOPES};
use crate::{
    case::Failure,
    cli::report::{Bars, Chart, Heat, Page, Series},
};

/// Squares a side of the pictures of attention.
const SQUARES: usize = 64;

/// The head that is pictured: its slope, 2^-4, reaches about 16 tokens back.
const PICTURED: usize = 3;

pub(super) fn page(findings: &Findings) -> Result<String, Failure> {
    let layer = &findings.layer;
    let mut page = Page::new(
        "Lightning attention on real tensors",
        &format!("Computed on {}.", findings.device),
    );
    page.text(&format!("Input: {}.", layer.describe()));
    page.text(&format!(
        "Lightning attention keeps a decaying sum of what each token contributes instead of comparing every pair of tokens, \
         so its cost is linear in their number. The decays are {SLOPES}."
    ));
    page.facts(&facts(findings));

    page.heading("Cost against length");
    let [lightning, softmax] = &findings.timed;
    page.chart(
        &Chart {
            x: "tokens",
            y: "milliseconds",
            joined: true,
            series: [lightning, softmax].map(series).into(),
        },
        "Both axes are logarithmic. The text is repeated to reach each length; both run in f32 on the same device.",
    )?;
    if let Some((tokens, ms)) = softmax.stopped {
        page.text(&format!(
            "Softmax attention stops before {tokens} tokens, which would take about {:.0} s.",
            ms / 1e3
        ));
    }
    page.table(
        &[
            "tokens",
            "lightning ms",
            "softmax ms",
            "softmax over lightning",
        ],
        &time_rows(lightning, softmax),
    );

    page.heading("Is it right?");
    if findings.checked.is_empty() {
        page.text("No adapter was found, so the CPU reference computed everything here and there is nothing to compare.");
    } else {
        page.text("Each result against the same formula in f64 on the CPU; the error is root-mean-square, relative.");
        page.table(
            &["result", "kernel", "error", "tolerance", "verdict"],
            &check_rows(findings),
        );
    }

    page.heading("How far from softmax?");
    page.text(
        "The weights were trained for softmax attention. Lightning attention with these weights is another function, not an \
         approximation of that model; models that use it are trained with it. The cosine similarity of the two outputs, \
         averaged over tokens, says how far apart they are. It is not a test.",
    );
    page.bars(
        &Bars {
            x: "head",
            y: "cosine similarity",
            heights: findings.cosines.clone(),
        },
        "1 means the same direction, 0 none in common. Both attentions see only earlier tokens here; in the model itself all \
         tokens are visible.",
    )?;
    let [softmax_map, lightning_map] = layer.maps(PICTURED, SQUARES)?;
    let heat = |values| Heat {
        size: SQUARES,
        values,
    };
    page.heats(&[
        (
            heat(softmax_map),
            "Softmax weights of head 3: a row per 8 tokens, a column per 8 earlier ones; the stronger the colour, the more weight.",
        ),
        (
            heat(lightning_map),
            "Lightning's weights of the same head: they fade with distance, and those in the second colour are negative.",
        ),
    ]);
    Ok(page.finish())
}

fn facts(findings: &Findings) -> Vec<(String, String)> {
    let [lightning, softmax] = &findings.timed;
    let mut facts = Vec::new();
    if let Some(checked) = findings.checked.first() {
        facts.push((
            format!("{:.0e}", checked.verdict.ratio),
            format!("error, tolerance {:.0e}", checked.verdict.bound),
        ));
    }
    if let Some((tokens, ms)) = lightning.points.last() {
        facts.push((format!("{ms:.1} ms"), format!("lightning, {tokens} tokens")));
    }
    if let Some((tokens, ms)) = softmax.points.last() {
        facts.push((format!("{ms:.1} ms"), format!("softmax, {tokens} tokens")));
        if let Some((_, rival)) = lightning.points.iter().find(|(t, _)| t == tokens) {
            facts.push((
                format!("{:.0} ×", ms / rival),
                format!("faster at {tokens} tokens"),
            ));
        }
    }
    facts
}

fn series(timed: &Timed) -> Series {
    Series {
        name: format!("{} attention", timed.name),
        points: timed
            .points
            .iter()
            .map(|(tokens, ms)| (*tokens as f64, *ms))
            .collect(),
        marks: true,
    }
}

fn time_rows(lightning: &Timed, softmax: &Timed) -> Vec<Vec<String>> {
    lightning
        .points
        .iter()
        .map(|(tokens, ms)| {
            let rival = softmax.points.iter().find(|(t, _)| t == tokens);
            vec![
                tokens.to_string(),
                format!("{ms:.2}"),
                rival.map_or("not run".into(), |(_, rival)| format!("{rival:.2}")),
                rival.map_or("".into(), |(_, rival)| format!("{:.1}", rival / ms)),
            ]
        })
        .collect()
}

fn check_rows(findings: &Findings) -> Vec<Vec<String>> {
    findings
        .checked
        .iter()
        .map(|checked| {
            vec![
                checked.what.into(),
                checked.variant.clone(),
                format!("{:.1e}", checked.verdict.ratio),
                format!("{:.0e}", checked.verdict.bound),
                if checked.verdict.holds() {
                    "ok"
                } else {
                    "missed"
                }
                .into(),
            ]
        })
        .collect()
}
