//! Least squares with a Kronecker product of rectangular factors.

use super::{
    super::{
        matrix::{Matrix, Mode, Singular, multiply},
        spectrum::{Combine, Grid},
    },
    OP,
};
use crate::{
    Error, Result,
    error::length,
    gpu::{Caps, Gpu, Tensor},
    kronecker::{
        matmul::{Entries, Factor, Operator, Options, Product, Shape},
        spectral::{Source, scale},
    },
    plan::{Builder, Plan, Slot, Work},
};

/// What keeps small singular values from amplifying noise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Ridge {
    /// s / (s² + μ).
    Damped(f64),
    /// 1 / s where s is more than this times the largest singular value of the whole, else 0: the solution of least norm.
    CutOff(f64),
}

/// min ‖(⊗A_i) x − b‖² + μ ‖x‖², from thin singular value decompositions of the factors in f64.
///
/// ```text
/// A_i = U_i diag(s_i) V_iᵀ        x = V diag(f(Π s_i)) Uᵀ b
/// ```
///
/// The ridge and the cut-off apply to the products of singular values, of which there are Π min(r_i, c_i).
#[derive(Clone, Debug)]
pub struct LeastSquares {
    left: Vec<Matrix>,
    right: Vec<Matrix>,
    values: Vec<f64>,
}

impl LeastSquares {
    /// Decomposes the factors.
    ///
    /// # Errors
    /// `Argument` when a factor is not finite or the ridge is negative; `Limit` when a side exceeds [`MAX_SIDE`](super::super::MAX_SIDE).
    pub fn new(factors: &[Matrix], ridge: Ridge) -> Result<LeastSquares> {
        let (Ridge::Damped(number) | Ridge::CutOff(number)) = ridge;
        if !number.is_finite() || number < 0.0 {
            return Err(Error::Argument {
                op: OP,
                what: "ridge".into(),
                expected: "a finite number of at least 0".into(),
                got: number.to_string(),
            });
        }
        let mut parts = Vec::new();
        for (index, factor) in factors.iter().enumerate() {
            let name = format!("factor {index}");
            factor.check(OP, &name)?;
            parts.push(Singular::new(OP, &name, factor)?);
        }
        let values = parts.iter().map(|part| part.values.as_slice());
        let grid = Grid::new(Combine::Product, values);
        let largest = grid.values().fold(0.0, f64::max);
        let f = |s: f64| match ridge {
            Ridge::Damped(0.0) | Ridge::CutOff(_) if s == 0.0 => 0.0,
            Ridge::Damped(mu) => s / (s * s + mu),
            Ridge::CutOff(least) if s > least * largest => 1.0 / s,
            Ridge::CutOff(_) => 0.0,
        };
        Ok(LeastSquares {
            values: grid.values().map(f).collect(),
            left: parts.iter().map(|part| part.left.clone()).collect(),
            right: parts.into_iter().map(|part| part.right).collect(),
        })
    }

    fn sides(&self) -> [usize; 2] {
        [&self.left, &self.right].map(|each| each.iter().map(|matrix| matrix.rows).product())
    }

    /// x for each row of b, `[rows, Π r_i]` to `[rows, Π c_i]`, on the host in f64.
    ///
    /// # Errors
    /// `Argument` when b does not have so many rows.
    pub fn apply(&self, rows: usize, b: &[f64]) -> Result<Vec<f64>> {
        let [from, _] = self.sides();
        length(OP, "b", b.len(), rows.saturating_mul(from))?;
        let modes = |matrices: &'_ [Matrix], transposed, x: &[f64]| {
            let modes = matrices.iter().map(|matrix| Mode { matrix, transposed });
            multiply(rows, x, &modes.collect::<Vec<_>>())
        };
        let mut basis = modes(&self.left, false, b);
        for row in basis.chunks_exact_mut(self.values.len()) {
            for (x, f) in row.iter_mut().zip(&self.values) {
                *x *= f;
            }
        }
        Ok(modes(&self.right, true, &basis))
    }

    /// x for each row of b on the device, in f32: two products with f in between as a diagonal one.
    ///
    /// # Errors
    /// `Argument` when lengths do not fit; `Limit`, `Shader`, `OutOfMemory`, `Timeout`, `DeviceLost` from the device.
    pub fn solve(
        &self,
        gpu: &Gpu,
        rows: usize,
        b: &Tensor<f32>,
        x: &mut Tensor<f32>,
    ) -> Result<()> {
        let [from, to] = self.sides();
        length(OP, "b", b.len(), rows.saturating_mul(from))?;
        length(OP, "x", x.len(), rows.saturating_mul(to))?;
        let values: Vec<f32> = self.values.iter().map(|x| *x as f32).collect();
        let entries = self.left.iter().chain(&self.right);
        let entries: Vec<f32> = entries.flat_map(|matrix| matrix.rounded()).collect();
        let (values, entries) = (gpu.upload(&values)?, gpu.upload(&entries)?);
        let mut pass = gpu.pass(OP);
        let plan = self.plan(rows, pass.caps())?;
        let inputs = [b.view(), entries.view(), values.view()];
        pass.run(&plan, &inputs, &mut [x.view_mut()])?;
        pass.submit().map(drop)
    }

    /// Plans [`LeastSquares::solve`]. Inputs: b, the singular vectors U then V, one factor after another, and f; output: x.
    ///
    /// # Errors
    /// As [`LeastSquares::solve`], but for those of the device.
    pub fn plan(&self, rows: usize, caps: &Caps) -> Result<Plan> {
        let [slot, values] = [Slot::Input(1), Slot::Input(2)];
        let mut first = 0;
        let mut part = |matrices: &[Matrix]| {
            let entries = matrices.iter().map(|matrix| {
                let own = Entries { slot, first };
                first += matrix.entries.len() as u64;
                own
            });
            let entries: Vec<Entries> = entries.collect();
            let sides = matrices.iter();
            let factors = sides.map(|matrix| Factor::dense(matrix.rows, matrix.columns));
            (Operator::new(factors), entries)
        };
        let (forward, left) = part(&self.left);
        let (back, right) = part(&self.right);
        let back = back.transpose();
        let width = self.values.len() as u64;
        let mut builder = Builder::default();
        let basis = builder.add_scratch(4 * rows as u64 * width);
        let steps = [
            (&forward, &left, [Slot::Input(0), basis]),
            (&back, &right, [basis, Slot::Output(0)]),
        ];
        let mut work = Work::default();
        for (n, (operator, factors, [x, z])) in steps.into_iter().enumerate() {
            let product = Product {
                operator,
                shape: Shape::rows(rows),
                options: Options::default(),
                factors,
                x,
                z,
            };
            product.steps(&mut builder, caps)?;
            work.flops += product.work().flops;
            work.bytes += product.work().bytes;
            if n == 0 {
                let sizes = [rows as u64, width];
                scale(&mut builder, caps, sizes, &Source::Vector(values), basis)?;
            }
        }
        let plan = builder.plan(OP, "least squares".into(), work);
        plan.check(caps)?;
        Ok(plan)
    }
}
