//! Reference of EcoFormer's attention in f64, from states; parallel over batch and heads.

#![allow(clippy::indexing_slicing, reason = "lengths are checked on entry")]

use rayon::prelude::*;

use crate::{
    Result,
    error::length,
    hamming::{
        bits::words,
        ecoformer::{Normalizer, OP, Options, Shape},
    },
};

/// What [`forward`] returns.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outputs {
    /// Outputs, `[B, H, T, V]`.
    pub o: Vec<f64>,
    /// The sum of the absolute values of the terms of each, (bits + c) sum_j|v_j| / sum_j s_ij, by which rounding errors are
    /// judged. Released: (bits sum_j|v_j| + c |v_i|) / sum_j s_ij.
    pub magnitude: Vec<f64>,
}

/// What [`backward`] returns.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gradients {
    /// With respect to v, `[B, H, T, V]`.
    pub v: Vec<f64>,
    /// With respect to the signs, `[B, H, T, bits]`.
    pub h: Vec<f64>,
}

/// [`ecoformer_attention`](crate::hamming::ecoformer_attention()) in f64.
///
/// # Errors
/// `Argument` when a slice has the wrong length or sizes and options do not fit together.
pub fn forward(shape: &Shape, options: &Options, codes: &[u32], v: &[f64]) -> Result<Outputs> {
    shape.check(options)?;
    length(OP, "codes", codes.len(), shape.codes_len())?;
    length(OP, "v", v.len(), shape.value_len())?;
    let heads: Vec<Outputs> = (0..shape.heads_len())
        .into_par_iter()
        .map(|head| Head::new(shape, options, codes, v, head).forward().0)
        .collect();
    let mut all = Outputs::default();
    for head in heads {
        all.o.extend(head.o);
        all.magnitude.extend(head.magnitude);
    }
    Ok(all)
}

/// [`ecoformer_attention_backward`](crate::hamming::ecoformer_attention_backward()) in f64.
///
/// # Errors
/// As [`forward`].
pub fn backward(
    shape: &Shape,
    options: &Options,
    codes: &[u32],
    v: &[f64],
    grad_o: &[f64],
) -> Result<Gradients> {
    shape.check(options)?;
    length(OP, "codes", codes.len(), shape.codes_len())?;
    length(OP, "v", v.len(), shape.value_len())?;
    length(OP, "grad_o", grad_o.len(), shape.value_len())?;
    let size = shape.tokens * shape.value;
    let heads: Vec<Gradients> = (0..shape.heads_len())
        .into_par_iter()
        .map(|head| {
            let grad_o = &grad_o[head * size..][..size];
            Head::new(shape, options, codes, v, head).backward(grad_o)
        })
        .collect();
    let mut all = Gradients::default();
    for head in heads {
        all.v.extend(head.v);
        all.h.extend(head.h);
    }
    Ok(all)
}

/// One sequence and head.
struct Head<'a> {
    options: &'a Options,
    tokens: usize,
    value: usize,
    bits: usize,
    /// Signs, `[tokens, bits]`.
    h: Vec<f64>,
    v: &'a [f64],
}

/// S_r = sum_j h_jr x_j and z_r = sum_j h_jr w_j for each bit, and for a last one that is 1 in every code.
struct State {
    value: usize,
    s: Vec<f64>,
    z: Vec<f64>,
}

impl State {
    fn add(&mut self, h: &[f64], x: &[f64], w: f64) {
        let rows = self.s.chunks_exact_mut(self.value).zip(&mut self.z);
        for ((s, z), h) in rows.zip(h.iter().chain([&1.0])) {
            s.iter_mut().zip(x).for_each(|(s, x)| *s += h * x);
            *z += h * w;
        }
    }

    /// h S, h z, and the last row of S.
    fn read(&self, h: &[f64]) -> (Vec<f64>, f64, &[f64]) {
        let mut out = vec![0.0; self.value];
        let mut z = 0.0;
        let rows = self.s.chunks_exact(self.value).zip(&self.z);
        for ((row, own), h) in rows.zip(h) {
            out.iter_mut().zip(row).for_each(|(o, s)| *o += h * s);
            z += h * own;
        }
        (out, z, &self.s[h.len() * self.value..])
    }
}

impl<'a> Head<'a> {
    fn new(
        shape: &Shape,
        options: &'a Options,
        codes: &[u32],
        v: &'a [f64],
        head: usize,
    ) -> Head<'a> {
        let Shape {
            tokens,
            value,
            bits,
            ..
        } = *shape;
        let words = words(bits);
        let codes = &codes[head * tokens * words..][..tokens * words];
        let sign = |code: &[u32], r: usize| f64::from(code[r / 32] >> (r % 32) & 1) * 2.0 - 1.0;
        let h = codes
            .chunks_exact(words)
            .flat_map(|code| (0..bits).map(move |r| sign(code, r)));
        Head {
            options,
            tokens,
            value,
            bits,
            h: h.collect(),
            v: &v[head * tokens * value..][..tokens * value],
        }
    }

    fn signs(&self, t: usize) -> &[f64] {
        &self.h[t * self.bits..][..self.bits]
    }

    /// Calls `read` for each token with the state that it sees of rows x and weights w; in reverse, it sees itself and later
    /// ones.
    fn walk(
        &self,
        x: &[f64],
        w: impl Fn(usize) -> f64,
        reverse: bool,
        mut read: impl FnMut(usize, &State),
    ) {
        let width = x.len() / self.tokens.max(1);
        let mut state = State {
            value: width,
            s: vec![0.0; (self.bits + 1) * width],
            z: vec![0.0; self.bits + 1],
        };
        let turn = |n: usize| if reverse { self.tokens - 1 - n } else { n };
        let causal = self.options.causal;
        if !causal {
            (0..self.tokens).for_each(|t| state.add(self.signs(t), &x[t * width..][..width], w(t)));
        }
        for t in (0..self.tokens).map(turn) {
            if causal {
                state.add(self.signs(t), &x[t * width..][..width], w(t));
            }
            read(t, &state);
        }
    }

    /// Outputs, and the denominator of each token.
    fn forward(&self) -> (Outputs, Vec<f64>) {
        let (c, value) = (f64::from(self.options.offset), self.value);
        let released = self.options.normalizer == Normalizer::Released;
        // Values, then their absolute values.
        let both: Vec<f64> = self
            .v
            .chunks_exact(value)
            .flat_map(|v| v.iter().copied().chain(v.iter().map(|v| v.abs())))
            .collect();
        let mut out = Outputs::default();
        let mut dens = Vec::new();
        self.walk(
            &both,
            |_| 1.0,
            false,
            |t, state| {
                let (sum, z, total) = state.read(self.signs(t));
                let den = z + c * state.z[self.bits];
                let bits = self.bits as f64;
                for n in 0..value {
                    let own = self.v[t * value + n];
                    let (plain, size) = (total[n], total[value + n]);
                    let (term, terms) = match released {
                        true => (c * own, bits * size + c * own.abs()),
                        false => (c * plain, (bits + c) * size),
                    };
                    out.o.push((sum[n] + term) / den);
                    out.magnitude.push(terms / den);
                }
                dens.push(den);
            },
        );
        (out, dens)
    }

    fn backward(&self, grad_o: &[f64]) -> Gradients {
        let (c, value, bits) = (f64::from(self.options.offset), self.value, self.bits);
        let (out, dens) = self.forward();
        let g: Vec<f64> = grad_o
            .chunks_exact(value)
            .zip(&dens)
            .flat_map(|(grad, den)| grad.iter().map(move |x| x / den))
            .collect();
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let rows = g.chunks_exact(value).zip(out.o.chunks_exact(value));
        let e: Vec<f64> = rows.map(|(g, o)| dot(g, o)).collect();
        let mut grads = Gradients {
            v: vec![0.0; self.tokens * value],
            h: vec![0.0; self.tokens * bits],
        };
        // As a query.
        self.walk(
            self.v,
            |_| 1.0,
            false,
            |t, state| {
                let g = &g[t * value..][..value];
                for r in 0..bits {
                    let s = &state.s[r * value..][..value];
                    grads.h[t * bits + r] += dot(g, s) - e[t] * state.z[r];
                }
            },
        );
        // As a key.
        self.walk(
            &g,
            |t| e[t],
            true,
            |t, state| {
                let v = &self.v[t * value..][..value];
                for r in 0..bits {
                    let s = &state.s[r * value..][..value];
                    grads.h[t * bits + r] += dot(v, s) - state.z[r];
                }
                let (sum, _, total) = state.read(self.signs(t));
                for n in 0..value {
                    let plain = match self.options.normalizer {
                        Normalizer::Exact => total[n],
                        Normalizer::Released => g[t * value + n],
                    };
                    grads.v[t * value + n] = sum[n] + c * plain;
                }
            },
        );
        grads
    }
}
