//! Plans: what every form shares, and the forms' own steps.

mod causal;
mod full;

use std::{ops::Range, sync::Arc};

use bytemuck::bytes_of;

use super::{OP, Options, Shape, kernels::Params, shape::bit_weights};
use crate::{
    Error, Result,
    gpu::{Caps, Dtype, Kernel},
    plan::{ALIGN, Bind, Builder, Plan, Slot, Step, Work},
    rows::{self, Rows, dispatches},
};

/// Which states a call has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct States {
    /// Whether tables come in, as the last input.
    pub initial: bool,
    /// Whether tables go out, as the last output.
    pub last: bool,
}

/// Plans the forward call. Inputs: q, k, v, and the initial state if there is one; outputs: o, and the final state if asked for.
///
/// # Errors
/// `Argument` and `Unsupported` as [`Shape::check`]; `Limit` when one list with its tables exceeds a binding or the scratch budget.
pub fn forward(shape: &Shape, options: &Options, states: States, caps: &Caps) -> Result<Plan> {
    shape.check(options)?;
    if (states.initial || states.last) && !options.causal {
        return Err(Error::Unsupported {
            op: OP,
            what: "states without causal".into(),
        });
    }
    let mut call = Call::new(shape, options, caps);
    let form = if options.causal {
        let kept = if states.last {
            causal::Kept::Output {
                initial: states.initial,
            }
        } else {
            causal::Kept::Scratch {
                initial: states.initial,
            }
        };
        call.causal(kept)?
    } else {
        call.full()?
    };
    let state = 4.0 * shape.state_len(options) as f64;
    let count = f64::from(u8::from(states.initial)) + f64::from(u8::from(states.last));
    call.finish(form, 1.0, count * state)
}

/// Plans the call that moves a state on in place. Inputs: q, k, v; outputs: o, and the state, which is read and written.
///
/// # Errors
/// As [`forward`].
pub fn step(shape: &Shape, options: &Options, caps: &Caps) -> Result<Plan> {
    let options = Options {
        causal: true,
        ..options.clone()
    };
    shape.check(&options)?;
    let mut call = Call::new(shape, &options, caps);
    let form = call.causal(causal::Kept::InPlace)?;
    call.finish(form, 1.0, 8.0 * shape.state_len(&options) as f64)
}

/// Plans the gradients. Inputs: q, k, v, grad o; outputs: the gradients of h and g, f32 `[.., bits]`, and of v.
///
/// # Errors
/// As [`forward`].
pub fn backward(shape: &Shape, options: &Options, caps: &Caps) -> Result<Plan> {
    shape.check(options)?;
    let mut call = Call::new(shape, options, caps);
    let form = if options.causal {
        call.causal_gradients()?
    } else {
        call.full_gradients()?
    };
    let words = options.bits * (shape.query_len() + shape.key_len()) + shape.value_len();
    call.finish(form, 3.0, 4.0 * words as f64)
}

/// A plan in the making.
struct Call<'a> {
    shape: &'a Shape,
    options: &'a Options,
    caps: &'a Caps,
    builder: Builder,
    /// Heads of queries for each list of keys, and tables for each.
    group: u64,
    share: u64,
}

/// Some lists of a tensor: what a step binds, and where the first begins in it.
struct Piece {
    bind: Bind,
    offset: u32,
}

impl<'a> Call<'a> {
    fn new(shape: &'a Shape, options: &'a Options, caps: &'a Caps) -> Call<'a> {
        Call {
            shape,
            options,
            caps,
            builder: Builder::default(),
            group: shape.group() as u64,
            share: shape.share(options) as u64,
        }
    }

    fn finish(self, form: String, factor: f64, more_bytes: f64) -> Result<Plan> {
        let shape = self.shape;
        let words = shape.query_len() + shape.key_len() + shape.value_len() + shape.output_len();
        let work = Work {
            flops: factor * self.flops(),
            bytes: 4.0 * words as f64 + more_bytes,
            ..Work::default()
        };
        let plan = self.builder.plan(OP, form, work);
        plan.check(self.caps)?;
        Ok(plan)
    }

    /// Operations of the forward call: additions into tables and what is done with the tables.
    fn flops(&self) -> f64 {
        let shape = self.shape;
        let bits = self.options.bits;
        let columns = (shape.value + 1) as f64;
        let tables = (shape.key_lists() as u64 * self.share) as f64;
        let keys = tables * shape.keys as f64;
        let queries = shape.query_len() as f64;
        if self.options.causal {
            let (low, high) = (bits / 2, bits - bits / 2);
            2.0 * columns * (keys * (1u64 << high) as f64 + queries * (1u64 << low) as f64)
        } else {
            let table = tables * (1u64 << bits) as f64;
            columns * (keys + 2.0 * bits as f64 * table + queries)
        }
    }

    fn width(&self) -> u64 {
        self.shape.value as u64 + 1
    }

    fn queries(&self) -> u64 {
        self.shape.queries as u64
    }

    fn keys(&self) -> u64 {
        self.shape.keys as u64
    }

    /// Words of one table.
    fn table_len(&self) -> u64 {
        self.width() << self.options.bits
    }

    /// What all steps have in common: `sets` factors go round over the tables.
    fn params(&self, sets: u64) -> Params {
        Params {
            value: self.shape.value as u32,
            bits: self.options.bits as u32,
            share: 1,
            readers: 1,
            span: 1,
            sets: sets as u32,
            ..Params::default()
        }
    }

    /// Sets of factors for so many tables of each list of keys: those of one sequence, or one where β is one number.
    fn sets(&self, tables: u64) -> u64 {
        if self.options.beta.len() == 1 {
            1
        } else {
            self.shape.kv_heads as u64 * tables
        }
    }

    /// β of the bits for each set of factors.
    fn betas(&self, tables: u64) -> Vec<Vec<f64>> {
        let heads_of_a_table = self.group / tables;
        (0..self.sets(tables))
            .map(|set| self.options.betas((set * heads_of_a_table) as usize))
            .collect()
    }

    /// Some lists of a tensor with so many elements a list.
    fn piece(&self, slot: Slot, lists: &Range<u64>, list_len: u64, write: bool) -> Piece {
        let rows = Rows {
            slot,
            dtype: Dtype::F32,
            stride: list_len as usize,
        };
        let (bind, offset) = rows.bind(lists, write);
        // Kernels count lists from the first of these.
        let offset = offset.wrapping_add((lists.start * list_len) as u32);
        Piece { bind, offset }
    }

    /// Adds a kernel's dispatches; `elements` is what one workgroup touches.
    fn push(
        &mut self,
        kernel: Arc<Kernel>,
        bind: Vec<Bind>,
        params: Params,
        groups: u64,
        elements: f64,
    ) {
        // Two dozen operations' time for an element that is read and used, by what software adapters take.
        let group_ms = 24.0 * elements / (self.caps.gflops * 1e6);
        for part in dispatches(0..groups, group_ms, self.caps) {
            let count = part.end - part.start;
            let params = Params {
                first: part.start as u32,
                groups: count as u32,
                ..params
            };
            self.builder.steps.push(Step {
                kernel: kernel.clone(),
                bind: bind.clone(),
                params: bytes_of(&params).to_vec(),
                groups: count,
                predicted_ms: group_ms * count as f64,
            });
        }
    }

    fn zero(&mut self, slot: Slot, words: u64) {
        rows::fill(&mut self.builder, self.caps, slot, 0..words, 0);
    }

    fn scratch(&mut self, words: u64) -> Slot {
        self.builder.add_scratch(4 * words)
    }

    /// Ranges of lists of keys that one binding of every tensor takes, and the scratch budget: `bound` are words a list of what is
    /// bound, `scratch` those of temporaries.
    fn batches(&self, bound: &[u64], scratch: &[u64]) -> Result<Vec<Range<u64>>> {
        let room = self.caps.binding_bytes.saturating_sub(ALIGN);
        let widest = bound.iter().chain(scratch).copied().max().unwrap_or(1);
        let all: u64 = scratch.iter().sum();
        let limit = |what: &str, needed: u64, available: u64| {
            Err(Error::Limit {
                what: format!("{OP} ({what}, for one head of keys and its queries)"),
                needed,
                available,
                remedy: "use fewer bits, fewer value columns or fewer tokens, or hamming_attention",
            })
        };
        if 4 * widest > room {
            return limit(
                "bytes in one binding",
                4 * widest + ALIGN,
                self.caps.binding_bytes,
            );
        }
        // Temporaries are rounded up to 16 bytes each.
        let budget = self
            .caps
            .scratch_bytes
            .saturating_sub(16 * scratch.len() as u64);
        if 4 * all > budget {
            return limit("bytes of scratch", 4 * all, self.caps.scratch_bytes);
        }
        let most = (room / (4 * widest.max(1))).min(budget / (4 * all.max(1)));
        let lists = self.shape.key_lists() as u64;
        Ok((0..lists)
            .step_by(most as usize)
            .map(|from| from..lists.min(from + most))
            .collect())
    }

    /// A multiple of a range.
    fn times(lists: &Range<u64>, factor: u64) -> Range<u64> {
        lists.start * factor..lists.end * factor
    }
}

/// A temporary's words, whole.
fn whole(slot: Slot, words: u64, write: bool) -> Bind {
    Bind {
        slot,
        bytes: 0..4 * words,
        write,
    }
}

fn count(range: &Range<u64>) -> u64 {
    range.end - range.start
}

/// The weights of all differences between codes of these β, bit 0 first.
fn weights(betas: &[f64]) -> Vec<f64> {
    let mut weights = vec![1.0];
    for beta in betas {
        let [equal, differing] = bit_weights(*beta);
        let set = weights.iter().map(|w| w * differing);
        let set: Vec<f64> = weights.iter().map(|w| w * equal).chain(set).collect();
        weights = set;
    }
    weights
}

/// As words of a table.
fn words(values: impl IntoIterator<Item = f64>) -> Vec<u32> {
    let values = values.into_iter();
    values.map(|value| (value as f32).to_bits()).collect()
}
