//! Walks of every kind on the adapter at hand against their recurrence in f64.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::expect_used,
    reason = "a test"
)]

use super::*;
use crate::{
    effort::by_turns,
    gpu::{Dtype, Gpu, Select},
    linear::Layout,
    plan::Work,
    rows,
};

mod merged;

struct Random(u64);

impl Random {
    fn next(&mut self) -> f32 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 40) as f32 / (1u64 << 24) as f32
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[(self.next() * all.len() as f32) as usize]
    }

    fn many(&mut self, len: usize, low: f32, high: f32) -> Vec<f32> {
        (0..len).map(|_| low + (high - low) * self.next()).collect()
    }
}

/// A walk's tensors: x, a, b, log decays, beta, and the states at the start.
struct Data {
    sequences: Vec<Range<usize>>,
    inputs: [Vec<f32>; 5],
    starts: Vec<f32>,
    heads: [usize; 4],
}

/// Outputs and kept states, NaN where nothing is to be written.
fn recurrence(walk: &Walk<'_>, data: &Data) -> [Vec<f64>; 2] {
    let (key, value, heads) = (walk.key, walk.value, walk.field.heads);
    let group = walk.group() as usize;
    let at = |batch: usize, t: usize, head: usize, heads: usize| match walk.field.layout {
        Layout::Bthd => (batch * walk.field.tokens + t) * heads + head,
        Layout::Bhtd => (batch * heads + head) * walk.field.tokens + t,
    };
    let [x, a, b, g, beta] = &data.inputs;
    let [x_heads, a_heads, b_heads, g_heads] = data.heads;
    let mut y = vec![f64::NAN; walk.field.batch * walk.field.tokens * heads * group * value];
    let mut kept = Vec::new();
    for (n, tokens) in data.sequences.iter().enumerate() {
        let batch = if walk.packed.is_some() { 0 } else { n };
        for head in 0..heads {
            let of = |heads: usize| head * heads / walk.field.heads;
            let mut s: Vec<f64> = (0..key * value)
                .map(|i| f64::from(data.starts[(n * heads + head) * key * value + i]))
                .collect();
            let mut z = vec![0.0; key];
            let slots = walk.slots(tokens.len()) as usize;
            let base = kept.len();
            kept.resize(base + slots * key * value, f64::NAN);
            let keep = |kept: &mut Vec<f64>, s: &[f64], slot: usize| {
                kept[base + slot * key * value..][..key * value].copy_from_slice(s)
            };
            if walk.keeps {
                keep(&mut kept, &s, if walk.reverse { slots - 1 } else { 0 });
            }
            for i in 0..tokens.len() {
                let t = if walk.reverse {
                    tokens.end - 1 - i
                } else {
                    tokens.start + i
                };
                let fading = t + usize::from(walk.reverse);
                for r in 0..key {
                    for c in 0..value {
                        let row = at(batch, fading.min(tokens.end - 1), of(g_heads), g_heads);
                        let log = match walk.fading {
                            Fading::None => 0.0,
                            Fading::Head => g[of(g_heads)],
                            Fading::Token => g[row],
                            Fading::Rows => g[row * key + r],
                            Fading::Columns => g[row * value + c],
                        };
                        let factor = if fading < tokens.end {
                            f64::from(log).exp()
                        } else {
                            1.0
                        };
                        s[r * value + c] *= factor;
                        if c == 0 {
                            z[r] *= factor;
                        }
                    }
                }
                let row = |x: &[f32], row: usize, width: usize| -> Vec<f64> {
                    x[row * width..][..width]
                        .iter()
                        .map(|x| f64::from(*x))
                        .collect()
                };
                let read = |s: &[f64], x: &[f64]| -> Vec<f64> {
                    (0..value)
                        .map(|c| (0..key).map(|r| x[r] * s[r * value + c]).sum())
                        .collect()
                };
                let mut put = |row: usize, values: Vec<f64>| {
                    y[row * value..][..value].copy_from_slice(&values)
                };
                let k = row(a, at(batch, t, of(a_heads), a_heads), key);
                let mut u = row(b, at(batch, t, of(b_heads), b_heads), value);
                u.iter_mut()
                    .for_each(|u| *u *= f64::from(walk.source_scale));
                if walk.delta() {
                    let missed: Vec<f64> = u.iter().zip(read(&s, &k)).map(|(u, s)| u - s).collect();
                    if walk.rule == Rule::Missed {
                        put(at(batch, t, head, heads), missed.clone());
                    }
                    let beta = f64::from(beta[at(batch, t, of(a_heads), a_heads)]);
                    u = missed.iter().map(|e| beta * e).collect();
                }
                let mut add = |s: &mut [f64]| {
                    for r in 0..key {
                        z[r] += k[r];
                        for c in 0..value {
                            s[r * value + c] += k[r] * u[c];
                        }
                    }
                };
                let mut after = s.clone();
                add(&mut after);
                if walk.rule != Rule::Missed {
                    for reader in 0..group {
                        let q = row(
                            x,
                            at(
                                batch,
                                t,
                                (head * group + reader) * x_heads / (heads * group),
                                x_heads,
                            ),
                            key,
                        );
                        let mut values = read(if walk.strict { &s } else { &after }, &q);
                        let den: f64 = f64::from(walk.scale)
                            * q.iter().zip(&z).map(|(q, z)| q * z).sum::<f64>()
                            + f64::from(walk.eps);
                        values.iter_mut().for_each(|y| *y *= f64::from(walk.scale));
                        if walk.rule == Rule::Normalized {
                            values.iter_mut().for_each(|y| *y /= den);
                        }
                        put(at(batch, t, head * group + reader, heads * group), values);
                    }
                }
                s = after;
                let passed = if walk.reverse { t } else { t + 1 } - tokens.start;
                if walk.keeps && (passed % GRAIN as usize == 0 || passed == tokens.len()) {
                    keep(&mut kept, &s, passed.div_ceil(GRAIN as usize));
                }
            }
            if !walk.keeps {
                keep(&mut kept, &s, 0);
            }
        }
    }
    [y, kept]
}

fn ratio(x: &[f32], y: &[f64]) -> f64 {
    let pairs = || x.iter().zip(y).filter(|(_, y)| !y.is_nan());
    let error: f64 = pairs().map(|(x, y)| (f64::from(*x) - y).powi(2)).sum();
    let norm: f64 = pairs().map(|(_, y)| y * y).sum();
    error.sqrt() / (norm.sqrt() + 1e-12)
}

/// Random walks with this decay and rule; what misses its tolerance.
fn misses(gpu: &Gpu, seed: u64, fading: Fading, rule: Rule) -> Vec<String> {
    let mut random = Random(seed);
    let mut misses = Vec::new();
    for reverse in by_turns([false, true], seed as usize) {
        let n = u64::from(reverse);
        let packed = (seed / 2 + n) % 2 == 1;
        let heads = random.of(&[1, 2]);
        let group = if rule == Rule::Missed {
            1
        } else {
            random.of(&[1, 3])
        };
        let (key, value) = random.of(&[(20, 36), (64, 16), (33, 20), (8, 100)]);
        let tokens = random.of(&[70, 200]);
        let sequences = if packed {
            vec![0..0, 0..1, 1..tokens - 65, tokens - 65..tokens]
        } else {
            vec![0..tokens; 2]
        };
        let parcel = Packed {
            sequences: sequences.clone(),
        };
        let batch = if packed { 1 } else { 2 };
        let fewer = |random: &mut Random| random.of(&[1, heads]);
        let shared = [
            heads * group,
            fewer(&mut random),
            fewer(&mut random),
            fewer(&mut random),
        ];
        let rows = |slot, heads| Rows {
            slot: Slot::Input(slot),
            heads,
            elem: 4,
        };
        let mut walk = Walk {
            field: Field {
                batch,
                tokens,
                heads,
                layout: random.of(&[Layout::Bthd, Layout::Bhtd]),
            },
            packed: packed.then_some(&parcel),
            key,
            value,
            access: Access {
                dtype: Dtype::F32,
                native: true,
                vectors: key % 4 == 0 && value % 4 == 0,
            },
            readers: Some([
                rows(0, shared[0]),
                Rows {
                    slot: Slot::Output(0),
                    heads: heads * group,
                    elem: 4,
                },
            ]),
            sources: Some([rows(1, shared[1]), rows(2, shared[2])]),
            fading,
            log_decay: (fading != Fading::None).then(|| rows(3, shared[3])),
            rule,
            aid: None,
            map: FeatureMap::Identity,
            halves: false,
            reverse,
            strict: rule == Rule::Additive && random.of(&[true, false]),
            keeps: rule != Rule::Normalized && random.of(&[true, false]),
            start: if random.of(&[true, false]) {
                Start::Resume
            } else {
                Start::Zero
            },
            state: Slot::Output(1),
            scale: 0.5,
            source_scale: if random.of(&[true, false]) { 1.0 } else { -0.5 },
            eps: 1e-3,
            form: Form::Auto,
            second: Second::None,
            seconds: [None; 3],
            flows: None,
            weighed: None,
            sweep: None,
        };
        let low = if rule == Rule::Normalized { 0.1 } else { -1.0 };
        let size = if walk.delta() {
            1.0 / (key as f32).sqrt()
        } else {
            1.0
        };
        let width = [1, 1, 1, key, value][fading as usize];
        let logs = (0..batch * tokens * shared[3] * width)
            .map(|_| random.of(&[0.0, -1e-6, -0.01, -0.3, -2.0, -30.0, f32::NEG_INFINITY]))
            .collect();
        let count = sequences.len() * heads * key * value;
        let data = Data {
            inputs: [
                random.many(batch * tokens * shared[0] * key, low, 1.0),
                random.many(batch * tokens * shared[1] * key, low * size, size),
                random.many(batch * tokens * shared[2] * value, -1.0, 1.0),
                logs,
                random.many(batch * tokens * shared[1], 0.0, 1.8),
            ],
            starts: if walk.start == Start::Zero {
                vec![0.0; count]
            } else {
                random.many(count, -1.0, 1.0)
            },
            sequences,
            heads: shared,
        };
        let [y, kept] = recurrence(&walk, &data);
        let floor = Caps {
            loop_iterations: gpu.caps().loop_iterations,
            ..Caps::webgpu_floor()
        };
        let forms = [
            (Form::Recurrent, gpu.caps()),
            (Form::Fused, gpu.caps()),
            (Form::Fused, &floor),
            (Form::Segments(2), &floor),
            (Form::Segments(3), gpu.caps()),
        ];
        // The delta rule has no segments.
        let count = if walk.delta() { 3 } else { forms.len() };
        for (form, caps) in by_turns(forms.into_iter().take(count), (2 * seed + n) as usize) {
            walk.form = form;
            let mut builder = Builder::default();
            walk.aid = match rule {
                Rule::Additive => None,
                Rule::Delta | Rule::Missed => Some(Slot::Input(4)),
                Rule::Normalized => {
                    let words =
                        data.sequences.len() as u64 * heads as u64 * walk.slices(caps) * key as u64;
                    let z = builder.add_scratch(4 * words);
                    rows::fill(&mut builder, caps, z, 0..words, 0);
                    Some(z)
                }
            };
            let mut states = vec![f32::NAN; kept.len()];
            let mut at = 0;
            for (n, tokens) in data.sequences.iter().enumerate() {
                for head in 0..heads {
                    let slots = walk.slots(tokens.len()) as usize;
                    let slot = if reverse { slots - 1 } else { 0 };
                    if walk.start == Start::Resume || rule == Rule::Normalized {
                        let start = &data.starts[(n * heads + head) * key * value..][..key * value];
                        states[at + slot * key * value..][..key * value].copy_from_slice(start);
                    }
                    at += slots * key * value;
                }
            }
            if rule == Rule::Normalized {
                walk.start = Start::Resume;
            }
            walk.push(&mut builder, caps).unwrap();
            let plan = builder.plan("walk", walk.label(caps), Work::default());
            plan.check(caps).unwrap();
            let inputs: Vec<_> = data.inputs.iter().map(|x| gpu.upload(x).unwrap()).collect();
            let mut outputs = [
                gpu.upload(&vec![f32::NAN; y.len()]).unwrap(),
                gpu.upload(&states).unwrap(),
            ];
            let mut pass = gpu.pass("walk");
            let views: Vec<_> = inputs.iter().map(|x| x.view()).collect();
            let mut written: Vec<_> = outputs.iter_mut().map(|x| x.view_mut()).collect();
            pass.run(&plan, &views, &mut written).unwrap();
            pass.submit().unwrap();
            let got = [
                outputs[0].download().unwrap(),
                outputs[1].download().unwrap(),
            ];
            let ratios = [ratio(&got[0], &y), ratio(&got[1], &kept)];
            let bound = if walk.delta() { 1e-5 } else { 5e-6 };
            if ratios.iter().any(|ratio| ratio.is_nan() || *ratio > bound) {
                misses.push(format!(
                    "{ratios:?} {} on {}: {walk:?}",
                    plan.label, caps.name
                ));
            }
        }
    }
    misses
}

fn hold(rule: Rule, fadings: &[Fading]) {
    let gpu = Gpu::open(&Select::from_env()).unwrap();
    let misses: Vec<String> = by_turns(fadings.iter().enumerate(), rule as usize)
        .flat_map(|(n, fading)| misses(&gpu, 7 + n as u64, *fading, rule))
        .collect();
    assert!(misses.is_empty(), "{}", misses.join("\n"));
    std::mem::forget(gpu);
}

const ALL: [Fading; 5] = [
    Fading::None,
    Fading::Head,
    Fading::Token,
    Fading::Rows,
    Fading::Columns,
];

#[test]
fn additive_walks_follow_the_recurrence() {
    hold(Rule::Additive, &ALL);
}

#[test]
fn normalized_walks_follow_the_recurrence() {
    hold(Rule::Normalized, &ALL[..4]);
}

#[test]
fn walks_of_the_delta_rule_follow_the_recurrence() {
    hold(Rule::Delta, &ALL[..4]);
    hold(Rule::Missed, &ALL[..4]);
}
