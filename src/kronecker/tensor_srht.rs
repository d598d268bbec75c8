//! Sketches of Kronecker and Khatri-Rao products that are never formed.

use bytemuck::bytes_of;

use super::{
    butterfly::{self, MAX_BITS},
    hadamard::Transform,
    signs::{Signs, rows},
};
use crate::{
    Error, Result,
    error::length,
    gpu::{Caps, Gpu, Pass, Spec, Tensor, params, part},
    over::{Held, OverRows, kernel},
    plan::{Builder, Plan, Slot, Work},
    random::Random,
};

pub(super) const OP: &str = "tensor_srht";

/// The most factors.
pub const MAX_FACTORS: usize = 64;

params! {
    /// Parameters of `gather_product`.
    GatherParams {
        key_low: u32,
        key_high: u32,
        left_offset: u32,
        out_offset: u32,
        first_row: u32,
        first: u32,
        end: u32,
        columns: u32,
        left_columns: u32,
        shift: u32,
        mask: u32,
        scale: f32,
    }
}

/// Which product of the factors is sketched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Columns {
    /// Kronecker: every column of a factor with every column of the others, the last factor's fastest.
    #[default]
    Kronecker,
    /// Khatri-Rao: column c of every factor, of which all have as many.
    KhatriRao,
}

/// Sizes of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Rows n_t and columns d_t of each factor: at least one, at most [`MAX_FACTORS`].
    pub factors: Vec<[usize; 2]>,
    /// Rows m of the sketch.
    pub samples: usize,
    /// Which product is sketched.
    pub columns: Columns,
}

impl Shape {
    /// Columns of the sketch.
    pub fn columns(&self) -> usize {
        let columns = self.factors.iter().map(|[_, columns]| *columns);
        match self.columns {
            Columns::Kronecker => columns.product(),
            Columns::KhatriRao => columns.max().unwrap_or(1),
        }
    }

    /// Elements of the sketch.
    pub fn output_len(&self) -> usize {
        self.samples * self.columns()
    }

    pub(super) fn check(&self, op: &'static str) -> Result<()> {
        let wrong = |what: &str, expected: String, got: String| {
            Err(Error::Argument {
                op,
                what: what.into(),
                expected,
                got,
            })
        };
        let count = self.factors.len();
        if !(1..=MAX_FACTORS).contains(&count) {
            let expected = format!("1 to {MAX_FACTORS} of them");
            return wrong("factors", expected, count.to_string());
        }
        if !(1..=1 << 24).contains(&self.samples) {
            let expected = "from 1 to 2^24".into();
            return wrong("samples", expected, self.samples.to_string());
        }
        let mut columns = 1u64;
        for (t, [n, d]) in self.factors.iter().enumerate() {
            if !(1..=1 << MAX_BITS).contains(n) {
                let expected = "from 1 to 2^24".into();
                return wrong(&format!("rows of factor {t}"), expected, n.to_string());
            }
            if !(1..=1 << 24).contains(d) {
                let expected = "from 1 to 2^24".into();
                return wrong(&format!("columns of factor {t}"), expected, d.to_string());
            }
            let all = self.factors.first().map_or(*d, |[_, d]| *d);
            match self.columns {
                Columns::KhatriRao if *d != all => {
                    let expected = format!("{all} as those of factor 0");
                    return wrong(&format!("columns of factor {t}"), expected, d.to_string());
                }
                Columns::KhatriRao => columns = all as u64,
                Columns::Kronecker => columns = columns.saturating_mul(*d as u64),
            }
        }
        if columns.saturating_mul(self.samples as u64) > u64::from(u32::MAX) {
            let expected = "such that the sketch has at most 2^32 - 1 elements".into();
            return wrong("factors", expected, format!("{columns} columns"));
        }
        Ok(())
    }
}

/// The streams of a factor's signs and of its rows.
pub(super) fn streams(random: &Random, factor: usize) -> [Random; 2] {
    let own = random.fork(factor as u32);
    [own.fork(0), own.fork(1)]
}

/// log2 of an axis padded to a power of two.
pub(super) fn padded_bits(n: usize) -> usize {
    n.next_power_of_two().trailing_zeros() as usize
}

/// The row of a padded axis that a sample takes.
pub(super) fn drawn(rows: &Random, sample: u64, bits: usize) -> usize {
    (u64::from(rows.word(sample)) >> (32 - bits)) as usize
}

/// A sketch of a product of factors by the subsampled randomised Hadamard transform, the product never formed.
///
/// ```text
/// S (A_0 ⊗ A_1 ⊗ …): out[r, (c_0, c_1, …)] = Π_t (H D_t A_t)[i_tr, c_t] / √m       with Columns::KhatriRao all c_t are c
/// ```
///
/// Factors are `[n_t, d_t]`, f32; of one column they are vectors x_t, and `out` is S (x_0 ⊗ x_1 ⊗ …). `out` is
/// `[samples, Π d_t]` or `[samples, d]`. D_t are random signs, H is Hadamard's matrix of ±1 on n_t padded with zeros to a power of
/// two, and i_tr are uniform with replacement, all from the streams of `random`: E\[SᵀS\] = I.
///
/// Cost: Σ n_t d_t log2 n_t additions and a product for each element of the sketch. Temporaries: the largest padded factor, and where
/// there are three factors or more two of the sketches before the last.
///
/// Accuracy: root-mean-square error to the f64 reference on the same draws, relative, <= 1e-6. Deterministic: two runs are bit-equal.
///
/// # Errors
/// `Argument` when sizes or lengths do not fit together; `Limit` when a padded factor exceeds a binding or the scratch budget;
/// `Shader`, `OutOfMemory`, `Timeout`, `DeviceLost` from the device.
///
/// Source: Ahle, Kapralov, Knudsen, Pagh, Velingker, Woodruff and Zandieh, "Oblivious sketching of high-degree polynomial kernels",
/// 2020.
pub fn tensor_srht(
    gpu: &Gpu,
    shape: &Shape,
    random: &Random,
    factors: &[&Tensor<f32>],
    out: &mut Tensor<f32>,
) -> Result<()> {
    let mut pass = gpu.pass(OP);
    record(&mut pass, shape, random, factors, out)?;
    pass.submit().map(drop)
}

/// [`tensor_srht()`], recorded into a pass that the caller submits.
///
/// # Errors
/// As [`tensor_srht()`].
pub fn record(
    pass: &mut Pass,
    shape: &Shape,
    random: &Random,
    factors: &[&Tensor<f32>],
    out: &mut Tensor<f32>,
) -> Result<()> {
    let plan = plan(shape, random, pass.caps())?;
    length(OP, "factors", factors.len(), shape.factors.len())?;
    for (t, (factor, [n, d])) in factors.iter().zip(&shape.factors).enumerate() {
        length(OP, &format!("factor {t}"), factor.len(), n * d)?;
    }
    length(OP, "out", out.len(), shape.output_len())?;
    let views: Vec<_> = factors.iter().map(|factor| factor.view()).collect();
    pass.run(&plan, &views, &mut [out.view_mut()])
}

/// Plans [`tensor_srht()`]. Inputs: the factors; output: the sketch.
///
/// # Errors
/// As [`tensor_srht()`], but for those of the device.
pub fn plan(shape: &Shape, random: &Random, caps: &Caps) -> Result<Plan> {
    shape.check(OP)?;
    named(OP, shape, random, caps)
}

/// The plan of a checked shape, under the name of an operator.
pub(super) fn named(op: &'static str, shape: &Shape, random: &Random, caps: &Caps) -> Result<Plan> {
    let mut builder = Builder::default();
    let padded = shape.factors.iter().map(|[n, d]| n.next_power_of_two() * d);
    let transformed = builder.add_scratch(4 * padded.max().unwrap_or(0) as u64);
    let count = shape.factors.len();
    let mut work = Work::default();
    let mut left: Option<(Slot, usize)> = None;
    let mut spare: Option<Slot> = None;
    // What the products before the last need: each is at most as wide as the last but one.
    let before: usize = shape
        .factors
        .iter()
        .rev()
        .skip(1)
        .map(|[_, d]| *d)
        .product();
    let before = match shape.columns {
        Columns::Kronecker => before,
        Columns::KhatriRao => shape.columns(),
    };
    for (t, [n, d]) in shape.factors.iter().enumerate() {
        let [signs, rows] = streams(random, t);
        let bits = padded_bits(*n);
        let stages = transform(
            &mut builder,
            caps,
            &signs,
            [*n, *d],
            Slot::Input(t as u16),
            transformed,
        )?;
        work.flops += stages.flops;
        work.bytes += 4.0 * (n * d) as f64;
        let into = match t + 1 {
            last if last == count => Slot::Output(0),
            _ => match spare.take() {
                Some(slot) => slot,
                None => builder.add_scratch(4 * (shape.samples * before) as u64),
            },
        };
        let gather = Gather {
            rows,
            bits,
            columns: *d,
            samples: shape.samples,
            matched: shape.columns == Columns::KhatriRao,
            scale: match t {
                0 => 1.0 / (shape.samples as f64).sqrt(),
                _ => 1.0,
            },
        };
        let columns = gather.steps(&mut builder, caps, left, transformed, into)?;
        if let Some((slot, _)) = left {
            spare = Some(slot);
        }
        left = Some((into, columns));
    }
    work.flops += (shape.output_len() * count) as f64;
    work.bytes += 4.0 * shape.output_len() as f64;
    let label = format!("{count} factors, {} samples", shape.samples);
    let plan = builder.plan(op, label, work);
    plan.check(caps)?;
    Ok(plan)
}

/// Adds H D x for x `[n, d]`, padded.
fn transform(
    builder: &mut Builder,
    caps: &Caps,
    signs: &Random,
    [n, d]: [usize; 2],
    x: Slot,
    y: Slot,
) -> Result<Work> {
    let bits = padded_bits(n);
    let signs = Signs {
        random: *signs,
        outer: 1,
        blocks: 1,
        len: n,
        padded: 1 << bits,
        inner: d,
    };
    signs.spread(builder, caps, [x, y])?;
    unscaled(
        builder,
        caps,
        butterfly::Shape {
            outer: 1,
            bits,
            inner: d,
        },
        y,
    )
}

/// Adds Hadamard's matrix of ±1 in place.
pub(super) fn unscaled(
    builder: &mut Builder,
    caps: &Caps,
    shape: butterfly::Shape,
    items: Slot,
) -> Result<Work> {
    let transform = Transform {
        shape,
        source: None,
        items,
        scaled: false,
    };
    transform.steps(builder, caps)
}

/// Drawing rows of a transformed factor.
struct Gather {
    rows: Random,
    bits: usize,
    columns: usize,
    samples: usize,
    matched: bool,
    scale: f64,
}

impl Gather {
    /// Adds the steps, and says how many columns there are then.
    fn steps(
        &self,
        builder: &mut Builder,
        caps: &Caps,
        left: Option<(Slot, usize)>,
        transformed: Slot,
        into: Slot,
    ) -> Result<usize> {
        let left_columns = left.map_or(1, |(_, columns)| columns);
        let columns = match self.matched {
            true => self.columns,
            false => left_columns * self.columns,
        };
        let left_part = match left {
            Some(_) => part!("kronecker/left_product.wgsl"),
            None => part!("kronecker/left_none.wgsl"),
        };
        let mut held: Vec<Held> = Vec::new();
        held.extend(left.map(|(slot, columns)| Held::Rows(rows(slot, columns))));
        held.push(Held::Whole(transformed, (self.columns << self.bits) as u64));
        held.push(Held::Written(rows(into, columns)));
        let out = held.len() - 1;
        let over = OverRows {
            kernel: kernel(
                "kronecker/gather_product",
                [
                    part!("kronecker/gather_product.wgsl"),
                    left_part,
                    part!("common/threefry.wgsl"),
                ],
                Spec::default().with("MATCHED", self.matched),
                GatherParams::FIELDS,
            ),
            held,
            rows: self.samples as u64,
            per_row: columns as u64,
            row_flops: 110.0 * columns as f64,
        };
        let [key_low, key_high] = self.rows.key();
        over.steps(builder, caps, |placed| {
            let params = GatherParams {
                key_low,
                key_high,
                left_offset: if left.is_some() { placed.offset(0) } else { 0 },
                out_offset: placed.offset(out),
                first_row: placed.first_row,
                first: placed.first,
                end: placed.end,
                columns: self.columns as u32,
                left_columns: left_columns as u32,
                shift: if self.bits == 0 {
                    0
                } else {
                    32 - self.bits as u32
                },
                mask: ((1u64 << self.bits) - 1) as u32,
                scale: self.scale as f32,
            };
            bytes_of(&params).to_vec()
        })?;
        Ok(columns)
    }
}
