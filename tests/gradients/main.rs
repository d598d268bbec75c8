//! Gradients on the adapter at hand against the CPU reference. A missing adapter fails every test here.

mod adjoint;
#[allow(dead_code, reason = "shared with the tests of results")]
#[path = "../results/call.rs"]
mod call;
#[allow(dead_code, reason = "shared by several tests")]
#[path = "../common/mod.rs"]
mod common;
#[path = "../common/device.rs"]
#[allow(dead_code, reason = "each test takes what it needs")]
mod device;
#[path = "../common/effort.rs"]
mod effort;
mod properties;
mod refusals;

use subquad::{
    gpu::Dtype,
    linear::{Decay, FeatureMap, Layout, Options, Shape},
};

use adjoint::Adjoint;
use call::Call;
use common::{ALL_DECAYS, Random};
use device::gpu;
use effort::sample;

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

/// A legal call of a rule, of random sizes, maps, packing, layout and states.
fn random_adjoint(rule: Options, dtype: Dtype, random: &mut Random) -> Adjoint {
    use FeatureMap::*;
    // Keys must stay within the unit ball for the delta rule, products of queries and keys positive for the normaliser.
    let feature_map = match (rule.delta, rule.normalize) {
        (true, _) => random.pick(&[Identity, Identity, Softmax, L2Norm]),
        (_, Some(_)) => random.pick(&[
            Identity,
            Elu1,
            Sigmoid,
            Softmax,
            HedgehogSoftmax,
            HedgehogExp,
            Dpfp { nu: 2 },
            Taylor2,
        ]),
        _ => random.pick(&FeatureMap::all(2)),
    };
    let bounds = (random.unit() < 0.4).then(|| {
        let mut bounds = vec![0];
        for _ in 0..3 {
            let len = random.pick(&[0, 1, 64, 65]);
            bounds.push(bounds[bounds.len() - 1] + len);
        }
        bounds
    });
    let kv_heads = 1 + random.below(2);
    let group = random.pick(&[1, 1, 2, 3, 12]);
    let most = if feature_map.width(16) > 32 { 7 } else { 20 };
    let shape = Shape {
        batch: match bounds {
            Some(_) => 1,
            None => 1 + random.below(2),
        },
        tokens: match &bounds {
            Some(bounds) => bounds[bounds.len() - 1] as usize,
            None => random.pick(&[0, 1, 63, 64, 65, 130, 200]),
        },
        heads: kv_heads * group,
        kv_heads,
        // A row of one column has the same unit vector wherever it is: its gradient is what rounding leaves.
        key: random.below(most) + if feature_map == L2Norm { 2 } else { 1 },
        value: 1 + random.below(20),
        layout: random.pick(&[Layout::Bthd, Layout::Bhtd]),
        dtype,
    };
    let options = Options {
        feature_map,
        ..rule
    };
    let mut call = Call::with(shape, options, bounds, random);
    if group == 1 && random.unit() < 0.5 {
        // A set of weights for each head.
        let sets = |x: &Vec<f32>| -> Vec<f32> {
            let set = |n: usize| x.iter().map(move |x| x * (1.0 - 0.4 * n as f32));
            (0..kv_heads).flat_map(set).collect()
        };
        call.weights = [sets(&call.weights[0]), sets(&call.weights[1])];
    }
    if random.unit() < 0.3 {
        call.weights[1].clear();
    }
    if random.unit() < 0.4 {
        call.state.clear();
    }
    let last = random.unit() < 0.6;
    Adjoint::new(call, last, random)
}

fn random_gradients_match_the_reference(dtype: Dtype, decays: &[Decay], rounds: usize) {
    let mut random = Random(23 + dtype.bytes() + u64::from(dtype == Dtype::Bf16));
    let mut misses = Vec::new();
    for _ in 0..rounds {
        for rule in sample(decays.iter().flat_map(|decay| rules(*decay))) {
            let adjoint = random_adjoint(rule, dtype, &mut random);
            let missed = adjoint.misses(&adjoint.run(), &adjoint.reference());
            if !missed.is_empty() {
                misses.push(format!("{missed:?}: {}", adjoint.about()));
            }
        }
    }
    assert!(misses.is_empty(), "{}", misses.join("\n"));
}

#[test]
fn gradients_match_the_reference_without_decay_or_one_per_head() {
    random_gradients_match_the_reference(Dtype::F32, &ALL_DECAYS[..2], 1);
}

#[test]
fn gradients_match_the_reference_with_decay_per_token_or_channel() {
    random_gradients_match_the_reference(Dtype::F32, &ALL_DECAYS[2..], 1);
}

#[test]
fn gradients_match_the_reference_in_f16() {
    random_gradients_match_the_reference(Dtype::F16, &ALL_DECAYS, 1);
}

#[test]
fn gradients_match_the_reference_in_bf16() {
    random_gradients_match_the_reference(Dtype::Bf16, &ALL_DECAYS, 1);
}
