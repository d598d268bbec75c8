//! Tile sizes: what each kernel is built with on which device.

use super::kernels::Fading;
use crate::{
    choice::{Choice, Entry},
    gpu::{Caps, Class, Matrices, Spec},
};

/// Tokens of a chunk, where they do not fade row by row; 32 where workgroup memory is less than 32 KiB.
pub const CHUNK_TOKENS: Choice = Choice {
    name: "linear/chunk.tokens",
    legal: &[32, 64],
    table: &[],
    otherwise: 64,
};

/// Whether f16 chunks go through matrix units where a device has them.
pub const CHUNK_UNITS: Choice = Choice {
    name: "linear/chunk.units",
    legal: &[0, 1],
    table: &[],
    otherwise: 1,
};

/// The most columns of the state that a workgroup of `chunk` holds.
pub const CHUNK_VALUES: Choice = Choice {
    name: "linear/chunk.values",
    legal: &[16, 32, 64],
    table: &[],
    otherwise: 64,
};

/// Tokens of a block of `recurrent`.
pub const RECURRENT_TOKENS: Choice = Choice {
    name: "linear/recurrent.tokens",
    legal: &[2, 4, 8, 16],
    table: &[Entry {
        class: Class::Cpu,
        value: 8,
        source: "8 heads, 64 x 64, 2,048 tokens on llvmpipe, CPU time with 8 and 16 tokens: 17 and 14 ms without decay, but 19 and 36 \
                 with one per token, 36 and 129 with one per row and the delta rule (Mesa 22.3.6, 2026-11)",
    }],
    otherwise: 4,
};

/// Tile of `chunk` and `delta_prepare`.
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
    /// How the state fades.
    fading: Fading,
    /// Whether the sum of keys is kept.
    normalized: bool,
    /// Matrix units that compute the products.
    pub units: Option<Matrices>,
}

/// Channels that are staged at a time for matrix units.
const UNIT_CHANNELS: u32 = 32;

impl ChunkTile {
    /// The tile for these widths: the widest column tile that keeps the state at 32 registers an invocation, and the longest
    /// chunk whose scores fit the workgroup memory; 16 tokens where rows or columns fade by themselves.
    pub(super) fn choose(
        key: usize,
        value: usize,
        fading: Fading,
        normalized: bool,
        caps: &Caps,
    ) -> ChunkTile {
        let channels = matches!(fading, Fading::Rows | Fading::Columns);
        let chunk = match caps.workgroup_bytes >= 32 << 10 {
            _ if channels => 16,
            true => caps.choose(&CHUNK_TOKENS),
            false => 32,
        };
        let (key, value) = (key as u32, value as u32);
        let wanted = value
            .next_power_of_two()
            .clamp(16, caps.choose(&CHUNK_VALUES));
        let padded = |value_tile: u32| key.next_multiple_of((1024 / value_tile).max(16));
        let fits = |value_tile: &u32| padded(*value_tile) * value_tile <= 8192;
        let value_tile = [64, 32, 16]
            .into_iter()
            .filter(|tile| *tile <= wanted)
            .find(fits)
            .unwrap_or(16);
        let mut tile = ChunkTile {
            chunk,
            value_tile,
            key_pad: padded(value_tile),
            token_slab: 16,
            fading,
            normalized,
            units: None,
        };
        while tile.token_slab > 4 && tile.slab_vecs() > tile.channel_vecs() {
            tile.token_slab /= 2;
        }
        tile
    }

    /// The same by matrix units, for states that fade as a whole, where there is room: with shorter chunks if need be.
    pub(super) fn on_units(self, units: Matrices, key: usize, caps: &Caps) -> Option<ChunkTile> {
        let rows = 1024 / self.value_tile;
        let key_pad = (key as u32).next_multiple_of(rows.max(UNIT_CHANNELS));
        let sizes = [self.chunk, 32].into_iter().map(|chunk| ChunkTile {
            chunk: chunk.min(self.chunk),
            key_pad,
            token_slab: 16,
            units: Some(units),
            ..self
        });
        // An invocation has 4 columns and `chunk_matrices` 256 of them, whole subgroups.
        let whole = !self.normalized && !self.pairs() && 256 % units.lanes == 0;
        let state = key_pad * self.value_tile <= 8192;
        let mut fitting = sizes.filter(|tile| tile.bytes() <= caps.workgroup_bytes);
        fitting.next().filter(|_| whole && state)
    }

    /// Halves that `chunk_matrices` stages: channels of x, a and S, or scores with tokens of b and a.
    fn halves(&self) -> u32 {
        let [chunk, columns, keys] = [self.chunk, self.value_tile, self.key_pad].map(|n| n + 8);
        let read = 2 * self.chunk * (UNIT_CHANNELS + 8) + 2 * UNIT_CHANNELS * columns;
        let combined = 2 * self.chunk * chunk + self.token_slab * (columns + 2 * keys);
        read.max(combined)
    }

    /// Sums that it takes back at a time: all scores, or all outputs.
    fn wide(&self) -> u32 {
        self.chunk * self.chunk.max(self.value_tile)
    }

    /// Vectors of the arena of `chunk` for 16 channels of x, of a and of S.
    fn channel_vecs(&self) -> u32 {
        self.pair_vecs() + 4 * self.value_tile
    }

    /// Those of x and a alone, in the forms that the scores want them.
    fn pair_vecs(&self) -> u32 {
        match self.fading {
            Fading::Rows | Fading::Columns => 25 * self.chunk,
            _ => 8 * self.chunk,
        }
    }

    /// Vectors of the arena of `chunk` for a slab of tokens.
    fn slab_vecs(&self) -> u32 {
        let fading = u32::from(self.fading == Fading::Columns);
        self.token_slab * (self.key_pad + (1 + fading) * self.value_tile) / 4
    }

    /// Numbers of a chunk's decay.
    fn gates(&self) -> u32 {
        match self.fading {
            Fading::Token => 3 * self.chunk + self.chunk / 4,
            _ => 1,
        }
    }

    fn z_vecs(&self) -> u32 {
        if self.normalized { self.key_pad / 4 } else { 1 }
    }

    fn row_vecs(&self) -> u32 {
        if self.fading == Fading::Rows {
            self.key_pad / 4
        } else {
            1
        }
    }

    fn arena(&self) -> u32 {
        self.channel_vecs().max(self.slab_vecs())
    }

    fn gates_bytes(&self) -> u32 {
        (4 * self.gates()).next_multiple_of(16)
    }

    /// Workgroup memory of `chunk`.
    pub(super) fn bytes(&self) -> u32 {
        let own = match self.units {
            None => 16 * self.arena() + 4 * self.chunk * self.chunk,
            Some(_) => 2 * self.halves() + 4 * self.wide() + 4 * (256 + 16),
        };
        own + 16 * (self.z_vecs() + self.row_vecs()) + self.gates_bytes()
    }

    /// Workgroup memory of `delta_prepare`.
    pub(super) fn prepare_bytes(&self) -> u32 {
        16 * self.pair_vecs() + 4 * self.chunk * self.chunk + self.gates_bytes()
    }

    /// Whether chunks of 16 tokens are scored a pair an invocation.
    pub(super) fn pairs(&self) -> bool {
        self.chunk == 16
    }

    /// Loop iterations of an invocation of `chunk` per chunk, were nothing unrolled, with so many readers.
    pub(super) fn iterations(&self, group: u32, delta: bool) -> u32 {
        let columns = self.value_tile / 4;
        let rows = 256 / columns;
        let (s_rows, o_rows) = (self.key_pad / rows, self.chunk.div_ceil(rows));
        let a_rows = (self.chunk * self.chunk / 1024).max(1);
        let quads = self.chunk / 4;
        let per_slab = 3 + self.chunk / 64 + self.chunk + s_rows + 4 * (6 + a_rows + o_rows);
        let read = self.key_pad / 16 * per_slab + a_rows * (5 + 4 * quads) + o_rows * (3 + quads);
        let staged = self.token_slab * self.key_pad / 1024 + 2;
        let token_slab =
            4 + staged * (1 + quads.max(16)) + o_rows + self.token_slab * (2 + o_rows + 2 * s_rows);
        let combined = self.chunk / self.token_slab * token_slab;
        let misses = if delta {
            read + combined + self.chunk * self.chunk / 256
        } else {
            0
        };
        let products = self
            .units
            .map_or(0, |units| self.unit_iterations(units, group));
        let others = 8 * s_rows + 3 * self.chunk + quads;
        products + misses + group * (read + combined + 6 * o_rows) + others
    }

    /// Those of the products by matrix units, with plain arithmetic in their place.
    fn unit_iterations(&self, units: Matrices, group: u32) -> u32 {
        let square = units.side * units.side;
        let own = |squares: u32| squares.div_ceil(256 / units.lanes) * square / units.lanes;
        let [scores, outputs, states] = [self.chunk, self.value_tile, self.key_pad];
        let [scores, outputs, states] = [
            own(self.chunk * scores / square),
            own(self.chunk * outputs / square),
            own(states * self.value_tile / square),
        ];
        let each = units.side + 1;
        let read = self.key_pad / units.side * each * (scores + 2 * outputs);
        let combined = self.chunk / units.side * each * 2 * (outputs + states);
        // Staged a number at a time.
        let staged = (2 * self.chunk + self.value_tile) * self.key_pad / 64;
        group * (read + combined + 4 * (scores + outputs + staged)) + 4 * states
    }

    pub(super) fn spec(&self) -> Spec {
        let spec = match self.units {
            None => Spec::default().with("ARENA", self.arena()),
            Some(units) => (units.spec(256 / units.lanes))
                .with("HALVES", self.halves())
                .with("WIDE", self.wide()),
        };
        spec.with("CHUNK", self.chunk)
            .with("VALUE_TILE", self.value_tile)
            .with("KEY_PAD", self.key_pad)
            .with("TOKEN_SLAB", self.token_slab)
            .with("GATES", self.gates())
            .with("Z_VECS", self.z_vecs())
            .with("ROW_VECS", self.row_vecs())
    }

    pub(super) fn prepare_spec(&self) -> Spec {
        Spec::default()
            .with("CHUNK", self.chunk)
            .with("VALUE_TILE", self.value_tile)
            .with("KEY_PAD", self.key_pad)
            .with("ARENA", self.pair_vecs())
            .with("GATES", self.gates())
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
    /// The tile for so many tokens, widths and readers a token. A software adapter gets one subgroup: shorter blocks pass over the
    /// state more often, longer ones leave some of their loops rolled up and compile for seconds. A GPU gets more lanes on the
    /// same rows, and blocks that fit its workgroup memory; the delta rule, which needs all rows before it adds, one set of lanes.
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
        let tokens = block(caps.choose(&RECURRENT_TOKENS));
        match (caps.class, caps.subgroup) {
            (Class::Cpu, Some((smallest, largest))) if smallest == largest && largest <= 32 => {
                RecurrentTile {
                    tokens,
                    lanes: largest,
                    row_groups: 1,
                    subgroup: true,
                }
            }
            (Class::Cpu, _) => RecurrentTile {
                tokens,
                lanes: columns.min(8),
                row_groups: 1,
                subgroup: false,
            },
            _ => {
                let lanes = columns.min(32);
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
    pub(super) fn iterations(&self, key: usize, group: u32, delta: bool, by_rows: bool) -> u32 {
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
        // With a decay per row its factors go round as well.
        let factors = if by_rows { 2 * scored + tokens } else { 0 };
        let deltas = if delta { scored + tokens } else { 0 };
        let per_row = 1
            + passes * (3 * held + tokens + 4 + factors)
            + deltas
            + group * (1 + 2 * held + scored + tokens);
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

/// Tile of `sweep_back` and `sweep_on`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SweepTile {
    /// Tokens of a block that a lane stands for.
    held: u32,
    /// Invocations: a subgroup.
    lanes: u32,
    /// Vectors of four columns that a lane has.
    columns: u32,
}

impl SweepTile {
    /// The tile for states with so many columns, where a software adapter's subgroup can have them all: blocks of 8 tokens, 64
    /// columns and those of a normaliser.
    /// Longer blocks and more columns compile for too long (first call of the gradients of 64 columns, CPU time: 2.6 s without the
    /// delta rule and 5 s with it, twice as much with blocks of 16 tokens or 128 columns; Mesa 22.3.6, 2026-11).
    pub(super) fn choose(value: usize, caps: &Caps) -> Option<SweepTile> {
        match (caps.class, caps.subgroup) {
            (Class::Cpu, Some((4, 4) | (8, 8))) if (1..=68).contains(&value) => {
                let (lanes, _) = caps.subgroup?;
                Some(SweepTile {
                    held: 8 / lanes,
                    lanes,
                    columns: (value as u32).div_ceil(4 * lanes),
                })
            }
            _ => None,
        }
    }

    /// Columns of the state that a workgroup takes.
    pub(super) fn value_tile(&self) -> u32 {
        4 * self.lanes * self.columns
    }

    pub(super) fn lanes(&self) -> u32 {
        self.lanes
    }

    /// Tokens per block.
    pub(super) fn tokens(&self) -> u32 {
        self.held * self.lanes
    }

    /// Loop iterations of an invocation per block of tokens, were nothing unrolled: those of `sweep_back`, which has more.
    pub(super) fn iterations(&self, key: usize, delta: bool) -> u32 {
        let (tokens, held, columns) = (self.tokens(), self.held, self.columns);
        let (bits, passes) = (self.lanes.ilog2(), if delta { 2 } else { 1 });
        // Over the columns of all tokens, over pairs of tokens, over four rows of the state; sums exchanged between lanes.
        let through = held + tokens * (1 + columns);
        let pairs = held + tokens * (1 + held);
        let cells = 4 * (1 + columns);
        let exchanged = held * bits * (1 + self.lanes / 2);
        let gates = 2 * held + bits + held * (1 + bits + held);
        let finish = 2 * through + exchanged + 6 * held + pairs + 4 * cells + 2 * bits;
        let row =
            1 + passes * (1 + gates + cells + pairs) + through + finish + (passes - 1) * through;
        let products =
            6 * held + tokens * (1 + held) + tokens * (held * through + exchanged) + pairs;
        let solved = held + tokens * (1 + 2 * columns + held + tokens * (1 + passes * columns));
        // A state that starts from zero is cleared once.
        let quads = (key as u32).div_ceil(4);
        2 + quads * (row + 3)
            + passes * products
            + solved
            + 5 * pairs
            + 3 * through
            + exchanged
            + 6 * held
    }

    pub(super) fn spec(&self) -> Spec {
        Spec::default()
            .with("HELD", self.held)
            .with("LANES", self.lanes)
            .with("LANE_BITS", self.lanes.ilog2())
            .with("COLUMNS", self.columns)
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
