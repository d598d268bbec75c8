//! What `backward` refuses, and in which words.

use subquad::{
    Result,
    gpu::Tensor,
    linear::{Decay, FeatureMap, Given, Gradients, Inputs, Options, Shape, backward},
};

use crate::{gpu, shape};

/// A call by the sizes of its tensors: 6 tokens, 2 heads, widths 12 and 8.
#[derive(Clone)]
struct Sizes {
    options: Options,
    /// log_decay, beta, the initial state, the initial z, weights and bias.
    inputs: [Option<usize>; 6],
    o: usize,
    state: Option<usize>,
    q: usize,
    k: usize,
    v: usize,
    /// Gradients of the inputs.
    gradients: [Option<usize>; 6],
}

fn good() -> Sizes {
    Sizes {
        options: Options {
            decay: Decay::Token,
            delta: true,
            ..Options::plain()
        },
        inputs: [Some(24), Some(24), Some(384), None, None, None],
        o: 192,
        state: Some(384),
        q: 288,
        k: 288,
        v: 192,
        gradients: [Some(24), Some(24), Some(384), None, None, None],
    }
}

fn call(sizes: &Sizes) -> Result<()> {
    let gpu = gpu();
    let shape: Shape = shape(6);
    let tensor = |len: usize| -> Tensor<f32> { gpu.zeros(len).unwrap() };
    let [q, k, v] = [288, 288, 192].map(tensor);
    let [g, beta, state, z, weight, bias] = sizes.inputs.map(|len| len.map(tensor));
    let [mut dg, mut dbeta, mut dstate, _, mut dweight, mut dbias] =
        sizes.gradients.map(|len| len.map(tensor));
    let [mut dq, mut dk, mut dv] = [sizes.q, sizes.k, sizes.v].map(tensor);
    let (o, last) = (tensor(sizes.o), sizes.state.map(tensor));
    backward(
        gpu,
        &shape,
        &sizes.options,
        &Inputs {
            log_decay: g.as_ref(),
            beta: beta.as_ref(),
            initial_state: state.as_ref(),
            initial_z: z.as_ref(),
            fm_weight: weight.as_ref(),
            fm_bias: bias.as_ref(),
            ..Inputs::new(&q, &k, &v)
        },
        &Given {
            o: &o,
            final_state: last.as_ref(),
            final_z: None,
        },
        Gradients {
            log_decay: dg.as_mut(),
            beta: dbeta.as_mut(),
            initial_state: dstate.as_mut(),
            fm_weight: dweight.as_mut(),
            fm_bias: dbias.as_mut(),
            ..Gradients::new(&mut dq, &mut dk, &mut dv)
        },
    )
}

fn but(change: impl Fn(&mut Sizes)) -> Sizes {
    let mut sizes = good();
    change(&mut sizes);
    sizes
}

fn learned(change: impl Fn(&mut Sizes)) -> Sizes {
    let mut sizes = but(|s| {
        s.options = Options {
            feature_map: FeatureMap::T2r,
            ..Options::plain()
        };
        s.inputs = [None, None, None, None, Some(144), Some(12)];
        s.gradients = s.inputs;
        s.state = None;
    });
    change(&mut sizes);
    sizes
}

#[test]
fn wrong_arguments_of_gradients_are_refused() {
    call(&good()).unwrap();
    call(&learned(|_| ())).unwrap();
    let cases = [
        (
            but(|s| s.o = 191),
            ": the gradient of o must be 192 elements for this shape, got 191",
        ),
        (
            but(|s| s.state = Some(192)),
            ": the gradient of final_state must be 384 elements for this shape, got 192",
        ),
        (
            but(|s| s.q = 192),
            ": the gradient of q must be 288 elements for this shape, got 192",
        ),
        (
            but(|s| s.k = 192),
            ": the gradient of k must be 288 elements for this shape, got 192",
        ),
        (
            but(|s| s.v = 288),
            ": the gradient of v must be 192 elements for this shape, got 288",
        ),
        (
            but(|s| s.gradients[0] = Some(2)),
            ": the gradient of log_decay must be 24 elements for this shape, got 2",
        ),
        (
            but(|s| s.gradients[1] = Some(12)),
            ": the gradient of beta must be 24 elements for this shape, got 12",
        ),
        (
            but(|s| s.gradients[2] = Some(192)),
            ": the gradient of initial_state must be 384 elements for this shape, got 192",
        ),
        (
            but(|s| s.inputs[2] = None),
            ": the gradient of initial_state must be absent where there is no initial_state, got a tensor",
        ),
        (
            but(|s| (s.options.delta, s.inputs[1]) = (false, None)),
            ": the gradient of beta must be absent where there is no beta, got a tensor",
        ),
        (
            but(|s| (s.options.decay, s.inputs[0]) = (Decay::None, None)),
            ": the gradient of log_decay must be absent where there is no log_decay, got a tensor",
        ),
        (
            learned(|s| s.gradients[4] = None),
            ": the gradient of fm_weight must be given, like fm_weight, got none",
        ),
        (
            learned(|s| s.gradients[5] = None),
            ": the gradient of fm_bias must be given, like fm_bias, got none",
        ),
        (
            learned(|s| s.inputs[5] = None),
            ": the gradient of fm_bias must be absent, like fm_bias, got a tensor",
        ),
        (
            learned(|s| s.gradients[4] = Some(12)),
            ": the gradient of fm_weight must be 144 elements for this shape, got 12",
        ),
        (
            but(|s| s.inputs[3] = Some(48)),
            ": initial_z must be absent without the normaliser, got a tensor",
        ),
    ];
    let wrong: Vec<String> = cases
        .iter()
        .filter_map(|(sizes, sentence)| match call(sizes) {
            Err(error) if error.to_string() == format!("linear_attention{sentence}") => None,
            Err(error) => Some(format!("\"{error}\" instead of \"{sentence}\"")),
            Ok(()) => Some(format!("accepted: \"{sentence}\"")),
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
