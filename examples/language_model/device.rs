//! The attention on a device: what a layer reads is uploaded, what it gives is downloaded.
use subquad::{
    Gpu, Result, Select, Tensor,
    linear::{self, Given, Gradients, Inputs, Options, Outputs, Shape},
};

use crate::attention::{Attention, Streams};

/// An adapter, and the state of each layer of the text it is writing.
pub struct Device {
    gpu: Gpu,
    states: Vec<Tensor<f32>>,
}

impl Device {
    pub fn open() -> Result<Device> {
        Ok(Device {
            gpu: Gpu::open(&Select::from_env())?,
            states: Vec::new(),
        })
    }
}

/// Streams on the device.
struct Uploaded {
    q: Tensor<f32>,
    k: Tensor<f32>,
    v: Tensor<f32>,
    log_decay: Tensor<f32>,
}

impl Uploaded {
    fn new(gpu: &Gpu, x: &Streams) -> Result<Uploaded> {
        Ok(Uploaded {
            q: gpu.upload(&x.q)?,
            k: gpu.upload(&x.k)?,
            v: gpu.upload(&x.v)?,
            log_decay: gpu.upload(&x.log_decay)?,
        })
    }

    fn inputs(&self) -> Inputs<'_, f32> {
        Inputs {
            log_decay: Some(&self.log_decay),
            ..Inputs::new(&self.q, &self.k, &self.v)
        }
    }
}

impl Attention for Device {
    fn name(&self) -> String {
        self.gpu.caps().name.clone()
    }

    fn forward(&mut self, shape: &Shape, options: &Options, x: &Streams) -> Result<Vec<f32>> {
        let x = Uploaded::new(&self.gpu, x)?;
        let mut o = self.gpu.zeros(shape.output_len())?;
        let outputs = Outputs {
            o: &mut o,
            final_state: None,
            final_z: None,
        };
        linear::forward(&self.gpu, shape, options, &x.inputs(), outputs)?;
        o.download()
    }

    fn backward(
        &mut self,
        shape: &Shape,
        options: &Options,
        x: &Streams,
        grad_o: &[f32],
    ) -> Result<Streams> {
        let gpu = &self.gpu;
        let mut grads = Uploaded {
            q: gpu.zeros(x.q.len())?,
            k: gpu.zeros(x.k.len())?,
            v: gpu.zeros(x.v.len())?,
            log_decay: gpu.zeros(x.log_decay.len())?,
        };
        let grad_o = gpu.upload(grad_o)?;
        let given = Given::new(&grad_o);
        let gradients = Gradients {
            log_decay: Some(&mut grads.log_decay),
            ..Gradients::new(&mut grads.q, &mut grads.k, &mut grads.v)
        };
        let x = Uploaded::new(gpu, x)?;
        linear::backward(gpu, shape, options, &x.inputs(), &given, gradients)?;
        Ok(Streams {
            q: grads.q.download()?,
            k: grads.k.download()?,
            v: grads.v.download()?,
            log_decay: grads.log_decay.download()?,
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
            self.states.push(self.gpu.zeros(shape.state_len())?);
        }
        let x = Uploaded::new(&self.gpu, x)?;
        let mut o = self.gpu.zeros(shape.output_len())?;
        let state = &mut self.states[layer];
        linear::step(&self.gpu, shape, options, &x.inputs(), state, None, &mut o)?;
        o.download()
    }
}
