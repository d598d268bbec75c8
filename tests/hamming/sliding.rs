//! Sliding distances and the search for patterns: every method and every way to cut the work against the reference, exactly.

use subquad::{
    Error, Gpu, Tensor,
    gpu::{Caps, Class, Dtype},
    hamming::{
        ABSENT,
        cpu::sliding as cpu,
        sliding::{
            Classes, Facts, Hits, Method, Options, Pattern, Query, Shape, Text, k_mismatch,
            k_mismatch_count, plan, search, sliding,
        },
    },
    wgpu,
};

use crate::{
    device::gpu,
    effort::{by_turns, sample, thorough},
};

struct Random(u64);

impl Random {
    fn word(&mut self) -> u32 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 32) as u32
    }

    fn below(&mut self, n: u32) -> u32 {
        ((u64::from(self.word()) * u64::from(n)) >> 32) as u32
    }

    fn symbols(&mut self, len: usize, alphabet: u32) -> Vec<u32> {
        (0..len).map(|_| self.below(alphabet)).collect()
    }

    /// One bit of eight set, those beyond the end as well.
    fn mask(&mut self, len: usize) -> Vec<u32> {
        let mut word = || self.word() & self.word() & self.word();
        (0..len.div_ceil(32)).map(|_| word()).collect()
    }
}

/// A call, as host data.
#[derive(Clone)]
struct Call {
    text: Vec<u32>,
    dtype: Dtype,
    wild: Option<Vec<u32>>,
    pattern: Pattern,
    classes: Option<Classes>,
    facts: Facts,
}

impl Call {
    fn new(dtype: Dtype, text: Vec<u32>, pattern: &[u32]) -> Call {
        Call {
            text,
            dtype,
            wild: None,
            pattern: Pattern::new(pattern),
            classes: None,
            facts: Facts::default(),
        }
    }

    fn random(dtype: Dtype, n: usize, m: usize, alphabet: u32) -> Call {
        let mut random = Random((n * 31 + m) as u64 ^ u64::from(alphabet) << 20);
        let text = random.symbols(n, alphabet);
        Call::new(dtype, text, &random.symbols(m, alphabet))
    }

    fn masked(mut self, text: bool, pattern: bool) -> Call {
        let mut random = Random(7);
        self.wild = text.then(|| random.mask(self.text.len()));
        if pattern {
            let mask = random.mask(self.pattern.symbols_len());
            self.pattern = self.pattern.with_wild(&mask);
        }
        self
    }

    fn shape(&self) -> Shape {
        Shape {
            len: self.text.len(),
            dtype: self.dtype,
            wild: self.wild.is_some(),
        }
    }

    fn options(&self, method: Method) -> Options<'_> {
        Options {
            method,
            classes: self.classes.as_ref(),
            facts: self.facts,
        }
    }

    fn host(&self) -> cpu::Text<'_> {
        cpu::Text {
            symbols: &self.text,
            wild: self.wild.as_deref(),
        }
    }

    fn reference(&self) -> Vec<u32> {
        cpu::sliding(&self.host(), &self.pattern, self.classes.as_ref()).unwrap()
    }

    /// The text and its mask as a device gets them.
    fn upload(&self) -> (Tensor<u8>, Option<Tensor<u32>>) {
        let bytes: Vec<u8> = match self.dtype {
            Dtype::U8 => self.text.iter().map(|symbol| *symbol as u8).collect(),
            _ => self.text.iter().flat_map(|s| s.to_le_bytes()).collect(),
        };
        let wild = self.wild.as_ref().map(|mask| gpu().upload(mask).unwrap());
        (gpu().upload(&bytes).unwrap(), wild)
    }

    /// Runs a method by the plan for these capabilities, between guards that must stay.
    fn run(&self, method: Method, caps: &Caps, checked: bool) -> Vec<u32> {
        const GUARD: usize = 64;
        let plan =
            plan::sliding(&self.shape(), &self.pattern, &self.options(method), caps).unwrap();
        let (text, wild) = self.upload();
        let len = self.shape().outputs(self.pattern.symbols_len());
        let buffer = guarded(gpu(), len);
        let mut out = gpu()
            .wrap::<u32>(buffer.clone(), 4 * GUARD as u64, len)
            .unwrap();
        let views: Vec<_> = [text.view()]
            .into_iter()
            .chain(wild.as_ref().map(Tensor::view))
            .collect();
        let mut pass = gpu().pass("sliding");
        pass.run_checked(&plan, &views, &mut [out.view_mut()], checked)
            .unwrap();
        pass.submit().unwrap();
        let all = gpu().wrap::<u32>(buffer, 0, len + 2 * GUARD).unwrap();
        let all = all.download().unwrap();
        assert!(all[..GUARD].iter().all(|word| *word == u32::MAX));
        assert!(all[GUARD + len..].iter().all(|word| *word == u32::MAX));
        all[GUARD..GUARD + len].to_vec()
    }

    fn methods(&self) -> &'static [Method] {
        match self.classes {
            Some(_) => &[Method::Planes],
            None => &Method::ALL,
        }
    }

    /// Every method, and the native path, against the reference.
    fn check(&self, name: &str) {
        self.check_methods(name, self.methods());
    }

    fn check_methods(&self, name: &str, methods: &[Method]) {
        self.check_against(name, methods, &self.reference());
    }

    fn check_against(&self, name: &str, methods: &[Method], expected: &[u32]) {
        let native = cpu::native(&self.host(), &self.pattern, self.classes.as_ref()).unwrap();
        assert!(native == expected, "{name}: native");
        for method in methods {
            let got = self.run(*method, gpu().caps(), false);
            let wrong = got.iter().zip(expected).position(|(a, b)| a != b);
            assert!(
                got == expected,
                "{name}: {} at {wrong:?}: {:?} for {:?}",
                method.name(),
                wrong.map(|at| got[at]),
                wrong.map(|at| expected[at])
            );
        }
    }
}

/// Words that are all ones: room for an output between guards of 64 words.
fn guarded(gpu: &Gpu, len: usize) -> wgpu::Buffer {
    gpu.upload(&vec![u32::MAX; len + 128])
        .unwrap()
        .into_buffer()
}

#[test]
fn methods_agree_over_alphabets() {
    for alphabet in sample([1, 2, 3, 4, 5, 20, 255, 256]) {
        Call::random(Dtype::U8, 1500, 300, alphabet).check(&format!("u8 {alphabet}"));
    }
    for alphabet in [3, 257] {
        Call::random(Dtype::U32, 1500, 300, alphabet).check(&format!("u32 {alphabet}"));
    }
    // As many symbols as a pattern of this length can have, in the text as well, and no two of the pattern equal.
    let all: Vec<u32> = (0..65_536u32)
        .map(|n| n.wrapping_mul(2_654_435_761))
        .collect();
    let mut random = Random(5);
    let text = (0..66_000)
        .map(|_| all[random.below(65_536) as usize])
        .collect();
    let quick = [Method::Planes, Method::Direct, Method::Scatter];
    let call = Call::new(Dtype::U32, text, &all);
    call.check_methods("65536 symbols", &quick);
    // 300 different symbols, the largest and the smallest among them.
    let some: Vec<u32> = (0..300).map(|n: u32| u32::MAX.wrapping_mul(n)).collect();
    Call::new(Dtype::U32, some.repeat(4), &some[40..]).check("300 symbols");
}

#[test]
fn methods_agree_over_lengths() {
    for m in [1, 2, 31, 32, 33, 63, 64, 65, 100, 1000, 4096] {
        for dtype in [Dtype::U8, Dtype::U32] {
            Call::random(dtype, m + 70, m, 4).check(&format!("{} m {m}", dtype.name()));
        }
        for n in [m - 1, m, m + 1] {
            Call::random(Dtype::U8, n, m, 3).check(&format!("n {n} m {m}"));
        }
    }
    Call::random(Dtype::U8, 30_000, 100, 4).check("long text");
    Call::random(Dtype::U8, 9000, 2049, 4).check("past half a short transform");
}

#[test]
fn methods_agree_on_patterns_of_65536_symbols_and_about() {
    // No pair of the last matches: the distance is the length.
    let far = Call::new(Dtype::U8, vec![1; 65_540], &[2; 65_537]);
    assert!(far.reference().iter().all(|distance| *distance == 65_537));
    let calls = [
        ("m 65535", Call::random(Dtype::U8, 65_700, 65_535, 2)),
        ("m 65536", Call::random(Dtype::U8, 65_536, 65_536, 2)),
        ("m 65537", Call::random(Dtype::U8, 65_601, 65_537, 2)),
        (
            "u32 m 65537",
            Call::random(Dtype::U32, 66_000, 65_537, 3).masked(true, true),
        ),
        ("all mismatches", far),
    ];
    for (name, call) in by_turns(calls, 2) {
        call.check(name);
    }
}

#[test]
fn constant_and_periodic_texts() {
    let mut random = Random(11);
    let period = random.symbols(32, 4);
    for (name, text, pattern) in [
        ("constant, same", vec![7; 700], vec![7; 128]),
        ("constant, other", vec![7; 700], vec![8; 128]),
        ("period", period.repeat(30), period.repeat(4)),
        (
            "shifted period",
            period.repeat(30),
            period.repeat(4)[5..].to_vec(),
        ),
    ] {
        let call = Call::new(Dtype::U8, text, &pattern);
        call.check(name);
        let own = Call {
            facts: Facts::of(&call.text, &call.pattern),
            ..call
        };
        own.check(name);
    }
    // A symbol once in the text and once in the pattern, a quarter of a transform from the start: a quarter of the numbers of
    // both transforms are 65536, in the same places, so that their products wrap.
    let (mut text, mut pattern) = (vec![1; 4000], vec![2; 2048]);
    (text[1024], pattern[1024]) = (3, 3);
    let call = Call::new(Dtype::U8, text, &pattern);
    let expected = call.reference();
    assert!(expected[0] == 2047 && expected[1..].iter().all(|distance| *distance == 2048));
    call.check("products of 65536");
    // Two symbols that alternate over whole transforms.
    let text: Vec<u32> = (0..70_000).map(|i| i % 2).collect();
    let call = Call::new(Dtype::U8, text.clone(), &text[..32_768]);
    let expected: Vec<u32> = (0..=70_000 - 32_768).map(|i| i % 2 * 32_768).collect();
    let methods: Vec<Method> = by_turns(Method::ALL, 3).collect();
    call.check_against("alternating", &methods, &expected);
    Call::new(Dtype::U8, vec![3; 9000], &vec![3; 2048]).check("one symbol");
}

#[test]
fn wild_symbols_on_both_sides() {
    for dtype in [Dtype::U8, Dtype::U32] {
        for (text, pattern) in [(true, false), (false, true), (true, true)] {
            for (n, m) in [(700, 33), (1025, 64), (5000, 1000)] {
                let call = Call::random(dtype, n, m, 4).masked(text, pattern);
                call.check(&format!("{} {text} {pattern} {n} {m}", dtype.name()));
            }
        }
    }
    let all_wild = Call::random(Dtype::U8, 300, 40, 4);
    let pattern = all_wild.pattern.clone().with_wild(&[u32::MAX; 2]);
    let call = Call {
        pattern,
        ..all_wild
    };
    assert!(call.reference().iter().all(|distance| *distance == 0));
    call.check("wild pattern");
    let wild = Some(vec![u32::MAX; 10]);
    Call {
        wild,
        ..Call::random(Dtype::U8, 300, 40, 4)
    }
    .check("wild text");
}

#[test]
fn facts_of_the_text_change_planes_and_nothing_else() {
    for (alphabet, bits) in [(4, 2), (5, 3)] {
        let call = Call::random(Dtype::U8, 2000, 200, alphabet);
        let facts = Facts::of(&call.text, &call.pattern);
        let pairs = call.text.iter().map(|t| {
            let same = call.pattern.symbols.iter().filter(|p| *p == t);
            same.count()
        });
        assert_eq!(facts.matches, Some(pairs.sum::<usize>() as f64));
        assert!(!facts.others);
        let call = Call { facts, ..call };
        let plan = plan::sliding(
            &call.shape(),
            &call.pattern,
            &call.options(Method::Planes),
            gpu().caps(),
        );
        assert_eq!(plan.unwrap().label, format!("bit planes: {bits}"));
        call.check("facts");
    }
    let text = [1u32, 2, 3];
    assert!(Facts::of(&text, &Pattern::new(&[1u32, 2])).others);
}

#[test]
fn classes_match_where_they_share_a_letter() {
    let mut random = Random(3);
    let codes = b"ACGTURYSWKMBDHVNacgturyswkmbdhvn-";
    let mut draw = |len: usize| -> Vec<u32> {
        let code = |random: &mut Random| codes[random.below(codes.len() as u32) as usize];
        (0..len).map(|_| code(&mut random).into()).collect()
    };
    for dtype in [Dtype::U8, Dtype::U32] {
        for m in [5, 40, 130] {
            let mut call = Call::new(dtype, draw(800), &draw(m));
            call.classes = Some(Classes::iupac());
            call.check("iupac");
            call.masked(true, true).check("iupac with masks");
        }
    }
    // By hand: R is A or G, N anything, - nothing.
    let mut call = Call::new(Dtype::U8, b"AGCT-".map(u32::from).to_vec(), &[b'R'.into()]);
    call.classes = Some(Classes::iupac());
    assert_eq!(call.run(Method::Auto, gpu().caps(), true), [0, 0, 1, 1, 1]);
    // All 32 letters, and classes of symbols beyond a byte that a text of bytes cannot hold.
    let list: Vec<_> = (0..40)
        .map(|n| (n * 100, 1u32.rotate_left(n) | 1 << 31))
        .collect();
    let mut call = Call::random(Dtype::U32, 600, 50, 4000);
    call.text
        .iter_mut()
        .for_each(|symbol| *symbol = *symbol / 100 * 100);
    call.pattern
        .symbols
        .iter_mut()
        .for_each(|symbol| *symbol = *symbol / 100 * 100);
    call.classes = Some(Classes {
        text: list
            .iter()
            .map(|(symbol, set)| (*symbol, set & 0x7fff_ffff))
            .collect(),
        pattern: list,
    });
    call.check("32 letters");
}

/// The device as one with small bindings and budgets, few turns of loops and little speed.
fn cramped() -> Caps {
    Caps {
        binding_bytes: 48 << 10,
        scratch_bytes: 1 << 20,
        loop_iterations: 700,
        gflops: 2e-3,
        ..gpu().caps().clone()
    }
}

#[test]
fn work_cut_in_chunks_slices_and_groups_gives_the_same() {
    let caps = cramped();
    for dtype in [Dtype::U8, Dtype::U32] {
        for masks in [false, true] {
            let call = Call::random(dtype, 33_000, 1700, 3).masked(masks, masks);
            let expected = call.reference();
            for method in Method::ALL {
                let options = call.options(method);
                let caps = match method {
                    // Transforms of 4096 numbers take 16 KiB each.
                    Method::Ntt => &Caps {
                        gflops: 0.05,
                        ..caps.clone()
                    },
                    _ => &caps,
                };
                let plan = plan::sliding(&call.shape(), &call.pattern, &options, caps).unwrap();
                assert!(plan.steps.len() > 10, "{method:?} {}", plan.steps.len());
                assert!(
                    call.run(method, caps, false) == expected,
                    "{method:?} {dtype:?} {masks}"
                );
            }
        }
    }
}

#[test]
fn kernels_of_other_devices_and_checked_ones_agree() {
    let others = [Caps::nvidia(), Caps::webgpu_floor()].map(|caps| Caps {
        loop_iterations: gpu().caps().loop_iterations,
        binding_bytes: gpu().caps().binding_bytes,
        ..caps
    });
    let call = Call::random(Dtype::U8, 6000, 500, 5).masked(true, false);
    let expected = call.reference();
    for caps in &others {
        for method in Method::ALL {
            assert!(call.run(method, caps, thorough()) == expected, "{method:?}");
        }
    }
}

#[test]
fn calls_are_their_plans_and_runs_are_equal() {
    let call = Call::random(Dtype::U32, 3000, 77, 9).masked(true, true);
    let expected = call.reference();
    let text = gpu().upload(&call.text).unwrap();
    let wild = gpu().upload(call.wild.as_ref().unwrap()).unwrap();
    let text = Text {
        symbols: &text,
        wild: Some(&wild),
    };
    for method in [Method::Auto].iter().chain(&Method::ALL) {
        let mut out = gpu().zeros::<u32>(expected.len()).unwrap();
        for _ in 0..2 {
            let options = call.options(*method);
            sliding(gpu(), &text, &call.pattern, &options, &mut out).unwrap();
            assert_eq!(out.download().unwrap(), expected);
        }
    }
}

#[test]
fn the_choice_follows_sizes_and_statistics() {
    let shape = |len, dtype| Shape {
        len,
        dtype,
        wild: false,
    };
    let mut random = Random(2);
    for caps in Caps::presets() {
        let choose = |shape: &Shape, pattern: &[u32], matches| {
            let options = Options {
                facts: Facts {
                    others: false,
                    matches,
                },
                ..Options::default()
            };
            plan::choose(shape, &Pattern::new(pattern), &options, &caps)
        };
        let text = shape(4 << 20, Dtype::U8);
        let dna = random.symbols(20_000, 4);
        assert_eq!(choose(&text, &dna[..64], None), Method::Planes);
        assert_eq!(choose(&text, &dna, None), Method::Ntt, "{}", caps.name);
        let text = shape(4 << 20, Dtype::U32);
        let rare: Vec<u32> = (0..4000).map(|n| 17 * n).collect();
        assert_eq!(choose(&text, &rare, Some(1e4)), Method::Scatter);
    }
}

#[test]
fn plans_fit_every_preset() {
    for caps in Caps::presets() {
        for (dtype, len) in [(Dtype::U8, 4_000_000_000), (Dtype::U32, 200_000_000)] {
            for wild in [false, true] {
                let shape = Shape { len, dtype, wild };
                let pattern = Pattern::new(&Random(1).symbols(1000, 20));
                for method in [Method::Planes, Method::Direct, Method::Scatter] {
                    let options = Options {
                        method,
                        ..Options::default()
                    };
                    let plan = plan::sliding(&shape, &pattern, &options, &caps).unwrap();
                    let slow = plan.steps.iter().filter(|step| step.groups > 1);
                    assert!(slow.fold(0.0f64, |ms, step| ms.max(step.predicted_ms)) <= 100.0);
                }
                let query = Query::new(Pattern::new(b"ACGTACGTACGTACGTACGTNGG"), 4);
                let plan =
                    search::plan::search(&shape, &vec![query; 100], None, Some(1 << 20), &caps);
                assert!(!plan.unwrap().steps.is_empty());
            }
        }
        let shape = Shape {
            len: 3_000_000,
            dtype: Dtype::U8,
            wild: true,
        };
        let options = Options {
            method: Method::Ntt,
            ..Options::default()
        };
        let pattern = Pattern::new(&Random(1).symbols(40_000, 20));
        assert!(plan::sliding(&shape, &pattern, &options, &caps).is_ok());
    }
}

/// The message of a refusal.
fn refusal<T>(result: Result<T, Error>) -> String {
    match result {
        Err(error @ (Error::Argument { .. } | Error::Unsupported { .. } | Error::Limit { .. })) => {
            error.to_string()
        }
        Err(error) => panic!("{error:?}"),
        Ok(_) => panic!("accepted"),
    }
}

#[test]
fn bad_input_is_refused_in_one_sentence() {
    let caps = gpu().caps();
    let shape = Shape {
        len: 100,
        dtype: Dtype::U8,
        wild: false,
    };
    let plain = Options::default();
    let try_it = |shape: &Shape, pattern: &Pattern, options: &Options<'_>| {
        refusal(plan::sliding(shape, pattern, options, caps))
    };
    let good = Pattern::new(b"ACGT");
    let none = Pattern::default();
    assert_eq!(
        try_it(&shape, &none, &plain),
        "sliding_hamming: pattern must be of 1 to 2^32 - 2 symbols, got 0"
    );
    assert_eq!(
        try_it(&shape, &Pattern::new(&[1u32, 256]), &plain),
        "sliding_hamming: pattern must be of symbols up to 255 for a text of bytes, got 256 at 1"
    );
    assert_eq!(
        try_it(&shape, &good.clone().with_wild(&[0, 0]), &plain),
        "sliding_hamming: pattern.wild must be 1 elements for this shape, got 2"
    );
    let half = Shape {
        dtype: Dtype::F16,
        ..shape
    };
    assert_eq!(
        try_it(&half, &good, &plain),
        "sliding_hamming: text must be of u8 or u32, got f16"
    );
    let classes = Classes::iupac();
    let options = Options {
        classes: Some(&classes),
        method: Method::Ntt,
        ..plain
    };
    assert_eq!(
        try_it(&shape, &good, &options),
        "sliding_hamming does not support classes with the method ntt; use `Method::Planes`"
    );
    let long = Shape {
        len: usize::MAX,
        ..shape
    };
    assert!(try_it(&long, &good, &plain).contains("text must be of at most"));

    let text = gpu().upload(&[0u8; 100]).unwrap();
    let mut out = gpu().zeros::<u32>(96).unwrap();
    let text = Text::new(&text);
    let short = sliding(gpu(), &text, &good, &plain, &mut out);
    assert_eq!(
        refusal(short),
        "sliding_hamming: distance must be 97 elements for this shape, got 96"
    );
    let mask = gpu().zeros::<u32>(3).unwrap();
    let masked = Text {
        wild: Some(&mask),
        ..text
    };
    assert!(refusal(sliding(gpu(), &masked, &good, &plain, &mut out)).contains("text.wild"));

    // An oracle refuses what the planner refuses.
    let host = cpu::Text {
        symbols: &[1, 2, 3],
        wild: None,
    };
    assert!(cpu::sliding(&host, &none, None).is_err() && cpu::native(&host, &none, None).is_err());

    let search =
        |queries: &[Query]| refusal(search::plan::search(&shape, queries, None, None, caps));
    let long = Query::new(Pattern::new(&[0u8; 65]), 1);
    assert!(search(&[long]).contains("patterns of more than 64 symbols"));
    let must = Query::new(good.clone(), 1).with_must_match(&[]);
    assert!(search(&[must]).contains("query.must_match"));
    assert!(search(&[Query::new(none, 1)]).contains("pattern must be"));
    let few = Caps {
        loop_iterations: 300,
        class: Class::Cpu,
        ..caps.clone()
    };
    let many = vec![Query::new(good, 1); 1000];
    let refused = search::plan::search(&shape, &many, None, None, &few);
    assert!(refusal(refused).contains("patterns of one search"));
}

/// A search, as host data.
struct Search {
    call: Call,
    queries: Vec<Query>,
}

impl Search {
    /// Patterns of every length up to `longest`, copied from the text with some errors.
    fn new(dtype: Dtype, n: usize, patterns: usize, longest: usize, k: u32) -> Search {
        let mut random = Random(n as u64);
        let text = random.symbols(n, 4);
        let queries = (0..patterns).map(|_| {
            let m = 1 + random.below(longest as u32) as usize;
            let at = random.below((n - m + 1) as u32) as usize;
            let mut symbols = text[at..at + m].to_vec();
            for _ in 0..m / 8 {
                symbols[random.below(m as u32) as usize] = random.below(5);
            }
            Query::new(Pattern::new(&symbols), random.below(k + 1))
        });
        let queries = queries.collect();
        Search {
            call: Call::new(dtype, text, &[0]),
            queries,
        }
    }

    fn masked(mut self) -> Search {
        self.call = self.call.masked(true, false);
        let mut random = Random(9);
        for query in &mut self.queries {
            let m = query.pattern.symbols_len();
            query.pattern.wild = Some(random.mask(m));
            query.must_match = Some(random.mask(m));
        }
        self
    }

    fn reference(&self) -> Vec<cpu::Hit> {
        cpu::k_mismatch(&self.call.host(), &self.queries, self.call.classes.as_ref()).unwrap()
    }

    /// Hits by the plan for these capabilities, and the total; the rest of the capacity must be absent.
    fn run(&self, capacity: usize, caps: &Caps) -> (Vec<cpu::Hit>, u32) {
        let classes = self.call.classes.as_ref();
        let shape = self.call.shape();
        let plan =
            search::plan::search(&shape, &self.queries, classes, Some(capacity), caps).unwrap();
        let (text, wild) = self.call.upload();
        let views: Vec<_> = [text.view()]
            .into_iter()
            .chain(wild.as_ref().map(Tensor::view))
            .collect();
        let [mut a, mut b, mut c] = [(); 3].map(|()| gpu().upload(&vec![5u32; capacity]).unwrap());
        let mut total = gpu().upload(&[7u32]).unwrap();
        let outputs = &mut [a.view_mut(), b.view_mut(), c.view_mut(), total.view_mut()];
        let mut pass = gpu().pass("search");
        pass.run_checked(&plan, &views, outputs, false).unwrap();
        pass.submit().unwrap();
        let [a, b, c] = [a, b, c].map(|tensor| tensor.download().unwrap());
        let total = total.download().unwrap()[0];
        let rows = a.into_iter().zip(b).zip(c).map(|((a, b), c)| [a, b, c]);
        let rows: Vec<_> = rows.collect();
        let written = if total as usize <= capacity {
            total as usize
        } else {
            0
        };
        assert!(rows[written..].iter().all(|hit| *hit == [ABSENT; 3]));
        (rows[..written].to_vec(), total)
    }
}

#[test]
fn searches_find_what_the_reference_finds_in_its_order() {
    for dtype in [Dtype::U8, Dtype::U32] {
        for (n, patterns, longest, k) in [
            (3000, 12, 23, 6),
            (700, 40, 64, 30),
            (257, 3, 64, 40),
            (64, 5, 64, 64),
            (20_000, 2, 9, 2),
        ] {
            for masked in [false, true] {
                let mut search = Search::new(dtype, n, patterns, longest, k);
                if masked {
                    search = search.masked();
                }
                let expected = search.reference();
                assert!(expected.is_sorted() && !expected.is_empty());
                let (hits, total) = search.run(expected.len() + 3, gpu().caps());
                assert_eq!(total as usize, expected.len());
                assert!(
                    hits == expected,
                    "{dtype:?} {n} {patterns} {longest} {masked}"
                );
            }
        }
    }
}

#[test]
fn searches_cut_in_chunks_and_groups_give_the_same() {
    for masked in [false, true] {
        let mut search = Search::new(Dtype::U32, 50_000, 20, 23, 8);
        // So many errors that half of all places were hits would not fit a binding.
        let far = |query: &Query| query.pattern.symbols_len() as u32 > 3 + 2 * query.k;
        search.queries.retain(far);
        if masked {
            search = search.masked();
        }
        let expected = search.reference();
        let caps = Caps {
            binding_bytes: 200 << 10,
            gflops: 2e-3,
            ..gpu().caps().clone()
        };
        let shape = search.call.shape();
        let plan = search::plan::search(&shape, &search.queries, None, Some(1), &caps).unwrap();
        assert!(plan.steps.len() > 20, "{}", plan.steps.len());
        assert!(
            (100..50_000).contains(&expected.len()),
            "{}",
            expected.len()
        );
        let (hits, total) = search.run(expected.len(), &caps);
        assert!(total as usize == expected.len() && hits == expected);
    }
}

#[test]
fn searches_with_classes_and_motifs() {
    // A guide of 20 nucleotides, then NGG of which the Gs must match.
    let mut random = Random(4);
    let text: Vec<u32> = random
        .symbols(8000, 4)
        .into_iter()
        .map(|n| b"ACGT"[n as usize].into())
        .collect();
    let guide = |at: usize| {
        let mut symbols = text[at..at + 20].to_vec();
        symbols.extend(b"NGG".map(u32::from));
        Query::new(Pattern::new(&symbols), 12).with_must_match(&[0b110 << 20])
    };
    let queries: Vec<_> = [10, 500, 7000].map(guide).into();
    let mut call = Call::new(Dtype::U8, text.clone(), &[0]);
    call.classes = Some(Classes::iupac());
    let search = Search { call, queries };
    let expected = search.reference();
    assert!(expected.len() > 10);
    for [position, ..] in &expected {
        let motif = &text[*position as usize + 21..][..2];
        assert_eq!(motif, [u32::from(b'G'); 2]);
    }
    assert_eq!(search.run(1000, gpu().caps()).0, expected);
}

#[test]
fn a_capacity_too_small_writes_nothing_and_says_how_many() {
    let search = Search::new(Dtype::U8, 4000, 9, 12, 5);
    let expected = search.reference();
    let total = expected.len();
    let (none, counted) = search.run(total - 1, gpu().caps());
    assert!(none.is_empty() && counted as usize == total);
    assert_eq!(search.run(total, gpu().caps()).0, expected);

    let (text, _) = search.call.upload();
    let text = Text::new(&text);
    let count = k_mismatch_count(gpu(), &text, &search.queries, None).unwrap();
    assert_eq!(count, total);
    let call = |capacity: usize| {
        let [mut position, mut pattern, mut distance] =
            [(); 3].map(|()| gpu().zeros::<u32>(capacity).unwrap());
        let mut total = gpu().zeros::<u32>(1).unwrap();
        let hits = Hits {
            position: &mut position,
            pattern: &mut pattern,
            distance: &mut distance,
            total: &mut total,
        };
        let found = k_mismatch(gpu(), &text, &search.queries, None, hits)?;
        Ok((found, distance.download().unwrap()))
    };
    let (found, distances) = call(total + 1).unwrap();
    assert_eq!(found, total);
    let last: Vec<u32> = expected.iter().map(|hit| hit[2]).chain([ABSENT]).collect();
    assert_eq!(distances, last);
    assert_eq!(
        refusal(call(total - 1)),
        format!(
            "k_mismatch: capacity needs {total}, the limit is {}; raise the capacity to what `k_mismatch_count` says, or lower k",
            total - 1
        )
    );
    // Nothing to search, or nothing to search for.
    assert_eq!(k_mismatch_count(gpu(), &text, &[], None).unwrap(), 0);
    let short = gpu().upload(b"ACG").unwrap();
    let long = [Query::new(Pattern::new(b"ACGT"), 4)];
    assert_eq!(
        k_mismatch_count(gpu(), &Text::new(&short), &long, None).unwrap(),
        0
    );
}
