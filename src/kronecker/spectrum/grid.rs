//! Eigenvalues of the whole from tables of some axes each: as many as are made on the fly.

use rayon::prelude::*;

use super::Combine;

/// The most entries of a table that holds several axes. Any two neighbours exceed it together, so that 2^32 eigenvalues take at
/// most three.
const TABLE: usize = 1 << 16;

/// λ̂[e] = t_0[e / (n_1 n_2)] ∘ t_1[e / n_2 mod n_1] ∘ t_2[e mod n_2], ∘ a product or a sum.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Grid {
    pub tables: [Vec<f64>; 3],
    pub combine: Combine,
}

impl Grid {
    /// Of the axes' values, the slowest first.
    pub fn new<'a>(combine: Combine, axes: impl DoubleEndedIterator<Item = &'a [f64]>) -> Grid {
        let one = vec![combine.neutral()];
        let mut tables: Vec<Vec<f64>> = Vec::new();
        for axis in axes.rev() {
            match tables.last_mut() {
                Some(last) if last.len() * axis.len() <= TABLE => {
                    *last = axis
                        .iter()
                        .flat_map(|a| last.iter().map(|b| combine.of(*a, *b)))
                        .collect();
                }
                _ => tables.push(axis.to_vec()),
            }
        }
        let mut tables = tables.into_iter();
        let mut next = || tables.next().unwrap_or_else(|| one.clone());
        let [last, middle, first] = [next(), next(), next()];
        // What is more than three tables hold is beyond any device and is refused by its size.
        let first = tables.fold(first, |rest, axis| {
            let each = axis
                .iter()
                .flat_map(|a| rest.iter().map(|b| combine.of(*a, *b)));
            each.collect()
        });
        Grid {
            tables: [first, middle, last],
            combine,
        }
    }

    /// All eigenvalues, in order.
    pub fn values(&self) -> impl Iterator<Item = f64> + '_ {
        let [first, middle, last] = &self.tables;
        first.iter().flat_map(move |a| {
            middle.iter().flat_map(move |b| {
                let ab = self.combine.of(*a, *b);
                last.iter().map(move |c| self.combine.of(ab, *c))
            })
        })
    }

    /// Σ term(λ̂), in an order that does not depend on the number of threads.
    pub fn sum(&self, term: impl Fn(f64) -> f64 + Sync) -> f64 {
        let outer = self.outer();
        let [.., last] = &self.tables;
        let sums: Vec<f64> = (outer.par_iter())
            .map(|a| {
                let parts = last.chunks(64).map(|part| {
                    let terms = part.iter().map(|b| term(self.combine.of(*a, *b)));
                    terms.sum::<f64>()
                });
                pairwise(&parts.collect::<Vec<_>>())
            })
            .collect();
        pairwise(&sums)
    }

    /// The least and the largest |at(λ̂)|.
    pub fn extremes(&self, at: impl Fn(f64) -> f64 + Sync) -> [f64; 2] {
        let [.., last] = &self.tables;
        let each = self.outer().into_par_iter().map(|a| {
            last.iter()
                .fold([f64::INFINITY, 0.0f64], |[least, most], b| {
                    let x = at(self.combine.of(a, *b)).abs();
                    [least.min(x), most.max(x)]
                })
        });
        let join = |a: [f64; 2], b: [f64; 2]| [a[0].min(b[0]), a[1].max(b[1])];
        each.reduce(|| [f64::INFINITY, 0.0], join)
    }

    fn outer(&self) -> Vec<f64> {
        let [first, middle, _] = &self.tables;
        let pairs = first
            .iter()
            .flat_map(|a| middle.iter().map(move |b| (a, b)));
        pairs.map(|(a, b)| self.combine.of(*a, *b)).collect()
    }
}

/// A sum by halves.
pub(crate) fn pairwise(x: &[f64]) -> f64 {
    if x.len() <= 8 {
        return x.iter().sum();
    }
    let (left, right) = x.split_at(x.len() / 2);
    pairwise(left) + pairwise(right)
}
