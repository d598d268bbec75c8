//! The gradients.

use rayon::prelude::*;

use super::{
    Call, Head, Inputs, State, advance, dot, features,
    forward::{denominator, quotient},
    optional, update,
};
use crate::{
    Result,
    error::length,
    linear::{Decay, Options, Shape},
};

/// What [`backward`] returns: a gradient in the shape of each input, empty where the input is absent.
#[derive(Clone, Debug, PartialEq)]
pub struct Gradients {
    /// Of the queries.
    pub q: Vec<f64>,
    /// Of the keys.
    pub k: Vec<f64>,
    /// Of the values.
    pub v: Vec<f64>,
    /// Of the decays; summed over tokens and sequences for [`Decay::Head`].
    pub log_decay: Vec<f64>,
    /// Of beta.
    pub beta: Vec<f64>,
    /// Of the initial state.
    pub initial_state: Vec<f64>,
    /// Of the initial z.
    pub initial_z: Vec<f64>,
    /// Of the feature map's weights, summed over queries and keys.
    pub fm_weight: Vec<f64>,
    /// Of the feature map's bias, summed over queries and keys.
    pub fm_bias: Vec<f64>,
}

/// Gradients of Σ `grad_o` ⊙ o + Σ `grad_final_state` ⊙ final_state with respect to every input of [`forward`](super::forward).
///
/// `grad_o` is `[B, T, H, V]` in the layout of the inputs, `grad_final_state` `[N, Hk, F, V]`, zero when absent.
///
/// From the last token to the first, with D the gradient of S after the token, d that of z, e_t = v_t − Sᵀk_t, u_t = β_t e_t
/// (or v_t) and S' the decayed state that token t met:
///
/// ```text
/// dn = dO / den     dd = −(o · dO) / den          or dn = dO and dd = 0
/// D += scale · q dnᵀ                              d += scale · dd q
/// dq = scale · (S dn + dd z)
/// du = Dᵀk          dk = D u + d
/// delta:            dβ = du · e     dv = β du     dk −= S' dv     D −= k dvᵀ         otherwise dv = du
/// dg = rowsum(D ⊙ S') + d ⊙ z'                    summed over what shares a g
/// D ← exp(g) D      d ← exp(g) d
/// ```
///
/// D before the first token is the gradient of the initial state. Memory: states of about 2√T tokens a thread.
///
/// # Errors
/// As [`forward`](super::forward).
pub fn backward(
    shape: &Shape,
    options: &Options,
    inputs: &Inputs<'_>,
    grad_o: &[f64],
    grad_final_state: Option<&[f64]>,
) -> Result<Gradients> {
    backward_with_z(shape, options, inputs, grad_o, grad_final_state, None)
}

/// [`backward`] of Σ `grad_o` ⊙ o + Σ `grad_final_state` ⊙ final_state + Σ `grad_final_z` ⊙ final_z, the last `[N, Hk, F]`.
///
/// # Errors
/// As [`forward`](super::forward).
pub fn backward_with_z(
    shape: &Shape,
    options: &Options,
    inputs: &Inputs<'_>,
    grad_o: &[f64],
    grad_final_state: Option<&[f64]>,
    grad_final_z: Option<&[f64]>,
) -> Result<Gradients> {
    let call = Call::new(shape, options, inputs)?;
    let heads = call.heads();
    let states = heads.len() * call.state_elements();
    length(super::OP, "grad_o", grad_o.len(), shape.output_len())?;
    optional("grad_final_state", grad_final_state, states, false)?;
    let sums = heads.len() * call.features;
    optional("grad_final_z", grad_final_z, sums, false)?;
    let done: Vec<Done> = heads
        .par_iter()
        .map(|at| head(&call, at, grad_o, [grad_final_state, grad_final_z]))
        .collect();

    let zeros = |like: Option<&[f64]>| vec![0.0; like.map_or(0, <[f64]>::len)];
    let (features, width) = (call.features, shape.value);
    let (mut q, mut k) = (vec![0.0; call.q.len()], vec![0.0; call.k.len()]);
    let mut v = vec![0.0; shape.value_len()];
    let mut log_decay = zeros(inputs.log_decay);
    let mut beta = zeros(inputs.beta);
    let (mut initial_state, mut initial_z) = (Vec::new(), Vec::new());
    for (at, done) in heads.iter().zip(done) {
        for (n, dq) in done.q.chunks_exact(features).enumerate() {
            let row = call.query_row(at, n / call.group(), n % call.group());
            q[row * features..][..features].copy_from_slice(dq);
        }
        for t in 0..at.tokens.len() {
            let row = call.key_row(at, t);
            k[row * features..][..features].copy_from_slice(&done.k[t * features..][..features]);
            v[row * width..][..width].copy_from_slice(&done.v[t * width..][..width]);
            if options.delta {
                beta[row] = done.beta[t];
            }
            match options.decay {
                Decay::None => {}
                Decay::Head => log_decay[at.head] += done.log_decay[t],
                Decay::Token => log_decay[row] = done.log_decay[t],
                Decay::Channel => {
                    let dg = &done.log_decay[t * features..][..features];
                    log_decay[row * features..][..features].copy_from_slice(dg);
                }
            }
        }
        if inputs.initial_state.is_some() {
            initial_state.extend(done.state.s);
        }
        if inputs.initial_z.is_some() {
            initial_z.extend(done.state.z);
        }
    }
    let through = |x, grad| features::adjoint(shape, options.feature_map, inputs, x, grad);
    let (mut q, k) = (through(inputs.q, q), through(inputs.k, k));
    sum_into(&mut q.weight, &k.weight);
    sum_into(&mut q.bias, &k.bias);
    Ok(Gradients {
        q: q.x,
        k: k.x,
        v,
        log_decay,
        beta,
        initial_state,
        initial_z,
        fm_weight: q.weight,
        fm_bias: inputs.fm_bias.map_or_else(Vec::new, |_| q.bias),
    })
}

/// The gradients of one head; those of φ(q) as `[tokens, group, features]`.
struct Done {
    q: Vec<f64>,
    k: Vec<f64>,
    v: Vec<f64>,
    /// `[tokens]`, or `[tokens, features]` for a decay per channel.
    log_decay: Vec<f64>,
    beta: Vec<f64>,
    /// That of the initial state.
    state: State,
}

fn head(call: &Call<'_>, at: &Head, grad_o: &[f64], grad_final: [Option<&[f64]>; 2]) -> Done {
    let (tokens, features, width) = (at.tokens.len(), call.features, call.shape.value);
    let channel = call.options.decay == Decay::Channel;
    let mut done = Done {
        q: vec![0.0; tokens * call.group() * features],
        k: vec![0.0; tokens * features],
        v: vec![0.0; tokens * width],
        log_decay: vec![0.0; tokens * if channel { features } else { 1 }],
        beta: vec![0.0; tokens],
        state: State {
            s: Vec::new(),
            z: Vec::new(),
        },
    };
    let given = |grad: Option<&[f64]>, len: usize| match grad {
        Some(grad) => grad[at.state * len..][..len].to_vec(),
        None => vec![0.0; len],
    };
    let mut grad = State {
        s: given(grad_final[0], call.state_elements()),
        z: given(grad_final[1], features),
    };

    // States are kept every √T tokens and computed again between.
    let block = tokens.isqrt().max(1);
    let mut factors = vec![1.0; features];
    let mut state = call.start(at);
    let mut kept = Vec::new();
    for t in 0..tokens {
        if t.is_multiple_of(block) {
            kept.push(state.clone());
        }
        advance(call, at, t, &mut factors, &mut state);
    }
    if !call.options.causal {
        for t in 0..tokens {
            done.readout(call, at, t, &state, grad_o, &mut grad);
        }
    }
    for (n, start) in kept.into_iter().enumerate().rev() {
        let first = n * block;
        let last = (first + block).min(tokens);
        let (mut before, mut after) = (Vec::new(), start);
        for t in first..last {
            before.push(after.clone());
            advance(call, at, t, &mut factors, &mut after);
        }
        for (t, mut met) in (first..last).zip(before).rev() {
            if call.options.causal {
                done.readout(call, at, t, &after, grad_o, &mut grad);
            }
            after.clone_from(&met);
            call.decay(at, t, &mut factors);
            met.decay(&factors);
            done.token(call, at, t, &met, &mut grad);
            grad.decay(&factors);
        }
    }
    done.state = grad;
    done
}

impl Done {
    /// The adjoint of a token's outputs: gradients of its queries, and what they add to that of the state read.
    fn readout(
        &mut self,
        call: &Call<'_>,
        at: &Head,
        t: usize,
        state: &State,
        grad_o: &[f64],
        grad: &mut State,
    ) {
        let (features, width, scale) = (call.features, call.shape.value, call.scale());
        for r in 0..call.group() {
            let q = call.query(at, t, r);
            let mut dn = grad_o[call.query_row(at, t, r) * width..][..width].to_vec();
            let mut dd = 0.0;
            if let Some(den) = denominator(call, q, state) {
                let mut o = vec![0.0; width];
                state.read(q, scale, &mut o);
                dd = -quotient(quotient(dot(&o, &dn), den), den);
                dn.iter_mut().for_each(|dn| *dn = quotient(*dn, den));
            }
            let dq = &mut self.q[(t * call.group() + r) * features..][..features];
            for (i, dq) in dq.iter_mut().enumerate() {
                let s = &state.s[i * width..][..width];
                *dq = scale * (dot(s, &dn) + dd * state.z[i]);
                let row = &mut grad.s[i * width..][..width];
                let q = scale * q[i];
                row.iter_mut().zip(&dn).for_each(|(g, dn)| *g += q * dn);
                grad.z[i] += q * dd;
            }
        }
    }

    /// The adjoint of a token's update of the state; `met` is the decayed state before it.
    fn token(&mut self, call: &Call<'_>, at: &Head, t: usize, met: &State, grad: &mut State) {
        let (features, width) = (call.features, call.shape.value);
        let k = call.key(at, t);
        let (u, missed) = update(call, at, t, met);
        let dk = &mut self.k[t * features..][..features];
        for (i, dk) in dk.iter_mut().enumerate() {
            *dk = dot(&grad.s[i * width..][..width], &u) + grad.z[i];
        }
        let dv = &mut self.v[t * width..][..width];
        grad.read(k, 1.0, dv);
        if let Some(beta) = call.beta(at, t) {
            self.beta[t] = dot(dv, &missed);
            dv.iter_mut().for_each(|dv| *dv *= beta);
            for (i, dk) in dk.iter_mut().enumerate() {
                *dk -= dot(&met.s[i * width..][..width], dv);
                let row = &mut grad.s[i * width..][..width];
                row.iter_mut()
                    .zip(dv.iter())
                    .for_each(|(g, dv)| *g -= k[i] * dv);
            }
        }
        if call.options.decay == Decay::None {
            return;
        }
        for i in 0..features {
            let range = i * width..(i + 1) * width;
            let dg = dot(&grad.s[range.clone()], &met.s[range]) + grad.z[i] * met.z[i];
            match call.options.decay {
                Decay::Channel => self.log_decay[t * features + i] = dg,
                _ => self.log_decay[t] += dg,
            }
        }
    }
}

/// sum += part, element by element.
pub(super) fn sum_into(sum: &mut [f64], part: &[f64]) {
    sum.iter_mut().zip(part).for_each(|(sum, x)| *sum += x);
}
