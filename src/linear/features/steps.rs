//! From a map to steps on a builder, for the maps' own calls and for operators that map queries and keys. Pure.

use std::ops::Range;

use bytemuck::bytes_of;

use super::{FeatureMap, FeatureShape, kernels};
use crate::{
    Error, Result,
    elements::pack_steps,
    gpu::{Caps, Dtype},
    linear::rows::{Io, Put},
    plan::{Bind, Builder, Slot, Step},
    rows::{Rows, cut},
};

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

    /// Where a kernel writes: the place itself, or a temporary in f32 where two invocations would write one word.
    pub(super) fn unpacked(&self, builder: &mut Builder, into: Rows, whole: bool) -> Rows {
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

    pub(super) fn io(&self, x: Rows, into: Rows, whole: bool) -> Io {
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

    pub(super) fn ms(&self, rows: u64, flops: f64) -> f64 {
        rows as f64 * flops / (self.caps.gflops * 1e6)
    }

    /// All rows, cut between multiples of `unit`.
    pub(super) fn cut(
        &self,
        unit: u64,
        flops: f64,
        fits: &impl Fn(&Range<u64>) -> bool,
    ) -> Result<Vec<Range<u64>>> {
        cut(0..self.shape.rows() as u64, unit, self.ms(1, flops), fits)
    }

    /// Whether a dispatch over some rows is small enough.
    pub(super) fn fits(&self, rows: &Range<u64>, tensors: &[Rows]) -> bool {
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
        let (parts, group) = (grads.parts.len(), grads.group);
        let first = grads
            .parts
            .first()
            .copied()
            .filter(|_| parts <= 4 && group > 0);
        let Some(first) = first else {
            return Err(Error::Gpu {
                message: format!("gradients of {parts} parts in groups of {group} heads"),
            });
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

    /// Adds the steps from a temporary in f32 to where the rows belong, if they are not there yet.
    pub(super) fn pack(&self, builder: &mut Builder, from: Rows, into: Rows) {
        if from.slot == into.slot {
            return;
        }
        let elements = (self.shape.rows() * into.stride) as u64;
        pack_steps(
            builder,
            self.caps,
            into.dtype,
            [from.slot, into.slot],
            elements,
        );
    }
}
