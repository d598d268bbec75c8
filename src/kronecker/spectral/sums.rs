//! Passes over rows that end in sums: norms, quadratic forms, the steps of conjugate gradients. Partial sums are a device's, the
//! rest is the host's in f64.

use std::{ops::Range, sync::Arc};

use bytemuck::bytes_of;

use super::{
    super::spectrum::{Rounded, pairwise},
    kernels::{SumParams, eigenvalues},
    plan::Tables,
};
use crate::{
    Error, Result,
    gpu::{Caps, Dtype, Kernel, Needs, Part, Spec, part},
    plan::{Bind, Builder, Slot, Step},
    rows::{Rows, cut, dispatches},
};

/// How rows are cut into parts, each a workgroup's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::kronecker) struct Parts {
    pub width: u64,
    pub parts: u64,
    /// Elements of an invocation.
    pub turns: u64,
}

/// The most parts of a row: one workgroup adds them.
const PARTS: u64 = 1024;

impl Parts {
    pub fn new(width: usize) -> Parts {
        let width = width as u64;
        let turns = width.div_ceil(64 * PARTS).max(16);
        Parts {
            width,
            parts: width.div_ceil(64 * turns).max(1),
            turns,
        }
    }

    /// The partial sums of so many rows.
    pub fn len(&self, rows: usize) -> u64 {
        self.parts * rows as u64
    }
}

/// A buffer of a term.
#[derive(Clone, Debug)]
pub(in crate::kronecker) enum Operand {
    /// Rows of the width.
    Rows { slot: Slot, write: bool },
    /// As it is.
    Whole(Bind),
}

impl Operand {
    pub fn read(slot: Slot) -> Operand {
        let write = false;
        Operand::Rows { slot, write }
    }

    pub fn write(slot: Slot) -> Operand {
        let write = true;
        Operand::Rows { slot, write }
    }
}

/// One pass over rows: a term of each element, summed over parts of rows.
#[derive(Clone, Debug)]
pub(in crate::kronecker) struct RowSums {
    /// The part with the term, and what it calls.
    pub terms: Vec<Part>,
    /// Where the term has eigenvalues, their tables; a function of them too, or what the term makes of its numbers.
    pub tables: Option<Tables>,
    pub function: Rounded,
    /// Whether the function's form is a constant of the kernel.
    pub form: bool,
    /// Buffers before the sums in the kernel's order but for the tables, and after them.
    pub before: Vec<Operand>,
    pub after: Vec<Operand>,
    /// Where the sums go: a slot, and which block of `[rows, parts]` in it.
    pub sums: (Slot, u64),
}

impl RowSums {
    /// ‖a‖².
    pub fn squares(a: Slot, sums: (Slot, u64)) -> RowSums {
        RowSums {
            terms: vec![part!("kronecker/term_square.wgsl")],
            tables: None,
            function: Rounded::default(),
            form: false,
            before: vec![Operand::read(a)],
            after: Vec::new(),
            sums,
        }
    }

    /// Σ a b.
    pub fn dots([a, b]: [Slot; 2], sums: (Slot, u64)) -> RowSums {
        RowSums {
            terms: vec![part!("kronecker/term_dot.wgsl")],
            before: vec![Operand::read(a), Operand::read(b)],
            ..RowSums::squares(a, sums)
        }
    }

    /// Σ f(λ) a².
    pub fn weighted(function: Rounded, tables: Tables, a: Slot, sums: (Slot, u64)) -> RowSums {
        RowSums {
            terms: vec![
                part!("kronecker/term_weighted.wgsl"),
                part!("kronecker/scale_function.wgsl"),
            ],
            tables: Some(tables),
            function,
            form: true,
            ..RowSums::squares(a, sums)
        }
    }

    /// Adds the steps.
    pub fn steps(
        &self,
        builder: &mut Builder,
        caps: &Caps,
        width: usize,
        rows: usize,
    ) -> Result<()> {
        let parts = Parts::new(width);
        let kernel = self.kernel();
        let [first, middle, last] = self.tables.map_or([0; 3], |tables| tables.sizes);
        let (slot, block) = self.sums;
        let end = parts.len(rows) * (block + 1);
        let sums = Bind {
            slot,
            bytes: 0..4 * end,
            write: true,
        };
        for (piece, groups, predicted_ms) in steps(parts, rows, caps)? {
            let mut offset = 0;
            let mut bind: Vec<Bind> = self.tables.iter().map(Tables::bind).collect();
            let mut add = |bind: &mut Vec<Bind>, operands: &[Operand]| {
                for operand in operands {
                    match operand {
                        Operand::Whole(whole) => bind.push(whole.clone()),
                        Operand::Rows { slot, write } => {
                            let (own, from) = rows_of(*slot, parts.width).bind(&piece, *write);
                            bind.push(own);
                            offset = from;
                        }
                    }
                }
            };
            add(&mut bind, &self.before);
            bind.push(sums.clone());
            add(&mut bind, &self.after);
            let params = SumParams {
                width: parts.width as u32,
                parts: parts.parts as u32,
                turns: parts.turns as u32,
                first_group: groups.start as u32,
                groups: (groups.end - groups.start) as u32,
                offset,
                out: (block * parts.len(rows)) as u32,
                first,
                middle,
                last,
                a: self.function.a,
                shift: self.function.shift,
                gain: self.function.gain,
                power: self.function.power,
            };
            builder.steps.push(Step {
                kernel: kernel.clone(),
                bind,
                params: bytes_of(&params).to_vec(),
                groups: groups.end - groups.start,
                predicted_ms,
            });
        }
        Ok(())
    }

    fn kernel(&self) -> Arc<Kernel> {
        let parts = [
            part!("kronecker/row_sums.wgsl"),
            part!("kronecker/sum_lanes.wgsl"),
            part!("common/grid.wgsl"),
        ];
        let mut spec = Spec::default();
        if self.form {
            spec = spec.with("FORM", self.function.form as u32);
        }
        let values = self.tables.map(|tables| eigenvalues(tables.combine));
        let terms = self.terms.iter().copied();
        Arc::new(Kernel {
            name: "kronecker/row_sums",
            parts: parts.into_iter().chain(terms).chain(values).collect(),
            spec,
            needs: Needs::default(),
            params: SumParams::FIELDS,
            workgroup: [64, 1, 1],
            workgroup_bytes: 256,
        })
    }
}

/// A dispatch: the rows that are bound, groups of part after part, milliseconds.
type Piece = (Range<u64>, Range<u64>, f64);

/// Cuts rows to bindings of vectors of that many, then to dispatches.
fn steps(parts: Parts, rows: usize, caps: &Caps) -> Result<Vec<Piece>> {
    let vector = rows_of(Slot::Input(0), parts.width);
    let fits = |rows: &Range<u64>| {
        let span = vector.span(rows);
        span.end - span.start <= caps.binding_bytes
    };
    let limit = |needed| Error::Limit {
        what: "bytes in one binding, for a vector or its sums,".into(),
        needed,
        available: caps.binding_bytes,
        remedy: "cut the rows or use a device with larger bindings",
    };
    if 8 * parts.len(rows) > caps.binding_bytes {
        return Err(limit(8 * parts.len(rows)));
    }
    let group_ms = 32.0 * (64 * parts.turns) as f64 / (caps.gflops * 1e6);
    let pieces = cut(0..rows as u64, 1, 0.0, &fits).map_err(|_| limit(4 * parts.width))?;
    let each = pieces.into_iter().flat_map(|piece| {
        let groups = piece.start * parts.parts..piece.end * parts.parts;
        dispatches(groups, group_ms, caps).map(move |groups| {
            let ms = group_ms * (groups.end - groups.start) as f64;
            (piece.clone(), groups, ms)
        })
    });
    Ok(each.collect())
}

/// Rows of f32 one after another.
fn rows_of(slot: Slot, width: u64) -> Rows {
    Rows {
        slot,
        dtype: Dtype::F32,
        stride: width as usize,
    }
}

/// The sum of each row, of its parts in f64.
pub(in crate::kronecker) fn finish(partial: &[f32], parts: Parts) -> Vec<f64> {
    let rows = partial.chunks_exact(parts.parts as usize);
    rows.map(|row| {
        let each: Vec<f64> = row.iter().map(|x| f64::from(*x)).collect();
        pairwise(&each)
    })
    .collect()
}
