//! A language model in miniature: two layers of gated linear attention learn the licences that this repository ships, byte by
//! byte; then the model writes on, token by token, through states of constant size.
//!
//! `cargo run --release --example language_model [report.html]`. The attention runs through the library, forward and backward;
//! the dense parts are a few functions on the host. The same model on the CPU reference must have the same losses, to 1e-3,
//! for the first steps.
#[path = "../common/adam.rs"]
mod adam;
mod attention;
#[path = "../common/mod.rs"]
mod common;
mod dense;
mod device;
mod model;
mod page;

use std::{path::PathBuf, process::ExitCode, time::Instant};

use adam::Adam;
use attention::{Attention, Heads, Reference};
use common::Progress;
use device::Device;
use model::{Model, Random, Sizes};
use subquad::{
    Error,
    case::{Failure, write_whole},
};

const TEXT: &str = concat!(
    include_str!("../../LICENSE-APACHE"),
    include_str!("../../LICENSE-MIT")
);

const HEADS: Heads = Heads {
    heads: 4,
    key: 16,
    value: 16,
};
const WIDTH: usize = 64;
const HIDDEN: usize = 128;
const LAYERS: usize = 2;

const BATCH: usize = 4;
const TOKENS: usize = 128;
const STEPS: usize = 800;
const RATE: f32 = 0.004;

/// Steps for which the device is held against the reference, and how close its losses must be.
const CHECKED: usize = 20;
const TOLERANCE: f64 = 1e-3;

const PROMPT: &str = "You may ";
const WRITTEN: usize = 400;
const TEMPERATURE: f64 = 0.6;

/// The attention of the adapter, or none where there is none: then the reference computes everything.
fn device() -> Result<Option<Box<dyn Attention>>, Failure> {
    match Device::open() {
        Ok(device) => Ok(Some(Box::new(device))),
        Err(error @ Error::NoAdapter { .. }) => {
            eprintln!("{error}: computing with the CPU reference");
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// The text as symbols, and the byte of each symbol.
struct Text {
    symbols: Vec<usize>,
    bytes: Vec<u8>,
}

impl Text {
    fn new() -> Text {
        // Lines are broken and indented for people; a model this small has better things to learn.
        let text = TEXT.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut bytes = text.as_bytes().to_vec();
        bytes.sort_unstable();
        bytes.dedup();
        let symbols = symbols(&text, &bytes);
        Text { symbols, bytes }
    }

    fn sizes(&self) -> Sizes {
        Sizes {
            symbols: self.bytes.len(),
            width: WIDTH,
            heads: HEADS,
            hidden: HIDDEN,
            layers: LAYERS,
        }
    }
}

/// The symbols of a text; bytes that have none are left out.
fn symbols(text: &str, bytes: &[u8]) -> Vec<usize> {
    let found = text.bytes().filter_map(|b| bytes.binary_search(&b).ok());
    found.collect()
}

/// A model being trained.
struct Training<'a> {
    text: &'a Text,
    model: Model,
    adam: Adam,
    random: Random,
    /// The loss of each step so far.
    losses: Vec<f64>,
}

impl<'a> Training<'a> {
    fn new(text: &'a Text) -> Training<'a> {
        let model = Model::new(text.sizes(), 1);
        Training {
            text,
            adam: Adam::new(model.parameters.len()),
            model,
            random: Random(2),
            losses: Vec::new(),
        }
    }

    /// One step on passages chosen at random, the same ones in every run.
    fn step(&mut self, attention: &mut dyn Attention) -> Result<f64, Failure> {
        let (mut symbols, mut expected) = (Vec::new(), Vec::new());
        for _ in 0..BATCH {
            let starts = self.text.symbols.len() - TOKENS;
            let at = (self.random.next() * starts as f64) as usize;
            symbols.extend(&self.text.symbols[at..at + TOKENS]);
            expected.extend(&self.text.symbols[at + 1..=at + TOKENS]);
        }
        let (loss, gradient) = self.model.learn(BATCH, &symbols, &expected, attention)?;
        let done = self.losses.len() as f32;
        let rate = RATE * ((done + 1.0) / 20.0).min(1.0) * (1.0 - 0.9 * done / STEPS as f32);
        self.adam
            .update(rate, &mut self.model.parameters, &gradient);
        self.losses.push(loss);
        Ok(loss)
    }
}

/// Continues the prompt; memory does not grow with what is written.
fn write(model: &Model, text: &Text, attention: &mut dyn Attention) -> Result<String, Failure> {
    let mut random = Random(3);
    let mut logits = Vec::new();
    for symbol in symbols(PROMPT, &text.bytes) {
        logits = model.next(symbol, attention)?;
    }
    let mut written = Vec::with_capacity(WRITTEN);
    for _ in 0..WRITTEN {
        let most = logits.iter().copied().fold(f32::MIN, f32::max);
        let weight = |x: &f32| (f64::from(x - most) / TEMPERATURE).exp();
        let mut left = random.next() * logits.iter().map(weight).sum::<f64>();
        let chosen = logits.iter().position(|x| {
            left -= weight(x);
            left <= 0.0
        });
        let symbol = chosen.unwrap_or(logits.len() - 1);
        written.push(text.bytes[symbol]);
        logits = model.next(symbol, attention)?;
    }
    Ok(String::from_utf8_lossy(&written).into_owned())
}

/// What the report shows.
struct Findings {
    attention: String,
    parameters: usize,
    bytes: usize,
    losses: Vec<f64>,
    /// Losses of the reference for the first steps; none where the reference is what computed everything.
    reference: Vec<f64>,
    train_seconds: f64,
    written: String,
    write_seconds: f64,
}

fn train_and_write() -> Result<Findings, Failure> {
    let text = Text::new();
    let started = Instant::now();
    let mut reference = Vec::new();
    let mut attention: Box<dyn Attention> = match device()? {
        Some(device) => {
            let mut training = Training::new(&text);
            for _ in 0..CHECKED {
                training.step(&mut Reference::default())?;
            }
            reference = training.losses;
            device
        }
        None => Box::<Reference>::default(),
    };
    let mut training = Training::new(&text);
    let progress = Progress::new(STEPS);
    for step in 1..=STEPS {
        let loss = training.step(attention.as_mut())?;
        progress.tell(step, format!("loss {loss:.3}"));
    }
    progress.finish();
    let train_seconds = started.elapsed().as_secs_f64();
    let started = Instant::now();
    let written = write(&training.model, &text, attention.as_mut())?;
    Ok(Findings {
        attention: attention.name(),
        parameters: training.model.parameters.len(),
        bytes: text.symbols.len(),
        losses: training.losses,
        reference,
        train_seconds,
        written,
        write_seconds: started.elapsed().as_secs_f64(),
    })
}

impl Findings {
    /// The largest difference of the device's losses from the reference's.
    fn apart(&self) -> Option<f64> {
        let both = self.reference.iter().zip(&self.losses);
        both.map(|(a, b)| (a - b).abs()).reduce(f64::max)
    }

    /// Mean loss of the last steps.
    fn last(&self) -> f64 {
        let last = &self.losses[STEPS - STEPS / 10..];
        last.iter().sum::<f64>() / last.len() as f64
    }
}

fn run() -> Result<(), Failure> {
    let path = std::env::args_os().nth(1);
    let path = path.map_or("subquad-language-model.html".into(), PathBuf::from);
    let findings = train_and_write()?;
    println!(
        "loss {:.3} at the start, {:.3} after {STEPS} steps ({:.0} s), attention by {}",
        findings.losses[0],
        findings.last(),
        findings.train_seconds,
        findings.attention
    );
    println!("{PROMPT}{}", findings.written);
    write_whole(&path, page::page(&findings)?.as_bytes())?;
    println!("report: {}", path.display());
    match findings.apart() {
        Some(apart) if apart.is_nan() || apart > TOLERANCE => {
            return Err(Failure::Missed(format!(
                "the first {CHECKED} losses are up to {apart:.1e} from the reference's"
            )));
        }
        Some(apart) => {
            println!("the first {CHECKED} losses are within {apart:.1e} of the reference's")
        }
        None => println!("no device computed it, so there is nothing to compare"),
    }
    if findings.last() <= 0.5 * findings.losses[0] {
        Ok(())
    } else {
        Err(Failure::Missed("the loss did not fall by half".into()))
    }
}

fn main() -> ExitCode {
    common::exit(run())
}

#[cfg(test)]
mod tests {
    use subquad::linear::{Options, Shape};

    use super::{attention::Streams, *};

    /// The reference with errors as large as those of a device that computes in f32.
    struct Rounded(Reference, Random);

    impl Rounded {
        fn blur(&mut self, x: &mut [f32]) {
            for x in x {
                *x *= 1.0 + 4e-6 * (self.1.next() as f32 - 0.5);
            }
        }
    }

    impl Attention for Rounded {
        fn name(&self) -> String {
            "the reference, blurred".into()
        }

        fn forward(
            &mut self,
            shape: &Shape,
            options: &Options,
            x: &Streams,
        ) -> subquad::Result<Vec<f32>> {
            let mut o = self.0.forward(shape, options, x)?;
            self.blur(&mut o);
            Ok(o)
        }

        fn backward(
            &mut self,
            shape: &Shape,
            options: &Options,
            x: &Streams,
            grad_o: &[f32],
        ) -> subquad::Result<Streams> {
            let mut grads = self.0.backward(shape, options, x, grad_o)?;
            for grad in [
                &mut grads.q,
                &mut grads.k,
                &mut grads.v,
                &mut grads.log_decay,
            ] {
                self.blur(grad);
            }
            Ok(grads)
        }

        fn step(
            &mut self,
            layer: usize,
            shape: &Shape,
            options: &Options,
            x: &Streams,
        ) -> subquad::Result<Vec<f32>> {
            self.0.step(layer, shape, options, x)
        }
    }

    /// What the device is asked for can be met: rounding does not carry the losses apart that soon.
    #[test]
    fn rounding_leaves_the_first_losses_within_the_tolerance() {
        let text = Text::new();
        let (mut exact, mut rounded) = (Training::new(&text), Training::new(&text));
        let mut blurred = Rounded(Reference::default(), Random(4));
        for _ in 0..CHECKED {
            exact.step(&mut Reference::default()).unwrap();
            rounded.step(&mut blurred).unwrap();
        }
        let both = exact.losses.iter().zip(&rounded.losses);
        let apart = both.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        println!("{apart:.1e} apart");
        assert!(apart > 0.0 && apart <= 0.1 * TOLERANCE, "{apart:e}");
        assert!(exact.losses[CHECKED - 1] < exact.losses[0] - 0.5);
    }
}
