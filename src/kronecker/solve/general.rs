//! Products of square factors that need not be symmetric.

use super::{
    super::matrix::{Elimination, Matrix, Mode, multiply},
    Method, OP, SolveReport, constant,
    report::UNIT,
};
use crate::{
    Error, Result,
    error::length,
    gpu::{Caps, Gpu, Tensor},
    kronecker::matmul::{self, Factor, Operator, Options, Shape},
    plan::Plan,
};

/// A Kronecker product of square factors, each eliminated with partial pivoting in f64.
///
/// ```text
/// log|det| = Σ (N / n_i) log|det A_i|        sign = Π sign(det A_i)^(N / n_i)        condition Π κ₁(A_i)
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct General {
    factors: Vec<Elimination>,
    sides: Vec<usize>,
}

impl General {
    /// Eliminates every factor; a singular one is an error only of a solution.
    ///
    /// # Errors
    /// `Argument` when a factor is not square or not finite, `Limit` when its side exceeds [`MAX_SIDE`](super::super::MAX_SIDE).
    pub fn new(factors: &[Matrix]) -> Result<General> {
        for (index, factor) in factors.iter().enumerate() {
            factor.check_square(OP, &format!("factor {index}"))?;
        }
        Ok(General {
            factors: factors.iter().map(Elimination::new).collect(),
            sides: factors.iter().map(|factor| factor.rows).collect(),
        })
    }

    /// Rows of the whole.
    #[allow(
        clippy::len_without_is_empty,
        reason = "a whole has at least one row, nobody asks"
    )]
    pub fn len(&self) -> usize {
        self.sides.iter().product()
    }

    /// The sign of the determinant, 0 where it is singular, and the logarithm of its absolute value.
    pub fn slogdet(&self) -> (i8, f64) {
        let whole = self.len();
        let (mut sign, mut log) = (1, 0.0);
        for (factor, side) in self.factors.iter().zip(&self.sides) {
            let others = whole / side;
            if factor.sign == 0 {
                return (0, f64::NEG_INFINITY);
            }
            if others % 2 == 1 {
                sign *= factor.sign;
            }
            log += others as f64 * factor.log_det;
        }
        (sign, log)
    }

    /// Π ‖A_i‖₁ ‖A_i⁻¹‖₁, the condition number in the 1-norm.
    pub fn condition(&self) -> f64 {
        self.factors.iter().map(|factor| factor.condition).product()
    }

    fn inverses(&self) -> Result<Vec<&Matrix>> {
        let each = self.factors.iter().enumerate().map(|(index, factor)| {
            factor.inverse.as_ref().ok_or_else(|| Error::Numeric {
                op: OP,
                what: format!("factor {index} is singular"),
            })
        });
        each.collect()
    }

    /// x = (⊗A_i)⁻¹ b for each row of b, on the host in f64.
    ///
    /// # Errors
    /// `Numeric` when a factor is singular, named by its number; `Argument` when b does not have so many rows.
    pub fn apply(&self, rows: usize, b: &[f64]) -> Result<Vec<f64>> {
        length(OP, "b", b.len(), rows.saturating_mul(self.len()))?;
        let inverses = self.inverses()?;
        let modes = inverses.iter().map(|matrix| Mode {
            matrix,
            transposed: true,
        });
        Ok(multiply(rows, b, &modes.collect::<Vec<_>>()))
    }

    /// x = (⊗A_i)⁻¹ b for each row of b, by the inverses of the factors, formed in f64 and rounded to f32.
    ///
    /// The report's error bound is that of the rounding of the inverses and of the products, in the 1-norm's condition number.
    ///
    /// # Errors
    /// As [`General::apply`]; `Limit`, `Shader`, `OutOfMemory`, `Timeout`, `DeviceLost` from the device. With noise such factors have no
    /// solution of this kind: `Unsupported` by [`Spectrum`](super::super::Spectrum), which takes symmetric ones.
    pub fn solve(
        &self,
        gpu: &Gpu,
        rows: usize,
        b: &Tensor<f32>,
        x: &mut Tensor<f32>,
    ) -> Result<SolveReport> {
        let inverses = self.inverses()?;
        let expected = rows.saturating_mul(self.len());
        length(OP, "b", b.len(), expected)?;
        length(OP, "x", x.len(), expected)?;
        let tensors: Vec<Tensor<f32>> = (inverses.iter())
            .map(|inverse| gpu.upload(&inverse.rounded()))
            .collect::<Result<_>>()?;
        let mut pass = gpu.pass(OP);
        let plan = self.plan(rows, pass.caps())?;
        let inputs = std::iter::once(b.view()).chain(tensors.iter().map(Tensor::view));
        pass.run(&plan, &inputs.collect::<Vec<_>>(), &mut [x.view_mut()])?;
        pass.submit()?;
        Ok(self.report())
    }

    /// Plans [`General::solve`]. Inputs: b, then the inverses; output: x.
    ///
    /// # Errors
    /// As [`General::solve`], but for those of the device.
    pub fn plan(&self, rows: usize, caps: &Caps) -> Result<Plan> {
        let factors = self.sides.iter().map(|n| Factor::dense(*n, *n).transpose());
        let operator = Operator::new(factors);
        matmul::plan(&operator, &Shape::rows(rows), &Options::default(), caps)
    }

    /// What a solution is worth, whatever b is.
    pub fn report(&self) -> SolveReport {
        let condition = self.condition();
        SolveReport {
            method: Method::Elimination,
            iterations: 0,
            converged: true,
            residual: None,
            condition,
            error_bound: constant(self.sides.iter().copied()) * UNIT * condition,
            backward_error: None,
        }
    }
}
