//! The product of 2 x 2 factors along one axis: its call and its plan.

use std::{ops::Range, sync::Arc};

use bytemuck::bytes_of;

use crate::{
    Error, Result,
    error::length,
    gpu::{Caps, Class, Dtype, Elem, Gpu, Kernel, Needs, Part, Pass, Spec, Tensor, params, part},
    plan::{ALIGN, Bind, Builder, Plan, STEP_MS, Slot, Step, Work},
};

pub(super) const OP: &str = "butterfly";

/// The most factors.
pub const MAX_BITS: usize = 24;

params! {
    /// Parameters of `butterfly`.
    Params {
        columns: u32,
        stride: u32,
        bit: u32,
        bits: u32,
        first_set: u32,
        set_columns: u32,
        first: u32,
        groups: u32,
        offset: u32,
    }
}

/// What a product and a sum are, and of what.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algebra {
    /// (+, ×) on f32.
    Real,
    /// (+, ×) on i32, modulo 2^32.
    Integer,
    /// (min, +) on pairs of u32, a distance and an index: the least distance with its index, ties to the lower index. A distance of
    /// all ones stands for nothing. An item is two words, a factor's entry one.
    Nearest,
}

impl Algebra {
    /// The type of a word of an item, and of a factor's entry.
    pub fn dtype(self) -> Dtype {
        match self {
            Algebra::Real => Dtype::F32,
            Algebra::Integer => Dtype::I32,
            Algebra::Nearest => Dtype::U32,
        }
    }

    /// Words of an item.
    pub fn words(self) -> usize {
        match self {
            Algebra::Nearest => 2,
            _ => 1,
        }
    }

    fn part(self) -> Part {
        match self {
            Algebra::Real => part!("kronecker/algebra_real.wgsl"),
            Algebra::Integer => part!("kronecker/algebra_integer.wgsl"),
            Algebra::Nearest => part!("kronecker/algebra_nearest.wgsl"),
        }
    }
}

/// Which factors apply where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Factors {
    /// The same everywhere: `[bits, 2, 2]`.
    Shared,
    /// Each outer index's own: `[outer, bits, 2, 2]`.
    PerOuter,
}

/// Sizes of a call: items are `[outer, 2^bits, inner]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Independent products.
    pub outer: usize,
    /// Factors, at most [`MAX_BITS`].
    pub bits: usize,
    /// Neighbouring columns that share everything.
    pub inner: usize,
}

impl Shape {
    /// Items in all.
    pub fn items(&self) -> usize {
        (self.outer * self.inner) << self.bits
    }

    /// Words of the factors.
    pub fn factors_len(&self, factors: Factors) -> usize {
        4 * self.bits
            * match factors {
                Factors::Shared => 1,
                Factors::PerOuter => self.outer,
            }
    }

    pub(super) fn check(&self, op: &'static str) -> Result<()> {
        let sizes = [self.outer, self.inner, 1 << self.bits.min(MAX_BITS)];
        let items = sizes
            .iter()
            .try_fold(1u64, |items, size| items.checked_mul(*size as u64));
        let (what, expected, got) = if self.bits > MAX_BITS {
            ("bits", format!("at most {MAX_BITS}"), self.bits.to_string())
        } else if items.is_none_or(|items| items > 1 << 40) {
            ("shape", "of at most 2^40 items".into(), format!("{self:?}"))
        } else {
            return Ok(());
        };
        Err(Error::Argument {
            op,
            what: what.into(),
            expected,
            got,
        })
    }
}

/// Multiplies items by a Kronecker product of 2 x 2 factors, in place.
///
/// ```text
/// y[l, i, r] = sum_j x[l, j, r] Π_n F_n[bit n of j, bit n of i]        stage n: (u, v) ← (a u + c v, b u + d v), F_n = [[a, b], [c, d]]
/// ```
///
/// `factors` are `[bits, 2, 2]`, or with [`Factors::PerOuter`] `[outer, bits, 2, 2]`; `x` is `[outer, 2^bits, inner]`, of two words an
/// item in [`Algebra::Nearest`]. Row-major, last index fastest. No units.
///
/// Cost: `bits` multiply-adds an item, in passes over the items of up to 12 stages where inner is 1 and 8 elsewhere (4 on software
/// adapters). No temporaries.
///
/// Accuracy: integers and minima exact; in f32 each stage rounds its two products and their sum.
///
/// # Errors
/// `Argument` when sizes, types or lengths do not fit together; `Limit` when one outer index's items exceed a binding; `Shader`,
/// `OutOfMemory`, `Timeout`, `DeviceLost` from the device.
pub fn butterfly<T: Elem>(
    gpu: &Gpu,
    shape: &Shape,
    algebra: Algebra,
    sets: Factors,
    factors: &Tensor<T>,
    x: &mut Tensor<T>,
) -> Result<()> {
    let mut pass = gpu.pass(OP);
    record(&mut pass, shape, algebra, sets, factors, x)?;
    pass.submit().map(drop)
}

/// [`butterfly()`], recorded into a pass that the caller submits.
///
/// # Errors
/// As [`butterfly()`].
pub fn record<T: Elem>(
    pass: &mut Pass,
    shape: &Shape,
    algebra: Algebra,
    sets: Factors,
    factors: &Tensor<T>,
    x: &mut Tensor<T>,
) -> Result<()> {
    let plan = plan(shape, algebra, sets, pass.caps())?;
    if T::DTYPE != algebra.dtype() {
        return Err(Error::Argument {
            op: OP,
            what: "x".into(),
            expected: format!("of type {} in this algebra", algebra.dtype().name()),
            got: T::DTYPE.name().into(),
        });
    }
    length(OP, "factors", factors.len(), shape.factors_len(sets))?;
    length(OP, "x", x.len(), algebra.words() * shape.items())?;
    pass.run(&plan, &[factors.view()], &mut [x.view_mut()])
}

/// Plans [`butterfly()`]. Input: the factors; output: the items, in place.
///
/// # Errors
/// As [`butterfly()`], but for those of the device.
pub fn plan(shape: &Shape, algebra: Algebra, sets: Factors, caps: &Caps) -> Result<Plan> {
    shape.check(OP)?;
    let mut builder = Builder::default();
    let stages = Stages {
        shape: *shape,
        algebra,
        sets,
        first: 0,
        factors: Slot::Input(0),
        source: None,
        items: Slot::Output(0),
    };
    stages.steps(&mut builder, caps)?;
    let label = format!("{} passes", passes(shape, algebra, caps).len());
    let plan = builder.plan(OP, label, stages.work());
    plan.check(caps)?;
    Ok(plan)
}

/// A product as a part of any plan.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stages {
    pub shape: Shape,
    pub algebra: Algebra,
    pub sets: Factors,
    /// The outer index, among those that have factors, of the first items.
    pub first: usize,
    pub factors: Slot,
    /// Where the items come from; none multiplies them in place.
    pub source: Option<Slot>,
    pub items: Slot,
}

impl Stages {
    pub fn work(&self) -> Work {
        let items = self.shape.items() as f64;
        Work {
            flops: 2.0 * items * self.shape.bits as f64,
            bytes: 2.0 * items * 4.0 * self.algebra.words() as f64,
            ..Work::default()
        }
    }

    /// Adds the steps: pass after pass, each cut between outer indices where a binding does not take all, and in time.
    pub fn steps(&self, builder: &mut Builder, caps: &Caps) -> Result<()> {
        let shape = &self.shape;
        let slab = (shape.inner as u64) << shape.bits;
        let slab_bytes = slab * 4 * self.algebra.words() as u64;
        if slab * shape.outer as u64 == 0 || shape.bits == 0 {
            return Ok(());
        }
        let room = caps.binding_bytes.saturating_sub(ALIGN);
        let fit = room / slab_bytes;
        if fit == 0 {
            return Err(Error::Limit {
                what: "bytes in one binding, for the items of one outer index,".into(),
                needed: slab_bytes + ALIGN,
                available: caps.binding_bytes,
                remedy: "use fewer bits or fewer inner columns",
            });
        }
        let mut source = self.source;
        for pass in passes(shape, self.algebra, caps) {
            let outers = shape.outer as u64;
            for from in (0..outers).step_by(fit as usize) {
                self.pass(builder, caps, &pass, source, from..outers.min(from + fit));
            }
            source = None;
        }
        Ok(())
    }

    fn pass(
        &self,
        builder: &mut Builder,
        caps: &Caps,
        pass: &Range<usize>,
        source: Option<Slot>,
        outers: Range<u64>,
    ) {
        let shape = &self.shape;
        let stages = (pass.end - pass.start) as u32;
        let words = self.algebra.words() as u64;
        let slab = (shape.inner as u64) << shape.bits;
        let tile = Tile::new(shape, self.algebra, pass, caps);
        let bytes = {
            let row = 4 * words * slab;
            outers.start * row / ALIGN * ALIGN..outers.end * row
        };
        // In items; the start of the binding is a whole number of them.
        let offset = outers.start * slab - bytes.start / (4 * words);
        let columns_of_set = slab >> stages;
        let columns = columns_of_set * (outers.end - outers.start);
        let groups = columns.div_ceil(1 << tile.column_bits(stages));
        let item_ms = 2.0 * words as f64 * f64::from(stages + 2) / (caps.gflops * 1e6);
        let group_ms = item_ms * f64::from(1u32 << tile.bits());
        let most = ((STEP_MS / group_ms) as u64).max(1);
        let own = self.sets == Factors::PerOuter;
        let first_set = if own {
            self.first as u64 + outers.start
        } else {
            0
        };
        let last_set = if own { self.first + shape.outer } else { 1 };
        let mut binds = vec![
            Bind {
                slot: self.factors,
                bytes: 0..16 * (last_set * shape.bits) as u64,
                write: false,
            },
            Bind {
                slot: self.items,
                bytes: bytes.clone(),
                write: true,
            },
        ];
        if let Some(slot) = source {
            let write = false;
            binds.insert(0, Bind { slot, bytes, write });
        }
        let kernel = Arc::new(tile.kernel(self.algebra, stages, source.is_some()));
        for first in (0..groups).step_by(most as usize) {
            let count = most.min(groups - first);
            let params = Params {
                columns: columns as u32,
                stride: (shape.inner << pass.start) as u32,
                bit: pass.start as u32,
                bits: shape.bits as u32,
                first_set: first_set as u32,
                set_columns: if own { columns_of_set as u32 } else { u32::MAX },
                first: first as u32,
                groups: count as u32,
                offset: offset as u32,
            };
            builder.steps.push(Step {
                kernel: kernel.clone(),
                bind: binds.clone(),
                params: bytes_of(&params).to_vec(),
                groups: count,
                predicted_ms: group_ms * count as f64,
            });
        }
    }
}

/// How a pass lies in workgroups.
struct Tile {
    /// log2 of the invocations.
    lane_bits: u32,
    /// Stages in registers at a time.
    window: u32,
    /// Whether columns are neighbours in memory.
    low: bool,
    /// Whether windows are exchanged through workgroup memory.
    shared: bool,
}

impl Tile {
    fn new(shape: &Shape, algebra: Algebra, pass: &Range<usize>, caps: &Caps) -> Tile {
        let window = ((pass.end - pass.start) as u32).min(WINDOW);
        let shared = caps.class != Class::Cpu;
        Tile {
            lane_bits: match (shared, algebra) {
                (false, _) => 6,
                // 16 items an invocation fill 16 KiB.
                (true, Algebra::Nearest) => 7,
                (true, _) => 8,
            },
            window,
            low: !shared || (shape.inner << pass.start) > 1,
            shared,
        }
    }

    fn bits(&self) -> u32 {
        self.lane_bits + self.window
    }

    fn column_bits(&self, stages: u32) -> u32 {
        self.bits() - stages
    }

    fn kernel(&self, algebra: Algebra, stages: u32, apart: bool) -> Kernel {
        let exchange = if self.shared {
            part!("kronecker/butterfly_tile.wgsl")
        } else {
            part!("kronecker/butterfly_direct.wgsl")
        };
        let source = if apart {
            part!("kronecker/source_apart.wgsl")
        } else {
            part!("kronecker/source_here.wgsl")
        };
        Kernel {
            name: "kronecker/butterfly",
            parts: vec![
                part!("kronecker/butterfly.wgsl"),
                exchange,
                source,
                algebra.part(),
                part!("common/grid.wgsl"),
            ],
            spec: Spec::default()
                .with("LANE_BITS", self.lane_bits)
                .with("WINDOW", self.window)
                .with("STAGES", stages)
                .with("LOW", self.low),
            needs: Needs::default(),
            params: Params::FIELDS,
            workgroup: [1 << self.lane_bits, 1, 1],
            workgroup_bytes: if self.shared {
                4 * algebra.words() as u32 * (1 << self.bits())
            } else {
                0
            },
        }
    }
}

/// The most stages in registers at a time.
const WINDOW: u32 = 4;

/// The bits of each pass: a whole tile where neighbours are along the axis, then 8 with 16 neighbouring columns, as even as may
/// be. A software adapter pays more for a barrier than for memory: there a pass is one window.
fn passes(shape: &Shape, algebra: Algebra, caps: &Caps) -> Vec<Range<usize>> {
    let (tile, most) = match (caps.class, algebra) {
        (Class::Cpu, _) => (WINDOW as usize, WINDOW as usize),
        (_, Algebra::Nearest) => (11, 8),
        _ => (12, 8),
    };
    let first = if shape.inner == 1 {
        tile.min(shape.bits)
    } else {
        0
    };
    let rest = shape.bits - first;
    let count = rest.div_ceil(most);
    let bounds = (0..=count).map(|n| first + rest * n / count.max(1));
    let bounds: Vec<usize> = [0].into_iter().chain(bounds).collect();
    let ranges = bounds.iter().zip(bounds.iter().skip(1));
    ranges
        .map(|(from, to)| *from..*to)
        .filter(|pass| !pass.is_empty())
        .collect()
}
