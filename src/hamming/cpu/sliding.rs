//! Sliding distances and the search for patterns, symbol by symbol, and distances by bit planes in words of 64 bits.

#![allow(clippy::indexing_slicing, reason = "lengths are checked on entry")]

use rayon::prelude::*;

use crate::{
    Error, Result,
    error::length,
    hamming::sliding::{Classes, MAX_TEXT, OP, Pattern, Query},
};

/// A text on the host.
#[derive(Clone, Copy, Debug)]
pub struct Text<'a> {
    /// Its symbols.
    pub symbols: &'a [u32],
    /// Which of them are wild, as [`Pattern::wild`] says.
    pub wild: Option<&'a [u32]>,
}

/// A hit of [`k_mismatch`]: position, number of the pattern, distance.
pub type Hit = [u32; 3];

impl Text<'_> {
    fn check(&self, op: &'static str) -> Result<()> {
        let n = self.symbols.len();
        if n > MAX_TEXT {
            return Err(Error::Argument {
                op,
                what: "text".into(),
                expected: "of at most 2^32 - 2 symbols".into(),
                got: n.to_string(),
            });
        }
        match self.wild {
            Some(wild) => length(op, "text.wild", wild.len(), n.div_ceil(32)),
            None => Ok(()),
        }
    }

    fn counts(&self, i: usize) -> bool {
        self.wild
            .is_none_or(|wild| wild[i / 32] >> (i % 32) & 1 == 0)
    }
}

fn check_pattern(op: &'static str, pattern: &Pattern) -> Result<()> {
    if pattern.symbols.is_empty() {
        return Err(Error::Argument {
            op,
            what: "pattern".into(),
            expected: "of 1 to 2^32 - 2 symbols".into(),
            got: "0".into(),
        });
    }
    match &pattern.wild {
        Some(wild) => length(
            op,
            "pattern.wild",
            wild.len(),
            pattern.symbols.len().div_ceil(32),
        ),
        None => Ok(()),
    }
}

fn differ(text: u32, pattern: u32, classes: Option<&Classes>) -> bool {
    match classes {
        None => text != pattern,
        Some(classes) => classes.of_text(text) & classes.of_pattern(pattern) == 0,
    }
}

/// [`sliding`](crate::hamming::sliding::sliding) by comparing every pair of symbols.
///
/// # Errors
/// `Argument` when the pattern is empty or a mask has the wrong length.
pub fn sliding(text: &Text<'_>, pattern: &Pattern, classes: Option<&Classes>) -> Result<Vec<u32>> {
    text.check(OP)?;
    check_pattern(OP, pattern)?;
    let tame: Vec<(usize, u32)> = pattern.tame().collect();
    let positions = (text.symbols.len() + 1).saturating_sub(pattern.symbols.len());
    let plain = classes.is_none() && text.wild.is_none() && tame.len() == pattern.symbols.len();
    Ok((0..positions)
        .into_par_iter()
        .map(|i| {
            if plain {
                let pairs = text.symbols[i..].iter().zip(&pattern.symbols);
                return pairs.map(|(t, p)| u32::from(t != p)).sum();
            }
            let wrong = |(j, p): &&(usize, u32)| {
                text.counts(i + j) && differ(text.symbols[i + j], *p, classes)
            };
            tame.iter().filter(wrong).count() as u32
        })
        .collect())
}

/// [`k_mismatch`](crate::hamming::sliding::k_mismatch) by comparing every pair of symbols: hits by position, then pattern.
///
/// # Errors
/// As [`sliding`].
pub fn k_mismatch(
    text: &Text<'_>,
    queries: &[Query],
    classes: Option<&Classes>,
) -> Result<Vec<Hit>> {
    const OP: &str = crate::hamming::sliding::search::OP;
    text.check(OP)?;
    for query in queries {
        check_pattern(OP, &query.pattern)?;
    }
    let n = text.symbols.len();
    let at = |i: usize| {
        queries
            .iter()
            .enumerate()
            .filter_map(move |(number, query)| {
                if i + query.pattern.symbols.len() > n {
                    return None;
                }
                let mut distance = 0;
                for (j, symbol) in query.pattern.tame() {
                    if text.counts(i + j) && differ(text.symbols[i + j], symbol, classes) {
                        distance += 1;
                        let must = query.must_match.as_ref();
                        if must.is_some_and(|mask| mask[j / 32] >> (j % 32) & 1 == 1) {
                            return None;
                        }
                    }
                }
                (distance <= query.k).then_some([i as u32, number as u32, distance])
            })
    };
    Ok((0..n).into_par_iter().flat_map_iter(at).collect())
}

/// [`sliding`] by bit planes of the ranks of symbols, 64 at a time.
///
/// # Errors
/// As [`sliding`].
pub fn native(text: &Text<'_>, pattern: &Pattern, classes: Option<&Classes>) -> Result<Vec<u32>> {
    text.check(OP)?;
    check_pattern(OP, pattern)?;
    if classes.is_some() {
        return sliding(text, pattern, classes);
    }
    let mut keys: Vec<u32> = pattern.tame().map(|(_, symbol)| symbol).collect();
    keys.sort_unstable();
    keys.dedup();
    let rank = |symbol: u32| keys.binary_search(&symbol).unwrap_or(keys.len()) as u32;
    let planes = (32 - (keys.len() as u32).leading_zeros()) as usize;
    let (n, m) = (text.symbols.len(), pattern.symbols.len());
    // Words of 64 symbols, [word][plane], that of the symbols that count last; of the text one word more, for windows at its end.
    let row = planes + 1;
    let words = n / 64 + 2;
    let of_word = |w: usize| -> Vec<u64> {
        let mut found = vec![0u64; row];
        for i in (64 * w..n).take(64) {
            let code = u64::from(rank(text.symbols[i])) | u64::from(text.counts(i)) << planes;
            for (q, word) in found.iter_mut().enumerate() {
                *word |= (code >> q & 1) << (i % 64);
            }
        }
        found
    };
    let texts: Vec<u64> = (0..words).into_par_iter().flat_map_iter(of_word).collect();
    let mut wanted = vec![0u64; m.div_ceil(64) * row];
    for (j, symbol) in pattern.tame() {
        let code = u64::from(rank(symbol)) | 1 << planes;
        for q in 0..row {
            wanted[j / 64 * row + q] |= (code >> q & 1) << (j % 64);
        }
    }
    let distance = |i: usize| {
        let (from, shift) = (i / 64 * row, i % 64);
        let window = |at: usize| {
            let pair = u128::from(texts[at]) | u128::from(texts[at + row]) << 64;
            (pair >> shift) as u64
        };
        let mut distance = 0;
        for (u, want) in wanted.chunks_exact(row).enumerate() {
            let at = from + u * row;
            let mut seen = 0;
            for (q, want) in want[..planes].iter().enumerate() {
                seen |= window(at + q) ^ want;
            }
            distance += (seen & want[planes] & window(at + planes)).count_ones();
        }
        distance
    };
    let positions = (n + 1).saturating_sub(m);
    Ok((0..positions).into_par_iter().map(distance).collect())
}
