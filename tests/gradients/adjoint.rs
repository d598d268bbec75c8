//! The gradients of a call, on the device and in f64.

use half::{bf16, f16};
use subquad::{
    gpu::{Dtype, Elem},
    linear::{Given, Gradients, Inputs, backward, cpu},
};

use crate::{
    call::{Call, ratio, rounded, wide},
    common::Random,
    gpu,
};

/// Gradients by the names of the inputs.
pub type Named<T> = Vec<(&'static str, Vec<T>)>;

/// A call with the gradients handed to its outputs.
#[derive(Clone, Debug)]
pub struct Adjoint {
    pub call: Call,
    /// Those of o.
    pub o: Vec<f32>,
    /// Those of the final state, if given.
    pub state: Option<Vec<f32>>,
}

/// Which of the gradients of log_decay, beta and the initial state are wanted, where the call has those.
pub type Wanted = [bool; 3];

impl Adjoint {
    /// With random gradients.
    pub fn new(call: Call, last: bool, random: &mut Random) -> Adjoint {
        let o = random.values(call.shape.output_len(), false);
        let len = call.states() * call.features() * call.shape.value;
        let state = random.values(len, false);
        Adjoint {
            o: o.into_iter()
                .map(|x| rounded(call.shape.dtype, x))
                .collect(),
            state: last.then(|| state.into_iter().map(|x| x as f32).collect()),
            call,
        }
    }

    /// `backward` with every gradient.
    pub fn run(&self) -> Named<f32> {
        self.run_for([true; 3])
    }

    /// `backward`, into tensors of NaN.
    pub fn run_for(&self, wanted: Wanted) -> Named<f32> {
        match self.call.shape.dtype {
            Dtype::F16 => self.run_as(f16::from_f32, f16::to_f32, wanted),
            Dtype::Bf16 => self.run_as(bf16::from_f32, bf16::to_f32, wanted),
            _ => self.run_as(|x| x, |x| x, wanted),
        }
    }

    fn run_as<T: Elem>(
        &self,
        narrow: fn(f32) -> T,
        widen: fn(T) -> f32,
        wanted: Wanted,
    ) -> Named<f32> {
        let (gpu, call) = (gpu(), &self.call);
        let up = |values: &[f32]| {
            let values: Vec<T> = values.iter().map(|x| narrow(*x)).collect();
            gpu.upload(&values).unwrap()
        };
        let nan = |len: usize| vec![f32::NAN; len];
        let [q, k, v] = [&call.q, &call.k, &call.v].map(|x| up(x));
        let [mut dq, mut dk, mut dv] = [&call.q, &call.k, &call.v].map(|x| up(&nan(x.len())));
        let given = call.given();
        let [g, beta, state, _, weight, bias] =
            given.map(|values| values.map(|values| gpu.upload(values).unwrap()));
        let [want_g, want_beta, want_state] = wanted;
        let wanted = [want_g, want_beta, want_state, false, true, true];
        let mut n = 0;
        let [mut dg, mut dbeta, mut dstate, _, mut dweight, mut dbias] = given.map(|values| {
            n += 1;
            let values = values.filter(|_| wanted[n - 1]);
            values.map(|values| gpu.upload(&nan(values.len())).unwrap())
        });
        let upstream = [up(&self.o)];
        let last = self.state.as_ref().map(|x| gpu.upload(x).unwrap());
        backward(
            gpu,
            &call.shape,
            &call.options,
            &Inputs {
                log_decay: g.as_ref(),
                beta: beta.as_ref(),
                initial_state: state.as_ref(),
                fm_weight: weight.as_ref(),
                fm_bias: bias.as_ref(),
                cu_seqlens: call.bounds.as_deref(),
                ..Inputs::new(&q, &k, &v)
            },
            &Given {
                o: &upstream[0],
                final_state: last.as_ref(),
                final_z: None,
            },
            Gradients {
                log_decay: dg.as_mut(),
                beta: dbeta.as_mut(),
                initial_state: dstate.as_mut(),
                fm_weight: dweight.as_mut(),
                fm_bias: dbias.as_mut(),
                ..Gradients::new(&mut dq, &mut dk, &mut dv)
            },
        )
        .unwrap_or_else(|error| panic!("{error}: {}", self.about()));
        let narrow = [("q", dq), ("k", dk), ("v", dv)].map(|(name, x)| {
            let x: Vec<T> = x.download().unwrap();
            (name, x.into_iter().map(widen).collect())
        });
        let others = [
            ("log_decay", dg),
            ("beta", dbeta),
            ("initial_state", dstate),
            ("fm_weight", dweight),
            ("fm_bias", dbias),
        ];
        let others = others
            .into_iter()
            .filter_map(|(name, x)| Some((name, x?.download().unwrap())));
        narrow.into_iter().chain(others).collect()
    }

    /// The gradients in f64, those of inputs that the call has.
    pub fn reference(&self) -> Named<f64> {
        let state = self.state.as_ref().map(|x| wide(x));
        let found = self.call.in_f64(|inputs| {
            let (shape, options) = (&self.call.shape, &self.call.options);
            cpu::backward(shape, options, inputs, &wide(&self.o), state.as_deref()).unwrap()
        });
        let [g, beta, state, _, weight, bias] = self.call.given().map(|x| x.is_some());
        [
            ("q", found.q, true),
            ("k", found.k, true),
            ("v", found.v, true),
            ("log_decay", found.log_decay, g),
            ("beta", found.beta, beta),
            ("initial_state", found.initial_state, state),
            ("fm_weight", found.fm_weight, weight),
            ("fm_bias", found.fm_bias, bias),
        ]
        .into_iter()
        .filter_map(|(name, x, there)| there.then_some((name, x)))
        .collect()
    }

    /// The largest relative error that gradients may have.
    pub fn bound(&self) -> f64 {
        match self.call.shape.dtype {
            Dtype::F16 => 1e-3,
            Dtype::Bf16 => 4e-3,
            _ if self.call.options.delta => 5e-5,
            _ => 2e-5,
        }
    }

    /// What exceeds its bound, in words.
    pub fn misses(&self, got: &Named<f32>, reference: &Named<f64>) -> Vec<String> {
        let names = |n: usize| (got[n].0, reference[n].0);
        assert_eq!(got.len(), reference.len());
        (0..got.len())
            .filter_map(|n| {
                let (name, same) = names(n);
                assert_eq!(name, same);
                let error = ratio(&got[n].1, &reference[n].1);
                // NaN counts as a miss.
                let good = error <= self.bound();
                (!good).then(|| format!("{name}: {error:.2e} of {:.0e}", self.bound()))
            })
            .collect()
    }

    /// Asserts that the device's gradients are those of the reference, and returns them.
    pub fn check(&self, what: &str) -> Named<f32> {
        let got = self.run();
        let misses = self.misses(&got, &self.reference());
        assert!(misses.is_empty(), "{what}: {misses:?}: {}", self.about());
        got
    }

    pub fn about(&self) -> String {
        let call = &self.call;
        let given = call.given().map(|x| x.map(Vec::len));
        format!(
            "{:?} {:?}, bounds {:?}, given {given:?}, with the final state's gradient: {}",
            call.shape,
            call.options,
            call.bounds,
            self.state.is_some()
        )
    }
}
