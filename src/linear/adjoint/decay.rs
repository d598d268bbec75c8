//! The gradients of log decays, chunk by chunk.

use std::ops::Range;

use bytemuck::bytes_of;

use super::{Band, DecayGradientParams, kernel, part as span, whole};
use crate::{
    gpu::{Caps, Part, Spec, part},
    linear::{Decay, Layout, window::STEP_MS},
    plan::{Builder, Slot, Step},
};

/// A chunk of a sequence: batch entry, first token, end, states kept before the sequence's, those it keeps, and which of them
/// the chunk starts from.
pub(in crate::linear) type Chunk = [u32; 6];

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
pub(in crate::linear) enum Flows {
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
pub(in crate::linear) fn decay_gradient(
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
        let (came, flow_before) = span(came, flow_rows.clone(), false);
        let left = left.map(|left| span(left, flow_rows, false));
        let (s, s_before) = span(s, times(extent.states(params.spread.into()), size), false);
        let (d, d_before) = span(d, times(extent.states(band.group), size), false);
        let more = more.map(|more| span(more, times(extent.states(1), size), false));
        let (log_decay, decay_before) = span(log_decay, decays, false);
        let (to, dg_before) = span(to, written, true);
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
