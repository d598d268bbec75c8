//! Sequences cut into segments: their states, put together, give the outputs and gradients of the uncut sequence.

#[allow(dead_code, reason = "shared by several tests")]
mod common;
#[path = "common/device.rs"]
mod device;
#[path = "common/effort.rs"]
mod effort;

use std::ops::Range;

use half::f16;
use subquad::{
    Tensor,
    gpu::{Caps, Dtype},
    linear::{
        Carry, Decay, FeatureMap, Given, Gradients, Inputs, Layout, LocalInputs, LocalState,
        Options, Outputs, Shape, backward, cpu, forward, local_adjoint, local_state, merge,
        merge_adjoint, merge_start,
        plan::{self, Fold},
    },
    plan::Plan,
};

use common::{ALL_DECAYS, Random, map};
use device::{Number, download as down, gpu, round, upload as up};
use effort::{by_turns, sample};

/// What no kernel may leave behind.
fn blank<T: Number>(len: usize) -> Tensor<T> {
    up(&vec![f64::NAN; len])
}

fn blank_carry(call: &Call) -> Carry {
    Carry {
        state: blank(call.s.len()),
        z: call.normalized().then(|| blank(call.z.len())),
    }
}

fn blank_local(call: &Call) -> LocalState {
    let zeros = LocalState::new(gpu(), &call.shape, &call.options).unwrap();
    LocalState {
        added: blank_carry(call),
        transfer: blank(zeros.transfer.len()),
    }
}

/// A call with everything that goes in, rounded to its type.
#[derive(Clone)]
struct Call {
    shape: Shape,
    options: Options,
    q: Vec<f64>,
    k: Vec<f64>,
    v: Vec<f64>,
    g: Vec<f64>,
    beta: Vec<f64>,
    /// The initial state and z, and the gradients of the final ones.
    s: Vec<f64>,
    z: Vec<f64>,
    grad_s: Vec<f64>,
    grad_z: Vec<f64>,
    grad_o: Vec<f64>,
}

impl Call {
    fn new(shape: Shape, options: Options) -> Call {
        let mut random = Random((shape.tokens * 31 + shape.key) as u64);
        let half = shape.dtype == Dtype::F16;
        let mut values = |len: usize, positive: bool, factor: f64, wide: bool| -> Vec<f64> {
            let values = random.values(len, positive);
            let values: Vec<f64> = values.into_iter().map(|x| factor * x).collect();
            if half && !wide {
                round::<f16>(&values)
            } else {
                round::<f32>(&values)
            }
        };
        let normalized = options.normalize.is_some();
        let features = options.feature_width(&shape);
        let per_token = shape.state_rows() * shape.tokens;
        let sums = shape.state_rows() * features;
        let decays = match options.decay {
            Decay::None => 0,
            Decay::Head => shape.kv_heads,
            Decay::Token => per_token,
            _ => per_token * features,
        };
        let z = if normalized { sums } else { 0 };
        let q = values(shape.query_len(), normalized, 1.0, false);
        let k = values(
            shape.key_len(),
            normalized,
            (shape.key as f64).powf(-0.5),
            false,
        );
        Call {
            q,
            k,
            v: values(shape.value_len(), false, 1.0, false),
            g: values(decays, true, -0.3, true),
            beta: values(if options.delta { per_token } else { 0 }, true, 1.0, true),
            s: values(sums * shape.value, false, 1.0, true),
            z: values(z, true, 1.0, true),
            grad_s: values(sums * shape.value, false, 1.0, true),
            grad_z: values(z, false, 1.0, true),
            grad_o: values(shape.output_len(), false, 1.0, false),
            shape,
            options,
        }
    }

    fn normalized(&self) -> bool {
        self.options.normalize.is_some()
    }

    /// A tensor of some tokens; `query` as in `common::map`.
    fn part(&self, x: &[f64], tokens: &Range<usize>, query: bool, width: usize) -> Vec<f64> {
        let shape = Shape {
            tokens: tokens.len(),
            ..self.shape
        };
        if x.is_empty() {
            return Vec::new();
        }
        map(x, &self.shape, &shape, query, width, |[b, t, h]| {
            [b, t + tokens.start, h]
        })
    }

    fn decays(&self, g: &[f64], tokens: &Range<usize>) -> Vec<f64> {
        match self.options.decay {
            Decay::Token => self.part(g, tokens, false, 1),
            Decay::Channel => self.part(g, tokens, false, self.options.feature_width(&self.shape)),
            _ => g.to_vec(),
        }
    }

    /// Some tokens, with the states of the whole.
    fn cut(&self, tokens: Range<usize>) -> Call {
        let (key, value) = (self.shape.key, self.shape.value);
        Call {
            shape: Shape {
                tokens: tokens.len(),
                ..self.shape
            },
            q: self.part(&self.q, &tokens, true, key),
            k: self.part(&self.k, &tokens, false, key),
            v: self.part(&self.v, &tokens, false, value),
            g: self.decays(&self.g, &tokens),
            beta: self.part(&self.beta, &tokens, false, 1),
            grad_o: self.part(&self.grad_o, &tokens, true, value),
            ..self.clone()
        }
    }

    fn start(&self) -> cpu::Carry {
        cpu::Carry {
            state: self.s.clone(),
            z: self.z.clone(),
        }
    }

    fn end(&self) -> cpu::Carry {
        cpu::Carry {
            state: self.grad_s.clone(),
            z: self.grad_z.clone(),
        }
    }

    fn inputs<'a>(&'a self, start: &'a cpu::Carry) -> cpu::Inputs<'a> {
        let some = |x: &'a [f64], given: bool| given.then_some(x);
        cpu::Inputs {
            log_decay: some(&self.g, self.options.decay != Decay::None),
            beta: some(&self.beta, self.options.delta),
            initial_state: Some(&start.state),
            initial_z: some(&start.z, self.normalized()),
            ..cpu::Inputs::new(&self.q, &self.k, &self.v)
        }
    }

    fn forward(&self, start: &cpu::Carry) -> cpu::Outputs {
        cpu::forward(&self.shape, &self.options, &self.inputs(start)).unwrap()
    }

    fn backward(&self, start: &cpu::Carry, end: &cpu::Carry) -> cpu::Gradients {
        cpu::backward_with_z(
            &self.shape,
            &self.options,
            &self.inputs(start),
            &self.grad_o,
            Some(&end.state),
            self.normalized().then_some(&end.z),
        )
        .unwrap()
    }

    fn local(&self) -> cpu::LocalState {
        cpu::local_state(&self.shape, &self.options, &self.inputs(&self.start())).unwrap()
    }

    fn adjoint(&self, start: &cpu::Carry) -> cpu::Carry {
        cpu::local_adjoint(
            &self.shape,
            &self.options,
            &self.inputs(start),
            &self.grad_o,
        )
        .unwrap()
    }
}

/// A call's tensors on the device.
struct Device<T: Number> {
    shape: Shape,
    options: Options,
    q: Tensor<T>,
    k: Tensor<T>,
    v: Tensor<T>,
    g: Option<Tensor<f32>>,
    beta: Option<Tensor<f32>>,
    grad_o: Tensor<T>,
    call: Call,
}

fn carry_up(carry: &cpu::Carry, normalized: bool) -> Carry {
    Carry {
        state: up(&carry.state),
        z: normalized.then(|| up(&carry.z)),
    }
}

fn carry_down(carry: &Carry) -> cpu::Carry {
    cpu::Carry {
        state: down(&carry.state),
        z: carry.z.as_ref().map_or(Vec::new(), down),
    }
}

fn local_down(local: &LocalState) -> cpu::LocalState {
    cpu::LocalState {
        added: carry_down(&local.added),
        transfer: down(&local.transfer),
    }
}

impl<T: Number> Device<T> {
    fn new(call: Call) -> Device<T> {
        Device {
            shape: call.shape,
            options: call.options,
            q: up(&call.q),
            k: up(&call.k),
            v: up(&call.v),
            g: (call.options.decay != Decay::None).then(|| up(&call.g)),
            beta: call.options.delta.then(|| up(&call.beta)),
            grad_o: up(&call.grad_o),
            call,
        }
    }

    fn inputs<'a>(&'a self, start: &'a Carry) -> Inputs<'a, T> {
        Inputs {
            log_decay: self.g.as_ref(),
            beta: self.beta.as_ref(),
            initial_state: Some(&start.state),
            initial_z: start.z.as_ref(),
            ..Inputs::new(&self.q, &self.k, &self.v)
        }
    }

    fn local(&self) -> LocalState {
        let inputs = LocalInputs {
            log_decay: self.g.as_ref(),
            beta: self.beta.as_ref(),
            ..LocalInputs::new(&self.k, &self.v)
        };
        let mut local = blank_local(&self.call);
        local_state(gpu(), &self.shape, &self.options, &inputs, &mut local).unwrap();
        local
    }

    fn merged(&self, first: &LocalState, second: &LocalState) -> LocalState {
        let mut merged = blank_local(&self.call);
        merge(
            gpu(),
            &self.shape,
            &self.options,
            first,
            second,
            &mut merged,
        )
        .unwrap();
        merged
    }

    fn after(&self, start: &Carry, local: &LocalState) -> Carry {
        let mut end = blank_carry(&self.call);
        merge_start(gpu(), &self.shape, &self.options, start, local, &mut end).unwrap();
        end
    }

    fn before(&self, end: &Carry, adjoint: &Carry, local: &LocalState) -> Carry {
        let mut start = blank_carry(&self.call);
        let (shape, options) = (&self.shape, &self.options);
        let transfer = &local.transfer;
        merge_adjoint(gpu(), shape, options, end, adjoint, transfer, &mut start).unwrap();
        start
    }

    fn adjoint(&self, start: &Carry) -> Carry {
        let mut adjoint = blank_carry(&self.call);
        let inputs = self.inputs(start);
        let (shape, options) = (&self.shape, &self.options);
        local_adjoint(gpu(), shape, options, &inputs, &self.grad_o, &mut adjoint).unwrap();
        adjoint
    }

    /// o, and the states after the last token.
    fn forward(&self, start: &Carry) -> (Vec<f64>, cpu::Carry) {
        let mut o = blank::<T>(self.shape.output_len());
        let mut end = blank_carry(&self.call);
        let outputs = Outputs {
            o: &mut o,
            final_state: Some(&mut end.state),
            final_z: end.z.as_mut(),
        };
        forward(
            gpu(),
            &self.shape,
            &self.options,
            &self.inputs(start),
            outputs,
        )
        .unwrap();
        (down(&o), carry_down(&end))
    }

    fn backward(&self, start: &Carry, end: &Carry) -> cpu::Gradients {
        let mut q = blank::<T>(self.q.len());
        let mut k = blank::<T>(self.k.len());
        let mut v = blank::<T>(self.v.len());
        let like = |x: &Option<Tensor<f32>>| x.as_ref().map(|x| blank::<f32>(x.len()));
        let [mut g, mut beta] = [like(&self.g), like(&self.beta)];
        let mut before = blank_carry(&self.call);
        let gradients = Gradients {
            log_decay: g.as_mut(),
            beta: beta.as_mut(),
            initial_state: Some(&mut before.state),
            initial_z: before.z.as_mut(),
            ..Gradients::new(&mut q, &mut k, &mut v)
        };
        let given = Given {
            final_state: Some(&end.state),
            final_z: end.z.as_ref(),
            ..Given::new(&self.grad_o)
        };
        let inputs = self.inputs(start);
        backward(
            gpu(),
            &self.shape,
            &self.options,
            &inputs,
            &given,
            gradients,
        )
        .unwrap();
        let optional = |x: Option<Tensor<f32>>| x.as_ref().map_or(Vec::new(), down);
        let before = carry_down(&before);
        cpu::Gradients {
            q: down(&q),
            k: down(&k),
            v: down(&v),
            log_decay: optional(g),
            beta: optional(beta),
            initial_state: before.state,
            initial_z: before.z,
            fm_weight: Vec::new(),
            fm_bias: Vec::new(),
        }
    }
}

/// The root-mean-square error over the root mean square of what is like it: a segment's over the whole sequence's.
fn error(got: &[f64], expected: &[f64], whole: &[f64]) -> f64 {
    assert_eq!(got.len(), expected.len());
    let mean = |sum: f64, len: usize| if len == 0 { 0.0 } else { sum / len as f64 };
    let wrong = got.iter().zip(expected).map(|(a, b)| (a - b).powi(2)).sum();
    let size = whole.iter().map(|x| x * x).sum();
    let wrong = mean(wrong, got.len()).sqrt();
    if wrong == 0.0 {
        return 0.0;
    }
    wrong / mean(size, whole.len()).sqrt()
}

/// The largest error over its bound, and where.
struct Worst(f64, String);

impl Worst {
    fn see(&mut self, what: &str, got: &[f64], expected: &[f64], whole: &[f64], bound: f64) {
        let miss = error(got, expected, whole) / bound;
        // NaN counts as a miss, and stays.
        if miss > self.0 || miss.is_nan() {
            *self = Worst(miss, what.into());
        }
    }

    fn carry(&mut self, what: &str, got: &cpu::Carry, expected: &cpu::Carry, bound: f64) {
        let state = &expected.state;
        self.see(&format!("{what} state"), &got.state, state, state, bound);
        let z = &expected.z;
        self.see(&format!("{what} z"), &got.z, z, z, bound);
    }

    fn local(&mut self, what: &str, got: &cpu::LocalState, expected: &cpu::LocalState, bound: f64) {
        self.carry(what, &got.added, &expected.added, bound);
        let transfer = &expected.transfer;
        // Of a matrix of a long segment little is left; what counts is what it does to states of size 1.
        let mut whole = transfer.clone();
        if got.transfer.len() > got.added.state.len() / 2 {
            whole.iter_mut().for_each(|x| *x = x.abs().max(0.1));
        }
        self.see(
            &format!("{what} transfer"),
            &got.transfer,
            transfer,
            &whole,
            bound,
        );
    }

    /// The gradients of some tokens against those of the whole sequence, but for a decay per head.
    fn gradients(
        &mut self,
        whole: &Call,
        tokens: Range<usize>,
        got: &cpu::Gradients,
        all: &cpu::Gradients,
        [narrow, wide]: [f64; 2],
    ) {
        let (key, value) = (whole.shape.key, whole.shape.value);
        let part = |x: &[f64], query, width| whole.part(x, &tokens, query, width);
        self.see("dq", &got.q, &part(&all.q, true, key), &all.q, narrow);
        self.see("dk", &got.k, &part(&all.k, false, key), &all.k, narrow);
        self.see("dv", &got.v, &part(&all.v, false, value), &all.v, narrow);
        let beta = part(&all.beta, false, 1);
        self.see("dbeta", &got.beta, &beta, &all.beta, wide);
        if whole.options.decay != Decay::Head {
            let g = whole.decays(&all.log_decay, &tokens);
            self.see("dg", &got.log_decay, &g, &all.log_decay, wide);
        }
    }
}

fn sum(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a + b).collect()
}

fn initial(gradients: &cpu::Gradients) -> cpu::Carry {
    cpu::Carry {
        state: gradients.initial_state.clone(),
        z: gradients.initial_z.clone(),
    }
}

/// Cuts a call in two at each of these positions, on the device.
fn cut_in_two<T: Number>(call: &Call, positions: impl Iterator<Item = usize>) {
    let half = T::DTYPE != Dtype::F32;
    let delta = call.options.delta;
    let states = 1e-5;
    let outputs = if half { 1e-3 } else { states };
    let wide = if delta { 5e-5 } else { 2e-5 };
    let narrow = if half { 1e-3 } else { wide };
    let tokens = call.shape.tokens;
    let (start, end) = (call.start(), call.end());
    let reference = call.forward(&start);
    let gradients = call.backward(&start, &end);
    let local = call.local();
    let last = cpu::Carry {
        state: reference.final_state.clone(),
        z: reference.final_z.clone(),
    };
    let normalized = call.normalized();
    let (start, end) = (carry_up(&start, normalized), carry_up(&end, normalized));
    let mut worst = Worst(0.0, String::new());
    for at in positions {
        let [a, b] = [0..at, at..tokens].map(|range| Device::<T>::new(call.cut(range)));
        let [local_a, local_b] = [a.local(), b.local()];
        worst.local("a", &local_down(&local_a), &a.call.local(), states);
        worst.local("b", &local_down(&local_b), &b.call.local(), states);
        let merged = local_down(&a.merged(&local_a, &local_b));
        worst.local("merged", &merged, &local, states);

        let between = a.after(&start, &local_a);
        let after = carry_down(&b.after(&between, &local_b));
        worst.carry("after", &after, &last, states);
        let (o, after) = b.forward(&between);
        let expected = call.part(&reference.o, &(at..tokens), true, call.shape.value);
        worst.see("o", &o, &expected, &reference.o, outputs);
        worst.carry("final", &after, &last, states);

        let adjoint_b = b.adjoint(&between);
        let between_grad = b.before(&end, &adjoint_b, &local_b);
        let expected = b.call.adjoint(&carry_down(&between));
        let size = carry_down(&between_grad);
        let got = carry_down(&adjoint_b);
        let adjoint = [
            (&got.state, &expected.state, &size.state),
            (&got.z, &expected.z, &size.z),
        ];
        for (got, expected, size) in adjoint {
            worst.see("adjoint", got, expected, size, wide);
        }
        let grads_a = a.backward(&start, &between_grad);
        let grads_b = b.backward(&between, &end);
        worst.gradients(call, 0..at, &grads_a, &gradients, [narrow, wide]);
        worst.gradients(call, at..tokens, &grads_b, &gradients, [narrow, wide]);
        if call.options.decay == Decay::Head {
            let g = sum(&grads_a.log_decay, &grads_b.log_decay);
            let all = &gradients.log_decay;
            worst.see("dg", &g, all, all, wide);
        }
        worst.carry("first", &initial(&grads_a), &initial(&gradients), wide);
        worst.carry(
            "between",
            &initial(&grads_b),
            &carry_down(&between_grad),
            wide,
        );
        let first = a.before(&between_grad, &a.adjoint(&start), &local_a);
        worst.carry(
            "first folded",
            &carry_down(&first),
            &initial(&gradients),
            wide,
        );
        assert!(
            worst.0 <= 1.0,
            "cut at {at}: {} is off by {} bounds; {:?} {:?}",
            worst.1,
            worst.0,
            call.shape,
            call.options
        );
    }
    println!(
        "{:.2} of the bound at {}; {:?}",
        worst.0, worst.1, call.options
    );
}

fn shape(layout: Layout, [heads, kv_heads, key, value]: [usize; 4]) -> Shape {
    Shape {
        batch: 2,
        tokens: 70,
        heads,
        kv_heads,
        key,
        value,
        layout,
        dtype: Dtype::F32,
    }
}

fn with_decay(options: Options, decay: Decay) -> Options {
    Options { decay, ..options }
}

fn normalized(options: Options) -> Options {
    Options {
        normalize: Some(0.01),
        ..options
    }
}

/// Every option in the sizes that it is tested with.
fn calls() -> Vec<Call> {
    let plain = Options::retention(6);
    let mut calls = Vec::new();
    for (n, decay) in ALL_DECAYS.into_iter().enumerate() {
        let layouts = [Layout::Bthd, Layout::Bhtd];
        let (layout, other) = (layouts[n % 2], layouts[(n + 1) % 2]);
        let whole = with_decay(plain, decay);
        calls.push(Call::new(shape(layout, [2, 2, 8, 4]), whole));
        calls.push(Call::new(shape(other, [4, 2, 5, 3]), normalized(whole)));
        let delta = Options {
            delta: true,
            ..whole
        };
        calls.push(Call::new(shape(other, [2, 2, 8, 4]), delta));
        calls.push(Call::new(shape(layout, [3, 1, 5, 6]), delta));
    }
    calls
}

fn halves(call: &Call) -> Call {
    let shape = Shape {
        dtype: Dtype::F16,
        ..call.shape
    };
    Call::new(shape, call.options)
}

/// Every fourth position from the n-th, and the ends.
fn some(n: usize) -> impl Iterator<Item = usize> {
    (n..=70).step_by(4).chain([0, 70])
}

#[test]
fn the_reference_of_a_sequence_cut_anywhere_is_that_of_the_whole() {
    for call in calls() {
        let tokens = call.shape.tokens;
        let (start, end) = (call.start(), call.end());
        let all = call.forward(&start);
        let gradients = call.backward(&start, &end);
        let (shape, options) = (&call.shape, &call.options);
        let mut worst = Worst(0.0, String::new());
        for at in 0..=tokens {
            let [a, b] = [0..at, at..tokens].map(|range| call.cut(range));
            let [local_a, local_b] = [a.local(), b.local()];
            let merged = cpu::merge(shape, options, &local_a, &local_b).unwrap();
            worst.local("merged", &merged, &call.local(), 1e-12);
            let between = cpu::merge_start(shape, options, &start, &local_a).unwrap();
            let o = b.forward(&between);
            let expected = call.part(&all.o, &(at..tokens), true, shape.value);
            worst.see("o", &o.o, &expected, &all.o, 1e-12);
            let adjoint = b.adjoint(&between);
            let transfer = &local_b.transfer;
            let grad = cpu::merge_adjoint(shape, options, &end, &adjoint, transfer).unwrap();
            let [grads_a, grads_b] = [a.backward(&start, &grad), b.backward(&between, &end)];
            worst.gradients(&call, 0..at, &grads_a, &gradients, [1e-11; 2]);
            worst.gradients(&call, at..tokens, &grads_b, &gradients, [1e-11; 2]);
            worst.carry("between", &initial(&grads_b), &grad, 1e-11);
            worst.carry("first", &initial(&grads_a), &initial(&gradients), 1e-11);
        }
        assert!(worst.0 <= 1.0, "{} {}: {options:?}", worst.1, worst.0);
    }
}

/// The calls of one kind, each cut at every fourth position: at every one among the four.
fn cut(kind: usize) {
    for (n, call) in sample(calls().iter().skip(kind).step_by(4).enumerate()) {
        for half in by_turns([false, true], kind + n) {
            match half {
                false => cut_in_two::<f32>(call, some(n)),
                true => cut_in_two::<f16>(&halves(call), [17 + n, 64].into_iter()),
            }
        }
    }
}

#[test]
fn sums_cut_anywhere_give_what_the_whole_gives() {
    cut(0);
}

#[test]
fn normalized_sums_cut_anywhere_give_what_the_whole_gives() {
    cut(1);
}

#[test]
fn delta_rules_cut_anywhere_give_what_the_whole_gives() {
    cut(2);
}

#[test]
fn grouped_delta_rules_cut_anywhere_give_what_the_whole_gives() {
    cut(3);
}

#[test]
fn merging_is_associative_over_three_segments() {
    let mut random = Random(5);
    for call in sample(calls()) {
        let first = random.below(70);
        let second = first + random.pick(&[0, 1, 70 - first]);
        let parts =
            [0..first, first..second, second..70].map(|range| Device::<f32>::new(call.cut(range)));
        let [a, b, c] = &parts;
        let [x, y, z] = [a.local(), b.local(), c.local()];
        let left = local_down(&a.merged(&a.merged(&x, &y), &z));
        let right = local_down(&a.merged(&x, &a.merged(&y, &z)));
        let mut worst = Worst(0.0, String::new());
        worst.local("left", &left, &call.local(), 1e-5);
        worst.local("right", &right, &call.local(), 1e-5);
        let start = carry_up(&call.start(), call.normalized());
        let folded = [x, y, z].iter().fold(None, |carry: Option<Carry>, local| {
            Some(a.after(carry.as_ref().unwrap_or(&start), local))
        });
        let last = call.forward(&call.start());
        let last = cpu::Carry {
            state: last.final_state,
            z: last.final_z,
        };
        worst.carry("folded", &carry_down(&folded.unwrap()), &last, 1e-5);
        assert!(
            worst.0 <= 1.0,
            "{} {}: {:?}",
            worst.1,
            worst.0,
            call.options
        );
    }
}

/// Plans for a device where nothing fits at once, run on this one; merging gives the same bits, as does the same plan twice.
#[test]
fn cut_plans_give_the_same() {
    for decay in ALL_DECAYS {
        for (delta, layout) in [
            (false, Layout::Bthd),
            (false, Layout::Bhtd),
            (true, Layout::Bthd),
        ] {
            let shape = Shape {
                tokens: if delta { 40 } else { 700 },
                ..shape(layout, [3, 3, 40, 24])
            };
            let options = Options {
                delta,
                ..with_decay(Options::plain(), decay)
            };
            let call = Call::new(shape, options);
            let device = Device::<f32>::new(call.clone());
            let caps = gpu().caps();
            let tight = |binding_bytes: u64| Caps {
                binding_bytes,
                ..caps.clone()
            };
            let inputs: Vec<_> = [
                Some(&device.k),
                Some(&device.v),
                device.g.as_ref(),
                device.beta.as_ref(),
            ]
            .into_iter()
            .flatten()
            .collect();
            let local = |caps: &Caps| {
                let plan = plan::local_state(&shape, &options, [None; 2], caps).unwrap();
                let out = blank_local(&call);
                let out = vec![out.added.state, out.transfer];
                (plan.steps.len(), run(&plan, &inputs, out))
            };
            let (steps, whole) = local(caps);
            let (more, cut) = local(&tight(if delta { 24 << 10 } else { 32 << 10 }));
            assert!(more > steps, "{more} steps against {steps}");
            // The cut decides which tokens are summed first, so that only rounding differs.
            for (cut, whole) in cut.iter().zip(&whole) {
                assert!(error(cut, whole, whole) < 1e-6, "{options:?} {layout:?}");
            }

            let (x, y) = (device.local(), device.local());
            for fold in [Fold::Merge, Fold::Start, Fold::Adjoint] {
                let inputs: Vec<&Tensor<f32>> =
                    [&x.added.state, &y.added.state, &y.transfer, &x.transfer]
                        .into_iter()
                        .collect();
                let folded = |caps: &Caps| {
                    let plan = plan::fold(&shape, &options, fold, caps).unwrap();
                    let out = blank_local(&call);
                    let mut out = vec![out.added.state, out.transfer];
                    out.truncate(if fold == Fold::Merge { 2 } else { 1 });
                    (plan.steps.len(), run(&plan, &inputs, out))
                };
                let (steps, whole) = folded(caps);
                let slow = Caps {
                    gflops: 1e-5,
                    ..tight(16 << 10)
                };
                for caps in [tight(16 << 10), slow] {
                    let (more, cut) = folded(&caps);
                    assert!(more > steps, "{more} steps against {steps}");
                    assert_eq!(whole, cut, "{fold:?} {options:?}");
                }
                assert_eq!(whole, folded(gpu().caps()).1);
            }
        }
    }
}

fn run(plan: &Plan, inputs: &[&Tensor<f32>], mut outputs: Vec<Tensor<f32>>) -> Vec<Vec<f64>> {
    let views: Vec<_> = inputs.iter().map(|tensor| tensor.view()).collect();
    let mut targets: Vec<_> = outputs.iter_mut().map(Tensor::view_mut).collect();
    let mut pass = gpu().pass("plan");
    pass.run(plan, &views, &mut targets).unwrap();
    pass.submit().unwrap();
    outputs.iter().map(down).collect()
}

#[test]
fn segments_go_through_feature_maps_and_without_causality() {
    for (feature_map, causal) in [
        (FeatureMap::Elu1, true),
        (FeatureMap::Taylor2, true),
        (FeatureMap::Relu, false),
    ] {
        let options = Options {
            feature_map,
            causal,
            ..normalized(Options::plain())
        };
        let call = Call::new(shape(Layout::Bthd, [2, 2, 4, 4]), options);
        if causal {
            cut_in_two::<f32>(&call, [0, 33].into_iter());
            continue;
        }
        // Every segment starts from what all others add, and ends with what they ask for.
        let [a, b] = [0..30, 30..70].map(|range| Device::<f32>::new(call.cut(range)));
        let (start, end) = (carry_up(&call.start(), true), carry_up(&call.end(), true));
        let [x, y] = [a.local(), b.local()];
        let (for_a, for_b) = (a.after(&start, &y), b.after(&start, &x));
        let reference = call.forward(&call.start());
        let mut worst = Worst(0.0, String::new());
        let expected = call.part(&reference.o, &(0..30), true, 4);
        worst.see("o", &a.forward(&for_a).0, &expected, &reference.o, 5e-6);
        let gradients = call.backward(&call.start(), &call.end());
        let grad = b.before(&end, &a.adjoint(&for_a), &x);
        let of_b = b.backward(&for_b, &grad);
        worst.gradients(&call, 30..70, &of_b, &gradients, [2e-5; 2]);
        worst.carry("first", &initial(&of_b), &initial(&gradients), 2e-5);
        assert!(worst.0 <= 1.0, "{} {}", worst.1, worst.0);
    }
}

#[test]
fn wrong_segments_are_refused() {
    let plain = Call::new(shape(Layout::Bthd, [2, 2, 4, 4]), Options::plain());
    let sum = Call::new(plain.shape, normalized(Options::plain()));
    let device = Device::<f32>::new(plain.clone());
    let (options, other) = (&plain.options, &sum.options);
    let inputs = LocalInputs::new(&device.k, &device.v);
    let refuse = |result: subquad::Result<()>, sentence: &str| {
        let error = result.unwrap_err().to_string();
        assert!(error.contains(sentence), "{error}");
    };
    let mut local = blank_local(&plain);
    let shape = &plain.shape;
    refuse(
        local_state(gpu(), shape, other, &inputs, &mut local),
        "local.z",
    );
    let mut short = blank_local(&plain);
    short.transfer = blank(3);
    refuse(
        local_state(gpu(), shape, options, &inputs, &mut short),
        "local.transfer",
    );
    refuse(
        merge(
            gpu(),
            shape,
            options,
            &short,
            &local,
            &mut blank_local(&plain),
        ),
        "first.transfer",
    );
    let decaying = Options::simple_gla(4);
    refuse(
        local_state(gpu(), shape, &decaying, &inputs, &mut local),
        "log_decay",
    );
    let start = blank_carry(&plain);
    refuse(
        merge_start(gpu(), shape, other, &start, &local, &mut blank_carry(&sum)),
        "start.z",
    );
    let mut adjoint = blank_carry(&sum);
    refuse(
        local_adjoint(
            gpu(),
            shape,
            options,
            &Inputs::new(&device.q, &device.k, &device.v),
            &device.grad_o,
            &mut adjoint,
        ),
        "adjoint.z",
    );
    refuse(
        merge_adjoint(
            gpu(),
            shape,
            options,
            &start,
            &start,
            &blank(1),
            &mut blank_carry(&plain),
        ),
        "transfer",
    );
}
