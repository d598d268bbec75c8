//! How kernels compute tiles of pairs of codes.

use super::distance::Count;
use crate::{
    choice::{Choice, Entry},
    gpu::{Caps, Class, Part, Spec, part},
};

/// Whether words pass through workgroup memory, with 4 by 4 pairs an invocation instead of 8 by 8.
pub(crate) const STAGED: Choice = Choice {
    name: "hamming/tile.staged",
    legal: &[0, 1],
    table: &[Entry {
        class: Class::Cpu,
        value: 0,
        source: "barriers and loads are dear on software adapters, spilled sums are not (llvmpipe, Mesa 22.3.6, 2026-11)",
    }],
    otherwise: 1,
};

/// How a kernel computes tiles of pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tile {
    /// Rows and columns of a tile.
    pub side: u32,
    /// Rows and columns that an invocation has of it.
    pub each: u32,
    /// Whether words pass through workgroup memory.
    pub staged: bool,
}

impl Tile {
    /// The one for a device.
    pub fn new(caps: &Caps) -> Tile {
        let [staged, direct] = Tile::all();
        if caps.choose(&STAGED) == 1 {
            staged
        } else {
            direct
        }
    }

    /// All there are.
    pub fn all() -> [Tile; 2] {
        let tile = |side, each, staged| Tile { side, each, staged };
        [tile(64, 4, true), tile(64, 8, false)]
    }

    /// Invocations of a workgroup.
    pub fn lanes(self) -> u32 {
        (self.side / self.each).pow(2)
    }

    /// Workgroup memory of the tile part.
    pub fn workgroup_bytes(self) -> u32 {
        match self.staged {
            // Two operands, eight words.
            true => 2 * 4 * 8 * self.side,
            false => 0,
        }
    }

    /// The parts that compute a tile's pairs, and the one that counts.
    pub fn parts(self, count: Count) -> Vec<Part> {
        let mut parts = match self.staged {
            true => vec![
                part!("hamming/tile_staged.wgsl"),
                part!("hamming/tile_emit.wgsl"),
            ],
            false => vec![part!("hamming/tile_wide.wgsl")],
        };
        let pair = match count {
            Count::Bits => part!("hamming/pair_xor.wgsl"),
            Count::Symbols(_) => part!("hamming/pair_symbols.wgsl"),
            Count::Common => part!("hamming/pair_and.wgsl"),
        };
        parts.push(pair);
        parts
    }

    /// The constants that the parts ask for.
    pub fn spec(self, count: Count) -> Spec {
        let spec = Spec::default()
            .with("TILE", self.side)
            .with("EACH", self.each);
        match count {
            // The highest bit of each field.
            Count::Symbols(width) => spec.with("TOP", top_bits(width)),
            _ => spec,
        }
    }
}

/// A word with the highest bit of each field of so many bits.
fn top_bits(width: u32) -> u32 {
    (1..=32 / width.max(1)).fold(0, |bits, field| bits | 1 << (field * width - 1))
}
