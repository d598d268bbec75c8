//! Walks that do the work of several, against the recurrences of those they stand for.

use super::*;

fn strict<'a>(walk: &Walk<'a>, scale: f32, source_scale: f32) -> Walk<'a> {
    Walk {
        strict: true,
        scale,
        source_scale,
        ..walk.clone()
    }
}

fn with(data: &Data, inputs: &[(usize, &[f32])], starts: bool) -> Data {
    let mut all = data.inputs.clone();
    for (n, x) in inputs {
        all[*n] = x.to_vec();
    }
    Data {
        sequences: data.sequences.clone(),
        inputs: all,
        starts: data
            .starts
            .iter()
            .map(|x| if starts { *x } else { 0.0 })
            .collect(),
        heads: data.heads,
    }
}

/// Flows as the walk sums them: per column, or over the columns of a slice, which are so many.
fn flows(walk: &Walk<'_>, terms: &[f64], columns: usize) -> Vec<f64> {
    if walk.fading == Fading::Columns {
        return terms.to_vec();
    }
    let rows = terms.chunks_exact(walk.value);
    rows.flat_map(|row| row.chunks(columns).map(|slice| slice.iter().sum()))
        .collect()
}

fn times(x: &[f64], y: &[f32]) -> Vec<f64> {
    x.iter().zip(y).map(|(x, y)| x * f64::from(*y)).collect()
}

fn sum(x: &[f64], y: &[f64], by: f64) -> Vec<f64> {
    x.iter().zip(y).map(|(x, y)| x + by * y).collect()
}

/// What a merged walk of this kind misses: outputs, states, flows and the rest.
fn misses(gpu: &Gpu, seed: u64, fading: Fading, second: Second) -> Vec<String> {
    let mut random = Random(seed);
    let mut found = Vec::new();
    for n in by_turns([0, 1], seed as usize) {
        let (reverse, packed) = (n == 1, (seed / 2 + n) % 2 == 1);
        let heads = 2;
        let (key, value) = random.of(&[(20, 36), (64, 64), (8, 100)]);
        let tokens = random.of(&[70, 200]);
        let (batch, sequences) = if packed {
            let cuts = vec![0..0, 0..1, 1..tokens - 65, tokens - 65..tokens];
            (1, cuts)
        } else {
            (2, vec![0..tokens; 2])
        };
        let parcel = Packed {
            sequences: sequences.clone(),
        };
        let rows = |slot| Rows {
            slot,
            heads,
            elem: 4,
        };
        let missed = second == Second::Missed;
        let [x, y, a, b] = [
            Slot::Input(0),
            Slot::Output(0),
            Slot::Input(1),
            Slot::Input(2),
        ]
        .map(rows);
        let walk = Walk {
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
                vectors: true,
            },
            readers: Some([x, y]),
            sources: Some([a, b]),
            fading,
            log_decay: (fading != Fading::None).then(|| rows(Slot::Input(3))),
            rule: if missed { Rule::Missed } else { Rule::Additive },
            aid: missed.then_some(Slot::Input(4)),
            map: FeatureMap::Identity,
            halves: false,
            reverse,
            strict: false,
            keeps: random.of(&[true, false]),
            start: Start::Resume,
            state: Slot::Output(1),
            scale: 0.5,
            source_scale: 1.0,
            eps: 0.0,
            form: Form::Auto,
            second,
            seconds: match second {
                Second::None => [None; 3],
                Second::Reader => [Some(Slot::Input(5)), Some(Slot::Output(2)), None],
                Second::Source => [5, 6, 7].map(|n| Some(Slot::Input(n))),
                Second::Missed => [Some(Slot::Input(5)), Some(Slot::Input(6)), None],
            },
            flows: (!missed).then_some([Slot::Input(8), Slot::Output(3)]),
            weighed: missed.then_some(Slot::Output(2)),
            sweep: None,
        };
        assert!(walk.merges(gpu.caps()), "this adapter merges no walks");
        let count = batch * tokens * heads;
        let size = 1.0 / (key as f32).sqrt();
        let width = [1, 1, 1, key, value][fading as usize];
        let data = Data {
            inputs: [
                random.many(count * key, -1.0, 1.0),
                random.many(count * key, -size, size),
                random.many(count * value, -1.0, 1.0),
                (0..count * width)
                    .map(|_| random.of(&[0.0, -1e-6, -0.01, -0.3, -2.0, -30.0, f32::NEG_INFINITY]))
                    .collect(),
                random.many(count, 0.0, 1.8),
            ],
            starts: random.many(sequences.len() * heads * key * value, -1.0, 1.0),
            sequences,
            heads: [heads; 4],
        };
        let second_key = random.many(count * key, -1.0, 1.0);
        let second_value = random.many(count * value, -1.0, 1.0);
        let carry = random.many(count * value, -1.0, 1.0);
        let along = random.many(count * value, -1.0, 1.0);

        // y, states, the second output, flows
        let plain = Walk {
            second: Second::None,
            rule: Rule::Additive,
            ..walk.clone()
        };
        let columns = walk.tile(gpu.caps()).columns() as usize;
        let expected: [Vec<f64>; 4] = match second {
            Second::None | Second::Reader => {
                let [y, states] = recurrence(&plain, &data);
                let [earlier, _] = recurrence(&strict(&plain, 0.5, 1.0), &data);
                let mut terms = times(&earlier, &along);
                let mut other = vec![f64::NAN; 1];
                if second == Second::Reader {
                    let twin = with(&data, &[(0, &second_key)], true);
                    [other, _] = recurrence(&strict(&plain, -1.0, 1.0), &twin);
                    terms = sum(&terms, &times(&other, &data.inputs[2]), 1.0);
                }
                let flows = flows(&walk, &terms, columns);
                [y, states, other, flows]
            }
            Second::Source => {
                let twin = with(&data, &[(1, &second_key), (2, &second_value)], false);
                let [y, states] = recurrence(&plain, &data);
                let [earlier, _] = recurrence(&strict(&plain, 0.5, 1.0), &data);
                let [taken, less] = recurrence(&strict(&plain, 0.5, -1.0), &twin);
                let terms = times(&sum(&earlier, &taken, 1.0), &along);
                let carried: Vec<f64> = carry.iter().map(|x| f64::from(*x)).collect();
                let y = sum(&sum(&y, &taken, 1.0), &carried, 1.0);
                let flows = flows(&walk, &terms, columns);
                [y, sum(&states, &less, 1.0), vec![f64::NAN; 1], flows]
            }
            Second::Missed => {
                let found = Walk {
                    scale: 1.0,
                    source_scale: 0.5,
                    ..plain.clone()
                };
                let read = &data.inputs[1];
                let inputs: [(usize, &[f32]); 3] =
                    [(0, read), (1, &second_key), (2, &second_value)];
                let [y, states] = recurrence(&found, &with(&data, &inputs, true));
                let y: Vec<f32> = y.iter().map(|y| *y as f32).collect();
                let after = Walk {
                    rule: Rule::Missed,
                    ..plain
                };
                let [e, taken] = recurrence(&after, &with(&data, &[(2, &y)], false));
                let betas = data.inputs[4].iter().flat_map(|b| vec![*b; value]);
                let weighed = times(&e, &betas.collect::<Vec<_>>());
                [e, sum(&states, &taken, -1.0), weighed, vec![f64::NAN; 1]]
            }
        };

        let mut states = vec![f32::NAN; expected[1].len()];
        let mut at = 0;
        for (n, tokens) in data.sequences.iter().enumerate() {
            for head in 0..heads {
                let slots = walk.slots(tokens.len()) as usize;
                let slot = if reverse { slots - 1 } else { 0 };
                let start = &data.starts[(n * heads + head) * key * value..][..key * value];
                states[at + slot * key * value..][..key * value].copy_from_slice(start);
                at += slots * key * value;
            }
        }
        let mut builder = Builder::default();
        walk.push(&mut builder, gpu.caps()).unwrap();
        let plan = builder.plan("walk", walk.label(gpu.caps()), Work::default());
        plan.check(gpu.caps()).unwrap();
        let more = [second_key, second_value, carry, along];
        let inputs: Vec<_> = data
            .inputs
            .iter()
            .chain(&more)
            .map(|x| gpu.upload(x).unwrap())
            .collect();
        let nan = |x: &[f64]| vec![f32::NAN; x.len()];
        let [y, _, other, flow] = &expected;
        let mut outputs = [nan(y), states, nan(other), nan(flow)].map(|x| gpu.upload(&x).unwrap());
        let mut pass = gpu.pass("walk");
        let views: Vec<_> = inputs.iter().map(|x| x.view()).collect();
        let mut written: Vec<_> = outputs.iter_mut().map(|x| x.view_mut()).collect();
        pass.run(&plan, &views, &mut written).unwrap();
        pass.submit().unwrap();
        for (what, (got, expected)) in outputs.iter().zip(&expected).enumerate() {
            let ratio = ratio(&got.download().unwrap(), expected);
            if ratio.is_nan() || ratio > 1e-5 {
                found.push(format!("output {what}: {ratio:e} {walk:?}"));
            }
        }
    }
    found
}

fn hold(second: Second, fadings: &[Fading]) {
    let gpu = Gpu::open(&Select::from_env()).unwrap();
    let caps = gpu.caps();
    // Elsewhere every walk is one of those that the other tests have.
    let merges = caps.class == Class::Cpu
        && caps.storage_buffers >= MERGED_BUFFERS
        && caps.subgroup.is_some_and(|(least, most)| least == most);
    let found: Vec<String> = by_turns(fadings.iter().enumerate(), second as usize)
        .filter(|_| merges)
        .flat_map(|(n, fading)| misses(&gpu, 3 + n as u64, *fading, second))
        .collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
    std::mem::forget(gpu);
}

const TRANSPOSED: [Fading; 4] = [Fading::None, Fading::Head, Fading::Token, Fading::Columns];

#[test]
fn flows_are_outputs_of_earlier_tokens() {
    hold(Second::None, &TRANSPOSED);
}

#[test]
fn second_readers_read_the_same_state() {
    hold(Second::Reader, &TRANSPOSED);
}

#[test]
fn second_sources_leave_the_same_state() {
    hold(Second::Source, &TRANSPOSED);
}

#[test]
fn the_delta_rule_backwards_is_two_walks() {
    hold(Second::Missed, &ALL[..4]);
}
