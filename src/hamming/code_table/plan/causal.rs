//! The causal form: chunk after chunk, readers look at the tables and at their own chunk, then its items go into the tables.

mod steps;

use std::ops::Range;

use super::{Call, count, weights, words};
use crate::{
    Error, Result,
    hamming::code_table::kernels::{Into, Source},
    plan::Slot,
    rows::Copies,
};

/// Where the tables are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// In a temporary, from input 3 or from nothing.
    Scratch { initial: bool },
    /// In output 1, from input 3 or from nothing.
    Output { initial: bool },
    /// In output 1, which holds them already.
    InPlace,
}

/// Which bits of a code are transformed in the table (x) and which when it is read (y).
#[derive(Clone, Copy, Debug)]
struct Half {
    x_shift: u32,
    x_bits: u32,
    y_shift: u32,
    y_bits: u32,
    /// Weights of differences, for each set of factors.
    weights: Slot,
    sets: u64,
}

/// Items that are inserted.
#[derive(Clone)]
struct Items {
    codes: Slot,
    rows: Slot,
    source: Source,
    lists: Range<u64>,
    first_row: u64,
    /// Tables of a list.
    share: u64,
}

/// Those who read tables, and their own rows where products with those are asked for.
#[derive(Clone)]
struct Readers {
    codes: Slot,
    lists: Range<u64>,
    readers: u64,
    span: u64,
}

/// One walk over the chunks of a batch.
struct Walk {
    items: Items,
    readers: Readers,
    half: Half,
    table: Slot,
    /// Where the batch's first table is in the slot, counted in tables.
    first_slot: u64,
    order: Slot,
    reverse: bool,
}

/// Temporaries of gradients.
#[derive(Clone, Copy)]
struct Products {
    slot: Slot,
    betas: Slot,
    out: Slot,
}

impl Call<'_> {
    fn chunk(&self) -> u64 {
        let chunk = self.options.chunk(self.caps.class) as u64;
        chunk.min(self.keys().max(1))
    }

    /// What the causal form may not exceed on a device whose loops end early: a reader looks at half of the bits' rows and at a
    /// chunk, for each of its columns and tables.
    fn check_rows(&self, span: u64) -> Result<()> {
        let bits = self.options.bits as u64;
        let rows = (1 << (bits - bits / 2)) + self.chunk() + 2;
        let turns = span * rows * self.width().div_ceil(128);
        if turns > self.caps.loop_iterations {
            return Err(Error::Limit {
                what: "rows of tables that one token reads".into(),
                needed: turns,
                available: self.caps.loop_iterations,
                remedy: "use fewer heads for each head of keys, or a smaller chunk",
            });
        }
        Ok(())
    }

    /// The chunks, first to last.
    fn chunks(&self) -> Vec<Range<u64>> {
        let (keys, chunk) = (self.keys(), self.chunk());
        (0..keys)
            .step_by(chunk as usize)
            .map(|from| from..keys.min(from + chunk))
            .collect()
    }

    /// The form whose table is transformed along the high bits, or along the low ones.
    fn half(&mut self, high: bool, tables: u64) -> Half {
        let bits = self.options.bits as u32;
        let low_bits = bits / 2;
        let (low, rest) = ((0, low_bits), (low_bits, bits - low_bits));
        let ((x_shift, x_bits), (y_shift, y_bits)) = if high { (rest, low) } else { (low, rest) };
        let sets = self.sets(tables);
        let mut table = Vec::new();
        for betas in self.betas(tables) {
            for (shift, bits) in [(x_shift, x_bits), (y_shift, y_bits)] {
                let part = betas.iter().skip(shift as usize).take(bits as usize);
                let part: Vec<f64> = part.copied().collect();
                table.extend(words(weights(&part)));
            }
        }
        Half {
            x_shift,
            x_bits,
            y_shift,
            y_bits,
            weights: self.builder.add_table(table),
            sets,
        }
    }

    pub(super) fn causal(&mut self, kept: Kept) -> Result<String> {
        let value = self.shape.value as u64;
        let (keys, chunk) = (self.keys(), self.chunk());
        let tables = self.share * self.table_len();
        let all_tables = self.shape.state_len(self.options) as u64;
        let initial = match kept {
            Kept::Scratch { initial } | Kept::Output { initial } => initial,
            Kept::InPlace => false,
        };
        let label = format!("half tables of 2^{}, chunks of {chunk}", self.options.bits);
        // Without a state every batch starts from nothing in the same temporary.
        let fresh = kept == (Kept::Scratch { initial: false });
        let home = match kept {
            Kept::Scratch { initial: true } => self.scratch(all_tables),
            _ => Slot::Output(1),
        };
        if kept != Kept::InPlace && !fresh && all_tables > 0 {
            let len = self.table_len();
            if initial {
                let (from, rows) = (Slot::Input(3), all_tables / len);
                Copies {
                    from,
                    to: home,
                    rows,
                    words: len,
                    from_stride: len,
                    to_stride: len,
                    repeat: 1,
                }
                .step(&mut self.builder, self.caps);
            } else {
                self.zero(home, all_tables);
            }
        }
        if self.shape.query_len() == 0 {
            return Ok(label);
        }
        self.check_rows(1)?;
        let sums = self.group * chunk * self.width();
        let scratch = [keys, sums, if fresh { tables } else { 4 }];
        let bound = [keys * value, self.group * keys * value, tables];
        let batches = self.batches(&bound, &scratch)?;
        let most = batches.first().map_or(0, count);
        let half = self.half(true, self.share);
        let [order, sums, own] = scratch.map(|words| self.scratch(most * words));
        for lists in &batches {
            let walk = Walk {
                items: Items {
                    codes: Slot::Input(1),
                    rows: Slot::Input(2),
                    source: Source::Values,
                    lists: lists.clone(),
                    first_row: 0,
                    share: self.share,
                },
                readers: self.key_readers(lists),
                half,
                table: if fresh { own } else { home },
                first_slot: if fresh { 0 } else { lists.start * self.share },
                order,
                reverse: false,
            };
            if fresh {
                self.zero(own, count(lists) * tables);
            }
            self.order(&walk);
            let chunks = self.chunks();
            for (n, tokens) in chunks.iter().enumerate() {
                self.query(&walk, tokens, Into::Chunk, (sums, 0));
                self.divide(&walk.readers.lists, tokens, sums);
                if !fresh || n + 1 < chunks.len() {
                    self.insert(&walk, tokens);
                }
            }
        }
        Ok(label)
    }

    /// The queries of some lists of keys.
    fn key_readers(&self, lists: &Range<u64>) -> Readers {
        Readers {
            codes: Slot::Input(0),
            lists: Self::times(lists, self.group),
            readers: self.group / self.share,
            span: 1,
        }
    }

    /// Four walks, two with each half: the queries' terms and gradients from first to last with keys in the tables, then those of
    /// keys and values from last to first with the queries' terms in tables of their own.
    pub(super) fn causal_gradients(&mut self) -> Result<String> {
        let (keys, chunk, group) = (self.keys(), self.chunk(), self.group);
        let bits = self.options.bits as u64;
        let label = format!("half tables of 2^{bits}, chunks of {chunk}");
        if self.shape.query_len() == 0 {
            return Ok(label);
        }
        self.check_rows(group)?;
        let value = self.shape.value as u64;
        let low_bits = bits / 2;
        let widest = (1 << (bits - low_bits)) + chunk;
        let scratch = [
            group * keys,
            group * keys * self.width(),
            group * self.table_len(),
            group * chunk * widest,
        ];
        let bound = [keys * value, group * keys * value];
        let batches = self.batches(&bound, &scratch)?;
        let most = batches.first().map_or(0, count);
        let [order, rows, table, products] = scratch.map(|words| self.scratch(most * words));
        let forward = [true, false].map(|high| self.half(high, self.share));
        let back = [true, false].map(|high| self.half(high, group));
        let [betas, back_betas] = [self.share, group].map(|tables| {
            let betas = words(self.betas(tables).into_iter().flatten());
            self.builder.add_table(betas)
        });
        let of_queries = Products {
            slot: products,
            betas,
            out: Slot::Output(0),
        };
        let of_keys = Products {
            slot: products,
            betas: back_betas,
            out: Slot::Output(1),
        };
        for lists in &batches {
            let queries = Self::times(lists, group);
            for (half, first) in forward.into_iter().zip([true, false]) {
                let walk = Walk {
                    items: Items {
                        codes: Slot::Input(1),
                        rows: Slot::Input(2),
                        source: Source::Values,
                        lists: lists.clone(),
                        first_row: 0,
                        share: self.share,
                    },
                    readers: self.key_readers(lists),
                    half,
                    table,
                    first_slot: 0,
                    order,
                    reverse: false,
                };
                self.zero(table, count(lists) * self.share * self.table_len());
                self.order(&walk);
                for tokens in self.chunks() {
                    if first {
                        self.query(&walk, &tokens, Into::Sums, (rows, queries.start));
                        self.terms(&queries, tokens.clone(), rows, queries.start);
                    }
                    let own = (Source::Terms, rows, queries.start);
                    self.half_slopes(&walk, &tokens, own, of_queries);
                    self.insert(&walk, &tokens);
                }
            }
            for (half, first) in back.into_iter().zip([true, false]) {
                let walk = Walk {
                    items: Items {
                        codes: Slot::Input(0),
                        rows,
                        source: Source::Terms,
                        lists: queries.clone(),
                        first_row: queries.start,
                        share: 1,
                    },
                    readers: Readers {
                        codes: Slot::Input(1),
                        lists: lists.clone(),
                        readers: 1,
                        span: group,
                    },
                    half,
                    table,
                    first_slot: 0,
                    order,
                    reverse: true,
                };
                self.zero(table, count(&queries) * self.table_len());
                self.order(&walk);
                for tokens in self.chunks().into_iter().rev() {
                    if first {
                        self.query(&walk, &tokens, Into::Values, (Slot::Output(2), 0));
                    }
                    let own = (Source::Values, Slot::Input(2), 0);
                    self.half_slopes(&walk, &tokens, own, of_keys);
                    self.insert(&walk, &tokens);
                }
            }
        }
        Ok(label)
    }
}
