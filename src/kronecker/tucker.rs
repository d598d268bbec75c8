//! Tucker decompositions: a small core, a matrix a mode.

use faer::{Mat, MatRef, Side};

use super::matmul::{self, Factor, Operator, Options};
use crate::{
    Error, Result,
    error::length,
    gpu::{Caps, Gpu, Pass, Tensor},
    plan::Plan,
};

pub(super) const OP: &str = "tucker";

/// Sizes of a decomposition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Tensors that share the factors; 0 is legal.
    pub rows: usize,
    /// Length n_i of each mode and its rank r_i: the sizes of the factor U_i.
    pub factors: Vec<[usize; 2]>,
}

impl Shape {
    /// Elements of the tensors.
    pub fn tensor_len(&self) -> usize {
        self.rows * self.factors.iter().map(|[n, _]| n).product::<usize>()
    }

    /// Elements of the cores.
    pub fn core_len(&self) -> usize {
        self.rows * self.factors.iter().map(|[_, r]| r).product::<usize>()
    }

    /// What rows are multiplied by.
    pub(super) fn operator(&self, reconstruct: bool) -> Operator {
        Operator::new(self.factors.iter().map(|[n, r]| match reconstruct {
            true => Factor::dense(*n, *r).transpose(),
            false => Factor::dense(*n, *r),
        }))
    }
}

/// The tensor of a core: X = C ×_0 U_0 ×_1 U_1 …
///
/// ```text
/// x[i_0, i_1, …] = Σ over j_0, j_1, … of core[j_0, j_1, …] Π_k U_k[i_k, j_k]
/// ```
///
/// `core` is `[rows, r_0, r_1, …]`, factors are `[n_k, r_k]`, `x` is `[rows, n_0, n_1, …]`, f32, row-major. The transpose in the core is
/// [`project`]; cost, temporaries and accuracy are those of [`matmul`](crate::kronecker::matmul()), in the order that costs least.
///
/// # Errors
/// As [`matmul`](crate::kronecker::matmul()).
pub fn reconstruct(
    gpu: &Gpu,
    shape: &Shape,
    core: &Tensor<f32>,
    factors: &[&Tensor<f32>],
    x: &mut Tensor<f32>,
) -> Result<()> {
    let mut pass = gpu.pass(OP);
    record(&mut pass, shape, true, core, factors, x)?;
    pass.submit().map(drop)
}

/// The core of a tensor: C = X ×_0 U_0ᵀ ×_1 U_1ᵀ …, the best where the factors' columns are orthonormal.
///
/// Shapes as in [`reconstruct`], whose transpose it is.
///
/// # Errors
/// As [`matmul`](crate::kronecker::matmul()).
pub fn project(
    gpu: &Gpu,
    shape: &Shape,
    x: &Tensor<f32>,
    factors: &[&Tensor<f32>],
    core: &mut Tensor<f32>,
) -> Result<()> {
    let mut pass = gpu.pass(OP);
    record(&mut pass, shape, false, x, factors, core)?;
    pass.submit().map(drop)
}

/// [`reconstruct`], or [`project`], recorded into a pass that the caller submits.
///
/// # Errors
/// As [`reconstruct`].
pub fn record(
    pass: &mut Pass,
    shape: &Shape,
    reconstruct: bool,
    from: &Tensor<f32>,
    factors: &[&Tensor<f32>],
    into: &mut Tensor<f32>,
) -> Result<()> {
    let plan = plan(shape, reconstruct, pass.caps())?;
    let lengths = match reconstruct {
        true => [shape.core_len(), shape.tensor_len()],
        false => [shape.tensor_len(), shape.core_len()],
    };
    let names = match reconstruct {
        true => ["core", "x"],
        false => ["x", "core"],
    };
    length(OP, names[0], from.len(), lengths[0])?;
    length(OP, names[1], into.len(), lengths[1])?;
    length(OP, "factors", factors.len(), shape.factors.len())?;
    for (n, (factor, [rows, columns])) in factors.iter().zip(&shape.factors).enumerate() {
        length(OP, &format!("factors[{n}]"), factor.len(), rows * columns)?;
    }
    let views = [from.view()]
        .into_iter()
        .chain(factors.iter().map(|factor| factor.view()));
    pass.run(&plan, &views.collect::<Vec<_>>(), &mut [into.view_mut()])
}

/// Plans [`reconstruct`], or [`project`]. Inputs: core or tensor, then the factors; output: tensor or core.
///
/// # Errors
/// As [`reconstruct`], but for those of the device.
pub fn plan(shape: &Shape, reconstruct: bool, caps: &Caps) -> Result<Plan> {
    let operator = shape.operator(reconstruct);
    let rows = matmul::Shape::rows(shape.rows);
    let plan = matmul::plan(&operator, &rows, &Options::default(), caps)?;
    Ok(Plan { op: OP, ..plan })
}

/// What [`st_hosvd`] is to reach.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    /// The least ranks such that what is lost is at most this share of the tensor's norm.
    Tolerance(f64),
    /// These ranks, or as many as a mode has.
    Ranks(Vec<usize>),
}

/// A decomposition in f64.
#[derive(Clone, Debug, PartialEq)]
pub struct Tucker {
    /// `[r_0, r_1, …]`, row-major.
    pub core: Vec<f64>,
    /// U_k, `[n_k, r_k]`, row-major, columns orthonormal.
    pub factors: Vec<Vec<f64>>,
    /// r_k.
    pub ranks: Vec<usize>,
    /// The norm of what is lost, relative to the tensor's.
    pub lost: f64,
}

/// The tolerance below which a Gram matrix has lost what is asked for.
const GRAM: f64 = 1e-7;

/// Decomposes a tensor by the sequentially truncated higher-order singular value decomposition, on the host in f64.
///
/// Mode after mode the eigenvectors of the Gram matrix of what is left become the mode's factor, of which the fewest are kept whose tail is
/// at most tolerance / √(number of modes) of the tensor's norm, and the tensor is contracted with them. Below a tolerance of 1e-7 the
/// singular vectors are found without the Gram matrix.
///
/// `x` is `[n_0, n_1, …]`, row-major. Cost: Σ n_k² times the elements left, and n_k³.
///
/// # Errors
/// `Argument` when sizes do not fit together, a tolerance is not in (0, 1) or numbers are not finite; `Numeric` when a factorisation does
/// not converge.
///
/// Source: Vannieuwenhoven, Vandebril and Meerbergen, "A new truncation strategy for the higher-order singular value decomposition", 2012.
pub fn st_hosvd(sizes: &[usize], x: &[f64], target: &Target) -> Result<Tucker> {
    let wrong = |what: &str, expected: &str, got: String| {
        Err(Error::Argument {
            op: OP,
            what: what.into(),
            expected: expected.into(),
            got,
        })
    };
    length(OP, "x", x.len(), sizes.iter().product())?;
    if let Some(size) = sizes.iter().find(|size| !(1..=4096).contains(*size)) {
        return wrong("sizes", "from 1 to 4096", size.to_string());
    }
    if let Some(x) = x.iter().find(|x| !x.is_finite()) {
        return wrong("x", "finite", x.to_string());
    }
    match target {
        Target::Tolerance(share) if !(*share > 0.0 && *share < 1.0) => {
            return wrong(
                "tolerance",
                "more than 0 and less than 1",
                share.to_string(),
            );
        }
        Target::Ranks(ranks) if ranks.len() != sizes.len() || ranks.contains(&0) => {
            let expected = "at least 1, one for each mode";
            return wrong("ranks", expected, format!("{ranks:?}"));
        }
        _ => {}
    }
    let norm = x.iter().map(|x| x * x).sum::<f64>();
    let mut core = x.to_vec();
    let mut left: Vec<usize> = sizes.to_vec();
    let mut factors = Vec::new();
    let mut lost = 0.0;
    for (mode, n) in sizes.iter().enumerate() {
        let inner: usize = left.iter().skip(mode + 1).product();
        let unfolded = Unfolded {
            core: &core,
            n: *n,
            inner,
        };
        // Squares of singular values, with their vectors, the largest first.
        let mut vectors = match target {
            Target::Tolerance(share) if *share < GRAM => unfolded.singular()?,
            _ => unfolded.gram()?,
        };
        vectors.sort_by(|a, b| b.0.total_cmp(&a.0));
        let rank = match target {
            Target::Ranks(ranks) => ranks.get(mode).copied().unwrap_or(1).min(vectors.len()),
            Target::Tolerance(share) => {
                let allowed = share * share * norm / sizes.len() as f64;
                let mut tail = 0.0;
                let dropped = vectors.iter().rev().take_while(|(square, _)| {
                    tail += square.max(0.0);
                    tail <= allowed
                });
                (vectors.len() - dropped.count()).max(1)
            }
        };
        lost += vectors
            .iter()
            .skip(rank)
            .map(|(square, _)| square.max(0.0))
            .sum::<f64>();
        vectors.truncate(rank);
        core = unfolded.contracted(&vectors);
        if let Some(left) = left.get_mut(mode) {
            *left = rank;
        }
        let row = |i: usize| vectors.iter().filter_map(move |(_, vector)| vector.get(i));
        factors.push((0..*n).flat_map(row).copied().collect());
    }
    Ok(Tucker {
        core,
        factors,
        ranks: left,
        lost: (lost / norm.max(f64::MIN_POSITIVE)).sqrt(),
    })
}

/// The square of a singular value, and its vector.
type Weighed = (f64, Vec<f64>);

/// A tensor `[.., n, inner]` by its middle mode.
struct Unfolded<'a> {
    core: &'a [f64],
    n: usize,
    inner: usize,
}

impl Unfolded<'_> {
    fn slabs(&self) -> impl Iterator<Item = &[f64]> {
        self.core.chunks_exact((self.n * self.inner).max(1))
    }

    fn gram(&self) -> Result<Vec<Weighed>> {
        let mut gram = vec![0.0; self.n * self.n];
        for slab in self.slabs() {
            for (row, sums) in slab
                .chunks_exact(self.inner)
                .zip(gram.chunks_exact_mut(self.n))
            {
                for (other, sum) in slab.chunks_exact(self.inner).zip(sums) {
                    *sum += row.iter().zip(other).map(|(a, b)| a * b).sum::<f64>();
                }
            }
        }
        let entry = |i: usize, j: usize| gram.get(i * self.n + j).copied().unwrap_or(0.0);
        let gram = Mat::from_fn(self.n, self.n, entry);
        let eigen = gram.self_adjoint_eigen(Side::Lower);
        let eigen = eigen.map_err(|_| unfinished("eigenvalues of a Gram matrix"))?;
        Ok(columns(
            eigen.U(),
            eigen.S().column_vector().iter().copied(),
        ))
    }

    fn singular(&self) -> Result<Vec<Weighed>> {
        let width = self.core.len() / self.n;
        let entry = |i: usize, at: usize| {
            let (l, r) = (at / self.inner, at % self.inner);
            let place = (l * self.n + i) * self.inner + r;
            self.core.get(place).copied().unwrap_or(0.0)
        };
        let svd = Mat::from_fn(self.n, width, entry).thin_svd();
        let svd = svd.map_err(|_| unfinished("singular values of a tensor"))?;
        let squares = svd.S().column_vector().iter().map(|value| value * value);
        Ok(columns(svd.U(), squares))
    }

    fn contracted(&self, vectors: &[Weighed]) -> Vec<f64> {
        let mut out = Vec::with_capacity(self.core.len() / self.n * vectors.len());
        for slab in self.slabs() {
            for (_, vector) in vectors {
                let mut row = vec![0.0; self.inner];
                for (values, weight) in slab.chunks_exact(self.inner).zip(vector) {
                    for (sum, value) in row.iter_mut().zip(values) {
                        *sum += weight * value;
                    }
                }
                out.extend(row);
            }
        }
        out
    }
}

/// Numbers with the columns of a matrix.
fn columns(vectors: MatRef<'_, f64>, numbers: impl Iterator<Item = f64>) -> Vec<Weighed> {
    let columns = vectors
        .col_iter()
        .map(|column| column.iter().copied().collect());
    numbers.zip(columns).collect()
}

fn unfinished(what: &str) -> Error {
    Error::Numeric {
        op: OP,
        what: format!("the {what} did not converge"),
    }
}
