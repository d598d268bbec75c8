//! All distances.

use super::{Database, Options, database::rows, level::BLOCK, sweep::Sweep, threads};
use crate::{Error, Result, error::length, hamming::Allowed};

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
    /// `Argument` when `queries` does not fit, `Limit` when the result cannot be addressed, `Unsupported` when the machine
    /// lacks the level.
    pub fn distances(&self, queries: &[u32]) -> Result<Vec<u32>> {
        let mut matrix = vec![0; self.matrix_len::<u32>(queries)?];
        self.distances_into(queries, &mut matrix)?;
        Ok(matrix)
    }

    /// [`distances`](Self::distances) in 16 bits.
    ///
    /// # Errors
    /// As [`distances`](Self::distances), and `Argument` for codes of more than 65,535 bits.
    pub fn distances_u16(&self, queries: &[u32]) -> Result<Vec<u16>> {
        let mut matrix = vec![0; self.matrix_len::<u16>(queries)?];
        self.distances_u16_into(queries, &mut matrix)?;
        Ok(matrix)
    }

    /// [`distances`](Self::distances) into memory that exists: touching new memory takes longer than the distances.
    ///
    /// # Errors
    /// As [`distances`](Self::distances), and `Argument` when `matrix` has not N·M elements.
    pub fn distances_into(&self, queries: &[u32], matrix: &mut [u32]) -> Result<()> {
        fill(self, queries, matrix, |distance| distance)
    }

    /// [`distances_u16`](Self::distances_u16) into memory that exists.
    ///
    /// # Errors
    /// As [`distances_u16`](Self::distances_u16), and `Argument` when `matrix` has not N·M elements.
    pub fn distances_u16_into(&self, queries: &[u32], matrix: &mut [u16]) -> Result<()> {
        if self.bits() > u16::MAX as usize {
            return Err(Error::Argument {
                op: OP,
                what: "bits".into(),
                expected: format!("at most {} for distances of 16 bits", u16::MAX),
                got: self.bits().to_string(),
            });
        }
        fill(self, queries, matrix, |distance| distance as u16)
    }

    /// The elements of the result, if they can be addressed.
    fn matrix_len<T>(&self, queries: &[u32]) -> Result<usize> {
        let rows = rows(OP, "queries", queries, self.bits())?;
        let most = isize::MAX as usize / size_of::<T>();
        let len = rows.checked_mul(self.len()).filter(|len| *len <= most);
        len.ok_or(Error::Limit {
            what: format!("{OP} (elements of the result)"),
            needed: (rows as u64).saturating_mul(self.len() as u64),
            available: most as u64,
            remedy: "split the queries",
        })
    }
}

fn fill<T: Send>(
    database: &Database,
    queries: &[u32],
    matrix: &mut [T],
    narrow: impl Fn(u32) -> T + Sync,
) -> Result<()> {
    let allowed = Allowed::default();
    let sweep = Sweep::new(OP, database, queries, &allowed)?;
    length(
        OP,
        "matrix",
        matrix.len(),
        database.matrix_len::<T>(queries)?,
    )?;
    if matrix.is_empty() {
        return Ok(());
    }
    let (items, all) = (database.len(), database.bits() as u32 + 1);
    let write = |row: &mut &mut [T], distances: &[u32; BLOCK], _, first: u32| {
        let to = row.get_mut(first as usize..).unwrap_or_default();
        match to.first_chunk_mut::<BLOCK>() {
            Some(to) => to
                .iter_mut()
                .zip(distances)
                .for_each(|(to, distance)| *to = narrow(*distance)),
            None => to
                .iter_mut()
                .zip(distances)
                .for_each(|(to, distance)| *to = narrow(*distance)),
        }
        all
    };
    let tasks = matrix.chunks_mut(ROWS * items).enumerate();
    threads::share(database.options.threads, tasks, |(at, rows)| {
        let mut rows: Vec<&mut [T]> = rows.chunks_mut(items).collect();
        let mut limits = vec![all; rows.len()];
        let queries = at * ROWS..at * ROWS + rows.len();
        let blocks = std::iter::once(0..database.blocks_len());
        sweep.over(queries, blocks, &mut rows, &mut limits, &write);
    });
    Ok(())
}
