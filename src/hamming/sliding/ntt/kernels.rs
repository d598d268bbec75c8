//! Kernels of the transforms, and the parameters each takes.

use std::sync::Arc;

use super::super::plan::{Planner, kernel};
use crate::gpu::{Kernel, Part, Spec, params, part};

params! {
    /// Parameters of `ntt_ranks`.
    RanksParams {
        symbols: u32,
        keys: u32,
        first: u32,
        groups: u32,
    }
}

params! {
    /// Parameters of `ntt_first`.
    FirstParams {
        length: u32,
        symbols: u32,
        offset: u32,
        hop: u32,
        blocks: u32,
        first_symbol: u32,
        count: u32,
        kept: u32,
        first: u32,
        groups: u32,
    }
}

params! {
    /// Parameters of `ntt_stage`.
    StageParams {
        length: u32,
        span: u32,
        sequences: u32,
        first: u32,
        groups: u32,
    }
}

params! {
    /// Parameters of `ntt_sum`.
    SumParams {
        length: u32,
        blocks: u32,
        first_symbol: u32,
        count: u32,
        kept: u32,
        first: u32,
        groups: u32,
    }
}

params! {
    /// Parameters of `ntt_distance`.
    DistanceParams {
        length: u32,
        hop: u32,
        blocks: u32,
        outputs: u32,
        scale: u32,
        start: u32,
        accumulate: u32,
        first: u32,
        groups: u32,
    }
}

fn made(
    name: &'static str,
    parts: impl IntoIterator<Item = Part>,
    params: &'static [crate::gpu::Field],
) -> Arc<Kernel> {
    Arc::new(kernel(name, parts, Spec::default(), params))
}

/// Ranks of a text.
pub(super) fn ranks(planner: &Planner<'_>) -> Arc<Kernel> {
    let [codes, wild] = planner.coded_parts();
    let own = part!("hamming/ntt_ranks.wgsl");
    made("hamming/ntt_ranks", [own, codes, wild], RanksParams::FIELDS)
}

/// First stage of the transforms of indicators.
pub(super) fn first() -> Arc<Kernel> {
    let own = part!("hamming/ntt_first.wgsl");
    made(
        "hamming/ntt_first",
        [own, arithmetic()],
        FirstParams::FIELDS,
    )
}

/// A stage of transforms forward.
pub(super) fn forward() -> Arc<Kernel> {
    stage(part!("hamming/ntt_forward.wgsl"))
}

/// A stage of transforms back.
pub(super) fn backward() -> Arc<Kernel> {
    stage(inverse())
}

fn stage(direction: Part) -> Arc<Kernel> {
    let own = part!("hamming/ntt_stage.wgsl");
    made(
        "hamming/ntt_stage",
        [own, direction, arithmetic()],
        StageParams::FIELDS,
    )
}

/// Last stage forward, products and their sum.
pub(super) fn sum() -> Arc<Kernel> {
    let own = part!("hamming/ntt_sum.wgsl");
    made("hamming/ntt_sum", [own, arithmetic()], SumParams::FIELDS)
}

/// Last stage back, into distances.
pub(super) fn distance() -> Arc<Kernel> {
    let own = part!("hamming/ntt_distance.wgsl");
    made(
        "hamming/ntt_distance",
        [own, inverse(), arithmetic()],
        DistanceParams::FIELDS,
    )
}

fn inverse() -> Part {
    part!("hamming/ntt_inverse.wgsl")
}

fn arithmetic() -> Part {
    part!("hamming/ntt.wgsl")
}
