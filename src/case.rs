//! Cases: inputs with what is expected of them, the files that hold them, and the operators they name.
//!
//! One table of operators drives the program, the tests and the benches: an [`Op`] turns a [`Case`] into a [`Problem`], and
//! because a plan is data, one function runs any problem.

use std::{collections::BTreeMap, fmt, path::Path};

use half::{bf16, f16};
use safetensors::{SafeTensors, tensor::TensorView};
use serde_json::{Map, Value};

use crate::{
    Error,
    gpu::{Caps, Class, Dtype, Gpu, Pass, Tensor},
    plan::Plan,
};

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

    /// Values rounded to a floating-point type.
    pub fn rounded(dtype: Dtype, shape: &[usize], values: &[f64]) -> Array {
        let bytes = match dtype {
            Dtype::F16 => values
                .iter()
                .flat_map(|x| f16::from_f64(*x).to_le_bytes())
                .collect(),
            Dtype::Bf16 => values
                .iter()
                .flat_map(|x| bf16::from_f64(*x).to_le_bytes())
                .collect(),
            _ => values
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
    /// Reads a case file, or any safetensors file with `op` and `params` given to override its metadata.
    ///
    /// # Errors
    /// `File` when it cannot be read or is no safetensors file; `Case` when no operator is named.
    pub fn read(
        path: &Path,
        op: Option<&str>,
        params: &Map<String, Value>,
    ) -> Result<Case, Failure> {
        let file = |message: String| Failure::File {
            path: path.display().to_string(),
            message,
        };
        let bytes = std::fs::read(path).map_err(|error| file(error.to_string()))?;
        let not = |error: safetensors::SafeTensorError| {
            file(format!("is not a safetensors file ({error})"))
        };
        let (_, header) = SafeTensors::read_metadata(&bytes).map_err(not)?;
        let tensors = SafeTensors::deserialize(&bytes).map_err(not)?;
        let name = path
            .file_stem()
            .map_or_else(|| "case".into(), |stem| stem.to_string_lossy().into_owned());
        let metadata = |key: &str| {
            header
                .metadata()
                .as_ref()
                .and_then(|map| map.get(key))
                .cloned()
        };
        let op = op.map(str::to_owned).or_else(|| metadata("op"));
        let Some(op) = op else {
            let message =
                "names no operator in its metadata; name one with --op, such as linear_attention"
                    .into();
            return Err(Failure::Case {
                case: name,
                message,
            });
        };
        let mut all = match metadata("params").map(|text| serde_json::from_str(&text)) {
            None => Map::new(),
            Some(Ok(Value::Object(map))) => map,
            Some(_) => {
                return Err(Failure::Case {
                    case: name,
                    message: "its metadata `params` is not a JSON object".into(),
                });
            }
        };
        all.extend(params.clone());
        let mut case = Case {
            name,
            op,
            params: all,
            source: metadata("source").unwrap_or_default(),
            inputs: BTreeMap::new(),
            grad_outputs: BTreeMap::new(),
            expected: BTreeMap::new(),
            expected_grads: BTreeMap::new(),
        };
        for (key, view) in tensors.tensors() {
            let Some(array) = array(&view) else {
                let message = format!(
                    "tensor {key} has type {:?}; use F32, F16, BF16, U32, I32 or U8",
                    view.dtype()
                );
                return Err(Failure::Case {
                    case: case.name,
                    message,
                });
            };
            match key.split_once('.') {
                Some(("in", name)) => case.inputs.insert(name.into(), array),
                Some(("out", name)) => case.expected.insert(name.into(), array),
                Some(("grad_out", name)) => case.grad_outputs.insert(name.into(), array),
                Some(("grad", name)) => case.expected_grads.insert(name.into(), array),
                _ => case.inputs.insert(key.clone(), array),
            };
        }
        Ok(case)
    }

    /// Writes tensors as a safetensors file, whole or not at all.
    ///
    /// # Errors
    /// `File` when the folder cannot be written.
    pub fn write_tensors(
        path: &Path,
        tensors: &BTreeMap<String, Array>,
        metadata: BTreeMap<String, String>,
    ) -> Result<(), Failure> {
        let file = |message: String| Failure::File {
            path: path.display().to_string(),
            message,
        };
        let views = tensors
            .iter()
            .map(|(name, array)| {
                Ok((
                    name,
                    TensorView::new(st_dtype(array.dtype), array.shape.clone(), &array.bytes)?,
                ))
            })
            .collect::<Result<Vec<_>, safetensors::SafeTensorError>>();
        let bytes = views
            .and_then(|views| safetensors::serialize(views, Some(metadata.into_iter().collect())));
        write_whole(path, &bytes.map_err(|error| file(error.to_string()))?)
    }

    /// The input of this name.
    ///
    /// # Errors
    /// `Case` when there is none.
    pub fn input(&self, name: &str) -> Result<&Array, Failure> {
        self.inputs
            .get(name)
            .ok_or_else(|| self.wrong(format!("has no input tensor `{name}` (or `in.{name}`)")))
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

/// Writes a file whole or not at all: a temporary beside it is renamed.
///
/// # Errors
/// `File` when the folder cannot be written.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let write = || {
        let mut file = tempfile::Builder::new()
            .prefix(".subquad-")
            .tempfile_in(folder)?;
        std::io::Write::write_all(&mut file, bytes)?;
        #[cfg(unix)]
        std::fs::set_permissions(
            file.path(),
            std::os::unix::fs::PermissionsExt::from_mode(0o644),
        )?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    };
    write().map_err(|error: std::io::Error| Failure::File {
        path: path.display().to_string(),
        message: format!("cannot be written ({})", error.kind()),
    })
}

fn array(view: &TensorView<'_>) -> Option<Array> {
    let dtype = [
        Dtype::F32,
        Dtype::F16,
        Dtype::Bf16,
        Dtype::U32,
        Dtype::I32,
        Dtype::U8,
    ]
    .into_iter()
    .find(|d| st_dtype(*d) == view.dtype())?;
    Some(Array {
        dtype,
        shape: view.shape().to_vec(),
        bytes: view.data().to_vec(),
    })
}

fn st_dtype(dtype: Dtype) -> safetensors::Dtype {
    match dtype {
        Dtype::F32 => safetensors::Dtype::F32,
        Dtype::F16 => safetensors::Dtype::F16,
        Dtype::Bf16 => safetensors::Dtype::BF16,
        Dtype::U32 => safetensors::Dtype::U32,
        Dtype::I32 => safetensors::Dtype::I32,
        Dtype::U8 => safetensors::Dtype::U8,
    }
}

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
    &[crate::linear::cases::OP]
}

/// An output of a problem and how far it may be from the reference.
#[derive(Clone, Debug)]
pub struct Output {
    /// Its name in case files, without `out.` or `grad.`.
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

/// What the CPU reference says of an output.
#[derive(Clone, Debug)]
pub struct Reference {
    /// The values.
    pub values: Vec<f64>,
    /// The sums of the absolute values of their terms; empty where these are of no use.
    pub magnitude: Vec<f64>,
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
    /// Sizes for reports, by their letters.
    fn sizes(&self) -> Vec<(&'static str, usize)>;
    /// Gradients of the inputs by the CPU reference, where the case hands gradients to the outputs: each with the name, type
    /// and shape of its input.
    ///
    /// # Errors
    /// Those of the reference.
    fn gradients(&self) -> Result<Vec<(Output, Vec<f64>)>, Error> {
        Ok(Vec::new())
    }
    /// What the case asks for that no device computes yet.
    fn ignored(&self) -> Option<&'static str> {
        None
    }
}

/// A problem with its tensors on a device.
pub struct Loaded<'a> {
    problem: &'a dyn Problem,
    gpu: Gpu,
    inputs: Vec<Tensor<u8>>,
    outputs: Vec<Tensor<u8>>,
}

impl<'a> Loaded<'a> {
    /// Uploads a problem's inputs; outputs start as NaN.
    ///
    /// # Errors
    /// Those of [`Gpu::upload`].
    pub fn new(gpu: &Gpu, problem: &'a dyn Problem) -> Result<Loaded<'a>, Error> {
        let inputs = problem
            .inputs()
            .into_iter()
            .map(|array| gpu.upload(&array.bytes))
            .collect::<Result<_, _>>()?;
        let mut loaded = Loaded {
            problem,
            gpu: gpu.clone(),
            inputs,
            outputs: Vec::new(),
        };
        loaded.reset()?;
        Ok(loaded)
    }

    /// Puts the outputs back to what they were before the first run.
    ///
    /// # Errors
    /// Those of [`Gpu::upload`].
    pub fn reset(&mut self) -> Result<(), Error> {
        let outputs = self.problem.outputs();
        self.outputs = outputs
            .iter()
            .enumerate()
            .map(|(n, output)| {
                let blank = Array::ones(output.dtype, &output.shape);
                self.gpu
                    .upload(&self.problem.prefill(n).unwrap_or(&blank).bytes)
            })
            .collect::<Result<_, _>>()?;
        Ok(())
    }

    /// Records a plan of the problem.
    ///
    /// # Errors
    /// Those of [`Pass::run`].
    pub fn record(&mut self, pass: &mut Pass, plan: &Plan, checked: bool) -> Result<(), Error> {
        let inputs: Vec<_> = self.inputs.iter().map(Tensor::view).collect();
        let mut outputs: Vec<_> = self.outputs.iter_mut().map(Tensor::view_mut).collect();
        pass.run_checked(plan, &inputs, &mut outputs, checked)
    }

    /// Downloads the outputs.
    ///
    /// # Errors
    /// Those of [`Tensor::download`].
    pub fn download(&self) -> Result<Vec<Array>, Error> {
        let outputs = self.problem.outputs();
        let arrays = outputs.iter().zip(&self.outputs).map(|(output, tensor)| {
            Ok(Array {
                dtype: output.dtype,
                shape: output.shape.clone(),
                bytes: tensor.download()?,
            })
        });
        arrays.collect()
    }
}

/// Runs one plan of a problem from fresh outputs.
///
/// # Errors
/// Those of the device.
pub fn run(
    gpu: &Gpu,
    problem: &dyn Problem,
    plan: &Plan,
    checked: bool,
) -> Result<Vec<Array>, Error> {
    let mut loaded = Loaded::new(gpu, problem)?;
    let mut pass = gpu.pass("case");
    loaded.record(&mut pass, plan, checked)?;
    pass.submit()?;
    loaded.download()
}

/// The outputs of a problem by the CPU reference, rounded to their storage types.
///
/// # Errors
/// Those of the reference.
pub fn run_cpu(problem: &dyn Problem) -> Result<Vec<Array>, Error> {
    let references = problem.reference()?;
    Ok(problem
        .outputs()
        .iter()
        .zip(references)
        .map(|(output, reference)| Array::rounded(output.dtype, &output.shape, &reference.values))
        .collect())
}

/// How far an output is from what it should be.
#[derive(Clone, Copy, Debug)]
pub struct Verdict {
    /// Root-mean-square error over the root-mean-square of the reference; infinite when a value is not finite.
    pub ratio: f64,
    /// The bound on it.
    pub bound: f64,
    /// The largest error of an element over its own bound, where magnitudes are known.
    pub worst: f64,
}

impl Verdict {
    /// Whether both bounds hold.
    pub fn holds(&self) -> bool {
        self.ratio <= self.bound && self.worst <= 1.0
    }
}

/// Compares an output with values, and element by element where the magnitudes of the sums are known.
pub fn judge(output: &Output, got: &Array, values: &[f64], magnitude: Option<&[f64]>) -> Verdict {
    let got = got.values();
    if got.len() != values.len() {
        return Verdict {
            ratio: f64::INFINITY,
            bound: output.ratio,
            worst: f64::INFINITY,
        };
    }
    let (mut error, mut norm, mut worst) = (0.0, 0.0, 0.0f64);
    for (n, (got, value)) in got.iter().zip(values).enumerate() {
        let difference = (got - value).abs();
        error += difference * difference;
        norm += value * value;
        if let Some(magnitude) = magnitude.and_then(|m| m.get(n)) {
            // The smallest normal f32: below it, devices may flush to zero.
            let allowed = output.per_magnitude * magnitude
                + output.per_value * value.abs()
                + f64::from(f32::MIN_POSITIVE);
            worst = if difference.is_nan() {
                f64::INFINITY
            } else {
                worst.max(difference / allowed)
            };
        }
    }
    let ratio = error.sqrt() / (norm.sqrt() + 1e-12 * (values.len() as f64).sqrt().max(1.0));
    Verdict {
        ratio: if ratio.is_nan() { f64::INFINITY } else { ratio },
        bound: output.ratio,
        worst,
    }
}
