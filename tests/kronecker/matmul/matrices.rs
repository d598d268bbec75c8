//! Calls of f16 tensors with plain arithmetic in place of matrix units.

use half::f16;
use subquad::{
    gpu::{Caps, Dtype, Matrices},
    kronecker::{
        Factor, Operator, Side,
        matmul::{Options, Shape, plan},
    },
};

use super::Call;
use crate::{device::gpu, effort::by_turns};

/// The device at hand with squares of these sides, where its subgroups have one size.
fn with_matrices(sides: &[u32]) -> Vec<Caps> {
    let caps = gpu().caps();
    let lanes = caps.subgroup.filter(|(least, most)| least == most);
    let Some((lanes, _)) = lanes.filter(|_| caps.f16) else {
        println!("skipped: no f16, or no subgroups of one size");
        return Vec::new();
    };
    let with = |side: &u32| Caps {
        matrices: Some(Matrices {
            side: *side,
            lanes,
            native: false,
        }),
        ..caps.clone()
    };
    sides.iter().map(with).collect()
}

fn narrow(values: &[f32]) -> Vec<f16> {
    values.iter().map(|x| f16::from_f32(*x)).collect()
}

fn call(name: &str, operator: Operator, shape: Shape) -> Call {
    let dtype = Dtype::F16;
    let mut call = Call::new(name, operator, Shape { dtype, ..shape });
    call.x = narrow(&call.x).into_iter().map(f16::to_f32).collect();
    call
}

fn run(call: &Call, caps: &Caps) -> Vec<f32> {
    let plan = plan(&call.operator, &call.shape, &call.options, caps).unwrap();
    let label = &plan.label;
    assert!(label.contains("in plain arithmetic"), "{label}");
    let factors = call.factors.iter().map(|f| gpu().upload(f).unwrap());
    let factors: Vec<_> = factors.collect();
    let x = gpu().upload(&narrow(&call.x)).unwrap();
    let mut z = gpu().upload(&narrow(&call.z)).unwrap();
    let inputs: Vec<_> = std::iter::once(x.view())
        .chain(factors.iter().map(|factor| factor.view()))
        .collect();
    let mut pass = gpu().pass("test");
    pass.run(&plan, &inputs, &mut [z.view_mut()]).unwrap();
    pass.submit().unwrap();
    let z: Vec<f16> = z.download().unwrap();
    z.into_iter().map(f16::to_f32).collect()
}

/// Asserts the bound of every element, and that of its rounding.
fn holds(call: &Call, found: &[f32]) {
    let bound = 2f64.powi(-23) * call.lengths().sqrt();
    let all = found.iter().zip(call.reference()).zip(call.magnitude());
    for (n, ((found, value), magnitude)) in all.enumerate() {
        let error = (f64::from(*found) - value).abs();
        // Subnormal numbers are as far apart as the smallest normal ones.
        let rounding = 2f64.powi(-11) * value.abs().max(2f64.powi(-14));
        let allowed = bound * magnitude + rounding;
        assert!(error <= allowed, "element {n}: {found} for {value}");
    }
}

#[test]
fn calls_on_either_side_hold() {
    for caps in by_turns(with_matrices(&[16, 8]), 1) {
        for side in by_turns([Side::Right, Side::Left], 1) {
            let factors = [Factor::dense(16, 20), Factor::dense(16, 17).transpose()];
            let shape = Shape {
                side,
                ..Shape::rows(3)
            };
            let mut call = call("either side", Operator::new(factors), shape);
            call.options = Options {
                alpha: 2.0,
                beta: -0.5,
            };
            call.z = (0..call.z.len()).map(|n| n as f32 % 8.0 / 4.0).collect();
            holds(&call, &run(&call, &caps));
        }
    }
}

#[test]
fn a_batch_is_a_loop_and_pieces_change_no_bit() {
    let operator = Operator::new([Factor::dense(16, 17).per_batch(), Factor::dense(3, 4)]);
    let call = call("batch", operator, Shape::rows(30).batched(2));
    for caps in with_matrices(&[8]) {
        let all = run(&call, &caps);
        holds(&call, &all);
        assert_eq!(all, run(&call, &caps));
        let small = Caps {
            binding_bytes: 4096,
            scratch_bytes: 10_000,
            ..caps.clone()
        };
        assert_eq!(all, run(&call, &small));
        for (batch, z) in all.chunks_exact(all.len() / 2).enumerate() {
            let of =
                |values: &[f32]| values[batch * values.len() / 2..][..values.len() / 2].to_vec();
            let mut one = call.clone();
            one.shape.batch = 1;
            (one.x, one.z) = (of(&call.x), of(&call.z));
            one.factors[0] = of(&call.factors[0]);
            assert_eq!(run(&one, &caps), z);
        }
    }
}

#[test]
fn nan_reaches_what_depends_on_it() {
    let operator = Operator::new([Factor::dense(16, 16), Factor::dense(16, 17)]);
    let clean = call("nan", operator, Shape::rows(4));
    for caps in with_matrices(&[8]) {
        let before = run(&clean, &caps);
        let mut call = clean.clone();
        call.x[3 * 256 + 5] = f32::NAN;
        // Row 1, column 2 of the second factor.
        call.factors[1][17 + 2] = f32::NAN;
        for (n, (z, clean)) in run(&call, &caps).into_iter().zip(&before).enumerate() {
            let depends = n / 272 == 3 || n % 17 == 2;
            assert_eq!(z.is_nan(), depends, "element {n}");
            assert!(depends || z == *clean, "element {n}");
        }
    }
}
