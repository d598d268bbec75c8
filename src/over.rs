//! Kernels with an invocation for each of so many elements of a row, over rows of several tensors at once.

use std::{ops::Range, sync::Arc};

use crate::{
    Error, Result,
    gpu::{Caps, Kernel, Needs, Part, Spec, part},
    plan::{Bind, Builder, Slot, Step},
    rows::{Rows, cut, dispatches},
};

/// How a kernel holds a tensor; in the order of its bindings.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Held {
    /// The rows at hand, to read.
    Rows(Rows),
    /// The rows at hand, to write.
    Written(Rows),
    /// So many words of the tensor, for every row to read.
    Whole(Slot, u64),
}

impl Held {
    fn rows(&self) -> Option<&Rows> {
        match self {
            Held::Rows(rows) | Held::Written(rows) => Some(rows),
            Held::Whole(..) => None,
        }
    }

    /// The binding, and where row 0 would be from its start, in elements modulo 2^32.
    fn bind(&self, rows: &Range<u64>) -> (Bind, u32) {
        match self {
            Held::Rows(held) => held.bind(rows, false),
            Held::Written(held) => held.bind(rows, true),
            Held::Whole(slot, words) => {
                let bind = Bind {
                    slot: *slot,
                    bytes: 0..4 * words,
                    write: false,
                };
                (bind, 0)
            }
        }
    }
}

/// Such a kernel, with 64 invocations to a workgroup.
pub(crate) struct OverRows {
    pub kernel: Arc<Kernel>,
    pub held: Vec<Held>,
    pub rows: u64,
    pub per_row: u64,
    /// Operations a row, as planners count them.
    pub row_flops: f64,
}

/// Where a dispatch lies.
pub(crate) struct Placed {
    /// By tensor, as held: where its row 0 would be, in elements from the start of the binding and modulo 2^32.
    pub offsets: Vec<u32>,
    pub first_row: u32,
    /// The invocations from those of `first_row` on that are this dispatch's.
    pub first: u32,
    pub end: u32,
}

impl Placed {
    /// The offset of a tensor.
    pub fn offset(&self, tensor: usize) -> u32 {
        self.offsets.get(tensor).copied().unwrap_or(0)
    }
}

/// A kernel of an invocation an element.
pub(crate) fn kernel(
    name: &'static str,
    parts: impl IntoIterator<Item = Part>,
    spec: Spec,
    params: &'static [crate::gpu::Field],
) -> Arc<Kernel> {
    let parts = parts.into_iter().chain([part!("common/grid.wgsl")]);
    Arc::new(Kernel {
        name,
        parts: parts.collect(),
        spec,
        needs: Needs::default(),
        params,
        workgroup: [64, 1, 1],
        workgroup_bytes: 0,
    })
}

impl OverRows {
    /// Adds the steps: cut between rows until bindings hold them, and in time.
    pub fn steps(
        &self,
        builder: &mut Builder,
        caps: &Caps,
        params: impl Fn(&Placed) -> Vec<u8>,
    ) -> Result<()> {
        let spans = |rows: &Range<u64>| {
            let spans = self.held.iter().filter_map(Held::rows);
            spans
                .map(|held| {
                    let span = held.span(rows);
                    span.end - span.start
                })
                .max()
                .unwrap_or(0)
        };
        let whole = self.held.iter().map(|held| match held {
            Held::Whole(_, words) => 4 * words,
            Held::Rows(_) | Held::Written(_) => 0,
        });
        let widest = self.held.iter().filter_map(Held::rows);
        let widest = widest.map(Rows::row_bytes).max().unwrap_or(0);
        let needed = whole.max().unwrap_or(0).max(widest);
        if needed > caps.binding_bytes {
            return Err(Error::Limit {
                what: format!("bytes in one binding ({})", self.kernel.name),
                needed,
                available: caps.binding_bytes,
                remedy: "use a smaller problem or a device with larger bindings",
            });
        }
        let invocations = |rows: &Range<u64>| (rows.end - rows.start) * self.per_row;
        let fits =
            |rows: &Range<u64>| spans(rows) <= caps.binding_bytes && invocations(rows) <= 1 << 31;
        let row_ms = self.row_flops / (caps.gflops * 1e6);
        let group_ms = 64.0 * row_ms / self.per_row.max(1) as f64;
        for rows in cut(0..self.rows, 1, row_ms, &fits)? {
            let (bind, offsets): (Vec<_>, Vec<_>) =
                self.held.iter().map(|held| held.bind(&rows)).unzip();
            let all = invocations(&rows);
            for groups in dispatches(0..all.div_ceil(64), group_ms, caps) {
                let placed = Placed {
                    offsets: offsets.clone(),
                    first_row: rows.start as u32,
                    first: (64 * groups.start) as u32,
                    end: (64 * groups.end).min(all) as u32,
                };
                builder.steps.push(Step {
                    kernel: self.kernel.clone(),
                    bind: bind.clone(),
                    params: params(&placed),
                    groups: groups.end - groups.start,
                    predicted_ms: group_ms * (groups.end - groups.start) as f64,
                });
            }
        }
        Ok(())
    }
}
