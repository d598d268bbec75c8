//! Narrowing a result.

use std::ops::Range;

use bytemuck::bytes_of;

use super::{
    end::{End, cut},
    kernels::{self, StoreParams},
    shape::Place,
};
use crate::{
    Result,
    gpu::{Caps, Dtype},
    plan::{Builder, Slot, Step},
    rows::dispatches,
};

/// A result in f32 to a 16-bit z.
pub(super) struct StoreStep {
    pub y: End,
    pub z: Slot,
    pub dtype: Dtype,
    pub place: Place,
    /// Which items of z.
    pub elements: Range<u64>,
    pub beta: f32,
}

impl StoreStep {
    /// An invocation owns a word; of one that it does not fill it keeps the rest.
    pub fn steps(&self, builder: &mut Builder, caps: &Caps) -> Result<()> {
        let Range { start, end } = self.elements;
        let (width, rows) = if self.place.dense {
            (end, 1)
        } else {
            (self.place.width as u64, self.place.rows as u64)
        };
        let words = width.div_ceil(2);
        let word_of = |item: u64| item / width * words + item % width / 2;
        let all = word_of(start)..word_of(end - 1) + 1;
        let items = |range: &Range<u64>| {
            let item_of = |word: u64| word / words * width + (2 * (word % words)).min(width);
            item_of(range.start).max(start)..(item_of(range.end - 1) + 2).min(end)
        };
        let z = End {
            slot: self.z,
            dtype: self.dtype,
            place: self.place,
            first: 0,
        };
        let own = |range: &Range<u64>| range.start - start..range.end - start;
        let fits = |words: &Range<u64>| {
            let items = items(words);
            z.fits(&items, caps) && self.y.fits(&own(&items), caps)
        };
        let parts = cut(all, &fits).unwrap_or_default();
        let kernel = kernels::store(self.dtype);
        let group_ms = 64.0 * 32.0 / (caps.gflops * 1e6);
        for words_of_part in parts {
            let part_items = items(&words_of_part);
            let (y, y_offset) = self.y.bind(&own(&part_items), false);
            let (z, z_offset) = z.bind(&part_items, true);
            let count = words_of_part.end - words_of_part.start;
            for groups in dispatches(0..count.div_ceil(64), group_ms, caps) {
                let params = StoreParams {
                    width: width as u32,
                    words: words as u32,
                    first: words_of_part.start as u32,
                    first_group: groups.start as u32,
                    groups: (groups.end - groups.start) as u32,
                    count: count as u32,
                    items_start: start as u32,
                    items_end: end as u32,
                    y_offset: y_offset.wrapping_sub(start as u32),
                    z_offset,
                    z_rows: rows as u32,
                    z_row: self.place.strides.row as u32,
                    z_batch: self.place.strides.batch as u32,
                    beta: self.beta,
                };
                builder.steps.push(Step {
                    kernel: kernel.clone(),
                    bind: vec![y.clone(), z.clone()],
                    params: bytes_of(&params).to_vec(),
                    groups: groups.end - groups.start,
                    predicted_ms: group_ms * (groups.end - groups.start) as f64,
                });
            }
        }
        Ok(())
    }
}
