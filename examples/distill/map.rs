//! The feature map that is learnt, with its adjoint: y = W x + b for each head, φ(x) = softmax([2y, -2y]), on the host in f32.
use rayon::prelude::*;

/// Heads, tokens and width of what is mapped: x is `[heads, tokens, width]`, φ(x) twice as wide.
#[derive(Clone, Copy)]
pub struct Sizes {
    pub heads: usize,
    pub tokens: usize,
    pub width: usize,
}

impl Sizes {
    /// Parameters of a head: W, `[width, width]` with the output slowest, then b.
    pub fn parameters(&self) -> usize {
        self.width * (self.width + 1)
    }

    /// W = I and b = 0 for every head.
    pub fn identity(&self) -> Vec<f32> {
        let head = (0..self.parameters()).map(|at| {
            let (row, column) = (at / self.width, at % self.width);
            if row == column { 1.0 } else { 0.0 }
        });
        let head: Vec<f32> = head.collect();
        head.repeat(self.heads)
    }
}

/// φ(x).
pub fn forward(sizes: Sizes, parameters: &[f32], x: &[f32]) -> Vec<f32> {
    let Sizes { tokens, width, .. } = sizes;
    let mut phi = vec![0.0; 2 * x.len()];
    phi.par_chunks_mut(2 * tokens * width)
        .zip(parameters.par_chunks(sizes.parameters()))
        .zip(x.par_chunks(tokens * width))
        .for_each(|((phi, parameters), x)| {
            let (weights, bias) = parameters.split_at(width * width);
            for (phi, x) in phi.chunks_mut(2 * width).zip(x.chunks(width)) {
                for (n, (row, b)) in weights.chunks(width).zip(bias).enumerate() {
                    let y = b + row.iter().zip(x).map(|(w, x)| w * x).sum::<f32>();
                    phi[n] = 2.0 * y;
                    phi[width + n] = -2.0 * y;
                }
                let most = phi.iter().copied().fold(f32::MIN, f32::max);
                phi.iter_mut().for_each(|s| *s = (*s - most).exp());
                let sum: f32 = phi.iter().sum();
                phi.iter_mut().for_each(|s| *s /= sum);
            }
        });
    phi
}

/// The gradient of the parameters from that of φ(x).
pub fn adjoint(sizes: Sizes, x: &[f32], phi: &[f32], grad_phi: &[f32]) -> Vec<f32> {
    let Sizes { tokens, width, .. } = sizes;
    let mut gradient = vec![0.0; sizes.heads * sizes.parameters()];
    gradient
        .par_chunks_mut(sizes.parameters())
        .zip(x.par_chunks(tokens * width))
        .zip(phi.par_chunks(2 * tokens * width))
        .zip(grad_phi.par_chunks(2 * tokens * width))
        .for_each(|(((gradient, x), phi), grad_phi)| {
            let (weights, bias) = gradient.split_at_mut(width * width);
            let rows = phi.chunks(2 * width).zip(grad_phi.chunks(2 * width));
            for (x, (s, d)) in x.chunks(width).zip(rows) {
                let inner: f32 = s.iter().zip(d).map(|(s, d)| s * d).sum();
                for n in 0..width {
                    let dy = 2.0 * (s[n] * (d[n] - inner) - s[width + n] * (d[width + n] - inner));
                    bias[n] += dy;
                    for (w, x) in weights[n * width..][..width].iter_mut().zip(x) {
                        *w += dy * x;
                    }
                }
            }
        });
    gradient
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_adjoint_is_the_slope() {
        let sizes = Sizes {
            heads: 2,
            tokens: 3,
            width: 4,
        };
        let wave =
            |len: usize, by: f32| -> Vec<f32> { (0..len).map(|n| (n as f32 * by).sin()).collect() };
        let x = wave(24, 1.3);
        let upstream = wave(48, 2.1);
        let mut parameters = sizes.identity();
        for (p, noise) in parameters.iter_mut().zip(wave(2 * 20, 0.7)) {
            *p += 0.3 * noise;
        }
        let value = |parameters: &[f32]| -> f64 {
            let phi = forward(sizes, parameters, &x);
            let terms = phi.iter().zip(&upstream);
            terms.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
        };
        let phi = forward(sizes, &parameters, &x);
        let gradient = adjoint(sizes, &x, &phi, &upstream);
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
}
