//! The results on the terminal and as JSON.

use serde_json::{Map, Value, json};

use super::{Results, crossovers, doublings, factor_series, length_series};
use crate::{
    Gpu,
    choice::{Choice, choices},
    cli::info::caps_json,
};

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
        let place = crossover.quicker.text();
        say!("crossover: {long} is quicker than {short} {place}");
    }
    for (name, members) in factor_series(&results.rows) {
        let each: Vec<String> = members
            .iter()
            .filter_map(|row| {
                let rate = 1e9 * row.time.median_ms / (0.5 * row.work.flops);
                Some(format!("{rate:.1} with {}", row.size("factors")?))
            })
            .collect();
        say!(
            "picoseconds a product of the sum over the modes, {name}: {}",
            each.join(", ")
        );
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
    print_small(results);
}

fn print_small(results: &Results) {
    let width = |names: &mut dyn Iterator<Item = &String>| names.map(String::len).max();
    if let Some(width) = width(&mut results.small.iter().map(|small| &small.name)) {
        say!(
            "{:width$} {:>10} {:>12} {:>12} {:>11} {:>11} {:>11}",
            "many small calls in one recording",
            "dispatches",
            "recorded us",
            "replayed us",
            "recorded/s",
            "replayed/s",
            "floor/s",
        );
        for small in &results.small {
            say!(
                "{:width$} {:>10} {:>12.1} {:>12.1} {:>11.0} {:>11.0} {:>11.0}",
                small.name,
                small.dispatches,
                small.record_us,
                small.replay_us,
                small.recorded_per_s,
                small.replayed_per_s,
                small.floor_per_s,
            );
        }
        say!(
            "microseconds of host time a dispatch; runs a second, a run being a token through all layers"
        );
    }
    for first in &results.first {
        let kept = first.kept_ms.map_or("no cache on disk".into(), |ms| {
            format!("{ms:.1} ms with pipelines kept on disk")
        });
        say!(
            "first call of {}: {} pipelines, {:.1} ms cold, {kept}, {:.1} ms warm",
            first.name,
            first.pipelines,
            first.cold_ms,
            first.warm_ms
        );
    }
    for change in &results.changes {
        let [then, now] = change.ms;
        say!(
            "{}: {then:.4} ms before, {now:.4} now, {:.2} times as long{}",
            change.name,
            change.ratio,
            if change.regressed { ", SLOWER" } else { "" }
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
                "median_ms": row.time.median_ms, "min_ms": row.time.min_ms, "max_ms": row.time.max_ms, "quartiles_ms": row.time.quartiles_ms,
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
        .map(|crossover| json!({ "series": crossover.series, "quicker": crossover.quicker.text() }))
        .collect();
    let host = results.host.as_ref().map(
        |host| json!({ "name": host.name, "us_per_warm_call": host.us, "steady": host.steady }),
    );
    let small: Vec<Value> = results
        .small
        .iter()
        .map(|small| {
            json!({
                "name": small.name, "dispatches": small.dispatches, "us_per_dispatch_recorded": small.record_us,
                "us_per_dispatch_replayed": small.replay_us, "per_s_recorded": small.recorded_per_s,
                "per_s_replayed": small.replayed_per_s, "per_s_floor": small.floor_per_s,
            })
        })
        .collect();
    let first: Vec<Value> = results
        .first
        .iter()
        .map(|first| {
            json!({
                "name": first.name, "pipelines": first.pipelines, "cold_ms": first.cold_ms, "kept_ms": first.kept_ms,
                "warm_ms": first.warm_ms,
            })
        })
        .collect();
    let changes: Vec<Value> = results
        .changes
        .iter()
        .map(|change| {
            json!({ "name": change.name, "before_ms": change.ms[0], "now_ms": change.ms[1], "ratio": change.ratio,
                "regressed": change.regressed })
        })
        .collect();
    let chosen = |choice: &Choice| json!({ "value": gpu.caps().choose(choice), "why": gpu.caps().reason(choice) });
    let choices: Map<String, Value> = choices()
        .iter()
        .map(|(_, choice)| (choice.name.to_owned(), chosen(choice)))
        .collect();
    json!({
        "adapter": caps_json(gpu.caps()),
        "choices": choices,
        "roofs": {
            "copy_gb_s": results.roofs.copy_gb_s, "fma_gflop_s": results.roofs.fma_gflop_s, "popcount_gword_s": results.roofs.popcount_g_s, "copies": copies,
        },
        "cases": cases,
        "crossovers": crossovers,
        "host": host,
        "small": small,
        "first_calls": first,
        "changes": changes,
        "version": env!("CARGO_PKG_VERSION"),
    })
}
