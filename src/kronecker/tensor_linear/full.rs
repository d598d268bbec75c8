//! Steps where queries see all keys: states of each set, their product, and rows times states.

use super::{
    batch::Batch,
    kernels::{self, Params},
    plan::{Ends, Planner},
};
use crate::{
    plan::{Builder, Slot},
    rows::Sum,
};

impl Planner<'_> {
    /// Parts that the rows of a head are summed in: enough to fill the device, each short enough for its loops.
    pub fn parts(&self, rows: u64) -> u64 {
        let lanes = self.shape.key_heads() as u64 * (self.inner() / 8) * (self.outer() / 8);
        let wanted = (4 * 64 * u64::from(self.caps.fill)).div_ceil(lanes.max(1));
        let span = rows.div_ceil(wanted).next_multiple_of(32).clamp(32, 1024);
        rows.div_ceil(span).max(1)
    }
}

impl Batch<'_> {
    /// The state of rows of X and of Y, `rows` a head: their parts, then the sums of these.
    fn state(&self, builder: &mut Builder, [x, y]: [Slot; 2], rows: u64, into: Slot) {
        let planner = self.planner;
        let (inner, outer) = (planner.inner(), planner.outer());
        let parts = planner.parts(rows);
        let to = if parts > 1 { self.space.parts } else { into };
        let params = Params {
            inner: inner as u32,
            outer: outer as u32,
            quads: (outer / 4) as u32,
            tokens: rows as u32,
            parts: parts as u32,
            span: rows.div_ceil(parts) as u32,
            ..Params::default()
        };
        let count = self.count();
        let bind = vec![
            self.held(x, count * rows * inner, false),
            self.held(y, count * rows * outer, false),
            self.held(to, count * parts * inner * outer, true),
        ];
        let items = count * parts * (inner / 8) * (outer / 8);
        let flops = 160 * rows.div_ceil(parts) + 64;
        self.push(builder, kernels::linear(), bind, [items, flops], params);
        if parts > 1 {
            let block = inner * outer;
            let sum = Sum {
                sums: to,
                sets: count,
                parts,
                block,
                accumulate: false,
            };
            sum.step(builder, planner.caps, 0..block, into);
        }
    }

    /// The state of each key set.
    fn states(&self, builder: &mut Builder, ends: &Ends) {
        for (set, state) in self.space.states.iter().enumerate() {
            self.pack_features(builder, ends, Some(set), self.space.keys, 0);
            self.pack_values(builder, set, self.space.values, 0);
            let rows = self.planner.tokens(set);
            let both = [self.space.keys, self.space.values];
            self.state(builder, both, rows, *state);
        }
    }

    /// The entrywise product of states; where it is one of them alone, that one.
    fn product(&self, builder: &mut Builder, mut factors: impl Iterator<Item = Slot>) -> Slot {
        let planner = self.planner;
        let numbers = self.count() * planner.inner() * planner.outer();
        let into = self.space.product;
        let Some(first) = factors.next() else {
            return into;
        };
        let mut result = first;
        for factor in factors {
            let here = result == into;
            let mut bind = vec![
                self.held(factor, numbers, false),
                self.held(into, numbers, true),
            ];
            if !here {
                bind.insert(0, self.held(result, numbers, false));
            }
            let kernel = kernels::product(here);
            self.push(builder, kernel, bind, [numbers, 12], Params::default());
            result = into;
        }
        result
    }

    /// Rows times a state of these many rows and columns.
    fn times(
        &self,
        builder: &mut Builder,
        [x, state, out]: [Slot; 3],
        rows: u64,
        [inner, outer]: [u64; 2],
    ) {
        let params = Params {
            inner: inner as u32,
            outer: outer as u32,
            tokens: rows as u32,
            ..Params::default()
        };
        let count = self.count();
        let bind = vec![
            self.held(x, count * rows * inner, false),
            self.held(state, count * inner * outer, false),
            self.held(out, count * rows * outer, true),
        ];
        let items = count * rows.div_ceil(4) * (outer / 8);
        self.push(builder, kernels::rows(), bind, [items, 80 * inner], params);
    }

    /// Rows of Y times the transpose of a state.
    fn times_turned(&self, builder: &mut Builder, [y, state, out]: [Slot; 3], rows: u64) {
        let planner = self.planner;
        let (inner, outer) = (planner.inner(), planner.outer());
        let numbers = self.count() * inner * outer;
        let params = Params {
            inner: inner as u32,
            outer: outer as u32,
            ..Params::default()
        };
        let turned = self.space.turned;
        let bind = vec![
            self.held(state, numbers, false),
            self.held(turned, numbers, true),
        ];
        self.push(builder, kernels::turn(), bind, [numbers, 16], params);
        self.times(builder, [y, turned, out], rows, [outer, inner]);
    }

    /// The sums that outputs are made of; returns where the product of the states is.
    pub fn full_sums(&self, builder: &mut Builder, ends: &Ends) -> Slot {
        let planner = self.planner;
        self.states(builder, ends);
        let product = self.product(builder, self.space.states.iter().copied());
        self.pack_features(builder, ends, None, self.space.queries, 0);
        let rows = planner.group() * planner.queries();
        let slots = [self.space.queries, product, self.space.sums];
        self.times(builder, slots, rows, [planner.inner(), planner.outer()]);
        product
    }

    /// Gradients of queries, keys and values.
    pub fn full_gradients(&self, builder: &mut Builder, ends: &Ends) {
        let (planner, space) = (self.planner, self.space);
        let (inner, outer) = (planner.inner(), planner.outer());
        let product = self.full_sums(builder, ends);
        self.pack_slopes(builder);
        let rows = planner.group() * planner.queries();
        let slots = [space.slopes, product, space.query_slopes];
        self.times_turned(builder, slots, rows);
        self.unpack_features(builder, ends, None, space.query_slopes, 0);
        self.state(builder, [space.queries, space.slopes], rows, space.handed);
        for set in 0..planner.shape.sets() {
            let others = space.states.iter().enumerate();
            let others = others.filter(|(other, _)| *other != set);
            let factors = [space.handed]
                .into_iter()
                .chain(others.map(|(_, slot)| *slot));
            let slope = self.product(builder, factors);
            let rows = planner.tokens(set);
            self.pack_features(builder, ends, Some(set), space.keys, 0);
            let slots = [space.keys, slope, space.value_slopes];
            self.times(builder, slots, rows, [inner, outer]);
            self.unpack_values(builder, set, 0);
            self.pack_values(builder, set, space.values, 0);
            let slots = [space.values, slope, space.key_slopes];
            self.times_turned(builder, slots, rows);
            self.unpack_features(builder, ends, Some(set), space.key_slopes, 0);
        }
    }

    /// Gradients of a set's values, in padded rows from `at` on.
    pub fn unpack_values(&self, builder: &mut Builder, set: usize, at: u64) {
        let planner = self.planner;
        let [_, place] = planner.places(set);
        let widths = [planner.shape.value as u64, planner.outer()];
        let slots = [self.space.value_slopes, Slot::Output(place)];
        self.unpack(builder, slots, Some(set), widths, at, (1.0, None));
    }
}
