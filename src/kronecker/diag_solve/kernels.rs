//! The kernels of conjugate gradients beside the passes over rows.

use std::sync::Arc;

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
pub(super) enum Stage {
    Start = 0,
    Curvature = 1,
    Residual = 2,
}

pub(super) fn scalars(stage: Stage) -> Arc<Kernel> {
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
