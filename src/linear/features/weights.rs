//! The steps of maps with weights: projections, the normalisation of `rebased`, and the gradients of their weights.

use std::ops::Range;

use bytemuck::bytes_of;

use super::{
    kernels,
    steps::{Mapping, ParamGrads},
};
use crate::{
    Result,
    linear::{Layout, rows::Io, window::STEP_MS},
    plan::{Bind, Builder, Step},
    rows::{Rows, Sum, cut},
};

/// Rows that one dispatch of a kernel with weights covers, by heads.
struct SetRows {
    rows: Range<u64>,
    heads: u64,
    first_set: u64,
    span: u64,
    stride: u64,
    step: u64,
}

impl SetRows {
    /// Rows of each head.
    fn count(&self) -> u64 {
        (self.rows.end - self.rows.start) / self.heads
    }
}

impl Mapping<'_> {
    /// Bindings of the weights and the bias, of which each set has so many elements.
    fn weight_binds(&self, weight: u64, bias: u64) -> impl Iterator<Item = Bind> {
        let sets = self.sets as u64;
        let given = [(self.weight, weight), (self.bias, bias)].into_iter();
        given.filter_map(move |(slot, each)| {
            Some(Bind {
                slot: slot?,
                bytes: 0..4 * sets * each,
                write: false,
            })
        })
    }

    /// Adds y = γ (x − mean) (var + 1e-5)^(-1/2) + β' of every row.
    pub(super) fn rescale(&self, builder: &mut Builder, x: Rows, y: Rows) -> Result<()> {
        let key = self.shape.key;
        let io = self.io(x, y, key.is_multiple_of(4));
        let kernel = kernels::rescale(key, io, self.bias.is_some());
        let flops = (40 * key) as f64;
        let fits = |rows: &Range<u64>| self.fits(rows, &[x, y]);
        for rows in self.cut(1, flops, &fits)? {
            let (x_bind, x_offset) = x.bind(&rows, false);
            let (y_bind, y_offset) = y.bind(&rows, true);
            let count = rows.end - rows.start;
            let params = kernels::RescaleParams {
                first_row: rows.start as u32,
                rows: count as u32,
                key: key as u32,
                span: self.shape.span() as u32,
                sets: self.sets as u32,
                x_offset,
                y_offset,
            };
            let weights = self.weight_binds(key as u64, key as u64);
            builder.steps.push(Step {
                kernel: kernel.clone(),
                bind: [x_bind, y_bind].into_iter().chain(weights).collect(),
                params: bytes_of(&params).to_vec(),
                groups: count.div_ceil(u64::from(64 / kernels::lanes(key))),
                predicted_ms: self.ms(count, flops),
            });
        }
        Ok(())
    }

    /// Adds the adjoint of [`Mapping::rescale`], and the products that γ's gradient sums.
    pub(super) fn rescale_adjoint(
        &self,
        builder: &mut Builder,
        x: Rows,
        dy: Rows,
        dx: Rows,
        scaled: Rows,
    ) -> Result<()> {
        let key = self.shape.key;
        let whole = key.is_multiple_of(4);
        let into = self.unpacked(builder, dx, whole);
        let kernel = kernels::rescale_adjoint(key, self.io(x, into, whole));
        let flops = (60 * key) as f64;
        let fits = |rows: &Range<u64>| self.fits(rows, &[x, dy, into]);
        for rows in self.cut(1, flops, &fits)? {
            let (x_bind, x_offset) = x.bind(&rows, false);
            let (dy_bind, dy_offset) = dy.bind(&rows, false);
            let (dx_bind, dx_offset) = into.bind(&rows, true);
            let (scaled_bind, _) = scaled.bind(&rows, true);
            let count = rows.end - rows.start;
            let params = kernels::RescaleAdjointParams {
                first_row: rows.start as u32,
                rows: count as u32,
                key: key as u32,
                span: self.shape.span() as u32,
                sets: self.sets as u32,
                x_offset,
                dy_offset,
                dx_offset,
            };
            let gamma = self.weight_binds(key as u64, 0).take(1);
            builder.steps.push(Step {
                kernel: kernel.clone(),
                bind: [x_bind, dy_bind]
                    .into_iter()
                    .chain(gamma)
                    .chain([dx_bind, scaled_bind])
                    .collect(),
                params: bytes_of(&params).to_vec(),
                groups: count.div_ceil(u64::from(64 / kernels::lanes(key))),
                predicted_ms: self.ms(count, flops),
            });
        }
        self.pack(builder, into, dx);
        Ok(())
    }

    /// Rows cut into dispatches of a kernel with weights.
    fn set_rows(&self, flops: f64, fits: &impl Fn(&Range<u64>) -> bool) -> Result<Vec<SetRows>> {
        let (heads, tokens) = (self.shape.heads as u64, self.shape.tokens as u64);
        let all = 0..self.shape.rows() as u64;
        let one = |rows: Range<u64>, first_set: u64| SetRows {
            span: rows.end - rows.start,
            rows,
            heads: 1,
            first_set,
            stride: 0,
            step: 0,
        };
        if self.sets == 1 {
            return Ok(self
                .cut(1, flops, fits)?
                .into_iter()
                .map(|rows| one(rows, 0))
                .collect());
        }
        if self.shape.layout == Layout::Bthd {
            let windows = self
                .cut(heads, flops, fits)?
                .into_iter()
                .map(|rows| SetRows {
                    rows,
                    heads,
                    first_set: 0,
                    span: 1,
                    stride: heads,
                    step: 1,
                });
            return Ok(windows.collect());
        }
        if fits(&all) && self.ms(all.end, flops) <= STEP_MS {
            return Ok(vec![SetRows {
                rows: all,
                heads,
                first_set: 0,
                span: tokens,
                stride: heads * tokens,
                step: tokens,
            }]);
        }
        let mut windows = Vec::new();
        for unit in 0..all.end / tokens {
            let rows = unit * tokens..(unit + 1) * tokens;
            let rows = cut(rows, 1, self.ms(1, flops), fits)?;
            windows.extend(rows.into_iter().map(|rows| one(rows, unit % heads)));
        }
        Ok(windows)
    }

    /// Operations of a projection of a row; the kernel's tiles are 64 wide.
    fn project_flops(&self) -> f64 {
        let side = self.shape.key.next_multiple_of(64) as f64;
        2.0 * side * side
    }

    /// Adds y = Wx + b of every row, or y = Wᵀx.
    pub(super) fn project(
        &self,
        builder: &mut Builder,
        x: Rows,
        y: Rows,
        transposed: bool,
    ) -> Result<()> {
        let key = self.shape.key as u64;
        let whole = key.is_multiple_of(4);
        let into = self.unpacked(builder, y, whole);
        let io = self.io(x, into, whole);
        let bias = self.bias.filter(|_| !transposed);
        let kernel = kernels::project(io, transposed, bias.is_some());
        let flops = self.project_flops();
        let fits = |rows: &Range<u64>| self.fits(rows, &[x, into]);
        for window in self.set_rows(flops, &fits)? {
            let (x_bind, x_offset) = x.bind(&window.rows, false);
            let (y_bind, y_offset) = into.bind(&window.rows, true);
            let tiles = window.count().div_ceil(64);
            let groups = window.heads * tiles * key.div_ceil(64);
            let params = kernels::ProjectParams {
                first_row: window.rows.start as u32,
                rows: window.count() as u32,
                key: key as u32,
                first_set: window.first_set as u32,
                span: window.span as u32,
                stride: window.stride as u32,
                step: window.step as u32,
                tiles: tiles as u32,
                groups: groups as u32,
                x_offset,
                y_offset,
            };
            let bias = usize::from(bias.is_some());
            let weights = self.weight_binds(key * key, key).take(1 + bias);
            builder.steps.push(Step {
                kernel: kernel.clone(),
                bind: [x_bind, y_bind].into_iter().chain(weights).collect(),
                params: bytes_of(&params).to_vec(),
                groups,
                predicted_ms: self.ms(window.rows.end - window.rows.start, flops),
            });
        }
        self.pack(builder, into, y);
        Ok(())
    }

    /// Adds the gradients of the projection's weights from those of its result.
    pub(super) fn weight_sums(
        &self,
        builder: &mut Builder,
        x: Rows,
        dy: Rows,
        params: ParamGrads,
    ) -> Result<()> {
        if params.weight.is_none() && params.bias.is_none() {
            return Ok(());
        }
        let (key, sets) = (self.shape.key as u64, self.sets as u64);
        let flops = self.project_flops();
        let fits = |rows: &Range<u64>| self.fits(rows, &[x, dy]);
        let windows = self.set_rows(flops, &fits)?;
        // Segments enough to fill the device, none longer than an invocation may walk: a slab of 32 rows takes 72 turns.
        let tiles = key.div_ceil(64).pow(2);
        let rows = self.shape.rows() as u64 / sets;
        let wanted = (2 * u64::from(self.caps.fill)).div_ceil(sets * tiles);
        let most = (self.caps.loop_iterations / 72).max(1).saturating_mul(32);
        let segment_rows = rows
            .div_ceil(wanted)
            .max(256)
            .next_multiple_of(32)
            .min(most);
        let segments = |window: &SetRows| window.count().div_ceil(segment_rows);
        let first_set = |window: &&SetRows| window.first_set == 0;
        let set_segments: u64 = windows.iter().filter(first_set).map(segments).sum();
        let block = key * (key + 1);
        let bytes = 4 * sets * set_segments * block;
        let sums = builder.add_scratch(bytes);
        let kernel = kernels::outer_sums(Io {
            wide: false,
            ..self.io(x, dy, false)
        });
        let mut done = vec![0; self.sets];
        for window in &windows {
            let (x_bind, x_offset) = x.bind(&window.rows, false);
            let (dy_bind, dy_offset) = dy.bind(&window.rows, false);
            let first = window.first_set as usize..(window.first_set + window.heads) as usize;
            let mine = done.get_mut(first).unwrap_or_default();
            let first_segment = mine.first().copied().unwrap_or(0);
            mine.iter_mut().for_each(|n| *n += segments(window));
            let groups = window.heads * segments(window) * tiles;
            let params = kernels::OuterSumsParams {
                first_row: window.rows.start as u32,
                rows: window.count() as u32,
                key: key as u32,
                first_set: window.first_set as u32,
                span: window.span as u32,
                stride: window.stride as u32,
                step: window.step as u32,
                segments: segments(window) as u32,
                segment_rows: segment_rows as u32,
                first_segment: first_segment as u32,
                set_segments: set_segments as u32,
                groups: groups as u32,
                x_offset,
                dy_offset,
            };
            let sums_bind = Bind {
                slot: sums,
                bytes: 0..bytes,
                write: true,
            };
            builder.steps.push(Step {
                kernel: kernel.clone(),
                bind: vec![x_bind, dy_bind, sums_bind],
                params: bytes_of(&params).to_vec(),
                groups,
                predicted_ms: self.ms(window.rows.end - window.rows.start, flops),
            });
        }
        let sum = Sum {
            sums,
            sets,
            parts: set_segments,
            block,
            accumulate: params.accumulate,
        };
        if let Some(weight) = params.weight {
            sum.step(builder, self.caps, 0..key * key, weight);
        }
        if let Some(bias) = params.bias {
            sum.step(builder, self.caps, key * key..block, bias);
        }
        Ok(())
    }

    /// Gradients of weights that no row meets are zero.
    pub(super) fn no_rows(&self, builder: &mut Builder, params: ParamGrads) -> Result<()> {
        if params.accumulate {
            return Ok(());
        }
        let (key, sets) = (self.shape.key as u64, self.sets as u64);
        let each = self.map.weight_len(self.shape.key).unwrap_or(0) as u64;
        for (slot, count) in [(params.weight, each), (params.bias, key)] {
            if let Some(slot) = slot {
                let sum = Sum {
                    sums: builder.add_scratch(16),
                    sets,
                    parts: 0,
                    block: 0,
                    accumulate: false,
                };
                sum.step(builder, self.caps, 0..count, slot);
            }
        }
        Ok(())
    }
}
