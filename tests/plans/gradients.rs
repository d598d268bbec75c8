//! Plans of gradients on invented devices.

use proptest::{prelude::*, sample::select, test_runner::FileFailurePersistence};
use subquad::{
    Error,
    gpu::Caps,
    linear::{
        Decay, FeatureMap, Form, Options, Shape,
        plan::{self, Upstream},
    },
    plan::{Plan, Slot, Step},
};

use crate::{
    calls::{Call, calls, constant, devices, has_part, params, planned},
    walked, written,
};

/// A call of the gradients' planner.
#[derive(Clone, Debug)]
struct Backward {
    call: Call,
    /// Which gradients of log_decay, beta and the initial state are wanted.
    wanted: [bool; 3],
    /// Sets of the feature map's weights, and whether it has a bias.
    sets: usize,
    bias: bool,
}

impl Backward {
    /// With every gradient that there is.
    fn whole(call: Call) -> Backward {
        Backward {
            call,
            wanted: [true; 3],
            sets: 1,
            bias: true,
        }
    }

    fn wants(&self, n: usize) -> bool {
        let options = &self.call.options;
        let there = [
            options.decay != Decay::None,
            options.delta,
            self.call.initial,
        ];
        self.wanted[n] && there[n]
    }

    /// Whether the states at every chunk are needed: for the gradient of decays, and by the delta rule.
    fn keeps_states(&self) -> bool {
        self.wants(0) || self.call.options.delta
    }

    /// Elements of weights and bias.
    fn weights(&self) -> [Option<usize>; 2] {
        let key = self.call.shape.key;
        let each = self.call.options.feature_map.weight_len(key);
        [
            each.map(|each| each * self.sets),
            each.filter(|_| self.bias).map(|_| key * self.sets),
        ]
    }

    fn upstream(&self) -> Upstream<'_> {
        let [fm_weight, fm_bias] = self.weights();
        Upstream {
            initial: self.call.initial,
            last: self.call.last,
            log_decay: self.wants(0),
            beta: self.wants(1),
            initial_gradient: self.wants(2),
            fm_weight,
            fm_bias,
            cu_seqlens: self.call.bounds.as_deref(),
            ..Upstream::default()
        }
    }

    fn plan(&self, caps: &Caps) -> subquad::Result<Plan> {
        plan::backward(&self.call.shape, &self.call.options, self.upstream(), caps)
    }

    /// Bytes of the caller's tensor in a slot, in whole words.
    fn tensor_bytes(&self, slot: Slot) -> Option<u64> {
        let (shape, options) = (&self.call.shape, &self.call.options);
        let elem = shape.dtype.bytes();
        let [q, k] = [shape.query_len(), shape.key_len()].map(|len| len as u64 * elem);
        let [v, o] = [shape.value_len(), shape.output_len()].map(|len| len as u64 * elem);
        let per_token = (shape.state_rows() * shape.tokens) as u64;
        let features = options.feature_width(shape) as u64;
        let decays = match options.decay {
            Decay::None => None,
            Decay::Head => Some(4 * shape.kv_heads as u64),
            Decay::Token => Some(4 * per_token),
            _ => Some(4 * per_token * features),
        };
        let beta = options.delta.then_some(4 * per_token);
        let states = 4 * self.call.state_count() * features * shape.value as u64;
        let [weight, bias] = self.weights().map(|len| len.map(|len| 4 * len as u64));
        let wanted = |n: usize, bytes: Option<u64>| bytes.filter(|_| self.wants(n));
        let inputs = [
            Some(q),
            Some(k),
            Some(v),
            decays,
            beta,
            self.call.initial.then_some(states),
            weight,
            bias,
            Some(o),
            self.call.last.then_some(states),
        ];
        let outputs = [
            Some(q),
            Some(k),
            Some(v),
            wanted(0, decays),
            wanted(1, beta),
            wanted(2, Some(states)),
            weight,
            bias,
        ];
        let bytes = match slot {
            Slot::Input(n) => inputs.into_iter().flatten().nth(n.into()),
            Slot::Output(n) => outputs.into_iter().flatten().nth(n.into()),
            _ => None,
        };
        bytes.map(|bytes| bytes.next_multiple_of(4))
    }
}

/// Calls of the gradients with every kind of feature map.
fn backwards(most: usize) -> impl Strategy<Value = Backward> {
    let maps = prop_oneof![
        2 => Just(None),
        3 => select(FeatureMap::all(2).to_vec()).prop_map(Some),
    ];
    (calls(most), maps, any::<([bool; 3], bool, bool)>()).prop_map(
        |(call, map, (wanted, own, bias))| {
            let shape = call.shape;
            let map = map.filter(|map| map.width(shape.key) <= 2048);
            let options = Options {
                feature_map: map.unwrap_or(call.options.feature_map),
                // Segments of the delta rule are refused, as in the forward.
                form: match call.options.form {
                    Form::Segments(_) if call.options.delta => Form::Auto,
                    form => form,
                },
                ..call.options
            };
            let sets = match own && shape.heads == shape.kv_heads {
                true => shape.heads.max(1),
                false => 1,
            };
            let call = Call {
                options,
                step: false,
                initial_z: false,
                last_z: false,
                ..call
            };
            Backward {
                call,
                wanted,
                sets,
                bias,
            }
        },
    )
}

/// Passes through loops of an invocation of `sweep_back` or `sweep_on` that walks so many tokens, were nothing unrolled.
fn sweep_passes(step: &Step, tokens: u64) -> u64 {
    let of = |name: &str| constant(step, name);
    let has = |part: &str| u64::from(has_part(step, &format!("linear/{part}.wgsl")));
    let (held, lanes, bits, columns) = (of("HELD"), of("LANES"), of("LANE_BITS"), of("COLUMNS"));
    let (block, quads) = (held * lanes, u64::from(params(step)["key"]) / 4);
    let (scalar, by_row) = (has("decay_head") + has("decay_token"), has("decay_rows"));

    // What the functions of the shader pass through.
    let through = held + block * (1 + columns);
    let pairs = held + block * (1 + held);
    let cells = 4 * (1 + columns);
    let exchange = bits * (1 + lanes / 2);
    let read = through + held * exchange;
    let gates = 2 * held + block + scalar * block * held;
    let row_gates = held + by_row * (bits + held * (1 + bits + held));
    let groups = lanes * held * (held + 1) / 2;
    let products =
        held + pairs + groups * (lanes * (1 + columns) + exchange) + scalar * (held + pairs);
    let rest = gates + through + 1;
    let passes = if step.kernel.name == "linear/sweep_back" {
        let twice = 1 + has("delta");
        let start = held + row_gates + cells;
        let finish = read + scalar * held + pairs + held + 3 * cells + twice * through;
        let solved = pairs + block * (2 * columns + held + block * (1 + twice * columns));
        let beta = has("sweep_beta") * read;
        rest + block * held
            + twice * products
            + quads * (twice * (1 + start + pairs) + through + finish)
            + scalar * (held + pairs)
            + solved
            + beta
            + held
    } else {
        let twice = 1 + has("sweep_corrected");
        let sums = held * (1 + bits);
        let flows = has("sweep_flows") * (cells + columns + bits + 2 * held + sums);
        let row =
            held + row_gates + cells + twice * read + scalar * held + pairs + held + 3 * cells;
        rest + twice * products + quads * (1 + row + through + flows) + 3 * held + sums
    };
    let zero = has("start_zero") * quads * (1 + cells);
    let whole = tokens / 64 * 64u64.div_ceil(block) + (tokens % 64).div_ceil(block);
    zero + tokens.div_ceil(64) + whole * passes
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 256,
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn plans_of_gradients_pass_their_own_check(call in backwards(1 << 18), caps in devices()) {
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
    fn bindings_of_gradients_lie_inside_their_tensors(call in backwards(1 << 18), caps in devices()) {
        if let Some(plan) = planned(call.plan(&caps)) {
            for (step, bind) in plan.steps.iter().flat_map(|step| step.bind.iter().map(move |bind| (step, bind))) {
                prop_assert_eq!(bind.bytes.start % 256, 0, "{:?}", bind);
                let room = match bind.slot {
                    Slot::Scratch(n) => plan.scratch.get(usize::from(n)).copied(),
                    Slot::Table(n) => plan.tables.get(usize::from(n)).map(|table| 4 * table.len() as u64),
                    slot => call.tensor_bytes(slot),
                };
                prop_assert!(
                    room.is_some_and(|bytes| bind.bytes.end <= bytes),
                    "{:?} of {} in a tensor of {:?} bytes", bind, step.kernel.label(), room
                );
            }
        }
    }

    #[test]
    fn gradients_covered_by_writable_bindings(call in backwards(1 << 18), caps in devices()) {
        if let Some(plan) = planned(call.plan(&caps)) {
            for slot in (0..9).map(Slot::Output) {
                let bytes = call.tensor_bytes(slot).unwrap_or(0);
                let ranges = written(&plan, slot);
                let expected = if bytes == 0 { Vec::new() } else { vec![[0, bytes]] };
                prop_assert_eq!(ranges, expected, "{:?}", slot);
            }
        }
    }

    #[test]
    fn scratch_of_gradients_is_written_before_it_is_read(call in backwards(1 << 18), caps in devices()) {
        if let Some(plan) = planned(call.plan(&caps)) {
            let mut written: Vec<Slot> = Vec::new();
            for step in &plan.steps {
                for bind in &step.bind {
                    if matches!(bind.slot, Slot::Scratch(_)) {
                        let empty = call.call.shape.rows() * call.call.shape.tokens == 0;
                        prop_assert!(
                            bind.write || empty || written.contains(&bind.slot),
                            "{} reads {:?}", step.kernel.label(), bind.slot
                        );
                        if bind.write {
                            written.push(bind.slot);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn steps_of_gradients_stay_short(call in backwards(1 << 18), caps in devices()) {
        if let Some(plan) = planned(call.plan(&caps)) {
            for step in &plan.steps {
                let least = match walked(&plan, step) {
                    Some([tokens, spans, _]) => {
                        if step.kernel.name.starts_with("linear/sweep") {
                            let passes = sweep_passes(step, tokens);
                            prop_assert!(
                                passes <= caps.loop_iterations || tokens <= 64,
                                "{} passes through loops {} times", step.kernel.label(), passes
                            );
                        }
                        let heads = u64::from(params(step)["state_heads"]);
                        tokens <= 64 && spans <= if call.call.bounds.is_some() { heads } else { 1 }
                    }
                    // Rows that lend theirs to a group of heads, up to where offsets are aligned.
                    None => {
                        let p = params(step);
                        let of = |name: &str| p.get(name).copied().map_or(0, u64::from);
                        let together = if of("head_first") == 1 { of("tokens") } else { 1 };
                        match step.kernel.name {
                            "linear/state_copy" => of("states") <= of("ratio"),
                            "linear/initial_gradient" => of("states") == 1,
                            // Sets between aligned offsets.
                            "common/sum_parts" => (2..=64).contains(&of("sets")),
                            // One chunk of every head.
                            "linear/decay_gradient" => of("groups") <= of("heads"),
                            _ => p.contains_key("group") && of("rows") <= 64 * of("group") * together,
                        }
                    }
                };
                prop_assert!(
                    step.predicted_ms <= 100.0 || least,
                    "{} is predicted to take {} ms", step.kernel.label(), step.predicted_ms
                );
            }
        }
    }
}

/// Gradients of long sequences and of many heads fit wherever the forward does, or they say what they lack and are planned
/// where there is more of it. Only kept states and the delta rule's own tensors may be too much.
#[test]
fn gradients_of_large_calls_are_planned_or_refused_in_words() {
    for (tokens, batch, heads) in [
        (131_072, 1, 1),
        (131_072, 1, 8),
        (2048, 4, 16),
        (64, 8, 512),
    ] {
        for width in [64, 128] {
            for options in [
                Options::plain(),
                Options::lightning(),
                Options::simple_gla(width),
                Options::gla(width),
                Options::gated_delta(width),
            ] {
                for caps in Caps::presets() {
                    let shape = Shape {
                        batch,
                        ..crate::shape(batch, tokens, heads, width)
                    };
                    let call = Backward::whole(Call::new(shape, options));
                    let forward = plan::forward(&shape, &options, call.call.states(), &caps);
                    match (forward, call.plan(&caps)) {
                        (_, Ok(plan)) => plan.check(&caps).unwrap(),
                        (Err(_), Err(Error::Limit { .. })) => {}
                        (
                            Ok(_),
                            Err(Error::Limit {
                                needed, available, ..
                            }),
                        ) if call.keeps_states() && needed > available => {
                            let roomy = Caps {
                                scratch_bytes: 1 << 40,
                                buffer_bytes: 1 << 40,
                                binding_bytes: (1 << 32) - 4,
                                ..caps
                            };
                            call.plan(&roomy).unwrap().check(&roomy).unwrap();
                        }
                        (Ok(_), Err(error @ Error::Limit { .. })) => {
                            // Two states for every 64 tokens, three with the delta rule, and some tensors of the call's size.
                            let kept = options.decay != Decay::None;
                            let states = batch * heads * width * width * (tokens / 64 + 1) * 4;
                            let rows = batch * heads * width * tokens * 4;
                            let budget = caps.scratch_bytes as usize;
                            let wide = caps.binding_bytes as usize;
                            let words = error.to_string();
                            assert!(
                                kept && (3 * states + 12 * rows > budget || states / heads >= wide),
                                "{shape:?} {options:?}: {words}"
                            );
                            let remedy =
                                words.contains("cut the batch") || words.contains("fewer heads");
                            assert!(remedy, "{words}");
                        }
                        (_, Err(error)) => panic!("{shape:?} {options:?}: {error}"),
                    }
                }
            }
        }
    }
}
