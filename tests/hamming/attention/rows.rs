//! Heads, sequences and caches: each row is what it would be by itself.

use subquad::hamming::attention::{Beta, Options, Sequences, Shape};

use super::{Call, bits, causal, square, variants};
use crate::effort::{by_turns, sample};

#[test]
fn grouped_heads_are_each_by_itself() {
    for (n, (tokens, group)) in [(70, 3), (3, 4), (1, 8)].into_iter().enumerate() {
        let shape = Shape {
            kv_heads: 2,
            keys: 90,
            capacity: 96,
            ..square([2, 2 * group, tokens], 40, 9)
        };
        let betas = (0..2 * group).map(|h| 0.1 * h as f32 - 0.2).collect();
        let options = Options {
            beta: Beta::PerHead(betas),
            ..causal(0.0)
        };
        let call = Call::new(shape, options);
        for caps in by_turns(variants(), n) {
            call.judge(&call.plan(&caps));
        }
        // Keys and values repeated for each head.
        let mut all = call.clone();
        all.shape.kv_heads = shape.heads;
        let repeat = |width: usize| {
            move |row: usize| {
                let head = row / (shape.capacity * width);
                let (batch, h) = (head / shape.heads, head % shape.heads);
                (batch * 2 + h / group) * shape.capacity * width + row % (shape.capacity * width)
            }
        };
        all.k = (0..all.shape.key_len())
            .map(|n| call.k[repeat(2)(n)])
            .collect();
        all.v = (0..all.shape.value_len())
            .map(|n| call.v[repeat(9)(n)])
            .collect();
        let (a, b) = (call.out(), all.out());
        for (a, b) in a.o.iter().zip(&b.o) {
            assert!((a - b).abs() <= 1e-6);
        }
    }
}

#[test]
fn packed_sequences_are_each_by_itself() {
    let options = Options {
        window: Some(50),
        sinks: 2,
        ..causal(0.2)
    };
    let ends = [vec![0, 1, 40, 40, 45, 120], vec![0, 3, 60, 61, 61, 130]];
    let shape = Shape {
        keys: 130,
        capacity: 131,
        ..square([1, 2, 120], 64, 4)
    };
    let packed = Options {
        sequences: Some(Sequences {
            queries: ends[0].clone(),
            keys: ends[1].clone(),
        }),
        ..options.clone()
    };
    for (n, selection) in [None, Some(3)].into_iter().enumerate() {
        let with = |options: &Options| Options {
            top_n: selection,
            ..options.clone()
        };
        let call = Call::new(shape, with(&packed));
        for caps in by_turns(variants(), n) {
            call.judge(&call.plan(&caps));
        }
        let whole = call.out();
        for n in 0..5 {
            let (q, k) = (ends[0][n]..ends[0][n + 1], ends[1][n]..ends[1][n + 1]);
            let mut one = call.clone();
            one.options = with(&options);
            one.shape = Shape {
                queries: q.len(),
                keys: k.len(),
                capacity: k.len(),
                ..shape
            };
            let rows = |rows: &std::ops::Range<usize>, tokens: usize, width: usize| -> Vec<usize> {
                (0..2)
                    .flat_map(|h| {
                        (h * tokens + rows.start) * width..(h * tokens + rows.end) * width
                    })
                    .collect()
            };
            one.q = rows(&q, 120, 2).iter().map(|n| call.q[*n]).collect();
            one.k = rows(&k, 131, 2).iter().map(|n| call.k[*n]).collect();
            one.v = rows(&k, 131, 4).iter().map(|n| call.v[*n]).collect();
            let expected: Vec<f32> = rows(&q, 120, 4).iter().map(|n| whole.o[*n]).collect();
            if !q.is_empty() {
                assert_eq!(bits(&one.out().o), bits(&expected), "{q:?}");
            }
        }
    }
}

#[test]
fn one_query_over_a_cache_is_the_last_row_of_the_whole() {
    let all = [
        causal(0.1),
        causal(2.0),
        Options {
            top_n: Some(20),
            ..causal(0.1)
        },
        Options {
            window: Some(40),
            sinks: 4,
            ..causal(0.1)
        },
    ];
    for (n, options) in sample(all.into_iter().enumerate()) {
        let shape = Shape {
            kv_heads: 2,
            ..square([2, 4, 150], 96, 16)
        };
        let whole = Call::new(shape, options);
        let out = whole.out();
        let mut step = whole.clone();
        step.shape.queries = 1;
        step.shape.capacity = 180;
        // Room to spare holds anything.
        step.q = whole
            .q
            .chunks_exact(150 * 3)
            .flat_map(|head| head[149 * 3..].to_vec())
            .collect();
        step.v = whole
            .v
            .chunks_exact(150 * 16)
            .flat_map(|head| [head, &[f32::NAN; 30 * 16]].concat())
            .collect();
        step.k = whole
            .k
            .chunks_exact(150 * 3)
            .flat_map(|head| [head, &[0xabcd_ef01; 90]].concat())
            .collect();
        let last: Vec<f32> = out
            .o
            .chunks_exact(150 * 16)
            .flat_map(|head| head[149 * 16..].to_vec())
            .collect();
        // By the host's length, by the device's, and with the keys in parts.
        for (lengths, splits) in [(None, None), (Some(vec![150, 150]), None), (None, Some(5))] {
            let mut step = step.clone();
            step.options.splits = splits;
            step.shape.keys = if lengths.is_some() { 180 } else { 150 };
            step.lengths = lengths;
            for caps in by_turns(variants(), n) {
                let plan = step.plan(&caps);
                let got = step.run(&plan).o;
                for (a, b) in got.iter().zip(&last) {
                    assert!(
                        (a - b).abs() <= 2e-6,
                        "{} {:?} {:?}: {a} {b}",
                        plan.label,
                        step.options,
                        step.lengths
                    );
                }
            }
        }
    }
}
