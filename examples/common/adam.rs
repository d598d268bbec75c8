//! The optimiser of the training examples.

/// Adam (Kingma and Ba, 2015) over one list of parameters.
pub struct Adam {
    mean: Vec<f32>,
    square: Vec<f32>,
    step: i32,
}

impl Adam {
    pub fn new(len: usize) -> Adam {
        Adam {
            mean: vec![0.0; len],
            square: vec![0.0; len],
            step: 0,
        }
    }

    pub fn update(&mut self, rate: f32, parameters: &mut [f32], gradient: &[f32]) {
        let (beta1, beta2) = (0.9f32, 0.99f32);
        self.step += 1;
        let unbias = |beta: f32| 1.0 - beta.powi(self.step);
        let (unbias1, unbias2) = (unbias(beta1), unbias(beta2));
        for (((x, g), m), v) in parameters
            .iter_mut()
            .zip(gradient)
            .zip(&mut self.mean)
            .zip(&mut self.square)
        {
            *m += (1.0 - beta1) * (g - *m);
            *v += (1.0 - beta2) * (g * g - *v);
            *x -= rate * (*m / unbias1) / ((*v / unbias2).sqrt() + 1e-8);
        }
    }
}
