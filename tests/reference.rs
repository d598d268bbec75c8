//! The CPU reference against the case files, finite differences and the identities of the operator. No adapter is needed.

mod common;

use std::{ops::Range, path::PathBuf};

use serde_json::Map;
use subquad::{
    Error,
    case::{Array, Case, judge},
    cli::case_files,
    gpu::Dtype,
    linear::{Decay, FeatureMap, Layout, Options, Shape, cpu},
};

use common::{ALL_DECAYS, Random, map};

/// The folder of case files: `SUBQUAD_CASES`, or the one beside the crate.
fn cases() -> PathBuf {
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/cases");
    std::env::var_os("SUBQUAD_CASES").map_or_else(beside, PathBuf::from)
}

#[test]
fn case_files_hold_with_their_gradients() {
    let folder = cases().join("linear_attention");
    if !folder.is_dir() {
        println!("skipped: no folder {}", folder.display());
        return;
    }
    let (mut outputs, mut gradients) = (0, 0);
    for file in case_files(&[folder]).unwrap() {
        let case = Case::read(&file, None, &Map::new()).unwrap();
        let problem = case.bind().unwrap();
        let hold = |name: &str, dtype: Dtype, values: &[f64], expected: &Array, bound: f64| {
            let mut output = problem.outputs().remove(0);
            output.ratio = bound;
            let array = Array::rounded(dtype, &expected.shape, values);
            let verdict = judge(&output, &array, &expected.values(), None);
            assert!(verdict.holds(), "{} {name}: {verdict:?}", case.name);
        };
        let references = problem.reference().unwrap();
        for (output, reference) in problem.outputs().iter().zip(&references) {
            // The files do not hold the sum of keys.
            let Some(expected) = case.expected.get(output.name) else {
                assert_eq!(output.name, "final_z", "{}", case.name);
                continue;
            };
            assert_eq!(output.shape, expected.shape);
            hold(output.name, Dtype::F32, &reference.values, expected, 1e-6);
            outputs += 1;
        }
        let mut found = 0;
        if let Some(adjoint) = problem.adjoint() {
            let references = adjoint.reference().unwrap();
            for (output, reference) in adjoint.outputs().iter().zip(&references) {
                let Some(expected) = case.expected_grads.get(output.name) else {
                    continue;
                };
                assert_eq!(output.shape, expected.shape);
                hold(output.name, Dtype::F32, &reference.values, expected, 2e-6);
                found += 1;
            }
        }
        assert_eq!(found, case.expected_grads.len(), "{}", case.name);
        gradients += found;
        let outputs_of = problem.outputs().len();
        assert_eq!(problem.native().unwrap().len(), outputs_of);
    }
    println!("{outputs} outputs and {gradients} gradients");
    assert!(outputs >= 26 && gradients >= 27);
}

/// A call that owns its inputs, and the gradients handed to its outputs.
#[derive(Clone, Debug)]
struct Call {
    shape: Shape,
    options: Options,
    q: Vec<f64>,
    k: Vec<f64>,
    v: Vec<f64>,
    log_decay: Option<Vec<f64>>,
    beta: Option<Vec<f64>>,
    state: Option<Vec<f64>>,
    weight: Option<Vec<f64>>,
    bias: Option<Vec<f64>>,
    bounds: Option<Vec<u32>>,
    grad_o: Vec<f64>,
    grad_state: Vec<f64>,
}

impl Call {
    /// Any options that go together.
    fn random(random: &mut Random) -> Call {
        let causal = random.unit() < 0.8;
        let decay = if causal {
            random.pick(&ALL_DECAYS)
        } else {
            Decay::None
        };
        let delta = causal && random.unit() < 0.4;
        let feature_map = random.pick(&[
            FeatureMap::Identity,
            FeatureMap::Relu,
            FeatureMap::Elu1,
            FeatureMap::HedgehogSoftmax,
        ]);
        let options = Options {
            decay,
            delta,
            causal,
            normalize: (!delta && random.unit() < 0.4).then_some(0.25),
            feature_map,
            scale: 0.5 + random.unit() as f32,
            ..Options::plain()
        };
        Call::with(random, options)
    }

    fn with(random: &mut Random, options: Options) -> Call {
        let kv_heads = 1 + random.below(2);
        let packed = random.unit() < 0.3;
        let shape = Shape {
            batch: if packed { 1 } else { 1 + random.below(2) },
            tokens: random.below(10),
            heads: kv_heads * (1 + random.below(3)),
            kv_heads,
            key: 1 + random.below(4),
            value: 1 + random.below(4),
            layout: random.pick(&[Layout::Bthd, Layout::Bhtd]),
            dtype: Dtype::F32,
        };
        let bounds = packed.then(|| {
            let mut cut = || random.below(shape.tokens + 1) as u32;
            let mut bounds = vec![0, cut(), cut(), shape.tokens as u32];
            bounds.sort_unstable();
            bounds
        });
        let sequences = bounds
            .as_ref()
            .map_or(shape.batch, |bounds| bounds.len() - 1);
        let features = options.feature_width(&shape);
        let per_token = shape.batch * shape.tokens * kv_heads;
        let states = sequences * kv_heads * features * shape.value;
        let positive = options.normalize.is_some();
        let decays = match options.decay {
            Decay::None => None,
            Decay::Head => Some(kv_heads),
            Decay::Token => Some(per_token),
            _ => Some(per_token * features),
        };
        let projected = options.feature_map == FeatureMap::HedgehogSoftmax;
        Call {
            q: random.values(shape.query_len(), positive),
            k: random.values(shape.key_len(), positive),
            v: random.values(shape.value_len(), false),
            log_decay: decays.map(|len| random.values(len, true).iter().map(|g| -g).collect()),
            beta: options.delta.then(|| random.values(per_token, true)),
            state: (random.unit() < 0.6).then(|| random.values(states, false)),
            weight: projected.then(|| random.values(shape.key * shape.key, false)),
            bias: (projected && random.unit() < 0.7).then(|| random.values(shape.key, false)),
            bounds,
            grad_o: random.values(shape.output_len(), false),
            grad_state: random.values(states, false),
            shape,
            options,
        }
    }

    fn inputs(&self) -> cpu::Inputs<'_> {
        cpu::Inputs {
            log_decay: self.log_decay.as_deref(),
            beta: self.beta.as_deref(),
            initial_state: self.state.as_deref(),
            fm_weight: self.weight.as_deref(),
            fm_bias: self.bias.as_deref(),
            cu_seqlens: self.bounds.as_deref(),
            ..cpu::Inputs::new(&self.q, &self.k, &self.v)
        }
    }

    fn forward(&self) -> cpu::Outputs {
        cpu::forward(&self.shape, &self.options, &self.inputs()).unwrap()
    }

    fn backward(&self) -> cpu::Gradients {
        let grad_state = Some(self.grad_state.as_slice());
        cpu::backward(
            &self.shape,
            &self.options,
            &self.inputs(),
            &self.grad_o,
            grad_state,
        )
        .unwrap()
    }

    /// What the gradients are of.
    fn loss(&self) -> f64 {
        let out = self.forward();
        dot(&out.o, &self.grad_o) + dot(&out.final_state, &self.grad_state)
    }

    fn tensors(&mut self) -> Vec<(&'static str, &mut Vec<f64>)> {
        let optional = [
            ("log_decay", &mut self.log_decay),
            ("beta", &mut self.beta),
            ("initial_state", &mut self.state),
            ("fm_weight", &mut self.weight),
            ("fm_bias", &mut self.bias),
        ];
        let given = optional.into_iter();
        let given = given.filter_map(|(name, tensor)| Some((name, tensor.as_mut()?)));
        [("q", &mut self.q), ("k", &mut self.k), ("v", &mut self.v)]
            .into_iter()
            .chain(given)
            .collect()
    }

    /// The elements of one state.
    fn state_elements(&self) -> usize {
        self.options.feature_width(&self.shape) * self.shape.value
    }

    /// The width of a decay per token, if this is one.
    fn decay_width(&self) -> Option<usize> {
        match self.options.decay {
            Decay::Token => Some(1),
            Decay::Channel => Some(self.options.feature_width(&self.shape)),
            _ => None,
        }
    }

    /// The same call in another shape: `source` says from which batch, token and head a row of the new q or o (true) or of
    /// another tensor (false) comes. States and decays per head stay.
    fn map(&self, shape: Shape, source: impl Fn(bool, [usize; 3]) -> [usize; 3]) -> Call {
        let map = |x: &[f64], query: bool, width: usize| {
            map(x, &self.shape, &shape, query, width, |at| source(query, at))
        };
        let decay = self.log_decay.as_ref().map(|g| match self.decay_width() {
            Some(width) => map(g, false, width),
            None => g.clone(),
        });
        Call {
            q: map(&self.q, true, shape.key),
            k: map(&self.k, false, shape.key),
            v: map(&self.v, false, shape.value),
            log_decay: decay,
            beta: self.beta.as_ref().map(|beta| map(beta, false, 1)),
            grad_o: map(&self.grad_o, true, shape.value),
            shape,
            ..self.clone()
        }
    }

    /// Some tokens of a batch of one, unpacked, with its state.
    fn cut(&self, tokens: Range<usize>, n: usize) -> Call {
        let shape = Shape {
            tokens: tokens.len(),
            ..self.shape
        };
        let mut cut = self.map(shape, |_, [b, t, h]| [b, t + tokens.start, h]);
        let len = self.shape.kv_heads * self.state_elements();
        let part = |states: &Vec<f64>| states[n * len..][..len].to_vec();
        cut.state = self.state.as_ref().map(part);
        cut.grad_state = part(&self.grad_state);
        cut.bounds = None;
        cut
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn close(what: &str, a: &[f64], b: &[f64]) {
    assert_eq!(a.len(), b.len(), "{what}");
    let most = b.iter().fold(1.0f64, |most, x| most.max(x.abs()));
    for (a, b) in a.iter().zip(b) {
        assert!((a - b).abs() <= 1e-12 * most, "{what}: {a} and {b}");
    }
}

fn add(sum: &mut Vec<f64>, part: &[f64]) {
    sum.resize(part.len(), 0.0);
    sum.iter_mut().zip(part).for_each(|(sum, x)| *sum += x);
}

fn gradient<'a>(gradients: &'a cpu::Gradients, name: &str) -> &'a [f64] {
    match name {
        "q" => &gradients.q,
        "k" => &gradients.k,
        "v" => &gradients.v,
        "log_decay" => &gradients.log_decay,
        "beta" => &gradients.beta,
        "initial_state" => &gradients.initial_state,
        "fm_weight" => &gradients.fm_weight,
        "fm_bias" => &gradients.fm_bias,
        _ => unreachable!(),
    }
}

#[test]
fn gradients_are_the_finite_differences() {
    let mut random = Random(1);
    for n in 0..400 {
        let mut call = Call::random(&mut random);
        let gradients = call.backward();
        let names: Vec<_> = call
            .tensors()
            .iter()
            .map(|(name, tensor)| (*name, tensor.len()))
            .collect();
        for (at, (name, len)) in names.into_iter().enumerate() {
            let gradient = gradient(&gradients, name);
            assert_eq!(gradient.len(), len, "{name}");
            // Every element at once, then a few alone.
            for probe in 0..4usize.min(len + 1) {
                let direction = if probe == 0 {
                    random.values(len, false)
                } else {
                    let mut one = vec![0.0; len];
                    one[random.below(len)] = 1.0;
                    one
                };
                let step = 1e-4;
                let mut along = |factor: f64| {
                    let kept = call.tensors()[at].1.clone();
                    for (x, d) in call.tensors()[at].1.iter_mut().zip(&direction) {
                        *x += factor * step * d;
                    }
                    let loss = call.loss();
                    *call.tensors()[at].1 = kept;
                    loss
                };
                // Fourth order: the error is that of rounding.
                let near = along(1.0) - along(-1.0);
                let far = along(2.0) - along(-2.0);
                let difference = (8.0 * near - far) / (12.0 * step);
                let expected = dot(gradient, &direction);
                let size: f64 = gradient
                    .iter()
                    .zip(&direction)
                    .map(|(g, d)| (g * d).abs())
                    .sum();
                assert!(
                    (difference - expected).abs() <= 1e-6 * size + 1e-9,
                    "case {n}, {name}, probe {probe}: {difference} and {expected} in {call:?}"
                );
            }
        }
    }
}

#[test]
fn packed_sequences_equal_separate_ones() {
    let mut random = Random(2);
    let mut seen = 0;
    while seen < 60 {
        let call = Call::random(&mut random);
        let Some(bounds) = call.bounds.clone() else {
            continue;
        };
        seen += 1;
        let (out, grad) = (call.forward(), call.backward());
        let [mut decay, mut weight, mut bias] = [const { Vec::new() }; 3];
        let (mut last, mut z, mut initial) = (Vec::new(), Vec::new(), Vec::new());
        for (n, pair) in bounds.windows(2).enumerate() {
            let tokens = pair[0] as usize..pair[1] as usize;
            let alone = call.cut(tokens.clone(), n);
            let (part, part_grad) = (alone.forward(), alone.backward());
            let cut = |x: &[f64], query: bool, width: usize| {
                let shift = |[b, t, h]: [usize; 3]| [b, t + tokens.start, h];
                map(x, &call.shape, &alone.shape, query, width, shift)
            };
            let (key, value) = (call.shape.key, call.shape.value);
            close("o", &part.o, &cut(&out.o, true, value));
            close("dq", &part_grad.q, &cut(&grad.q, true, key));
            close("dk", &part_grad.k, &cut(&grad.k, false, key));
            close("dv", &part_grad.v, &cut(&grad.v, false, value));
            if let Some(width) = call.decay_width() {
                let whole = cut(&grad.log_decay, false, width);
                close("dg", &part_grad.log_decay, &whole);
            }
            add(&mut decay, &part_grad.log_decay);
            add(&mut weight, &part_grad.fm_weight);
            add(&mut bias, &part_grad.fm_bias);
            last.extend(part.final_state);
            z.extend(part.final_z);
            initial.extend(part_grad.initial_state);
        }
        close("final_state", &last, &out.final_state);
        close("final_z", &z, &out.final_z);
        close("d initial_state", &initial, &grad.initial_state);
        close("d fm_weight", &weight, &grad.fm_weight);
        close("d fm_bias", &bias, &grad.fm_bias);
        if call.options.decay == Decay::Head {
            close("dg", &decay, &grad.log_decay);
        }
    }
}

#[test]
fn layouts_agree() {
    let mut random = Random(3);
    for _ in 0..60 {
        let call = Call::random(&mut random);
        let layout = match call.shape.layout {
            Layout::Bthd => Layout::Bhtd,
            Layout::Bhtd => Layout::Bthd,
        };
        let shape = Shape {
            layout,
            ..call.shape
        };
        let other = call.map(shape, |_, at| at);
        let (a, b) = (call.forward(), other.forward());
        let (da, db) = (call.backward(), other.backward());
        let turn = |x: &[f64], query: bool, width: usize| {
            map(x, &call.shape, &shape, query, width, |at| at)
        };
        assert_eq!(turn(&a.o, true, shape.value), b.o);
        assert_eq!(a.final_state, b.final_state);
        assert_eq!(turn(&da.q, true, shape.key), db.q);
        assert_eq!(turn(&da.k, false, shape.key), db.k);
        assert_eq!(turn(&da.v, false, shape.value), db.v);
        assert_eq!(da.initial_state, db.initial_state);
        close("dW", &da.fm_weight, &db.fm_weight);
    }
}

#[test]
fn grouped_heads_equal_repeated_ones() {
    let mut random = Random(4);
    for _ in 0..60 {
        let call = Call::random(&mut random);
        let group = call.shape.heads / call.shape.kv_heads;
        let shape = Shape {
            kv_heads: call.shape.heads,
            ..call.shape
        };
        let mut wide = call.map(shape, |query, [b, t, h]| {
            [b, t, if query { h } else { h / group }]
        });
        let elements = call.state_elements();
        let repeat = |x: &[f64], width: usize| -> Vec<f64> {
            let rows = x.chunks(width);
            rows.flat_map(|row| std::iter::repeat_n(row, group).flatten().copied())
                .collect()
        };
        wide.state = call.state.as_ref().map(|state| repeat(state, elements));
        if call.options.decay == Decay::Head {
            wide.log_decay = call.log_decay.as_ref().map(|g| repeat(g, 1));
        }
        // The gradient of a state belongs to one head of the group.
        wide.grad_state = repeat(&call.grad_state, elements);
        for (n, grad) in wide.grad_state.chunks_mut(elements).enumerate() {
            if n % group > 0 {
                grad.fill(0.0);
            }
        }
        let (a, b) = (call.forward(), wide.forward());
        close("o", &b.o, &a.o);
        close(
            "final_state",
            &b.final_state,
            &repeat(&a.final_state, elements),
        );
        let (da, db) = (call.backward(), wide.backward());
        close("dq", &db.q, &da.q);
        let mut sum = Vec::new();
        for r in 0..group {
            let first = |[b, t, h]: [usize; 3]| [b, t, h * group + r];
            let width = shape.key;
            add(
                &mut sum,
                &map(&db.k, &wide.shape, &call.shape, false, width, first),
            );
        }
        close("dk", &sum, &da.k);
        close("dW", &db.fm_weight, &da.fm_weight);
    }
}

#[test]
fn a_split_with_carried_state_equals_one_pass() {
    let mut random = Random(5);
    let mut seen = 0;
    while seen < 40 {
        let mut call = Call::random(&mut random);
        // The sum of keys of a normalised call is not carried.
        if call.shape.batch > 1 || !call.options.causal || call.options.normalize.is_some() {
            continue;
        }
        seen += 1;
        call = match call.bounds.clone() {
            None => call,
            Some(bounds) => call.cut(0..bounds[1] as usize, 0),
        };
        let states = call.shape.kv_heads * call.state_elements();
        call.state = Some(random.values(states, false));
        let (out, grad) = (call.forward(), call.backward());
        let tokens = call.shape.tokens;
        for at in 0..=tokens {
            let (mut a, mut b) = (call.cut(0..at, 0), call.cut(at..tokens, 0));
            let first = a.forward();
            b.state = Some(first.final_state);
            let (second, db) = (b.forward(), b.backward());
            a.grad_state = db.initial_state.clone();
            let da = a.backward();
            assert_eq!(second.final_state, out.final_state);
            close("d initial_state", &da.initial_state, &grad.initial_state);
            for (part, o, g, start) in [(&a, &first.o, &da, 0), (&b, &second.o, &db, at)] {
                let cut = |x: &[f64], query: bool, width: usize| {
                    let shift = |[b, t, h]: [usize; 3]| [b, t + start, h];
                    map(x, &call.shape, &part.shape, query, width, shift)
                };
                assert_eq!(*o, cut(&out.o, true, call.shape.value));
                close("dq", &g.q, &cut(&grad.q, true, call.shape.key));
                close("dk", &g.k, &cut(&grad.k, false, call.shape.key));
                close("dv", &g.v, &cut(&grad.v, false, call.shape.value));
            }
        }
    }
}

#[test]
fn decays_agree_where_they_say_the_same() {
    let mut random = Random(6);
    for n in 0..40 {
        let mut call = Call::random(&mut random);
        call.options.causal = true;
        call.options.decay = Decay::Head;
        let zero = n % 2 == 0;
        let g = if zero { 0.0 } else { -0.3 };
        call.log_decay = Some(vec![g; call.shape.kv_heads]);
        let (head, head_grad) = (call.forward(), call.backward());
        let per_token = call.shape.state_rows() * call.shape.tokens;
        let features = call.options.feature_width(&call.shape);
        for decay in ALL_DECAYS {
            let mut other = call.clone();
            other.options.decay = decay;
            other.log_decay = match decay {
                Decay::None if !zero => continue,
                Decay::None => None,
                Decay::Head => continue,
                Decay::Token => Some(vec![g; per_token]),
                _ => Some(vec![g; per_token * features]),
            };
            let (out, grad) = (other.forward(), other.backward());
            assert_eq!(out, head);
            assert_eq!((&grad.q, &grad.k), (&head_grad.q, &head_grad.k));
            assert_eq!((&grad.v, &grad.beta), (&head_grad.v, &head_grad.beta));
            if decay != Decay::None {
                let total = |dg: &[f64]| [dg.iter().sum::<f64>()];
                close("dg", &total(&grad.log_decay), &total(&head_grad.log_decay));
            }
        }
    }
}

#[test]
fn the_delta_rule_with_orthonormal_keys_is_plain() {
    let mut random = Random(7);
    for _ in 0..20 {
        let mut call = Call::with(&mut random, Options::plain());
        (call.shape.batch, call.shape.heads, call.shape.kv_heads) = (1, 1, 1);
        call.shape.key = 5;
        call.shape.tokens = 1 + random.below(5);
        (call.state, call.bounds) = (None, None);
        // Rows of a reflection.
        let w = random.values(5, false);
        let k = |t: usize, i: usize| f64::from(u8::from(t == i)) - 2.0 * w[t] * w[i] / dot(&w, &w);
        let tokens = call.shape.tokens;
        call.k = (0..tokens * 5).map(|n| k(n / 5, n % 5)).collect();
        call.q = random.values(call.shape.query_len(), false);
        call.v = random.values(call.shape.value_len(), false);
        let plain = call.forward();
        call.options.delta = true;
        call.beta = Some(vec![1.0; tokens]);
        let delta = call.forward();
        close("o", &delta.o, &plain.o);
        close("final_state", &delta.final_state, &plain.final_state);
        assert!(delta.o_magnitude.is_empty() && !plain.o_magnitude.is_empty());
    }
}

#[test]
fn a_zero_denominator_gives_zero() {
    let mut random = Random(8);
    let options = Options {
        normalize: Some(0.0),
        feature_map: FeatureMap::Relu,
        ..Options::plain()
    };
    let mut call = Call::with(&mut random, options);
    call.q.fill(-1.0);
    assert!(call.forward().o.iter().all(|o| *o == 0.0));
    let grad = call.backward();
    assert!(grad.q.iter().chain(&grad.k).all(|x| x.is_finite()));
}

#[test]
fn infinite_decays_forget_everything() {
    let mut random = Random(9);
    let mut call = Call::with(
        &mut random,
        Options {
            decay: Decay::Token,
            ..Options::plain()
        },
    );
    call.log_decay.as_mut().unwrap().fill(f64::NEG_INFINITY);
    let grad = call.backward();
    assert!(grad.log_decay.iter().all(|dg| *dg == 0.0));
    assert!(grad.k.iter().all(|x| x.is_finite()));
}

#[test]
fn results_do_not_depend_on_the_threads() {
    let mut random = Random(10);
    for _ in 0..10 {
        let call = Call::random(&mut random);
        let both = || (call.forward(), call.backward());
        let [one, five] = [1, 5].map(|threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
            pool.build().unwrap().install(both)
        });
        assert_eq!(one, five);
    }
}

#[test]
fn wrong_arguments_are_named() {
    let mut random = Random(11);
    let mut good = Call::with(&mut random, Options::plain());
    (good.bounds, good.state) = (None, None);
    good.shape = Shape {
        batch: 1,
        tokens: 4,
        heads: 4,
        kv_heads: 2,
        ..good.shape
    };
    good.q = vec![0.5; good.shape.query_len()];
    good.k = vec![0.5; good.shape.key_len()];
    good.v = vec![0.5; good.shape.value_len()];
    good.grad_o = vec![0.5; good.shape.output_len()];
    good.grad_state = vec![0.5; good.shape.state_len()];
    good.backward();
    type Change = fn(&mut Call);
    let changes: [(&str, Change); 17] = [
        ("kv_heads", |call| call.shape.kv_heads = 3),
        ("kv_heads", |call| call.shape.kv_heads = 0),
        ("kv_heads", |call| call.shape.heads = 0),
        ("normalize", |call| call.options.normalize = Some(-1.0)),
        ("normalize", |call| call.options.normalize = Some(f32::NAN)),
        ("normalize", |call| {
            (call.options.normalize, call.options.delta) = (Some(1.0), true)
        }),
        ("causal", |call| {
            (call.options.causal, call.options.delta) = (false, true)
        }),
        ("causal", |call| {
            (call.options.causal, call.options.decay) = (false, Decay::Head)
        }),
        ("log_decay", |call| call.options.decay = Decay::Token),
        ("log_decay", |call| call.log_decay = Some(vec![0.0; 2])),
        ("beta", |call| call.options.delta = true),
        ("fm_weight", |call| {
            call.options.feature_map = FeatureMap::HedgehogSoftmax
        }),
        ("fm_bias", |call| call.bias = Some(vec![0.0])),
        ("initial_state", |call| call.state = Some(vec![0.0])),
        ("cu_seqlens", |call| call.bounds = Some(vec![0, 3])),
        ("cu_seqlens", |call| call.bounds = Some(vec![0, 3, 2, 4])),
        ("cu_seqlens", |call| {
            call.shape.batch = 2;
            call.bounds = Some(vec![0, 4]);
        }),
    ];
    for (name, change) in changes {
        let mut call = good.clone();
        change(&mut call);
        let refused = cpu::forward(&call.shape, &call.options, &call.inputs());
        match refused {
            Err(Error::Argument { what, .. }) => assert_eq!(what, name),
            other => panic!("{name}: {other:?}"),
        }
    }
}
