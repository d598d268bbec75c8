//! The operator's kernels: which parts make each, and the parameters they take.

use std::sync::Arc;

use super::Sigma;
use crate::{
    elements::Access,
    gpu::{Field, Kernel, Needs, Part, Spec, params, part},
};

params! {
    /// Parameters of every kernel here but `hash_sums`.
    Params {
        tokens: u32,
        heads: u32,
        channels: u32,
        anchors: u32,
        bits: u32,
        words: u32,
        first_head: u32,
        items: u32,
        first: u32,
        groups: u32,
        x_offset: u32,
        words_offset: u32,
        projection_offset: u32,
        out_offset: u32,
        sigma: f32,
        share: f32,
    }
}

params! {
    /// Parameters of `hash_sums`.
    SumsParams {
        sets: u32,
        count: u32,
        blocks: u32,
        first: u32,
        groups: u32,
    }
}

fn kernel(
    name: &'static str,
    parts: impl IntoIterator<Item = Part>,
    spec: Spec,
    access: Option<Access>,
    params: &'static [Field],
) -> Arc<Kernel> {
    let access_parts = access.into_iter().flat_map(Access::parts);
    Arc::new(Kernel {
        name,
        parts: parts
            .into_iter()
            .chain([part!("common/grid.wgsl")])
            .chain(access_parts)
            .collect(),
        spec,
        needs: access.map_or(Needs::default(), Access::needs),
        params,
        workgroup: [64, 1, 1],
        workgroup_bytes: 0,
    })
}

fn sigma_part(sigma: Sigma) -> Part {
    match sigma {
        Sigma::Frozen(_) => part!("hamming/hash_sigma_frozen.wgsl"),
        Sigma::SequenceMean => part!("hamming/hash_sigma_mean.wgsl"),
    }
}

pub(super) fn distances(access: Access) -> Arc<Kernel> {
    let parts = [
        part!("hamming/hash_distances.wgsl"),
        part!("hamming/hash.wgsl"),
        part!("hamming/hash_x.wgsl"),
        part!("hamming/hash_anchors.wgsl"),
    ];
    kernel(
        "hamming/hash_distances",
        parts,
        Spec::default(),
        Some(access),
        Params::FIELDS,
    )
}

/// Codes of so many vectors of bits a word, and what they are made of, as asked for.
pub(super) fn hash(vectors: u32, sigma: Sigma, [words, projection]: [bool; 2]) -> Arc<Kernel> {
    let parts = [
        part!("hamming/kernel_hash.wgsl"),
        part!("hamming/hash.wgsl"),
        sigma_part(sigma),
        match words {
            true => part!("hamming/hash_words.wgsl"),
            false => part!("hamming/hash_words_none.wgsl"),
        },
        match projection {
            true => part!("hamming/hash_projection.wgsl"),
            false => part!("hamming/hash_projection_none.wgsl"),
        },
    ];
    let spec = Spec::default().with("VECTORS", vectors);
    kernel("hamming/kernel_hash", parts, spec, None, Params::FIELDS)
}

pub(super) fn sums(product: bool) -> Arc<Kernel> {
    let parts = [
        part!("hamming/hash_sums.wgsl"),
        match product {
            true => part!("hamming/hash_summand_product.wgsl"),
            false => part!("hamming/hash_summand.wgsl"),
        },
    ];
    kernel(
        "hamming/hash_sums",
        parts,
        Spec::default(),
        None,
        SumsParams::FIELDS,
    )
}

pub(super) fn pull(sigma: Sigma) -> Arc<Kernel> {
    let parts = [
        part!("hamming/hash_pull.wgsl"),
        part!("hamming/hash.wgsl"),
        sigma_part(sigma),
    ];
    kernel(
        "hamming/hash_pull",
        parts,
        Spec::default(),
        None,
        Params::FIELDS,
    )
}

pub(super) fn input(sigma: Sigma, access: Access) -> Arc<Kernel> {
    let spread: &[Part] = match sigma {
        Sigma::Frozen(_) => &[part!("hamming/hash_spread_none.wgsl")],
        Sigma::SequenceMean => &[
            part!("hamming/hash_spread_mean.wgsl"),
            part!("hamming/hash_sigma_mean.wgsl"),
        ],
    };
    let parts = [
        part!("hamming/hash_input.wgsl"),
        part!("hamming/hash.wgsl"),
        part!("hamming/hash_x.wgsl"),
        part!("hamming/hash_anchors.wgsl"),
    ];
    kernel(
        "hamming/hash_input",
        parts.into_iter().chain(spread.iter().copied()),
        Spec::default(),
        Some(access),
        Params::FIELDS,
    )
}
