//! The family's kernels: which parts make each, and the parameters it takes.

use std::sync::Arc;

use super::tiles::{ChunkTile, RecurrentTile};
use crate::gpu::{Dtype, Kernel, Needs, Part, Spec, params, part};

/// How a kernel reads and writes tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Access {
    /// Storage type of q, k, v.
    pub dtype: Dtype,
    /// Whether shaders have that type natively.
    pub native: bool,
    /// Whether every width is a multiple of four.
    pub vectors: bool,
}

impl Access {
    pub(super) fn parts(self) -> [Part; 2] {
        let access = if self.vectors {
            part!("common/access_vec4.wgsl")
        } else {
            part!("common/access_scalar.wgsl")
        };
        [elem(self.dtype, self.native), access]
    }

    pub(super) fn needs(self) -> Needs {
        Needs {
            f16: self.dtype == Dtype::F16 && self.native,
            half: self.dtype == Dtype::F16 && !self.native,
            subgroup: false,
        }
    }
}

fn elem(dtype: Dtype, native: bool) -> Part {
    match dtype {
        Dtype::F16 if native => part!("common/elem_f16.wgsl"),
        Dtype::F16 => part!("common/elem_half.wgsl"),
        Dtype::Bf16 => part!("common/elem_bf16.wgsl"),
        _ => part!("common/elem_f32.wgsl"),
    }
}

/// Where the state at the start of a walk comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// Zero.
    Zero,
    /// A buffer of its own.
    Given,
    /// The state buffer, updated in place.
    Resume,
}

fn options(decay: bool, start: Option<Start>) -> impl Iterator<Item = Part> {
    let decay = if decay {
        part!("linear/decay_head.wgsl")
    } else {
        part!("linear/decay_none.wgsl")
    };
    let start = start.map(|start| match start {
        Start::Zero => part!("linear/start_zero.wgsl"),
        Start::Given => part!("linear/start_given.wgsl"),
        Start::Resume => part!("linear/start_resume.wgsl"),
    });
    [decay, part!("common/grid.wgsl")].into_iter().chain(start)
}

params! {
    /// Parameters of the kernels that walk tokens: `chunk`, `recurrent`, `local_state`.
    WalkParams {
        tokens: u32,
        heads: u32,
        first_head: u32,
        key: u32,
        value: u32,
        segments: u32,
        segment_tokens: u32,
        slices: u32,
        groups: u32,
        batch_stride: u32,
        head_stride: u32,
        token_stride: u32,
        q_offset: u32,
        k_offset: u32,
        v_offset: u32,
        o_offset: u32,
        state_offset: u32,
        start_offset: u32,
        scale: f32,
    }
}

params! {
    /// Parameters of `state_scan`.
    StateScanParams {
        heads: u32,
        first_head: u32,
        head_count: u32,
        key: u32,
        value: u32,
        segments: u32,
        segment_tokens: u32,
        last_tokens: u32,
        states_offset: u32,
        state_offset: u32,
        start_offset: u32,
    }
}

params! {
    /// Parameters of `pack_output`.
    PackOutputParams {
        elements: u32,
    }
}

pub(super) fn chunk(tile: &ChunkTile, access: Access, decay: bool, start: Start) -> Arc<Kernel> {
    let parts = [
        part!("linear/chunk.wgsl"),
        part!("linear/walk.wgsl"),
        part!("linear/outputs.wgsl"),
        part!("linear/state_tile.wgsl"),
        part!("common/fade.wgsl"),
    ];
    Arc::new(Kernel {
        name: "linear/chunk",
        parts: parts
            .into_iter()
            .chain(access.parts())
            .chain(options(decay, Some(start)))
            .collect(),
        spec: tile.spec(),
        needs: access.needs(),
        params: WalkParams::FIELDS,
        workgroup: [256, 1, 1],
        workgroup_bytes: tile.chunk_bytes(),
    })
}

pub(super) fn local_state(tile: &ChunkTile, access: Access, decay: bool) -> Arc<Kernel> {
    let parts = [
        part!("linear/local_state.wgsl"),
        part!("linear/walk.wgsl"),
        part!("linear/state_tile.wgsl"),
        part!("common/fade.wgsl"),
    ];
    Arc::new(Kernel {
        name: "linear/local_state",
        parts: parts
            .into_iter()
            .chain(access.parts())
            .chain(options(decay, None))
            .collect(),
        spec: tile.spec(),
        needs: access.needs(),
        params: WalkParams::FIELDS,
        workgroup: [256, 1, 1],
        workgroup_bytes: tile.slab_bytes(),
    })
}

pub(super) fn state_scan(vectors: bool, decay: bool, start: Start) -> Arc<Kernel> {
    let access = Access {
        dtype: Dtype::F32,
        native: true,
        vectors,
    };
    let parts = [part!("linear/state_scan.wgsl"), part!("common/fade.wgsl")];
    Arc::new(Kernel {
        name: "linear/state_scan",
        parts: parts
            .into_iter()
            .chain(access.parts())
            .chain(options(decay, Some(start)))
            .collect(),
        spec: Spec::default(),
        needs: Needs::default(),
        params: StateScanParams::FIELDS,
        workgroup: [64, 1, 1],
        workgroup_bytes: 0,
    })
}

pub(super) fn recurrent(
    tile: &RecurrentTile,
    access: Access,
    decay: bool,
    start: Start,
) -> Arc<Kernel> {
    let rows = if tile.subgroup {
        part!("linear/rows_subgroup.wgsl")
    } else {
        part!("linear/rows_direct.wgsl")
    };
    Arc::new(Kernel {
        name: "linear/recurrent",
        parts: [
            part!("linear/recurrent.wgsl"),
            part!("linear/walk.wgsl"),
            part!("linear/outputs.wgsl"),
            rows,
            part!("common/fade.wgsl"),
        ]
        .into_iter()
        .chain(access.parts())
        .chain(options(decay, Some(start)))
        .collect(),
        spec: tile.spec(),
        needs: Needs {
            subgroup: tile.subgroup,
            ..access.needs()
        },
        params: WalkParams::FIELDS,
        workgroup: [tile.lanes, tile.row_groups, 1],
        workgroup_bytes: tile.bytes(),
    })
}

pub(super) fn pack_output(dtype: Dtype) -> Arc<Kernel> {
    Arc::new(Kernel {
        name: "linear/pack_output",
        parts: vec![
            part!("linear/pack_output.wgsl"),
            elem(dtype, false),
            part!("common/grid.wgsl"),
        ],
        spec: Spec::default(),
        needs: Needs {
            half: dtype == Dtype::F16,
            ..Needs::default()
        },
        params: PackOutputParams::FIELDS,
        workgroup: [64, 1, 1],
        workgroup_bytes: 0,
    })
}
