//! The kernels: parameters, constants, parts.

use std::sync::Arc;

use crate::gpu::{Caps, Class, Kernel, Needs, Part, Spec, params, part};

params! {
    /// Parameters of every kernel here.
    Params {
        len: u32,
        value: u32,
        bits: u32,
        lists: u32,
        share: u32,
        readers: u32,
        span: u32,
        blocks: u32,
        bins: u32,
        shift: u32,
        first: u32,
        groups: u32,
        begin: u32,
        end: u32,
        codes_offset: u32,
        items_offset: u32,
        rows_offset: u32,
        own_offset: u32,
        out_offset: u32,
        table_offset: u32,
        first_table: u32,
        sets: u32,
        x_shift: u32,
        x_bits: u32,
        y_shift: u32,
        y_bits: u32,
    }
}

/// Items whose ranks and sums one block has.
pub(super) const BLOCK: u64 = 256;

/// A row of items or of readers: a value and 1, or the terms of a query's gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Values,
    Terms,
}

impl Source {
    fn row(self) -> Part {
        match self {
            Source::Values => part!("hamming/code_row_values.wgsl"),
            Source::Terms => part!("hamming/code_row_terms.wgsl"),
        }
    }

    fn own(self) -> Part {
        match self {
            Source::Values => part!("hamming/code_own_values.wgsl"),
            Source::Terms => part!("hamming/code_own_terms.wgsl"),
        }
    }

    /// The columns of a row in memory.
    pub fn width(self, value: usize) -> u64 {
        match self {
            Source::Values => value as u64,
            Source::Terms => value as u64 + 1,
        }
    }
}

/// What readers take of a table: means, sums with the sum of the weights, or sums over all their tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Mean,
    Sums,
    Total,
}

/// Where the causal form's readers put what they find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Into {
    /// Sums with the sum of the weights, for one chunk.
    Chunk,
    /// The same, for whole lists.
    Sums,
    /// Sums alone, for whole lists.
    Values,
}

/// How a kernel's invocations share columns: so many side by side, the rest of a workgroup on other rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lanes {
    pub columns: u64,
    pub lanes: u64,
    /// Parts of a row's sum, side by side.
    pub slices: u64,
}

impl Lanes {
    pub fn new(columns: usize) -> Lanes {
        let columns = (columns as u64).next_power_of_two().min(128);
        Lanes {
            columns,
            lanes: columns.max(64),
            slices: 1,
        }
    }

    /// With sums cut into parts where invocations are cheap.
    pub fn sliced(self, caps: &Caps) -> Lanes {
        if caps.class == Class::Cpu {
            return self;
        }
        Lanes {
            lanes: 256,
            slices: (256 / self.columns).min(8),
            ..self
        }
    }

    /// Rows of a workgroup.
    pub fn rows(&self) -> u64 {
        self.lanes / self.columns / self.slices
    }

    fn spec(&self) -> Spec {
        Spec::default()
            .with("LANES", self.lanes as u32)
            .with("COLUMNS", self.columns as u32)
    }
}

fn kernel(name: &'static str, parts: Vec<Part>, spec: Spec, lanes: u64, bytes: u64) -> Arc<Kernel> {
    let shared = [part!("hamming/code_common.wgsl"), part!("common/grid.wgsl")];
    Arc::new(Kernel {
        name,
        parts: parts.into_iter().chain(shared).collect(),
        spec,
        needs: Needs::default(),
        params: Params::FIELDS,
        workgroup: [lanes as u32, 1, 1],
        workgroup_bytes: bytes as u32,
    })
}

fn block() -> Spec {
    Spec::default().with("BLOCK", BLOCK as u32)
}

pub(super) fn rank() -> Arc<Kernel> {
    let parts = vec![part!("hamming/code_rank.wgsl")];
    kernel("hamming/code_rank", parts, block(), 64, 0)
}

pub(super) fn offsets() -> Arc<Kernel> {
    let parts = vec![part!("hamming/code_offsets.wgsl")];
    kernel("hamming/code_offsets", parts, Spec::default(), 256, 1024)
}

pub(super) fn move_items(first: bool) -> Arc<Kernel> {
    let item = if first {
        part!("hamming/code_item_first.wgsl")
    } else {
        part!("hamming/code_item_moved.wgsl")
    };
    let parts = vec![part!("hamming/code_move.wgsl"), item];
    kernel("hamming/code_move", parts, block(), 64, 0)
}

pub(super) fn sum(source: Source, lanes: &Lanes) -> Arc<Kernel> {
    let parts = vec![part!("hamming/code_sum.wgsl"), source.row()];
    let spec = lanes.spec().with("BLOCK", BLOCK as u32);
    kernel("hamming/code_sum", parts, spec, lanes.lanes, 0)
}

pub(super) fn join(lanes: &Lanes) -> Arc<Kernel> {
    let spec = lanes.spec().with("BLOCK", BLOCK as u32);
    let parts = vec![part!("hamming/code_join.wgsl")];
    kernel("hamming/code_join", parts, spec, lanes.lanes, 0)
}

pub(super) fn gather(found: Found, lanes: &Lanes) -> Arc<Kernel> {
    let found = match found {
        Found::Mean => part!("hamming/code_found_mean.wgsl"),
        Found::Sums => part!("hamming/code_found_sums.wgsl"),
        Found::Total => part!("hamming/code_found_total.wgsl"),
    };
    let parts = vec![part!("hamming/code_gather.wgsl"), found];
    kernel("hamming/code_gather", parts, lanes.spec(), lanes.lanes, 0)
}

pub(super) fn terms() -> Arc<Kernel> {
    let parts = vec![part!("hamming/code_terms.wgsl")];
    kernel("hamming/code_terms", parts, Spec::default(), 64, 0)
}

pub(super) fn flip(own: Source) -> Arc<Kernel> {
    let parts = vec![part!("hamming/code_flip.wgsl"), own.own()];
    kernel("hamming/code_flip", parts, Spec::default(), 64, 0)
}

pub(super) fn slopes() -> Arc<Kernel> {
    let parts = vec![part!("hamming/code_slopes.wgsl")];
    kernel("hamming/code_slopes", parts, Spec::default(), 64, 0)
}

pub(super) fn order(chunk: u64) -> Arc<Kernel> {
    let spec = Spec::default().with("CHUNK", chunk as u32);
    let parts = vec![part!("hamming/code_order.wgsl")];
    kernel("hamming/code_order", parts, spec, 64, 0)
}

pub(super) fn query(source: Source, into: Into, reverse: bool, lanes: &Lanes) -> Arc<Kernel> {
    let columns = match into {
        Into::Chunk => part!("hamming/code_columns_chunk.wgsl"),
        Into::Sums => part!("hamming/code_columns_sums.wgsl"),
        Into::Values => part!("hamming/code_columns_values.wgsl"),
    };
    let half = part!("hamming/code_half.wgsl");
    let parts = vec![
        part!("hamming/code_query.wgsl"),
        source.row(),
        columns,
        half,
    ];
    let spec = lanes.spec().with("SLICES", lanes.slices as u32);
    let spec = spec.with("REVERSE", reverse);
    let bytes = 4 * lanes.lanes;
    kernel("hamming/code_query", parts, spec, lanes.lanes, bytes)
}

pub(super) fn divide(lanes: &Lanes) -> Arc<Kernel> {
    let parts = vec![part!("hamming/code_divide.wgsl")];
    kernel("hamming/code_divide", parts, lanes.spec(), lanes.lanes, 0)
}

pub(super) fn insert(source: Source, lanes: &Lanes) -> Arc<Kernel> {
    let half = part!("hamming/code_half.wgsl");
    let parts = vec![part!("hamming/code_insert.wgsl"), source.row(), half];
    let spec = lanes.spec().with("SLICES", lanes.slices as u32);
    kernel("hamming/code_insert", parts, spec, lanes.lanes, 0)
}

pub(super) fn dots(own: Source, source: Source, reverse: bool) -> Arc<Kernel> {
    let half = part!("hamming/code_half.wgsl");
    let parts = vec![
        part!("hamming/code_dots.wgsl"),
        own.own(),
        source.row(),
        half,
    ];
    let spec = Spec::default().with("REVERSE", reverse);
    kernel("hamming/code_dots", parts, spec, 64, 0)
}

pub(super) fn half_slopes() -> Arc<Kernel> {
    let parts = vec![part!("hamming/code_half_slopes.wgsl")];
    kernel("hamming/code_half_slopes", parts, Spec::default(), 64, 0)
}
