//! How large queries, keys and values are, which bounds logits: measured on the device or on the host.

use std::ops::Range;

use super::{
    Inputs,
    kernels::{self, Params},
    plan::push,
    shape::{Mask, OP, Shape},
};
use crate::{
    Error, Result,
    elements::Access,
    gpu::{Caps, Dtype, Elem, Gpu},
    plan::{Builder, Plan, Slot, Work},
    rows::Rows,
};

/// Rows that a lane looks at.
const SPAN: u64 = 256;

/// The least and the greatest entry of every column, for one key head: of the queries that read it, and of its sets.
#[derive(Clone, Debug, PartialEq)]
struct Head {
    queries: Vec<[f64; 2]>,
    keys: Vec<Vec<[f64; 2]>>,
    values: Vec<Vec<[f64; 2]>>,
}

/// The extent of a call's tensors.
#[derive(Clone, Debug, PartialEq)]
pub struct Extent {
    heads: Vec<Head>,
}

/// What logits and values are bounded by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// R: the greatest |logit|, scale included; with centred queries the greatest distance from the centre.
    pub logits: f64,
    /// The greatest |centre|; 0 where queries are not centred.
    pub centre: f64,
    /// The greatest entry of a product of values, one of each set, in absolute value.
    pub value: f64,
}

impl Extent {
    /// Of tensors on the host.
    pub fn of(shape: &Shape, inputs: &super::cpu::Inputs) -> Extent {
        let heads = (0..shape.key_heads()).map(|head| {
            let columns = |x: &[f64], rows: usize, width: usize| {
                let own = x.get(head * rows * width..(head + 1) * rows * width);
                columns(own.unwrap_or_default().chunks_exact(width), width)
            };
            let sets = |all: &[Vec<f64>], width: usize| -> Vec<_> {
                let each = all.iter().zip(&shape.keys);
                each.map(|(x, keys)| columns(x, *keys, width)).collect()
            };
            Head {
                queries: columns(&inputs.q, shape.group() * shape.queries, shape.key),
                keys: sets(&inputs.k, shape.key),
                values: sets(&inputs.v, shape.value),
            }
        });
        Extent {
            heads: heads.collect(),
        }
    }

    /// Of tensors on the device: a reduction there, whose parts come back and are finished here.
    ///
    /// # Errors
    /// Those of a pass and of downloads.
    pub fn measure<T: Elem>(gpu: &Gpu, shape: &Shape, inputs: &Inputs<'_, T>) -> Result<Extent> {
        let mut heads = vec![
            Head {
                queries: Vec::new(),
                keys: Vec::new(),
                values: Vec::new(),
            };
            shape.key_heads()
        ];
        let views = inputs.views();
        for (place, view) in views.into_iter().enumerate() {
            let side = match place {
                0 => Side::Queries,
                n if n <= shape.sets() => Side::Keys(n - 1),
                n => Side::Values(n - 1 - shape.sets()),
            };
            let (rows, width) = side.sizes(shape);
            let parts = (rows as u64).div_ceil(SPAN);
            let plan = plan(shape, side, gpu.caps())?;
            let mut out = gpu.zeros::<f32>(2 * shape.key_heads() * parts as usize * width)?;
            if !plan.steps.is_empty() {
                let mut pass = gpu.pass("tensor_extent");
                pass.run(&plan, &[view], &mut [out.view_mut()])?;
                pass.submit()?;
            }
            let found: Vec<f64> = out.download()?.into_iter().map(f64::from).collect();
            let per_head = (2 * parts as usize * width).max(1);
            let mut each = found.chunks_exact(per_head);
            for head in &mut heads {
                let pairs = each.next().unwrap_or_default();
                let rows = pairs.chunks_exact(2 * width);
                // Least and greatest of a part are two rows of as many columns.
                let split = rows.flat_map(|row| {
                    let pick =
                        |n: usize| row.iter().skip(n).step_by(2).copied().collect::<Vec<_>>();
                    [pick(0), pick(1)]
                });
                let split: Vec<Vec<f64>> = split.collect();
                let all = columns(split.iter().map(Vec::as_slice), width);
                match side {
                    Side::Queries => head.queries = all,
                    Side::Keys(_) => head.keys.push(all),
                    Side::Values(_) => head.values.push(all),
                }
            }
        }
        Ok(Extent { heads })
    }

    /// The bounds of logits and values.
    pub fn bounds(&self, scale: f32, centred: bool) -> Bounds {
        let mut bounds = Bounds {
            logits: 0.0,
            centre: 0.0,
            value: 0.0,
        };
        let scale = f64::from(scale).abs();
        for head in &self.heads {
            let products = head.products();
            let queries = head
                .queries
                .iter()
                .map(|[low, high]| low.abs().max(high.abs()));
            let (mut around, mut away) = (0.0, 0.0);
            for (q, [low, high]) in queries.zip(products) {
                around += q * low.abs().max(high.abs());
                away += q * (high - low) / 2.0;
            }
            bounds.logits = bounds
                .logits
                .max(scale * if centred { away } else { around });
            if centred {
                let middles = head.middles(scale);
                let queries = head
                    .queries
                    .iter()
                    .map(|[low, high]| low.abs().max(high.abs()));
                let centre: f64 = queries.zip(middles).map(|(q, m)| q * m.abs()).sum();
                bounds.centre = bounds.centre.max(centre);
            }
            let values = head.values.iter().map(|columns| {
                let sizes = columns.iter().map(|[low, high]| low.abs().max(high.abs()));
                sizes.fold(0.0, f64::max)
            });
            bounds.value = bounds.value.max(values.product());
        }
        bounds
    }

    /// The middle of what products of keys can be, times the scale, of every key head and column.
    pub fn middles(&self, scale: f32) -> Vec<f64> {
        let heads = self.heads.iter();
        heads.flat_map(|head| head.middles(scale.into())).collect()
    }
}

impl Head {
    /// The least and greatest product of keys, one of each set, by column.
    fn products(&self) -> Vec<[f64; 2]> {
        let mut products = vec![[1.0, 1.0]; self.queries.len()];
        for keys in &self.keys {
            for (product, key) in products.iter_mut().zip(keys) {
                let corners = product.iter().flat_map(|a| key.iter().map(move |b| a * b));
                *product = corners.fold([f64::INFINITY, f64::NEG_INFINITY], |[low, high], x| {
                    [low.min(x), high.max(x)]
                });
            }
        }
        products
    }

    fn middles(&self, scale: f64) -> impl Iterator<Item = f64> {
        let products = self.products().into_iter();
        products.map(move |[low, high]| scale * (low + high) / 2.0)
    }
}

/// The least and the greatest of every column; 0 where there are no rows.
fn columns<'a>(rows: impl Iterator<Item = &'a [f64]>, width: usize) -> Vec<[f64; 2]> {
    let mut found = vec![[f64::INFINITY, f64::NEG_INFINITY]; width];
    for row in rows {
        for ([low, high], x) in found.iter_mut().zip(row) {
            (*low, *high) = (low.min(*x), high.max(*x));
        }
    }
    let none = |[low, high]: [f64; 2]| if low > high { [0.0; 2] } else { [low, high] };
    found.into_iter().map(none).collect()
}

/// A tensor of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The queries.
    Queries,
    /// The keys of a set.
    Keys(usize),
    /// The values of a set.
    Values(usize),
}

impl Side {
    /// Rows a key head, and columns.
    fn sizes(self, shape: &Shape) -> (usize, usize) {
        let keys = |set: usize| shape.keys.get(set).copied().unwrap_or(0);
        match self {
            Side::Queries => (shape.group() * shape.queries, shape.key),
            Side::Keys(set) => (keys(set), shape.key),
            Side::Values(set) => (keys(set), shape.value),
        }
    }
}

/// Plans the least and the greatest of every column, of runs of 256 rows of one tensor. Input: the tensor; output: pairs in f32,
/// `[key heads, runs, columns, 2]`.
///
/// # Errors
/// `Argument` when sizes make no sense; `Limit` when one head exceeds a binding.
pub fn plan(shape: &Shape, side: Side, caps: &Caps) -> Result<Plan> {
    shape.check(&Mask::Full)?;
    let mut builder = Builder::default();
    let (rows, width) = side.sizes(shape);
    let parts = (rows as u64).div_ceil(SPAN);
    let tensor = Rows {
        slot: Slot::Input(0),
        dtype: shape.dtype,
        stride: width,
    };
    let out = Rows {
        slot: Slot::Output(0),
        dtype: Dtype::F32,
        stride: 2 * width,
    };
    let (heads, rows) = (shape.key_heads() as u64, rows as u64);
    let binding = caps.binding_bytes.saturating_sub(512);
    let fit = binding
        / (rows * tensor.row_bytes())
            .max(parts * out.row_bytes())
            .max(1);
    if fit == 0 {
        return Err(Error::Limit {
            what: format!("{OP}, bytes of one head in a binding,"),
            needed: rows * tensor.row_bytes(),
            available: binding,
            remedy: "use fewer tokens",
        });
    }
    if rows * heads == 0 {
        return Ok(builder.plan(OP, "extent".into(), Work::default()));
    }
    for first in (0..heads).step_by(fit as usize) {
        let own: Range<u64> = first..heads.min(first + fit);
        let (x, x_offset) = tensor.bind(&(own.start * rows..own.end * rows), false);
        let (to, to_offset) = out.bind(&(own.start * parts..own.end * parts), true);
        let starts = [
            own.start * rows * width as u64,
            own.start * parts * width as u64,
        ];
        let params = Params {
            width: width as u32,
            tokens: rows as u32,
            parts: parts as u32,
            span: SPAN as u32,
            x_offset: x_offset.wrapping_add(starts[0] as u32),
            // In pairs: the binding starts at a whole number of them.
            out_offset: (to_offset / 2).wrapping_add(starts[1] as u32) & 0x7fff_ffff,
            ..Params::default()
        };
        let native = Access::new(shape.dtype, [1; 2], caps).native;
        let items = (own.end - own.start) * parts * width as u64;
        let kernel = kernels::extent(shape.dtype, native);
        push(
            &mut builder,
            caps,
            kernel,
            vec![x, to],
            [items, 8 * SPAN],
            params,
        );
    }
    let plan = builder.plan(OP, "extent".into(), Work::default());
    plan.check(caps)?;
    Ok(plan)
}
