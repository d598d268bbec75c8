//! Packing against comparisons of f64, at the values where float comparisons of devices differ.

use half::{bf16, f16};
use subquad::{
    Error, Tensor,
    gpu::{Caps, Dtype},
    hamming::{
        cpu::pack as oracle,
        pack::{Compare, PackShape, Threshold, pack_bits, plan_pack, popcounts, unpack_bits},
        words,
    },
};

use crate::{
    device::{Number, gpu},
    random_words,
};

const COMPARES: [Compare; 3] = [Compare::Greater, Compare::GreaterEqual, Compare::Less];

/// Values at which comparisons go wrong, over and over.
fn poison<T: Number>(len: usize, tiny: f64) -> Vec<T> {
    let values = [
        0.0,
        -0.0,
        f64::NAN,
        f64::INFINITY,
        f64::NEG_INFINITY,
        tiny,
        -tiny,
        2.0 * tiny,
        1.0,
        -1.0,
        0.5,
    ];
    (0..len).map(|n| T::from(values[n * 7 % 11])).collect()
}

fn agrees<T: Number>(rows: usize, dims: usize, tiny: f64, threshold: Option<&[f32]>) {
    let x: Vec<T> = poison(rows * dims, tiny);
    let shape = PackShape {
        rows,
        dims,
        dtype: T::DTYPE,
    };
    let wide: Vec<f64> = x.iter().map(|x| x.to()).collect();
    let x = gpu().upload(&x).unwrap();
    for compare in COMPARES {
        // Filled with ones: pads must become zeros.
        let mut packed = gpu().upload(&vec![u32::MAX; rows * words(dims)]).unwrap();
        let (device, limits) = match threshold {
            Some(row) => {
                let tensor: Tensor<f32> = gpu().upload(row).unwrap();
                let all = row.iter().map(|t| f64::from(*t)).collect();
                (Some(tensor), all)
            }
            None => (None, vec![tiny as f32 as f64]),
        };
        let given = match &device {
            Some(tensor) => Threshold::Row(tensor),
            None => Threshold::Scalar(tiny as f32),
        };
        pack_bits(gpu(), &shape, compare, &x, given, &mut packed).unwrap();
        let expected = oracle::pack_bits(&wide, dims, compare, &limits);
        assert_eq!(packed.download().unwrap(), expected, "{dims} {compare:?}");
    }
}

#[test]
fn bits_are_those_of_exact_comparisons() {
    for dims in [
        1, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257, 1000, 1024, 10_000,
    ] {
        agrees::<f32>(3, dims, f64::from(f32::from_bits(1)), None);
    }
    // Larq's grid.
    for rows in [1, 2, 3, 8, 10, 15, 64] {
        for dims in [1, 3, 16, 32, 33, 63, 64, 128] {
            agrees::<f32>(rows, dims, f64::from(f32::MIN_POSITIVE), None);
        }
    }
    for dims in [1, 33, 100] {
        agrees::<f16>(5, dims, f16::from_bits(1).to_f64(), None);
        agrees::<f16>(5, dims, f16::from_bits(0x3ff).to_f64(), None);
        agrees::<bf16>(5, dims, bf16::from_bits(1).to_f64(), None);
        let row: Vec<f32> = poison(dims, f64::from(f32::from_bits(3)));
        agrees::<f32>(5, dims, f64::from(f32::from_bits(3)), Some(&row));
        agrees::<f16>(5, dims, f16::from_bits(7).to_f64(), Some(&row));
    }
}

#[test]
fn unpacking_packing_returns_the_code() {
    for bits in [1, 32, 45, 300] {
        let packed = random_words("unpack", 7 * words(bits));
        let tensor = gpu().upload(&packed).unwrap();
        let mut x = gpu().zeros::<f32>(7 * bits).unwrap();
        unpack_bits(gpu(), [7, bits], &tensor, [-1.0, 1.0], &mut x).unwrap();
        let shape = PackShape {
            rows: 7,
            dims: bits,
            dtype: Dtype::F32,
        };
        let mut again = gpu().zeros::<u32>(packed.len()).unwrap();
        let zero = Threshold::Scalar(0.0);
        pack_bits(gpu(), &shape, Compare::Greater, &x, zero, &mut again).unwrap();
        let clean: Vec<u32> = packed
            .chunks(words(bits))
            .flat_map(|code| oracle::without_pad(code, bits))
            .collect();
        assert_eq!(again.download().unwrap(), clean);
        let mut counts = gpu().zeros::<u32>(7).unwrap();
        popcounts(gpu(), [7, bits], &tensor, &mut counts).unwrap();
        assert_eq!(counts.download().unwrap(), oracle::popcounts(&packed, bits));
    }
}

#[test]
fn packing_is_cut_to_bindings() {
    let caps = Caps {
        binding_bytes: 4096,
        ..Caps::lavapipe()
    };
    let shape = PackShape {
        rows: 100,
        dims: 70,
        dtype: Dtype::F32,
    };
    let plan = plan_pack(&shape, Compare::Greater, Some(0.0), &caps).unwrap();
    assert!(plan.steps.len() > 6);
    let x: Vec<f32> = poison(7000, 1e-3);
    let wide: Vec<f64> = x.iter().map(|x| f64::from(*x)).collect();
    let x = gpu().upload(&x).unwrap();
    let mut packed = gpu().upload(&[u32::MAX; 300]).unwrap();
    let mut pass = gpu().pass("test");
    pass.run(&plan, &[x.view()], &mut [packed.view_mut()])
        .unwrap();
    pass.submit().unwrap();
    let expected = oracle::pack_bits(&wide, 70, Compare::Greater, &[0.0]);
    assert_eq!(packed.download().unwrap(), expected);
}

#[test]
fn wrong_arguments_are_named() {
    let x = gpu().zeros::<f32>(10).unwrap();
    let mut packed = gpu().zeros::<u32>(2).unwrap();
    let mut call = |rows, dims, dtype, row: Option<&Tensor<f32>>| {
        let shape = PackShape { rows, dims, dtype };
        let threshold = row.map_or(Threshold::Scalar(0.0), Threshold::Row);
        pack_bits(gpu(), &shape, Compare::Greater, &x, threshold, &mut packed)
            .unwrap_err()
            .to_string()
    };
    assert_eq!(
        call(2, 0, Dtype::F32, None),
        "pack_bits: bits must be 1 to 65536, got 0"
    );
    assert_eq!(
        call(2, 6, Dtype::F32, None),
        "pack_bits: x must be 12 elements for this shape, got 10"
    );
    assert_eq!(
        call(1, 10, Dtype::F32, None),
        "pack_bits: words must be 1 elements for this shape, got 2"
    );
    assert_eq!(
        call(2, 5, Dtype::U32, None),
        "pack_bits: dtype must be f32, f16 or bf16, got u32"
    );
    assert_eq!(
        call(2, 5, Dtype::F32, Some(&x)),
        "pack_bits: threshold must be 5 elements for this shape, got 10"
    );
    let wide = plan_pack(
        &PackShape {
            rows: 1,
            dims: 65_536,
            dtype: Dtype::F32,
        },
        Compare::Less,
        None,
        &Caps {
            binding_bytes: 4096,
            ..Caps::lavapipe()
        },
    );
    assert!(matches!(wide, Err(Error::Limit { .. })), "{wide:?}");
}
