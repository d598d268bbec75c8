//! The part that runs through the library: gated linear attention, forward, backward and token by token.
use subquad::{
    Result,
    gpu::Dtype,
    linear::{Decay, Layout, Options, Shape, cpu},
};

/// Queries, keys, values and log decays, `[batch, tokens, heads, width]`; or their gradients.
#[derive(Clone, Default)]
pub struct Streams {
    pub q: Vec<f32>,
    pub k: Vec<f32>,
    pub v: Vec<f32>,
    pub log_decay: Vec<f32>,
}

/// Widths of a layer's attention.
#[derive(Clone, Copy)]
pub struct Heads {
    pub heads: usize,
    pub key: usize,
    pub value: usize,
}

impl Heads {
    pub fn shape(self, batch: usize, tokens: usize) -> Shape {
        Shape {
            batch,
            tokens,
            heads: self.heads,
            kv_heads: self.heads,
            key: self.key,
            value: self.value,
            layout: Layout::Bthd,
            dtype: Dtype::F32,
        }
    }

    /// Gated linear attention: a decay for every token, head and channel.
    pub fn options(self) -> Options {
        Options {
            decay: Decay::Channel,
            scale: (self.key as f32).sqrt().recip(),
            ..Options::plain()
        }
    }
}

/// What a model asks of an attention.
pub trait Attention {
    /// What computes it.
    fn name(&self) -> String;

    /// Outputs of whole sequences, `[batch, tokens, heads, value]`.
    fn forward(&mut self, shape: &Shape, options: &Options, x: &Streams) -> Result<Vec<f32>>;

    /// Gradients of the streams from that of the outputs.
    fn backward(
        &mut self,
        shape: &Shape,
        options: &Options,
        x: &Streams,
        grad_o: &[f32],
    ) -> Result<Streams>;

    /// The output of the next token of a layer, whose state is kept here and does not grow.
    fn step(
        &mut self,
        layer: usize,
        shape: &Shape,
        options: &Options,
        x: &Streams,
    ) -> Result<Vec<f32>>;
}

/// The library's f64 reference.
#[derive(Default)]
pub struct Reference {
    states: Vec<Vec<f64>>,
}

impl Attention for Reference {
    fn name(&self) -> String {
        "the CPU reference in f64".into()
    }

    fn forward(&mut self, shape: &Shape, options: &Options, x: &Streams) -> Result<Vec<f32>> {
        let wide = Wide::new(x);
        Ok(narrow(&cpu::forward(shape, options, &wide.inputs())?.o))
    }

    fn backward(
        &mut self,
        shape: &Shape,
        options: &Options,
        x: &Streams,
        grad_o: &[f32],
    ) -> Result<Streams> {
        let wide = Wide::new(x);
        let grads = cpu::backward(shape, options, &wide.inputs(), &widen(grad_o), None)?;
        Ok(Streams {
            q: narrow(&grads.q),
            k: narrow(&grads.k),
            v: narrow(&grads.v),
            log_decay: narrow(&grads.log_decay),
        })
    }

    fn step(
        &mut self,
        layer: usize,
        shape: &Shape,
        options: &Options,
        x: &Streams,
    ) -> Result<Vec<f32>> {
        while self.states.len() <= layer {
            self.states.push(vec![0.0; shape.state_len()]);
        }
        let wide = Wide::new(x);
        let inputs = cpu::Inputs {
            initial_state: Some(&self.states[layer]),
            ..wide.inputs()
        };
        let out = cpu::forward(shape, options, &inputs)?;
        self.states[layer] = out.final_state;
        Ok(narrow(&out.o))
    }
}

/// Streams in f64.
struct Wide([Vec<f64>; 4]);

impl Wide {
    fn new(x: &Streams) -> Wide {
        Wide([&x.q, &x.k, &x.v, &x.log_decay].map(|x| widen(x)))
    }

    fn inputs(&self) -> cpu::Inputs<'_> {
        let Wide([q, k, v, log_decay]) = self;
        cpu::Inputs {
            log_decay: Some(log_decay),
            ..cpu::Inputs::new(q, k, v)
        }
    }
}

fn widen(x: &[f32]) -> Vec<f64> {
    x.iter().map(|x| f64::from(*x)).collect()
}

fn narrow(x: &[f64]) -> Vec<f32> {
    x.iter().map(|x| *x as f32).collect()
}
