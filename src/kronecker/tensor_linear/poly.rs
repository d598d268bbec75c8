//! The polynomial form: softmax attention to a bounded error, in time linear in the number of keys.

use super::{
    Gradients, Inputs, cpu, exact,
    extent::{Bounds, Extent},
    minimax::Polynomial,
    monomials::{Table, rank},
    plan::{Features, Form, Planner},
    shape::{MAX_CAUSAL_RANK, MAX_RANK, Mask, OP, Shape, wrong},
};
use crate::{
    Error, Result,
    error::length,
    gpu::{Caps, Dtype, Elem, Gpu, Tensor},
    plan::Plan,
};

pub(super) use super::monomials::Monomials;

/// The highest degree.
pub const MAX_DEGREE: usize = 16;

/// Queries whose exact outputs a probe computes.
pub const PROBED: usize = 64;

/// The most combinations of keys a probe goes through, all queries together.
const MOST_COMBINATIONS: u64 = 1 << 28;

/// Half a unit in the last place of numbers near 1.
const U: f64 = 1.0 / (1u64 << 24) as f64;

/// Which polynomial.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Degree {
    /// Of this degree, from 1 to [`MAX_DEGREE`].
    Fixed(usize),
    /// Of the smallest degree whose certificate is at most this.
    Within(f64),
}

/// Options of the polynomial form.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Multiplies logits.
    pub scale: f32,
    /// Which keys a query sees.
    pub mask: Mask,
    /// Which polynomial.
    pub degree: Degree,
    /// The most features: C(D + degree, degree) of them are needed.
    pub max_rank: usize,
    /// Whether each query's logits are counted from the middle of what they can be: softmax does not care, and the polynomial has
    /// less to span where keys are not centred themselves.
    pub center: bool,
    /// What logits and values are bounded by, where the caller knows; measured where not. Entries beyond it void the certificate.
    pub bounds: Option<Bounds>,
    /// Whether to compute some exact outputs on the host and compare.
    pub probe: bool,
    /// Whether exact attention, in cubic time, takes over where entries are too large; for two key sets.
    pub exact: bool,
}

impl Options {
    /// Over all keys, of the smallest degree within a tolerance and 1,024 features, bounds measured.
    pub fn within(scale: f32, tolerance: f64) -> Options {
        Options {
            scale,
            mask: Mask::Full,
            degree: Degree::Within(tolerance),
            max_rank: 1024,
            center: false,
            bounds: None,
            probe: false,
            exact: false,
        }
    }

    fn check(&self, shape: &Shape) -> Result<()> {
        shape.check(&self.mask)?;
        if !self.scale.is_finite() {
            return wrong("scale", "a finite number".into(), self.scale.to_string());
        }
        match self.degree {
            Degree::Fixed(degree) if !(1..=MAX_DEGREE).contains(&degree) => {
                let expected = format!("from 1 to {MAX_DEGREE}");
                return wrong("degree", expected, degree.to_string());
            }
            Degree::Within(tolerance) if tolerance.is_nan() || tolerance <= 0.0 => {
                return wrong("tolerance", "more than 0".into(), tolerance.to_string());
            }
            _ => {}
        }
        let most = match self.mask {
            Mask::Full => MAX_RANK,
            _ => MAX_CAUSAL_RANK,
        };
        if !(1..=most).contains(&self.max_rank) {
            let expected = format!("from 1 to {most} under this mask");
            return wrong("max_rank", expected, self.max_rank.to_string());
        }
        if self.exact && shape.sets() != 2 {
            let expected = "false but with two key sets".into();
            return wrong("exact", expected, format!("true with {}", shape.sets()));
        }
        if let Some(bounds) = self.bounds {
            if self.center {
                let expected = "absent with center, which needs the extent of every column";
                return wrong("bounds", expected.into(), format!("{bounds:?}"));
            }
            let Bounds { logits, value, .. } = bounds;
            if !(logits >= 0.0 && value >= 0.0) {
                let expected = "of at least 0".into();
                return wrong("bounds", expected, format!("{bounds:?}"));
            }
        }
        Ok(())
    }
}

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

/// Exact outputs of some queries against those that were computed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Probe {
    /// Queries looked at.
    pub queries: usize,
    /// The greatest difference from softmax attention.
    pub measured: f64,
    /// The greatest difference of uniform attention from softmax attention: with small entries everything looks accurate.
    pub uniform: f64,
}

/// What a call did.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The degree.
    pub degree: usize,
    /// Features.
    pub rank: usize,
    /// What logits and values are bounded by.
    pub bounds: Bounds,
    /// The polynomial's greatest relative error on logits so bounded.
    pub epsilon: f64,
    /// The most that an output may differ from softmax attention.
    pub certificate: f64,
    /// Whether entries were too large and attention was exact: degree, rank, ε and certificate are 0 then.
    pub exact: bool,
    /// Measured errors, where asked for.
    pub probe: Option<Probe>,
}

impl Choice {
    fn report(&self) -> Report {
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

    fn monomials(&self, shape: &Shape, scale: f32) -> Monomials {
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

/// Plans the outputs with a polynomial. Inputs: q, the keys of every set, the values of every set; output: o.
///
/// # Errors
/// `Argument` when sizes or options make no sense; `Limit` when one head exceeds a binding or the scratch budget.
pub fn plan_forward(
    shape: &Shape,
    options: &Options,
    choice: &Choice,
    caps: &Caps,
) -> Result<Plan> {
    let monomials = planned(shape, options, choice)?;
    Planner::new(shape, form(options, &monomials), caps).forward()
}

/// Plans the gradients with a polynomial. Inputs: as [`plan_forward`], then the gradient of o; outputs, in f32: the gradients of q,
/// of the keys of every set, of the values of every set.
///
/// # Errors
/// As [`plan_forward`].
pub fn plan_backward(
    shape: &Shape,
    options: &Options,
    choice: &Choice,
    caps: &Caps,
) -> Result<Plan> {
    let monomials = planned(shape, options, choice)?;
    Planner::new(shape, form(options, &monomials), caps).backward()
}

fn planned(shape: &Shape, options: &Options, choice: &Choice) -> Result<Monomials> {
    options.check(shape)?;
    shape.check_rank(choice.rank, &options.mask)?;
    Ok(choice.monomials(shape, options.scale))
}

fn form<'a>(options: &'a Options, monomials: &'a Monomials) -> Form<'a> {
    Form {
        mask: &options.mask,
        scale: options.scale,
        normalize: Some(0.0),
        features: Features::Monomials(monomials),
    }
}

/// Softmax tensor attention by a polynomial, to a bounded error.
///
/// ```text
/// o_i ≈ Σ p(s − c_i) v1_j1 ∘ … ∘ vm_jm / Σ p(s − c_i)        s = scale ⟨q_i, k1_j1, …, km_jm⟩, c_i = 0 unless centred
/// p minimises max |p(s) e^−s − 1| over |s| <= R;            ⟨q, k1, …⟩^a = Σ_(|α| = a) a!/α! q^α k1^α … km^α
/// ```
///
/// R is bounded by a reduction of the tensors on the device, or given. Features are the C(D + g, g) monomials of degree up to g,
/// whatever the number of key sets: this is the linear form with them. Shapes, storage and masks: those of
/// [`forward`](super::forward()).
///
/// Cost: that of the linear form with as many features; a round trip to the device where bounds are measured, and fitting on the
/// host, some milliseconds a degree tried.
///
/// Accuracy: the report's certificate; it is an error to ask for a tolerance that no polynomial here reaches. Deterministic: two
/// runs are bit-equal.
///
/// # Errors
/// `Unsupported` when entries are too large, with R and the best certificate; else as [`forward`](super::forward()).
///
/// Source: J. Alman and Z. Song, How to Capture Higher-order Correlations? Generalizing Matrix Softmax Attention to Kronecker
/// Computation, 2023.
pub fn forward<T: Elem>(
    gpu: &Gpu,
    shape: &Shape,
    options: &Options,
    inputs: &Inputs<'_, T>,
    o: &mut Tensor<T>,
) -> Result<Report> {
    let chosen = Chosen::new(gpu, shape, options, inputs)?;
    length(OP, "o", o.len(), shape.query_rows() * shape.value)?;
    let mut report = chosen.report();
    match chosen {
        Chosen::Exact(_) => exact::forward(gpu, shape, options, inputs, o)?,
        Chosen::Polynomial(choice) => {
            let plan = plan_forward(shape, options, &choice, gpu.caps())?;
            let mut pass = gpu.pass("tensor_attention poly");
            pass.run(&plan, &inputs.views(), &mut [o.view_mut()])?;
            pass.submit()?;
        }
    }
    if options.probe {
        report.probe = Some(probe(shape, options, inputs, o)?);
    }
    Ok(report)
}

/// Gradients of all inputs from that of o; coefficients and centres are constants. Shapes: those of the inputs, f32 whatever their
/// type.
///
/// Cost and accuracy: as [`backward`](super::backward()) with as many features.
///
/// # Errors
/// As [`forward`].
pub fn backward<T: Elem>(
    gpu: &Gpu,
    shape: &Shape,
    options: &Options,
    inputs: &Inputs<'_, T>,
    grad_o: &Tensor<T>,
    gradients: Gradients<'_>,
) -> Result<Report> {
    let chosen = Chosen::new(gpu, shape, options, inputs)?;
    length(OP, "grad_o", grad_o.len(), shape.query_rows() * shape.value)?;
    let report = chosen.report();
    match chosen {
        Chosen::Exact(_) => exact::backward(gpu, shape, options, inputs, grad_o, gradients)?,
        Chosen::Polynomial(choice) => {
            let plan = plan_backward(shape, options, &choice, gpu.caps())?;
            let mut outputs = gradients.views(shape)?;
            let mut views = inputs.views();
            views.push(grad_o.view());
            let mut pass = gpu.pass("tensor_attention poly backward");
            pass.run(&plan, &views, &mut outputs)?;
            pass.submit()?;
        }
    }
    Ok(report)
}

/// What a call does.
enum Chosen {
    Polynomial(Choice),
    /// Entries so bounded are too large, and exact attention may take over.
    Exact(Bounds),
}

impl Chosen {
    fn new<T: Elem>(
        gpu: &Gpu,
        shape: &Shape,
        options: &Options,
        inputs: &Inputs<'_, T>,
    ) -> Result<Chosen> {
        options.check(shape)?;
        inputs.check(shape)?;
        let extent = match options.bounds {
            Some(_) => None,
            None => Some(Extent::measure(gpu, shape, inputs)?),
        };
        let measured = extent.as_ref();
        let measured = measured.map(|extent| extent.bounds(options.scale, options.center));
        match (
            choose(shape, options, extent.as_ref()),
            options.bounds.or(measured),
        ) {
            (Err(Error::Unsupported { .. }), Some(bounds)) if options.exact => {
                Ok(Chosen::Exact(bounds))
            }
            (choice, _) => choice.map(Chosen::Polynomial),
        }
    }

    fn report(&self) -> Report {
        match self {
            Chosen::Polynomial(choice) => choice.report(),
            Chosen::Exact(bounds) => Report {
                degree: 0,
                rank: 0,
                bounds: *bounds,
                epsilon: 0.0,
                certificate: 0.0,
                exact: true,
                probe: None,
            },
        }
    }
}

/// Exact outputs of some queries, spread over all, against those in `o`.
fn probe<T: Elem>(
    shape: &Shape,
    options: &Options,
    inputs: &Inputs<'_, T>,
    o: &Tensor<T>,
) -> Result<Probe> {
    let rows = shape.query_rows();
    let count = rows.min(PROBED);
    let queries: Vec<usize> = (0..count).map(|n| n * rows / count).collect();
    let each = shape.keys.iter().map(|keys| *keys as u64);
    let combinations = each.fold(count as u64, u64::saturating_mul);
    if combinations > MOST_COMBINATIONS {
        return Err(Error::Limit {
            what: format!("{OP}, combinations of keys of a probe,"),
            needed: combinations,
            available: MOST_COMBINATIONS,
            remedy: "probe a shorter call",
        });
    }
    let host = |tensor: &Tensor<T>| tensor.download().map(numbers);
    let sets = |all: &[&Tensor<T>]| -> Result<Vec<Vec<f64>>> {
        all.iter().map(|tensor| host(tensor)).collect()
    };
    let read = cpu::Inputs {
        q: host(inputs.q)?,
        k: sets(inputs.k)?,
        v: sets(inputs.v)?,
    };
    let [exact, uniform] = cpu::exact_rows(shape, &options.mask, options.scale, &read, &queries)?;
    let found = host(o)?;
    let width = shape.value;
    let computed = queries.iter().flat_map(|row| {
        let own = found.get(row * width..(row + 1) * width);
        own.unwrap_or_default().iter().copied()
    });
    let far = |others: Vec<f64>| {
        let apart = others
            .iter()
            .zip(&exact)
            .map(|(x, exact)| (x - exact).abs());
        // A difference that is no number is as large as any.
        apart.fold(0.0, |most: f64, x| {
            if x.is_nan() {
                f64::INFINITY
            } else {
                most.max(x)
            }
        })
    };
    Ok(Probe {
        queries: count,
        measured: far(computed.collect()),
        uniform: far(uniform),
    })
}

/// Elements as f64.
fn numbers<T: Elem>(elements: Vec<T>) -> Vec<f64> {
    let bytes: &[u8] = bytemuck::cast_slice(&elements);
    match T::DTYPE {
        Dtype::F16 => {
            let each = bytemuck::pod_collect_to_vec::<u8, half::f16>(bytes);
            each.into_iter().map(f64::from).collect()
        }
        Dtype::Bf16 => {
            let each = bytemuck::pod_collect_to_vec::<u8, half::bf16>(bytes);
            each.into_iter().map(f64::from).collect()
        }
        _ => {
            let each = bytemuck::pod_collect_to_vec::<u8, f32>(bytes);
            each.into_iter().map(f64::from).collect()
        }
    }
}
