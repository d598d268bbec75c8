//! The family's kernels: which parts make each, and the parameters it takes.

mod sweep;
mod variant;

use std::sync::Arc;

pub(super) use crate::elements::Access;

pub(super) use sweep::{SweepVariant, sweep};
pub(super) use variant::{Fading, Rule, Second, Start, Variant};

use super::tiles::{ChunkTile, RecurrentTile};
use crate::gpu::{Dtype, Kernel, Needs, Part, Spec, params, part};

params! {
    /// Parameters of the kernels that walk tokens.
    WalkParams {
        first_token: u32,
        tokens: u32,
        total: u32,
        head_first: u32,
        state_heads: u32,
        q_heads: u32,
        k_heads: u32,
        v_heads: u32,
        g_heads: u32,
        first_walker: u32,
        key: u32,
        value: u32,
        segments: u32,
        segment_tokens: u32,
        slots: u32,
        slices: u32,
        groups: u32,
        q_offset: u32,
        k_offset: u32,
        v_offset: u32,
        o_offset: u32,
        g_offset: u32,
        beta_offset: u32,
        state_offset: u32,
        z_offset: u32,
        scale: f32,
        source_scale: f32,
        eps: f32,
    }
}

params! {
    /// Parameters of `state_scan`.
    StateScanParams {
        walkers: u32,
        rows: u32,
        columns: u32,
        segments: u32,
        slots: u32,
        first_slot: u32,
        last_slot: u32,
        segment_slots: u32,
        state_offset: u32,
        groups: u32,
    }
}

pub(super) fn recurrent(tile: &RecurrentTile, variant: &Variant, key: usize) -> Arc<Kernel> {
    let rows = if tile.subgroup {
        part!("linear/rows_subgroup.wgsl")
    } else {
        part!("linear/rows_direct.wgsl")
    };
    let key_vecs = match variant.rule {
        Rule::Normalized => (key as u32).div_ceil(4),
        _ => 1,
    };
    let parts = [
        part!("linear/recurrent.wgsl"),
        part!("linear/recurrent_rows.wgsl"),
        part!("common/products.wgsl"),
        rows,
    ];
    Arc::new(Kernel {
        name: "linear/recurrent",
        parts: parts
            .into_iter()
            .chain(variant.parts(variant.rule_part(false)))
            .chain(variant.second.parts())
            .chain([variant.flow_part(), variant.weighed_part()])
            .collect(),
        spec: variant.spec(tile.spec().with("KEY_VECS", key_vecs)),
        needs: Needs {
            subgroup: tile.subgroup,
            ..variant.access.needs()
        },
        params: WalkParams::FIELDS,
        workgroup: [tile.lanes, tile.row_groups, 1],
        workgroup_bytes: tile.bytes(variant.group) + 16 * key_vecs,
    })
}

fn score_part(tile: &ChunkTile) -> Part {
    if tile.pairs() {
        part!("linear/scores_pairs.wgsl")
    } else {
        part!("linear/scores_tile.wgsl")
    }
}

/// The walk by chunks; with `totals`, the sums of log decays of every walker and segment go to binding 3.
pub(super) fn chunk(tile: &ChunkTile, variant: &Variant, totals: bool) -> Arc<Kernel> {
    let totals = if totals {
        part!("linear/totals.wgsl")
    } else {
        part!("linear/totals_none.wgsl")
    };
    let mut parts = vec![
        part!("linear/chunk.wgsl"),
        part!("linear/state_tile.wgsl"),
        part!("linear/gates.wgsl"),
        totals,
    ];
    match tile.units {
        None => parts.extend([
            part!("linear/chunk_lanes.wgsl"),
            part!("common/products.wgsl"),
            score_part(tile),
        ]),
        Some(units) => {
            parts.push(part!("linear/chunk_matrices.wgsl"));
            parts.extend(units.parts());
        }
    }
    Arc::new(Kernel {
        name: "linear/chunk",
        parts: parts
            .into_iter()
            .chain(variant.parts(variant.rule_part(true)))
            .collect(),
        spec: variant.spec(tile.spec()),
        needs: match tile.units {
            None => variant.access.needs(),
            Some(units) => units.needs().and(variant.access.needs()),
        },
        params: WalkParams::FIELDS,
        workgroup: [256, 1, 1],
        workgroup_bytes: tile.bytes(),
    })
}

/// The delta rule's systems of a walk by chunks.
pub(super) fn delta_prepare(tile: &ChunkTile, variant: &Variant) -> Arc<Kernel> {
    let variant = Variant {
        start: Start::Resume,
        reads: false,
        strict: true,
        keeps: false,
        rule: Rule::Delta,
        group: 1,
        ..*variant
    };
    Arc::new(Kernel {
        name: "linear/delta_prepare",
        parts: [
            part!("linear/delta_prepare.wgsl"),
            part!("linear/gates.wgsl"),
            part!("common/products.wgsl"),
            score_part(tile),
        ]
        .into_iter()
        .chain(variant.parts(variant.rule_part(false)))
        .collect(),
        spec: variant.spec(tile.prepare_spec()),
        needs: variant.access.needs(),
        params: WalkParams::FIELDS,
        workgroup: [256, 1, 1],
        workgroup_bytes: tile.prepare_bytes(),
    })
}

/// States at the start of every segment from what each adds.
pub(super) fn state_scan(
    vectors: bool,
    fading: Fading,
    start: Start,
    [reverse, keeps]: [bool; 2],
) -> Arc<Kernel> {
    let access = Access {
        dtype: Dtype::F32,
        native: true,
        vectors,
    };
    let parts = [
        part!("linear/state_scan.wgsl"),
        part!("common/fade.wgsl"),
        part!("common/grid.wgsl"),
        fading.segment_part(),
        start.part(),
    ];
    Arc::new(Kernel {
        name: "linear/state_scan",
        parts: parts.into_iter().chain(access.parts()).collect(),
        spec: Spec::default().with("REVERSE", reverse).with("KEEP", keeps),
        needs: Needs::default(),
        params: StateScanParams::FIELDS,
        workgroup: [64, 1, 1],
        workgroup_bytes: 0,
    })
}
