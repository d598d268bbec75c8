//! Late interaction: cut anywhere, and its wrong arguments.

use subquad::{
    gpu::Caps,
    hamming::{
        cpu,
        maxsim::{Runs, maxsim, plan},
    },
};

use crate::{device::gpu, random_words};

#[test]
fn cuts_of_documents_and_of_their_tokens_change_nothing() {
    let runs = Runs {
        bits: 90,
        queries: &[0, 5, 5, 12],
        documents: &[0, 0, 30, 31, 31, 200, 230],
        counted: &[],
    };
    let (queries, documents) = (random_words("q", 36), random_words("d", 690));
    let (scores, nearest) = cpu::maxsim::maxsim(&runs, &queries, &documents);
    let small = Caps {
        binding_bytes: 2560,
        ..Caps::lavapipe()
    };
    let short_loops = Caps {
        loop_iterations: 40,
        ..Caps::lavapipe()
    };
    for (caps, least) in [(small, 4), (short_loops, 6)] {
        let plan = plan(&runs, true, &caps).unwrap();
        assert!(plan.steps.len() >= least, "{}", plan.steps.len());
        let (q, d) = (
            gpu().upload(&queries).unwrap(),
            gpu().upload(&documents).unwrap(),
        );
        let mut score = gpu().upload(&[9i32; 18]).unwrap();
        let mut place = gpu().upload(&[9u32; 72]).unwrap();
        let mut pass = gpu().pass("test");
        let outputs = &mut [score.view_mut(), place.view_mut()];
        pass.run(&plan, &[q.view(), d.view()], outputs).unwrap();
        pass.submit().unwrap();
        assert_eq!(score.download().unwrap(), scores);
        assert_eq!(place.download().unwrap(), nearest);
    }
}

#[test]
fn wrong_arguments_are_named() {
    let codes = gpu().zeros::<u32>(8).unwrap();
    let mut score = gpu().zeros::<i32>(1).unwrap();
    let mut call = |bits, queries: &[u32], documents: &[u32], counted: &[bool]| {
        let runs = Runs {
            bits,
            queries,
            documents,
            counted,
        };
        let found = maxsim(gpu(), &runs, &codes, &codes, &mut score, None);
        found.unwrap_err().to_string()
    };
    assert_eq!(
        call(32, &[1, 8], &[0, 8], &[]),
        "hamming_maxsim: queries must be ascending from 0, got 1 first"
    );
    assert_eq!(
        call(32, &[0, 8], &[0, 5, 4], &[]),
        "hamming_maxsim: documents must be ascending from 0, got a bound below the one before it"
    );
    assert_eq!(
        call(32, &[0, 8], &[0, 8], &[true]),
        "hamming_maxsim: counted must be 8 elements for this shape, got 1"
    );
    assert_eq!(
        call(32, &[0, 8], &[0, 9], &[]),
        "hamming_maxsim: documents must be 9 elements for this shape, got 8"
    );
    assert_eq!(
        call(32, &[0, 70_000], &[0, 8], &[]),
        "hamming_maxsim: queries must be at most 60000 tokens each, got 70000"
    );
}
