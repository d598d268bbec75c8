//! The public calls: plan, record, submit.

use super::{OP, Options, Shape, plan, plan::States};
use crate::{
    Error, Result,
    error::length,
    gpu::{Gpu, Pass, Tensor, View},
};

/// What [`forward`], [`step`] and [`backward`] read.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// Codes of queries, `[B, H, Tq, 1]`.
    pub q: &'a Tensor<u32>,
    /// Codes of keys, `[B, Hkv, Tk, 1]`.
    pub k: &'a Tensor<u32>,
    /// Values, `[B, Hkv, Tk, V]`.
    pub v: &'a Tensor<f32>,
    /// Tables to start from, where causal: a `final_state` of an earlier call with the same options.
    pub initial_state: Option<&'a Tensor<f32>>,
}

/// What [`forward`] writes.
#[derive(Debug)]
pub struct Outputs<'a> {
    /// `[B, H, Tq, V]`.
    pub o: &'a mut Tensor<f32>,
    /// Tables after the last token, where causal and asked for: [`Shape::state_len`] elements.
    pub final_state: Option<&'a mut Tensor<f32>>,
}

/// What [`backward`] writes.
#[derive(Debug)]
pub struct Gradients<'a> {
    /// With respect to h = 2 bit - 1 of the queries, as if it were real, `[B, H, Tq, b]`.
    pub h: &'a mut Tensor<f32>,
    /// With respect to g = 2 bit - 1 of the keys, `[B, Hkv, Tk, b]`.
    pub g: &'a mut Tensor<f32>,
    /// With respect to v.
    pub v: &'a mut Tensor<f32>,
}

/// Softmax attention over codes of at most 18 bits, in time linear in the tokens.
///
/// ```text
/// o_i = Σ_j w_ij v_j / Σ_j w_ij        w_ij = exp(Σ_r β_r h_ir g_jr)        β_r = beta[head] scales[r]
/// ```
///
/// over all j, or j <= i where causal; with `initial_state` also over the tokens that went into it. Shapes as in [`Inputs`] and
/// [`Outputs`], row-major, last index fastest; bits beyond `bits` of a word are ignored. β is in units of logits. Without any key o
/// is 0.
///
/// Cost: see the [module](super::super::code_table); scratch `2^b (V + 1)` words a table and some words a token, batches of heads
/// one after the other where it does not take all.
///
/// Accuracy: |error| <= 4 u (b + log2 T) Σ_j P_ij |v_j| for every element, u = 2^-24. Deterministic: two runs are bit-equal.
///
/// # Errors
/// `Argument` when sizes, options or lengths do not fit together; `Unsupported` for more than 18 bits, for 2 Σ_r |β_r| > 80 (weights
/// would underflow) and for states without causal; `Limit` when one head's table exceeds a binding or the scratch budget;
/// `Shader`, `OutOfMemory`, `Timeout`, `DeviceLost` from the device.
pub fn forward(
    gpu: &Gpu,
    shape: &Shape,
    options: &Options,
    inputs: &Inputs<'_>,
    outputs: Outputs<'_>,
) -> Result<()> {
    let mut pass = gpu.pass(OP);
    record(&mut pass, shape, options, inputs, outputs)?;
    pass.submit().map(drop)
}

/// [`forward`], recorded into a pass that the caller submits.
///
/// # Errors
/// As [`forward`].
pub fn record(
    pass: &mut Pass,
    shape: &Shape,
    options: &Options,
    inputs: &Inputs<'_>,
    outputs: Outputs<'_>,
) -> Result<()> {
    let states = States {
        initial: inputs.initial_state.is_some(),
        last: outputs.final_state.is_some(),
    };
    let plan = plan::forward(shape, options, states, pass.caps())?;
    let mut views = inputs.views(shape)?;
    if let Some(state) = inputs.initial_state {
        length(OP, "initial_state", state.len(), shape.state_len(options))?;
        views.push(state.view());
    }
    length(OP, "o", outputs.o.len(), shape.output_len())?;
    let mut targets = vec![outputs.o.view_mut()];
    if let Some(state) = outputs.final_state {
        length(OP, "final_state", state.len(), shape.state_len(options))?;
        targets.push(state.view_mut());
    }
    pass.run(&plan, &views, &mut targets)
}

/// Attends to the tokens so far and to some more, and moves the state on in place: [`forward`] where causal, with one buffer for
/// both states. One token is the step of a decoder; its time does not depend on how many there were.
///
/// # Errors
/// As [`forward`]; `Argument` when `inputs` has an initial state of its own.
pub fn step(
    gpu: &Gpu,
    shape: &Shape,
    options: &Options,
    inputs: &Inputs<'_>,
    o: &mut Tensor<f32>,
    state: &mut Tensor<f32>,
) -> Result<()> {
    let mut pass = gpu.pass(OP);
    record_step(&mut pass, shape, options, inputs, o, state)?;
    pass.submit().map(drop)
}

/// [`step`], recorded into a pass that the caller submits.
///
/// # Errors
/// As [`step`].
pub fn record_step(
    pass: &mut Pass,
    shape: &Shape,
    options: &Options,
    inputs: &Inputs<'_>,
    o: &mut Tensor<f32>,
    state: &mut Tensor<f32>,
) -> Result<()> {
    let plan = plan::step(shape, options, pass.caps())?;
    stateless(inputs)?;
    let views = inputs.views(shape)?;
    length(OP, "o", o.len(), shape.output_len())?;
    length(OP, "state", state.len(), shape.state_len(options))?;
    pass.run(&plan, &views, &mut [o.view_mut(), state.view_mut()])
}

/// Gradients of Σ `grad_o` · o for the o of [`forward`] without states.
///
/// ```text
/// dS_ij = P_ij (dO_i·v_j - dO_i·o_i)        dv_j = Σ_i P_ij dO_i        dh_ir = β_r Σ_j dS_ij g_jr        dg_jr = β_r Σ_i dS_ij h_ir
/// ```
///
/// h and g are taken as if they were real: what passes them on to what was rounded to codes (straight through, or clipped) is the
/// caller's. Nothing of the forward call is needed.
///
/// Cost: the full form fills and transforms two tables, one of keys and one of queries, and takes `b + 1` rows a token; the causal
/// form walks over the tokens twice from first to last and twice from last to first, with a table transformed along the high
/// half of the bits and one along the low half. Scratch `V + 1` words a query, `b + 1` words a token, and tables.
///
/// Accuracy: root-mean-square error to the f64 reference, relative, <= 2e-5. Deterministic: two runs are bit-equal.
///
/// # Errors
/// As [`forward`]; `Argument` when `inputs` has an initial state.
pub fn backward(
    gpu: &Gpu,
    shape: &Shape,
    options: &Options,
    inputs: &Inputs<'_>,
    grad_o: &Tensor<f32>,
    gradients: Gradients<'_>,
) -> Result<()> {
    let mut pass = gpu.pass("code_table_attention gradients");
    record_backward(&mut pass, shape, options, inputs, grad_o, gradients)?;
    pass.submit().map(drop)
}

/// [`backward`], recorded into a pass that the caller submits.
///
/// # Errors
/// As [`backward`].
pub fn record_backward(
    pass: &mut Pass,
    shape: &Shape,
    options: &Options,
    inputs: &Inputs<'_>,
    grad_o: &Tensor<f32>,
    gradients: Gradients<'_>,
) -> Result<()> {
    let plan = plan::backward(shape, options, pass.caps())?;
    stateless(inputs)?;
    let mut views = inputs.views(shape)?;
    length(OP, "grad_o", grad_o.len(), shape.output_len())?;
    views.push(grad_o.view());
    let Gradients { h, g, v } = gradients;
    length(OP, "grad h", h.len(), options.bits * shape.query_len())?;
    length(OP, "grad g", g.len(), options.bits * shape.key_len())?;
    length(OP, "grad v", v.len(), shape.value_len())?;
    pass.run(
        &plan,
        &views,
        &mut [h.view_mut(), g.view_mut(), v.view_mut()],
    )
}

fn stateless(inputs: &Inputs<'_>) -> Result<()> {
    if inputs.initial_state.is_none() {
        return Ok(());
    }
    Err(Error::Argument {
        op: OP,
        what: "initial_state".into(),
        expected: "none in this call".into(),
        got: "a tensor".into(),
    })
}

impl Inputs<'_> {
    fn views(&self, shape: &Shape) -> Result<Vec<View<'_>>> {
        length(OP, "q", self.q.len(), shape.query_len())?;
        length(OP, "k", self.k.len(), shape.key_len())?;
        length(OP, "v", self.v.len(), shape.value_len())?;
        Ok(vec![self.q.view(), self.k.view(), self.v.view()])
    }
}
