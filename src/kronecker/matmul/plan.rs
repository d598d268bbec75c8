//! The planner of a product, as a part of any plan.

use std::ops::Range;

use super::{
    OP,
    end::End,
    group::{Group, grouped, matrices},
    order::{Axes, Mode, modes, order},
    shape::{self, Kind, Operator, Options, Shape},
    store::StoreStep,
};
use crate::{
    Result,
    choice::{Choice, Entry},
    gpu::{Caps, Class, Dtype, Matrices},
    plan::{Builder, Plan, Slot, Work},
};

/// Where the entries of a factor are: f32 from this element of a slot on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Entries {
    pub slot: Slot,
    pub first: u64,
}

/// A product as a part of any plan: z ← alpha x K + beta z, or K x.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Product<'a> {
    pub operator: &'a Operator,
    pub shape: Shape,
    pub options: Options,
    /// One for each factor that takes a tensor.
    pub factors: &'a [Entries],
    pub x: Slot,
    /// Another slot than that of x.
    pub z: Slot,
}

/// Plans [`matmul()`](super::matmul()). Inputs: x, then the factors that take a tensor; output: z, in place where beta is not 0.
///
/// # Errors
/// As [`matmul()`](super::matmul()), but for those of the device.
pub fn plan(operator: &Operator, shape: &Shape, options: &Options, caps: &Caps) -> Result<Plan> {
    shape::check(operator, shape, options)?;
    let count = operator.stored().count();
    let factors: Vec<Entries> = (0..count)
        .map(|n| Entries {
            slot: Slot::Input((n + 1) as u16),
            first: 0,
        })
        .collect();
    let product = Product {
        operator,
        shape: *shape,
        options: *options,
        factors: &factors,
        x: Slot::Input(0),
        z: Slot::Output(0),
    };
    let mut builder = Builder::default();
    product.steps(&mut builder, caps)?;
    let plan = builder.plan(OP, product.label(caps), product.work());
    plan.check(caps)?;
    Ok(plan)
}

impl Product<'_> {
    /// Multiply-adds of the cheapest order, and every tensor once.
    pub fn work(&self) -> Work {
        let modes = modes(self.operator, self.shape.side);
        let mut axes = Axes::new(&self.shape, &modes);
        let mut flops = 0.0;
        for group in ordered(&modes) {
            let mode = group.mode;
            let [before, after] = axes.around(mode.axis, 1);
            flops += 2.0 * (axes.outer * before * after) as f64 * mode.products() as f64;
            axes.apply(&group);
        }
        let stored = self.operator.stored();
        let entries: usize = stored.map(|factor| factor.len(self.shape.batch)).sum();
        let [x, z] = [
            self.shape.source(self.operator),
            self.shape.target(self.operator),
        ];
        let times = if self.options.beta == 0.0 { 1 } else { 2 };
        let own = self.shape.dtype.bytes() as f64;
        Work {
            flops,
            bytes: 4.0 * entries as f64 + own * (x.elements() + times * z.elements()) as f64,
            ..Work::default()
        }
    }

    /// The passes with their factors in order, for people.
    pub fn label(&self, caps: &Caps) -> String {
        let modes = modes(self.operator, self.shape.side);
        let dtype = self.shape.dtype;
        let passes = grouped(&modes, &Axes::new(&self.shape, &modes), dtype, caps);
        let each: Vec<String> = passes
            .iter()
            .map(|pass| {
                let members = pass.members.iter().map(|mode| mode.axis.to_string());
                members.collect::<Vec<_>>().join(" ")
            })
            .collect();
        let label = format!("{} passes, factors {}", each.len(), each.join(", "));
        let mut units = passes.iter().map(|pass| matrices(pass, dtype, caps));
        let units = units.find_map(|units| units.map(Matrices::label));
        label + &units.unwrap_or_default()
    }

    /// Adds the steps: the passes in order, over as many rows or batches at a time as the temporaries have room for.
    pub fn steps(&self, builder: &mut Builder, caps: &Caps) -> Result<()> {
        let shape = &self.shape;
        shape::check(self.operator, shape, &self.options)?;
        super::counted(self.operator, self.factors.len())?;
        let modes = modes(self.operator, shape.side);
        let axes = Axes::new(shape, &modes);
        if axes.outer * axes.inner == 0 {
            return Ok(());
        }
        let passes = grouped(&modes, &axes, shape.dtype, caps);
        let slabs = slabs(&axes, &passes);
        // Factors of passes with several are copied, so that they are one array, whichever way they are stored.
        let packed: Vec<Option<Entries>> = passes
            .iter()
            .map(|pass| self.pack(builder, caps, pass))
            .collect();
        let room = Room::new(self, &axes, &slabs, caps);
        let temporaries = room.add(builder);
        for first in (0..axes.outer).step_by(room.outers as usize) {
            let outers = first..axes.outer.min(first + room.outers);
            let passes = passes
                .iter()
                .zip(packed.iter().copied())
                .collect::<Vec<_>>();
            self.walk(builder, caps, &axes, &passes, &slabs, &temporaries, outers)?;
        }
        Ok(())
    }

    #[allow(
        clippy::too_many_arguments,
        reason = "the parts of one walk, named where they are made"
    )]
    fn walk(
        &self,
        builder: &mut Builder,
        caps: &Caps,
        axes: &Axes,
        passes: &[(&Group, Option<Entries>)],
        slabs: &[u64],
        temporaries: &[Temporary],
        outers: Range<u64>,
    ) -> Result<()> {
        let shape = &self.shape;
        let wide = shape.dtype != Dtype::F32;
        let mut axes = axes.clone();
        let source = shape.source(self.operator);
        let mut x = End {
            slot: self.x,
            dtype: shape.dtype,
            place: source,
            first: outers.start * slabs.first().copied().unwrap_or(1),
        };
        let last = passes.len().saturating_sub(1);
        for n in 0..passes.len().max(1) {
            let group = passes.get(n);
            let to = slabs.get(n + 1).or(slabs.last()).copied().unwrap_or(1);
            let own = n == last && !wide;
            let z = match temporaries.get(n) {
                _ if own => End {
                    slot: self.z,
                    dtype: Dtype::F32,
                    place: shape.target(self.operator),
                    first: outers.start * to,
                },
                Some(Temporary::OfPlan(slot)) => End::dense(*slot, 0, to),
                // What follows is written where z will be.
                _ => {
                    let z = slabs.last().copied().unwrap_or(1);
                    End::dense(self.z, outers.start * z, to)
                }
            };
            let mut pass = match group {
                Some((group, packed)) => {
                    let mut pass = self.pass(&axes, group, &outers, x, z);
                    pass.entries = packed.or(pass.entries);
                    pass
                }
                None => self.whole(to, &outers, x, z, 1.0),
            };
            if n == last {
                pass.alpha = self.options.alpha;
            }
            if own {
                pass.beta = self.options.beta;
            }
            pass.steps(builder, caps)?;
            if let Some((group, _)) = group {
                axes.apply(group);
            }
            x = z;
        }
        if wide {
            let store = StoreStep {
                y: x,
                z: self.z,
                dtype: shape.dtype,
                place: shape.target(self.operator),
                elements: outers.start * axes.slab()..outers.end * axes.slab(),
                beta: self.options.beta,
            };
            store.steps(builder, caps)?;
        }
        Ok(())
    }
}

/// A pass for each contraction, in order; identities are none.
pub(super) fn ordered(modes: &[Mode]) -> Vec<Group> {
    let real: Vec<&Mode> = modes
        .iter()
        .filter(|mode| mode.kind != Kind::Identity)
        .collect();
    let sizes: Vec<[usize; 2]> = real.iter().map(|mode| [mode.p, mode.q]).collect();
    let order = order(&sizes).into_iter();
    order
        .filter_map(|n| real.get(n).map(|mode| Group::single(**mode)))
        .collect()
}

/// Items of one outer index before the first pass, and after each.
pub(super) fn slabs(axes: &Axes, passes: &[Group]) -> Vec<u64> {
    let mut axes = axes.clone();
    let mut slabs = vec![axes.slab()];
    for group in passes {
        axes.apply(group);
        slabs.push(axes.slab());
    }
    slabs
}

/// Where the result of a pass goes that is not the last.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Temporary {
    /// Where z will be.
    Target,
    /// One of the plan's own.
    OfPlan(Slot),
}

/// MiB of an intermediate result that the passes walk over before they go on to the next rows, so that it stays in a cache, where
/// that makes several walks of it; 0 for no bound but the memory of temporaries.
pub(crate) const WALK_MIB: Choice = Choice {
    name: "kronecker/walk.mib",
    legal: &[0, 1, 4],
    table: &[Entry {
        class: Class::Cpu,
        value: 4,
        source: "1,024 rows by three factors of 32 in 284 ms, whole in 339, with 2 in 293; those of 16, which make four walks, were \
                 seen to take 1.4 times as long as whole (llvmpipe, Mesa 22.3.6, 2026-11)",
    }],
    otherwise: 0,
};

/// Walks that are worth their dispatches: fewer are one.
const FEWEST_WALKS: u64 = 8;

/// The temporaries of a walk, and how many outer indices it takes at a time.
struct Room {
    outers: u64,
    /// For each pass the number of its temporary.
    of_pass: Vec<Option<usize>>,
    /// Items of an outer index in each.
    sizes: Vec<u64>,
}

impl Room {
    /// Results go to and fro between two places, of which one is z's where that may be overwritten and has room. All temporaries
    /// together are not more than the largest intermediate result, but for one outer index.
    fn new(product: &Product, axes: &Axes, slabs: &[u64], caps: &Caps) -> Room {
        let shape = &product.shape;
        let passes = slabs.len() - 1;
        let wide = shape.dtype != Dtype::F32;
        let target = slabs.last().copied().unwrap_or(1);
        let free = !wide && product.options.beta == 0.0 && shape.target(product.operator).dense;
        let mut of_pass = Vec::new();
        let mut sizes: Vec<(usize, u64)> = Vec::new();
        for n in 0..passes.max(1) {
            let size = slabs.get(n + 1).or(slabs.last()).copied().unwrap_or(1);
            let last = n + 1 >= passes;
            let with_z = (passes.max(1) - 1 - n).is_multiple_of(2);
            let place = if (last && !wide) || (with_z && free && size <= target) {
                None
            } else {
                Some(usize::from(with_z))
            };
            if let Some(place) = place {
                match sizes.iter_mut().find(|(own, _)| *own == place) {
                    Some((_, largest)) => *largest = size.max(*largest),
                    None => sizes.push((place, size)),
                }
            }
            of_pass.push(place);
        }
        let all: u64 = sizes.iter().map(|(_, size)| size).sum();
        let largest = sizes.iter().map(|(_, size)| *size).max().unwrap_or(0);
        let of_pass = of_pass
            .into_iter()
            .map(|place| sizes.iter().position(|(own, _)| Some(*own) == place));
        let outers = match (axes.outer * largest).checked_div(all) {
            None => axes.outer,
            Some(one) => {
                let budget = caps.scratch_bytes / (4 * all);
                let cached = (u64::from(caps.choose(&WALK_MIB)) << 20) / (4 * largest);
                let several = cached > 0 && axes.outer / cached >= FEWEST_WALKS;
                one.min(budget)
                    .min(if several { cached } else { axes.outer })
                    .min(caps.buffer_bytes / (4 * largest))
                    .max(1)
            }
        };
        Room {
            outers,
            of_pass: of_pass.collect(),
            sizes: sizes.iter().map(|(_, size)| *size).collect(),
        }
    }

    /// Adds them to a plan; for each pass, where its result goes.
    fn add(&self, builder: &mut Builder) -> Vec<Temporary> {
        let slots: Vec<Slot> = self
            .sizes
            .iter()
            .map(|size| builder.add_scratch(4 * size * self.outers))
            .collect();
        let places = self.of_pass.iter().map(|place| {
            let slot = place.and_then(|n| slots.get(n));
            slot.map_or(Temporary::Target, |slot| Temporary::OfPlan(*slot))
        });
        places.collect()
    }
}
