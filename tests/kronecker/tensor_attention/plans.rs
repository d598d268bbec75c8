//! Plans: small bindings, refusals, and the calls.

use half::f16;
use subquad::{
    Error, Result,
    gpu::{Caps, Dtype},
    kronecker::tensor_attention::{
        self, Gradients, Inputs, Logits, Options, Outputs, Shape, Upstream,
        plan::{self, Wanted},
    },
};

use super::call::{Call, devices};
use crate::{device::gpu, effort::by_turns};

#[test]
fn bindings_dispatches_and_temporaries_may_be_small() {
    let shape = Shape {
        kv_heads: 2,
        ..Shape::square([3, 4, 40], 16, 12)
    };
    let call = Call::new(
        shape,
        Options {
            causal: true,
            ..Options::new(0.5)
        },
    );
    for caps in by_turns(devices(), 0) {
        let small = Caps {
            binding_bytes: 7 << 10,
            gflops: 1e-3,
            loop_iterations: 1500,
            fill: 1,
            ..caps.clone()
        };
        let (plan, whole) = (call.plan(&small), call.plan(&caps));
        assert!(
            plan.steps.len() > 3 * whole.steps.len(),
            "{}",
            plan.steps.len()
        );
        let out = call.run_plan(&plan);
        call.judge(&out, &call.reference(), "small");
        let plan = plan::backward(&shape, &call.options, Wanted::ALL, &small).unwrap();
        let grads = call.backward_plan(&plan, &out);
        for (grad, expected) in grads.iter().zip(&call.reference_gradients().values) {
            let miss = super::call::ratio(grad, expected);
            assert!(miss <= 2e-5, "{miss:e}");
        }
    }
    let tiny = Caps {
        binding_bytes: 512,
        ..Caps::webgpu_floor()
    };
    let refused = plan::forward(&shape, &call.options, true, &tiny);
    assert!(matches!(refused, Err(Error::Limit { .. })), "{refused:?}");
}

#[test]
fn plans_hold_on_every_preset() {
    for caps in Caps::presets() {
        for (tokens, heads, width, window) in [
            (1, 1, 1, None),
            (300, 8, 128, None),
            (4096, 16, 128, Some([32, 512])),
            (4096, 2, 64, None),
        ] {
            let shape = Shape {
                kv_heads: 1,
                ..Shape::square([1, heads, tokens], width, width)
            };
            let options = Options {
                causal: true,
                window: window.map_or([None; 2], |w| w.map(Some)),
                ..Options::new(0.1)
            };
            let forward = plan::forward(&shape, &options, true, &caps).unwrap();
            let backward = plan::backward(&shape, &options, Wanted::ALL, &caps).unwrap();
            for step in forward.steps.iter().chain(&backward.steps) {
                assert!(
                    step.predicted_ms <= 101.0 || step.groups == 1,
                    "{}: {}",
                    caps.name,
                    step.predicted_ms
                );
                assert!(step.kernel.workgroup_bytes <= 16 << 10);
            }
            assert!(backward.scratch_bytes() <= caps.scratch_bytes);
        }
    }
}

/// The sentence of a refusal.
fn sentence<T: std::fmt::Debug>(result: Result<T>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn wrong_arguments_are_refused_in_a_sentence() {
    let caps = Caps::webgpu_floor();
    let shape = Shape::square([1, 4, 8], 6, 6);
    let options = Options::new(0.5);
    let plan =
        |shape: Shape, options: Options| sentence(plan::forward(&shape, &options, false, &caps));
    let refusals = [
        (
            plan(Shape { width: 0, ..shape }, options),
            "tensor_attention: width must be 1 to 65536, got 0",
        ),
        (
            plan(Shape { value: 0, ..shape }, options),
            "tensor_attention: value must be 1 to 65536, got 0",
        ),
        (
            plan(
                Shape {
                    dtype: Dtype::U32,
                    ..shape
                },
                options,
            ),
            "tensor_attention: dtype must be f32, f16 or bf16, got u32",
        ),
        (
            plan(
                Shape {
                    kv_heads: 3,
                    ..shape
                },
                options,
            ),
            "tensor_attention: kv_heads must be a divisor of the 4 heads, got 3",
        ),
        (
            plan(
                Shape {
                    kv_heads: 0,
                    ..shape
                },
                options,
            ),
            "tensor_attention: kv_heads must be a divisor of the 4 heads, got 0",
        ),
        (
            plan(shape, Options::new(f32::NAN)),
            "tensor_attention: scale must be finite, got NaN",
        ),
        (
            plan(
                shape,
                Options {
                    k2_bias: f32::INFINITY,
                    ..options
                },
            ),
            "tensor_attention: k2_bias must be finite, got inf",
        ),
        (
            plan(
                shape,
                Options {
                    v2_bias: f32::INFINITY,
                    ..options
                },
            ),
            "tensor_attention: v2_bias must be finite, got inf",
        ),
        (
            plan(
                shape,
                Options {
                    window: [Some(3), Some(0)],
                    ..options
                },
            ),
            "tensor_attention: window must be of at least 1, got [Some(3), Some(0)]",
        ),
        (
            plan(
                Shape { width: 8, ..shape },
                Options {
                    logits: Logits::Determinant,
                    ..options
                },
            ),
            "tensor_attention: width must be a multiple of 3 with determinants, got 8",
        ),
        (
            plan(
                shape,
                Options {
                    q_offset: Some(1 << 40),
                    ..options
                },
            ),
            "tensor_attention: q_offset must be within 2^28 of 0, got 1099511627776",
        ),
        (
            plan(
                Shape {
                    keys: [8, 9],
                    ..shape
                },
                Options {
                    causal: true,
                    ..options
                },
            ),
            "tensor_attention: q_offset must be given where k1 and k2 have different numbers of keys, got none",
        ),
    ];
    for (got, expected) in refusals {
        assert_eq!(got, expected);
    }
    let many = plan(
        Shape {
            queries: 1 << 30,
            ..shape
        },
        options,
    );
    assert!(many.starts_with("tensor_attention: shape must be of less than 2^32 elements and at most 2^28 tokens a head"), "{many}");
    let half = Shape {
        dtype: Dtype::F16,
        ..shape
    };
    let sum = Options {
        logits: Logits::Sum,
        ..options
    };
    assert_eq!(
        sentence(plan::backward(&half, &sum, Wanted::ALL, &caps)),
        "tensor_attention does not support gradients of sums of scores in 16-bit storage; use f32"
    );
}

#[test]
fn calls_check_their_tensors() {
    let shape = Shape::square([1, 1, 6], 16, 12);
    let options = Options::new(0.5);
    let call = Call::new(shape, options);
    let [q, k1, k2, v1, v2] = call.inputs.each_ref().map(|x| gpu().upload(x).unwrap());
    let inputs = Inputs {
        q: &q,
        k1: &k1,
        k2: &k2,
        v1: &v1,
        v2: &v2,
    };
    let mut o = gpu().zeros::<f32>(72).unwrap();
    let mut lse = gpu().zeros::<f32>(6).unwrap();
    let outputs = Outputs {
        o: &mut o,
        lse: Some(&mut lse),
    };
    tensor_attention::forward(gpu(), &shape, &options, &inputs, outputs).unwrap();
    let out = call.run(gpu().caps());
    assert_eq!(
        (o.download().unwrap(), lse.download().unwrap()),
        (out.o, out.lse)
    );
    let upstream = Upstream {
        o: &o,
        lse: &lse,
        grad_o: &gpu().upload(&call.grad_o).unwrap(),
    };
    let mut grad = gpu().zeros::<f32>(72).unwrap();
    let only = Gradients {
        v2: Some(&mut grad),
        ..Gradients::default()
    };
    tensor_attention::backward(gpu(), &shape, &options, &inputs, &upstream, only).unwrap();
    let alone = grad.download().unwrap();
    let miss = super::call::ratio(&alone, &call.reference_gradients().values[4]);
    assert!(miss <= 2e-5, "{miss:e}");
    let none = tensor_attention::backward(
        gpu(),
        &shape,
        &options,
        &inputs,
        &upstream,
        Gradients::default(),
    );
    assert_eq!(
        sentence(none),
        "tensor_attention: gradients must be at least one, got none"
    );
    let mut short = gpu().zeros::<f32>(71).unwrap();
    let few = Gradients {
        k1: Some(&mut short),
        ..Gradients::default()
    };
    let few = tensor_attention::backward(gpu(), &shape, &options, &inputs, &upstream, few);
    assert_eq!(
        sentence(few),
        "tensor_attention: gradients.k1 must be 96 elements for this shape, got 71"
    );
    let outputs = Outputs {
        o: &mut short,
        lse: None,
    };
    let few = tensor_attention::forward(gpu(), &shape, &options, &inputs, outputs);
    assert_eq!(
        sentence(few),
        "tensor_attention: o must be 72 elements for this shape, got 71"
    );
    let inputs = Inputs {
        v1: &short,
        ..inputs
    };
    let mut o = gpu().zeros::<f32>(72).unwrap();
    let few = tensor_attention::forward(
        gpu(),
        &shape,
        &options,
        &inputs,
        Outputs {
            o: &mut o,
            lse: None,
        },
    );
    assert_eq!(
        sentence(few),
        "tensor_attention: v1 must be 72 elements for this shape, got 71"
    );
    let halves = gpu().zeros::<f16>(96).unwrap();
    let inputs = Inputs {
        q: &halves,
        k1: &halves,
        k2: &halves,
        v1: &halves,
        v2: &halves,
    };
    let mut o = gpu().zeros::<f16>(96).unwrap();
    let other = tensor_attention::forward(
        gpu(),
        &shape,
        &options,
        &inputs,
        Outputs {
            o: &mut o,
            lse: None,
        },
    );
    assert_eq!(
        sentence(other),
        "tensor_attention: shape.dtype must be the type of the tensors, f16, got f32"
    );
}
