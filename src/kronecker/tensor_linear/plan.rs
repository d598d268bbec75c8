//! Plans of the linear and the polynomial form: pure functions of shape, options and capabilities.

use std::sync::Arc;

use bytemuck::bytes_of;

use super::{
    batch::Batch,
    kernels::Params,
    monomials::Monomials,
    shape::{Mask, OP, Options, Shape},
};
use crate::{
    Error, Result,
    elements::pack_steps,
    gpu::{Caps, Class, Dtype, Kernel},
    linear::{FeatureMap, features},
    plan::{Bind, Builder, Plan, Slot, Step, Work},
    rows::dispatches,
};

/// Invocations of a workgroup.
const LANES: u64 = 64;

/// Plans the outputs of the linear form. Inputs: q, the keys of every set, the values of every set; output: o.
///
/// # Errors
/// `Argument` when sizes or options make no sense; `Limit` when one head exceeds a binding or the scratch budget.
pub fn forward(shape: &Shape, options: &Options, caps: &Caps) -> Result<Plan> {
    options.check(shape)?;
    Planner::new(shape, Form::linear(options), caps).forward()
}

/// Plans the gradients of the linear form. Inputs: as [`forward`], then the gradient of o; outputs, in f32: the gradients of q, of
/// the keys of every set, of the values of every set.
///
/// # Errors
/// As [`forward`].
pub fn backward(shape: &Shape, options: &Options, caps: &Caps) -> Result<Plan> {
    options.check(shape)?;
    Planner::new(shape, Form::linear(options), caps).backward()
}

/// What queries and keys go through.
#[derive(Clone, Copy, Debug)]
pub(super) enum Features<'a> {
    Mapped(FeatureMap),
    Monomials(&'a Monomials),
}

/// What is asked for, of either form.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form<'a> {
    pub mask: &'a Mask,
    pub scale: f32,
    pub normalize: Option<f32>,
    pub features: Features<'a>,
}

impl<'a> Form<'a> {
    fn linear(options: &'a Options) -> Form<'a> {
        Form {
            mask: &options.mask,
            scale: options.scale,
            normalize: options.normalize,
            features: Features::Mapped(options.feature_map),
        }
    }
}

pub(super) struct Planner<'a> {
    pub shape: &'a Shape,
    pub form: Form<'a>,
    pub caps: &'a Caps,
}

/// Queries or keys before or after they are mapped.
#[derive(Clone, Copy, Debug)]
pub(super) struct Source {
    pub slot: Slot,
    pub dtype: Dtype,
}

/// What every batch of heads reads and writes.
pub(super) struct Ends {
    /// Queries, then the keys of every set.
    pub mapped: Vec<Source>,
    /// Where the outputs go, in f32, or gradients of queries and keys, before the map's own.
    pub out: Vec<Slot>,
    pub tables: Option<Tables>,
    pub windows: Slot,
}

/// Tables of monomials.
pub(super) struct Tables {
    pub terms: Slot,
    pub ups: Slot,
    pub queries: Slot,
    pub keys: Slot,
    /// The middles and the binomials.
    pub centre: Option<[Slot; 2]>,
}

impl Tables {
    /// The terms of monomials, and the weights of a set's or of the queries'.
    pub fn binds(&self, monomials: &Monomials, set: Option<usize>) -> [Bind; 2] {
        let Monomials { rank, degree, .. } = *monomials;
        let weights = set.map_or(self.queries, |_| self.keys);
        [(self.terms, rank * degree as usize), (weights, rank)]
            .map(|(slot, words)| table(slot, words))
    }
}

impl<'a> Planner<'a> {
    pub fn new(shape: &'a Shape, form: Form<'a>, caps: &'a Caps) -> Planner<'a> {
        Planner { shape, form, caps }
    }

    /// What a set's features are multiplied by: those of queries have the scale.
    pub fn scale(&self, set: Option<usize>) -> f32 {
        set.map_or(self.form.scale, |_| 1.0)
    }

    /// Columns of features.
    pub fn rank(&self) -> usize {
        match self.form.features {
            Features::Mapped(map) => map.width(self.shape.key),
            Features::Monomials(monomials) => monomials.rank,
        }
    }

    /// Numbers of a padded row of features.
    pub fn inner(&self) -> u64 {
        (self.rank() as u64).next_multiple_of(8)
    }

    /// Numbers of a padded row of values, with their weight.
    pub fn outer(&self) -> u64 {
        let ones = usize::from(self.form.normalize.is_some());
        ((self.shape.value + ones) as u64).next_multiple_of(8)
    }

    pub fn causal(&self) -> bool {
        *self.form.mask != Mask::Full
    }

    /// Coefficients of a centred query.
    pub fn centre_numbers(&self) -> u64 {
        match self.form.features {
            Features::Monomials(Monomials {
                degree,
                centre: Some(_),
                ..
            }) => u64::from(degree + 1),
            _ => 0,
        }
    }

    pub fn sets(&self) -> u64 {
        self.shape.sets() as u64
    }

    pub fn group(&self) -> u64 {
        self.shape.group() as u64
    }

    pub fn queries(&self) -> u64 {
        self.shape.queries as u64
    }

    pub fn tokens(&self, set: usize) -> u64 {
        self.shape.keys.get(set).copied().unwrap_or(0) as u64
    }

    pub fn most_tokens(&self) -> u64 {
        self.shape.keys.iter().copied().max().unwrap_or(0) as u64
    }

    fn heads(&self) -> u64 {
        self.shape.key_heads() as u64
    }

    /// The map, where it does something.
    fn map(&self) -> Option<FeatureMap> {
        match self.form.features {
            Features::Mapped(FeatureMap::Identity) | Features::Monomials(_) => None,
            Features::Mapped(map) => Some(map),
        }
    }

    /// The place of a set's keys among inputs and gradients, and that of its values.
    pub fn places(&self, set: usize) -> [u16; 2] {
        [1 + set, 1 + self.shape.sets() + set].map(|n| n as u16)
    }

    pub fn forward(&self) -> Result<Plan> {
        let mut builder = Builder::default();
        let len = self.shape.query_rows() * self.shape.value;
        let narrows = self.shape.dtype != Dtype::F32;
        let wide = match narrows {
            true => builder.add_scratch(4 * len as u64),
            false => Slot::Output(0),
        };
        let mapped = self.mapped(&mut builder)?;
        let ends = self.ends(&mut builder, mapped, vec![wide]);
        self.each(&mut builder, false, |batch, builder| {
            batch.outputs(builder, &ends);
            Ok(())
        })?;
        if narrows {
            let slots = [wide, Slot::Output(0)];
            pack_steps(&mut builder, self.caps, self.shape.dtype, slots, len as u64);
        }
        self.plan(builder, 1.0, self.shape.dtype.bytes() as f64 * len as f64)
    }

    pub fn backward(&self) -> Result<Plan> {
        let mut builder = Builder::default();
        let sides = 1 + self.shape.sets();
        // 16-bit tensors become f32 first: gradients are f32.
        let widens = self.map().is_some() && self.shape.dtype != Dtype::F32;
        let mut plain: Vec<Source> = (0..sides).map(|side| self.source(side)).collect();
        if widens {
            for (side, source) in plain.iter_mut().enumerate() {
                *source = self.apply(&mut builder, side, *source, FeatureMap::Identity)?;
            }
        }
        let mut mapped = plain.clone();
        let mut slopes: Vec<Slot> = (0..sides).map(|side| Slot::Output(side as u16)).collect();
        if let Some(map) = self.map() {
            for ((side, source), slope) in mapped.iter_mut().enumerate().zip(&mut slopes) {
                *source = self.apply(&mut builder, side, *source, map)?;
                *slope = builder.add_scratch(4 * (self.side_rows(side) * self.rank()) as u64);
            }
        }
        let ends = self.ends(&mut builder, mapped, slopes.clone());
        self.each(&mut builder, true, |batch, builder| {
            batch.gradients(builder, &ends);
            Ok(())
        })?;
        if let Some(map) = self.map() {
            for ((side, source), slope) in plain.iter().enumerate().zip(&slopes) {
                let mut shape = self.shape.rows_of(side.checked_sub(1));
                shape.dtype = source.dtype;
                let plan = features::plan_adjoint(&shape, map, Default::default(), self.caps)?;
                let inputs = [source.slot, *slope];
                builder.append(plan, &inputs, &[Slot::Output(side as u16)])?;
            }
        }
        let shape = self.shape;
        let keys: usize = (0..shape.sets()).map(|set| shape.key_rows(set)).sum();
        let written = shape.query_rows() * shape.key + keys * (shape.key + shape.value);
        let handed = shape.query_rows() * shape.value * shape.dtype.bytes() as usize;
        self.plan(builder, 3.0, (4 * written + handed) as f64)
    }

    /// Rows of the queries, side 0, or of the keys of set side - 1.
    fn side_rows(&self, side: usize) -> usize {
        match side.checked_sub(1) {
            None => self.shape.query_rows(),
            Some(set) => self.shape.key_rows(set),
        }
    }

    fn source(&self, side: usize) -> Source {
        Source {
            slot: Slot::Input(side as u16),
            dtype: self.shape.dtype,
        }
    }

    /// Queries and keys through the map, if it does something.
    fn mapped(&self, builder: &mut Builder) -> Result<Vec<Source>> {
        let sides = 0..1 + self.shape.sets();
        let each = sides.map(|side| match self.map() {
            Some(map) => self.apply(builder, side, self.source(side), map),
            None => Ok(self.source(side)),
        });
        each.collect()
    }

    fn apply(
        &self,
        builder: &mut Builder,
        side: usize,
        source: Source,
        map: FeatureMap,
    ) -> Result<Source> {
        let mut shape = self.shape.rows_of(side.checked_sub(1));
        shape.dtype = source.dtype;
        let plan = features::plan(&shape, map, Default::default(), Dtype::F32, self.caps)?;
        let len = self.side_rows(side) * map.width(shape.key);
        let slot = builder.add_scratch(4 * len as u64);
        builder.append(plan, &[source.slot], &[slot])?;
        let dtype = Dtype::F32;
        Ok(Source { slot, dtype })
    }

    fn ends(&self, builder: &mut Builder, mapped: Vec<Source>, out: Vec<Slot>) -> Ends {
        let tables = match self.form.features {
            Features::Mapped(_) => None,
            Features::Monomials(monomials) => {
                let mut add = |table: &Vec<u32>| builder.add_table(table.clone());
                Some(Tables {
                    terms: add(&monomials.terms),
                    ups: add(&monomials.ups),
                    queries: add(&monomials.query_weights),
                    keys: add(&monomials.key_weights),
                    centre: monomials
                        .centre
                        .as_ref()
                        .map(|centre| [add(&centre.middle), add(&centre.binomials)]),
                })
            }
        };
        let chunk = self.chunk();
        let window = |set| self.shape.window(self.form.mask, set).unwrap_or(0) as u64;
        let windows = (0..self.shape.sets()).map(|set| (window(set) / chunk) as u32);
        Ends {
            mapped,
            out,
            tables,
            windows: builder.add_table(windows.collect()),
        }
    }

    /// Does something for every batch of heads, in order.
    fn each(
        &self,
        builder: &mut Builder,
        backward: bool,
        mut steps: impl FnMut(&Batch<'_>, &mut Builder) -> Result<()>,
    ) -> Result<()> {
        if self.shape.query_rows() == 0 && !backward {
            return Ok(());
        }
        if self.heads() == 0 {
            return Ok(());
        }
        let space = super::space::Space::new(self, builder, backward)?;
        for first in (0..self.heads()).step_by(space.heads as usize) {
            let batch = Batch {
                planner: self,
                space: &space,
                heads: first..(first + space.heads).min(self.heads()),
            };
            steps(&batch, builder)?;
        }
        Ok(())
    }

    fn plan(&self, builder: Builder, passes: f64, more_bytes: f64) -> Result<Plan> {
        let shape = self.shape;
        let keys: usize = (0..shape.sets()).map(|set| shape.key_rows(set)).sum();
        let columns = shape.value + usize::from(self.form.normalize.is_some());
        let cells = (self.rank() * columns) as f64;
        let read = shape.query_rows() * shape.key + keys * (shape.key + shape.value);
        let work = Work {
            flops: passes * 2.0 * cells * (keys + shape.query_rows()) as f64,
            bytes: read as f64 * shape.dtype.bytes() as f64 + more_bytes,
            ..Work::default()
        };
        let form = match self.form.mask {
            Mask::Full => "full".into(),
            Mask::Causal => format!("causal, chunks of {}", self.chunk()),
            Mask::Window(_) => format!("windows, chunks of {}", self.chunk()),
        };
        let label = format!("{form}, {} features", self.rank());
        let plan = builder.plan(OP, label, work);
        plan.check(self.caps)?;
        Ok(plan)
    }

    /// Tokens of a chunk, whose states a lane holds in registers; every window is a whole number of chunks. Windows hold twice as
    /// many, and what software adapters compile grows with them.
    pub fn chunk(&self) -> u64 {
        let sets = 0..self.shape.sets();
        let windows = sets.filter_map(|set| self.shape.window(self.form.mask, set));
        let windows: Vec<usize> = windows.collect();
        let few = windows.is_empty() && self.shape.sets() <= 2 && self.caps.class != Class::Cpu;
        let most = if few { 8 } else { 4 };
        windows.into_iter().fold(most, |chunk: u64, window| {
            chunk.min(1 << window.trailing_zeros().min(2))
        })
    }
}

/// The first words of a table.
pub(super) fn table(slot: Slot, words: usize) -> Bind {
    Bind {
        slot,
        bytes: 0..4 * words as u64,
        write: false,
    }
}

/// Adds a kernel's dispatches over so many items, each of which takes so many operations.
pub(super) fn push(
    builder: &mut Builder,
    caps: &Caps,
    kernel: Arc<Kernel>,
    bind: Vec<Bind>,
    [items, flops]: [u64; 2],
    params: Params,
) {
    if items == 0 {
        return;
    }
    let group_ms = (LANES * flops) as f64 / (caps.gflops * 1e6);
    for groups in dispatches(0..items.div_ceil(LANES), group_ms, caps) {
        let count = groups.end - groups.start;
        let params = Params {
            items: items as u32,
            first: groups.start as u32,
            groups: count as u32,
            ..params
        };
        builder.steps.push(Step {
            kernel: kernel.clone(),
            bind: bind.clone(),
            params: bytes_of(&params).to_vec(),
            groups: count,
            predicted_ms: group_ms * count as f64,
        });
    }
}

/// A limit that one head exceeds.
pub(super) fn too_large(what: &str, needed: u64, available: u64) -> Error {
    Error::Limit {
        what: format!("{OP}, {what} for one head,"),
        needed,
        available,
        remedy: "use fewer tokens or features, or raise `Select::scratch_bytes`",
    }
}
