//! Eigenvalues and eigenvectors of Kronecker products and sums of symmetric factors, from those of the factors.
//!
//! ```text
//! A = ⊗_i A_i                        λ = Π_i λ_i        Combine::Product
//! A = Σ_i C_0 ⊗ … ⊗ A_i ⊗ … ⊗ C_k     λ = Σ_i λ_i        Combine::Sum
//! A_i v = λ_i C_i v,  V_iᵀ C_i V_i = I,  V = ⊗_i V_i,  C = ⊗_i C_i        C_i = I unless metrics are given
//! (A + c C)⁻¹ = V diag(1 / (λ + c)) Vᵀ        f(A) = V f(λ) Vᵀ
//! ```
//!
//! Factors are decomposed on the host in f64, once; whatever has as many numbers as the whole matrix has rows is for the device, in
//! f32. With C ≠ I a function of the spectrum is V f(λ) Vᵀ, which is the inverse of A + c C for 1 / (λ + c) and f(C⁻¹ A) C⁻¹
//! in general.

mod function;
mod grid;
mod scalars;
mod scale;

#[cfg(doc)]
use super::matrix::MAX_SIDE;
use super::matrix::{Matrix, Mode, Pencil, eigen, multiply};
use crate::{Error, Result};

pub use function::Function;
pub(crate) use function::{Form, Rounded, tables};
pub(crate) use grid::{Grid, pairwise};
pub(crate) use scale::{Scale, Shifted};

pub(super) const OP: &str = "kron_spectral";

/// The most eigenvalues of a whole.
pub const MAX_EIGENVALUES: u64 = 1 << 36;

/// How eigenvalues of factors make one of the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Combine {
    /// A Kronecker product.
    Product,
    /// A Kronecker sum.
    Sum,
}

impl Combine {
    fn of(self, a: f64, b: f64) -> f64 {
        match self {
            Combine::Product => a * b,
            Combine::Sum => a + b,
        }
    }

    fn neutral(self) -> f64 {
        match self {
            Combine::Product => 1.0,
            Combine::Sum => 0.0,
        }
    }
}

/// One factor, decomposed.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    values: Vec<f64>,
    vectors: Matrix,
    factor: Option<Matrix>,
    metric: Option<Metric>,
}

/// C of a pencil.
#[derive(Clone, Debug, PartialEq)]
struct Metric {
    matrix: Matrix,
    logdet: f64,
    /// Least and largest eigenvalue.
    spread: [f64; 2],
    /// ‖A_i‖₂.
    norm: f64,
}

impl Axis {
    /// From eigenvalues and orthonormal eigenvectors, columns of a matrix, that the caller knows.
    ///
    /// # Errors
    /// `Argument` when their sizes differ or a number is not finite; `Limit` when the side exceeds [`MAX_SIDE`].
    pub fn new(values: Vec<f64>, vectors: Matrix) -> Result<Axis> {
        vectors.check_square(OP, "vectors")?;
        if values.len() != vectors.rows || !values.iter().all(|x| x.is_finite()) {
            return Err(Error::Argument {
                op: OP,
                what: "values".into(),
                expected: format!("{} finite numbers, one for each vector", vectors.rows),
                got: format!("{} numbers", values.len()),
            });
        }
        Ok(Axis {
            values,
            vectors,
            factor: None,
            metric: None,
        })
    }

    /// [`Axis::new`] with the factor itself.
    pub(crate) fn known(values: Vec<f64>, vectors: Matrix, factor: Matrix) -> Result<Axis> {
        let axis = Axis::new(values, vectors)?;
        Ok(Axis {
            factor: Some(factor),
            ..axis
        })
    }

    fn symmetric(index: usize, factor: &Matrix) -> Result<Axis> {
        let name = format!("factor {index}");
        let factor = factor.symmetric(OP, &name)?;
        let (values, vectors) = eigen(OP, &name, &factor)?;
        Ok(Axis {
            values,
            vectors,
            factor: Some(factor),
            metric: None,
        })
    }

    fn pencil(index: usize, factor: &Matrix, metric: &Matrix) -> Result<Axis> {
        let name = format!("factor {index}");
        let factor = factor.symmetric(OP, &name)?;
        let matrix = metric.symmetric(OP, &format!("the metric of {name}"))?;
        if matrix.rows != factor.rows {
            return Err(Error::Argument {
                op: OP,
                what: format!("the metric of {name}"),
                expected: format!("{0} x {0} like the factor", factor.rows),
                got: format!("{0} x {0}", matrix.rows),
            });
        }
        let pencil = Pencil::new(OP, &name, &factor, &matrix)?;
        let (own, _) = eigen(OP, &name, &factor)?;
        let metric = Metric {
            matrix,
            logdet: pencil.logdet,
            spread: pencil.spread,
            norm: largest(&own),
        };
        Ok(Axis {
            values: pencil.values,
            vectors: pencil.vectors,
            factor: Some(factor),
            metric: Some(metric),
        })
    }

    /// The side of the factor.
    pub fn side(&self) -> usize {
        self.values.len()
    }

    /// Its eigenvalues.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// Its eigenvectors, columns in the order of the values.
    pub fn vectors(&self) -> &Matrix {
        &self.vectors
    }

    /// Its least and largest eigenvalue.
    pub(crate) fn range(&self) -> [f64; 2] {
        let each = self.values.iter().copied();
        [
            each.clone().fold(f64::INFINITY, f64::min),
            each.fold(f64::NEG_INFINITY, f64::max),
        ]
    }
}

fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |most, x| most.max(x.abs()))
}

/// A whole, decomposed: built once, used for any number of functions of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Spectrum {
    axes: Vec<Axis>,
    combine: Combine,
    scale: Scale,
    grid: Grid,
}

impl Spectrum {
    /// Of axes that are decomposed already.
    ///
    /// # Errors
    /// `Limit` when there are more than [`MAX_EIGENVALUES`].
    pub fn new(axes: Vec<Axis>, combine: Combine) -> Result<Spectrum> {
        let sides = axes.iter().map(|axis| axis.side() as u64);
        let count = sides.fold(1u64, |count, side| count.saturating_mul(side));
        if count > MAX_EIGENVALUES {
            return Err(Error::Limit {
                what: "eigenvalues of the whole".into(),
                needed: count,
                available: MAX_EIGENVALUES,
                remedy: "use fewer or smaller factors",
            });
        }
        let norms = axes.iter().map(|axis| largest(&axis.values));
        let scale = match combine {
            Combine::Product => norms
                .map(Scale::of)
                .fold(Scale::ONE, |scale, norm| scale.times(norm)),
            Combine::Sum => Scale::of(norms.sum()),
        };
        let scaled: Vec<Vec<f64>> = (axes.iter())
            .map(|axis| {
                let own = match combine {
                    Combine::Product => largest(&axis.values),
                    Combine::Sum => scale.value(),
                };
                let over = |x: &f64| if *x == 0.0 { 0.0 } else { x / own };
                axis.values.iter().map(over).collect()
            })
            .collect();
        let grid = Grid::new(combine, scaled.iter().map(Vec::as_slice));
        Ok(Spectrum {
            axes,
            combine,
            scale,
            grid,
        })
    }

    /// Of the Kronecker product of symmetric factors, the first the slowest digit of the index.
    ///
    /// Cost: Σ n_i³ on the host. Eigenvalues are absolute to n ε ‖A_i‖; those of diagonal factors are exact.
    ///
    /// # Errors
    /// `Numeric` when a factor is not symmetric, named by its number; `Argument` when one is not square or not finite; `Limit` when
    /// a side exceeds [`MAX_SIDE`] or the whole [`MAX_EIGENVALUES`].
    pub fn product(factors: &[Matrix]) -> Result<Spectrum> {
        Spectrum::symmetric(factors, Combine::Product)
    }

    /// Of the Kronecker sum Σ_i I ⊗ … ⊗ A_i ⊗ … ⊗ I of symmetric factors.
    ///
    /// # Errors
    /// As [`Spectrum::product`].
    pub fn sum(factors: &[Matrix]) -> Result<Spectrum> {
        Spectrum::symmetric(factors, Combine::Sum)
    }

    fn symmetric(factors: &[Matrix], combine: Combine) -> Result<Spectrum> {
        let axes = factors.iter().enumerate();
        let axes = axes.map(|(index, factor)| Axis::symmetric(index, factor));
        Spectrum::new(axes.collect::<Result<_>>()?, combine)
    }

    /// Of pencils (A_i, C_i) with C_i positive definite: ⊗A_i + c ⊗C_i with [`Combine::Product`], and
    /// Σ_i C_0 ⊗ … ⊗ A_i ⊗ … ⊗ C_k + c ⊗C_i, the equations of Sylvester and Lyapunov, with [`Combine::Sum`].
    ///
    /// # Errors
    /// As [`Spectrum::product`]; `Numeric` when a C_i is not positive definite; `Argument` when the numbers of factors differ.
    pub fn pencil(factors: &[Matrix], metrics: &[Matrix], combine: Combine) -> Result<Spectrum> {
        if factors.len() != metrics.len() {
            return Err(Error::Argument {
                op: OP,
                what: "metrics".into(),
                expected: format!("{}, one for each factor", factors.len()),
                got: metrics.len().to_string(),
            });
        }
        let axes = factors.iter().zip(metrics).enumerate();
        let axes = axes.map(|(index, (factor, metric))| Axis::pencil(index, factor, metric));
        Spectrum::new(axes.collect::<Result<_>>()?, combine)
    }

    /// The factors, the slowest digit first.
    pub fn axes(&self) -> &[Axis] {
        &self.axes
    }

    /// Product or sum.
    pub fn combine(&self) -> Combine {
        self.combine
    }

    /// Rows of the whole.
    #[allow(
        clippy::len_without_is_empty,
        reason = "a whole has at least one row, nobody asks"
    )]
    pub fn len(&self) -> usize {
        self.axes.iter().map(Axis::side).product()
    }

    /// All eigenvalues, in the order of the index; as many as the whole has rows.
    pub fn eigenvalues(&self) -> impl Iterator<Item = f64> + '_ {
        let scale = self.scale;
        self.grid
            .values()
            .map(move |x| Scale::of(x).times(scale).value())
    }

    pub(crate) fn grid(&self) -> &Grid {
        &self.grid
    }

    pub(crate) fn shifted(&self, c: f64) -> Shifted {
        Shifted::new(self.scale, c)
    }

    pub(crate) fn scale(&self) -> Scale {
        self.scale
    }

    /// Vᵀ x for each row, on the host in f64.
    pub fn analyse(&self, rows: usize, x: &[f64]) -> Vec<f64> {
        multiply(rows, x, &self.modes(false))
    }

    /// V x for each row, on the host in f64.
    pub fn synthesise(&self, rows: usize, x: &[f64]) -> Vec<f64> {
        multiply(rows, x, &self.modes(true))
    }

    fn modes(&self, transposed: bool) -> Vec<Mode<'_>> {
        let each = self.axes.iter().map(|axis| Mode {
            matrix: &axis.vectors,
            transposed,
        });
        each.collect()
    }

    /// With eigenvalues that are below 0 by no more than 1e-10 of the largest of their factor at 0.
    ///
    /// # Errors
    /// `Numeric` when a factor has lower ones, named by its number.
    pub fn semidefinite(&self) -> Result<Spectrum> {
        let mut axes = self.axes.clone();
        for (index, axis) in axes.iter_mut().enumerate() {
            let [least, most] = axis.range();
            if least < -1e-10 * most.max(-least) {
                return Err(Error::Numeric {
                    op: OP,
                    what: format!(
                        "factor {index} is not positive semidefinite: its eigenvalues reach from {least:.3e} to {most:.3e}"
                    ),
                });
            }
            for value in &mut axis.values {
                *value = value.max(0.0);
            }
        }
        Spectrum::new(axes, self.combine)
    }

    /// The factors, where all are known and none has a metric.
    pub(crate) fn plain_factors(&self) -> Option<Vec<&Matrix>> {
        let each = self.axes.iter().map(|axis| match axis.metric {
            None => axis.factor.as_ref(),
            Some(_) => None,
        });
        each.collect()
    }

    /// (A + c C) x for each row, on the host in f64, by the factors themselves.
    ///
    /// # Errors
    /// `Unsupported` where an axis was made of eigenvectors, which tell no factor.
    pub fn multiply(&self, c: f64, rows: usize, x: &[f64]) -> Result<Vec<f64>> {
        let missing = || Error::Unsupported {
            op: OP,
            what: "products with a factor of which only the eigenvectors are known".into(),
        };
        let factors = self.axes.iter().map(|axis| axis.factor.as_ref());
        let factors: Vec<&Matrix> = factors.collect::<Option<_>>().ok_or_else(missing)?;
        let identities: Vec<Matrix> = (self.axes.iter())
            .map(|axis| match &axis.metric {
                Some(metric) => metric.matrix.clone(),
                None => Matrix::identity(axis.side()),
            })
            .collect();
        let own = |matrices: &[&Matrix]| {
            let modes = matrices.iter().map(|matrix| Mode {
                matrix,
                transposed: false,
            });
            multiply(rows, x, &modes.collect::<Vec<_>>())
        };
        let metrics: Vec<&Matrix> = identities.iter().collect();
        let mut sum: Vec<f64> = if c == 0.0 {
            vec![0.0; x.len()]
        } else {
            own(&metrics).into_iter().map(|x| c * x).collect()
        };
        let mut add = |term: Vec<f64>| {
            for (sum, term) in sum.iter_mut().zip(term) {
                *sum += term;
            }
        };
        match self.combine {
            Combine::Product => add(own(&factors)),
            Combine::Sum => {
                for (index, factor) in factors.iter().enumerate() {
                    let mut matrices = metrics.clone();
                    if let Some(matrix) = matrices.get_mut(index) {
                        *matrix = factor;
                    }
                    add(own(&matrices));
                }
            }
        }
        Ok(sum)
    }

    /// f(A) b for each row, V f(λ) Vᵀ b, on the host in f64: the reference of [`spectral()`](super::spectral()).
    ///
    /// # Errors
    /// As [`Function::check`]; `Argument` when b does not have `rows` rows.
    pub fn apply(&self, function: &Function, rows: usize, b: &[f64]) -> Result<Vec<f64>> {
        crate::error::length(OP, "b", b.len(), rows.saturating_mul(self.len()))?;
        function.check(self)?;
        let mut basis = self.analyse(rows, b);
        let values: Vec<f64> = function.values(self);
        for row in basis.chunks_exact_mut(self.len()) {
            for (x, f) in row.iter_mut().zip(&values) {
                *x *= f;
            }
        }
        Ok(self.synthesise(rows, &basis))
    }
}
