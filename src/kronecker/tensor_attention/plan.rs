//! Plans of third-order attention: pure functions of shape, options and capabilities.

use bytemuck::bytes_of;

use super::{
    Logits, OP, Options, Shape,
    gradients::Backward,
    kernels::{self, ProductParams},
    planner::{Planner, Set},
    shape::fits,
    walk::Join,
};
use crate::{
    Result,
    elements::pack_steps,
    gpu::{Caps, Dtype},
    plan::{ALIGN, Bind, Builder, Plan, Slot, Step, Work},
    rows::{dispatches, fill},
};

/// Which gradients [`backward`] is to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Of the queries.
    pub q: bool,
    /// Of k1 and of k2.
    pub keys: [bool; 2],
    /// Of v1 and of v2.
    pub values: [bool; 2],
}

impl Wanted {
    /// All of them.
    pub const ALL: Wanted = Wanted {
        q: true,
        keys: [true; 2],
        values: [true; 2],
    };
}

/// Plans the outputs. Inputs: q, k1, k2, v1, v2; outputs: o, then lse if it is wanted.
///
/// # Errors
/// `Argument` when sizes or options make no sense; `Limit` when one head exceeds a binding or a temporary its budget.
pub fn forward(shape: &Shape, options: &Options, lse: bool, caps: &Caps) -> Result<Plan> {
    options.check(shape)?;
    fits(shape, caps)?;
    let planner = Planner {
        shape,
        options,
        caps,
    };
    let mut builder = Builder::default();
    let mut label = "empty".to_owned();
    if shape.rows() > 0 {
        let o = match shape.dtype {
            Dtype::F32 => Slot::Output(0),
            _ => builder.add_scratch(4 * shape.output_len() as u64),
        };
        let lse = match lse {
            true => Slot::Output(1),
            false => builder.add_scratch(4 * shape.rows() as u64),
        };
        if shape.is_empty() {
            fill(&mut builder, caps, o, 0..shape.output_len() as u64, 0);
            let none = f32::MIN.to_bits();
            fill(&mut builder, caps, lse, 0..shape.rows() as u64, none);
        } else if options.logits == Logits::Sum {
            let halves = planner.halves(&mut builder)?;
            label = halves.label.clone();
            planner.product(
                &mut builder,
                [halves.o[0], halves.o[1]],
                o,
                shape.output_len(),
            );
            planner.joined(&mut builder, halves.lse, lse, shape.rows(), true);
        } else {
            let queries = planner.queries(Slot::Input(0));
            let walk = planner.outputs(planner.of_queries(queries, planner.sides()));
            walk.steps(&mut builder, &Join::Merge { o, lse })?;
            label = walk.label();
        }
        if shape.dtype != Dtype::F32 {
            let ends = [o, Slot::Output(0)];
            pack_steps(
                &mut builder,
                caps,
                shape.dtype,
                ends,
                shape.output_len() as u64,
            );
        }
    }
    let plan = builder.plan(OP, label, work(shape, options));
    plan.check(caps)?;
    Ok(plan)
}

/// Operations for each triple, or for each pair where scores are sums.
fn work(shape: &Shape, options: &Options) -> Work {
    let [k1, k2] = shape.key_lens();
    let [v1, v2] = shape.value_lens();
    let elements = shape.query_len() + k1 + k2 + v1 + v2 + shape.output_len();
    Work {
        flops: weighed(shape, options) * 2.0 * (shape.width + shape.value) as f64,
        bytes: elements as f64 * shape.dtype.bytes() as f64,
        ..Work::default()
    }
}

/// Scores that a call computes.
pub(super) fn weighed(shape: &Shape, options: &Options) -> f64 {
    match options.logits {
        Logits::Sum => options.pairs(shape),
        _ => options.triples(shape),
    }
}

/// Plans the gradients. Inputs: q, k1, k2, v1, v2, o, lse, then the gradient of o; outputs: those of q, k1, k2, v1, v2 that are wanted,
/// in f32.
///
/// # Errors
/// As [`forward`]; `Unsupported` for [`Logits::Sum`] in 16-bit storage.
pub fn backward(shape: &Shape, options: &Options, wanted: Wanted, caps: &Caps) -> Result<Plan> {
    options.check(shape)?;
    fits(shape, caps)?;
    Backward::new(
        Planner {
            shape,
            options,
            caps,
        },
        wanted,
    )?
    .plan()
}

/// The two ordinary attentions of a sum of scores.
pub(super) struct Halves {
    pub o: [Slot; 2],
    pub lse: [Slot; 2],
    pub ones: Set,
    pub label: String,
}

impl Planner<'_> {
    /// Adds the steps of both.
    pub(super) fn halves(&self, builder: &mut Builder) -> Result<Halves> {
        let ones = self.ones(builder);
        let queries = self.queries(Slot::Input(0));
        let [first, second] = self.sides();
        let mut label = String::new();
        let mut half = |side: Set| -> Result<(Slot, Slot)> {
            let o = builder.add_scratch(4 * self.shape.output_len() as u64);
            let lse = builder.add_scratch(4 * self.shape.rows() as u64);
            let walk = self.outputs(self.of_queries(queries, [ones, side]));
            walk.steps(builder, &Join::Merge { o, lse })?;
            label = format!("two attentions, {}", walk.label());
            Ok((o, lse))
        };
        let (o1, lse1) = half(first)?;
        let (o2, lse2) = half(second)?;
        Ok(Halves {
            o: [o1, o2],
            lse: [lse1, lse2],
            ones,
            label,
        })
    }

    /// Adds the steps that multiply arrays.
    pub(super) fn product(&self, builder: &mut Builder, from: [Slot; 2], to: Slot, len: usize) {
        self.joined(builder, from, to, len, false);
    }

    /// Adds the steps that join arrays element by element, cut to bindings.
    fn joined(
        &self,
        builder: &mut Builder,
        [a, b]: [Slot; 2],
        to: Slot,
        len: usize,
        of_logarithms: bool,
    ) {
        let kernel = kernels::product(of_logarithms);
        let most = (self.caps.binding_bytes / 4 / ALIGN * ALIGN).max(ALIGN);
        let element_ms = 12.0 / (self.caps.gflops * 1e6);
        for pieces in dispatches(0..(len as u64).div_ceil(64), 64.0 * element_ms, self.caps) {
            let end = (64 * pieces.end).min(len as u64);
            for first in (64 * pieces.start..end).step_by(most as usize) {
                let count = most.min(end - first);
                let bind = [(a, false), (b, false), (to, true)].map(|(slot, write)| Bind {
                    slot,
                    bytes: 4 * first..4 * (first + count),
                    write,
                });
                let params = ProductParams {
                    elements: count as u32,
                };
                builder.steps.push(Step {
                    kernel: kernel.clone(),
                    bind: bind.into(),
                    params: bytes_of(&params).to_vec(),
                    groups: count.div_ceil(64),
                    predicted_ms: count as f64 * element_ms,
                });
            }
        }
    }
}
