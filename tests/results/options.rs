//! Identities of the operator that hold for every combination of its options.

use std::iter::once;

use subquad::{
    gpu::{Caps, Dtype},
    linear::{Decay, FeatureMap, Layout, Options, Shape},
};

use crate::{
    call::{Call, Out},
    common::{ALL_DECAYS, Random},
    effort::{by_turns, sample},
    gpu,
};

/// What becomes of values: added, added and normalised, the delta rule; causal or not.
fn rules(decay: Decay) -> Vec<Options> {
    let plain = Options {
        decay,
        scale: 0.7,
        ..Options::plain()
    };
    let normalized = Options {
        normalize: Some(0.1),
        ..plain
    };
    let delta = Options {
        delta: true,
        ..plain
    };
    let mut rules = vec![plain, normalized, delta];
    if decay == Decay::None {
        rules.extend([plain, normalized].map(|rule| Options {
            causal: false,
            ..rule
        }));
    }
    rules
}

fn shape(tokens: usize) -> Shape {
    Shape {
        batch: 2,
        tokens,
        heads: 2,
        kv_heads: 2,
        key: 12,
        value: 8,
        layout: Layout::Bthd,
        dtype: Dtype::F32,
    }
}

/// Every rule with random maps, widths, heads, layouts and packing, in a storage type; on this device, and with the kernels
/// of a GPU where that is asked for.
fn random_calls_match_the_reference(
    dtype: Dtype,
    decays: impl Iterator<Item = Decay>,
    others: &[Caps],
    turn: usize,
) {
    let mut random = Random(7 + dtype.bytes() + u64::from(dtype == Dtype::Bf16));
    for rule in decays.flat_map(|decay| by_turns(rules(decay), turn + decay as usize)) {
        let packed = random.unit() < 0.4;
        let kv_heads = 1 + random.below(3);
        let vectors = random.unit() < 0.5;
        let mut width = || {
            if vectors {
                4 * (1 + random.below(9))
            } else {
                1 + random.below(40)
            }
        };
        let (key, value) = (width(), width());
        let shape = Shape {
            batch: if packed { 1 } else { 1 + random.below(2) },
            tokens: 5 + random.below(150),
            heads: kv_heads * random.pick(&[1, 2, 3, 12]),
            kv_heads,
            key,
            value,
            layout: random.pick(&[Layout::Bthd, Layout::Bhtd]),
            dtype,
        };
        let options = Options {
            feature_map: random.pick(&[FeatureMap::Identity, FeatureMap::Relu, FeatureMap::Elu1]),
            ..rule
        };
        // With a map, keys may be as long as their width says: a delta rule of such keys would grow.
        let options = match options.delta {
            true => Options {
                feature_map: FeatureMap::Identity,
                ..options
            },
            false => options,
        };
        let bounds = packed.then(|| {
            let mut cut = || random.below(shape.tokens + 1) as u32;
            let mut bounds = vec![0, cut(), cut(), cut(), shape.tokens as u32];
            bounds.sort_unstable();
            bounds
        });
        let mut call = Call::with(shape, options, bounds, &mut random);
        if random.unit() < 0.3 {
            (call.state, call.z) = (Vec::new(), Vec::new());
        }
        let reference = call.reference();
        let miss = call.miss(&call.run(), &reference);
        let about = (call.shape, call.options, &call.bounds);
        assert!(miss <= 1.0, "{miss} of the bound: {about:?}");
        for caps in others {
            let caps = Caps {
                loop_iterations: gpu().caps().loop_iterations,
                ..caps.clone()
            };
            let miss = call.miss(&call.run_plan(&call.plan(&caps)), &reference);
            assert!(miss <= 1.0, "{}: {miss} of the bound: {about:?}", caps.name);
        }
    }
}

#[test]
fn every_rule_matches_the_reference_in_f32() {
    random_calls_match_the_reference(Dtype::F32, ALL_DECAYS.into_iter(), &[], 0);
}

#[test]
fn every_rule_matches_the_reference_with_the_kernels_of_a_gpu() {
    random_calls_match_the_reference(Dtype::F32, by_turns(ALL_DECAYS, 2), &[Caps::nvidia()], 1);
}

#[test]
fn every_rule_matches_the_reference_in_f16() {
    random_calls_match_the_reference(Dtype::F16, ALL_DECAYS.into_iter(), &[], 2);
}

#[test]
fn every_rule_matches_the_reference_in_bf16() {
    random_calls_match_the_reference(Dtype::Bf16, ALL_DECAYS.into_iter(), &[], 3);
}

/// Every identity, for the rules of one decay, whose kernels are compiled once.
fn identities_hold(decay: Decay) {
    for rule in by_turns(rules(decay), decay as usize) {
        let mut random = Random(3);
        let call = Call::with(shape(77), rule, None, &mut random);
        let out = call.run();
        let miss = call.miss(&out, &call.reference());
        assert!(miss <= 1.0, "{miss} of the bound: {rule:?}");
        assert_eq!(out, call.run(), "two runs of {rule:?}");
        layouts_are_bit_equal(&call, &out);
        packed_sequences_are_those_by_themselves(rule);
        extreme_decays_stay_finite(&call);
        if rule.causal {
            later_tokens_change_nothing(&call, &out);
            resumes_at_any_cut(&call);
            steps_are_the_whole_sequence(&call);
        }
    }
}

#[test]
fn identities_hold_without_decay() {
    identities_hold(Decay::None);
}

#[test]
fn identities_hold_with_decay_per_head() {
    identities_hold(Decay::Head);
}

#[test]
fn identities_hold_with_decay_per_token() {
    identities_hold(Decay::Token);
}

#[test]
fn identities_hold_with_decay_per_channel() {
    identities_hold(Decay::Channel);
}

fn layouts_are_bit_equal(call: &Call, out: &Out) {
    let shape = Shape {
        layout: Layout::Bhtd,
        ..call.shape
    };
    let turned = call.map(shape, |_, at| at).run();
    let expected = Out {
        o: call.turned(&out.o, shape),
        ..out.clone()
    };
    assert_eq!(turned, expected, "head first: {:?}", call.options);
}

fn later_tokens_change_nothing(call: &Call, out: &Out) {
    let (tokens, heads) = (call.shape.tokens, call.shape.kv_heads);
    for t in [1, 7, 8, 37, 63, 64, 65, 76] {
        let mut changed = call.clone();
        // Rows from token t on, in both batches.
        let later = |row: usize| row / heads % tokens >= t;
        let change = |x: &mut Vec<f32>, width: usize, by: fn(f32) -> f32| {
            for (row, x) in x
                .chunks_mut(width)
                .enumerate()
                .filter(|(row, _)| later(*row))
            {
                x.iter_mut().enumerate().for_each(|(i, x)| {
                    if (row + i) % 3 != 0 {
                        *x = by(*x);
                    }
                });
            }
        };
        change(&mut changed.q, call.shape.key, |x| x + 1.0);
        change(&mut changed.k, call.shape.key, |x| x * 0.5);
        change(&mut changed.v, call.shape.value, |x| x * -3.0);
        change(&mut changed.beta, 1, |x| x * 0.25);
        match call.options.decay {
            Decay::Token => change(&mut changed.g, 1, |x| x * 8.0),
            Decay::Channel => change(&mut changed.g, call.shape.key, |x| x * 8.0),
            _ => {}
        }
        let after = changed.run();
        let rows = |out: &Out, tokens| call.tokens(&out.o, tokens);
        assert_eq!(
            rows(out, 0..t),
            rows(&after, 0..t),
            "before token {t}: {:?}",
            call.options
        );
        assert_ne!(
            rows(out, t..t + 1),
            rows(&after, t..t + 1),
            "token {t}: {:?}",
            call.options
        );
    }
}

fn resumes_at_any_cut(call: &Call) {
    let (tokens, reference) = (call.shape.tokens, call.reference());
    for cut in [0, 5, 13, 40, 64, 71, 77] {
        let first = call.cut(0..cut, call.state.clone(), call.z.clone()).run();
        let rest = call.cut(cut..tokens, first.state, first.z);
        let second = rest.run();
        let rows = |n: usize, o: &[f32]| {
            let len = o.len() / call.shape.batch;
            o[n * len..][..len].to_vec()
        };
        let o =
            (0..call.shape.batch).flat_map(|n| [rows(n, &first.o), rows(n, &second.o)].concat());
        let out = Out {
            o: o.collect(),
            ..second
        };
        let miss = call.miss(&out, &reference);
        assert!(
            miss <= 1.0,
            "cut at {cut}, {miss} of the bound: {:?}",
            call.options
        );
    }
}

fn steps_are_the_whole_sequence(call: &Call) {
    let reference = call.reference();
    // One by one after a prefill, and a few at once in the end.
    let mut out = call.cut(0..60, call.state.clone(), call.z.clone()).run();
    let mut parts = vec![out.o.clone()];
    for part in (60..72).map(|t| t..t + 1).chain(once(72..77)) {
        out = call.cut(part, out.state, out.z).step();
        parts.push(out.o.clone());
    }
    let per_batch = |part: &Vec<f32>, n: usize| {
        let len = part.len() / call.shape.batch;
        part[n * len..][..len].to_vec()
    };
    let batches = 0..call.shape.batch;
    out.o = batches
        .flat_map(|n| parts.iter().flat_map(move |part| per_batch(part, n)))
        .collect();
    let miss = call.miss(&out, &reference);
    assert!(miss <= 1.0, "{miss} of the bound: {:?}", call.options);
}

fn packed_sequences_are_those_by_themselves(rule: Options) {
    // Sequences of 5 tokens and more take the same blocks as the whole.
    let bounds = [0, 5, 5, 6, 70, 107, 110, 141];
    let shape = Shape {
        batch: 1,
        ..shape(141)
    };
    let call = Call::with(shape, rule, Some(bounds.to_vec()), &mut Random(11));
    let out = call.run();
    let miss = call.miss(&out, &call.reference());
    assert!(miss <= 1.0, "packed, {miss} of the bound: {rule:?}");
    let (sums, size) = (
        shape.kv_heads * shape.key,
        shape.kv_heads * shape.key * shape.value,
    );
    for (n, ends) in bounds.windows(2).enumerate() {
        let tokens = ends[0] as usize..ends[1] as usize;
        if tokens.len() < 5 {
            continue;
        }
        let part = |x: &[f32], len: usize| match x {
            [] => Vec::new(),
            x => x[n * len..][..len].to_vec(),
        };
        let alone = Call {
            bounds: None,
            ..call.cut(tokens.clone(), part(&call.state, size), part(&call.z, sums))
        };
        let expected = Out {
            o: call.tokens(&out.o, tokens),
            state: part(&out.state, size),
            z: part(&out.z, sums),
        };
        assert_eq!(alone.run(), expected, "sequence {n}: {rule:?}");
    }
    poison_stays_in_its_sequence_and_head(&call, &out);
}

/// NaN in every row of token 40 of key head 1, which is in sequence 3.
fn poison_stays_in_its_sequence_and_head(call: &Call, out: &Out) {
    let Shape {
        heads, key, value, ..
    } = call.shape;
    let mut poisoned = call.clone();
    let row = 40 * heads + 1;
    let poison = |x: &mut Vec<f32>, width: usize| {
        if x.len() >= (row + 1) * width {
            x[row * width..][..width].fill(f32::NAN);
        }
    };
    poison(&mut poisoned.q, key);
    poison(&mut poisoned.k, key);
    poison(&mut poisoned.v, value);
    poison(&mut poisoned.beta, 1);
    let after = poisoned.run();
    let mut reached = 0;
    for (row, (a, b)) in out.o.chunks(value).zip(after.o.chunks(value)).enumerate() {
        if (6..70).contains(&(row / heads)) && row % heads == 1 {
            reached += usize::from(b.iter().any(|x| x.is_nan()));
        } else {
            assert_eq!(a, b, "row {row}: {:?}", call.options);
        }
    }
    assert!(reached > 0);
    for (width, a, b) in [
        (key * value, &out.state, &after.state),
        (key, &out.z, &after.z),
    ] {
        for (n, (a, b)) in a.chunks(width).zip(b.chunks(width)).enumerate() {
            assert!(
                a == b || n == 3 * heads + 1,
                "state {n}: {:?}",
                call.options
            );
        }
    }
}

fn extreme_decays_stay_finite(call: &Call) {
    let extremes = [-50.0, f32::NEG_INFINITY, -8.0, 0.0, -1e-6, -250.0, -0.5];
    let constant = extremes.map(|g| vec![g; call.g.len()]);
    let mut random = Random(5);
    let mixed = call.g.iter().map(|_| random.pick(&extremes)).collect();
    for g in constant
        .into_iter()
        .chain([mixed])
        .filter(|g| !g.is_empty())
    {
        let call = Call { g, ..call.clone() };
        let out = call.run();
        let finite = |x: &[f32]| x.iter().all(|x| x.is_finite());
        assert!(finite(&out.o) && finite(&out.state) && finite(&out.z));
        let miss = call.miss(&out, &call.reference());
        let first = &call.g[..call.g.len().min(4)];
        assert!(
            miss <= 1.0,
            "{miss} of the bound at {first:?}: {:?}",
            call.options
        );
    }
}

#[test]
fn grouped_heads_are_repeated_heads() {
    let rules = [
        rules(Decay::Channel)[1],
        rules(Decay::Token)[2],
        rules(Decay::None)[4],
    ];
    for (n, rule) in sample(rules.into_iter().enumerate()) {
        for group in by_turns([3, 12], n) {
            let grouped = Shape {
                heads: 2 * group,
                ..shape(41)
            };
            let call = Call::with(grouped, rule, None, &mut Random(13));
            let whole = Shape {
                kv_heads: 2 * group,
                ..grouped
            };
            let mut repeated = call.map(whole, |query, [b, t, h]| match query {
                true => [b, t, h],
                false => [b, t, h / group],
            });
            let repeat = |x: &[f32], len: usize| -> Vec<f32> {
                x.chunks(len).flat_map(|x| x.repeat(group)).collect()
            };
            repeated.state = repeat(&call.state, 12 * 8);
            repeated.z = repeat(&call.z, 12);
            if rule.decay == Decay::Head {
                repeated.g = repeat(&call.g, 1);
            }
            let (grouped, out) = (call.run(), repeated.run());
            let reference = repeated.reference();
            let of_whole = Out {
                o: grouped.o,
                state: repeat(&grouped.state, 12 * 8),
                z: repeat(&grouped.z, 12),
            };
            for (name, out) in [("grouped", of_whole), ("repeated", out)] {
                let miss = repeated.miss(&out, &reference);
                assert!(miss <= 1.0, "{name}, {miss} of the bound: {rule:?}");
            }
        }
    }
}

#[test]
fn decays_of_zero_are_no_decay() {
    for n in by_turns(0..3, 2) {
        let plain = Call::with(shape(77), rules(Decay::None)[n], None, &mut Random(17));
        let out = plain.run();
        for decay in [Decay::Head, Decay::Token, Decay::Channel] {
            let per_token = plain.shape.state_rows() * plain.shape.tokens;
            let len = match decay {
                Decay::Head => plain.shape.kv_heads,
                Decay::Token => per_token,
                _ => per_token * plain.shape.key,
            };
            let mut call = plain.clone();
            (call.options.decay, call.g) = (decay, vec![0.0; len]);
            assert_eq!(call.run(), out, "{:?}", call.options);
        }
    }
}

/// The longest walks over rows that there are: software adapters end loops early that take too many turns.
#[test]
fn widest_keys_with_most_readers_match_the_reference() {
    let rules = [
        (rules(Decay::Channel)[1], 8),
        (rules(Decay::Channel)[2], 1),
        (rules(Decay::None)[3], 8),
    ];
    for (rule, group) in sample(rules) {
        let shape = Shape {
            batch: 1,
            heads: group,
            kv_heads: 1,
            key: 512,
            value: 4,
            ..shape(130)
        };
        let call = Call::with(shape, rule, None, &mut Random(19));
        let miss = call.miss(&call.run(), &call.reference());
        assert!(miss <= 1.0, "{miss} of the bound: {rule:?}");
    }
}
