//! From what is searched and how to steps. Pure: no device is needed.
//!
//! A k-nearest-neighbour search is the stable counting sort of the allowed items by distance, cut at k. Two plans compute it.
//! `TwoPass` counts the items of every distance in every segment of the database, adds up where each segment's items of each
//! distance go, and walks again to put them there. `Bounded` walks once: it lists the items up to a distance within which a
//! sample of the database has k already, then sorts the lists, which are short; what does not fit its list is found by steps of
//! `TwoPass`, which are recorded always and do nothing for other queries. Nothing of the size of queries times items is stored.

use super::{
    OP_HISTOGRAM, OP_KNN, OP_RADIUS, Order, Radius, Search,
    planner::{CAP, Planner, Scheme, lanes, largest, row},
    walk::{Across, TILE, Take, local},
};
use crate::{
    Error, Result,
    gpu::Caps,
    plan::{Builder, Plan, Slot},
    rows::fill,
};

/// Plans the k nearest neighbours. Inputs: queries, filter and ranges where the search has them, the parts of the database;
/// outputs: distance and index, `[queries, k]`.
///
/// # Errors
/// `Argument` when sizes make no sense; `Limit` when the rows of one query exceed a binding or the budget.
pub fn knn(search: &Search<'_>, k: usize, caps: &Caps) -> Result<Plan> {
    search.check(OP_KNN)?;
    let (owner, free) = lanes(search, caps);
    knn_by(search, k, caps, scheme(search, k), owner, free)
}

/// [`knn`], then every other plan that computes the same.
///
/// # Errors
/// As [`knn`].
pub fn knn_variants(search: &Search<'_>, k: usize, caps: &Caps) -> Result<Vec<Plan>> {
    let mut plans = vec![knn(search, k, caps)?];
    if k == 0 || search.shape.queries * search.shape.items == 0 {
        return Ok(plans);
    }
    let tiles_apart = bounded(search, k, 1).unwrap_or(1);
    let mut schemes = vec![
        Scheme::TwoPass { tiles_apart: None },
        Scheme::TwoPass {
            tiles_apart: Some(tiles_apart),
        },
    ];
    if k as u64 <= CAP {
        schemes.push(Scheme::Bounded { tiles_apart });
    }
    for scheme in schemes {
        for (owner, free) in [
            (Across::Queries, Across::Queries),
            (Across::Segments, Across::Items),
        ] {
            let plan = knn_by(search, k, caps, scheme, owner, free)?;
            if plans.iter().all(|other| other.label != plan.label) {
                plans.push(plan);
            }
        }
    }
    Ok(plans)
}

/// Plans how many items are within a radius of each query. Inputs: as [`knn`], with the radii before the database where they are
/// one to a query; output: counts, `[queries]`.
///
/// # Errors
/// As [`knn`].
pub fn count(search: &Search<'_>, radius: Radius, caps: &Caps) -> Result<Plan> {
    search.check(OP_RADIUS)?;
    let planner = Planner::new(search, radius.inputs(), caps)?;
    let mut builder = Builder::default();
    planner.count(&mut builder, radius, Slot::Output(0))?;
    planner.finish(
        builder,
        OP_RADIUS,
        "counts",
        4 * search.shape.queries as u64,
    )
}

/// Plans where the rows of [`radius`] start. Inputs: as [`count`]; output: row offsets, `[queries + 1]`.
///
/// # Errors
/// As [`knn`].
pub fn row_offsets(search: &Search<'_>, radius: Radius, caps: &Caps) -> Result<Plan> {
    search.check(OP_RADIUS)?;
    let planner = Planner::new(search, radius.inputs(), caps)?;
    let queries = search.shape.queries as u64;
    let mut builder = Builder::default();
    planner.whole_rows()?;
    match queries {
        0 => fill(&mut builder, caps, Slot::Output(0), 0..1, 0),
        _ => {
            let counts = builder.add_scratch(4 * queries);
            planner.count(&mut builder, radius, counts)?;
            planner
                .on(&mut builder)
                .row_offsets(counts, Slot::Output(0), queries);
        }
    }
    planner.finish(builder, OP_RADIUS, "row offsets", 4 * (queries + 1))
}

/// Plans all items within a radius. Inputs: as [`count`]; outputs: row offsets `[queries + 1]`, distance and index `[capacity]`.
///
/// # Errors
/// As [`knn`]; `Limit` when the capacity exceeds a binding.
pub fn radius(
    search: &Search<'_>,
    radius: Radius,
    order: Order,
    capacity: usize,
    caps: &Caps,
) -> Result<Plan> {
    search.check(OP_RADIUS)?;
    let (owner, _) = lanes(search, caps);
    radius_by(search, radius, order, capacity, owner, caps)
}

/// [`radius`], then every other plan that computes the same.
///
/// # Errors
/// As [`radius`].
pub fn radius_variants(
    search: &Search<'_>,
    radius: Radius,
    order: Order,
    capacity: usize,
    caps: &Caps,
) -> Result<Vec<Plan>> {
    search.check(OP_RADIUS)?;
    let (owner, _) = lanes(search, caps);
    let other = match owner {
        Across::Queries => Across::Segments,
        _ => Across::Queries,
    };
    [owner, other]
        .map(|owner| radius_by(search, radius, order, capacity, owner, caps))
        .into_iter()
        .collect()
}

/// Plans histograms of distances. Inputs: as [`knn`]; output: counts, `[queries, bits + 1]`.
///
/// # Errors
/// As [`knn`].
pub fn histogram(search: &Search<'_>, caps: &Caps) -> Result<Plan> {
    search.check(OP_HISTOGRAM)?;
    let (_, free) = lanes(search, caps);
    histogram_by(search, free, caps)
}

/// [`histogram`], then every other plan that computes the same.
///
/// # Errors
/// As [`histogram`].
pub fn histogram_variants(search: &Search<'_>, caps: &Caps) -> Result<Vec<Plan>> {
    search.check(OP_HISTOGRAM)?;
    let (_, free) = lanes(search, caps);
    let other = match free {
        Across::Queries => Across::Items,
        _ => Across::Queries,
    };
    [free, other]
        .map(|free| histogram_by(search, free, caps))
        .into_iter()
        .collect()
}

/// The largest of some distances between sampled tiles that leaves lists half full on average, and samples large enough.
fn bounded(search: &Search<'_>, k: usize, smallest_tiles: u64) -> Option<u64> {
    let (k, items) = (k as u64, search.shape.items as u64);
    // Few bits have few distances: the one at the bound has many items.
    let room = if search.shape.bits < 128 {
        CAP / 8
    } else {
        CAP / 2
    };
    [64, 32, 16, 8, 4, 2]
        .into_iter()
        .find(|apart| k * apart <= room && items >= smallest_tiles * TILE * apart)
}

fn scheme(search: &Search<'_>, k: usize) -> Scheme {
    let items = search.shape.items as u64;
    let bounded = bounded(search, k, 8).filter(|_| search.shape.bits > 24);
    let sampled = [64, 32, 16, 8, 4].into_iter();
    match bounded {
        Some(tiles_apart) => Scheme::Bounded { tiles_apart },
        None => Scheme::TwoPass {
            tiles_apart: sampled
                .filter(|apart| 8 * (k as u64).saturating_mul(*apart) <= items)
                .find(|apart| items >= 8 * TILE * apart),
        },
    }
}

fn knn_by(
    search: &Search<'_>,
    k: usize,
    caps: &Caps,
    scheme: Scheme,
    owner: Across,
    free: Across,
) -> Result<Plan> {
    let planner = Planner::new(search, 0, caps)?;
    let queries = search.shape.queries as u64;
    let (mut builder, out_words) = (Builder::default(), queries * k as u64);
    for output in [0, 1] {
        fill(
            &mut builder,
            caps,
            Slot::Output(output),
            0..out_words,
            u32::MAX,
        );
    }
    let label = match scheme {
        Scheme::Bounded { tiles_apart } => {
            format!("bounded by 1 of {tiles_apart} tiles, {}", free.name())
        }
        Scheme::TwoPass { tiles_apart: None } => format!("two passes, {}", owner.name()),
        Scheme::TwoPass {
            tiles_apart: Some(apart),
        } => {
            format!("two passes bounded by 1 of {apart} tiles, {}", owner.name())
        }
    };
    if out_words > 0 && search.shape.items > 0 {
        planner.knn(&mut builder, k as u64, scheme, owner, free)?;
    }
    planner.finish(builder, OP_KNN, &label, 8 * out_words)
}

fn radius_by(
    search: &Search<'_>,
    radius: Radius,
    order: Order,
    capacity: usize,
    owner: Across,
    caps: &Caps,
) -> Result<Plan> {
    let planner = Planner::new(search, radius.inputs(), caps)?;
    let (queries, capacity) = (search.shape.queries as u64, capacity as u64);
    if capacity > caps.binding_bytes / 4 || capacity >= 1 << 32 {
        return Err(Error::Limit {
            what: "items in one binding, of all rows together,".into(),
            needed: capacity,
            available: (caps.binding_bytes / 4).min(u64::from(u32::MAX)),
            remedy: "search fewer queries at a time",
        });
    }
    planner.whole_rows()?;
    let mut builder = Builder::default();
    for output in [1, 2] {
        fill(
            &mut builder,
            caps,
            Slot::Output(output),
            0..capacity,
            u32::MAX,
        );
    }
    if queries * search.shape.items as u64 == 0 {
        fill(&mut builder, caps, Slot::Output(0), 0..queries + 1, 0);
    } else {
        planner.radius(&mut builder, radius, order, capacity, owner)?;
    }
    let label = format!("two passes, {}", owner.name());
    planner.finish(builder, OP_RADIUS, &label, 8 * capacity + 4 * queries)
}

fn histogram_by(search: &Search<'_>, free: Across, caps: &Caps) -> Result<Plan> {
    let planner = Planner::new(search, 0, caps)?;
    let (queries, bins) = (search.shape.queries as u64, planner.bins());
    let mut builder = Builder::default();
    fill(&mut builder, caps, Slot::Output(0), 0..queries * bins, 0);
    let batches = planner.batches(4 * bins)?;
    let bounds = builder.add_scratch(4 * largest(&batches));
    for batch in batches {
        let len = batch.end - batch.start;
        fill(&mut builder, caps, bounds, 0..len, bins as u32);
        let cut = planner.walks.cut(free, 1, len, u64::MAX);
        let (table, offset) = local(&row(Slot::Output(0), bins), &batch, true);
        let take = Take::Count {
            table,
            offset,
            strides: [bins, 0, 1],
        };
        planner.walks.all(&mut builder, &batch, &cut, bounds, &take);
    }
    planner.finish(builder, OP_HISTOGRAM, free.name(), 4 * queries * bins)
}
