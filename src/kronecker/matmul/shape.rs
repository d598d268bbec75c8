//! Operators, what they multiply, and the checks of both.

use crate::{Error, Result, error::length, gpu::Dtype};

use super::OP;

/// The most factors of an operator.
pub const MAX_FACTORS: usize = 4096;
/// The largest side of a factor.
pub const MAX_SIZE: usize = 1 << 15;

/// What a factor is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// All its entries, row-major.
    Dense,
    /// The entries of its diagonal; all others are 0.
    Diagonal,
    /// The identity, which has no entries to store and costs nothing.
    Identity,
}

/// One factor of an [`Operator`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Factor {
    /// What it is made of.
    pub kind: Kind,
    /// Its rows as stored.
    pub rows: usize,
    /// Its columns as stored.
    pub columns: usize,
    /// Whether the operator has its transpose.
    pub transposed: bool,
    /// Whether each batch has its own, one after another.
    pub per_batch: bool,
}

impl Factor {
    /// A matrix `[rows, columns]`.
    pub fn dense(rows: usize, columns: usize) -> Factor {
        Factor {
            kind: Kind::Dense,
            rows,
            columns,
            transposed: false,
            per_batch: false,
        }
    }

    /// A diagonal matrix, stored as `[n]`.
    pub fn diagonal(n: usize) -> Factor {
        Factor {
            kind: Kind::Diagonal,
            ..Factor::dense(n, n)
        }
    }

    /// The identity of n, which takes no tensor.
    pub fn identity(n: usize) -> Factor {
        Factor {
            kind: Kind::Identity,
            ..Factor::dense(n, n)
        }
    }

    /// Its transpose.
    pub fn transpose(self) -> Factor {
        Factor {
            transposed: !self.transposed,
            ..self
        }
    }

    /// One for each batch.
    pub fn per_batch(self) -> Factor {
        Factor {
            per_batch: true,
            ..self
        }
    }

    /// Rows and columns of what the operator has: after the flag.
    pub fn sides(&self) -> [usize; 2] {
        if self.transposed {
            [self.columns, self.rows]
        } else {
            [self.rows, self.columns]
        }
    }

    /// Entries stored for one batch.
    pub fn entries(&self) -> usize {
        match self.kind {
            Kind::Dense => self.rows * self.columns,
            Kind::Diagonal => self.rows,
            Kind::Identity => 0,
        }
    }

    /// Elements of its tensor.
    pub fn len(&self, batch: usize) -> usize {
        self.entries() * if self.per_batch { batch } else { 1 }
    }

    /// Whether it takes no tensor.
    pub fn is_empty(&self) -> bool {
        self.kind == Kind::Identity
    }
}

/// K = op(F_0) ⊗ op(F_1) ⊗ …, never formed; with no factor the scalar 1.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Operator {
    /// The factors, the slowest digit of the index first.
    pub factors: Vec<Factor>,
}

impl Operator {
    /// The product of these factors.
    pub fn new(factors: impl IntoIterator<Item = Factor>) -> Operator {
        Operator {
            factors: factors.into_iter().collect(),
        }
    }

    /// Kᵀ, by the same tensors.
    pub fn transpose(&self) -> Operator {
        Operator::new(self.factors.iter().map(|factor| factor.transpose()))
    }

    /// Rows of K, P.
    pub fn rows(&self) -> usize {
        self.side(0)
    }

    /// Columns of K, Q.
    pub fn columns(&self) -> usize {
        self.side(1)
    }

    fn side(&self, n: usize) -> usize {
        let sides = self.factors.iter().map(|factor| {
            let [rows, columns] = factor.sides();
            if n == 0 { rows } else { columns }
        });
        sides.fold(1, usize::saturating_mul)
    }

    /// The factors that take a tensor, in order.
    pub fn stored(&self) -> impl Iterator<Item = &Factor> {
        self.factors.iter().filter(|factor| !factor.is_empty())
    }
}

/// On which side of the operator x stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// z = x K: x is `[batch, rows, P]`, z `[batch, rows, Q]`.
    Right,
    /// z = K x: x is `[batch, Q, rows]`, z `[batch, P, rows]`.
    Left,
}

/// How far apart the rows of a tensor lie and its batches, in elements. Within a row, elements are neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Strides {
    /// From one row to the next; of x it may be 0, which repeats one row.
    pub row: usize,
    /// From one batch to the next; of x it may be 0, which repeats one batch.
    pub batch: usize,
}

/// What is multiplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Independent products.
    pub batch: usize,
    /// Vectors in each, M.
    pub rows: usize,
    /// Where they stand.
    pub side: Side,
    /// The type of x and z; factors and sums are f32.
    pub dtype: Dtype,
    /// Where the rows of x lie; none for one after another.
    pub x: Option<Strides>,
    /// Where the rows of z lie.
    pub z: Option<Strides>,
}

impl Shape {
    /// So many rows to the left of the operator, x K, in f32, one after another.
    pub fn rows(rows: usize) -> Shape {
        Shape {
            batch: 1,
            rows,
            side: Side::Right,
            dtype: Dtype::F32,
            x: None,
            z: None,
        }
    }

    /// So many columns to the right of the operator, K x.
    pub fn columns(columns: usize) -> Shape {
        Shape {
            side: Side::Left,
            ..Shape::rows(columns)
        }
    }

    /// Of so many batches.
    pub fn batched(self, batch: usize) -> Shape {
        Shape { batch, ..self }
    }

    /// Of this type.
    pub fn stored_as(self, dtype: Dtype) -> Shape {
        Shape { dtype, ..self }
    }

    /// Where x lies.
    pub(super) fn source(&self, operator: &Operator) -> Place {
        self.place(self.x, [operator.rows(), operator.columns()])
    }

    /// Where z lies.
    pub(super) fn target(&self, operator: &Operator) -> Place {
        self.place(self.z, [operator.columns(), operator.rows()])
    }

    fn place(&self, strides: Option<Strides>, [right, left]: [usize; 2]) -> Place {
        let (width, rows) = match self.side {
            Side::Right => (right, self.rows),
            Side::Left => (self.rows, left),
        };
        let dense = Strides {
            row: width,
            batch: width.saturating_mul(rows),
        };
        Place {
            batch: self.batch,
            rows,
            width,
            strides: strides.unwrap_or(dense),
            dense: strides.is_none_or(|strides| strides == dense),
        }
    }

    /// Elements of the tensor x; with strides, at least.
    pub fn x_len(&self, operator: &Operator) -> usize {
        self.source(operator).len()
    }

    /// Elements of the tensor z; with strides, at least.
    pub fn z_len(&self, operator: &Operator) -> usize {
        self.target(operator).len()
    }
}

/// Rows of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub batch: usize,
    pub rows: usize,
    pub width: usize,
    pub strides: Strides,
    pub dense: bool,
}

impl Place {
    /// Elements up to the last.
    pub fn len(&self) -> usize {
        if self.batch == 0 || self.rows == 0 || self.width == 0 {
            return 0;
        }
        let last = (self.batch - 1).saturating_mul(self.strides.batch);
        let rows = (self.rows - 1).saturating_mul(self.strides.row);
        last.saturating_add(rows).saturating_add(self.width)
    }

    /// Elements of the rows themselves.
    pub fn elements(&self) -> usize {
        self.width
            .saturating_mul(self.rows.saturating_mul(self.batch))
    }
}

impl Place {
    /// Whether a tensor of so many elements has these rows: exactly where they are one after another, at least up to the last one
    /// elsewhere.
    pub fn holds(&self, what: &str, len: usize) -> Result<()> {
        if self.dense || len < self.len() {
            return length(OP, what, len, self.len());
        }
        Ok(())
    }
}

/// Numbers of a product: z ← alpha · (product) + beta · z.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// Scales the product.
    pub alpha: f32,
    /// Scales what z holds before; at 0 it is never read.
    pub beta: f32,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            alpha: 1.0,
            beta: 0.0,
        }
    }
}

/// Elements of any tensor of a product: their indices are words.
const MOST: usize = u32::MAX as usize;

/// Whether operator, shape and options fit together.
pub(super) fn check(operator: &Operator, shape: &Shape, options: &Options) -> Result<()> {
    let refuse = |what: String, expected: String, got: String| {
        Err(Error::Argument {
            op: OP,
            what,
            expected,
            got,
        })
    };
    let count = operator.factors.len();
    if count > MAX_FACTORS {
        let expected = format!("at most {MAX_FACTORS}");
        return refuse("the number of factors".into(), expected, count.to_string());
    }
    for (n, factor) in operator.factors.iter().enumerate() {
        let [rows, columns] = [factor.rows, factor.columns];
        if [rows, columns].iter().any(|n| !(1..=MAX_SIZE).contains(n)) {
            return refuse(
                format!("factor {n}"),
                format!("of sides from 1 to {MAX_SIZE}"),
                format!("{rows} x {columns}"),
            );
        }
        if factor.kind != Kind::Dense && rows != columns {
            let got = format!("{rows} x {columns}");
            return refuse(
                format!("factor {n}"),
                "square, as it is not dense".into(),
                got,
            );
        }
        if factor.len(shape.batch) > MOST / 2 {
            return refuse(
                format!("factor {n}"),
                "of fewer than 2^31 entries in all".into(),
                factor.len(shape.batch).to_string(),
            );
        }
    }
    if !matches!(shape.dtype, Dtype::F32 | Dtype::F16 | Dtype::Bf16) {
        let expected = "f32, f16 or bf16".into();
        return refuse("shape.dtype".into(), expected, shape.dtype.name().into());
    }
    for (name, number) in [
        ("options.alpha", options.alpha),
        ("options.beta", options.beta),
    ] {
        if !number.is_finite() {
            return refuse(name.into(), "finite".into(), number.to_string());
        }
    }
    let (source, target) = (shape.source(operator), shape.target(operator));
    for (name, place) in [("x", source), ("z", target)] {
        if place.elements() > MOST || place.len() > MOST {
            return refuse(
                format!("the size of {name}"),
                "of fewer than 2^32 elements".into(),
                format!("{} x {} x {}", place.batch, place.rows, place.width),
            );
        }
    }
    let Strides { row, batch } = target.strides;
    if target.rows > 1 && row < target.width {
        let expected = format!("at least a row's {} elements", target.width);
        return refuse("shape.z.row".into(), expected, row.to_string());
    }
    let span = (target.rows.max(1) - 1) * row + target.width;
    if target.batch > 1 && batch < span {
        let expected = format!("at least the {span} elements that the rows of a batch span");
        return refuse("shape.z.batch".into(), expected, batch.to_string());
    }
    if shape.dtype != Dtype::F32 && !target.dense && (row % 2 == 1 || batch % 2 == 1) {
        let expected = "even in a 16-bit type, which shares words".into();
        return refuse("shape.z".into(), expected, format!("{row} and {batch}"));
    }
    Ok(())
}
