//! The identity, faded sums and products of states.

use std::ops::Range;

use bytemuck::bytes_of;

use crate::{
    gpu::{Caps, Spec, params, part},
    linear::{
        adjoint::kernel,
        window::{ALIGN, STEP_MS},
    },
    plan::{Bind, Builder, Slot, Step},
};

/// Rows and columns of a tile of `state_product`.
const TILE: u64 = 16;

params! {
    /// Parameters of `identity`.
    IdentityParams {
        elements: u32,
        width: u32,
        phase: u32,
        groups: u32,
    }
}

params! {
    /// Parameters of `merge_states`.
    MergeStatesParams {
        elements: u32,
        per: u32,
        phase: u32,
        a_offset: u32,
        groups: u32,
    }
}

params! {
    /// Parameters of `state_product`.
    StateProductParams {
        rows: u32,
        columns: u32,
        first_tile: u32,
        a_offset: u32,
        x_offset: u32,
        merged_offset: u32,
        groups: u32,
    }
}
/// The bytes of some words from an aligned start, and how many words lie before them.
pub(super) fn aligned(words: Range<u64>) -> (Range<u64>, u32) {
    let start = 4 * words.start / ALIGN * ALIGN;
    (start..4 * words.end, (words.start - start / 4) as u32)
}

pub(super) fn bind(slot: Slot, bytes: Range<u64>, write: bool) -> Bind {
    Bind { slot, bytes, write }
}

/// The largest number of elements, a whole number of aligned words, that fits a binding and so many operations an element a step.
pub(super) fn most(caps: &Caps, operations: f64) -> u64 {
    let in_time = STEP_MS * caps.gflops * 1e6 / operations;
    let most = (caps.binding_bytes / 4).min(in_time as u64);
    (most / ALIGN * ALIGN).max(ALIGN)
}

pub(super) fn identity(b: &mut Builder, caps: &Caps, to: Slot, matrices: u64, width: u64) {
    let elements = matrices * width * width;
    let most = most(caps, 16.0);
    for first in (0..elements).step_by(most as usize) {
        let count = most.min(elements - first);
        let params = IdentityParams {
            elements: count as u32,
            width: width as u32,
            phase: (first % (width * width)) as u32,
            groups: count.div_ceil(256) as u32,
        };
        b.steps.push(Step {
            kernel: kernel(
                "linear/identity",
                [part!("linear/identity.wgsl")],
                Spec::default(),
                IdentityParams::FIELDS,
                [64, 1, 1],
                0,
            ),
            bind: vec![bind(to, 4 * first..4 * (first + count), true)],
            params: bytes_of(&params).to_vec(),
            groups: params.groups.into(),
            predicted_ms: 16.0 * count as f64 / (caps.gflops * 1e6),
        });
    }
}

/// exp(a) first + second, where a goes with so many elements; or first + second.
pub(super) fn merge_states(
    b: &mut Builder,
    caps: &Caps,
    elements: u64,
    [first, second]: [Slot; 2],
    a: Option<(Slot, u64)>,
    merged: Slot,
) {
    let fades = match a {
        Some(_) => part!("linear/merge_fade.wgsl"),
        None => part!("linear/merge_fade_none.wgsl"),
    };
    let per = a.map_or(1, |(_, per)| per);
    let most = most(caps, 64.0);
    // The sums of log decays start at an aligned word before the first that is read.
    let most = if most > 2 * ALIGN { most - ALIGN } else { most };
    for begin in (0..elements).step_by(most as usize) {
        let count = most.min(elements - begin);
        let bytes = 4 * begin..4 * (begin + count);
        let (a_bytes, a_offset) = aligned(begin / per..(begin + count).div_ceil(per));
        let params = MergeStatesParams {
            elements: count as u32,
            per: per as u32,
            phase: (begin % per) as u32,
            a_offset,
            groups: count.div_ceil(256) as u32,
        };
        let mut binds = vec![
            bind(first, bytes.clone(), false),
            bind(second, bytes.clone(), false),
        ];
        binds.extend(a.map(|(slot, _)| bind(slot, a_bytes, false)));
        binds.push(bind(merged, bytes, true));
        b.steps.push(Step {
            kernel: kernel(
                "linear/merge_states",
                [
                    part!("linear/merge_states.wgsl"),
                    part!("common/fade.wgsl"),
                    fades,
                ],
                Spec::default(),
                MergeStatesParams::FIELDS,
                [64, 1, 1],
                0,
            ),
            bind: binds,
            params: bytes_of(&params).to_vec(),
            groups: params.groups.into(),
            predicted_ms: 64.0 * count as f64 / (caps.gflops * 1e6),
        });
    }
}

/// Products of square matrices with states of so many rows and columns.
#[derive(Clone, Copy)]
pub(super) struct Product {
    pub states: u64,
    pub rows: u64,
    pub columns: u64,
    pub transposed: bool,
}

impl Product {
    pub fn push(self, b: &mut Builder, caps: &Caps, [a, x, merged]: [Slot; 3], base: Option<Slot>) {
        let Product {
            states,
            rows,
            columns,
            transposed,
        } = self;
        let tiles = rows.div_ceil(TILE) * columns.div_ceil(TILE);
        let tile_ms = (4 * rows * TILE * TILE) as f64 / (caps.gflops * 1e6);
        let in_time = ((STEP_MS / tile_ms) as u64).max(1);
        let widest = 4 * rows * rows.max(columns) + ALIGN;
        let in_bytes = (caps.binding_bytes / widest).max(1);
        // Whole states, or tiles of one.
        let (some, each) = if in_time >= tiles {
            ((in_time / tiles).min(in_bytes), tiles)
        } else {
            (1, in_time)
        };
        let part = match base {
            Some(_) => part!("linear/product_base.wgsl"),
            None => part!("linear/product_base_none.wgsl"),
        };
        for state in (0..states).step_by(some as usize) {
            let end = (state + some).min(states);
            let (a_bytes, a_offset) = aligned(state * rows * rows..end * rows * rows);
            let (bytes, offset) = aligned(state * rows * columns..end * rows * columns);
            for tile in (0..tiles).step_by(each as usize) {
                let groups = (end - state) * each.min(tiles - tile);
                let params = StateProductParams {
                    rows: rows as u32,
                    columns: columns as u32,
                    first_tile: tile as u32,
                    a_offset,
                    x_offset: offset,
                    merged_offset: offset,
                    groups: groups as u32,
                };
                let mut binds = vec![
                    bind(a, a_bytes.clone(), false),
                    bind(x, bytes.clone(), false),
                ];
                binds.extend(base.map(|slot| bind(slot, bytes.clone(), false)));
                binds.push(bind(merged, bytes.clone(), true));
                b.steps.push(Step {
                    kernel: kernel(
                        "linear/state_product",
                        [part!("linear/state_product.wgsl"), part],
                        Spec::default().with("TRANSPOSED", transposed),
                        StateProductParams::FIELDS,
                        [16, 16, 1],
                        2048,
                    ),
                    bind: binds,
                    params: bytes_of(&params).to_vec(),
                    groups,
                    predicted_ms: groups as f64 * tile_ms,
                });
            }
        }
    }
}
