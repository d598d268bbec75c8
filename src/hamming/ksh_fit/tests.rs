//! What is not public: residues, gradients, random numbers, and one result that must not change.

use super::{sample::Sample, *};

const SHAPE: Shape = Shape {
    batch: 2,
    heads: 2,
    tokens: 12,
    channels: 5,
};

fn options() -> Options {
    Options {
        bits: 6,
        anchors: 4,
        pairs: 3,
        rate: 0.05,
        ..Options::default()
    }
}

fn learner() -> Learner {
    let mut random = Random::new(7);
    let x: Vec<f32> = (0..SHAPE.x_len()).map(|_| random.normal() as f32).collect();
    let positions = random.distinct(4, SHAPE.tokens);
    Learner::new(&SHAPE, &options(), &x, Supervision::Inputs, &positions, 1).0
}

#[test]
fn what_is_left_is_bits_times_the_targets_less_every_product_of_signs() {
    let mut learner = learner();
    let mut random = Random::new(8);
    let weights: Vec<Vec<f64>> = (0..3)
        .map(|_| (0..4).map(|_| random.normal()).collect())
        .collect();
    let start: Vec<i64> = all_left(&learner.samples[0]);
    let mut sums = vec![0i64; start.len()];
    for a in weights {
        let y = learner.samples[0].signs(&a);
        // The exact score is that of the whole matrix, and so is its product with signs.
        let left = all_left(&learner.samples[0]);
        let n = SHAPE.tokens;
        let whole: i64 = (0..n * n)
            .map(|at| left[at] * i64::from(y[at / n] * y[at % n]))
            .sum();
        assert_eq!(learner.samples[0].score(&y), whole);
        let wide: Vec<f64> = y.iter().map(|y| f64::from(*y)).collect();
        let both = learner.samples[0].both_ways(&wide);
        for (i, both) in both.iter().enumerate() {
            let expected: i64 = (0..n)
                .map(|j| (left[i * n + j] + left[j * n + i]) * i64::from(y[j]))
                .sum();
            assert_eq!(*both, expected as f64);
        }
        for (at, sum) in sums.iter_mut().enumerate() {
            *sum += i64::from(y[at / n] * y[at % n]);
        }
        learner.take(a);
    }
    let end = all_left(&learner.samples[0]);
    for ((start, sum), end) in start.iter().zip(&sums).zip(&end) {
        assert_eq!(start - sum, *end);
    }
    assert!(start.iter().all(|x| [-6, 0, 6].contains(x)));
}

fn all_left(sample: &Sample) -> Vec<i64> {
    let n = SHAPE.tokens;
    (0..n * n).map(|at| sample.left(at / n, at % n)).collect()
}

#[test]
fn the_gradient_is_the_slope_of_the_loss() {
    let mut learner = learner();
    let mut random = Random::new(9);
    let mut normals = || -> Vec<f64> { (0..4).map(|_| random.normal()).collect() };
    learner.take(normals());
    let mut a = normals();
    let gradient = learner.gradient(&a);
    let loss = |learner: &Learner, a: &[f64]| {
        let scores = learner.samples.iter().map(|sample| sample.soft_score(a));
        -learner.share * scores.sum::<f64>()
    };
    for (n, slope) in gradient.iter().enumerate() {
        let x = a[n];
        let step = 1e-5;
        a[n] = x + step;
        let up = loss(&learner, &a);
        a[n] = x - step;
        let down = loss(&learner, &a);
        a[n] = x;
        assert!(((up - down) / (2.0 * step) - slope).abs() < 1e-9, "{n}");
    }
    assert!(gradient.iter().any(|g| g.abs() > 1e-4));
}

#[test]
fn targets_take_the_largest_then_the_smallest_the_first_of_equal_ones() {
    let row = [2.0, 5.0, 5.0, 0.0, 5.0, 0.0, 0.0, 1.0];
    let targets = sample::by_rows(&row, 8, 2);
    assert_eq!(targets.rows, [[(1, 1), (2, 1), (3, -1), (5, -1)]]);
    // Where all are equal, what is smallest comes last and stays.
    let targets = sample::by_rows(&[1.0; 4], 4, 2);
    assert_eq!(targets.rows, [[(0, -1), (1, -1)]]);
}

#[test]
fn random_numbers_are_distinct_and_normal() {
    let mut random = Random::new(3);
    for (count, n) in [(0, 3), (5, 5), (25, 98)] {
        let mut all = random.distinct(count, n);
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
        assert!(all.iter().all(|x| *x < n));
    }
    let normals: Vec<f64> = (0..20_000).map(|_| random.normal()).collect();
    let moment = |p: i32| normals.iter().map(|x| x.powi(p)).sum::<f64>() / 20_000.0;
    assert!(moment(1).abs() < 0.03 && (moment(2) - 1.0).abs() < 0.05);
    assert!((moment(4) - 3.0).abs() < 0.3);
    // SplitMix64 from 0: published values.
    let mut random = Random::new(0);
    assert_eq!(random.next(), 0xe220_a839_7b1d_cdaf);
    assert_eq!(random.next(), 0x6e78_9e6a_a1b9_65f4);
}

#[test]
fn one_result_does_not_change() {
    let mut random = Random::new(11);
    let x: Vec<f32> = (0..SHAPE.x_len()).map(|_| random.normal() as f32).collect();
    let fit = ksh_fit(&SHAPE, &options(), &x, Supervision::Inputs, |_, _| {}).unwrap();
    let losses: Vec<i64> = fit.bits.iter().flat_map(Bit::losses).collect();
    assert_eq!(losses, GOLDEN, "{fit:?}");
    assert!((f64::from(fit.sigma) - SIGMA).abs() < 1e-6, "{}", fit.sigma);
}

/// Losses of the bits of both heads, and σ, by a program of its own that forms S.
const GOLDEN: [i64; 12] = [
    -444, -360, -488, -320, -232, -408, -344, -48, 60, -304, -196, -16,
];
const SIGMA: f64 = 1.901_069_702_4;
