//! The table of operators, and what each makes of a case.

use super::{Array, Case, Failure};
use crate::{
    Error,
    gpu::{Caps, Class, Dtype},
    plan::Plan,
};

/// An operator as the program knows it.
pub struct Op {
    /// Name in case files.
    pub name: &'static str,
    /// Makes a problem of a case.
    pub bind: fn(&Case) -> Result<Box<dyn Problem>, Failure>,
    /// Cases that travel with the program.
    pub builtin: fn() -> Vec<Case>,
    /// Cases that `bench` times on a class of device: large ones on GPUs only.
    pub benches: fn(Class) -> Vec<Bench>,
}

/// A case that `bench` times, by name; its tensors are made when it is its turn.
pub struct Bench {
    /// The case's name.
    pub name: String,
    /// Makes the case.
    pub make: Box<dyn Fn() -> Case>,
}

/// Every operator.
pub fn ops() -> &'static [Op] {
    &[
        crate::linear::cases::OP,
        crate::softmax::cases::OP,
        crate::linear::lit::cases::OP,
        crate::linear::lit::cases::CONV2D,
        crate::soft::cases::OP,
        crate::distill::cases::OP,
        crate::hamming::cases::pack::PACK,
        crate::hamming::cases::pack::UNPACK,
        crate::hamming::cases::pack::POPCOUNTS,
        crate::hamming::cases::distance::OP,
        crate::hamming::cases::distance::SYMMETRIC,
        crate::hamming::cases::gram::OP,
        crate::hamming::cases::maxsim::OP,
        crate::hamming::sliding::cases::OP,
        crate::hamming::sliding::search::cases::OP,
        crate::hamming::ecoformer::cases::OP,
        crate::hamming::kernel_hash::cases::OP,
        crate::hamming::code_table::cases::OP,
        crate::kronecker::cases::HADAMARD,
        crate::kronecker::cases::BUTTERFLY,
        crate::kronecker::cases::fp4::QUANTIZED,
        crate::kronecker::cases::fp4::DEQUANTIZED,
        crate::kronecker::cases::multilinear::DCT,
        crate::kronecker::cases::multilinear::TUCKER,
        crate::kronecker::cases::multilinear::KHATRI_RAO,
        crate::kronecker::cases::multilinear::MTTKRP,
        crate::kronecker::cases::sketch::SRHT,
        crate::kronecker::cases::sketch::TENSOR_SRHT,
        crate::kronecker::cases::sketch::FASTFOOD,
        crate::kronecker::matmul::cases::ENTRY,
        crate::kronecker::tensor_attention::cases::OP,
        crate::kronecker::tensor_linear::cases::OP,
        crate::kronecker::spectral::cases::ENTRY,
        crate::kronecker::solve::cases::ENTRY,
        crate::kronecker::diag_solve::cases::ENTRY,
        crate::kronecker::gp::cases::ENTRY,
        crate::kronecker::pde::cases::ENTRY,
        crate::kronecker::sum_solve::cases::ENTRY,
        crate::hamming::search::cases::KNN,
        crate::hamming::search::cases::RADIUS,
        crate::hamming::search::cases::HISTOGRAM,
        crate::hamming::attention::cases::OP,
        crate::random::cases::OP,
    ]
}

/// An output of a problem and how far it may be from the reference.
#[derive(Clone, Debug)]
pub struct Output {
    /// Its name in case files without `out.`; gradients that a device computes keep their `grad.`.
    pub name: &'static str,
    /// Its storage type.
    pub dtype: Dtype,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Bound on the root-mean-square error relative to the reference.
    pub ratio: f64,
    /// Bound on each element's error: this times the sum of the absolute values of its terms, ...
    pub per_magnitude: f64,
    /// ... plus this times its own absolute value.
    pub per_value: f64,
}

impl Output {
    /// Its name in files: gradients have a prefix of their own already.
    pub fn file_name(&self) -> String {
        match self.name.starts_with("grad.") {
            true => self.name.into(),
            false => format!("out.{}", self.name),
        }
    }
}

/// What the CPU reference says of an output.
#[derive(Clone, Debug)]
pub struct Reference {
    /// The values.
    pub values: Vec<f64>,
    /// The sums of the absolute values of their terms; empty where these are of no use.
    pub magnitude: Vec<f64>,
}

/// References as arrays of the outputs' types.
pub fn rounded(outputs: Vec<Output>, references: Vec<Reference>) -> Vec<Array> {
    outputs
        .iter()
        .zip(references)
        .map(|(output, reference)| Array::rounded(output.dtype, &output.shape, &reference.values))
        .collect()
}

/// The plan for a device, then, if asked for, those that other values of an operator's choices give, and those by matrix units or
/// what stands in for them.
pub(crate) fn each_choice(
    op: &str,
    caps: &Caps,
    all: bool,
    plan: impl Fn(&Caps) -> Result<Plan, Error>,
) -> Result<Vec<Plan>, Error> {
    let mut devices = vec![caps.clone()];
    if all {
        for caps in caps.each_matrices() {
            devices.extend(caps.each_choice(op)?);
        }
    }
    distinct(devices.iter().map(|caps| Ok(vec![plan(caps)?])))
}

/// Plans for several devices, each once.
pub(crate) fn distinct(
    each: impl Iterator<Item = Result<Vec<Plan>, Error>>,
) -> Result<Vec<Plan>, Error> {
    let mut plans: Vec<Plan> = Vec::new();
    for more in each {
        for plan in more? {
            if plans.iter().all(|other| other.steps != plan.steps) {
                plans.push(plan);
            }
        }
    }
    Ok(plans)
}

/// Bits of an output of words that come of the sign of a rounded number, where that is too close to 0 to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undecided {
    /// Those bits, a mask for each word.
    pub masks: Vec<u32>,
    /// How many bits the words have in all, pads not counted.
    pub bits: usize,
}

impl Undecided {
    /// Whether they are at most one in a thousand; more would hide mistakes, and then none is excused.
    pub fn few(&self) -> bool {
        1000 * self.count() <= self.bits
    }

    /// How many they are.
    pub fn count(&self) -> usize {
        let each = self.masks.iter().map(|mask| mask.count_ones() as usize);
        each.sum()
    }
}

/// A case bound to its operator: what to upload, what comes back, which plans compute it.
pub trait Problem: Send + Sync {
    /// Tensors to upload, in the order of the plans' inputs. Those updated in place are outputs with [`Problem::prefill`].
    fn inputs(&self) -> Vec<&Array>;
    /// Tensors that come back, in the order of the plans' outputs.
    fn outputs(&self) -> Vec<Output>;
    /// What an output holds before the run, where it is updated in place.
    fn prefill(&self, _output: usize) -> Option<&Array> {
        None
    }
    /// The planner's choice for a device; then, if asked for, every other plan that computes the same.
    ///
    /// # Errors
    /// Those of the operator's planner.
    fn plans(&self, caps: &Caps, all: bool) -> Result<Vec<Plan>, Error>;
    /// The outputs by the CPU reference.
    ///
    /// # Errors
    /// Those of the reference.
    fn reference(&self) -> Result<Vec<Reference>, Error>;
    /// Bits of an output that may differ from the reference's; everything else of it is judged as ever.
    ///
    /// # Errors
    /// Those of the reference.
    fn undecided(&self, _output: usize) -> Result<Option<Undecided>, Error> {
        Ok(None)
    }
    /// The outputs on this machine's processor, by the quickest path there is: the reference, unless an operator has one.
    ///
    /// # Errors
    /// Those of that path.
    fn native(&self) -> Result<Vec<Array>, Error> {
        Ok(rounded(self.outputs(), self.reference()?))
    }
    /// Sizes for reports, by their letters.
    fn sizes(&self) -> Vec<(&'static str, usize)>;
    /// What the outputs of a run say about the run itself: an operator that reports failure in one of them makes it an error.
    ///
    /// # Errors
    /// `Numeric` when the operator could not do what was asked.
    fn accept(&self, _outputs: &[Array]) -> Result<(), Error> {
        Ok(())
    }
    /// The gradients of the inputs as a problem, where the case hands gradients to the outputs: its outputs have the names of
    /// the inputs.
    fn adjoint(&self) -> Option<Box<dyn Problem + '_>> {
        None
    }
}
