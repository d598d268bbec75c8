//! Learning codes: they are those that hashing gives, they fit better than random ones, and equal seeds agree.

use subquad::{
    Error,
    gpu::Dtype,
    hamming::{
        cpu::kernel_hash as cpu,
        kernel_hash::Sigma,
        ksh_fit,
        ksh_fit::{Accept, Fit, Options, Shape, Supervision},
    },
};

use crate::ecoformer::values;

const SHAPE: Shape = Shape {
    batch: 2,
    heads: 3,
    tokens: 40,
    channels: 8,
};

fn options() -> Options {
    Options {
        bits: 8,
        anchors: 6,
        pairs: 4,
        rate: 0.02,
        ..Options::default()
    }
}

/// Tokens in four groups, so that there is something to learn.
fn tokens() -> Vec<f32> {
    let centres = values(4 * SHAPE.channels, 90);
    let noise = values(SHAPE.x_len(), 91);
    let each = noise.iter().enumerate();
    each.map(|(n, x)| {
        let (row, channel) = (n / SHAPE.channels, n % SHAPE.channels);
        (centres[row * 7 % 4 * SHAPE.channels + channel] + 0.3 * x) as f32
    })
    .collect()
}

fn fit(options: &Options, supervision: Supervision<'_>) -> Fit {
    let mut heard = 0;
    let fit = ksh_fit(&SHAPE, options, &tokens(), supervision, |number, _| {
        assert_eq!(number, heard);
        heard += 1;
    })
    .unwrap();
    assert_eq!(heard, options.bits);
    fit
}

#[test]
fn no_bit_is_worse_than_the_random_one_it_started_from() {
    for accept in [Accept::PerHead, Accept::Global] {
        let options = Options {
            accept,
            ..options()
        };
        let fit = fit(&options, Supervision::Inputs);
        let mut kept = 0;
        for bit in &fit.bits {
            let losses = bit.losses();
            match accept {
                Accept::PerHead => {
                    assert!(losses.iter().zip(&bit.start).all(|(a, b)| a <= b));
                }
                Accept::Global => {
                    assert!(losses.iter().sum::<i64>() <= bit.start.iter().sum());
                    assert!(bit.kept.iter().all(|kept| *kept == bit.kept[0]));
                }
            }
            kept += bit.kept.iter().filter(|kept| **kept).count();
        }
        assert!(kept > 0, "nothing was learnt");
    }
}

#[test]
fn learnt_codes_fit_better_than_random_ones_and_are_those_of_hashing() {
    let x = tokens();
    let wide: Vec<f64> = x.iter().map(|x| f64::from(*x)).collect();
    // Each sequence's groups as targets: residue = sum over pairs of (b S0 - sum of products of signs)².
    let group = |row: usize| row * 7 % 4;
    let (n, bits) = (SHAPE.tokens, 8i64);
    let mut maps = Vec::new();
    for row in 0..SHAPE.batch * SHAPE.heads * n {
        let first = row / n * n;
        maps.extend((first..first + n).map(|j| f32::from(u8::from(group(j) == group(row)))));
    }
    let of_codes = |options: &Options| {
        let fit = fit(options, Supervision::Maps(&maps));
        let shape = fit.hash_shape(&SHAPE, options, Dtype::F32);
        let [anchors, mean, weight] = [&fit.anchors, &fit.mean, &fit.weight]
            .map(|x| x.iter().map(|x| f64::from(*x)).collect::<Vec<f64>>());
        let inputs = cpu::Inputs {
            x: &wide,
            anchors: &anchors,
            mean: &mean,
            weight: &weight,
        };
        let codes = cpu::forward(&shape, Sigma::SequenceMean, &inputs)
            .unwrap()
            .words;
        let (mut residue, mut gap) = (0i64, 0i64);
        for head in codes.chunks(n) {
            for (i, a) in head.iter().enumerate() {
                // The first ten of the row's group, and the first ten of the others.
                let [mut near, mut far] = [0; 2];
                for (j, b) in head.iter().enumerate() {
                    let product = bits - 2 * i64::from((a ^ b).count_ones());
                    let same = i % 4 == j % 4;
                    let seen = if same { &mut near } else { &mut far };
                    *seen += 1;
                    let target = match (same, *seen <= 10) {
                        (true, true) => bits,
                        (false, true) => -bits,
                        _ => 0,
                    };
                    residue += (target - product).pow(2);
                    gap += if same { 3 * product } else { -product };
                }
            }
        }
        // What the losses add up to: each product with signs lowers the residue by 2 yᵀ S y - N².
        let rows = (SHAPE.batch * SHAPE.heads * n) as i64;
        let losses: i64 = fit.bits.iter().flat_map(|bit| bit.losses()).sum();
        assert_eq!(
            residue,
            rows * 20 * bits * bits + 2 * losses + bits * rows * n as i64
        );
        (residue, gap)
    };
    let teaching = Options {
        pairs: 10,
        ..options()
    };
    let learnt = of_codes(&teaching);
    let random = of_codes(&Options {
        steps: 0,
        ..teaching
    });
    println!("{learnt:?} {random:?}");
    assert!(10 * learnt.0 < 9 * random.0, "{learnt:?} {random:?}");
    assert!(learnt.1 > random.1, "{learnt:?} {random:?}");
}

#[test]
fn products_and_maps_of_the_same_order_teach_the_same() {
    let (q, k) = (values(SHAPE.x_len(), 92), values(SHAPE.x_len(), 93));
    let [q, k] = [q, k].map(|x| x.iter().map(|x| *x as f32).collect::<Vec<f32>>());
    let size = SHAPE.tokens * SHAPE.channels;
    // Softmax weights: the same order in each row.
    let mut maps = Vec::new();
    for (q, k) in q.chunks(size).zip(k.chunks(size)) {
        for q in q.chunks(SHAPE.channels) {
            let dot = |k: &[f32]| -> f32 { q.iter().zip(k).map(|(a, b)| a * b).sum() };
            maps.extend(k.chunks(SHAPE.channels).map(|k| (0.5 * dot(k)).exp()));
        }
    }
    let width = SHAPE.channels;
    let products = Supervision::Products {
        q: &q,
        k: &k,
        width,
    };
    assert_eq!(
        fit(&options(), products),
        fit(&options(), Supervision::Maps(&maps))
    );
    assert_ne!(
        fit(&options(), products).weight,
        fit(&options(), Supervision::Inputs).weight
    );
}

#[test]
fn equal_seeds_agree_and_others_do_not() {
    let one = || fit(&options(), Supervision::Inputs);
    let [a, b] = [1, 3].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
        pool.build().unwrap().install(one)
    });
    assert_eq!(a, b);
    let other = Options {
        seed: 1,
        ..options()
    };
    assert_ne!(fit(&other, Supervision::Inputs).weight, a.weight);
}

#[test]
fn wrong_arguments_are_named_and_nan_names_its_bit() {
    let x = tokens();
    let refused = |shape: &Shape, options: &Options, supervision| match ksh_fit(
        shape,
        options,
        &x,
        supervision,
        |_, _| {},
    ) {
        Err(Error::Argument { what, .. }) => what,
        other => panic!("{other:?}"),
    };
    let by_inputs = |shape: &Shape, options: &Options| refused(shape, options, Supervision::Inputs);
    let few = Shape { tokens: 7, ..SHAPE };
    assert_eq!(by_inputs(&few, &options()), "tokens");
    let wide = Shape {
        channels: 9,
        ..SHAPE
    };
    assert_eq!(by_inputs(&wide, &options()), "x");
    let none = Shape { heads: 0, ..SHAPE };
    assert_eq!(by_inputs(&none, &options()), "heads");
    type Change = fn(&mut Options);
    let changes: [(&str, Change); 5] = [
        ("bits", |o| o.bits = 0),
        ("anchors", |o| o.anchors = 0),
        ("pairs", |o| o.pairs = 0),
        ("rate", |o| o.rate = f64::NAN),
        ("momentum", |o| o.momentum = 1.5),
    ];
    for (name, change) in changes {
        let mut options = options();
        change(&mut options);
        assert_eq!(by_inputs(&SHAPE, &options), name);
    }
    assert_eq!(
        refused(&SHAPE, &options(), Supervision::Maps(&[0.0])),
        "maps"
    );
    let mut broken = x.clone();
    broken[5] = f32::NAN;
    let failed = ksh_fit(&SHAPE, &options(), &broken, Supervision::Inputs, |_, _| {});
    match failed {
        Err(Error::Numeric { what, .. }) => assert!(what.contains("bit 0"), "{what}"),
        other => panic!("{other:?}"),
    }
}
