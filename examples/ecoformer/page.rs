//! The report: fidelity by head and by length of code, how learning went, and the weights of attention.
use subquad::{
    case::Failure,
    cli::report::{Bars, Chart, Heat, Page, Series},
};

use crate::{DRAWS, Findings, TOKENS};

/// Squares a side of the pictures of attention.
const SQUARES: usize = 64;

pub fn page(findings: &Findings) -> Result<String, Failure> {
    let Findings {
        layer,
        options,
        learnt,
        random,
        uniform,
        ..
    } = findings;
    let mut page = Page::new(
        "Binary codes for attention, learnt from real tensors",
        &format!(
            "Codes learnt on the host in {:.0} s; hashing and attention computed on {}, {:.0} s in all.",
            findings.learning_seconds, findings.device, findings.seconds
        ),
    );
    page.text(&format!(
        "Input: queries, keys and values of layer 2 of all-MiniLM-L6-v2 reading the GNU GPL: {} heads of width {}, the first {TOKENS} \
         tokens. Each token's query and key together are hashed to one code of {} bits, learnt by greedy kernel-based supervised \
         hashing: codes should agree where the layer attends most, and differ where it attends least. Attention between codes then \
         takes additions only and time linear in the number of tokens. It is held against the layer's own softmax attention.",
        layer.heads, layer.width, options.bits
    ));
    page.facts(&[
        (
            format!("{:.3}", learnt.error()),
            "relative error of learnt codes, mean over heads".into(),
        ),
        (
            format!("{:.3}", random.error()),
            format!("of random weights, mean of {DRAWS} draws"),
        ),
        (
            format!("{:.3}", uniform.error()),
            "of no codes at all: every token gets the mean of the values".into(),
        ),
    ]);
    page.text(
        "Weights of this attention are at least 1 and at most 2 bits + 1, whatever the codes, so that it stays far from a softmax \
         that singles out few tokens; networks are trained with it in place. What counts here is what learning adds.",
    );
    page.table(
        &["codes", "relative error", "cosine"],
        &findings.rows().map(|(name, fidelity)| {
            vec![
                name.into(),
                format!("{:.4}", fidelity.error()),
                format!("{:.4}", fidelity.cosine()),
            ]
        }),
    );

    page.heading("By head");
    let errors = learnt.errors.iter().zip(&random.errors);
    let gains: Vec<f64> = errors.map(|(a, b)| 1.0 - a / b).collect();
    page.bars(
        &Bars {
            x: "head",
            y: "error removed",
            heights: gains.clone(),
        },
        "The share of random hashing's error that learning removed.",
    )?;
    let rows = (0..layer.heads).map(|head| {
        let mut row = vec![head.to_string()];
        for (_, fidelity) in findings.rows() {
            let (error, cosine) = (fidelity.errors[head], fidelity.cosines[head]);
            row.push(format!("{error:.3} / {cosine:.3}"));
        }
        row
    });
    page.table(
        &["head", "learnt", "random", "hyperplanes", "mean of v"],
        &rows.collect::<Vec<_>>(),
    );
    page.text("Relative error / cosine.");

    page.heading("By bits");
    let series = |name: &str, of: fn(&(usize, f64, f64)) -> f64| Series {
        name: name.into(),
        points: findings
            .lengths
            .iter()
            .map(|point| (point.0 as f64, of(point)))
            .collect(),
        marks: true,
    };
    page.chart(
        &Chart {
            x: "bits",
            y: "relative error",
            joined: true,
            series: vec![
                series("learnt", |point| point.1),
                series("random weights", |point| point.2),
            ],
        },
        "The same codes, cut to their first bits. Both axes are logarithmic.",
    )?;
    page.heading("Learning");
    page.table(
        &[
            "bit",
            "loss at the start",
            "loss learnt",
            "heads that kept it",
        ],
        &losses(findings),
    );
    page.text(
        "Loss of a bit, mean over heads: less the agreement of its signs with what the bits before it left over, per token and bit. \
         A learnt bit is kept where it is better than the random one it started from.",
    );

    page.heading("Attention");
    let most = (0..layer.heads).max_by(|a, b| gains[*a].total_cmp(&gains[*b]));
    let least = (0..layer.heads).min_by(|a, b| gains[*a].total_cmp(&gains[*b]));
    for (head, which) in [(most, "most"), (least, "least")] {
        let head = head.unwrap_or(0);
        page.text(&format!(
            "Head {head}, where learning removed {which} of the error: {:.3} instead of {:.3}.",
            learnt.errors[head], random.errors[head]
        ));
        let [codes, drawn] = [0, 1].map(|n: usize| between_codes(findings, n, head));
        page.heats(&[
            (own(findings, head), "The layer: softmax weights."),
            (codes, "Learnt codes."),
            (drawn, "Random codes."),
        ]);
    }
    page.text(&format!(
        "A row per {0} queries, a column per {0} keys; the stronger the colour, the more weight, from the row's least to its most.",
        TOKENS / SQUARES
    ));
    Ok(page.finish())
}

fn losses(findings: &Findings) -> Vec<Vec<String>> {
    let heads = findings.layer.heads;
    let share = 1.0 / (heads * TOKENS * findings.options.bits) as f64;
    let mean = |losses: &[i64]| share * losses.iter().sum::<i64>() as f64;
    let bits = findings.fit.bits.iter().enumerate();
    bits.map(|(number, bit)| {
        let kept = bit.kept.iter().filter(|kept| **kept).count();
        vec![
            number.to_string(),
            format!("{:.3}", mean(&bit.start)),
            format!("{:.3}", mean(&bit.learnt)),
            format!("{kept} of {heads}"),
        ]
    })
    .collect()
}

fn own(findings: &Findings, head: usize) -> Heat {
    let weights = &findings.layer.weights[head * TOKENS * TOKENS..];
    picture(|i, j| weights[i * TOKENS + j])
}

/// b + c - 2 d over its row's sum.
fn between_codes(findings: &Findings, n: usize, head: usize) -> Heat {
    let codes = &findings.codes[n][head * TOKENS..][..TOKENS];
    let bits = findings.options.bits as f64;
    let score = |a: u32, b: u32| 2.0 * bits + 1.0 - 2.0 * f64::from((a ^ b).count_ones());
    let sums: Vec<f64> = codes
        .iter()
        .map(|a| codes.iter().map(|b| score(*a, *b)).sum())
        .collect();
    picture(|i, j| score(codes[i], codes[j]) / sums[i])
}

/// Weights averaged over squares of tokens, each row of squares from its least to its most.
fn picture(weight: impl Fn(usize, usize) -> f64) -> Heat {
    let side = TOKENS / SQUARES;
    let mut values = vec![0.0; SQUARES * SQUARES];
    for i in 0..TOKENS {
        for j in 0..TOKENS {
            values[i / side * SQUARES + j / side] += weight(i, j);
        }
    }
    for row in values.chunks_mut(SQUARES) {
        let least = row.iter().copied().fold(f64::INFINITY, f64::min);
        let most = row.iter().copied().fold(least, f64::max);
        row.iter_mut()
            .for_each(|x| *x = (*x - least) / (most - least).max(1e-300));
    }
    Heat {
        size: SQUARES,
        values,
    }
}
