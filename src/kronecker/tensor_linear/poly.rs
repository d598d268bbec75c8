//! The polynomial form: softmax attention to a bounded error, in time linear in the number of keys.

mod choice;
mod probe;

use super::{
    Gradients, Inputs, exact,
    extent::{Bounds, Extent},
    monomials::Monomials,
    plan::{Features, Form, Planner},
    shape::{MAX_CAUSAL_RANK, MAX_RANK, Mask, OP, Shape, wrong},
};
use crate::{
    Error, Result,
    error::length,
    gpu::{Caps, Elem, Gpu, Tensor},
    plan::Plan,
};

pub use choice::{Choice, choose};
pub use probe::{PROBED, Probe};

/// The highest degree.
pub const MAX_DEGREE: usize = 16;

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
        report.probe = Some(Probe::new(shape, options, inputs, o)?);
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
