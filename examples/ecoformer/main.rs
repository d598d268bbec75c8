//! EcoFormer on real tensors: learns binary codes for the bundled layer, and attends from them in linear time.
//!
//! `cargo run --release --example ecoformer [report.html]`: learnt codes must bring attention closer to the layer's softmax
//! attention than random hashing does. Learning runs on the host; hashing and attention, all there is once codes are learnt, on
//! the device.
mod codes;
#[path = "../common/mod.rs"]
mod common;
mod page;

use std::{path::PathBuf, process::ExitCode, time::Instant};

use codes::{attend, hashed, hyperplanes};
use common::Progress;
use half::f16;
use safetensors::SafeTensors;
use subquad::{
    Gpu, Select,
    case::{Failure, write_whole},
    hamming::ksh_fit::{Fit, Options, Shape, Supervision, ksh_fit},
};

const LAYER: &[u8] = include_bytes!("../data/attention_layer.safetensors");

/// Tokens of the layer's 512.
const TOKENS: usize = 256;

/// Codes of 16 bits, as in EcoFormer. A row's 64 strongest and weakest pairs of 256 teach, at a rate that suits one sample.
const OPTIONS: Options = Options {
    bits: 16,
    anchors: 25,
    pairs: 64,
    steps: 200,
    rate: 2.0,
    momentum: 0.9,
    accept: subquad::hamming::ksh_fit::Accept::PerHead,
    seed: 0,
};

/// Random draws that are averaged.
const DRAWS: u64 = 5;

/// Lengths of code that are tried: the first bits of each.
const LENGTHS: [usize; 5] = [1, 2, 4, 8, 16];

/// The layer's queries, keys and values, `[heads, tokens, width]`, and its own attention.
struct Layer {
    heads: usize,
    width: usize,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    /// What tokens are hashed by: query and key in a row, because codes are shared between the two.
    x: Vec<f32>,
    /// Softmax weights, and the outputs they give.
    weights: Vec<f64>,
    o: Vec<f64>,
}

impl Layer {
    /// The first tokens of every head.
    fn load() -> Result<Layer, Failure> {
        let broken = |message: String| Failure::File {
            path: "the bundled layer".into(),
            message,
        };
        let file = SafeTensors::deserialize(LAYER).map_err(|error| broken(error.to_string()))?;
        let read = |name: &str| {
            let view = file
                .tensor(name)
                .map_err(|error| broken(error.to_string()))?;
            let &[heads, tokens, width] = view.shape() else {
                return Err(broken(format!("{name} is not [heads, tokens, width]")));
            };
            let halves = view.data().chunks_exact(2);
            let all: Vec<f32> = halves
                .map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32())
                .collect();
            let heads_of = all.chunks(tokens * width);
            let first = heads_of.flat_map(|head| &head[..TOKENS * width]).copied();
            Ok((heads, width, first.collect::<Vec<f32>>()))
        };
        let ((heads, width, q), (_, _, k), (_, _, v)) = (read("q")?, read("k")?, read("v")?);
        let rows = q.chunks(width).zip(k.chunks(width));
        let x = rows.flat_map(|(q, k)| q.iter().chain(k)).copied().collect();
        let (weights, o) = softmax(&q, &k, &v, width);
        Ok(Layer {
            heads,
            width,
            q,
            k,
            v,
            x,
            weights,
            o,
        })
    }

    fn shape(&self) -> Shape {
        Shape {
            batch: 1,
            heads: self.heads,
            tokens: TOKENS,
            channels: 2 * self.width,
        }
    }

    fn learn(&self, options: &Options, told: impl FnMut(usize)) -> Result<Fit, Failure> {
        let supervision = Supervision::Products {
            q: &self.q,
            k: &self.k,
            width: self.width,
        };
        let mut told = told;
        let fit = ksh_fit(&self.shape(), options, &self.x, supervision, |bit, _| {
            told(bit);
        })?;
        Ok(fit)
    }
}

/// Weights and outputs of softmax attention over all tokens.
fn softmax(q: &[f32], k: &[f32], v: &[f32], width: usize) -> (Vec<f64>, Vec<f64>) {
    let (mut all, mut o) = (Vec::new(), Vec::new());
    let size = TOKENS * width;
    for ((q, k), v) in q.chunks(size).zip(k.chunks(size)).zip(v.chunks(size)) {
        for q in q.chunks(width) {
            let dot = |k: &[f32]| q.iter().zip(k).map(|(a, b)| f64::from(a * b)).sum::<f64>();
            let scores: Vec<f64> = k.chunks(width).map(dot).collect();
            let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let scale = (width as f64).sqrt().recip();
            let weights: Vec<f64> = scores.iter().map(|s| (scale * (s - most)).exp()).collect();
            let sum: f64 = weights.iter().sum();
            let mut out = vec![0.0; width];
            for (weight, v) in weights.iter().zip(v.chunks(width)) {
                for (o, v) in out.iter_mut().zip(v) {
                    *o += weight / sum * f64::from(*v);
                }
            }
            all.extend(weights.iter().map(|w| w / sum));
            o.extend(out);
        }
    }
    (all, o)
}

/// How close outputs are to those of softmax attention, by head.
#[derive(Clone)]
struct Fidelity {
    /// Root-mean-square error, relative.
    errors: Vec<f64>,
    /// Mean over tokens of the cosine between outputs.
    cosines: Vec<f64>,
}

impl Fidelity {
    fn of(layer: &Layer, o: &[f64]) -> Fidelity {
        let size = TOKENS * layer.width;
        let heads = || o.chunks(size).zip(layer.o.chunks(size));
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let error = |(a, b): (&[f64], &[f64])| {
            let apart: f64 = a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum();
            (apart / dot(b, b)).sqrt()
        };
        let cosine = |(a, b): (&[f64], &[f64])| {
            let rows = a.chunks(layer.width).zip(b.chunks(layer.width));
            let cosines = rows.map(|(a, b)| dot(a, b) / (dot(a, a) * dot(b, b)).sqrt());
            mean(&cosines.collect::<Vec<f64>>())
        };
        Fidelity {
            errors: heads().map(error).collect(),
            cosines: heads().map(cosine).collect(),
        }
    }

    /// The mean of several, head by head.
    fn average(all: &[Fidelity]) -> Fidelity {
        let average = |of: fn(&Fidelity) -> &Vec<f64>| -> Vec<f64> {
            let heads = 0..all.first().map_or(0, |f| of(f).len());
            heads
                .map(|head| mean(&all.iter().map(|f| of(f)[head]).collect::<Vec<f64>>()))
                .collect()
        };
        Fidelity {
            errors: average(|f| &f.errors),
            cosines: average(|f| &f.cosines),
        }
    }

    fn error(&self) -> f64 {
        mean(&self.errors)
    }

    fn cosine(&self) -> f64 {
        mean(&self.cosines)
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// What the report shows.
struct Findings {
    device: String,
    layer: Layer,
    options: Options,
    fit: Fit,
    /// Every token attending to all alike.
    uniform: Fidelity,
    /// Codes whose weights are random, of the same anchors; then signs of products with random vectors.
    random: Fidelity,
    planes: Fidelity,
    learnt: Fidelity,
    /// Mean errors by the number of bits used: learnt, random.
    lengths: Vec<(usize, f64, f64)>,
    /// Codes of one draw: learnt, random.
    codes: [Vec<u32>; 2],
    seconds: f64,
    learning_seconds: f64,
}

fn compare(gpu: &Gpu, options: Options) -> Result<Findings, Failure> {
    let started = Instant::now();
    let layer = Layer::load()?;
    let progress = Progress::new(options.bits);
    let fit = layer.learn(&options, |bit| {
        progress.tell(bit + 1, "bits learnt".into());
    })?;
    progress.finish();
    let learning_seconds = started.elapsed().as_secs_f64();

    let codes = hashed(gpu, &layer, &options, &fit)?;
    let judge = |codes: &[u32], bits: usize| -> Result<Fidelity, Failure> {
        Ok(Fidelity::of(&layer, &attend(gpu, &layer, codes, bits)?))
    };
    let learnt = judge(&codes, options.bits)?;
    let (mut random, mut planes, mut drawn) = (Vec::new(), Vec::new(), Vec::new());
    for draw in 0..DRAWS {
        // No descent: the weights that learning starts from.
        let undone = Options {
            steps: 0,
            seed: draw,
            ..options
        };
        let fit = layer.learn(&undone, |_| {})?;
        drawn.push(hashed(gpu, &layer, &options, &fit)?);
        random.push(judge(&drawn[draw as usize], options.bits)?);
        planes.push(judge(
            &hyperplanes(&layer, options.bits, draw),
            options.bits,
        )?);
    }
    let mut lengths = Vec::new();
    for bits in LENGTHS.into_iter().filter(|bits| *bits <= options.bits) {
        let draws: Result<Vec<f64>, Failure> = drawn
            .iter()
            .map(|codes| Ok(judge(codes, bits)?.error()))
            .collect();
        lengths.push((bits, judge(&codes, bits)?.error(), mean(&draws?)));
    }
    let size = TOKENS * layer.width;
    let uniform: Vec<f64> = layer
        .v
        .chunks(size)
        .flat_map(|v| {
            let column = |n: usize| v.iter().skip(n).step_by(layer.width);
            let total = |n: usize| column(n).map(|v| f64::from(*v)).sum::<f64>();
            let row: Vec<f64> = (0..layer.width).map(|n| total(n) / TOKENS as f64).collect();
            row.repeat(TOKENS)
        })
        .collect();
    Ok(Findings {
        device: gpu.caps().name.clone(),
        uniform: Fidelity::of(&layer, &uniform),
        random: Fidelity::average(&random),
        planes: Fidelity::average(&planes),
        learnt,
        lengths,
        codes: [codes, drawn.swap_remove(0)],
        layer,
        options,
        fit,
        seconds: started.elapsed().as_secs_f64(),
        learning_seconds,
    })
}

fn run() -> Result<(), Failure> {
    let path = std::env::args_os().nth(1);
    let path = path.map_or("subquad-ecoformer.html".into(), PathBuf::from);
    let gpu = Gpu::open(&Select::from_env())?;
    let findings = compare(&gpu, OPTIONS)?;
    println!(
        "{} bits, {TOKENS} tokens, {} heads, on {} ({:.0} s, of which {:.0} s learning)",
        OPTIONS.bits,
        findings.layer.heads,
        findings.device,
        findings.seconds,
        findings.learning_seconds
    );
    println!("against softmax attention     relative error  cosine");
    for (name, fidelity) in findings.rows() {
        println!(
            "{name:<30}{:>14.4}{:>8.4}",
            fidelity.error(),
            fidelity.cosine()
        );
    }
    write_whole(&path, page::page(&findings)?.as_bytes())?;
    println!("report: {}", path.display());
    findings.verdict()
}

impl Findings {
    fn rows(&self) -> [(&'static str, &Fidelity); 4] {
        [
            ("learnt codes", &self.learnt),
            ("random weights", &self.random),
            ("random hyperplanes", &self.planes),
            ("no codes: the mean of v", &self.uniform),
        ]
    }

    fn verdict(&self) -> Result<(), Failure> {
        let (learnt, random) = (&self.learnt, [&self.random, &self.planes]);
        let closer = random
            .iter()
            .all(|other| learnt.error() < other.error() && learnt.cosine() > other.cosine());
        if closer {
            return Ok(());
        }
        Err(Failure::Missed(
            "learnt codes are not closer to softmax attention than random ones".into(),
        ))
    }
}

fn main() -> ExitCode {
    common::exit(run())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_little_learning_beats_random_hashing() {
        let gpu = Gpu::open(&Select::from_env()).unwrap();
        let options = Options {
            bits: 8,
            steps: 40,
            rate: 8.0,
            ..OPTIONS
        };
        compare(&gpu, options).unwrap().verdict().unwrap();
    }
}
