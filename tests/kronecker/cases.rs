//! The built-in cases of an operator, by every plan of the device as it is and with the plans of a GPU.

use std::path::Path;

use subquad::{
    case::{Case, Problem, judge, ops, run},
    cli::case_files,
    gpu::Caps,
};

use crate::{
    device::gpu,
    devices::devices_for,
    effort::{sample, thorough},
};

pub fn problems(op: &str) -> Vec<(String, Box<dyn Problem>)> {
    let op = ops().iter().find(|found| found.name == op).unwrap();
    let cases = (op.builtin)().into_iter();
    cases
        .map(|case| (case.name.clone(), case.bind().unwrap()))
        .collect()
}

/// Runs every plan of every case, checked and twice unchecked, against the reference.
pub fn hold(op: &str) {
    hold_on(op, |name| devices_for(name).collect());
}

/// [`hold`] with the plans of devices chosen by a case's name.
pub fn hold_on(op: &str, devices: impl Fn(&str) -> Vec<Caps>) {
    for (name, problem) in sample(problems(op)) {
        let references = problem.reference().unwrap();
        let outputs = problem.outputs();
        for caps in devices(&name) {
            for plan in problem.plans(&caps, thorough()).unwrap() {
                let of = |checked| run(gpu(), problem.as_ref(), &plan, checked).unwrap();
                let got = of(false);
                assert!(got == of(false), "{name}: two runs differ");
                let checked = thorough().then(|| of(true));
                for arrays in [got].into_iter().chain(checked) {
                    for ((output, array), reference) in outputs.iter().zip(&arrays).zip(&references)
                    {
                        let magnitude = (!reference.magnitude.is_empty())
                            .then_some(reference.magnitude.as_slice());
                        let verdict = judge(output, array, &reference.values, magnitude);
                        assert!(
                            verdict.holds(),
                            "{name}, {:?}, {}, {}: {verdict:?}",
                            caps.class,
                            plan.label,
                            output.name
                        );
                    }
                }
            }
        }
    }
}

/// Runs every plan of an operator's case files, of which there are at least so many, against what they expect.
pub fn hold_files(op: &str, least: usize) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/cases/kronecker");
    if !folder.is_dir() {
        println!("skipped: no folder {}", folder.display());
        return;
    }
    let mut found = 0;
    for file in case_files(&[folder]).unwrap() {
        let case = Case::read(&file, None, &Default::default()).unwrap();
        if case.op != op {
            continue;
        }
        found += 1;
        let problem = case.bind().unwrap();
        for caps in devices_for(&case.name) {
            for plan in problem.plans(&caps, thorough()).unwrap() {
                let arrays = run(gpu(), problem.as_ref(), &plan, false).unwrap();
                for (output, array) in problem.outputs().iter().zip(&arrays) {
                    let expected = case.expectation(output).unwrap().values();
                    let verdict = judge(output, array, &expected, None);
                    assert!(
                        verdict.holds(),
                        "{}, {}, {}: {verdict:?}",
                        case.name,
                        plan.label,
                        output.name
                    );
                }
            }
        }
    }
    assert!(found >= least, "only {found} case files of {op}");
}
