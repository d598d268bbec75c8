//! Functions of a whole on a device: the call.

#[cfg(feature = "cli")]
pub(crate) mod cases;
mod kernels;
mod plan;
mod sums;

use std::sync::Arc;

use super::spectrum::{Function, OP, Spectrum, tables};
use crate::{
    Error, Result,
    error::length,
    gpu::{Gpu, Pass, Tensor, View},
};

pub use plan::plan;
pub(super) use plan::{Source, Spectral, Tables, scale, vector};
pub(super) use sums::{Operand, Parts, RowSums, finish};

/// A spectrum on a device: eigenvectors and eigenvalues in f32, rounded once.
#[derive(Debug)]
pub struct Basis {
    spectrum: Arc<Spectrum>,
    vectors: Tensor<f32>,
    values: Tensor<f32>,
}

impl Basis {
    /// Uploads the eigenvectors, Σ n_i² numbers, and tables of eigenvalues.
    ///
    /// # Errors
    /// `Limit` when the vectors exceed a buffer; `OutOfMemory`, `DeviceLost`.
    pub fn new(gpu: &Gpu, spectrum: Spectrum) -> Result<Basis> {
        Ok(Basis {
            vectors: gpu.upload(&vectors(&spectrum))?,
            values: gpu.upload(&tables(spectrum.grid()))?,
            spectrum: Arc::new(spectrum),
        })
    }

    /// What was uploaded.
    pub fn spectrum(&self) -> &Spectrum {
        &self.spectrum
    }

    /// What plans read: vectors and values.
    pub(super) fn views(&self) -> [View<'_>; 2] {
        [self.vectors.view(), self.values.view()]
    }
}

/// The eigenvectors of all axes, one after another, in f32.
pub(super) fn vectors(spectrum: &Spectrum) -> Vec<f32> {
    let each = spectrum.axes().iter();
    each.flat_map(|axis| axis.vectors().rounded()).collect()
}

/// x = f(A) b = V f(λ) Vᵀ b for each row of b, with A decomposed in f64 and the rest in f32.
///
/// ```text
/// c = Vᵀ b        c ← f(λ) c        x = V c        V = ⊗_i V_i,  λ = Π_i λ_i or Σ_i λ_i
/// ```
///
/// b and x are `[rows, Π n_i]`, row-major, the last axis fastest. The eigenvalues of the whole are made on the fly. No units.
///
/// Cost: for a row `4 N Σ_i n_i` operations. Memory beyond arguments: one vector of `rows · N`, and what a product takes.
///
/// Accuracy: ‖x̂ − x‖ <= c 2^-24 ‖b‖ max|f| for c = max(8, ½ Σ √n_i), to f in f64 of the factors given; where f amplifies what b has least of,
/// that is more than ‖x‖. Deterministic: two runs are bit-equal.
///
/// # Errors
/// `Numeric` when an eigenvalue is outside of the function's domain or values leave the range of f32; `Argument` when lengths or
/// parameters do not fit together; `Limit`, `Shader`, `OutOfMemory`, `Timeout`, `DeviceLost` from the device.
pub fn spectral(
    gpu: &Gpu,
    basis: &Basis,
    function: &Function,
    rows: usize,
    b: &Tensor<f32>,
    x: &mut Tensor<f32>,
) -> Result<()> {
    let mut pass = gpu.pass(OP);
    record(&mut pass, basis, function, rows, b, x)?;
    pass.submit().map(drop)
}

/// [`spectral()`], recorded into a pass that the caller submits.
///
/// # Errors
/// As [`spectral()`].
pub fn record(
    pass: &mut Pass,
    basis: &Basis,
    function: &Function,
    rows: usize,
    b: &Tensor<f32>,
    x: &mut Tensor<f32>,
) -> Result<()> {
    let spectrum = basis.spectrum();
    let plan = plan(spectrum, function, rows, pass.caps())?;
    fits(spectrum, rows, &[("b", b), ("x", x)])?;
    let [vectors, values] = basis.views();
    pass.run(&plan, &[b.view(), vectors, values], &mut [x.view_mut()])
}

/// Whether tensors have so many rows of the whole's length.
pub(super) fn fits(
    spectrum: &Spectrum,
    rows: usize,
    tensors: &[(&str, &Tensor<f32>)],
) -> Result<()> {
    let expected = rows.checked_mul(spectrum.len()).ok_or(Error::Limit {
        what: "elements of a tensor".into(),
        needed: u64::MAX,
        available: u32::MAX.into(),
        remedy: "cut the rows",
    })?;
    for (name, tensor) in tensors {
        length(OP, name, tensor.len(), expected)?;
    }
    Ok(())
}
