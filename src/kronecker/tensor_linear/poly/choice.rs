//! Which polynomial: the first whose certificate is good enough.

use super::{Degree, MAX_DEGREE, Options, Report};
use crate::{
    Error, Result,
    kronecker::tensor_linear::{
        cpu,
        extent::{Bounds, Extent},
        minimax::Polynomial,
        monomials::{Monomials, Table, rank},
        shape::{OP, Shape, wrong},
    },
};

/// Half a unit in the last place of numbers near 1.
const U: f64 = 1.0 / (1u64 << 24) as f64;

/// The polynomial that a call uses, and what is known of its error.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// The polynomial.
    pub polynomial: Polynomial,
    /// What the bounds are.
    pub bounds: Bounds,
    /// Features.
    pub rank: usize,
    /// The most that an output may differ from softmax attention: ε/(1 − ε) V* is proved, the part of rounding an estimate; infinite
    /// where ε is not below 1.
    pub certificate: f64,
    /// The centres, where queries are centred.
    middles: Option<Vec<f64>>,
}

impl Choice {
    pub(super) fn report(&self) -> Report {
        Report {
            degree: self.polynomial.coefficients.len().saturating_sub(1),
            rank: self.rank,
            bounds: self.bounds,
            epsilon: self.polynomial.epsilon,
            certificate: self.certificate,
            exact: false,
            probe: None,
        }
    }

    /// As the reference takes it.
    pub fn weights(&self) -> cpu::Weights {
        cpu::Weights {
            polynomial: self.polynomial.clone(),
            middles: self.middles.clone(),
        }
    }

    pub(super) fn monomials(&self, shape: &Shape, scale: f32) -> Monomials {
        let table = Table::new(
            shape.key,
            self.polynomial.coefficients.len().saturating_sub(1),
        );
        let middles = self.middles.as_deref();
        Monomials::new(&table, &self.polynomial, scale.into(), middles)
    }
}

/// |õ − o| ≤ ε/(1 − ε) V* + (Σ log2 T_s + log2 r + 4 g + 8) u A 2 V*, A = Σ |c_a| ρ^a / ((1 − ε) e^−R), ρ what features reach.
fn certificate(shape: &Shape, polynomial: &Polynomial, bounds: &Bounds, rank: usize) -> f64 {
    let epsilon = polynomial.epsilon;
    if epsilon.is_nan() || epsilon >= 1.0 {
        return f64::INFINITY;
    }
    let log = |n: usize| (n.max(1) as f64).log2();
    let long: f64 = shape.keys.iter().map(|keys| log(*keys)).sum();
    let degree = polynomial.coefficients.len().saturating_sub(1) as f64;
    // Powers of s - c are made of powers of s, |s| <= R + |c|, and of c.
    let reach = bounds.logits + 2.0 * bounds.centre;
    let terms = polynomial.magnitude(reach) / ((1.0 - epsilon) * (-bounds.logits).exp());
    let rounding = (long + log(rank) + 4.0 * degree + 8.0) * U * terms * 2.0 * bounds.value;
    epsilon / (1.0 - epsilon) * bounds.value + rounding
}

/// Chooses the polynomial for tensors of an extent; `extent` may be absent where the options have bounds.
///
/// # Errors
/// `Argument` when sizes or options make no sense; `Unsupported` when entries are too large for the tolerance, or for the degree.
pub fn choose(shape: &Shape, options: &Options, extent: Option<&Extent>) -> Result<Choice> {
    options.check(shape)?;
    let measured = extent.map(|extent| extent.bounds(options.scale, options.center));
    let Some(bounds) = options.bounds.or(measured) else {
        return wrong("bounds", "given, or measured".into(), "none".into());
    };
    let centred = extent.filter(|_| options.center);
    let middles = centred.map(|extent| extent.middles(options.scale));
    let of = |degree: usize| {
        let polynomial = Polynomial::nearest_exp(degree, bounds.logits);
        let rank = rank(shape.key, degree);
        Choice {
            certificate: certificate(shape, &polynomial, &bounds, rank),
            polynomial,
            bounds,
            rank,
            middles: None,
        }
    };
    let mut best: Option<Choice> = None;
    let degrees = match options.degree {
        Degree::Fixed(degree) => degree..=degree,
        Degree::Within(_) => 1..=MAX_DEGREE,
    };
    for degree in degrees {
        if rank(shape.key, degree) > options.max_rank {
            break;
        }
        let choice = of(degree);
        let enough = match options.degree {
            Degree::Fixed(_) => choice.certificate.is_finite(),
            Degree::Within(tolerance) => choice.certificate <= tolerance,
        };
        if enough {
            return Ok(Choice { middles, ..choice });
        }
        if best
            .as_ref()
            .is_none_or(|best| choice.certificate < best.certificate)
        {
            best = Some(choice);
        }
    }
    let Some(best) = best else {
        let lowest = match options.degree {
            Degree::Fixed(degree) => degree,
            Degree::Within(_) => 1,
        };
        let expected = format!(
            "at least {} for degree {lowest} in {} variables",
            rank(shape.key, lowest),
            shape.key
        );
        return wrong("max_rank", expected, options.max_rank.to_string());
    };
    let what = format!(
        "a polynomial for entries this large: logits reach {:.3}, and the best certificate within {} features is {:.2e}; use \
         smaller entries or scale, a larger tolerance or max_rank, or exact attention",
        bounds.logits, options.max_rank, best.certificate
    );
    Err(Error::Unsupported { op: OP, what })
}
