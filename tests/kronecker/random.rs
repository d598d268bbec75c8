//! Random numbers: device and host agree bit for bit, wherever a tensor is cut.

use subquad::{
    Error,
    gpu::Caps,
    random::{self, Draw, Random, threefry},
};

use crate::{cases::hold, device::gpu};

#[test]
fn the_adapter_draws_what_the_host_draws() {
    hold("random");
    let random = Random::new(0xfeed_0000_0007).fork(3);
    let first = (5 << 32) - 300;
    let mut words = gpu().zeros::<u32>(700).unwrap();
    random::fill(gpu(), &random, Draw::Words, first, &mut words).unwrap();
    let expected: Vec<u32> = (first..first + 700).map(|at| random.word(at)).collect();
    assert_eq!(words.download().unwrap(), expected);
    let mut numbers = gpu().zeros::<f32>(700).unwrap();
    random::fill(gpu(), &random, Draw::Uniform, first, &mut numbers).unwrap();
    for (number, at) in numbers.download().unwrap().into_iter().zip(first..) {
        assert_eq!(f64::from(number), random.uniform(at));
    }
}

#[test]
fn numbers_do_not_depend_on_how_the_tensor_is_cut() {
    let random = Random::new(1);
    let caps = gpu().caps().clone();
    let small = Caps {
        binding_bytes: 1024,
        ..caps.clone()
    };
    let mut found = Vec::new();
    for caps in [caps, small] {
        let plan = random::plan(&random, Draw::Signs, 0, 5000, &caps).unwrap();
        let mut numbers = gpu().zeros::<f32>(5000).unwrap();
        let mut pass = gpu().pass("signs");
        pass.run(&plan, &[], &mut [numbers.view_mut()]).unwrap();
        pass.submit().unwrap();
        found.push((plan.steps.len(), numbers.download().unwrap()));
    }
    assert!(found[1].0 > found[0].0);
    assert_eq!(found[0].1, found[1].1);
}

#[test]
fn wrong_arguments_are_refused_in_a_sentence() {
    let random = Random::new(1);
    let mut numbers = gpu().zeros::<f32>(4).unwrap();
    let says = |result: Result<(), Error>, sentence: &str| {
        assert_eq!(result.unwrap_err().to_string(), sentence);
    };
    says(
        random::fill(gpu(), &random, Draw::Words, 0, &mut numbers),
        "random: numbers must be of type u32 for this draw, got f32",
    );
    says(
        random::fill(gpu(), &random, Draw::Signs, u64::MAX << 32, &mut numbers),
        "random: first must be such that no element reaches 2^64 - 2^32, got 18446744069414584320 with 4 numbers",
    );
}

#[test]
fn known_answers() {
    let answers = [
        ([0; 2], [0; 2], [0x6b20_0159, 0x99ba_4efe]),
        ([u32::MAX; 2], [u32::MAX; 2], [0x1cb9_96fc, 0xbb00_2be7]),
        (
            [0x1319_8a2e, 0x0370_7344],
            [0x243f_6a88, 0x85a3_08d3],
            [0xc492_3a9c, 0x483d_f7a0],
        ),
    ];
    for (key, counter, answer) in answers {
        assert_eq!(threefry(key, counter), answer);
    }
    assert_eq!(Random::new(0).pair(0), [0x6b20_0159, 0x99ba_4efe]);
    let random = Random::new(0x0370_7344_1319_8a2e);
    assert_eq!(random.pair(0x85a3_08d3_243f_6a88)[1], 0x483d_f7a0);
}

#[test]
fn numbers_have_the_moments_of_their_laws() {
    let (random, n) = (Random::new(3), 40_000u64);
    let mean = |of: &dyn Fn(u64) -> f64| (0..n).map(of).sum::<f64>() / n as f64;
    // Five standard errors of each mean.
    let near = |mean: f64, expected: f64, variance: f64| {
        let bound = 5.0 * (variance / n as f64).sqrt();
        assert!((mean - expected).abs() < bound, "{mean} {expected}");
    };
    near(mean(&|i| random.uniform(i)), 0.5, 1.0 / 12.0);
    near(mean(&|i| random.sign(i)), 0.0, 1.0);
    near(mean(&|i| random.sign(i) * random.sign(i + 1)), 0.0, 1.0);
    near(mean(&|i| random.sign(i) * random.fork(1).sign(i)), 0.0, 1.0);
    near(mean(&|i| random.normal(i)), 0.0, 1.0);
    near(mean(&|i| random.normal(i).powi(2)), 1.0, 2.0);
    near(mean(&|i| random.normal(i).powi(4)), 3.0, 96.0);
    near(mean(&|i| random.normals(i).iter().product()), 0.0, 1.0);
    near(mean(&|i| f64::from(random.below(i, 7))), 3.0, 4.0);
    for degrees in [1u32, 2, 3, 64] {
        let d = f64::from(degrees);
        near(mean(&|i| random.chi(i as u32, degrees).powi(2)), d, 2.0 * d);
        // The fourth moment d (d + 2), whose variance is that of a product of four such sums less its square.
        let fourth = d * (d + 2.0);
        let eighth = fourth * (d + 4.0) * (d + 6.0);
        let variance = eighth - fourth * fourth;
        near(
            mean(&|i| random.chi(i as u32, degrees).powi(4)),
            fourth,
            variance,
        );
    }
}

#[test]
fn permutations_hold_every_number_once_and_each_place_is_as_likely() {
    let mut order = Random::new(9).permutation(1000);
    assert_ne!(order, (0..1000).collect::<Vec<_>>());
    order.sort_unstable();
    assert_eq!(order, (0..1000).collect::<Vec<_>>());
    assert!(Random::new(9).permutation(0).is_empty());
    let mut counts = [[0u32; 4]; 4];
    for seed in 0..6000 {
        for (counts, element) in counts.iter_mut().zip(Random::new(seed).permutation(4)) {
            counts[element as usize] += 1;
        }
    }
    // 1500 each, with a deviation of 33.5.
    for count in counts.as_flattened() {
        assert!(count.abs_diff(1500) < 168, "{counts:?}");
    }
}
