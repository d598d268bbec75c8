//! Follows a plan state by state: which tokens each step takes, which state it starts from, which elements it touches.
//!
//! Indices are computed as the shaders compute them, modulo 2^32 and from the start of a binding, and held against those of
//! the whole tensors. A kernel that is not known here fails.

use std::collections::{HashMap, HashSet};

use subquad::{
    linear::{Decay, FeatureMap, Layout, Shape},
    plan::{Bind, Plan, Slot, Step},
};

use crate::calls::{Call, binds, constant, has_part, params};

/// The sequence and key head that a state belongs to.
type Owner = (u64, u64);

/// What a state, or a sum of keys, in memory is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Held {
    Zero,
    /// That of a sequence and head after its first tokens.
    After(Owner, u64),
    /// What a sequence's tokens add to it, or the sum of their log decays.
    Added(Owner, [u64; 2]),
}

/// The delta rule's systems of some tokens: their owner, first token and end, the rows of both ends, and tokens of a chunk.
type Systems = (Owner, [u32; 2], [u64; 2], u64);

/// What a workgroup walks, as the shader's `Span`.
struct Span {
    sequence: u64,
    batch: u32,
    head: u32,
    begin: u32,
    end: u32,
    state_at: u32,
}

/// A step with its parameters and bindings by name.
struct At<'a> {
    step: &'a Step,
    p: HashMap<&'static str, u32>,
    binds: HashMap<String, Bind>,
}

impl At<'_> {
    fn p(&self, name: &str) -> u32 {
        self.p[name]
    }

    fn has(&self, part: &str) -> bool {
        has_part(self.step, &format!("linear/{part}.wgsl"))
    }

    /// `rows_of` and `row_of`: the row of a token.
    fn row(&self, batch: u32, head: u32, heads: u32, token: u32) -> u32 {
        let total = self.p("total");
        let (first, stride) = if self.p("head_first") == 1 {
            let row = batch.wrapping_mul(heads).wrapping_add(head);
            (row.wrapping_mul(total), 1)
        } else {
            let row = batch.wrapping_mul(total).wrapping_mul(heads);
            (row.wrapping_add(head), heads)
        };
        first.wrapping_add(token.wrapping_mul(stride))
    }

    /// `shared_head`.
    fn shared_head(n: u32, heads: u32, others: u32) -> u32 {
        if others < heads {
            n / (heads / others)
        } else {
            n.wrapping_mul(others / heads)
        }
    }
}

/// Asserts that an index from the start of a binding is this element of the tensor, and that `len` are bound from there.
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

pub struct Model<'a> {
    call: &'a Call,
    plan: &'a Plan,
    /// Tokens computed so far of each sequence and query head.
    done: Vec<u64>,
    /// States and sums of keys, by slot and first element.
    memory: HashMap<(Slot, u64), Held>,
    /// Elements filled with zero, until written.
    filled: Vec<(Slot, std::ops::Range<u64>)>,
    /// Where the tokens' outputs go.
    out: Option<Slot>,
    packed: u64,
    /// Where sums of keys lie, beside the caller's.
    sums: HashSet<Slot>,
    /// The systems that the latest step has solved, by their first row.
    solved: HashMap<(Slot, u64), Systems>,
}

impl<'a> Model<'a> {
    /// Runs every step and looks at what is left.
    pub fn follow(call: &'a Call, plan: &'a Plan) {
        let mut model = Model::new(call, plan);
        for step in &plan.steps {
            model.run(step);
        }
        model.check_end();
    }

    fn new(call: &'a Call, plan: &'a Plan) -> Model<'a> {
        let sequences = call.sequences().len();
        let mut model = Model {
            call,
            plan,
            done: vec![0; sequences * call.shape.heads],
            memory: HashMap::new(),
            filled: Vec::new(),
            out: None,
            packed: 0,
            sums: HashSet::new(),
            solved: HashMap::new(),
        };
        let (before, before_z) = match call.step {
            true => ("last", "last_z"),
            false => ("initial", "initial_z"),
        };
        for (name, len) in [
            (before, model.state_len()),
            (before_z, call.shape.key as u64),
        ] {
            if let Some(slot) = call.slot(name) {
                for n in 0..call.state_count() {
                    let held = Held::After(model.owner(n), 0);
                    model.memory.insert((slot, n * len), held);
                }
            }
        }
        model
    }

    fn state_len(&self) -> u64 {
        (self.call.shape.key * self.call.shape.value) as u64
    }

    fn owner(&self, state: u64) -> Owner {
        let heads = self.call.shape.kv_heads as u64;
        (state / heads, state % heads)
    }

    fn run(&mut self, step: &Step) {
        let at = At {
            step,
            p: params(step),
            binds: binds(step),
        };
        match step.kernel.name {
            "linear/recurrent" => self.walk(&at, 4 * constant(step, "LANES")),
            "linear/chunk" => self.walk(&at, constant(step, "VALUE_TILE")),
            "linear/delta_prepare" => self.prepare(&at),
            "linear/state_scan" => self.scan(&at),
            "common/pack_output" => self.pack(&at),
            "common/copy" => self.copy(&at),
            "common/fill" => self.fill(&at),
            other => panic!("this test does not know the kernel {other}"),
        }
    }

    /// What lies in memory, where something does.
    fn held(&self, slot: Slot, first: u64, len: u64) -> Option<Held> {
        let zero = |(other, range): &(Slot, std::ops::Range<u64>)| {
            *other == slot && range.start <= first && first + len <= range.end
        };
        let held = self.memory.get(&(slot, first)).copied();
        held.or_else(|| self.filled.iter().any(zero).then_some(Held::Zero))
    }

    /// Asserts that a state (or sum) belongs to its owner and holds so many tokens; zero is one without any, unless the caller
    /// passes what there was before.
    fn expect(&self, slot: Slot, first: u64, len: u64, owner: Owner, tokens: u64, given: bool) {
        let held = self.held(slot, first, len);
        let zero = held == Some(Held::Zero) && tokens == 0 && !given;
        assert!(
            zero || held == Some(Held::After(owner, tokens)),
            "{owner:?} reads {held:?} and not {tokens} tokens at {slot:?} {first}"
        );
    }

    /// The parameters that every walk has, whatever it does.
    fn check_params(&self, at: &At<'_>, slices: u64) {
        let Shape {
            tokens,
            heads,
            kv_heads,
            key,
            value,
            layout,
            ..
        } = self.call.shape;
        let options = &self.call.options;
        let (reads, adds) = (at.has("readers"), at.has("sources"));
        let expected = [
            ("total", tokens as u32),
            ("head_first", u32::from(layout == Layout::Bhtd)),
            ("key", key as u32),
            ("value", value as u32),
            ("slices", slices as u32),
            ("groups", at.step.groups as u32),
            // Reading what never changes, segments share their state.
            ("slots", if adds { at.p("segments") } else { 1 }),
            ("scale", options.scale.to_bits()),
            ("source_scale", 1.0f32.to_bits()),
            ("eps", options.normalize.unwrap_or(0.0).to_bits()),
        ];
        for (name, expected) in expected {
            assert_eq!(at.p(name), expected, "{name}");
        }
        let prepares = at.step.kernel.name == "linear/delta_prepare";
        for (flag, expected) in [
            ("REVERSE", 0),
            ("STRICT", u64::from(prepares)),
            ("KEEP", 0),
            ("OUT_MISSED", 0),
        ] {
            assert_eq!(constant(at.step, flag), expected, "{flag}");
        }
        let states = at.p("state_heads") as usize;
        assert!(states.is_multiple_of(kv_heads) && heads.is_multiple_of(states));
        if reads {
            assert_eq!(constant(at.step, "GROUP"), (heads / states) as u64);
        }
        // Two passes, or what segments add first, or the systems of the delta rule.
        let partial = adds && (at.p("segments") > 1 || prepares);
        assert!((reads && adds) == self.call.options.causal || (!reads && partial));
        let decay = match options.decay {
            Decay::Head if adds => "decay_head",
            Decay::Token if adds => "decay_token",
            Decay::Channel if adds => "decay_rows",
            _ => "decay_none",
        };
        let rule = match (options.delta, options.normalize) {
            (true, _) if at.step.kernel.name == "linear/chunk" => "delta_solved",
            (true, _) => "delta",
            (_, Some(_)) => "normalize",
            _ => "additive",
        };
        let map = match options.feature_map {
            FeatureMap::Relu => "map_relu",
            FeatureMap::Elu1 => "map_elu1",
            _ => "map_identity",
        };
        for part in [decay, rule, map] {
            assert!(at.has(part), "{} lacks {part}", at.step.kernel.label());
        }
    }

    /// The spans of a step, one for all its slices.
    fn spans(&self, at: &At<'_>) -> Vec<Span> {
        let groups = u64::from(at.p("slices"));
        assert_eq!(at.step.groups % groups, 0);
        let sequences = self.call.sequences();
        let states = at.p("state_heads");
        let first_walker = at.p("first_walker");
        let spans: Vec<Span> = match at.binds.get("table") {
            Some(bind) => {
                let Slot::Table(n) = bind.slot else {
                    panic!("the table is {bind:?}");
                };
                let table = &self.plan.tables[usize::from(n)][..(bind.bytes.end / 4) as usize];
                let span = |index: u64| {
                    let walker = first_walker + index as u32;
                    let row = &table[6 * (walker / states) as usize..][..6];
                    let &[begin, end, first, last, before, slots] = row else {
                        unreachable!();
                    };
                    // A sequence keeps one state a head, so as many lie before its own as there are sequences.
                    assert_eq!(slots, 1);
                    let tokens = u64::from(first)..u64::from(last);
                    assert_eq!(sequences[before as usize], tokens);
                    Span {
                        sequence: before.into(),
                        batch: 0,
                        head: walker % states,
                        begin,
                        end,
                        state_at: before * states + walker % states * slots,
                    }
                };
                (0..at.step.groups / groups).map(span).collect()
            }
            None => {
                let segments = at.p("segments");
                assert_eq!(at.step.groups / groups % u64::from(segments), 0);
                let span = |index: u64| {
                    let segment = index as u32 % segments;
                    let walker = first_walker + index as u32 / segments;
                    let begin = at.p("first_token") + segment * at.p("segment_tokens");
                    let window = at.p("first_token") + at.p("tokens");
                    let end = window.min(begin + at.p("segment_tokens"));
                    assert!(begin < end, "segment {segment} is empty");
                    let several = segment.min(at.p("slots") - 1);
                    Span {
                        sequence: (walker / states).into(),
                        batch: walker / states,
                        head: walker % states,
                        begin,
                        end,
                        state_at: walker * at.p("slots") + several,
                    }
                };
                let spans: Vec<Span> = (0..at.step.groups / groups).map(span).collect();
                let last = spans.iter().map(|span| span.end).max();
                assert_eq!(last, Some(at.p("first_token") + at.p("tokens")));
                spans
            }
        };
        for span in &spans {
            let tokens = &sequences[span.sequence as usize];
            let [begin, end] = [span.begin, span.end].map(u64::from);
            assert!(tokens.start <= begin && begin <= end && end <= tokens.end);
        }
        // No two groups keep their state in one place.
        assert!(spans.is_sorted_by(|a, b| a.state_at < b.state_at || !at.has("sources")));
        spans
    }

    fn walk(&mut self, at: &At<'_>, columns: u64) {
        self.check_params(at, (self.call.shape.value as u64).div_ceil(columns));
        let heads = self.call.shape.heads as u64;
        let partial = at.p("segments") > 1 && !at.has("readers");
        if let Some(z) = at.binds.get("z") {
            self.sums.insert(z.slot);
        }
        let (reads, adds) = (at.has("readers"), at.has("sources"));
        let zero = at.has("start_zero");
        assert_ne!(zero, at.has("start_resume"));
        let sequences = self.call.sequences();
        for span in self.spans(at) {
            let states = u64::from(at.p("state_heads"));
            let copies = states / self.call.shape.kv_heads as u64;
            let owner = (span.sequence, u64::from(span.head) / copies);
            let tokens = &sequences[span.sequence as usize];
            let from = u64::from(span.begin) - tokens.start;
            let to = u64::from(span.end) - tokens.start;
            self.check_rows(at, &span, owner.1);
            let solved = at.binds.get("solved").filter(|_| from < to);
            if let Some(systems) = solved {
                let (first, wanted) = self.systems(at, &span, owner, "beta_offset");
                assert_eq!(self.solved.get(&(systems.slot, first)), Some(&wanted));
            }
            if let Some(totals) = at.binds.get("totals") {
                assert!(partial);
                let width = self.total_width();
                let here = span.state_at.wrapping_mul(width as u32);
                let here = here.wrapping_add(at.p("o_offset"));
                let first = totals.bytes.start / 4 + u64::from(here);
                index(totals, 4, here, first, width);
                let sum = Held::Added(owner, [from, to]);
                self.memory.insert((totals.slot, first), sum);
            }

            // Whoever does not add reads the state after the last token.
            let before = if adds {
                from
            } else {
                tokens.end - tokens.start
            };
            for (slot, first, len, given) in self.carried(at, &span) {
                if partial {
                    assert!(zero && adds && !self.call.step);
                    let added = Held::Added(owner, [from, to]);
                    self.memory.insert((slot, first), added);
                    continue;
                }
                if zero {
                    assert!(!given && !self.call.step && from == 0 && adds);
                } else {
                    self.expect(slot, first, len, owner, before, given);
                }
                if adds {
                    self.memory.insert((slot, first), Held::After(owner, to));
                }
            }
            if reads {
                let group = heads / states;
                for n in 0..group {
                    let head = u64::from(span.head) * group + n;
                    let done = &mut self.done[(span.sequence * heads + head) as usize];
                    assert_eq!(*done, from, "head {head} of {}", span.sequence);
                    *done = to;
                }
            }
        }
        if reads {
            let out = at.binds["o"].slot;
            assert!(self.out.is_none_or(|slot| slot == out));
            self.out = Some(out);
        }
    }

    /// Sums of log decays of a segment.
    fn total_width(&self) -> u64 {
        match self.call.options.decay {
            Decay::None => 0,
            Decay::Channel => self.call.shape.key as u64,
            _ => 1,
        }
    }

    /// Where the systems of a span lie: the first row's number, and what they are.
    fn systems(&self, at: &At<'_>, span: &Span, owner: Owner, offset: &str) -> (u64, Systems) {
        let bind = &at.binds["solved"];
        let chunk = constant(at.step, "CHUNK");
        let row = |token: u32| {
            let row = at.row(span.batch, span.head, at.p("state_heads"), token);
            let here = row.wrapping_mul(chunk as u32).wrapping_add(at.p(offset));
            if span.begin < span.end {
                index(bind, 4, here, bind.bytes.start / 4 + u64::from(here), chunk);
            }
            bind.bytes.start / 4 + u64::from(here)
        };
        let ends = [row(span.begin), row(span.end.saturating_sub(1))];
        (ends[0], (owner, [span.begin, span.end], ends, chunk))
    }

    /// Systems of the delta rule, chunk by chunk.
    fn prepare(&mut self, at: &At<'_>) {
        let chunk = constant(at.step, "CHUNK") as u32;
        let longest = at.p("tokens").min(at.p("segment_tokens"));
        self.check_params(at, longest.div_ceil(chunk).into());
        assert!(at.has("sources") && !at.has("readers"));
        self.solved.clear();
        let slot = at.binds["solved"].slot;
        for span in self.spans(at) {
            let copies = at.p("state_heads") / self.call.shape.kv_heads as u32;
            let owner = (span.sequence, u64::from(span.head / copies));
            assert!((span.end - span.begin).div_ceil(chunk) <= at.p("slices"));
            self.check_rows(at, &span, owner.1);
            let (first, systems) = self.systems(at, &span, owner, "o_offset");
            if span.begin < span.end {
                let before = self.solved.insert((slot, first), systems);
                assert_eq!(before, None, "two spans keep their systems in one place");
            }
        }
    }

    /// The states (or sums of keys) at the starts of segments, from what each adds.
    fn scan(&mut self, at: &At<'_>) {
        for flag in ["REVERSE", "KEEP"] {
            assert_eq!(constant(at.step, flag), 0, "{flag}");
        }
        let [walkers, rows, columns, segments, slots, groups] =
            ["walkers", "rows", "columns", "segments", "slots", "groups"]
                .map(|name| u64::from(at.p(name)));
        assert_eq!(groups, at.step.groups);
        assert!(64 * groups >= walkers * rows * columns.div_ceil(4));
        let unused = ["first_slot", "last_slot", "segment_slots"].map(|name| at.p(name));
        assert_eq!((slots, unused), (1, [0; 3]));
        let (states, state) = (&at.binds["states"], &at.binds["state"]);
        let (key, value) = (self.call.shape.key as u64, self.call.shape.value as u64);
        // Each slice has a sum of keys of its own.
        let sums = self.sums.contains(&states.slot);
        let (len, given, width) = if sums {
            assert_eq!(columns, key);
            (columns, "initial_z", self.total_width())
        } else {
            assert_eq!([rows, columns], [key, value]);
            (rows * columns, "initial", self.total_width())
        };
        let fading = match self.call.options.decay {
            Decay::None => "segment_none",
            Decay::Channel if sums => "segment_columns",
            Decay::Channel => "segment_rows",
            _ => "segment_scalar",
        };
        assert!(at.has(fading) && at.has("start_zero") != at.has("start_resume"));
        let given = self.call.slot(given).is_some();
        for part in 0..walkers * rows * columns / len {
            let parts = rows * columns / len;
            let (walker, part) = (part / parts, part % parts);
            let here = at.p("state_offset") as u64 + walker * rows * columns + part * len;
            let home = state.bytes.start / 4 + here;
            assert!(4 * (home + len) <= state.bytes.end);
            let mut passed: Option<(Owner, u64)> = None;
            for segment in 0..segments {
                let number = walker * segments + segment;
                let place = states.bytes.start / 4 + number * rows * columns + part * len;
                assert!(4 * (place + len) <= states.bytes.end);
                let added = self.held(states.slot, place, len);
                let Some(Held::Added(owner, [from, to])) = added else {
                    panic!("segment {segment} of {walker} holds {added:?}");
                };
                if width > 0 {
                    let totals = &at.binds["totals"];
                    let first = totals.bytes.start / 4 + number * width;
                    assert!(4 * (first + width) <= totals.bytes.end);
                    assert_eq!(self.held(totals.slot, first, width), added);
                }
                let start = match passed {
                    Some(passed) => {
                        assert_eq!(passed, (owner, from), "segments out of order");
                        Held::After(owner, from)
                    }
                    None if at.has("start_zero") => {
                        assert!(!given && from == 0);
                        Held::Zero
                    }
                    None => {
                        self.expect(state.slot, home, len, owner, from, given);
                        Held::After(owner, from)
                    }
                };
                self.memory.insert((states.slot, place), start);
                passed = Some((owner, to));
            }
            let (owner, to) = passed.expect("a segment");
            self.memory
                .insert((state.slot, home), Held::After(owner, to));
        }
    }

    /// The state of a span, and its copies of the sum of keys: slot, first element, length, and whether the caller passes one.
    fn carried(&self, at: &At<'_>, span: &Span) -> Vec<(Slot, u64, u64, bool)> {
        let mut carried = Vec::new();
        let mut add = |bind: &Bind, number: u32, offset: u32, len: u64, given: bool| {
            let here = number.wrapping_mul(len as u32).wrapping_add(offset);
            let first = bind.bytes.start / 4 + u64::from(here);
            assert_eq!(first % len, 0, "a state begins inside another");
            index(bind, 4, here, first, len);
            carried.push((bind.slot, first, len, given));
        };
        let initial = self.call.slot("initial").is_some();
        let (number, slices) = (span.state_at, at.p("slices"));
        let state = &at.binds["state"];
        add(
            state,
            number,
            at.p("state_offset"),
            self.state_len(),
            initial,
        );
        if let Some(z) = at.binds.get("z") {
            let (len, given) = (
                self.call.shape.key as u64,
                self.call.slot("initial_z").is_some(),
            );
            for slice in 0..slices {
                let number = number.wrapping_mul(slices).wrapping_add(slice);
                add(z, number, at.p("z_offset"), len, given);
            }
        }
        carried
    }

    /// Asserts that a span's rows of every tensor are those of its tokens, which go with a head of keys.
    fn check_rows(&self, at: &At<'_>, span: &Span, kv_head: u64) {
        let Shape {
            heads,
            kv_heads,
            key,
            value,
            dtype,
            ..
        } = self.call.shape;
        let (heads, kv_heads) = (heads as u64, kv_heads as u64);
        let states = at.p("state_heads");
        let (reads, adds) = (at.has("readers"), at.has("sources"));
        // An index is affine in the token: both ends right means all right.
        let ends = || [span.begin, span.end.saturating_sub(1)].into_iter();
        let live = span.begin < span.end;
        let check = |name: &str, elem: u64, width: usize, head: [u32; 2], wanted: [u64; 2]| {
            let (bind, offset) = (&at.binds[name], at.p(offset(name)));
            let [head, of] = head;
            for t in ends().filter(|_| live) {
                let row = at.row(span.batch, head, of, t);
                let here = row.wrapping_mul(width as u32).wrapping_add(offset);
                let [head, of] = wanted;
                let wanted = self.call.row(of, span.batch.into(), head, t.into()) * width as u64;
                index(bind, elem, here, wanted, width as u64);
            }
        };
        let slot = |name: &str| {
            assert_eq!(Some(at.binds[name].slot), self.call.slot(name), "{name}");
        };
        let owned = |heads: u32| [At::shared_head(span.head, states, heads), heads];
        if reads {
            slot("q");
            let out_bytes = match at.binds["o"].slot {
                Slot::Output(0) => dtype.bytes(),
                Slot::Scratch(_) => 4,
                slot => panic!("outputs go to {slot:?}"),
            };
            let group = (heads / u64::from(states)) as u32;
            let all = states * group;
            for n in 0..group {
                let head = span.head * group + n;
                let wanted = [head.into(), heads];
                let q = [At::shared_head(head, all, at.p("q_heads")), at.p("q_heads")];
                check("q", dtype.bytes(), key, q, wanted);
                check("o", out_bytes, value, [head, all], wanted);
            }
        }
        if adds {
            let wanted = [kv_head, kv_heads];
            slot("k");
            slot("v");
            check("k", dtype.bytes(), key, owned(at.p("k_heads")), wanted);
            check("v", dtype.bytes(), value, owned(at.p("v_heads")), wanted);
            let decay = owned(at.p("g_heads"));
            match self.call.options.decay {
                Decay::None => {}
                Decay::Head => {
                    slot("log_decay");
                    index(&at.binds["log_decay"], 4, decay[0], kv_head, 1);
                }
                decays => {
                    slot("log_decay");
                    let width = if decays == Decay::Token { 1 } else { key };
                    check("log_decay", 4, width, decay, wanted);
                }
            }
            if at.has("delta") {
                slot("beta");
                check("beta", 4, 1, owned(at.p("k_heads")), wanted);
            }
        }
    }

    fn copy(&mut self, at: &At<'_>) {
        let (from, to) = (&at.binds["source"], &at.binds["copied"]);
        let [rows, words, from_stride, to_stride, repeat, groups] = [
            "rows",
            "words",
            "from_stride",
            "to_stride",
            "repeat",
            "groups",
        ]
        .map(|name| u64::from(at.p(name)));
        assert_eq!(groups, at.step.groups);
        assert!(1024 * groups >= rows * words);
        assert!([self.state_len(), self.call.shape.key as u64].contains(&words));
        // The shader counts words in u32.
        assert!(1024 * groups <= 1 << 32);
        for n in 0..rows {
            let (source, copied) = (n / repeat * from_stride, n * to_stride);
            assert!(copied < 1 << 32 && source < 1 << 32);
            let source = from.bytes.start / 4 + source;
            let copied = to.bytes.start / 4 + copied;
            assert!(4 * (source + words) <= from.bytes.end);
            assert!(4 * (copied + words) <= to.bytes.end);
            let held = self.held(from.slot, source, words);
            let held = held.unwrap_or_else(|| panic!("nothing lies at {:?} {source}", from.slot));
            self.memory.insert((to.slot, copied), held);
        }
    }

    fn fill(&mut self, at: &At<'_>) {
        let bind = &at.binds["filled"];
        let words = u64::from(at.p("words"));
        assert_eq!(u64::from(at.p("groups")), at.step.groups);
        assert!(1024 * at.step.groups >= words);
        let first = bind.bytes.start / 4;
        assert!(4 * (first + words) <= bind.bytes.end);
        match self.filled.last_mut() {
            Some((slot, range)) if (*slot, range.end) == (bind.slot, first) => range.end += words,
            _ => self.filled.push((bind.slot, first..first + words)),
        }
    }

    fn pack(&mut self, at: &At<'_>) {
        let (wide, packed) = (&at.binds["wide"], &at.binds["packed"]);
        assert!(self.is_done());
        assert_eq!((Some(wide.slot), packed.slot), (self.out, Slot::Output(0)));
        let elements = u64::from(at.p("elements"));
        assert_eq!(
            (wide.bytes.start / 4, packed.bytes.start / 2),
            (self.packed, self.packed)
        );
        assert!(wide.bytes.end >= 4 * (self.packed + elements));
        assert!(packed.bytes.end >= 2 * (self.packed + elements));
        assert!(128 * at.step.groups >= elements);
        self.packed += elements;
        let whole = self.call.shape.output_len() as u64;
        assert!(
            self.packed.is_multiple_of(2) || self.packed == whole,
            "two steps write one word"
        );
    }

    fn is_done(&self) -> bool {
        let sequences = self.call.sequences();
        let wanted = |n: usize| {
            let tokens = &sequences[n / self.call.shape.heads];
            tokens.end - tokens.start
        };
        let mut heads = self.done.iter().enumerate();
        heads.all(|(n, done)| *done == wanted(n))
    }

    fn check_end(&self) {
        assert!(self.is_done(), "tokens are left: {:?}", self.done);
        let sequences = self.call.sequences();
        for (name, given, len) in [
            ("last", "initial", self.state_len()),
            ("last_z", "initial_z", self.call.shape.key as u64),
        ] {
            let Some(slot) = self.call.slot(name) else {
                continue;
            };
            let given = self.call.step || self.call.slot(given).is_some();
            for n in 0..self.call.state_count() {
                let owner = self.owner(n);
                let tokens = &sequences[owner.0 as usize];
                self.expect(slot, n * len, len, owner, tokens.end - tokens.start, given);
            }
        }
        if matches!(self.out, Some(Slot::Scratch(_))) {
            assert_eq!(self.packed, self.call.shape.output_len() as u64);
        }
    }
}

/// The parameter that holds a tensor's offset.
fn offset(name: &str) -> &'static str {
    match name {
        "q" => "q_offset",
        "k" => "k_offset",
        "v" => "v_offset",
        "o" => "o_offset",
        "log_decay" => "g_offset",
        "beta" => "beta_offset",
        other => panic!("{other} has no offset"),
    }
}
