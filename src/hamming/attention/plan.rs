//! Plans of popcount attention: pure functions of shape, options and capabilities.

use bytemuck::bytes_of;

use super::{
    OP, Options, Shape,
    gradients::Gradients,
    kernels,
    params::ClipParams,
    planner::Planner,
    shape::{Sequence, wrong},
    tiles::{Form, Tile},
};
use crate::{
    Result,
    gpu::{Caps, Class, Dtype},
    hamming::code_table,
    plan::{ALIGN, Bind, Builder, Plan, STEP_MS, Slot, Step, Work},
};

/// What [`forward`] is to write beside o, and whether the device says how many keys there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The logarithms of the sums of weights.
    pub lse: bool,
    /// What [`backward`] needs of each query.
    pub kept: bool,
    /// Keys of each batch entry come from a tensor.
    pub lengths: bool,
}

/// Which gradients [`backward`] is to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WantedGradients {
    /// Of the queries' codes.
    pub q: bool,
    /// Of the keys' codes.
    pub k: bool,
    /// Of the values.
    pub v: bool,
}

/// Plans the outputs. Inputs: q, k, v, the lengths if they are given; outputs: o, then lse and what is kept where wanted.
///
/// Short codes of long sequences go by [`code_table`], which computes the same in linear time, where that is expected to be quicker.
///
/// # Errors
/// `Argument` when sizes or options make no sense; `Limit` when one head exceeds a binding or a temporary its budget.
pub fn forward(shape: &Shape, options: &Options, wanted: Wanted, caps: &Caps) -> Result<Plan> {
    if let Some((table, table_options)) = as_table(shape, options, wanted)
        && let Ok(by_table) = code_table::cost_ms(&table, &table_options, caps)
        && by_table < quadratic_ms(shape, options, caps)?
        && let Ok(plan) = by_tables(&table, &table_options, caps)
    {
        return Ok(plan);
    }
    quadratic(shape, options, wanted, caps)
}

/// The call as one of tables, where it is one.
fn as_table(
    shape: &Shape,
    options: &Options,
    wanted: Wanted,
) -> Option<(code_table::Shape, code_table::Options)> {
    let plain = Options {
        causal: options.causal,
        ..Options::dense(0.0)
    };
    let asked = Options {
        beta: plain.beta.clone(),
        ..options.clone()
    };
    let square = shape.queries == shape.keys || !options.causal;
    let whole = shape.capacity == shape.keys && shape.dtype == Dtype::F32;
    if shape.bits > MOST_TABLE_BITS
        || asked != plain
        || wanted != Wanted::default()
        || !square
        || !whole
    {
        return None;
    }
    let table = code_table::Shape {
        batch: shape.batch,
        heads: shape.heads,
        kv_heads: shape.kv_heads,
        queries: shape.queries,
        keys: shape.keys,
        value: shape.value,
    };
    let options = code_table::Options {
        beta: options.beta.values().to_vec(),
        causal: options.causal,
        ..code_table::Options::new(shape.bits, 0.0)
    };
    Some((table, options))
}

/// The longest codes that go by tables unasked: a table of 2^16 rows and 65 columns takes 17 MB.
const MOST_TABLE_BITS: usize = 16;

fn by_tables(
    shape: &code_table::Shape,
    options: &code_table::Options,
    caps: &Caps,
) -> Result<Plan> {
    let plan =
        code_table::plan::forward(shape, options, code_table::plan::States::default(), caps)?;
    Ok(Plan {
        op: OP,
        label: format!("by tables, {}", plan.label),
        ..plan
    })
}

/// How long the quadratic form takes, in the measure of [`code_table::cost_ms`].
fn quadratic_ms(shape: &Shape, options: &Options, caps: &Caps) -> Result<f64> {
    // Times over predictions: measured on llvmpipe; elsewhere the presumed rate is taken for a tenth of what devices reach.
    let factor = match (caps.class, options.causal) {
        (Class::Cpu, false) => 1.4,
        (Class::Cpu, true) => 1.9,
        _ => 0.1,
    };
    Ok(factor * predicted_ms(shape, options, caps)?)
}

/// Plans the quadratic form.
fn quadratic(shape: &Shape, options: &Options, wanted: Wanted, caps: &Caps) -> Result<Plan> {
    let tile = Tile::choose(caps, unit_rows(shape, options));
    Planner::new(shape, options, wanted.lengths, tile, caps)?.forward(wanted, options.splits)
}

/// Rows that read one head of keys and lie together.
fn unit_rows(shape: &Shape, options: &Options) -> usize {
    match options.sequences {
        Some(_) => shape.queries,
        None => shape.group() * shape.queries,
    }
}

/// Every plan of [`forward`]: the choice first, then with other tiles and more parts of the keys.
///
/// # Errors
/// As [`forward`].
pub fn variants(
    shape: &Shape,
    options: &Options,
    wanted: Wanted,
    caps: &Caps,
) -> Result<Vec<Plan>> {
    let chosen = Tile::choose(caps, unit_rows(shape, options));
    let tiles = [(64, Form::Staged), (32, Form::Staged), (32, Form::Direct)];
    let tiles = tiles.map(|(rows, form)| Tile { rows, form });
    let fitting = |tile: &Tile| tile.rows == 32 || caps.workgroup_bytes >= 32 << 10;
    let others = tiles.into_iter().filter(|tile| *tile != chosen);
    let chosen_plan = forward(shape, options, wanted, caps)?;
    let forms = as_table(shape, options, wanted)
        .and_then(|(table, options)| by_tables(&table, &options, caps).ok())
        .into_iter()
        .chain([quadratic(shape, options, wanted, caps)?]);
    let others_of_form: Vec<Plan> = forms.filter(|form| *form != chosen_plan).collect();
    let mut plans = vec![chosen_plan];
    plans.extend(others_of_form);
    for tile in others.filter(fitting) {
        let planner = Planner::new(shape, options, wanted.lengths, tile, caps)?;
        plans.push(planner.forward(wanted, options.splits)?);
    }
    let planner = Planner::new(shape, options, wanted.lengths, chosen, caps)?;
    plans.push(planner.forward(wanted, Some(3))?);
    Ok(plans)
}

/// Plans the gradients. Inputs: q, k, v, o, what [`forward`] kept, the gradient of o; outputs: those wanted of q, k and v.
///
/// # Errors
/// As [`forward`].
pub fn backward(
    shape: &Shape,
    options: &Options,
    wanted: WantedGradients,
    caps: &Caps,
) -> Result<Plan> {
    // Keys fill tiles where queries are few.
    let tile = Tile::choose(caps, shape.queries.max(shape.capacity));
    Gradients::new(shape, options, tile, caps)?.plan(wanted)
}

/// Plans a clip of gradients in place, see [`StraightThrough`](super::StraightThrough). Input: x; output: the gradients.
///
/// # Errors
/// `Argument` when the clip is not a number of at least 0; `Limit` when a device is too small.
pub fn clip(elements: usize, clip: f32, threshold: f32, caps: &Caps) -> Result<Plan> {
    if !(clip >= 0.0 && threshold.is_finite()) {
        let expected = "a clip of at least 0 about a finite threshold";
        return wrong("clip", expected, format!("{clip} about {threshold}"));
    }
    // Twelve bytes an element, at a byte for every operation a device can do.
    let element_ms = 12.0 / (caps.gflops * 1e6);
    let quick = (STEP_MS / element_ms) as u64;
    let most = (caps.binding_bytes / 4).min(quick).max(ALIGN) / ALIGN * ALIGN;
    let mut builder = Builder::default();
    for first in (0..elements as u64).step_by(most as usize) {
        let count = most.min(elements as u64 - first);
        let params = ClipParams {
            clip,
            threshold,
            count: count as u32,
        };
        let bind = [(Slot::Input(0), false), (Slot::Output(0), true)].map(|(slot, write)| Bind {
            slot,
            bytes: 4 * first..4 * (first + count),
            write,
        });
        builder.steps.push(Step {
            kernel: kernels::clip(),
            bind: bind.into(),
            params: bytes_of(&params).to_vec(),
            groups: count.div_ceil(64),
            predicted_ms: count as f64 * element_ms,
        });
    }
    let plan = builder.plan(OP, "clipped".into(), Work::default());
    plan.check(caps)?;
    Ok(plan)
}

/// How long [`forward`] is predicted to take on a device of the presumed rate, in milliseconds: every pair of a query and a key
/// that it sees costs its words and its values.
///
/// # Errors
/// `Argument` when sizes or options make no sense.
pub fn predicted_ms(shape: &Shape, options: &Options, caps: &Caps) -> Result<f64> {
    options.check(shape)?;
    let passes = passes(shape, options);
    let words = 6.0 * shape.words() as f64;
    let each = 2.0 * shape.value as f64 + words * (1.0 + passes);
    Ok(pairs(shape, options) * each / (caps.gflops * 1e6))
}

/// Passes over the codes before values are weighed.
fn passes(shape: &Shape, options: &Options) -> f64 {
    match (options.counts(), options.fixed(shape.bits)) {
        (true, _) if finds_last(options) => 2.0,
        (true, _) | (_, false) => 1.0,
        (false, true) => 0.0,
    }
}

/// Whether some of the keys at the cut-off count and others do not.
pub(super) fn finds_last(options: &Options) -> bool {
    options.top_n.is_some_and(|n| n > 0) && !options.include_ties
}

/// Pairs of queries and keys that see each other.
pub(super) fn pairs(shape: &Shape, options: &Options) -> f64 {
    let of_head: usize = options
        .sequences(shape)
        .into_iter()
        .map(|Sequence { queries, keys }| {
            let seen = |at| options.seen(at, queries.len(), keys.len());
            let count = |at| seen(at).into_iter().map(|range| range.len()).sum::<usize>();
            (0..queries.len()).map(count).sum::<usize>()
        })
        .sum();
    of_head as f64 * (shape.batch * shape.heads) as f64
}

/// The weights of every number of beta: of the distances 0 to b, then where they rise with the distance, and what lse adds.
pub(super) fn table(shape: &Shape, options: &Options) -> Vec<u32> {
    let fixed = options.fixed(shape.bits);
    let bits = shape.bits as f64;
    let mut table = Vec::new();
    for beta in options.beta.values() {
        let beta = f64::from(*beta);
        let weight = |d: usize| match fixed {
            true => (beta * (bits - 2.0 * d as f64)).exp(),
            false => (-2.0 * beta.abs() * d as f64).exp(),
        };
        let rest = [
            if beta < 0.0 { bits } else { 0.0 },
            if fixed { 0.0 } else { beta },
            beta,
        ];
        let all = (0..=shape.bits).map(weight).chain(rest);
        table.extend(all.map(|x| (x as f32).to_bits()));
    }
    table
}
