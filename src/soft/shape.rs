//! What a caller asks for, whether it makes sense, and what the solver reports.

use std::ops::Range;

use crate::{
    Error, Result,
    gpu::{Caps, Dtype},
    linear::Layout,
};

/// The largest widths of queries and values.
pub const MAX_WIDTH: usize = 512;

/// The largest number of landmarks.
pub const MAX_LANDMARKS: usize = 512;

/// The largest relative residual that [`Solver::Cholesky`] may leave.
pub const RESIDUAL_TOLERANCE: f32 = 1e-3;

/// The largest ‖I − P V‖ with which an iterated inverse V still counts as one: each of the two corrections of the solution
/// shrinks its error by this factor.
pub(super) const MOST_DEFECT: f32 = 0.1;

/// Sizes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Sequences.
    pub batch: usize,
    /// Heads.
    pub heads: usize,
    /// Tokens per sequence; 0 is legal unless landmarks are pooled.
    pub tokens: usize,
    /// Landmarks per head, 1 to 512.
    pub landmarks: usize,
    /// Width of queries and landmarks, 1 to 512.
    pub width: usize,
    /// Width of values and outputs, 1 to 512.
    pub value: usize,
    /// Order of the axes of q, v and o. Landmarks are `[batch, heads, landmarks, width]` in both.
    pub layout: Layout,
    /// Storage type of q, landmarks, v and o: f32, f16 or bf16. Arithmetic is f32.
    pub dtype: Dtype,
}

impl Shape {
    /// Sequences times heads.
    pub fn rows(&self) -> usize {
        self.batch * self.heads
    }

    /// Elements of q.
    pub fn query_len(&self) -> usize {
        self.rows() * self.tokens * self.width
    }

    /// Elements of the landmarks.
    pub fn landmark_len(&self) -> usize {
        self.rows() * self.landmarks * self.width
    }

    /// Elements of v, and of o.
    pub fn value_len(&self) -> usize {
        self.rows() * self.tokens * self.value
    }

    /// Elements of the status: four a head, see [`Status::read`].
    pub fn status_len(&self) -> usize {
        4 * self.rows()
    }

    /// Distance in rows of q, v or o between (batches, heads, tokens).
    pub(super) fn strides(&self) -> [u64; 3] {
        let (h, t) = (self.heads as u64, self.tokens as u64);
        match self.layout {
            Layout::Bthd => [h * t, 1, h],
            Layout::Bhtd => [h * t, t, 1],
        }
    }

    /// Whether the tensors exist on a device: one larger than its largest buffer cannot.
    pub(super) fn fits(&self, caps: &Caps) -> Result<()> {
        for (what, len) in [
            ("q", self.query_len()),
            ("the landmarks", self.landmark_len()),
            ("v", self.value_len()),
        ] {
            let (needed, available) = (len as u64 * self.dtype.bytes(), caps.buffer_bytes);
            if needed > available {
                return Err(Error::Limit {
                    what: format!("bytes of {what}"),
                    needed,
                    available,
                    remedy: "cut the batch or the sequence",
                });
            }
        }
        Ok(())
    }

    pub(super) fn check(&self, op: &'static str) -> Result<()> {
        for (what, size, most) in [
            ("width", self.width, MAX_WIDTH),
            ("value width", self.value, MAX_WIDTH),
            ("landmarks", self.landmarks, MAX_LANDMARKS),
        ] {
            if !(1..=most).contains(&size) {
                return wrong(op, what, format!("from 1 to {most}"), size.to_string());
            }
        }
        if !matches!(self.dtype, Dtype::F32 | Dtype::F16 | Dtype::Bf16) {
            return wrong(op, "dtype", "f32, f16 or bf16", self.dtype.name());
        }
        // Empty axes count as 1: sizes that no array could have are refused whether or not another axis is empty.
        let sizes =
            [self.batch, self.heads, self.tokens.max(self.landmarks)].map(|n| n.max(1) as u64);
        let elements = sizes.into_iter().try_fold(1u64, u64::checked_mul);
        if elements.is_none_or(|n| n > 1 << 40) || sizes.into_iter().any(|n| n > 1 << 31) {
            let got = format!(
                "batch {} x heads {} x tokens {}",
                self.batch, self.heads, self.tokens
            );
            return wrong(op, "shape", "of at most 2^31 a side and 2^40 rows", got);
        }
        Ok(())
    }

    /// What pooling asks for beyond [`Shape::check`]: no run of tokens may be empty.
    pub(super) fn check_pooled(&self, op: &'static str) -> Result<()> {
        if self.tokens < self.landmarks && self.rows() > 0 {
            let expected = format!("at most the {} tokens they are pooled from", self.tokens);
            return wrong(op, "landmarks", expected, self.landmarks.to_string());
        }
        Ok(())
    }
}

fn wrong<T>(
    op: &'static str,
    what: &str,
    expected: impl Into<String>,
    got: impl Into<String>,
) -> Result<T> {
    Err(Error::Argument {
        op,
        what: what.into(),
        expected: expected.into(),
        got: got.into(),
    })
}

/// The tokens whose mean is landmark `a` of `landmarks`: ⌊aT/m⌋ to ⌊(a+1)T/m⌋. The runs are consecutive, cover every token
/// and differ by at most one in length; with m > T some are empty.
pub fn run_of_landmark(tokens: usize, landmarks: usize, a: usize) -> Range<usize> {
    let bound = |a: usize| a * tokens / landmarks.max(1);
    bound(a)..bound(a + 1)
}

/// How systems with P are solved.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Solver {
    /// Square-root-free Cholesky factorisation in f32.
    Cholesky,
    /// The iteration of the paper: V ← V + V R, R = I − P V, from V = αP, α = 1.8 / (largest row sum of P)². It ends when
    /// ‖R‖∞ <= `tolerance`, or no longer halves below 1/2, which is as far as f32 goes; the solution is then corrected twice by
    /// V times its own residual.
    Newton {
        /// Bound on ‖R‖∞ that ends the iteration, and on the relative residual of the solution. Above 0.
        tolerance: f32,
        /// Most iterations, 1 to 256. About log₂(14 κ²) are needed for a condition number κ: 27 at 4,000.
        max_iterations: u32,
    },
}

impl Solver {
    /// Newton-Raphson with the tolerance 1e-3 and at most 64 iterations.
    pub fn newton() -> Solver {
        Solver::Newton {
            tolerance: 1e-3,
            max_iterations: 64,
        }
    }
}

/// Options of [`soft_attention`](super::soft_attention) and [`backward`](super::backward).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// Added to the diagonal of P, at least 0. Upstream: 0.01, or 0 with the symmetric normalisation.
    pub ridge: f32,
    /// How systems with P are solved.
    pub solver: Solver,
    /// Scales P⁻¹ by s = (P 1)^(−1/2) from both sides.
    pub symmetric_norm: bool,
}

impl Default for Options {
    /// Ridge 0.01, factorisation, no normalisation.
    fn default() -> Options {
        Options {
            ridge: 0.01,
            solver: Solver::Cholesky,
            symmetric_norm: false,
        }
    }
}

impl Options {
    pub(super) fn check(&self, op: &'static str) -> Result<()> {
        if !self.ridge.is_finite() || self.ridge < 0.0 {
            return wrong(op, "ridge", "finite and at least 0", self.ridge.to_string());
        }
        if let Solver::Newton {
            tolerance,
            max_iterations,
        } = self.solver
        {
            if !tolerance.is_finite() || tolerance <= 0.0 {
                return wrong(op, "tolerance", "finite and above 0", tolerance.to_string());
            }
            if !(1..=256).contains(&max_iterations) {
                return wrong(
                    op,
                    "max_iterations",
                    "from 1 to 256",
                    max_iterations.to_string(),
                );
            }
        }
        Ok(())
    }
}

/// What the solver reached on one head.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Status {
    /// Iterations of [`Solver::Newton`]; 0 with [`Solver::Cholesky`].
    pub iterations: u32,
    /// ‖P Y − X‖ / ‖X‖ over all columns of the head, X = Cᵀ v (times s where normalised), in the Frobenius norm; 0 where X is.
    /// For gradients the larger one of the two systems solved.
    pub residual: f32,
    /// With [`Solver::Newton`], ‖I − P V‖∞ as last measured. With [`Solver::Cholesky`], how many pivots were not positive to
    /// working precision.
    pub defect: f32,
}

impl Status {
    /// The status of every head, `[batch, heads]`, from the tensor that [`record`](super::record) fills.
    pub fn read(status: &[f32]) -> Vec<Status> {
        status
            .chunks_exact(4)
            .filter_map(|head| match head {
                &[iterations, residual, defect, _] => Some(Status {
                    iterations: iterations as u32,
                    residual,
                    defect,
                }),
                _ => None,
            })
            .collect()
    }

    /// Whether the head was solved: the residual is within the solver's tolerance ([`RESIDUAL_TOLERANCE`] for the
    /// factorisation), every pivot was positive, and an iterated inverse is one to within 0.1.
    pub fn converged(&self, options: &Options) -> bool {
        match options.solver {
            Solver::Cholesky => self.residual <= RESIDUAL_TOLERANCE && self.defect == 0.0,
            Solver::Newton { tolerance, .. } => {
                self.residual <= tolerance && self.defect <= MOST_DEFECT
            }
        }
    }

    /// The first head that was not solved, as an error.
    pub(super) fn judge(
        op: &'static str,
        shape: &Shape,
        options: &Options,
        all: &[Status],
    ) -> Result<()> {
        let Some((n, status)) = all
            .iter()
            .enumerate()
            .find(|(_, status)| !status.converged(options))
        else {
            return Ok(());
        };
        let heads = shape.heads.max(1);
        let place = format!("batch {}, head {}", n / heads, n % heads);
        let Status {
            iterations,
            residual,
            defect,
        } = status;
        let what = match options.solver {
            Solver::Cholesky => format!(
                "{place}: the factorisation left a residual of {residual:.1e} (tolerance {RESIDUAL_TOLERANCE:.0e}) after 0 \
                 iterations, with {defect} pivots not positive; raise the ridge or spread the landmarks"
            ),
            Solver::Newton { tolerance, .. } => format!(
                "{place}: Newton-Raphson left a residual of {residual:.1e} (tolerance {tolerance:.0e}) and an inverse wrong \
                 by {defect:.1e} (at most {MOST_DEFECT}) after {iterations} iterations; allow more, or raise the ridge"
            ),
        };
        Err(Error::Numeric { op, what })
    }
}
