//! Linear tensor attention: the reference against masked sums over all combinations of keys, the adapter against the reference.

use serde_json::Map;
use subquad::{
    Error, Tensor,
    case::{Case, Numbers, judge, run},
    gpu::{Caps, Dtype},
    kronecker::tensor_linear::{self, Gradients, Inputs, Mask, Options, Shape, cpu},
    linear::{self, FeatureMap, Layout},
};

use crate::{cases::hold_on, device::gpu, devices::devices};

/// By plans that the device's own choice is not among.
#[test]
fn other_plans_give_what_the_reference_gives() {
    hold_on("tensor_linear_attention", |name| {
        let [caps, other] = devices();
        // Loops so short that columns are taken a few at a time.
        let short = Caps {
            loop_iterations: 4096 + 500,
            ..caps
        };
        // Software adapters take long to compile kernels of causal attention, those for GPUs longest: one case must do.
        match name.trim_start_matches("tensor_linear_") {
            "causal" => vec![other, short],
            "windows" | "causal_three_sets" => vec![short],
            name if name.starts_with("full") => vec![other],
            _ => Vec::new(),
        }
    });
}

#[test]
fn the_case_file_holds() {
    let file = "../shared/cases/kronecker/tensor_linear.safetensors";
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    if !path.exists() {
        println!("skipped: no {file}");
        return;
    }
    let case = Case::read(&path, None, &Map::new()).unwrap();
    let problem = case.bind().unwrap();
    for caps in devices() {
        for plan in problem.plans(&caps, crate::effort::thorough()).unwrap() {
            let arrays = run(gpu(), problem.as_ref(), &plan, false).unwrap();
            for (output, array) in problem.outputs().iter().zip(arrays) {
                let expected = case.expectation(output).unwrap().values();
                let verdict = judge(output, &array, &expected, None);
                assert!(verdict.holds(), "{}: {verdict:?}", output.name);
            }
        }
    }
}

fn values(numbers: &mut Numbers, len: usize) -> Vec<f64> {
    (0..len)
        .map(|_| f64::from(numbers.signed() as f32))
        .collect()
}

fn made(name: &str, shape: &Shape) -> cpu::Inputs {
    let mut numbers = Numbers::of(name);
    let sets = 0..shape.sets();
    cpu::Inputs {
        q: values(&mut numbers, shape.query_rows() * shape.key),
        k: sets
            .clone()
            .map(|set| values(&mut numbers, shape.key_rows(set) * shape.key))
            .collect(),
        v: sets
            .map(|set| values(&mut numbers, shape.key_rows(set) * shape.value))
            .collect(),
    }
}

fn shape(keys: &[usize], queries: usize, [heads, kv_heads]: [usize; 2]) -> Shape {
    Shape {
        batch: 2,
        heads,
        kv_heads,
        queries,
        keys: keys.to_vec(),
        key: 3,
        value: 2,
        dtype: Dtype::F32,
    }
}

/// Shapes and masks of orders 1 to 3, with queries fewer than keys, groups, and windows that are no multiples of anything.
fn forms() -> Vec<(Shape, Mask)> {
    vec![
        (shape(&[7], 5, [2, 1]), Mask::Full),
        (shape(&[7], 5, [2, 2]), Mask::Causal),
        (shape(&[9], 9, [1, 1]), Mask::Window(vec![3])),
        (shape(&[6, 4], 5, [4, 2]), Mask::Full),
        (shape(&[6, 6], 4, [2, 1]), Mask::Causal),
        (shape(&[9, 9], 9, [2, 2]), Mask::Window(vec![2, 5])),
        (shape(&[8, 8], 6, [2, 1]), Mask::Window(vec![20, 3])),
        (shape(&[3, 4, 5], 4, [2, 2]), Mask::Full),
        (shape(&[6, 6, 6], 6, [2, 1]), Mask::Causal),
        (shape(&[6, 6, 6], 5, [1, 1]), Mask::Window(vec![1, 4, 2])),
    ]
}

fn masked(mask: Mask, map: FeatureMap, normalize: Option<f32>) -> Options {
    Options {
        mask,
        feature_map: map,
        normalize,
        ..Options::new(0.7)
    }
}

/// Every combination of one key of each set, in which query i is allowed to see them all.
fn combinations(shape: &Shape, mask: &Mask, i: usize) -> Vec<Vec<usize>> {
    let mut all = vec![Vec::new()];
    for (set, keys) in shape.keys.iter().enumerate() {
        let place = i + keys - shape.queries.min(*keys);
        let allowed = |j: usize| match mask {
            Mask::Full => true,
            Mask::Causal => j <= place,
            Mask::Window(windows) => j <= place && place < j + windows[set],
        };
        all = all
            .iter()
            .flat_map(|some: &Vec<usize>| {
                let more = (0..*keys).filter(|j| allowed(*j));
                more.map(|j| [&some[..], &[j]].concat())
            })
            .collect();
    }
    all
}

#[test]
fn the_reference_is_the_masked_sum_over_all_combinations() {
    for (n, (shape, mask)) in forms().into_iter().enumerate() {
        let inputs = made("sum", &shape);
        for (map, normalize) in [(FeatureMap::Identity, None), (FeatureMap::Relu2, Some(0.1))] {
            let options = masked(mask.clone(), map, normalize);
            let found = cpu::forward(&shape, &options, &inputs).unwrap();
            let phi = |x: &f64| match map {
                FeatureMap::Relu2 => x.max(0.0).powi(2),
                _ => *x,
            };
            for row in 0..shape.query_rows() {
                let (query_head, i) = (row / shape.queries, row % shape.queries);
                let head = query_head / shape.group();
                let mut sum = vec![0.0; shape.value];
                let mut den = 0.0;
                for some in combinations(&shape, &mask, i) {
                    let key = |set: usize| head * shape.keys[set] + some[set];
                    let mut a: Vec<f64> = inputs.q[row * 3..][..3].iter().map(phi).collect();
                    let mut v = [1.0, 1.0];
                    for set in 0..shape.sets() {
                        for (d, a) in a.iter_mut().enumerate() {
                            *a *= phi(&inputs.k[set][key(set) * 3 + d]);
                        }
                        for (c, v) in v.iter_mut().enumerate() {
                            *v *= inputs.v[set][key(set) * 2 + c];
                        }
                    }
                    let weight = f64::from(0.7f32) * a.iter().sum::<f64>();
                    den += weight;
                    sum.iter_mut()
                        .zip(v)
                        .for_each(|(sum, v)| *sum += weight * v);
                }
                for (c, sum) in sum.iter().enumerate() {
                    let expected = match normalize {
                        Some(eps) => sum / (den + f64::from(eps)),
                        None => *sum,
                    };
                    let got = found.o[row * 2 + c];
                    assert!((got - expected).abs() < 1e-11, "form {n}: {got} {expected}");
                }
            }
        }
    }
}

#[test]
fn one_key_set_is_linear_attention() {
    for causal in [false, true] {
        let shape = shape(&[9], 9, [4, 2]);
        let inputs = made("one", &shape);
        let mask = if causal { Mask::Causal } else { Mask::Full };
        let options = masked(mask, FeatureMap::Elu1, Some(0.01));
        let found = cpu::forward(&shape, &options, &inputs).unwrap();
        let other = linear::Shape {
            batch: 2,
            tokens: 9,
            heads: 4,
            kv_heads: 2,
            key: 3,
            value: 2,
            layout: Layout::Bhtd,
            dtype: Dtype::F32,
        };
        let options = linear::Options {
            causal,
            feature_map: FeatureMap::Elu1,
            normalize: Some(0.01),
            scale: 0.7,
            ..linear::Options::plain()
        };
        let given = linear::cpu::Inputs::new(&inputs.q, &inputs.k[0], &inputs.v[0]);
        let expected = linear::cpu::forward(&other, &options, &given).unwrap().o;
        for (got, expected) in found.o.iter().zip(expected) {
            assert!((got - expected).abs() < 1e-12, "{got} {expected}");
        }
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[test]
fn gradients_are_those_of_differences() {
    for (n, (shape, mask)) in forms().into_iter().enumerate() {
        let options = masked(mask, FeatureMap::Elu1, Some(0.1));
        let inputs = made("differences", &shape);
        let grad = values(&mut Numbers::of("grad"), shape.query_rows() * shape.value);
        let slopes = cpu::backward(&shape, &options, &inputs, &grad).unwrap();
        let toward = made("toward", &shape);
        let moved = |step: f64| {
            let along = |x: &[f64], d: &[f64]| -> Vec<f64> {
                x.iter().zip(d).map(|(x, d)| x + step * d).collect()
            };
            let each = |x: &[Vec<f64>], d: &[Vec<f64>]| {
                x.iter().zip(d).map(|(x, d)| along(x, d)).collect()
            };
            let inputs = cpu::Inputs {
                q: along(&inputs.q, &toward.q),
                k: each(&inputs.k, &toward.k),
                v: each(&inputs.v, &toward.v),
            };
            dot(&cpu::forward(&shape, &options, &inputs).unwrap().o, &grad)
        };
        let difference = (moved(1e-5) - moved(-1e-5)) / 2e-5;
        let sets = slopes
            .k
            .iter()
            .zip(&toward.k)
            .chain(slopes.v.iter().zip(&toward.v));
        let slope = dot(&slopes.q, &toward.q) + sets.map(|(a, b)| dot(a, b)).sum::<f64>();
        let near = (difference - slope).abs() <= 1e-6 * (1.0 + slope.abs());
        assert!(near, "form {n}: {difference} {slope}");
    }
}

/// Tensors on the device.
struct Uploaded {
    q: Tensor<f32>,
    k: Vec<Tensor<f32>>,
    v: Vec<Tensor<f32>>,
}

fn upload(inputs: &cpu::Inputs) -> Uploaded {
    let of = |x: &Vec<f64>| {
        let x: Vec<f32> = x.iter().map(|x| *x as f32).collect();
        gpu().upload(&x).unwrap()
    };
    Uploaded {
        q: of(&inputs.q),
        k: inputs.k.iter().map(of).collect(),
        v: inputs.v.iter().map(of).collect(),
    }
}

fn forward(shape: &Shape, options: &Options, inputs: &cpu::Inputs) -> Vec<f32> {
    let given = upload(inputs);
    let (k, v): (Vec<_>, Vec<_>) = given.k.iter().zip(&given.v).unzip();
    let inputs = Inputs {
        q: &given.q,
        k: &k,
        v: &v,
    };
    let mut o = gpu()
        .zeros::<f32>(shape.query_rows() * shape.value)
        .unwrap();
    tensor_linear::forward(gpu(), shape, options, &inputs, &mut o).unwrap();
    o.download().unwrap()
}

/// A sequence long enough for several runs of chunks.
fn long(mask: Mask) -> (Shape, Options, cpu::Inputs) {
    let mut shape = shape(&[90, 90], 90, [2, 1]);
    (shape.key, shape.value) = (5, 6);
    let inputs = made("long", &shape);
    (shape, masked(mask, FeatureMap::Elu1, Some(0.0)), inputs)
}

#[test]
fn outputs_ignore_later_tokens() {
    for mask in [
        Mask::Causal,
        Mask::Window(vec![16, 24]),
        Mask::Window(vec![3, 200]),
    ] {
        let (shape, options, inputs) = long(mask);
        let before = forward(&shape, &options, &inputs);
        let mut changed = inputs.clone();
        let from = 41;
        for (tensors, width) in [(&mut changed.k, shape.key), (&mut changed.v, shape.value)] {
            for head in tensors
                .iter_mut()
                .flat_map(|x| x.chunks_exact_mut(90 * width))
            {
                head[from * width..].fill(1e30);
            }
        }
        let after = forward(&shape, &options, &changed);
        let heads = before.chunks_exact(90 * 6).zip(after.chunks_exact(90 * 6));
        for (before, after) in heads {
            assert_eq!(before[..from * 6], after[..from * 6]);
        }
    }
}

#[test]
fn tokens_that_left_a_window_leave_no_trace() {
    let (shape, options, inputs) = long(Mask::Window(vec![16, 24]));
    let before = forward(&shape, &options, &inputs);
    let mut changed = inputs.clone();
    for x in changed
        .v
        .iter_mut()
        .flat_map(|x| x.chunks_exact_mut(90 * 6))
    {
        x[6 * 10..6 * 12].fill(f64::from(1e30f32));
    }
    let after = forward(&shape, &options, &changed);
    let heads = before.chunks_exact(90 * 6).zip(after.chunks_exact(90 * 6));
    for (before, after) in heads {
        assert_eq!(before[..60], after[..60]);
        assert_ne!(before[60..72], after[60..72]);
        // Token 11 is the last; the longer window sees 24.
        assert_eq!(before[6 * 35..], after[6 * 35..]);
    }
}

#[test]
fn windows_that_reach_over_everything_are_none() {
    let (shape, causal, inputs) = long(Mask::Causal);
    let whole = masked(Mask::Window(vec![90, 1000]), FeatureMap::Elu1, Some(0.0));
    let (a, b) = (
        forward(&shape, &causal, &inputs),
        forward(&shape, &whole, &inputs),
    );
    assert_eq!(a, b);
}

#[test]
fn key_sets_may_change_places() {
    let (shape, options, inputs) = long(Mask::Window(vec![16, 200]));
    let turned = cpu::Inputs {
        q: inputs.q.clone(),
        k: inputs.k.iter().rev().cloned().collect(),
        v: inputs.v.iter().rev().cloned().collect(),
    };
    let swapped = masked(Mask::Window(vec![200, 16]), FeatureMap::Elu1, Some(0.0));
    let (a, b) = (
        forward(&shape, &options, &inputs),
        forward(&shape, &swapped, &turned),
    );
    for (a, b) in a.iter().zip(b) {
        assert!((a - b).abs() <= 1e-5 * (1.0 + b.abs()), "{a} {b}");
    }
}

/// o is linear in each set's values: the gradient handed back is its adjoint.
#[test]
fn values_and_their_gradients_are_adjoint() {
    for mask in [Mask::Full, Mask::Causal, Mask::Window(vec![8, 50])] {
        let mut shape = shape(&[50, 50], 50, [2, 1]);
        (shape.key, shape.value) = (6, 5);
        let options = masked(mask, FeatureMap::Identity, None);
        let inputs = made("adjoint", &shape);
        let grad = values(&mut Numbers::of("handed"), shape.query_rows() * shape.value);
        let given = upload(&inputs);
        let (k, v): (Vec<_>, Vec<_>) = given.k.iter().zip(&given.v).unzip();
        let read = Inputs {
            q: &given.q,
            k: &k,
            v: &v,
        };
        let zeros = |len: usize| gpu().zeros::<f32>(len).unwrap();
        let mut dq = zeros(shape.query_rows() * shape.key);
        let sets = 0..2;
        let of = |width: usize| -> Vec<_> {
            sets.clone()
                .map(|set| zeros(shape.key_rows(set) * width))
                .collect()
        };
        let (mut dk, mut dv) = (of(shape.key), of(shape.value));
        let gradients = Gradients {
            q: &mut dq,
            k: dk.iter_mut().collect(),
            v: dv.iter_mut().collect(),
        };
        let handed: Vec<f32> = grad.iter().map(|x| *x as f32).collect();
        let handed = gpu().upload(&handed).unwrap();
        tensor_linear::backward(gpu(), &shape, &options, &read, &handed, gradients).unwrap();
        let host = |x: &Tensor<f32>| -> Vec<f64> {
            x.download().unwrap().into_iter().map(f64::from).collect()
        };
        let o: Vec<f64> = forward(&shape, &options, &inputs)
            .into_iter()
            .map(f64::from)
            .collect();
        let expected = dot(&o, &grad);
        let mut found: Vec<f64> = dv
            .iter()
            .zip(&inputs.v)
            .map(|(d, v)| dot(&host(d), v))
            .collect();
        // In keys of a set and in queries it is linear, too.
        found.extend(dk.iter().zip(&inputs.k).map(|(d, k)| dot(&host(d), k)));
        found.push(dot(&host(&dq), &inputs.q));
        for got in found {
            let near = (got - expected).abs() <= 1e-4 * expected.abs().max(1.0);
            assert!(near, "{:?}: {got} {expected}", options.mask);
        }
    }
}

/// As long as everything is cut only between heads and columns, nothing changes.
#[test]
fn bindings_budgets_and_dispatches_may_be_small() {
    for mask in [Mask::Full, Mask::Causal, Mask::Window(vec![16, 24])] {
        let (mut shape, options, _) = long(mask);
        (shape.value, shape.heads, shape.kv_heads) = (20, 6, 3);
        let inputs = made("small", &shape);
        let given = upload(&inputs);
        let (k, v): (Vec<_>, Vec<_>) = given.k.iter().zip(&given.v).unzip();
        let caps = gpu().caps().clone();
        let whole = tensor_linear::plan::forward(&shape, &options, &caps).unwrap();
        let small = Caps {
            binding_bytes: 24_000,
            gflops: 1e-3,
            ..caps.clone()
        };
        let cut = match options.mask {
            Mask::Full => small.clone(),
            _ => Caps {
                binding_bytes: 40_000,
                ..small
            },
        };
        let plan = tensor_linear::plan::forward(&shape, &options, &cut).unwrap();
        assert!(plan.steps.len() > 2 * whole.steps.len());
        let mut found = Vec::new();
        for plan in [whole, plan] {
            let mut o = gpu()
                .zeros::<f32>(shape.query_rows() * shape.value)
                .unwrap();
            let mut pass = gpu().pass("small");
            let views = [&given.q].into_iter().chain(k.iter().chain(&v).copied());
            let views: Vec<_> = views.map(Tensor::view).collect();
            pass.run(&plan, &views, &mut [o.view_mut()]).unwrap();
            pass.submit().unwrap();
            found.push(o.download().unwrap());
        }
        assert_eq!(found[0], found[1], "{:?}", options.mask);
    }
}

#[test]
fn one_head_too_large_is_a_limit() {
    let (shape, options, _) = long(Mask::Causal);
    for caps in [
        Caps {
            binding_bytes: 4096,
            ..Caps::webgpu_floor()
        },
        Caps {
            scratch_bytes: 4096,
            ..Caps::webgpu_floor()
        },
    ] {
        let refused = tensor_linear::plan::forward(&shape, &options, &caps);
        assert!(matches!(refused, Err(Error::Limit { .. })));
    }
}

#[test]
fn wrong_arguments_are_named() {
    let caps = Caps::webgpu_floor();
    let good = shape(&[8, 8], 8, [4, 2]);
    let options = Options::new(1.0);
    let sentence = |shape: &Shape, options: &Options| {
        let refused = tensor_linear::plan::forward(shape, options, &caps);
        assert_eq!(
            refused.as_ref().err(),
            tensor_linear::plan::backward(shape, options, &caps)
                .as_ref()
                .err()
        );
        refused.unwrap_err().to_string()
    };
    let with = |change: &dyn Fn(&mut Shape)| {
        let mut shape = good.clone();
        change(&mut shape);
        sentence(&shape, &options)
    };
    let start = "tensor_linear_attention: ";
    let is = |got: String, words: &str| assert_eq!(got, format!("{start}{words}"));
    is(
        with(&|s| s.dtype = Dtype::U32),
        "dtype must be f32, f16 or bf16, got u32",
    );
    is(
        with(&|s| s.keys = vec![]),
        "keys must be of 1 to 8 sets, got 0",
    );
    is(
        with(&|s| s.keys = vec![3; 9]),
        "keys must be of 1 to 8 sets, got 9",
    );
    is(with(&|s| s.key = 0), "key must be 1 to 1024, got 0");
    is(
        with(&|s| s.value = 1025),
        "value must be 1 to 1024, got 1025",
    );
    is(
        with(&|s| s.kv_heads = 3),
        "kv_heads must be a divisor of the 4 heads, got 3",
    );
    is(
        with(&|s| s.kv_heads = 0),
        "kv_heads must be a divisor of the 4 heads, got 0",
    );
    let under = |mask: Mask, keys: &[usize], queries: usize| {
        let shape = shape(keys, queries, [1, 1]);
        let options = Options {
            mask,
            ..options.clone()
        };
        sentence(&shape, &options)
    };
    is(
        under(Mask::Causal, &[4, 5], 4),
        "keys must be equal for all sets where queries see earlier keys only, got [4, 5]",
    );
    is(
        under(Mask::Causal, &[4, 4], 5),
        "queries must be at most the 4 keys where queries see earlier keys only, got 5",
    );
    is(
        under(Mask::Window(vec![3]), &[4, 4], 4),
        "window must be 2 lengths of at least 1, one a key set, got [3]",
    );
    is(
        under(Mask::Window(vec![3, 0]), &[4, 4], 4),
        "window must be 2 lengths of at least 1, one a key set, got [3, 0]",
    );
    let asked = |change: &dyn Fn(&mut Options)| {
        let mut options = options.clone();
        change(&mut options);
        sentence(&good, &options)
    };
    is(
        asked(&|o| o.scale = f32::NAN),
        "scale must be a finite number, got NaN",
    );
    is(
        asked(&|o| o.normalize = Some(-1.0)),
        "normalize must be a finite number of at least 0, got -1",
    );
    is(
        asked(&|o| o.feature_map = FeatureMap::T2r),
        "feature_map must be a map without weights, such as elu1, got t2r",
    );
    is(
        asked(&|o| o.feature_map = FeatureMap::Dpfp { nu: 0 }),
        "nu must be from 1 to 64, got 0",
    );
    let mut wide = good.clone();
    wide.key = 200;
    let options = masked(Mask::Full, FeatureMap::Taylor2, None);
    is(
        sentence(&wide, &options),
        "features must be at most 8192 under this mask, got 20301",
    );
    // Tensors of other lengths.
    let given = upload(&made("wrong", &good));
    let (k, v): (Vec<_>, Vec<_>) = given.k.iter().zip(&given.v).unzip();
    let mut o = gpu().zeros::<f32>(good.query_rows() * good.value).unwrap();
    let mut call = |inputs: &Inputs<'_, f32>| {
        let options = Options::new(1.0);
        let refused = tensor_linear::forward(gpu(), &good, &options, inputs, &mut o);
        refused.unwrap_err().to_string()
    };
    let inputs = Inputs {
        q: &given.q,
        k: &k,
        v: &v,
    };
    is(
        call(&Inputs {
            k: &k[..1],
            ..inputs
        }),
        "k must be 2 tensors, one a key set, got 1",
    );
    is(
        call(&Inputs {
            v: &[v[0], k[1]],
            ..inputs
        }),
        "v2 must be 64 elements for this shape, got 96",
    );
    is(
        call(&Inputs { q: k[0], ..inputs }),
        "q must be 192 elements for this shape, got 96",
    );
}
