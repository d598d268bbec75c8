//! Segments of a sequence.

use rayon::prelude::*;

use super::{Call, Head, Inputs, State, advance, backward};
use crate::{
    Result,
    error::length,
    linear::{Decay, Options, Shape, plan::Lengths, shape::sequences},
};

/// A state `[B, Hk, F, V]` and z `[B, Hk, F]`, empty when not normalised, between two segments; or their gradients.
#[derive(Clone, Debug, PartialEq)]
pub struct Carry {
    /// The state.
    pub state: Vec<f64>,
    /// The sum of keys.
    pub z: Vec<f64>,
}

/// What a segment does to the state before it; see [`linear::LocalState`](crate::linear::LocalState).
#[derive(Clone, Debug, PartialEq)]
pub struct LocalState {
    /// The state after the segment from a start of zero.
    pub added: Carry,
    /// `[B, Hk]`, `[B, Hk, F]` with a decay per channel, `[B, Hk, F, F]` with the delta rule.
    pub transfer: Vec<f64>,
}

/// [`linear::local_state`](crate::linear::local_state) in f64. The initial states of the inputs are not read; nor are the
/// queries, which may be anything of the right length.
///
/// # Errors
/// As [`forward`](super::forward).
pub fn local_state(shape: &Shape, options: &Options, inputs: &Inputs<'_>) -> Result<LocalState> {
    let inputs = Inputs {
        initial_state: None,
        initial_z: None,
        ..*inputs
    };
    let call = Call::new(shape, options, &inputs)?;
    let heads = call.heads();
    let done: Vec<_> = heads
        .par_iter()
        .map(|at| {
            let (mut state, mut factors) = (call.start(at), vec![1.0; call.features]);
            for t in 0..at.tokens.len() {
                advance(&call, at, t, &mut factors, &mut state);
            }
            (state, transfer(&call, at))
        })
        .collect();
    let mut local = LocalState {
        added: Carry {
            state: Vec::new(),
            z: Vec::new(),
        },
        transfer: Vec::new(),
    };
    for (state, transfer) in done {
        local.added.state.extend(state.s);
        if options.normalize.is_some() {
            local.added.z.extend(state.z);
        }
        local.transfer.extend(transfer);
    }
    Ok(local)
}

/// The transfer of one head.
fn transfer(call: &Call<'_>, at: &Head) -> Vec<f64> {
    let (features, tokens) = (call.features, at.tokens.len());
    let log = |n: usize| call.inputs.log_decay.map_or(0.0, |g| g[n]);
    if !call.options.delta {
        return match call.options.decay {
            Decay::None => vec![0.0],
            Decay::Head => vec![log(at.head) * tokens as f64],
            Decay::Token => vec![(0..tokens).map(|t| log(call.key_row(at, t))).sum()],
            Decay::Channel => (0..features)
                .map(|i| {
                    (0..tokens)
                        .map(|t| log(call.key_row(at, t) * features + i))
                        .sum()
                })
                .collect(),
        };
    }
    // Values of zero, from the identity.
    let mut matrix = State {
        s: vec![0.0; features * features],
        z: vec![0.0; features],
    };
    (0..features).for_each(|i| matrix.s[i * features + i] = 1.0);
    let mut factors = vec![1.0; features];
    for t in 0..tokens {
        call.decay(at, t, &mut factors);
        matrix.decay(&factors);
        let mut u = vec![0.0; features];
        let beta = call.beta(at, t).unwrap_or(0.0);
        matrix.read(call.key(at, t), -beta, &mut u);
        matrix.add(call.key(at, t), &u);
    }
    matrix.s
}

/// [`linear::merge`](crate::linear::merge) in f64.
///
/// # Errors
/// `Argument` when a slice has the wrong length.
pub fn merge(
    shape: &Shape,
    options: &Options,
    first: &LocalState,
    second: &LocalState,
) -> Result<LocalState> {
    let added = merge_start(shape, options, &first.added, second)?;
    let expected = Lengths::new(shape, options).transfer;
    length(super::OP, "first.transfer", first.transfer.len(), expected)?;
    let features = options.feature_width(shape);
    let transfer = if options.delta {
        let mut product = vec![0.0; expected];
        add_product(
            &second.transfer,
            &first.transfer,
            features,
            false,
            &mut product,
        );
        product
    } else {
        let sums = first.transfer.iter().zip(&second.transfer);
        sums.map(|(a, b)| a + b).collect()
    };
    Ok(LocalState { added, transfer })
}

/// [`linear::merge_start`](crate::linear::merge_start) in f64.
///
/// # Errors
/// `Argument` when a slice has the wrong length.
pub fn merge_start(
    shape: &Shape,
    options: &Options,
    start: &Carry,
    local: &LocalState,
) -> Result<Carry> {
    carry(shape, options, start, &local.added, &local.transfer, false)
}

/// [`linear::merge_adjoint`](crate::linear::merge_adjoint) in f64.
///
/// # Errors
/// `Argument` when a slice has the wrong length.
pub fn merge_adjoint(
    shape: &Shape,
    options: &Options,
    end: &Carry,
    adjoint: &Carry,
    transfer: &[f64],
) -> Result<Carry> {
    carry(shape, options, end, adjoint, transfer, true)
}

fn carry(
    shape: &Shape,
    options: &Options,
    carried: &Carry,
    own: &Carry,
    transfer: &[f64],
    transposed: bool,
) -> Result<Carry> {
    let lengths = Lengths::new(shape, options);
    length(super::OP, "transfer", transfer.len(), lengths.transfer)?;
    for part in [carried, own] {
        length(super::OP, "a state", part.state.len(), lengths.state)?;
        length(super::OP, "z", part.z.len(), lengths.z)?;
    }
    let mut sum = own.clone();
    let features = options.feature_width(shape);
    if options.delta {
        add_product(
            transfer,
            &carried.state,
            features,
            transposed,
            &mut sum.state,
        );
        return Ok(sum);
    }
    let fade = |sum: &mut [f64], x: &[f64]| {
        let per = sum.len() / transfer.len().max(1);
        for (i, (sum, x)) in sum.iter_mut().zip(x).enumerate() {
            *sum += transfer[i / per.max(1)].exp() * x;
        }
    };
    fade(&mut sum.state, &carried.state);
    fade(&mut sum.z, &carried.z);
    Ok(sum)
}

/// sum += A x or Aᵀ x for the square matrix and state of every sequence and head.
fn add_product(a: &[f64], x: &[f64], features: usize, transposed: bool, sum: &mut [f64]) {
    let heads = a.len() / (features * features).max(1);
    let width = x.len() / (heads * features).max(1);
    for head in 0..heads {
        for i in 0..features {
            let row = &mut sum[(head * features + i) * width..][..width];
            for j in 0..features {
                let (r, c) = if transposed { (j, i) } else { (i, j) };
                let a = a[(head * features + r) * features + c];
                let x = &x[(head * features + j) * width..][..width];
                row.iter_mut().zip(x).for_each(|(sum, x)| *sum += a * x);
            }
        }
    }
}

/// [`linear::local_adjoint`](crate::linear::local_adjoint) in f64.
///
/// # Errors
/// As [`backward`](super::backward).
pub fn local_adjoint(
    shape: &Shape,
    options: &Options,
    inputs: &Inputs<'_>,
    grad_o: &[f64],
) -> Result<Carry> {
    let sequences = sequences(shape, super::OP, inputs.cu_seqlens)?.len();
    let sums = sequences * shape.kv_heads * options.feature_width(shape);
    let (state, z) = (vec![0.0; sums * shape.value], vec![0.0; sums]);
    let inputs = Inputs {
        initial_state: inputs.initial_state.or(Some(&state)),
        initial_z: inputs.initial_z.or(options.normalize.map(|_| z.as_slice())),
        ..*inputs
    };
    let gradients = backward(shape, options, &inputs, grad_o, None)?;
    Ok(Carry {
        state: gradients.initial_state,
        z: gradients.initial_z,
    })
}
