//! Plans of the linear and the polynomial form: pure functions of shape, options and capabilities.

use std::{ops::Range, sync::Arc};

use bytemuck::bytes_of;

use super::{
    kernels::{self, Params},
    poly::Monomials,
    shape::{Mask, OP, Options, Shape},
};
use crate::{
    Error, Result,
    elements::{Access, pack_steps},
    gpu::{Caps, Class, Dtype, Kernel},
    linear::{FeatureMap, features},
    plan::{ALIGN, Bind, Builder, Plan, Slot, Step, Work},
    rows::{Rows, dispatches},
};

/// Invocations of a workgroup.
const LANES: u64 = 64;

/// Plans the outputs of the linear form. Inputs: q, the keys of every set, the values of every set; output: o.
///
/// # Errors
/// `Argument` when sizes or options make no sense; `Limit` when one head exceeds a binding or the scratch budget.
pub fn forward(shape: &Shape, options: &Options, caps: &Caps) -> Result<Plan> {
    options.check(shape)?;
    Planner::new(shape, Form::linear(options), caps).forward()
}

/// Plans the gradients of the linear form. Inputs: as [`forward`], then the gradient of o; outputs, in f32: the gradients of q, of
/// the keys of every set, of the values of every set.
///
/// # Errors
/// As [`forward`].
pub fn backward(shape: &Shape, options: &Options, caps: &Caps) -> Result<Plan> {
    options.check(shape)?;
    Planner::new(shape, Form::linear(options), caps).backward()
}

/// What queries and keys go through.
#[derive(Clone, Copy, Debug)]
pub(super) enum Features<'a> {
    Mapped(FeatureMap),
    Monomials(&'a Monomials),
}

/// What is asked for, of either form.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form<'a> {
    pub mask: &'a Mask,
    pub scale: f32,
    pub normalize: Option<f32>,
    pub features: Features<'a>,
}

impl<'a> Form<'a> {
    fn linear(options: &'a Options) -> Form<'a> {
        Form {
            mask: &options.mask,
            scale: options.scale,
            normalize: options.normalize,
            features: Features::Mapped(options.feature_map),
        }
    }
}

pub(super) struct Planner<'a> {
    pub shape: &'a Shape,
    pub form: Form<'a>,
    pub caps: &'a Caps,
}

/// Queries or keys before or after they are mapped.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source {
    pub slot: Slot,
    pub dtype: Dtype,
}

/// What every batch of heads reads and writes.
pub(super) struct Ends {
    /// Queries, then the keys of every set.
    pub mapped: Vec<Source>,
    /// Where the outputs go, in f32, or gradients of queries and keys, before the map's own.
    pub out: Vec<Slot>,
    pub tables: Option<Tables>,
    pub windows: Slot,
}

/// Tables of monomials.
pub(super) struct Tables {
    pub terms: Slot,
    pub ups: Slot,
    pub queries: Slot,
    pub keys: Slot,
    /// The middles and the binomials.
    pub centre: Option<[Slot; 2]>,
}

impl<'a> Planner<'a> {
    pub fn new(shape: &'a Shape, form: Form<'a>, caps: &'a Caps) -> Planner<'a> {
        Planner { shape, form, caps }
    }

    /// Columns of features.
    pub fn rank(&self) -> usize {
        match self.form.features {
            Features::Mapped(map) => map.width(self.shape.key),
            Features::Monomials(monomials) => monomials.rank,
        }
    }

    /// Numbers of a padded row of features.
    pub fn inner(&self) -> u64 {
        (self.rank() as u64).next_multiple_of(8)
    }

    /// Numbers of a padded row of values, with their weight.
    pub fn outer(&self) -> u64 {
        let ones = usize::from(self.form.normalize.is_some());
        ((self.shape.value + ones) as u64).next_multiple_of(8)
    }

    pub fn causal(&self) -> bool {
        *self.form.mask != Mask::Full
    }

    /// Coefficients of a centred query.
    pub fn centre_numbers(&self) -> u64 {
        match self.form.features {
            Features::Monomials(Monomials {
                degree,
                centre: Some(_),
                ..
            }) => u64::from(degree + 1),
            _ => 0,
        }
    }

    pub fn sets(&self) -> u64 {
        self.shape.sets() as u64
    }

    pub fn group(&self) -> u64 {
        self.shape.group() as u64
    }

    pub fn queries(&self) -> u64 {
        self.shape.queries as u64
    }

    pub fn tokens(&self, set: usize) -> u64 {
        self.shape.keys.get(set).copied().unwrap_or(0) as u64
    }

    pub fn most_tokens(&self) -> u64 {
        self.shape.keys.iter().copied().max().unwrap_or(0) as u64
    }

    fn heads(&self) -> u64 {
        self.shape.key_heads() as u64
    }

    /// The map, where it does something.
    fn map(&self) -> Option<FeatureMap> {
        match self.form.features {
            Features::Mapped(FeatureMap::Identity) | Features::Monomials(_) => None,
            Features::Mapped(map) => Some(map),
        }
    }

    /// The place of a set's keys among inputs and gradients, and that of its values.
    pub fn places(&self, set: usize) -> [u8; 2] {
        [1 + set, 1 + self.shape.sets() + set].map(|n| n as u8)
    }

    pub fn forward(&self) -> Result<Plan> {
        let mut builder = Builder::default();
        let len = self.shape.query_rows() * self.shape.value;
        let narrows = self.shape.dtype != Dtype::F32;
        let wide = match narrows {
            true => builder.add_scratch(4 * len as u64),
            false => Slot::Output(0),
        };
        let mapped = self.mapped(&mut builder)?;
        let ends = self.ends(&mut builder, mapped, vec![wide]);
        self.each(&mut builder, false, |batch, builder| {
            batch.outputs(builder, &ends);
            Ok(())
        })?;
        if narrows {
            let slots = [wide, Slot::Output(0)];
            pack_steps(&mut builder, self.caps, self.shape.dtype, slots, len as u64);
        }
        self.plan(builder, 1.0, self.shape.dtype.bytes() as f64 * len as f64)
    }

    pub fn backward(&self) -> Result<Plan> {
        let mut builder = Builder::default();
        let sides = 1 + self.shape.sets();
        // 16-bit tensors become f32 first: gradients are f32.
        let widens = self.map().is_some() && self.shape.dtype != Dtype::F32;
        let mut plain: Vec<Source> = (0..sides).map(|side| self.source(side)).collect();
        if widens {
            for (side, source) in plain.iter_mut().enumerate() {
                *source = self.apply(&mut builder, side, *source, FeatureMap::Identity)?;
            }
        }
        let mut mapped = plain.clone();
        let mut slopes: Vec<Slot> = (0..sides).map(|side| Slot::Output(side as u8)).collect();
        if let Some(map) = self.map() {
            for ((side, source), slope) in mapped.iter_mut().enumerate().zip(&mut slopes) {
                *source = self.apply(&mut builder, side, *source, map)?;
                *slope = builder.add_scratch(4 * (self.side_rows(side) * self.rank()) as u64);
            }
        }
        let ends = self.ends(&mut builder, mapped, slopes.clone());
        self.each(&mut builder, true, |batch, builder| {
            batch.gradients(builder, &ends);
            Ok(())
        })?;
        if let Some(map) = self.map() {
            for ((side, source), slope) in plain.iter().enumerate().zip(&slopes) {
                let mut shape = self.shape.rows_of(side.checked_sub(1));
                shape.dtype = source.dtype;
                let plan = features::plan_adjoint(&shape, map, Default::default(), self.caps)?;
                let inputs = [source.slot, *slope];
                builder.append(plan, &inputs, &[Slot::Output(side as u8)])?;
            }
        }
        let shape = self.shape;
        let keys: usize = (0..shape.sets()).map(|set| shape.key_rows(set)).sum();
        let written = shape.query_rows() * shape.key + keys * (shape.key + shape.value);
        let handed = shape.query_rows() * shape.value * shape.dtype.bytes() as usize;
        self.plan(builder, 3.0, (4 * written + handed) as f64)
    }

    /// Rows of the queries, side 0, or of the keys of set side - 1.
    fn side_rows(&self, side: usize) -> usize {
        match side.checked_sub(1) {
            None => self.shape.query_rows(),
            Some(set) => self.shape.key_rows(set),
        }
    }

    fn source(&self, side: usize) -> Source {
        Source {
            slot: Slot::Input(side as u8),
            dtype: self.shape.dtype,
        }
    }

    /// Queries and keys through the map, if it does something.
    fn mapped(&self, builder: &mut Builder) -> Result<Vec<Source>> {
        let sides = 0..1 + self.shape.sets();
        let each = sides.map(|side| match self.map() {
            Some(map) => self.apply(builder, side, self.source(side), map),
            None => Ok(self.source(side)),
        });
        each.collect()
    }

    fn apply(
        &self,
        builder: &mut Builder,
        side: usize,
        source: Source,
        map: FeatureMap,
    ) -> Result<Source> {
        let mut shape = self.shape.rows_of(side.checked_sub(1));
        shape.dtype = source.dtype;
        let plan = features::plan(&shape, map, Default::default(), Dtype::F32, self.caps)?;
        let len = self.side_rows(side) * map.width(shape.key);
        let slot = builder.add_scratch(4 * len as u64);
        builder.append(plan, &[source.slot], &[slot])?;
        let dtype = Dtype::F32;
        Ok(Source { slot, dtype })
    }

    fn ends(&self, builder: &mut Builder, mapped: Vec<Source>, out: Vec<Slot>) -> Ends {
        let tables = match self.form.features {
            Features::Mapped(_) => None,
            Features::Monomials(monomials) => {
                let mut add = |table: &Vec<u32>| builder.add_table(table.clone());
                Some(Tables {
                    terms: add(&monomials.terms),
                    ups: add(&monomials.ups),
                    queries: add(&monomials.query_weights),
                    keys: add(&monomials.key_weights),
                    centre: monomials
                        .centre
                        .as_ref()
                        .map(|centre| [add(&centre.middle), add(&centre.binomials)]),
                })
            }
        };
        let chunk = self.chunk();
        let window = |set| self.shape.window(self.form.mask, set).unwrap_or(0) as u64;
        let windows = (0..self.shape.sets()).map(|set| (window(set) / chunk) as u32);
        Ends {
            mapped,
            out,
            tables,
            windows: builder.add_table(windows.collect()),
        }
    }

    /// Does something for every batch of heads, in order.
    fn each(
        &self,
        builder: &mut Builder,
        backward: bool,
        mut steps: impl FnMut(&Batch<'_>, &mut Builder) -> Result<()>,
    ) -> Result<()> {
        if self.shape.query_rows() == 0 && !backward {
            return Ok(());
        }
        if self.heads() == 0 {
            return Ok(());
        }
        let space = super::space::Space::new(self, builder, backward)?;
        for first in (0..self.heads()).step_by(space.heads as usize) {
            let batch = Batch {
                planner: self,
                space: &space,
                heads: first..(first + space.heads).min(self.heads()),
            };
            steps(&batch, builder)?;
        }
        Ok(())
    }

    fn plan(&self, builder: Builder, passes: f64, more_bytes: f64) -> Result<Plan> {
        let shape = self.shape;
        let keys: usize = (0..shape.sets()).map(|set| shape.key_rows(set)).sum();
        let columns = shape.value + usize::from(self.form.normalize.is_some());
        let cells = (self.rank() * columns) as f64;
        let read = shape.query_rows() * shape.key + keys * (shape.key + shape.value);
        let work = Work {
            flops: passes * 2.0 * cells * (keys + shape.query_rows()) as f64,
            bytes: read as f64 * shape.dtype.bytes() as f64 + more_bytes,
            ..Work::default()
        };
        let form = match self.form.mask {
            Mask::Full => "full".into(),
            Mask::Causal => format!("causal, chunks of {}", self.chunk()),
            Mask::Window(_) => format!("windows, chunks of {}", self.chunk()),
        };
        let label = format!("{form}, {} features", self.rank());
        let plan = builder.plan(OP, label, work);
        plan.check(self.caps)?;
        Ok(plan)
    }

    /// Tokens of a chunk, whose states a lane holds in registers; every window is a whole number of chunks. Windows hold twice as
    /// many, and what software adapters compile grows with them.
    pub fn chunk(&self) -> u64 {
        let sets = 0..self.shape.sets();
        let windows = sets.filter_map(|set| self.shape.window(self.form.mask, set));
        let windows: Vec<usize> = windows.collect();
        let few = windows.is_empty() && self.shape.sets() <= 2 && self.caps.class != Class::Cpu;
        let most = if few { 8 } else { 4 };
        windows.into_iter().fold(most, |chunk: u64, window| {
            chunk.min(1 << window.trailing_zeros().min(2))
        })
    }
}

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
                scale: if set.is_none() {
                    planner.form.scale
                } else {
                    1.0
                },
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
        let weights = if set.is_none() {
            tables.queries
        } else {
            tables.keys
        };
        let mut bind = vec![
            x,
            table(tables.terms, monomials.rank * degree as usize),
            table(weights, monomials.rank),
            self.held(into, (at + rows) * planner.inner(), true),
        ];
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
        place: u8,
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
        let place = (1 + 2 * planner.shape.sets()) as u8;
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
            let scale = if set.is_none() {
                planner.form.scale
            } else {
                1.0
            };
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
        let weights = if set.is_none() {
            tables.queries
        } else {
            tables.keys
        };
        let mut bind = vec![
            x,
            table(tables.terms, monomials.rank * degree as usize),
            table(weights, monomials.rank),
            out,
        ];
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

    fn outputs(&self, builder: &mut Builder, ends: &Ends) {
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

    fn gradients(&self, builder: &mut Builder, ends: &Ends) {
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

/// The first words of a table.
pub(super) fn table(slot: Slot, words: usize) -> Bind {
    Bind {
        slot,
        bytes: 0..4 * words as u64,
        write: false,
    }
}

/// Adds a kernel's dispatches over so many items, each of which takes so many operations.
pub(super) fn push(
    builder: &mut Builder,
    caps: &Caps,
    kernel: Arc<Kernel>,
    bind: Vec<Bind>,
    [items, flops]: [u64; 2],
    params: Params,
) {
    if items == 0 {
        return;
    }
    let group_ms = (LANES * flops) as f64 / (caps.gflops * 1e6);
    for groups in dispatches(0..items.div_ceil(LANES), group_ms, caps) {
        let count = groups.end - groups.start;
        let params = Params {
            items: items as u32,
            first: groups.start as u32,
            groups: count as u32,
            ..params
        };
        builder.steps.push(Step {
            kernel: kernel.clone(),
            bind: bind.clone(),
            params: bytes_of(&params).to_vec(),
            groups: count,
            predicted_ms: group_ms * count as f64,
        });
    }
}

/// A limit that one head exceeds.
pub(super) fn too_large(what: &str, needed: u64, available: u64) -> Error {
    Error::Limit {
        what: format!("{OP}, {what} for one head,"),
        needed,
        available,
        remedy: "use fewer tokens or features, or raise `Select::scratch_bytes`",
    }
}
