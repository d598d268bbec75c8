//! The order of the factors, and the sizes on the way.

use super::{
    group::Group,
    shape::{Kind, Operator, Shape, Side},
};

/// One factor as a contraction of one axis of x: from `p` items to `q`, by entry (t, j) at `t * t_stride + j * j_stride`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Mode {
    pub kind: Kind,
    /// Its place in the operator.
    pub axis: usize,
    /// Its place among the factors that take a tensor.
    pub stored: usize,
    pub p: usize,
    pub q: usize,
    pub t_stride: usize,
    pub j_stride: usize,
    /// From one batch's entries to the next; 0 where they share them.
    pub batch_stride: usize,
}

impl Mode {
    /// Its transpose: back from `q` items to `p`.
    pub fn turned(&self) -> Mode {
        Mode {
            p: self.q,
            q: self.p,
            t_stride: self.j_stride,
            j_stride: self.t_stride,
            ..*self
        }
    }

    /// Multiplications for one item of every other axis.
    pub fn products(&self) -> usize {
        match self.kind {
            Kind::Dense => self.p * self.q,
            _ => self.p,
        }
    }
}

/// The factors as contractions, in the operator's order.
pub(super) fn modes(operator: &Operator, side: Side) -> Vec<Mode> {
    let mut stored = 0;
    let each = operator.factors.iter().enumerate().map(|(axis, factor)| {
        let own = stored;
        stored += usize::from(!factor.is_empty());
        // K x is x multiplied by the transposes from the right.
        let flipped = factor.transposed != (side == Side::Left);
        let [p, q] = if flipped {
            [factor.columns, factor.rows]
        } else {
            [factor.rows, factor.columns]
        };
        let [t_stride, j_stride] = match (factor.kind, flipped) {
            (Kind::Dense, false) => [factor.columns, 1],
            (Kind::Dense, true) => [1, factor.columns],
            _ => [1, 1],
        };
        Mode {
            kind: factor.kind,
            axis,
            stored: own,
            p,
            q,
            t_stride,
            j_stride,
            batch_stride: if factor.per_batch {
                factor.entries()
            } else {
                0
            },
        }
    });
    each.collect()
}

/// The strongest contraction first, by 1/q - 1/p: "i, then j" costs q_i + (q_i / p_i) q_j for each item. Ties keep their order.
/// Fewest products, and no intermediate is larger than x or z.
pub(super) fn order(p_q: &[[usize; 2]]) -> Vec<usize> {
    let gain = |n: &usize| {
        let [p, q] = p_q.get(*n).copied().unwrap_or([1, 1]);
        1.0 / q as f64 - 1.0 / p as f64
    };
    let mut order: Vec<usize> = (0..p_q.len()).collect();
    order.sort_by(|a, b| gain(b).total_cmp(&gain(a)));
    order
}

/// Products for one row when dense factors of these sizes are applied in this order.
pub fn cost(p_q: &[[usize; 2]], order: &[usize]) -> f64 {
    let mut row: f64 = p_q.iter().map(|[p, _]| *p as f64).product();
    let mut products = 0.0;
    for n in order {
        let [p, q] = p_q.get(*n).copied().unwrap_or([1, 1]);
        products += row * q as f64;
        row *= q as f64 / p as f64;
    }
    products
}

/// The axes of x between two contractions: what is outside of the operator's on both ends, and their sizes now.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Axes {
    /// Batches, and rows that come first.
    pub outer: u64,
    /// Rows that come last.
    pub inner: u64,
    pub sizes: Vec<u64>,
}

impl Axes {
    pub fn new(shape: &Shape, modes: &[Mode]) -> Axes {
        let (batch, rows) = (shape.batch as u64, shape.rows as u64);
        let (outer, inner) = match shape.side {
            Side::Right => (batch * rows, 1),
            Side::Left => (batch, rows),
        };
        Axes {
            outer,
            inner,
            sizes: modes.iter().map(|mode| mode.p as u64).collect(),
        }
    }

    /// Items of one outer index before some neighbouring axes, and after them.
    pub fn around(&self, axis: usize, span: usize) -> [u64; 2] {
        let before = self.sizes.iter().take(axis).product();
        let after: u64 = self.sizes.iter().skip(axis + span).product();
        [before, after * self.inner]
    }

    /// The sizes after a pass.
    pub fn apply(&mut self, group: &Group) {
        for mode in &group.members {
            if let Some(own) = self.sizes.get_mut(mode.axis) {
                *own = mode.q as u64;
            }
        }
    }

    /// Items of one outer index.
    pub fn slab(&self) -> u64 {
        self.inner * self.sizes.iter().product::<u64>()
    }
}
