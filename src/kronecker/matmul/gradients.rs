//! Gradients of a product: of x by the transposed operator, of each factor by sums over everything else.

use std::ops::Range;

use super::{
    OP,
    end::End,
    factor_grad::FactorGrad,
    group::Group,
    order::{Axes, Mode, modes},
    plan::{Entries, Product, ordered, slabs},
    shape::{self, Kind, Operator, Options, Place, Shape, Side},
    steps::Pass,
    store::StoreStep,
};
use crate::{
    Result,
    error::{length, stored_as},
    gpu::{Caps, Dtype, Elem, Gpu, Pass as Recording, Tensor},
    plan::{Builder, Plan, Slot, Work},
    rows::Sum,
};

/// Gradients of [`matmul()`](super::matmul()) with respect to x and every factor, where `grad_z` is the one with respect to z.
///
/// ```text
/// X_0 = x,  X_k = X_(k-1) times factor π_k          G_n = alpha grad_z,  G_(k-1) = G_k times the transpose of factor π_k
/// grad_x = G_0        grad_F_(π_k)[i, j] = sum_(l, r) X_(k-1)[l, i, r] G_k[l, j, r]
/// ```
///
/// π is the order of the forward call. `grad_x` is `[batch, rows, P]`, to the left `[batch, Q, rows]`, one after another whatever the
/// strides of x, but summed over what they repeat: without batches where `batch` is 0, with a single row where `row` is 0.
/// `grad_factors` are as `factors`, summed over the batches where these share a factor. Types as in the forward call; `grad_z` lies as
/// z. What z held before has gradient beta · grad_z.
///
/// Cost: three times the forward call's. Memory beyond arguments: the X_k and two of the G_k, for as many rows, or batches, at a
/// time as fit the size of the largest of them (for all at once where a batch has a factor of its own, one row at least), and partial
/// sums.
///
/// Accuracy: an element differs from the f64 reference by at most `2^-22 √(all products summed)` times the same sums of absolute
/// values. Deterministic: partial sums are added in a fixed order.
///
/// # Errors
/// As [`matmul()`](super::matmul()).
#[allow(
    clippy::too_many_arguments,
    reason = "the arguments of the forward call, and their gradients"
)]
pub fn gradients<T: Elem>(
    gpu: &Gpu,
    operator: &Operator,
    shape: &Shape,
    options: &Options,
    factors: &[&Tensor<f32>],
    x: &Tensor<T>,
    grad_z: &Tensor<T>,
    grad_x: &mut Tensor<T>,
    grad_factors: &mut [&mut Tensor<f32>],
) -> Result<()> {
    let mut pass = gpu.pass(OP);
    record_gradients(
        &mut pass,
        operator,
        shape,
        options,
        factors,
        x,
        grad_z,
        grad_x,
        grad_factors,
    )?;
    pass.submit().map(drop)
}

/// [`gradients()`], recorded into a pass that the caller submits.
///
/// # Errors
/// As [`gradients()`].
#[allow(clippy::too_many_arguments, reason = "those of the call")]
pub fn record_gradients<T: Elem>(
    pass: &mut Recording,
    operator: &Operator,
    shape: &Shape,
    options: &Options,
    factors: &[&Tensor<f32>],
    x: &Tensor<T>,
    grad_z: &Tensor<T>,
    grad_x: &mut Tensor<T>,
    grad_factors: &mut [&mut Tensor<f32>],
) -> Result<()> {
    stored_as::<T>(OP, shape.dtype)?;
    let plan = plan_gradients(operator, shape, options, pass.caps())?;
    super::counted(operator, factors.len())?;
    super::counted(operator, grad_factors.len())?;
    let stored = operator.stored().zip(factors).zip(grad_factors.iter());
    for (n, ((factor, tensor), grad)) in stored.enumerate() {
        let expected = factor.len(shape.batch);
        length(OP, &format!("factors[{n}]"), tensor.len(), expected)?;
        length(OP, &format!("grad_factors[{n}]"), grad.len(), expected)?;
    }
    shape.source(operator).holds("x", x.len())?;
    shape.target(operator).holds("grad_z", grad_z.len())?;
    length(OP, "grad_x", grad_x.len(), grad_x_len(operator, shape))?;
    let inputs = [x.view(), grad_z.view()].into_iter();
    let inputs = inputs.chain(factors.iter().map(|factor| factor.view()));
    let outputs = std::iter::once(grad_x.view_mut());
    let outputs = outputs.chain(grad_factors.iter_mut().map(|grad| grad.view_mut()));
    pass.run(
        &plan,
        &inputs.collect::<Vec<_>>(),
        &mut outputs.collect::<Vec<_>>(),
    )
}

/// Elements of the gradient with respect to x.
pub fn grad_x_len(operator: &Operator, shape: &Shape) -> usize {
    let source = shape.source(operator);
    let [batch, rows] = kept(&source);
    batch * rows * source.width
}

/// Batches and rows of x that it does not repeat.
fn kept(source: &Place) -> [usize; 2] {
    let of = |count: usize, stride: usize| if stride == 0 { count.min(1) } else { count };
    [
        of(source.batch, source.strides.batch),
        of(source.rows, source.strides.row),
    ]
}

/// Plans [`gradients()`]. Inputs: x, grad_z, then the factors that take a tensor; outputs: grad_x, then those of the factors.
///
/// # Errors
/// As [`gradients()`], but for those of the device.
pub fn plan_gradients(
    operator: &Operator,
    shape: &Shape,
    options: &Options,
    caps: &Caps,
) -> Result<Plan> {
    shape::check(operator, shape, options)?;
    let count = operator.stored().count();
    let factors: Vec<Entries> = (0..count)
        .map(|n| Entries {
            slot: Slot::Input((n + 2) as u16),
            first: 0,
        })
        .collect();
    let into: Vec<Slot> = (0..count).map(|n| Slot::Output((n + 1) as u16)).collect();
    let gradients = Gradients {
        product: Product {
            operator,
            shape: *shape,
            options: *options,
            factors: &factors,
            x: Slot::Input(0),
            z: Slot::Input(1),
        },
        grad_x: Slot::Output(0),
        grad_factors: &into,
    };
    let mut builder = Builder::default();
    gradients.steps(&mut builder, caps)?;
    let forward = gradients.product.work();
    let work = Work {
        flops: 3.0 * forward.flops,
        bytes: 2.0 * forward.bytes,
        ..forward
    };
    let label = format!("gradients, {}", gradients.product.label(caps));
    let plan = builder.plan(OP, label, work);
    plan.check(caps)?;
    Ok(plan)
}

/// The gradients of a product as a part of any plan; of the product, z is where the gradient with respect to z is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gradients<'a> {
    pub product: Product<'a>,
    pub grad_x: Slot,
    /// One for each factor that takes a tensor, written from its start.
    pub grad_factors: &'a [Slot],
}

impl Gradients<'_> {
    pub fn steps(&self, builder: &mut Builder, caps: &Caps) -> Result<()> {
        let Product {
            operator, shape, ..
        } = self.product;
        let modes = modes(operator, shape.side);
        let axes = Axes::new(&shape, &modes);
        if axes.outer * axes.inner == 0 {
            // Sums of nothing.
            let stored = operator.stored().zip(self.grad_factors);
            for (factor, into) in stored.filter(|(factor, _)| factor.len(shape.batch) > 0) {
                let words = 0..factor.len(shape.batch) as u64;
                crate::rows::fill(builder, caps, *into, words, 0);
            }
            if grad_x_len(operator, &shape) > 0 {
                let words = grad_x_len(operator, &shape) as u64 * shape.dtype.bytes();
                crate::rows::fill(builder, caps, self.grad_x, 0..words.div_ceil(4), 0);
            }
            return Ok(());
        }
        let passes = ordered(&modes);
        let slabs = slabs(&axes, &passes);
        let source = shape.source(operator);
        let target = shape.target(operator);
        let plain = |place: &Place| place.dense && shape.dtype == Dtype::F32;
        // What is read more than once is f32, one after another.
        let copies = [plain(&source), plain(&target)].map(|plain| !plain);
        let whole = kept(&source) == [source.batch, source.rows];
        // The sum over what x repeats, and what is narrowed, goes through f32.
        let wide = shape.dtype != Dtype::F32 || !whole;
        let largest = slabs.iter().copied().max().unwrap_or(1);
        let inner: u64 = slabs.iter().skip(1).take(passes.len().max(1) - 1).sum();
        let first = slabs.first().copied().unwrap_or(1);
        let last = slabs.last().copied().unwrap_or(1);
        let back = if passes.len() > 1 { 2 * largest } else { 0 };
        let own = u64::from(copies[0]) * first + u64::from(copies[1]) * last;
        let all = inner + back + own;
        let single = passes.iter().any(|pass| pass.mode.batch_stride != 0);
        let outers = if all == 0 || single {
            axes.outer
        } else {
            let fit = axes.outer * largest / all;
            let budget = caps.scratch_bytes / 2 / (4 * all);
            fit.min(budget).max(1)
        };
        let mut scratch = |slab: u64| builder.add_scratch(4 * slab * outers);
        let room = Room {
            kept: passes
                .iter()
                .skip(1)
                .enumerate()
                .map(|(n, _)| scratch(slabs.get(n + 1).copied().unwrap_or(1)))
                .collect(),
            back: (0..if passes.len() > 1 { 2 } else { 0 })
                .map(|_| scratch(largest))
                .collect(),
            x: copies[0].then(|| scratch(first)),
            z: copies[1].then(|| scratch(last)),
            grad_x: wide.then(|| builder.add_scratch(4 * first * axes.outer)),
        };
        for from in (0..axes.outer).step_by(outers as usize) {
            let range = from..axes.outer.min(from + outers);
            self.walk(builder, caps, &axes, &passes, &room, range)?;
        }
        if let Some(slot) = room.grad_x {
            self.finish(builder, caps, slot, &source)?;
        }
        Ok(())
    }

    fn walk(
        &self,
        builder: &mut Builder,
        caps: &Caps,
        axes: &Axes,
        passes: &[Group],
        room: &Room,
        outers: Range<u64>,
    ) -> Result<()> {
        let Product {
            operator, shape, ..
        } = self.product;
        let slabs = slabs(axes, passes);
        let [first, last] = [slabs.first(), slabs.last()].map(|slab| slab.copied().unwrap_or(1));
        let source = shape.source(operator);
        let target = shape.target(operator);
        let given = |slot, place, slab: u64| End {
            slot,
            dtype: shape.dtype,
            place,
            first: outers.start * slab,
        };
        let mut x = given(self.product.x, source, first);
        let mut g = given(self.product.z, target, last);
        for (end, copy, slab) in [(&mut x, room.x, first), (&mut g, room.z, last)] {
            if let Some(slot) = copy {
                let into = End::dense(slot, 0, slab);
                self.product
                    .whole(slab, &outers, *end, into, 1.0)
                    .steps(builder, caps)?;
                *end = into;
            }
        }
        let into = End::dense(
            room.grad_x.unwrap_or(self.grad_x),
            outers.start * first,
            first,
        );
        let alpha = self.product.options.alpha;
        if passes.is_empty() {
            return self
                .product
                .whole(first, &outers, g, into, alpha)
                .steps(builder, caps);
        }
        // The inputs of the passes.
        let mut inputs = vec![(x, axes.clone())];
        let mut axes = axes.clone();
        for (n, group) in passes.iter().enumerate() {
            if let Some(slot) = room.kept.get(n) {
                let z = End::dense(*slot, 0, slabs.get(n + 1).copied().unwrap_or(1));
                let pass = self.product.pass(&axes, group, &outers, x, z);
                pass.steps(builder, caps)?;
                x = z;
            }
            axes.apply(group);
            inputs.push((x, axes.clone()));
        }
        for (n, group) in passes.iter().enumerate().rev() {
            let mode = &group.mode;
            let Some((x, axes)) = inputs.get(n) else {
                continue;
            };
            let into_factor = self.grad_factors.get(mode.stored).copied();
            if let Some(into) = into_factor {
                let pass = self.product.pass(axes, group, &outers, *x, g);
                let gradient = FactorGrad {
                    pass: &pass,
                    alpha,
                    into,
                    accumulate: outers.start > 0,
                };
                gradient.steps(builder, caps)?;
            }
            let z = match room.back.get(n % 2) {
                Some(slot) if n > 0 => End::dense(*slot, 0, slabs.get(n).copied().unwrap_or(1)),
                _ => into,
            };
            let mut after = axes.clone();
            after.apply(group);
            let back = Group::single(mode.turned());
            let mut pass = self.product.pass(&after, &back, &outers, g, z);
            if n == 0 {
                pass.alpha = alpha;
            }
            pass.steps(builder, caps)?;
            g = z;
        }
        Ok(())
    }

    /// The gradient of x, summed over what x repeats, in its type.
    fn finish(&self, builder: &mut Builder, caps: &Caps, slot: Slot, source: &Place) -> Result<()> {
        let Product { shape, .. } = self.product;
        let [batch, rows] = kept(source);
        let (batches, lines, width) = (source.batch, source.rows, source.width);
        let narrow = shape.dtype != Dtype::F32;
        let elements = (batch * rows * width) as u64;
        let mut from = slot;
        if [batch, rows] != [batches, lines] {
            // Batches of one row are summed with their rows; else one after the other.
            let mut steps = Vec::new();
            if rows != lines {
                steps.push([batches, lines, width]);
            }
            if batch != batches {
                steps.push([1, batches, rows * width]);
            }
            let count = steps.len();
            for (n, [sets, parts, block]) in steps.into_iter().enumerate() {
                let into = if n + 1 == count && !narrow {
                    self.grad_x
                } else {
                    builder.add_scratch(4 * (sets * block) as u64)
                };
                let sum = Sum {
                    sums: from,
                    sets: sets as u64,
                    parts: parts as u64,
                    block: block as u64,
                    accumulate: false,
                };
                sum.step(builder, caps, 0..block as u64, into);
                from = into;
            }
        }
        if narrow {
            let store = StoreStep {
                y: End::dense(from, 0, elements),
                z: self.grad_x,
                dtype: shape.dtype,
                place: End::dense(from, 0, elements).place,
                elements: 0..elements,
                beta: 0.0,
            };
            store.steps(builder, caps)?;
        }
        Ok(())
    }
}

/// The temporaries of a walk.
struct Room {
    /// Inputs of the passes but the first.
    kept: Vec<Slot>,
    /// Gradients with respect to those, in turn.
    back: Vec<Slot>,
    /// Copies of x and of the gradient of z.
    x: Option<Slot>,
    z: Option<Slot>,
    /// The gradient of x, in f32 and with what it repeats.
    grad_x: Option<Slot>,
}

impl Product<'_> {
    /// A pass of a walk over some outer indices.
    pub(super) fn pass(
        &self,
        axes: &Axes,
        group: &Group,
        outers: &Range<u64>,
        x: End,
        z: End,
    ) -> Pass {
        let mode = &group.mode;
        let [before, after] = axes.around(mode.axis, group.span);
        let batches = match self.shape.side {
            Side::Right => self.shape.rows as u64,
            Side::Left => 1,
        };
        Pass {
            group: group.clone(),
            entries: self.factors.get(mode.stored).copied(),
            after,
            units: (outers.end - outers.start) * before,
            first_unit: outers.start * before,
            units_of_batch: batches * before,
            batch: self.shape.batch as u64,
            dtype: self.shape.dtype,
            x,
            z,
            alpha: 1.0,
            beta: 0.0,
        }
    }

    /// A pass that copies all items of some outer indices.
    pub(super) fn whole(&self, slab: u64, outers: &Range<u64>, x: End, z: End, alpha: f32) -> Pass {
        Pass {
            group: Group::single(Mode {
                kind: Kind::Identity,
                axis: 0,
                stored: usize::MAX,
                p: 1,
                q: 1,
                t_stride: 0,
                j_stride: 0,
                batch_stride: 0,
            }),
            entries: None,
            after: slab,
            units: outers.end - outers.start,
            first_unit: outers.start,
            units_of_batch: u64::MAX,
            batch: self.shape.batch as u64,
            dtype: self.shape.dtype,
            x,
            z,
            alpha,
            beta: 0.0,
        }
    }
}
