//! Popcount attention: the f64 reference against its formula, the adapter against the reference, and what must hold exactly.

mod gradients;
mod plans;
mod refusals;
mod rows;
mod selection;

use half::{bf16, f16};
use subquad::{
    Gpu,
    case::Numbers,
    gpu::{Caps, Dtype, ViewMut},
    hamming::attention::{
        Inputs, KEPT, Options, Outputs, Shape, cpu, forward,
        plan::{self, Wanted},
    },
    plan::Plan,
};

use crate::{
    device::{Number, download, gpu, round, upload},
    effort::{by_turns, thorough},
};

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
    let mut all = vec![own.clone(), of(Caps::webgpu_floor())];
    if thorough() {
        all.push(of(Caps::intel()));
    }
    all
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
    let widths = [(5, 1), (64, 3), (129, 66), (256, 128), (70, 201)];
    for (n, (width, value)) in widths.into_iter().enumerate() {
        for options in by_turns([Options::dense(0.05), causal(1.5)], n) {
            let call = Call::new(square([1, 2, 45], width, value), options);
            for caps in by_turns(variants(), n / 2) {
                call.judge(&call.plan(&caps));
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
