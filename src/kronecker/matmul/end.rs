//! Where passes read and write, and how that is bound.

use std::ops::Range;

use super::shape::{Place, Strides};
use crate::{
    gpu::{Caps, Dtype},
    plan::{ALIGN, Bind, Slot},
};

/// Where a pass reads or writes: items of a slot, `first` being the one that the pass counts as 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct End {
    pub slot: Slot,
    pub dtype: Dtype,
    pub place: Place,
    pub first: u64,
}

impl End {
    /// Items in f32, one after another.
    pub fn dense(slot: Slot, first: u64, slab: u64) -> End {
        let width = slab as usize;
        let strides = Strides {
            row: width,
            batch: width,
        };
        End {
            slot,
            dtype: Dtype::F32,
            place: Place {
                batch: 1,
                rows: 1,
                width,
                strides,
                dense: true,
            },
            first,
        }
    }

    /// The elements of a range of items, counted from the end's first.
    fn elements(&self, items: &Range<u64>) -> Range<u64> {
        let items = items.start + self.first..items.end + self.first;
        if self.place.dense {
            return items;
        }
        let Place { rows, width, .. } = self.place;
        let (rows, width) = (rows as u64, width as u64);
        let (row, batch) = (
            self.place.strides.row as u64,
            self.place.strides.batch as u64,
        );
        let (from, to) = (items.start / width, (items.end - 1) / width);
        let (low, high) = if from / rows == to / rows {
            (from % rows, to % rows)
        } else {
            (0, rows - 1)
        };
        from / rows * batch + low * row..to / rows * batch + high * row + width
    }

    fn bytes(&self, items: &Range<u64>) -> Range<u64> {
        let elements = self.elements(items);
        let size = self.dtype.bytes();
        elements.start * size / ALIGN * ALIGN..(elements.end * size).next_multiple_of(4)
    }

    /// The binding of some items, and the offset for indices of elements.
    pub fn bind(&self, items: &Range<u64>, write: bool) -> (Bind, u32) {
        let bytes = self.bytes(items);
        let start = bytes.start / self.dtype.bytes();
        // Of rows one after another, items are elements.
        let first = if self.place.dense { self.first } else { 0 };
        let slot = self.slot;
        (
            Bind { slot, bytes, write },
            first.wrapping_sub(start) as u32,
        )
    }

    pub fn fits(&self, items: &Range<u64>, caps: &Caps) -> bool {
        let bytes = self.bytes(items);
        bytes.end - bytes.start <= caps.binding_bytes
    }
}

/// Halves a range until its parts fit.
pub(super) fn cut(
    range: Range<u64>,
    fits: &impl Fn(&Range<u64>) -> bool,
) -> Option<Vec<Range<u64>>> {
    if fits(&range) {
        return Some(vec![range]);
    }
    let middle = range.start + (range.end - range.start) / 2;
    if middle == range.start {
        return None;
    }
    let mut parts = cut(range.start..middle, fits)?;
    parts.extend(cut(middle..range.end, fits)?);
    Some(parts)
}
