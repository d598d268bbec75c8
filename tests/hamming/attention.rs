//! Popcount attention: the f64 reference against its formula, the adapter against the reference, and what must hold exactly.

mod gradients;
mod refusals;

use half::{bf16, f16};
use subquad::{
    Gpu,
    case::{Numbers, Problem, judge, ops, run},
    gpu::{Caps, Dtype, ViewMut},
    hamming::attention::{
        Beta, Denominator, Inputs, KEPT, Options, Outputs, Sequences, Shape, cpu, forward,
        plan::{self, Wanted},
    },
    plan::Plan,
};

#[path = "../common/device.rs"]
mod device;
use device::{Number, download, gpu, round, upload};

/// A call's tensors on the host. Pads of codes are garbage.
#[derive(Clone)]
pub struct Call {
    pub shape: Shape,
    pub options: Options,
    pub q: Vec<u32>,
    pub k: Vec<u32>,
    pub v: Vec<f32>,
    pub lengths: Option<Vec<u32>>,
}

/// What a forward plan writes.
#[derive(Clone, Debug, PartialEq)]
pub struct Out {
    pub o: Vec<f32>,
    pub lse: Vec<f32>,
    pub kept: Vec<u32>,
}

impl Call {
    pub fn new(shape: Shape, options: Options) -> Call {
        let mut numbers = Numbers::of(&format!("{shape:?}"));
        // Codes near a few centres vary in distance, and tie.
        let centres: Vec<u32> = (0..4 * shape.words()).map(|_| numbers.word()).collect();
        let mut codes = |rows: usize| -> Vec<u32> {
            let mut words = Vec::new();
            for _ in 0..rows {
                let centre = numbers.below(4);
                words.extend((0..shape.words()).map(|w| {
                    let noise = numbers.word() & numbers.word();
                    centres[centre * shape.words() + w] ^ noise
                }));
            }
            words
        };
        let (q, k) = (codes(shape.rows()), codes(shape.key_rows()));
        let v = (0..shape.value_len())
            .map(|_| numbers.signed() as f32)
            .collect();
        Call {
            shape,
            options,
            q,
            k,
            v,
            lengths: None,
        }
    }

    pub fn wide_v(&self) -> Vec<f64> {
        self.v.iter().map(|x| f64::from(*x)).collect()
    }

    pub fn reference(&self) -> cpu::Outputs {
        let v = self.wide_v();
        let inputs = cpu::Inputs {
            q: &self.q,
            k: &self.k,
            v: &v,
            lengths: self.lengths.as_deref(),
        };
        cpu::forward(&self.shape, &self.options, &inputs).unwrap()
    }

    pub fn plan(&self, caps: &Caps) -> Plan {
        plan::forward(&self.shape, &self.options, self.wanted(), caps).unwrap()
    }

    pub fn wanted(&self) -> Wanted {
        Wanted {
            lse: true,
            kept: true,
            lengths: self.lengths.is_some(),
        }
    }

    pub fn run(&self, plan: &Plan) -> Out {
        let gpu: &Gpu = gpu();
        let (q, k) = (gpu.upload(&self.q).unwrap(), gpu.upload(&self.k).unwrap());
        let v = gpu.upload(&self.v).unwrap();
        let lengths = self.lengths.as_ref().map(|n| gpu.upload(n).unwrap());
        let nan = |len: usize| gpu.upload(&vec![f32::NAN; len]).unwrap();
        let (mut o, mut lse) = (nan(self.shape.output_len()), nan(self.shape.rows()));
        let mut kept = gpu.zeros::<u32>(KEPT * self.shape.rows()).unwrap();
        let mut views = vec![q.view(), k.view(), v.view()];
        views.extend(lengths.iter().map(|n| n.view()));
        let outputs: &mut [ViewMut<'_>] = &mut [o.view_mut(), lse.view_mut(), kept.view_mut()];
        let mut pass = gpu.pass("attention");
        pass.run_checked(plan, &views, outputs, false).unwrap();
        pass.submit().unwrap();
        Out {
            o: o.download().unwrap(),
            lse: lse.download().unwrap(),
            kept: kept.download().unwrap(),
        }
    }

    pub fn out(&self) -> Out {
        self.run(&self.plan(gpu().caps()))
    }

    /// Holds a plan's outputs against the reference.
    pub fn judge(&self, plan: &Plan) -> Out {
        let out = self.run(plan);
        let expected = self.reference();
        // Sums of a few terms have a few roundings beside those of the sum: of the weight, the product and the quotient.
        let unit = 2f64.powi(-24) * (1.0 + (self.shape.keys.max(1) as f64).log2());
        for (n, (got, value)) in out.o.iter().zip(&expected.o).enumerate() {
            let error = (f64::from(*got) - value).abs();
            let bound = 8.0 * unit * expected.magnitude[n] + f64::from(f32::MIN_POSITIVE);
            assert!(
                error <= bound,
                "{} {:?}: o[{n}] = {got}, {value}, {:.1} of the bound",
                plan.label,
                self.options,
                error / bound
            );
        }
        for (n, (got, value)) in out.lse.iter().zip(&expected.lse).enumerate() {
            let error = (f64::from(*got) - value).abs();
            let bound = 8.0 * unit + value.abs() * 2f64.powi(-21);
            assert!(error <= bound, "{} lse[{n}] = {got}, {value}", plan.label);
        }
        out
    }
}

/// The device's own plan, and that of a GPU with small and with large workgroups.
fn variants() -> Vec<Caps> {
    let own = gpu().caps().clone();
    let of = |preset: Caps| Caps {
        loop_iterations: own.loop_iterations,
        f16: own.f16,
        ..preset
    };
    vec![own.clone(), of(Caps::webgpu_floor()), of(Caps::intel())]
}

fn square(sizes: [usize; 3], bits: usize, value: usize) -> Shape {
    Shape::square(sizes, bits, value, Dtype::F32)
}

fn causal(beta: f32) -> Options {
    Options {
        causal: true,
        ..Options::dense(beta)
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn built_in_cases_and_their_gradients_hold() {
    let op = ops()
        .iter()
        .find(|op| op.name == "hamming_attention")
        .unwrap();
    for case in (op.builtin)() {
        let problem = case.bind().unwrap();
        let adjoint = problem.adjoint();
        for problem in [Some(problem.as_ref()), adjoint.as_deref()]
            .into_iter()
            .flatten()
        {
            hold(&case.name, problem);
        }
    }
}

fn hold(name: &str, problem: &dyn Problem) {
    let references = problem.reference().unwrap();
    for plan in problem.plans(gpu().caps(), false).unwrap() {
        let arrays = run(gpu(), problem, &plan, true).unwrap();
        for ((output, array), reference) in problem.outputs().iter().zip(&arrays).zip(&references) {
            let verdict = judge(output, array, &reference.values, Some(&reference.magnitude));
            assert!(
                verdict.holds(),
                "{name} {} {}: {verdict:?}",
                plan.label,
                output.name
            );
        }
    }
}

fn stored_as<T: Number>(bound: f64) {
    let shape = Shape {
        dtype: T::DTYPE,
        ..square([1, 2, 61], 64, 7)
    };
    let mut call = Call::new(shape, causal(0.1));
    let v = round::<T>(&call.wide_v());
    call.v = v.iter().map(|x| *x as f32).collect();
    let (q, k) = (
        gpu().upload(&call.q).unwrap(),
        gpu().upload(&call.k).unwrap(),
    );
    let v = upload::<T>(&v);
    let mut o = upload::<T>(&vec![f64::NAN; shape.output_len()]);
    let inputs = Inputs {
        q: &q,
        k: &k,
        v: &v,
        lengths: None,
    };
    let outputs = Outputs {
        o: &mut o,
        lse: None,
        kept: None,
    };
    forward(gpu(), &shape, &call.options, &inputs, outputs).unwrap();
    let expected = call.reference();
    for ((got, value), magnitude) in download(&o)
        .iter()
        .zip(&expected.o)
        .zip(&expected.magnitude)
    {
        let allowed = bound * value.abs() + 1e-5 * magnitude + 1e-7;
        assert!((got - value).abs() <= allowed, "{got} {value}");
    }
}

#[test]
fn storage_types_are_rounded_once() {
    stored_as::<f32>(0.0);
    stored_as::<f16>(2f64.powi(-11));
    stored_as::<bf16>(2f64.powi(-8));
}

#[test]
fn one_value_stays_one() {
    for (tokens, width, beta) in [
        (1, 1, 3.0),
        (300, 40, 0.2),
        (1000, 64, 0.013),
        (200, 64, 5.0),
    ] {
        for options in [Options::dense(beta), causal(beta)] {
            let mut call = Call::new(square([1, 2, tokens], width, 1), options);
            call.v.fill(1.0);
            for o in call.out().o {
                assert!((o - 1.0).abs() <= 1e-6, "{o}");
            }
        }
    }
}

#[test]
fn beta_zero_is_the_mean_and_a_large_one_the_mean_over_the_nearest() {
    let shape = square([1, 1, 90], 9, 5);
    for (beta, nearest) in [(0.0, false), (60.0, true), (3000.0, true)] {
        let call = Call::new(shape, Options::dense(beta));
        let out = call.judge(&call.plan(gpu().caps()));
        for i in 0..90 {
            let d = |j: usize| (call.q[i] ^ call.k[j]) & 0x1ff;
            let least = (0..90).map(|j| d(j).count_ones()).min();
            let keys: Vec<usize> = (0..90)
                .filter(|j| !nearest || Some(d(*j).count_ones()) == least)
                .collect();
            for c in 0..5 {
                let sum: f64 = keys.iter().map(|j| f64::from(call.v[j * 5 + c])).sum();
                let mean = sum / keys.len() as f64;
                assert!((f64::from(out.o[i * 5 + c]) - mean).abs() < 1e-5);
            }
        }
    }
}

#[test]
fn a_negative_beta_is_a_positive_one_of_complemented_queries() {
    for beta in [0.3, 4.0] {
        let shape = square([1, 2, 70], 45, 6);
        let call = Call::new(shape, causal(beta));
        let mut turned = Call::new(shape, causal(-beta));
        turned.q = call.q.iter().map(|word| !word).collect();
        assert_eq!(bits(&call.out().o), bits(&turned.out().o));
    }
}

#[test]
fn selections_of_everything_are_dense() {
    let shape = square([1, 2, 100], 64, 12);
    let integer = |beta| Options {
        denominator: Some(Denominator::Integer),
        ..causal(beta)
    };
    for beta in [0.1, -0.1, 3.0] {
        let dense = Call::new(shape, integer(beta)).out();
        for (top_n, radius) in [
            (Some(100), None),
            (Some(5000), None),
            (None, Some(64)),
            (Some(100), Some(70)),
        ] {
            let options = Options {
                top_n,
                radius,
                denominator: None,
                ..integer(beta)
            };
            let call = Call::new(shape, options);
            assert_eq!(bits(&call.out().o), bits(&dense.o), "{top_n:?} {radius:?}");
            call.judge(&call.plan(gpu().caps()));
        }
        let none = Call::new(
            shape,
            Options {
                top_n: Some(0),
                ..causal(beta)
            },
        );
        assert!(none.out().o.iter().all(|x| *x == 0.0));
    }
}

#[test]
fn ties_go_to_the_lower_index_across_segments() {
    // Few distances, so that thousands of keys tie; with equal codes all do.
    for (tokens, width, top_n, equal) in
        [(40, 4, 1000, false), (40, 4, 5, false), (33, 64, 700, true)]
    {
        let shape = Shape {
            keys: 2500,
            capacity: 2600,
            ..square([1, 1, tokens], width, 1)
        };
        for causal in [false, true] {
            let options = Options {
                top_n: Some(top_n),
                causal,
                ..Options::dense(0.2)
            };
            let mut call = Call::new(shape, options);
            if equal {
                let first = call.k[..shape.words()].to_vec();
                call.k = first.repeat(shape.capacity);
            }
            for caps in variants() {
                call.judge(&call.plan(&caps));
            }
            // The cut-off itself: keys up to (distance, index) are as many as asked for.
            let out = call.out();
            for i in 0..tokens {
                let [_, cut, last, _] = out.kept[4 * i..][..4] else {
                    panic!()
                };
                let sees = if causal { 2500 - tokens + i + 1 } else { 2500 };
                let mask = if width == 4 { 15 } else { u32::MAX };
                let words = shape.words();
                let d = |j: usize| -> u32 {
                    (0..words)
                        .map(|w| {
                            ((call.q[i * words + w] ^ call.k[j * words + w]) & mask).count_ones()
                        })
                        .sum()
                };
                let counted = (0..sees)
                    .filter(|j| (d(*j), *j as u32) <= (cut, last))
                    .count();
                assert_eq!(counted, top_n);
            }
        }
    }
}

#[test]
fn the_first_causal_row_is_a_value_and_a_window_of_one_all_are() {
    let shape = square([1, 2, 80], 64, 7);
    let out = Call::new(shape, causal(0.4)).out();
    let window = Options {
        window: Some(1),
        ..causal(0.4)
    };
    let call = Call::new(shape, window.clone());
    let near = |a: f32, b: f32| (a - b).abs() <= 1e-6;
    assert!((0..7).all(|c| near(out.o[c], call.v[c])));
    let around = Options {
        causal: false,
        ..window.clone()
    };
    for options in [window, around] {
        let out = Call::new(shape, options).out();
        assert!(out.o.iter().zip(&call.v).all(|(o, v)| near(*o, *v)));
    }
}

#[test]
fn a_row_without_keys_is_zero() {
    let shape = Shape {
        keys: 30,
        capacity: 30,
        ..square([1, 2, 50], 64, 3)
    };
    for options in [
        causal(0.1),
        causal(2.0),
        Options {
            top_n: Some(4),
            ..causal(0.1)
        },
        Options {
            radius: Some(3),
            ..causal(0.1)
        },
    ] {
        let call = Call::new(shape, options);
        let out = call.judge(&call.plan(gpu().caps()));
        for head in 0..2 {
            let first = head * 50;
            assert!(out.o[3 * first..][..3 * 20].iter().all(|x| *x == 0.0));
            assert!(out.lse[first..][..20].iter().all(|x| *x == f32::MIN));
        }
    }
}

#[test]
fn grouped_heads_are_each_by_itself() {
    for (tokens, group) in [(70, 3), (3, 4), (1, 8)] {
        let shape = Shape {
            kv_heads: 2,
            keys: 90,
            capacity: 96,
            ..square([2, 2 * group, tokens], 40, 9)
        };
        let betas = (0..2 * group).map(|h| 0.1 * h as f32 - 0.2).collect();
        let options = Options {
            beta: Beta::PerHead(betas),
            ..causal(0.0)
        };
        let call = Call::new(shape, options);
        for caps in variants() {
            call.judge(&call.plan(&caps));
        }
        // Keys and values repeated for each head.
        let mut all = call.clone();
        all.shape.kv_heads = shape.heads;
        let repeat = |width: usize| {
            move |row: usize| {
                let head = row / (shape.capacity * width);
                let (batch, h) = (head / shape.heads, head % shape.heads);
                (batch * 2 + h / group) * shape.capacity * width + row % (shape.capacity * width)
            }
        };
        all.k = (0..all.shape.key_len())
            .map(|n| call.k[repeat(2)(n)])
            .collect();
        all.v = (0..all.shape.value_len())
            .map(|n| call.v[repeat(9)(n)])
            .collect();
        let (a, b) = (call.out(), all.out());
        for (a, b) in a.o.iter().zip(&b.o) {
            assert!((a - b).abs() <= 1e-6);
        }
    }
}

#[test]
fn packed_sequences_are_each_by_itself() {
    let options = Options {
        window: Some(50),
        sinks: 2,
        ..causal(0.2)
    };
    let ends = [vec![0, 1, 40, 40, 120], vec![0, 3, 60, 61, 130]];
    let shape = Shape {
        keys: 130,
        capacity: 131,
        ..square([1, 2, 120], 64, 4)
    };
    let packed = Options {
        sequences: Some(Sequences {
            queries: ends[0].clone(),
            keys: ends[1].clone(),
        }),
        ..options.clone()
    };
    for selection in [None, Some(3)] {
        let with = |options: &Options| Options {
            top_n: selection,
            ..options.clone()
        };
        let call = Call::new(shape, with(&packed));
        for caps in variants() {
            call.judge(&call.plan(&caps));
        }
        let whole = call.out();
        for n in 0..4 {
            let (q, k) = (ends[0][n]..ends[0][n + 1], ends[1][n]..ends[1][n + 1]);
            let mut one = call.clone();
            one.options = with(&options);
            one.shape = Shape {
                queries: q.len(),
                keys: k.len(),
                capacity: k.len(),
                ..shape
            };
            let rows = |rows: &std::ops::Range<usize>, tokens: usize, width: usize| -> Vec<usize> {
                (0..2)
                    .flat_map(|h| {
                        (h * tokens + rows.start) * width..(h * tokens + rows.end) * width
                    })
                    .collect()
            };
            one.q = rows(&q, 120, 2).iter().map(|n| call.q[*n]).collect();
            one.k = rows(&k, 131, 2).iter().map(|n| call.k[*n]).collect();
            one.v = rows(&k, 131, 4).iter().map(|n| call.v[*n]).collect();
            let expected: Vec<f32> = rows(&q, 120, 4).iter().map(|n| whole.o[*n]).collect();
            if !q.is_empty() {
                assert_eq!(bits(&one.out().o), bits(&expected), "{q:?}");
            }
        }
    }
}

#[test]
fn pads_of_codes_do_not_count() {
    for width in [1, 31, 33, 63, 100] {
        for options in [causal(0.2), causal(3.0)] {
            let call = Call::new(square([1, 1, 50], width, 5), options);
            let mut clean = call.clone();
            let mask = subquad::hamming::bits::last_mask(width);
            for words in [&mut clean.q, &mut clean.k] {
                words
                    .chunks_exact_mut(width.div_ceil(32))
                    .for_each(|code| *code.last_mut().unwrap() &= mask);
            }
            assert_ne!(call.q, clean.q);
            assert_eq!(call.out(), clean.out());
        }
    }
}

#[test]
fn odd_widths_hold_on_every_plan() {
    for (width, value) in [(5, 1), (64, 3), (129, 66), (256, 128), (70, 201)] {
        for options in [Options::dense(0.05), causal(1.5)] {
            let call = Call::new(square([1, 2, 45], width, value), options);
            for caps in variants() {
                call.judge(&call.plan(&caps));
            }
        }
    }
}

#[test]
fn integer_denominators_do_not_depend_on_tiles_and_splits() {
    for options in [causal(0.2), causal(2.0), Options::dense(-0.7)] {
        let options = Options {
            denominator: Some(Denominator::Integer),
            ..options
        };
        let call = Call::new(square([1, 2, 200], 60, 3), options);
        let sums = |out: &Out| -> Vec<u32> { out.kept.chunks_exact(4).map(|row| row[3]).collect() };
        let first = call.out();
        let plans = plan::variants(&call.shape, &call.options, call.wanted(), gpu().caps());
        for plan in plans.unwrap() {
            let out = call.judge(&plan);
            assert_eq!(sums(&out), sums(&first), "{}", plan.label);
            assert_eq!(bits(&out.lse), bits(&first.lse), "{}", plan.label);
        }
    }
}

#[test]
fn one_query_over_a_cache_is_the_last_row_of_the_whole() {
    for options in [
        causal(0.1),
        causal(2.0),
        Options {
            top_n: Some(20),
            ..causal(0.1)
        },
        Options {
            window: Some(40),
            sinks: 4,
            ..causal(0.1)
        },
    ] {
        let shape = Shape {
            kv_heads: 2,
            ..square([2, 4, 150], 96, 16)
        };
        let whole = Call::new(shape, options);
        let out = whole.out();
        let mut step = whole.clone();
        step.shape.queries = 1;
        step.shape.capacity = 180;
        // Room to spare holds anything.
        step.q = whole
            .q
            .chunks_exact(150 * 3)
            .flat_map(|head| head[149 * 3..].to_vec())
            .collect();
        let grow = |x: &[f32], width: usize| -> Vec<f32> {
            x.chunks_exact(150 * width)
                .flat_map(|head| [head, &vec![f32::NAN; 30 * width]].concat())
                .collect()
        };
        step.v = grow(&whole.v, 16);
        step.k = whole
            .k
            .chunks_exact(150 * 3)
            .flat_map(|head| [head, &[0xabcd_ef01; 90]].concat())
            .collect();
        let last: Vec<f32> = out
            .o
            .chunks_exact(150 * 16)
            .flat_map(|head| head[149 * 16..].to_vec())
            .collect();
        // By the host's length, by the device's, and with the keys in parts.
        for (lengths, splits) in [(None, None), (Some(vec![150, 150]), None), (None, Some(5))] {
            let mut step = step.clone();
            step.options.splits = splits;
            step.shape.keys = if lengths.is_some() { 180 } else { 150 };
            step.lengths = lengths;
            for caps in variants() {
                let plan = step.plan(&caps);
                let got = step.run(&plan).o;
                for (a, b) in got.iter().zip(&last) {
                    assert!(
                        (a - b).abs() <= 2e-6,
                        "{} {:?} {:?}: {a} {b}",
                        plan.label,
                        step.options,
                        step.lengths
                    );
                }
            }
        }
    }
}

#[test]
fn runs_are_bit_equal() {
    for options in [
        causal(0.1),
        causal(3.0),
        Options {
            top_n: Some(9),
            ..causal(0.1)
        },
    ] {
        let call = Call::new(square([1, 3, 120], 64, 20), options);
        let first = call.out();
        for _ in 0..3 {
            assert_eq!(call.out(), first);
        }
    }
}

#[test]
fn work_cut_in_heads_rows_keys_and_groups_gives_the_same() {
    for options in [
        causal(0.1),
        Options::dense(2.0),
        Options {
            top_n: Some(31),
            ..Options::dense(0.1)
        },
        Options {
            window: Some(33),
            sinks: 5,
            ..causal(-0.3)
        },
    ] {
        let shape = Shape {
            kv_heads: 2,
            keys: 310,
            capacity: 320,
            ..square([2, 4, 300], 64, 40)
        };
        let call = Call::new(shape, options);
        for caps in variants() {
            let cut = Caps {
                loop_iterations: 900,
                binding_bytes: 128 << 10,
                scratch_bytes: 2 << 20,
                gflops: 1e-2,
                ..caps
            };
            let plan = call.plan(&cut);
            assert!(plan.steps.len() > 20, "{}", plan.steps.len());
            call.judge(&plan);
        }
    }
}

#[test]
fn wide_codes_and_long_rows_hold() {
    let wide = Shape {
        keys: 60,
        capacity: 60,
        ..square([1, 1, 3], 65_536, 2)
    };
    for options in [
        Options::dense(1e-4),
        Options {
            top_n: Some(7),
            ..Options::dense(0.01)
        },
    ] {
        let call = Call::new(wide, options);
        call.judge(&call.plan(gpu().caps()));
    }
    let long = Shape {
        keys: 40_000,
        capacity: 40_000,
        ..square([1, 1, 5], 32, 2)
    };
    for options in [
        Options::dense(0.3),
        Options {
            top_n: Some(999),
            ..Options::dense(0.3)
        },
    ] {
        let call = Call::new(long, options);
        call.judge(&call.plan(gpu().caps()));
    }
}

#[test]
fn plans_fit_every_preset() {
    for caps in Caps::presets() {
        for options in [
            causal(0.125),
            causal(9.0),
            Options {
                top_n: Some(128),
                ..causal(0.1)
            },
        ] {
            for dtype in [Dtype::F32, Dtype::F16] {
                let shape = Shape::square([1, 16, 8192], 128, 64, dtype);
                let plan = plan::forward(&shape, &options, Wanted::default(), &caps).unwrap();
                let slow = plan.steps.iter().filter(|step| step.predicted_ms > 100.0);
                assert!(slow.clone().all(|step| step.groups == 1), "{}", caps.name);
                assert!(plan.scratch_bytes() < 600 << 20, "{}", plan.scratch_bytes());
            }
        }
    }
    let ms = |shape: &Shape| plan::predicted_ms(shape, &causal(0.1), &Caps::nvidia()).unwrap();
    let [short, long] = [1000, 4000].map(|t| ms(&square([1, 8, t], 16, 64)));
    assert!((long / short - 16.0).abs() < 0.1);
}
