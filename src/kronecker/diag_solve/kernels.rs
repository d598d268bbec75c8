//! The kernels of conjugate gradients beside the passes over rows.

use std::sync::Arc;

use bytemuck::bytes_of;

use crate::gpu::{Kernel, Needs, Spec, params, part};

params! {
    /// Parameters of `cg_scalars`.
    ScalarParams {
        rows: u32,
        parts: u32,
        first: u32,
        tolerance: f32,
    }
}

/// What sums stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::kronecker) enum Stage {
    Start = 0,
    Curvature = 1,
    Residual = 2,
}

pub(in crate::kronecker) fn scalars(stage: Stage) -> Arc<Kernel> {
    Arc::new(Kernel {
        name: "kronecker/cg_scalars",
        parts: vec![
            part!("kronecker/cg_scalars.wgsl"),
            part!("kronecker/sum_lanes.wgsl"),
            part!("common/grid.wgsl"),
        ],
        spec: Spec::default().with("STAGE", stage as u32),
        needs: Needs::default(),
        params: ScalarParams::FIELDS,
        workgroup: [64, 1, 1],
        workgroup_bytes: 256,
    })
}

/// What `cg_scalars` takes where one workgroup has the only row.
pub(in crate::kronecker) fn one_row(parts: u64, tolerance: f32) -> Vec<u8> {
    let params = ScalarParams {
        rows: 1,
        parts: parts as u32,
        first: 0,
        tolerance,
    };
    bytes_of(&params).to_vec()
}
