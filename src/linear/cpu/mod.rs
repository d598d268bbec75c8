//! Reference in f64, written from the token recurrence: forward and backward for every option. Parallel over sequences and
//! heads; results do not depend on the thread count.
//!
//! With S `[F, V]` the state of a sequence and key head, z `[F]` the sum of keys, and the feature map φ already applied to q
//! and k (F columns, see [`Options::feature_width`]), for each token in order:
//!
//! ```text
//! S ← exp(g_t) S        z ← exp(g_t) z             g_t: 0, or one per head, per token, or per row of S ("channel")
//! u_t = v_t             or, with beta,             u_t = β_t (v_t − Sᵀ k_t)
//! S ← S + k_t u_tᵀ      z ← z + k_t
//! o_t = scale · Sᵀ q_t                             over scale · zᵀ q_t + eps when normalised; 0 where that is exactly 0
//! ```
//!
//! S and z start from the initial ones, or 0. Not causal: every token reads the S and z after the last one.

#![allow(clippy::indexing_slicing, reason = "lengths are checked on entry")]

mod backward;
mod conv2d;
mod features;
mod forward;
mod lit;
mod parallel;

use std::{borrow::Cow, ops::Range};

pub use backward::{Gradients, backward, backward_with_z};
pub use conv2d::{Conv2dGradients, depthwise_conv2d, depthwise_conv2d_adjoint};
pub use features::{FeatureGradients, features, features_adjoint};
pub use forward::{Outputs, forward};
pub use lit::{LitGradients, lit, lit_backward};
pub use parallel::{
    Carry, LocalState, local_adjoint, local_state, merge, merge_adjoint, merge_start,
};

use super::{Decay, Layout, Options, Shape, shape::sequences};
use crate::{Error, Result, error::length};

const OP: &str = "linear_attention";

/// What [`forward`] and [`backward`] read: values already rounded to their storage type.
///
/// B sequences of T tokens, H heads of queries, Hk of keys, widths K and V; N sequences, which is B unless packed; F as in
/// [`Options::feature_width`]. In the layout `bhtd`, heads come before tokens in every tensor that has both.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// Queries, `[B, T, H, K]`.
    pub q: &'a [f64],
    /// Keys, `[B, T, Hk, K]`.
    pub k: &'a [f64],
    /// Values, `[B, T, Hk, V]`.
    pub v: &'a [f64],
    /// Natural logarithms <= 0: `[Hk]`, `[B, T, Hk]` or `[B, T, Hk, F]`, as [`Decay`] says.
    pub log_decay: Option<&'a [f64]>,
    /// `[B, T, Hk]`, with the delta rule.
    pub beta: Option<&'a [f64]>,
    /// `[N, Hk, F, V]`; zero when absent.
    pub initial_state: Option<&'a [f64]>,
    /// `[N, Hk, F]`, with the normaliser; zero when absent.
    pub initial_z: Option<&'a [f64]>,
    /// The feature map's weights, `[K, K]` with output columns slowest or `[H, K, K]` where Hk = H; see [`FeatureMap`](super::FeatureMap).
    pub fm_weight: Option<&'a [f64]>,
    /// The feature map's bias, `[K]` or `[H, K]` as the weights; zero when absent.
    pub fm_bias: Option<&'a [f64]>,
    /// Bounds of N sequences packed into one batch: N + 1 numbers, non-decreasing, from 0 to T.
    pub cu_seqlens: Option<&'a [u32]>,
}

impl<'a> Inputs<'a> {
    /// Queries, keys and values, and nothing else.
    pub fn new(q: &'a [f64], k: &'a [f64], v: &'a [f64]) -> Inputs<'a> {
        Inputs {
            q,
            k,
            v,
            log_decay: None,
            beta: None,
            initial_state: None,
            initial_z: None,
            fm_weight: None,
            fm_bias: None,
            cu_seqlens: None,
        }
    }
}

/// An optional input: of this length, and given if this is so.
fn optional(what: &str, given: Option<&[f64]>, expected: usize, needed: bool) -> Result<()> {
    match given {
        Some(values) => length(OP, what, values.len(), expected),
        None if !needed => Ok(()),
        None => Err(Error::Argument {
            op: OP,
            what: what.into(),
            expected: "given with these options".into(),
            got: "none".into(),
        }),
    }
}

/// An input that goes with an option: given exactly with it.
fn exactly(what: &str, given: Option<&[f64]>, expected: Option<usize>) -> Result<()> {
    match (given, expected) {
        (Some(_), None) => Err(Error::Argument {
            op: OP,
            what: what.into(),
            expected: "absent without the option that reads it".into(),
            got: "a tensor".into(),
        }),
        (given, expected) => optional(what, given, expected.unwrap_or(0), expected.is_some()),
    }
}

/// A checked call with the feature map applied.
struct Call<'a> {
    shape: &'a Shape,
    options: &'a Options,
    inputs: &'a Inputs<'a>,
    sequences: Vec<Range<usize>>,
    /// φ(q) and φ(k), `features` wide.
    q: Cow<'a, [f64]>,
    k: Cow<'a, [f64]>,
    features: usize,
}

/// One sequence and key head of a call, with the query heads that read its state.
#[derive(Clone)]
struct Head {
    /// Index of the state.
    state: usize,
    batch: usize,
    head: usize,
    tokens: Range<usize>,
}

impl<'a> Call<'a> {
    fn new(shape: &'a Shape, options: &'a Options, inputs: &'a Inputs<'a>) -> Result<Call<'a>> {
        shape.check(OP)?;
        options.check(OP)?;
        let sequences = sequences(shape, OP, inputs.cu_seqlens)?;
        let features = options.feature_width(shape);
        let per_token = shape.state_rows() * shape.tokens;
        length(OP, "q", inputs.q.len(), shape.query_len())?;
        length(OP, "k", inputs.k.len(), shape.key_len())?;
        length(OP, "v", inputs.v.len(), shape.value_len())?;
        let decays = match options.decay {
            Decay::None => None,
            Decay::Head => Some(shape.kv_heads),
            Decay::Token => Some(per_token),
            Decay::Channel => Some(per_token * features),
        };
        exactly("log_decay", inputs.log_decay, decays)?;
        exactly("beta", inputs.beta, options.delta.then_some(per_token))?;
        let states = sequences.len() * shape.kv_heads * features * shape.value;
        optional("initial_state", inputs.initial_state, states, false)?;
        let sums = sequences.len() * shape.kv_heads * features;
        optional("initial_z", inputs.initial_z, sums, false)?;
        let own = (shape.heads == shape.kv_heads).then_some(shape.heads);
        let lens = [inputs.fm_weight, inputs.fm_bias].map(|values| values.map(<[f64]>::len));
        let map = options.feature_map;
        map.weight_sets(OP, shape.key, own, lens[0], lens[1])?;
        let map = |x| features::apply(shape, options.feature_map, inputs, x);
        Ok(Call {
            q: map(inputs.q),
            k: map(inputs.k),
            shape,
            options,
            inputs,
            sequences,
            features,
        })
    }

    /// Every sequence and key head, in the order of the states.
    fn heads(&self) -> Vec<Head> {
        let packed = self.inputs.cu_seqlens.is_some();
        let heads = self.sequences.iter().enumerate().flat_map(|(n, tokens)| {
            (0..self.shape.kv_heads).map(move |head| Head {
                state: n * self.shape.kv_heads + head,
                batch: if packed { 0 } else { n },
                head,
                tokens: tokens.clone(),
            })
        });
        heads.collect()
    }

    /// Elements of a state.
    fn state_elements(&self) -> usize {
        self.features * self.shape.value
    }

    /// Query heads that read one state.
    fn group(&self) -> usize {
        (self.shape.heads / self.shape.kv_heads.max(1)).max(1)
    }

    /// The row of a token in a tensor of so many heads.
    fn row(&self, batch: usize, token: usize, head: usize, heads: usize) -> usize {
        let tokens = self.shape.tokens;
        match self.shape.layout {
            Layout::Bthd => (batch * tokens + token) * heads + head,
            Layout::Bhtd => (batch * heads + head) * tokens + token,
        }
    }

    /// The row of a token in q and o, for query head `r` of the group.
    fn query_row(&self, at: &Head, t: usize, r: usize) -> usize {
        let head = at.head * self.group() + r;
        self.row(at.batch, at.tokens.start + t, head, self.shape.heads)
    }

    /// The row of a token in k, v, beta and decays per token.
    fn key_row(&self, at: &Head, t: usize) -> usize {
        self.row(at.batch, at.tokens.start + t, at.head, self.shape.kv_heads)
    }

    fn query(&self, at: &Head, t: usize, r: usize) -> &[f64] {
        &self.q[self.query_row(at, t, r) * self.features..][..self.features]
    }

    fn key(&self, at: &Head, t: usize) -> &[f64] {
        &self.k[self.key_row(at, t) * self.features..][..self.features]
    }

    fn value(&self, at: &Head, t: usize) -> &[f64] {
        &self.inputs.v[self.key_row(at, t) * self.shape.value..][..self.shape.value]
    }

    fn beta(&self, at: &Head, t: usize) -> Option<f64> {
        self.inputs.beta.map(|beta| beta[self.key_row(at, t)])
    }

    /// The factor on each row of the state before a token is added.
    fn decay(&self, at: &Head, t: usize, factors: &mut [f64]) {
        let Some(g) = self.inputs.log_decay else {
            return factors.fill(1.0);
        };
        match self.options.decay {
            Decay::None => factors.fill(1.0),
            Decay::Head => factors.fill(g[at.head].exp()),
            Decay::Token => factors.fill(g[self.key_row(at, t)].exp()),
            Decay::Channel => {
                let row = &g[self.key_row(at, t) * self.features..][..self.features];
                for (factor, g) in factors.iter_mut().zip(row) {
                    *factor = g.exp();
                }
            }
        }
    }

    /// The initial state of a head, and an empty normaliser.
    fn start(&self, at: &Head) -> State {
        let elements = self.state_elements();
        let s = match self.inputs.initial_state {
            Some(states) => states[at.state * elements..][..elements].to_vec(),
            None => vec![0.0; elements],
        };
        let z = match self.inputs.initial_z {
            Some(sums) => sums[at.state * self.features..][..self.features].to_vec(),
            None => vec![0.0; self.features],
        };
        State { s, z }
    }

    fn scale(&self) -> f64 {
        f64::from(self.options.scale)
    }
}

/// S and z of one sequence and head. z is kept whether or not the call is normalised.
#[derive(Clone)]
struct State {
    s: Vec<f64>,
    z: Vec<f64>,
}

impl State {
    fn decay(&mut self, factors: &[f64]) {
        let width = self.s.len() / factors.len().max(1);
        for ((row, z), factor) in self
            .s
            .chunks_exact_mut(width.max(1))
            .zip(&mut self.z)
            .zip(factors)
        {
            row.iter_mut().for_each(|s| *s *= factor);
            *z *= factor;
        }
    }

    /// S += k uᵀ, z += k.
    fn add(&mut self, k: &[f64], u: &[f64]) {
        for ((row, z), k) in self.s.chunks_exact_mut(u.len()).zip(&mut self.z).zip(k) {
            row.iter_mut().zip(u).for_each(|(s, u)| *s += k * u);
            *z += k;
        }
    }

    /// out += factor · Sᵀ x.
    fn read(&self, x: &[f64], factor: f64, out: &mut [f64]) {
        for (row, x) in self.s.chunks_exact(out.len()).zip(x) {
            let x = factor * x;
            out.iter_mut().zip(row).for_each(|(o, s)| *o += x * s);
        }
    }
}

/// What is added for a token: v, or β (v − Sᵀ k) and the parenthesis, S decayed already.
fn update(call: &Call<'_>, at: &Head, t: usize, state: &State) -> (Vec<f64>, Vec<f64>) {
    let mut u = call.value(at, t).to_vec();
    let Some(beta) = call.beta(at, t) else {
        return (u, Vec::new());
    };
    state.read(call.key(at, t), -1.0, &mut u);
    let missed = u.clone();
    u.iter_mut().for_each(|u| *u *= beta);
    (u, missed)
}

/// One token of the recurrence.
fn advance(call: &Call<'_>, at: &Head, t: usize, factors: &mut [f64], state: &mut State) {
    call.decay(at, t, factors);
    state.decay(factors);
    let (u, _) = update(call, at, t, state);
    state.add(call.key(at, t), &u);
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
