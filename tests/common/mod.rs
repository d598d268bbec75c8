//! What several tests of linear attention share.

use subquad::linear::{Decay, Layout, Shape};

pub const ALL_DECAYS: [Decay; 4] = [Decay::None, Decay::Head, Decay::Token, Decay::Channel];

/// Numbers that are the same in every run.
pub struct Random(pub u64);

impl Random {
    /// In (0, 1).
    pub fn unit(&mut self) -> f64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 40) as f64 + 0.5) / f64::from(1 << 24)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.unit() * n as f64) as usize
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// Away from 0, where maps have kinks; positive or of either sign.
    pub fn values(&mut self, len: usize, positive: bool) -> Vec<f64> {
        let mut value = |_| {
            let size = 0.1 + 0.9 * self.unit();
            let negative = !positive && self.unit() < 0.5;
            if negative { -size } else { size }
        };
        (0..len).map(&mut value).collect()
    }
}

/// The row of a batch, token and head in a tensor with so many heads.
pub fn row(shape: &Shape, heads: usize, [b, t, h]: [usize; 3]) -> usize {
    match shape.layout {
        Layout::Bthd => (b * shape.tokens + t) * heads + h,
        Layout::Bhtd => (b * heads + h) * shape.tokens + t,
    }
}

/// A tensor's rows in another shape: `source` says from which batch, token and head a row of the new q or o (`query`) or of another
/// tensor comes.
pub fn map<T: Copy + Default>(
    x: &[T],
    from: &Shape,
    to: &Shape,
    query: bool,
    width: usize,
    source: impl Fn([usize; 3]) -> [usize; 3],
) -> Vec<T> {
    let heads = |shape: &Shape| if query { shape.heads } else { shape.kv_heads };
    let mut out = vec![T::default(); to.batch * to.tokens * heads(to) * width];
    for b in 0..to.batch {
        for t in 0..to.tokens {
            for h in 0..heads(to) {
                let (into, from) = (
                    row(to, heads(to), [b, t, h]),
                    row(from, heads(from), source([b, t, h])),
                );
                out[into * width..][..width].copy_from_slice(&x[from * width..][..width]);
            }
        }
    }
    out
}
