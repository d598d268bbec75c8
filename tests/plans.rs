//! Plans on invented devices, held against their shapes without a GPU.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, OnceLock},
};

use proptest::{prelude::*, sample::select, test_runner::FileFailurePersistence};
use subquad::{
    Error,
    gpu::{Caps, Dtype, Kernel, Value, reflect},
    linear::{
        Decay, Form, Layout, Options, Shape,
        plan::{self, States},
    },
    plan::{Bind, Plan, Slot, Step},
};

/// A call of the planner.
#[derive(Clone, Copy, Debug)]
struct Call {
    shape: Shape,
    options: Options,
    states: States,
    /// `step` instead of `forward`: the state is updated in place, `options.form` and `states` are ignored.
    step: bool,
}

impl Call {
    fn plan(&self, caps: &Caps) -> subquad::Result<Plan> {
        if self.step {
            plan::step(&self.shape, &self.options, caps)
        } else {
            plan::forward(&self.shape, &self.options, self.states, caps)
        }
    }

    fn decays(&self) -> bool {
        self.options.decay != Decay::None
    }

    fn has_last(&self) -> bool {
        self.step || self.states.last
    }

    /// Bytes of the tensor that the caller passes in a slot, in whole words.
    fn tensor_bytes(&self, slot: Slot) -> Option<u64> {
        let elem = self.shape.dtype.bytes();
        let state = 4 * self.shape.state_len() as u64;
        let first_state = if self.decays() { 4 } else { 3 };
        let bytes = match slot {
            Slot::Input(0 | 1) => self.shape.key_len() as u64 * elem,
            Slot::Input(2) | Slot::Output(0) => self.shape.value_len() as u64 * elem,
            Slot::Input(3) if self.decays() => 4 * self.shape.heads as u64,
            Slot::Input(n) if n == first_state && self.states.initial && !self.step => state,
            Slot::Output(1) if self.has_last() => state,
            _ => return None,
        };
        Some(bytes.next_multiple_of(4))
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

fn rows() -> impl Strategy<Value = (usize, usize)> {
    prop_oneof![
        4 => (0..=4usize, 0..=9usize),
        1 => (1..=600usize, 1..=40usize),
        1 => (1..=2usize, 1..=70_000usize),
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

/// Calls of at most `most` token rows.
fn calls(most: usize) -> impl Strategy<Value = Call> {
    let sizes = (
        rows(),
        tokens(),
        width(),
        width(),
        select(vec![Layout::Bthd, Layout::Bhtd]),
        select(vec![Dtype::F32, Dtype::F16, Dtype::Bf16]),
    );
    let rest = (
        select(vec![Decay::None, Decay::Head]),
        form(),
        any::<bool>(),
        any::<bool>(),
        prop::bool::weighted(0.2),
    );
    (sizes, rest).prop_map(
        move |(((batch, heads), tokens, key, value, layout, dtype), rest)| {
            let (decay, form, initial, last, step) = rest;
            let rows = (batch * heads).max(1);
            let shape = Shape {
                batch,
                tokens: tokens.min(most / rows),
                heads,
                kv_heads: heads,
                key,
                value,
                layout,
                dtype,
            };
            let options = Options {
                decay,
                form,
                scale: 0.5,
                ..Options::plain()
            };
            Call {
                shape,
                options,
                states: States { initial, last },
                step,
            }
        },
    )
}

/// The presets, and presets with some limits shrunk.
fn devices() -> impl Strategy<Value = Caps> {
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
fn planned(result: subquad::Result<Plan>) -> Option<Plan> {
    match result {
        Ok(plan) => Some(plan),
        Err(Error::Limit { .. }) => None,
        Err(error) => panic!("a legal call was refused with {error:?}"),
    }
}

/// The values of a step's parameters by name.
fn params(step: &Step) -> HashMap<&'static str, u32> {
    let word = |at: usize| u32::from_ne_bytes(step.params[at..at + 4].try_into().unwrap());
    step.kernel
        .params
        .iter()
        .map(|(name, at)| (*name, word(*at)))
        .collect()
}

/// The bindings of a step by the names of the shader's variables.
fn binds(step: &Step) -> HashMap<String, Bind> {
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

fn has_part(step: &Step, path: &str) -> bool {
    step.kernel.parts.iter().any(|part| part.path == path)
}

fn constant(step: &Step, name: &str) -> u64 {
    match step.kernel.spec.0.iter().find(|(n, _)| *n == name) {
        Some((_, Value::U32(n))) => u64::from(*n),
        other => panic!("{name} of {} is {other:?}", step.kernel.label()),
    }
}

/// What a state in memory is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    /// The state of a head after its first tokens.
    After(u64),
    /// What tokens from the first number up to the second add to it.
    Added(u64, u64),
}

/// Follows a plan head by head: which tokens each step computes, and which state it starts from.
struct Model<'a> {
    call: &'a Call,
    /// Tokens computed so far of each head.
    done: Vec<u64>,
    /// Where states lie: slot and number of the state in it, then the head it belongs to.
    states: HashMap<(Slot, u64), (u64, State)>,
    /// Where the tokens' outputs go.
    out: Option<Slot>,
    packed: u64,
}

impl<'a> Model<'a> {
    fn new(call: &'a Call) -> Model<'a> {
        let rows = call.shape.rows() as u64;
        let mut states = HashMap::new();
        for head in 0..rows {
            if call.step {
                states.insert((Slot::Output(1), head), (head, State::After(0)));
            } else if call.states.initial {
                let slot = Slot::Input(if call.decays() { 4 } else { 3 });
                states.insert((slot, head), (head, State::After(0)));
            }
        }
        Model {
            call,
            done: vec![0; rows as usize],
            states,
            out: None,
            packed: 0,
        }
    }

    /// The row of a token of a head, counted from the start of the tensor.
    fn row(&self, head: u64, token: u64) -> u64 {
        let Shape {
            heads,
            tokens,
            layout,
            ..
        } = self.call.shape;
        let (heads, tokens) = (heads as u64, tokens as u64);
        match layout {
            Layout::Bthd => (head / heads * tokens + token) * heads + head % heads,
            Layout::Bhtd => head * tokens + token,
        }
    }

    /// Asserts that an index computed by the shader (modulo 2^32, from the start of the binding) is an element of the whole
    /// tensor, and that the binding has `len` elements from there.
    fn index(bind: &Bind, elem_bytes: u64, index: u32, wanted: u64, len: u64) {
        let first = bind.bytes.start / elem_bytes;
        assert_eq!(
            first + u64::from(index),
            wanted,
            "index {index} of {bind:?} is another element"
        );
        assert!(
            (wanted + len) * elem_bytes <= bind.bytes.end,
            "elements {wanted} + {len} leave {bind:?}"
        );
    }

    /// The token rows of a segment: `first` is the token of the sequence that the shader counts as token 0.
    #[allow(
        clippy::too_many_arguments,
        reason = "one argument per quantity of the formula"
    )]
    fn rows(
        &self,
        p: &HashMap<&str, u32>,
        bind: &Bind,
        offset: u32,
        elem_bytes: u64,
        width: usize,
        head: u32,
        first: u64,
        tokens: [u32; 2],
    ) {
        let row = (head / p["heads"])
            .wrapping_mul(p["batch_stride"])
            .wrapping_add((head % p["heads"]).wrapping_mul(p["head_stride"]));
        // The index is affine in the token: both ends right means all right. Token 0 is read in place of missing ones.
        for t in [0, tokens[0], tokens[1] - 1] {
            let index = row
                .wrapping_add(t.wrapping_mul(p["token_stride"]))
                .wrapping_mul(width as u32)
                .wrapping_add(offset);
            let wanted = self.row(head.into(), first + u64::from(t)) * width as u64;
            Self::index(bind, elem_bytes, index, wanted, width as u64);
        }
    }

    /// The number of the state that the shader addresses for a segment of a head.
    fn state_number(
        &self,
        p: &HashMap<&str, u32>,
        bind: &Bind,
        offset: u32,
        head: u32,
        segments: u32,
        segment: u32,
    ) -> (Slot, u64) {
        let words = p["key"] * p["value"];
        let index = head
            .wrapping_mul(segments)
            .wrapping_add(segment)
            .wrapping_mul(words)
            .wrapping_add(offset);
        let element = bind.bytes.start / 4 + u64::from(index);
        assert_eq!(
            element % u64::from(words),
            0,
            "a state begins inside another"
        );
        Self::index(bind, 4, index, element, words.into());
        (bind.slot, element / u64::from(words))
    }

    fn state(&self, at: (Slot, u64), head: u32) -> State {
        match self.states.get(&at) {
            Some((owner, state)) if *owner == u64::from(head) => *state,
            other => panic!("head {head} reads the state at {at:?}, which is {other:?}"),
        }
    }

    fn run(&mut self, step: &Step) {
        let p = params(step);
        let binds = binds(step);
        if let Some(bind) = binds.get("log_decay") {
            assert!(self.call.decays());
            assert_eq!((bind.slot, bind.bytes.start), (Slot::Input(3), 0));
            assert!(bind.bytes.end >= 4 * self.call.shape.heads as u64);
        }
        match step.kernel.name {
            "linear/chunk" | "linear/recurrent" => self.walk(step, &p, &binds),
            "linear/local_state" => self.local_state(step, &p, &binds),
            "linear/state_scan" => self.scan(step, &p, &binds),
            "linear/pack_output" => self.pack(step, &p, &binds),
            other => panic!("this test does not know the kernel {other}"),
        }
    }

    /// The heads of a step and, per segment, its local tokens; checks the number of groups.
    fn work(
        &self,
        step: &Step,
        p: &HashMap<&str, u32>,
        columns: u64,
    ) -> (std::ops::Range<u32>, Vec<[u32; 2]>) {
        let shape = &self.call.shape;
        assert_eq!(
            (p["key"], p["value"]),
            (shape.key as u32, shape.value as u32)
        );
        assert_eq!(p["heads"], shape.heads as u32);
        assert_eq!(self.call.decays(), has_part(step, "linear/decay_head.wgsl"));
        assert_eq!(
            u64::from(p["slices"]),
            (shape.value as u64).div_ceil(columns)
        );
        assert_eq!(u64::from(p["groups"]), step.groups);
        let a_head = u64::from(p["slices"]) * u64::from(p["segments"]);
        assert_eq!(step.groups % a_head, 0);
        let first = p["first_head"];
        let heads = first..first + (step.groups / a_head) as u32;
        assert!(heads.end as usize <= shape.rows());
        let segments = (0..p["segments"])
            .map(|n| {
                let begin = n * p["segment_tokens"];
                let end = (begin + p["segment_tokens"]).min(p["tokens"]);
                assert!(begin < end, "segment {n} is empty");
                [begin, end]
            })
            .collect();
        (heads, segments)
    }

    fn walk(&mut self, step: &Step, p: &HashMap<&str, u32>, binds: &HashMap<String, Bind>) {
        let Shape {
            key, value, dtype, ..
        } = self.call.shape;
        let columns = match step.kernel.name {
            "linear/chunk" => constant(step, "VALUE_TILE"),
            _ => 4 * constant(step, "LANES"),
        };
        let (heads, segments) = self.work(step, p, columns);
        assert_eq!(f32::from_bits(p["scale"]), self.call.options.scale);
        for (name, slot) in [("q", 0), ("k", 1), ("v", 2)] {
            assert_eq!(binds[name].slot, Slot::Input(slot));
        }
        let out = &binds["o"];
        assert!(self.out.is_none_or(|slot| slot == out.slot));
        self.out = Some(out.slot);
        let out_bytes = match out.slot {
            Slot::Output(0) => dtype.bytes(),
            Slot::Scratch(_) => 4,
            slot => panic!("outputs go to {slot:?}"),
        };
        for head in heads {
            let first = self.done[head as usize];
            for (n, tokens) in segments.iter().enumerate() {
                let from = first + u64::from(tokens[0]);
                for (name, offset, bytes, width) in [
                    ("q", "q_offset", dtype.bytes(), key),
                    ("k", "k_offset", dtype.bytes(), key),
                    ("v", "v_offset", dtype.bytes(), value),
                    ("o", "o_offset", out_bytes, value),
                ] {
                    self.rows(
                        p,
                        &binds[name],
                        p[offset],
                        bytes,
                        width,
                        head,
                        first,
                        *tokens,
                    );
                }
                let at = self.state_number(
                    p,
                    &binds["state"],
                    p["state_offset"],
                    head,
                    p["segments"],
                    n as u32,
                );
                self.check_start(step, p, binds, head, at, from);
                let end = first + u64::from(tokens[1]);
                self.states.insert(at, (head.into(), State::After(end)));
                self.done[head as usize] = end;
            }
        }
    }

    /// Asserts that a head's tokens from `from` on start from the state before them.
    fn check_start(
        &self,
        step: &Step,
        p: &HashMap<&str, u32>,
        binds: &HashMap<String, Bind>,
        head: u32,
        resumed: (Slot, u64),
        from: u64,
    ) {
        if has_part(step, "linear/start_zero.wgsl") {
            assert!(!self.call.step && !self.call.states.initial && from == 0);
        } else if has_part(step, "linear/start_given.wgsl") {
            let at = self.state_number(p, &binds["start"], p["start_offset"], head, 1, 0);
            assert_eq!((self.state(at, head), from), (State::After(0), 0));
        } else {
            assert!(has_part(step, "linear/start_resume.wgsl"));
            assert_eq!(self.state(resumed, head), State::After(from));
        }
    }

    fn local_state(&mut self, step: &Step, p: &HashMap<&str, u32>, binds: &HashMap<String, Bind>) {
        let Shape {
            key, value, dtype, ..
        } = self.call.shape;
        let (heads, segments) = self.work(step, p, constant(step, "VALUE_TILE"));
        assert_eq!(binds["k"].slot, Slot::Input(1));
        assert_eq!(binds["v"].slot, Slot::Input(2));
        for head in heads {
            let first = self.done[head as usize];
            for (n, tokens) in segments.iter().enumerate() {
                let bytes = dtype.bytes();
                self.rows(
                    p,
                    &binds["k"],
                    p["k_offset"],
                    bytes,
                    key,
                    head,
                    first,
                    *tokens,
                );
                self.rows(
                    p,
                    &binds["v"],
                    p["v_offset"],
                    bytes,
                    value,
                    head,
                    first,
                    *tokens,
                );
                let at = self.state_number(
                    p,
                    &binds["state"],
                    p["state_offset"],
                    head,
                    p["segments"],
                    n as u32,
                );
                let [from, to] = tokens.map(|t| first + u64::from(t));
                self.states
                    .insert(at, (head.into(), State::Added(from, to)));
            }
        }
    }

    fn scan(&mut self, step: &Step, p: &HashMap<&str, u32>, binds: &HashMap<String, Bind>) {
        let shape = &self.call.shape;
        assert_eq!(
            (p["key"], p["value"]),
            (shape.key as u32, shape.value as u32)
        );
        assert_eq!(p["heads"], shape.heads as u32);
        assert_eq!(self.call.decays(), has_part(step, "linear/decay_head.wgsl"));
        let vectors = shape.key as u64 * (shape.value as u64).div_ceil(4);
        assert!(64 * step.groups >= u64::from(p["head_count"]) * vectors);
        for head in p["first_head"]..p["first_head"] + p["head_count"] {
            let home = self.state_number(p, &binds["state"], p["state_offset"], head, 1, 0);
            let first = self.done[head as usize];
            self.check_start(step, p, binds, head, home, first);
            let mut after = first;
            for n in 0..p["segments"] {
                let at = self.state_number(
                    p,
                    &binds["states"],
                    p["states_offset"],
                    head,
                    p["segments"],
                    n,
                );
                let tokens = if n + 1 == p["segments"] {
                    p["last_tokens"]
                } else {
                    p["segment_tokens"]
                };
                let added = State::Added(after, after + u64::from(tokens));
                assert_eq!(self.state(at, head), added);
                self.states.insert(at, (head.into(), State::After(after)));
                after += u64::from(tokens);
            }
            self.states.insert(home, (head.into(), State::After(after)));
        }
    }

    fn pack(&mut self, step: &Step, p: &HashMap<&str, u32>, binds: &HashMap<String, Bind>) {
        let (wide, packed) = (&binds["wide"], &binds["packed"]);
        assert!(
            self.done
                .iter()
                .all(|n| *n == self.call.shape.tokens as u64)
        );
        assert_eq!((Some(wide.slot), packed.slot), (self.out, Slot::Output(0)));
        let elements = u64::from(p["elements"]);
        assert_eq!(
            (wide.bytes.start / 4, packed.bytes.start / 2),
            (self.packed, self.packed)
        );
        assert!(wide.bytes.end >= 4 * (self.packed + elements));
        assert!(packed.bytes.end >= 2 * (self.packed + elements));
        assert!(128 * step.groups >= elements);
        self.packed += elements;
        let whole = self.call.shape.value_len() as u64;
        assert!(
            self.packed.is_multiple_of(2) || self.packed == whole,
            "two steps write one word"
        );
    }

    fn check_end(&self) {
        let shape = &self.call.shape;
        for (head, done) in self.done.iter().enumerate() {
            assert_eq!(*done, shape.tokens as u64, "head {head} is not finished");
            if self.call.has_last() {
                let last = self.state((Slot::Output(1), head as u64), head as u32);
                assert_eq!(last, State::After(shape.tokens as u64));
            }
        }
        if matches!(self.out, Some(Slot::Scratch(_))) {
            assert_eq!(self.packed, shape.value_len() as u64);
        }
    }
}

/// The bytes of an output that some step may write, as ordered disjoint ranges.
fn written(plan: &Plan, slot: Slot) -> Vec<[u64; 2]> {
    let mut ranges: Vec<[u64; 2]> = plan
        .steps
        .iter()
        .flat_map(|step| &step.bind)
        .filter(|bind| bind.write && bind.slot == slot)
        .map(|bind| [bind.bytes.start, bind.bytes.end])
        .collect();
    ranges.sort_unstable();
    let mut joined: Vec<[u64; 2]> = Vec::new();
    for [start, end] in ranges {
        match joined.last_mut() {
            Some(last) if start <= last[1] => last[1] = last[1].max(end),
            _ => joined.push([start, end]),
        }
    }
    joined
}

/// The device with just enough memory for the forms that fit it and need the least.
fn barely_enough(call: &Call, caps: Caps) -> Vec<Caps> {
    let with = |form, caps: &Caps| {
        let options = Options {
            form,
            ..call.options
        };
        planned(plan::forward(&call.shape, &options, call.states, caps))
    };
    [Form::Fused, Form::Recurrent]
        .into_iter()
        .filter_map(|form| {
            let tight = Caps {
                scratch_bytes: with(form, &caps)?.scratch_bytes(),
                ..caps.clone()
            };
            assert!(with(form, &tight).is_some());
            Some(tight)
        })
        .collect()
}

/// Tokens and heads that a step covers, where it covers any.
fn covered(step: &Step) -> Option<[u64; 2]> {
    let p = params(step);
    let of = |name: &str| u64::from(p[name]);
    match step.kernel.name {
        "linear/pack_output" => None,
        "linear/state_scan" => {
            let whole = of("segments").saturating_sub(1) * of("segment_tokens");
            Some([whole + of("last_tokens"), of("head_count")])
        }
        _ => Some([of("tokens"), step.groups / of("segments") / of("slices")]),
    }
}

/// The model is itself held against plans with one parameter changed.
#[test]
fn model_notices_every_changed_parameter() {
    let call = Call {
        shape: Shape {
            value: 32,
            ..shape(2, 300, 3, 64)
        },
        options: Options {
            form: Form::Segments(3),
            ..Options::lightning()
        },
        states: States {
            initial: true,
            last: true,
        },
        step: false,
    };
    let plan = call.plan(&Caps::nvidia()).unwrap();
    let passes = |plan: &Plan| {
        std::panic::catch_unwind(|| {
            let mut model = Model::new(&call);
            for step in &plan.steps {
                model.run(step);
            }
            model.check_end();
        })
        .is_ok()
    };
    assert!(passes(&plan));
    assert_eq!(plan.steps.len(), 3);
    for (n, step) in plan.steps.iter().enumerate() {
        let mut without = plan.clone();
        without.steps.remove(n);
        assert!(!passes(&without), "without {}", step.kernel.name);
        for (name, at) in step.kernel.params {
            let unread: &[&str] = match step.kernel.name {
                // It resumes.
                "linear/chunk" => &["start_offset"],
                // It starts from zero and writes no outputs.
                "linear/local_state" => &["start_offset", "q_offset", "o_offset", "scale"],
                _ => &[],
            };
            if unread.contains(name) {
                continue;
            }
            let mut changed = plan.clone();
            let params = &mut changed.steps[n].params[*at..*at + 4];
            let value = u32::from_ne_bytes(params.try_into().unwrap());
            params.copy_from_slice(&value.wrapping_add(64).to_ne_bytes());
            assert!(!passes(&changed), "{name} of {}", step.kernel.name);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 400,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn plans_pass_their_own_check(call in calls(1 << 20), caps in devices()) {
        if let Some(plan) = planned(call.plan(&caps)) {
            plan.check(&caps).unwrap();
            for step in &plan.steps {
                prop_assert!(step.groups > 0, "{} has no group", step.kernel.label());
                let fields = step.kernel.params.last().map_or(0, |(_, at)| at + 4);
                prop_assert_eq!(step.params.len(), fields, "{}", step.kernel.label());
            }
        }
    }

    #[test]
    fn bindings_lie_inside_their_tensors(call in calls(1 << 20), caps in devices()) {
        if let Some(plan) = planned(call.plan(&caps)) {
            for bind in plan.steps.iter().flat_map(|step| &step.bind) {
                prop_assert_eq!(bind.bytes.start % 256, 0, "{:?}", bind);
                let room = match bind.slot {
                    Slot::Scratch(n) => plan.scratch.get(usize::from(n)).copied(),
                    slot => call.tensor_bytes(slot),
                };
                prop_assert!(
                    room.is_some_and(|bytes| bind.bytes.end <= bytes),
                    "{:?} in a tensor of {:?} bytes", bind, room
                );
            }
        }
    }

    #[test]
    fn output_covered_by_writable_bindings(call in calls(1 << 20), caps in devices()) {
        if let Some(plan) = planned(call.plan(&caps)) {
            let untouched = call.step && call.shape.tokens == 0;
            for slot in [Slot::Output(0), Slot::Output(1)] {
                let bytes = call.tensor_bytes(slot).unwrap_or(0);
                let whole = if bytes == 0 || (untouched && slot == Slot::Output(1)) {
                    vec![]
                } else {
                    vec![[0, bytes]]
                };
                prop_assert_eq!(written(&plan, slot), whole, "{:?}", slot);
            }
        }
    }

    #[test]
    fn scratch_is_written_before_it_is_read(call in calls(1 << 20), caps in devices()) {
        if let Some(plan) = planned(call.plan(&caps)) {
            for (n, bytes) in plan.scratch.iter().enumerate() {
                prop_assert!(*bytes > 0 && bytes % 16 == 0);
                let slot = Slot::Scratch(n as u8);
                let uses: Vec<&Bind> = plan.steps.iter().flat_map(|step| &step.bind).filter(|bind| bind.slot == slot).collect();
                prop_assert!(uses.first().is_some_and(|bind| bind.write), "{:?} is {:?}", slot, uses.first());
            }
        }
    }

    #[test]
    fn tokens_computed_once_and_in_order_from_the_right_state(call in calls(1 << 17), caps in devices()) {
        if let Some(plan) = planned(call.plan(&caps)) {
            let mut model = Model::new(&call);
            for step in &plan.steps {
                model.run(step);
            }
            model.check_end();
        }
    }

    #[test]
    fn variants_compute_the_same_tokens(call in calls(1 << 15), caps in devices()) {
        if let Ok(plans) = plan::variants(&call.shape, &call.options, call.states, &caps) {
            let call = Call { step: false, ..call };
            if let Ok(first) = call.plan(&caps) {
                prop_assert_eq!(&plans[0], &first);
            }
            for plan in &plans {
                let mut model = Model::new(&call);
                for step in &plan.steps {
                    model.run(step);
                }
                model.check_end();
                prop_assert_eq!(plan.work, plans[0].work);
            }
        }
    }

    #[test]
    fn auto_plans_wherever_a_form_does(call in calls(1 << 17), caps in devices()) {
        for caps in barely_enough(&call, caps) {
            let auto = plan::forward(&call.shape, &Options { form: Form::Auto, ..call.options }, call.states, &caps);
            prop_assert!(auto.is_ok(), "{:?} with {} bytes", auto.err(), caps.scratch_bytes);
        }
    }

    #[test]
    fn variants_exist_wherever_a_form_does(call in calls(1 << 17), caps in devices()) {
        for caps in barely_enough(&call, caps) {
            let variants = plan::variants(&call.shape, &Options { form: Form::Auto, ..call.options }, call.states, &caps);
            prop_assert!(variants.is_ok(), "{:?} with {} bytes", variants.err(), caps.scratch_bytes);
        }
    }

    #[test]
    fn steps_stay_short(call in calls(1 << 20), caps in devices()) {
        if let Some(plan) = planned(call.plan(&caps)) {
            let mut walked = 0.0;
            for step in &plan.steps {
                let least = covered(step).is_some_and(|[tokens, heads]| heads == 1 && tokens <= 64);
                prop_assert!(
                    step.predicted_ms <= 100.0 || least,
                    "{} is predicted to take {} ms", step.kernel.label(), step.predicted_ms
                );
                if has_part(step, "linear/chunk.wgsl") || has_part(step, "linear/recurrent.wgsl") {
                    walked += step.predicted_ms;
                }
            }
            let whole = plan.work.flops / (caps.gflops * 1e6);
            prop_assert!((walked - whole).abs() <= 1e-9 * whole, "{} of {} ms are predicted", walked, whole);
        }
    }
}

fn shape(batch: usize, tokens: usize, heads: usize, width: usize) -> Shape {
    Shape {
        batch,
        tokens,
        heads,
        kv_heads: heads,
        key: width,
        value: width,
        layout: Layout::Bthd,
        dtype: Dtype::F32,
    }
}

fn forward(shape: Shape, form: Form, caps: &Caps) -> Plan {
    let options = Options {
        form,
        ..Options::lightning()
    };
    plan::forward(&shape, &options, States::default(), caps).unwrap()
}

/// Room for long sequences: these tests ask which kernels are chosen, not whether tensors fit.
fn with_large_buffers(caps: Caps) -> Caps {
    Caps {
        buffer_bytes: 1 << 40,
        ..caps
    }
}

#[test]
fn impossible_arguments_are_refused() {
    let good = shape(1, 100, 2, 64);
    let plain = Options::plain();
    let bad = [
        (Shape { key: 0, ..good }, plain),
        (Shape { key: 513, ..good }, plain),
        (Shape { value: 0, ..good }, plain),
        (Shape { value: 513, ..good }, plain),
        (
            Shape {
                dtype: Dtype::U32,
                ..good
            },
            plain,
        ),
        (
            good,
            Options {
                scale: f32::NAN,
                ..plain
            },
        ),
        (
            good,
            Options {
                scale: f32::INFINITY,
                ..plain
            },
        ),
        (
            good,
            Options {
                form: Form::Segments(0),
                ..plain
            },
        ),
        (
            Shape {
                batch: usize::MAX,
                ..good
            },
            plain,
        ),
        (
            Shape {
                tokens: usize::MAX,
                ..good
            },
            plain,
        ),
        (
            Shape {
                batch: 1 << 31,
                tokens: 1 << 31,
                ..good
            },
            plain,
        ),
    ];
    for caps in Caps::presets() {
        for (shape, options) in bad {
            let result = plan::forward(&shape, &options, States::default(), &caps);
            assert!(
                matches!(result, Err(Error::Argument { op: plan::OP, .. })),
                "{shape:?} {options:?}: {:?}",
                result.map(|plan| plan.label)
            );
            if options.form == plain.form {
                assert!(plan::step(&shape, &options, &caps).is_err(), "{shape:?}");
            }
        }
    }
}

#[test]
fn huge_empty_shapes_are_planned_or_refused() {
    let states = States {
        initial: false,
        last: true,
    };
    for (batch, tokens, heads) in [
        (1 << 31, 0, 1 << 31),
        (0, 1 << 31, 1 << 31),
        (1 << 31, 1 << 31, 0),
    ] {
        let shape = shape(batch, tokens, heads, 512);
        for caps in Caps::presets() {
            match plan::forward(&shape, &Options::plain(), states, &caps) {
                Ok(plan) => plan.check(&caps).unwrap(),
                Err(error) => assert!(matches!(
                    error,
                    Error::Argument { .. } | Error::Limit { .. }
                )),
            }
        }
    }
}

/// A call that no device could hold must not cost the planner time and memory in proportion.
#[test]
fn tensors_beyond_the_largest_buffer_are_refused() {
    for caps in Caps::presets() {
        for (batch, heads) in [(1, 16), (16, 1), (4, 4)] {
            for layout in [Layout::Bthd, Layout::Bhtd] {
                let tokens = (caps.buffer_bytes / (16 * 64 * 4)) as usize + 64;
                let shape = Shape {
                    layout,
                    ..shape(batch, tokens, heads, 64)
                };
                let result = plan::forward(&shape, &Options::plain(), States::default(), &caps);
                assert!(
                    matches!(result, Err(Error::Limit { .. })),
                    "{}: {shape:?} gives {:?}",
                    caps.name,
                    result.map(|plan| plan.steps.len())
                );
            }
        }
    }
}

#[test]
fn scratch_of_the_fused_form_does_not_depend_on_tokens() {
    let states = [
        States::default(),
        States {
            initial: true,
            last: true,
        },
    ];
    for caps in Caps::presets() {
        for dtype in [Dtype::F32, Dtype::F16, Dtype::Bf16] {
            for states in states {
                let scratch = |tokens| {
                    let shape = Shape {
                        dtype,
                        value: 64,
                        ..shape(2, tokens, 4, 128)
                    };
                    let options = Options {
                        form: Form::Fused,
                        ..Options::lightning()
                    };
                    plan::forward(&shape, &options, states, &caps)
                        .unwrap()
                        .scratch
                };
                let first = scratch(1);
                let state = if states.last { 0 } else { 2 * 4 * 128 * 64 * 4 };
                assert_eq!(first.iter().sum::<u64>(), state, "{}", caps.name);
                for tokens in [2, 31, 64, 65, 1000, 4096, 30_000] {
                    assert_eq!(scratch(tokens), first, "{} at {tokens} tokens", caps.name);
                }
            }
        }
    }
}

#[test]
fn kernels_do_not_multiply_with_tokens_or_batch() {
    // The first window of a call starts from zero, later ones resume; segments add their sums and their scan, from zero
    // and resumed, and walk resumed; a call too short for segments walks from zero.
    let most = [
        (Form::Fused, 2),
        (Form::Recurrent, 2),
        (Form::Segments(4), 5),
    ];
    for caps in Caps::presets().into_iter().map(with_large_buffers) {
        for (form, most) in most {
            for width in [64, 128, 65] {
                // Odd widths are stored as bf16: a step more.
                let dtype = if width == 65 { Dtype::Bf16 } else { Dtype::F32 };
                let most = most + usize::from(width == 65);
                let mut kernels: HashSet<Arc<Kernel>> = HashSet::new();
                for n in 0..20 {
                    // 32 to 22,000 tokens.
                    let tokens = (32.0 * 1.41f64.powi(n)) as usize + n as usize % 3;
                    for batch in [1, 3, 16] {
                        let shape = Shape {
                            dtype,
                            ..shape(batch, tokens, 2, width)
                        };
                        let plan = forward(shape, form, &caps);
                        kernels.extend(plan.steps.into_iter().map(|step| step.kernel));
                    }
                }
                assert!(
                    kernels.len() <= most,
                    "{} {form:?} at width {width}: {:#?}",
                    caps.name,
                    kernels
                        .iter()
                        .map(|kernel| kernel.label())
                        .collect::<Vec<_>>()
                );
            }
        }
    }
}

#[test]
fn kernels_of_decoding_do_not_depend_on_batch_or_heads() {
    for caps in Caps::presets().into_iter().map(with_large_buffers) {
        let mut kernels: HashSet<Arc<Kernel>> = HashSet::new();
        for batch in [1, 2, 7, 64, 500] {
            for heads in [1, 8, 33] {
                let plan = plan::step(&shape(batch, 1, heads, 128), &Options::lightning(), &caps);
                kernels.extend(plan.unwrap().steps.into_iter().map(|step| step.kernel));
            }
        }
        assert_eq!(kernels.len(), 1, "{}", caps.name);
    }
}

/// The reviewed table of choices: batch, tokens, heads, width, then the choice on the WebGPU floor, lavapipe, NVIDIA, AMD,
/// Intel, Apple. GPUs walk chunks once there are 32 tokens, and cut a sequence of 16 chunks or more into segments while
/// its heads keep less than half of the device busy, down to 8 chunks a segment.
const CHOICES: &[(&str, [usize; 4], [&str; 6])] = &[
    ("decoding", [1, 1, 8, 64], ["recurrent"; 6]),
    ("decoding, large batch", [64, 1, 16, 128], ["recurrent"; 6]),
    ("speculative decoding", [1, 4, 16, 128], ["recurrent"; 6]),
    ("short prompt", [1, 31, 8, 64], ["recurrent"; 6]),
    ("prompt", [1, 32, 8, 64], but_lavapipe("fused", "recurrent")),
    (
        "long prompt",
        [1, 512, 16, 128],
        but_lavapipe("fused", "recurrent"),
    ),
    (
        "below segments",
        [1, 1023, 8, 64],
        but_lavapipe("2 segments", "recurrent"),
    ),
    (
        "one head",
        [1, 1024, 1, 64],
        but_lavapipe("2 segments", "recurrent"),
    ),
    (
        "training, small",
        [1, 2048, 8, 64],
        but_lavapipe("4 segments", "recurrent"),
    ),
    (
        "training",
        [8, 2048, 16, 64],
        but_lavapipe("fused", "recurrent"),
    ),
    (
        "training, wide",
        [2, 4096, 8, 256],
        but_lavapipe("fused", "recurrent"),
    ),
    (
        "long",
        [1, 16384, 16, 128],
        [
            "fused",
            "recurrent",
            "8 segments",
            "8 segments",
            "fused",
            "fused",
        ],
    ),
    (
        "very long, one head",
        [1, 262144, 1, 64],
        [
            "64 segments",
            "recurrent",
            "256 segments",
            "256 segments",
            "64 segments",
            "64 segments",
        ],
    ),
    (
        "widest",
        [1, 2048, 4, 512],
        but_lavapipe("fused", "recurrent"),
    ),
    (
        "odd width",
        [1, 2048, 4, 65],
        but_lavapipe("4 segments, scalar", "recurrent, scalar"),
    ),
    (
        "narrow",
        [4, 2048, 4, 8],
        but_lavapipe("4 segments", "recurrent"),
    ),
    ("empty", [1, 0, 8, 64], ["recurrent"; 6]),
];

const fn but_lavapipe(all: &'static str, lavapipe: &'static str) -> [&'static str; 6] {
    [all, lavapipe, all, all, all, all]
}

#[test]
fn chosen_forms_are_the_reviewed_ones() {
    let mut table = String::new();
    for (name, [batch, tokens, heads, width], expected) in CHOICES {
        let labels: Vec<String> = Caps::presets()
            .iter()
            .map(|caps| forward(shape(*batch, *tokens, *heads, *width), Form::Auto, caps).label)
            .collect();
        if labels != *expected {
            table += &format!("{name}: {labels:?}, reviewed as {expected:?}\n");
        }
    }
    assert!(table.is_empty(), "{table}");
}
