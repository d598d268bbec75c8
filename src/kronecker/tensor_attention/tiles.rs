//! How rows and columns of a walk lie in workgroups.

use super::shape::Band;
use crate::gpu::{Caps, Class};

/// Which kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// GPUs: tiles in workgroup memory.
    Tile,
    /// Software adapters with subgroups of one size: rows by lanes.
    Lanes(u32),
}

/// Sizes of a walk, in one unit: what owners, partners and columns there are, and which see each other.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    pub owners: u64,
    pub partners: u64,
    pub columns: u64,
    /// Heads of queries that share keys.
    pub group: u64,
    /// Whether owners are queries; else partners are.
    pub of_query: bool,
    /// Between owners and partners.
    pub row: Band,
    /// Between queries and columns.
    pub column: Band,
}

/// A form with the partners of a tile's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tile {
    pub form: Form,
    /// log2 of the partners that the rows of an owner have at a time.
    pub y_bits: u32,
}

impl Form {
    pub fn new(caps: &Caps) -> Form {
        match (caps.class, caps.subgroup) {
            (Class::Cpu, Some((smallest, largest)))
                if smallest == largest && (4..=32).contains(&largest) =>
            {
                Form::Lanes(largest)
            }
            _ => Form::Tile,
        }
    }

    /// Rows of a tile.
    pub fn rows(self) -> u64 {
        match self {
            Form::Tile => 64,
            Form::Lanes(lanes) => 4 * u64::from(lanes),
        }
    }

    /// Columns of a tile.
    pub fn columns(self) -> u64 {
        match self {
            Form::Tile => 32,
            Form::Lanes(lanes) => 2 * u64::from(lanes),
        }
    }

    /// Chunks of four channels of results that a workgroup keeps, where results have so many.
    pub fn slice(self, chunks: u64) -> u64 {
        match self {
            Form::Tile => chunks.next_power_of_two().clamp(2, 32),
            Form::Lanes(_) => chunks,
        }
    }

    /// Chunks of channels of rows and columns that are staged together.
    pub fn slab(self, chunks: u64) -> u64 {
        chunks.next_power_of_two().min(4)
    }

    /// Turns of loops that one tile takes to score, with so many chunks of channels.
    pub fn score_turns(self, chunks: u64) -> u64 {
        match self {
            Form::Tile => 24 * chunks.div_ceil(4) + 40,
            Form::Lanes(lanes) => chunks * (5 + 2 * (1 + 5 * u64::from(lanes) / 4)) + 80,
        }
    }

    /// Turns of loops that one tile takes to weigh so many chunks of channels.
    pub fn weigh_turns(self, chunks: u64) -> u64 {
        match self {
            Form::Tile => 14 * (self.slice(chunks) / 2 + 1) + 40,
            Form::Lanes(lanes) => chunks * (10 + 2 * (1 + 5 * u64::from(lanes) / 4)) + 40,
        }
    }
}

impl Extent {
    /// Tokens of so many owners, and of so many partners.
    fn tokens(&self, owners: u64, partners: u64) -> [u64; 2] {
        let of_queries = |n: u64| n.div_ceil(self.group);
        match self.of_query {
            true => [of_queries(owners), partners],
            false => [owners, of_queries(partners)],
        }
    }

    /// Partners of a token among them.
    fn partner_step(&self) -> u64 {
        if self.of_query { 1 } else { self.group }
    }

    /// The most partners that some of so many owners see.
    pub fn most_partners(&self, owners: u64) -> u64 {
        let [tokens, _] = self.tokens(owners, 1);
        let step = self.partner_step();
        self.row.most(tokens, self.partners / step) * step
    }

    /// The most columns that rows of so many owners and partners see.
    pub fn most_columns(&self, owners: u64, partners: u64) -> u64 {
        let [of_owners, of_partners] = self.tokens(owners, partners);
        let tokens = if self.of_query {
            of_owners
        } else {
            of_partners
        };
        self.column.most(tokens, self.columns)
    }

    /// Rows times columns that are computed in the mean, where rows have 2^y_bits partners.
    fn cost(&self, form: Form, y_bits: u32) -> f64 {
        let partners = 1u64 << y_bits;
        let owners = form.rows() >> y_bits;
        let step = self.partner_step();
        let [of_owners, of_partners] = self.tokens(owners, partners);
        let seen = self.row.mean(of_owners, self.partners / step) * step as f64;
        let tokens = if self.of_query {
            of_owners
        } else {
            of_partners
        };
        let columns = self.column.mean(tokens, self.columns);
        let whole = |n: f64, of: u64| (n / of as f64).ceil() * of as f64;
        self.owners.next_multiple_of(owners) as f64
            * whole(seen, partners)
            * whole(columns, form.columns())
    }
}

impl Tile {
    /// The tile that computes least in vain; of those that do not differ by much the first of a list: an invocation's rows then have
    /// an owner in common, and few rows of an owner are left to sum.
    pub fn new(extent: &Extent, caps: &Caps) -> Tile {
        let form = Form::new(caps);
        let most = form.rows().ilog2();
        let order = [3, 2, 4, 5, 1, 6, 7, 0].into_iter().filter(|n| *n <= most);
        let costs: Vec<(u32, f64)> = order.map(|n| (n, extent.cost(form, n))).collect();
        let least = costs.iter().fold(f64::INFINITY, |least, c| least.min(c.1));
        let first = costs.iter().find(|(_, cost)| *cost <= 1.05 * least);
        Tile {
            form,
            y_bits: first.map_or(0, |(n, _)| *n),
        }
    }

    /// The least that is computed.
    pub fn cost(self, extent: &Extent) -> f64 {
        extent.cost(self.form, self.y_bits)
    }

    /// Owners of a tile.
    pub fn owners(self) -> u64 {
        self.form.rows() >> self.y_bits
    }

    /// Partners of an owner's rows.
    pub fn partners(self) -> u64 {
        1 << self.y_bits
    }
}
