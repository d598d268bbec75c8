//! The feature map that is learnt, on the device: y = W x + b for each head, φ(x) = softmax([2y, -2y]).
use half::f16;
use subquad::{
    Gpu, Result, Tensor,
    gpu::Dtype,
    linear::{
        FeatureGradients, FeatureInputs, FeatureMap, FeatureShape, Layout, features,
        features_adjoint,
    },
};

const MAP: FeatureMap = FeatureMap::HedgehogSoftmax;

/// Heads, tokens and width of what is mapped: x is `[heads, tokens, width]`, φ(x) twice as wide.
#[derive(Clone, Copy)]
pub struct Sizes {
    pub heads: usize,
    pub tokens: usize,
    pub width: usize,
}

impl Sizes {
    /// Elements of the W of all heads, `[heads, width, width]` with the output before the input.
    fn weights(&self) -> usize {
        self.heads * self.width * self.width
    }

    /// W = I and b = 0 for every head: the W of all heads, then the b of all heads.
    pub fn identity(&self) -> Vec<f32> {
        let mut parameters = vec![0.0; self.weights() + self.heads * self.width];
        for head in parameters[..self.weights()].chunks_mut(self.width * self.width) {
            head.iter_mut()
                .step_by(self.width + 1)
                .for_each(|w| *w = 1.0);
        }
        parameters
    }

    fn shape(&self) -> FeatureShape {
        FeatureShape {
            batch: 1,
            tokens: self.tokens,
            heads: self.heads,
            key: self.width,
            layout: Layout::Bhtd,
            dtype: Dtype::F16,
        }
    }
}

/// Rows on the device, the map's weights, and what a step computes from them.
pub struct Map {
    sizes: Sizes,
    pub x: Tensor<f16>,
    pub phi: Tensor<f32>,
    weight: Tensor<f32>,
    bias: Tensor<f32>,
    /// Gradients; nobody learns x.
    dx: Tensor<f16>,
    dweight: Tensor<f32>,
    dbias: Tensor<f32>,
}

impl Map {
    pub fn new(gpu: &Gpu, sizes: Sizes, x: &[f16]) -> Result<Map> {
        let biases = sizes.heads * sizes.width;
        Ok(Map {
            sizes,
            x: gpu.upload(x)?,
            phi: gpu.zeros(MAP.width(sizes.width) * sizes.heads * sizes.tokens)?,
            weight: gpu.zeros(sizes.weights())?,
            bias: gpu.zeros(biases)?,
            dx: gpu.zeros(x.len())?,
            dweight: gpu.zeros(sizes.weights())?,
            dbias: gpu.zeros(biases)?,
        })
    }

    /// φ(x) with these parameters.
    pub fn forward(&mut self, gpu: &Gpu, parameters: &[f32]) -> Result<()> {
        let (weight, bias) = parameters.split_at(self.sizes.weights());
        self.weight.write(weight)?;
        self.bias.write(bias)?;
        let inputs = FeatureInputs {
            x: &self.x,
            weight: Some(&self.weight),
            bias: Some(&self.bias),
        };
        features(gpu, &self.sizes.shape(), MAP, &inputs, &mut self.phi)
    }

    /// The gradient of the parameters of the last [`Map::forward`] from that of φ(x).
    pub fn adjoint(&mut self, gpu: &Gpu, grad_phi: &Tensor<f32>) -> Result<Vec<f32>> {
        let inputs = FeatureInputs {
            x: &self.x,
            weight: Some(&self.weight),
            bias: Some(&self.bias),
        };
        let gradients = FeatureGradients {
            x: &mut self.dx,
            weight: Some(&mut self.dweight),
            bias: Some(&mut self.dbias),
        };
        features_adjoint(gpu, &self.sizes.shape(), MAP, &inputs, grad_phi, gradients)?;
        let mut gradient = self.dweight.download()?;
        gradient.extend(self.dbias.download()?);
        Ok(gradient)
    }
}

#[cfg(test)]
mod tests {
    use subquad::Select;

    use super::*;

    const SIZES: Sizes = Sizes {
        heads: 2,
        tokens: 3,
        width: 4,
    };

    /// φ(x) on the host, from the formula.
    fn forward(parameters: &[f32], x: &[f32]) -> Vec<f32> {
        let Sizes { tokens, width, .. } = SIZES;
        let (weight, bias) = parameters.split_at(SIZES.weights());
        let mut phi = Vec::new();
        for (row, x) in x.chunks(width).enumerate() {
            let head = row / tokens;
            let y = (0..width).map(|n| {
                let w = &weight[(head * width + n) * width..][..width];
                bias[head * width + n] + w.iter().zip(x).map(|(w, x)| w * x).sum::<f32>()
            });
            let y: Vec<f32> = y.collect();
            let both = y.iter().map(|y| 2.0 * y).chain(y.iter().map(|y| -2.0 * y));
            let exps: Vec<f32> = both.map(f32::exp).collect();
            let sum: f32 = exps.iter().sum();
            phi.extend(exps.iter().map(|e| e / sum));
        }
        phi
    }

    /// The gradient of the parameters on the host.
    fn adjoint(x: &[f32], phi: &[f32], grad_phi: &[f32]) -> Vec<f32> {
        let Sizes { tokens, width, .. } = SIZES;
        let mut gradient = vec![0.0; SIZES.identity().len()];
        let (weight, bias) = gradient.split_at_mut(SIZES.weights());
        let rows = phi.chunks(2 * width).zip(grad_phi.chunks(2 * width));
        for (row, (x, (s, d))) in x.chunks(width).zip(rows).enumerate() {
            let inner: f32 = s.iter().zip(d).map(|(s, d)| s * d).sum();
            for n in 0..width {
                let dy = 2.0 * (s[n] * (d[n] - inner) - s[width + n] * (d[width + n] - inner));
                let at = row / tokens * width + n;
                bias[at] += dy;
                for (w, x) in weight[at * width..][..width].iter_mut().zip(x) {
                    *w += dy * x;
                }
            }
        }
        gradient
    }

    fn wave(len: usize, by: f32) -> Vec<f32> {
        (0..len).map(|n| (n as f32 * by).sin()).collect()
    }

    /// Rows that 16 bits hold, parameters off the identity, a gradient of φ.
    fn made() -> (Vec<f32>, Vec<f32>, Vec<f32>) {
        let x = wave(24, 1.3).into_iter().map(|x| f16::from_f32(x).to_f32());
        let mut parameters = SIZES.identity();
        for (p, noise) in parameters.iter_mut().zip(wave(40, 0.7)) {
            *p += 0.3 * noise;
        }
        (x.collect(), parameters, wave(48, 2.1))
    }

    #[test]
    fn the_host_adjoint_is_the_slope() {
        let (x, mut parameters, upstream) = made();
        let value = |parameters: &[f32]| -> f64 {
            let phi = forward(parameters, &x);
            let terms = phi.iter().zip(&upstream);
            terms.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
        };
        let gradient = adjoint(&x, &forward(&parameters, &x), &upstream);
        for at in 0..parameters.len() {
            let keep = parameters[at];
            parameters[at] = keep + 1e-2;
            let up = value(&parameters);
            parameters[at] = keep - 1e-2;
            let down = value(&parameters);
            parameters[at] = keep;
            let slope = (up - down) / 2e-2;
            assert!(
                (slope - f64::from(gradient[at])).abs() < 2e-3,
                "{at}: {slope} {}",
                gradient[at]
            );
        }
    }

    #[test]
    fn the_device_agrees_with_the_host() {
        let gpu = Gpu::open(&Select::from_env()).unwrap();
        let (x, parameters, upstream) = made();
        let halves: Vec<f16> = x.iter().map(|x| f16::from_f32(*x)).collect();
        let mut map = Map::new(&gpu, SIZES, &halves).unwrap();
        map.forward(&gpu, &parameters).unwrap();
        let close = |found: &[f32], expected: &[f32]| {
            assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().zip(expected) {
                assert!((found - expected).abs() < 2e-6, "{found} {expected}");
            }
        };
        let phi = forward(&parameters, &x);
        close(&map.phi.download().unwrap(), &phi);
        let grad = gpu.upload(&upstream).unwrap();
        let found = map.adjoint(&gpu, &grad).unwrap();
        close(&found, &adjoint(&x, &phi, &upstream));
    }
}
