//! What planners of kernels that walk rows share: rows in memory, how kernels read and write them, cutting and sums of
//! partial sums.

use std::{ops::Range, sync::Arc};

use bytemuck::bytes_of;

use crate::{
    Error, Result,
    elements::Access,
    gpu::{Caps, Dtype, Kernel, Needs, Part, Spec, params, part},
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

/// Rows in memory, `stride` elements apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rows {
    pub slot: Slot,
    pub dtype: Dtype,
    pub stride: usize,
}

impl Rows {
    /// The bytes of some rows, from an aligned start.
    pub fn span(&self, rows: &Range<u64>) -> Range<u64> {
        let row_bytes = self.stride as u64 * self.dtype.bytes();
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

/// How a kernel reads x and writes its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Io {
    /// Storage type of what is written, and of x unless that is wide.
    pub dtype: Dtype,
    /// Whether shaders have that type natively.
    pub native: bool,
    /// Whether rows of x are whole vectors.
    pub vectors: bool,
    /// Whether x is f32 whatever the storage type.
    pub wide: bool,
    pub put: Put,
}

/// How a kernel writes rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Put {
    /// Whole vectors of f32, padding included.
    Wide,
    /// Whole vectors of the storage type.
    Typed,
    /// Elements, as f32.
    Single,
}

impl Put {
    fn part(self) -> Part {
        match self {
            Put::Wide => part!("linear/put_wide.wgsl"),
            Put::Typed => part!("linear/put_typed.wgsl"),
            Put::Single => part!("linear/put_single.wgsl"),
        }
    }
}

impl Io {
    fn access(self) -> Access {
        // Where nothing is read or written in the storage type, one variant serves all.
        let untyped = self.wide && self.put != Put::Typed;
        Access {
            dtype: if untyped { Dtype::F32 } else { self.dtype },
            native: self.native,
            vectors: self.vectors,
        }
    }

    pub fn kernel(
        self,
        name: &'static str,
        parts: impl IntoIterator<Item = Part>,
        put: Option<Put>,
    ) -> Kernel {
        let x = if self.wide {
            part!("linear/x_wide.wgsl")
        } else {
            part!("linear/x_stored.wgsl")
        };
        let access = self.access();
        Kernel {
            name,
            parts: parts
                .into_iter()
                .chain([x, part!("common/grid.wgsl")])
                .chain(access.parts())
                .chain(put.map(Put::part))
                .collect(),
            spec: Spec::default(),
            needs: access.needs(),
            params: &[],
            workgroup: [64, 1, 1],
            workgroup_bytes: 0,
        }
    }
}

/// Halves a range at multiples of `unit` until its parts fit, and are quick where they have more than one unit.
pub(super) fn cut(
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

/// Partial sums `[sets, parts, block]` in f32.
pub(super) struct Sum {
    pub sums: Slot,
    pub sets: u64,
    pub parts: u64,
    pub block: u64,
    /// Whether the totals are added to what is there.
    pub accumulate: bool,
}

impl Sum {
    /// Adds the steps that sum some elements of every block over the parts, in order, into `[sets, elements]`: one set is cut
    /// by elements, several between sets, at aligned offsets.
    pub fn step(&self, builder: &mut Builder, caps: &Caps, elements: Range<u64>, into: Slot) {
        let count = elements.end - elements.start;
        let own = self.parts * self.block;
        let (len, words, unit) = match self.sets {
            1 => (count, [0, 1], 64),
            sets => {
                let aligned =
                    |n: &u64| (n * own).is_multiple_of(64) && (n * count).is_multiple_of(64);
                let mut units = [1, 2, 4, 8, 16, 32].into_iter();
                (sets, [own, count], units.find(aligned).unwrap_or(64))
            }
        };
        let ms = |sums: u64| (sums * self.parts) as f64 * 16.0 / (caps.gflops * 1e6);
        let most = (STEP_MS / ms(words[1] * unit)).clamp(1.0, f64::from(u32::MAX)) as u64 * unit;
        for at in (0..len).step_by(most as usize) {
            let n = most.min(len - at);
            let [sets, first, count] = match self.sets {
                1 => [1, elements.start + at, n],
                _ => [n, elements.start, count],
            };
            let params = SumPartsParams {
                sets: sets as u32,
                parts: self.parts as u32,
                block: self.block as u32,
                first: first as u32,
                count: count as u32,
                accumulate: self.accumulate.into(),
            };
            let binds = [
                (self.sums, at * words[0], sets * own, false),
                (into, at * words[1], sets * count, true),
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
                groups: (sets * count).div_ceil(64),
                predicted_ms: ms(sets * count),
            });
        }
    }
}

fn sum_parts() -> Arc<Kernel> {
    Arc::new(Kernel {
        name: "linear/sum_parts",
        parts: vec![part!("linear/sum_parts.wgsl"), part!("common/grid.wgsl")],
        spec: Spec::default(),
        needs: Needs::default(),
        params: SumPartsParams::FIELDS,
        workgroup: [64, 1, 1],
        workgroup_bytes: 0,
    })
}
