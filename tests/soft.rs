//! SOFT attention: the f64 reference against differences and the case file, the device against the reference.
#![cfg(feature = "cli")]

#[path = "common/device.rs"]
#[allow(dead_code, reason = "each test takes what it needs")]
mod device;
#[path = "common/effort.rs"]
mod effort;

use std::path::Path;

use device::gpu;
use effort::{by_turns, sample};
use half::{bf16, f16};
use serde_json::Map;
use subquad::{
    Error, Tensor,
    case::Case,
    gpu::{Caps, Dtype, Elem},
    linear::Layout,
    plan::Plan,
    soft::{
        Gradients, Inputs, Options, Shape, Solver, Status, backward, cpu, plan, pool_landmarks,
        pool_landmarks_backward, record, run_of_landmark, soft_attention,
    },
};

fn shape([batch, heads, tokens, landmarks, width, value]: [usize; 6]) -> Shape {
    Shape {
        batch,
        heads,
        tokens,
        landmarks,
        width,
        value,
        layout: Layout::Bhtd,
        dtype: Dtype::F32,
    }
}

fn random(len: usize, factor: f64, mut seed: u64) -> Vec<f64> {
    (0..len)
        .map(|_| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            factor * ((seed >> 40) as f64 / f64::from(1 << 23) - 1.0)
        })
        .collect()
}

/// An element type, and how f64 becomes it.
trait Stored: Elem {
    fn from(x: f64) -> Self;
    fn wide(self) -> f64;
}

impl Stored for f32 {
    fn from(x: f64) -> f32 {
        x as f32
    }
    fn wide(self) -> f64 {
        self.into()
    }
}

impl Stored for f16 {
    fn from(x: f64) -> f16 {
        f16::from_f64(x)
    }
    fn wide(self) -> f64 {
        self.into()
    }
}

impl Stored for bf16 {
    fn from(x: f64) -> bf16 {
        bf16::from_f64(x)
    }
    fn wide(self) -> f64 {
        self.into()
    }
}

fn narrow<T: Stored>(values: &[f64]) -> Vec<T> {
    values.iter().map(|x| T::from(*x)).collect()
}

fn wide<T: Stored>(values: &[T]) -> Vec<f64> {
    values.iter().map(|x| x.wide()).collect()
}

/// Tensors of a call, rounded to their type.
#[derive(Clone)]
struct Call {
    shape: Shape,
    options: Options,
    q: Vec<f64>,
    landmarks: Vec<f64>,
    v: Vec<f64>,
    grad_o: Vec<f64>,
}

/// A tensor of a call.
type Part = fn(&mut Call) -> &mut Vec<f64>;

/// What the device made of a call.
#[derive(Clone, Debug, PartialEq)]
struct Got {
    o: Vec<f64>,
    q: Vec<f64>,
    landmarks: Vec<f64>,
    v: Vec<f64>,
}

impl Call {
    fn new(sizes: [usize; 6]) -> Call {
        let shape = shape(sizes);
        let seed = sizes.iter().fold(1, |seed, n| 31 * seed + *n as u64);
        Call {
            shape,
            options: Options::default(),
            q: random(shape.query_len(), 1.5, seed),
            landmarks: random(shape.landmark_len(), 1.5, seed + 1),
            v: random(shape.value_len(), 1.0, seed + 2),
            grad_o: random(shape.value_len(), 1.0, seed + 3),
        }
        .rounded::<f32>()
    }

    fn rounded<T: Stored>(mut self) -> Call {
        self.shape.dtype = T::DTYPE;
        for values in [
            &mut self.q,
            &mut self.landmarks,
            &mut self.v,
            &mut self.grad_o,
        ] {
            *values = wide(&narrow::<T>(values));
        }
        self
    }

    /// Landmarks close to few points, so that P is as ill-conditioned as its ridge lets it be.
    fn clustered(mut self, spread: f64) -> Call {
        let (m, width) = (self.shape.landmarks, self.shape.width);
        for (n, x) in self.landmarks.iter_mut().enumerate() {
            let centre = if (n / width) % m % 2 == 0 {
                0.05
            } else {
                -0.05
            };
            *x = f64::from((centre + spread * *x) as f32);
        }
        self
    }

    fn newton(mut self, max_iterations: u32) -> Call {
        self.options.solver = Solver::Newton {
            tolerance: 1e-3,
            max_iterations,
        };
        self
    }

    fn normalized(mut self) -> Call {
        self.options.symmetric_norm = true;
        self
    }

    fn inputs(&self) -> cpu::Inputs<'_> {
        cpu::Inputs {
            q: &self.q,
            landmarks: &self.landmarks,
            v: &self.v,
        }
    }

    /// The same call with tokens before heads, and how a tensor of a width goes there.
    fn turn(&self, values: &[f64], width: usize) -> Vec<f64> {
        let Shape {
            batch,
            heads,
            tokens,
            ..
        } = self.shape;
        let mut turned = Vec::with_capacity(values.len());
        for b in 0..batch {
            for t in 0..tokens {
                for h in 0..heads {
                    let row = (b * heads + h) * tokens + t;
                    turned.extend_from_slice(&values[row * width..(row + 1) * width]);
                }
            }
        }
        turned
    }

    fn tokens_first(&self) -> Call {
        let mut call = self.clone();
        call.shape.layout = Layout::Bthd;
        call.q = self.turn(&self.q, self.shape.width);
        call.v = self.turn(&self.v, self.shape.value);
        call.grad_o = self.turn(&self.grad_o, self.shape.value);
        call
    }

    /// By how much errors may grow with the condition of P.
    fn factor(&self) -> f64 {
        let conditions = cpu::condition(&self.shape, &self.options, &self.landmarks).unwrap();
        let worst = conditions.into_iter().fold(0.0, f64::max);
        (worst / 1000.0).max(1.0)
    }

    fn forward(&self) -> Result<(Vec<f64>, Vec<Status>), Error> {
        let gpu = gpu();
        let [q, landmarks, v] =
            [&self.q, &self.landmarks, &self.v].map(|x| gpu.upload(&narrow::<f32>(x)).unwrap());
        let mut o = gpu.upload(&vec![f32::NAN; self.shape.value_len()]).unwrap();
        let inputs = Inputs {
            q: &q,
            landmarks: Some(&landmarks),
            v: &v,
        };
        let status = soft_attention(gpu, &self.shape, &self.options, &inputs, &mut o)?;
        Ok((wide(&o.download().unwrap()), status))
    }

    /// Outputs and gradients by the public calls, from tensors that hold NaN.
    fn run<T: Stored>(&self) -> Got {
        let gpu = gpu();
        let upload = |values: &[f64]| gpu.upload(&narrow::<T>(values)).unwrap();
        let blank = |len: usize| gpu.upload(&vec![T::from(f64::NAN); len]).unwrap();
        let [q, landmarks, v, grad_o] =
            [&self.q, &self.landmarks, &self.v, &self.grad_o].map(|x| upload(x));
        let inputs = Inputs {
            q: &q,
            landmarks: Some(&landmarks),
            v: &v,
        };
        let (shape, options) = (&self.shape, &self.options);
        let mut o = blank(shape.value_len());
        soft_attention(gpu, shape, options, &inputs, &mut o).unwrap();
        let mut grad_q = blank(shape.query_len());
        let mut grad_landmarks = blank(shape.landmark_len());
        let mut grad_v = blank(shape.value_len());
        let mut gradients = Gradients {
            q: &mut grad_q,
            landmarks: Some(&mut grad_landmarks),
            v: &mut grad_v,
        };
        backward(gpu, shape, options, &inputs, &grad_o, &mut gradients).unwrap();
        let read = |tensor: &Tensor<T>| wide(&tensor.download().unwrap());
        Got {
            o: read(&o),
            q: read(&grad_q),
            landmarks: read(&grad_landmarks),
            v: read(&grad_v),
        }
    }

    fn reference(&self) -> Got {
        let o = cpu::forward(&self.shape, &self.options, &self.inputs()).unwrap();
        let grads =
            cpu::backward(&self.shape, &self.options, &self.inputs(), &self.grad_o).unwrap();
        Got {
            o,
            q: grads.q,
            landmarks: grads.landmarks,
            v: grads.v,
        }
    }

    /// Runs on the device and holds outputs and gradients against the reference.
    fn holds<T: Stored>(&self, what: &str) {
        let (got, reference) = (self.run::<T>(), self.reference());
        self.within(&got, &reference, what);
    }

    fn within(&self, got: &Got, reference: &Got, what: &str) {
        let (forward, backward) = match self.shape.dtype {
            Dtype::F16 => (1e-3, 1e-3),
            Dtype::Bf16 => (4e-3, 4e-3),
            _ => (5e-6 * self.factor(), 2e-5 * self.factor()),
        };
        let ratios = [
            ("o", ratio(&got.o, &reference.o), forward),
            ("q", ratio(&got.q, &reference.q), backward),
            (
                "landmarks",
                ratio(&got.landmarks, &reference.landmarks),
                backward,
            ),
            ("v", ratio(&got.v, &reference.v), backward),
        ];
        let line: Vec<String> = ratios
            .iter()
            .map(|(name, r, _)| format!("{name} {r:.1e}"))
            .collect();
        println!("{what}: {} (factor {:.1})", line.join(", "), self.factor());
        for (name, ratio, bound) in ratios {
            assert!(
                ratio <= bound,
                "{what} {:?} {name}: {ratio:e} > {bound:e}",
                self.shape
            );
        }
    }
}

fn ratio(got: &[f64], reference: &[f64]) -> f64 {
    assert_eq!(got.len(), reference.len());
    let error: f64 = got
        .iter()
        .zip(reference)
        .map(|(a, b)| (a - b).powi(2))
        .sum();
    let norm: f64 = reference.iter().map(|x| x * x).sum();
    let ratio = error.sqrt() / (norm.sqrt() + 1e-12);
    if ratio.is_nan() { f64::INFINITY } else { ratio }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

// The reference.

#[test]
fn reference_gradients_are_central_differences() {
    for (n, call) in [
        Call::new([2, 2, 9, 4, 5, 3]),
        Call::new([2, 2, 9, 4, 5, 3]).normalized(),
        Call::new([1, 2, 6, 5, 3, 2]).tokens_first().normalized(),
        Call::new([1, 1, 12, 7, 4, 3]).clustered(0.3),
        Call::new([1, 1, 12, 1, 4, 3]).normalized(),
    ]
    .into_iter()
    .enumerate()
    {
        let grads =
            cpu::backward(&call.shape, &call.options, &call.inputs(), &call.grad_o).unwrap();
        let loss = |call: &Call| {
            let o = cpu::forward(&call.shape, &call.options, &call.inputs()).unwrap();
            dot(&o, &call.grad_o)
        };
        let parts: [(&str, &[f64], Part); 3] = [
            ("q", &grads.q, |call| &mut call.q),
            ("landmarks", &grads.landmarks, |call| &mut call.landmarks),
            ("v", &grads.v, |call| &mut call.v),
        ];
        for (name, grad, part) in parts {
            let len = grad.len();
            let mut differences = vec![0.0; len];
            for (e, difference) in differences.iter_mut().enumerate() {
                let at = |step: f64| {
                    let mut moved = call.clone();
                    part(&mut moved)[e] += step;
                    loss(&moved)
                };
                // Fourth order.
                let h = 1e-3;
                *difference = (8.0 * (at(h) - at(-h)) - (at(2.0 * h) - at(-2.0 * h))) / (12.0 * h);
            }
            let ratio = ratio(grad, &differences);
            assert!(ratio <= 1e-8, "call {n}, {name}: {ratio:e}");
        }
    }
}

#[test]
fn reference_agrees_with_the_case_file() {
    let file = "../shared/cases/kronecker/soft_small.safetensors";
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    if !path.is_file() {
        println!("skipped: no file {}", path.display());
        return;
    }
    let case = Case::read(&path, None, &Map::new()).unwrap();
    let problem = case.bind().unwrap();
    let o = &problem.reference().unwrap()[0].values;
    let ratio = ratio(o, &case.expected["o"].values());
    assert!(ratio <= 1e-7, "{ratio:e}");
}

#[test]
fn reference_solves_what_it_says() {
    // V as wide as the landmarks and C = P: tokens are the landmarks. Then P⁻¹ (P − ridge) v is known up to the ridge.
    let mut call = Call::new([1, 1, 6, 6, 5, 2]);
    call.q = call.landmarks.clone();
    call.options.ridge = 0.0;
    // C = P: o = P P⁻¹ P v = P v.
    let o = cpu::forward(&call.shape, &call.options, &call.inputs()).unwrap();
    let scale = 0.5 / 5f64.sqrt();
    let row = |a: usize| &call.q[5 * a..5 * a + 5];
    for i in 0..6 {
        for c in 0..2 {
            let expected: f64 = (0..6)
                .map(|j| {
                    let d2: f64 = row(i)
                        .iter()
                        .zip(row(j))
                        .map(|(x, y)| (x - y).powi(2))
                        .sum();
                    (-scale * d2).exp() * call.v[2 * j + c]
                })
                .sum();
            assert!((o[2 * i + c] - expected).abs() < 1e-12);
        }
    }
}

#[test]
fn runs_of_landmarks_cover_all_tokens_once() {
    for (tokens, landmarks) in [
        (1, 1),
        (10, 3),
        (49, 49),
        (50, 49),
        (2048, 49),
        (97, 7),
        (5, 1),
    ] {
        let runs: Vec<_> = (0..landmarks)
            .map(|a| run_of_landmark(tokens, landmarks, a))
            .collect();
        assert!(runs.iter().cloned().flatten().eq(0..tokens));
        let (least, most) = (tokens / landmarks, tokens.div_ceil(landmarks));
        assert!(runs.iter().all(|run| (least..=most).contains(&run.len())));
    }
}

#[test]
fn singular_systems_are_refused() {
    let mut call = Call::new([1, 2, 20, 5, 4, 4]);
    call.options.ridge = 0.0;
    // Two landmarks of the second head are one.
    let at = 5 * 4;
    let twin: Vec<f64> = call.landmarks[at..at + 4].to_vec();
    call.landmarks[at + 8..at + 12].copy_from_slice(&twin);
    let refused = |error: Error| {
        let text = error.to_string();
        assert!(matches!(error, Error::Numeric { .. }), "{text}");
        assert!(text.contains("batch 0, head 1"), "{text}");
    };
    refused(cpu::forward(&call.shape, &call.options, &call.inputs()).unwrap_err());
    refused(call.forward().unwrap_err());
    refused(call.clone().newton(64).forward().unwrap_err());
    call.options.ridge = 0.01;
    call.forward().unwrap();
}

// The device.

#[test]
fn results_match_the_reference_at_ragged_sizes() {
    let sizes = [
        [1, 1, 1, 1, 1, 1],
        [2, 2, 33, 1, 8, 4],
        [1, 3, 31, 7, 5, 3],
        [2, 1, 129, 49, 32, 24],
        [1, 2, 70, 64, 36, 100],
        [1, 1, 101, 100, 20, 9],
        [1, 2, 65, 33, 130, 70],
        [3, 2, 97, 15, 16, 33],
    ];
    for (n, sizes) in sample(sizes.into_iter().enumerate()) {
        let call = Call::new(sizes);
        let call = if n % 2 == 0 {
            call
        } else {
            call.tokens_first()
        };
        call.holds::<f32>("cholesky");
        call.clone().normalized().holds::<f32>("normalized");
        call.clone().newton(64).holds::<f32>("newton");
        call.newton(64)
            .normalized()
            .holds::<f32>("newton, normalized");
    }
}

#[test]
fn storage_types_hold_their_tolerance() {
    let all = [
        [2, 2, 45, 20, 16, 24],
        [1, 3, 35, 7, 5, 3],
        [1, 2, 100, 49, 64, 64],
    ];
    for (n, sizes) in sample(all.into_iter().enumerate()) {
        for newton in by_turns([false, true], n + 1) {
            let call = Call::new(sizes);
            let call = if newton { call.newton(64) } else { call };
            let turned = call.tokens_first();
            call.rounded::<f16>().holds::<f16>("f16");
            turned.rounded::<bf16>().holds::<bf16>("bf16");
        }
    }
}

#[test]
fn layouts_and_reruns_are_bit_equal() {
    for call in [
        Call::new([2, 3, 77, 20, 12, 8]),
        Call::new([1, 2, 50, 7, 5, 3]).newton(64).normalized(),
    ] {
        let got = call.run::<f32>();
        assert_eq!(got, call.run::<f32>());
        let turned = call.tokens_first().run::<f32>();
        let (width, value) = (call.shape.width, call.shape.value);
        assert_eq!(call.turn(&got.o, value), turned.o);
        assert_eq!(call.turn(&got.q, width), turned.q);
        assert_eq!(got.landmarks, turned.landmarks);
        assert_eq!(call.turn(&got.v, value), turned.v);
    }
}

#[test]
fn gradients_are_adjoint_to_directions() {
    // <do, J d> by f64 differences along random directions against <Jᵀ do, d> by the device.
    for call in [
        Call::new([1, 2, 60, 30, 16, 12]),
        Call::new([1, 2, 60, 30, 16, 12]).normalized().newton(64),
    ] {
        let got = call.run::<f32>();
        let parts: [(&str, &[f64], Part); 3] = [
            ("q", &got.q, |call| &mut call.q),
            ("landmarks", &got.landmarks, |call| &mut call.landmarks),
            ("v", &got.v, |call| &mut call.v),
        ];
        for (name, grad, part) in parts {
            for seed in 0..3 {
                let direction = random(grad.len(), 1.0, 1000 + seed);
                let at = |step: f64| {
                    let mut moved = call.clone();
                    for (x, d) in part(&mut moved).iter_mut().zip(&direction) {
                        *x += step * d;
                    }
                    let o = cpu::forward(&call.shape, &call.options, &moved.inputs()).unwrap();
                    dot(&o, &call.grad_o)
                };
                let h = 1e-3;
                let slope = (8.0 * (at(h) - at(-h)) - (at(2.0 * h) - at(-2.0 * h))) / (12.0 * h);
                let norms = dot(grad, grad).sqrt() * dot(&direction, &direction).sqrt();
                let error = (dot(grad, &direction) - slope).abs() / norms;
                assert!(error <= 2e-5, "{name}: {error:e}");
            }
        }
    }
}

/// 49 landmarks in two clusters: the ridge alone keeps P regular.
fn ill_conditioned() -> Call {
    Call::new([1, 3, 150, 49, 16, 20]).clustered(0.05)
}

#[test]
fn twenty_iterations_are_not_reported_as_converged() {
    let call = ill_conditioned();
    let conditions = cpu::condition(&call.shape, &call.options, &call.landmarks).unwrap();
    println!("conditions {conditions:?}");
    assert!(
        conditions.iter().all(|k| (3e3..1e4).contains(k)),
        "{conditions:?}"
    );

    let error = call.clone().newton(20).forward().unwrap_err();
    let text = error.to_string();
    println!("{text}");
    assert!(matches!(error, Error::Numeric { .. }), "{text}");
    for part in ["batch 0, head 0", "residual", "20 iterations"] {
        assert!(text.contains(part), "{text}");
    }

    // Recorded, the same call finishes and its status says so.
    let gpu = gpu();
    let few = call.clone().newton(20);
    let [q, landmarks, v] =
        [&call.q, &call.landmarks, &call.v].map(|x| gpu.upload(&narrow::<f32>(x)).unwrap());
    let inputs = Inputs {
        q: &q,
        landmarks: Some(&landmarks),
        v: &v,
    };
    let mut o = gpu.zeros::<f32>(call.shape.value_len()).unwrap();
    let mut status = gpu.zeros(call.shape.status_len()).unwrap();
    let mut pass = gpu.pass("few");
    record(
        &mut pass,
        &few.shape,
        &few.options,
        &inputs,
        &mut o,
        &mut status,
    )
    .unwrap();
    pass.submit().unwrap();
    let status = Status::read(&status.download().unwrap());
    println!("{status:?}");
    assert_eq!(status.len(), 3);
    for head in &status {
        assert!(
            !head.converged(&few.options) && head.iterations == 20 && head.defect > 0.1,
            "{head:?}"
        );
    }

    let many = call.newton(64);
    let (o, status) = many.forward().unwrap();
    println!("{status:?}");
    for head in &status {
        assert!(
            (24..34).contains(&head.iterations) && head.residual <= 1e-3,
            "{head:?}"
        );
    }
    let reference = many.reference();
    let ratio = ratio(&o, &reference.o);
    println!("o {ratio:.1e}");
    assert!(ratio <= 5e-6 * many.factor(), "{ratio:e}");
}

#[test]
fn ill_conditioned_systems_hold_their_tolerance() {
    for call in [ill_conditioned(), ill_conditioned().normalized()] {
        call.holds::<f32>("cholesky");
        call.newton(64).holds::<f32>("newton");
    }
}

#[test]
fn heads_that_are_done_do_not_move() {
    // A well-conditioned head beside an ill-conditioned one ends as it does alone.
    let (easy, hard) = (
        Call::new([1, 1, 60, 20, 16, 8]),
        Call::new([1, 1, 60, 20, 16, 8]).clustered(0.05),
    );
    let mut pair = Call::new([1, 2, 60, 20, 16, 8]).newton(64);
    let join = |a: &[f64], b: &[f64]| [a, b].concat();
    pair.q = join(&easy.q, &hard.q);
    pair.landmarks = join(&easy.landmarks, &hard.landmarks);
    pair.v = join(&easy.v, &hard.v);
    let (o, status) = pair.forward().unwrap();
    let (o_easy, status_easy) = easy.newton(64).forward().unwrap();
    let (o_hard, status_hard) = hard.newton(64).forward().unwrap();
    assert_eq!(o, join(&o_easy, &o_hard));
    assert_eq!(status, [status_easy, status_hard].concat());
    assert!(
        status[0].iterations + 5 < status[1].iterations,
        "{status:?}"
    );
}

#[test]
fn landmarks_pooled_on_the_device_match_the_reference() {
    fn holds<T: Stored>(sizes: [usize; 6], tokens_first: bool, bound: f64) {
        let gpu = gpu();
        let call = Call::new(sizes).rounded::<T>();
        let call = if tokens_first {
            call.tokens_first()
        } else {
            call
        };
        let shape = &call.shape;
        let q = gpu.upload(&narrow::<T>(&call.q)).unwrap();
        let blank = |len: usize| gpu.upload(&vec![T::from(f64::NAN); len]).unwrap();
        let mut landmarks = blank(shape.landmark_len());
        pool_landmarks(gpu, shape, &q, &mut landmarks).unwrap();
        let expected = cpu::pool_landmarks(shape, &call.q).unwrap();
        let got = wide(&landmarks.download().unwrap());
        assert!(
            ratio(&got, &expected) <= bound,
            "{shape:?}: {:e}",
            ratio(&got, &expected)
        );

        // The whole call through pooled landmarks, and its gradients.
        let v = gpu.upload(&narrow::<T>(&call.v)).unwrap();
        let grad_o = gpu.upload(&narrow::<T>(&call.grad_o)).unwrap();
        let inputs = Inputs {
            q: &q,
            landmarks: None,
            v: &v,
        };
        let mut o = blank(shape.value_len());
        soft_attention(gpu, shape, &call.options, &inputs, &mut o).unwrap();
        let (mut grad_q, mut grad_v) = (blank(shape.query_len()), blank(shape.value_len()));
        let mut gradients = Gradients {
            q: &mut grad_q,
            landmarks: None,
            v: &mut grad_v,
        };
        backward(gpu, shape, &call.options, &inputs, &grad_o, &mut gradients).unwrap();
        let rounded = Call {
            landmarks: got,
            ..call.clone()
        };
        let mut reference = rounded.reference();
        cpu::pool_landmarks_backward(shape, &reference.landmarks, &mut reference.q).unwrap();
        let factor = rounded.factor().max(if bound > 1e-5 { 0.0 } else { 1.0 });
        for (got, expected, bound) in [
            (&o, &reference.o, bound),
            (&grad_q, &reference.q, bound),
            (&grad_v, &reference.v, bound),
        ] {
            let ratio = ratio(&wide(&got.download().unwrap()), expected);
            println!("{shape:?}: {ratio:.1e} (factor {factor:.1})");
            assert!(ratio <= bound * factor, "{shape:?}: {ratio:e}");
        }
        // The standalone backward adds.
        let mut grad_q = gpu.upload(&narrow::<T>(&call.q)).unwrap();
        let grad_landmarks: Vec<T> = narrow(&random(shape.landmark_len(), 1.0, 5));
        let on_device = gpu.upload(&grad_landmarks).unwrap();
        pool_landmarks_backward(gpu, shape, &on_device, &mut grad_q).unwrap();
        let mut expected = call.q.clone();
        cpu::pool_landmarks_backward(shape, &wide(&grad_landmarks), &mut expected).unwrap();
        assert!(ratio(&wide(&grad_q.download().unwrap()), &expected) <= bound);
    }
    let all = [
        ([1, 1, 1, 1, 1, 1], false),
        ([2, 3, 50, 7, 5, 3], true),
        ([1, 3, 149, 16, 32, 32], false),
        ([2, 1, 49, 49, 20, 9], true),
        ([1, 2, 1000, 1, 7, 4], false),
    ];
    for (n, (sizes, tokens_first)) in sample(all.into_iter().enumerate()) {
        for dtype in by_turns([Dtype::F32, Dtype::F16, Dtype::Bf16], n) {
            match dtype {
                Dtype::F16 => holds::<f16>(sizes, tokens_first, 1e-3),
                Dtype::Bf16 => holds::<bf16>(sizes, tokens_first, 4e-3),
                _ => holds::<f32>(sizes, tokens_first, 5e-6),
            }
        }
    }
}

/// Runs a plan of a call on the device, from outputs of NaN.
fn run_plan(call: &Call, plan: &Plan, checked: bool) -> Got {
    let gpu = gpu();
    let inputs = [&call.q, &call.landmarks, &call.v, &call.grad_o]
        .map(|x| gpu.upload(&narrow::<f32>(x)).unwrap());
    let shape = &call.shape;
    let lens = [
        shape.value_len(),
        shape.query_len(),
        shape.landmark_len(),
        shape.value_len(),
        shape.status_len(),
    ];
    let mut outputs = lens.map(|len| gpu.upload(&vec![f32::NAN; len]).unwrap());
    let mut pass = gpu.pass("plan");
    let views: Vec<_> = inputs.iter().map(Tensor::view).collect();
    let mut targets: Vec<_> = outputs.iter_mut().map(Tensor::view_mut).collect();
    pass.run_checked(plan, &views, &mut targets, checked)
        .unwrap();
    pass.submit().unwrap();
    let [o, q, landmarks, v, status] = outputs.map(|x| wide(&x.download().unwrap()));
    let status: Vec<f32> = narrow(&status);
    for head in Status::read(&status) {
        assert!(head.converged(&call.options), "{head:?}");
    }
    Got { o, q, landmarks, v }
}

#[test]
fn work_cut_by_limits_comes_out_the_same() {
    let own = gpu().caps().clone();
    for (sizes, tokens_first) in sample([
        ([3, 4, 200, 20, 16, 16], false),
        ([3, 4, 200, 20, 16, 16], true),
        ([2, 3, 150, 33, 7, 9], false),
    ]) {
        let call = Call::new(sizes);
        let call = if tokens_first {
            call.tokens_first()
        } else {
            call
        };
        let reference = call.reference();
        let whole = plan::both(&call.shape, &call.options, false, &own).unwrap();
        for caps in sample([
            Caps {
                binding_bytes: 20 << 10,
                ..own.clone()
            },
            // So slow that every step is cut as far as it goes.
            Caps {
                gflops: 1e-4,
                ..own.clone()
            },
            Caps {
                loop_iterations: 400,
                ..own.clone()
            },
            Caps {
                fill: 200,
                ..own.clone()
            },
            Caps::webgpu_floor(),
        ]) {
            let both =
                plan::variants(&call.shape, &call.options, false, plan::Part::Both, &caps).unwrap();
            for plan in both {
                println!(
                    "{}: {} steps, {} whole",
                    plan.label,
                    plan.steps.len(),
                    whole.steps.len()
                );
                let checked = plan.steps.len() % 2 == 0;
                call.within(&run_plan(&call, &plan, checked), &reference, &plan.label);
                let largest = plan.steps.iter().flat_map(|step| &step.bind);
                let largest = largest.map(|bind| bind.bytes.end - bind.bytes.start).max();
                assert!(largest <= Some(caps.binding_bytes));
            }
        }
    }
}

#[test]
fn many_landmarks_are_factored_in_a_buffer() {
    let own = gpu().caps().clone();
    let call = Call::new([1, 2, 300, 200, 40, 12]);
    let reference = call.reference();
    let plan = plan::both(&call.shape, &call.options, false, &own).unwrap();
    assert!(plan.label.contains("stored"), "{}", plan.label);
    call.within(&run_plan(&call, &plan, false), &reference, "stored");
    let caps = Caps {
        loop_iterations: 5_000,
        ..own
    };
    let cut = plan::both(&call.shape, &call.options, false, &caps).unwrap();
    assert!(cut.steps.len() > plan.steps.len());
    call.within(&run_plan(&call, &cut, false), &reference, "stored and cut");
}

#[test]
fn nothing_beside_the_outputs_is_written() {
    let gpu = gpu();
    let call = Call::new([2, 2, 37, 9, 6, 5]).rounded::<f16>();
    let shape = &call.shape;
    let upload = |values: &[f64]| gpu.upload(&narrow::<f16>(values)).unwrap();
    let [q, landmarks, v, grad_o] =
        [&call.q, &call.landmarks, &call.v, &call.grad_o].map(|x| upload(x));
    let inputs = Inputs {
        q: &q,
        landmarks: Some(&landmarks),
        v: &v,
    };
    // Each output in the middle of a buffer of NaN.
    let guarded = |len: usize| -> Tensor<f16> {
        let around = gpu.upload(&vec![f16::NAN; len + 256]).unwrap();
        gpu.wrap(around.into_buffer(), 256, len).unwrap()
    };
    let mut o = guarded(shape.value_len());
    soft_attention(gpu, shape, &call.options, &inputs, &mut o).unwrap();
    let mut grad_q = guarded(shape.query_len());
    let mut grad_landmarks = guarded(shape.landmark_len());
    let mut grad_v = guarded(shape.value_len());
    let mut gradients = Gradients {
        q: &mut grad_q,
        landmarks: Some(&mut grad_landmarks),
        v: &mut grad_v,
    };
    backward(gpu, shape, &call.options, &inputs, &grad_o, &mut gradients).unwrap();
    for tensor in [o, grad_q, grad_landmarks, grad_v] {
        let len = tensor.len();
        let whole: Tensor<f16> = gpu.wrap(tensor.into_buffer(), 0, len + 256).unwrap();
        let values = whole.download().unwrap();
        let (before, rest) = values.split_at(128);
        let (inside, after) = rest.split_at(len);
        assert!(
            before
                .iter()
                .chain(after)
                .all(|x| x.to_bits() == f16::NAN.to_bits())
        );
        assert!(inside.iter().all(|x| x.is_finite()));
    }
}

#[test]
fn arguments_that_make_no_sense_are_refused() {
    let caps = Caps::nvidia();
    let good = shape([1, 2, 20, 5, 8, 8]);
    let options = Options::default();
    let refused = |shape: Shape, options: Options, pooled: bool, what: &str| {
        let error = plan::forward(&shape, &options, pooled, &caps).unwrap_err();
        let text = error.to_string();
        assert!(
            matches!(error, Error::Argument { .. }) && text.contains(what),
            "{text}"
        );
        assert!(plan::backward(&shape, &options, pooled, &caps).is_err());
    };
    refused(
        Shape {
            landmarks: 0,
            ..good
        },
        options,
        false,
        "landmarks",
    );
    refused(
        Shape {
            landmarks: 513,
            ..good
        },
        options,
        false,
        "landmarks",
    );
    refused(Shape { width: 0, ..good }, options, false, "width");
    refused(Shape { value: 513, ..good }, options, false, "value");
    refused(
        Shape {
            dtype: Dtype::U32,
            ..good
        },
        options,
        false,
        "dtype",
    );
    refused(
        Shape {
            batch: usize::MAX,
            ..good
        },
        options,
        false,
        "shape",
    );
    refused(Shape { tokens: 4, ..good }, options, true, "landmarks");
    refused(
        good,
        Options {
            ridge: -1.0,
            ..options
        },
        false,
        "ridge",
    );
    refused(
        good,
        Options {
            ridge: f32::NAN,
            ..options
        },
        false,
        "ridge",
    );
    let newton = |tolerance, max_iterations| Options {
        solver: Solver::Newton {
            tolerance,
            max_iterations,
        },
        ..options
    };
    refused(good, newton(0.0, 64), false, "tolerance");
    refused(good, newton(1e-3, 0), false, "max_iterations");

    let gpu = gpu();
    let [q, landmarks, v, short] = [320, 80, 320, 319].map(|len| gpu.zeros::<f32>(len).unwrap());
    let mut o = gpu.zeros(320).unwrap();
    let inputs = Inputs {
        q: &q,
        landmarks: Some(&landmarks),
        v: &v,
    };
    soft_attention(gpu, &good, &options, &inputs, &mut o).unwrap();
    for wrong in [
        Inputs {
            q: &short,
            ..inputs
        },
        Inputs {
            v: &short,
            ..inputs
        },
        Inputs {
            landmarks: Some(&short),
            ..inputs
        },
    ] {
        let error = soft_attention(gpu, &good, &options, &wrong, &mut o).unwrap_err();
        assert!(matches!(error, Error::Argument { .. }), "{error}");
    }
    // Gradients of landmarks that are pooled are refused, and so is their lack where they are given.
    let (mut grad_q, mut grad_l) = (gpu.zeros(320).unwrap(), gpu.zeros(80).unwrap());
    let mut grad_v = gpu.zeros(320).unwrap();
    for pooled in [true, false] {
        let inputs = Inputs {
            landmarks: (!pooled).then_some(&landmarks),
            ..inputs
        };
        let mut gradients = Gradients {
            q: &mut grad_q,
            landmarks: pooled.then_some(&mut grad_l),
            v: &mut grad_v,
        };
        let error = backward(gpu, &good, &options, &inputs, &v, &mut gradients).unwrap_err();
        assert!(error.to_string().contains("gradients.landmarks"), "{error}");
    }
}

#[test]
fn plans_fit_every_preset() {
    for caps in Caps::presets() {
        for layout in [Layout::Bthd, Layout::Bhtd] {
            for dtype in [Dtype::F32, Dtype::F16, Dtype::Bf16] {
                for sizes in [
                    [2, 3, 5000, 512, 512, 512],
                    [1, 8, 2048, 49, 64, 64],
                    [1, 1, 100_000, 88, 33, 65],
                    [700, 100, 1, 1, 4, 4],
                ] {
                    let shape = Shape {
                        layout,
                        dtype,
                        ..shape(sizes)
                    };
                    for options in [
                        Options::default(),
                        Options {
                            solver: Solver::newton(),
                            symmetric_norm: true,
                            ..Options::default()
                        },
                    ] {
                        let pooled = shape.tokens >= shape.landmarks;
                        for pooled in [false, pooled] {
                            let plan = plan::both(&shape, &options, pooled, &caps).unwrap();
                            for step in &plan.steps {
                                // One head of a factorisation, or one segment, is as small as it gets.
                                assert!(
                                    step.predicted_ms <= 250.0,
                                    "{}: {}",
                                    plan.label,
                                    step.predicted_ms
                                );
                            }
                        }
                    }
                }
            }
        }
        // The factorisation of 88 landmarks fits 16 KiB, that of 89 does not.
        let label = |landmarks| {
            let shape = shape([1, 1, 10, landmarks, 8, 8]);
            plan::forward(&shape, &Options::default(), false, &caps)
                .unwrap()
                .label
        };
        assert!(!label(88).contains("stored"));
        assert_eq!(
            label(92).contains("stored"),
            caps.workgroup_bytes <= 16 << 10
        );
        assert!(label(200).contains("stored"));
        // No tokens, no heads: nothing that could go wrong.
        let empty = plan::both(
            &shape([0, 3, 5, 2, 4, 4]),
            &Options::default(),
            false,
            &caps,
        );
        assert!(empty.unwrap().steps.is_empty());
    }
}
