//! What plans of a call share: the sets of rows, the roles they take, and the walks over them.

use std::ops::Range;

use super::{
    Logits, Options, Shape,
    kernels::{Shared, Variant},
    shape::Band,
    tiles::{Extent, Form, Tile},
    walk::Walk,
};
use crate::{
    Error, Result,
    elements::Access,
    gpu::{Caps, Dtype},
    plan::{ALIGN, Builder, Slot},
};

/// The queries, or keys of one kind, with what goes with them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Set {
    pub keys: Slot,
    pub values: Slot,
    /// Rows of a unit.
    pub len: u64,
    /// Whether all units have the same rows.
    pub shared: bool,
    /// Which keys of a query's place these are: all, for the queries themselves.
    pub band: Band,
    pub biased: bool,
}

/// Owners, partners and columns of a walk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Roles {
    pub owner: Set,
    pub partner: Set,
    pub column: Set,
    /// Whether owners are queries; else partners are.
    pub of_query: bool,
    /// -1 where exchanging roles turned the sign of determinants.
    pub sign: f32,
}

/// What plans of one call share.
#[derive(Clone, Copy)]
pub(super) struct Planner<'a> {
    pub shape: &'a Shape,
    pub options: &'a Options,
    pub caps: &'a Caps,
}

impl<'a> Planner<'a> {
    pub fn access(&self) -> Access {
        let shape = self.shape;
        let access = Access::new(shape.dtype, [shape.width, shape.value], self.caps);
        Access {
            vectors: access.vectors && self.options.logits.step() == 4,
            ..access
        }
    }

    /// Queries, with gradients of outputs.
    pub fn queries(&self, grad_o: Slot) -> Set {
        Set {
            keys: Slot::Input(0),
            values: grad_o,
            len: (self.shape.group() * self.shape.queries) as u64,
            shared: false,
            band: Band::ALL,
            biased: false,
        }
    }

    /// Keys of the two kinds.
    pub fn sides(&self) -> [Set; 2] {
        let [first, second] = self.options.bands();
        let [of_first, of_second] = self.shape.keys.map(|n| n as u64);
        let side = |keys, values, len, band, biased| Set {
            keys: Slot::Input(keys),
            values: Slot::Input(values),
            len,
            shared: false,
            band,
            biased,
        };
        [
            side(1, 3, of_first, first, false),
            side(2, 4, of_second, second, self.options.biased()),
        ]
    }

    /// One key of ones with values of ones, which changes nothing in a product.
    pub fn ones(&self, builder: &mut Builder) -> Set {
        let one = match self.shape.dtype {
            Dtype::F16 => 0x3c00_3c00,
            Dtype::Bf16 => 0x3f80_3f80,
            _ => 1f32.to_bits(),
        };
        let width = self.shape.width.max(self.shape.value);
        let table = builder.add_table(vec![one; width.next_multiple_of(4)]);
        Set {
            keys: table,
            values: table,
            len: 1,
            shared: true,
            band: Band::ALL,
            biased: false,
        }
    }

    /// Outputs, owned by queries: the kinds of keys in the order that computes less.
    pub fn of_queries(&self, queries: Set, [first, second]: [Set; 2]) -> Roles {
        let roles = |partner, column, sign| Roles {
            owner: queries,
            partner,
            column,
            of_query: true,
            sign,
        };
        let swapped = match self.options.logits {
            Logits::Determinant => -1.0,
            _ => 1.0,
        };
        let cost = |roles: &Roles| {
            let extent = self.extent(roles);
            Tile::new(&extent, self.caps).cost(&extent)
        };
        let [straight, crossed] = [roles(first, second, 1.0), roles(second, first, swapped)];
        match !first.shared && cost(&crossed) < 0.98 * cost(&straight) {
            true => crossed,
            false => straight,
        }
    }

    /// Gradients of keys of one kind: det\[k1, q, k2\] = -det\[q, k1, k2\] = -det\[k2, q, k1\].
    pub fn of_keys(&self, owner: Set, queries: Set, column: Set, first: bool) -> Roles {
        Roles {
            owner,
            partner: queries,
            column,
            of_query: false,
            sign: match self.options.logits {
                Logits::Determinant if first => -1.0,
                _ => 1.0,
            },
        }
    }

    pub fn extent(&self, roles: &Roles) -> Extent {
        Extent {
            owners: roles.owner.len,
            partners: roles.partner.len,
            columns: roles.column.len,
            group: self.shape.group().max(1) as u64,
            of_query: roles.of_query,
            row: match roles.of_query {
                true => roles.partner.band,
                false => roles.owner.band,
            },
            column: roles.column.band,
        }
    }

    pub fn key_chunks(&self) -> u64 {
        (self.shape.width as u64).div_ceil(self.options.logits.step())
    }

    pub fn value_chunks(&self) -> u64 {
        (self.shape.value as u64).div_ceil(4)
    }

    fn variant(&self, roles: &Roles, tile: Tile, slice: u64) -> Variant {
        let sets = [roles.owner, roles.partner, roles.column];
        let biased = sets.iter().zip(1u32..).find(|(set, _)| set.biased);
        Variant {
            tile,
            logits: self.options.logits,
            access: self.access(),
            of_query: roles.of_query,
            shared: match (roles.partner.shared, roles.column.shared) {
                (true, _) => Shared::Partner,
                (false, true) => Shared::Column,
                (false, false) => Shared::None,
            },
            biased: biased.map_or(0, |(_, n)| n),
            slice,
            slab: tile.form.slab(self.key_chunks().max(self.value_chunks())),
        }
    }

    /// The walk that computes outputs.
    pub fn outputs(self, roles: Roles) -> Walk<'a> {
        let extent = self.extent(&roles);
        let tile = Tile::new(&extent, self.caps);
        let (keys, values) = (self.key_chunks(), self.value_chunks());
        let slice = tile.form.slice(values);
        let slices = values.div_ceil(slice);
        let turns = tile.form.score_turns(keys) + tile.form.weigh_turns(values);
        Walk::new(
            self,
            roles,
            tile,
            [slices, values + slices],
            [turns, 8 * (keys + values.min(slice))],
            self.variant(&roles, tile, slice).attention(),
            Vec::new(),
        )
    }

    /// The walk that computes gradients of owners' keys, of what goes with them, or of both.
    pub fn gradients(self, roles: Roles, rows: Slot, wanted: [bool; 2]) -> Walk<'a> {
        let extent = self.extent(&roles);
        let tile = Tile::new(&extent, self.caps);
        let (keys, values) = (self.key_chunks(), self.value_chunks());
        let [of_keys, of_values] = wanted.map(u64::from);
        let chunks = (of_keys * keys).max(of_values * values);
        let slice = tile.form.slice(chunks);
        let turns = tile.form.score_turns(keys)
            + of_keys * (tile.form.score_turns(values) + tile.form.weigh_turns(keys))
            + of_values * tile.form.weigh_turns(values);
        let products = keys + of_keys * (values + keys.min(slice)) + of_values * values.min(slice);
        let block = of_keys * keys + of_values * values;
        let queries = self.shape.group() * self.shape.queries;
        Walk::new(
            self,
            roles,
            tile,
            [chunks.div_ceil(slice), block],
            [turns, 8 * products],
            self.variant(&roles, tile, slice).grad(wanted),
            vec![(rows, 2 * queries)],
        )
    }

    /// Whether one walk of a group of invocations holds the gradients of keys and those of what goes with them.
    pub fn both_fit(&self) -> bool {
        let chunks = self.key_chunks().max(self.value_chunks());
        matches!(Form::new(self.caps), Form::Lanes(_)) || chunks <= 16
    }

    /// Units whose tensors fit bindings together.
    pub fn blocks(&self) -> Result<Vec<Range<u64>>> {
        let shape = self.shape;
        let rows = (shape.group() * shape.queries).max(shape.keys[0].max(shape.keys[1]));
        let unit_bytes = 4 * (rows * shape.width.max(shape.value).max(2)) as u64;
        let fit = self.caps.binding_bytes.saturating_sub(ALIGN) / unit_bytes.max(1);
        if fit == 0 {
            return Err(Error::Limit {
                what: "bytes in one binding, for one head of keys,".into(),
                needed: unit_bytes + ALIGN,
                available: self.caps.binding_bytes,
                remedy: "use fewer tokens",
            });
        }
        let units = shape.units() as u64;
        let starts = (0..units).step_by(usize::try_from(fit).unwrap_or(usize::MAX));
        Ok(starts
            .map(|n| n..units.min(n.saturating_add(fit)))
            .collect())
    }
}
