//! Cases: inputs with what is expected of them, the files that hold them, and the operators they name.
//!
//! One table of operators drives the program, the tests and the benches: an [`Op`] turns a [`Case`] into a [`Problem`], and
//! because a plan is data, one function runs any problem.

mod file;
mod made;
mod problem;
mod read;
mod run;

use std::{collections::BTreeMap, fmt};

use half::{bf16, f16};
use serde_json::{Map, Value};

use crate::{Error, gpu::Dtype};

pub use file::write_whole;
pub use made::Numbers;
pub use problem::{Bench, Op, Output, Problem, Reference, Undecided, ops, rounded};
pub(crate) use problem::{distinct, each_choice};
pub use run::{Loaded, Verdict, judge, judge_decided, run};

/// Why a case or a command did not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// A file cannot be read or written.
    #[error("{path}: {message}")]
    File {
        /// The file.
        path: String,
        /// What happened.
        message: String,
    },
    /// A case lacks something or contradicts itself.
    #[error("{case}: {message}")]
    Case {
        /// The case's name.
        case: String,
        /// What is wrong and what would be right.
        message: String,
    },
    /// The operator or one of its options does not exist here.
    #[error("{case}: {what} is not available{hint}")]
    Unavailable {
        /// The case's name.
        case: String,
        /// What was asked for.
        what: String,
        /// What is there instead, from a comma on; or nothing.
        hint: String,
    },
    /// A command's argument is wrong.
    #[error("{0}")]
    Usage(String),
    /// Everything ran, and a result is beyond its tolerance.
    #[error("{0}")]
    Missed(String),
    /// The library refused.
    #[error(transparent)]
    Library(#[from] Error),
}

/// A tensor on the host.
#[derive(Clone, PartialEq)]
pub struct Array {
    /// Element type.
    pub dtype: Dtype,
    /// Sizes, slowest first.
    pub shape: Vec<usize>,
    /// The elements, little-endian.
    pub bytes: Vec<u8>,
}

impl fmt::Debug for Array {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}", self.dtype.name(), self.shape)
    }
}

impl Array {
    /// An array of f32.
    pub fn f32(shape: &[usize], values: &[f32]) -> Array {
        Array {
            dtype: Dtype::F32,
            shape: shape.to_vec(),
            bytes: bytemuck::cast_slice(values).to_vec(),
        }
    }

    /// An array of u32.
    pub fn u32(shape: &[usize], values: &[u32]) -> Array {
        Array {
            dtype: Dtype::U32,
            shape: shape.to_vec(),
            bytes: bytemuck::cast_slice(values).to_vec(),
        }
    }

    /// Values rounded to a type.
    pub fn rounded(dtype: Dtype, shape: &[usize], values: &[f64]) -> Array {
        let bytes = match dtype {
            Dtype::U32 => values
                .iter()
                .flat_map(|x| (*x as u32).to_le_bytes())
                .collect(),
            Dtype::I32 => values
                .iter()
                .flat_map(|x| (*x as i32).to_le_bytes())
                .collect(),
            Dtype::U8 => values.iter().map(|x| *x as u8).collect(),
            Dtype::F16 => values
                .iter()
                .flat_map(|x| f16::from_f64(*x).to_le_bytes())
                .collect(),
            Dtype::Bf16 => values
                .iter()
                .flat_map(|x| bf16::from_f64(*x).to_le_bytes())
                .collect(),
            Dtype::F32 => values
                .iter()
                .flat_map(|x| (*x as f32).to_le_bytes())
                .collect(),
        };
        Array {
            dtype,
            shape: shape.to_vec(),
            bytes,
        }
    }

    /// An array of a shape with every bit set: NaN in the floating-point types.
    pub fn ones(dtype: Dtype, shape: &[usize]) -> Array {
        let bytes = shape.iter().product::<usize>() * dtype.bytes() as usize;
        Array {
            dtype,
            shape: shape.to_vec(),
            bytes: vec![0xff; bytes],
        }
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// The elements as f64.
    pub fn values(&self) -> Vec<f64> {
        fn all<T: bytemuck::Pod>(bytes: &[u8], value: impl Fn(T) -> f64) -> Vec<f64> {
            bytes
                .chunks_exact(size_of::<T>())
                .map(|element| value(bytemuck::pod_read_unaligned(element)))
                .collect()
        }
        match self.dtype {
            Dtype::F32 => all::<f32>(&self.bytes, f64::from),
            Dtype::F16 => all::<f16>(&self.bytes, f16::to_f64),
            Dtype::Bf16 => all::<bf16>(&self.bytes, bf16::to_f64),
            Dtype::U32 => all::<u32>(&self.bytes, f64::from),
            Dtype::I32 => all::<i32>(&self.bytes, f64::from),
            Dtype::U8 => all::<u8>(&self.bytes, f64::from),
        }
    }
}

/// Inputs, parameters and expected outputs.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// Name in reports.
    pub name: String,
    /// The operator's name.
    pub op: String,
    /// Its parameters.
    pub params: Map<String, Value>,
    /// How the expected values were made.
    pub source: String,
    /// Inputs by name.
    pub inputs: BTreeMap<String, Array>,
    /// Gradients handed to the outputs, for the backward part.
    pub grad_outputs: BTreeMap<String, Array>,
    /// Expected outputs; empty in cases that only run.
    pub expected: BTreeMap<String, Array>,
    /// Expected gradients of the inputs.
    pub expected_grads: BTreeMap<String, Array>,
}

impl Case {
    /// The input of this name.
    ///
    /// # Errors
    /// `Case` when there is none.
    pub fn input(&self, name: &str) -> Result<&Array, Failure> {
        self.inputs
            .get(name)
            .ok_or_else(|| self.wrong(format!("has no input tensor `{name}` (or `in.{name}`)")))
    }

    /// The expected values of an output, or of a gradient among the outputs.
    pub fn expectation(&self, output: &Output) -> Option<&Array> {
        match output.name.strip_prefix("grad.") {
            Some(name) => self.expected_grads.get(name),
            None => self.expected.get(output.name),
        }
    }

    /// A failure about this case.
    pub fn wrong(&self, message: impl Into<String>) -> Failure {
        Failure::Case {
            case: self.name.clone(),
            message: message.into(),
        }
    }

    /// A failure about something that is not offered.
    pub fn unavailable(&self, what: impl Into<String>, hint: &str) -> Failure {
        Failure::Unavailable {
            case: self.name.clone(),
            what: what.into(),
            hint: hint.into(),
        }
    }

    /// The operator of this case, ready to run.
    ///
    /// # Errors
    /// `Unavailable` for an operator or option that is not here, `Case` for missing or contradictory inputs.
    pub fn bind(&self) -> Result<Box<dyn Problem>, Failure> {
        match ops().iter().find(|op| op.name == self.op) {
            Some(op) => (op.bind)(self),
            None => {
                let known: Vec<_> = ops().iter().map(|op| op.name).collect();
                Err(self.unavailable(
                    format!("the operator {}", self.op),
                    &format!(", known are: {}", known.join(", ")),
                ))
            }
        }
    }
}
