//! Work in parts, and plans that no device here runs.

use subquad::{
    gpu::{Caps, Dtype},
    hamming::attention::{
        Options, Shape,
        plan::{self, Wanted},
    },
};

use super::{Call, causal, gpu, square, variants};
use crate::effort::by_turns;

#[test]
fn work_cut_in_heads_rows_keys_and_groups_gives_the_same() {
    let all = [
        causal(0.1),
        Options::dense(2.0),
        Options {
            top_n: Some(31),
            ..Options::dense(0.1)
        },
        Options {
            window: Some(33),
            sinks: 5,
            ..causal(-0.3)
        },
    ];
    for (n, options) in all.into_iter().enumerate() {
        let shape = Shape {
            kv_heads: 2,
            keys: 310,
            capacity: 320,
            ..square([2, 4, 300], 64, 40)
        };
        let call = Call::new(shape, options);
        for caps in by_turns(variants(), n) {
            let cut = Caps {
                loop_iterations: 900,
                binding_bytes: 128 << 10,
                scratch_bytes: 2 << 20,
                gflops: 1e-2,
                ..caps
            };
            let plan = call.plan(&cut);
            assert!(plan.steps.len() > 20, "{}", plan.steps.len());
            call.judge(&plan);
        }
    }
}

#[test]
fn wide_codes_and_long_rows_hold() {
    let wide = Shape {
        keys: 60,
        capacity: 60,
        ..square([1, 1, 3], 65_536, 2)
    };
    for options in [
        Options::dense(1e-4),
        Options {
            top_n: Some(7),
            ..Options::dense(0.01)
        },
    ] {
        let call = Call::new(wide, options);
        call.judge(&call.plan(gpu().caps()));
    }
    let long = Shape {
        keys: 40_000,
        capacity: 40_000,
        ..square([1, 1, 5], 32, 2)
    };
    for options in [
        Options::dense(0.3),
        Options {
            top_n: Some(999),
            ..Options::dense(0.3)
        },
    ] {
        let call = Call::new(long, options);
        call.judge(&call.plan(gpu().caps()));
    }
}

#[test]
fn plans_fit_every_preset() {
    for caps in Caps::presets() {
        for options in [
            causal(0.125),
            causal(9.0),
            Options {
                top_n: Some(128),
                ..causal(0.1)
            },
        ] {
            for dtype in [Dtype::F32, Dtype::F16] {
                let shape = Shape::square([1, 16, 8192], 128, 64, dtype);
                let plan = plan::forward(&shape, &options, Wanted::default(), &caps).unwrap();
                let slow = plan.steps.iter().filter(|step| step.predicted_ms > 100.0);
                assert!(slow.clone().all(|step| step.groups == 1), "{}", caps.name);
                assert!(plan.scratch_bytes() < 600 << 20, "{}", plan.scratch_bytes());
            }
        }
    }
    let ms = |shape: &Shape| plan::predicted_ms(shape, &causal(0.1), &Caps::nvidia()).unwrap();
    let [short, long] = [1000, 4000].map(|t| ms(&square([1, 8, t], 16, 64)));
    assert!((long / short - 16.0).abs() < 0.1);
}
