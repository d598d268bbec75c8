//! Wrong arguments, by their whole sentences.

use half::f16;
use subquad::{
    gpu::{Caps, Dtype},
    kronecker::{
        Factor, Operator, cpu, matmul,
        matmul::{Options, Shape, Strides, plan},
    },
};

use crate::device::gpu;

fn refused(operator: &Operator, shape: Shape, options: Options) -> String {
    let found = plan(operator, &shape, &options, &Caps::webgpu_floor());
    found.unwrap_err().to_string()
}

#[test]
fn wrong_operators_are_named() {
    let rows = Shape::rows(2);
    let plain = Options::default();
    let of = |factors: Vec<Factor>| refused(&Operator::new(factors), rows, plain);
    assert_eq!(
        of(vec![Factor::dense(1, 1); 4097]),
        "kron_matmul: the number of factors must be at most 4096, got 4097"
    );
    assert_eq!(
        of(vec![Factor::dense(2, 2), Factor::dense(0, 3)]),
        "kron_matmul: factor 1 must be of sides from 1 to 32768, got 0 x 3"
    );
    let oblong = Factor {
        columns: 4,
        ..Factor::diagonal(3)
    };
    assert_eq!(
        of(vec![oblong]),
        "kron_matmul: factor 0 must be square, as it is not dense, got 3 x 4"
    );
    assert_eq!(
        of(vec![Factor::dense(2, 2); 40]),
        "kron_matmul: the size of x must be of fewer than 2^32 elements, got 1 x 2 x 1099511627776"
    );
    let large = refused(
        &Operator::new([Factor::dense(1 << 13, 1 << 13)]),
        rows,
        plain,
    );
    assert!(large.contains("limit"), "{large}");
}

#[test]
fn wrong_shapes_and_numbers_are_named() {
    let operator = Operator::new([Factor::dense(3, 4), Factor::dense(2, 2)]);
    let plain = Options::default();
    let of = |shape| refused(&operator, shape, plain);
    let rows = Shape::rows(5).batched(2);
    assert_eq!(
        of(rows.stored_as(Dtype::U32)),
        "kron_matmul: shape.dtype must be f32, f16 or bf16, got u32"
    );
    let z = |row, batch| Shape {
        z: Some(Strides { row, batch }),
        ..rows
    };
    assert_eq!(
        of(z(7, 40)),
        "kron_matmul: shape.z.row must be at least a row's 8 elements, got 7"
    );
    assert_eq!(
        of(z(9, 43)),
        "kron_matmul: shape.z.batch must be at least the 44 elements that the rows of a batch span, got 43"
    );
    assert_eq!(
        of(z(9, 50).stored_as(Dtype::F16)),
        "kron_matmul: shape.z must be even in a 16-bit type, which shares words, got 9 and 50"
    );
    let infinite = Options {
        alpha: f32::INFINITY,
        beta: 0.0,
    };
    assert_eq!(
        refused(&operator, rows, infinite),
        "kron_matmul: options.alpha must be finite, got inf"
    );
}

#[test]
fn wrong_tensors_are_named() {
    let operator = Operator::new([
        Factor::dense(3, 4),
        Factor::identity(2),
        Factor::diagonal(2).per_batch(),
    ]);
    let shape = Shape::rows(5).batched(2);
    let [f, d, x] = [12, 4, 120].map(|len| gpu().zeros::<f32>(len).unwrap());
    let mut z = gpu().zeros::<f32>(160).unwrap();
    let plain = Options::default();
    matmul(gpu(), &operator, &shape, &plain, &[&f, &d], &x, &mut z).unwrap();
    let mut of = |factors: &[&subquad::Tensor<f32>], x: &subquad::Tensor<f32>| {
        let found = matmul(gpu(), &operator, &shape, &plain, factors, x, &mut z);
        found.unwrap_err().to_string()
    };
    assert_eq!(
        of(&[&f], &x),
        "kron_matmul: factors must be 2 tensors, one for each factor but identities, got 1"
    );
    assert_eq!(
        of(&[&f, &f], &x),
        "kron_matmul: factors[1] must be 4 elements for this shape, got 12"
    );
    assert_eq!(
        of(&[&f, &d], &f),
        "kron_matmul: x must be 120 elements for this shape, got 12"
    );
    let mut short = gpu().zeros::<f32>(12).unwrap();
    let found = matmul(gpu(), &operator, &shape, &plain, &[&f, &d], &x, &mut short);
    assert_eq!(
        found.unwrap_err().to_string(),
        "kron_matmul: z must be 160 elements for this shape, got 12"
    );
    let half = gpu().zeros::<f16>(120).unwrap();
    let mut narrow = gpu().zeros::<f16>(160).unwrap();
    let found = matmul(
        gpu(),
        &operator,
        &shape,
        &plain,
        &[&f, &d],
        &half,
        &mut narrow,
    );
    assert_eq!(
        found.unwrap_err().to_string(),
        "kron_matmul: shape.dtype must be the type of the tensors, f16, got f32"
    );
    let found = cpu::matmul(&operator, &shape, &plain, &[&[0.0; 12]], &[], &[]);
    assert_eq!(
        found.unwrap_err().to_string(),
        "kron_matmul: factors must be 2 tensors, one for each factor but identities, got 1"
    );
}
