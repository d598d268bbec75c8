//! Copies, sums and gradients of states.

use std::ops::Range;

use bytemuck::bytes_of;

use super::{InitialGradientParams, StateCopyParams, SumRowsParams, kernel, part as span, whole};
use crate::{
    gpu::{Caps, Spec, part},
    linear::{Decay, window::STEP_MS},
    plan::{Bind, Builder, Slot, Step},
};

pub(in crate::linear) fn sum_rows(
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
pub(in crate::linear) fn state_copy(
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
pub(in crate::linear) type First = [u32; 5];

/// The gradient of the initial state from that of the state after the first token.
#[allow(clippy::too_many_arguments, reason = "one argument per tensor or size")]
pub(in crate::linear) fn initial_gradient(
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
        let (d, d_before) = span(d, bound, false);
        let taken = taken.map(|taken| span(taken, first * padded..end * padded, false));
        let (to, to_before) = span(to, first * size..end * size, true);
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
