//! The outputs.

use rayon::prelude::*;

use super::{Call, Head, Inputs, State, advance, dot};
use crate::{
    Result,
    linear::{Options, Shape},
};

/// What [`forward`] returns, in the layouts of the inputs.
#[derive(Clone, Debug, PartialEq)]
pub struct Outputs {
    /// Outputs, `[B, T, H, V]`.
    pub o: Vec<f64>,
    /// Sum of the absolute values of the terms of each output, by which rounding errors are judged. Normalised: that of the
    /// numerator plus |o| times that of the denominator, over the absolute denominator. Empty with the delta rule, where the
    /// sum grows beyond any use.
    pub o_magnitude: Vec<f64>,
    /// The state after the last token, `[N, Hk, F, V]`.
    pub final_state: Vec<f64>,
    /// Sum of the absolute values of the terms of each state element; empty with the delta rule.
    pub state_magnitude: Vec<f64>,
    /// The sum of decayed keys after the last token, `[N, Hk, F]`; empty when not normalised.
    pub final_z: Vec<f64>,
}

/// [`linear::forward`](crate::linear::forward) in f64 and with every option, by the recurrence of [the module](super).
///
/// # Errors
/// `Argument` when a slice has the wrong length, an input is missing or superfluous, or sizes or options do not fit together.
pub fn forward(shape: &Shape, options: &Options, inputs: &Inputs<'_>) -> Result<Outputs> {
    let call = Call::new(shape, options, inputs)?;
    let heads = call.heads();
    let done: Vec<_> = heads.par_iter().map(|at| head(&call, at)).collect();

    let sized = !options.delta;
    let mut outputs = Outputs {
        o: vec![0.0; shape.output_len()],
        o_magnitude: vec![0.0; if sized { shape.output_len() } else { 0 }],
        final_state: Vec::with_capacity(heads.len() * call.state_elements()),
        state_magnitude: Vec::new(),
        final_z: Vec::new(),
    };
    let width = shape.value;
    for (at, done) in heads.iter().zip(done) {
        for (n, o) in done.o.chunks_exact(width).enumerate() {
            let row = call.query_row(at, n / call.group(), n % call.group()) * width;
            outputs.o[row..][..width].copy_from_slice(o);
            if sized {
                let magnitude = &done.o_magnitude[n * width..][..width];
                outputs.o_magnitude[row..][..width].copy_from_slice(magnitude);
            }
        }
        outputs.final_state.extend(done.state.s);
        if sized {
            outputs.state_magnitude.extend(done.magnitude.s);
        }
        if options.normalize.is_some() {
            outputs.final_z.extend(done.state.z);
        }
    }
    Ok(outputs)
}

/// The outputs of one head, `[tokens, group, value]`, and its last states.
struct Done {
    o: Vec<f64>,
    o_magnitude: Vec<f64>,
    state: State,
    magnitude: State,
}

fn head(call: &Call<'_>, at: &Head) -> Done {
    let tokens = at.tokens.len();
    let len = tokens * call.group() * call.shape.value;
    let state = call.start(at);
    let magnitude = State {
        s: state.s.iter().map(|s| s.abs()).collect(),
        z: state.z.clone(),
    };
    let mut done = Done {
        o: Vec::with_capacity(len),
        o_magnitude: Vec::with_capacity(len),
        state,
        magnitude,
    };
    let mut factors = vec![1.0; call.features];
    let absolute = |x: &[f64]| -> Vec<f64> { x.iter().map(|x| x.abs()).collect() };
    for t in 0..tokens {
        advance(call, at, t, &mut factors, &mut done.state);
        if !call.options.delta {
            done.magnitude.decay(&factors);
            let (k, v) = (absolute(call.key(at, t)), absolute(call.value(at, t)));
            done.magnitude.add(&k, &v);
        }
        if call.options.causal {
            done.read(call, at, t);
        }
    }
    if !call.options.causal {
        (0..tokens).for_each(|t| done.read(call, at, t));
    }
    done
}

impl Done {
    /// Appends the outputs of a token.
    fn read(&mut self, call: &Call<'_>, at: &Head, t: usize) {
        let width = call.shape.value;
        for r in 0..call.group() {
            let q = call.query(at, t, r);
            let mut o = vec![0.0; width];
            self.state.read(q, call.scale(), &mut o);
            let den = denominator(call, q, &self.state);
            if let Some(den) = den {
                o.iter_mut().for_each(|o| *o = quotient(*o, den));
            }
            if !call.options.delta {
                let q: Vec<f64> = q.iter().map(|q| q.abs()).collect();
                let mut magnitude = vec![0.0; width];
                self.magnitude.read(&q, call.scale().abs(), &mut magnitude);
                if let Some(den) = den {
                    let eps = f64::from(call.options.normalize.unwrap_or(0.0));
                    let terms = call.scale().abs() * dot(&q, &self.magnitude.z) + eps;
                    for (m, o) in magnitude.iter_mut().zip(&o) {
                        *m = quotient(*m + o.abs() * terms, den.abs());
                    }
                }
                self.o_magnitude.extend(magnitude);
            }
            self.o.extend(o);
        }
    }
}

/// What the outputs of a query are divided by, when normalised.
pub(super) fn denominator(call: &Call<'_>, q: &[f64], state: &State) -> Option<f64> {
    let eps = call.options.normalize?;
    Some(call.scale() * dot(q, &state.z) + f64::from(eps))
}

/// a / b, or 0 where b is exactly 0.
pub(super) fn quotient(a: f64, b: f64) -> f64 {
    if b == 0.0 { 0.0 } else { a / b }
}
