//! Gradients: the reference against differences, the adapter against the reference.

use subquad::{
    gpu::{Caps, Dtype},
    hamming::attention::{
        Beta, Gradients, Inputs, Options, Outputs, Sequences, Shape, StraightThrough, Upstream,
        backward, cpu, forward,
        plan::{self, WantedGradients},
    },
};

use crate::effort::{by_turns, sample};

use super::{Call, causal, gpu, square, variants};

fn upstream(shape: &Shape) -> Vec<f64> {
    let value = |n: usize| (n as f64 * 0.7).sin();
    (0..shape.output_len())
        .map(|n| f64::from(value(n) as f32))
        .collect()
}

fn reference(call: &Call, grad_o: &[f64]) -> cpu::Gradients {
    let v = call.wide_v();
    let inputs = cpu::Inputs {
        q: &call.q,
        k: &call.k,
        v: &v,
        lengths: None,
    };
    cpu::backward(&call.shape, &call.options, &inputs, grad_o).unwrap()
}

/// The multilinear extension: logits beta <h, g> for real h and g.
fn extended(call: &Call, h: &[f64], g: &[f64], v: &[f64], beta: f64, grad_o: &[f64]) -> f64 {
    let Shape {
        queries,
        keys,
        bits,
        value,
        ..
    } = call.shape;
    let mut loss = 0.0;
    for i in 0..queries {
        let seen = if call.options.causal { i + 1 } else { keys };
        let logit = |j: usize| -> f64 {
            let (h, g) = (&h[i * bits..][..bits], &g[j * bits..][..bits]);
            beta * h.iter().zip(g).map(|(h, g)| h * g).sum::<f64>()
        };
        let weights: Vec<f64> = (0..seen).map(|j| logit(j).exp()).collect();
        let sum: f64 = weights.iter().sum();
        for (j, w) in weights.iter().enumerate() {
            for c in 0..value {
                loss += w / sum * v[j * value + c] * grad_o[i * value + c];
            }
        }
    }
    loss
}

#[test]
fn gradients_of_the_reference_are_slopes_of_the_multilinear_extension() {
    for options in [Options::dense(0.3), causal(-0.2)] {
        let call = Call::new(square([1, 1, 6], 37, 3), options);
        let grad_o = upstream(&call.shape);
        let grads = reference(&call, &grad_o);
        let signs = |codes: &[u32]| -> Vec<f64> {
            codes
                .chunks_exact(2)
                .flat_map(|code| {
                    let bit = |r: usize| f64::from(code[r / 32] >> (r % 32) & 1);
                    (0..37)
                        .map(bit)
                        .map(|bit| 2.0 * bit - 1.0)
                        .collect::<Vec<_>>()
                })
                .collect()
        };
        let beta = f64::from(call.options.beta.values()[0]);
        let mut x = [signs(&call.q), signs(&call.k), call.wide_v(), vec![beta]];
        let loss = |x: &[Vec<f64>; 4]| extended(&call, &x[0], &x[1], &x[2], x[3][0], &grad_o);
        let step = 1e-5;
        for (n, grads) in [grads.q, grads.k, grads.v, grads.beta]
            .into_iter()
            .enumerate()
        {
            for (at, grad) in grads.iter().enumerate() {
                let before = x[n][at];
                x[n][at] = before + step;
                let up = loss(&x);
                x[n][at] = before - step;
                let slope = (up - loss(&x)) / (2.0 * step);
                x[n][at] = before;
                assert!((slope - grad).abs() < 1e-8, "{n} {at}: {slope} {grad}");
            }
        }
    }
}

/// Gradients by the plans for these capabilities.
fn on_device(call: &Call, caps: &Caps, grad_o: &[f64]) -> [Vec<f32>; 3] {
    let gpu = gpu();
    let shape = &call.shape;
    let (q, k) = (gpu.upload(&call.q).unwrap(), gpu.upload(&call.k).unwrap());
    let v = gpu.upload(&call.v).unwrap();
    let forward = call.run(&call.plan(caps));
    let (o, kept) = (
        gpu.upload(&forward.o).unwrap(),
        gpu.upload(&forward.kept).unwrap(),
    );
    let grad_o: Vec<f32> = grad_o.iter().map(|x| *x as f32).collect();
    let grad_o = gpu.upload(&grad_o).unwrap();
    let nan = |len: usize| gpu.upload(&vec![f32::NAN; len]).unwrap();
    let mut grads = [
        nan(shape.rows() * shape.bits),
        nan(shape.key_rows() * shape.bits),
        nan(shape.value_len()),
    ];
    let all = WantedGradients {
        q: true,
        k: true,
        v: true,
    };
    let plan = plan::backward(shape, &call.options, all, caps).unwrap();
    let views = [
        q.view(),
        k.view(),
        v.view(),
        o.view(),
        kept.view(),
        grad_o.view(),
    ];
    let mut pass = gpu.pass("attention, backward");
    let mut outputs: Vec<_> = grads.iter_mut().map(|grad| grad.view_mut()).collect();
    pass.run_checked(&plan, &views, &mut outputs, false)
        .unwrap();
    pass.submit().unwrap();
    grads.map(|grad| grad.download().unwrap())
}

fn judge(call: &Call, caps: &Caps) {
    let grad_o = upstream(&call.shape);
    let got = on_device(call, caps, &grad_o);
    let expected = reference(call, &grad_o);
    let values = [expected.q, expected.k, expected.v];
    let terms = call.shape.keys.max(call.shape.queries * call.shape.heads) + call.shape.value;
    let unit = 2f64.powi(-24) * (1.0 + (terms as f64).log2());
    for (n, name) in ["q", "k", "v"].into_iter().enumerate() {
        let all = got[n].iter().zip(&values[n]).zip(&expected.magnitudes[n]);
        for (at, ((got, value), magnitude)) in all.enumerate() {
            let error = (f64::from(*got) - value).abs();
            let bound = 16.0 * unit * magnitude + f64::from(f32::MIN_POSITIVE);
            assert!(
                error <= bound,
                "{:?} {name}[{at}] = {got}, {value}, {:.1} of the bound",
                call.options,
                error / bound
            );
        }
    }
}

fn calls() -> Vec<Call> {
    let grouped = Shape {
        kv_heads: 2,
        keys: 75,
        capacity: 80,
        ..square([2, 4, 70], 70, 20)
    };
    let few = Shape {
        kv_heads: 1,
        keys: 40,
        capacity: 40,
        ..square([1, 4, 3], 33, 5)
    };
    let packed = Options {
        sequences: Some(Sequences {
            queries: vec![0, 20, 20, 70],
            keys: vec![0, 33, 34, 75],
        }),
        ..causal(0.2)
    };
    let lone = Shape {
        batch: 1,
        ..grouped
    };
    vec![
        Call::new(square([1, 1, 1], 1, 1), Options::dense(1.0)),
        Call::new(grouped, causal(0.1)),
        Call::new(
            grouped,
            Options {
                beta: Beta::PerHead(vec![0.1, -1.5, 0.0, 2.0]),
                ..Options::dense(0.0)
            },
        ),
        Call::new(few, causal(0.3)),
        Call::new(lone, packed),
        Call::new(
            grouped,
            Options {
                top_n: Some(9),
                ..causal(0.1)
            },
        ),
        Call::new(
            grouped,
            Options {
                radius: Some(20),
                window: Some(40),
                sinks: 3,
                ..causal(0.1)
            },
        ),
        Call::new(
            Shape {
                keys: 30,
                capacity: 30,
                kv_heads: 4,
                ..grouped
            },
            causal(0.2),
        ),
    ]
}

#[test]
fn gradients_match_the_reference() {
    for (n, call) in sample(calls()).enumerate() {
        for caps in by_turns(variants(), n) {
            judge(&call, &caps);
        }
    }
}

#[test]
fn gradients_cut_in_heads_columns_and_groups_are_the_same() {
    for (n, call) in by_turns(calls(), 4).enumerate() {
        for caps in by_turns(variants(), n) {
            let cut = Caps {
                loop_iterations: 1200,
                binding_bytes: 64 << 10,
                gflops: 1e-2,
                ..caps
            };
            judge(&call, &cut);
        }
    }
}

#[test]
fn the_calls_are_the_plans_and_a_clip_lets_small_numbers_through() {
    let gpu = gpu();
    let call = Call::new(square([1, 2, 50], 70, 20), causal(0.2));
    let shape = &call.shape;
    let grad_o = upstream(shape);
    let expected = on_device(&call, gpu.caps(), &grad_o);
    let (q, k) = (gpu.upload(&call.q).unwrap(), gpu.upload(&call.k).unwrap());
    let v = gpu.upload(&call.v).unwrap();
    let inputs = Inputs {
        q: &q,
        k: &k,
        v: &v,
        lengths: None,
    };
    let mut o = gpu.zeros::<f32>(shape.output_len()).unwrap();
    let mut kept = gpu.zeros::<u32>(4 * shape.rows()).unwrap();
    let outputs = Outputs {
        o: &mut o,
        lse: None,
        kept: Some(&mut kept),
    };
    forward(gpu, shape, &call.options, &inputs, outputs).unwrap();
    let narrow: Vec<f32> = grad_o.iter().map(|x| *x as f32).collect();
    let grad_o = gpu.upload(&narrow).unwrap();
    let codes_len = shape.rows() * shape.bits;
    let x: Vec<f32> = (0..codes_len).map(|n| (n % 5) as f32 - 2.0).collect();
    let numbers = gpu.upload(&x).unwrap();
    let clip = StraightThrough::Clip {
        q: &numbers,
        k: &numbers,
        clip: 1.0,
        threshold: 0.5,
    };
    for through in [StraightThrough::Identity, clip] {
        let mut grads =
            [codes_len, codes_len, shape.value_len()].map(|n| gpu.zeros::<f32>(n).unwrap());
        let [dq, dk, dv] = &mut grads;
        let upstream = Upstream {
            o: &o,
            kept: &kept,
            grad_o: &grad_o,
            through,
        };
        let gradients = Gradients {
            q: Some(dq),
            k: Some(dk),
            v: Some(dv),
        };
        backward(gpu, shape, &call.options, &inputs, &upstream, gradients).unwrap();
        let got = grads.map(|grad| grad.download().unwrap());
        let clips = matches!(through, StraightThrough::Clip { .. });
        for (n, (got, expected)) in got.iter().zip(&expected).enumerate() {
            for (at, (got, expected)) in got.iter().zip(expected).enumerate() {
                let through = n == 2 || !clips || (x[at] - 0.5).abs() <= 1.0;
                assert_eq!(*got, if through { *expected } else { 0.0 });
            }
        }
    }
}

#[test]
fn gradients_fit_every_preset() {
    let all = WantedGradients {
        q: true,
        k: true,
        v: true,
    };
    for caps in Caps::presets() {
        for options in [causal(0.1), Options::dense(4.0)] {
            let shape = Shape {
                kv_heads: 2,
                ..Shape::square([2, 8, 4096], 128, 64, Dtype::F16)
            };
            let plan = plan::backward(&shape, &options, all, &caps).unwrap();
            assert!(
                plan.steps
                    .iter()
                    .all(|step| step.predicted_ms <= 100.0 || step.groups == 1)
            );
            let none = square([1, 2, 0], 64, 8);
            assert!(
                plan::backward(&none, &options, all, &caps)
                    .unwrap()
                    .steps
                    .is_empty()
            );
        }
    }
}
