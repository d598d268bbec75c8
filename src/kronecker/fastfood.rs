//! Fastfood: random projections with Gaussian rows in log-linear time, and their transpose.

use bytemuck::bytes_of;

use super::{
    butterfly::{self, MAX_BITS},
    signs::{Signs, rows},
    tensor_srht::unscaled,
};
use crate::{
    Error, Result,
    error::length,
    gpu::{Caps, Gpu, Pass, Spec, Tensor, View, params, part},
    over::{Held, OverRows, kernel},
    plan::{Builder, Plan, Slot, Work},
    random::Random,
};

pub(super) const OP: &str = "fastfood";

params! {
    /// Parameters of `fastfood_mix`.
    MixParams {
        x_offset: u32,
        y_offset: u32,
        first_row: u32,
        first: u32,
        end: u32,
        width: u32,
        block: u32,
    }
}

params! {
    /// Parameters of `fastfood_rows`.
    RowsParams {
        x_offset: u32,
        y_offset: u32,
        first_row: u32,
        first: u32,
        end: u32,
        len_in: u32,
        len_out: u32,
    }
}

/// How outputs come of blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// Blocks as wide as the input, padded to a power of two, stacked until there are outputs enough.
    #[default]
    Blocks,
    /// One block as wide as input and output, padded to a power of two: the form of intrinsic-dimension code.
    Single,
}

/// How long the rows and columns of V are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scale {
    /// Rows, and the columns of each block, have length 1 exactly.
    #[default]
    Rows,
    /// Columns of V have length 1: exactly where outputs are whole blocks, else on average.
    Columns,
    /// Rows have the lengths of Gaussian vectors as wide as the block: x ↦ cos(V x / σ), sin(V x / σ) are features of the Gaussian
    /// kernel of width σ.
    Gaussian,
}

/// Sizes and options of a projection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Width of what goes in, up to 2^24.
    pub input: usize,
    /// Width of what comes out, up to 2^24.
    pub output: usize,
    /// How outputs come of blocks.
    pub form: Form,
    /// How long the rows and columns are.
    pub scale: Scale,
}

impl Shape {
    /// Width d of a block.
    pub fn block(&self) -> usize {
        match self.form {
            Form::Blocks => self.input.next_power_of_two(),
            Form::Single => self.input.max(self.output).next_power_of_two(),
        }
    }

    /// Number of blocks.
    pub fn blocks(&self) -> usize {
        self.output.div_ceil(self.block())
    }

    fn width(&self) -> usize {
        self.block() * self.blocks()
    }

    /// Whether a projection of this shape makes sense.
    ///
    /// # Errors
    /// `Argument` when it does not.
    pub fn check(&self) -> Result<()> {
        for (what, size) in [("input", self.input), ("output", self.output)] {
            if !(1..=1 << MAX_BITS).contains(&size) {
                return Err(Error::Argument {
                    op: OP,
                    what: what.into(),
                    expected: "from 1 to 2^24".into(),
                    got: size.to_string(),
                });
            }
        }
        Ok(())
    }

    fn stream(&self, random: &Random) -> Random {
        random.fork(0)
    }
}

/// The random numbers of a projection, in f64: what [`Fastfood`] holds on a device, for the reference.
#[derive(Clone, Debug, PartialEq)]
pub struct Numbers {
    /// The diagonal, `[blocks, d]`, every block divided by its length and all scales.
    pub gauss: Vec<f64>,
    /// Permutations π of each block, `[blocks, d]`.
    pub permutation: Vec<u32>,
    /// Lengths of the rows, `[output]`, with [`Scale::Gaussian`].
    pub lengths: Option<Vec<f64>>,
}

impl Numbers {
    /// Draws them from the streams of `random`.
    ///
    /// # Errors
    /// `Argument` when the shape makes no sense.
    pub fn new(shape: &Shape, random: &Random) -> Result<Numbers> {
        shape.check()?;
        let (d, blocks) = (shape.block(), shape.blocks());
        let normals = random.fork(1);
        let mut gauss: Vec<f64> = (0..(d * blocks) as u64)
            .map(|n| normals.normal(n))
            .collect();
        let stretch = match shape.scale {
            Scale::Columns => (d as f64 / shape.output as f64).sqrt(),
            Scale::Rows | Scale::Gaussian => 1.0,
        };
        for block in gauss.chunks_exact_mut(d) {
            let norm = block.iter().map(|g| g * g).sum::<f64>().sqrt();
            for g in block {
                *g *= stretch / (norm * (d as f64).sqrt());
            }
        }
        let order = |block: usize| random.fork(3 + block as u32).permutation(d as u32);
        let lengths = random.fork(2);
        Ok(Numbers {
            gauss,
            permutation: (0..blocks).flat_map(order).collect(),
            lengths: (shape.scale == Scale::Gaussian).then(|| {
                (0..shape.output as u32)
                    .map(|t| lengths.chi(t, d as u32))
                    .collect()
            }),
        })
    }

    /// The inverse permutations.
    pub fn inverse(&self, shape: &Shape) -> Vec<u32> {
        let block = |order: &[u32]| {
            let mut pairs: Vec<(u32, u32)> = order.iter().copied().zip(0..).collect();
            pairs.sort_unstable();
            pairs.into_iter().map(|(_, j)| j)
        };
        let blocks = self.permutation.chunks_exact(shape.block());
        blocks.flat_map(block).collect()
    }
}

/// A random projection, its numbers on a device.
///
/// ```text
/// y = V x        block b of V = H G_b Π_b H B_b / (‖g_b‖ √d), d a power of two
/// ```
///
/// B are random signs, Π a permutation, G a diagonal of Gaussian numbers, H Hadamard's matrix of ±1; blocks are stacked and the last
/// is cut to the output. The transpose, B H Πᵀ G H, is [`Fastfood::adjoint`].
///
/// Cost: 2 `blocks · d · log2 d` additions a vector instead of `input · output` products; three words of memory an output. Temporaries:
/// two vectors of `blocks · d` for every vector.
///
/// Accuracy: root-mean-square error to the f64 reference on the same numbers, relative, <= 1e-6. Deterministic: two runs are bit-equal.
///
/// Source: Le, Sarlos and Smola, "Fastfood: approximating kernel expansions in loglinear time", 2013; the single block is that of Li,
/// Farkhoor, Liu and Yosinski, "Measuring the intrinsic dimension of objective landscapes", 2018.
#[derive(Debug)]
pub struct Fastfood {
    shape: Shape,
    random: Random,
    gauss: Tensor<f32>,
    permutation: Tensor<u32>,
    inverse: Tensor<u32>,
    lengths: Option<Tensor<f32>>,
}

impl Fastfood {
    /// Draws a projection from the streams of `random`.
    ///
    /// # Errors
    /// `Argument` when the shape makes no sense; `OutOfMemory`, `DeviceLost` from the device.
    pub fn new(gpu: &Gpu, shape: &Shape, random: &Random) -> Result<Fastfood> {
        let numbers = Numbers::new(shape, random)?;
        let rounded = |x: &Vec<f64>| x.iter().map(|x| *x as f32).collect::<Vec<_>>();
        let lengths = numbers.lengths.as_ref().map(rounded);
        Ok(Fastfood {
            shape: *shape,
            random: *random,
            gauss: gpu.upload(&rounded(&numbers.gauss))?,
            permutation: gpu.upload(&numbers.permutation)?,
            inverse: gpu.upload(&numbers.inverse(shape))?,
            lengths: lengths.map(|lengths| gpu.upload(&lengths)).transpose()?,
        })
    }

    /// Projects `vectors` vectors: x `[vectors, input]` to y `[vectors, output]`.
    ///
    /// # Errors
    /// `Argument` when lengths do not fit; `Limit` when one vector's blocks exceed a binding or all exceed the scratch budget; `Shader`,
    /// `OutOfMemory`, `Timeout`, `DeviceLost` from the device.
    pub fn project(
        &self,
        gpu: &Gpu,
        vectors: usize,
        x: &Tensor<f32>,
        y: &mut Tensor<f32>,
    ) -> Result<()> {
        let mut pass = gpu.pass(OP);
        self.record(&mut pass, vectors, x, y)?;
        pass.submit().map(drop)
    }

    /// [`Fastfood::project`], recorded into a pass that the caller submits.
    ///
    /// # Errors
    /// As [`Fastfood::project`].
    pub fn record(
        &self,
        pass: &mut Pass,
        vectors: usize,
        x: &Tensor<f32>,
        y: &mut Tensor<f32>,
    ) -> Result<()> {
        let plan = plan(&self.shape, &self.random, vectors, pass.caps())?;
        length(OP, "x", x.len(), vectors * self.shape.input)?;
        length(OP, "y", y.len(), vectors * self.shape.output)?;
        let views = self.views(x.view(), &self.permutation);
        pass.run(&plan, &views, &mut [y.view_mut()])
    }

    /// The transpose: y `[vectors, output]` to x `[vectors, input]`, which is the gradient with respect to x.
    ///
    /// # Errors
    /// As [`Fastfood::project`].
    pub fn adjoint(
        &self,
        gpu: &Gpu,
        vectors: usize,
        y: &Tensor<f32>,
        x: &mut Tensor<f32>,
    ) -> Result<()> {
        let mut pass = gpu.pass(OP);
        self.record_adjoint(&mut pass, vectors, y, x)?;
        pass.submit().map(drop)
    }

    /// [`Fastfood::adjoint`], recorded into a pass that the caller submits.
    ///
    /// # Errors
    /// As [`Fastfood::project`].
    pub fn record_adjoint(
        &self,
        pass: &mut Pass,
        vectors: usize,
        y: &Tensor<f32>,
        x: &mut Tensor<f32>,
    ) -> Result<()> {
        let plan = plan_adjoint(&self.shape, &self.random, vectors, pass.caps())?;
        length(OP, "y", y.len(), vectors * self.shape.output)?;
        length(OP, "x", x.len(), vectors * self.shape.input)?;
        let views = self.views(y.view(), &self.inverse);
        pass.run(&plan, &views, &mut [x.view_mut()])
    }

    fn views<'a>(&'a self, given: View<'a>, places: &'a Tensor<u32>) -> Vec<View<'a>> {
        let tables = [given, self.gauss.view(), places.view()].into_iter();
        tables
            .chain(self.lengths.as_ref().map(Tensor::view))
            .collect()
    }
}

/// Plans [`Fastfood::project`]. Inputs: x, [`Numbers::gauss`], [`Numbers::permutation`], and the lengths with [`Scale::Gaussian`]; output:
/// y.
///
/// # Errors
/// As [`Fastfood::project`], but for those of the device.
pub fn plan(shape: &Shape, random: &Random, vectors: usize, caps: &Caps) -> Result<Plan> {
    let steps = Steps::new(shape, random, vectors)?;
    let mut builder = Builder::default();
    let whole = shape.width() == shape.output && shape.scale != Scale::Gaussian;
    let mixed = steps.scratch(&mut builder);
    let last = match whole {
        true => Slot::Output(0),
        false => steps.scratch(&mut builder),
    };
    let signs = steps.signs();
    signs.spread(&mut builder, caps, [Slot::Input(0), mixed])?;
    let first = unscaled(&mut builder, caps, steps.items(), mixed)?;
    steps.mix(&mut builder, caps, false, [mixed, last])?;
    let second = unscaled(&mut builder, caps, steps.items(), last)?;
    if !whole {
        let widths = [shape.width(), shape.output];
        steps.cut(&mut builder, caps, widths, [last, Slot::Output(0)])?;
    }
    steps.plan(builder, caps, first.flops + second.flops, "projection")
}

/// Plans [`Fastfood::adjoint`]. Inputs: y, [`Numbers::gauss`], [`Numbers::inverse`], and the lengths with [`Scale::Gaussian`]; output: x.
///
/// # Errors
/// As [`Fastfood::project`], but for those of the device.
pub fn plan_adjoint(shape: &Shape, random: &Random, vectors: usize, caps: &Caps) -> Result<Plan> {
    let steps = Steps::new(shape, random, vectors)?;
    let mut builder = Builder::default();
    let [last, mixed] = [0; 2].map(|_| steps.scratch(&mut builder));
    let widths = [shape.output, shape.width()];
    steps.cut(&mut builder, caps, widths, [Slot::Input(0), last])?;
    let first = unscaled(&mut builder, caps, steps.items(), last)?;
    steps.mix(&mut builder, caps, true, [last, mixed])?;
    let second = unscaled(&mut builder, caps, steps.items(), mixed)?;
    let signs = steps.signs();
    signs.sum(&mut builder, caps, 1.0, [mixed, Slot::Output(0)])?;
    steps.plan(builder, caps, first.flops + second.flops, "adjoint")
}

struct Steps<'a> {
    shape: &'a Shape,
    random: Random,
    vectors: usize,
}

impl<'a> Steps<'a> {
    fn new(shape: &'a Shape, random: &Random, vectors: usize) -> Result<Steps<'a>> {
        shape.check()?;
        if (vectors as u64).saturating_mul(shape.width() as u64) > 1 << 32 {
            return Err(Error::Argument {
                op: OP,
                what: "vectors".into(),
                expected: "such that their blocks have at most 2^32 elements".into(),
                got: vectors.to_string(),
            });
        }
        Ok(Steps {
            shape,
            random: *random,
            vectors,
        })
    }

    fn scratch(&self, builder: &mut Builder) -> Slot {
        builder.add_scratch(4 * (self.vectors * self.shape.width()) as u64)
    }

    fn signs(&self) -> Signs {
        Signs {
            random: self.shape.stream(&self.random),
            outer: self.vectors,
            blocks: self.shape.blocks(),
            len: self.shape.input,
            padded: self.shape.block(),
            inner: 1,
        }
    }

    fn items(&self) -> butterfly::Shape {
        butterfly::Shape {
            outer: self.vectors * self.shape.blocks(),
            bits: self.shape.block().trailing_zeros() as usize,
            inner: 1,
        }
    }

    fn mix(
        &self,
        builder: &mut Builder,
        caps: &Caps,
        adjoint: bool,
        [x, y]: [Slot; 2],
    ) -> Result<()> {
        let width = self.shape.width();
        let over = OverRows {
            kernel: kernel(
                "kronecker/fastfood_mix",
                [part!("kronecker/fastfood_mix.wgsl")],
                Spec::default().with("ADJOINT", adjoint),
                MixParams::FIELDS,
            ),
            held: vec![
                Held::Rows(rows(x, width)),
                Held::Whole(Slot::Input(1), width as u64),
                Held::Whole(Slot::Input(2), width as u64),
                Held::Written(rows(y, width)),
            ],
            rows: self.vectors as u64,
            per_row: width as u64,
            row_flops: 32.0 * width as f64,
        };
        over.steps(builder, caps, |placed| {
            let params = MixParams {
                x_offset: placed.offset(0),
                y_offset: placed.offset(3),
                first_row: placed.first_row,
                first: placed.first,
                end: placed.end,
                width: width as u32,
                block: self.shape.block() as u32,
            };
            bytes_of(&params).to_vec()
        })
    }

    fn cut(
        &self,
        builder: &mut Builder,
        caps: &Caps,
        [from, into]: [usize; 2],
        [x, y]: [Slot; 2],
    ) -> Result<()> {
        let weighed = self.shape.scale == Scale::Gaussian;
        let part = match weighed {
            true => part!("kronecker/lengths_given.wgsl"),
            false => part!("kronecker/lengths_one.wgsl"),
        };
        let mut held = vec![Held::Rows(rows(x, from))];
        held.extend(weighed.then_some(Held::Whole(Slot::Input(3), self.shape.output as u64)));
        held.push(Held::Written(rows(y, into)));
        let out = held.len() - 1;
        let over = OverRows {
            kernel: kernel(
                "kronecker/fastfood_rows",
                [part!("kronecker/fastfood_rows.wgsl"), part],
                Spec::default(),
                RowsParams::FIELDS,
            ),
            held,
            rows: self.vectors as u64,
            per_row: into as u64,
            row_flops: 24.0 * into as f64,
        };
        over.steps(builder, caps, |placed| {
            let params = RowsParams {
                x_offset: placed.offset(0),
                y_offset: placed.offset(out),
                first_row: placed.first_row,
                first: placed.first,
                end: placed.end,
                len_in: from as u32,
                len_out: into as u32,
            };
            bytes_of(&params).to_vec()
        })
    }

    fn plan(&self, builder: Builder, caps: &Caps, flops: f64, what: &str) -> Result<Plan> {
        let elements = self.vectors * (self.shape.input + self.shape.output);
        let work = Work {
            flops,
            bytes: 4.0 * (elements + 2 * self.shape.width()) as f64,
            ..Work::default()
        };
        let label = format!("{what}, {} blocks", self.shape.blocks());
        let plan = builder.plan(OP, label, work);
        plan.check(caps)?;
        Ok(plan)
    }
}
