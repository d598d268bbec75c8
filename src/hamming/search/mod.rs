//! Exact search among binary codes: nearest neighbours, everything within a radius, histograms of distances.
//!
//! cnt_q\[h\] is the number of allowed items at distance h of query q. The k nearest neighbours are the stable counting sort of the
//! allowed items by distance, cut at k: any k, no recall to speak of, ties to the lower index, the same on every device and for
//! every plan. See [`knn`], [`radius`], [`radius_count`], [`count`] and [`histogram`].
//!
//! A database is one tensor or several, whose items are numbered through: [`upload`] cuts one where it exceeds the largest buffer
//! of a device. Bindings and loops beyond a device's limits are cut by the planner. Time is queries · items · ⌈bits/32⌉ population
//! counts, or twice that; no temporary has the size of queries times items.

mod call;
#[cfg(feature = "cli")]
pub(crate) mod cases;
mod database;
pub mod plan;
mod planner;
mod shape;
mod tables;
mod walk;

pub use call::{
    Inputs, Neighbours, Rows, count, histogram, knn, radius, radius_count, record_knn,
    record_radius,
};
pub use database::{part_rows, upload};
pub use shape::{Allowed, Filter, Order, Radius, Search, Shape};

const OP_KNN: &str = "hamming_knn";
const OP_RADIUS: &str = "hamming_radius";
const OP_HISTOGRAM: &str = "hamming_histogram";
