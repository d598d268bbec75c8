//! The model: embedding, layers of gated linear attention and a small perceptron, logits; forward, backward, one token.
use std::ops::Range;

use subquad::{Result, linear::Shape};

use crate::{
    attention::{Attention, Heads, Streams},
    dense::{
        add, add_bias, add_bias_adjoint, cross_entropy, log_gate, log_gate_adjoint, matmul,
        matmul_adjoint, rms_norm, rms_norm_adjoint, silu, silu_adjoint,
    },
};

/// Sizes of the model.
#[derive(Clone, Copy)]
pub struct Sizes {
    pub symbols: usize,
    pub width: usize,
    pub heads: Heads,
    pub hidden: usize,
    pub layers: usize,
}

/// Where a layer's parameters lie.
struct Layer {
    /// Scales of the norm before the attention.
    norm: Range<usize>,
    q: Range<usize>,
    k: Range<usize>,
    v: Range<usize>,
    gate: Range<usize>,
    gate_bias: Range<usize>,
    /// Scales of the norm of each head's output.
    head_norm: Range<usize>,
    o: Range<usize>,
    /// Scales of the norm before the perceptron.
    norm2: Range<usize>,
    up: Range<usize>,
    down: Range<usize>,
}

/// All parameters in one list, and where each lies.
pub struct Model {
    pub sizes: Sizes,
    pub parameters: Vec<f32>,
    embedding: Range<usize>,
    layers: Vec<Layer>,
    norm: Range<usize>,
    head: Range<usize>,
}

/// What the backward pass needs of a layer.
struct LayerTape {
    x: Vec<f32>,
    normed: Vec<f32>,
    gate: Vec<f32>,
    streams: Streams,
    o: Vec<f32>,
    o_normed: Vec<f32>,
    middle: Vec<f32>,
    normed2: Vec<f32>,
    up: Vec<f32>,
    active: Vec<f32>,
}

/// What the backward pass needs of a run.
struct Tape {
    layers: Vec<LayerTape>,
    x: Vec<f32>,
    normed: Vec<f32>,
    logits: Vec<f32>,
}

/// Numbers in 0 .. 1, the same in every run.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> f64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }
}

impl Model {
    /// A model with random weights.
    pub fn new(sizes: Sizes, seed: u64) -> Model {
        let Sizes {
            symbols,
            width,
            heads,
            hidden,
            ..
        } = sizes;
        let mut parameters = Vec::new();
        let mut random = Random(seed);
        // A range of weights, even in -sqrt(3) scale .. sqrt(3) scale, whose deviation is the scale.
        let mut weights = |parameters: &mut Vec<f32>, len: usize, scale: f64| {
            let start = parameters.len();
            let fresh = || (scale * 12f64.sqrt() * (random.next() - 0.5)) as f32;
            parameters.extend(std::iter::repeat_with(fresh).take(len));
            start..parameters.len()
        };
        let ones = |parameters: &mut Vec<f32>, len: usize| {
            let start = parameters.len();
            parameters.resize(start + len, 1.0);
            start..parameters.len()
        };
        let (keys, values) = (heads.heads * heads.key, heads.heads * heads.value);
        let fan = |n: usize| (n as f64).sqrt().recip();
        let embedding = weights(&mut parameters, symbols * width, 0.5);
        let layers = (0..sizes.layers)
            .map(|_| {
                let p = &mut parameters;
                Layer {
                    norm: ones(p, width),
                    q: weights(p, width * keys, fan(width)),
                    k: weights(p, width * keys, fan(width)),
                    v: weights(p, width * values, fan(width)),
                    gate: weights(p, width * keys, 0.5 * fan(width)),
                    gate_bias: {
                        // Memories from a few tokens to a few hundred, side by side in every head.
                        let start = p.len();
                        let spread = |n: usize| 4.0 * (n % heads.key) as f32 / heads.key as f32;
                        p.extend((0..keys).map(spread));
                        start..p.len()
                    },
                    head_norm: ones(p, heads.value),
                    o: weights(p, values * width, 0.5 * fan(values)),
                    norm2: ones(p, width),
                    up: weights(p, width * hidden, fan(width)),
                    down: weights(p, hidden * width, 0.5 * fan(hidden)),
                }
            })
            .collect();
        let norm = ones(&mut parameters, width);
        let head = weights(&mut parameters, width * symbols, 0.2 * fan(width));
        Model {
            sizes,
            parameters,
            embedding,
            layers,
            norm,
            head,
        }
    }

    fn at(&self, range: &Range<usize>) -> &[f32] {
        &self.parameters[range.clone()]
    }

    fn run(
        &self,
        symbols: &[usize],
        mut mix: impl FnMut(usize, &Streams) -> Result<Vec<f32>>,
    ) -> Result<Tape> {
        let Sizes {
            width,
            heads,
            hidden,
            ..
        } = self.sizes;
        let embedding = self.at(&self.embedding);
        let rows = symbols
            .iter()
            .flat_map(|s| &embedding[s * width..][..width]);
        let mut x: Vec<f32> = rows.copied().collect();
        let mut layers = Vec::new();
        for (n, layer) in self.layers.iter().enumerate() {
            let normed = rms_norm(&x, self.at(&layer.norm));
            let project = |to: &Range<usize>| matmul(&normed, self.at(to), width);
            let mut gate = project(&layer.gate);
            add_bias(&mut gate, self.at(&layer.gate_bias));
            let streams = Streams {
                q: project(&layer.q),
                k: project(&layer.k),
                v: project(&layer.v),
                log_decay: log_gate(&gate),
            };
            let o = mix(n, &streams)?;
            let o_normed = rms_norm(&o, self.at(&layer.head_norm));
            let mut middle = matmul(&o_normed, self.at(&layer.o), heads.heads * heads.value);
            add(&mut middle, &x);
            let normed2 = rms_norm(&middle, self.at(&layer.norm2));
            let up = matmul(&normed2, self.at(&layer.up), width);
            let active = silu(&up);
            let mut next = matmul(&active, self.at(&layer.down), hidden);
            add(&mut next, &middle);
            layers.push(LayerTape {
                x: std::mem::replace(&mut x, next),
                normed,
                gate,
                streams,
                o,
                o_normed,
                middle,
                normed2,
                up,
                active,
            });
        }
        let normed = rms_norm(&x, self.at(&self.norm));
        Ok(Tape {
            logits: matmul(&normed, self.at(&self.head), width),
            layers,
            x,
            normed,
        })
    }

    fn shape(&self, batch: usize, symbols: &[usize]) -> Shape {
        self.sizes.heads.shape(batch, symbols.len() / batch)
    }

    /// Mean cross entropy of predicting `expected` from `symbols`, both `[batch, tokens]`, and its gradient.
    pub fn learn(
        &self,
        batch: usize,
        symbols: &[usize],
        expected: &[usize],
        attention: &mut dyn Attention,
    ) -> Result<(f64, Vec<f32>)> {
        let shape = self.shape(batch, symbols);
        let options = self.sizes.heads.options();
        let tape = self.run(symbols, |_, x| attention.forward(&shape, &options, x))?;
        let (loss, grad_logits) = cross_entropy(&tape.logits, expected);
        let gradient = self.backward(symbols, &tape, &grad_logits, |x, grad_o| {
            attention.backward(&shape, &options, x, grad_o)
        })?;
        Ok((loss, gradient))
    }

    fn backward(
        &self,
        symbols: &[usize],
        tape: &Tape,
        grad_logits: &[f32],
        mut mix_adjoint: impl FnMut(&Streams, &[f32]) -> Result<Streams>,
    ) -> Result<Vec<f32>> {
        let Sizes {
            width,
            heads,
            hidden,
            ..
        } = self.sizes;
        let mut gradient = vec![0.0; self.parameters.len()];
        let g = &mut gradient;
        let d_normed = self.linear_adjoint(g, &tape.normed, &self.head, width, grad_logits);
        let mut dx = self.norm_adjoint(g, &tape.x, &self.norm, &d_normed);
        for (layer, tape) in self.layers.iter().zip(&tape.layers).rev() {
            let d_active = self.linear_adjoint(g, &tape.active, &layer.down, hidden, &dx);
            let d_up = silu_adjoint(&tape.up, &d_active);
            let d_normed2 = self.linear_adjoint(g, &tape.normed2, &layer.up, width, &d_up);
            let d_middle = self.norm_adjoint(g, &tape.middle, &layer.norm2, &d_normed2);
            add(&mut dx, &d_middle);

            let values = heads.heads * heads.value;
            let d_o_normed = self.linear_adjoint(g, &tape.o_normed, &layer.o, values, &dx);
            let d_o = self.norm_adjoint(g, &tape.o, &layer.head_norm, &d_o_normed);
            let streams = mix_adjoint(&tape.streams, &d_o)?;
            let d_gate = log_gate_adjoint(&tape.gate, &streams.log_decay);
            add_bias_adjoint(&d_gate, &mut g[layer.gate_bias.clone()]);
            let mut d_normed = vec![0.0; tape.normed.len()];
            for (w, dy) in [
                (&layer.q, &streams.q),
                (&layer.k, &streams.k),
                (&layer.v, &streams.v),
                (&layer.gate, &d_gate),
            ] {
                let part = self.linear_adjoint(g, &tape.normed, w, width, dy);
                add(&mut d_normed, &part);
            }
            let d_x = self.norm_adjoint(g, &tape.x, &layer.norm, &d_normed);
            add(&mut dx, &d_x);
        }
        let embedding = &mut gradient[self.embedding.clone()];
        for (symbol, dx) in symbols.iter().zip(dx.chunks(width)) {
            add(&mut embedding[symbol * width..][..width], dx);
        }
        Ok(gradient)
    }

    /// The gradient of x from that of x w; that of w goes to its place.
    fn linear_adjoint(
        &self,
        gradient: &mut [f32],
        x: &[f32],
        w: &Range<usize>,
        inner: usize,
        dy: &[f32],
    ) -> Vec<f32> {
        matmul_adjoint(x, self.at(w), inner, dy, &mut gradient[w.clone()])
    }

    /// The gradient of x from that of its norm scaled by w; that of w goes to its place.
    fn norm_adjoint(
        &self,
        gradient: &mut [f32],
        x: &[f32],
        w: &Range<usize>,
        dy: &[f32],
    ) -> Vec<f32> {
        rms_norm_adjoint(x, self.at(w), dy, &mut gradient[w.clone()])
    }

    /// Logits after the next symbol of one sequence; what came before lies in the attention's states.
    pub fn next(&self, symbol: usize, attention: &mut dyn Attention) -> Result<Vec<f32>> {
        let shape = self.shape(1, &[symbol]);
        let options = self.sizes.heads.options();
        let step = |layer, x: &Streams| attention.step(layer, &shape, &options, x);
        Ok(self.run(&[symbol], step)?.logits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attention::Reference;

    fn small() -> Model {
        let heads = Heads {
            heads: 2,
            key: 3,
            value: 5,
        };
        let sizes = Sizes {
            symbols: 7,
            width: 8,
            heads,
            hidden: 12,
            layers: 2,
        };
        Model::new(sizes, 5)
    }

    fn text(len: usize) -> Vec<usize> {
        (0..len).map(|n| (n * n + n / 3) % 7).collect()
    }

    /// Along the gradient of each tensor, the loss rises by the gradient's length.
    #[test]
    fn the_gradient_is_the_slope_of_the_loss_in_every_tensor() {
        let mut model = small();
        let text = text(21);
        let (symbols, expected) = (&text[..20], &text[1..]);
        let loss = |model: &Model| {
            let found = model.learn(2, symbols, expected, &mut Reference::default());
            found.unwrap()
        };
        let (_, gradient) = loss(&model);
        let mut ranges = vec![
            model.embedding.clone(),
            model.norm.clone(),
            model.head.clone(),
        ];
        for layer in &model.layers {
            ranges.extend(
                [
                    &layer.norm,
                    &layer.q,
                    &layer.k,
                    &layer.v,
                    &layer.gate,
                    &layer.gate_bias,
                    &layer.head_norm,
                    &layer.o,
                    &layer.norm2,
                    &layer.up,
                    &layer.down,
                ]
                .map(Range::clone),
            );
        }
        let covered: usize = ranges.iter().map(ExactSizeIterator::len).sum();
        assert_eq!(covered, model.parameters.len());
        for range in ranges {
            let direction = gradient[range.clone()].to_vec();
            let length = direction.iter().map(|g| g * g).sum::<f32>().sqrt();
            assert!(length > 1e-6, "{range:?} has no gradient");
            let keep = model.parameters.clone();
            let mut moved = |by: f32| {
                for (x, g) in model.parameters[range.clone()].iter_mut().zip(&direction) {
                    *x += by * g / length;
                }
                let found = loss(&model).0;
                model.parameters.clone_from(&keep);
                found
            };
            let length = f64::from(length);
            // Rounding of the loss in f32 forbids smaller steps, the bends of the norms larger ones.
            let h = 2e-3f32;
            let slope = (moved(h) - moved(-h)) / (2.0 * f64::from(h));
            assert!(
                (slope - length).abs() < 1e-3 * length + 1e-5,
                "{range:?}: slope {slope}, gradient {length}"
            );
        }
    }

    #[test]
    fn token_by_token_is_the_whole_sequence() {
        let model = small();
        let text = text(17);
        let (shape, options) = (model.shape(1, &text), model.sizes.heads.options());
        let mut whole = Reference::default();
        let mix = |_, x: &Streams| whole.forward(&shape, &options, x);
        let tape = model.run(&text, mix).unwrap();
        let mut steps = Reference::default();
        for (symbol, logits) in text.iter().zip(tape.logits.chunks(7)) {
            let next = model.next(*symbol, &mut steps).unwrap();
            for (a, b) in next.iter().zip(logits) {
                assert!((a - b).abs() < 1e-5, "{a} {b}");
            }
        }
    }
}
