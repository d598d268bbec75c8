//! The report: the loss curve, and the attention of the teacher and of the student before and after.
use subquad::{
    case::Failure,
    cli::report::{Bars, Chart, Heat, Page, Series},
    distill::FLOOR,
};

use crate::{Findings, Layer, STEPS, TOKENS};

/// Squares a side of the pictures of attention.
const SQUARES: usize = 64;

pub fn page(findings: &Findings) -> Result<String, Failure> {
    let layer = &findings.layer;
    let (first, last) = (findings.curve[0], findings.curve[STEPS]);
    let mut page = Page::new(
        "Hedgehog distillation on real tensors",
        &format!(
            "Loss and gradient computed on {}, in {:.0} s.",
            findings.device, findings.seconds
        ),
    );
    page.text(&format!(
        "Input: queries and keys of layer 2 of all-MiniLM-L6-v2 reading the GNU GPL: {} heads of width {}, the first {TOKENS} \
         tokens. Each head's queries and keys get a map y = Wx + b, features softmax([2y, -2y]), learnt from W = I and b = 0 so \
         that products of features, each row over its sum, come close to the model's softmax weights.",
        layer.sizes.heads, layer.sizes.width
    ));
    page.facts(&[
        (
            format!("{first:.3}"),
            "nats of divergence at the start".into(),
        ),
        (format!("{last:.3}"), format!("nats after {STEPS} steps")),
        (format!("{:.1} ×", first / last), "less".into()),
    ]);

    page.heading("Loss");
    let points = findings.curve.iter().enumerate();
    page.chart(
        &Chart {
            x: "step",
            y: "mean divergence, nats",
            joined: true,
            series: vec![Series {
                name: "student from teacher".into(),
                points: points.map(|(step, x)| (step as f64 + 1.0, *x)).collect(),
                marks: false,
            }],
        },
        "Kullback-Leibler divergence of the student's weights from the teacher's, mean over heads and queries. Both axes are \
         logarithmic; step 1 is the start.",
    )?;
    page.heading("By head");
    let [before, after] = &findings.heads;
    page.bars(
        &Bars {
            x: "head",
            y: "divergence removed",
            heights: before.iter().zip(after).map(|(a, b)| 1.0 - b / a).collect(),
        },
        "The share of each head's divergence that learning removed.",
    )?;
    let rows = before.iter().zip(after).enumerate();
    page.table(
        &["head", "at the start", "at the end"],
        &rows
            .map(|(head, (a, b))| vec![head.to_string(), format!("{a:.3}"), format!("{b:.3}")])
            .collect::<Vec<_>>(),
    );

    page.heading("Attention");
    // The heads that learning changed most and least.
    let gain = |head: &usize| before[*head] - after[*head];
    let most = (0..layer.sizes.heads).max_by(|a, b| gain(a).total_cmp(&gain(b)));
    let least = (0..layer.sizes.heads).min_by(|a, b| gain(a).total_cmp(&gain(b)));
    for (head, which) in [(most, "most"), (least, "least")] {
        let head = head.unwrap_or(0);
        page.text(&format!(
            "Head {head}, whose divergence fell {which}: from {:.3} to {:.3} nats.",
            before[head], after[head]
        ));
        let [start, end] = [0, 1].map(|n: usize| {
            let [q, k] = &findings.features[n];
            student(layer, head, q, k)
        });
        page.heats(&[
            (teacher(layer, head), "The teacher: softmax weights."),
            (start, "The student at the start."),
            (end, "The student at the end."),
        ]);
    }
    page.text(&format!(
        "A row per {0} queries, a column per {0} keys; the stronger the colour, the more weight, relative to the row's most.",
        TOKENS / SQUARES
    ));
    Ok(page.finish())
}

fn teacher(layer: &Layer, head: usize) -> Heat {
    let wide = |x: &[half::f16]| x.iter().map(|x| x.to_f32()).collect::<Vec<_>>();
    let scale = f64::from(layer.options().scale);
    picture(layer, head, &wide(&layer.q), &wide(&layer.k), |scores| {
        let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        scores
            .iter_mut()
            .for_each(|s| *s = (scale * (*s - most)).exp());
    })
}

fn student(layer: &Layer, head: usize, q: &[f32], k: &[f32]) -> Heat {
    picture(layer, head, q, k, |products| {
        products.iter_mut().for_each(|c| *c = c.max(FLOOR));
    })
}

/// Weights of a head from the products of its rows, averaged over squares of tokens, each row of squares over its most.
fn picture(layer: &Layer, head: usize, q: &[f32], k: &[f32], weigh: impl Fn(&mut [f64])) -> Heat {
    let tokens = layer.sizes.tokens;
    let width = q.len() / layer.sizes.heads / tokens;
    let rows = |x: &[f32]| -> Vec<Vec<f32>> {
        let head = &x[head * tokens * width..][..tokens * width];
        head.chunks(width).map(<[f32]>::to_vec).collect()
    };
    let (q, k) = (rows(q), rows(k));
    let side = tokens.div_ceil(SQUARES);
    let mut values = vec![0.0; SQUARES * SQUARES];
    for (i, q) in q.iter().enumerate() {
        let dot = |k: &Vec<f32>| q.iter().zip(k).map(|(a, b)| f64::from(a * b)).sum::<f64>();
        let mut weights: Vec<f64> = k.iter().map(dot).collect();
        weigh(&mut weights);
        let sum: f64 = weights.iter().sum();
        for (j, weight) in weights.iter().enumerate() {
            values[i / side * SQUARES + j / side] += weight / sum;
        }
    }
    for row in values.chunks_mut(SQUARES) {
        let most = row.iter().copied().fold(1e-300, f64::max);
        row.iter_mut().for_each(|x| *x /= most);
    }
    Heat {
        size: SQUARES,
        values,
    }
}
