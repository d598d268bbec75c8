//! Temporaries of a batch of heads, and how many heads fit.

use super::plan::{Planner, too_large};
use crate::{
    Result,
    plan::{ALIGN, Builder, Slot},
};

/// The temporaries, for this many heads of keys at a time.
pub(super) struct Space {
    pub heads: u64,
    /// Padded rows: features of queries and keys, values, sums that outputs are made of, and what their gradients are made of.
    pub queries: Slot,
    pub keys: Slot,
    pub values: Slot,
    pub sums: Slot,
    pub slopes: Slot,
    /// Gradients of those of queries, keys and values.
    pub query_slopes: Slot,
    pub key_slopes: Slot,
    pub value_slopes: Slot,
    /// Coefficients of queries that are centred.
    pub centres: Slot,
    /// States: of parts, of each set, products of them, transposed ones, and what queries hand back.
    pub parts: Slot,
    pub states: Vec<Slot>,
    pub product: Slot,
    pub turned: Slot,
    pub handed: Slot,
    /// Sums of chunks, of what is before them, of what is after them, and of runs of chunks.
    pub chunks: Slot,
    pub before: Slot,
    pub after: Slot,
    pub runs: Slot,
    /// Numbers in each of the first three.
    pub chunk_numbers: u64,
}

impl Space {
    pub fn new(planner: &Planner<'_>, builder: &mut Builder, backward: bool) -> Result<Space> {
        let sizes = Sizes::new(planner, backward);
        let taken: u64 = builder.scratch.iter().sum();
        // Sizes are rounded up, and bindings begin at aligned places.
        let budget = planner.caps.scratch_bytes.saturating_sub(taken + 4096);
        let binding = planner.caps.binding_bytes.saturating_sub(2 * ALIGN);
        let whole = sizes.held(sizes.chunk_numbers);
        let widest = sizes.widest.max(4 * sizes.chunk_numbers);
        let heads = (planner.shape.key_heads() as u64)
            .min(binding / widest.max(1))
            .min(budget / whole.max(1));
        let (heads, chunk_numbers) = match heads {
            0 => (1, sizes.cut(budget, binding)?),
            heads => (heads, heads * sizes.chunk_numbers),
        };
        // Even without any rows there is something to bind.
        let mut add = |numbers: u64| builder.add_scratch(4 * heads * numbers);
        let space = Space {
            heads,
            queries: add(sizes.queries),
            keys: add(sizes.keys),
            values: add(sizes.values),
            sums: add(sizes.sums),
            slopes: add(sizes.slopes),
            query_slopes: add(sizes.query_slopes),
            key_slopes: add(sizes.key_slopes),
            value_slopes: add(sizes.value_slopes),
            centres: add(sizes.centres),
            parts: add(sizes.parts),
            states: (0..sizes.states).map(|_| add(sizes.state)).collect(),
            product: add(sizes.product),
            turned: add(sizes.turned),
            handed: add(sizes.handed),
            runs: add(sizes.runs),
            chunks: builder.add_scratch(4 * chunk_numbers),
            before: builder.add_scratch(4 * chunk_numbers),
            after: builder.add_scratch(if backward { 4 * chunk_numbers } else { 0 }),
            chunk_numbers,
        };
        Ok(space)
    }
}

/// Numbers of each temporary for one head of keys.
#[derive(Default)]
struct Sizes {
    queries: u64,
    keys: u64,
    values: u64,
    sums: u64,
    slopes: u64,
    query_slopes: u64,
    key_slopes: u64,
    value_slopes: u64,
    centres: u64,
    parts: u64,
    states: u64,
    state: u64,
    product: u64,
    turned: u64,
    handed: u64,
    runs: u64,
    chunk_numbers: u64,
    /// The least that holds two vectors of columns of the sums of chunks.
    least_chunks: u64,
    /// Buffers of sums of chunks.
    copies: u64,
    /// Bytes of the largest of all but these.
    widest: u64,
}

impl Sizes {
    fn new(planner: &Planner<'_>, backward: bool) -> Sizes {
        let (inner, outer) = (planner.inner(), planner.outer());
        let queries = planner.group() * planner.queries();
        let mut sizes = Sizes {
            queries: queries * inner,
            sums: queries * outer,
            slopes: if backward { queries * outer } else { 0 },
            centres: queries * planner.centre_numbers(),
            ..Sizes::default()
        };
        let state = inner * outer;
        if planner.causal() {
            let rows = planner.sets() * planner.most_tokens();
            let chunks = planner.sets() * planner.chunks();
            sizes.keys = rows * inner;
            sizes.values = rows * outer;
            sizes.chunk_numbers = chunks * state;
            // Gradients sum over the columns of values, too.
            let summed = if backward { inner.max(outer) } else { inner };
            sizes.least_chunks = chunks * summed * 8;
            sizes.runs = chunks.div_ceil(planner.run()) * state;
            sizes.copies = if backward { 3 } else { 2 };
            if backward {
                sizes.query_slopes = queries * inner;
                sizes.key_slopes = sizes.keys;
                sizes.value_slopes = sizes.values;
            }
        } else {
            let rows = planner.most_tokens();
            let most = if backward { rows.max(queries) } else { rows };
            sizes.keys = rows * inner;
            sizes.values = rows * outer;
            sizes.parts = planner.parts(most) * state;
            sizes.states = planner.sets();
            sizes.state = state;
            sizes.product = state;
            if backward {
                sizes.turned = state;
                sizes.handed = state;
                sizes.query_slopes = queries * inner;
                sizes.key_slopes = sizes.keys;
                sizes.value_slopes = sizes.values;
            }
        }
        // Tensors of queries, keys, values and their gradients are bound as they are, too.
        let width = planner
            .shape
            .key
            .max(planner.shape.value)
            .max(planner.rank()) as u64;
        let tensors = width * queries.max(planner.most_tokens());
        let widest = sizes.each().into_iter().chain([tensors]).max();
        sizes.widest = 4 * widest.unwrap_or(0);
        sizes
    }

    fn each(&self) -> [u64; 15] {
        [
            self.queries,
            self.keys,
            self.values,
            self.sums,
            self.slopes,
            self.query_slopes,
            self.key_slopes,
            self.value_slopes,
            self.centres,
            self.parts,
            self.state,
            self.product,
            self.turned,
            self.handed,
            self.runs,
        ]
    }

    /// Bytes of everything, with so many numbers of sums of chunks in a buffer.
    fn held(&self, chunk_numbers: u64) -> u64 {
        let others: u64 = self.each().into_iter().sum();
        let states = self.states.saturating_sub(1) * self.state;
        4 * (others + states + self.copies * chunk_numbers)
    }

    /// Numbers of sums of chunks of one head, of as many columns as fit.
    fn cut(&self, budget: u64, binding: u64) -> Result<u64> {
        let least = self.held(self.least_chunks);
        if least > budget {
            return Err(too_large("bytes of scratch", least, budget));
        }
        let widest = self.widest.max(4 * self.least_chunks);
        if widest > binding {
            return Err(too_large("bytes in one binding", widest, binding));
        }
        let room = (budget - self.held(0)) / (4 * self.copies.max(1));
        Ok(room.min(binding / 4).min(self.chunk_numbers))
    }
}
