//! Tiles: how many rows, how they are read, what suits a device.

use crate::gpu::{Caps, Class, Needs, Part, Spec, part};

/// How a tile's codes and values are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Through workgroup memory, square tiles.
    Staged,
    /// From where they lie, square tiles.
    Direct,
    /// By subgroups of so many lanes that pass keys and values round, each lane with rows of its own.
    Lanes(u32),
}

/// Rows of a tile, and its form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tile {
    pub rows: u32,
    pub form: Form,
}

impl Tile {
    /// What suits a device, for units of so many rows: barriers are dear on software adapters.
    pub fn choose(caps: &Caps, rows: usize) -> Tile {
        let large = caps.workgroup_bytes >= 32 << 10 && caps.invocations >= 256;
        match (caps.class, caps.subgroup) {
            (Class::Cpu, Some((least, most))) if least == most && most <= 32 && most % 4 == 0 => {
                let sets = rows.div_ceil(most as usize).clamp(1, 4) as u32;
                Tile {
                    rows: most * if sets == 1 { 1 } else { 4 },
                    form: Form::Lanes(most),
                }
            }
            (Class::Cpu, _) => Tile {
                rows: 32,
                form: Form::Direct,
            },
            _ => Tile {
                rows: if large { 64 } else { 32 },
                form: Form::Staged,
            },
        }
    }

    pub fn lanes(self) -> u32 {
        match self.form {
            Form::Lanes(lanes) => lanes,
            _ => self.rows * self.rows / 16,
        }
    }

    /// Columns of values of a group.
    pub fn value_tile(self, value: usize) -> u32 {
        match self.form {
            Form::Lanes(_) => value as u32,
            _ => (value as u32)
                .next_power_of_two()
                .clamp(self.rows, 2 * self.rows),
        }
    }

    /// Rows that an invocation of a square tile sums.
    fn out_rows(self, columns: u32) -> u32 {
        self.rows / (self.lanes() / (columns / 4))
    }

    pub fn part(self) -> Part {
        match self.form {
            Form::Staged => part!("hamming/tile_staged.wgsl"),
            Form::Direct => part!("hamming/tile_direct.wgsl"),
            Form::Lanes(_) => part!("hamming/attention_lanes_pairs.wgsl"),
        }
    }

    /// The constants of a tile.
    pub fn spec(self) -> Spec {
        let spec = Spec::default()
            .with("TILE", self.rows)
            .with("LANES", self.lanes());
        match self.form {
            // Whole blocks of keys to a tile. 8 lanes: with 32 keys the compiler gives up on unrolling (llvmpipe, Mesa 22.3.6).
            Form::Lanes(lanes) => spec
                .with("ROWS", self.rows / lanes)
                .with("KEYS", self.rows.min(2 * lanes)),
            _ => spec,
        }
    }

    /// A kernel's needs, with those of this form.
    pub fn needs(self, needs: Needs) -> Needs {
        Needs {
            subgroup: matches!(self.form, Form::Lanes(_)),
            ..needs
        }
    }

    /// Workgroup memory of the codes.
    pub fn codes_bytes(self) -> u32 {
        // Slices of 8 words, of rows and of columns.
        match self.form {
            Form::Staged => 2 * 4 * self.rows * 8,
            _ => 0,
        }
    }

    /// Turns of loops that a tile of codes takes: by lanes, so many keys as the tile has rows.
    fn codes_turns(self, words: u64) -> u64 {
        match self.form {
            Form::Staged => 4 + words.div_ceil(8) * 16,
            Form::Direct => words,
            Form::Lanes(lanes) => {
                let [rows, quads] = [self.rows / lanes, lanes / 4].map(u64::from);
                self.blocks() * (8 * rows + words * (3 + rows + 2 * quads * (1 + rows)))
            }
        }
    }

    /// Blocks of keys, by lanes, in as many keys as the tile has rows.
    fn blocks(self) -> u64 {
        u64::from(self.rows.div_ceil(2 * self.lanes()))
    }

    /// Turns of loops that weighing a tile of values takes, all in all.
    pub fn sweep_turns(self, words: u64, value: usize) -> u64 {
        let rows = u64::from(self.rows);
        if let Form::Lanes(lanes) = self.form {
            let [sets, quads] = [self.rows / lanes, lanes / 4].map(u64::from);
            let chunk = 3 + 6 * sets + 2 * (1 + quads * (1 + sets));
            let values = (value as u64).div_ceil(4) * chunk;
            return self.codes_turns(words) + self.blocks() * (8 + 10 * sets * quads + values);
        }
        let out_rows = u64::from(self.out_rows(self.value_tile(value)));
        16 + self.codes_turns(words) + 2 * out_rows + rows * (2 + out_rows / 4) + rows / 4
    }

    /// Turns of loops that counting a tile takes.
    pub fn tally_turns(self, words: u64) -> u64 {
        let counts = match self.form {
            Form::Lanes(lanes) => self.blocks() * u64::from(self.rows / lanes * lanes / 2 * 6),
            _ => 32,
        };
        16 + self.codes_turns(words) + counts
    }

    /// Turns of loops that a tile of gradients takes.
    pub fn grad_turns(self, words: u64, value: usize) -> u64 {
        let rows = u64::from(self.rows);
        if let Form::Lanes(lanes) = self.form {
            let [sets, quads] = [self.rows / lanes, lanes / 4].map(u64::from);
            let columns = u64::from(FEATURES / 4) * (4 + 6 * sets + 2 * (1 + quads * (1 + sets)));
            let products = (value as u64).div_ceil(4) * (3 + sets + 2 * (1 + quads * (1 + sets)));
            let weights = 8 + 6 * sets * quads;
            return 64 + self.codes_turns(words) + self.blocks() * (columns + products + weights);
        }
        let out_rows = u64::from(self.out_rows(FEATURES));
        let products = (value as u64).div_ceil(16) * 48;
        64 + self.codes_turns(words) + products + rows * (2 + out_rows / 4) + rows
    }
}

/// Columns of a gradient that a group sums.
pub(super) const FEATURES: u32 = 64;
