//! The report: the loss curve, how close the device is to the reference, and what the model writes.
use subquad::{
    case::Failure,
    cli::report::{Chart, Page, Series},
};

use crate::{
    BATCH, CHECKED, Findings, HEADS, LAYERS, PROMPT, STEPS, TEMPERATURE, TOKENS, TOLERANCE, WIDTH,
    WRITTEN,
};

pub fn page(findings: &Findings) -> Result<String, Failure> {
    let mut page = Page::new(
        "A language model in miniature",
        &format!("Attention by {}.", findings.attention),
    );
    page.text(&format!(
        "{LAYERS} layers of gated linear attention, {} heads of width {}, model width {WIDTH}, {} parameters in all, learn the \
         {} bytes of the repository's licences: {STEPS} steps of {BATCH} passages of {TOKENS} bytes.",
        HEADS.heads, HEADS.key, findings.parameters, findings.bytes
    ));
    page.facts(&[
        (
            format!("{:.3}", findings.losses[0]),
            "loss at the start, nats a byte".into(),
        ),
        (
            format!("{:.3}", findings.last()),
            "mean loss of the last tenth".into(),
        ),
        (
            format!("{:.0} ms", 1e3 * findings.train_seconds / STEPS as f64),
            "a step".into(),
        ),
        (
            format!("{:.1} ms", 1e3 * findings.write_seconds / WRITTEN as f64),
            "a byte written".into(),
        ),
    ]);

    page.heading("Loss");
    let curve = |name: &str, losses: &[f64]| Series {
        name: name.into(),
        points: (losses.iter().enumerate())
            .map(|(step, loss)| (step as f64 + 1.0, *loss))
            .collect(),
        marks: false,
    };
    let mut series = vec![curve("training", &findings.losses)];
    if !findings.reference.is_empty() {
        series.push(curve("the same on the CPU reference", &findings.reference));
    }
    page.chart(
        &Chart {
            x: "step",
            y: "cross entropy, nats a byte",
            joined: true,
            series,
        },
        "Each step's loss on passages not repeated in order. Both axes are logarithmic.",
    )?;
    if let Some(apart) = findings.apart() {
        page.heading("Is it right?");
        page.text(&format!(
            "The same model, trained with the attention of the f64 reference: its first {CHECKED} losses differ by at most \
             {apart:.1e}; the bound is {TOLERANCE:.0e}.",
        ));
        let rows = findings.reference.iter().zip(&findings.losses).enumerate();
        page.table(
            &["step", "reference", "device"],
            &rows
                .map(|(n, (a, b))| vec![(n + 1).to_string(), format!("{a:.6}"), format!("{b:.6}")])
                .collect::<Vec<_>>(),
        );
    }

    page.heading("What it writes");
    page.text(&format!(
        "Continuing “{PROMPT}” byte by byte at temperature {TEMPERATURE}, through the recurrent step: the memory of each layer \
         is a state of {} × {} × {} numbers, however long the text.",
        HEADS.heads, HEADS.key, HEADS.value
    ));
    page.text(&format!("{PROMPT}{}", findings.written));
    Ok(page.finish())
}
