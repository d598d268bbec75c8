//! Cutting pairs into dispatches. Pure.

use std::{ops::Range, sync::Arc};

use bytemuck::bytes_of;

use super::{Count, Pairs, Store, Triangle};
use crate::{
    Error, Result,
    gpu::{Caps, Dtype, Kernel, Part, params, part},
    hamming::{
        bits::{last_mask, words},
        tile::Tile,
    },
    plan::{ALIGN, Bind, Builder, Plan, Slot, Step, Work},
    rows::{Rows, cut, dispatches},
};

params! {
    /// Parameters of `distance`.
    DistanceParams {
        a_offset: u32,
        b_offset: u32,
        a_len: u32,
        b_len: u32,
        words: u32,
        last: u32,
        across: u32,
        tile_begin: u32,
        tile_end: u32,
        tiles: u32,
        first: u32,
        groups: u32,
        out_offset: u32,
        out_stride: u32,
        a_counts_offset: u32,
        b_counts_offset: u32,
    }
}

/// The planner of a kernel over tiles of pairs.
pub(in crate::hamming) struct Planner<'a> {
    shape: &'a Pairs,
    caps: &'a Caps,
    tile: Tile,
    kernel: Arc<Kernel>,
    group_ms: f64,
    /// Ones of each code of a and of b, where the kernel asks for them.
    pub counts: Option<[Slot; 2]>,
}

impl<'a> Planner<'a> {
    pub fn new(
        shape: &'a Pairs,
        count: Count,
        emit: &[Part],
        folded: bool,
        tile: Tile,
        caps: &'a Caps,
    ) -> Planner<'a> {
        let kernel = Kernel {
            name: "hamming/distance",
            parts: [part!("hamming/distance.wgsl"), part!("common/grid.wgsl")]
                .into_iter()
                .chain(tile.parts(count))
                .chain(emit.iter().copied())
                .collect(),
            spec: tile.spec(count).with("FOLDED", folded),
            needs: tile.needs(),
            params: DistanceParams::FIELDS,
            workgroup: [tile.lanes(), 1, 1],
            workgroup_bytes: tile.workgroup_bytes(),
        };
        // A word of a pair is taken for eight operations: loads, and a count that not every device has in hardware.
        let operations = 8.0 * (words(shape.bits) + 2) as f64;
        let pairs = f64::from(tile.side).powi(2);
        Planner {
            shape,
            caps,
            tile,
            kernel: Arc::new(kernel),
            group_ms: pairs * operations / (caps.gflops * 1e6),
            counts: None,
        }
    }

    pub fn finish(
        &self,
        op: &'static str,
        mut builder: Builder,
        out_words: u64,
        work: Work,
    ) -> Result<Plan> {
        let out_bytes = 4 * out_words;
        if out_bytes > self.caps.buffer_bytes {
            return Err(Error::Limit {
                what: "bytes of the result".into(),
                needed: out_bytes,
                available: self.caps.buffer_bytes,
                remedy: "compute the distances of some rows at a time",
            });
        }
        if builder.steps.is_empty() {
            builder.scratch.clear();
        }
        let plan = builder.plan(op, self.tile.label(), work);
        plan.check(self.caps)?;
        Ok(plan)
    }

    fn codes(&self, slot: Slot) -> Rows {
        Rows {
            slot,
            dtype: Dtype::U32,
            stride: words(self.shape.bits),
        }
    }

    /// Codes that one binding takes, in whole tiles.
    fn codes_in_a_binding(&self) -> Result<u64> {
        self.whole_tiles(
            self.caps.binding_bytes.saturating_sub(ALIGN) / (4 * words(self.shape.bits) as u64),
        )
    }

    /// The largest whole number of tiles in so many codes.
    fn whole_tiles(&self, codes: u64) -> Result<u64> {
        let side = u64::from(self.tile.side);
        match codes / side {
            0 => Err(Error::Limit {
                what: format!(
                    "codes in one binding, for a tile of distances of {} bits,",
                    self.shape.bits
                ),
                needed: side,
                available: codes,
                remedy: "use a device with larger bindings",
            }),
            tiles => Ok(tiles * side),
        }
    }

    fn params(&self) -> DistanceParams {
        let bits = self.shape.bits;
        DistanceParams {
            words: words(bits) as u32,
            last: last_mask(bits),
            ..DistanceParams::default()
        }
    }

    /// Dispatches over tiles that have their bindings.
    fn push(&self, steps: &mut Vec<Step>, bind: &[Bind], groups: u64, params: DistanceParams) {
        for groups in dispatches(0..groups, self.group_ms, self.caps) {
            let len = groups.end - groups.start;
            let params = DistanceParams {
                first: groups.start as u32,
                groups: len as u32,
                ..params
            };
            steps.push(Step {
                kernel: self.kernel.clone(),
                bind: bind.to_vec(),
                params: bytes_of(&params).to_vec(),
                groups: len,
                predicted_ms: self.group_ms * len as f64,
            });
        }
    }

    /// All pairs, in stripes of columns and of rows that fit bindings.
    pub fn matrix(&self, store: Store, b: Slot) -> Result<Vec<Step>> {
        let (rows, columns) = (self.shape.rows as u64, self.shape.columns as u64);
        let side = u64::from(self.tile.side);
        let out_stride = store.row_words(self.shape.columns) as u64;
        let room = (self.caps.binding_bytes.saturating_sub(ALIGN) / 4).min(1 << 31);
        let codes = self.codes_in_a_binding()?;
        let across = self.whole_tiles(room)?.min(codes);
        let counts = |slot| Rows {
            slot,
            dtype: Dtype::U32,
            stride: 1,
        };
        let mut steps = Vec::new();
        for first_column in (0..columns).step_by(across as usize) {
            let stripe = first_column..columns.min(first_column + across);
            // Words of a row between the first and the last column.
            let width = store.row_words((stripe.end - stripe.start) as usize) as u64;
            let fit = 1 + (room - width) / out_stride;
            let down = if fit >= side { fit / side * side } else { fit }.min(codes);
            for first_row in (0..rows).step_by(down as usize) {
                let band = first_row..rows.min(first_row + down);
                let (a, a_offset) = self.codes(Slot::Input(0)).bind(&band, false);
                let (b, b_offset) = self.codes(b).bind(&stripe, false);
                let start = band.start * out_stride + store.row_words(stripe.start as usize) as u64;
                let end = (band.end - 1) * out_stride + store.row_words(stripe.end as usize) as u64;
                let (out, _) = counts(Slot::Output(0)).bind(&(start..end), true);
                let out_offset = (start - out.bytes.start / 4) as u32;
                let mut bind = vec![a, b, out];
                let mut counts_offsets = [0; 2];
                if let Some([of_a, of_b]) = self.counts {
                    let ((a, i), (b, j)) = (
                        counts(of_a).bind(&band, false),
                        counts(of_b).bind(&stripe, false),
                    );
                    counts_offsets = [
                        i.wrapping_add(band.start as u32),
                        j.wrapping_add(stripe.start as u32),
                    ];
                    bind.extend([a, b]);
                }
                let across = (stripe.end - stripe.start).div_ceil(side);
                let local = |offset: u32, codes: &Range<u64>| {
                    offset.wrapping_add(
                        (codes.start as u32).wrapping_mul(words(self.shape.bits) as u32),
                    )
                };
                let params = DistanceParams {
                    a_offset: local(a_offset, &band),
                    b_offset: local(b_offset, &stripe),
                    a_len: (band.end - band.start) as u32,
                    b_len: (stripe.end - stripe.start) as u32,
                    across: across as u32,
                    out_offset,
                    out_stride: out_stride as u32,
                    a_counts_offset: counts_offsets[0],
                    b_counts_offset: counts_offsets[1],
                    ..self.params()
                };
                let groups = across * (band.end - band.start).div_ceil(side);
                self.push(&mut steps, &bind, groups, params);
            }
        }
        Ok(steps)
    }

    /// The pairs above the diagonal, in bands of tile rows whose results fit a binding.
    pub fn triangle(&self, triangle: Triangle) -> Result<Vec<Step>> {
        let n = self.shape.rows as u64;
        let side = u64::from(self.tile.side);
        let tiles = n.div_ceil(side);
        if self.codes_in_a_binding()? < n {
            return Err(Error::Limit {
                what: "codes in one binding, for a set's distances to itself,".into(),
                needed: n,
                available: self.codes_in_a_binding()?,
                remedy: "compute the distances between parts of the set",
            });
        }
        // Words before row i.
        let before = |i: u64| match triangle {
            Triangle::Full => i.min(n) * n,
            Triangle::Condensed => i.min(n) * n - i.min(n) * (i.min(n) + 1) / 2,
        };
        let words_of = |tiles: &Range<u64>| before(tiles.start * side)..before(tiles.end * side);
        let fits = |tiles: &Range<u64>| {
            let words = words_of(tiles);
            words.end == words.start
                || 4 * (words.end - words.start) + ALIGN <= self.caps.binding_bytes
        };
        let bands = cut(0..tiles, 1, 0.0, &|band| {
            triangle == Triangle::Full || fits(band)
        })?;
        let mut steps = Vec::new();
        for band in bands {
            let span = words_of(&band);
            if span.is_empty() {
                continue;
            }
            let (codes, offset) = self.codes(Slot::Input(0)).bind(&(0..n), false);
            let start = 4 * span.start / ALIGN * ALIGN;
            let out = Bind {
                slot: Slot::Output(0),
                bytes: start..4 * span.end,
                write: true,
            };
            let across = 2 * tiles - band.start - band.end + 1;
            let params = DistanceParams {
                a_offset: offset,
                b_offset: offset,
                a_len: n as u32,
                b_len: n as u32,
                across: across as u32,
                tile_begin: band.start as u32,
                tile_end: band.end as u32,
                tiles: tiles as u32,
                out_offset: 0u64.wrapping_sub(start / 4) as u32,
                out_stride: n as u32,
                ..self.params()
            };
            let groups = across * (band.end - band.start).div_ceil(2);
            self.push(&mut steps, &[codes.clone(), codes, out], groups, params);
        }
        Ok(steps)
    }
}
