//! Transforms of modes, Tucker and canonical polyadic products: definitions, inverses, adjoints, cuts and refusals.

use subquad::{
    Error, Tensor,
    case::Numbers,
    gpu::Caps,
    kronecker::{
        self,
        cpu::multilinear as cpu,
        dct::{self, Form, Kind},
        khatri_rao::{self, Shape},
        mttkrp,
        tucker::{self, Target},
    },
};

use crate::{cases::hold, device::gpu, devices::devices, effort::sample};

#[test]
fn cosine_and_sine_transforms_are_the_references() {
    hold("dct");
}

#[test]
fn products_with_factors_of_modes_are_the_references() {
    hold("tucker");
    hold("khatri_rao");
    hold("mttkrp");
}

fn numbers(name: &str, len: usize) -> Vec<f32> {
    let mut numbers = Numbers::of(name);
    (0..len).map(|_| numbers.signed() as f32).collect()
}

fn upload(name: &str, len: usize) -> Tensor<f32> {
    gpu().upload(&numbers(name, len)).unwrap()
}

fn wide(x: &Tensor<f32>) -> Vec<f64> {
    x.download().unwrap().into_iter().map(f64::from).collect()
}

fn dot(a: &Tensor<f32>, b: &Tensor<f32>) -> f64 {
    wide(a).iter().zip(wide(b)).map(|(a, b)| a * b).sum()
}

fn near(left: f64, right: f64) {
    let bound = 2e-5 * left.abs().max(1.0);
    assert!((left - right).abs() <= bound, "{left} {right}");
}

#[test]
fn matrices_of_transforms_are_orthonormal_and_each_others_transposes() {
    for kind in [Kind::Dct2, Kind::Dct3, Kind::Dst1] {
        for n in [1, 2, 5, 64] {
            let [d, other] = [kind.matrix(n), kind.adjoint().matrix(n)];
            for i in 0..n {
                for j in 0..n {
                    let entry: f64 = (0..n).map(|k| d[i * n + k] * d[j * n + k]).sum();
                    let expected = f64::from(u8::from(i == j));
                    assert!((entry - expected).abs() < 1e-12, "{kind:?} {n}: {entry}");
                    assert!((d[i * n + j] - other[j * n + i]).abs() < 1e-15);
                }
            }
        }
    }
    // A cosine with one and a half turns is one coefficient.
    let d = Kind::Dct2.matrix(8);
    let wave = (0..8).map(|j| (std::f64::consts::PI * 3.0 * (2 * j + 1) as f64 / 16.0).cos());
    let wave: Vec<f64> = wave.collect();
    for k in 0..8 {
        let sum: f64 = (0..8).map(|j| d[k * 8 + j] * wave[j]).sum();
        let expected = if k == 3 { 2.0 } else { 0.0 };
        assert!((sum - expected).abs() < 1e-12);
    }
}

#[test]
fn transforms_come_back_and_keep_lengths() {
    for (sizes, form) in sample([
        (vec![(64, Kind::Dct2), (128, Kind::Dct3)], Form::Fast),
        (vec![(4096, Kind::Dct2)], Form::Auto),
        (vec![(512, Kind::Dct3), (3, Kind::Dct2)], Form::Auto),
        (vec![(63, Kind::Dst1), (63, Kind::Dst1)], Form::Auto),
    ]) {
        let shape = dct::Shape {
            rows: 2,
            modes: sizes,
            form,
        };
        let x = upload("transformed", shape.len());
        let [mut y, mut back] = [0; 2].map(|_| gpu().zeros::<f32>(shape.len()).unwrap());
        kronecker::dct(gpu(), &shape, &x, &mut y).unwrap();
        dct::adjoint(gpu(), &shape, &y, &mut back).unwrap();
        let norm = dot(&x, &x);
        assert!((dot(&y, &y) / norm - 1.0).abs() < 1e-6, "{shape:?}");
        let pairs = wide(&x).into_iter().zip(wide(&back));
        let error: f64 = pairs.map(|(x, back)| (x - back).powi(2)).sum();
        assert!((error / norm).sqrt() < 1e-6, "{shape:?}: {error}");
    }
}

#[test]
fn every_element_of_a_transform_is_within_its_own_bound() {
    for (sizes, form) in sample([
        (vec![(8, Kind::Dct2), (8, Kind::Dct2)], Form::Auto),
        (vec![(63, Kind::Dst1), (5, Kind::Dct3)], Form::Auto),
        (vec![(512, Kind::Dct2)], Form::Dense),
        (vec![(64, Kind::Dct3)], Form::Fast),
        (vec![(4096, Kind::Dct2)], Form::Fast),
    ]) {
        let shape = dct::Shape {
            rows: 2,
            modes: sizes.clone(),
            form,
        };
        let x = upload("bounds", shape.len());
        let entries = wide(&x);
        // Rows through the matrices one mode at a time, of values and of absolute values.
        let through = |x: Vec<f64>, entry: &dyn Fn(f64) -> f64| {
            let (mut y, mut outer) = (x, shape.rows);
            for (n, kind) in &sizes {
                let inner = y.len() / outer / n;
                let d: Vec<f64> = kind.matrix(*n).into_iter().map(entry).collect();
                y = (0..y.len())
                    .map(|at| {
                        let (l, k, r) = (at / inner / n, at / inner % n, at % inner);
                        let terms = (0..*n).map(|j| d[k * n + j] * y[(l * n + j) * inner + r]);
                        terms.sum()
                    })
                    .collect();
                outer *= n;
            }
            y
        };
        let expected = through(entries.clone(), &|d| d);
        let all = through(entries.iter().map(|x| x.abs()).collect(), &f64::abs);
        let bits: f64 = sizes.iter().map(|(n, _)| (*n as f64).log2().ceil()).sum();
        let bound = 2f64.powi(-23) * bits.sqrt();
        for caps in devices() {
            let plan = dct::plan(&shape, &caps).unwrap();
            let mut y = gpu().zeros::<f32>(shape.len()).unwrap();
            let mut pass = gpu().pass("bounds");
            pass.run(&plan, &[x.view()], &mut [y.view_mut()]).unwrap();
            pass.submit().unwrap();
            for (at, ((got, value), size)) in wide(&y).iter().zip(&expected).zip(&all).enumerate() {
                let error = (got - value).abs();
                assert!(
                    error <= bound * size,
                    "{shape:?} at {at}: {got} for {value}"
                );
            }
        }
    }
}

#[test]
fn the_product_that_is_multiplied_by_is_never_formed() {
    // B ⊙ C would be 512 · 512 · 16 numbers; a product with C alone is 3 · 512 · 16.
    let shape = Shape {
        sizes: vec![3, 512, 512],
        rank: 16,
    };
    for caps in Caps::presets() {
        let plan = mttkrp::plan(&shape, 0, &caps).unwrap();
        assert!(
            plan.scratch_bytes() <= 2 * 4 * 3 * 512 * 16,
            "{}: {}",
            caps.name,
            plan.scratch_bytes()
        );
    }
}

#[test]
fn reconstruction_and_projection_are_adjoint() {
    let shape = tucker::Shape {
        rows: 2,
        factors: vec![[12, 3], [7, 4], [9, 2]],
    };
    let factors: Vec<_> = [("u", 36), ("v", 28), ("w", 18)]
        .map(|(name, len)| upload(name, len))
        .into();
    let factors: Vec<_> = factors.iter().collect();
    let (core, x) = (
        upload("core", shape.core_len()),
        upload("x", shape.tensor_len()),
    );
    let mut grown = gpu().zeros::<f32>(shape.tensor_len()).unwrap();
    let mut small = gpu().zeros::<f32>(shape.core_len()).unwrap();
    tucker::reconstruct(gpu(), &shape, &core, &factors, &mut grown).unwrap();
    tucker::project(gpu(), &shape, &x, &factors, &mut small).unwrap();
    near(dot(&grown, &x), dot(&core, &small));
}

#[test]
fn products_with_khatri_rao_products_are_adjoint() {
    let shape = Shape {
        sizes: vec![9, 14, 11],
        rank: 5,
    };
    let factors: Vec<_> = [("a", 45), ("b", 70), ("c", 55)]
        .map(|(name, len)| upload(name, len))
        .into();
    let all: Vec<_> = factors.iter().collect();
    // The product, and its gradient in each factor.
    let y = upload("y", shape.len());
    let mut product = gpu().zeros::<f32>(shape.len()).unwrap();
    kronecker::khatri_rao(gpu(), &shape, &all, &mut product).unwrap();
    let x = upload("x", 9 * 14 * 11);
    let mut tensor = gpu().zeros::<f32>(9 * 14 * 11).unwrap();
    mttkrp::adjoint(gpu(), &shape, &all, &mut tensor).unwrap();
    for mode in 0..3 {
        let mut others = all.clone();
        let own = others.remove(mode);
        let mut gradient = gpu().zeros::<f32>(own.len()).unwrap();
        khatri_rao::adjoint(gpu(), &shape, mode, &y, &others, &mut gradient).unwrap();
        near(dot(&product, &y), dot(own, &gradient));
        let mut sums = gpu().zeros::<f32>(own.len()).unwrap();
        kronecker::mttkrp(gpu(), &shape, mode, &x, &others, &mut sums).unwrap();
        near(dot(&tensor, &x), dot(own, &sums));
    }
}

#[test]
fn sums_do_not_depend_on_how_they_are_cut() {
    let shape = Shape {
        sizes: vec![40, 12, 30],
        rank: 6,
    };
    let x = upload("x", 40 * 12 * 30);
    let factors = [upload("b", 72), upload("c", 180)];
    for caps in devices() {
        let small = Caps {
            binding_bytes: 16 << 10,
            gflops: 1e-2,
            loop_iterations: 64 + 5,
            ..caps.clone()
        };
        let mut found = Vec::new();
        for caps in [&caps, &small] {
            let plan = mttkrp::plan(&shape, 0, caps).unwrap();
            let mut out = gpu().zeros::<f32>(240).unwrap();
            let mut pass = gpu().pass("cut");
            let views = [x.view(), factors[0].view(), factors[1].view()];
            pass.run(&plan, &views, &mut [out.view_mut()]).unwrap();
            pass.submit().unwrap();
            found.push((plan.steps.len(), wide(&out)));
        }
        assert!(found[1].0 > found[0].0 + 2);
        // A product with a matrix may sum in another order where it is cut.
        for (a, b) in found[0].1.iter().zip(&found[1].1) {
            near(*a, *b);
        }
    }
}

#[test]
fn wrong_arguments_are_refused_in_a_sentence() {
    let caps = Caps::webgpu_floor();
    let says = |error: Error, sentence: &str| assert_eq!(error.to_string(), sentence);
    let cosine = |modes: &[(usize, Kind)]| dct::Shape {
        rows: 1,
        modes: modes.to_vec(),
        form: Form::Auto,
    };
    says(
        dct::plan(&cosine(&[]), &caps).unwrap_err(),
        "dct: modes must be 1 to 16 of them, got 0",
    );
    says(
        dct::plan(&cosine(&[(4, Kind::Identity)]), &caps).unwrap_err(),
        "dct: modes must be transformed, one of them at least, got identities alone",
    );
    says(
        dct::plan(&cosine(&[(4, Kind::Dct2), (5000, Kind::Dct2)]), &caps).unwrap_err(),
        "dct: modes[1] must be from 1 to 4096 long, got 5000",
    );
    says(
        dct::plan(&cosine(&[(4096, Kind::Dct2); 3]), &caps).unwrap_err(),
        "dct: rows must be such that there are at most 2^32 - 1 elements, got 1",
    );
    let shape = |sizes: &[usize], rank| Shape {
        sizes: sizes.to_vec(),
        rank,
    };
    says(
        khatri_rao::plan(&shape(&[4], 2), &caps).unwrap_err(),
        "khatri_rao: sizes must be 2 to 64 of them, got 1",
    );
    says(
        khatri_rao::plan(&shape(&[4, 0], 2), &caps).unwrap_err(),
        "khatri_rao: sizes[1] must be at least 1, got 0",
    );
    says(
        mttkrp::plan(&shape(&[4, 5], 0), 0, &caps).unwrap_err(),
        "mttkrp: rank must be at least 1, got 0",
    );
    says(
        mttkrp::plan(&shape(&[4, 5], 2), 2, &caps).unwrap_err(),
        "mttkrp: mode must be one of the 2, counted from 0, got 2",
    );
    says(
        mttkrp::plan(&shape(&[1 << 16, 1 << 16], 2), 0, &caps).unwrap_err(),
        "mttkrp: sizes must be such that there are at most 2^32 - 1 elements, got 8589934592",
    );
    let (x, factor) = (upload("x", 20), upload("b", 9));
    let mut out = gpu().zeros::<f32>(8).unwrap();
    let result = kronecker::mttkrp(gpu(), &shape(&[4, 5], 2), 0, &x, &[&factor], &mut out);
    says(
        result.unwrap_err(),
        "mttkrp: factors[0] must be 10 elements for this shape, got 9",
    );
}

#[test]
fn decompositions_lose_what_they_are_allowed_to() {
    // A tensor of ranks 2, 3, 2 with noise.
    let sizes = [9, 8, 7];
    let whole = tucker::Shape {
        rows: 1,
        factors: vec![[9, 2], [8, 3], [7, 2]],
    };
    let wide = |name: &str, len: usize| -> Vec<f64> {
        numbers(name, len).into_iter().map(f64::from).collect()
    };
    let factors = [wide("u", 18), wide("v", 24), wide("w", 14)];
    let exact = cpu::tucker(&whole, true, &factors, &wide("core", 12)).unwrap();
    let norm = exact.iter().map(|x| x * x).sum::<f64>().sqrt();
    for (noise, tolerance, ranks) in [
        (0.0, 1e-6, [2, 3, 2]),
        (0.0, 1e-12, [2, 3, 2]),
        (1e-4, 1e-2, [2, 3, 2]),
        (1e-4, 1e-9, [9, 8, 7]),
    ] {
        let noisy = exact.iter().zip(wide("noise", 504));
        let x: Vec<f64> = noisy.map(|(x, n)| x + noise * n).collect();
        let target = Target::Tolerance(tolerance);
        let found = tucker::st_hosvd(&sizes, &x, &target).unwrap();
        assert_eq!(found.ranks, ranks, "{noise} {tolerance}");
        let shape = tucker::Shape {
            rows: 1,
            factors: sizes.iter().zip(ranks).map(|(n, r)| [*n, r]).collect(),
        };
        let back = cpu::tucker(&shape, true, &found.factors, &found.core).unwrap();
        let error = back
            .iter()
            .zip(&x)
            .map(|(a, b)| (a - b).powi(2))
            .sum::<f64>();
        assert!(error.sqrt() <= tolerance * norm * 1.01 + 1e-12 * norm);
        assert!((error.sqrt() / norm - found.lost).abs() <= 0.01 * found.lost + 1e-7);
    }
    let ranks = Target::Ranks(vec![1, 20, 2]);
    assert_eq!(
        tucker::st_hosvd(&sizes, &exact, &ranks).unwrap().ranks,
        [1, 8, 2]
    );
    let refused = tucker::st_hosvd(&sizes, &exact, &Target::Tolerance(0.0));
    assert_eq!(
        refused.unwrap_err().to_string(),
        "tucker: tolerance must be more than 0 and less than 1, got 0"
    );
}
