//! `subquad bench` without a device: search on this machine's processor.
//!
//! Sizes and names are those of published comparisons, so that a library for processors can be timed beside them: random codes,
//! the layout of the database apart from the search.

use std::time::Instant;

use serde_json::{Value, json};

use super::{super::retain, BenchArgs, median, progress};
use crate::{
    case::{Failure, Numbers, write_whole},
    hamming::{
        Allowed,
        bits::words,
        simd::{Database, Level, Options},
    },
};

/// Codes of the database.
const ITEMS: usize = 1_000_000;

/// Neighbours asked for.
const K: usize = 10;

/// One search.
struct Search {
    bits: usize,
    queries: usize,
    threads: usize,
}

impl Search {
    fn name(&self) -> String {
        let Search {
            bits,
            queries,
            threads,
        } = self;
        format!("hamming_knn/n{queries}_m{ITEMS}_b{bits}_k{K}_threads{threads}")
    }
}

/// Batches of queries on one thread and on two, and a single query on two.
fn searches() -> Vec<Search> {
    let search = |bits, queries, threads| Search {
        bits,
        queries,
        threads,
    };
    let widths = [64, 128, 256, 512, 1024];
    widths
        .into_iter()
        .flat_map(|bits| {
            [
                search(bits, 200, 1),
                search(bits, 200, 2),
                search(bits, 1, 2),
            ]
        })
        .collect()
}

/// What was measured of one search.
struct Row {
    name: String,
    bits: usize,
    relayout_ms: f64,
    times: Vec<f64>,
    pairs: f64,
}

/// Measures every search whose name contains the filter.
///
/// # Errors
/// `Usage` when no search has such a name; `File`; those of the search.
pub(super) fn bench(args: &BenchArgs) -> Result<(), Failure> {
    if args.html.is_some() {
        return Err(Failure::Usage(
            "--html must be left out with --device cpu: the report is about an adapter".into(),
        ));
    }
    let mut searches = searches();
    let what = "benchmark of the processor has a name that contains";
    retain(&mut searches, args.filter.as_deref(), what, Search::name)?;
    let samples = if args.quick { 3 } else { 15 };
    let bar = progress(searches.len() as u64);
    let mut rows = Vec::new();
    for search in &searches {
        bar.set_message(search.name());
        rows.push(measure(search, samples)?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    say!("processor, {}", Level::detect().name());
    let width = rows.iter().map(|row| row.name.len()).max().unwrap_or(0);
    say!(
        "{:width$} {:>10} {:>19} {:>10} {:>12}",
        "case",
        "median ms",
        "min..max",
        "Gpair/s",
        "relayout ms"
    );
    for row in &rows {
        let [least, most] =
            [row.times.first(), row.times.last()].map(|ms| ms.copied().unwrap_or(0.0));
        let ms = median(&row.times);
        say!(
            "{:width$} {ms:>10.3} {:>19} {:>10.2} {:>12.1}",
            row.name,
            format!("{least:.3}..{most:.3}"),
            row.pairs / ms / 1e6,
            row.relayout_ms
        );
    }
    match &args.json {
        Some(path) => write_whole(path, format!("{:#}\n", json_of(&rows)).as_bytes()),
        None => Ok(()),
    }
}

fn measure(search: &Search, samples: usize) -> Result<Row, Failure> {
    let mut numbers = Numbers::of(&search.name());
    let mut codes = |len: usize| -> Vec<u32> {
        let words = len * words(search.bits);
        (0..words).map(|_| numbers.word()).collect()
    };
    let (items, queries) = (codes(ITEMS), codes(search.queries));
    let options = Options {
        threads: search.threads,
        ..Options::default()
    };
    let started = Instant::now();
    let database = Database::new(&items, search.bits, options)?;
    let relayout_ms = started.elapsed().as_secs_f64() * 1e3;
    let once = || -> Result<f64, Failure> {
        let started = Instant::now();
        database.knn(&queries, K, &Allowed::default())?;
        Ok(started.elapsed().as_secs_f64() * 1e3)
    };
    once()?;
    let mut times = (0..samples)
        .map(|_| once())
        .collect::<Result<Vec<_>, _>>()?;
    times.sort_by(f64::total_cmp);
    Ok(Row {
        name: search.name(),
        bits: search.bits,
        relayout_ms,
        times,
        pairs: (ITEMS * search.queries) as f64,
    })
}

fn json_of(rows: &[Row]) -> Value {
    let case = |row: &Row| {
        let ms = median(&row.times);
        json!({
            "name": row.name, "bits": row.bits, "median_ms": ms, "min_ms": row.times.first(), "max_ms": row.times.last(),
            "gpair_s": row.pairs / ms / 1e6, "relayout_ms": row.relayout_ms,
        })
    };
    json!({
        "processor": Level::detect().name(),
        "cases": rows.iter().map(case).collect::<Vec<_>>(),
        "version": env!("CARGO_PKG_VERSION"),
    })
}
