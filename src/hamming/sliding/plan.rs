//! Plans of sliding distances: pure functions of the text's shape, pattern, options and capabilities.

use std::{ops::Range, sync::Arc};

use super::{
    Classes, Facts, Method, OP, Options, Pattern, Shape, direct, ntt, planes,
    rates::{self, Sizes},
    scatter,
    symbols::Alphabet,
};
use crate::{
    Error, Result,
    gpu::{Caps, Dtype, Kernel, Needs, Part, Spec, part},
    plan::{ALIGN, Bind, Builder, Plan, Slot, Step, Work},
    rows::{dispatches, fill},
};

/// Positions between possible starts of chunks of a text: whole aligned bindings of symbols, masks and distances.
pub(super) const UNIT: u64 = 2048;

/// Plans the distances. Inputs: the text, and its mask where it may be wild; output: the distances.
///
/// # Errors
/// Those of [`sliding`](super::sliding) that do not come from the device.
pub fn sliding(
    shape: &Shape,
    pattern: &Pattern,
    options: &Options<'_>,
    caps: &Caps,
) -> Result<Plan> {
    check(shape, pattern, options)?;
    let method = match options.method {
        Method::Auto => choose(shape, pattern, options, caps),
        method => method,
    };
    let mut planner = Planner::new(shape, [pattern], options.classes, options.facts, caps);
    let outputs = shape.outputs(pattern.symbols_len());
    if outputs > 0 {
        if pattern.tame().next().is_none() {
            fill(
                &mut planner.builder,
                caps,
                Slot::Output(0),
                0..outputs as u64,
                0,
            );
        } else {
            match method {
                Method::Auto | Method::Planes => planes::steps(&mut planner, pattern)?,
                Method::Direct => direct::steps(&mut planner, pattern)?,
                Method::Scatter => scatter::steps(&mut planner, pattern)?,
                Method::Ntt => ntt::steps(&mut planner, pattern)?,
            }
        }
    }
    let words = pattern.symbols_len().div_ceil(32) as f64;
    let work = Work {
        popcounts: outputs as f64 * words,
        bytes: planner.text_bytes() + 4.0 * outputs as f64,
        ..Work::default()
    };
    let label = planner.label(method);
    let plan = planner.builder.plan(OP, label, work);
    plan.check(caps)?;
    Ok(plan)
}

/// The method that [`Method::Auto`] takes.
pub fn choose(shape: &Shape, pattern: &Pattern, options: &Options<'_>, caps: &Caps) -> Method {
    if options.classes.is_some() {
        return Method::Planes;
    }
    let sizes = sizes(shape, pattern, options.facts);
    let cost = |method: &Method| rates::seconds(*method, &sizes, caps.class);
    Method::ALL
        .into_iter()
        .min_by(|a, b| cost(a).total_cmp(&cost(b)))
        .unwrap_or(Method::Planes)
}

/// The methods that compute these distances in reasonable time, the planner's choice first.
pub fn methods(
    shape: &Shape,
    pattern: &Pattern,
    options: &Options<'_>,
    caps: &Caps,
) -> Vec<Method> {
    let first = choose(shape, pattern, options, caps);
    if options.classes.is_some() {
        return vec![first];
    }
    let sizes = sizes(shape, pattern, options.facts);
    let cost = |method: Method| rates::seconds(method, &sizes, caps.class);
    // Some seconds on any device, or not a hundred times the choice.
    let fair = |method: &Method| cost(*method) < 1.0 || cost(*method) < 100.0 * cost(first);
    let rest = Method::ALL.into_iter().filter(|method| *method != first);
    std::iter::once(first).chain(rest.filter(fair)).collect()
}

pub(super) fn check(shape: &Shape, pattern: &Pattern, options: &Options<'_>) -> Result<()> {
    shape.check(OP)?;
    pattern.check(OP, shape.dtype, options.classes.is_some())?;
    if options.classes.is_some() && !matches!(options.method, Method::Auto | Method::Planes) {
        return Err(Error::Unsupported {
            op: OP,
            what: format!(
                "classes with the method {}; use `Method::Planes`",
                options.method.name()
            ),
        });
    }
    Ok(())
}

fn sizes(shape: &Shape, pattern: &Pattern, facts: Facts) -> Sizes {
    let alphabet = Alphabet::new([pattern].into_iter(), None, facts.others);
    let (n, m) = (shape.len as f64, pattern.symbols_len() as f64);
    let ranks = alphabet.ranks() as f64;
    let transform = ntt::sizes(pattern.symbols_len(), shape.len);
    Sizes {
        n,
        m,
        ranks,
        planes: alphabet.planes.into(),
        matches: facts.matches.unwrap_or(n * m / ranks.max(1.0)),
        wild: shape.wild,
        transform: transform.map(|size| size as f64),
        dtype: shape.dtype,
    }
}

/// A plan of distances in the making.
pub(super) struct Planner<'a> {
    pub shape: &'a Shape,
    pub caps: &'a Caps,
    pub alphabet: Alphabet,
    pub builder: Builder,
    /// The table of codes, once a step reads it.
    codes: Option<Slot>,
}

impl<'a> Planner<'a> {
    pub fn new<'p>(
        shape: &'a Shape,
        patterns: impl IntoIterator<Item = &'p Pattern>,
        classes: Option<&Classes>,
        facts: Facts,
        caps: &'a Caps,
    ) -> Planner<'a> {
        Planner {
            shape,
            caps,
            alphabet: Alphabet::new(patterns.into_iter(), classes, facts.others),
            builder: Builder::default(),
            codes: None,
        }
    }

    fn label(&self, method: Method) -> String {
        match method {
            Method::Planes | Method::Auto => format!("bit planes: {}", self.alphabet.planes),
            method => method.name().into(),
        }
    }

    /// Bytes of the text and its mask.
    pub fn text_bytes(&self) -> f64 {
        let wild = f64::from(u8::from(self.shape.wild)) / 8.0;
        self.shape.len as f64 * (self.shape.dtype.bytes() as f64 + wild)
    }

    /// Rows of bit planes, that of the mask included.
    pub fn rows(&self) -> u64 {
        u64::from(self.alphabet.planes) + u64::from(self.shape.wild)
    }

    /// Cuts positions into chunks whose symbols, `bits` each in the widest buffer, and distances fit bindings. Chunks start at
    /// multiples of `unit` and share m - 1 symbols with the next.
    pub fn chunks(&self, positions: u64, m: u64, bits: u64, unit: u64) -> Result<Vec<Range<u64>>> {
        let widest = bits.max(32);
        let room = self
            .caps
            .binding_bytes
            .min(self.caps.scratch_bytes / 2)
            .saturating_sub(ALIGN);
        let symbols = (room / widest * 8).saturating_sub(128);
        if positions + m <= symbols + 1 {
            return Ok(std::iter::once(0..positions).collect());
        }
        match symbols.saturating_sub(m) / unit * unit {
            0 => Err(Error::Limit {
                what: "bytes in one binding, for the symbols under one pattern,".into(),
                needed: (m + unit) * widest / 8,
                available: room,
                remedy: "use a shorter pattern",
            }),
            len => Ok((0..positions)
                .step_by(len as usize)
                .map(|start| start..positions.min(start + len))
                .collect()),
        }
    }

    /// The symbols under a pattern of m symbols at some positions.
    pub fn under(&self, positions: &Range<u64>, m: u64) -> Range<u64> {
        positions.start..(positions.end + m - 1).min(self.shape.len as u64)
    }

    /// Binds the text.
    pub fn text(&self, symbols: &Range<u64>) -> Bind {
        let bytes = self.shape.dtype.bytes();
        Bind {
            slot: Slot::Input(0),
            bytes: symbols.start * bytes..(symbols.end * bytes).next_multiple_of(4),
            write: false,
        }
    }

    /// Binds the mask of the text, where there is one.
    pub fn wild(&self, symbols: &Range<u64>) -> Option<Bind> {
        self.shape.wild.then(|| Bind {
            slot: Slot::Input(1),
            bytes: symbols.start / 8..4 * symbols.end.div_ceil(32),
            write: false,
        })
    }

    /// Binds the text, the table of codes and the mask.
    pub fn coded(&mut self, symbols: &Range<u64>) -> Vec<Bind> {
        let table = self.alphabet.table(self.shape.dtype);
        let bytes = 0..4 * table.len() as u64;
        let builder = &mut self.builder;
        let slot = *self.codes.get_or_insert_with(|| builder.add_table(table));
        let codes = Bind {
            slot,
            bytes,
            write: false,
        };
        let wild = self.wild(symbols);
        [self.text(symbols), codes]
            .into_iter()
            .chain(wild)
            .collect()
    }

    /// Symbols with a code of their own, for kernels that search them.
    pub fn keys(&self) -> u32 {
        self.alphabet.ranks() as u32
    }

    /// The parts of kernels that read codes.
    pub fn coded_parts(&self) -> [Part; 2] {
        let symbols = match self.shape.dtype {
            Dtype::U8 => part!("hamming/symbols_u8.wgsl"),
            _ => part!("hamming/symbols_u32.wgsl"),
        };
        [symbols, self.wild_part()]
    }

    /// The part that says which symbols are not wild.
    pub fn wild_part(&self) -> Part {
        match self.shape.wild {
            true => part!("hamming/text_wild.wgsl"),
            false => part!("hamming/text_tame.wgsl"),
        }
    }

    /// Adds the dispatches of some workgroups, each of so many operations.
    pub fn step(
        &mut self,
        kernel: &Arc<Kernel>,
        bind: &[Bind],
        groups: u64,
        operations: f64,
        params: impl Fn(u32, u32) -> Vec<u8>,
    ) {
        let group_ms = operations / (self.caps.gflops * 1e6);
        for groups in dispatches(0..groups, group_ms, self.caps) {
            let count = groups.end - groups.start;
            self.builder.steps.push(Step {
                kernel: kernel.clone(),
                bind: bind.to_vec(),
                params: params(groups.start as u32, count as u32),
                groups: count,
                predicted_ms: group_ms * count as f64,
            });
        }
    }
}

/// Binds distances.
pub(super) fn distances(positions: &Range<u64>) -> Bind {
    Bind {
        slot: Slot::Output(0),
        bytes: 4 * positions.start..4 * positions.end,
        write: true,
    }
}

/// A kernel of 64 invocations without workgroup memory.
pub(super) fn kernel(
    name: &'static str,
    parts: impl IntoIterator<Item = Part>,
    spec: Spec,
    params: &'static [crate::gpu::Field],
) -> Kernel {
    let grid = part!("common/grid.wgsl");
    Kernel {
        name,
        parts: parts.into_iter().chain([grid]).collect(),
        spec,
        needs: Needs::default(),
        params,
        workgroup: [64, 1, 1],
        workgroup_bytes: 0,
    }
}
