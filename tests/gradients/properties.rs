//! What gradients keep to, whatever the values are.

use subquad::{
    gpu::Caps,
    linear::{Decay, FeatureMap, Layout, Options, Shape, cpu},
};

use crate::{
    adjoint::{Adjoint, Named},
    call::{Call, ratio, wide},
    common::{ALL_DECAYS, Random, map},
    effort::{by_turns, sample},
    gpu, rules, shape,
};

/// The call of a rule with every state, gradient and, where the rule has room for one, a map with weights.
fn whole(rule: Options, shape: Shape, bounds: Option<Vec<u32>>, random: &mut Random) -> Adjoint {
    let map = match (rule.delta, rule.normalize) {
        (true, _) => FeatureMap::Identity,
        (_, Some(_)) => FeatureMap::HedgehogExp,
        _ => FeatureMap::T2r,
    };
    let options = Options {
        feature_map: map,
        ..rule
    };
    Adjoint::new(Call::with(shape, options, bounds, random), true, random)
}

fn find<'a, T>(named: &'a Named<T>, name: &str) -> &'a [T] {
    named
        .iter()
        .find(|(other, _)| *other == name)
        .map_or(&[], |(_, values)| values)
}

/// Σ a ⊙ b and the product of their norms.
fn product(a: &[f64], b: &[f64]) -> [f64; 2] {
    assert_eq!(a.len(), b.len());
    let dot = |a: &[f64], b: &[f64]| -> f64 { a.iter().zip(b).map(|(a, b)| a * b).sum() };
    [dot(a, b), (dot(a, a) * dot(b, b)).sqrt()]
}

/// Two runs are bit-equal, and what else is wanted changes no gradient; that of the decay alone takes other walks.
fn repeats(adjoint: &Adjoint, all: &Named<f32>) {
    assert_eq!(adjoint.run(), *all, "two runs: {}", adjoint.about());
    let bare = adjoint.run_for([false; 3]);
    let reference = adjoint.reference();
    let misses = adjoint.misses(&bare, &reference_of(&reference, &bare));
    assert!(misses.is_empty(), "{misses:?}: {}", adjoint.about());
    for (wanted, all) in [
        ([true, false, false], all),
        ([true, true, false], all),
        ([true, false, true], all),
        ([false, true, false], &bare),
        ([false, false, true], &bare),
    ] {
        for (name, values) in adjoint.run_for(wanted) {
            let same = values == find(all, name);
            let is_new = find(all, name).is_empty();
            assert!(
                same || is_new,
                "{name} with {wanted:?}: {}",
                adjoint.about()
            );
        }
    }
}

/// Those of the reference's gradients that another list has.
fn reference_of(reference: &Named<f64>, named: &Named<f32>) -> Named<f64> {
    let names: Vec<_> = named.iter().map(|(name, _)| *name).collect();
    let there = reference.iter().filter(|(name, _)| names.contains(name));
    there.cloned().collect()
}

/// Outputs are linear in the values and the initial state: <given, J d> = <gradients, d>, both on the device.
fn is_the_adjoint_of_the_forward(adjoint: &Adjoint, all: &Named<f32>, random: &mut Random) {
    let mut direction = adjoint.call.clone();
    for x in direction.v.iter_mut().chain(&mut direction.state) {
        *x = 2.0 * random.unit() as f32 - 1.0;
    }
    let out = direction.run();
    let sides = [
        (wide(&adjoint.o), wide(&out.o)),
        (wide(adjoint.state.as_ref().unwrap()), wide(&out.state)),
        (wide(find(all, "v")), wide(&direction.v)),
        (wide(find(all, "initial_state")), wide(&direction.state)),
    ]
    .map(|(a, b)| product(&a, &b));
    let [o, state, v, initial] = sides.map(|[dot, _]| dot);
    let norm: f64 = sides.iter().map(|[_, norm]| norm).sum();
    let error = (o + state - v - initial).abs() / norm;
    assert!(error <= 1e-6, "{error:.1e}: {}", adjoint.about());
}

/// <gradients, d> is the derivative of the f64 outputs along d, for the inputs in which they are not linear.
fn is_the_derivative_of_the_reference(adjoint: &Adjoint, all: &Named<f32>, random: &mut Random) {
    let call = &adjoint.call;
    let given = wide(&adjoint.o);
    let given_state = wide(adjoint.state.as_ref().unwrap());
    let mut directions: Named<f64> = Vec::new();
    for (name, values) in all {
        let linear = ["v", "initial_state"].contains(name);
        let one = |_| {
            if linear {
                0.0
            } else {
                2.0 * random.unit() - 1.0
            }
        };
        directions.push((name, (0..values.len()).map(one).collect()));
    }
    let step = 1e-5;
    let value = |along: f64| -> f64 {
        call.in_f64(|inputs| {
            let moved = |name: &str, x: &[f64]| -> Vec<f64> {
                let d = find(&directions, name);
                assert_eq!(x.len(), d.len(), "{name}");
                x.iter().zip(d).map(|(x, d)| x + along * d).collect()
            };
            let some = |name: &str, x: Option<&[f64]>| x.map(|x| moved(name, x));
            let [q, k] = [moved("q", inputs.q), moved("k", inputs.k)];
            let g = some("log_decay", inputs.log_decay);
            let beta = some("beta", inputs.beta);
            let weight = some("fm_weight", inputs.fm_weight);
            let bias = some("fm_bias", inputs.fm_bias);
            let inputs = cpu::Inputs {
                q: &q,
                k: &k,
                log_decay: g.as_deref(),
                beta: beta.as_deref(),
                fm_weight: weight.as_deref(),
                fm_bias: bias.as_deref(),
                ..*inputs
            };
            let out = cpu::forward(&call.shape, &call.options, &inputs).unwrap();
            product(&out.o, &given)[0] + product(&out.final_state, &given_state)[0]
        })
    };
    let expected = (value(step) - value(-step)) / (2.0 * step);
    let sides: Vec<[f64; 2]> = all
        .iter()
        .zip(&directions)
        .map(|((_, gradient), (_, d))| product(&wide(gradient), d))
        .collect();
    let got: f64 = sides.iter().map(|[dot, _]| dot).sum();
    let norm: f64 = sides.iter().map(|[_, norm]| norm).sum();
    let error = (got - expected).abs() / norm;
    assert!(error <= 1e-6, "{error:.1e}: {}", adjoint.about());
}

fn properties_hold(decay: Decay) {
    for rule in by_turns(rules(decay), 5 - decay as usize) {
        let mut random = Random(29);
        let size = Shape {
            heads: 4,
            ..shape(77)
        };
        let adjoint = whole(rule, size, None, &mut random);
        let all = adjoint.check("the call itself");
        repeats(&adjoint, &all);
        is_the_adjoint_of_the_forward(&adjoint, &all, &mut random);
        is_the_derivative_of_the_reference(&adjoint, &all, &mut random);
        if rule.causal && rule.normalize.is_none() {
            for cuts in [vec![5], vec![64]] {
                parts_have_the_gradients_of_the_whole(&adjoint, &cuts);
            }
            let size = Shape {
                batch: 1,
                tokens: 135,
                ..size
            };
            let bounds = Some(vec![0, 3, 3, 70, 135]);
            let packed = whole(rule, size, bounds, &mut random);
            parts_have_the_gradients_of_the_whole(&packed, &[2, 0, 64, 10]);
        }
    }
}

#[test]
fn properties_hold_without_decay() {
    properties_hold(Decay::None);
}

#[test]
fn properties_hold_with_decay_per_head() {
    properties_hold(Decay::Head);
}

#[test]
fn properties_hold_with_decay_per_token() {
    properties_hold(Decay::Token);
}

#[test]
fn properties_hold_with_decay_per_channel() {
    properties_hold(Decay::Channel);
}

/// Some tokens of a call with another state and another gradient of the final one.
fn part(whole: &Adjoint, tokens: &[usize], bounds: Option<Vec<u32>>, state: Vec<f32>) -> Adjoint {
    let call = &whole.call;
    let shape = Shape {
        tokens: tokens.len(),
        ..call.shape
    };
    let source = |[b, t, h]: [usize; 3]| [b, tokens[t], h];
    Adjoint {
        o: map(&whole.o, &call.shape, &shape, true, shape.value, source),
        state: None,
        call: Call {
            state,
            bounds,
            ..call.map(shape, |_, at| source(at))
        },
    }
}

/// Cuts every sequence after so many tokens: the second parts' gradient of the initial state is that of the first parts' final
/// one, and the gradients of the parts are those of the whole.
fn parts_have_the_gradients_of_the_whole(whole: &Adjoint, cuts: &[usize]) {
    let call = &whole.call;
    let ends = match &call.bounds {
        Some(bounds) => bounds.clone(),
        None => vec![0, call.shape.tokens as u32],
    };
    let (mut tokens, mut bounds) = ([Vec::new(), Vec::new()], [vec![0], vec![0]]);
    for (ends, cut) in ends.windows(2).zip(cuts) {
        let (begin, end) = (ends[0] as usize, ends[1] as usize);
        tokens[0].extend(begin..begin + cut);
        tokens[1].extend(begin + cut..end);
        for n in 0..2 {
            bounds[n].push(tokens[n].len() as u32);
        }
    }
    let bounds = bounds.map(|bounds| call.bounds.as_ref().map(|_| bounds));
    let [first_bounds, second_bounds] = bounds;
    let mut first = part(whole, &tokens[0], first_bounds, call.state.clone());
    let between = first.call.run().state;
    let second = Adjoint {
        state: whole.state.clone(),
        ..part(whole, &tokens[1], second_bounds, between)
    };
    let of_second = second.run();
    first.state = Some(find(&of_second, "initial_state").to_vec());
    let of_first = first.run();
    for (name, reference) in whole.reference() {
        let parts = [(&first, &of_first), (&second, &of_second)];
        let features = call.features();
        let width = match (name, call.options.decay) {
            ("q" | "k", _) => call.shape.key,
            ("v", _) => call.shape.value,
            ("beta", _) | ("log_decay", Decay::Token) => 1,
            ("log_decay", Decay::Channel) => features,
            _ => 0,
        };
        let (mut got, mut expected) = (Vec::new(), Vec::new());
        for (n, (part, found)) in parts.into_iter().enumerate() {
            let values = find(found, name);
            if width > 0 {
                let source = |[b, t, h]: [usize; 3]| [b, tokens[n][t], h];
                let (from, to) = (&call.shape, &part.call.shape);
                got.extend_from_slice(values);
                expected.extend(map(&reference, from, to, name == "q", width, source));
            } else if name != "initial_state" && n == 1 {
                // Sums over tokens.
                got.iter_mut().zip(values).for_each(|(a, b)| *a += b);
            } else if n == 0 {
                got.extend_from_slice(values);
                expected.extend(&reference);
            }
        }
        let error = ratio(&got, &expected);
        let good = error <= whole.bound();
        assert!(
            good,
            "{name} cut at {cuts:?}: {error:.1e}: {}",
            whole.about()
        );
    }
}

/// Rules with a decay, added and corrected.
fn decaying(shape: Shape, bounds: Option<Vec<u32>>) -> Vec<Adjoint> {
    let mut random = Random(31);
    ALL_DECAYS[1..]
        .iter()
        .enumerate()
        .flat_map(|(n, decay)| by_turns(rules(*decay), n))
        .map(|rule| {
            let call = Call::with(shape, rule, bounds.clone(), &mut random);
            Adjoint::new(call, true, &mut random)
        })
        .collect()
}

#[test]
fn steep_decays_have_exact_gradients() {
    for mut adjoint in by_turns(decaying(shape(77), None), 0) {
        adjoint.call.g.fill(-20.0);
        adjoint.check("log decay -20");
        // Without what the initial state adds, all that is left is from token to token.
        (adjoint.call.state, adjoint.state) = (Vec::new(), None);
        adjoint.check("log decay -20 from token to token");
    }
}

#[test]
fn slow_decays_have_exact_gradients() {
    for mut adjoint in by_turns(decaying(shape(200), None), 1) {
        adjoint.call.g.fill(-3e-6);
        adjoint.check("log decay -3e-6");
    }
}

#[test]
fn extreme_decays_leave_gradients_finite() {
    let mut random = Random(37);
    let size = Shape {
        batch: 1,
        ..shape(135)
    };
    let extremes = [-50.0, f32::NEG_INFINITY, -8.0, 0.0, -1e-6, -250.0, -0.5];
    for adjoint in by_turns(decaying(size, Some(vec![0, 1, 1, 66, 70, 135])), 2) {
        let constant = extremes.map(|g| vec![g; adjoint.call.g.len()]);
        let mixed = adjoint
            .call
            .g
            .iter()
            .map(|_| random.pick(&extremes))
            .collect();
        for g in constant.into_iter().chain([mixed]) {
            let adjoint = Adjoint {
                call: Call {
                    g,
                    ..adjoint.call.clone()
                },
                ..adjoint.clone()
            };
            let got = adjoint.run();
            let steep = adjoint.call.g[0];
            for (name, values) in &got {
                let finite = values.iter().all(|x| x.is_finite());
                assert!(finite, "{name} at {steep}: {}", adjoint.about());
            }
            let mut reference = adjoint.reference();
            // What is too small for an f32 may be lost.
            for (_, values) in &mut reference {
                values
                    .iter_mut()
                    .filter(|x| x.abs() < 1e-36)
                    .for_each(|x| *x = 0.0);
            }
            let got = got
                .into_iter()
                .map(|(name, mut values)| {
                    values
                        .iter_mut()
                        .filter(|x| x.abs() < 1e-36)
                        .for_each(|x| *x = 0.0);
                    (name, values)
                })
                .collect();
            let misses = adjoint.misses(&got, &reference);
            assert!(
                misses.is_empty(),
                "{steep}: {misses:?}: {}",
                adjoint.about()
            );
        }
    }
}

#[test]
fn repeated_keys_and_betas_of_zero_have_exact_gradients() {
    for decay in by_turns(ALL_DECAYS, 1) {
        let rule = rules(decay)[2];
        let mut random = Random(41);
        let size = Shape {
            layout: Layout::Bhtd,
            ..shape(64)
        };
        let call = Call::with(size, rule, None, &mut random);
        let mut adjoint = Adjoint::new(call, true, &mut random);
        let key = (size.key as f32).sqrt().recip();
        adjoint.call.k.fill(key);
        for beta in [1.8, 0.0] {
            adjoint.call.beta.fill(beta);
            let got = adjoint.check(&format!("beta {beta}"));
            let dbeta = find(&got, "beta");
            assert!(dbeta.iter().any(|x| x.abs() > 0.01), "beta {beta}");
        }
    }
}

/// Small bindings and slow devices cut every step; GPUs walk with other kernels.
#[test]
fn plans_for_other_devices_have_the_same_gradients() {
    let here = gpu().caps();
    let small = Caps {
        binding_bytes: 192 << 10,
        gflops: 1e-3,
        ..here.clone()
    };
    let other = Caps {
        loop_iterations: here.loop_iterations,
        ..Caps::webgpu_floor()
    };
    let mut random = Random(43);
    for (n, decay) in sample(ALL_DECAYS.into_iter().enumerate()) {
        let rule = rules(decay)[n % 3];
        let size = Shape {
            heads: 6,
            layout: [Layout::Bthd, Layout::Bhtd][n % 2],
            ..shape(144)
        };
        let (size, bounds) = match n % 3 {
            0 => (size, None),
            _ => (Shape { batch: 1, ..size }, Some(vec![0, 66, 66, 70, 144])),
        };
        let adjoint = whole(rule, size, bounds, &mut random);
        let reference = adjoint.reference();
        for caps in by_turns([&small, &other], n + 1) {
            let misses = adjoint.misses(&adjoint.run_plan(caps), &reference);
            assert!(misses.is_empty(), "{misses:?}: {}", adjoint.about());
        }
    }
}
