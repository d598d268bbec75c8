//! `bench --compare`: today's figures beside those of an earlier run, and what got slower beyond the noise of both.

use std::path::Path;

use serde_json::Value;

use super::{Measured, Row};
use crate::case::Failure;

/// A smaller change is none, however little the runs scattered.
const LEAST: f64 = 1.05;

/// A case that both runs have.
pub struct Change {
    /// The case.
    pub name: String,
    /// Median time then and now.
    pub ms: [f64; 2],
    /// Time now over time then.
    pub ratio: f64,
    /// Whether it is slower by more than the spread of both runs, in time and as a share of the roof measured beside it: a machine
    /// that is slower today moves the roof as well.
    pub regressed: bool,
}

/// Reads what an earlier `bench --json` wrote.
///
/// # Errors
/// `File` when there is no such file or it is not such a file.
pub(super) fn read(path: &Path) -> Result<Vec<Old>, Failure> {
    let fail = |message: String| Failure::File {
        path: path.display().to_string(),
        message,
    };
    let text = std::fs::read_to_string(path).map_err(|error| fail(error.to_string()))?;
    let value: Value = serde_json::from_str(&text).map_err(|error| fail(error.to_string()))?;
    old(&value).ok_or_else(|| fail("is not what `subquad bench --json` writes".into()))
}

/// A case of an earlier run.
pub(super) struct Old {
    name: String,
    time: Measured,
    share: f64,
}

fn old(value: &Value) -> Option<Vec<Old>> {
    let one = |case: &Value| {
        let ms = |key: &str| case.get(key).and_then(Value::as_f64);
        let (min_ms, max_ms) = (ms("min_ms")?, ms("max_ms")?);
        // Files from before quartiles were kept: all that was seen is the spread.
        let quartile = |n: usize| {
            let quartiles = case.get("quartiles_ms").and_then(Value::as_array);
            quartiles.and_then(|both| both.get(n)?.as_f64())
        };
        Some(Old {
            name: case.get("name")?.as_str()?.to_owned(),
            time: Measured {
                median_ms: ms("median_ms")?,
                min_ms,
                max_ms,
                quartiles_ms: [quartile(0).unwrap_or(min_ms), quartile(1).unwrap_or(max_ms)],
            },
            share: ms("share_of_roof")?,
        })
    };
    value.get("cases")?.as_array()?.iter().map(one).collect()
}

/// The cases that both runs have, in today's order.
pub(super) fn compare(then: &[Old], now: &[Row]) -> Vec<Change> {
    let pairs = now.iter().filter_map(|row| {
        let old = then.iter().find(|old| old.name == row.name)?;
        Some((old, row))
    });
    pairs
        .map(|(old, row)| {
            let ratio = row.time.median_ms / old.time.median_ms;
            let [fast_now, slow_then] = [row.time.quartiles_ms[0], old.time.quartiles_ms[1]];
            let apart = fast_now > slow_then && ratio > LEAST;
            Change {
                name: row.name.clone(),
                ms: [old.time.median_ms, row.time.median_ms],
                ratio,
                regressed: apart && row.share * LEAST < old.share,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::row;
    use super::*;

    fn then(median: f64, quartiles: [f64; 2], share: f64) -> Vec<Old> {
        let case = json!({ "name": "op/kind_t8", "median_ms": median, "min_ms": quartiles[0], "max_ms": quartiles[1],
            "quartiles_ms": quartiles, "share_of_roof": share });
        old(&json!({ "cases": [case] })).unwrap()
    }

    #[test]
    fn what_is_slower_beyond_the_noise_is_flagged() {
        // Today: 10 ms without spread, half of the roof.
        let now = [row("op", "kind", 8, 10.0), row("op", "new", 8, 1.0)];
        let regressed = |then: &[Old]| {
            let changes = compare(then, &now);
            assert_eq!(changes.len(), 1, "a case of one run only is not compared");
            changes[0].regressed
        };
        assert!(regressed(&then(8.0, [7.9, 8.1], 0.7)));
        assert!(
            !regressed(&then(8.0, [7.0, 10.5], 0.7)),
            "within the spread"
        );
        assert!(!regressed(&then(9.8, [9.7, 9.9], 0.7)), "too little");
        assert!(
            !regressed(&then(8.0, [7.9, 8.1], 0.5)),
            "the roof moved as well"
        );
        assert!(!regressed(&then(12.0, [11.9, 12.1], 0.4)), "quicker");
    }

    #[test]
    fn files_without_quartiles_have_their_whole_spread_as_noise() {
        let case = json!({ "name": "a", "median_ms": 2.0, "min_ms": 1.0, "max_ms": 3.0, "share_of_roof": 0.1 });
        let read = old(&json!({ "cases": [case] })).unwrap();
        assert_eq!(read[0].time.quartiles_ms, [1.0, 3.0]);
        assert!(old(&json!({ "cases": [{}] })).is_none() && old(&json!([])).is_none());
    }
}
