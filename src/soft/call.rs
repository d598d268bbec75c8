//! The public calls: plan, record, submit, judge.

use super::{Options, Shape, Status, plan, plan::OP};
use crate::{
    Error, Result,
    error::{length, stored_as},
    gpu::{Elem, Gpu, Pass, Tensor, View, ViewMut},
};

/// What [`soft_attention`] and [`backward`] read; shapes as in [`Shape`].
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a, T: Elem> {
    /// Queries, which are the keys as well.
    pub q: &'a Tensor<T>,
    /// Landmarks, `[batch, heads, landmarks, width]`; none pools them from q as [`pool_landmarks`] does, rounded to the
    /// storage type.
    pub landmarks: Option<&'a Tensor<T>>,
    /// Values.
    pub v: &'a Tensor<T>,
}

/// What [`backward`] writes, each shaped as its input.
#[derive(Debug)]
pub struct Gradients<'a, T: Elem> {
    /// Of q, by way of the landmarks too where they are pooled.
    pub q: &'a mut Tensor<T>,
    /// Of the landmarks; none exactly where they are pooled.
    pub landmarks: Option<&'a mut Tensor<T>>,
    /// Of v.
    pub v: &'a mut Tensor<T>,
}

impl<T: Elem> Inputs<'_, T> {
    fn views(&self, shape: &Shape) -> Result<Vec<View<'_>>> {
        stored_as::<T>(OP, shape.dtype)?;
        length(OP, "q", self.q.len(), shape.query_len())?;
        length(OP, "v", self.v.len(), shape.value_len())?;
        let mut views = vec![self.q.view()];
        if let Some(landmarks) = self.landmarks {
            length(OP, "landmarks", landmarks.len(), shape.landmark_len())?;
            views.push(landmarks.view());
        }
        views.push(self.v.view());
        Ok(views)
    }
}

/// SOFT attention: softmax-free, linear in the number of tokens, through `m` landmarks.
///
/// ```text
/// o = C Y        Y = P⁻¹ Cᵀ v, or s ⊙ P⁻¹ (s ⊙ Cᵀ v) with `symmetric_norm`
/// C_ia = exp(−‖q_i − l_a‖² / (2√D))        P_ab = exp(−‖l_a − l_b‖² / (2√D)) + ridge [a = b]        s = (P 1)^(−1/2)
/// ```
///
/// Shapes: q `[B, H, T, D]`, landmarks `[B, H, m, D]`, v and o `[B, H, T, V]`, row-major, last index fastest; q, v and o with
/// tokens before heads in [`Layout::Bthd`](crate::linear::Layout). Without units: the kernel's width is fixed by D.
///
/// Returns the [`Status`] of every head once the device is done.
///
/// Cost: about `T m (3D + 4V)` operations a head, and `m³ / 3` for P. Temporaries are those of the plan
/// ([`Plan::scratch_bytes`](crate::plan::Plan::scratch_bytes)): some matrices of m x m and m x V a head, never T x m.
///
/// Accuracy: root-mean-square error to the f64 reference, relative, <= 5e-6 · max(1, κ / 1000) in f32, where κ is the condition
/// number of P ([`cpu::condition`](super::cpu::condition)); 1e-3 in f16 and 4e-3 in bf16 storage. Deterministic: two runs are
/// bit-equal.
///
/// # Errors
/// `Numeric` when the solver missed its tolerance on a head: `o` is then written and wrong. `Argument` when sizes, dtype or
/// options do not fit together; `Limit` when the call exceeds the device or its scratch budget; `Shader`, `OutOfMemory`,
/// `Timeout`, `DeviceLost` from the device.
///
/// Source: see the [module](super).
pub fn soft_attention<T: Elem>(
    gpu: &Gpu,
    shape: &Shape,
    options: &Options,
    inputs: &Inputs<'_, T>,
    o: &mut Tensor<T>,
) -> Result<Vec<Status>> {
    shape.check(OP)?;
    let mut pass = gpu.pass("SOFT attention");
    let mut status = gpu.zeros(shape.status_len())?;
    record(&mut pass, shape, options, inputs, o, &mut status)?;
    judged(shape, options, pass, &status)
}

/// [`soft_attention`], recorded into a pass that the caller submits.
///
/// `status` receives four numbers a head. Nothing here looks at them: a head that [`Status::converged`] denies has a wrong `o`.
///
/// # Errors
/// As [`soft_attention`], but for `Numeric`.
pub fn record<T: Elem>(
    pass: &mut Pass,
    shape: &Shape,
    options: &Options,
    inputs: &Inputs<'_, T>,
    o: &mut Tensor<T>,
    status: &mut Tensor<f32>,
) -> Result<()> {
    let plan = plan::forward(shape, options, inputs.landmarks.is_none(), pass.caps())?;
    let views = inputs.views(shape)?;
    length(OP, "o", o.len(), shape.value_len())?;
    length(OP, "status", status.len(), shape.status_len())?;
    pass.run(&plan, &views, &mut [o.view_mut(), status.view_mut()])
}

/// Gradients of Σ `grad_o` · o for the o of [`soft_attention`].
///
/// The inverse is differentiated in closed form: with dY = Cᵀ do and Z = P⁻¹ (s ⊙ dY), dP = −Z (P⁻¹ (s ⊙ X))ᵀ and what s adds.
/// Both systems share one factorisation or iteration, which is not itself differentiated. Nothing of the forward call is
/// needed. The status covers both systems.
///
/// Cost: about `T m (9D + 10V)` operations a head. Accuracy: as [`soft_attention`], with 2e-5 for 5e-6.
///
/// # Errors
/// As [`soft_attention`]; `Argument` when gradients of the landmarks are asked for and these are pooled, or the reverse.
pub fn backward<T: Elem>(
    gpu: &Gpu,
    shape: &Shape,
    options: &Options,
    inputs: &Inputs<'_, T>,
    grad_o: &Tensor<T>,
    gradients: &mut Gradients<'_, T>,
) -> Result<Vec<Status>> {
    shape.check(OP)?;
    let mut pass = gpu.pass("SOFT attention, backward");
    let mut status = gpu.zeros(shape.status_len())?;
    record_backward(
        &mut pass,
        shape,
        options,
        inputs,
        grad_o,
        gradients,
        &mut status,
    )?;
    judged(shape, options, pass, &status)
}

/// [`backward`], recorded into a pass that the caller submits; `status` as in [`record`].
///
/// # Errors
/// As [`backward`], but for `Numeric`.
pub fn record_backward<T: Elem>(
    pass: &mut Pass,
    shape: &Shape,
    options: &Options,
    inputs: &Inputs<'_, T>,
    grad_o: &Tensor<T>,
    gradients: &mut Gradients<'_, T>,
    status: &mut Tensor<f32>,
) -> Result<()> {
    let pooled = inputs.landmarks.is_none();
    let plan = plan::backward(shape, options, pooled, pass.caps())?;
    let mut views = inputs.views(shape)?;
    length(OP, "grad_o", grad_o.len(), shape.value_len())?;
    views.push(grad_o.view());
    let (q, v) = (&mut *gradients.q, &mut *gradients.v);
    length(OP, "gradients.q", q.len(), shape.query_len())?;
    length(OP, "gradients.v", v.len(), shape.value_len())?;
    length(OP, "status", status.len(), shape.status_len())?;
    let mut outputs: Vec<ViewMut<'_>> = vec![q.view_mut()];
    match (&mut gradients.landmarks, pooled) {
        (None, true) => {}
        (Some(landmarks), false) => {
            length(
                OP,
                "gradients.landmarks",
                landmarks.len(),
                shape.landmark_len(),
            )?;
            outputs.push(landmarks.view_mut());
        }
        (given, _) => {
            let (expected, got) = match given {
                Some(_) => ("absent where landmarks are pooled", "a tensor"),
                None => ("given with the landmarks", "none"),
            };
            return Err(Error::Argument {
                op: OP,
                what: "gradients.landmarks".into(),
                expected: expected.into(),
                got: got.into(),
            });
        }
    }
    outputs.push(v.view_mut());
    outputs.push(status.view_mut());
    pass.run(&plan, &views, &mut outputs)
}

fn judged(
    shape: &Shape,
    options: &Options,
    pass: Pass,
    status: &Tensor<f32>,
) -> Result<Vec<Status>> {
    pass.submit()?;
    let all = Status::read(&status.download()?);
    Status::judge(OP, shape, options, &all)?;
    Ok(all)
}

/// Landmarks as means of consecutive runs of queries: landmark a of m is the mean of tokens ⌊aT/m⌋ to ⌊(a+1)T/m⌋, so that all
/// runs are equal where m divides T. `landmarks` is `[batch, heads, landmarks, width]`; sums are f32. Returns when the work is
/// submitted.
///
/// # Errors
/// `Argument` when sizes or dtype do not fit together or there are fewer tokens than landmarks; `Limit`, and those of the
/// device.
pub fn pool_landmarks<T: Elem>(
    gpu: &Gpu,
    shape: &Shape,
    q: &Tensor<T>,
    landmarks: &mut Tensor<T>,
) -> Result<()> {
    let plan = plan::pool(shape, gpu.caps())?;
    stored_as::<T>(OP, shape.dtype)?;
    length(OP, "q", q.len(), shape.query_len())?;
    length(OP, "landmarks", landmarks.len(), shape.landmark_len())?;
    let mut pass = gpu.pass("landmarks");
    pass.run(&plan, &[q.view()], &mut [landmarks.view_mut()])?;
    pass.submit().map(drop)
}

/// Adds to `grad_q` what reaches q through [`pool_landmarks`]: each token gets its landmark's gradient over the length of
/// the run. Returns when the work is submitted.
///
/// # Errors
/// As [`pool_landmarks`].
pub fn pool_landmarks_backward<T: Elem>(
    gpu: &Gpu,
    shape: &Shape,
    grad_landmarks: &Tensor<T>,
    grad_q: &mut Tensor<T>,
) -> Result<()> {
    let plan = plan::pool_backward(shape, gpu.caps())?;
    stored_as::<T>(OP, shape.dtype)?;
    length(
        OP,
        "grad_landmarks",
        grad_landmarks.len(),
        shape.landmark_len(),
    )?;
    length(OP, "grad_q", grad_q.len(), shape.query_len())?;
    let mut pass = gpu.pass("landmarks, backward");
    pass.run(&plan, &[grad_landmarks.view()], &mut [grad_q.view_mut()])?;
    pass.submit().map(drop)
}
