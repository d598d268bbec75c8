//! From shape, options and capabilities to steps. Pure: no device is needed.

use bytemuck::bytes_of;

use super::{
    Decay, FeatureMap, Form, Options, Shape,
    kernels::{self, Access, Fading, PackOutputParams, Rule, Start},
    shape::sequences,
    walk::{Packed, Rows, Walk, copy, fill},
    window::{ALIGN, Field, STEP_MS},
};
use crate::{
    Error, Result,
    gpu::{Caps, Dtype},
    plan::{Bind, Builder, Plan, Slot, Step, Work},
};

/// The operator's name in case files.
pub const OP: &str = "linear_attention";

/// Query heads of one state that a walk reads at once; more are spread over copies of the state.
const MOST_READERS: usize = 8;

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
    /// Bounds of sequences packed into one batch entry.
    pub cu_seqlens: Option<&'a [u32]>,
}

/// Plans [`linear::forward`](super::forward). Inputs: q, k, v, then log_decay, beta, the initial state and the initial z where
/// there are such; outputs: o, then the final state and the final z.
///
/// # Errors
/// `Argument` for impossible shapes and options, `Limit` when one head of 64 tokens exceeds a binding or the scratch budget.
pub fn forward(shape: &Shape, options: &Options, states: States<'_>, caps: &Caps) -> Result<Plan> {
    Call::new(shape, options, states, caps)?.forward(false)
}

/// Plans [`linear::step`](super::step). Inputs: q, k, v, log_decay and beta; outputs: o, the state and, normalised, z, both
/// updated in place.
///
/// # Errors
/// As [`forward`].
pub fn step(shape: &Shape, options: &Options, caps: &Caps) -> Result<Plan> {
    let states = States {
        last: true,
        last_z: options.normalize.is_some(),
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

/// Where the tensors of a call are.
struct Slots {
    log_decay: Option<Slot>,
    beta: Option<Slot>,
    initial: Option<Slot>,
    initial_z: Option<Slot>,
    last: Option<Slot>,
    last_z: Option<Slot>,
}

impl Slots {
    fn new(options: &Options, states: &States<'_>) -> Slots {
        let count = |first: u8| {
            let mut n = first;
            move |given: bool| {
                given.then(|| {
                    n += 1;
                    n - 1
                })
            }
        };
        let (mut input, mut output) = (count(3), count(1));
        Slots {
            log_decay: input(options.decay != Decay::None).map(Slot::Input),
            beta: input(options.delta).map(Slot::Input),
            initial: input(states.initial).map(Slot::Input),
            initial_z: input(states.initial_z).map(Slot::Input),
            last: output(states.last).map(Slot::Output),
            last_z: output(states.last_z).map(Slot::Output),
        }
    }
}

/// A checked call.
struct Call<'a> {
    shape: &'a Shape,
    options: &'a Options,
    states: States<'a>,
    caps: &'a Caps,
    packed: Option<Packed>,
    sequences: usize,
    slots: Slots,
    access: Access,
}

impl<'a> Call<'a> {
    fn new(
        shape: &'a Shape,
        options: &'a Options,
        states: States<'a>,
        caps: &'a Caps,
    ) -> Result<Call<'a>> {
        shape.check(OP)?;
        options.check(OP)?;
        shape.fits(caps)?;
        if options.feature_map == FeatureMap::HedgehogSoftmax {
            return Err(Error::Unsupported {
                op: OP,
                what: "this feature map on a device yet; the CPU reference does".into(),
            });
        }
        for (what, given) in [("initial_z", states.initial_z), ("final_z", states.last_z)] {
            if given && options.normalize.is_none() {
                return Err(Error::Argument {
                    op: OP,
                    what: what.into(),
                    expected: "absent without the normaliser".into(),
                    got: "a tensor".into(),
                });
            }
        }
        let sequences = sequences(shape, OP, states.cu_seqlens)?;
        let count = sequences.len();
        Ok(Call {
            shape,
            options,
            states,
            caps,
            packed: states.cu_seqlens.map(|_| Packed { sequences }),
            sequences: count,
            slots: Slots::new(options, &states),
            access: Access {
                dtype: shape.dtype,
                native: shape.dtype != Dtype::F16 || caps.f16,
                vectors: shape.key.is_multiple_of(4) && shape.value.is_multiple_of(4),
            },
        })
    }

    /// Copies of each state that share its query heads.
    fn spread(&self) -> usize {
        let group = self.shape.heads / self.shape.kv_heads.max(1);
        (1..=group.max(1))
            .find(|n| group.is_multiple_of(*n) && group / n <= MOST_READERS)
            .unwrap_or(1)
    }

    fn rows(&self, slot: Slot, heads: usize) -> Rows {
        Rows {
            slot,
            heads,
            elem: self.shape.dtype.bytes(),
        }
    }

    fn forward(&self, in_place: bool) -> Result<Plan> {
        let (shape, options, caps) = (self.shape, self.options, self.caps);
        let mut builder = Builder::default();
        let spread = self.spread();
        let walkers = (self.sequences * shape.kv_heads * spread) as u64;
        let size = (shape.key * shape.value) as u64;
        let key = shape.key as u64;

        // The state that is walked: the caller's where there is one and it need not be spread.
        let own = self.slots.last.filter(|_| spread == 1);
        let state = own.unwrap_or_else(|| builder.add_scratch(4 * walkers * size));
        let before = if in_place { self.slots.last } else { self.slots.initial };
        let before_z = if in_place { self.slots.last_z } else { self.slots.initial_z };
        let start = if before.is_some() || before_z.is_some() {
            Start::Resume
        } else {
            Start::Zero
        };
        let count = walkers / spread as u64;
        match before {
            Some(before) if before != state => copy(&mut builder, caps, before, state, walkers, size, [size; 2], spread as u64),
            None if start == Start::Resume || shape.tokens == 0 => fill(&mut builder, caps, state, walkers * size),
            _ => {}
        }
        let packs = !self.access.vectors && shape.dtype != Dtype::F32;
        let o = if packs {
            Rows {
                slot: builder.add_scratch(4 * shape.output_len() as u64),
                heads: shape.heads,
                elem: 4,
            }
        } else {
            self.rows(Slot::Output(0), shape.heads)
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
            key: shape.key,
            value: shape.value,
            access: self.access,
            readers: Some([self.rows(Slot::Input(0), shape.heads), o]),
            sources: Some([
                self.rows(Slot::Input(1), shape.kv_heads),
                self.rows(Slot::Input(2), shape.kv_heads),
            ]),
            fading,
            log_decay,
            rule: match (options.delta, options.normalize) {
                (true, _) => Rule::Delta,
                (false, Some(_)) => Rule::Normalized,
                (false, None) => Rule::Additive,
            },
            aid: self.slots.beta,
            map: options.feature_map,
            reverse: false,
            strict: false,
            keeps: false,
            start,
            state,
            scale: options.scale,
            eps: options.normalize.unwrap_or(0.0),
            segments: 1,
        };
        let slices = walk.slices(caps);
        if options.normalize.is_some() {
            let z = builder.add_scratch(4 * walkers * slices * key);
            walk.aid = Some(z);
            let repeat = spread as u64 * slices;
            match before_z {
                Some(before) => copy(&mut builder, caps, before, z, count * repeat, key, [key; 2], repeat),
                None if start == Start::Resume || shape.tokens == 0 => fill(&mut builder, caps, z, count * repeat * key),
                None => {}
            }
        }
        let label = if options.causal {
            walk.push(&mut builder, caps)?;
            "recurrent"
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
            "two passes"
        };
        if let Some(last) = self.slots.last.filter(|last| *last != state) {
            copy(&mut builder, caps, state, last, count, size, [size * spread as u64, size], 1);
        }
        if let (Some(last), Some(z)) = (self.slots.last_z, walk.aid) {
            let stride = key * spread as u64 * slices;
            copy(&mut builder, caps, z, last, count, key, [stride, key], 1);
        }
        if packs {
            self.pack(&mut builder, o.slot);
        }
        let label = format!("{label}{}", if self.access.vectors { "" } else { ", scalar" });
        let plan = builder.plan(OP, label, self.work());
        plan.check(caps)?;
        Ok(plan)
    }

    /// What fades, and by which tensor; the state is transposed where the value takes the key's place.
    fn fading(&self, transposed: bool) -> (Fading, Option<Rows>) {
        let fading = match self.options.decay {
            Decay::None => Fading::None,
            Decay::Head => Fading::Head,
            Decay::Token => Fading::Token,
            Decay::Channel if transposed => Fading::Columns,
            Decay::Channel => Fading::Rows,
        };
        let rows = self.slots.log_decay.map(|slot| Rows {
            slot,
            heads: self.shape.kv_heads,
            elem: 4,
        });
        (fading, rows)
    }

    fn pack(&self, builder: &mut Builder, wide: Slot) {
        let elements = self.shape.output_len() as u64;
        // Six bytes an element, at a byte for every four operations a device can do.
        let milliseconds = |elements: u64| 24.0 * elements as f64 / (self.caps.gflops * 1e6);
        // Whole bindings of both tensors, at offsets that are aligned in both.
        let mut most = self.caps.binding_bytes / 4 / ALIGN * ALIGN;
        while milliseconds(most) > STEP_MS && most > ALIGN {
            most = (most / 2).next_multiple_of(ALIGN);
        }
        for first in (0..elements).step_by(most as usize) {
            let count = most.min(elements - first);
            let wide = Bind {
                slot: wide,
                bytes: 4 * first..4 * (first + count),
                write: false,
            };
            let packed = Bind {
                slot: Slot::Output(0),
                bytes: 2 * first..(2 * (first + count)).next_multiple_of(4),
                write: true,
            };
            let params = PackOutputParams {
                elements: count as u32,
            };
            builder.steps.push(Step {
                kernel: kernels::pack_output(self.shape.dtype),
                bind: vec![wide, packed],
                params: bytes_of(&params).to_vec(),
                groups: count.div_ceil(2).div_ceil(64),
                predicted_ms: milliseconds(count),
            });
        }
    }

    /// What the operator amounts to, whichever form computes it: 4KV + 64(K + V) operations a token and query head (6KV with
    /// the delta rule), every input read and every output written once.
    fn work(&self) -> Work {
        let (shape, options) = (self.shape, self.options);
        let products = if options.delta { 6 } else { 4 };
        let per_token = products * shape.key * shape.value + 64 * (shape.key + shape.value);
        let state_len = self.sequences * shape.kv_heads * shape.key * shape.value;
        let states = usize::from(self.slots.initial.is_some()) + usize::from(self.slots.last.is_some());
        let per_row = shape.state_rows() * shape.tokens;
        let decays = match options.decay {
            Decay::None => 0,
            Decay::Head => shape.kv_heads,
            Decay::Token => per_row,
            Decay::Channel => per_row * shape.key,
        };
        let betas = if options.delta { per_row } else { 0 };
        let elements = shape.query_len() + shape.key_len() + shape.value_len() + shape.output_len();
        Work {
            flops: (shape.rows() * shape.tokens * per_token) as f64,
            popcounts: 0.0,
            bytes: elements as f64 * shape.dtype.bytes() as f64
                + 4.0 * (states * state_len + decays + betas) as f64,
        }
    }
}
