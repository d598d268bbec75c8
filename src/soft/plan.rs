//! From shape, options and capabilities to steps. Pure: no device is needed.

use super::{
    Options, Shape, Solver,
    kernels::{self, HeadParams, MultiplyParams, Sum},
    steps::{Buffer, Planner, TokenSum, padded},
};
use crate::{
    Error, Result,
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
struct Tensors {
    q: Slot,
    landmarks: Slot,
    v: Slot,
    grad_o: Slot,
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
    let given = u8::from(!pooled);
    let tensors = Tensors {
        q: Slot::Input(0),
        landmarks: match pooled {
            true => {
                let bytes = shape.landmark_len() as u64 * shape.dtype.bytes();
                planner.add_scratch(bytes)
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
                planner.add_scratch(bytes)
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

/// P and what depends on nothing else.
struct System {
    /// P without its ridge.
    matrix: Slot,
    /// Row sums of P with its ridge, where something reads them.
    rows: Option<Slot>,
    info: Slot,
    packed: Option<usize>,
}

impl System {
    fn new(planner: &mut Planner<'_>, landmarks: Slot, packed: Option<usize>) -> Result<System> {
        let (p_stride, r_stride) = (planner.p_stride(), planner.r_stride());
        let elements = (planner.shape.landmarks * planner.shape.landmarks) as u64;
        let matrix = planner.head_scratch(p_stride);
        let base = planner.head_params(1);
        planner.over_elements(
            kernels::gram(planner.access),
            &[
                planner.landmark_buffer(landmarks),
                Buffer::write(matrix, p_stride),
            ],
            elements,
            3.0 * planner.shape.width as f64,
            base,
        )?;
        let options = planner.options;
        let rows = if options.symmetric_norm || options.solver != Solver::Cholesky {
            let rows = planner.head_scratch(r_stride);
            let m = planner.shape.landmarks as u64;
            planner.over_elements(
                kernels::row_sums(),
                &[
                    Buffer::read(matrix, p_stride),
                    Buffer::write(rows, r_stride),
                ],
                m,
                m as f64,
                base,
            )?;
            Some(rows)
        } else {
            None
        };
        let info = planner.head_scratch(INFO);
        Ok(System {
            matrix,
            rows,
            info,
            packed,
        })
    }

    /// The row sums as the binding of kernels that scale by them.
    fn scale(&self, planner: &Planner<'_>) -> Option<Buffer> {
        let rows = self.rows.filter(|_| planner.options.symmetric_norm)?;
        Some(Buffer::read(rows, planner.r_stride()))
    }
}

/// Numbers of the solver's state, as in the shaders.
const INFO: u64 = 64;

/// Right sides s ⊙ Cᵀ x side by side, one for each tensor.
fn right_sides(
    planner: &mut Planner<'_>,
    system: &System,
    tensors: Tensors,
    sides: &[Slot],
) -> Result<Slot> {
    let value = planner.shape.value;
    let parts = sides.len();
    let stride = planner.y_stride(parts);
    let right = planner.head_scratch(stride);
    let token_sum = TokenSum::new(planner, Sum::Right);
    let pieces = planner.head_scratch(token_sum.piece_stride);
    for (n, x) in sides.iter().enumerate() {
        planner.over_tokens(
            &token_sum,
            [tensors.q, tensors.landmarks],
            &[*x],
            pieces,
            None,
        )?;
        let params = HeadParams {
            column: (n * value) as u32,
            segments: token_sum.segments as u32,
            piece_stride: token_sum.piece_stride as u32,
            ..planner.head_params(parts)
        };
        let scale = system.scale(planner);
        let buffers: Vec<Buffer> = [Buffer::read(pieces, token_sum.piece_stride)]
            .into_iter()
            .chain(scale)
            .chain([Buffer::write(right, stride)])
            .collect();
        planner.over_elements(
            kernels::sum(scale.is_some()),
            &buffers,
            (planner.shape.landmarks * value) as u64,
            token_sum.segments as f64,
            params,
        )?;
    }
    Ok(right)
}

/// y = P⁻¹ right, and the status.
fn solutions(
    planner: &mut Planner<'_>,
    system: &System,
    right: Slot,
    parts: usize,
    status: Slot,
) -> Result<Slot> {
    let (p_stride, y_stride) = (planner.p_stride(), planner.y_stride(parts));
    let y = planner.head_scratch(y_stride);
    match planner.options.solver {
        Solver::Cholesky => planner.solve(
            system.packed,
            parts,
            [
                Buffer::read(system.matrix, p_stride),
                Buffer::read(right, y_stride),
                Buffer::write(y, y_stride),
                Buffer::write(system.info, INFO),
            ],
        )?,
        Solver::Newton {
            tolerance,
            max_iterations,
        } => newton(
            planner,
            system,
            [right, y],
            parts,
            tolerance,
            max_iterations,
        )?,
    }
    let blocks = planner.shape.landmarks.div_ceil(16);
    let norm_stride = padded(2 * parts * blocks);
    let norms = planner.head_scratch(norm_stride);
    let params = HeadParams {
        blocks: blocks as u32,
        parts: parts as u32,
        norm_stride: norm_stride as u32,
        ..planner.head_params(parts)
    };
    let m = planner.shape.landmarks as f64;
    let systems = m * m * (parts * planner.shape.value) as f64;
    planner.over_heads(
        kernels::residual(),
        &[
            Buffer::read(system.matrix, p_stride),
            Buffer::read(right, y_stride),
            Buffer::read(y, y_stride),
            Buffer::write(norms, norm_stride),
        ],
        |heads| heads * (parts * blocks) as u64,
        2.0 * systems,
        params,
    )?;
    planner.over_heads(
        kernels::status(),
        &[
            Buffer::read(norms, norm_stride),
            Buffer::read(system.info, INFO),
            Buffer::write(status, 4),
        ],
        |heads| heads.div_ceil(256),
        (parts * blocks) as f64,
        params,
    )?;
    Ok(y)
}

/// The iterated inverse, then y = V x and two corrections by V times the residual.
fn newton(
    planner: &mut Planner<'_>,
    system: &System,
    [right, y]: [Slot; 2],
    parts: usize,
    tolerance: f32,
    max_iterations: u32,
) -> Result<()> {
    let (m, n) = (planner.shape.landmarks, parts * planner.shape.value);
    let (p_stride, y_stride) = (planner.p_stride(), planner.y_stride(parts));
    let [mut inverse, mut next, rest] = [(); 3].map(|()| planner.head_scratch(p_stride));
    let rows = system.rows.ok_or_else(|| Error::Gpu {
        message: "Newton-Raphson was planned without row sums".into(),
    })?;
    let params = HeadParams {
        tolerance,
        ..planner.head_params(parts)
    };
    planner.over_heads(
        kernels::newton_start(),
        &[
            Buffer::read(system.matrix, p_stride),
            Buffer::read(rows, planner.r_stride()),
            Buffer::write(inverse, p_stride),
            Buffer::write(system.info, INFO),
        ],
        |heads| heads,
        2.0 * (m * m) as f64,
        params,
    )?;
    let square = |a: Slot, b: Slot, e: Slot, out: Slot| Product {
        a,
        b,
        e,
        out,
        columns: m,
        stride: p_stride,
    };
    let wide = |a: Slot, b: Slot, e: Slot, out: Slot| Product {
        columns: n,
        stride: y_stride,
        ..square(a, b, e, out)
    };
    let ridge = planner.options.ridge;
    let identity_less = MultiplyParams {
        start: IDENTITY,
        sign: -1.0,
        ridge,
        ..MultiplyParams::default()
    };
    let added = MultiplyParams {
        start: GIVEN,
        sign: 1.0,
        ..MultiplyParams::default()
    };
    let update = MultiplyParams { frozen: 1, ..added };
    for look in 0..=max_iterations {
        let last = look == max_iterations;
        let product = square(system.matrix, inverse, inverse, rest);
        multiply(planner, system, product, identity_less)?;
        planner.over_heads(
            kernels::newton_judge(),
            &[
                Buffer::read(rest, p_stride),
                Buffer::write(system.info, INFO),
            ],
            |heads| heads,
            (m * m) as f64,
            HeadParams {
                begin: u32::from(last),
                ..params
            },
        )?;
        if !last {
            multiply(
                planner,
                system,
                square(inverse, rest, inverse, next),
                update,
            )?;
            (inverse, next) = (next, inverse);
        }
    }
    let [correction, between] = [(); 2].map(|()| planner.head_scratch(y_stride));
    let plain = MultiplyParams { start: 0, ..added };
    let residual = MultiplyParams {
        start: GIVEN,
        ..identity_less
    };
    multiply(planner, system, wide(inverse, right, right, y), plain)?;
    for (from, to) in [(y, between), (between, y)] {
        multiply(
            planner,
            system,
            wide(system.matrix, from, right, correction),
            residual,
        )?;
        multiply(planner, system, wide(inverse, correction, from, to), added)?;
    }
    Ok(())
}

/// Values of `start` in `multiply`: what the product is added to.
const IDENTITY: u32 = 1;
const GIVEN: u32 = 2;

/// out = e + a b, for every head.
struct Product {
    a: Slot,
    b: Slot,
    e: Slot,
    out: Slot,
    columns: usize,
    stride: u64,
}

fn multiply(
    planner: &mut Planner<'_>,
    system: &System,
    product: Product,
    params: MultiplyParams,
) -> Result<()> {
    let m = planner.shape.landmarks;
    let p_stride = planner.p_stride();
    let Product {
        a,
        b,
        e,
        out,
        columns,
        stride,
    } = product;
    let (row_tiles, column_tiles) = (m.div_ceil(32) as u64, columns.div_ceil(32) as u64);
    let buffers = [
        Buffer::read(a, p_stride),
        Buffer::read(b, stride),
        Buffer::read(e, stride),
        Buffer::read(system.info, INFO),
        Buffer::write(out, stride),
    ];
    let groups = |heads: u64| heads * row_tiles * column_tiles;
    planner.windowed(
        kernels::multiply(),
        &buffers,
        &groups,
        2.0 * (m * m * columns) as f64,
        &|_, groups| {
            let params = MultiplyParams {
                m: m as u32,
                n: columns as u32,
                a_stride: p_stride as u32,
                b_stride: stride as u32,
                row_tiles: row_tiles as u32,
                column_tiles: column_tiles as u32,
                groups: groups as u32,
                ..params
            };
            bytemuck::bytes_of(&params).to_vec()
        },
    )
}

fn rescale(planner: &mut Planner<'_>, system: &System, y: Slot, parts: usize) -> Result<()> {
    let Some(scale) = system.scale(planner) else {
        return Ok(());
    };
    let stride = planner.y_stride(parts);
    let elements = (planner.shape.landmarks * parts * planner.shape.value) as u64;
    let params = planner.head_params(parts);
    planner.over_elements(
        kernels::rescale(),
        &[scale, Buffer::write(y, stride)],
        elements,
        1.0,
        params,
    )
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
