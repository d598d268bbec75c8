//! One walk over tokens as steps: sources a bᵀ enter each walker's state, readers x take Sᵀ x from it.
//!
//! The operator, its gradients and its pieces are walks with tensors in different roles: the gradient of the queries reads
//! the transposed state with that of the outputs, and those of keys and values are walks from the last token to the first.

mod packed;
mod passes;
mod step;
mod sweep;
#[cfg(test)]
mod tests;

use std::{ops::Range, sync::Arc};

use super::{
    FeatureMap, Form,
    kernels::{self, Access, Fading, Rule, Second, Start, Variant},
    tiles::{CHUNK_UNITS, ChunkTile, RecurrentTile, SweepTile},
    window::{Field, GRAIN, segments},
};
use crate::{
    Error, Result,
    gpu::{Caps, Class, Kernel, Matrices},
    plan::{Builder, Slot},
};

pub(super) use sweep::{Like, Sweep};

/// Bindings of a walk that has all it can have.
const MERGED_BUFFERS: u32 = 12;

/// A tensor as a walk binds it: its buffer, heads, and bytes of an element.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rows {
    pub slot: Slot,
    pub heads: usize,
    pub elem: u64,
}

/// The sequences of a packed call.
#[derive(Clone, Debug)]
pub(super) struct Packed {
    pub sequences: Vec<Range<usize>>,
}

/// A walk.
#[derive(Clone, Debug)]
pub(super) struct Walk<'a> {
    pub field: Field,
    pub packed: Option<&'a Packed>,
    pub key: usize,
    pub value: usize,
    pub access: Access,
    /// x and y.
    pub readers: Option<[Rows; 2]>,
    /// a and b.
    pub sources: Option<[Rows; 2]>,
    pub fading: Fading,
    pub log_decay: Option<Rows>,
    pub rule: Rule,
    /// beta, or z for the normaliser.
    pub aid: Option<Slot>,
    pub map: FeatureMap,
    /// Whether the entries of all tensors are f16 numbers, however they are stored.
    pub halves: bool,
    pub reverse: bool,
    pub strict: bool,
    pub keeps: bool,
    pub start: Start,
    pub state: Slot,
    pub scale: f32,
    /// Factor on b.
    pub source_scale: f32,
    pub eps: f32,
    /// Which kernels walk.
    pub form: Form,
    /// Second tensors like x and y, or like a, b and y; these, flows and `weighed` want [`Walk::merges`].
    pub second: Second,
    pub seconds: [Option<Slot>; 3],
    /// A tensor like y along which flows are counted, and where they go: like y where columns fade by themselves, otherwise a
    /// number for every token, head and slice.
    pub flows: Option<[Slot; 2]>,
    /// What is missed, times beta.
    pub weighed: Option<Slot>,
    /// The gradients' own walk, which is this one's tensors and more.
    pub sweep: Option<Sweep>,
}

/// The kernel that walks.
enum Tile {
    Chunk(ChunkTile),
    Recurrent(RecurrentTile),
    Sweep(SweepTile),
}

impl Tile {
    /// Columns a workgroup takes.
    fn columns(&self) -> u32 {
        match self {
            Tile::Chunk(tile) => tile.value_tile,
            Tile::Recurrent(tile) => 4 * tile.lanes,
            Tile::Sweep(tile) => tile.value_tile(),
        }
    }
}

impl Walk<'_> {
    /// States that a walker of a sequence of so many tokens keeps.
    pub fn slots(&self, tokens: usize) -> u64 {
        if self.keeps {
            (tokens as u64).div_ceil(GRAIN) + 1
        } else {
            1
        }
    }

    /// Whether one pass can do with the state what else takes two: in short blocks in a subgroup, with room for the bindings, where
    /// all tensors have the heads of states.
    pub fn merges(&self, caps: &Caps) -> bool {
        let heads = self.field.heads;
        let mut rows = self.readers.iter().chain(&self.sources).flatten();
        let flows = 4 * self.field.walkers() * self.field.tokens as u64 * self.slices(caps);
        caps.storage_buffers >= MERGED_BUFFERS
            && flows <= caps.binding_bytes
            && rows.all(|rows| rows.heads == heads)
            && matches!(self.tile(caps), Tile::Recurrent(tile) if tile.subgroup)
    }

    /// Readers of a walker's state: y has as many heads as the larger of readers and states.
    fn group(&self) -> u32 {
        if self.second == Second::Reader {
            return 2;
        }
        let heads = self.readers.map_or(0, |[x, _]| x.heads);
        (heads / self.field.heads.max(1)).max(1) as u32
    }

    fn variant(&self, start: Start) -> Variant {
        Variant {
            access: self.access,
            fading: self.fading,
            rule: self.rule,
            start,
            reads: self.readers.is_some() && self.rule != Rule::Missed,
            adds: self.sources.is_some(),
            packed: self.packed.is_some(),
            reverse: self.reverse,
            strict: self.strict,
            keeps: self.keeps,
            group: if self.rule == Rule::Missed {
                1
            } else {
                self.group()
            },
            map: self.map,
            second: self.second,
            flows: self.flows.is_some(),
            weighs: self.weighed.is_some(),
        }
    }

    fn state_bytes(&self) -> u64 {
        4 * (self.key * self.value) as u64
    }

    /// Operations that a token of a walker takes.
    fn flops(&self) -> f64 {
        let products = match self.rule {
            Rule::Delta => 6,
            _ => 4,
        };
        let products = products + 2 * usize::from(self.pairs()) + self.sweep_products();
        let readers = self.group() as usize;
        ((products + 2 * (readers - 1)) * self.key * self.value
            + 64 * readers * (self.key + self.value)) as f64
    }

    fn tile(&self, caps: &Caps) -> Tile {
        if let Some(sweep) = &self.sweep {
            return Tile::Sweep(sweep.tile);
        }
        let longest = match self.packed {
            Some(packed) => packed
                .sequences
                .iter()
                .map(|tokens| tokens.len())
                .max()
                .unwrap_or(0),
            None => self.field.tokens,
        };
        // The delta rule's solved systems of packed sequences: up to 256 bytes a token and head, all at once.
        let solved = match (self.delta(), self.packed) {
            (true, Some(_)) => 256 * self.field.walkers() * self.field.tokens as u64,
            _ => 0,
        };
        let serial = caps.class == Class::Cpu || longest < 32 || solved > caps.scratch_bytes / 4;
        match self.form {
            Form::Fused | Form::Segments(_) => {}
            Form::Auto if !serial => {}
            _ => {
                // Two readers of different tensors are worth as many tokens a block as one.
                let group = if self.second == Second::Reader {
                    1
                } else {
                    self.group()
                };
                let tokens = self.field.tokens;
                return Tile::Recurrent(RecurrentTile::choose(
                    tokens,
                    self.key,
                    self.value,
                    group,
                    self.delta(),
                    caps,
                ));
            }
        }
        let normalized = self.rule == Rule::Normalized;
        let tile = ChunkTile::choose(self.key, self.value, self.fading, normalized, caps);
        let on_units = |units| tile.on_units(units, self.key, caps);
        let units = caps.units(&CHUNK_UNITS).filter(|_| self.suits_units());
        Tile::Chunk(units.and_then(on_units).unwrap_or(tile))
    }

    /// Whether products may be of halves: tensors are, states fade as a whole, and nothing is solved or divided.
    fn suits_units(&self) -> bool {
        self.halves
            && self.map == FeatureMap::Identity
            && self.rule == Rule::Additive
            && matches!(self.fading, Fading::None | Fading::Head | Fading::Token)
    }

    /// Workgroups that share a walker's columns.
    pub fn slices(&self, caps: &Caps) -> u64 {
        (self.value as u64).div_ceil(self.tile(caps).columns().into())
    }

    /// Tokens of a segment that an invocation can walk on a device that counts its loop iterations.
    fn most_tokens(&self, tile: &Tile, caps: &Caps) -> u64 {
        let (iterations, tokens) = match tile {
            Tile::Chunk(tile) => (tile.iterations(self.group(), self.delta()), tile.chunk),
            Tile::Recurrent(tile) => (
                tile.iterations(
                    self.key,
                    self.group() + u32::from(self.pairs()),
                    self.delta(),
                    self.fading == Fading::Rows,
                ),
                tile.tokens,
            ),
            Tile::Sweep(tile) => (
                tile.iterations(self.key, self.sweeps_delta()),
                tile.tokens(),
            ),
        };
        let blocks = caps.loop_iterations / u64::from(iterations.max(1));
        (blocks.saturating_mul(tokens.into()) / GRAIN * GRAIN).max(GRAIN)
    }

    /// Segments that are walked at the same time.
    pub fn segments(&self, caps: &Caps) -> u64 {
        let kept_sums = self.keeps && self.rule == Rule::Normalized;
        if self.packed.is_some() || self.delta() || kept_sums {
            return 1;
        }
        if self.field.walkers() == 0 {
            return 1;
        }
        let chunks = (self.field.tokens as u64).div_ceil(GRAIN);
        let groups = self.field.walkers() * self.slices(caps);
        let fill = u64::from(caps.fill);
        let wanted = match (self.form, self.tile(caps)) {
            (Form::Segments(n), _) => u64::from(n).min(chunks),
            (Form::Auto, Tile::Chunk(_)) if 2 * groups < fill && chunks >= 16 => {
                fill.div_ceil(groups.max(1)).min(chunks / 8)
            }
            _ => 1,
        };
        // `state_scan` loops over them; nobody asked for more temporaries than a quarter of the budget.
        let most = match self.form {
            Form::Auto => {
                caps.scratch_bytes / 4 / (self.field.walkers() * self.state_bytes()).max(1)
            }
            _ => u64::MAX,
        };
        let wanted = wanted.min(caps.loop_iterations / 16).min(most);
        segments(self.field.tokens as u64, wanted).0.max(1)
    }

    /// What the walk's form is called.
    pub fn label(&self, caps: &Caps) -> String {
        let Tile::Chunk(tile) = self.tile(caps) else {
            return "recurrent".into();
        };
        let form = match self.segments(caps) {
            1 => "fused".into(),
            n => format!("{n} segments"),
        };
        form + &tile.units.map(Matrices::label).unwrap_or_default()
    }

    /// Appends the walk's steps.
    ///
    /// # Errors
    /// `Limit` where one head of 64 tokens exceeds a binding, `Unsupported` for segments of the delta rule.
    pub fn push(&self, builder: &mut Builder, caps: &Caps) -> Result<()> {
        if self.delta() && matches!(self.form, Form::Segments(_)) {
            return Err(Error::Unsupported {
                op: super::plan::OP,
                what:
                    "segments of the delta rule: what a segment adds depends on the state before it"
                        .into(),
            });
        }
        if self.field.tokens == 0 {
            return Ok(());
        }
        let tile = self.tile(caps);
        match self.packed {
            Some(packed) => self.push_packed(builder, caps, &tile, packed),
            None => self.push_windows(builder, caps, &tile),
        }
    }

    fn kernel(&self, tile: &Tile, start: Start, totals: bool) -> Arc<Kernel> {
        match tile {
            Tile::Chunk(tile) => kernels::chunk(tile, &self.variant(start), totals),
            Tile::Recurrent(tile) => kernels::recurrent(tile, &self.variant(start), self.key),
            Tile::Sweep(tile) => kernels::sweep(tile, self.sweep_variant(start), self.key),
        }
    }

    /// The rows of the delta rule's solved systems, where chunks need them, with the bytes of one.
    fn solved(&self, tile: &Tile, slot: Slot) -> Option<(Rows, u64)> {
        match tile {
            Tile::Chunk(tile) if self.delta() => {
                let heads = self.field.heads;
                Some((
                    Rows {
                        slot,
                        heads,
                        elem: 4,
                    },
                    4 * u64::from(tile.chunk),
                ))
            }
            _ => None,
        }
    }

    fn pairs(&self) -> bool {
        matches!(self.second, Second::Source | Second::Missed)
    }

    fn delta(&self) -> bool {
        matches!(self.rule, Rule::Delta | Rule::Missed)
    }
}
