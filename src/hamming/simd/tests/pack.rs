//! Bits of vectors.

use super::{Random, options};
use crate::hamming::{
    Compare,
    bits::words,
    simd::{Options, Threshold, pack_bits},
};

/// Numbers around 0, and those that compare strangely.
fn numbers(random: &mut Random, len: usize) -> Vec<f32> {
    let tiny = f32::from_bits(1);
    let special = [
        0.0,
        -0.0,
        f32::NAN,
        -f32::NAN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        tiny,
        -tiny,
        1.0,
        -1.0,
    ];
    let number = |word: u32| match word % 3 {
        0 => special[word as usize / 3 % special.len()],
        _ => word as f32 / 2e9 - 1.0,
    };
    (0..len).map(|_| number(random.next())).collect()
}

#[test]
fn bits_of_vectors() {
    let mut random = Random(10);
    let dims = [
        1, 2, 3, 8, 15, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257, 1000, 1024, 10_000,
    ];
    for dims in dims {
        let x = numbers(&mut random, dims * 9);
        let each = numbers(&mut random, dims);
        for threshold in [0.0, -0.0, 0.25, f32::NAN, f32::INFINITY]
            .map(|t| vec![t; dims])
            .into_iter()
            .chain([each])
        {
            for compare in [Compare::Greater, Compare::GreaterEqual, Compare::Less] {
                let mut expected = vec![0; 9 * words(dims)];
                for (at, x) in x.iter().enumerate() {
                    let (row, i, t) = (at / dims, at % dims, threshold[at % dims]);
                    let bit = match compare {
                        Compare::Greater => *x > t,
                        Compare::GreaterEqual => *x >= t,
                        Compare::Less => *x < t,
                    };
                    expected[row * words(dims) + i / 32] |= u32::from(bit) << (i % 32);
                }
                for options in options() {
                    let packed =
                        pack_bits(&x, dims, Threshold::Each(&threshold), compare, &options)
                            .unwrap();
                    assert_eq!(packed, expected, "dims {dims}, {compare:?}, {options:?}");
                    if threshold
                        .iter()
                        .all(|t| t.to_bits() == threshold[0].to_bits())
                    {
                        let same = Threshold::Same(threshold[0]);
                        assert_eq!(
                            pack_bits(&x, dims, same, compare, &options).unwrap(),
                            expected
                        );
                    }
                }
            }
        }
    }
    let x = [
        0.0,
        -0.0,
        f32::NAN,
        f32::from_bits(1),
        -f32::from_bits(1),
        f32::INFINITY,
    ];
    let pack =
        |compare| pack_bits(&x, 6, Threshold::Same(0.0), compare, &Options::default()).unwrap();
    assert_eq!(pack(Compare::Greater), [0b101000]);
    assert_eq!(pack(Compare::GreaterEqual), [0b101011]);
    assert_eq!(pack(Compare::Less), [0b010000]);
}
