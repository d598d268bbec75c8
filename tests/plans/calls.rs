//! Calls of the planner, devices to plan them for, and what a step says in the shader's names.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
    sync::{Arc, Mutex, OnceLock},
};

use proptest::{prelude::*, sample::select};
use subquad::{
    Error,
    gpu::{Caps, Dtype, Kernel, Value, reflect},
    linear::{
        Decay, FeatureMap, Form, Layout, Options, Shape,
        plan::{self, States},
    },
    plan::{Bind, Plan, Slot, Step},
};

/// A call of the planner.
#[derive(Clone, Debug)]
pub struct Call {
    pub shape: Shape,
    pub options: Options,
    pub initial: bool,
    pub initial_z: bool,
    pub last: bool,
    pub last_z: bool,
    /// Bounds of sequences packed into one batch entry.
    pub bounds: Option<Vec<u32>>,
    /// `step` instead of `forward`: state and z are updated in place, nothing is initial or packed.
    pub step: bool,
}

impl Call {
    /// A call of `forward` without states.
    pub fn new(shape: Shape, options: Options) -> Call {
        Call {
            shape,
            options,
            initial: false,
            initial_z: false,
            last: false,
            last_z: false,
            bounds: None,
            step: false,
        }
    }

    /// With every state that the options allow, going in and coming out.
    pub fn with_states(self) -> Call {
        let z = self.options.normalize.is_some();
        Call {
            initial: true,
            initial_z: z,
            last: true,
            last_z: z,
            ..self
        }
    }

    pub fn states(&self) -> States<'_> {
        States {
            initial: self.initial,
            initial_z: self.initial_z,
            last: self.last,
            last_z: self.last_z,
            cu_seqlens: self.bounds.as_deref(),
            ..States::default()
        }
    }

    pub fn plan(&self, caps: &Caps) -> subquad::Result<Plan> {
        if self.step {
            plan::step(&self.shape, &self.options, [None; 2], caps)
        } else {
            plan::forward(&self.shape, &self.options, self.states(), caps)
        }
    }

    /// The plan, or nothing where it was refused in words that a caller can act on: a limit, or segments of the delta rule.
    pub fn planned(&self, caps: &Caps) -> Option<Plan> {
        let segments = matches!(self.options.form, Form::Segments(_));
        match self.plan(caps) {
            Err(Error::Unsupported { op: plan::OP, what })
                if segments && self.options.delta && !self.step =>
            {
                assert!(what.starts_with("segments of the delta rule"), "{what}");
                None
            }
            result => planned(result),
        }
    }

    pub fn with_form(&self, form: Form) -> Call {
        let options = Options {
            form,
            ..self.options
        };
        Call {
            options,
            ..self.clone()
        }
    }

    /// The tokens of each sequence.
    pub fn sequences(&self) -> Vec<Range<u64>> {
        match &self.bounds {
            Some(bounds) => bounds
                .windows(2)
                .map(|ends| ends[0].into()..ends[1].into())
                .collect(),
            None => vec![0..self.shape.tokens as u64; self.shape.batch],
        }
    }

    /// States that go in and come out: one a sequence and key head.
    pub fn state_count(&self) -> u64 {
        (self.sequences().len() * self.shape.kv_heads) as u64
    }

    /// The row of a token of a head in a tensor with so many heads.
    pub fn row(&self, heads: u64, batch: u64, head: u64, token: u64) -> u64 {
        let tokens = self.shape.tokens as u64;
        match self.shape.layout {
            Layout::Bthd => (batch * tokens + token) * heads + head,
            Layout::Bhtd => (batch * heads + head) * tokens + token,
        }
    }

    /// The slot of a tensor of the caller's by its name, where the call has it.
    pub fn slot(&self, name: &str) -> Option<Slot> {
        let z = self.options.normalize.is_some();
        let named = |names: &[(&'static str, bool)]| {
            let mut given = names.iter().filter(|(_, given)| *given);
            given
                .position(|(other, _)| *other == name)
                .map(|n| n as u16)
        };
        let inputs = [
            ("q", true),
            ("k", true),
            ("v", true),
            ("log_decay", self.options.decay != Decay::None),
            ("beta", self.options.delta),
            ("initial", self.initial && !self.step),
            ("initial_z", self.initial_z && !self.step),
        ];
        let outputs = [
            ("o", true),
            ("last", self.last || self.step),
            ("last_z", self.last_z || (self.step && z)),
        ];
        let input = named(&inputs).map(Slot::Input);
        input.or_else(|| named(&outputs).map(Slot::Output))
    }

    /// Bytes of the tensor that the caller passes in a slot, in whole words.
    pub fn tensor_bytes(&self, slot: Slot) -> Option<u64> {
        let Shape { key, value, .. } = self.shape;
        let elem = self.shape.dtype.bytes();
        let per_token = (self.shape.state_rows() * self.shape.tokens) as u64;
        let sums = 4 * self.state_count() * key as u64;
        let decays = match self.options.decay {
            Decay::None => 0,
            Decay::Head => self.shape.kv_heads as u64,
            Decay::Token => per_token,
            _ => per_token * key as u64,
        };
        let tensors = [
            ("q", self.shape.query_len() as u64 * elem),
            ("k", self.shape.key_len() as u64 * elem),
            ("v", self.shape.value_len() as u64 * elem),
            ("log_decay", 4 * decays),
            ("beta", 4 * per_token),
            ("initial", sums * value as u64),
            ("initial_z", sums),
            ("o", self.shape.output_len() as u64 * elem),
            ("last", sums * value as u64),
            ("last_z", sums),
        ];
        let found = tensors
            .iter()
            .find(|(name, _)| self.slot(name) == Some(slot));
        found.map(|(_, bytes)| bytes.next_multiple_of(4))
    }
}

fn width() -> impl Strategy<Value = usize> {
    prop_oneof![
        1..=512usize,
        (1..=128usize).prop_map(|n| 4 * n),
        select(vec![1, 2, 3, 4, 16, 63, 64, 65, 127, 128, 256, 511, 512]),
    ]
}

fn tokens() -> impl Strategy<Value = usize> {
    prop_oneof![
        0..=5usize,
        28..=36usize,
        60..=68usize,
        1..=600usize,
        (1..=64usize, 0..=2usize).prop_map(|(n, more)| 64 * n + more - 1),
        600..=40_000usize,
    ]
}

/// Batch and heads of states.
fn rows() -> impl Strategy<Value = (usize, usize)> {
    prop_oneof![
        4 => (0..=4usize, 0..=9usize),
        1 => (1..=600usize, 1..=40usize),
        1 => (1..=2usize, 1..=70_000usize),
    ]
}

/// Query heads of one state: up to 8 are read at once, more are spread over copies of the state.
fn groups() -> impl Strategy<Value = usize> {
    prop_oneof![
        4 => Just(1usize),
        2 => 2..=8usize,
        1 => select(vec![9, 10, 11, 12, 16, 24, 64, 71]),
    ]
}

fn form() -> impl Strategy<Value = Form> {
    prop_oneof![
        Just(Form::Auto),
        Just(Form::Fused),
        Just(Form::Recurrent),
        (1..=20u32).prop_map(Form::Segments),
        Just(Form::Segments(u32::MAX)),
    ]
}

/// Every combination of options that is legal on a device.
fn options() -> impl Strategy<Value = Options> {
    let rule = (
        select(vec![Decay::None, Decay::Head, Decay::Token, Decay::Channel]),
        any::<bool>(),
        prop::option::weighted(0.4, select(vec![0.0f32, 0.25])),
        prop::bool::weighted(0.2),
    );
    let maps = select(vec![
        FeatureMap::Identity,
        FeatureMap::Relu,
        FeatureMap::Elu1,
    ]);
    (rule, maps, form()).prop_map(
        |((decay, delta, normalize, all), feature_map, form)| Options {
            decay: if all { Decay::None } else { decay },
            delta: delta && !all,
            causal: !all,
            normalize: normalize.filter(|_| all || !delta),
            feature_map,
            form,
            scale: 0.5,
        },
    )
}

/// Where the tokens of one batch entry are cut into sequences, in 2^16ths; ends that repeat make empty sequences.
fn cuts() -> impl Strategy<Value = Vec<u32>> {
    let cut = || prop_oneof![4 => 0..=1u32 << 16, 1 => Just(0), 1 => Just(1 << 16)];
    prop_oneof![
        4 => prop::collection::vec(cut(), 0..=5),
        1 => prop::collection::vec(cut(), 6..=300),
    ]
}

/// Calls of at most `most` token rows of queries.
pub fn calls(most: usize) -> impl Strategy<Value = Call> {
    let sizes = (
        rows(),
        groups(),
        tokens(),
        width(),
        width(),
        select(vec![Layout::Bthd, Layout::Bhtd]),
        select(vec![Dtype::F32, Dtype::F16, Dtype::Bf16]),
    );
    let states = (any::<[bool; 4]>(), prop::bool::weighted(0.2));
    let packed = prop::option::weighted(0.3, cuts());
    (sizes, options(), states, packed).prop_map(move |(sizes, options, states, cuts)| {
        let ((batch, kv_heads), group, tokens, key, value, layout, dtype) = sizes;
        let ([initial, initial_z, last, last_z], step) = states;
        let cuts = cuts.filter(|_| !step);
        let batch = if cuts.is_some() { 1 } else { batch };
        let fits = batch * kv_heads * group <= 100_000;
        let heads = kv_heads * if fits { group } else { 1 };
        let tokens = tokens.min(most / (batch * heads).max(1));
        let bounds = cuts.map(|cuts| {
            let cut = |at: u32| ((u64::from(at) * tokens as u64) >> 16) as u32;
            let mut bounds: Vec<u32> = cuts.into_iter().map(cut).collect();
            bounds.extend([0, tokens as u32]);
            bounds.sort_unstable();
            bounds
        });
        let z = options.normalize.is_some();
        Call {
            shape: Shape {
                batch,
                tokens,
                heads,
                kv_heads,
                key,
                value,
                layout,
                dtype,
            },
            // A step walks from a state that lies there.
            options: Options {
                causal: options.causal || step,
                ..options
            },
            initial,
            initial_z: initial_z && z,
            last,
            last_z: last_z && z,
            bounds,
            step,
        }
    })
}

/// The presets, and presets with some limits shrunk.
pub fn devices() -> impl Strategy<Value = Caps> {
    let or = |values: Vec<u64>| prop::option::weighted(0.25, select(values));
    (
        select(Caps::presets()),
        or(vec![64 << 10, 1 << 20, 16 << 20]),
        or(vec![4 << 10, 1 << 20, 64 << 20]),
        or(vec![16, 256]),
        or(vec![1, 16, 1024]),
        or(vec![1, 20, 5000]),
        or(vec![65_535, 3_000]),
    )
        .prop_map(
            |(mut caps, binding, scratch, groups, fill, gflops, loops)| {
                caps.binding_bytes = binding.unwrap_or(caps.binding_bytes);
                caps.scratch_bytes = scratch.unwrap_or(caps.scratch_bytes);
                caps.groups_per_dim = groups.map_or(caps.groups_per_dim, |n| n as u32);
                caps.fill = fill.map_or(caps.fill, |n| n as u32);
                caps.loop_iterations = loops.unwrap_or(caps.loop_iterations);
                caps.gflops = gflops.map_or(caps.gflops, |n| n as f64);
                caps
            },
        )
}

/// The plan, or nothing where it was refused in words that a caller can act on.
pub fn planned(result: subquad::Result<Plan>) -> Option<Plan> {
    match result {
        Ok(plan) => Some(plan),
        Err(Error::Limit { .. }) => None,
        Err(error) => panic!("a legal call was refused with {error:?}"),
    }
}

/// The values of a step's parameters by name.
pub fn params(step: &Step) -> HashMap<&'static str, u32> {
    let word = |at: usize| u32::from_ne_bytes(step.params[at..at + 4].try_into().unwrap());
    step.kernel
        .params
        .iter()
        .map(|(name, at)| (*name, word(*at)))
        .collect()
}

/// The bindings of a step by the names of the shader's variables.
pub fn binds(step: &Step) -> HashMap<String, Bind> {
    type Names = Mutex<HashMap<Arc<Kernel>, Vec<String>>>;
    static NAMES: OnceLock<Names> = OnceLock::new();
    let mut cache = NAMES.get_or_init(Names::default).lock().unwrap();
    let names = cache.entry(step.kernel.clone()).or_insert_with(|| {
        let reflection = reflect(&step.kernel).unwrap();
        let named: BTreeMap<u32, String> = reflection
            .module
            .global_variables
            .iter()
            .filter_map(|(_, variable)| Some((variable.binding?.binding, variable.name.clone()?)))
            .collect();
        named.into_values().collect()
    });
    assert_eq!(names.len(), step.bind.len(), "{}", step.kernel.label());
    names
        .iter()
        .cloned()
        .zip(step.bind.iter().cloned())
        .collect()
}

pub fn has_part(step: &Step, path: &str) -> bool {
    step.kernel.parts.iter().any(|part| part.path == path)
}

pub fn constant(step: &Step, name: &str) -> u64 {
    match step.kernel.spec.0.iter().find(|(n, _)| *n == name) {
        Some((_, Value::U32(n))) => u64::from(*n),
        Some((_, Value::Bool(flag))) => u64::from(*flag),
        other => panic!("{name} of {} is {other:?}", step.kernel.label()),
    }
}
