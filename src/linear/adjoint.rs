//! The steps of the gradients that go row by row, chunk by chunk or state by state.

use std::{ops::Range, sync::Arc};

use bytemuck::{Pod, bytes_of};

use super::{
    Decay, Layout,
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

/// A chunk of a sequence: batch entry, first token, end, states kept before the sequence's, those it keeps, and which of them
/// the chunk starts from.
pub(super) type Chunk = [u32; 6];

/// Some chunks, from the first to the last, of some heads: what they take of tensors with `per` heads a state head.
struct Extent {
    first: Chunk,
    last: Chunk,
    heads: Range<u64>,
    all_heads: u64,
    tokens: u64,
    layout: Layout,
}

impl Extent {
    fn rows(&self, per: u64) -> Range<u64> {
        let [batch, begin, ..] = self.first.map(u64::from);
        let [last_batch, _, end, ..] = self.last.map(u64::from);
        let (all, first, last) = (
            self.all_heads * per,
            self.heads.start * per,
            self.heads.end * per - 1,
        );
        let row = |batch: u64, head: u64, token: u64| match self.layout {
            Layout::Bthd => (batch * self.tokens + token) * all + head,
            Layout::Bhtd => (batch * all + head) * self.tokens + token,
        };
        row(batch, first, begin)..row(last_batch, last, end - 1) + 1
    }

    fn states(&self, per: u64) -> Range<u64> {
        let at = |[.., base, slots, slot]: Chunk, head: u64| {
            u64::from(base) * self.all_heads * per + head * u64::from(slots) + u64::from(slot)
        };
        at(self.first, self.heads.start * per)..at(self.last, self.heads.end * per - 1) + 1
    }
}

/// What flows into tokens and out of them.
#[derive(Clone, Copy, Debug)]
pub(super) enum Flows {
    /// The difference, per channel.
    Whole(Slot),
    /// Both, per channel.
    Channels([Slot; 2]),
    /// Both, in sums over so many slices of the channels.
    Tokens([Slot; 2], u32),
}

impl Flows {
    /// The part that reads them, the tensors, words of a row and words of an element.
    fn taken(self, key_vecs: u32) -> (Part, Slot, Option<Slot>, [u64; 2]) {
        let row = 4 * u64::from(key_vecs);
        match self {
            Flows::Whole(flow) => (part!("linear/flows_whole.wgsl"), flow, None, [row, 4]),
            Flows::Channels([came, left]) => (
                part!("linear/flows_channels.wgsl"),
                came,
                Some(left),
                [row, 4],
            ),
            Flows::Tokens([came, left], slices) => {
                let row = slices.into();
                (
                    part!("linear/flows_tokens.wgsl"),
                    came,
                    Some(left),
                    [row, 1],
                )
            }
        }
    }
}

/// The gradients of log decays, cut by chunks and heads; `params` come without what depends on the cut.
#[allow(clippy::too_many_arguments, reason = "one argument per tensor or size")]
pub(super) fn decay_gradient(
    b: &mut Builder,
    caps: &Caps,
    params: DecayGradientParams,
    decay: Decay,
    chunks: &[Chunk],
    band: Band,
    flows: Flows,
    [s, d, log_decay, to]: [Slot; 4],
    more: Option<Slot>,
) {
    let per = match decay {
        Decay::Channel => 2u32,
        Decay::Token => 1,
        _ => 0,
    };
    let more_part = match more {
        Some(_) => part!("linear/more_states.wgsl"),
        None => part!("linear/more_states_none.wgsl"),
    };
    let put_part = if per == 2 && params.key.is_multiple_of(4) {
        part!("linear/dg_vectors.wgsl")
    } else {
        part!("linear/dg_each.wgsl")
    };
    let (flow_part, came, left, [flow_row, flow_words]) = flows.taken(params.key_vecs);
    let kernel = kernel(
        "linear/decay_gradient",
        [
            part!("linear/decay_gradient.wgsl"),
            more_part,
            flow_part,
            put_part,
        ],
        Spec::default().with("PER", per),
        DecayGradientParams::FIELDS,
        [64, 1, 1],
        512,
    );
    let size = u64::from(params.value) * u64::from(params.key_vecs) * 4;
    let all_heads = u64::from(params.heads);
    let table: Vec<u32> = chunks.iter().flatten().copied().collect();
    let words = table.len() as u64;
    let table = b.add_table(table);
    let flops = 2.0 * size as f64 * f64::from(params.group + 2)
        + 64.0 * 8.0 * f64::from(params.key_vecs * params.group);
    let mut parts = vec![(0..chunks.len(), 0..all_heads)];
    while let Some((run, heads)) = parts.pop() {
        let ends = (chunks.get(run.start), chunks.get(run.end.wrapping_sub(1)));
        let (Some(first), Some(last)) = ends else {
            continue;
        };
        let extent = Extent {
            first: *first,
            last: *last,
            heads: heads.clone(),
            all_heads,
            tokens: band.tokens,
            layout: band.layout,
        };
        let times = |range: Range<u64>, by: u64| range.start * by..range.end * by;
        let (decays, written) = match per {
            2 => (
                times(extent.rows(1), params.key.into()),
                times(extent.rows(1), params.key.into()),
            ),
            1 => (extent.rows(1), extent.rows(1)),
            _ => (0..all_heads, 0..chunks.len() as u64 * all_heads),
        };
        let flow_rows = times(extent.rows(band.group), flow_row);
        let (came, flow_before) = part(came, flow_rows.clone(), false);
        let left = left.map(|left| part(left, flow_rows, false));
        let (s, s_before) = part(s, times(extent.states(params.spread.into()), size), false);
        let (d, d_before) = part(d, times(extent.states(band.group), size), false);
        let more = more.map(|more| part(more, times(extent.states(1), size), false));
        let (log_decay, decay_before) = part(log_decay, decays, false);
        let (to, dg_before) = part(to, written, true);
        let more_before = more.as_ref().map_or(0, |(_, before)| *before);
        let mut bind = vec![came, s, d];
        bind.extend(more.map(|(bind, _)| bind));
        bind.extend([log_decay, to, whole(table, words, false)]);
        bind.extend(left.map(|(bind, _)| bind));

        let count = heads.end - heads.start;
        let groups = run.len() as u64 * count;
        let predicted_ms = groups as f64 * flops / (caps.gflops * 1e6);
        let too_wide = bind
            .iter()
            .any(|bind| bind.bytes.end - bind.bytes.start > caps.binding_bytes);
        let too_long = predicted_ms > STEP_MS;
        if too_wide || too_long {
            // States of a sequence lie head by head: cutting its chunks hardly makes them fewer.
            let [.., first_base, _, _] = first;
            let [.., last_base, _, _] = last;
            if run.len() > 1 && (too_long || first_base != last_base || count == 1) {
                let middle = run.start + run.len() / 2;
                parts.push((middle..run.end, heads.clone()));
                parts.push((run.start..middle, heads));
                continue;
            }
            if count > 1 {
                let middle = heads.start + count / 2;
                parts.push((run.clone(), middle..heads.end));
                parts.push((run, heads.start..middle));
                continue;
            }
        }
        let params = DecayGradientParams {
            first_chunk: run.start as u32,
            first_head: heads.start as u32,
            head_count: count as u32,
            flow_offset: (flow_before / flow_words) as u32,
            s_offset: (s_before / 4) as u32,
            d_offset: (d_before / 4) as u32,
            more_offset: (more_before / 4) as u32,
            decay_offset: decay_before as u32,
            dg_offset: dg_before as u32,
            slices: flow_row as u32,
            groups: groups as u32,
            ..params
        };
        b.steps.push(Step {
            kernel: kernel.clone(),
            bind,
            params: bytes_of(&params).to_vec(),
            groups,
            predicted_ms,
        });
    }
}

pub(super) fn sum_rows(
    b: &mut Builder,
    caps: &Caps,
    rows: usize,
    width: usize,
    [from, to]: [Slot; 2],
) {
    let params = SumRowsParams {
        rows: rows as u32,
        width: width as u32,
    };
    b.steps.push(Step {
        kernel: kernel(
            "linear/sum_rows",
            [part!("linear/sum_rows.wgsl")],
            Spec::default(),
            SumRowsParams::FIELDS,
            [64, 1, 1],
            256,
        ),
        bind: vec![
            whole(from, (rows * width) as u64, false),
            whole(to, width as u64, true),
        ],
        params: bytes_of(&params).to_vec(),
        groups: width as u64,
        predicted_ms: 4.0 * (rows * width) as f64 / (caps.gflops * 1e6),
    });
}

/// Copies states into those of a walk: `first` counts the walk's states, `to` the words before where they go.
pub(super) fn state_copy(
    b: &mut Builder,
    caps: &Caps,
    params: StateCopyParams,
    [from, copied]: [Slot; 2],
    z: Option<Slot>,
    first: u64,
    to: u64,
) {
    let ratio = u64::from(params.ratio);
    let rows = u64::from(params.source_rows);
    let source = rows * u64::from(params.source_columns);
    let column = match z {
        Some(_) => part!("linear/copied_z.wgsl"),
        None => part!("linear/copied_z_none.wgsl"),
    };
    let size = u64::from(params.rows) * u64::from(params.columns);
    let stride = u64::from(params.stride);
    let widest = 4 * source.max(stride * ratio);
    let ms = |states: u64| 16.0 * (states * size) as f64 / (caps.gflops * 1e6);
    let most = (caps.binding_bytes.saturating_sub(512) / widest)
        .min((STEP_MS / ms(ratio)) as u64)
        .max(1)
        * ratio;
    let states = u64::from(params.states);
    let aligned = |words: u64| 4 * words / 256 * 256;
    for n in (0..states).step_by(most as usize) {
        let count = most.min(states - n);
        let (begin, end) = ((first + n) / ratio, (first + n + count).div_ceil(ratio));
        let (z_begin, z_end) = (begin * rows, end * rows);
        let (begin, end) = (begin * source, end * source);
        let out = to + n * stride;
        let groups = (count * size).div_ceil(256);
        let range = |begin: u64, end: u64| -> Range<u64> { aligned(begin)..4 * end };
        let params = StateCopyParams {
            states: count as u32,
            source_offset: (begin - aligned(begin) / 4) as u32,
            copied_offset: (out - aligned(out) / 4) as u32,
            z_offset: (z_begin - aligned(z_begin) / 4) as u32,
            z_column: if z.is_some() {
                params.z_column
            } else {
                u32::MAX
            },
            groups: groups as u32,
            ..params
        };
        b.steps.push(Step {
            kernel: kernel(
                "linear/state_copy",
                [part!("linear/state_copy.wgsl"), column],
                Spec::default(),
                StateCopyParams::FIELDS,
                [64, 1, 1],
                0,
            ),
            bind: [
                Bind {
                    slot: from,
                    bytes: range(begin, end),
                    write: false,
                },
                Bind {
                    slot: copied,
                    bytes: range(out, out + (count - 1) * stride + size),
                    write: true,
                },
            ]
            .into_iter()
            .chain(z.map(|slot| Bind {
                slot,
                bytes: range(z_begin, z_end),
                write: false,
            }))
            .collect(),
            params: bytes_of(&params).to_vec(),
            groups,
            predicted_ms: ms(count),
        });
    }
}

/// A sequence: batch entry, first token, end, states kept before the sequence's and those it keeps.
pub(super) type First = [u32; 5];

/// The gradient of the initial state from that of the state after the first token.
#[allow(clippy::too_many_arguments, reason = "one argument per tensor or size")]
pub(super) fn initial_gradient(
    b: &mut Builder,
    caps: &Caps,
    params: InitialGradientParams,
    firsts: &[First],
    log_decay: Option<(Slot, Decay)>,
    rows: u64,
    d: Slot,
    taken: Option<Slot>,
    to: Slot,
) {
    let decay = match log_decay {
        Some(_) => part!("linear/first_decay.wgsl"),
        None => part!("linear/first_decay_none.wgsl"),
    };
    let corrected = match taken {
        Some(_) => part!("linear/taken.wgsl"),
        None => part!("linear/taken_none.wgsl"),
    };
    let (per, decays) = match log_decay {
        Some((_, Decay::Channel)) => (2u32, rows * u64::from(params.key)),
        Some((_, Decay::Token)) => (1, rows),
        _ => (0, params.heads.into()),
    };
    let (group, states) = (u64::from(params.group), u64::from(params.states));
    let padded = u64::from(params.padded_key) * u64::from(params.padded_value);
    let size = u64::from(params.key) * u64::from(params.value);
    if states == 0 {
        return;
    }
    let heads = u64::from(params.heads);
    // The first of the states that a gradient is summed from, and the one after its last.
    let summed = |state: u64| {
        let n = (state / heads) as usize;
        let [.., base, slots] = firsts.get(n).copied().unwrap_or_default().map(u64::from);
        let first = (base * heads + state % heads * slots) * group;
        first..first + (group - 1) * slots + 1
    };
    let table: Vec<u32> = firsts.iter().flatten().copied().collect();
    let words = table.len() as u64;
    let table = b.add_table(table);
    let kernel = kernel(
        "linear/initial_gradient",
        [part!("linear/initial_gradient.wgsl"), decay, corrected],
        Spec::default().with("PER", per),
        InitialGradientParams::FIELDS,
        [64, 1, 1],
        0,
    );
    let ms = 64.0 * (size * group) as f64 / (caps.gflops * 1e6);
    let slots = firsts.iter().map(|[.., slots]| u64::from(*slots)).max();
    let widest = 4 * (padded * group * slots.unwrap_or(1)).max(size);
    let most = (caps.binding_bytes.saturating_sub(256) / widest)
        .min((STEP_MS / ms) as u64)
        .max(1);
    for first in (0..states).step_by(most as usize) {
        let end = states.min(first + most);
        let bound = summed(first).start * padded..summed(end - 1).end * padded;
        let (d, d_before) = part(d, bound, false);
        let taken = taken.map(|taken| part(taken, first * padded..end * padded, false));
        let (to, to_before) = part(to, first * size..end * size, true);
        let taken_before = taken.as_ref().map_or(0, |(_, before)| *before);
        let mut bind = vec![d];
        bind.extend(taken.map(|(bind, _)| bind));
        bind.extend(log_decay.map(|(slot, _)| whole(slot, decays, false)));
        bind.extend([to, whole(table, words, false)]);
        let groups = ((end - first) * size).div_ceil(64);
        let params = InitialGradientParams {
            first_state: first as u32,
            states: (end - first) as u32,
            d_offset: 0u64.wrapping_sub(d_before) as u32,
            taken_offset: (first * padded).saturating_sub(taken_before) as u32,
            gradient_offset: (first * size - to_before) as u32,
            groups: groups as u32,
            ..params
        };
        b.steps.push(Step {
            kernel: kernel.clone(),
            bind,
            params: bytes_of(&params).to_vec(),
            groups,
            predicted_ms: (end - first) as f64 * ms,
        });
    }
}
