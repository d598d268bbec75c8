//! The sums of log decays over the tokens of a segment.

use bytemuck::bytes_of;

use super::{
    Call,
    states::{aligned, bind, most},
};
use crate::{
    gpu::{Caps, Spec, params, part},
    linear::{Layout, adjoint::kernel, kernels::Fading, window::ALIGN},
    plan::{Builder, Slot, Step},
};

/// The most tokens that an invocation of `decay_total` sums.
const BLOCK: u64 = 256;

/// Below this the factor is 0 in f32, as in every walk.
const LEAST: f32 = -200.0;

params! {
    /// Parameters of `decay_total`.
    DecayTotalParams {
        tokens: u32,
        block: u32,
        stride: u32,
        width: u32,
        blocks: u32,
        count: u32,
        g_offset: u32,
        total_offset: u32,
        groups: u32,
        factor: f32,
        least: f32,
    }
}

/// Tensors [outer, tokens, width] whose tokens are summed.
#[derive(Clone, Copy)]
struct Summed {
    outer: u64,
    tokens: u64,
    /// Tokens between neighbours of the outer axis.
    stride: u64,
    width: u64,
    factor: f32,
    least: f32,
}

/// The sums of log decays over the tokens of every sequence.
pub(super) fn decay_total(
    b: &mut Builder,
    call: &Call<'_>,
    fading: Fading,
    log_decay: Slot,
    to: Slot,
) {
    let shape = call.shape;
    let [batch, tokens, heads] = [shape.batch, shape.tokens, shape.kv_heads].map(|n| n as u64);
    let features = match fading {
        Fading::Rows => call.options.feature_width(shape) as u64,
        _ => 1,
    };
    let (outer, width) = match shape.layout {
        Layout::Bthd => (batch, heads * features),
        Layout::Bhtd => (batch * heads, features),
    };
    let mut summed = Summed {
        outer,
        tokens,
        stride: tokens,
        width,
        factor: 1.0,
        least: LEAST,
    };
    if fading == Fading::Head {
        summed = Summed {
            outer: batch,
            tokens: 1,
            stride: 0,
            width: heads,
            factor: tokens as f32,
            least: LEAST,
        };
    }
    let mut from = log_decay;
    loop {
        let blocks = summed.tokens.div_ceil(summed.block(call.caps));
        let target = if blocks == 1 {
            to
        } else {
            b.add_scratch(4 * summed.outer * blocks * summed.width)
        };
        summed.push(b, call.caps, [from, target]);
        if blocks <= 1 {
            return;
        }
        from = target;
        summed = Summed {
            tokens: blocks,
            stride: blocks,
            factor: 1.0,
            least: f32::MIN,
            ..summed
        };
    }
}

impl Summed {
    /// Tokens of a block: as many as a binding takes; at least 2, so that passes come to an end.
    fn block(&self, caps: &Caps) -> u64 {
        let row = 4 * self.width.max(1);
        (caps.binding_bytes.saturating_sub(2 * ALIGN * 4) / row).clamp(2, BLOCK)
    }

    /// One pass: blocks of tokens.
    fn push(self, b: &mut Builder, caps: &Caps, [from, to]: [Slot; 2]) {
        let Summed {
            outer,
            tokens,
            stride,
            width,
            factor,
            least,
        } = self;
        let length = self.block(caps);
        let blocks = tokens.div_ceil(length);
        let block = tokens.min(length) * width;
        let most = most(caps, 32.0).saturating_sub(ALIGN) / block.max(1);
        // Every sequence whole, or blocks of one.
        let (some, each) = if most >= blocks {
            ((most / blocks).max(1), blocks)
        } else {
            (1, most.max(1))
        };
        for first in (0..outer).step_by(some as usize) {
            let end = (first + some).min(outer);
            for begin in (0..blocks).step_by(each as usize) {
                let of_each = each.min(blocks - begin);
                let count = (end - first) * of_each;
                // Whole sequences are bound from their first token, parts of one from their own.
                let (start, last) = (begin * length, ((begin + of_each) * length).min(tokens));
                let words = (first * stride + start) * width..((end - 1) * stride + last) * width;
                let (bytes, offset) = aligned(words);
                let at = (first * blocks + begin) * width;
                let (to_bytes, total_offset) = aligned(at..at + count * width);
                let params = DecayTotalParams {
                    tokens: (last - start) as u32,
                    block: length as u32,
                    stride: stride as u32,
                    width: width as u32,
                    blocks: of_each as u32,
                    count: count as u32,
                    g_offset: offset,
                    total_offset,
                    groups: (count * width).div_ceil(64) as u32,
                    factor,
                    least,
                };
                b.steps.push(Step {
                    kernel: kernel(
                        "linear/decay_total",
                        [part!("linear/decay_total.wgsl")],
                        Spec::default(),
                        DecayTotalParams::FIELDS,
                        [64, 1, 1],
                        0,
                    ),
                    bind: vec![bind(from, bytes, false), bind(to, to_bytes, true)],
                    params: bytes_of(&params).to_vec(),
                    groups: params.groups.into(),
                    predicted_ms: 32.0 * (count * block) as f64 / (caps.gflops * 1e6),
                });
            }
        }
    }
}
