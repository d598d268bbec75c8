//! From shape, options and capabilities to steps. Pure: no device is needed.

use super::{
    Options, Shape, Solver,
    kernels::{self, HeadParams, Sum},
    steps::{Buffer, Planner},
    system::{System, rescale, right_sides, solutions},
    tokens::TokenSum,
};
use crate::{
    Result,
    gpu::Caps,
    plan::{Plan, Slot, Work},
};

/// The operator's name in case files.
pub const OP: &str = "soft_attention";

/// Plans [`soft_attention`](super::soft_attention). Inputs: q, the landmarks unless they are pooled, v; outputs: o, status.
///
/// # Errors
/// `Argument` for impossible shapes and options, `Limit` when one token of all heads (`bthd`), or what belongs to two heads,
/// exceeds a binding or the scratch budget.
pub fn forward(shape: &Shape, options: &Options, pooled: bool, caps: &Caps) -> Result<Plan> {
    planned(shape, options, pooled, Triangle::Auto, Part::Forward, caps)
}

/// Plans [`backward`](super::backward). Inputs: q, the landmarks unless they are pooled, v, the gradient of o; outputs: the
/// gradients of q, of the landmarks unless they are pooled, of v; status.
///
/// # Errors
/// As [`forward`].
pub fn backward(shape: &Shape, options: &Options, pooled: bool, caps: &Caps) -> Result<Plan> {
    planned(shape, options, pooled, Triangle::Auto, Part::Backward, caps)
}

/// Plans [`forward`] and [`backward`] one after the other. Inputs as [`backward`]; outputs: o, the gradients, status.
///
/// # Errors
/// As [`forward`].
pub fn both(shape: &Shape, options: &Options, pooled: bool, caps: &Caps) -> Result<Plan> {
    planned(shape, options, pooled, Triangle::Auto, Part::Both, caps)
}

/// Every plan that computes the same on this device, the planner's choice first: with the triangle of the factorisation in
/// workgroup memory and in a buffer.
///
/// # Errors
/// As [`forward`].
pub fn variants(
    shape: &Shape,
    options: &Options,
    pooled: bool,
    part: Part,
    caps: &Caps,
) -> Result<Vec<Plan>> {
    let plan = |triangle| planned(shape, options, pooled, triangle, part, caps);
    let mut plans = vec![plan(Triangle::Auto)?];
    let stored = plan(Triangle::Stored)?;
    if plans.iter().all(|other| other.steps != stored.steps) {
        plans.push(stored);
    }
    Ok(plans)
}

/// Plans [`pool_landmarks`](super::pool_landmarks). Input: q; output: the landmarks.
///
/// # Errors
/// As [`forward`].
pub fn pool(shape: &Shape, caps: &Caps) -> Result<Plan> {
    let mut planner = Planner::new(shape, &Options::default(), true, caps)?;
    planner.pool(Slot::Input(0), Slot::Output(0))?;
    let bytes = shape.dtype.bytes() * (shape.query_len() + shape.landmark_len()) as u64;
    planner.finish("pooled".into(), pool_work(shape, bytes))
}

/// Plans [`pool_landmarks_backward`](super::pool_landmarks_backward). Input: the gradient of the landmarks; output: that of q,
/// updated in place.
///
/// # Errors
/// As [`forward`].
pub fn pool_backward(shape: &Shape, caps: &Caps) -> Result<Plan> {
    let mut planner = Planner::new(shape, &Options::default(), true, caps)?;
    planner.pool_grad(Slot::Input(0), Slot::Output(0))?;
    let bytes = shape.dtype.bytes() * (2 * shape.query_len() + shape.landmark_len()) as u64;
    planner.finish("pooled, backward".into(), pool_work(shape, bytes))
}

fn pool_work(shape: &Shape, bytes: u64) -> Work {
    Work {
        flops: shape.query_len() as f64,
        bytes: bytes as f64,
        ..Work::default()
    }
}

/// Which results a plan has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The outputs.
    Forward,
    /// The gradients.
    Backward,
    /// Outputs, then gradients.
    Both,
}

/// Where the triangle of the factorisation lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Triangle {
    Auto,
    Stored,
}

/// The tensors of a call.
#[derive(Clone, Copy)]
pub(super) struct Tensors {
    pub q: Slot,
    pub landmarks: Slot,
    pub v: Slot,
    pub grad_o: Slot,
}

fn planned(
    shape: &Shape,
    options: &Options,
    pooled: bool,
    triangle: Triangle,
    part: Part,
    caps: &Caps,
) -> Result<Plan> {
    let mut planner = Planner::new(shape, options, pooled, caps)?;
    let packed = match triangle {
        Triangle::Auto => planner.packed_triangle(if part == Part::Forward { 1 } else { 2 }),
        Triangle::Stored => None,
    };
    let given = u16::from(!pooled);
    let tensors = Tensors {
        q: Slot::Input(0),
        landmarks: match pooled {
            true => {
                let bytes = shape.landmark_len() as u64 * shape.dtype.bytes();
                planner.builder.add_scratch(bytes)
            }
            false => Slot::Input(1),
        },
        v: Slot::Input(1 + given),
        grad_o: Slot::Input(2 + given),
    };
    if pooled {
        planner.pool(tensors.q, tensors.landmarks)?;
    }
    let system = System::new(&mut planner, tensors.landmarks, packed)?;
    let mut outputs = (0..).map(Slot::Output);
    let mut next = || outputs.next().unwrap_or(Slot::Output(0));
    let o = (part != Part::Backward).then(&mut next);
    let gradients = (part != Part::Forward).then(|| {
        let q = next();
        let landmarks = (!pooled).then(&mut next);
        (q, landmarks, next())
    });
    let status = next();
    if let Some(o) = o {
        outputs_of(&mut planner, &system, tensors, o, status)?;
    }
    if let Some((q, landmarks, v)) = gradients {
        let landmarks_slot = match landmarks {
            Some(slot) => slot,
            None => {
                let bytes = shape.landmark_len() as u64 * shape.dtype.bytes();
                planner.builder.add_scratch(bytes)
            }
        };
        let gradients = [q, landmarks_slot, v];
        gradients_of(&mut planner, &system, tensors, gradients, status)?;
        if landmarks.is_none() {
            planner.pool_grad(landmarks_slot, q)?;
        }
    }
    let solver = match (options.solver, packed) {
        (Solver::Newton { .. }, _) => "newton",
        (_, Some(_)) => "cholesky",
        _ => "cholesky, stored",
    };
    let what = match part {
        Part::Forward => "",
        Part::Backward => ", backward",
        Part::Both => ", forward and backward",
    };
    let scalar = if planner.access.vectors {
        ""
    } else {
        ", scalar"
    };
    let pool = if pooled { ", pooled" } else { "" };
    planner.finish(
        format!("{solver}{what}{pool}{scalar}"),
        work(shape, pooled, part),
    )
}

/// What the operator needs: C once, products with it, P and its factorisation.
fn work(shape: &Shape, pooled: bool, part: Part) -> Work {
    let [m, d, v] = [shape.landmarks, shape.width, shape.value].map(|n| n as f64);
    let pairs = (shape.rows() * shape.tokens) as f64 * m;
    let heads = shape.rows() as f64;
    let system = heads * (3.0 * m * m * d + m * m * m / 3.0);
    let forward = pairs * (3.0 * d + 4.0 * v) + heads * 2.0 * m * m * v + system;
    let backward = pairs * (9.0 * d + 10.0 * v) + heads * m * m * (6.0 * v + 3.0 * d) + system;
    let (q, l, x) = (shape.query_len(), shape.landmark_len(), shape.value_len());
    let l = if pooled { 0 } else { l };
    let (flops, elements) = match part {
        Part::Forward => (forward, q + l + 2 * x),
        Part::Backward => (backward, 2 * (q + l) + 3 * x),
        Part::Both => (forward + backward, 2 * (q + l) + 4 * x),
    };
    Work {
        flops,
        bytes: (elements as u64 * shape.dtype.bytes()) as f64,
        ..Work::default()
    }
}

fn outputs_of(
    planner: &mut Planner<'_>,
    system: &System,
    tensors: Tensors,
    o: Slot,
    status: Slot,
) -> Result<()> {
    let right = right_sides(planner, system, tensors, &[tensors.v])?;
    let y = solutions(planner, system, right, 1, status)?;
    rescale(planner, system, y, 1)?;
    let sum = TokenSum::new(planner, Sum::Output);
    planner.out_over_tokens(&sum, [tensors.q, tensors.landmarks], &[], o, (y, 1, 0))
}

fn gradients_of(
    planner: &mut Planner<'_>,
    system: &System,
    tensors: Tensors,
    [grad_q, grad_landmarks, grad_v]: [Slot; 3],
    status: Slot,
) -> Result<()> {
    let Tensors {
        q,
        landmarks,
        v,
        grad_o,
    } = tensors;
    let right = right_sides(planner, system, tensors, &[v, grad_o])?;
    let y = solutions(planner, system, right, 2, status)?;
    let (p_stride, r_stride) = (planner.p_stride(), planner.r_stride());
    let y_stride = planner.y_stride(2);
    let (m, value) = (planner.shape.landmarks as u64, planner.shape.value);
    let params = planner.head_params(2);
    let terms = match system.scale(planner) {
        Some(scale) => {
            let terms = planner.head_scratch(r_stride);
            let buffers = [
                Buffer::read(right, y_stride),
                scale,
                Buffer::read(y, y_stride),
                Buffer::write(terms, r_stride),
            ];
            planner.over_elements(
                kernels::row_terms(),
                &buffers,
                m,
                4.0 * value as f64,
                params,
            )?;
            Some(Buffer::read(terms, r_stride))
        }
        None => None,
    };
    let slopes = planner.head_scratch(p_stride);
    let buffers: Vec<Buffer> = [
        Buffer::read(system.matrix, p_stride),
        Buffer::read(y, y_stride),
    ]
    .into_iter()
    .chain(terms)
    .chain([Buffer::write(slopes, p_stride)])
    .collect();
    let adjoint = kernels::adjoint(terms.is_some());
    planner.over_elements(adjoint, &buffers, m * m, 4.0 * value as f64, params)?;
    rescale(planner, system, y, 2)?;

    let sum = TokenSum::new(planner, Sum::LandmarkGrad);
    let pieces = planner.head_scratch(sum.piece_stride);
    planner.over_tokens(&sum, [q, landmarks], &[v, grad_o], pieces, Some((y, 2, 0)))?;
    let params = HeadParams {
        segments: sum.segments as u32,
        piece_stride: sum.piece_stride as u32,
        ..params
    };
    planner.landmark_grad(landmarks, pieces, slopes, grad_landmarks, params)?;
    let sum = TokenSum::new(planner, Sum::QueryGrad);
    planner.out_over_tokens(&sum, [q, landmarks], &[v, grad_o], grad_q, (y, 2, 0))?;
    let sum = TokenSum::new(planner, Sum::Output);
    planner.out_over_tokens(&sum, [q, landmarks], &[], grad_v, (y, 2, value))
}
