//! From shape, options and capabilities to steps. Pure: no device is needed.

mod backward;
mod parallel;

pub use backward::{Upstream, backward, local_adjoint};
pub(super) use parallel::Lengths;
pub use parallel::{Fold, fold, local_state};

use super::{
    Decay, FeatureMap, FeatureShape, Form, Options, Shape,
    features::{self, steps},
    kernels::{Access, Fading, Rule, Second, Start},
    shape::sequences,
    walk::{Packed, Rows, Walk, copy, fill},
    window::Field,
};
use crate::{
    Error, Result,
    elements::pack_steps,
    gpu::{Caps, Dtype},
    plan::{Builder, Plan, Slot, Work},
    rows,
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

/// Where the tensors of a call are.
struct Slots {
    log_decay: Option<Slot>,
    beta: Option<Slot>,
    initial: Option<Slot>,
    initial_z: Option<Slot>,
    fm_weight: Option<Slot>,
    fm_bias: Option<Slot>,
    last: Option<Slot>,
    last_z: Option<Slot>,
}

impl Slots {
    /// After so many inputs and outputs.
    fn new(options: &Options, states: &States<'_>, [inputs, outputs]: [u16; 2]) -> Slots {
        let count = |first: u16| {
            let mut n = first;
            move |given: bool| {
                given.then(|| {
                    n += 1;
                    n - 1
                })
            }
        };
        let (mut input, mut output) = (count(inputs), count(outputs));
        Slots {
            log_decay: input(options.decay != Decay::None).map(Slot::Input),
            beta: input(options.delta).map(Slot::Input),
            initial: input(states.initial).map(Slot::Input),
            initial_z: input(states.initial_z).map(Slot::Input),
            fm_weight: input(states.fm_weight.is_some()).map(Slot::Input),
            fm_bias: input(states.fm_bias.is_some()).map(Slot::Input),
            last: output(states.last).map(Slot::Output),
            last_z: output(states.last_z).map(Slot::Output),
        }
    }
}

/// What a forward walk reads.
struct Operands {
    q: Option<Rows>,
    k: Rows,
    v: Rows,
    /// Width of queries and keys after what of the feature map is not left to the walk.
    key: usize,
    map: FeatureMap,
    access: Access,
}

/// A checked call.
struct Call<'a> {
    shape: &'a Shape,
    options: &'a Options,
    caps: &'a Caps,
    packed: Option<Packed>,
    sequences: usize,
    /// Sets of the feature map's weights.
    sets: usize,
    slots: Slots,
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
        let own = (shape.heads == shape.kv_heads).then_some(shape.heads);
        let map = options.feature_map;
        let sets = map.weight_sets(OP, shape.key, own, states.fm_weight, states.fm_bias)?;
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
            caps,
            packed: states.cu_seqlens.map(|_| Packed { sequences }),
            sequences: count,
            sets,
            slots: Slots::new(options, &states, [3, 1]),
        })
    }

    /// Inputs of the call: q, k, v and those that its slots name.
    fn inputs(&self) -> u16 {
        let slots = &self.slots;
        let given = [
            slots.log_decay,
            slots.beta,
            slots.initial,
            slots.initial_z,
            slots.fm_weight,
            slots.fm_bias,
        ];
        3 + given.iter().flatten().count() as u16
    }

    /// Copies of each state that share its query heads.
    fn spread(&self) -> usize {
        let group = self.shape.heads / self.shape.kv_heads.max(1);
        (1..=group.max(1))
            .find(|n| group.is_multiple_of(*n) && group / n <= MOST_READERS)
            .unwrap_or(1)
    }

    /// A tensor through the feature map, or widened by the identity, as rows `stride` elements apart.
    fn mapped(
        &self,
        builder: &mut Builder,
        slot: Slot,
        [heads, width]: [usize; 2],
        from: Dtype,
        map: FeatureMap,
        to: (Dtype, usize),
    ) -> Result<Rows> {
        let shape = self.feature_shape(heads, width, from);
        let (dtype, stride) = to;
        let slot_bytes = (shape.rows() * stride) as u64 * dtype.bytes();
        let y = builder.add_scratch(slot_bytes.next_multiple_of(4));
        let rows = rows::Rows {
            slot: y,
            dtype,
            stride,
        };
        steps::forward_steps(builder, &self.mapping(&shape, map), slot, rows)?;
        Ok(Rows {
            slot: y,
            heads,
            elem: dtype.bytes(),
        })
    }

    fn feature_shape(&self, heads: usize, key: usize, dtype: Dtype) -> FeatureShape {
        FeatureShape {
            batch: self.shape.batch,
            tokens: self.shape.tokens,
            heads,
            key,
            layout: self.shape.layout,
            dtype,
        }
    }

    fn mapping<'m>(&'m self, shape: &'m FeatureShape, map: FeatureMap) -> steps::Mapping<'m> {
        let weights = map == self.options.feature_map;
        steps::Mapping {
            shape,
            map,
            sets: if weights { self.sets } else { 1 },
            weight: self.slots.fm_weight.filter(|_| weights),
            bias: self.slots.fm_bias.filter(|_| weights),
            caps: self.caps,
        }
    }

    /// The tensors that a forward walk reads, its key width and how it reads them.
    fn operands(
        &self,
        builder: &mut Builder,
        q: Option<Slot>,
        [k, v]: [Slot; 2],
    ) -> Result<Operands> {
        let (shape, map) = (self.shape, self.options.feature_map);
        let (heads, kv_heads, key) = (shape.heads, shape.kv_heads, shape.key);
        let input = |slot: Slot, heads: usize| Rows {
            slot,
            heads,
            elem: shape.dtype.bytes(),
        };
        let fused = features::elementwise(map).is_some();
        let (width, dtype) = if fused {
            (key, shape.dtype)
        } else {
            (map.width(key), map.storage(shape.dtype))
        };
        let (q, [k, v]) = if fused {
            let q = q.map(|slot| input(slot, heads));
            (q, [input(k, kv_heads), input(v, kv_heads)])
        } else {
            let to = (dtype, width);
            let mut mapped = |slot: Slot, heads: usize| {
                self.mapped(builder, slot, [heads, key], shape.dtype, map, to)
            };
            let q = q.map(|slot| mapped(slot, heads)).transpose()?;
            let k = mapped(k, kv_heads)?;
            let v = if dtype == shape.dtype {
                input(v, kv_heads)
            } else {
                let (sizes, to) = ([kv_heads, shape.value], (dtype, shape.value));
                self.mapped(builder, v, sizes, shape.dtype, FeatureMap::Identity, to)?
            };
            (q, [k, v])
        };
        Ok(Operands {
            q,
            k,
            v,
            key: width,
            map: if fused { map } else { FeatureMap::Identity },
            access: Access::new(dtype, [width, shape.value], self.caps),
        })
    }

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
            Some(before) if before != state => copy(
                &mut builder,
                caps,
                before,
                state,
                walkers,
                size,
                [size; 2],
                spread as u64,
            ),
            None if start == Start::Resume || shape.tokens == 0 => {
                fill(&mut builder, caps, state, walkers * size)
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
                Some(before) => copy(
                    &mut builder,
                    caps,
                    before,
                    z,
                    count * repeat,
                    key,
                    [key; 2],
                    repeat,
                ),
                None if start == Start::Resume || shape.tokens == 0 => {
                    fill(&mut builder, caps, z, count * repeat * key)
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
            copy(
                &mut builder,
                caps,
                state,
                last,
                count,
                size,
                [size * spread as u64, size],
                1,
            );
        }
        if let (Some(last), Some(z)) = (self.slots.last_z, walk.aid) {
            let stride = key * spread as u64 * slices;
            copy(&mut builder, caps, z, last, count, key, [stride, key], 1);
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

    /// What the operator amounts to, whichever form computes it: 4KV + 64(K + V) operations a token and query head (6KV with
    /// the delta rule), every input read and every output written once.
    fn work(&self) -> Work {
        let (shape, options) = (self.shape, self.options);
        let products = if options.delta { 6 } else { 4 };
        let features = options.feature_width(shape);
        let per_token = products * features * shape.value + 64 * (features + shape.value);
        let state_len = self.sequences * shape.kv_heads * features * shape.value;
        let states =
            usize::from(self.slots.initial.is_some()) + usize::from(self.slots.last.is_some());
        let per_row = shape.state_rows() * shape.tokens;
        let decays = match options.decay {
            Decay::None => 0,
            Decay::Head => shape.kv_heads,
            Decay::Token => per_row,
            Decay::Channel => per_row * features,
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
