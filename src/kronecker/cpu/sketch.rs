//! Sketches and random projections in f64, on the draws of the same streams.

use super::{butterfly, real};
use crate::{
    Result,
    error::length,
    kronecker::{
        butterfly::{Factors, Shape},
        fastfood,
        srht::{OP as SRHT, Shape as SrhtShape},
        tensor_srht::{Columns, OP, Shape as TensorShape, drawn, padded_bits, streams},
    },
    random::Random,
};

/// H x for x `[outer, 2^bits, inner]`, H of ±1.
pub(super) fn unscaled(shape: &Shape, x: &[f64]) -> Result<Vec<f64>> {
    let factors = [1.0, 1.0, 1.0, -1.0].repeat(shape.bits);
    butterfly(shape, Factors::Shared, &factors, x, real)
}

/// [`tensor_srht()`](crate::kronecker::tensor_srht()) in f64, with the sums of the absolute values of every element's terms.
///
/// # Errors
/// `Argument` when sizes do not fit together.
pub fn tensor_srht(shape: &TensorShape, random: &Random, factors: &[Vec<f64>]) -> Result<Vec<f64>> {
    shape.check(OP)?;
    length(OP, "factors", factors.len(), shape.factors.len())?;
    let scale = 1.0 / (shape.samples as f64).sqrt();
    let mut product = vec![vec![scale]; shape.samples];
    for (t, (factor, [n, d])) in factors.iter().zip(&shape.factors).enumerate() {
        length(OP, &format!("factor {t}"), factor.len(), n * d)?;
        let [signs, rows] = streams(random, t);
        let bits = padded_bits(*n);
        let mut x: Vec<f64> = Vec::new();
        for (i, row) in factor.chunks_exact(*d).enumerate() {
            x.extend(row.iter().map(|x| signs.sign(i as u64) * x));
        }
        x.resize(d << bits, 0.0);
        let items = Shape {
            outer: 1,
            bits,
            inner: *d,
        };
        let y = unscaled(&items, &x)?;
        for (r, left) in product.iter_mut().enumerate() {
            let own = y.chunks_exact(*d).nth(drawn(&rows, r as u64, bits));
            let own = own.unwrap_or_default();
            *left = match shape.columns {
                Columns::Kronecker => left
                    .iter()
                    .flat_map(|left| own.iter().map(move |own| left * own))
                    .collect(),
                Columns::KhatriRao => {
                    let left = left.iter().cycle();
                    own.iter().zip(left).map(|(own, left)| own * left).collect()
                }
            };
        }
    }
    Ok(product.into_iter().flatten().collect())
}

/// [`srht()`](crate::kronecker::srht()) in f64.
///
/// # Errors
/// `Argument` when sizes do not fit together.
pub fn srht(shape: &SrhtShape, random: &Random, a: &[f64]) -> Result<Vec<f64>> {
    tensor_srht(&shape.tensor(), random, &[a.to_vec()])
}

/// [`adjoint`](crate::kronecker::srht_adjoint) in f64.
///
/// # Errors
/// `Argument` when sizes do not fit together.
pub fn srht_adjoint(shape: &SrhtShape, random: &Random, y: &[f64]) -> Result<Vec<f64>> {
    shape.check()?;
    let SrhtShape {
        rows: n,
        columns,
        samples,
    } = *shape;
    length(SRHT, "y", y.len(), samples * columns)?;
    let [signs, rows] = streams(random, 0);
    let bits = padded_bits(n);
    let mut padded = vec![0.0; columns << bits];
    let scale = 1.0 / (samples as f64).sqrt();
    for (r, y) in y.chunks_exact(columns).enumerate() {
        let row = drawn(&rows, r as u64, bits);
        let to = padded.iter_mut().skip(row * columns);
        for (to, y) in to.zip(y) {
            *to += scale * y;
        }
    }
    let items = Shape {
        outer: 1,
        bits,
        inner: columns,
    };
    let mut x = unscaled(&items, &padded)?;
    x.truncate(n * columns);
    for (i, row) in x.chunks_exact_mut(columns).enumerate() {
        for x in row {
            *x *= signs.sign(i as u64);
        }
    }
    Ok(x)
}

/// [`Fastfood::project`](fastfood::Fastfood::project) in f64, or its transpose.
///
/// # Errors
/// `Argument` when sizes do not fit together.
pub fn fastfood(
    shape: &fastfood::Shape,
    random: &Random,
    vectors: usize,
    adjoint: bool,
    x: &[f64],
) -> Result<Vec<f64>> {
    let numbers = fastfood::Numbers::new(shape, random)?;
    let (block, blocks) = (shape.block(), shape.blocks());
    let signs = random.fork(0);
    let items = Shape {
        outer: blocks,
        bits: block.trailing_zeros() as usize,
        inner: 1,
    };
    let width = block * blocks;
    let sign = |n: usize| signs.sign(n as u64);
    let weight = |t: usize| match &numbers.lengths {
        Some(lengths) => lengths.get(t).copied().unwrap_or(0.0),
        None => 1.0,
    };
    let from = if adjoint { shape.output } else { shape.input };
    length(fastfood::OP, "x", x.len(), vectors * from)?;
    // Pairs of places in the blocks: where the permutation takes its elements from, and the diagonal there.
    let places: Vec<(usize, f64)> = numbers
        .permutation
        .iter()
        .zip(&numbers.gauss)
        .enumerate()
        .map(|(n, (other, g))| (n / block * block + *other as usize, *g))
        .collect();
    let mut out = Vec::new();
    for x in x.chunks_exact(from) {
        let at = |n: usize| x.get(n).copied().unwrap_or(0.0);
        if adjoint {
            let weighed: Vec<f64> = (0..width).map(|t| weight(t) * at(t)).collect();
            let v = unscaled(&items, &weighed)?;
            let mut u = vec![0.0; width];
            for ((from, g), v) in places.iter().zip(v) {
                if let Some(u) = u.get_mut(*from) {
                    *u = g * v;
                }
            }
            let u = unscaled(&items, &u)?;
            let mut sums = vec![0.0; shape.input];
            for (b, u) in u.chunks_exact(block).enumerate() {
                for (i, (sum, u)) in sums.iter_mut().zip(u).enumerate() {
                    *sum += sign(b * block + i) * u;
                }
            }
            out.extend(sums);
        } else {
            let signed: Vec<f64> = (0..width).map(|n| sign(n) * at(n % block)).collect();
            let u = unscaled(&items, &signed)?;
            let mixed: Vec<f64> = places
                .iter()
                .map(|(from, g)| g * u.get(*from).copied().unwrap_or(0.0))
                .collect();
            let y = unscaled(&items, &mixed)?;
            let y = y.into_iter().enumerate().take(shape.output);
            out.extend(y.map(|(t, y)| weight(t) * y));
        }
    }
    Ok(out)
}
