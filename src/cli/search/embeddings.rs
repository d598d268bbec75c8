//! Embeddings on the host: reading them, packing them into codes, and what codes lose of them.

use std::{cmp::Ordering, path::Path};

use half::{bf16, f16};
use rayon::prelude::*;
use serde_json::Map;

use crate::{
    Error,
    case::{Array, Case, Failure},
    cli::npy,
    gpu::Dtype,
    hamming::{
        ABSENT, Compare,
        simd::{self, Neighbours},
    },
};

/// Rows of floats.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Embeddings {
    /// Embeddings.
    pub rows: usize,
    /// Floats of each.
    pub dims: usize,
    /// The floats, `[rows, dims]`.
    pub values: Vec<f32>,
}

/// What a dimension must exceed for its bit to be 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Threshold {
    /// 0: a bit is a sign.
    #[default]
    #[value(name = "0")]
    Zero,
    /// The mean of the dimension over the database.
    Mean,
    /// The median of the dimension over the database, the lower of two.
    Median,
}

impl Threshold {
    /// Its word among the arguments.
    pub fn name(self) -> &'static str {
        match self {
            Threshold::Zero => "0",
            Threshold::Mean => "mean",
            Threshold::Median => "median",
        }
    }

    /// A threshold for each dimension.
    pub fn of(self, database: &Embeddings) -> Vec<f32> {
        let column = |d: usize| {
            database
                .values
                .iter()
                .copied()
                .skip(d)
                .step_by(database.dims)
        };
        let threshold = |d: usize| match self {
            Threshold::Zero => 0.0,
            Threshold::Mean => {
                let sum: f64 = column(d).map(f64::from).sum();
                (sum / database.rows.max(1) as f64) as f32
            }
            Threshold::Median => {
                let mut values: Vec<f32> = column(d).collect();
                values.sort_unstable_by(f32::total_cmp);
                let middle = values.len().saturating_sub(1) / 2;
                values.get(middle).copied().unwrap_or(0.0)
            }
        };
        (0..database.dims).into_par_iter().map(threshold).collect()
    }
}

impl Embeddings {
    /// Reads a matrix of floats: the whole of an .npy file, or the tensor of this name, which an argument gave, of a
    /// safetensors file.
    ///
    /// # Errors
    /// `File` when it cannot be read, is of no such format, or holds something else.
    pub fn read(path: &Path, tensor: &str, argument: &str) -> Result<Embeddings, Failure> {
        let file = |message: String| Failure::File {
            path: path.display().to_string(),
            message,
        };
        let array = if path.extension().is_some_and(|extension| extension == "npy") {
            let bytes = std::fs::read(path).map_err(|error| file(error.to_string()))?;
            npy::parse(&bytes).map_err(|error| file(error.to_string()))?
        } else {
            // A case file without an operator is any safetensors file.
            let mut case = Case::read(path, Some("search"), &Map::new())?;
            let names = case.inputs.keys().cloned().collect::<Vec<_>>().join(", ");
            case.inputs.remove(tensor).ok_or_else(|| {
                file(format!(
                    "has no tensor `{tensor}`; name one of {names} with {argument}"
                ))
            })?
        };
        Embeddings::new(&array).map_err(file)
    }

    /// The rows of an array.
    ///
    /// # Errors
    /// What is wrong with it, a sentence without its subject.
    fn new(array: &Array) -> Result<Embeddings, String> {
        let &[rows, dims] = array.shape.as_slice() else {
            return Err(format!(
                "must hold a matrix [rows, dimensions], got {array:?}"
            ));
        };
        let halves = |value: fn([u8; 2]) -> f32| {
            array
                .bytes
                .as_chunks()
                .0
                .iter()
                .map(|b| value(*b))
                .collect()
        };
        let values: Vec<f32> = match array.dtype {
            Dtype::F32 => array
                .bytes
                .as_chunks()
                .0
                .iter()
                .map(|b| f32::from_le_bytes(*b))
                .collect(),
            Dtype::F16 => halves(|b| f16::from_le_bytes(b).to_f32()),
            Dtype::Bf16 => halves(|b| bf16::from_le_bytes(b).to_f32()),
            _ => return Err(format!("must hold f32, f16 or bf16, got {array:?}")),
        };
        match values.iter().position(|value| !value.is_finite()) {
            Some(at) => Err(format!(
                "must hold finite numbers, got {:?} in row {}",
                values.get(at),
                at / dims.max(1)
            )),
            None => Ok(Embeddings { rows, dims, values }),
        }
    }

    /// Bits by dimension, 1 where a value exceeds its threshold; ⌈dims/32⌉ words to a row.
    ///
    /// # Errors
    /// `Argument` when the dimensions are no legal number of bits or not those of the thresholds.
    pub fn pack(&self, thresholds: &[f32]) -> Result<Vec<u32>, Error> {
        let threshold = simd::Threshold::Each(thresholds);
        simd::pack_bits(
            &self.values,
            self.dims,
            threshold,
            Compare::Greater,
            &simd::Options::default(),
        )
    }

    fn row(&self, n: usize) -> &[f32] {
        self.values
            .get(n * self.dims..(n + 1) * self.dims)
            .unwrap_or(&[])
    }
}

/// Σ x_i y_i, eight sums at a time, which compilers turn into vectors.
fn dot(x: &[f32], y: &[f32]) -> f32 {
    let (xs, x_rest) = x.as_chunks::<8>();
    let (ys, y_rest) = y.as_chunks::<8>();
    let mut sums = [0.0f32; 8];
    for (x, y) in xs.iter().zip(ys) {
        for ((sum, x), y) in sums.iter_mut().zip(x).zip(y) {
            *sum += x * y;
        }
    }
    let rest: f32 = x_rest.iter().zip(y_rest).map(|(x, y)| x * y).sum();
    sums.iter().sum::<f32>() + rest
}

/// Cosine similarity of rows of these lengths; 0 with a row of zeros.
fn cosine([x, y]: [&[f32]; 2], lengths: f32) -> f32 {
    if lengths > 0.0 {
        dot(x, y) / lengths
    } else {
        0.0
    }
}

fn length(x: &[f32]) -> f32 {
    dot(x, x).sqrt()
}

/// The larger cosine first, ties by index.
fn before(a: &(f32, u32), b: &(f32, u32)) -> Ordering {
    b.0.total_cmp(&a.0).then(a.1.cmp(&b.1))
}

/// The k nearest items of every query by cosine similarity, `[queries, k]`; absent where there are fewer.
pub fn nearest(
    database: &Embeddings,
    queries: &Embeddings,
    k: usize,
    exclude_self: bool,
) -> Vec<u32> {
    let lengths: Vec<f32> = (0..database.rows)
        .map(|j| length(database.row(j)))
        .collect();
    let row = |q: usize| {
        let query = queries.row(q);
        let own = length(query);
        let items = lengths.iter().enumerate();
        let items = items.filter(|(j, _)| !(exclude_self && *j == q));
        let mut all: Vec<_> = items
            .map(|(j, length)| (cosine([query, database.row(j)], own * length), j as u32))
            .collect();
        if k < all.len() {
            all.select_nth_unstable_by(k, before);
            all.truncate(k);
        }
        all.sort_unstable_by(before);
        all.resize(k, (0.0, ABSENT));
        all.into_iter().map(|(_, index)| index)
    };
    (0..queries.rows)
        .into_par_iter()
        .flat_map_iter(row)
        .collect()
}

/// The share of exact neighbours that were found; 1 where there are none.
pub fn recall(found: &[u32], exact: &[u32], k: usize) -> f64 {
    let (mut hits, mut all) = (0usize, 0usize);
    for (found, exact) in found.chunks(k.max(1)).zip(exact.chunks(k.max(1))) {
        let exact = exact.iter().filter(|index| **index != ABSENT);
        all += exact.clone().count();
        hits += exact.filter(|index| found.contains(index)).count();
    }
    if all == 0 {
        1.0
    } else {
        hits as f64 / all as f64
    }
}

/// Neighbours with their similarities.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ranked {
    /// Distances of codes, and indices.
    pub found: Neighbours,
    /// Cosine similarities; -2 where there is no item.
    pub cosine: Vec<f32>,
}

/// The k best of so many candidates of every query by cosine similarity.
pub fn rerank(
    database: &Embeddings,
    queries: &Embeddings,
    found: &Neighbours,
    candidates: usize,
    k: usize,
) -> Ranked {
    let mut ranked = Ranked::default();
    let rows = found
        .distance
        .chunks(candidates.max(1))
        .zip(found.index.chunks(candidates.max(1)));
    for (q, (distance, index)) in rows.enumerate() {
        let query = queries.row(q);
        let own = length(query);
        let pairs = distance
            .iter()
            .zip(index)
            .map(|(distance, index)| match *index {
                ABSENT => ((-2.0, ABSENT), ABSENT),
                item => {
                    let item_row = database.row(item as usize);
                    let similarity = cosine([query, item_row], own * length(item_row));
                    ((similarity, item), *distance)
                }
            });
        let mut all: Vec<_> = pairs.collect();
        all.sort_unstable_by(|a, b| before(&a.0, &b.0));
        for ((cosine, index), distance) in all.into_iter().take(k) {
            ranked.found.distance.push(distance);
            ranked.found.index.push(index);
            ranked.cosine.push(cosine);
        }
    }
    ranked
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(rows: usize, values: &[f32]) -> Embeddings {
        Embeddings {
            rows,
            dims: values.len() / rows,
            values: values.to_vec(),
        }
    }

    #[test]
    fn bits_are_1_above_the_threshold_of_their_dimension() {
        let x = rows(3, &[1.0, -2.0, 0.0, 5.0, 3.0, 6.0]);
        assert_eq!(Threshold::Zero.of(&x), [0.0, 0.0]);
        assert_eq!(Threshold::Mean.of(&x), [4.0 / 3.0, 3.0]);
        assert_eq!(Threshold::Median.of(&x), [1.0, 5.0]);
        assert_eq!(x.pack(&[0.0, 0.0]).unwrap(), [0b01, 0b10, 0b11]);
        assert_eq!(x.pack(&[1.0, 5.0]).unwrap(), [0b00, 0b00, 0b11]);
        let wide = rows(2, &[vec![1.0; 33], vec![-1.0; 33]].concat());
        assert_eq!(wide.pack(&[0.0; 33]).unwrap(), [u32::MAX, 1, 0, 0]);
    }

    #[test]
    fn the_nearest_by_cosine_come_first_and_ties_by_index() {
        let database = rows(4, &[1.0, 0.0, 0.0, 2.0, 3.0, 0.0, 0.0, 0.0]);
        let query = rows(1, &[1.0, 0.5]);
        assert_eq!(nearest(&database, &query, 3, false), [0, 2, 1]);
        assert_eq!(
            nearest(&database, &query, 6, true),
            [2, 1, 3, ABSENT, ABSENT, ABSENT]
        );
        let found = Neighbours {
            distance: vec![4, 5, 6, ABSENT],
            index: vec![3, 1, 2, ABSENT],
        };
        let ranked = rerank(&database, &query, &found, 4, 2);
        assert_eq!(
            (ranked.found.index, ranked.found.distance),
            (vec![2, 1], vec![6, 5])
        );
        assert_eq!(recall(&[2, 1, 9, 8], &[1, 7, 9, ABSENT], 2), 2.0 / 3.0);
    }
}
