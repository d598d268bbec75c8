//! Running any problem and judging what comes back.

use super::{Array, Output, Problem, Undecided};
use crate::{
    Error,
    gpu::{Dtype, Gpu, Pass, Tensor},
    plan::Plan,
};

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
    /// Those of [`Tensor::download`] and of [`Problem::accept`].
    pub fn download(&self) -> Result<Vec<Array>, Error> {
        let outputs = self.problem.outputs();
        let arrays = outputs.iter().zip(&self.outputs).map(|(output, tensor)| {
            Ok(Array {
                dtype: output.dtype,
                shape: output.shape.clone(),
                bytes: tensor.download()?,
            })
        });
        let arrays = arrays.collect::<Result<Vec<_>, Error>>()?;
        self.problem.accept(&arrays)?;
        Ok(arrays)
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

/// [`judge`], except that bits which rounding may decide either way do not count, while they are few.
pub fn judge_decided(
    output: &Output,
    got: &Array,
    values: &[f64],
    magnitude: Option<&[f64]>,
    undecided: Option<&Undecided>,
) -> Verdict {
    let Some(Undecided { masks, .. }) = undecided.filter(|undecided| undecided.few()) else {
        return judge(output, got, values, magnitude);
    };
    let decided = |values: &[f64]| -> Vec<f64> {
        let words = values.iter().zip(masks);
        words
            .map(|(word, mask)| f64::from(*word as u32 & !mask))
            .collect()
    };
    if got.dtype != Dtype::U32 || masks.len() != values.len() {
        return judge(output, got, values, magnitude);
    }
    let got = Array::rounded(Dtype::U32, &got.shape, &decided(&got.values()));
    judge(output, &got, &decided(values), magnitude)
}
