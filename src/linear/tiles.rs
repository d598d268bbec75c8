//! Tile sizes: what each kernel is built with on which device.

use super::Shape;
use crate::gpu::{Caps, Class, Spec};

/// Tile of `chunk` and `local_state`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkTile {
    /// Tokens per chunk.
    pub chunk: u32,
    /// Columns of the state per workgroup.
    pub value_tile: u32,
    /// Key width, rounded up to what the invocations share evenly.
    pub key_pad: u32,
    /// Tokens staged at a time.
    pub token_slab: u32,
}

impl ChunkTile {
    /// The tile for a shape: the widest column tile that keeps the state at 32 registers an invocation, and the longest
    /// chunk whose scores fit the workgroup memory.
    pub fn choose(shape: &Shape, caps: &Caps) -> ChunkTile {
        let chunk = if caps.workgroup_bytes >= 32 << 10 {
            64
        } else {
            32
        };
        let (key, value) = (shape.key as u32, shape.value as u32);
        // A row of outputs needs a row of invocations: TY = 1024 / value_tile may not exceed the chunk.
        let narrowest = 1024 / chunk;
        let wanted = value.next_power_of_two().clamp(16, 64).max(narrowest);
        let padded = |value_tile: u32| key.next_multiple_of((1024 / value_tile).max(16));
        let fits = |value_tile: &u32| padded(*value_tile) * value_tile <= 8192;
        let value_tile = [64, 32, 16]
            .into_iter()
            .filter(|tile| (narrowest..=wanted).contains(tile))
            .find(fits)
            .unwrap_or(narrowest);
        let mut tile = ChunkTile {
            chunk,
            value_tile,
            key_pad: padded(value_tile),
            token_slab: 16,
        };
        while tile.token_slab > 4 && tile.slab_bytes() > tile.channel_bytes() {
            tile.token_slab /= 2;
        }
        tile
    }

    /// Workgroup memory of slabs of 16 channels of q, k and S.
    fn channel_bytes(&self) -> u32 {
        16 * (8 * self.chunk + 4 * self.value_tile)
    }

    /// Workgroup memory of slabs of tokens of k and v.
    pub(super) fn slab_bytes(&self) -> u32 {
        4 * self.token_slab * (self.key_pad + self.value_tile)
    }

    /// Workgroup memory of `chunk`.
    pub(super) fn chunk_bytes(&self) -> u32 {
        self.channel_bytes().max(self.slab_bytes()) + 4 * self.chunk * self.chunk
    }

    pub(super) fn spec(&self) -> Spec {
        Spec::default()
            .with("CHUNK", self.chunk)
            .with("VALUE_TILE", self.value_tile)
            .with("KEY_PAD", self.key_pad)
            .with("TOKEN_SLAB", self.token_slab)
    }
}

/// Tile of `recurrent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecurrentTile {
    /// Tokens per block.
    pub tokens: u32,
    /// Invocations across the columns, four columns each.
    pub lanes: u32,
    /// Sets of lanes that share the rows of the state.
    pub row_groups: u32,
    /// Whether rows are passed round by subgroup shuffles.
    pub subgroup: bool,
}

impl RecurrentTile {
    /// The tile for a shape. A software adapter gets one subgroup and long blocks: there each block's pass over the state is
    /// what costs (16 tokens ran the 8-head, 64 x 64, 2,048-token case in 11 ms on llvmpipe, 8 tokens in 14, 32 in 12; Mesa
    /// 22.3.6, 2 cores, 2026-11). A GPU gets more lanes on the same rows, and short blocks that fit its workgroup memory.
    pub fn choose(shape: &Shape, caps: &Caps) -> RecurrentTile {
        let columns = (shape.value as u32).div_ceil(4).next_power_of_two();
        match (caps.class, caps.subgroup) {
            (Class::Cpu, Some((smallest, largest))) if smallest == largest && largest <= 32 => {
                RecurrentTile {
                    tokens: block(shape, 16),
                    lanes: largest,
                    row_groups: 1,
                    subgroup: true,
                }
            }
            (Class::Cpu, _) => RecurrentTile {
                tokens: block(shape, 16),
                lanes: columns.min(8),
                row_groups: 1,
                subgroup: false,
            },
            _ => {
                let lanes = columns.min(32);
                let row_groups = (shape.key as u32)
                    .div_ceil(4)
                    .next_power_of_two()
                    .min(256 / lanes)
                    .min(16);
                RecurrentTile {
                    tokens: block(shape, 4),
                    lanes,
                    row_groups,
                    subgroup: false,
                }
            }
        }
    }

    /// Workgroup memory.
    pub(super) fn bytes(&self) -> u32 {
        16 * self.tokens * self.lanes * self.row_groups
    }

    pub(super) fn spec(&self) -> Spec {
        Spec::default()
            .with("TOKENS", self.tokens)
            .with("LANES", self.lanes)
            .with("ROW_GROUPS", self.row_groups)
    }
}

/// Tokens per block: a block for a single token is not worth more registers than that.
fn block(shape: &Shape, most: u32) -> u32 {
    match shape.tokens {
        0..=1 => 1,
        2..=4 => most.min(4),
        _ => most,
    }
}
