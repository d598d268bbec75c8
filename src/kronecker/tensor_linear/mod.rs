//! Linear and polynomial tensor attention: attention over pairs, triples, ... of keys in time linear in their number.
//!
//! ```text
//! exact:       o_i = Σ_(j1,…,jm) P_i(j1,…,jm) v1_j1 ∘ … ∘ vm_jm              P over all combinations of keys: T^(m+1) of them
//! linear:      weights Σ_t U[i,t] U1[j1,t] … Um[jm,t] instead of P, from feature maps of queries and keys
//!              S_s = U_sᵀ V_s, z_s = U_sᵀ 1:        o = U (S_1 ∘ … ∘ S_m) / (U (z_1 ∘ … ∘ z_m) + eps)
//! polynomial:  p(scale ⟨q, k1, …, km⟩) instead of exp, whose features are monomials, with a bound on the error: [`poly`]
//! ```
//!
//! With one key set this is linear attention, with two third-order attention; each further set adds a state, and its cost, but
//! multiplies nothing. Queries may see all keys, or earlier ones, or a window of these for each set. [`forward`] and [`backward`]
//! are the linear form, [`poly::forward`] and [`poly::backward`] the polynomial one; [`cpu`] is the reference of both.

mod batch;
#[cfg(feature = "cli")]
pub(crate) mod cases;
mod causal;
pub mod cpu;
mod exact;
pub mod extent;
mod full;
mod kernels;
pub mod minimax;
pub mod monomials;
pub mod plan;
pub mod poly;
mod shape;
mod space;

pub use extent::{Bounds, Extent};
pub use shape::{MAX_CAUSAL_RANK, MAX_RANK, MAX_SETS, MAX_WIDTH, Mask, Options, Shape};

use crate::{
    Result,
    error::{length, stored_as},
    gpu::{Elem, Gpu, Pass, Tensor, View, ViewMut},
};
use shape::{OP, wrong};

/// What attention reads.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a, T: Elem> {
    /// Queries, `[B, H, Tq, D]`.
    pub q: &'a Tensor<T>,
    /// Keys of every set, `[B, Hkv, T, D]`.
    pub k: &'a [&'a Tensor<T>],
    /// Values of every set, `[B, Hkv, T, V]`.
    pub v: &'a [&'a Tensor<T>],
}

/// What [`backward`] writes, in f32.
#[derive(Debug)]
pub struct Gradients<'a> {
    /// With respect to q, `[B, H, Tq, D]`.
    pub q: &'a mut Tensor<f32>,
    /// With respect to the keys of every set, `[B, Hkv, T, D]`.
    pub k: Vec<&'a mut Tensor<f32>>,
    /// With respect to the values of every set, `[B, Hkv, T, V]`.
    pub v: Vec<&'a mut Tensor<f32>>,
}

/// Linear tensor attention over m key sets.
///
/// ```text
/// o_i = scale Σ_t φ(q_i)_t Π_s S_s[t]        S_s[t] = Σ_j φ(k_s,j)_t v_s,j        over the keys that query i sees
/// normalised:  o_i / (scale Σ_t φ(q_i)_t Π_s z_s[t] + eps), z_s[t] = Σ_j φ(k_s,j)_t, and 0 where that is 0
/// ```
///
/// Shapes: q `[B, H, Tq, D]`, k `[B, Hkv, T_s, D]`, v `[B, Hkv, T_s, V]` -> o `[B, H, Tq, V]`; row-major, last index fastest.
/// Storage f32, f16 or bf16, sums in f32.
///
/// Cost: `2 r (V + 1)` operations a key and set and a query, r the features; where queries see earlier keys only `(2 m + 2) r V` a
/// token. Temporaries: padded rows of features and values; over all keys the states of some parts, else m states of r (V + 1)
/// numbers for every 8 tokens, twice (every 4 with windows, more than two key sets or a software adapter, every 2 or 1 where
/// windows are no multiples of 4), of as many columns at a time as fit.
///
/// Accuracy: root-mean-square error to the f64 reference, relative, <= 5e-6 (f32; 1e-3 f16, 4e-3 bf16); each error is at most
/// 4u √(Σ T_s + r) times the sum of the absolute values of the terms, u = 2^-24. Sums over windows are never differences: large tokens
/// leave no trace in windows that they have left. Deterministic: two runs are bit-equal; later tokens leave earlier outputs
/// bit-identical.
///
/// # Errors
/// `Argument` when sizes, types or options do not fit together; `Limit` when one head exceeds a binding or the scratch budget;
/// `Shader`, `OutOfMemory`, `Timeout`, `DeviceLost` from the device.
///
/// Sources: A. Katharopoulos et al., Transformers are RNNs, 2020, for one key set; J. Alman and Z. Song, How to Capture
/// Higher-order Correlations?, 2023, for the Kronecker form of attention over several.
pub fn forward<T: Elem>(
    gpu: &Gpu,
    shape: &Shape,
    options: &Options,
    inputs: &Inputs<'_, T>,
    o: &mut Tensor<T>,
) -> Result<()> {
    let mut pass = gpu.pass(OP);
    record(&mut pass, shape, options, inputs, o)?;
    pass.submit().map(drop)
}

/// [`forward`], recorded into a pass that the caller submits.
///
/// # Errors
/// As [`forward`].
pub fn record<T: Elem>(
    pass: &mut Pass,
    shape: &Shape,
    options: &Options,
    inputs: &Inputs<'_, T>,
    o: &mut Tensor<T>,
) -> Result<()> {
    let plan = plan::forward(shape, options, pass.caps())?;
    inputs.check(shape)?;
    length(OP, "o", o.len(), shape.query_rows() * shape.value)?;
    pass.run(&plan, &inputs.views(), &mut [o.view_mut()])
}

/// Gradients of all inputs from that of o.
///
/// ```text
/// H = dO / (den + eps), g = -(H · o); without normaliser H = dO, g = 0        E_s = Σ_i φ(q_i) [H_i, g_i]ᵀ ∘ Π_(others) [S, z]
/// dφ(k_s) = [V_s, 1] E_sᵀ, dV_s = φ(k_s) E_s, dφ(q_i) = [H_i, g_i] (Π_s [S_s, z_s])ᵀ, over the queries that see key j
/// ```
///
/// The product of the other states is made of them, never by division. Shapes: those of the inputs, f32 whatever their type.
///
/// Cost: about four times that of [`forward`], eight where queries see earlier keys only. Temporaries: about twice those.
///
/// Accuracy: root-mean-square error to the f64 reference, relative, <= 2e-5. Deterministic: two runs are bit-equal.
///
/// # Errors
/// As [`forward`].
pub fn backward<T: Elem>(
    gpu: &Gpu,
    shape: &Shape,
    options: &Options,
    inputs: &Inputs<'_, T>,
    grad_o: &Tensor<T>,
    gradients: Gradients<'_>,
) -> Result<()> {
    let mut pass = gpu.pass("tensor_linear_attention backward");
    record_backward(&mut pass, shape, options, inputs, grad_o, gradients)?;
    pass.submit().map(drop)
}

/// [`backward`], recorded into a pass that the caller submits.
///
/// # Errors
/// As [`forward`].
pub fn record_backward<T: Elem>(
    pass: &mut Pass,
    shape: &Shape,
    options: &Options,
    inputs: &Inputs<'_, T>,
    grad_o: &Tensor<T>,
    gradients: Gradients<'_>,
) -> Result<()> {
    let plan = plan::backward(shape, options, pass.caps())?;
    inputs.check(shape)?;
    let mut outputs = gradients.views(shape)?;
    length(OP, "grad_o", grad_o.len(), shape.query_rows() * shape.value)?;
    let mut views = inputs.views();
    views.push(grad_o.view());
    pass.run(&plan, &views, &mut outputs)
}

impl<T: Elem> Inputs<'_, T> {
    fn check(&self, shape: &Shape) -> Result<()> {
        stored_as::<T>(OP, shape.dtype)?;
        length(OP, "q", self.q.len(), shape.query_rows() * shape.key)?;
        of_sets("k", self.k.len(), shape)?;
        of_sets("v", self.v.len(), shape)?;
        for (set, (k, v)) in self.k.iter().zip(self.v).enumerate() {
            let rows = shape.key_rows(set);
            length(OP, &format!("k{}", set + 1), k.len(), rows * shape.key)?;
            length(OP, &format!("v{}", set + 1), v.len(), rows * shape.value)?;
        }
        Ok(())
    }

    fn views(&self) -> Vec<View<'_>> {
        let sets = self.k.iter().chain(self.v);
        let all = [self.q].into_iter().chain(sets.copied());
        all.map(Tensor::view).collect()
    }
}

impl<'a> Gradients<'a> {
    fn views(self, shape: &Shape) -> Result<Vec<ViewMut<'a>>> {
        length(OP, "grad q", self.q.len(), shape.query_rows() * shape.key)?;
        of_sets("grad k", self.k.len(), shape)?;
        of_sets("grad v", self.v.len(), shape)?;
        for (set, (k, v)) in self.k.iter().zip(&self.v).enumerate() {
            let rows = shape.key_rows(set);
            length(OP, &format!("grad k{}", set + 1), k.len(), rows * shape.key)?;
            length(
                OP,
                &format!("grad v{}", set + 1),
                v.len(),
                rows * shape.value,
            )?;
        }
        let sets = self.k.into_iter().chain(self.v);
        let all = [self.q].into_iter().chain(sets);
        Ok(all.map(Tensor::view_mut).collect())
    }
}

/// Whether there is one tensor a key set.
fn of_sets(what: &str, len: usize, shape: &Shape) -> Result<()> {
    if len == shape.sets() {
        return Ok(());
    }
    wrong(
        what,
        format!("{} tensors, one a key set", shape.sets()),
        len.to_string(),
    )
}
