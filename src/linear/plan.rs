//! From shape, options and capabilities to steps. Pure: no device is needed.

mod backward;
mod call;
mod parallel;

pub use backward::{Upstream, backward, local_adjoint};
pub(super) use parallel::Lengths;
pub use parallel::{Fold, fold, local_state};

use call::{Call, Slots};

use super::{
    Form, Options, Shape,
    kernels::{Fading, Rule, Second, Start},
    walk::{Rows, Walk},
    window::Field,
};
use crate::{
    Error, Result,
    elements::pack_steps,
    gpu::{Caps, Dtype},
    plan::{Builder, Plan, Slot},
    rows,
};

/// The operator's name in case files.
pub const OP: &str = "linear_attention";

/// What goes in and out beside the tensors that the options name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct States<'a> {
    /// The caller passes an initial state.
    pub initial: bool,
    /// The caller passes an initial z, with the normaliser.
    pub initial_z: bool,
    /// The caller wants the final state.
    pub last: bool,
    /// The caller wants the final z, with the normaliser.
    pub last_z: bool,
    /// Elements of the feature map's weights, where there are any.
    pub fm_weight: Option<usize>,
    /// Elements of its bias, where there is one.
    pub fm_bias: Option<usize>,
    /// Bounds of sequences packed into one batch entry.
    pub cu_seqlens: Option<&'a [u32]>,
}

/// Plans [`linear::forward`](super::forward). Inputs: q, k, v, then log_decay, beta, the initial state, the initial z, the feature
/// map's weights and bias where there are such; outputs: o, then the final state and the final z.
///
/// # Errors
/// `Argument` for impossible shapes and options, `Limit` when one head of 64 tokens exceeds a binding or the scratch budget.
pub fn forward(shape: &Shape, options: &Options, states: States<'_>, caps: &Caps) -> Result<Plan> {
    fitting(options, |options| {
        Call::new(shape, options, states, caps)?.forward(false)
    })
}

/// The plan of these options; where nobody asked for a form and the planner's choice exceeds a limit, that of the first form
/// that does not: segments, and the delta rule's systems that chunks need solved, are temporaries.
fn fitting(options: &Options, plan: impl Fn(&Options) -> Result<Plan>) -> Result<Plan> {
    let planned = plan(options);
    match (&planned, options.form) {
        (Err(Error::Limit { .. }), Form::Auto) => {
            let in_form = |form| plan(&Options { form, ..*options }).ok();
            let mut forms = [Form::Fused, Form::Recurrent].into_iter();
            forms.find_map(in_form).map_or(planned, Ok)
        }
        _ => planned,
    }
}

/// Plans [`linear::step`](super::step). Inputs: q, k, v, log_decay, beta, the feature map's weights and bias (so many elements);
/// outputs: o, the state and, normalised, z, both
/// updated in place.
///
/// # Errors
/// As [`forward`].
pub fn step(
    shape: &Shape,
    options: &Options,
    weights: [Option<usize>; 2],
    caps: &Caps,
) -> Result<Plan> {
    let states = States {
        last: true,
        last_z: options.normalize.is_some(),
        fm_weight: weights[0],
        fm_bias: weights[1],
        ..States::default()
    };
    if !options.causal {
        return Err(Error::Unsupported {
            op: OP,
            what: "steps of the non-causal form: every token reads the whole sequence".into(),
        });
    }
    Call::new(shape, options, states, caps)?.forward(true)
}

/// Every form that computes the same on this device, the planner's choice first; forms that exceed the device are left out.
///
/// # Errors
/// As [`forward`], when no form fits.
pub fn variants(
    shape: &Shape,
    options: &Options,
    states: States<'_>,
    caps: &Caps,
) -> Result<Vec<Plan>> {
    let forms = [
        options.form,
        Form::Fused,
        Form::Segments(2),
        Form::Segments(7),
        Form::Recurrent,
    ];
    let mut plans: Vec<Plan> = Vec::new();
    let mut refusal = None;
    for form in forms {
        match forward(shape, &Options { form, ..*options }, states, caps) {
            Ok(plan) if plans.iter().all(|other| other.steps != plan.steps) => plans.push(plan),
            Ok(_) => {}
            Err(error) => refusal = refusal.or(Some(error)),
        }
    }
    match refusal {
        Some(error) if plans.is_empty() => Err(error),
        _ => Ok(plans),
    }
}

impl Call<'_> {
    fn forward(&self, in_place: bool) -> Result<Plan> {
        let (shape, options, caps) = (self.shape, self.options, self.caps);
        let mut builder = Builder::default();
        let operands = self.operands(
            &mut builder,
            Some(Slot::Input(0)),
            [Slot::Input(1), Slot::Input(2)],
        )?;
        let access = operands.access;
        let spread = self.spread();
        let walkers = (self.sequences * shape.kv_heads * spread) as u64;
        let size = (operands.key * shape.value) as u64;
        let key = operands.key as u64;

        // The state that is walked: the caller's where there is one and it need not be spread.
        let own = self.slots.last.filter(|_| spread == 1);
        let state = own.unwrap_or_else(|| builder.add_scratch(4 * walkers * size));
        let before = if in_place {
            self.slots.last
        } else {
            self.slots.initial
        };
        let before_z = if in_place {
            self.slots.last_z
        } else {
            self.slots.initial_z
        };
        let start = if before.is_some() || before_z.is_some() {
            Start::Resume
        } else {
            Start::Zero
        };
        let count = walkers / spread as u64;
        match before {
            Some(before) if before != state => rows::Copies {
                from: before,
                to: state,
                rows: walkers,
                words: size,
                from_stride: size,
                to_stride: size,
                repeat: spread as u64,
            }
            .step(&mut builder, caps),
            None if start == Start::Resume || shape.tokens == 0 => {
                rows::fill(&mut builder, caps, state, 0..walkers * size, 0)
            }
            _ => {}
        }
        let packs = shape.dtype != Dtype::F32 && !(access.vectors && access.dtype == shape.dtype);
        let o = if packs {
            Rows {
                slot: builder.add_scratch(4 * shape.output_len() as u64),
                heads: shape.heads,
                elem: 4,
            }
        } else {
            Rows {
                slot: Slot::Output(0),
                heads: shape.heads,
                elem: shape.dtype.bytes(),
            }
        };
        let (fading, log_decay) = self.fading(false);
        let mut walk = Walk {
            field: Field {
                batch: shape.batch,
                tokens: shape.tokens,
                heads: shape.kv_heads * spread,
                layout: shape.layout,
            },
            packed: self.packed.as_ref(),
            key: operands.key,
            value: shape.value,
            access,
            readers: operands.q.map(|q| [q, o]),
            sources: Some([operands.k, operands.v]),
            fading,
            log_decay,
            rule: match (options.delta, options.normalize) {
                (true, _) => Rule::Delta,
                (false, Some(_)) => Rule::Normalized,
                (false, None) => Rule::Additive,
            },
            aid: self.slots.beta,
            map: operands.map,
            halves: access.dtype == Dtype::F16,
            reverse: false,
            strict: false,
            keeps: false,
            start,
            state,
            scale: options.scale,
            source_scale: 1.0,
            eps: options.normalize.unwrap_or(0.0),
            form: if in_place {
                Form::Recurrent
            } else {
                options.form
            },
            second: Second::None,
            seconds: [None; 3],
            flows: None,
            weighed: None,
            sweep: None,
        };
        let slices = walk.slices(caps);
        if options.normalize.is_some() {
            let z = builder.add_scratch(4 * walkers * slices * key);
            walk.aid = Some(z);
            let repeat = spread as u64 * slices;
            match before_z {
                Some(before) => rows::Copies {
                    from: before,
                    to: z,
                    rows: count * repeat,
                    words: key,
                    from_stride: key,
                    to_stride: key,
                    repeat,
                }
                .step(&mut builder, caps),
                None if start == Start::Resume || shape.tokens == 0 => {
                    rows::fill(&mut builder, caps, z, 0..count * repeat * key, 0)
                }
                None => {}
            }
        }
        let label = if options.causal {
            walk.push(&mut builder, caps)?;
            walk.label(caps)
        } else {
            Walk {
                readers: None,
                ..walk.clone()
            }
            .push(&mut builder, caps)?;
            Walk {
                sources: None,
                fading: Fading::None,
                log_decay: None,
                start: Start::Resume,
                ..walk.clone()
            }
            .push(&mut builder, caps)?;
            format!("two passes, {}", walk.label(caps))
        };
        if let Some(last) = self.slots.last.filter(|last| *last != state) {
            rows::Copies {
                from: state,
                to: last,
                rows: count,
                words: size,
                from_stride: size * spread as u64,
                to_stride: size,
                repeat: 1,
            }
            .step(&mut builder, caps);
        }
        if let (Some(last), Some(z)) = (self.slots.last_z, walk.aid) {
            rows::Copies {
                from: z,
                to: last,
                rows: count,
                words: key,
                from_stride: key * spread as u64 * slices,
                to_stride: key,
                repeat: 1,
            }
            .step(&mut builder, caps);
        }
        if packs {
            let elements = shape.output_len() as u64;
            let slots = [o.slot, Slot::Output(0)];
            pack_steps(&mut builder, caps, shape.dtype, slots, elements);
        }
        let label = format!("{label}{}", if access.vectors { "" } else { ", scalar" });
        let plan = builder.plan(OP, label, self.work());
        plan.check(caps)?;
        Ok(plan)
    }
}
