//! Gram matrices of codes as sets: functions of |a|, |b| and |a ∧ b|.

use super::{
    bits::words,
    distance::{Count, Pairs, Planner, Store, words_store},
    pack::plan_popcounts,
    tile::Tile,
};
use crate::{
    Error, Result,
    error::length,
    gpu::{Caps, Gpu, Tensor, part},
    plan::{Builder, Plan, Slot},
};

pub(crate) const OP: &str = "hamming_gram";

/// A function of two sets of s and t elements, n of them in common.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Function {
    /// The neural tangent kernel of a two-layer ReLU network of infinite width on binary inputs:
    /// (2n(π - θ) + √(st - n²)) / π with cos θ = n / √(st); 0 for an empty set.
    ///
    /// Source: A. Jacot et al., Neural Tangent Kernel, 2018, with the arc-cosine kernels of Y. Cho and L. Saul, 2009:
    /// n κ₀(u) + √(st) κ₁(u) at u = n / √(st). Codes have at most 65,535 bits.
    #[default]
    NeuralTangent,
    /// Jaccard distance, 1 - n / (s + t - n); 0 for two empty sets.
    Jaccard,
}

/// A function of every code of a and every code of b, both read as sets.
///
/// Shapes: a `[rows, ⌈bits/32⌉]`, b `[columns, ⌈bits/32⌉]`, out `[rows, columns]`; row-major.
///
/// Cost: rows · columns · ⌈bits/32⌉ popcounts; scratch: a word for each code. Accuracy: within 2e-6 of the value.
///
/// # Errors
/// As [`distances`](super::distance::distances).
pub fn gram(
    gpu: &Gpu,
    shape: &Pairs,
    function: Function,
    a: &Tensor<u32>,
    b: &Tensor<u32>,
    out: &mut Tensor<f32>,
) -> Result<()> {
    let mut pass = gpu.pass(OP);
    let plan = plan(shape, function, pass.caps())?;
    let words = words(shape.bits);
    length(OP, "a", a.len(), shape.rows * words)?;
    length(OP, "b", b.len(), shape.columns * words)?;
    length(OP, "out", out.len(), shape.rows * shape.columns)?;
    pass.run(&plan, &[a.view(), b.view()], &mut [out.view_mut()])?;
    pass.submit().map(drop)
}

/// Whether the sizes and the function of a call make sense.
pub(crate) fn check(shape: &Pairs, function: Function) -> Result<()> {
    shape.check(OP, Count::Common)?;
    // s·t is a word.
    if function == Function::NeuralTangent && shape.bits > usize::from(u16::MAX) {
        return Err(Error::Argument {
            op: OP,
            what: "bits".into(),
            expected: format!("at most {} for the neural tangent kernel", u16::MAX),
            got: shape.bits.to_string(),
        });
    }
    Ok(())
}

/// Plans [`gram`]. Inputs: a, b; output: the matrix.
///
/// # Errors
/// As [`gram`].
pub fn plan(shape: &Pairs, function: Function, caps: &Caps) -> Result<Plan> {
    check(shape, function)?;
    let own = match function {
        Function::NeuralTangent => part!("hamming/gram_ntk.wgsl"),
        Function::Jaccard => part!("hamming/gram_jaccard.wgsl"),
    };
    let emit = [
        words_store(shape.columns),
        part!("hamming/stored_gram.wgsl"),
        own,
    ];
    let tile = Tile::new(Count::Common, shape.bits, caps);
    let mut planner = Planner::new(shape, Count::Common, &emit, false, tile, caps);
    let mut builder = Builder::default();
    let mut counts = [Slot::Scratch(0); 2];
    for (n, (slot, codes)) in counts
        .iter_mut()
        .zip([shape.rows, shape.columns])
        .enumerate()
    {
        *slot = builder.add_scratch(4 * codes as u64);
        let plan = plan_popcounts([codes, shape.bits], caps)?;
        builder.append(plan, &[Slot::Input(n as u16)], &[*slot])?;
    }
    planner.counts = Some(counts);
    let steps = planner.matrix(Store::U32, Slot::Input(1))?;
    if steps.is_empty() {
        builder.steps.clear();
    }
    builder.steps.extend(steps);
    let pairs = shape.rows as f64 * shape.columns as f64;
    planner.finish(
        OP,
        builder,
        (shape.rows * shape.columns) as u64,
        shape.work(pairs, pairs),
    )
}
