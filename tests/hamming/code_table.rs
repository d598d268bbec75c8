//! Attention by code tables: the reference against its definition, the adapter against the reference.

use std::path::PathBuf;

use serde_json::Map;
use subquad::{
    Error,
    case::{Case, Numbers, Problem, judge, ops, run},
    gpu::Caps,
    hamming::{
        code_table::{self, Gradients, Inputs, Options, Outputs, Shape, plan},
        cpu::code_table as cpu,
    },
};

use crate::{
    device::gpu,
    devices::{devices, devices_for},
    effort::{by_turns, sample, thorough},
};

/// Every plan of a problem on the devices, checked or not, twice.
fn hold(name: &str, problem: &dyn Problem) {
    let references = problem.reference().unwrap();
    let outputs = problem.outputs();
    for caps in devices_for(name) {
        for plan in problem.plans(&caps, thorough()).unwrap() {
            let got = run(gpu(), problem, &plan, false).unwrap();
            assert_eq!(
                got,
                run(gpu(), problem, &plan, false).unwrap(),
                "{name}: two runs differ"
            );
            let checked = thorough().then(|| run(gpu(), problem, &plan, true).unwrap());
            for arrays in [got].into_iter().chain(checked) {
                for ((output, array), reference) in outputs.iter().zip(&arrays).zip(&references) {
                    let verdict =
                        judge(output, array, &reference.values, Some(&reference.magnitude));
                    let what = format!("{name}, {:?}, {}", caps.class, plan.label);
                    assert!(verdict.holds(), "{what}, {}: {verdict:?}", output.name);
                }
            }
        }
    }
}

fn builtin(causal: bool) {
    let op = ops()
        .iter()
        .find(|op| op.name == "code_table_attention")
        .unwrap();
    let cases = (op.builtin)().into_iter();
    for case in sample(cases.filter(|case| case.name.contains("causal") == causal)) {
        let problem = case.bind().unwrap();
        hold(&case.name, problem.as_ref());
        if let Some(adjoint) = problem.adjoint() {
            hold(&format!("{} gradients", case.name), adjoint.as_ref());
        }
    }
}

#[test]
fn the_full_form_gives_what_the_reference_gives() {
    builtin(false);
}

#[test]
fn the_causal_form_gives_what_the_reference_gives() {
    builtin(true);
}

/// Inputs of a call.
struct Tensors {
    shape: Shape,
    q: Vec<u32>,
    k: Vec<u32>,
    v: Vec<f32>,
    wide: Vec<f64>,
}

impl Tensors {
    fn new(shape: Shape, name: &str) -> Tensors {
        let mut numbers = Numbers::of(name);
        let v: Vec<f32> = (0..shape.value_len())
            .map(|_| numbers.signed() as f32)
            .collect();
        Tensors {
            shape,
            q: (0..shape.query_len()).map(|_| numbers.word()).collect(),
            k: (0..shape.key_len()).map(|_| numbers.word()).collect(),
            wide: v.iter().map(|x| f64::from(*x)).collect(),
            v,
        }
    }

    fn inputs(&self) -> cpu::Inputs<'_> {
        cpu::Inputs {
            q: &self.q,
            k: &self.k,
            v: &self.wide,
            initial_state: None,
        }
    }

    /// Tokens of every list.
    fn part(&self, tokens: std::ops::Range<usize>) -> Tensors {
        fn cut<T: Copy>(
            x: &[T],
            list: usize,
            tokens: &std::ops::Range<usize>,
            width: usize,
        ) -> Vec<T> {
            x.chunks(list * width)
                .flat_map(|x| x[tokens.start * width..tokens.end * width].to_vec())
                .collect()
        }
        let shape = Shape {
            queries: tokens.len(),
            keys: tokens.len(),
            ..self.shape
        };
        let (all, value) = (self.shape.keys, self.shape.value);
        Tensors {
            shape,
            q: cut(&self.q, all, &tokens, 1),
            k: cut(&self.k, all, &tokens, 1),
            v: cut(&self.v, all, &tokens, value),
            wide: cut(&self.wide, all, &tokens, value),
        }
    }

    /// The outputs and the final state by a plan for these capabilities.
    fn run(&self, options: &Options, state: Option<&[f32]>, caps: &Caps) -> (Vec<f32>, Vec<f32>) {
        let states = plan::States {
            initial: state.is_some(),
            last: options.causal,
        };
        let plan = plan::forward(&self.shape, options, states, caps).unwrap();
        let q = gpu().upload(&self.q).unwrap();
        let k = gpu().upload(&self.k).unwrap();
        let v = gpu().upload(&self.v).unwrap();
        let state = state.map(|state| gpu().upload(state).unwrap());
        let nan = |len: usize| gpu().upload(&vec![f32::NAN; len]).unwrap();
        let mut o = nan(self.shape.output_len());
        let mut last = nan(self.shape.state_len(options));
        let mut views = vec![q.view(), k.view(), v.view()];
        views.extend(state.as_ref().map(|state| state.view()));
        let mut pass = gpu().pass("test");
        pass.run(&plan, &views, &mut [o.view_mut(), last.view_mut()])
            .unwrap();
        pass.submit().unwrap();
        (o.download().unwrap(), last.download().unwrap())
    }

    /// Holds outputs against the reference, element by element.
    fn judge(&self, what: &str, options: &Options, o: &[f32]) {
        let expected = cpu::forward(&self.shape, options, &self.inputs()).unwrap();
        let tokens = (self.shape.keys as f64).log2();
        let unit = 4.0 * (-24f64).exp2() * (options.bits as f64 + tokens);
        let mut worst = 0.0f64;
        for ((o, expected), s) in o.iter().zip(&expected.o).zip(&expected.magnitude) {
            let error = (f64::from(*o) - expected).abs() / (unit * s);
            worst = if error.is_nan() {
                f64::INFINITY
            } else {
                worst.max(error)
            };
        }
        println!("{what}: {worst:.3} of the bound");
        assert!(worst <= 1.0, "{what}: {worst}");
    }
}

fn shape([batch, heads, kv_heads, tokens, value]: [usize; 5]) -> Shape {
    Shape {
        batch,
        heads,
        kv_heads,
        queries: tokens,
        keys: tokens,
        value,
    }
}

#[test]
fn by_way_of_the_table_is_pair_by_pair() {
    for bits in [1, 2, 3, 7, 8, 12] {
        let tensors = Tensors::new(shape([2, 4, 2, 40, 3]), "by table");
        let options = Options {
            beta: vec![0.1, 0.5, 0.2, -0.4],
            causal: bits % 2 == 0,
            ..Options::new(bits, 0.0)
        };
        let pairs = cpu::forward(&tensors.shape, &options, &tensors.inputs()).unwrap();
        let table = cpu::by_table(&tensors.shape, &options, &tensors.inputs()).unwrap();
        for (a, b) in pairs.o.iter().zip(table) {
            assert!((a - b).abs() < 1e-12, "{bits} bits: {a} {b}");
        }
    }
}

/// Σ grad · o with real h and g, from the definition.
fn loss(shape: &Shape, options: &Options, h: &[f64], g: &[f64], v: &[f64], grad: &[f64]) -> f64 {
    let (b, width) = (options.bits, shape.value);
    let group = shape.heads / shape.kv_heads;
    let mut loss = 0.0;
    for at in 0..shape.query_len() {
        let (list, i) = (at / shape.queries, at % shape.queries);
        let seen = if options.causal { i + 1 } else { shape.keys };
        let keys = list / group * shape.keys..list / group * shape.keys + seen;
        let beta = |r: usize| {
            let beta = options
                .beta
                .get(list % shape.heads)
                .unwrap_or(&options.beta[0]);
            f64::from(*beta) * f64::from(options.scales.get(r).copied().unwrap_or(1.0))
        };
        let weight = |key: usize| {
            (0..b)
                .map(|r| beta(r) * h[at * b + r] * g[key * b + r])
                .sum::<f64>()
                .exp()
        };
        let z: f64 = keys.clone().map(weight).sum();
        for c in 0..width {
            let n: f64 = keys
                .clone()
                .map(|key| weight(key) * v[key * width + c])
                .sum();
            loss += grad[at * width + c] * n / z;
        }
    }
    loss
}

#[test]
fn gradients_of_the_reference_are_its_slopes() {
    for causal in [false, true] {
        let tensors = Tensors::new(shape([1, 4, 2, 5, 2]), "slopes");
        let shape = tensors.shape;
        let options = Options {
            bits: 3,
            beta: vec![0.3, 0.7, 0.2, 0.4],
            scales: vec![1.0, 0.5, -0.8],
            causal,
            chunk: None,
        };
        let signs = |codes: &[u32]| -> Vec<f64> {
            let bits = |code: &u32| [0, 1, 2].map(|r| if code >> r & 1 == 1 { 1.0 } else { -1.0 });
            codes.iter().flat_map(bits).collect()
        };
        let mut numbers = Numbers::of("grad");
        let grad: Vec<f64> = (0..shape.output_len()).map(|_| numbers.signed()).collect();
        let mut all = [signs(&tensors.q), signs(&tensors.k), tensors.wide.clone()];
        let found = cpu::backward(&shape, &options, &tensors.inputs(), &grad).unwrap();
        let of = |all: &[Vec<f64>; 3]| loss(&shape, &options, &all[0], &all[1], &all[2], &grad);
        for (n, found) in [found.h, found.g, found.v].iter().enumerate() {
            assert_eq!(found.len(), all[n].len());
            for (at, found) in found.iter().enumerate() {
                let x = all[n][at];
                all[n][at] = x + 1e-5;
                let up = of(&all);
                all[n][at] = x - 1e-5;
                let down = of(&all);
                all[n][at] = x;
                let slope = (up - down) / 2e-5;
                assert!((slope - found).abs() < 1e-8, "{n} {at}: {slope} {found}");
            }
        }
    }
}

#[test]
fn keys_with_one_code_are_summed_exactly_enough() {
    for tokens in [256, 257, 3000, 20_000] {
        let mut tensors = Tensors::new(shape([1, 1, 1, tokens, 5]), "one code");
        tensors.shape.queries = 9;
        tensors.q.truncate(9);
        let options = Options::new(6, 0.5);
        for codes in [1, 2, 3] {
            for (n, k) in tensors.k.iter_mut().enumerate() {
                // Runs that end inside blocks and at their ends.
                *k = (n * codes / tokens) as u32 * 17;
            }
            for even in [false, true] {
                if even {
                    // Every sum rounds the same way.
                    tensors.v.fill(0.1);
                    tensors.wide.fill(f64::from(0.1f32));
                }
                let name = format!("{tokens} keys, {codes} codes");
                for caps in devices_for(&name) {
                    let (o, _) = tensors.run(&options, None, &caps);
                    tensors.judge(&name, &options, &o);
                }
            }
            tensors.v = Tensors::new(shape([1, 1, 1, tokens, 5]), "one code").v;
            tensors.wide = tensors.v.iter().map(|x| f64::from(*x)).collect();
        }
    }
}

#[test]
fn weights_of_a_wide_range_and_of_none() {
    for (bits, beta) in [
        (8, 0.0),
        (8, 5.0),
        (16, 2.5),
        (10, -4.0),
        (17, 0.3),
        (18, 0.3),
    ] {
        for causal in [false, true] {
            let tensors = Tensors::new(shape([1, 1, 1, 150, 3]), "range");
            let options = Options {
                causal,
                ..Options::new(bits, beta)
            };
            let (o, _) = tensors.run(&options, None, gpu().caps());
            tensors.judge(&format!("{bits} bits, beta {beta}"), &options, &o);
        }
    }
}

#[test]
fn a_mean_of_ones_is_one_and_no_weight_is_the_mean() {
    let mut tensors = Tensors::new(shape([1, 2, 2, 500, 1]), "ones");
    tensors.v.fill(1.0);
    for causal in [false, true] {
        let options = Options {
            causal,
            ..Options::new(9, 0.4)
        };
        let (o, _) = tensors.run(&options, None, gpu().caps());
        assert!(o.iter().all(|o| (o - 1.0).abs() <= 1e-6));
    }
    let mut tensors = Tensors::new(shape([1, 1, 1, 40, 2]), "first");
    tensors.k.fill(3);
    let options = Options {
        causal: true,
        ..Options::new(9, 0.4)
    };
    let (o, _) = tensors.run(&options, None, gpu().caps());
    // The first query sees its own key alone.
    assert_eq!(o[..2], tensors.v[..2]);
}

#[test]
fn common_changes_of_all_codes_change_nothing() {
    let tensors = Tensors::new(shape([1, 2, 1, 130, 4]), "xor");
    let flipped = Tensors {
        q: tensors.q.iter().map(|q| q ^ 0xf0f0_0155).collect(),
        k: tensors.k.iter().map(|k| k ^ 0x0f0f_0155).collect(),
        v: tensors.v.clone(),
        wide: tensors.wide.clone(),
        shape: tensors.shape,
    };
    for causal in [false, true] {
        // Pads differ as well: only nine bits count.
        let options = Options {
            causal,
            ..Options::new(9, 0.3)
        };
        for caps in by_turns(devices(), usize::from(causal)) {
            let (o, _) = flipped.run(&options, None, &caps);
            tensors.judge("flipped", &options, &o);
        }
    }
}

/// Bits of every element, without printing them all.
fn same(what: &str, a: &[f32], b: &[f32]) {
    assert_eq!(a.len(), b.len(), "{what}");
    for (at, (a, b)) in a.iter().zip(b).enumerate() {
        assert!(a.to_bits() == b.to_bits(), "{what} at {at}: {a} {b}");
    }
}

fn close(what: &str, a: &[f32], b: &[f32], tolerance: f32) {
    assert_eq!(a.len(), b.len(), "{what}");
    for (at, (a, b)) in a.iter().zip(b).enumerate() {
        assert!(
            (a - b).abs() <= tolerance * b.abs().max(1.0),
            "{what} at {at}: {a} {b}"
        );
    }
}

#[test]
fn chunks_do_not_show() {
    let tensors = Tensors::new(shape([1, 4, 2, 300, 6]), "chunks");
    for beta in [vec![0.3], vec![0.3, 0.3, 0.1, -0.5]] {
        for caps in by_turns(devices(), beta.len()) {
            let of = |chunk| {
                let options = Options {
                    beta: beta.clone(),
                    causal: true,
                    chunk: Some(chunk),
                    ..Options::new(7, 0.0)
                };
                tensors.run(&options, None, &caps)
            };
            let (o, state) = of(1);
            for chunk in [7, 128, 256] {
                let (other, other_state) = of(chunk);
                close(&format!("o, chunk {chunk}"), &other, &o, 3e-6);
                close(&format!("state, chunk {chunk}"), &other_state, &state, 3e-6);
            }
        }
    }
}

#[test]
fn states_hand_over() {
    let tensors = Tensors::new(shape([2, 4, 2, 90, 5]), "states");
    for beta in [vec![0.3], vec![0.3, 0.3, 0.1, -0.5]] {
        let turn = beta.len();
        let options = Options {
            beta,
            causal: true,
            ..Options::new(7, 0.0)
        };
        for caps in by_turns(devices(), turn) {
            let (o, last) = tensors.run(&options, None, &caps);
            let (first, second) = (tensors.part(0..37), tensors.part(37..90));
            let (o1, state) = first.run(&options, None, &caps);
            let (o2, other_last) = second.run(&options, Some(&state), &caps);
            let value = tensors.shape.value;
            for (list, o) in o.chunks(90 * value).enumerate() {
                close(
                    "o before",
                    &o1[list * 37 * value..][..37 * value],
                    &o[..37 * value],
                    3e-6,
                );
                close(
                    "o after",
                    &o2[list * 53 * value..][..53 * value],
                    &o[37 * value..],
                    3e-6,
                );
            }
            close("state", &other_last, &last, 3e-6);
        }
    }
}

#[test]
fn steps_are_the_rows_of_a_whole_call() {
    let tensors = Tensors::new(shape([1, 2, 1, 20, 3]), "steps");
    let options = Options {
        causal: true,
        ..Options::new(6, 0.4)
    };
    let (whole, last) = tensors.run(&options, None, gpu().caps());
    let mut state = gpu()
        .zeros::<f32>(tensors.shape.state_len(&options))
        .unwrap();
    for t in 0..20 {
        let one = tensors.part(t..t + 1);
        let q = gpu().upload(&one.q).unwrap();
        let k = gpu().upload(&one.k).unwrap();
        let v = gpu().upload(&one.v).unwrap();
        let inputs = Inputs {
            q: &q,
            k: &k,
            v: &v,
            initial_state: None,
        };
        let mut o = gpu().zeros::<f32>(one.shape.output_len()).unwrap();
        code_table::step(gpu(), &one.shape, &options, &inputs, &mut o, &mut state).unwrap();
        let o = o.download().unwrap();
        for list in 0..2 {
            close(
                "step",
                &o[list * 3..][..3],
                &whole[(list * 20 + t) * 3..][..3],
                3e-6,
            );
        }
    }
    close("state", &state.download().unwrap(), &last, 3e-6);
}

#[test]
fn small_bindings_and_budgets_give_the_same() {
    let tensors = Tensors::new(shape([3, 4, 2, 90, 5]), "small");
    for causal in [false, true] {
        for beta in [vec![0.3], vec![0.3, 0.3, 0.1, -0.5]] {
            let turn = beta.len() + usize::from(causal);
            let options = Options {
                beta,
                causal,
                ..Options::new(6, 0.0)
            };
            for caps in by_turns(devices(), turn) {
                let small = Caps {
                    // Tables, or the rows of two queries' heads, in one binding.
                    binding_bytes: 8 << 10,
                    gflops: 1e-4,
                    ..caps.clone()
                };
                let states = plan::States::default();
                let steps = |caps: &Caps| {
                    plan::forward(&tensors.shape, &options, states, caps)
                        .unwrap()
                        .steps
                        .len()
                };
                assert!(steps(&small) > steps(&caps));
                let (o, _) = tensors.run(&options, None, &caps);
                same(
                    &format!("causal {causal}, {:?}", caps.class),
                    &o,
                    &tensors.run(&options, None, &small).0,
                );
                let plan = plan::forward(&tensors.shape, &options, states, &caps).unwrap();
                let half = plan.scratch_bytes() / 2;
                let tight = Caps {
                    scratch_bytes: half,
                    ..caps.clone()
                };
                let plan = plan::forward(&tensors.shape, &options, states, &tight).unwrap();
                assert!(plan.scratch_bytes() <= half);
                assert!(plan.steps.len() > steps(&caps));
            }
        }
    }
}

#[test]
fn gradients_in_batches_are_the_same() {
    let tensors = Tensors::new(shape([3, 4, 2, 60, 5]), "gradients");
    let mut numbers = Numbers::of("upstream");
    let grad: Vec<f32> = (0..tensors.shape.output_len())
        .map(|_| numbers.signed() as f32)
        .collect();
    let of = |plan: &subquad::plan::Plan, bits: usize| {
        let q = gpu().upload(&tensors.q).unwrap();
        let k = gpu().upload(&tensors.k).unwrap();
        let v = gpu().upload(&tensors.v).unwrap();
        let grad = gpu().upload(&grad).unwrap();
        let nan = |len: usize| gpu().upload(&vec![f32::NAN; len]).unwrap();
        let mut h = nan(bits * tensors.shape.query_len());
        let mut g = nan(bits * tensors.shape.key_len());
        let mut to_v = nan(tensors.shape.value_len());
        let mut pass = gpu().pass("test");
        let outputs = &mut [h.view_mut(), g.view_mut(), to_v.view_mut()];
        pass.run(plan, &[q.view(), k.view(), v.view(), grad.view()], outputs)
            .unwrap();
        pass.submit().unwrap();
        [h, g, to_v].map(|x| x.download().unwrap())
    };
    for causal in [false, true] {
        for beta in [vec![0.3], vec![0.3, 0.3, 0.1, -0.5]] {
            let turn = beta.len() + usize::from(causal);
            let options = Options {
                beta,
                causal,
                ..Options::new(5, 0.0)
            };
            for caps in by_turns(devices(), turn) {
                let plan = plan::backward(&tensors.shape, &options, &caps).unwrap();
                let needed = plan.scratch_bytes();
                let small = Caps {
                    scratch_bytes: needed / 2,
                    gflops: 1e-3,
                    ..caps.clone()
                };
                let cut = plan::backward(&tensors.shape, &options, &small).unwrap();
                assert!(cut.steps.len() > plan.steps.len() && cut.scratch_bytes() <= needed / 2);
                for (n, (a, b)) in of(&plan, 5).iter().zip(of(&cut, 5)).enumerate() {
                    same(&format!("{n}, causal {causal}, {:?}", caps.class), a, &b);
                }
            }
        }
    }
}

#[test]
fn case_files_of_the_dense_operator_hold() {
    let beside = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/cases");
    let folder = std::env::var_os("SUBQUAD_CASES").map_or_else(beside, PathBuf::from);
    let file = folder.join("hamming/attention_16_bits.safetensors");
    if !file.is_file() {
        println!("skipped: no file {}", file.display());
        return;
    }
    let case = Case::read(&file, Some("code_table_attention"), &Map::new()).unwrap();
    let problem = case.bind().unwrap();
    let adjoint = problem.adjoint().unwrap();
    for caps in devices() {
        let plan = &problem.plans(&caps, false).unwrap()[0];
        let got = run(gpu(), problem.as_ref(), plan, false).unwrap();
        let verdict = judge(
            &problem.outputs()[0],
            &got[0],
            &case.expected["o"].values(),
            None,
        );
        assert!(verdict.holds(), "{verdict:?}");
        let plan = &adjoint.plans(&caps, false).unwrap()[0];
        let got = run(gpu(), adjoint.as_ref(), plan, false).unwrap();
        let verdict = judge(
            &adjoint.outputs()[2],
            &got[2],
            &case.expected_grads["v"].values(),
            None,
        );
        assert!(verdict.holds(), "{verdict:?}");
    }
}

#[test]
fn wrong_arguments_are_named() {
    let good = shape([1, 2, 1, 4, 3]);
    let plan = |shape: Shape, options: &Options| {
        plan::forward(
            &shape,
            options,
            plan::States::default(),
            &Caps::webgpu_floor(),
        )
        .map(drop)
    };
    let named = |result: subquad::Result<()>, name: &str| match result {
        Err(Error::Argument { what, .. }) => assert_eq!(what, name),
        other => panic!("{name}: {other:?}"),
    };
    let refused = |result: subquad::Result<()>| {
        assert!(
            matches!(result, Err(Error::Unsupported { .. })),
            "{result:?}"
        )
    };
    let options = Options::new(6, 0.3);
    named(
        plan(
            good,
            &Options {
                bits: 0,
                ..options.clone()
            },
        ),
        "bits",
    );
    refused(plan(good, &Options::new(19, 0.1)));
    refused(plan(good, &Options::new(10, 4.1)));
    refused(plan(good, &Options::new(10, -4.1)));
    plan(good, &Options::new(10, 4.0)).unwrap();
    named(plan(Shape { value: 0, ..good }, &options), "value");
    named(plan(Shape { value: 513, ..good }, &options), "value");
    named(
        plan(
            Shape {
                heads: 3,
                kv_heads: 2,
                ..good
            },
            &options,
        ),
        "heads",
    );
    named(
        plan(
            good,
            &Options {
                beta: vec![0.1; 3],
                ..options.clone()
            },
        ),
        "beta",
    );
    named(
        plan(
            good,
            &Options {
                beta: Vec::new(),
                ..options.clone()
            },
        ),
        "beta",
    );
    named(
        plan(
            good,
            &Options {
                beta: vec![f32::NAN],
                ..options.clone()
            },
        ),
        "beta",
    );
    named(
        plan(
            good,
            &Options {
                scales: vec![1.0; 5],
                ..options.clone()
            },
        ),
        "scales",
    );
    named(
        plan(
            good,
            &Options {
                chunk: Some(0),
                ..options.clone()
            },
        ),
        "chunk",
    );
    named(
        plan(
            good,
            &Options {
                chunk: Some(257),
                ..options.clone()
            },
        ),
        "chunk",
    );
    named(
        plan(
            Shape { queries: 3, ..good },
            &Options {
                causal: true,
                ..options.clone()
            },
        ),
        "queries",
    );
    named(
        plan(
            Shape {
                queries: 1 << 40,
                ..good
            },
            &options,
        ),
        "shape",
    );
    let big = Shape { value: 512, ..good };
    let limit = plan(big, &Options::new(18, 0.1));
    assert!(matches!(limit, Err(Error::Limit { .. })), "{limit:?}");
    let states = plan::States {
        initial: true,
        last: false,
    };
    refused(plan::forward(&good, &options, states, &Caps::webgpu_floor()).map(drop));
    let codes = gpu().zeros::<u32>(8).unwrap();
    let v = gpu().zeros::<f32>(12).unwrap();
    let mut o = gpu().zeros::<f32>(24).unwrap();
    let inputs = Inputs {
        q: &codes,
        k: &codes,
        v: &v,
        initial_state: None,
    };
    let outputs = Outputs {
        o: &mut o,
        final_state: None,
    };
    named(
        code_table::forward(gpu(), &good, &options, &inputs, outputs),
        "k",
    );
    let keys = gpu().zeros::<u32>(4).unwrap();
    let inputs = Inputs { k: &keys, ..inputs };
    let outputs = Outputs {
        o: &mut o,
        final_state: None,
    };
    code_table::forward(gpu(), &good, &options, &inputs, outputs).unwrap();
    let (mut h, mut g, mut to_v) = (
        gpu().zeros(48).unwrap(),
        gpu().zeros(23).unwrap(),
        gpu().zeros(12).unwrap(),
    );
    let gradients = Gradients {
        h: &mut h,
        g: &mut g,
        v: &mut to_v,
    };
    named(
        code_table::backward(gpu(), &good, &options, &inputs, &o, gradients),
        "grad g",
    );
}

#[test]
fn no_keys_give_zero() {
    let tensors = Tensors::new(
        Shape {
            keys: 0,
            ..shape([1, 2, 1, 4, 3])
        },
        "none",
    );
    let (o, _) = tensors.run(&Options::new(5, 0.2), None, gpu().caps());
    assert_eq!(o, vec![0.0; 24]);
}

#[test]
fn the_cost_grows_with_tokens_and_bits() {
    for caps in Caps::presets() {
        let cost = |tokens, bits, causal| {
            let options = Options {
                causal,
                ..Options::new(bits, 0.1)
            };
            code_table::cost_ms(&shape([1, 8, 8, tokens, 64]), &options, &caps).unwrap()
        };
        for causal in [false, true] {
            assert!(cost(1 << 16, 12, causal) > cost(1 << 12, 12, causal));
            assert!(cost(1 << 12, 16, causal) > cost(1 << 12, 8, causal));
        }
        assert!(
            code_table::cost_ms(&shape([1, 1, 1, 4, 4]), &Options::new(19, 0.1), &caps).is_err()
        );
    }
}

#[test]
fn plans_of_long_sequences_fit_every_device() {
    for caps in Caps::presets() {
        for bits in [8, 12, 16] {
            for causal in [false, true] {
                let options = Options {
                    causal,
                    ..Options::new(bits, 0.1)
                };
                let shape = shape([1, 8, 2, 65_536, 64]);
                let forward = plan::forward(&shape, &options, plan::States::default(), &caps);
                let backward = plan::backward(&shape, &options, &caps);
                for plan in [forward.unwrap(), backward.unwrap()] {
                    let longest = plan.steps.iter().filter(|step| step.groups > 1);
                    let longest = longest.map(|step| step.predicted_ms).fold(0.0, f64::max);
                    assert!(longest <= 100.0, "{}: {longest} ms", caps.name);
                    assert!(plan.scratch_bytes() <= caps.scratch_bytes);
                }
            }
        }
        // A list of 8 million keys takes more blocks than loops may turn where they are counted.
        let shape = Shape {
            queries: 1,
            ..shape([1, 1, 1, 1 << 23, 1])
        };
        let plan = plan::forward(
            &shape,
            &Options::new(18, 0.1),
            plan::States::default(),
            &caps,
        );
        let counted = caps.loop_iterations < u64::MAX;
        assert_eq!(
            matches!(plan, Err(Error::Limit { .. })),
            counted,
            "{plan:?}"
        );
    }
}
