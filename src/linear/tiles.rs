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

    /// Loop iterations of an invocation of `chunk` per chunk, were nothing unrolled.
    pub(super) fn iterations(&self) -> u32 {
        let columns = self.value_tile / 4;
        let rows = 256 / columns;
        let (s_rows, o_rows, a_rows) = (
            self.key_pad / rows,
            self.chunk / rows,
            self.chunk * self.chunk / 1024,
        );
        let channel_slab = 2 + self.chunk / 64 + s_rows + 4 * (1 + a_rows + o_rows);
        let staging = 2 + self.token_slab * (self.key_pad / 4 + columns) / 256;
        let token_slab = 1 + staging + self.token_slab * (2 + o_rows + s_rows);
        self.key_pad / 16 * channel_slab
            + self.chunk / self.token_slab * token_slab
            + 6 * a_rows
            + 8 * o_rows
            + s_rows
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
    /// The tile for so many tokens, widths and readers a token. A software adapter gets one subgroup and blocks of 8 tokens:
    /// shorter ones pass over the state more often, longer ones leave their loops rolled up (8 heads, 64 x 64, 2,048 tokens on
    /// llvmpipe: 27 ms with 8, 91 with 16; Mesa 22.3.6, 2 cores, 2026-11). A GPU gets more lanes on the same rows, and blocks
    /// that fit its workgroup memory; the delta rule, which needs all rows before it adds, one set of lanes.
    pub(super) fn choose(
        tokens: usize,
        key: usize,
        value: usize,
        group: u32,
        delta: bool,
        caps: &Caps,
    ) -> RecurrentTile {
        let columns = (value as u32).div_ceil(4).next_power_of_two();
        let block = |most: u32| block(tokens, (most / group.next_power_of_two()).max(1));
        match (caps.class, caps.subgroup) {
            (Class::Cpu, Some((smallest, largest))) if smallest == largest && largest <= 32 => {
                RecurrentTile {
                    tokens: block(8),
                    lanes: largest,
                    row_groups: 1,
                    subgroup: true,
                }
            }
            (Class::Cpu, _) => RecurrentTile {
                tokens: block(8),
                lanes: columns.min(8),
                row_groups: 1,
                subgroup: false,
            },
            _ => {
                let lanes = columns.min(32);
                let tokens = block(4);
                let rows = (key as u32).div_ceil(4);
                // Outputs of each set of lanes, and the normaliser's sum of keys beside them.
                let room =
                    (16u32 << 10).saturating_sub(16 * rows + 256) / (20 * group * tokens * lanes);
                let shared = rows
                    .next_power_of_two()
                    .min(256 / lanes)
                    .min(16)
                    .min(room.max(1));
                RecurrentTile {
                    tokens,
                    lanes,
                    row_groups: if delta { 1 } else { 1 << shared.ilog2() },
                    subgroup: false,
                }
            }
        }
    }

    /// Workgroup memory, but for the normaliser's sum of keys, with so many readers a token.
    pub(super) fn bytes(&self, group: u32) -> u32 {
        let readers = group * self.tokens * self.row_groups;
        let shared = if self.row_groups > 1 { readers } else { 0 };
        16 * (shared * self.lanes + 1) + (4 * (shared + 1)).next_multiple_of(16)
    }

    /// Loop iterations of an invocation per block of tokens, were nothing unrolled.
    pub(super) fn iterations(&self, key: usize, group: u32, delta: bool) -> u32 {
        let tokens = self.tokens;
        let held = if self.subgroup {
            tokens.div_ceil(self.lanes)
        } else {
            tokens
        };
        let readers = group * tokens;
        let rows = (key as u32).div_ceil(4).div_ceil(self.row_groups);
        let scored = tokens * (1 + held);
        let passes = if delta { 2 } else { 1 };
        let per_row = 1
            + passes * (2 * held + 3 * scored + 2 * tokens + 16)
            + group * (1 + 2 * held + 2 * scored + tokens);
        let per_block = 4
            + 4 * held
            + 6 * tokens
            + 3 * scored
            + readers * (4 + held + tokens)
            + tokens * (2 + held + tokens)
            + readers * (6 + self.row_groups);
        // The sum of keys is shared by all invocations.
        let sums = (key as u32)
            .div_ceil(4)
            .div_ceil(self.lanes * self.row_groups)
            * (1 + tokens);
        rows * per_row + per_block + sums
    }

    pub(super) fn spec(&self) -> Spec {
        Spec::default()
            .with("TOKENS", self.tokens)
            .with("LANES", self.lanes)
            .with("ROW_GROUPS", self.row_groups)
    }
}

/// Tokens per block: a block for a single token is not worth more registers than that.
fn block(tokens: usize, most: u32) -> u32 {
    match tokens {
        0..=1 => 1,
        2..=4 => most.min(4),
        _ => most,
    }
}
