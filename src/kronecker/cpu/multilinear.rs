//! Products with Khatri-Rao products, element by element from their definitions, and transforms of modes as products with matrices.

use crate::{
    Result,
    error::length,
    kronecker::{
        dct::{Kind, Shape as DctShape},
        khatri_rao::{OP, Shape, check_mode},
        matmul::{self, Factor, Operator, Options},
        mttkrp::OP as MTTKRP,
        tucker,
    },
};

/// The digits of an index, the last the fastest.
fn digits(sizes: &[usize], mut at: usize) -> Vec<usize> {
    let mut digits: Vec<usize> = sizes
        .iter()
        .rev()
        .map(|size| {
            let digit = at % size;
            at /= size;
            digit
        })
        .collect();
    digits.reverse();
    digits
}

/// Π A_k\[i_k, t\] over the factors of a list; those of `without` are not in it.
fn weight(
    shape: &Shape,
    factors: &[Vec<f64>],
    without: Option<usize>,
    digits: &[usize],
    t: usize,
) -> f64 {
    let places = digits.iter().enumerate();
    let places = places.filter(|(k, _)| Some(*k) != without);
    let entries = places
        .zip(factors)
        .map(|((_, i), factor)| factor.get(i * shape.rank + t).copied().unwrap_or(f64::NAN));
    entries.product()
}

fn check(
    op: &'static str,
    shape: &Shape,
    factors: &[Vec<f64>],
    without: Option<usize>,
) -> Result<()> {
    shape.check(op)?;
    let count = shape.sizes.len() - usize::from(without.is_some());
    length(op, "factors", factors.len(), count)
}

/// [`khatri_rao()`](crate::kronecker::khatri_rao()) in f64.
///
/// # Errors
/// `Argument` when sizes do not fit together.
pub fn khatri_rao(shape: &Shape, factors: &[Vec<f64>]) -> Result<Vec<f64>> {
    check(OP, shape, factors, None)?;
    let rows: usize = shape.sizes.iter().product();
    let row = |at: usize| {
        let digits = digits(&shape.sizes, at);
        (0..shape.rank).map(move |t| weight(shape, factors, None, &digits, t))
    };
    Ok((0..rows).flat_map(row).collect())
}

/// The gradient of [`khatri_rao`] in a factor.
///
/// # Errors
/// `Argument` when sizes do not fit together.
pub fn khatri_rao_adjoint(
    shape: &Shape,
    factor: usize,
    y: &[f64],
    factors: &[Vec<f64>],
) -> Result<Vec<f64>> {
    check(OP, shape, factors, Some(factor))?;
    check_mode(OP, "factor", shape, factor)?;
    length(OP, "y", y.len(), shape.len())?;
    Ok(gathered(shape, factor, factors, |at, t| {
        y.get(at * shape.rank + t).copied().unwrap_or(f64::NAN)
    }))
}

/// [`mttkrp()`](crate::kronecker::mttkrp()) in f64.
///
/// # Errors
/// `Argument` when sizes do not fit together.
pub fn mttkrp(shape: &Shape, mode: usize, x: &[f64], factors: &[Vec<f64>]) -> Result<Vec<f64>> {
    check(MTTKRP, shape, factors, Some(mode))?;
    check_mode(MTTKRP, "mode", shape, mode)?;
    length(MTTKRP, "x", x.len(), shape.sizes.iter().product())?;
    Ok(gathered(shape, mode, factors, |at, _| {
        x.get(at).copied().unwrap_or(f64::NAN)
    }))
}

/// Sums over all but one mode, weighed by the others' factors.
fn gathered(
    shape: &Shape,
    mode: usize,
    factors: &[Vec<f64>],
    value: impl Fn(usize, usize) -> f64,
) -> Vec<f64> {
    let own = shape.sizes.get(mode).copied().unwrap_or(0);
    let mut sums = vec![0.0; own * shape.rank];
    for at in 0..shape.sizes.iter().product() {
        let digits = digits(&shape.sizes, at);
        let row = digits.get(mode).copied().unwrap_or(0) * shape.rank;
        for (t, sum) in sums.iter_mut().skip(row).take(shape.rank).enumerate() {
            *sum += value(at, t) * weight(shape, factors, Some(mode), &digits, t);
        }
    }
    sums
}

/// The tensor of a canonical polyadic decomposition: the transpose of [`mttkrp`].
///
/// # Errors
/// `Argument` when sizes do not fit together.
pub fn mttkrp_adjoint(shape: &Shape, factors: &[Vec<f64>]) -> Result<Vec<f64>> {
    check(MTTKRP, shape, factors, None)?;
    let element = |at: usize| {
        let digits = digits(&shape.sizes, at);
        let terms = (0..shape.rank).map(|t| weight(shape, factors, None, &digits, t));
        terms.sum()
    };
    Ok((0..shape.sizes.iter().product()).map(element).collect())
}

fn product(operator: &Operator, rows: usize, factors: &[&[f64]], x: &[f64]) -> Result<Vec<f64>> {
    let shape = matmul::Shape::rows(rows);
    super::matmul(operator, &shape, &Options::default(), factors, x, &[])
}

/// [`dct()`](crate::kronecker::dct()) in f64, as a product with the transforms' matrices.
///
/// # Errors
/// `Argument` when sizes do not fit together.
pub fn dct(shape: &DctShape, x: &[f64]) -> Result<Vec<f64>> {
    shape.check()?;
    let matrix = |(n, kind): &(usize, Kind)| kind.adjoint().matrix(*n);
    let matrices: Vec<Vec<f64>> = shape.modes.iter().map(matrix).collect();
    let matrices: Vec<&[f64]> = matrices.iter().map(Vec::as_slice).collect();
    let operator = Operator::new(shape.modes.iter().map(|(n, _)| Factor::dense(*n, *n)));
    product(&operator, shape.rows, &matrices, x)
}

/// [`reconstruct`](tucker::reconstruct) in f64, or [`project`](tucker::project).
///
/// # Errors
/// `Argument` when sizes do not fit together.
pub fn tucker(
    shape: &tucker::Shape,
    reconstruct: bool,
    factors: &[Vec<f64>],
    x: &[f64],
) -> Result<Vec<f64>> {
    let factors: Vec<&[f64]> = factors.iter().map(Vec::as_slice).collect();
    product(&shape.operator(reconstruct), shape.rows, &factors, x)
}
