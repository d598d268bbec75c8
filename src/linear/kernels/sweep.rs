//! The gradients' own walk.

use std::sync::Arc;

use super::{Access, Fading, Start, WalkParams};
use crate::{
    gpu::{Dtype, Kernel, Needs, part},
    linear::tiles::SweepTile,
};

/// What a sweep does beside its two gradients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::linear) struct SweepVariant {
    pub fading: Fading,
    pub start: Start,
    pub packed: bool,
    /// From the last token to the first, for keys and values; otherwise for queries.
    pub back: bool,
    pub delta: bool,
    /// Whether the gradient of log decays is wanted.
    pub flows: bool,
    /// Whether that of beta is, on the way back.
    pub beta: bool,
}

/// A walk that has all columns of the state, for the gradients.
pub(in crate::linear) fn sweep(tile: &SweepTile, variant: SweepVariant, key: usize) -> Arc<Kernel> {
    let SweepVariant {
        fading,
        back,
        delta,
        flows,
        ..
    } = variant;
    let [kernel, own] = if back {
        [part!("linear/sweep_back.wgsl"), part!("linear/sweep.wgsl")]
    } else {
        [part!("linear/sweep_on.wgsl"), part!("linear/sweep.wgsl")]
    };
    let mut parts = vec![
        kernel,
        own,
        part!("linear/walk.wgsl"),
        part!("linear/decay.wgsl"),
        part!("common/fade.wgsl"),
        part!("common/grid.wgsl"),
        part!("linear/map_identity.wgsl"),
        fading.part(),
        variant.start.part(),
        if variant.packed {
            part!("linear/span_packed.wgsl")
        } else {
            part!("linear/span_batch.wgsl")
        },
        if back && delta {
            part!("linear/delta.wgsl")
        } else {
            part!("linear/additive.wgsl")
        },
    ];
    let access = Access {
        dtype: Dtype::F32,
        native: true,
        vectors: true,
    };
    parts.extend(access.parts());
    let channels = fading == Fading::Rows;
    if back {
        parts.push(match flows {
            false => part!("linear/sweep_left_none.wgsl"),
            true if channels => part!("linear/sweep_left_channels.wgsl"),
            true => part!("linear/sweep_left_numbers.wgsl"),
        });
        parts.push(if variant.beta {
            part!("linear/sweep_beta.wgsl")
        } else {
            part!("linear/sweep_beta_none.wgsl")
        });
    } else {
        parts.push(if delta {
            part!("linear/sweep_corrected.wgsl")
        } else {
            part!("linear/sweep_plain.wgsl")
        });
        parts.push(match flows {
            false => part!("linear/sweep_dg_none.wgsl"),
            true if channels => part!("linear/sweep_dg_channels.wgsl"),
            true => part!("linear/sweep_dg_numbers.wgsl"),
        });
        if flows {
            parts.push(part!("linear/sweep_flows.wgsl"));
        }
    }
    // Flows are kept for every row of the state.
    let key_vecs = if channels && flows && !back {
        key.div_ceil(4)
    } else {
        1
    };
    Arc::new(Kernel {
        name: if back {
            "linear/sweep_back"
        } else {
            "linear/sweep_on"
        },
        parts,
        spec: tile
            .spec()
            .with("REVERSE", back)
            .with("KEEP", flows)
            .with("KEY_VECS", key_vecs as u32),
        needs: Needs {
            subgroup: true,
            ..access.needs()
        },
        params: WalkParams::FIELDS,
        workgroup: [tile.lanes(), 1, 1],
        workgroup_bytes: 0,
    })
}
