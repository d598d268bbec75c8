//! What a segment adds to the state and what it leaves of the one before, and how segments go together.

use std::ops::Range;

use bytemuck::bytes_of;

use super::{Call, OP, Slots, States, fitting};
use crate::{
    Result,
    gpu::{Caps, Dtype, Spec, params, part},
    linear::{
        Decay, Layout, Options, Shape,
        adjoint::kernel,
        kernels::{Fading, Rule, Second, Start},
        walk::{Rows, Walk, copy, fill},
        window::{ALIGN, Field, STEP_MS},
    },
    plan::{Bind, Builder, Plan, Slot, Step, Work},
};

/// The most tokens that an invocation of `decay_total` sums.
const BLOCK: u64 = 256;

/// Below this the factor is 0 in f32, as in every walk.
const LEAST: f32 = -200.0;

/// Rows and columns of a tile of `state_product`.
const TILE: u64 = 16;

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

/// What [`fold`] puts together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fold {
    /// Two neighbouring segments into one.
    Merge,
    /// The state before a segment and the segment into the state after it.
    Start,
    /// The gradient of the state after a segment and the segment's own into the gradient of the state before it.
    Adjoint,
}

/// Elements of a segment's tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::linear) struct Lengths {
    pub state: usize,
    /// 0 without the normaliser.
    pub z: usize,
    pub transfer: usize,
}

impl Lengths {
    pub fn new(shape: &Shape, options: &Options) -> Lengths {
        let heads = shape.state_rows();
        let rows = heads * options.feature_width(shape);
        Lengths {
            state: rows * shape.value,
            z: if options.normalize.is_some() { rows } else { 0 },
            transfer: match options.decay {
                _ if options.delta => rows * options.feature_width(shape),
                Decay::Channel => rows,
                _ => heads,
            },
        }
    }
}

/// Plans [`linear::local_state`](crate::linear::local_state), given the elements of the feature map's weights and bias. Inputs:
/// k, v, then log_decay, beta, the weights and the bias where there are such; outputs: the state, z with the normaliser, and the
/// transfer.
///
/// # Errors
/// As [`forward`](super::forward).
pub fn local_state(
    shape: &Shape,
    options: &Options,
    weights: [Option<usize>; 2],
    caps: &Caps,
) -> Result<Plan> {
    fitting(options, |options| in_form(shape, options, weights, caps))
}

fn in_form(
    shape: &Shape,
    options: &Options,
    weights: [Option<usize>; 2],
    caps: &Caps,
) -> Result<Plan> {
    let states = States {
        fm_weight: weights[0],
        fm_bias: weights[1],
        ..States::default()
    };
    let mut call = Call::new(shape, options, states, caps)?;
    call.slots = Slots::new(options, &states, [2, 3]);
    let mut builder = Builder::default();
    let b = &mut builder;
    let operands = call.operands(b, None, [Slot::Input(0), Slot::Input(1)])?;
    let state = Slot::Output(0);
    let z = options.normalize.map(|_| Slot::Output(1));
    let transfer = Slot::Output(1 + u16::from(z.is_some()));
    let (heads, key) = (shape.state_rows() as u64, operands.key as u64);
    let (fading, log_decay) = call.fading(false);
    let mut walk = Walk {
        field: Field {
            batch: shape.batch,
            tokens: shape.tokens,
            heads: shape.kv_heads,
            layout: shape.layout,
        },
        packed: None,
        key: operands.key,
        value: shape.value,
        access: operands.access,
        readers: None,
        sources: Some([operands.k, operands.v]),
        fading,
        log_decay,
        rule: match (options.delta, options.normalize) {
            (true, _) => Rule::Delta,
            (false, Some(_)) => Rule::Normalized,
            (false, None) => Rule::Additive,
        },
        aid: call.slots.beta,
        map: operands.map,
        halves: operands.access.dtype == Dtype::F16,
        reverse: false,
        strict: false,
        keeps: false,
        start: Start::Zero,
        state,
        scale: 1.0,
        source_scale: 1.0,
        eps: 0.0,
        form: options.form,
        second: Second::None,
        seconds: [None; 3],
        flows: None,
        weighed: None,
        sweep: None,
    };
    let slices = walk.slices(caps);
    if z.is_some() {
        walk.aid = Some(b.add_scratch(4 * heads * slices * key));
    }
    if shape.tokens == 0 {
        fill(b, caps, state, heads * key * shape.value as u64);
    }
    walk.push(b, caps)?;
    let label = walk.label(caps);
    match (z, walk.aid) {
        (Some(z), _) if shape.tokens == 0 => fill(b, caps, z, heads * key),
        (Some(z), Some(sums)) => copy(b, caps, sums, z, heads, key, [slices * key, key], 1),
        _ => {}
    }
    if options.delta {
        // The delta rule on values of zero takes the identity to the matrix of the segment.
        identity(b, caps, transfer, heads, key);
        let elem = operands.access.dtype.bytes();
        let rows = (shape.batch * shape.tokens) as u64;
        let words = (rows * key * elem).div_ceil(4);
        let zeros = Rows {
            slot: b.add_scratch(4 * words),
            heads: 1,
            elem,
        };
        fill(b, caps, zeros.slot, words);
        let mut access = operands.access;
        access.vectors = key.is_multiple_of(4);
        Walk {
            value: operands.key,
            access,
            sources: Some([operands.k, zeros]),
            start: Start::Resume,
            state: transfer,
            ..walk
        }
        .push(b, caps)?;
    } else {
        match (log_decay, shape.tokens) {
            (Some(rows), 1..) => decay_total(b, &call, fading, rows.slot, transfer),
            _ => {
                let words = Lengths::new(shape, options).transfer;
                fill(b, caps, transfer, words as u64);
            }
        }
    }
    let forward = call.work();
    let work = Work {
        flops: forward.flops * if options.delta { 1.0 } else { 0.5 },
        ..forward
    };
    let plan = builder.plan(OP, format!("local state, {label}"), work);
    plan.check(caps)?;
    Ok(plan)
}

/// Plans [`linear::merge`](crate::linear::merge), [`linear::merge_start`](crate::linear::merge_start) and
/// [`linear::merge_adjoint`](crate::linear::merge_adjoint). Inputs: the carried state (of the earlier segment, or gradient of
/// the state after), its z with the normaliser; the segment's state (or gradient), its z; the segment's transfer; to merge also
/// the earlier segment's transfer. Outputs: the state, its z, and merging the transfer. `shape.tokens` and `shape.heads` play no
/// part.
///
/// # Errors
/// `Argument` for impossible shapes and options, `Limit` when one state exceeds a binding.
pub fn fold(shape: &Shape, options: &Options, fold: Fold, caps: &Caps) -> Result<Plan> {
    // Only the states' sizes matter.
    let shape = &Shape {
        tokens: 0,
        heads: shape.kv_heads,
        ..*shape
    };
    shape.check(OP)?;
    options.check(OP)?;
    shape.fits(caps)?;
    let lengths = Lengths::new(shape, options);
    let (features, heads) = (options.feature_width(shape) as u64, shape.state_rows());
    let normalized = options.normalize.is_some();
    let n = if normalized { 2 } else { 1 };
    let (transfer, earlier) = (Slot::Input(2 * n), Slot::Input(2 * n + 1));
    let merged = Slot::Output(n);
    let mut builder = Builder::default();
    let b = &mut builder;
    let inputs = |part: u16| [Slot::Input(part), Slot::Input(n + part)];
    if options.delta {
        let (value, heads) = (shape.value as u64, heads as u64);
        let [carried, own] = inputs(0);
        let product = Product {
            states: heads,
            rows: features,
            columns: value,
            transposed: fold == Fold::Adjoint,
        };
        product.push(b, caps, [transfer, carried, Slot::Output(0)], Some(own));
        if fold == Fold::Merge {
            let product = Product {
                columns: features,
                ..product
            };
            product.push(b, caps, [transfer, earlier, merged], None);
        }
    } else {
        let (state, z) = match options.decay {
            Decay::Channel => (shape.value as u64, 1),
            _ => (features * shape.value as u64, features),
        };
        let (len, out) = (lengths.state as u64, Slot::Output(0));
        merge_states(b, caps, len, inputs(0), Some((transfer, state)), out);
        if normalized {
            let (len, out) = (lengths.z as u64, Slot::Output(1));
            merge_states(b, caps, len, inputs(1), Some((transfer, z)), out);
        }
        if fold == Fold::Merge {
            let len = lengths.transfer as u64;
            merge_states(b, caps, len, [earlier, transfer], None, merged);
        }
    }
    let words = 3 * (lengths.state + lengths.z) + lengths.transfer;
    let columns = shape.value + usize::from(fold == Fold::Merge) * features as usize;
    let flops = if options.delta {
        2 * lengths.transfer * columns
    } else {
        2 * (lengths.state + lengths.z)
    };
    let work = Work {
        flops: flops as f64,
        popcounts: 0.0,
        bytes: 4.0 * words as f64,
    };
    let label = match fold {
        Fold::Merge => "merge",
        Fold::Start => "merge start",
        Fold::Adjoint => "merge adjoint",
    };
    let plan = builder.plan(OP, label.into(), work);
    plan.check(caps)?;
    Ok(plan)
}

/// The bytes of some words from an aligned start, and how many words lie before them.
fn aligned(words: Range<u64>) -> (Range<u64>, u32) {
    let start = 4 * words.start / ALIGN * ALIGN;
    (start..4 * words.end, (words.start - start / 4) as u32)
}

fn bind(slot: Slot, bytes: Range<u64>, write: bool) -> Bind {
    Bind { slot, bytes, write }
}

/// The largest number of elements, a whole number of aligned words, that fits a binding and so many operations an element a step.
fn most(caps: &Caps, operations: f64) -> u64 {
    let in_time = STEP_MS * caps.gflops * 1e6 / operations;
    let most = (caps.binding_bytes / 4).min(in_time as u64);
    (most / ALIGN * ALIGN).max(ALIGN)
}

fn identity(b: &mut Builder, caps: &Caps, to: Slot, matrices: u64, width: u64) {
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
fn merge_states(
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
struct Product {
    states: u64,
    rows: u64,
    columns: u64,
    transposed: bool,
}

impl Product {
    fn push(self, b: &mut Builder, caps: &Caps, [a, x, merged]: [Slot; 3], base: Option<Slot>) {
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
fn decay_total(b: &mut Builder, call: &Call<'_>, fading: Fading, log_decay: Slot, to: Slot) {
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
