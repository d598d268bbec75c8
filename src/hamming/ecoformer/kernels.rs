//! The operator's kernels: which parts make each, and the parameters they share.

use std::sync::Arc;

use super::{Normalizer, Options};
use crate::{
    elements::Access,
    gpu::{Kernel, Needs, Part, Spec, params, part},
};

params! {
    /// Parameters of every kernel here.
    Params {
        tokens: u32,
        bits: u32,
        words: u32,
        value: u32,
        quads: u32,
        span: u32,
        parts: u32,
        first_head: u32,
        items: u32,
        first: u32,
        groups: u32,
        codes_offset: u32,
        v_offset: u32,
        o_offset: u32,
        last_mask: u32,
        whole: u32,
        offset: f32,
    }
}

/// What is summed into states, and attended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The values.
    Values,
    /// Rows that an earlier step left.
    Rows,
}

/// Where outputs go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Put {
    /// To a tensor in the storage type.
    Typed,
    /// To a tensor in f32.
    Wide,
    /// With their denominators, to rows for a later step.
    Rows,
}

impl Source {
    fn parts(self) -> [Part; 2] {
        match self {
            Source::Values => [
                part!("hamming/signed_values.wgsl"),
                part!("hamming/signed_of_values.wgsl"),
            ],
            Source::Rows => [
                part!("hamming/signed_kept.wgsl"),
                part!("hamming/signed_of_rows.wgsl"),
            ],
        }
    }
}

fn kernel(
    name: &'static str,
    parts: impl IntoIterator<Item = Part>,
    spec: Spec,
    access: Option<Access>,
) -> Arc<Kernel> {
    let shared = [part!("hamming/signed.wgsl"), part!("common/grid.wgsl")];
    let access_parts = access.into_iter().flat_map(Access::parts);
    Arc::new(Kernel {
        name,
        parts: parts
            .into_iter()
            .chain(shared)
            .chain(access_parts)
            .collect(),
        spec,
        needs: access.map_or(Needs::default(), Access::needs),
        params: Params::FIELDS,
        workgroup: [64, 1, 1],
        workgroup_bytes: 0,
    })
}

pub(super) fn state(source: Source, access: Access) -> Arc<Kernel> {
    let parts = [
        part!("hamming/signed_state.wgsl"),
        part!("hamming/signed_codes.wgsl"),
    ];
    kernel(
        "hamming/signed_state",
        parts.into_iter().chain(source.parts()),
        Spec::default(),
        (source == Source::Values).then_some(access),
    )
}

pub(super) fn scan(total: bool, reverse: bool) -> Arc<Kernel> {
    let spec = Spec::default()
        .with("TOTAL", total)
        .with("REVERSE", reverse);
    kernel(
        "hamming/signed_scan",
        [part!("hamming/signed_scan.wgsl")],
        spec,
        None,
    )
}

/// Outputs from values, or sums over rows from the other end; the numbers are tokens of a lane, and whether the denominator is
/// an integer.
pub(super) fn output(
    source: Source,
    put: Put,
    options: &Options,
    [rows, whole]: [u32; 2],
    access: Access,
) -> Arc<Kernel> {
    let put_part = match put {
        Put::Typed => part!("hamming/signed_put.wgsl"),
        Put::Wide => part!("hamming/signed_put_wide.wgsl"),
        Put::Rows => part!("hamming/signed_put_rows.wgsl"),
    };
    let parts = [
        part!("hamming/signed_output.wgsl"),
        part!("hamming/signed_codes.wgsl"),
        put_part,
    ];
    let spec = Spec::default()
        .with("ROWS", rows)
        .with("CAUSAL", options.causal)
        .with("OWN", options.normalizer == Normalizer::Released)
        .with("REVERSE", source == Source::Rows)
        .with("DIVIDE", source == Source::Values)
        .with("WHOLE_OFFSET", whole == 1);
    kernel(
        "hamming/signed_output",
        parts.into_iter().chain(source.parts()),
        spec,
        Some(access),
    )
}

pub(super) fn rows(access: Access) -> Arc<Kernel> {
    kernel(
        "hamming/signed_rows",
        [part!("hamming/signed_rows.wgsl")],
        Spec::default(),
        Some(access),
    )
}

pub(super) fn pairs(access: Access) -> Arc<Kernel> {
    let parts = [
        part!("hamming/signed_pairs.wgsl"),
        part!("hamming/signed_values.wgsl"),
        part!("hamming/signed_kept.wgsl"),
    ];
    kernel("hamming/signed_pairs", parts, Spec::default(), Some(access))
}

pub(super) fn bits(causal: bool, access: Access) -> Arc<Kernel> {
    let within = if causal {
        part!("hamming/signed_within.wgsl")
    } else {
        part!("hamming/signed_within_none.wgsl")
    };
    let parts = [
        part!("hamming/signed_bits.wgsl"),
        part!("hamming/signed_codes.wgsl"),
        part!("hamming/signed_values.wgsl"),
        part!("hamming/signed_kept.wgsl"),
        within,
    ];
    kernel(
        "hamming/signed_bits",
        parts,
        Spec::default().with("CAUSAL", causal),
        Some(access),
    )
}
