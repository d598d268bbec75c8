//! The results on the terminal and as JSON.

use serde_json::{Map, Value, json};

use super::{Results, crossovers, doublings, length_series};
use crate::{Gpu, cli::info::caps_json};

/// A table, the cost against length and the cost on the host.
pub(super) fn print_results(gpu: &Gpu, results: &Results) {
    let caps = gpu.caps();
    say!("{} ({}, {})", caps.name, caps.backend, caps.driver);
    let copies: Vec<String> = results
        .roofs
        .copies
        .iter()
        .map(|(bytes, rate)| format!("{rate:.1} at {:.0} MiB", bytes / f64::from(1 << 20)))
        .collect();
    say!(
        "roofs: copy {:.1} GB/s ({}), fma {:.1} GFLOP/s, popcount {:.1} Gword/s",
        results.roofs.copy_gb_s,
        copies.join(", "),
        results.roofs.fma_gflop_s,
        results.roofs.popcount_g_s
    );
    let width = results
        .rows
        .iter()
        .map(|row| row.name.len())
        .max()
        .unwrap_or(4);
    say!(
        "{:width$} {:>10} {:>19} {:>9} {:>8} {:>8} {:>16}  variant",
        "case",
        "median ms",
        "min..max",
        "GFLOP/s",
        "GB/s",
        "Gword/s",
        "of roof"
    );
    for row in &results.rows {
        say!(
            "{:width$} {:>10.4} {:>19} {:>9.1} {:>8.2} {:>8.2} {:>16}  {}{}",
            row.name,
            row.time.median_ms,
            format!("{:.4}..{:.4}", row.time.min_ms, row.time.max_ms),
            row.gflop_s(),
            row.gb_s(),
            row.popcount_g_s(),
            format!("{:.1} % {}", 100.0 * row.share, row.bound.name()),
            row.variant,
            if row.verified { "" } else { " *" },
        );
    }
    if results.rows.iter().any(|row| !row.verified) {
        say!("* too long for the CPU reference: timed, not compared; `subquad check` compares");
    }
    for (name, members) in length_series(&results.rows) {
        let ratios: Vec<String> = doublings(&members)
            .iter()
            .map(|(t, ratio)| format!("{ratio:.2} at {t}"))
            .collect();
        if !ratios.is_empty() {
            say!("time(2T) / time(T) of {name}: {}", ratios.join(", "));
        }
    }
    for crossover in crossovers(&results.rows) {
        let [short, long] = &crossover.series;
        let place = match crossover.tokens {
            Some(tokens) => format!("from {tokens:.0} tokens on"),
            None => "nowhere within the lengths measured".into(),
        };
        say!("crossover: {long} is quicker than {short} {place}");
    }
    if let Some(host) = &results.host {
        say!(
            "host: {:.0} us to plan, record and submit a warm {}; {}",
            host.us,
            host.name,
            if host.steady {
                "nothing compiled or allocated"
            } else {
                "SOMETHING WAS COMPILED OR ALLOCATED"
            }
        );
    }
}

/// Everything, for programs.
pub(super) fn json_of(gpu: &Gpu, results: &Results) -> Value {
    let cases: Vec<Value> = results
        .rows
        .iter()
        .map(|row| {
            let shape: Map<String, Value> = row
                .sizes
                .iter()
                .map(|(letter, n)| ((*letter).to_owned(), json!(n)))
                .collect();
            json!({
                "op": row.op, "name": row.name, "shape": shape, "dtype": row.dtype, "variant": row.variant,
                "median_ms": row.time.median_ms, "min_ms": row.time.min_ms, "max_ms": row.time.max_ms,
                "gflop_s": row.gflop_s(), "gb_s": row.gb_s(), "popcount_gword_s": row.popcount_g_s(), "share_of_roof": row.share, "time_at_twice_the_length": row.twice, "roof": row.bound.name(),
                "verified": row.verified,
            })
        })
        .collect();
    let copies: Vec<Value> = results
        .roofs
        .copies
        .iter()
        .map(|(bytes, rate)| json!({ "bytes": bytes, "gb_s": rate }))
        .collect();
    let crossovers: Vec<Value> = crossovers(&results.rows)
        .into_iter()
        .map(|crossover| json!({ "series": crossover.series, "tokens": crossover.tokens }))
        .collect();
    let host = results.host.as_ref().map(
        |host| json!({ "name": host.name, "us_per_warm_call": host.us, "steady": host.steady }),
    );
    json!({
        "adapter": caps_json(gpu.caps()),
        "roofs": {
            "copy_gb_s": results.roofs.copy_gb_s, "fma_gflop_s": results.roofs.fma_gflop_s, "popcount_gword_s": results.roofs.popcount_g_s, "copies": copies,
        },
        "cases": cases,
        "crossovers": crossovers,
        "host": host,
        "version": env!("CARGO_PKG_VERSION"),
    })
}
