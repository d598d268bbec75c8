//! Every wrong argument of linear attention has its own sentence, before anything is allocated or compiled.

use subquad::{
    Gpu, Result, Select, Tensor,
    gpu::{Caps, Dtype},
    linear::{
        self, Decay, FeatureMap, Form, Inputs, Layout, Options, Outputs, Shape, record, record_step,
    },
};

/// A call by the sizes of its tensors.
#[derive(Clone)]
struct Given {
    shape: Shape,
    options: Options,
    q: usize,
    k: usize,
    v: usize,
    log_decay: Option<usize>,
    beta: Option<usize>,
    initial_state: Option<usize>,
    initial_z: Option<usize>,
    cu_seqlens: Option<Vec<u32>>,
    o: usize,
    final_state: Option<usize>,
    final_z: Option<usize>,
}

/// 6 tokens, 4 heads of queries over 2 of keys, widths 8 and 4.
fn good() -> Given {
    Given {
        shape: Shape {
            batch: 1,
            tokens: 6,
            heads: 4,
            kv_heads: 2,
            key: 8,
            value: 4,
            layout: Layout::Bthd,
            dtype: Dtype::F32,
        },
        options: Options::plain(),
        q: 192,
        k: 96,
        v: 48,
        log_decay: None,
        beta: None,
        initial_state: Some(64),
        initial_z: None,
        cu_seqlens: None,
        o: 96,
        final_state: Some(64),
        final_z: None,
    }
}

fn delta() -> Given {
    let mut call = good();
    (call.options.delta, call.beta) = (true, Some(12));
    call
}

fn normalized() -> Given {
    let mut call = good();
    call.options.normalize = Some(0.5);
    (call.initial_z, call.final_z) = (Some(16), Some(16));
    call
}

fn decaying(decay: Decay, elements: usize) -> Given {
    let mut call = good();
    (call.options.decay, call.log_decay) = (decay, Some(elements));
    call
}

fn packed(bounds: &[u32]) -> Given {
    let mut call = good();
    let states = 64 * bounds.len().saturating_sub(1);
    (call.initial_state, call.final_state) = (Some(states), Some(states));
    call.cu_seqlens = Some(bounds.to_vec());
    call
}

/// A step: the final state and z are those that it updates.
fn stepping(call: Given) -> Given {
    Given {
        initial_state: None,
        initial_z: None,
        ..call
    }
}

/// With one thing changed.
fn but(mut call: Given, change: impl Fn(&mut Given)) -> Given {
    change(&mut call);
    call
}

fn call(gpu: &Gpu, given: &Given, step: bool) -> Result<()> {
    let tensor = |len: usize| -> Tensor<f32> { gpu.zeros(len).unwrap() };
    let [q, k, v] = [given.q, given.k, given.v].map(tensor);
    let optional = [
        given.log_decay,
        given.beta,
        given.initial_state,
        given.initial_z,
    ];
    let [log_decay, beta, initial_state, initial_z] = optional.map(|len| len.map(tensor));
    let inputs = Inputs {
        log_decay: log_decay.as_ref(),
        beta: beta.as_ref(),
        initial_state: initial_state.as_ref(),
        initial_z: initial_z.as_ref(),
        cu_seqlens: given.cu_seqlens.as_deref(),
        ..Inputs::new(&q, &k, &v)
    };
    let mut o = tensor(given.o);
    let [mut state, mut z] = [given.final_state, given.final_z].map(|len| len.map(tensor));
    let mut pass = gpu.pass("arguments");
    let before = (gpu.pool_allocations(), gpu.pipelines());
    let (shape, options) = (&given.shape, &given.options);
    let result = if step {
        let state = state.as_mut().unwrap();
        record_step(
            &mut pass,
            shape,
            options,
            &inputs,
            state,
            z.as_mut(),
            &mut o,
        )
    } else {
        let outputs = Outputs {
            o: &mut o,
            final_state: state.as_mut(),
            final_z: z.as_mut(),
        };
        record(&mut pass, shape, options, &inputs, outputs)
    };
    if result.is_err() {
        let after = (gpu.pool_allocations(), gpu.pipelines());
        assert_eq!(before, after, "allocated or compiled before refusing");
    }
    result
}

fn refused(cases: &[(Given, &str)], step: bool) {
    let gpu = Gpu::open(&Select::from_env()).expect("these tests need an adapter");
    let wrong: Vec<String> = cases
        .iter()
        .filter_map(|(given, sentence)| match call(&gpu, given, step) {
            Err(error) if error.to_string() == format!("linear_attention{sentence}") => None,
            Err(error) => Some(format!("\"{error}\" instead of \"{sentence}\"")),
            Ok(()) => Some(format!("accepted: \"{sentence}\"")),
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_calls_that_are_spoiled_here_are_good() {
    let gpu = Gpu::open(&Select::from_env()).expect("these tests need an adapter");
    let bounds: &[u32] = &[0, 2, 2, 6];
    for given in [
        good(),
        delta(),
        normalized(),
        decaying(Decay::Head, 2),
        decaying(Decay::Token, 12),
        decaying(Decay::Channel, 96),
        packed(bounds),
        but(good(), |call| call.options.causal = false),
    ] {
        call(&gpu, &given, false).unwrap();
        if given.options.causal && given.cu_seqlens.is_none() {
            call(&gpu, &stepping(given), true).unwrap();
        }
    }
}

#[test]
fn wrong_shapes_are_refused() {
    let shape = |change: fn(&mut Shape)| but(good(), move |call| change(&mut call.shape));
    refused(
        &[
            (
                shape(|s| s.key = 0),
                ": key width must be from 1 to 512, got 0",
            ),
            (
                shape(|s| s.key = 513),
                ": key width must be from 1 to 512, got 513",
            ),
            (
                shape(|s| s.value = 0),
                ": value width must be from 1 to 512, got 0",
            ),
            (
                shape(|s| s.value = 600),
                ": value width must be from 1 to 512, got 600",
            ),
            (
                shape(|s| s.dtype = Dtype::U32),
                ": dtype must be f32, f16 or bf16, got u32",
            ),
            (
                shape(|s| s.dtype = Dtype::F16),
                ": shape.dtype must be the type of the tensors, f32, got f16",
            ),
            (
                shape(|s| s.kv_heads = 3),
                ": kv_heads must be a divisor of the 4 heads, got 3",
            ),
            (
                shape(|s| s.kv_heads = 0),
                ": kv_heads must be a divisor of the 4 heads, got 0",
            ),
            (
                shape(|s| s.kv_heads = 8),
                ": kv_heads must be a divisor of the 4 heads, got 8",
            ),
            (
                shape(|s| s.heads = 0),
                ": kv_heads must be a divisor of the 0 heads, got 2",
            ),
            (
                shape(|s| s.tokens = 1 << 40),
                ": shape must be of at most 2^31 a side, got batch 1 x tokens 1099511627776 x heads 4",
            ),
        ],
        false,
    );
}

#[test]
fn options_that_do_not_go_together_are_refused() {
    let options =
        |call: Given, change: fn(&mut Options)| but(call, move |call| change(&mut call.options));
    refused(
        &[
            (
                options(good(), |o| o.scale = f32::NAN),
                ": scale must be finite, got NaN",
            ),
            (
                options(good(), |o| o.scale = f32::INFINITY),
                ": scale must be finite, got inf",
            ),
            (
                options(normalized(), |o| o.normalize = Some(-1.0)),
                ": normalize must be finite and at least 0, got -1",
            ),
            (
                options(normalized(), |o| o.normalize = Some(f32::NAN)),
                ": normalize must be finite and at least 0, got NaN",
            ),
            (
                options(delta(), |o| o.normalize = Some(0.5)),
                ": normalize must be absent with the delta rule, got 0.5",
            ),
            (
                options(delta(), |o| o.causal = false),
                ": causal must be true with a decay or the delta rule, got false",
            ),
            (
                options(decaying(Decay::Head, 2), |o| o.causal = false),
                ": causal must be true with a decay or the delta rule, got false",
            ),
            (
                options(good(), |o| o.form = Form::Segments(0)),
                ": form must be at least 1 segment, got 0",
            ),
            (
                options(good(), |o| o.feature_map = FeatureMap::HedgehogSoftmax),
                ": fm_weight must be 64 elements shared by the heads (heads have no sets of their own where queries and keys have different \
                 numbers of heads), got none",
            ),
        ],
        false,
    );
}

#[test]
fn tensors_of_another_length_are_refused() {
    refused(
        &[
            (
                but(good(), |c| c.q = 191),
                ": q must be 192 elements for this shape, got 191",
            ),
            (
                but(good(), |c| c.k = 192),
                ": k must be 96 elements for this shape, got 192",
            ),
            (
                but(good(), |c| c.v = 96),
                ": v must be 48 elements for this shape, got 96",
            ),
            (
                but(good(), |c| c.o = 48),
                ": o must be 96 elements for this shape, got 48",
            ),
            (
                but(good(), |c| c.initial_state = Some(128)),
                ": initial_state must be 64 elements for this shape, got 128",
            ),
            (
                but(good(), |c| c.final_state = Some(128)),
                ": final_state must be 64 elements for this shape, got 128",
            ),
            (
                but(normalized(), |c| c.initial_z = Some(64)),
                ": initial_z must be 16 elements for this shape, got 64",
            ),
            (
                but(normalized(), |c| c.final_z = Some(8)),
                ": final_z must be 16 elements for this shape, got 8",
            ),
            (
                but(delta(), |c| c.beta = Some(24)),
                ": beta must be 12 elements for this shape, got 24",
            ),
            // The tensor of another kind of decay.
            (
                decaying(Decay::Head, 12),
                ": log_decay must be 2 elements for this shape, got 12",
            ),
            (
                decaying(Decay::Token, 2),
                ": log_decay must be 12 elements for this shape, got 2",
            ),
            (
                decaying(Decay::Token, 96),
                ": log_decay must be 12 elements for this shape, got 96",
            ),
            (
                decaying(Decay::Channel, 12),
                ": log_decay must be 96 elements for this shape, got 12",
            ),
        ],
        false,
    );
}

#[test]
fn missing_and_superfluous_tensors_are_refused() {
    refused(
        &[
            (
                but(decaying(Decay::Token, 12), |c| c.log_decay = None),
                ": log_decay must be given with the option that reads it, got none",
            ),
            (
                but(good(), |c| c.log_decay = Some(2)),
                ": log_decay must be absent without the option that reads it, got a tensor",
            ),
            (
                but(delta(), |c| c.beta = None),
                ": beta must be given with the option that reads it, got none",
            ),
            (
                but(good(), |c| c.beta = Some(12)),
                ": beta must be absent without the option that reads it, got a tensor",
            ),
            (
                but(good(), |c| c.initial_z = Some(16)),
                ": initial_z must be absent without the normaliser, got a tensor",
            ),
            (
                but(good(), |c| c.final_z = Some(16)),
                ": final_z must be absent without the normaliser, got a tensor",
            ),
        ],
        false,
    );
}

#[test]
fn wrong_bounds_are_refused() {
    refused(
        &[
            (
                packed(&[]),
                ": cu_seqlens must be at least 2 numbers from 0 to the 6 tokens, got []",
            ),
            (
                packed(&[6]),
                ": cu_seqlens must be at least 2 numbers from 0 to the 6 tokens, got [6]",
            ),
            (
                packed(&[1, 6]),
                ": cu_seqlens must be at least 2 numbers from 0 to the 6 tokens, got [1, 6]",
            ),
            (
                packed(&[0, 3, 5]),
                ": cu_seqlens must be at least 2 numbers from 0 to the 6 tokens, got [0, 3, 5]",
            ),
            (
                packed(&[0, 4, 3, 6]),
                ": cu_seqlens must be non-decreasing, got [0, 4, 3, 6]",
            ),
            (
                but(packed(&[0, 6]), |c| {
                    (c.shape.batch, c.q, c.k, c.v, c.o) = (2, 384, 192, 96, 192);
                }),
                ": cu_seqlens must be absent unless the batch is 1, got given with 2",
            ),
            // States of the batch and not of its sequences.
            (
                but(packed(&[0, 3, 6]), |c| c.initial_state = Some(64)),
                ": initial_state must be 128 elements for this shape, got 64",
            ),
            (
                but(packed(&[0, 3, 6]), |c| c.final_state = Some(64)),
                ": final_state must be 128 elements for this shape, got 64",
            ),
        ],
        false,
    );
}

#[test]
fn what_a_step_has_no_use_for_is_refused() {
    let step = |call: Given, change: fn(&mut Given)| but(stepping(call), change);
    let own = "absent from a step, which updates its own state, got a value";
    let [state, z, bounds] =
        ["initial_state", "initial_z", "cu_seqlens"].map(|name| format!(": {name} must be {own}"));
    refused(
        &[
            (step(good(), |c| c.initial_state = Some(64)), &state),
            (step(normalized(), |c| c.initial_z = Some(16)), &z),
            (step(good(), |c| c.cu_seqlens = Some(vec![0, 6])), &bounds),
            (
                step(good(), |c| c.final_state = Some(32)),
                ": state must be 64 elements for this shape, got 32",
            ),
            (
                step(normalized(), |c| c.final_z = None),
                ": z must be given with the normaliser, got none",
            ),
            (
                step(good(), |c| c.final_z = Some(16)),
                ": z must be absent without the normaliser, got a tensor",
            ),
            (
                step(normalized(), |c| c.final_z = Some(32)),
                ": z must be 16 elements for this shape, got 32",
            ),
            (
                step(good(), |c| c.options.causal = false),
                " does not support steps of the non-causal form: every token reads the whole sequence",
            ),
        ],
        true,
    );
}

/// The planner alone refuses what it can see, whatever the tensors are.
#[test]
fn plans_are_refused_without_tensors() {
    let caps = Caps::webgpu_floor();
    let states = linear::plan::States {
        initial_z: true,
        ..Default::default()
    };
    let plan = linear::plan::forward(&good().shape, &Options::plain(), states, &caps);
    assert_eq!(
        plan.unwrap_err().to_string(),
        "linear_attention: initial_z must be absent without the normaliser, got a tensor"
    );
    let states = linear::plan::States {
        cu_seqlens: Some(&[0, 4, 3, 6]),
        ..Default::default()
    };
    let plan = linear::plan::forward(&good().shape, &Options::plain(), states, &caps);
    assert_eq!(
        plan.unwrap_err().to_string(),
        "linear_attention: cu_seqlens must be non-decreasing, got [0, 4, 3, 6]"
    );
}
