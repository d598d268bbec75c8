//! What one head learns from, and how.

use super::{
    Accept, Bit, Options, Shape, Supervision,
    sample::{self, Sample},
};
use crate::hamming::kernel_hash::SMALL;

/// Weights of a bit before and after descent, with their hard losses.
pub(super) struct Try {
    pub start: Vec<f64>,
    pub end: Vec<f64>,
    losses: [i64; 2],
}

impl Try {
    pub fn finite(&self) -> bool {
        self.start.iter().chain(&self.end).all(|x| x.is_finite())
    }
}

pub(super) fn judge(accept: Accept, tries: &[Try]) -> Bit {
    let [start, learnt]: [Vec<i64>; 2] = [0, 1].map(|n: usize| {
        tries
            .iter()
            .filter_map(|t| t.losses.get(n).copied())
            .collect()
    });
    let better = learnt.iter().sum::<i64>() < start.iter().sum::<i64>();
    let both = start.iter().zip(&learnt);
    let kept = both.map(|(start, learnt)| match accept {
        Accept::PerHead => learnt < start,
        Accept::Global => better,
    });
    Bit {
        kept: kept.collect(),
        start,
        learnt,
    }
}

/// One head: its samples, and what it has learnt so far.
pub(super) struct Learner {
    pub options: Options,
    /// What the mean over samples and heads, over N b, multiplies.
    pub share: f64,
    pub samples: Vec<Sample>,
    pub anchors: Vec<f64>,
    pub mean: Vec<f64>,
    pub weight: Vec<f64>,
}

impl Learner {
    /// With the mean over samples of σ.
    pub fn new(
        shape: &Shape,
        options: &Options,
        x: &[f32],
        supervision: Supervision<'_>,
        positions: &[usize],
        head: usize,
    ) -> (Learner, f64) {
        let Shape {
            batch,
            heads,
            tokens,
            channels,
        } = *shape;
        // The rows of a sample of this head.
        let rows = |values: &[f32], sample: usize, width: usize| -> Vec<f64> {
            let begin = (sample * heads + head) * tokens * width;
            let rows = values.get(begin..begin + tokens * width);
            rows.unwrap_or(&[]).iter().map(|x| f64::from(*x)).collect()
        };
        let units: Vec<Vec<f64>> = (0..batch)
            .map(|sample| normalised(&rows(x, sample, channels), channels))
            .collect();
        let first = units.first().map_or(&[][..], Vec::as_slice);
        let anchors: Vec<f64> = positions
            .iter()
            .filter_map(|t| first.chunks_exact(channels).nth(*t))
            .flatten()
            .copied()
            .collect();
        let mut sigmas = 0.0;
        let mut mean = vec![0.0; options.anchors];
        let mut samples = Vec::new();
        for (n, unit) in units.iter().enumerate() {
            let (kernel, sigma) = sample::kernel(unit, &anchors, channels);
            sigmas += sigma;
            for row in kernel.chunks_exact(options.anchors) {
                let share = (batch * tokens) as f64;
                mean.iter_mut().zip(row).for_each(|(m, k)| *m += k / share);
            }
            let (l, bits) = (options.pairs, options.bits);
            let targets = match supervision {
                Supervision::Inputs => sample::by_products(unit, unit, channels, l),
                Supervision::Maps(maps) => sample::by_rows(&rows(maps, n, tokens), tokens, l),
                Supervision::Products { q, k, width } => {
                    sample::by_products(&rows(q, n, width), &rows(k, n, width), width, l)
                }
            };
            samples.push(Sample::new(kernel, options.anchors, targets, bits));
        }
        samples.iter_mut().for_each(|sample| sample.centre(&mean));
        let learner = Learner {
            options: *options,
            share: 1.0 / (batch * heads * tokens * options.bits) as f64,
            samples,
            anchors,
            mean,
            weight: Vec::new(),
        };
        (learner, sigmas / batch as f64)
    }

    /// The gradient of the loss at some weights.
    pub fn gradient(&self, a: &[f64]) -> Vec<f64> {
        let mut gradient = vec![0.0; a.len()];
        for sample in &self.samples {
            sample.add_gradient(a, -self.share, &mut gradient);
        }
        gradient
    }

    /// The exact loss of the signs of some weights.
    fn hard_loss(&self, a: &[f64]) -> i64 {
        let scores = self
            .samples
            .iter()
            .map(|sample| sample.score(&sample.signs(a)));
        -scores.sum::<i64>()
    }

    /// Descends from some weights.
    pub fn learn(&self, start: Vec<f64>) -> Try {
        let Options {
            rate,
            momentum,
            steps,
            ..
        } = self.options;
        let mut a = start.clone();
        let mut speed = vec![0.0; a.len()];
        for _ in 0..steps {
            let gradient = self.gradient(&a);
            for ((a, speed), g) in a.iter_mut().zip(&mut speed).zip(gradient) {
                *speed = momentum * *speed + g;
                *a -= rate * (g + momentum * *speed);
            }
        }
        Try {
            losses: [self.hard_loss(&start), self.hard_loss(&a)],
            start,
            end: a,
        }
    }

    /// Makes weights the next bit's.
    pub fn take(&mut self, a: Vec<f64>) {
        for sample in &mut self.samples {
            let y = sample.signs(&a);
            sample.take(y);
        }
        self.weight.extend(a);
    }
}

/// Rows over their norms.
fn normalised(rows: &[f64], width: usize) -> Vec<f64> {
    rows.chunks_exact(width)
        .flat_map(|row| {
            let norm = row.iter().map(|x| x * x).sum::<f64>().sqrt().max(SMALL);
            row.iter().map(move |x| x / norm)
        })
        .collect()
}
