//! Plans on invented devices, held against their shapes without a GPU.

mod calls;
mod gradients;
mod model;

use std::{collections::HashSet, sync::Arc};

use proptest::{prelude::*, test_runner::FileFailurePersistence};
use subquad::{
    Error,
    gpu::{Caps, Dtype, Kernel},
    linear::{
        Decay, Form, Layout, Options, Shape,
        plan::{self, States},
    },
    plan::{Bind, Plan, Slot, Step},
};

use calls::{Call, calls, constant, devices, has_part, params};
use model::Model;

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
    let with = |form, caps: &Caps| call.with_form(form).planned(caps);
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

/// The walk of a step, where it is one: tokens of its longest span, spans, readers a state.
fn walked(plan: &Plan, step: &Step) -> Option<[u64; 3]> {
    let walks = [
        "linear/recurrent",
        "linear/chunk",
        "linear/delta_prepare",
        "linear/sweep_back",
        "linear/sweep_on",
    ];
    if !walks.contains(&step.kernel.name) {
        return None;
    }
    let p = params(step);
    let of = |name: &str| u64::from(p[name]);
    let spans = step.groups / of("slices");
    let readers = match has_part(step, "linear/readers.wgsl") {
        true => constant(step, "GROUP"),
        false => 1,
    };
    let table = step.bind.iter().find_map(|bind| match bind.slot {
        Slot::Table(n) => Some(&plan.tables[usize::from(n)]),
        _ => None,
    });
    let tokens = match table {
        Some(table) => {
            let heads = of("state_heads");
            let rows = table.chunks(6).skip((of("first_walker") / heads) as usize);
            let rows = rows.take((spans / heads) as usize);
            rows.map(|row| u64::from(row[1] - row[0])).max().unwrap()
        }
        None => of("tokens").min(of("segment_tokens")),
    };
    Some([tokens, spans, readers])
}

/// Passes through loops of an invocation of `recurrent` that walks so many tokens, were nothing unrolled.
fn loop_passes(step: &Step, tokens: u64) -> u64 {
    let of = |name: &str| constant(step, name);
    let has = |part: &str| u64::from(has_part(step, &format!("linear/{part}.wgsl")));
    let (block, lanes, sets) = (of("TOKENS"), of("LANES"), of("ROW_GROUPS"));
    let subgroup = has("rows_subgroup") == 1;
    let held = if subgroup {
        block.div_ceil(lanes)
    } else {
        block
    };
    let last_held = |t: u64| if subgroup { t / lanes } else { t };
    let (reads, adds, delta, normalize) = (
        has("readers"),
        has("sources"),
        has("delta"),
        has("normalize"),
    );
    let (scalar, by_row) = (has("decay_head") + has("decay_token"), has("decay_rows"));
    let group = reads * of("GROUP");
    let rows = u64::from(params(step)["key"]).div_ceil(4);
    let mine = rows.div_ceil(sets);

    // What the functions of the shader pass through.
    let score = (0..block).map(|t| 2 + last_held(t)).sum::<u64>();
    let tailed = (1..block).map(|t| 2 + last_held(t)).sum::<u64>();
    let add = held + by_row * tailed + block;
    let read = 1 + held + adds * score + by_row * held + block;
    let row = 1
        + held
        + by_row * block * (1 + held)
        + group * read
        + delta * (score + held + block)
        + adds * (1 - delta) * add;
    let later = delta * (1 + held + by_row * block + add);
    let solve = delta * (0..block).map(|t| 1 + held + t).sum::<u64>();
    let outputs = group * (0..block).map(|t| 1 + adds * (held + t + 1)).sum::<u64>();
    let several = u64::from(sets > 1);
    let write =
        reads * (several * group * block + (group * block).div_ceil(sets) * (1 + several * sets));
    let prepare = scalar * (held + block) + held * (1 + block) + block + delta * held;
    let zeros = group * block * (1 + held) + block * (1 + held);
    let sums = normalize * adds * rows.div_ceil(lanes * sets) * (1 + block);
    let a_block = 1 + prepare + zeros + mine * (row + later) + solve + outputs + write + sums;
    let whole = tokens / 64 * 64u64.div_ceil(block) + (tokens % 64).div_ceil(block);
    tokens.div_ceil(64) + whole * a_block
}

/// The model is itself held against plans with one parameter changed.
#[test]
fn model_notices_every_changed_parameter() {
    let call = |options: Options, group: usize| {
        let shape = Shape {
            value: 32,
            heads: 3 * group,
            ..shape(2, 300, 3, 64)
        };
        Call::new(shape, options).with_states()
    };
    let channel = Options {
        decay: Decay::Channel,
        normalize: Some(0.5),
        ..Options::plain()
    };
    let delta = Options {
        decay: Decay::Token,
        delta: true,
        ..Options::plain()
    };
    let all = Options {
        causal: false,
        normalize: Some(0.5),
        ..Options::plain()
    };
    let packed = Call {
        bounds: Some(vec![0, 64, 64, 300]),
        ..call(delta, 1)
    };
    let packed = Call {
        shape: Shape {
            batch: 1,
            ..packed.shape
        },
        ..packed
    };
    let odd = Call {
        shape: Shape {
            key: 33,
            dtype: Dtype::Bf16,
            ..call(channel, 1).shape
        },
        ..call(channel, 1)
    };
    let in_form = |call: Call, form| call.with_form(form);
    for call in [
        in_form(call(channel, 16), Form::Recurrent),
        in_form(call(delta, 2), Form::Recurrent),
        in_form(packed.clone(), Form::Recurrent),
        in_form(call(channel, 2), Form::Segments(3)),
        in_form(call(Options::lightning(), 1), Form::Segments(2)),
        call(channel, 16),
        call(delta, 2),
        call(all, 1),
        packed,
        odd,
    ] {
        let plan = call.plan(&Caps::nvidia()).unwrap();
        let passes = |plan: &Plan| std::panic::catch_unwind(|| Model::follow(&call, plan)).is_ok();
        assert!(passes(&plan), "{call:?}");
        for (n, step) in plan.steps.iter().enumerate() {
            let mut without = plan.clone();
            without.steps.remove(n);
            assert!(!passes(&without), "without {}", step.kernel.name);
            for (name, at) in step.kernel.params {
                if unread(step, name) {
                    continue;
                }
                let mut changed = plan.clone();
                let params = &mut changed.steps[n].params[*at..*at + 4];
                let value = u32::from_ne_bytes(params.try_into().unwrap());
                params.copy_from_slice(&value.wrapping_add(64).to_ne_bytes());
                assert!(!passes(&changed), "{name} of {}", step.kernel.label());
            }
        }
        for (n, table) in plan.tables.iter().enumerate() {
            for at in 0..table.len() {
                let mut changed = plan.clone();
                changed.tables[n][at] += 1;
                assert!(!passes(&changed), "word {at} of the table");
            }
        }
    }
}

/// Whether a kernel gets by without a parameter, or without all its bits.
fn unread(step: &Step, name: &str) -> bool {
    let has = |part: &str| has_part(step, &format!("linear/{part}.wgsl"));
    match name {
        "q_heads" | "q_offset" => !has("readers"),
        "o_offset" => !(has("readers") || has("totals") || has("delta_prepare")),
        "k_heads" | "v_heads" | "k_offset" | "v_offset" => !has("sources"),
        "g_heads" => has("decay_none"),
        "g_offset" => has("decay_none") || has("decay_head"),
        "beta_offset" => !has("delta") && !has("delta_solved"),
        // Systems are solved without the state.
        "state_offset" => step.kernel.name == "linear/delta_prepare",
        "z_offset" => !has("normalize"),
        // One segment is the whole window, however long it might be.
        "segment_tokens" => params(step)["segments"] == 1,
        "first_token" | "tokens" => has("span_packed"),
        _ => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 256,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn plans_pass_their_own_check(call in calls(1 << 20), caps in devices()) {
        if let Some(plan) = call.planned(&caps) {
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
        if let Some(plan) = call.planned(&caps) {
            for bind in plan.steps.iter().flat_map(|step| &step.bind) {
                prop_assert_eq!(bind.bytes.start % 256, 0, "{:?}", bind);
                let room = match bind.slot {
                    Slot::Scratch(n) => plan.scratch.get(usize::from(n)).copied(),
                    Slot::Table(n) => plan.tables.get(usize::from(n)).map(|table| 4 * table.len() as u64),
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
        if let Some(plan) = call.planned(&caps) {
            for slot in [0, 1, 2].map(Slot::Output) {
                let bytes = call.tensor_bytes(slot).unwrap_or(0);
                let ranges = written(&plan, slot);
                // A step without tokens may leave its state alone.
                let untouched = call.step && call.shape.tokens == 0 && ranges.is_empty();
                if bytes == 0 || (untouched && slot != Slot::Output(0)) {
                    prop_assert_eq!(ranges, Vec::<[u64; 2]>::new(), "{:?}", slot);
                } else {
                    prop_assert_eq!(ranges, vec![[0, bytes]], "{:?}", slot);
                }
            }
        }
    }

    #[test]
    fn scratch_is_written_before_it_is_read(call in calls(1 << 20), caps in devices()) {
        if let Some(plan) = call.planned(&caps) {
            for (n, bytes) in plan.scratch.iter().enumerate() {
                prop_assert!(*bytes > 0 && bytes % 16 == 0);
                let slot = Slot::Scratch(n as u16);
                let uses: Vec<&Bind> = plan.steps.iter().flat_map(|step| &step.bind).filter(|bind| bind.slot == slot).collect();
                let empty = call.shape.rows() == 0 || call.shape.tokens == 0;
                let good = uses.first().map_or(empty, |bind| bind.write);
                prop_assert!(good, "{:?} is {:?}", slot, uses.first());
            }
        }
    }

    #[test]
    fn tokens_computed_once_and_in_order_from_the_right_state(call in calls(1 << 17), caps in devices()) {
        if let Some(plan) = call.planned(&caps) {
            Model::follow(&call, &plan);
        }
    }

    #[test]
    fn variants_compute_the_same_tokens(call in calls(1 << 15), caps in devices()) {
        let call = Call { step: false, ..call };
        if let Ok(plans) = plan::variants(&call.shape, &call.options, call.states(), &caps) {
            if let Ok(first) = call.plan(&caps) {
                prop_assert_eq!(&plans[0], &first);
            }
            for plan in &plans {
                Model::follow(&call, plan);
                prop_assert_eq!(plan.work, plans[0].work);
            }
        }
    }

    #[test]
    fn auto_plans_wherever_a_form_does(call in calls(1 << 17), caps in devices()) {
        for caps in barely_enough(&call, caps) {
            let auto = call.with_form(Form::Auto).plan(&caps);
            prop_assert!(auto.is_ok(), "{:?} with {} bytes", auto.err(), caps.scratch_bytes);
        }
    }

    #[test]
    fn variants_exist_wherever_a_form_does(call in calls(1 << 17), caps in devices()) {
        let call = Call { step: false, ..call };
        for caps in barely_enough(&call, caps) {
            let auto = call.with_form(Form::Auto);
            let variants = plan::variants(&auto.shape, &auto.options, auto.states(), &caps);
            prop_assert!(variants.is_ok(), "{:?} with {} bytes", variants.err(), caps.scratch_bytes);
        }
    }

    #[test]
    fn steps_stay_short(call in calls(1 << 20), caps in devices()) {
        if let Some(plan) = call.planned(&caps) {
            let heads = call.shape.kv_heads as u64;
            let (mut predicted, mut segmented) = (0.0, false);
            for step in &plan.steps {
                let walk = walked(&plan, step);
                let least = match walk {
                    Some([tokens, spans, _]) => {
                        let heads = u64::from(params(step)["state_heads"]);
                        tokens <= 64 && spans <= if call.bounds.is_some() { heads } else { 1 }
                    }
                    // Rows between offsets that are aligned whatever their width.
                    None if step.kernel.name == "common/copy" => {
                        let p = params(step);
                        p["rows"] <= 64 * p["repeat"]
                    }
                    None => false,
                };
                prop_assert!(
                    step.predicted_ms <= 100.0 || least,
                    "{} is predicted to take {} ms", step.kernel.label(), step.predicted_ms
                );
                if let Some([tokens, ..]) = walk {
                    // Those of chunks are counted by the planner alone.
                    let counted = step.kernel.name == "linear/recurrent";
                    let passes = if counted { loop_passes(step, tokens) } else { 0 };
                    prop_assert!(
                        passes <= caps.loop_iterations || tokens <= 64,
                        "{} passes through loops {} times", step.kernel.label(), passes
                    );
                    // The systems of the delta rule come on top.
                    if step.kernel.name != "linear/delta_prepare" {
                        predicted += step.predicted_ms;
                    }
                    segmented |= params(step)["segments"] > 1;
                }
            }
            // Heads that share a state share the work on it; not causal, adding and reading are a pass each, and so they are
            // over segments.
            let whole = plan.work.flops / (caps.gflops * 1e6);
            let (least, most) = match (call.options.causal, call.shape.heads as u64 == heads) {
                (true, true) => (1.0, 1.0),
                (true, false) => (0.3, 1.0),
                (false, _) => (0.5, 2.0),
            };
            let most = if segmented { 2.0 } else { most };
            let slack = 1e-9 * whole;
            prop_assert!(
                (least * whole - slack..=most * whole + slack).contains(&predicted),
                "{} of {} ms are predicted", predicted, whole
            );
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
                assert!(
                    plan::step(&shape, &options, [None; 2], &caps).is_err(),
                    "{shape:?}"
                );
            }
        }
    }
}

#[test]
fn huge_empty_shapes_are_planned_or_refused() {
    let states = States {
        last: true,
        ..States::default()
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
            ..States::default()
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
                let plan = plan::step(
                    &shape(batch, 1, heads, 128),
                    &Options::lightning(),
                    [None; 2],
                    &caps,
                );
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
