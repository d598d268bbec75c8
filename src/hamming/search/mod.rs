//! Exact search among binary codes: nearest neighbours, everything within a radius, histograms of distances.
//!
//! cnt_q\[h\] is the number of allowed items at distance h of query q. The k nearest neighbours are the stable counting sort of the
//! allowed items by distance, cut at k: any k, no recall to speak of, ties to the lower index, the same on every device and for
//! every plan. See [`knn`], [`radius`], [`radius_count`], [`count`] and [`histogram`].
//!
//! A database is one tensor or several, whose items are numbered through: [`upload`] cuts one where it exceeds the largest buffer
//! of a device. Bindings and loops beyond a device's limits are cut by the planner. Time is queries · items · ⌈bits/32⌉ population
//! counts, or twice that; no temporary has the size of queries times items.

#[cfg(feature = "cli")]
pub(crate) mod cases;
pub mod plan;
mod planner;
mod tables;
mod walk;

use super::bits::{check_bits, words};
use crate::{
    Error, Result,
    error::length,
    gpu::{Caps, Gpu, Pass, Tensor, View},
    plan::Slot,
};

const OP_KNN: &str = "hamming_knn";
const OP_RADIUS: &str = "hamming_radius";
const OP_HISTOGRAM: &str = "hamming_histogram";

/// Parts that a database may have.
const MOST_PARTS: usize = 200;

/// Sizes of a search: codes `[queries, ⌈bits/32⌉]` and `[items, ⌈bits/32⌉]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Codes searched for; 0 is legal.
    pub queries: usize,
    /// Codes of the database; 0 is legal.
    pub items: usize,
    /// Bits of a code.
    pub bits: usize,
}

impl Shape {
    /// Words of a code.
    pub fn words(&self) -> usize {
        words(self.bits)
    }

    /// Words of one filter.
    pub fn filter_words(&self) -> usize {
        self.items.div_ceil(32)
    }

    pub(crate) fn check(&self, op: &'static str) -> Result<()> {
        check_bits(op, self.bits)?;
        for (what, len) in [("queries", self.queries), ("items", self.items)] {
            if len as u64 > u64::from(u32::MAX) - 1 {
                return Err(Error::Argument {
                    op,
                    what: what.into(),
                    expected: format!("at most {}", u32::MAX - 1),
                    got: len.to_string(),
                });
            }
        }
        Ok(())
    }
}

/// Bit sets of items: bit j mod 32 of word j / 32 is 1 where item j is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Filter {
    /// Every item is kept.
    #[default]
    None,
    /// One for all queries, `[⌈items/32⌉]`.
    Global,
    /// One to a query, `[queries, ⌈items/32⌉]`.
    PerQuery,
}

/// Which items count for a query; others appear nowhere, not even in counts. The default is all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allowed {
    /// Items kept by bits.
    pub filter: Filter,
    /// Whether each query has a range lo ≤ j < hi, `[queries, 2]`.
    pub ranges: bool,
    /// Whether item q does not count for query q.
    pub exclude_self: bool,
}

/// What is searched: sizes, the rows of each part of the database, and what counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Search<'a> {
    /// Sizes.
    pub shape: Shape,
    /// Codes in each tensor of the database, in order.
    pub parts: &'a [usize],
    /// What counts.
    pub allowed: Allowed,
}

impl Search<'_> {
    fn check(&self, op: &'static str) -> Result<()> {
        self.shape.check(op)?;
        let sum: usize = self.parts.iter().sum();
        let wrong = |what: &str, expected: String, got: String| {
            Err(Error::Argument {
                op,
                what: what.into(),
                expected,
                got,
            })
        };
        if sum != self.shape.items {
            return wrong(
                "parts",
                format!("{} items in all", self.shape.items),
                sum.to_string(),
            );
        }
        if self.parts.len() > MOST_PARTS {
            return wrong(
                "parts",
                format!("at most {MOST_PARTS} tensors"),
                self.parts.len().to_string(),
            );
        }
        Ok(())
    }

    fn filter(&self) -> Option<Slot> {
        (self.allowed.filter != Filter::None).then_some(Slot::Input(1))
    }

    fn ranges(&self) -> Option<Slot> {
        let place = 1 + u16::from(self.filter().is_some());
        self.allowed.ranges.then_some(Slot::Input(place))
    }

    /// The number of the first input that is a part of the database, behind `more` others of an operator.
    fn first_part(&self, more: usize) -> usize {
        1 + usize::from(self.filter().is_some()) + usize::from(self.allowed.ranges) + more
    }

    /// Bytes of a filter that each query has for itself.
    fn filter_row_bytes(&self) -> u64 {
        match self.allowed.filter {
            Filter::PerQuery => 4 * self.shape.filter_words() as u64,
            _ => 0,
        }
    }
}

/// How far is near enough; inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Radius {
    /// The same distance for all queries; 0 finds equal codes.
    All(u32),
    /// A distance for each query, from a tensor `[queries]`.
    PerQuery,
}

impl Radius {
    fn inputs(self) -> usize {
        usize::from(self == Radius::PerQuery)
    }
}

/// The order of the items of a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Ascending index, as in canonical compressed sparse rows.
    #[default]
    Index,
    /// Ascending distance, ties by ascending index.
    Distance,
}

/// What a search reads.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// Codes, `[queries, W]`.
    pub queries: &'a Tensor<u32>,
    /// Codes, `[items, W]`, of one tensor or several: see [`upload`], or `std::slice::from_ref` for one that is there.
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

    fn check(&self, op: &'static str, search: &Search<'_>, radius: Option<Radius>) -> Result<()> {
        let shape = &search.shape;
        length(
            op,
            "queries",
            self.queries.len(),
            shape.queries * shape.words(),
        )?;
        let codes: usize = self.database.iter().map(Tensor::len).sum();
        length(op, "database", codes, shape.items * shape.words())?;
        let filters = match search.allowed.filter {
            Filter::None => None,
            Filter::Global => Some(shape.filter_words()),
            Filter::PerQuery => Some(shape.queries * shape.filter_words()),
        };
        let ranges = search.allowed.ranges.then_some(2 * shape.queries);
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
        Ok(())
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

/// Copies the codes of a database to a device, into several tensors where they exceed its largest buffer.
///
/// # Errors
/// `Argument` when the words are no whole codes; `OutOfMemory`, `DeviceLost` from the device.
pub fn upload(gpu: &Gpu, bits: usize, codes: &[u32]) -> Result<Vec<Tensor<u32>>> {
    check_bits(OP_KNN, bits)?;
    let words = words(bits);
    length(OP_KNN, "codes", codes.len(), codes.len() / words * words)?;
    let rows = part_rows(bits, gpu.caps());
    let parts = codes.chunks(rows * words).map(|part| gpu.upload(part));
    parts.collect()
}

/// Codes that one tensor of a device holds at most.
pub fn part_rows(bits: usize, caps: &Caps) -> usize {
    let rows = caps.buffer_bytes / (4 * words(bits).max(1) as u64);
    (rows / walk::TILE * walk::TILE).clamp(1, 1 << 32) as usize
}

/// The k nearest neighbours of each query, exactly.
///
/// ```text
/// d_j = popcount(query xor item_j) over the first `bits` bits        the k least (d_j, j) over the allowed j, in that order
/// ```
///
/// Shapes: distance and index `[queries, k]`, u32; where fewer than k items are allowed the rest of a row is
/// [`ABSENT`](super::ABSENT) in both. Any k, also 0 and more than the items. Pads of codes are not read.
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
    let search = Search {
        shape: *shape,
        parts: &parts,
        allowed: *allowed,
    };
    search.shape.check(OP_KNN)?;
    inputs.check(OP_KNN, &search, None)?;
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
    let search = Search {
        shape: *shape,
        parts: &parts,
        allowed: *allowed,
    };
    search.shape.check(OP_RADIUS)?;
    inputs.check(OP_RADIUS, &search, Some(radius))?;
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
    let search = Search {
        shape: *shape,
        parts: &parts,
        allowed: *allowed,
    };
    search.shape.check(OP_RADIUS)?;
    inputs.check(OP_RADIUS, &search, Some(radius))?;
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
/// of the capacity is [`ABSENT`](super::ABSENT).
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
/// [`ABSENT`](super::ABSENT) alone.
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
    let search = Search {
        shape: *shape,
        parts: &parts,
        allowed: *allowed,
    };
    search.shape.check(OP_RADIUS)?;
    inputs.check(OP_RADIUS, &search, Some(radius))?;
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
    let search = Search {
        shape: *shape,
        parts: &parts,
        allowed: *allowed,
    };
    search.shape.check(OP_HISTOGRAM)?;
    inputs.check(OP_HISTOGRAM, &search, None)?;
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
fn fitting(total: u32, capacity: usize) -> Result<usize> {
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
