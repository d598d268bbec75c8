//! Kernels of popcount attention: parts chosen by what a call asks for.

use std::sync::Arc;

use super::{
    params::{ClipParams, CutParams, GradParams, MergeParams, Params, RowsParams},
    tiles::{FEATURES, Form, Tile},
};
use crate::{
    elements::Access,
    gpu::{Kernel, Needs, Part, Spec, part},
};

/// Which rows and keys the tiles of a call have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spans {
    All,
    Lengths,
    Packed,
}

/// What is known of rows before their values are weighed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limits {
    None,
    Least,
    Kept,
}

impl Spans {
    fn parts(self) -> [Part; 2] {
        let own = match self {
            Spans::All => part!("hamming/attention_span_all.wgsl"),
            Spans::Lengths => part!("hamming/attention_span_lengths.wgsl"),
            Spans::Packed => part!("hamming/attention_span_packed.wgsl"),
        };
        [part!("hamming/attention_span.wgsl"), own]
    }

    fn key_parts(self) -> [Part; 2] {
        let own = match self {
            Spans::Packed => part!("hamming/attention_keys_packed.wgsl"),
            _ => part!("hamming/attention_keys_all.wgsl"),
        };
        [part!("hamming/attention_span.wgsl"), own]
    }
}

impl Limits {
    fn part(self) -> Part {
        match self {
            Limits::None => part!("hamming/attention_limits_none.wgsl"),
            Limits::Least => part!("hamming/attention_limits_least.wgsl"),
            Limits::Kept => part!("hamming/attention_limits_kept.wgsl"),
        }
    }
}

/// What is counted over pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tally {
    Least,
    Bins,
    Ties,
}

/// Parts that every kernel over pairs has.
fn pairs(tile: Tile) -> [Part; 4] {
    [
        part!("hamming/attention_pairs.wgsl"),
        part!("hamming/pair_xor.wgsl"),
        tile.part(),
        part!("common/grid.wgsl"),
    ]
}

pub(super) fn sweep(
    tile: Tile,
    value: usize,
    spans: Spans,
    limits: Limits,
    access: Access,
) -> Arc<Kernel> {
    let shared = [
        part!("hamming/attention_params.wgsl"),
        part!("hamming/attention_weights.wgsl"),
        limits.part(),
    ];
    let value_tile = tile.value_tile(value);
    let square = |values: Part| {
        let own = vec![part!("hamming/attention.wgsl"), values];
        let spec = tile.spec().with("VALUE_TILE", value_tile);
        let bytes = 4 * tile.rows * tile.rows + tile.codes_bytes();
        ("hamming/attention", own, spec, bytes)
    };
    let (name, own, spec, workgroup_bytes) = match tile.form {
        Form::Staged => {
            let (name, own, spec, bytes) = square(part!("hamming/attention_values_staged.wgsl"));
            (name, own, spec, bytes + 16 * 4 * value_tile)
        }
        Form::Direct => square(part!("hamming/attention_values_direct.wgsl")),
        Form::Lanes(_) => {
            let own = vec![part!("hamming/attention_lanes.wgsl")];
            ("hamming/attention_lanes", own, tile.spec(), 0)
        }
    };
    Arc::new(Kernel {
        name,
        parts: own
            .into_iter()
            .chain(shared)
            .chain(spans.parts())
            .chain(pairs(tile))
            .chain(access.parts())
            .collect(),
        spec,
        needs: tile.needs(access.needs()),
        params: Params::FIELDS,
        workgroup: [tile.lanes(), 1, 1],
        workgroup_bytes,
    })
}

/// Counts over pairs; `owned` where one invocation counts all keys of a row.
pub(super) fn tally(tile: Tile, spans: Spans, tally: Tally, owned: bool) -> Arc<Kernel> {
    let counts = match tally {
        Tally::Least => part!("hamming/attention_tally_least.wgsl"),
        Tally::Bins if owned => part!("hamming/attention_tally_bins_owned.wgsl"),
        Tally::Bins => part!("hamming/attention_tally_bins.wgsl"),
        Tally::Ties => part!("hamming/attention_tally_ties.wgsl"),
    };
    let (name, main) = match tile.form {
        Form::Lanes(_) => (
            "hamming/attention_lanes_tally",
            part!("hamming/attention_lanes_tally.wgsl"),
        ),
        _ => (
            "hamming/attention_tally",
            part!("hamming/attention_tally.wgsl"),
        ),
    };
    let own = [main, part!("hamming/attention_params.wgsl"), counts];
    Arc::new(Kernel {
        name,
        parts: own
            .into_iter()
            .chain(spans.parts())
            .chain(pairs(tile))
            .collect(),
        spec: tile.spec(),
        needs: tile.needs(Needs::default()),
        params: Params::FIELDS,
        workgroup: [tile.lanes(), 1, 1],
        workgroup_bytes: tile.codes_bytes(),
    })
}

pub(super) fn cut(tile: Tile, spans: Spans, fixed: bool) -> Arc<Kernel> {
    let own = [
        part!("hamming/attention_cut.wgsl"),
        part!("common/grid.wgsl"),
    ];
    Arc::new(Kernel {
        name: "hamming/attention_cut",
        parts: own.into_iter().chain(spans.parts()).collect(),
        spec: Spec::default().with("TILE", tile.rows).with("FIXED", fixed),
        needs: Needs::default(),
        params: CutParams::FIELDS,
        workgroup: [64, 1, 1],
        workgroup_bytes: 4 * 4 * 64 + 16,
    })
}

pub(super) fn last(tile: Tile, spans: Spans) -> Arc<Kernel> {
    let own = [
        part!("hamming/attention_last.wgsl"),
        part!("hamming/attention_params.wgsl"),
        part!("hamming/attention_pairs.wgsl"),
        part!("common/grid.wgsl"),
    ];
    Arc::new(Kernel {
        name: "hamming/attention_last",
        parts: own.into_iter().chain(spans.parts()).collect(),
        spec: Spec::default().with("TILE", tile.rows),
        needs: Needs::default(),
        params: Params::FIELDS,
        workgroup: [64, 1, 1],
        workgroup_bytes: 4 * 64 + 16,
    })
}

/// Which outputs beside o a merge writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Beside {
    pub lse: bool,
    pub kept: bool,
}

pub(super) fn merge(tile: Tile, spans: Spans, limits: Limits, beside: Beside) -> Arc<Kernel> {
    let lse = match beside.lse {
        true => part!("hamming/attention_lse_given.wgsl"),
        false => part!("hamming/attention_lse_none.wgsl"),
    };
    let keep = match beside.kept {
        true => part!("hamming/attention_keep_given.wgsl"),
        false => part!("hamming/attention_keep_none.wgsl"),
    };
    let own = [
        part!("hamming/attention_merge.wgsl"),
        limits.part(),
        lse,
        keep,
        part!("common/grid.wgsl"),
    ];
    Arc::new(Kernel {
        name: "hamming/attention_merge",
        parts: own.into_iter().chain(spans.parts()).collect(),
        spec: Spec::default().with("TILE", tile.rows),
        needs: Needs::default(),
        params: MergeParams::FIELDS,
        workgroup: [64, 1, 1],
        workgroup_bytes: 0,
    })
}

pub(super) fn grad_rows(access: Access) -> Arc<Kernel> {
    let own = [
        part!("hamming/attention_grad_rows.wgsl"),
        part!("common/grid.wgsl"),
    ];
    Arc::new(Kernel {
        name: "hamming/attention_grad_rows",
        parts: own.into_iter().chain(access.parts()).collect(),
        spec: Spec::default(),
        needs: access.needs(),
        params: RowsParams::FIELDS,
        workgroup: [64, 1, 1],
        workgroup_bytes: 0,
    })
}

/// A gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grad {
    Queries,
    Keys,
    Values,
}

pub(super) fn grad(tile: Tile, spans: Spans, grad: Grad, access: Access) -> Arc<Kernel> {
    let of_values = grad == Grad::Values;
    let span_parts = match grad {
        Grad::Queries => spans.parts(),
        _ => spans.key_parts(),
    };
    let by_lanes = matches!(tile.form, Form::Lanes(_));
    let (name, main) = match (grad, by_lanes) {
        (Grad::Queries, false) => (
            "hamming/attention_grad_q",
            part!("hamming/attention_grad_q.wgsl"),
        ),
        (_, false) => (
            "hamming/attention_grad_kv",
            part!("hamming/attention_grad_kv.wgsl"),
        ),
        (Grad::Queries, true) => (
            "hamming/attention_lanes_grad_q",
            part!("hamming/attention_lanes_grad_q.wgsl"),
        ),
        (_, true) => (
            "hamming/attention_lanes_grad_kv",
            part!("hamming/attention_lanes_grad_kv.wgsl"),
        ),
    };
    let [what, columns] = match (of_values, by_lanes) {
        (true, false) => [
            part!("hamming/attention_grad_values.wgsl"),
            part!("hamming/attention_grad_values_tile.wgsl"),
        ],
        (false, false) => [
            part!("hamming/attention_grad_codes.wgsl"),
            part!("hamming/attention_grad_codes_tile.wgsl"),
        ],
        (true, true) => [
            part!("hamming/attention_grad_values.wgsl"),
            part!("hamming/attention_lanes_grad_values.wgsl"),
        ],
        (false, true) => [
            part!("hamming/attention_grad_codes.wgsl"),
            part!("hamming/attention_lanes_grad_codes.wgsl"),
        ],
    };
    let sums = match by_lanes {
        true => part!("hamming/attention_lanes_grad.wgsl"),
        false => part!("hamming/attention_grad.wgsl"),
    };
    let own = [
        main,
        what,
        columns,
        sums,
        part!("hamming/attention_grad_inputs.wgsl"),
        part!("hamming/attention_grad_params.wgsl"),
        part!("hamming/attention_weights.wgsl"),
    ];
    // Slabs of 16 columns, or of 16 channels of rows and columns.
    let arena = (4 * FEATURES).max(if of_values { 0 } else { 8 * tile.rows });
    let spec = tile
        .spec()
        .with("FEATURES", FEATURES)
        .with("OF_KEYS", grad != Grad::Queries);
    let (spec, workgroup_bytes) = match by_lanes {
        true => (spec, 0),
        false => (
            spec.with("ARENA", arena),
            4 * tile.rows * tile.rows + 16 * arena + tile.codes_bytes(),
        ),
    };
    Arc::new(Kernel {
        name,
        parts: own
            .into_iter()
            .chain(span_parts)
            .chain(pairs(tile))
            .chain(access.parts())
            .collect(),
        spec,
        needs: tile.needs(access.needs()),
        params: GradParams::FIELDS,
        workgroup: [tile.lanes(), 1, 1],
        workgroup_bytes,
    })
}

pub(super) fn clip() -> Arc<Kernel> {
    Arc::new(Kernel {
        name: "hamming/attention_clip",
        parts: vec![
            part!("hamming/attention_clip.wgsl"),
            part!("common/grid.wgsl"),
        ],
        spec: Spec::default(),
        needs: Needs::default(),
        params: ClipParams::FIELDS,
        workgroup: [64, 1, 1],
        workgroup_bytes: 0,
    })
}
