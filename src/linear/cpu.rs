//! Reference in f64, written from the formula, parallel over batch and heads. Results do not depend on the thread count.

#![allow(clippy::indexing_slicing, reason = "lengths are checked on entry")]

use rayon::prelude::*;

use super::{Decay, Options, Shape};
use crate::{Error, Result};

/// What [`forward`] returns, in the layouts of the inputs.
#[derive(Clone, Debug, PartialEq)]
pub struct Outputs {
    /// Outputs.
    pub o: Vec<f64>,
    /// Sum of the absolute values of the terms of each output, by which rounding errors are judged.
    pub o_magnitude: Vec<f64>,
    /// The state after the last token, `[batch, heads, key, value]`.
    pub final_state: Vec<f64>,
    /// Sum of the absolute values of the terms of each state element.
    pub state_magnitude: Vec<f64>,
}

/// [`linear::forward`](super::forward) in f64, on values already rounded to their storage type.
///
/// # Errors
/// `Argument` when a slice has the wrong length or `log_decay` is missing or superfluous.
pub fn forward(
    shape: &Shape,
    options: &Options,
    q: &[f64],
    k: &[f64],
    v: &[f64],
    log_decay: Option<&[f64]>,
    initial_state: Option<&[f64]>,
) -> Result<Outputs> {
    let op = "linear_attention";
    shape.check(op)?;
    options.check(op)?;
    let length = |what: &str, len: usize, expected: usize| {
        if len == expected {
            return Ok(());
        }
        Err(Error::Argument {
            op,
            what: what.into(),
            expected: format!("{expected} elements"),
            got: len.to_string(),
        })
    };
    length("q", q.len(), shape.key_len())?;
    length("k", k.len(), shape.key_len())?;
    length("v", v.len(), shape.value_len())?;
    length(
        "log_decay",
        log_decay.map_or(0, <[f64]>::len),
        if options.decay == Decay::Head {
            shape.heads
        } else {
            0
        },
    )?;
    length(
        "initial_state",
        initial_state.map_or(shape.state_len(), <[f64]>::len),
        shape.state_len(),
    )?;

    let (kw, vw) = (shape.key, shape.value);
    let [batch_stride, head_stride, token_stride] = shape.strides().map(|stride| stride as usize);
    let scale = f64::from(options.scale);
    let heads: Vec<_> = (0..shape.rows())
        .into_par_iter()
        .map(|n| {
            let first = (n / shape.heads) * batch_stride + (n % shape.heads) * head_stride;
            let decay = log_decay
                .and_then(|g| g.get(n % shape.heads))
                .map_or(1.0, |g| g.exp());
            let mut s = vec![0.0; kw * vw];
            if let Some(start) = initial_state {
                s.copy_from_slice(&start[n * kw * vw..][..kw * vw]);
            }
            let mut m: Vec<f64> = s.iter().map(|x| x.abs()).collect();
            let (mut o, mut o_magnitude) =
                (vec![0.0; shape.tokens * vw], vec![0.0; shape.tokens * vw]);
            for t in 0..shape.tokens {
                let row = first + t * token_stride;
                let (q, k, v) = (
                    &q[row * kw..][..kw],
                    &k[row * kw..][..kw],
                    &v[row * vw..][..vw],
                );
                for i in 0..kw {
                    for j in 0..vw {
                        let at = i * vw + j;
                        s[at] = decay * s[at] + k[i] * v[j];
                        m[at] = decay * m[at] + (k[i] * v[j]).abs();
                        o[t * vw + j] += scale * q[i] * s[at];
                        o_magnitude[t * vw + j] += (scale * q[i]).abs() * m[at];
                    }
                }
            }
            (first, o, o_magnitude, s, m)
        })
        .collect();

    let mut outputs = Outputs {
        o: vec![0.0; shape.value_len()],
        o_magnitude: vec![0.0; shape.value_len()],
        final_state: Vec::with_capacity(shape.state_len()),
        state_magnitude: Vec::with_capacity(shape.state_len()),
    };
    for (first, o, o_magnitude, s, m) in heads {
        for t in 0..shape.tokens {
            let at = (first + t * token_stride) * vw;
            outputs.o[at..][..vw].copy_from_slice(&o[t * vw..][..vw]);
            outputs.o_magnitude[at..][..vw].copy_from_slice(&o_magnitude[t * vw..][..vw]);
        }
        outputs.final_state.extend(s);
        outputs.state_magnitude.extend(m);
    }
    Ok(outputs)
}
