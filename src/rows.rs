//! What planners share: rows in memory, cutting them to bindings and to dispatches, filling and copying them, and sums of partial sums.

use std::{ops::Range, sync::Arc};

use bytemuck::bytes_of;

use crate::{
    Error, Result,
    gpu::{Caps, Dtype, Kernel, Needs, Spec, params, part},
    plan::{ALIGN, Bind, Builder, STEP_MS, Slot, Step},
};

params! {
    /// Parameters of `sum_parts`.
    SumPartsParams {
        sets: u32,
        parts: u32,
        block: u32,
        first: u32,
        count: u32,
        accumulate: u32,
    }
}

params! {
    /// Parameters of `copy`.
    CopyParams {
        rows: u32,
        words: u32,
        from_stride: u32,
        to_stride: u32,
        repeat: u32,
        groups: u32,
    }
}

params! {
    /// Parameters of `fill`.
    FillParams {
        words: u32,
        groups: u32,
        value: u32,
    }
}

/// Rows in memory, `stride` elements apart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rows {
    pub slot: Slot,
    pub dtype: Dtype,
    pub stride: usize,
}

impl Rows {
    /// From one row to the next.
    pub fn row_bytes(&self) -> u64 {
        self.stride as u64 * self.dtype.bytes()
    }

    /// The bytes of some rows, from an aligned start.
    pub fn span(&self, rows: &Range<u64>) -> Range<u64> {
        let row_bytes = self.row_bytes();
        rows.start * row_bytes / ALIGN * ALIGN..(rows.end * row_bytes).next_multiple_of(4)
    }

    /// Some rows, and the offset in elements for indices counted from row 0.
    pub fn bind(&self, rows: &Range<u64>, write: bool) -> (Bind, u32) {
        let bytes = self.span(rows);
        let offset = 0u64.wrapping_sub(bytes.start / self.dtype.bytes()) as u32;
        let slot = self.slot;
        (Bind { slot, bytes, write }, offset)
    }
}

/// Cuts a range of workgroups into dispatches that a device takes and that are quick.
pub(crate) fn dispatches(
    groups: Range<u64>,
    group_ms: f64,
    caps: &Caps,
) -> impl Iterator<Item = Range<u64>> + use<> {
    let per_dim = u64::from(caps.groups_per_dim);
    let most = ((STEP_MS / group_ms.max(1e-12)) as u64).clamp(1, per_dim * per_dim);
    let end = groups.end;
    groups
        .step_by(most as usize)
        .map(move |first| first..end.min(first + most))
}

/// Halves a range at multiples of `unit` until its parts fit, and are quick where they have more than one unit.
pub(crate) fn cut(
    rows: Range<u64>,
    unit: u64,
    row_ms: f64,
    fits: &impl Fn(&Range<u64>) -> bool,
) -> Result<Vec<Range<u64>>> {
    let len = rows.end - rows.start;
    if len == 0 {
        return Ok(Vec::new());
    }
    let fitting = fits(&rows);
    if fitting && (len <= unit || len as f64 * row_ms <= STEP_MS) {
        return Ok(vec![rows]);
    }
    if len <= unit {
        return Err(Error::Limit {
            what: "neighbouring rows in one binding".into(),
            needed: len,
            available: 0,
            remedy: "use the layout bthd, fewer heads or a device with larger bindings",
        });
    }
    let middle = rows.start + (len / 2).next_multiple_of(unit).min(len - 1);
    let mut parts = cut(rows.start..middle, unit, row_ms, fits)?;
    parts.extend(cut(middle..rows.end, unit, row_ms, fits)?);
    Ok(parts)
}

/// Fills words with a value; the first is a multiple of 64.
pub(crate) fn fill(builder: &mut Builder, caps: &Caps, to: Slot, words: Range<u64>, value: u32) {
    let word_ms = 16.0 / (caps.gflops * 1e6);
    let most = (caps.binding_bytes / 4)
        .min((STEP_MS / word_ms) as u64)
        .max(ALIGN)
        / ALIGN
        * ALIGN;
    let end = words.end;
    for first in words.step_by(most as usize) {
        let count = most.min(end - first);
        let params = FillParams {
            words: count as u32,
            groups: count.div_ceil(1024) as u32,
            value,
        };
        builder.steps.push(Step {
            kernel: fill_words(),
            bind: vec![Bind {
                slot: to,
                bytes: 4 * first..4 * (first + count),
                write: true,
            }],
            params: bytes_of(&params).to_vec(),
            groups: params.groups.into(),
            predicted_ms: count as f64 * word_ms,
        });
    }
}

/// Copies `rows` rows of so many words, at these distances; every row of the source goes to `repeat` rows.
pub(crate) struct Copies {
    pub from: Slot,
    pub to: Slot,
    pub rows: u64,
    pub words: u64,
    pub from_stride: u64,
    pub to_stride: u64,
    pub repeat: u64,
}

impl Copies {
    pub fn step(&self, builder: &mut Builder, caps: &Caps) {
        let Copies { words, repeat, .. } = *self;
        // Rows whose first words are aligned on both sides: a power of two of them, times `repeat`.
        let aligned = |stride: u64| 64 >> stride.trailing_zeros().min(6);
        let unit = repeat * aligned(self.from_stride).max(aligned(self.to_stride));
        let widest = 4 * self.from_stride.max(self.to_stride).max(1);
        let row_ms = 32.0 * words.max(1) as f64 / (caps.gflops * 1e6);
        let most = (caps.binding_bytes / widest).min((STEP_MS / row_ms) as u64);
        let most = (most / unit * unit).max(unit);
        for first in (0..self.rows).step_by(most as usize) {
            let count = most.min(self.rows - first);
            let params = CopyParams {
                rows: count as u32,
                words: words as u32,
                from_stride: self.from_stride as u32,
                to_stride: self.to_stride as u32,
                repeat: repeat as u32,
                groups: (count * words).div_ceil(1024) as u32,
            };
            let bind = |slot: Slot, first: u64, rows: u64, stride: u64, write: bool| Bind {
                slot,
                bytes: 4 * first * stride..4 * ((first + rows - 1) * stride + words),
                write,
            };
            let sources = count.div_ceil(repeat);
            builder.steps.push(Step {
                kernel: copy_words(),
                bind: vec![
                    bind(self.from, first / repeat, sources, self.from_stride, false),
                    bind(self.to, first, count, self.to_stride, true),
                ],
                params: bytes_of(&params).to_vec(),
                groups: params.groups.into(),
                predicted_ms: count as f64 * row_ms,
            });
        }
    }
}

/// Partial sums `[sets, parts, block]` in f32.
pub(crate) struct Sum {
    pub sums: Slot,
    pub sets: u64,
    pub parts: u64,
    pub block: u64,
    /// Whether the totals are added to what is there.
    pub accumulate: bool,
}

impl Sum {
    /// Adds the steps that sum some elements of every block over the parts, in order, into `[sets, elements]`, cut between sets at
    /// aligned offsets; one set, and those that take too long by themselves, are cut by elements.
    pub fn step(&self, builder: &mut Builder, caps: &Caps, elements: Range<u64>, into: Slot) {
        let count = elements.end - elements.start;
        let own = self.parts * self.block;
        let ms = |sums: u64| (sums * self.parts) as f64 * 16.0 / (caps.gflops * 1e6);
        let most = |each: u64, unit: u64| {
            (STEP_MS / ms(each * unit)).clamp(1.0, f64::from(u32::MAX)) as u64 * unit
        };
        let mut push = |sets: Range<u64>, cut: Range<u64>| {
            let (number, len) = (sets.end - sets.start, cut.end - cut.start);
            let params = SumPartsParams {
                sets: number as u32,
                parts: self.parts as u32,
                block: self.block as u32,
                first: (elements.start + cut.start) as u32,
                count: len as u32,
                accumulate: self.accumulate.into(),
            };
            let binds = [
                (self.sums, sets.start * own, number * own, false),
                (into, sets.start * count + cut.start, number * len, true),
            ];
            let bind = binds.map(|(slot, begin, len, write)| Bind {
                slot,
                bytes: 4 * begin..4 * (begin + len.max(1)),
                write,
            });
            builder.steps.push(Step {
                kernel: sum_parts(),
                bind: bind.into(),
                params: bytes_of(&params).to_vec(),
                groups: (number * len).div_ceil(64),
                predicted_ms: ms(number * len),
            });
        };
        let aligned = |n: &u64| (n * own).is_multiple_of(64) && (n * count).is_multiple_of(64);
        if self.sets == 1 || (aligned(&1) && ms(count) > STEP_MS) {
            let most = most(1, 64);
            for set in 0..self.sets {
                for at in (0..count).step_by(most as usize) {
                    push(set..set + 1, at..count.min(at + most));
                }
            }
            return;
        }
        let mut units = [1, 2, 4, 8, 16, 32].into_iter();
        let most = most(count, units.find(aligned).unwrap_or(64));
        for first in (0..self.sets).step_by(most as usize) {
            push(first..self.sets.min(first + most), 0..count);
        }
    }
}

fn sum_parts() -> Arc<Kernel> {
    Arc::new(Kernel {
        name: "common/sum_parts",
        parts: vec![part!("common/sum_parts.wgsl"), part!("common/grid.wgsl")],
        spec: Spec::default(),
        needs: Needs::default(),
        params: SumPartsParams::FIELDS,
        workgroup: [64, 1, 1],
        workgroup_bytes: 0,
    })
}

fn copy_words() -> Arc<Kernel> {
    Arc::new(Kernel {
        name: "common/copy",
        parts: vec![part!("common/copy.wgsl"), part!("common/grid.wgsl")],
        spec: Spec::default(),
        needs: Needs::default(),
        params: CopyParams::FIELDS,
        workgroup: [64, 1, 1],
        workgroup_bytes: 0,
    })
}

fn fill_words() -> Arc<Kernel> {
    Arc::new(Kernel {
        name: "common/fill",
        parts: vec![part!("common/fill.wgsl"), part!("common/grid.wgsl")],
        spec: Spec::default(),
        needs: Needs::default(),
        params: FillParams::FIELDS,
        workgroup: [64, 1, 1],
        workgroup_bytes: 0,
    })
}
