//! From a map to steps on a builder, for the maps' own calls and for operators that map queries and keys. Pure.

use std::{ops::Range, sync::Arc};

use bytemuck::bytes_of;

use super::{FeatureMap, FeatureShape, kernels};
use crate::{
    Error, Result,
    gpu::{Caps, Dtype, Kernel},
    linear::{
        Layout,
        kernels::{PackOutputParams, pack_output},
        window::{ALIGN, STEP_MS},
    },
    plan::{Bind, Builder, Slot, Step},
};
use kernels::{Io, Put};

#[cfg(test)]
mod tests;

/// A tensor that is mapped, and with what.
#[derive(Clone, Copy, Debug)]
pub(in crate::linear) struct Mapping<'a> {
    pub shape: &'a FeatureShape,
    pub map: FeatureMap,
    /// Sets of weights: one, or one a head.
    pub sets: usize,
    pub weight: Option<Slot>,
    pub bias: Option<Slot>,
    pub caps: &'a Caps,
}

/// Rows in memory, `stride` elements apart.
#[derive(Clone, Copy, Debug)]
pub(in crate::linear) struct Rows {
    pub slot: Slot,
    pub dtype: Dtype,
    pub stride: usize,
}

/// Gradients of features in f32: the sum of 1 to 4 parts of rows `stride` elements apart. They have `group` times the heads of
/// x; those of a group are summed.
#[derive(Clone, Copy, Debug)]
pub(in crate::linear) struct Grads<'a> {
    pub parts: &'a [Slot],
    pub stride: usize,
    pub group: usize,
}

/// Where gradients of the weights go, f32; with `accumulate` they are added to what is there.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::linear) struct ParamGrads {
    pub weight: Option<Slot>,
    pub bias: Option<Slot>,
    pub accumulate: bool,
}

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

/// Adds the steps from x to φ(x). `y` is in the type of x with a stride of [`FeatureMap::width`], or f32 with that stride or
/// the next multiple of 4; padding becomes zeros.
pub(in crate::linear) fn forward_steps(
    builder: &mut Builder,
    mapping: &Mapping<'_>,
    x: Slot,
    y: Rows,
) -> Result<()> {
    let Mapping { shape, map, .. } = *mapping;
    if shape.rows() == 0 {
        return Ok(());
    }
    let x = mapping.prepare(builder, x)?;
    let whole =
        kernels::multiplies(map) || kernels::halves(map) == 1 || shape.key.is_multiple_of(4);
    let into = mapping.unpacked(builder, y, whole);
    let io = mapping.io(x, into, whole);
    let lanes = if kernels::multiplies(map) {
        kernels::lanes(y.stride)
    } else {
        kernels::lanes(shape.key)
    };
    let flops = (40 * (shape.key + y.stride)) as f64;
    let fits = |rows: &Range<u64>| mapping.fits(rows, &[x, into]);
    for rows in mapping.cut(1, flops, &fits)? {
        let (x_bind, x_offset) = x.bind(&rows, false);
        let (y_bind, y_offset) = into.bind(&rows, true);
        let count = rows.end - rows.start;
        let (kernel, params) = if kernels::multiplies(map) {
            let params = kernels::ProductsParams {
                first_row: rows.start as u32,
                rows: count as u32,
                key: shape.key as u32,
                width: map.width(shape.key) as u32,
                y_stride: into.stride as u32,
                x_offset,
                y_offset,
            };
            (
                kernels::feature_products(map, shape.key, lanes, io),
                bytes_of(&params).to_vec(),
            )
        } else {
            let params = kernels::FeaturesParams {
                first_row: rows.start as u32,
                rows: count as u32,
                key: shape.key as u32,
                y_stride: into.stride as u32,
                x_offset,
                y_offset,
            };
            (
                kernels::features(map, shape.key, io),
                bytes_of(&params).to_vec(),
            )
        };
        builder.steps.push(Step {
            kernel,
            bind: vec![x_bind, y_bind],
            params,
            groups: count.div_ceil(u64::from(64 / lanes)),
            predicted_ms: mapping.ms(count, flops),
        });
    }
    mapping.pack(builder, into, y);
    Ok(())
}

/// Adds the steps from x and the gradients of φ(x) to those of x and of the weights. `dx` is dense, in the type of x or f32.
pub(in crate::linear) fn adjoint_steps(
    builder: &mut Builder,
    mapping: &Mapping<'_>,
    x: Slot,
    grads: &Grads<'_>,
    dx: Rows,
    params: ParamGrads,
) -> Result<()> {
    let Mapping { shape, map, .. } = *mapping;
    if shape.rows() == 0 {
        return mapping.no_rows(builder, params);
    }
    let stored = mapping.stored(x);
    let prepared = mapping.prepare(builder, x)?;
    if map.weight_len(shape.key).is_none() {
        return mapping.expand_adjoint(builder, stored, grads, dx);
    }
    let dy = mapping.wide(builder);
    mapping.expand_adjoint(builder, prepared, grads, dy)?;
    if map == FeatureMap::Rebased {
        let scaled = mapping.wide(builder);
        mapping.rescale_adjoint(builder, stored, dy, dx, scaled)?;
        // Both are sums over the rows, as that of a projection's bias is.
        let bias = |bias| ParamGrads {
            weight: None,
            bias,
            ..params
        };
        mapping.weight_sums(builder, stored, scaled, bias(params.weight))?;
        return mapping.weight_sums(builder, stored, dy, bias(params.bias));
    }
    mapping.project(builder, dy, dx, true)?;
    mapping.weight_sums(builder, stored, dy, params)
}

impl Mapping<'_> {
    fn stored(&self, slot: Slot) -> Rows {
        Rows {
            slot,
            dtype: self.shape.dtype,
            stride: self.shape.key,
        }
    }

    /// A temporary of f32 rows as wide as x.
    fn wide(&self, builder: &mut Builder) -> Rows {
        let (rows, stride) = (self.shape.rows(), self.shape.key);
        Rows {
            slot: builder.add_scratch(4 * (rows * stride) as u64),
            dtype: Dtype::F32,
            stride,
        }
    }

    /// What the map's second half takes: x itself, or its projection in a temporary.
    fn prepare(&self, builder: &mut Builder, x: Slot) -> Result<Rows> {
        let stored = self.stored(x);
        if self.map.weight_len(self.shape.key).is_none() {
            return Ok(stored);
        }
        let y = self.wide(builder);
        if self.map == FeatureMap::Rebased {
            self.rescale(builder, stored, y)?;
        } else {
            self.project(builder, stored, y, false)?;
        }
        Ok(y)
    }

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
    fn rescale(&self, builder: &mut Builder, x: Rows, y: Rows) -> Result<()> {
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
    fn rescale_adjoint(
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

    /// Where a kernel writes: the place itself, or a temporary in f32 where two invocations would write one word.
    fn unpacked(&self, builder: &mut Builder, into: Rows, whole: bool) -> Rows {
        let typed = into.dtype == Dtype::F32 || (whole && into.stride.is_multiple_of(4));
        if typed {
            return into;
        }
        let elements = self.shape.rows() * into.stride;
        Rows {
            slot: builder.add_scratch(4 * elements as u64),
            dtype: Dtype::F32,
            ..into
        }
    }

    fn io(&self, x: Rows, into: Rows, whole: bool) -> Io {
        let put = match (whole && into.stride.is_multiple_of(4), into.dtype) {
            (false, _) => Put::Single,
            (true, Dtype::F32) => Put::Wide,
            (true, _) => Put::Typed,
        };
        Io {
            dtype: self.shape.dtype,
            native: self.shape.dtype != Dtype::F16 || self.caps.f16,
            vectors: x.stride.is_multiple_of(4),
            wide: x.dtype == Dtype::F32,
            put,
        }
    }

    fn ms(&self, rows: u64, flops: f64) -> f64 {
        rows as f64 * flops / (self.caps.gflops * 1e6)
    }

    /// All rows, cut between multiples of `unit`.
    fn cut(
        &self,
        unit: u64,
        flops: f64,
        fits: &impl Fn(&Range<u64>) -> bool,
    ) -> Result<Vec<Range<u64>>> {
        cut(0..self.shape.rows() as u64, unit, self.ms(1, flops), fits)
    }

    /// Whether a dispatch over some rows is small enough.
    fn fits(&self, rows: &Range<u64>, tensors: &[Rows]) -> bool {
        let count = rows.end - rows.start;
        let per_dim = u64::from(self.caps.groups_per_dim);
        let small = |tensor: &Rows| {
            let bytes = tensor.span(rows);
            bytes.end - bytes.start <= self.caps.binding_bytes
        };
        tensors.iter().all(small) && count <= per_dim * per_dim
    }

    /// The rows of gradients that some rows of x meet.
    fn grad_rows(&self, rows: &Range<u64>, group: u64) -> Range<u64> {
        let span = self.shape.span() as u64;
        let first = |row: u64| row / span * group * span + row % span;
        first(rows.start)..first(rows.end - 1) + (group - 1) * span + 1
    }

    fn expand_adjoint(
        &self,
        builder: &mut Builder,
        x: Rows,
        grads: &Grads<'_>,
        dx: Rows,
    ) -> Result<()> {
        let Mapping { shape, map, .. } = *self;
        let (parts, group) = (grads.parts.len().clamp(1, 4), grads.group.max(1));
        let Some(&first) = grads.parts.first() else {
            return Ok(());
        };
        let products = kernels::multiplies(map);
        let whole = !products && shape.key.is_multiple_of(4);
        let into = self.unpacked(builder, dx, whole);
        let io = self.io(x, into, whole);
        let lanes = if products {
            kernels::lanes(4 * shape.key)
        } else {
            kernels::lanes(shape.key)
        };
        let blocks = if products {
            (shape.key as u64).div_ceil(lanes.into())
        } else {
            1
        };
        let reads = if products {
            2 * map.width(shape.key)
        } else {
            map.width(shape.key)
        };
        let flops = (40 * shape.key + 16 * reads * parts * group) as f64;
        let part = Rows {
            slot: first,
            dtype: Dtype::F32,
            stride: grads.stride,
        };
        let fits = |rows: &Range<u64>| {
            let met = part.span(&self.grad_rows(rows, group as u64));
            self.fits(rows, &[x, into]) && met.end - met.start <= self.caps.binding_bytes
        };
        let aligned = kernels::halves(map) == 1 || shape.key.is_multiple_of(4);
        let wide = aligned && grads.stride.is_multiple_of(4);
        let kernel = if products {
            kernels::feature_products_adjoint(map, shape.key, lanes, io, parts)
        } else {
            kernels::features_adjoint(map, shape.key, io, parts, wide)
        };
        for rows in self.cut(1, flops, &fits)? {
            let met = self.grad_rows(&rows, group as u64);
            let (x_bind, x_offset) = x.bind(&rows, false);
            let (d_bind, d_offset) = part.bind(&met, false);
            let (dx_bind, dx_offset) = into.bind(&rows, true);
            let count = rows.end - rows.start;
            let params = kernels::AdjointParams {
                first_row: rows.start as u32,
                rows: count as u32,
                key: shape.key as u32,
                d_stride: grads.stride as u32,
                span: shape.span() as u32,
                group: group as u32,
                x_offset,
                d_offset,
                dx_offset,
            };
            // The kernel has four bindings of parts; those to spare repeat the first and are not read.
            let d = (0..4).map(|n| Bind {
                slot: grads.parts.get(n).copied().unwrap_or(first),
                ..d_bind.clone()
            });
            builder.steps.push(Step {
                kernel: kernel.clone(),
                bind: [x_bind].into_iter().chain(d).chain([dx_bind]).collect(),
                params: bytes_of(&params).to_vec(),
                groups: count.div_ceil(u64::from(64 / lanes)) * blocks,
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
    fn project(&self, builder: &mut Builder, x: Rows, y: Rows, transposed: bool) -> Result<()> {
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
    fn weight_sums(
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
    fn no_rows(&self, builder: &mut Builder, params: ParamGrads) -> Result<()> {
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

    /// Adds the steps from a temporary in f32 to where the rows belong, if they are not there yet.
    fn pack(&self, builder: &mut Builder, from: Rows, into: Rows) {
        if from.slot == into.slot {
            return;
        }
        let elements = (self.shape.rows() * into.stride) as u64;
        pack_steps(builder, self.caps, from.slot, into, elements);
    }
}

/// Adds the steps that narrow f32 elements, dense in both.
pub(in crate::linear) fn pack_steps(
    builder: &mut Builder,
    caps: &Caps,
    from: Slot,
    into: Rows,
    elements: u64,
) {
    // Six bytes an element, at a byte for every four operations a device can do.
    let milliseconds = |elements: u64| 24.0 * elements as f64 / (caps.gflops * 1e6);
    // Whole bindings of both tensors, at offsets that are aligned in both.
    let mut most = (caps.binding_bytes / 4 / ALIGN * ALIGN).max(ALIGN);
    while milliseconds(most) > STEP_MS && most > ALIGN {
        most = (most / 2).next_multiple_of(ALIGN);
    }
    for first in (0..elements).step_by(most as usize) {
        let count = most.min(elements - first);
        let wide = Bind {
            slot: from,
            bytes: 4 * first..4 * (first + count),
            write: false,
        };
        let packed = Bind {
            slot: into.slot,
            bytes: 2 * first..(2 * (first + count)).next_multiple_of(4),
            write: true,
        };
        let params = PackOutputParams {
            elements: count as u32,
        };
        builder.steps.push(Step {
            kernel: pack_output(into.dtype),
            bind: vec![wide, packed],
            params: bytes_of(&params).to_vec(),
            groups: count.div_ceil(2).div_ceil(64),
            predicted_ms: milliseconds(count),
        });
    }
}

/// Partial sums `[sets, parts, block]` in f32.
pub(in crate::linear) struct Sum {
    pub sums: Slot,
    pub sets: u64,
    pub parts: u64,
    pub block: u64,
    /// Whether the totals are added to what is there.
    pub accumulate: bool,
}

impl Sum {
    /// Adds the step that sums some elements of every block over the parts, in order, into `[sets, elements]`.
    pub fn step(&self, builder: &mut Builder, caps: &Caps, elements: Range<u64>, into: Slot) {
        let count = elements.end - elements.start;
        let params = kernels::SumPartsParams {
            sets: self.sets as u32,
            parts: self.parts as u32,
            block: self.block as u32,
            first: elements.start as u32,
            count: count as u32,
            accumulate: self.accumulate.into(),
        };
        let binds = [
            (self.sums, self.sets * self.parts * self.block, false),
            (into, self.sets * count, true),
        ];
        let bind = binds.map(|(slot, len, write)| Bind {
            slot,
            bytes: 0..4 * len.max(1),
            write,
        });
        let kernel: Arc<Kernel> = kernels::sum_parts();
        builder.steps.push(Step {
            kernel,
            bind: bind.into(),
            params: bytes_of(&params).to_vec(),
            groups: (self.sets * count).div_ceil(64),
            predicted_ms: (self.sets * self.parts * count) as f64 * 16.0 / (caps.gflops * 1e6),
        });
    }
}

impl Rows {
    /// The bytes of some rows, from an aligned start.
    fn span(&self, rows: &Range<u64>) -> Range<u64> {
        let row_bytes = self.stride as u64 * self.dtype.bytes();
        rows.start * row_bytes / ALIGN * ALIGN..(rows.end * row_bytes).next_multiple_of(4)
    }

    /// Some rows, and the offset in elements for indices counted from row 0.
    fn bind(&self, rows: &Range<u64>, write: bool) -> (Bind, u32) {
        let bytes = self.span(rows);
        let offset = 0u64.wrapping_sub(bytes.start / self.dtype.bytes()) as u32;
        let slot = self.slot;
        (Bind { slot, bytes, write }, offset)
    }
}

/// Halves a range at multiples of `unit` until its parts fit, and are quick where they have more than one unit.
pub(in crate::linear) fn cut(
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
