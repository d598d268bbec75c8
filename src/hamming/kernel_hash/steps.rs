//! The steps of kernel hashing, for some heads at a time.

use std::{ops::Range, sync::Arc};

use bytemuck::bytes_of;

use super::{
    Sigma,
    kernels::{self, Params, SumsParams},
    plan::{BLOCK, LANES, Planner, Scratch},
};
use crate::{
    gpu::{Dtype, Kernel},
    hamming::bits::words,
    plan::{Bind, Builder, Slot, Step},
    rows::{Rows, dispatches},
};

/// Some heads, and the temporaries they use.
pub(super) struct Batch<'a> {
    pub planner: &'a Planner<'a>,
    pub scratch: &'a Scratch,
    pub heads: Range<u64>,
}

/// Offsets of the tensors that a kernel indexes from head 0.
#[derive(Clone, Copy, Default)]
struct Offsets {
    x: u32,
    words: u32,
    projection: u32,
    out: u32,
}

impl Batch<'_> {
    fn count(&self) -> u64 {
        self.heads.end - self.heads.start
    }

    /// The rows of a tensor that these heads occupy, and the offset of indices counted from its start.
    fn tensor(&self, slot: Slot, width: usize, dtype: Dtype, write: bool) -> (Bind, u32) {
        let rows = Rows {
            slot,
            dtype,
            stride: self.planner.shape.tokens * width,
        };
        rows.bind(&self.heads, write)
    }

    /// A temporary of so many numbers a head.
    fn held(&self, slot: Slot, count: u64, write: bool) -> Bind {
        let bytes = 0..4 * self.count() * count;
        Bind { slot, bytes, write }
    }

    fn distances_bind(&self, slot: Slot, write: bool) -> Bind {
        self.held(slot, self.planner.distances_len(), write)
    }

    fn x(&self) -> (Bind, u32) {
        let shape = self.planner.shape;
        self.tensor(Slot::Input(0), shape.channels, shape.dtype, false)
    }

    /// Anchors, mean and weight: whole.
    fn sets(&self) -> [Bind; 3] {
        let shape = self.planner.shape;
        let lengths = [shape.anchors_len(), shape.mean_len(), shape.weight_len()];
        [1, 2, 3].map(|n: u16| {
            let len = lengths.get(usize::from(n) - 1).copied().unwrap_or(0);
            Bind {
                slot: Slot::Input(n),
                bytes: 0..4 * len as u64,
                write: false,
            }
        })
    }

    /// The last of the sums, one number a head.
    fn last(&self, levels: &[Slot]) -> Option<Bind> {
        levels.last().map(|slot| self.held(*slot, 1, false))
    }

    /// Adds a kernel's dispatches over so many items of these heads, each of which takes so many operations.
    fn push(
        &self,
        builder: &mut Builder,
        kernel: Arc<Kernel>,
        bind: Vec<Bind>,
        [items, flops]: [u64; 2],
        offsets: Offsets,
    ) {
        let Planner {
            shape, sigma, caps, ..
        } = *self.planner;
        let items = self.count() * items;
        let group_ms = (LANES * flops) as f64 / (caps.gflops * 1e6);
        for groups in dispatches(0..items.div_ceil(LANES), group_ms, caps) {
            let count = groups.end - groups.start;
            let params = Params {
                tokens: shape.tokens as u32,
                heads: shape.heads as u32,
                channels: shape.channels as u32,
                anchors: shape.anchors as u32,
                bits: shape.bits as u32,
                words: words(shape.bits) as u32,
                first_head: self.heads.start as u32,
                items: items as u32,
                first: groups.start as u32,
                groups: count as u32,
                x_offset: offsets.x,
                words_offset: offsets.words,
                projection_offset: offsets.projection,
                out_offset: offsets.out,
                sigma: match sigma {
                    Sigma::Frozen(sigma) => sigma,
                    Sigma::SequenceMean => 0.0,
                },
                share: 1.0 / self.planner.distances_len() as f32,
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

    /// Sums of a head's numbers, or of the products of two, level by level.
    fn sums(&self, builder: &mut Builder, summed: &[Bind], levels: &[Slot]) {
        let caps = self.planner.caps;
        let sets = self.count();
        let mut count = self.planner.distances_len();
        let mut summed = summed.to_vec();
        for slot in levels {
            let blocks = count.div_ceil(BLOCK);
            let kernel = kernels::sums(summed.len() > 1);
            let bind = summed.iter().cloned();
            let bind: Vec<Bind> = bind.chain([self.held(*slot, blocks, true)]).collect();
            let group_ms = (16 * LANES * BLOCK) as f64 / (caps.gflops * 1e6);
            for groups in dispatches(0..(sets * blocks).div_ceil(LANES), group_ms, caps) {
                let params = SumsParams {
                    sets: sets as u32,
                    count: count as u32,
                    blocks: blocks as u32,
                    first: groups.start as u32,
                    groups: (groups.end - groups.start) as u32,
                };
                builder.steps.push(Step {
                    kernel: kernel.clone(),
                    bind: bind.clone(),
                    params: bytes_of(&params).to_vec(),
                    groups: groups.end - groups.start,
                    predicted_ms: group_ms * (groups.end - groups.start) as f64,
                });
            }
            count = blocks;
            summed = vec![self.held(*slot, blocks, false)];
        }
    }

    /// Squared distances, and their sums where σ is their mean.
    pub fn distances(&self, builder: &mut Builder) {
        let shape = self.planner.shape;
        let (x, offset) = self.x();
        let [anchors, ..] = self.sets();
        let into = self.distances_bind(self.scratch.distances, true);
        let tiles = self.planner.tokens().div_ceil(4) * (shape.anchors as u64).div_ceil(4);
        self.push(
            builder,
            kernels::distances(self.planner.access()),
            vec![x, anchors, into],
            [tiles, 64 * shape.channels as u64],
            Offsets {
                x: offset,
                ..Offsets::default()
            },
        );
        let summed = [self.distances_bind(self.scratch.distances, false)];
        self.sums(builder, &summed, &self.scratch.squares);
    }

    /// Codes and projection.
    pub fn hash(&self, builder: &mut Builder, codes: Option<Slot>, projection: Option<Slot>) {
        let shape = self.planner.shape;
        let [_, mean, weight] = self.sets();
        let mut bind = vec![
            self.distances_bind(self.scratch.distances, false),
            mean,
            weight,
        ];
        bind.extend(self.last(&self.scratch.squares));
        let mut offsets = Offsets::default();
        if let Some(slot) = codes {
            let (codes, offset) = self.tensor(slot, words(shape.bits), Dtype::U32, true);
            bind.push(codes);
            offsets.words = offset;
        }
        if let Some(slot) = projection {
            let (projection, offset) = match slot {
                Slot::Scratch(_) => {
                    let size = shape.tokens as u64 * shape.bits as u64;
                    let first = (self.heads.start * size) as u32;
                    (self.held(slot, size, true), 0u32.wrapping_sub(first))
                }
                _ => self.tensor(slot, shape.bits, Dtype::F32, true),
            };
            bind.push(projection);
            offsets.projection = offset;
        }
        let vectors = shape.bits.min(32).div_ceil(4);
        self.push(
            builder,
            kernels::hash(
                vectors as u32,
                self.planner.sigma,
                [codes.is_some(), projection.is_some()],
            ),
            bind,
            [
                self.planner.tokens() * words(shape.bits) as u64,
                (shape.anchors * (16 + 12 * vectors)) as u64,
            ],
            offsets,
        );
    }

    /// Gradients of the distances through the kernel, and the sums of their products where σ is a mean.
    pub fn pull(&self, builder: &mut Builder) {
        let shape = self.planner.shape;
        let [.., weight] = self.sets();
        let (grad, out) = self.tensor(Slot::Input(4), shape.bits, Dtype::F32, false);
        let signs = shape.tokens as u64 * shape.bits as u64;
        let mut bind = vec![
            grad,
            self.held(self.scratch.projection, signs, false),
            self.distances_bind(self.scratch.distances, false),
            self.distances_bind(self.scratch.pulls, true),
            weight,
        ];
        bind.extend(self.last(&self.scratch.squares));
        self.push(
            builder,
            kernels::pull(self.planner.sigma),
            bind,
            [self.planner.distances_len(), 16 * shape.bits as u64],
            Offsets {
                out,
                ..Offsets::default()
            },
        );
        let summed = [self.scratch.pulls, self.scratch.distances];
        let summed = summed.map(|slot| self.distances_bind(slot, false));
        self.sums(builder, &summed, &self.scratch.products);
    }

    /// Gradients of the inputs from those of the distances.
    pub fn input(&self, builder: &mut Builder) {
        let shape = self.planner.shape;
        let (x, x_offset) = self.x();
        let [anchors, ..] = self.sets();
        let (grad, out) = self.tensor(Slot::Output(0), shape.channels, Dtype::F32, true);
        let pulls = self.distances_bind(self.scratch.pulls, false);
        let mut bind = vec![x, anchors, pulls, grad];
        bind.extend(self.last(&self.scratch.products));
        bind.extend(self.last(&self.scratch.squares));
        self.push(
            builder,
            kernels::input(self.planner.sigma, self.planner.access()),
            bind,
            [
                self.planner.tokens(),
                4 * (shape.channels * (shape.anchors + 8)) as u64,
            ],
            Offsets {
                x: x_offset,
                out,
                ..Offsets::default()
            },
        );
    }
}
