//! How kernels compute tiles of pairs of codes.

use super::distance::Count;
use crate::{
    choice::{Choice, Entry},
    gpu::{Caps, Class, Matrices, Needs, Part, Spec, part},
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

/// Whether long codes go through matrix units where a device has them.
pub(crate) const BY_UNITS: Choice = Choice {
    name: "hamming/tile.units",
    legal: &[0, 1],
    table: &[],
    otherwise: 1,
};

/// Bits from which on matrix units are taken where there are any: below, words are counted sooner than unpacked.
const UNPACKED_BITS: usize = 256;

/// Subgroups of a workgroup on matrix units.
const UNITS: u32 = 4;

/// How a kernel computes tiles of pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tile {
    /// Rows and columns of a tile.
    pub side: u32,
    way: Way,
}

/// By what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Words pass through workgroup memory, 4 by 4 pairs an invocation.
    Staged,
    /// Words straight from memory, 8 by 8 pairs an invocation.
    Wide,
    /// Bits as numbers.
    Units(Matrices),
}

impl Tile {
    /// The one for a device.
    pub fn new(count: Count, bits: usize, caps: &Caps) -> Tile {
        let units = Tile::units(count, bits, caps).filter(|_| bits >= UNPACKED_BITS);
        units.unwrap_or_else(|| {
            Tile::of(match caps.choose(&STAGED) {
                1 => Way::Staged,
                _ => Way::Wide,
            })
        })
    }

    fn of(way: Way) -> Tile {
        Tile { side: 64, way }
    }

    /// By the device's matrix units, where they can count this: sums of whole numbers below 2^24 are exact.
    fn units(count: Count, bits: usize, caps: &Caps) -> Option<Tile> {
        let units = caps.units(&BY_UNITS).filter(|_| bits < 1 << 24)?;
        let tile = Tile::of(Way::Units(units));
        let fits = tile.workgroup_bytes() <= caps.workgroup_bytes;
        let counted = matches!(count, Count::Bits | Count::Common);
        (fits && counted).then_some(tile)
    }

    /// For people.
    pub fn label(self) -> String {
        let way = match self.way {
            Way::Staged => ", staged".into(),
            Way::Wide => String::new(),
            Way::Units(units) => units.label(),
        };
        format!("tiles of {}{way}", self.side)
    }

    /// Invocations of a workgroup.
    pub fn lanes(self) -> u32 {
        match self.way {
            Way::Staged => (self.side / 4).pow(2),
            Way::Wide => (self.side / 8).pow(2),
            Way::Units(units) => UNITS * units.lanes,
        }
    }

    /// Workgroup memory of the tile part.
    pub fn workgroup_bytes(self) -> u32 {
        match self.way {
            // Two operands, eight words.
            Way::Staged => 2 * 4 * 8 * self.side,
            Way::Wide => 0,
            // 32 halves and 8 to spare of each code; a square of sums a unit.
            Way::Units(units) => 2 * 2 * self.side * 40 + 4 * UNITS * units.side.pow(2),
        }
    }

    /// What the parts need.
    pub fn needs(self) -> Needs {
        match self.way {
            Way::Units(units) => units.needs(),
            _ => Needs::default(),
        }
    }

    /// The parts that compute a tile's pairs, with the entry, and the one that counts.
    pub fn parts(self, count: Count) -> Vec<Part> {
        let entry = part!("hamming/distance_lanes.wgsl");
        let mut parts = match self.way {
            Way::Staged => vec![
                entry,
                part!("hamming/tile_staged.wgsl"),
                part!("hamming/tile_emit.wgsl"),
            ],
            Way::Wide => vec![entry, part!("hamming/tile_wide.wgsl")],
            Way::Units(units) => {
                let own = [part!("hamming/tile_matrices.wgsl")].into_iter();
                return own.chain(units.parts()).collect();
            }
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
        let spec = match self.way {
            Way::Staged => Spec::default().with("EACH", 4),
            Way::Wide => Spec::default().with("EACH", 8),
            Way::Units(units) => units.spec(UNITS).with("SIGNED", count == Count::Bits),
        };
        let spec = spec.with("TILE", self.side);
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
