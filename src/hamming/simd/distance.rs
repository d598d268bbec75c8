//! All distances.

use super::{Database, Options, level::BLOCK, sweep::Sweep, threads};
use crate::{Error, Result, hamming::Allowed};

const OP: &str = "hamming_distance";

/// Rows of a task: those scanned together.
const ROWS: usize = 4;

/// The distances of codes `[N, W]` to codes `[M, W]`, `[N, M]`. A [`Database`] made once saves the second one's layout.
///
/// # Errors
/// As [`Database::new`] and [`Database::distances`].
pub fn distances(
    queries: &[u32],
    codes: &[u32],
    bits: usize,
    options: Options,
) -> Result<Vec<u32>> {
    Database::new(codes, bits, options)?.distances(queries)
}

/// [`distances`] in 16 bits.
///
/// # Errors
/// As [`Database::new`] and [`Database::distances_u16`].
pub fn distances_u16(
    queries: &[u32],
    codes: &[u32],
    bits: usize,
    options: Options,
) -> Result<Vec<u16>> {
    Database::new(codes, bits, options)?.distances_u16(queries)
}

impl Database {
    /// The distance of every query to every code, `[N, M]`.
    ///
    /// # Errors
    /// `Argument` when `queries` does not fit, `Limit` when the result cannot be addressed, `Unsupported` when the machine lacks
    /// the level.
    pub fn distances(&self, queries: &[u32]) -> Result<Vec<u32>> {
        matrix(self, queries, |distance| distance)
    }

    /// [`distances`](Self::distances) in 16 bits.
    ///
    /// # Errors
    /// As [`distances`](Self::distances), and `Argument` for codes of more than 65,535 bits.
    pub fn distances_u16(&self, queries: &[u32]) -> Result<Vec<u16>> {
        if self.bits() > u16::MAX as usize {
            return Err(Error::Argument {
                op: OP,
                what: "bits".into(),
                expected: format!("at most {} for distances of 16 bits", u16::MAX),
                got: self.bits().to_string(),
            });
        }
        matrix(self, queries, |distance| distance as u16)
    }
}

fn matrix<T: Copy + Default + Send>(
    database: &Database,
    queries: &[u32],
    narrow: impl Fn(u32) -> T + Sync,
) -> Result<Vec<T>> {
    let allowed = Allowed::default();
    let sweep = Sweep::new(OP, database, queries, &allowed)?;
    let (rows, items) = (sweep.count, database.len());
    let most = isize::MAX as usize / size_of::<T>();
    let Some(len) = rows.checked_mul(items).filter(|len| *len <= most) else {
        return Err(Error::Limit {
            what: format!("{OP} (elements of the result)"),
            needed: (rows as u64).saturating_mul(items as u64),
            available: most as u64,
            remedy: "split the queries",
        });
    };
    let mut matrix = vec![T::default(); len];
    if len == 0 {
        return Ok(matrix);
    }
    let all = database.bits() as u32 + 1;
    let write = |row: &mut &mut [T], distances: &[u32; BLOCK], _, first: u32| {
        let to = row.get_mut(first as usize..).unwrap_or_default();
        to.iter_mut()
            .zip(distances)
            .for_each(|(to, distance)| *to = narrow(*distance));
        all
    };
    let tasks = matrix.chunks_mut(ROWS * items).enumerate();
    threads::share(database.options.threads, tasks, |(at, rows)| {
        let mut rows: Vec<&mut [T]> = rows.chunks_mut(items).collect();
        let mut limits = vec![all; rows.len()];
        let queries = at * ROWS..at * ROWS + rows.len();
        sweep.over(
            queries,
            std::iter::once(0..database.blocks_len()),
            &mut rows,
            &mut limits,
            &write,
        );
    });
    Ok(matrix)
}
