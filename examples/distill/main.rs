//! Hedgehog distillation: learns feature maps so that linear attention mimics the softmax attention of the bundled layer.
//!
//! `cargo run --release --example distill [report.html]`: the Kullback-Leibler divergence between the two must fall by half.
//! The loss, the maps and the gradients of both run on the device; the updates of the maps' weights, which are few, on the host.
#[path = "../common/adam.rs"]
mod adam;
#[path = "../common/mod.rs"]
mod common;
mod map;
mod page;

use std::{path::PathBuf, process::ExitCode, time::Instant};

use adam::Adam;
use common::Progress;
use half::f16;
use map::{Map, Sizes};
use safetensors::SafeTensors;
use subquad::{
    Gpu, Select, Tensor,
    case::{Failure, write_whole},
    distill::{self, Gradients, Inputs, KEPT, Options, Outputs, Shape},
    gpu::Dtype,
};

const LAYER: &[u8] = include_bytes!("../data/attention_layer.safetensors");

/// Tokens of the layer's 512 that are learnt from, and updates: about a quarter of a minute on two cores without a GPU.
const TOKENS: usize = 256;
const STEPS: usize = 60;
const RATE: f32 = 0.03;

/// The layer's queries and keys: the teacher, and what the maps are applied to.
struct Layer {
    sizes: Sizes,
    q: Vec<f16>,
    k: Vec<f16>,
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
            let all: Vec<f16> = halves.map(|b| f16::from_le_bytes([b[0], b[1]])).collect();
            let heads_of = all.chunks(tokens * width);
            let first = heads_of.flat_map(|head| &head[..TOKENS * width]).copied();
            let sizes = Sizes {
                heads,
                tokens: TOKENS,
                width,
            };
            Ok((sizes, first.collect()))
        };
        let ((sizes, q), (_, k)) = (read("q")?, read("k")?);
        Ok(Layer { sizes, q, k })
    }

    fn shape(&self) -> Shape {
        Shape {
            batch: 1,
            heads: self.sizes.heads,
            tokens: self.sizes.tokens,
            key: self.sizes.width,
            features: 2 * self.sizes.width,
            dtype: Dtype::F16,
        }
    }

    /// The model's own attention: every token sees all others.
    fn options(&self) -> Options {
        Options {
            causal: false,
            scale: (self.sizes.width as f32).sqrt().recip(),
        }
    }
}

/// The teacher, the maps of queries and of keys, and everything a step touches, on the device.
struct Teacher<'a> {
    gpu: &'a Gpu,
    shape: Shape,
    options: Options,
    maps: [Map; 2],
    grads: [Tensor<f32>; 2],
    loss: Tensor<f32>,
    entropy: Tensor<f32>,
    rows: Tensor<f32>,
}

impl<'a> Teacher<'a> {
    fn new(gpu: &'a Gpu, layer: &Layer) -> Result<Teacher<'a>, Failure> {
        let shape = layer.shape();
        let features = || gpu.zeros(shape.features_len());
        Ok(Teacher {
            gpu,
            shape,
            options: layer.options(),
            maps: [
                Map::new(gpu, layer.sizes, &layer.q)?,
                Map::new(gpu, layer.sizes, &layer.k)?,
            ],
            grads: [features()?, features()?],
            loss: gpu.zeros(shape.rows())?,
            entropy: gpu.zeros(shape.rows())?,
            rows: gpu.zeros(KEPT * shape.rows())?,
        })
    }

    /// The divergence for each query, and the gradients of its mean with respect to the maps' parameters.
    fn judge(&mut self, parameters: &[Vec<f32>; 2]) -> Result<(Vec<f64>, [Vec<f32>; 2]), Failure> {
        for (map, parameters) in self.maps.iter_mut().zip(parameters) {
            map.forward(self.gpu, parameters)?;
        }
        let [map_q, map_k] = &self.maps;
        let inputs = Inputs {
            q: &map_q.x,
            k: &map_k.x,
            phi_q: &map_q.phi,
            phi_k: &map_k.phi,
        };
        let outputs = Outputs {
            loss: &mut self.loss,
            entropy: &mut self.entropy,
            rows: &mut self.rows,
        };
        let [grad_q, grad_k] = &mut self.grads;
        let gradients = Gradients {
            phi_q: grad_q,
            phi_k: grad_k,
        };
        let mut pass = self.gpu.pass("distill");
        distill::record(&mut pass, &self.shape, &self.options, &inputs, outputs)?;
        let rows = &self.rows;
        distill::record_backward(
            &mut pass,
            &self.shape,
            &self.options,
            &inputs,
            rows,
            gradients,
        )?;
        pass.submit()?;
        let [map_q, map_k] = &mut self.maps;
        let gradients = [
            map_q.adjoint(self.gpu, &self.grads[0])?,
            map_k.adjoint(self.gpu, &self.grads[1])?,
        ];
        let (loss, entropy) = (self.loss.download()?, self.entropy.download()?);
        let both = loss.iter().zip(&entropy);
        let divergence = both.map(|(loss, entropy)| f64::from(*loss) - f64::from(*entropy));
        Ok((divergence.collect(), gradients))
    }

    /// φ(q) and φ(k) as last computed.
    fn features(&self) -> Result<[Vec<f32>; 2], Failure> {
        let [q, k] = &self.maps;
        Ok([q.phi.download()?, k.phi.download()?])
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// What the report shows.
struct Findings {
    device: String,
    layer: Layer,
    /// Mean divergence before each step, and after the last.
    curve: Vec<f64>,
    /// Mean divergence of each head at the start and at the end.
    heads: [Vec<f64>; 2],
    /// Features of queries and keys at the start and at the end.
    features: [[Vec<f32>; 2]; 2],
    seconds: f64,
}

fn learn(gpu: &Gpu, steps: usize) -> Result<Findings, Failure> {
    let started = Instant::now();
    let layer = Layer::load()?;
    let sizes = layer.sizes;
    let mut teacher = Teacher::new(gpu, &layer)?;
    // Queries and keys have maps of their own.
    let mut parameters = [sizes.identity(), sizes.identity()];
    let mut adams = [0, 1].map(|n: usize| Adam::new(parameters[n].len()));
    let progress = Progress::new(steps);
    let by_head = |divergence: &[f64]| divergence.chunks(sizes.tokens).map(mean).collect();

    let (divergence, mut gradients) = teacher.judge(&parameters)?;
    let before = teacher.features()?;
    let mut heads = [by_head(&divergence), Vec::new()];
    let mut curve = vec![mean(&divergence)];
    for step in 1..=steps {
        let rate = RATE * (1.0 - 0.9 * (step - 1) as f32 / steps as f32);
        for n in 0..2 {
            adams[n].update(rate, &mut parameters[n], &gradients[n]);
        }
        let (divergence, fresh) = teacher.judge(&parameters)?;
        gradients = fresh;
        curve.push(mean(&divergence));
        heads[1] = by_head(&divergence);
        progress.tell(step, format!("mean divergence {:.4}", mean(&divergence)));
    }
    progress.finish();
    Ok(Findings {
        device: gpu.caps().name.clone(),
        layer,
        curve,
        heads,
        features: [before, teacher.features()?],
        seconds: started.elapsed().as_secs_f64(),
    })
}

fn run() -> Result<(), Failure> {
    let path = std::env::args_os().nth(1);
    let path = path.map_or("subquad-distill.html".into(), PathBuf::from);
    let gpu = Gpu::open(&Select::from_env())?;
    let findings = learn(&gpu, STEPS)?;
    let (first, last) = (findings.curve[0], findings.curve[STEPS]);
    println!(
        "mean divergence from softmax attention: {first:.4} nats at the start, {last:.4} after {STEPS} steps on {} ({:.0} s)",
        findings.device, findings.seconds
    );
    write_whole(&path, page::page(&findings)?.as_bytes())?;
    println!("report: {}", path.display());
    if last <= 0.5 * first {
        Ok(())
    } else {
        Err(Failure::Missed(format!(
            "the divergence fell from {first:.4} to {last:.4} only, not by half"
        )))
    }
}

fn main() -> ExitCode {
    common::exit(run())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_steps_bring_the_student_closer() {
        let gpu = Gpu::open(&Select::from_env()).unwrap();
        let findings = learn(&gpu, 4).unwrap();
        let (first, last) = (findings.curve[0], findings.curve[4]);
        assert!(last > 0.0 && last < 0.8 * first, "{first} {last}");
    }
}
