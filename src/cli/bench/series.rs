//! Series of cases that differ in one size: lengths, where operators overtake each other, numbers of factors.

use super::Row;

/// Rows by what they have in common, each series by rising size, of so many rows at least; `of` says both of a row.
fn grouped(
    rows: &[Row],
    least: usize,
    of: impl Fn(&Row) -> Option<(String, usize)>,
) -> Vec<(String, Vec<&Row>)> {
    let mut series: Vec<(String, Vec<&Row>)> = Vec::new();
    for row in rows {
        let Some((name, _)) = of(row) else { continue };
        match series.iter_mut().find(|(other, _)| *other == name) {
            Some((_, members)) => members.push(row),
            None => series.push((name, vec![row])),
        }
    }
    series.retain(|(_, members)| members.len() >= least);
    for (_, members) in &mut series {
        members.sort_by_key(|row| of(row).map(|(_, size)| size));
    }
    series
}

/// Rows of one operator that differ in the number of tokens only, by rising length; the key is the name without it.
pub fn length_series(rows: &[Row]) -> Vec<(String, Vec<&Row>)> {
    grouped(rows, 2, |row| {
        let tokens = row.size("t")?;
        let stem = row.name.strip_suffix(&format!("_t{tokens}"))?;
        Some((stem.to_owned(), tokens))
    })
}

/// Two operators that do the same job: their series do one job by name.
pub struct Crossover {
    /// The series that is quicker on short sequences, and the one that is quicker on long ones.
    pub series: [String; 2],
    /// Where the latter is quicker.
    pub quicker: Quicker,
}

/// The lengths at which one series is quicker than another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Quicker {
    /// From so many tokens on.
    From(f64),
    /// At every length measured.
    Always,
    /// At none.
    Never,
}

impl Quicker {
    /// For people.
    pub fn text(self) -> String {
        match self {
            Quicker::From(tokens) => format!("from {tokens:.0} tokens on"),
            Quicker::Always => "at every length measured".into(),
            Quicker::Never => "at no length measured".into(),
        }
    }
}

/// What a series does, whoever does it: its name behind the operator's. Lightning attention and the causal softmax that it is to
/// replace are called by names of their own in front of "forward".
fn job(series: &str) -> &str {
    let kind = series.split_once('/').map_or(series, |(_, kind)| kind);
    kind.strip_prefix("lightning_")
        .or(kind.strip_prefix("causal_"))
        .filter(|rest| rest.starts_with("forward"))
        .unwrap_or(kind)
}

/// Where operators that do the same job overtake each other, by interpolation between the lengths that both were measured at.
pub fn crossovers(rows: &[Row]) -> Vec<Crossover> {
    let series = length_series(rows);
    let mut found = Vec::new();
    for (n, (a, a_rows)) in series.iter().enumerate() {
        for (b, b_rows) in series.iter().skip(n + 1) {
            if job(a) != job(b) || a.split('/').next() == b.split('/').next() {
                continue;
            }
            // Logarithms of the length and of the ratio of times.
            let ratios: Vec<(f64, f64)> = a_rows
                .iter()
                .filter_map(|row| {
                    let t = row.size("t")?;
                    let other = b_rows.iter().find(|other| other.size("t") == Some(t))?;
                    Some((
                        (t as f64).ln(),
                        (row.time.median_ms / other.time.median_ms).ln(),
                    ))
                })
                .collect();
            let (Some(first), Some(last)) = (ratios.first(), ratios.last()) else {
                continue;
            };
            // The ratio grows with the length where b is the one for long sequences.
            let b_for_long = last.1 >= first.1;
            let cross = ratios.windows(2).find_map(|pair| match pair {
                [(t0, r0), (t1, r1)] if r0 * r1 <= 0.0 && r0 != r1 => {
                    Some((t0 + (t1 - t0) * r0 / (r0 - r1)).exp())
                }
                _ => None,
            });
            let names = if b_for_long { [a, b] } else { [b, a] };
            let quicker = match cross {
                Some(tokens) => Quicker::From(tokens),
                None if b_for_long == (last.1 > 0.0) => Quicker::Always,
                None => Quicker::Never,
            };
            found.push(Crossover {
                series: names.map(String::clone),
                quicker,
            });
        }
    }
    found
}

/// Lengths, and how much longer twice the length takes.
pub fn doublings(members: &[&Row]) -> Vec<(usize, f64)> {
    members
        .iter()
        .filter_map(|row| Some((row.size("t")?, row.twice?)))
        .collect()
}

/// Rows of one operator over so many items that differ in the number of factors, by rising number, three of them at least; the key
/// says what they have in common.
pub fn factor_series(rows: &[Row]) -> Vec<(String, Vec<&Row>)> {
    grouped(rows, 3, |row| {
        let items = row.size("m")? * row.size("rows")?;
        Some((format!("{} of {items} items", row.op), row.size("factors")?))
    })
}

#[cfg(test)]
mod tests {
    use super::{super::tests::row, *};

    #[test]
    fn a_linear_operator_overtakes_a_quadratic_one_where_their_times_meet() {
        let mut rows = Vec::new();
        for t in [1000, 2000, 4000, 8000] {
            rows.push(row("linear", "full", t, t as f64));
            rows.push(row("quadratic", "full", t, (t * t) as f64 / 3000.0));
            rows.push(row("other", "causal", t, 1.0));
        }
        let found = crossovers(&rows);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].series, ["quadratic/full", "linear/full"]);
        assert!(matches!(found[0].quicker, Quicker::From(tokens) if (tokens - 3000.0).abs() < 1.0));
        let (short, long): (Vec<Row>, Vec<Row>) =
            (rows.into_iter()).partition(|row| row.size("t") < Some(2500));
        assert_eq!(crossovers(&short)[0].quicker, Quicker::Never);
        assert_eq!(crossovers(&long)[0].quicker, Quicker::Always);
        assert_eq!(job("softmax_attention/causal_forward_h8"), "forward_h8");
        assert_eq!(job("linear_attention/lightning_forward_h8"), "forward_h8");
        assert_eq!(job("code_table_attention/causal_b12"), "causal_b12");
    }

    #[test]
    fn rows_over_as_many_items_are_a_series_of_factors() {
        let of = |m: usize, factors: usize| {
            let mut row = row("product", "", factors, 1.0);
            row.sizes = vec![
                ("m", m),
                ("rows", 8usize.pow(factors as u32)),
                ("factors", factors),
            ];
            row
        };
        let rows = [
            of(8, 2),
            of(64, 1),
            of(1, 3),
            of(1024, 3),
            row("other", "full", 8, 1.0),
        ];
        let found = factor_series(&rows);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].0, "product of 512 items");
        let factors = found[0].1.iter().map(|row| row.size("factors").unwrap());
        assert_eq!(factors.collect::<Vec<_>>(), [1, 2, 3]);
    }
}
