//! The calls: sizes against tensors, a plan, a pass.

use super::{
    OP_HISTOGRAM, OP_KNN, OP_RADIUS, plan,
    shape::{Allowed, Filter, Order, Radius, Search, Shape},
};
use crate::{
    Error, Result,
    error::length,
    gpu::{Gpu, Pass, Tensor, View},
};

/// What a search reads.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// Codes, `[queries, W]`.
    pub queries: &'a Tensor<u32>,
    /// Codes, `[items, W]`, of one tensor or several: see [`upload`](super::upload()), or `std::slice::from_ref` for one that is there.
    pub database: &'a [Tensor<u32>],
    /// Bits, as [`Allowed::filter`] says.
    pub filter: Option<&'a Tensor<u32>>,
    /// lo and hi, `[queries, 2]`, where [`Allowed::ranges`].
    pub ranges: Option<&'a Tensor<u32>>,
    /// Distances, `[queries]`, for [`Radius::PerQuery`].
    pub radii: Option<&'a Tensor<u32>>,
}

impl<'a> Inputs<'a> {
    /// Codes alone.
    pub fn new(queries: &'a Tensor<u32>, database: &'a [Tensor<u32>]) -> Inputs<'a> {
        Inputs {
            queries,
            database,
            filter: None,
            ranges: None,
            radii: None,
        }
    }

    /// The rows of each tensor of the database.
    fn parts(&self, shape: &Shape) -> Vec<usize> {
        let words = shape.words().max(1);
        self.database
            .iter()
            .map(|part| part.len() / words)
            .collect()
    }

    /// What is searched, with every tensor of the length that it asks for.
    fn search<'p>(
        &self,
        op: &'static str,
        shape: &Shape,
        parts: &'p [usize],
        allowed: &Allowed,
        radius: Option<Radius>,
    ) -> Result<Search<'p>> {
        shape.check(op)?;
        length(
            op,
            "queries",
            self.queries.len(),
            shape.queries * shape.words(),
        )?;
        let codes: usize = self.database.iter().map(Tensor::len).sum();
        length(op, "database", codes, shape.items * shape.words())?;
        let filters = match allowed.filter {
            Filter::None => None,
            Filter::Global => Some(shape.filter_words()),
            Filter::PerQuery => Some(shape.queries * shape.filter_words()),
        };
        let ranges = allowed.ranges.then_some(2 * shape.queries);
        let radii = (radius == Some(Radius::PerQuery)).then_some(shape.queries);
        for (what, tensor, expected) in [
            ("filter", self.filter, filters),
            ("ranges", self.ranges, ranges),
            ("radii", self.radii, radii),
        ] {
            match (tensor, expected) {
                (None, None) => {}
                (Some(tensor), Some(expected)) => length(op, what, tensor.len(), expected)?,
                (tensor, _) => {
                    let there = |is: bool| if is { "given" } else { "left out" };
                    return Err(Error::Argument {
                        op,
                        what: what.into(),
                        expected: format!("{}, as the options say", there(expected.is_some())),
                        got: format!("one {}", there(tensor.is_some())),
                    });
                }
            }
        }
        Ok(Search {
            shape: *shape,
            parts,
            allowed: *allowed,
        })
    }

    fn views(&self) -> Vec<View<'a>> {
        let options = [self.filter, self.ranges, self.radii];
        let first = std::iter::once(self.queries).chain(options.into_iter().flatten());
        first.chain(self.database).map(Tensor::view).collect()
    }
}

/// Items by query, nearest first.
#[derive(Debug)]
pub struct Neighbours<'a> {
    /// Distances, `[queries, k]`.
    pub distance: &'a mut Tensor<u32>,
    /// Indices, as the distances.
    pub index: &'a mut Tensor<u32>,
}

/// Items by query, in rows of their own lengths.
#[derive(Debug)]
pub struct Rows<'a> {
    /// Where each query's row starts, and where the last one ends: `[queries + 1]`.
    pub row_offsets: &'a mut Tensor<u32>,
    /// Distances, `[capacity]`.
    pub distance: &'a mut Tensor<u32>,
    /// Indices, as the distances.
    pub index: &'a mut Tensor<u32>,
}

/// The k nearest neighbours of each query, exactly.
///
/// ```text
/// d_j = popcount(query xor item_j) over the first `bits` bits        the k least (d_j, j) over the allowed j, in that order
/// ```
///
/// Shapes: distance and index `[queries, k]`, u32; where fewer than k items are allowed the rest of a row is
/// [`ABSENT`](crate::hamming::ABSENT) in both. Any k, also 0 and more than the items. Pads of codes are not read.
///
/// Cost: queries · items · ⌈bits/32⌉ population counts and a sample of them where k is small against the items, twice that
/// otherwise or where more than 1024 items share the distances up to the k-th. A single query takes the whole device.
/// Temporaries: at most a quarter of `Select::scratch_bytes` for counters, and 8 KiB a query.
///
/// Accuracy: exact. Deterministic: the same bits on every device and for every plan.
///
/// # Errors
/// `Argument` when sizes and tensors do not fit together; `Limit` when the row of one query exceeds a binding; `Shader`,
/// `OutOfMemory`, `Timeout`, `DeviceLost` from the device.
pub fn knn(
    gpu: &Gpu,
    shape: &Shape,
    k: usize,
    allowed: &Allowed,
    inputs: &Inputs<'_>,
    out: Neighbours<'_>,
) -> Result<()> {
    let mut pass = gpu.pass("nearest neighbours");
    record_knn(&mut pass, shape, k, allowed, inputs, out)?;
    pass.submit().map(drop)
}

/// [`knn`], recorded into a pass that the caller submits.
///
/// # Errors
/// As [`knn`].
pub fn record_knn(
    pass: &mut Pass,
    shape: &Shape,
    k: usize,
    allowed: &Allowed,
    inputs: &Inputs<'_>,
    out: Neighbours<'_>,
) -> Result<()> {
    let parts = inputs.parts(shape);
    let search = inputs.search(OP_KNN, shape, &parts, allowed, None)?;
    length(OP_KNN, "distance", out.distance.len(), shape.queries * k)?;
    length(OP_KNN, "index", out.index.len(), shape.queries * k)?;
    let plan = plan::knn(&search, k, pass.caps())?;
    pass.run(
        &plan,
        &inputs.views(),
        &mut [out.distance.view_mut(), out.index.view_mut()],
    )
}

/// How many allowed items are within a radius of each query: counts `[queries]`, u32.
///
/// Cost: queries · items · ⌈bits/32⌉ population counts.
///
/// # Errors
/// As [`knn`].
pub fn count(
    gpu: &Gpu,
    shape: &Shape,
    radius: Radius,
    allowed: &Allowed,
    inputs: &Inputs<'_>,
    counts: &mut Tensor<u32>,
) -> Result<()> {
    let parts = inputs.parts(shape);
    let search = inputs.search(OP_RADIUS, shape, &parts, allowed, Some(radius))?;
    length(OP_RADIUS, "counts", counts.len(), shape.queries)?;
    let plan = plan::count(&search, radius, gpu.caps())?;
    let mut pass = gpu.pass("items within a radius");
    pass.run(&plan, &inputs.views(), &mut [counts.view_mut()])?;
    pass.submit().map(drop)
}

/// Where the rows of [`radius`] start, and their total length, which is read back: the capacity that [`radius`] needs.
///
/// # Errors
/// As [`knn`]; `Limit` when the total is 2³² - 1 or more.
pub fn radius_count(
    gpu: &Gpu,
    shape: &Shape,
    radius: Radius,
    allowed: &Allowed,
    inputs: &Inputs<'_>,
    row_offsets: &mut Tensor<u32>,
) -> Result<usize> {
    let parts = inputs.parts(shape);
    let search = inputs.search(OP_RADIUS, shape, &parts, allowed, Some(radius))?;
    length(
        OP_RADIUS,
        "row_offsets",
        row_offsets.len(),
        shape.queries + 1,
    )?;
    let plan = plan::row_offsets(&search, radius, gpu.caps())?;
    let mut pass = gpu.pass("rows within a radius");
    pass.run(&plan, &inputs.views(), &mut [row_offsets.view_mut()])?;
    pass.submit()?;
    let total = row_offsets.download()?.last().copied().unwrap_or(0);
    fitting(total, u32::MAX as usize - 1)
}

/// All allowed items within a radius of each query, as compressed sparse rows.
///
/// Row q is index\[row_offsets_q .. row_offsets_{q+1}\]: every allowed j with d_j ≤ r, in the order asked for. What the rows leave
/// of the capacity is [`ABSENT`](crate::hamming::ABSENT).
///
/// Cost: twice the population counts of [`count`], three times where the counters of all queries exceed the budget.
///
/// Accuracy: exact. Deterministic: the same bits on every device and for every plan.
///
/// # Errors
/// As [`knn`]; `Limit` with the total when it exceeds the capacity, the length of the outputs: nothing is written then but the row
/// offsets.
pub fn radius(
    gpu: &Gpu,
    shape: &Shape,
    radius: Radius,
    order: Order,
    allowed: &Allowed,
    inputs: &Inputs<'_>,
    mut out: Rows<'_>,
) -> Result<()> {
    let mut pass = gpu.pass("items within a radius");
    record_radius(&mut pass, shape, radius, order, allowed, inputs, &mut out)?;
    pass.submit()?;
    let total = out.row_offsets.download()?.last().copied().unwrap_or(0);
    fitting(total, out.index.len()).map(drop)
}

/// [`radius`], recorded into a pass that the caller submits. Whether the capacity sufficed is for the caller to see: the last of
/// the row offsets is the total, 2³² - 1 if it is that or more, and where it exceeds the capacity the outputs hold
/// [`ABSENT`](crate::hamming::ABSENT) alone.
///
/// # Errors
/// As [`knn`].
pub fn record_radius(
    pass: &mut Pass,
    shape: &Shape,
    radius: Radius,
    order: Order,
    allowed: &Allowed,
    inputs: &Inputs<'_>,
    out: &mut Rows<'_>,
) -> Result<()> {
    let parts = inputs.parts(shape);
    let search = inputs.search(OP_RADIUS, shape, &parts, allowed, Some(radius))?;
    let capacity = out.index.len();
    length(
        OP_RADIUS,
        "row_offsets",
        out.row_offsets.len(),
        shape.queries + 1,
    )?;
    length(OP_RADIUS, "distance", out.distance.len(), capacity)?;
    let plan = plan::radius(&search, radius, order, capacity, pass.caps())?;
    let outputs = &mut [
        out.row_offsets.view_mut(),
        out.distance.view_mut(),
        out.index.view_mut(),
    ];
    pass.run(&plan, &inputs.views(), outputs)
}

/// How many allowed items there are at each distance of each query: `[queries, bits + 1]`, u32.
///
/// Cost: queries · items · ⌈bits/32⌉ population counts, and as many sums in memory as there are pairs.
///
/// # Errors
/// As [`knn`].
pub fn histogram(
    gpu: &Gpu,
    shape: &Shape,
    allowed: &Allowed,
    inputs: &Inputs<'_>,
    counts: &mut Tensor<u32>,
) -> Result<()> {
    let parts = inputs.parts(shape);
    let search = inputs.search(OP_HISTOGRAM, shape, &parts, allowed, None)?;
    length(
        OP_HISTOGRAM,
        "counts",
        counts.len(),
        shape.queries * (shape.bits + 1),
    )?;
    let plan = plan::histogram(&search, gpu.caps())?;
    let mut pass = gpu.pass("histogram of distances");
    pass.run(&plan, &inputs.views(), &mut [counts.view_mut()])?;
    pass.submit().map(drop)
}

/// Whether the total of all rows fits.
pub(super) fn fitting(total: u32, capacity: usize) -> Result<usize> {
    let total = total as usize;
    if total <= capacity {
        return Ok(total);
    }
    Err(Error::Limit {
        what: "items within the radius, capacity of the outputs,".into(),
        needed: total as u64,
        available: capacity as u64,
        remedy: "take the capacity from `radius_count`, or search fewer queries at a time",
    })
}
