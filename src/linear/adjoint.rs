//! The steps of the gradients that go row by row; in `decay` and `states`, those that go chunk by chunk and state by state.

mod decay;
mod states;

use std::{ops::Range, sync::Arc};

use bytemuck::{Pod, bytes_of};

pub(super) use decay::{Chunk, Flows, decay_gradient};
pub(super) use states::{initial_gradient, state_copy, sum_rows};

use super::{
    Layout,
    window::{ALIGN, STEP_MS},
};
use crate::{
    gpu::{Caps, Class, Field, Kernel, Needs, Part, Spec, params, part},
    plan::{Bind, Builder, Slot, Step},
};

/// Rows of tensors that go together: of query heads, `group` of which share a row of the key heads' tensors; or of key heads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Band {
    pub rows: u64,
    pub tokens: u64,
    pub group: u64,
    pub layout: Layout,
}

/// How a tensor goes with a band.
#[derive(Clone, Copy, PartialEq)]
enum Per {
    /// A row each.
    Row,
    /// A row for `group` rows.
    Shared,
    /// `group` rows each.
    Group,
}

params! {
    /// Parameters of `own_terms`.
    OwnTermsParams {
        rows: u32,
        tokens: u32,
        head_first: u32,
        group: u32,
        key_vecs: u32,
        value_vecs: u32,
        groups: u32,
        scale: f32,
    }
}

params! {
    /// Parameters of `key_flow`.
    KeyFlowParams {
        rows: u32,
        tokens: u32,
        head_first: u32,
        group: u32,
        key_vecs: u32,
        groups: u32,
    }
}

params! {
    /// Parameters of `augment`, `weigh_rows` and `dot_rows`.
    RowsParams {
        rows: u32,
        vecs: u32,
        groups: u32,
    }
}

params! {
    /// Parameters of `normalize_adjoint`.
    NormalizeParams {
        rows: u32,
        vecs: u32,
        groups: u32,
        eps: f32,
    }
}

params! {
    /// Parameters of `decay_gradient`.
    DecayGradientParams {
        first_chunk: u32,
        tokens: u32,
        head_first: u32,
        heads: u32,
        first_head: u32,
        head_count: u32,
        group: u32,
        spread: u32,
        key: u32,
        key_vecs: u32,
        value: u32,
        flow_offset: u32,
        s_offset: u32,
        d_offset: u32,
        more_offset: u32,
        decay_offset: u32,
        dg_offset: u32,
        slices: u32,
        groups: u32,
    }
}

params! {
    /// Parameters of `sum_rows`.
    SumRowsParams {
        rows: u32,
        width: u32,
    }
}

params! {
    /// Parameters of `state_copy`.
    StateCopyParams {
        states: u32,
        ratio: u32,
        once: u32,
        rows: u32,
        columns: u32,
        source_rows: u32,
        source_columns: u32,
        transposed: u32,
        stride: u32,
        source_offset: u32,
        copied_offset: u32,
        z_offset: u32,
        z_column: u32,
        groups: u32,
    }
}

params! {
    /// Parameters of `initial_gradient`.
    InitialGradientParams {
        first_state: u32,
        states: u32,
        tokens: u32,
        head_first: u32,
        heads: u32,
        group: u32,
        key: u32,
        value: u32,
        padded_key: u32,
        padded_value: u32,
        first_column: u32,
        d_offset: u32,
        taken_offset: u32,
        gradient_offset: u32,
        groups: u32,
    }
}

/// Lanes that share a row: a software adapter's barriers cost more than its loads.
fn lanes(caps: &Caps) -> u32 {
    match caps.class {
        Class::Cpu => 1,
        _ => 16,
    }
}

/// A kernel over f32 buffers: its parts, and that of folded grids.
pub(super) fn kernel(
    name: &'static str,
    parts: impl IntoIterator<Item = Part>,
    spec: Spec,
    params: &'static [Field],
    workgroup: [u32; 3],
    workgroup_bytes: u32,
) -> Arc<Kernel> {
    Arc::new(Kernel {
        name,
        parts: parts
            .into_iter()
            .chain([part!("common/grid.wgsl")])
            .collect(),
        spec,
        needs: Needs::default(),
        params,
        workgroup,
        workgroup_bytes,
    })
}

/// What a kernel that goes row by row reads and writes.
struct RowStep<'a> {
    kernel: Arc<Kernel>,
    band: Band,
    /// Slot, bytes of a row, how its rows go with the band's, whether it is written.
    tensors: &'a [(Slot, u64, Per, bool)],
    /// Operations a row.
    flops: f64,
    /// Workgroups for so many rows.
    groups: &'a dyn Fn(u64) -> u64,
}

impl RowStep<'_> {
    /// Appends the steps, cut so that bindings and times stay within bounds; `params` are those of so many rows and groups.
    fn push<P: Pod>(&self, b: &mut Builder, caps: &Caps, params: impl Fn(u64, u64) -> P) {
        let Band {
            rows,
            tokens,
            group,
            layout,
        } = self.band;
        let bytes = |rows: u64, (_, row, per, _): &(Slot, u64, Per, bool)| match per {
            Per::Row => rows * row,
            Per::Shared => rows / group * row,
            Per::Group => rows * group * row,
        };
        // Blocks in which shared rows lie together, as many as begin at aligned offsets.
        let block = match layout {
            Layout::Bthd => group,
            Layout::Bhtd if group == 1 => 1,
            Layout::Bhtd => tokens * group,
        };
        let aligned = |unit: &u64| {
            let mut tensors = self.tensors.iter();
            tensors.all(|tensor| bytes(*unit, tensor).is_multiple_of(ALIGN))
        };
        let mut units = [1, 2, 4, 8, 16, 32].map(|n| n * block).into_iter();
        let unit = units.find(aligned).unwrap_or(64 * block);
        let widest = self
            .tensors
            .iter()
            .map(|tensor| bytes(unit, tensor))
            .max()
            .unwrap_or(1)
            .max(1);
        let unit_ms = unit as f64 * self.flops / (caps.gflops * 1e6);
        let units = (caps.binding_bytes / widest)
            .min((STEP_MS / unit_ms) as u64)
            .max(1);
        let most = units * unit;
        for first in (0..rows).step_by(most.max(1) as usize) {
            let count = most.min(rows - first);
            let groups = (self.groups)(count);
            let binds = self.tensors.iter().map(|tensor| Bind {
                slot: tensor.0,
                bytes: bytes(first, tensor)
                    ..(bytes(first, tensor) + bytes(count, tensor)).next_multiple_of(4),
                write: tensor.3,
            });
            b.steps.push(Step {
                kernel: self.kernel.clone(),
                bind: binds.collect(),
                params: bytes_of(&params(count, groups)).to_vec(),
                groups,
                predicted_ms: count as f64 * self.flops / (caps.gflops * 1e6),
            });
        }
    }
}

pub(super) fn own_terms(
    b: &mut Builder,
    caps: &Caps,
    band: Band,
    params: OwnTermsParams,
    slots: [Slot; 7],
) {
    let [q, k, dn, u, dq, dk, flow] = slots;
    let (key, value) = (
        16 * u64::from(params.key_vecs),
        16 * u64::from(params.value_vecs),
    );
    RowStep {
        kernel: kernel(
            "linear/own_terms",
            [part!("linear/own_terms.wgsl"), part!("linear/row_sum.wgsl")],
            Spec::default().with("LANES", lanes(caps)),
            OwnTermsParams::FIELDS,
            [lanes(caps), 64 / lanes(caps), 1],
            256,
        ),
        band,
        tensors: &[
            (q, key, Per::Row, false),
            (k, key, Per::Shared, false),
            (dn, value, Per::Row, false),
            (u, value, Per::Shared, false),
            (dq, key, Per::Row, true),
            (dk, key, Per::Row, true),
            (flow, key, Per::Row, true),
        ],
        flops: (key + value) as f64 * 4.0 + 64.0,
        groups: &|rows| rows.div_ceil((64 / lanes(caps)).into()),
    }
    .push(b, caps, |rows, groups| OwnTermsParams {
        rows: rows as u32,
        tokens: band.tokens as u32,
        head_first: u32::from(band.layout == Layout::Bhtd),
        group: band.group as u32,
        groups: groups as u32,
        ..params
    });
}

pub(super) fn key_flow(b: &mut Builder, caps: &Caps, band: Band, key_vecs: u32, slots: [Slot; 4]) {
    let [k, came, left, flow] = slots;
    let key = 16 * u64::from(key_vecs);
    RowStep {
        kernel: kernel(
            "linear/key_flow",
            [part!("linear/key_flow.wgsl")],
            Spec::default(),
            KeyFlowParams::FIELDS,
            [64, 1, 1],
            0,
        ),
        band,
        tensors: &[
            (k, key, Per::Row, false),
            (came, key, Per::Row, false),
            (left, key, Per::Row, false),
            (flow, key, Per::Group, true),
        ],
        flops: key as f64 * 2.0 + 16.0,
        groups: &|rows| (rows * u64::from(key_vecs)).div_ceil(64),
    }
    .push(b, caps, |rows, groups| KeyFlowParams {
        rows: rows as u32,
        tokens: band.tokens as u32,
        head_first: u32::from(band.layout == Layout::Bhtd),
        group: band.group as u32,
        key_vecs,
        groups: groups as u32,
    });
}

/// A kernel of three tensors with one row each.
fn rows(
    b: &mut Builder,
    caps: &Caps,
    band: Band,
    kernel: Arc<Kernel>,
    tensors: &[(Slot, u64, Per, bool)],
    vecs: u32,
    groups: &dyn Fn(u64) -> u64,
) {
    RowStep {
        kernel,
        band: Band { group: 1, ..band },
        tensors,
        flops: 32.0 * f64::from(vecs) + 32.0,
        groups,
    }
    .push(b, caps, |rows, groups| RowsParams {
        rows: rows as u32,
        vecs,
        groups: groups as u32,
    });
}

pub(super) fn augment(b: &mut Builder, caps: &Caps, band: Band, vecs: u32, [v, to]: [Slot; 2]) {
    let row = 16 * u64::from(vecs);
    let augment = kernel(
        "linear/augment",
        [part!("linear/augment.wgsl")],
        Spec::default(),
        RowsParams::FIELDS,
        [64, 1, 1],
        0,
    );
    let tensors = [(v, row, Per::Row, false), (to, row + 16, Per::Row, true)];
    rows(b, caps, band, augment, &tensors, vecs, &|rows| {
        (rows * u64::from(vecs + 1)).div_ceil(64)
    });
}

/// Rows without the vector that follows the values.
pub(super) fn drop_column(
    b: &mut Builder,
    caps: &Caps,
    band: Band,
    vecs: u32,
    [augmented, to]: [Slot; 2],
) {
    let row = 16 * u64::from(vecs);
    let drop = kernel(
        "linear/drop_column",
        [part!("linear/drop_column.wgsl")],
        Spec::default(),
        RowsParams::FIELDS,
        [64, 1, 1],
        0,
    );
    let tensors = [
        (augmented, row + 16, Per::Row, false),
        (to, row, Per::Row, true),
    ];
    rows(b, caps, band, drop, &tensors, vecs, &|rows| {
        (rows * u64::from(vecs)).div_ceil(64)
    });
}

pub(super) fn weigh(b: &mut Builder, caps: &Caps, band: Band, vecs: u32, [x, beta, to]: [Slot; 3]) {
    let row = 16 * u64::from(vecs);
    let weigh = kernel(
        "linear/weigh_rows",
        [part!("linear/weigh_rows.wgsl")],
        Spec::default(),
        RowsParams::FIELDS,
        [64, 1, 1],
        0,
    );
    let tensors = [
        (x, row, Per::Row, false),
        (beta, 4, Per::Row, false),
        (to, row, Per::Row, true),
    ];
    rows(b, caps, band, weigh, &tensors, vecs, &|rows| {
        (rows * u64::from(vecs)).div_ceil(64)
    });
}

pub(super) fn dot(b: &mut Builder, caps: &Caps, band: Band, vecs: u32, [x, y, to]: [Slot; 3]) {
    let row = 16 * u64::from(vecs);
    let dot = kernel(
        "linear/dot_rows",
        [part!("linear/dot_rows.wgsl"), part!("linear/row_sum.wgsl")],
        Spec::default().with("LANES", lanes(caps)),
        RowsParams::FIELDS,
        [lanes(caps), 64 / lanes(caps), 1],
        256,
    );
    let tensors = [
        (x, row, Per::Row, false),
        (y, row, Per::Row, false),
        (to, 4, Per::Row, true),
    ];
    rows(b, caps, band, dot, &tensors, vecs, &|rows| {
        rows.div_ceil((64 / lanes(caps)).into())
    });
}

pub(super) fn normalize(
    b: &mut Builder,
    caps: &Caps,
    band: Band,
    vecs: u32,
    eps: f32,
    [y, grad, to]: [Slot; 3],
) {
    let row = 16 * u64::from(vecs);
    RowStep {
        kernel: kernel(
            "linear/normalize_adjoint",
            [
                part!("linear/normalize_adjoint.wgsl"),
                part!("linear/row_sum.wgsl"),
            ],
            Spec::default().with("LANES", lanes(caps)),
            NormalizeParams::FIELDS,
            [lanes(caps), 64 / lanes(caps), 1],
            256,
        ),
        band: Band { group: 1, ..band },
        tensors: &[
            (y, row + 16, Per::Row, false),
            (grad, row, Per::Row, false),
            (to, row + 16, Per::Row, true),
        ],
        flops: 3.0 * row as f64 + 64.0,
        groups: &|rows| rows.div_ceil((64 / lanes(caps)).into()),
    }
    .push(b, caps, |rows, groups| NormalizeParams {
        rows: rows as u32,
        vecs,
        groups: groups as u32,
        eps,
    });
}

fn whole(slot: Slot, words: u64, write: bool) -> Bind {
    let bytes = 0..4 * words;
    Bind { slot, bytes, write }
}

/// Words of a slot from an aligned offset on, and the words before that.
fn part(slot: Slot, words: Range<u64>, write: bool) -> (Bind, u64) {
    let start = 4 * words.start / 256 * 256;
    let bytes = start..4 * words.end;
    (Bind { slot, bytes, write }, start / 4)
}
