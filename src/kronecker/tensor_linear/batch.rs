//! What the forms do for some heads at a time: widening, products, sums and rounding.

use std::{ops::Range, sync::Arc};

use super::{
    kernels::{self, Params},
    plan::{Ends, Features, Planner, Source, push, table},
};
use crate::{
    elements::Access,
    gpu::{Dtype, Kernel},
    plan::{ALIGN, Bind, Builder, Slot},
    rows::Rows,
};

/// Some heads of keys with their queries, and the temporaries they use.
pub(super) struct Batch<'a> {
    pub planner: &'a Planner<'a>,
    pub space: &'a super::space::Space,
    pub heads: Range<u64>,
}

impl Batch<'_> {
    pub fn count(&self) -> u64 {
        self.heads.end - self.heads.start
    }

    /// Heads of queries.
    pub fn query_heads(&self) -> u64 {
        self.count() * self.planner.group()
    }

    /// Rows of the queries, or of the keys of a set, in all heads here.
    pub fn rows(&self, set: Option<usize>) -> u64 {
        match set {
            None => self.query_heads() * self.planner.queries(),
            Some(set) => self.count() * self.planner.tokens(set),
        }
    }

    /// The rows of a tensor that these heads occupy, and where the first of them lies in the binding, in elements.
    pub fn tensor(
        &self,
        source: Source,
        set: Option<usize>,
        width: usize,
        write: bool,
    ) -> (Bind, u32) {
        let per_head = match set {
            None => self.planner.group() * self.planner.queries(),
            Some(set) => self.planner.tokens(set),
        };
        let rows = Rows {
            slot: source.slot,
            dtype: source.dtype,
            stride: width,
        };
        let (first, end) = (self.heads.start * per_head, self.heads.end * per_head);
        let (bind, offset) = rows.bind(&(first..end), write);
        (bind, offset.wrapping_add((first * width as u64) as u32))
    }

    /// A temporary, so many numbers of it.
    pub fn held(&self, slot: Slot, numbers: u64, write: bool) -> Bind {
        let bytes = 0..4 * numbers.max(4);
        Bind { slot, bytes, write }
    }

    /// Adds a kernel's dispatches over so many items, each of which takes so many operations.
    pub fn push(
        &self,
        builder: &mut Builder,
        kernel: Arc<Kernel>,
        bind: Vec<Bind>,
        [items, flops]: [u64; 2],
        params: Params,
    ) {
        push(
            builder,
            self.planner.caps,
            kernel,
            bind,
            [items, flops],
            params,
        );
    }

    /// Rows of a tensor as padded rows from `at` on, in rows.
    fn pack(
        &self,
        builder: &mut Builder,
        source: Source,
        set: Option<usize>,
        padding: Padding,
        into: Slot,
        at: u64,
    ) {
        let Padding {
            width,
            stride,
            ones,
            scale,
        } = padding;
        let rows = self.rows(set);
        let (x, x_offset) = self.tensor(source, set, width, false);
        let access = Access::new(source.dtype, [width; 2], self.planner.caps);
        let params = Params {
            width: width as u32,
            outer: stride as u32,
            x_offset,
            out_offset: (at * stride / 4) as u32,
            scale,
            ..Params::default()
        };
        let bind = vec![x, self.held(into, (at + rows) * stride, true)];
        let kernel = kernels::pack(ones, access);
        self.push(builder, kernel, bind, [rows * stride / 4, 32], params);
    }

    /// Features of queries, or of the keys of a set, as padded rows from `at` on.
    pub fn pack_features(
        &self,
        builder: &mut Builder,
        ends: &Ends,
        set: Option<usize>,
        into: Slot,
        at: u64,
    ) {
        let planner = self.planner;
        let Some(source) = ends.mapped.get(set.map_or(0, |set| set + 1)).copied() else {
            return;
        };
        let (Features::Monomials(monomials), Some(tables)) = (planner.form.features, &ends.tables)
        else {
            let padding = Padding {
                width: planner.rank(),
                stride: planner.inner(),
                ones: false,
                scale: planner.scale(set),
            };
            return self.pack(builder, source, set, padding, into, at);
        };
        let width = planner.shape.key;
        let rows = self.rows(set);
        let (x, x_offset) = self.tensor(source, set, width, false);
        let centred = set.is_none() && tables.centre.is_some();
        let native = Access::new(source.dtype, [1; 2], planner.caps).native;
        let degree = monomials.degree;
        if let (true, Some([middle, binomials])) = (centred, tables.centre) {
            let params = Params {
                width: width as u32,
                queries: planner.shape.queries as u32,
                group: planner.group() as u32,
                x_offset,
                y_offset: self.heads.start as u32,
                ..Params::default()
            };
            let bind = vec![
                x.clone(),
                table(middle, planner.shape.key_heads() * width),
                table(binomials, (degree as usize + 1).pow(2)),
                self.held(self.space.centres, rows * u64::from(degree + 1), true),
            ];
            let flops = 2 * (width as u64 + u64::from(degree + 1).pow(2));
            let kernel = kernels::centre(degree, source.dtype, native);
            self.push(builder, kernel, bind, [rows, flops], params);
        }
        let [terms, weights] = tables.binds(monomials, set);
        let out = self.held(into, (at + rows) * planner.inner(), true);
        let mut bind = vec![x, terms, weights, out];
        if centred {
            bind.push(self.held(self.space.centres, rows * u64::from(degree + 1), false));
        }
        let params = Params {
            inner: monomials.rank as u32,
            outer: planner.inner() as u32,
            width: width as u32,
            x_offset,
            out_offset: (at * planner.inner() / 4) as u32,
            ..Params::default()
        };
        let kernel = kernels::monomials(degree, centred, source.dtype, native);
        let items = rows * planner.inner() / 4;
        self.push(
            builder,
            kernel,
            bind,
            [items, 24 * u64::from(degree + 1)],
            params,
        );
    }

    /// Values of a set as padded rows from `at` on, with ones where the weights are summed.
    pub fn pack_values(&self, builder: &mut Builder, set: usize, into: Slot, at: u64) {
        let [_, place] = self.planner.places(set);
        self.pack_columns(builder, place, Some(set), into, at);
    }

    /// A tensor of values, or of gradients of outputs, as padded rows.
    fn pack_columns(
        &self,
        builder: &mut Builder,
        place: u16,
        set: Option<usize>,
        into: Slot,
        at: u64,
    ) {
        let planner = self.planner;
        let source = Source {
            slot: Slot::Input(place),
            dtype: planner.shape.dtype,
        };
        let padding = Padding {
            width: planner.shape.value,
            stride: planner.outer(),
            ones: planner.form.normalize.is_some(),
            scale: 1.0,
        };
        self.pack(builder, source, set, padding, into, at);
    }

    /// What the gradient of o makes of the sums that o is a quotient of.
    pub fn pack_slopes(&self, builder: &mut Builder) {
        let planner = self.planner;
        let (width, stride) = (planner.shape.value, planner.outer());
        let place = (1 + 2 * planner.shape.sets()) as u16;
        let Some(eps) = planner.form.normalize else {
            return self.pack_columns(builder, place, None, self.space.slopes, 0);
        };
        let rows = self.rows(None);
        let source = Source {
            slot: Slot::Input(place),
            dtype: planner.shape.dtype,
        };
        let (grad, y_offset) = self.tensor(source, None, width, false);
        let params = Params {
            width: width as u32,
            outer: stride as u32,
            y_offset,
            eps,
            ..Params::default()
        };
        let bind = vec![
            self.held(self.space.sums, rows * stride, false),
            grad,
            self.held(self.space.slopes, rows * stride, true),
        ];
        let access = Access::new(source.dtype, [width; 2], planner.caps);
        let kernel = kernels::divide_grad(access);
        self.push(builder, kernel, bind, [rows, 16 * stride], params);
    }

    /// Padded rows from `at` on as rows of a tensor in f32; sums of outputs are divided where that is asked for.
    pub fn unpack(
        &self,
        builder: &mut Builder,
        [from, into]: [Slot; 2],
        set: Option<usize>,
        [width, stride]: [u64; 2],
        at: u64,
        (scale, divide): (f32, Option<f32>),
    ) {
        let rows = self.rows(set);
        let source = Source {
            slot: into,
            dtype: Dtype::F32,
        };
        let (out, out_offset) = self.tensor(source, set, width as usize, true);
        let params = Params {
            width: width as u32,
            outer: stride as u32,
            x_offset: (at * stride / 4) as u32,
            out_offset,
            scale,
            eps: divide.unwrap_or(0.0),
            ..Params::default()
        };
        let bind = vec![self.held(from, (at + rows) * stride, false), out];
        let kernel = kernels::unpack(divide.is_some());
        self.push(
            builder,
            kernel,
            bind,
            [rows * width.div_ceil(4), 32],
            params,
        );
    }

    /// The gradients of features, in padded rows from `at` on, as gradients of what they are features of, or of what was mapped.
    pub fn unpack_features(
        &self,
        builder: &mut Builder,
        ends: &Ends,
        set: Option<usize>,
        from: Slot,
        at: u64,
    ) {
        let planner = self.planner;
        let side = set.map_or(0, |set| set + 1);
        let (Some(&into), Some(&source)) = (ends.out.get(side), ends.mapped.get(side)) else {
            return;
        };
        let (Features::Monomials(monomials), Some(tables)) = (planner.form.features, &ends.tables)
        else {
            let widths = [planner.rank() as u64, planner.inner()];
            let scale = planner.scale(set);
            return self.unpack(builder, [from, into], set, widths, at, (scale, None));
        };
        let (width, degree) = (planner.shape.key, monomials.degree);
        let rows = self.rows(set);
        let (x, x_offset) = self.tensor(source, set, width, false);
        let to = Source {
            slot: into,
            dtype: Dtype::F32,
        };
        let (out, out_offset) = self.tensor(to, set, width, true);
        let centred = set.is_none() && tables.centre.is_some();
        let [terms, weights] = tables.binds(monomials, set);
        let mut bind = vec![x, terms, weights, out];
        if centred {
            bind.push(self.held(self.space.centres, rows * u64::from(degree + 1), false));
        }
        bind.push(table(tables.ups, monomials.lower * width));
        // Whole rows of the set come after those of the sets before it.
        let start = 4 * at * planner.inner() / ALIGN * ALIGN;
        bind.push(Bind {
            slot: from,
            bytes: start..4 * (at + rows) * planner.inner(),
            write: false,
        });
        let params = Params {
            outer: planner.inner() as u32,
            width: width as u32,
            x_offset,
            y_offset: (at * planner.inner() - start / 4) as u32,
            out_offset,
            until: monomials.lower as u32,
            ..Params::default()
        };
        let native = Access::new(source.dtype, [1; 2], planner.caps).native;
        let kernel = kernels::monomials_adjoint(degree, centred, source.dtype, native);
        let flops = 8 * monomials.lower as u64 * u64::from(degree + 1);
        self.push(builder, kernel, bind, [rows * width as u64, flops], params);
    }

    /// What sums of outputs become.
    pub fn finish(&self, builder: &mut Builder, into: Slot) {
        let planner = self.planner;
        let widths = [planner.shape.value as u64, planner.outer()];
        let how = (1.0, planner.form.normalize);
        self.unpack(builder, [self.space.sums, into], None, widths, 0, how);
    }

    pub fn outputs(&self, builder: &mut Builder, ends: &Ends) {
        let Some(&into) = ends.out.first() else {
            return;
        };
        if self.planner.causal() {
            self.scanned_sums(builder, ends);
        } else {
            self.full_sums(builder, ends);
        }
        self.finish(builder, into);
    }

    pub fn gradients(&self, builder: &mut Builder, ends: &Ends) {
        if self.planner.causal() {
            self.scanned_gradients(builder, ends);
        } else {
            self.full_gradients(builder, ends);
        }
    }
}

/// How a tensor's rows become padded ones.
struct Padding {
    width: usize,
    stride: u64,
    ones: bool,
    scale: f32,
}
