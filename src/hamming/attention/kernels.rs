//! Kernels of popcount attention: parts chosen by what a call asks for.

use std::sync::Arc;

use crate::{
    elements::Access,
    gpu::{Caps, Class, Kernel, Needs, Part, Spec, params, part},
};

params! {
    /// Parameters of the forward kernels over pairs.
    Params {
        a_offset: u32,
        b_offset: u32,
        a_len: u32,
        b_len: u32,
        words: u32,
        last: u32,
        heads: u32,
        kv_heads: u32,
        group: u32,
        fold: u32,
        queries: u32,
        keys: u32,
        capacity: u32,
        tiles: u32,
        tile_base: u32,
        splits: u32,
        split_len: u32,
        first: u32,
        groups: u32,
        begin: u32,
        end: u32,
        causal: u32,
        window: u32,
        sinks: u32,
        value: u32,
        v_offset: u32,
        bits: u32,
        segment: u32,
    }
}

params! {
    /// Parameters of `attention_cut`.
    CutParams {
        heads: u32,
        kv_heads: u32,
        group: u32,
        fold: u32,
        queries: u32,
        keys: u32,
        tiles: u32,
        tile_base: u32,
        bits: u32,
        top_n: u32,
        radius: u32,
        ties: u32,
        first: u32,
        groups: u32,
    }
}

params! {
    /// Parameters of `attention_merge`.
    MergeParams {
        heads: u32,
        kv_heads: u32,
        group: u32,
        fold: u32,
        queries: u32,
        keys: u32,
        tiles: u32,
        tile_base: u32,
        splits: u32,
        value: u32,
        bits: u32,
        o_offset: u32,
        lse_offset: u32,
        kept_offset: u32,
        first: u32,
        end: u32,
    }
}

params! {
    /// Parameters of `attention_grad_rows`.
    RowsParams {
        value: u32,
        o_offset: u32,
        kept_offset: u32,
        rows_offset: u32,
        first: u32,
        end: u32,
    }
}

params! {
    /// Parameters of the gradients' kernels over pairs.
    GradParams {
        a_offset: u32,
        b_offset: u32,
        a_len: u32,
        b_len: u32,
        words: u32,
        last: u32,
        heads: u32,
        kv_heads: u32,
        group: u32,
        fold: u32,
        queries: u32,
        keys: u32,
        capacity: u32,
        tiles: u32,
        first: u32,
        groups: u32,
        begin: u32,
        end: u32,
        causal: u32,
        window: u32,
        sinks: u32,
        value: u32,
        v_offset: u32,
        bits: u32,
        rows_offset: u32,
        do_offset: u32,
        out_offset: u32,
    }
}

params! {
    /// Parameters of `attention_clip`.
    ClipParams {
        clip: f32,
        threshold: f32,
        count: u32,
    }
}

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

    /// The square tile in place of this one, where there is no other form.
    pub fn square(self) -> Tile {
        match self.form {
            Form::Lanes(_) => Tile {
                rows: 32,
                form: Form::Direct,
            },
            _ => self,
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

    fn part(self) -> Part {
        match self.form {
            Form::Staged => part!("hamming/tile_staged.wgsl"),
            Form::Direct => part!("hamming/tile_direct.wgsl"),
            Form::Lanes(_) => part!("hamming/attention_lanes_pairs.wgsl"),
        }
    }

    /// The constants of a tile.
    fn spec(self) -> Spec {
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
    fn needs(self, needs: Needs) -> Needs {
        Needs {
            subgroup: matches!(self.form, Form::Lanes(_)),
            ..needs
        }
    }

    /// Workgroup memory of the codes.
    fn codes_bytes(self) -> u32 {
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
        let out_rows = u64::from(self.out_rows(FEATURES));
        let rows = u64::from(self.rows);
        let products = (value as u64).div_ceil(16) * 48;
        64 + self.codes_turns(words) + products + rows * (2 + out_rows / 4) + rows
    }
}

/// Columns of a gradient that a group sums.
pub(super) const FEATURES: u32 = 64;

/// Which rows and keys the tiles of a call have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spans {
    All,
    Lengths,
    Packed,
}

/// What is known of rows before their values are weighed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limits {
    None,
    Least,
    Kept,
}

impl Spans {
    fn parts(self) -> [Part; 2] {
        let own = match self {
            Spans::All => part!("hamming/attention_span_all.wgsl"),
            Spans::Lengths => part!("hamming/attention_span_lengths.wgsl"),
            Spans::Packed => part!("hamming/attention_span_packed.wgsl"),
        };
        [part!("hamming/attention_span.wgsl"), own]
    }

    fn key_parts(self) -> [Part; 2] {
        let own = match self {
            Spans::Packed => part!("hamming/attention_keys_packed.wgsl"),
            _ => part!("hamming/attention_keys_all.wgsl"),
        };
        [part!("hamming/attention_span.wgsl"), own]
    }
}

impl Limits {
    fn part(self) -> Part {
        match self {
            Limits::None => part!("hamming/attention_limits_none.wgsl"),
            Limits::Least => part!("hamming/attention_limits_least.wgsl"),
            Limits::Kept => part!("hamming/attention_limits_kept.wgsl"),
        }
    }
}

/// What is counted over pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tally {
    Least,
    Bins,
    Ties,
}

/// Parts that every kernel over pairs has.
fn pairs(tile: Tile) -> [Part; 4] {
    [
        part!("hamming/attention_pairs.wgsl"),
        part!("hamming/pair_xor.wgsl"),
        tile.part(),
        part!("common/grid.wgsl"),
    ]
}

pub(super) fn sweep(
    tile: Tile,
    value: usize,
    spans: Spans,
    limits: Limits,
    access: Access,
) -> Arc<Kernel> {
    let shared = [
        part!("hamming/attention_params.wgsl"),
        part!("hamming/attention_weights.wgsl"),
        limits.part(),
    ];
    let value_tile = tile.value_tile(value);
    let square = |values: Part| {
        let own = vec![part!("hamming/attention.wgsl"), values];
        let spec = tile.spec().with("VALUE_TILE", value_tile);
        let bytes = 4 * tile.rows * tile.rows + tile.codes_bytes();
        ("hamming/attention", own, spec, bytes)
    };
    let (name, own, spec, workgroup_bytes) = match tile.form {
        Form::Staged => {
            let (name, own, spec, bytes) = square(part!("hamming/attention_values_staged.wgsl"));
            (name, own, spec, bytes + 16 * 4 * value_tile)
        }
        Form::Direct => square(part!("hamming/attention_values_direct.wgsl")),
        Form::Lanes(_) => {
            let own = vec![part!("hamming/attention_lanes.wgsl")];
            ("hamming/attention_lanes", own, tile.spec(), 0)
        }
    };
    Arc::new(Kernel {
        name,
        parts: own
            .into_iter()
            .chain(shared)
            .chain(spans.parts())
            .chain(pairs(tile))
            .chain(access.parts())
            .collect(),
        spec,
        needs: tile.needs(access.needs()),
        params: Params::FIELDS,
        workgroup: [tile.lanes(), 1, 1],
        workgroup_bytes,
    })
}

/// Counts over pairs; `owned` where one invocation counts all keys of a row.
pub(super) fn tally(tile: Tile, spans: Spans, tally: Tally, owned: bool) -> Arc<Kernel> {
    let counts = match tally {
        Tally::Least => part!("hamming/attention_tally_least.wgsl"),
        Tally::Bins if owned => part!("hamming/attention_tally_bins_owned.wgsl"),
        Tally::Bins => part!("hamming/attention_tally_bins.wgsl"),
        Tally::Ties => part!("hamming/attention_tally_ties.wgsl"),
    };
    let (name, main) = match tile.form {
        Form::Lanes(_) => (
            "hamming/attention_lanes_tally",
            part!("hamming/attention_lanes_tally.wgsl"),
        ),
        _ => (
            "hamming/attention_tally",
            part!("hamming/attention_tally.wgsl"),
        ),
    };
    let own = [main, part!("hamming/attention_params.wgsl"), counts];
    Arc::new(Kernel {
        name,
        parts: own
            .into_iter()
            .chain(spans.parts())
            .chain(pairs(tile))
            .collect(),
        spec: tile.spec(),
        needs: tile.needs(Needs::default()),
        params: Params::FIELDS,
        workgroup: [tile.lanes(), 1, 1],
        workgroup_bytes: tile.codes_bytes(),
    })
}

pub(super) fn cut(tile: Tile, spans: Spans, fixed: bool) -> Arc<Kernel> {
    let own = [
        part!("hamming/attention_cut.wgsl"),
        part!("common/grid.wgsl"),
    ];
    Arc::new(Kernel {
        name: "hamming/attention_cut",
        parts: own.into_iter().chain(spans.parts()).collect(),
        spec: Spec::default().with("TILE", tile.rows).with("FIXED", fixed),
        needs: Needs::default(),
        params: CutParams::FIELDS,
        workgroup: [64, 1, 1],
        workgroup_bytes: 4 * 4 * 64 + 16,
    })
}

pub(super) fn last(tile: Tile, spans: Spans) -> Arc<Kernel> {
    let own = [
        part!("hamming/attention_last.wgsl"),
        part!("hamming/attention_params.wgsl"),
        part!("hamming/attention_pairs.wgsl"),
        part!("common/grid.wgsl"),
    ];
    Arc::new(Kernel {
        name: "hamming/attention_last",
        parts: own.into_iter().chain(spans.parts()).collect(),
        spec: Spec::default().with("TILE", tile.rows),
        needs: Needs::default(),
        params: Params::FIELDS,
        workgroup: [64, 1, 1],
        workgroup_bytes: 4 * 64 + 16,
    })
}

/// Which outputs beside o a merge writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Beside {
    pub lse: bool,
    pub kept: bool,
}

pub(super) fn merge(tile: Tile, spans: Spans, limits: Limits, beside: Beside) -> Arc<Kernel> {
    let lse = match beside.lse {
        true => part!("hamming/attention_lse_given.wgsl"),
        false => part!("hamming/attention_lse_none.wgsl"),
    };
    let keep = match beside.kept {
        true => part!("hamming/attention_keep_given.wgsl"),
        false => part!("hamming/attention_keep_none.wgsl"),
    };
    let own = [
        part!("hamming/attention_merge.wgsl"),
        limits.part(),
        lse,
        keep,
        part!("common/grid.wgsl"),
    ];
    Arc::new(Kernel {
        name: "hamming/attention_merge",
        parts: own.into_iter().chain(spans.parts()).collect(),
        spec: Spec::default().with("TILE", tile.rows),
        needs: Needs::default(),
        params: MergeParams::FIELDS,
        workgroup: [64, 1, 1],
        workgroup_bytes: 0,
    })
}

pub(super) fn grad_rows(access: Access) -> Arc<Kernel> {
    let own = [
        part!("hamming/attention_grad_rows.wgsl"),
        part!("common/grid.wgsl"),
    ];
    Arc::new(Kernel {
        name: "hamming/attention_grad_rows",
        parts: own.into_iter().chain(access.parts()).collect(),
        spec: Spec::default(),
        needs: access.needs(),
        params: RowsParams::FIELDS,
        workgroup: [64, 1, 1],
        workgroup_bytes: 0,
    })
}

/// A gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grad {
    Queries,
    Keys,
    Values,
}

pub(super) fn grad(tile: Tile, spans: Spans, grad: Grad, access: Access) -> Arc<Kernel> {
    let (name, main, span_parts) = match grad {
        Grad::Queries => (
            "hamming/attention_grad_q",
            part!("hamming/attention_grad_q.wgsl"),
            spans.parts(),
        ),
        _ => (
            "hamming/attention_grad_kv",
            part!("hamming/attention_grad_kv.wgsl"),
            spans.key_parts(),
        ),
    };
    let of_values = grad == Grad::Values;
    let what = match of_values {
        true => part!("hamming/attention_grad_values.wgsl"),
        false => part!("hamming/attention_grad_codes.wgsl"),
    };
    let own = [
        main,
        what,
        part!("hamming/attention_grad.wgsl"),
        part!("hamming/attention_grad_params.wgsl"),
        part!("hamming/attention_weights.wgsl"),
    ];
    // Slabs of 16 columns, or of 16 channels of rows and columns.
    let arena = (4 * FEATURES).max(if of_values { 0 } else { 8 * tile.rows });
    Arc::new(Kernel {
        name,
        parts: own
            .into_iter()
            .chain(span_parts)
            .chain(pairs(tile))
            .chain(access.parts())
            .collect(),
        spec: tile
            .spec()
            .with("FEATURES", FEATURES)
            .with("ARENA", arena)
            .with("OF_KEYS", grad != Grad::Queries),
        needs: access.needs(),
        params: GradParams::FIELDS,
        workgroup: [tile.lanes(), 1, 1],
        workgroup_bytes: 4 * tile.rows * tile.rows + 16 * arena + tile.codes_bytes(),
    })
}

pub(super) fn clip() -> Arc<Kernel> {
    Arc::new(Kernel {
        name: "hamming/attention_clip",
        parts: vec![
            part!("hamming/attention_clip.wgsl"),
            part!("common/grid.wgsl"),
        ],
        spec: Spec::default(),
        needs: Needs::default(),
        params: ClipParams::FIELDS,
        workgroup: [64, 1, 1],
        workgroup_bytes: 0,
    })
}
