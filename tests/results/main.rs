//! Results on the adapter at hand against the CPU reference and the case files. A missing adapter fails every test here.

mod call;
#[path = "../common/mod.rs"]
mod common;
#[path = "../common/device.rs"]
#[allow(dead_code, reason = "each test takes what it needs")]
mod device;
#[path = "../common/effort.rs"]
mod effort;
mod options;

use std::{collections::BTreeMap, path::Path};

use serde_json::Map;
use subquad::{
    Error,
    case::{Array, Case, Failure, Output, Problem, judge_decided, ops, run},
    cli::case_files,
    gpu::{Caps, Dtype},
    linear::{Form, Layout, Shape},
    plan::Plan,
};

use call::{Call, Out, ratio};
use device::gpu;
use effort::{by_turns, sample, thorough};

/// The plans of this device, and those of others that run on it: GPUs get other kernels than software adapters.
fn plans(problem: &dyn Problem) -> Vec<Plan> {
    let gpu = gpu();
    let mut plans = match problem.plans(gpu.caps(), thorough()) {
        Err(Error::Unsupported { what, .. }) => {
            println!("skipped: {what}");
            return Vec::new();
        }
        plans => plans.unwrap(),
    };
    let others = [Caps::webgpu_floor(), Caps::nvidia()].into_iter();
    for caps in others.filter(|_| thorough()) {
        // Their plans, but for what this device would not finish.
        let caps = Caps {
            loop_iterations: gpu.caps().loop_iterations,
            ..caps
        };
        for plan in problem.plans(&caps, false).unwrap_or_default() {
            if plan.check(gpu.caps()).is_ok() && plans.iter().all(|other| other.steps != plan.steps)
            {
                plans.push(plan);
            }
        }
    }
    plans
}

/// Runs every plan of a case with run-time checks, the planner's choice without them as well (as every other test does), and
/// judges each output; then the gradients, where the case asks for some.
fn misses(case: &Case) -> Vec<String> {
    let problem = case.bind().unwrap();
    let expected = |output: &Output| case.expectation(output);
    let mut misses = misses_of(case, problem.as_ref(), &expected);
    if let Some(adjoint) = problem.adjoint() {
        let expected = |output: &Output| case.expected_grads.get(output.name);
        misses.extend(misses_of(case, adjoint.as_ref(), &expected));
    }
    misses
}

fn misses_of<'a>(
    case: &Case,
    problem: &dyn Problem,
    expected: &dyn Fn(&Output) -> Option<&'a Array>,
) -> Vec<String> {
    let references = problem.reference().unwrap();
    let mut misses = Vec::new();
    for (n, plan) in plans(problem).into_iter().enumerate() {
        let ways: &[bool] = match (n, thorough()) {
            (0, true) => &[true, false],
            (_, true) => &[true],
            (_, false) => &[false],
        };
        for &checked in ways {
            let arrays = run(gpu(), problem, &plan, checked).unwrap();
            let outputs = problem.outputs();
            for (n, ((output, array), reference)) in
                outputs.iter().zip(&arrays).zip(&references).enumerate()
            {
                let undecided = problem.undecided(n).unwrap();
                let judge = |values: &[f64], magnitude| {
                    judge_decided(output, array, values, magnitude, undecided.as_ref())
                };
                let verdict = judge(&reference.values, Some(&reference.magnitude));
                let expected = expected(output).map(|expected| judge(&expected.values(), None));
                if !verdict.holds() || expected.is_some_and(|verdict| !verdict.holds()) {
                    let checked = if checked { "checked" } else { "unchecked" };
                    misses.push(format!(
                        "{} {} {checked} {}: {verdict:?} {expected:?}",
                        case.name, plan.label, output.name
                    ));
                }
            }
        }
    }
    misses
}

/// Operators whose built-in cases `tests/kronecker` runs by every plan, with and without checks, on more devices than here.
const ELSEWHERE: &[&str] = &[
    "butterfly",
    "dct",
    "fastfood",
    "fp4_dequantize",
    "fp4_quantize",
    "gp_grid",
    "gp_pde",
    "hadamard",
    "khatri_rao",
    "mttkrp",
    "random",
    "srht",
    "tensor_srht",
    "tucker",
];

/// Every second built-in case, from the n-th on: two tests for two cores. One in 16 of an operator, if not every.
fn every_second_case_holds(n: usize) {
    let here = ops().iter().filter(|op| !ELSEWHERE.contains(&op.name));
    let cases: Vec<Case> = here.flat_map(|op| sample(sample((op.builtin)()))).collect();
    let misses: Vec<String> = cases.iter().skip(n).step_by(2).flat_map(misses).collect();
    assert!(misses.is_empty(), "{}", misses.join("\n"));
}

#[test]
fn even_built_in_cases_hold_on_every_plan_with_and_without_checks() {
    every_second_case_holds(0);
}

#[test]
fn odd_built_in_cases_hold_on_every_plan_with_and_without_checks() {
    every_second_case_holds(1);
}

#[test]
fn case_files_hold_on_every_plan() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/cases/linear_attention");
    if !folder.is_dir() {
        println!("skipped: no folder {}", folder.display());
        return;
    }
    let mut all = Vec::new();
    let mut run = 0;
    for file in sample(case_files(&[folder]).unwrap()) {
        let case = Case::read(&file, None, &Map::new()).unwrap();
        match case.bind() {
            Err(Failure::Unavailable { what, .. }) => println!("skipped: {}: {what}", case.name),
            Err(failure) => panic!("{failure}"),
            Ok(_) => {
                run += 1;
                all.extend(misses(&case));
            }
        }
    }
    assert!(all.is_empty(), "{}", all.join("\n"));
    let least = sample(0..5).count();
    assert!(run >= least, "only {run} of the case files ran");
}

const FORMS: [Form; 4] = [Form::Auto, Form::Fused, Form::Segments(3), Form::Recurrent];

#[test]
fn output_ignores_future_tokens() {
    for form in FORMS {
        let call = Call::new(150, 2, 16, 20).form(form);
        let whole = call.run().o;
        for t in [0, 1, 7, 8, 15, 16, 63, 64, 65, 127, 128, 149] {
            let mut changed = Call::new(150, 2, 16, 20).form(form);
            for row in t * 2..150 * 2 {
                changed.q[row * 16] += 1.0;
                changed.k[row * 16 + 1] -= 2.0;
                changed.v[row * 20 + 19] *= -3.0;
            }
            let after = changed.run().o;
            let before = t * 2 * 20;
            assert_eq!(whole[..before], after[..before], "{form:?}, token {t}");
            assert_ne!(
                whole[before..before + 40],
                after[before..before + 40],
                "{form:?}, token {t}"
            );
        }
    }
}

#[test]
fn sequence_resumes_at_any_cut_and_bit_equal_at_chunk_cuts() {
    for form in [Form::Auto, Form::Fused, Form::Recurrent] {
        let call = Call::new(200, 2, 24, 32).form(form);
        let reference = call.reference();
        let whole = call.run();
        for cut in [0, 1, 13, 63, 64, 65, 128, 192, 199, 200] {
            let first = call.cut(0..cut, call.state.clone(), Vec::new()).run();
            let rest = call.cut(cut..200, first.state, Vec::new()).run();
            let joined = Out {
                o: [first.o, rest.o].concat(),
                ..rest
            };
            let miss = call.miss(&joined, &reference);
            assert!(miss <= 1.0, "{form:?}, cut at {cut}: {miss} of the bound");
            // A sequence of fewer than 32 tokens gets another kernel on a GPU, and one of 1 or 4 other blocks everywhere.
            if cut % 64 == 0 && (cut == 0 || cut == 200 || cut.min(200 - cut) >= 32) {
                assert_eq!(joined, whole, "{form:?}, cut at {cut}");
            }
        }
    }
}

#[test]
fn decoding_after_prefill_equals_the_whole_sequence() {
    let call = Call::new(164, 3, 32, 36);
    let mut out = call.cut(0..64, call.state.clone(), Vec::new()).run();
    let mut o = out.o;
    for tokens in (64..150).map(|t| t..t + 1).chain([150..155, 155..164]) {
        out = call.cut(tokens, out.state, Vec::new()).step();
        o.extend(out.o);
    }
    out.o = o;
    let miss = call.miss(&out, &call.reference());
    assert!(miss <= 1.0, "{miss} of the bound");
}

#[test]
fn one_token_fades_by_its_exact_distance() {
    // k and v are zero but for token s: o_t = exp(g (t - s)), element by element, across every block, chunk and segment border.
    for form in FORMS {
        for (s, g) in [
            (0, -0.01f32),
            (5, -0.7),
            (63, -3e-6),
            (64, -0.25),
            (100, -8.0),
        ] {
            let mut call = Call::new(200, 1, 4, 4).form(form);
            call.g = vec![g];
            call.q.fill(1.0);
            call.k.fill(0.0);
            call.v.fill(0.0);
            call.state.fill(0.0);
            call.k[s * 4] = 1.0;
            call.v[s * 4] = 1.0;
            let o = call.run().o;
            for t in 0..200 {
                let exact = if t < s {
                    0.0
                } else {
                    (f64::from(g) * (t - s) as f64).exp()
                };
                let exponents = (200.0 * f64::from(-g)).min(88.0);
                let allowed = (3.0 + 2.0 * exponents + 8.0) * 2f64.powi(-23) * exact
                    + f64::from(f32::MIN_POSITIVE);
                let error = (f64::from(o[t * 4]) - exact).abs();
                assert!(
                    error <= allowed,
                    "{form:?}, g {g}, from {s} to {t}: {} for {exact}",
                    o[t * 4]
                );
            }
        }
    }
}

#[test]
fn layouts_and_reruns_are_bit_equal() {
    for form in FORMS {
        let call = Call::new(130, 3, 20, 12).form(form);
        let out = call.run();
        assert_eq!(out, call.run(), "{form:?}");
        let shape = Shape {
            layout: Layout::Bhtd,
            ..call.shape
        };
        let expected = Out {
            o: call.turned(&out.o, shape),
            ..out
        };
        assert_eq!(call.map(shape, |_, at| at).run(), expected, "{form:?}");
    }
}

#[test]
fn zero_columns_change_nothing() {
    for form in FORMS {
        let call = Call::new(100, 2, 13, 9).form(form);
        let pad = |values: &[f32], from: usize, to: usize| -> Vec<f32> {
            values
                .chunks(from)
                .flat_map(|row| {
                    row.iter()
                        .copied()
                        .chain(std::iter::repeat_n(0.0, to - from))
                })
                .collect()
        };
        let mut padded = Call::new(100, 2, 32, 16).form(form);
        (padded.q, padded.k, padded.v, padded.g) = (
            pad(&call.q, 13, 32),
            pad(&call.k, 13, 32),
            pad(&call.v, 9, 16),
            call.g.clone(),
        );
        padded.state = call
            .state
            .chunks(13 * 9)
            .flat_map(|head| pad(&pad(head, 9, 16), 13 * 16, 32 * 16))
            .collect();
        let reference = call.reference();
        let narrow: Vec<f32> = padded
            .run()
            .o
            .chunks(16)
            .flat_map(|row| row[..9].to_vec())
            .collect();
        assert!(
            ratio(&narrow, &reference.o) <= 5e-6 && ratio(&call.run().o, &reference.o) <= 5e-6,
            "{form:?}"
        );
    }
}

#[test]
fn long_sums_stay_within_tolerance() {
    let all = [
        (-3e-6f32, 1.0f32),
        (0.0, 1.0),
        (-3e-6, 0.0),
        (-1e-3, 1.0),
        (-8.0, 0.0),
    ];
    for (n, (g, mean)) in sample(all).enumerate() {
        let mut call = Call::new(131_072, 1, 16, 16);
        for values in [&mut call.q, &mut call.k, &mut call.v] {
            values.iter_mut().for_each(|x| *x += mean);
        }
        call.g = vec![g];
        call.state.fill(0.0);
        let reference = call.reference();
        for form in by_turns([Form::Auto, Form::Fused], n) {
            call.options.form = form;
            let out = call.run();
            let (o, state) = (
                ratio(&out.o, &reference.o),
                ratio(&out.state, &reference.final_state),
            );
            println!("g {g}, mean {mean}, {form:?}: o {o:.1e}, state {state:.1e}");
            assert!(
                o <= 5e-6 && state <= 5e-6,
                "g {g}, mean {mean}, {form:?}: {o:e}, {state:e}"
            );
        }
    }
}

#[test]
fn cases_survive_writing_and_reading() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("case.safetensors");
    let tensors = BTreeMap::from([
        (
            "in.q".to_owned(),
            Array::rounded(Dtype::Bf16, &[1, 2, 1, 2], &[0.5, -1.0, 2.0, 0.25]),
        ),
        ("out.o".to_owned(), Array::f32(&[3], &[1.0, 2.0, 3.0])),
    ]);
    let metadata = BTreeMap::from([
        ("op".to_owned(), "linear_attention".to_owned()),
        ("params".to_owned(), r#"{"scale": 2.0}"#.to_owned()),
    ]);
    Case::write_tensors(&path, &tensors, metadata).unwrap();
    let case = Case::read(&path, None, &Map::new()).unwrap();
    assert_eq!(
        (
            &case.inputs["q"],
            &case.expected["o"],
            case.params["scale"].as_f64()
        ),
        (&tensors["in.q"], &tensors["out.o"], Some(2.0))
    );
}
