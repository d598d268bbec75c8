//! Gradients of a solution on the device.

use super::{
    super::{
        matmul::{self, Factor, Operator, Options, Shape},
        matrix::Matrix,
        spectral::{Basis, Parts, RowSums, finish, fits, plan as spectral_plan},
        spectrum::{Combine, Function, Spectrum},
    },
    OP, SolveOptions, check,
};
use crate::{
    Error, Result,
    gpu::{Caps, Gpu, Tensor},
    plan::{Builder, Plan, Slot},
};

/// Gradients by factors and noise; the one by b is a tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct FactorGradients {
    /// By the factors, symmetric.
    pub factors: Vec<Matrix>,
    /// By σ².
    pub noise: f64,
}

/// Gradients of Σ `grad_x` · x for the x = (⊗A_i + σ² I)⁻¹ b of [`solve`](super::solve()).
///
/// ```text
/// w = (⊗A_i + σ² I)⁻¹ grad_x        db = w        dA_t = −sym(product of w with all factors but t, against x)        dσ² = −⟨w, x⟩
/// ```
///
/// `grad_b` receives w. Cost: a solution, and the gradients of a product with the factors. Accuracy: that of
/// [`solve`](super::solve()) for w, and 1e-5 relative to the largest entry for the factors where w and x are as good.
///
/// # Errors
/// As [`solve`](super::solve()); `Unsupported` for sums, pencils and factors of which only the eigenvectors are known.
pub fn gradients(
    gpu: &Gpu,
    basis: &Basis,
    noise: f64,
    rows: usize,
    x: &Tensor<f32>,
    grad_x: &Tensor<f32>,
    grad_b: &mut Tensor<f32>,
) -> Result<FactorGradients> {
    let spectrum = basis.spectrum();
    check(spectrum, &SolveOptions::noise(noise))?;
    let factors = factors(spectrum)?;
    fits(
        spectrum,
        rows,
        &[("x", x), ("grad_x", grad_x), ("grad_b", grad_b)],
    )?;
    let caps = gpu.caps();
    let plan = spectral_plan(spectrum, &Function::Inverse(noise), rows, caps)?;
    let [vectors, values] = basis.views();
    let mut pass = gpu.pass(OP);
    let inputs = [grad_x.view(), vectors, values];
    pass.run(&plan, &inputs, &mut [grad_b.view_mut()])?;
    let upload = |factor: &&Matrix| gpu.upload(&factor.rounded());
    let tensors: Vec<Tensor<f32>> = factors.iter().map(upload).collect::<Result<_>>()?;
    let zeros = |factor: &&Matrix| gpu.zeros::<f32>(factor.entries.len());
    let mut grads: Vec<Tensor<f32>> = factors.iter().map(zeros).collect::<Result<_>>()?;
    let parts = Parts::new(spectrum.len());
    let mut dots = gpu.zeros::<f32>((parts.len(rows) as usize).max(1))?;
    if rows > 0 {
        let operator = Operator::new(factors.iter().map(|f| Factor::dense(f.rows, f.columns)));
        let mut unused = gpu.zeros::<f32>(grad_b.len())?;
        matmul::record_gradients(
            &mut pass,
            &operator,
            &Shape::rows(rows),
            &Options::default(),
            &tensors.iter().collect::<Vec<_>>(),
            grad_b,
            x,
            &mut unused,
            &mut grads.iter_mut().collect::<Vec<_>>(),
        )?;
        let plan = dots_plan(spectrum.len(), rows, caps)?;
        pass.run(&plan, &[grad_b.view(), x.view()], &mut [dots.view_mut()])?;
    }
    pass.submit()?;
    let symmetric = |grad: &Tensor<f32>, factor: &&Matrix| -> Result<Matrix> {
        let entries = grad.download()?.into_iter().map(f64::from).collect();
        let n = factor.rows;
        let grad = Matrix::new(n, n, entries)?;
        Ok(Matrix::of(n, n, |i, j| {
            -0.5 * (grad.at(i, j) + grad.at(j, i))
        }))
    };
    let each = grads.iter().zip(&factors);
    Ok(FactorGradients {
        factors: each
            .map(|(grad, factor)| symmetric(grad, factor))
            .collect::<Result<_>>()?,
        noise: -finish(&dots.download()?, parts).iter().sum::<f64>(),
    })
}

/// The factors of a product that is differentiated.
pub(super) fn factors(spectrum: &Spectrum) -> Result<Vec<&Matrix>> {
    match (spectrum.combine(), spectrum.plain_factors()) {
        (Combine::Product, Some(factors)) => Ok(factors),
        _ => Err(Error::Unsupported {
            op: OP,
            what: "gradients of anything but a product of factors without metrics".into(),
        }),
    }
}

/// Plans Σ a b over each row, in parts that the host adds in f64. Inputs: a, b; output: the partial sums.
///
/// # Errors
/// `Limit` when a row exceeds a binding.
pub fn dots_plan(width: usize, rows: usize, caps: &Caps) -> Result<Plan> {
    let mut builder = Builder::default();
    let [a, b] = [Slot::Input(0), Slot::Input(1)];
    RowSums::dots([a, b], (Slot::Output(0), 0)).steps(&mut builder, caps, width, rows)?;
    let plan = builder.plan(OP, "products of rows".into(), Default::default());
    plan.check(caps)?;
    Ok(plan)
}
