//! Prefix sums of counts.

use std::sync::Arc;

use bytemuck::bytes_of;

use crate::{
    gpu::{params, part},
    hamming::sliding::plan::{Planner, kernel},
    plan::{Bind, Slot},
};

params! {
    /// Parameters of `scan_sums` and `scan_offsets`.
    ScanParams {
        len: u32,
        groups: u32,
    }
}

/// Numbers that one invocation sums.
pub(super) const TILE: u64 = 64;

/// Adds the steps that turn counts into the sums of all before them, with the sum of all after the last and in `total`.
pub(super) fn scan(planner: &mut Planner<'_>, counts: Slot, len: u64, total: Slot) {
    let mut levels = vec![(counts, len)];
    let mut bottom = (counts, len);
    while bottom.1 > TILE {
        let tiles = bottom.1.div_ceil(TILE);
        let sums = planner.builder.add_scratch(4 * (tiles + 1));
        let bind = [
            scanned(bottom.0, bottom.1, false),
            scanned(sums, tiles, true),
        ];
        scan_step(planner, "hamming/scan_sums", &bind, bottom.1);
        bottom = (sums, tiles);
        levels.push(bottom);
    }
    let mut bases = scanned(planner.builder.add_table(vec![0]), 1, false);
    for (values, len) in levels.into_iter().rev() {
        let bind = [
            bases,
            scanned(values, len + 1, true),
            scanned(total, 1, true),
        ];
        scan_step(planner, "hamming/scan_offsets", &bind, len);
        bases = scanned(values, len, false);
    }
}

fn scanned(slot: Slot, words: u64, write: bool) -> Bind {
    Bind {
        slot,
        bytes: 0..4 * words,
        write,
    }
}

fn scan_step(planner: &mut Planner<'_>, name: &'static str, bind: &[Bind], len: u64) {
    let own = match name {
        "hamming/scan_sums" => part!("hamming/scan_sums.wgsl"),
        _ => part!("hamming/scan_offsets.wgsl"),
    };
    let parts = [own, part!("hamming/plus.wgsl")];
    let kernel = kernel(name, parts, Default::default(), ScanParams::FIELDS);
    let groups = len.div_ceil(TILE).div_ceil(64);
    // A number for 256 positions, few enough never to be cut.
    planner.step(&Arc::new(kernel), bind, groups, 1.0, |_, groups| {
        let params = ScanParams {
            len: len as u32,
            groups,
        };
        bytes_of(&params).to_vec()
    });
}
