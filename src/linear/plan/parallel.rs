//! What a segment adds to the state and what it leaves of the one before, and how segments go together.

mod decay_total;
mod states;

use decay_total::decay_total;
use states::{Product, identity, merge_states};

use super::{Call, OP, Slots, States, fitting};
use crate::{
    Result,
    gpu::{Caps, Dtype},
    linear::{
        Decay, Options, Shape,
        kernels::{Rule, Second, Start},
        walk::{Rows, Walk},
        window::Field,
    },
    plan::{Builder, Plan, Slot, Work},
    rows,
};

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
        rows::fill(b, caps, state, 0..heads * key * shape.value as u64, 0);
    }
    walk.push(b, caps)?;
    let label = walk.label(caps);
    match (z, walk.aid) {
        (Some(z), _) if shape.tokens == 0 => rows::fill(b, caps, z, 0..heads * key, 0),
        (Some(z), Some(sums)) => rows::Copies {
            from: sums,
            to: z,
            rows: heads,
            words: key,
            from_stride: slices * key,
            to_stride: key,
            repeat: 1,
        }
        .step(b, caps),
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
        rows::fill(b, caps, zeros.slot, 0..words, 0);
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
                rows::fill(b, caps, transfer, 0..words as u64, 0);
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
