//! Every form of linear attention against the f64 recurrence, on the adapter at hand and with the tiles of others.

#[path = "common/device.rs"]
#[allow(dead_code, reason = "each test takes what it needs")]
mod device;
#[path = "common/effort.rs"]
mod effort;

use device::gpu;
use effort::{by_turns, sample};
use half::{bf16, f16};
use subquad::{
    gpu::{Caps, Dtype, Tensor, View, ViewMut},
    linear::{Decay, FeatureMap, Form, Layout, Options, Shape, cpu, plan},
};

/// Numbers in [0, 1).
struct Random(u64);

impl Random {
    fn next(&mut self) -> f32 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 40) as f32 / (1u64 << 24) as f32
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() * n as f32) as usize
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    fn many(&mut self, len: usize, low: f32, high: f32) -> Vec<f32> {
        (0..len).map(|_| low + (high - low) * self.next()).collect()
    }

    /// Log decays of all sizes.
    fn decays(&mut self, len: usize) -> Vec<f32> {
        (0..len)
            .map(|_| match self.below(12) {
                0 => 0.0,
                1 => f32::NEG_INFINITY,
                2 => -20.0,
                3 => -1e-6,
                4..8 => -0.02 * self.next(),
                _ => -self.next(),
            })
            .collect()
    }
}

/// A tensor of any storage type.
enum Any {
    F32(Tensor<f32>),
    F16(Tensor<f16>),
    Bf16(Tensor<bf16>),
}

impl Any {
    fn upload(dtype: Dtype, x: &[f32]) -> Any {
        let gpu = gpu();
        match dtype {
            Dtype::F16 => {
                let x: Vec<f16> = x.iter().map(|x| f16::from_f32(*x)).collect();
                Any::F16(gpu.upload(&x).unwrap())
            }
            Dtype::Bf16 => {
                let x: Vec<bf16> = x.iter().map(|x| bf16::from_f32(*x)).collect();
                Any::Bf16(gpu.upload(&x).unwrap())
            }
            _ => Any::F32(gpu.upload(x).unwrap()),
        }
    }

    fn view(&self) -> View<'_> {
        match self {
            Any::F32(x) => x.view(),
            Any::F16(x) => x.view(),
            Any::Bf16(x) => x.view(),
        }
    }

    fn view_mut(&mut self) -> ViewMut<'_> {
        match self {
            Any::F32(x) => x.view_mut(),
            Any::F16(x) => x.view_mut(),
            Any::Bf16(x) => x.view_mut(),
        }
    }

    fn download(&self) -> Vec<f32> {
        match self {
            Any::F32(x) => x.download().unwrap(),
            Any::F16(x) => x.download().unwrap().iter().map(|x| x.to_f32()).collect(),
            Any::Bf16(x) => x.download().unwrap().iter().map(|x| x.to_f32()).collect(),
        }
    }
}

/// What storing in a type leaves of numbers.
fn rounded(dtype: Dtype, x: Vec<f32>) -> Vec<f32> {
    x.into_iter()
        .map(|x| match dtype {
            Dtype::F16 => f16::from_f32(x).to_f32(),
            Dtype::Bf16 => bf16::from_f32(x).to_f32(),
            _ => x,
        })
        .collect()
}

struct Call {
    shape: Shape,
    options: Options,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    g: Option<Vec<f32>>,
    beta: Option<Vec<f32>>,
    state: Option<Vec<f32>>,
    cu_seqlens: Option<Vec<u32>>,
}

impl Call {
    fn new(
        random: &mut Random,
        mut shape: Shape,
        options: Options,
        initial: bool,
        lengths: Option<&[u32]>,
    ) -> Call {
        let cu_seqlens = lengths.map(|lengths| {
            let mut bounds = vec![0];
            for n in lengths {
                bounds.push(bounds[bounds.len() - 1] + n);
            }
            bounds
        });
        if let Some(bounds) = &cu_seqlens {
            shape.batch = 1;
            shape.tokens = bounds[bounds.len() - 1] as usize;
        }
        let sequences = lengths.map_or(shape.batch, <[u32]>::len);
        // Keys of the delta rule have unit length or less; those of the normaliser are positive.
        let low = if options.normalize.is_some() {
            0.05
        } else {
            -1.0
        };
        let size = if options.delta {
            1.0 / (shape.key as f32).sqrt()
        } else {
            1.0
        };
        let per_token = shape.state_rows() * shape.tokens;
        let g = match options.decay {
            Decay::None => None,
            Decay::Head => Some(random.decays(shape.kv_heads)),
            Decay::Token => Some(random.decays(per_token)),
            _ => Some(random.decays(per_token * shape.key)),
        };
        Call {
            q: rounded(shape.dtype, random.many(shape.query_len(), low, 1.0)),
            k: rounded(shape.dtype, random.many(shape.key_len(), low * size, size)),
            v: rounded(shape.dtype, random.many(shape.value_len(), -1.0, 1.0)),
            g,
            beta: options.delta.then(|| random.many(per_token, 0.0, 1.8)),
            state: initial.then(|| {
                random.many(
                    sequences * shape.kv_heads * shape.key * shape.value,
                    -1.0,
                    1.0,
                )
            }),
            cu_seqlens,
            shape,
            options,
        }
    }

    fn states(&self) -> plan::States<'_> {
        plan::States {
            initial: self.state.is_some(),
            initial_z: false,
            last: true,
            last_z: self.options.normalize.is_some(),
            cu_seqlens: self.cu_seqlens.as_deref(),
            ..plan::States::default()
        }
    }

    fn reference(&self) -> cpu::Outputs {
        let wide = |x: &[f32]| -> Vec<f64> { x.iter().map(|x| f64::from(*x)).collect() };
        let (q, k, v) = (wide(&self.q), wide(&self.k), wide(&self.v));
        let (g, beta) = (self.g.as_deref().map(wide), self.beta.as_deref().map(wide));
        let state = self.state.as_deref().map(wide);
        let inputs = cpu::Inputs {
            log_decay: g.as_deref(),
            beta: beta.as_deref(),
            initial_state: state.as_deref(),
            cu_seqlens: self.cu_seqlens.as_deref(),
            ..cpu::Inputs::new(&q, &k, &v)
        };
        cpu::forward(&self.shape, &self.options, &inputs).unwrap()
    }

    /// Outputs, final states and final z by the plan for a device, run on this one.
    fn run(&self, caps: &Caps, form: Form) -> (String, [Vec<f32>; 3]) {
        let options = Options {
            form,
            ..self.options
        };
        let plan = plan::forward(&self.shape, &options, self.states(), caps).unwrap();
        let gpu = gpu();
        let dtype = self.shape.dtype;
        let mut inputs: Vec<Any> = [&self.q, &self.k, &self.v]
            .into_iter()
            .map(|x| Any::upload(dtype, x))
            .collect();
        let more = [&self.g, &self.beta, &self.state].into_iter().flatten();
        inputs.extend(more.map(|x| Any::upload(Dtype::F32, x)));
        let sequences = self
            .cu_seqlens
            .as_ref()
            .map_or(self.shape.batch, |bounds| bounds.len() - 1);
        let z = sequences * self.shape.kv_heads * self.shape.key;
        let mut lengths = vec![self.shape.output_len(), z * self.shape.value];
        if self.options.normalize.is_some() {
            lengths.push(z);
        }
        let mut outputs: Vec<Any> = lengths
            .iter()
            .enumerate()
            .map(|(n, len)| {
                let dtype = if n == 0 { dtype } else { Dtype::F32 };
                Any::upload(dtype, &vec![f32::NAN; *len])
            })
            .collect();
        let mut pass = gpu.pass("forms");
        let views: Vec<_> = inputs.iter().map(|x| x.view()).collect();
        let mut written: Vec<_> = outputs.iter_mut().map(|x| x.view_mut()).collect();
        pass.run(&plan, &views, &mut written).unwrap();
        pass.submit().unwrap();
        let mut down = outputs.iter().map(Any::download);
        let results = [
            down.next().unwrap(),
            down.next().unwrap(),
            down.next().unwrap_or_default(),
        ];
        (plan.label, results)
    }

    /// What misses its tolerance.
    fn misses(&self, turn: usize) -> Vec<String> {
        let reference = self.reference();
        let floor = Caps {
            loop_iterations: gpu().caps().loop_iterations,
            ..Caps::webgpu_floor()
        };
        let (o_bound, states_bound) = match self.shape.dtype {
            Dtype::F16 => (1e-3, 1e-5),
            Dtype::Bf16 => (4e-3, 1e-5),
            _ if self.options.delta => (1e-5, 1e-5),
            _ => (5e-6, 5e-6),
        };
        let mut misses = Vec::new();
        // The delta rule has no segments.
        let forms = if self.options.delta { 1 } else { FORMS.len() };
        for form in by_turns(FORMS.into_iter().take(forms), turn) {
            for caps in by_turns([gpu().caps(), &floor], turn) {
                let (label, results) = self.run(caps, form);
                let expected = [&reference.o, &reference.final_state, &reference.final_z];
                for ((name, x), y) in ["o", "state", "z"].into_iter().zip(&results).zip(expected) {
                    let ratio = ratio(x, y);
                    let bound = if name == "o" { o_bound } else { states_bound };
                    if ratio.is_nan() || ratio > bound {
                        misses.push(format!(
                            "{name} {ratio:e} {label} on {}: {:?} {:?} {:?}",
                            caps.name, self.shape, self.options, self.cu_seqlens
                        ));
                    }
                }
            }
        }
        misses
    }
}

fn ratio(x: &[f32], y: &[f64]) -> f64 {
    assert_eq!(x.len(), y.len());
    let error: f64 = x
        .iter()
        .zip(y)
        .map(|(x, y)| (f64::from(*x) - y).powi(2))
        .sum();
    let norm: f64 = y.iter().map(|y| y * y).sum();
    error.sqrt() / (norm.sqrt() + 1e-12 * (y.len() as f64).sqrt().max(1.0))
}

fn options(decay: Decay) -> Options {
    Options {
        decay,
        scale: 0.25,
        ..Options::plain()
    }
}

const FORMS: [Form; 3] = [Form::Fused, Form::Segments(2), Form::Segments(7)];
const DECAYS: [Decay; 4] = [Decay::None, Decay::Head, Decay::Token, Decay::Channel];
const ALL: [usize; 7] = [1, 15, 64, 65, 130, 200, 257];
const SOME: [usize; 2] = [1, 257];

/// Random shapes for these options, in batches and packed.
fn hold(seed: u64, options: Options, tokens: &[usize]) {
    hold_stored(seed, options, tokens, Dtype::F32);
}

fn hold_stored(seed: u64, options: Options, tokens: &[usize], dtype: Dtype) {
    let mut random = Random(seed);
    let mut misses = Vec::new();
    for (n, &tokens) in sample(tokens).enumerate() {
        for packed in by_turns([false, true], seed as usize + n) {
            let kv_heads = 1 + random.below(2);
            let shape = Shape {
                batch: 1 + random.below(2),
                tokens,
                heads: kv_heads * random.of(&[1, 1, 4]),
                kv_heads,
                key: random.of(&[16, 33, 64, 100]),
                value: random.of(&[16, 33, 64, 100]),
                layout: random.of(&[Layout::Bthd, Layout::Bhtd]),
                dtype,
            };
            let lengths = [0, 1, tokens as u32, 0, 70];
            let lengths = packed.then_some(lengths.as_slice());
            let initial = random.below(2) == 0;
            let call = Call::new(&mut random, shape, options, initial, lengths);
            misses.extend(call.misses(seed as usize + n));
        }
    }
    assert!(misses.is_empty(), "{}", misses.join("\n"));
}

#[test]
fn without_decay() {
    hold(1, options(Decay::None), &ALL);
}

#[test]
fn decay_of_heads() {
    hold(2, options(Decay::Head), &ALL);
}

#[test]
fn decay_of_tokens() {
    hold(3, options(Decay::Token), &ALL);
}

#[test]
fn decay_of_channels() {
    hold(4, options(Decay::Channel), &ALL);
}

#[test]
fn normalized() {
    for (n, decay) in by_turns(DECAYS.into_iter().enumerate(), 2) {
        let options = Options {
            normalize: Some(1e-3),
            feature_map: if n == 1 {
                FeatureMap::Elu1
            } else {
                FeatureMap::Identity
            },
            ..options(decay)
        };
        hold(5 + n as u64, options, &SOME);
    }
}

#[test]
fn delta_rule() {
    for (n, decay) in by_turns(DECAYS.into_iter().enumerate(), 3) {
        let options = Options {
            delta: true,
            ..options(decay)
        };
        hold(10 + n as u64, options, &SOME);
    }
}

#[test]
fn not_causal() {
    for normalize in [None, Some(1e-3)] {
        let options = Options {
            causal: false,
            normalize,
            ..options(Decay::None)
        };
        hold(15, options, &SOME);
    }
}

#[test]
fn stored_in_16_bits() {
    for (n, dtype) in [Dtype::F16, Dtype::Bf16].into_iter().enumerate() {
        for decay in by_turns([Decay::Token, Decay::Channel], n) {
            hold_stored(17 + n as u64, options(decay), &[130], dtype);
        }
    }
}
