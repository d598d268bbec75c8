//! Reference of late interaction.

use super::distance::distances;
use crate::hamming::{
    bits::{ABSENT, words},
    distance::Count,
    maxsim::{NO_SCORE, Runs},
};

/// Scores `[queries, documents]` and nearest tokens `[documents, query tokens]`.
pub fn maxsim(runs: &Runs<'_>, queries: &[u32], documents: &[u32]) -> (Vec<i32>, Vec<u32>) {
    let counts = |i: usize| runs.counted.is_empty() || runs.counted.get(i) == Some(&true);
    let pairs = |bounds: &[u32]| -> Vec<[usize; 2]> {
        let both = bounds.iter().zip(bounds.iter().skip(1));
        both.map(|(begin, end)| [*begin as usize, *end as usize])
            .collect()
    };
    let width = words(runs.bits);
    let rows = |packed: &[u32], [begin, end]: [usize; 2]| {
        packed
            .get(begin * width..end * width)
            .unwrap_or_default()
            .to_vec()
    };
    let (mut columns, mut nearest) = (Vec::new(), Vec::new());
    for document in pairs(runs.documents) {
        let codes = rows(documents, document);
        let found = distances(queries, &codes, runs.bits, Count::Bits);
        let len = document[1] - document[0];
        let best: Vec<(u32, u32)> = (0..runs.query_tokens())
            .map(|i| {
                let row = found.iter().skip(i * len).take(len);
                let pairs = row.zip(document[0] as u32..).map(|(d, j)| (*d, j));
                pairs.min().unwrap_or((0, ABSENT))
            })
            .collect();
        nearest.extend(best.iter().map(|(_, j)| *j));
        let score = |[begin, end]: [usize; 2]| {
            let tokens = best.iter().enumerate().take(end).skip(begin);
            tokens
                .filter(|(i, _)| counts(*i))
                .map(|(_, (d, _))| runs.bits as i32 - 2 * *d as i32)
                .sum()
        };
        columns.push(
            pairs(runs.queries)
                .into_iter()
                .map(|query| if len == 0 { NO_SCORE } else { score(query) })
                .collect::<Vec<_>>(),
        );
    }
    let scores = (0..runs.counts()[0])
        .flat_map(|query| {
            columns
                .iter()
                .filter_map(move |column| column.get(query).copied())
        })
        .collect();
    (scores, nearest)
}
