//! Callers' mistakes: one sentence that names the argument.

use subquad::{
    Error,
    gpu::{Caps, Dtype},
    hamming::attention::{
        Beta, Denominator, Gradients, Inputs, Options, Outputs, Sequences, Shape, StraightThrough,
        Upstream, backward, forward,
        plan::{self, Wanted},
    },
};

use super::{causal, gpu, square};

fn named(result: Result<impl Sized, Error>) -> String {
    match result.err() {
        Some(Error::Argument { what, .. }) => what,
        other => format!("{other:?}"),
    }
}

#[test]
fn wrong_arguments_are_named() {
    let shape = square([1, 4, 10], 64, 8);
    let dense = Options::dense(0.1);
    let of = |shape: Shape, options: Options| {
        let plan = plan::forward(&shape, &options, Wanted::default(), &Caps::nvidia());
        named(plan)
    };
    assert_eq!(of(Shape { bits: 0, ..shape }, dense.clone()), "bits");
    assert_eq!(
        of(
            Shape {
                bits: 65_537,
                ..shape
            },
            dense.clone()
        ),
        "bits"
    );
    assert_eq!(of(Shape { value: 0, ..shape }, dense.clone()), "value");
    assert_eq!(
        of(
            Shape {
                value: 513,
                ..shape
            },
            dense.clone()
        ),
        "value"
    );
    assert_eq!(
        of(
            Shape {
                kv_heads: 3,
                ..shape
            },
            dense.clone()
        ),
        "kv_heads"
    );
    assert_eq!(
        of(
            Shape {
                kv_heads: 0,
                ..shape
            },
            dense.clone()
        ),
        "kv_heads"
    );
    assert_eq!(of(Shape { keys: 11, ..shape }, dense.clone()), "keys");
    assert_eq!(
        of(
            Shape {
                dtype: Dtype::U32,
                ..shape
            },
            dense.clone()
        ),
        "dtype"
    );
    assert_eq!(
        of(
            Shape {
                batch: 1 << 40,
                ..shape
            },
            dense.clone()
        ),
        "shape"
    );
    assert_eq!(of(shape, Options::dense(f32::NAN)), "beta");
    let beta = Beta::PerHead(vec![0.1; 3]);
    assert_eq!(
        of(
            shape,
            Options {
                beta,
                ..dense.clone()
            }
        ),
        "beta"
    );
    assert_eq!(
        of(
            shape,
            Options {
                window: Some(0),
                ..dense.clone()
            }
        ),
        "window"
    );
    assert_eq!(
        of(
            shape,
            Options {
                splits: Some(0),
                ..dense.clone()
            }
        ),
        "splits"
    );
    assert_eq!(
        of(
            shape,
            Options {
                include_ties: true,
                ..dense.clone()
            }
        ),
        "include_ties"
    );
    let running = Options {
        denominator: Some(Denominator::Running),
        top_n: Some(3),
        ..dense.clone()
    };
    assert_eq!(of(shape, running), "denominator");
    let packed = |queries: &[usize], keys: &[usize]| Options {
        sequences: Some(Sequences {
            queries: queries.into(),
            keys: keys.into(),
        }),
        ..dense.clone()
    };
    assert_eq!(of(shape, packed(&[0, 9], &[0, 10])), "sequences.queries");
    assert_eq!(
        of(shape, packed(&[0, 10], &[0, 7, 5, 10])),
        "sequences.keys"
    );
    assert_eq!(
        of(shape, packed(&[0, 4, 10], &[0, 10])),
        "sequences.keys.len()"
    );
    assert_eq!(
        of(Shape { batch: 2, ..shape }, packed(&[0, 10], &[0, 10])),
        "batch"
    );
    assert_eq!(named(plan::clip(8, -1.0, 0.0, &Caps::nvidia())), "clip");
    let lengths = Wanted {
        lengths: true,
        ..Wanted::default()
    };
    let refused = plan::forward(
        &shape,
        &packed(&[0, 10], &[0, 10]),
        lengths,
        &Caps::nvidia(),
    );
    assert!(matches!(refused, Err(Error::Unsupported { .. })));
    let long = square([1, 1, 1 << 22], 64, 512);
    let refused = plan::forward(&long, &dense, Wanted::default(), &Caps::webgpu_floor());
    assert!(matches!(refused, Err(Error::Limit { .. })));
}

#[test]
fn tensors_of_the_wrong_length_are_named() {
    let gpu = gpu();
    let shape = square([1, 2, 10], 64, 8);
    let options = causal(0.1);
    let codes = gpu.zeros::<u32>(shape.query_len()).unwrap();
    let values = gpu.zeros::<f32>(shape.value_len()).unwrap();
    let (few, short) = (gpu.zeros::<u32>(3).unwrap(), gpu.zeros::<f32>(3).unwrap());
    let good = Inputs {
        q: &codes,
        k: &codes,
        v: &values,
        lengths: None,
    };
    let call = |inputs: &Inputs<'_, f32>, o_len: usize, lse_len: usize, kept_len: usize| {
        let (mut o, mut lse) = (gpu.zeros(o_len).unwrap(), gpu.zeros(lse_len).unwrap());
        let mut kept = gpu.zeros(kept_len).unwrap();
        let outputs = Outputs {
            o: &mut o,
            lse: Some(&mut lse),
            kept: Some(&mut kept),
        };
        let result = forward(gpu, &shape, &options, inputs, outputs);
        result.err().map(|error| named(Err::<(), _>(error)))
    };
    let is = |name: &str| Some(name.to_owned());
    assert_eq!(call(&good, 160, 20, 80), None);
    assert_eq!(call(&Inputs { q: &few, ..good }, 160, 20, 80), is("q"));
    assert_eq!(call(&Inputs { k: &few, ..good }, 160, 20, 80), is("k"));
    assert_eq!(call(&Inputs { v: &short, ..good }, 160, 20, 80), is("v"));
    assert_eq!(
        call(
            &Inputs {
                lengths: Some(&few),
                ..good
            },
            160,
            20,
            80
        ),
        is("lengths")
    );
    assert_eq!(call(&good, 161, 20, 80), is("o"));
    assert_eq!(call(&good, 160, 21, 80), is("lse"));
    assert_eq!(call(&good, 160, 20, 79), is("kept"));

    let kept = gpu.zeros::<u32>(80).unwrap();
    let upstream = Upstream {
        o: &values,
        kept: &kept,
        grad_o: &values,
        through: StraightThrough::Identity,
    };
    let back = |inputs: &Inputs<'_, f32>, upstream: &Upstream<'_, f32>, len: Option<usize>| {
        let mut grad = len.map(|n| gpu.zeros::<f32>(n).unwrap());
        let gradients = Gradients {
            q: None,
            k: None,
            v: grad.as_mut(),
        };
        named(backward(gpu, &shape, &options, inputs, upstream, gradients))
    };
    let with = |o, kept, grad_o| Upstream {
        o,
        kept,
        grad_o,
        ..upstream
    };
    assert_eq!(back(&good, &with(&short, &kept, &values), Some(160)), "o");
    assert_eq!(
        back(&good, &with(&values, &few, &values), Some(160)),
        "kept"
    );
    assert_eq!(
        back(&good, &with(&values, &kept, &short), Some(160)),
        "grad_o"
    );
    assert_eq!(back(&good, &upstream, Some(1)), "gradients.v");
    assert_eq!(back(&good, &upstream, None), "gradients");
    let one = gpu.zeros::<u32>(1).unwrap();
    let lengths = Inputs {
        lengths: Some(&one),
        ..good
    };
    assert!(back(&lengths, &upstream, Some(160)).contains("Unsupported"));
}
