//! The system P y = right side: its matrix, its right sides, its solutions and the status.

use super::{
    Solver,
    kernels::{self, HeadParams, Sum},
    newton::newton,
    plan::Tensors,
    steps::{Buffer, Planner, padded},
    tokens::TokenSum,
};
use crate::{Result, plan::Slot};

/// P and what depends on nothing else.
pub(super) struct System {
    /// P without its ridge.
    pub matrix: Slot,
    /// Row sums of P with its ridge, where something reads them.
    pub rows: Option<Slot>,
    pub info: Slot,
    packed: Option<usize>,
}

impl System {
    pub fn new(
        planner: &mut Planner<'_>,
        landmarks: Slot,
        packed: Option<usize>,
    ) -> Result<System> {
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
    pub fn scale(&self, planner: &Planner<'_>) -> Option<Buffer> {
        let rows = self.rows.filter(|_| planner.options.symmetric_norm)?;
        Some(Buffer::read(rows, planner.r_stride()))
    }
}

/// Numbers of the solver's state, as in the shaders.
pub(super) const INFO: u64 = 64;

/// Right sides s ⊙ Cᵀ x side by side, one for each tensor.
pub(super) fn right_sides(
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
pub(super) fn solutions(
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

pub(super) fn rescale(
    planner: &mut Planner<'_>,
    system: &System,
    y: Slot,
    parts: usize,
) -> Result<()> {
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
