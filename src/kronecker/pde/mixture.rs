//! Spectral mixtures on a line: kernels whose spectrum is a learnt sum of bumps, and what they and their parameters differentiate to.

use std::f64::consts::PI;

use crate::{Error, Result};

/// The shape of the bumps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Student t spectra of five degrees of freedom: envelopes of Matérn 5/2, m(d) = (1 + a d + a² d² / 3) e^(-a d), a = √5 s.
    Student,
    /// Gaussian spectra: envelopes m(d) = e^(-s d²).
    Gaussian,
}

/// k(d) = Σ_q w_q m_q(d) cos(2π f_q d), d = |x - x'|: with weights w_q and widths s_q kept as logarithms, so that they stay positive.
#[derive(Clone, Debug, PartialEq)]
pub struct Mixture {
    family: Family,
    /// log w of all components, then log s, then f.
    parameters: Vec<f64>,
}

/// The derivatives in d of order 0, 1 and 2 of something.
pub(super) type Jet = [f64; 3];

impl Mixture {
    /// So many components of equal weight and of width 1, at frequencies spread evenly from 0 to `highest`.
    ///
    /// # Errors
    /// `Argument` when there is no component or `highest` is not a finite number of at least 0.
    pub fn spread(family: Family, components: usize, highest: f64) -> Result<Mixture> {
        let refuse = |what: &str, expected: &str, got: String| {
            Err(Error::Argument {
                op: super::OP,
                what: what.into(),
                expected: expected.into(),
                got,
            })
        };
        if components == 0 {
            return refuse("components", "at least 1", "0".into());
        }
        if !(highest.is_finite() && highest >= 0.0) {
            return refuse(
                "the highest frequency",
                "a finite number of at least 0",
                highest.to_string(),
            );
        }
        let gap = highest / (components - 1).max(1) as f64;
        let mut parameters = vec![-(components as f64).ln(); components];
        parameters.resize(2 * components, 0.0);
        parameters.extend((0..components).map(|q| q as f64 * gap));
        Ok(Mixture { family, parameters })
    }

    /// log w of all components, then log s, then f.
    pub fn parameters(&self) -> &[f64] {
        &self.parameters
    }

    /// The same, to be changed.
    pub fn parameters_mut(&mut self) -> &mut [f64] {
        &mut self.parameters
    }

    /// The components.
    pub fn components(&self) -> usize {
        self.parameters.len() / 3
    }

    fn each(&self) -> impl Iterator<Item = [f64; 3]> {
        let (weights, rest) = self.parameters.split_at(self.components());
        let (widths, frequencies) = rest.split_at(self.components());
        let all = weights.iter().zip(widths).zip(frequencies);
        all.map(|((w, s), f)| [w.exp(), s.exp(), 2.0 * PI * f])
    }

    /// k, k' and k'' at a distance.
    pub fn at(&self, d: f64) -> [f64; 3] {
        let mut sum = [0.0; 3];
        for [weight, width, omega] in self.each() {
            let (envelope, _) = self.family.envelope(width, d);
            let wave = modulated(envelope, omega, d);
            for (sum, wave) in sum.iter_mut().zip(wave) {
                *sum += weight * wave;
            }
        }
        sum
    }

    /// Adds the slopes in the parameters of Σ_n `upstream`_n k^(n)(d).
    pub(super) fn pull(&self, d: f64, upstream: Jet, slopes: &mut [f64]) {
        let dot = |jet: Jet| -> f64 { jet.iter().zip(upstream).map(|(a, b)| a * b).sum() };
        let components = self.components();
        let (by_weight, rest) = slopes.split_at_mut(components);
        let (by_width, by_frequency) = rest.split_at_mut(components);
        let slopes = by_weight.iter_mut().zip(by_width).zip(by_frequency);
        for ([weight, width, omega], ((by_weight, by_width), by_frequency)) in
            self.each().zip(slopes)
        {
            let (envelope, widened) = self.family.envelope(width, d);
            *by_weight += weight * dot(modulated(envelope, omega, d));
            *by_width += weight * dot(modulated(widened, omega, d));
            *by_frequency += 2.0 * PI * weight * dot(by_omega(envelope, omega, d));
        }
    }
}

impl Family {
    /// m, m', m'' and their slopes in log s.
    fn envelope(self, s: f64, d: f64) -> (Jet, Jet) {
        match self {
            Family::Student => {
                let a = 5f64.sqrt() * s;
                let u = a * d;
                let (e, third) = ((-u).exp(), a * a / 3.0);
                let first = -a / 3.0 * e;
                (
                    [
                        (1.0 + u + u * u / 3.0) * e,
                        first * u * (1.0 + u),
                        -third * (1.0 + u - u * u) * e,
                    ],
                    [
                        -u * u / 3.0 * (1.0 + u) * e,
                        first * u * (2.0 + 2.0 * u - u * u),
                        -third * (2.0 + 2.0 * u - 5.0 * u * u + u * u * u) * e,
                    ],
                )
            }
            Family::Gaussian => {
                let t = s * d * d;
                let e = (-t).exp();
                let (first, second) = (-2.0 * s * d * e, 2.0 * s * e);
                (
                    [e, first, second * (2.0 * t - 1.0)],
                    [
                        -t * e,
                        first * (1.0 - t),
                        second * (4.0 * t - 1.0 - t * (2.0 * t - 1.0)),
                    ],
                )
            }
        }
    }
}

/// The derivatives of m(d) cos(ω d).
fn modulated([m, m1, m2]: Jet, omega: f64, d: f64) -> Jet {
    let (sin, cos) = (omega * d).sin_cos();
    [
        m * cos,
        m1 * cos - omega * m * sin,
        m2 * cos - 2.0 * omega * m1 * sin - omega * omega * m * cos,
    ]
}

/// Their slopes in ω.
fn by_omega([m, m1, m2]: Jet, omega: f64, d: f64) -> Jet {
    let (sin, cos) = (omega * d).sin_cos();
    [
        -d * m * sin,
        -d * m1 * sin - m * sin - omega * d * m * cos,
        (omega * omega * d * m - 2.0 * m1 - d * m2) * sin - 2.0 * omega * (m + d * m1) * cos,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mixture(family: Family) -> Mixture {
        let mut mixture = Mixture::spread(family, 3, 2.0).unwrap();
        for (n, p) in mixture.parameters_mut().iter_mut().enumerate() {
            *p += 0.3 * (1.7 * n as f64).sin();
        }
        mixture
    }

    #[test]
    fn derivatives_are_slopes() {
        let h = 1e-5;
        for family in [Family::Student, Family::Gaussian] {
            let mixture = mixture(family);
            for d in [0.1, 0.4, 1.3] {
                let [low, at, high] = [d - h, d, d + h].map(|d| mixture.at(d));
                for order in 0..2 {
                    let slope = (high[order] - low[order]) / (2.0 * h);
                    assert!((slope - at[order + 1]).abs() < 1e-6 * (1.0 + slope.abs()));
                }
            }
            // An even function of a distance has no kink at 0.
            let [at, beside] = [0.0, 1e-4].map(|d| mixture.at(d));
            assert!(at[1] == 0.0 && at.iter().all(|x| x.is_finite()));
            let bend = 2.0 * (beside[0] - at[0]) / 1e-8;
            assert!(
                (bend - at[2]).abs() < 1e-2 * at[2].abs(),
                "{bend} {}",
                at[2]
            );
        }
    }

    #[test]
    fn slopes_in_the_parameters_are_slopes() {
        let (h, upstream) = (1e-5, [0.7, -0.4, 0.2]);
        for family in [Family::Student, Family::Gaussian] {
            for d in [0.0, 0.3, 1.1] {
                let mut mixture = mixture(family);
                let mut slopes = vec![0.0; 9];
                mixture.pull(d, upstream, &mut slopes);
                for (at, found) in slopes.iter().enumerate() {
                    let keep = mixture.parameters()[at];
                    let mut value = |p: f64| -> f64 {
                        mixture.parameters_mut()[at] = p;
                        let jet = mixture.at(d);
                        jet.iter().zip(upstream).map(|(a, b)| a * b).sum()
                    };
                    let slope = (value(keep + h) - value(keep - h)) / (2.0 * h);
                    value(keep);
                    assert!(
                        (slope - found).abs() < 1e-6 * (1.0 + slope.abs()),
                        "{family:?} {d} {at}: {slope} {found}"
                    );
                }
            }
        }
    }
}
