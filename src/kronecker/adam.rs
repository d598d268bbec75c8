//! The optimiser of kernels' parameters, on the host in f64.

/// Adam (Kingma and Ba, 2015).
#[derive(Clone, Debug)]
pub(super) struct Adam {
    rate: f64,
    mean: Vec<f64>,
    square: Vec<f64>,
    step: i32,
}

impl Adam {
    pub fn new(rate: f64, len: usize) -> Adam {
        Adam {
            rate,
            mean: vec![0.0; len],
            square: vec![0.0; len],
            step: 0,
        }
    }

    pub fn set_rate(&mut self, rate: f64) {
        self.rate = rate;
    }

    /// Moves the parameters downhill.
    pub fn descend(&mut self, parameters: &mut [f64], slopes: &[f64]) {
        let (beta1, beta2) = (0.9f64, 0.999f64);
        self.step += 1;
        let (unbias1, unbias2) = (1.0 - beta1.powi(self.step), 1.0 - beta2.powi(self.step));
        let states = self.mean.iter_mut().zip(&mut self.square);
        for ((x, g), (m, v)) in parameters.iter_mut().zip(slopes).zip(states) {
            *m += (1.0 - beta1) * (g - *m);
            *v += (1.0 - beta2) * (g * g - *v);
            *x -= self.rate * (*m / unbias1) / ((*v / unbias2).sqrt() + 1e-8);
        }
    }
}
