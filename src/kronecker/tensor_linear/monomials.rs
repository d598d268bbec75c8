//! Monomials in graded order, and the tables that kernels read.

use std::collections::HashMap;

use super::minimax::Polynomial;

/// The monomials of so many variables up to a degree, by degree; each but the first is a parent times a variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Variables D.
    pub variables: usize,
    /// The highest degree g.
    pub degree: usize,
    /// The place of the parent, and the variable, which is at least each of the parent's; for every monomial but the first.
    pub steps: Vec<(usize, usize)>,
}

/// C(variables + degree, degree): how many monomials there are; saturates.
pub fn rank(variables: usize, degree: usize) -> usize {
    let mut rank = 1u128;
    for n in 1..=degree as u128 {
        // Each quotient is a binomial coefficient, so it is whole.
        rank = (rank * (variables as u128 + n) / n).min(u128::from(u64::MAX));
    }
    usize::try_from(rank).unwrap_or(usize::MAX)
}

impl Table {
    /// The table, of [`rank`] monomials.
    pub fn new(variables: usize, degree: usize) -> Table {
        let mut steps = Vec::new();
        // Places and last variables of the monomials of one degree.
        let mut level = vec![(0usize, 0usize)];
        for _ in 0..degree {
            let mut next = Vec::new();
            for (place, last) in level {
                for variable in last..variables {
                    steps.push((place, variable));
                    next.push((steps.len(), variable));
                }
            }
            level = next;
        }
        Table {
            variables,
            degree,
            steps,
        }
    }

    /// Monomials.
    pub fn rank(&self) -> usize {
        self.steps.len() + 1
    }

    /// The values of all monomials of a row: one multiplication each.
    pub fn values(&self, row: &[f64]) -> Vec<f64> {
        let mut values = vec![1.0];
        for (parent, variable) in &self.steps {
            let both = values.get(*parent).zip(row.get(*variable));
            values.push(both.map_or(0.0, |(parent, x)| parent * x));
        }
        values
    }

    /// What a row gets from the gradient of its monomials.
    pub fn adjoint(&self, row: &[f64], grad: &[f64]) -> Vec<f64> {
        let values = self.values(row);
        let mut grad = grad.to_vec();
        let mut slope = vec![0.0; row.len()];
        for (place, (parent, variable)) in self.steps.iter().enumerate().rev() {
            let own = grad.get(place + 1).copied().unwrap_or(0.0);
            if let Some((x, value)) = row.get(*variable).zip(values.get(*parent)) {
                if let Some(slot) = grad.get_mut(*parent) {
                    *slot += own * x;
                }
                if let Some(slot) = slope.get_mut(*variable) {
                    *slot += own * value;
                }
            }
        }
        slope
    }

    /// The variables of every monomial, in ascending order.
    pub fn variables_of(&self) -> Vec<Vec<usize>> {
        let mut all: Vec<Vec<usize>> = vec![Vec::new()];
        for (parent, variable) in &self.steps {
            let mut own = all.get(*parent).cloned().unwrap_or_default();
            own.push(*variable);
            all.push(own);
        }
        all
    }

    /// a! / Π α! of every monomial of degree a with exponents α: how often it occurs in (x_1 + … + x_D)^a.
    pub fn multinomials(&self) -> Vec<f64> {
        let mut found = vec![1.0];
        for (variables, (parent, variable)) in self.variables_of().iter().skip(1).zip(&self.steps) {
            let own = variables.iter().filter(|other| *other == variable).count();
            let parent = found.get(*parent).copied().unwrap_or(0.0);
            found.push(parent * variables.len() as f64 / own as f64);
        }
        found
    }
}

/// The middle of what logits of a key head's queries can be, by column, times the scale; and the tables made of them.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Centre {
    /// `[key heads, variables]`, f32.
    pub middle: Vec<u32>,
    /// c_a C(a, degree) at `[degree, a]`, f32.
    pub binomials: Vec<u32>,
}

/// A polynomial of logits as features: tables for kernels.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Monomials {
    pub degree: u32,
    pub rank: usize,
    /// Monomials of lower degree than the highest.
    pub lower: usize,
    /// `[rank, degree]`: variables, or the number of variables where there are fewer.
    pub terms: Vec<u32>,
    /// `[lower, variables]`: the place of the monomial times the variable, and in the top byte its exponent.
    pub ups: Vec<u32>,
    /// f32, of each monomial.
    pub query_weights: Vec<u32>,
    pub key_weights: Vec<u32>,
    pub centre: Option<Centre>,
}

/// Weights of the queries' monomials: multinomial · scale^degree, and the polynomial's coefficient unless queries are centred.
pub(super) fn query_weights(
    table: &Table,
    polynomial: &Polynomial,
    scale: f64,
    centred: bool,
) -> Vec<f64> {
    let degrees = table.variables_of().into_iter().map(|own| own.len());
    let weights = table.multinomials().into_iter().zip(degrees);
    weights
        .map(|(multinomial, degree)| {
            let own = polynomial.coefficients.get(degree).copied();
            let coefficient = if centred { 1.0 } else { own.unwrap_or(0.0) };
            multinomial * scale.powi(degree as i32) * coefficient
        })
        .collect()
}

/// Coefficients of p(s - c) in powers of s.
pub(super) fn shifted(polynomial: &Polynomial, c: f64) -> Vec<f64> {
    let degree = polynomial.coefficients.len().saturating_sub(1);
    let at = |power: usize| {
        let terms = polynomial.coefficients.iter().enumerate().skip(power);
        let each = terms.map(|(a, own)| own * binomial(a, power) * (-c).powi((a - power) as i32));
        each.sum()
    };
    (0..=degree).map(at).collect()
}

/// a over b.
fn binomial(a: usize, b: usize) -> f64 {
    (1..=b).fold(1.0, |product, n| product * (a + 1 - n) as f64 / n as f64)
}

pub(super) fn words(values: impl IntoIterator<Item = f64>) -> Vec<u32> {
    let each = values.into_iter();
    each.map(|value| (value as f32).to_bits()).collect()
}

impl Monomials {
    /// The tables of a polynomial of scale times a logit; `middles` where queries are centred.
    pub fn new(
        table: &Table,
        polynomial: &Polynomial,
        scale: f64,
        middles: Option<&[f64]>,
    ) -> Monomials {
        let all = table.variables_of();
        let places: HashMap<&Vec<usize>, usize> =
            all.iter().enumerate().map(|(n, own)| (own, n)).collect();
        let none = table.variables;
        let terms = all.iter().flat_map(|own| {
            let rest = std::iter::repeat_n(none, table.degree - own.len());
            own.iter()
                .copied()
                .chain(rest)
                .map(|variable| variable as u32)
        });
        let lower: Vec<&Vec<usize>> = all.iter().filter(|own| own.len() < table.degree).collect();
        let ups = lower.iter().flat_map(|own| {
            let places = &places;
            (0..table.variables).map(move |variable| {
                let mut up = (*own).clone();
                up.push(variable);
                up.sort_unstable();
                let exponent = up.iter().filter(|other| **other == variable).count();
                let place = places.get(&up).copied().unwrap_or(0);
                place as u32 | (exponent as u32) << 24
            })
        });
        let degree = table.degree;
        let binomials = (0..=degree).flat_map(|power| {
            let own = polynomial.coefficients.iter().enumerate();
            own.map(move |(a, c)| {
                if a < power {
                    0.0
                } else {
                    c * binomial(a, power)
                }
            })
        });
        Monomials {
            degree: degree as u32,
            rank: table.rank(),
            lower: lower.len(),
            ups: ups.collect(),
            terms: terms.collect(),
            query_weights: words(query_weights(table, polynomial, scale, middles.is_some())),
            key_weights: words(std::iter::repeat_n(1.0, table.rank())),
            centre: middles.map(|middles| Centre {
                middle: words(middles.iter().copied()),
                binomials: words(binomials),
            }),
        }
    }
}
