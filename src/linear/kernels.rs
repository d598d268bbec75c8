//! The family's kernels: which parts make each, and the parameters it takes.

use std::sync::Arc;

pub(super) use crate::elements::Access;

use super::{
    FeatureMap, features,
    tiles::{ChunkTile, RecurrentTile, SweepTile},
};
use crate::gpu::{Dtype, Kernel, Needs, Part, Spec, params, part};

/// Where the state at the start of a walk comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// Zero.
    Zero,
    /// The state buffer.
    Resume,
}

impl Start {
    fn part(self) -> Part {
        match self {
            Start::Zero => part!("linear/start_zero.wgsl"),
            Start::Resume => part!("linear/start_resume.wgsl"),
        }
    }
}

/// What a decay multiplies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fading {
    /// Nothing.
    None,
    /// The states of a head, by one factor.
    Head,
    /// The state, by a factor per token.
    Token,
    /// Each row of the state, by a factor per token.
    Rows,
    /// Each column of the state, by a factor per token.
    Columns,
}

impl Fading {
    /// The sums of log decays of segments.
    fn segment_part(self) -> Part {
        match self {
            Fading::None => part!("linear/segment_none.wgsl"),
            Fading::Head | Fading::Token => part!("linear/segment_scalar.wgsl"),
            Fading::Rows => part!("linear/segment_rows.wgsl"),
            Fading::Columns => part!("linear/segment_columns.wgsl"),
        }
    }

    fn part(self) -> Part {
        match self {
            Fading::None => part!("linear/decay_none.wgsl"),
            Fading::Head => part!("linear/decay_head.wgsl"),
            Fading::Token => part!("linear/decay_token.wgsl"),
            Fading::Rows => part!("linear/decay_rows.wgsl"),
            Fading::Columns => part!("linear/decay_columns.wgsl"),
        }
    }
}

/// What becomes of a value before it is added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// Nothing.
    Additive,
    /// Nothing, and the sum of keys divides the outputs.
    Normalized,
    /// The delta rule.
    Delta,
    /// The delta rule; the outputs are what the state misses of the values.
    Missed,
}

/// What a walk in short blocks does beside reading x and adding a b^T.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Second {
    /// Nothing.
    None,
    /// A second x reads minus earlier tokens.
    Reader,
    /// A second a b^T is taken off, for later readers; outputs are added to a third tensor, like y.
    Source,
    /// With [`Rule::Missed`] and no values: a second a b^T, which its own token's key sees.
    Missed,
}

impl Second {
    fn parts(self) -> [Part; 2] {
        let [one, two] = [
            part!("linear/reader_one.wgsl"),
            part!("linear/reader_two.wgsl"),
        ];
        let single = part!("linear/pair_one.wgsl");
        match self {
            Second::None => [one, single],
            Second::Reader => [two, single],
            Second::Source => [one, part!("linear/pair_two.wgsl")],
            Second::Missed => [one, part!("linear/pair_missed.wgsl")],
        }
    }
}

/// A variant of the kernels that walk tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Variant {
    pub access: Access,
    pub fading: Fading,
    pub rule: Rule,
    pub start: Start,
    /// Whether there are readers of the state.
    pub reads: bool,
    /// Whether anything is added to the state.
    pub adds: bool,
    pub packed: bool,
    pub reverse: bool,
    /// Whether a reader sees earlier tokens only, and not its own.
    pub strict: bool,
    /// Whether a state is kept for every chunk.
    pub keeps: bool,
    /// Readers a token and walker.
    pub group: u32,
    /// Applied to keys and readers as they are loaded.
    pub map: FeatureMap,
    /// The second tensors, in short blocks only.
    pub second: Second,
    /// Whether flows are written, in short blocks only.
    pub flows: bool,
    /// Whether what is missed is written times beta as well, in short blocks only.
    pub weighs: bool,
}

impl Variant {
    fn parts(&self, rule: Part) -> Vec<Part> {
        let mut parts = vec![
            part!("linear/walk.wgsl"),
            part!("linear/decay.wgsl"),
            part!("common/fade.wgsl"),
            part!("common/grid.wgsl"),
            self.fading.part(),
        ];
        parts.push(rule);
        parts.push(self.start.part());
        parts.push(if self.packed {
            part!("linear/span_packed.wgsl")
        } else {
            part!("linear/span_batch.wgsl")
        });
        parts.push(if self.reads {
            part!("linear/readers.wgsl")
        } else {
            part!("linear/readers_none.wgsl")
        });
        parts.push(if self.adds {
            part!("linear/sources.wgsl")
        } else {
            part!("linear/sources_none.wgsl")
        });
        parts.push(if self.reads || self.rule == Rule::Missed {
            part!("linear/outputs.wgsl")
        } else {
            part!("linear/outputs_none.wgsl")
        });
        parts.push(features::elementwise(self.map).unwrap_or(part!("linear/map_identity.wgsl")));
        parts.extend(self.access.parts());
        parts
    }

    /// What becomes of values, where the delta rule's systems are solved or not.
    fn rule_part(&self, solved: bool) -> Part {
        match self.rule {
            Rule::Additive => part!("linear/additive.wgsl"),
            Rule::Normalized => part!("linear/normalize.wgsl"),
            Rule::Delta | Rule::Missed if solved => part!("linear/delta_solved.wgsl"),
            Rule::Delta | Rule::Missed => part!("linear/delta.wgsl"),
        }
    }

    /// Where flows go: per channel where columns fade by themselves, summed over them otherwise.
    fn flow_part(&self) -> Part {
        match (self.flows, self.fading) {
            (false, _) => part!("linear/flow_none.wgsl"),
            (true, Fading::Columns) => part!("linear/flow_channels.wgsl"),
            (true, _) => part!("linear/flow_tokens.wgsl"),
        }
    }

    fn weighed_part(&self) -> Part {
        if self.weighs {
            part!("linear/weighed.wgsl")
        } else {
            part!("linear/weighed_none.wgsl")
        }
    }

    fn spec(&self, spec: Spec) -> Spec {
        spec.with("REVERSE", self.reverse)
            .with("STRICT", self.strict)
            .with("KEEP", self.keeps)
            .with("GROUP", self.group)
            .with("OUT_MISSED", self.rule == Rule::Missed)
    }
}

params! {
    /// Parameters of the kernels that walk tokens.
    WalkParams {
        first_token: u32,
        tokens: u32,
        total: u32,
        head_first: u32,
        state_heads: u32,
        q_heads: u32,
        k_heads: u32,
        v_heads: u32,
        g_heads: u32,
        first_walker: u32,
        key: u32,
        value: u32,
        segments: u32,
        segment_tokens: u32,
        slots: u32,
        slices: u32,
        groups: u32,
        q_offset: u32,
        k_offset: u32,
        v_offset: u32,
        o_offset: u32,
        g_offset: u32,
        beta_offset: u32,
        state_offset: u32,
        z_offset: u32,
        scale: f32,
        source_scale: f32,
        eps: f32,
    }
}

params! {
    /// Parameters of `state_scan`.
    StateScanParams {
        walkers: u32,
        rows: u32,
        columns: u32,
        segments: u32,
        slots: u32,
        first_slot: u32,
        last_slot: u32,
        segment_slots: u32,
        state_offset: u32,
        groups: u32,
    }
}

params! {
    /// Parameters of `copy`.
    CopyParams {
        rows: u32,
        words: u32,
        from_stride: u32,
        to_stride: u32,
        repeat: u32,
        groups: u32,
    }
}

pub(super) fn recurrent(tile: &RecurrentTile, variant: &Variant, key: usize) -> Arc<Kernel> {
    let rows = if tile.subgroup {
        part!("linear/rows_subgroup.wgsl")
    } else {
        part!("linear/rows_direct.wgsl")
    };
    let key_vecs = match variant.rule {
        Rule::Normalized => (key as u32).div_ceil(4),
        _ => 1,
    };
    let parts = [
        part!("linear/recurrent.wgsl"),
        part!("common/products.wgsl"),
        rows,
    ];
    Arc::new(Kernel {
        name: "linear/recurrent",
        parts: parts
            .into_iter()
            .chain(variant.parts(variant.rule_part(false)))
            .chain(variant.second.parts())
            .chain([variant.flow_part(), variant.weighed_part()])
            .collect(),
        spec: variant.spec(tile.spec().with("KEY_VECS", key_vecs)),
        needs: Needs {
            subgroup: tile.subgroup,
            ..variant.access.needs()
        },
        params: WalkParams::FIELDS,
        workgroup: [tile.lanes, tile.row_groups, 1],
        workgroup_bytes: tile.bytes(variant.group) + 16 * key_vecs,
    })
}

/// What a sweep does beside its two gradients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SweepVariant {
    pub fading: Fading,
    pub start: Start,
    pub packed: bool,
    /// From the last token to the first, for keys and values; otherwise for queries.
    pub back: bool,
    pub delta: bool,
    /// Whether the gradient of log decays is wanted.
    pub flows: bool,
    /// Whether that of beta is, on the way back.
    pub beta: bool,
}

/// A walk that has all columns of the state, for the gradients.
pub(super) fn sweep(tile: &SweepTile, variant: SweepVariant, key: usize) -> Arc<Kernel> {
    let SweepVariant {
        fading,
        back,
        delta,
        flows,
        ..
    } = variant;
    let [kernel, own] = if back {
        [part!("linear/sweep_back.wgsl"), part!("linear/sweep.wgsl")]
    } else {
        [part!("linear/sweep_on.wgsl"), part!("linear/sweep.wgsl")]
    };
    let mut parts = vec![
        kernel,
        own,
        part!("linear/walk.wgsl"),
        part!("linear/decay.wgsl"),
        part!("common/fade.wgsl"),
        part!("common/grid.wgsl"),
        part!("linear/map_identity.wgsl"),
        fading.part(),
        variant.start.part(),
        if variant.packed {
            part!("linear/span_packed.wgsl")
        } else {
            part!("linear/span_batch.wgsl")
        },
        if back && delta {
            part!("linear/delta.wgsl")
        } else {
            part!("linear/additive.wgsl")
        },
    ];
    let access = Access {
        dtype: Dtype::F32,
        native: true,
        vectors: true,
    };
    parts.extend(access.parts());
    let channels = fading == Fading::Rows;
    if back {
        parts.push(match flows {
            false => part!("linear/sweep_left_none.wgsl"),
            true if channels => part!("linear/sweep_left_channels.wgsl"),
            true => part!("linear/sweep_left_numbers.wgsl"),
        });
        parts.push(if variant.beta {
            part!("linear/sweep_beta.wgsl")
        } else {
            part!("linear/sweep_beta_none.wgsl")
        });
    } else {
        parts.push(if delta {
            part!("linear/sweep_corrected.wgsl")
        } else {
            part!("linear/sweep_plain.wgsl")
        });
        parts.push(match flows {
            false => part!("linear/sweep_dg_none.wgsl"),
            true if channels => part!("linear/sweep_dg_channels.wgsl"),
            true => part!("linear/sweep_dg_numbers.wgsl"),
        });
        if flows {
            parts.push(part!("linear/sweep_flows.wgsl"));
        }
    }
    // Flows are kept for every row of the state.
    let key_vecs = if channels && flows && !back {
        key.div_ceil(4)
    } else {
        1
    };
    Arc::new(Kernel {
        name: if back {
            "linear/sweep_back"
        } else {
            "linear/sweep_on"
        },
        parts,
        spec: tile
            .spec()
            .with("REVERSE", back)
            .with("KEEP", flows)
            .with("KEY_VECS", key_vecs as u32),
        needs: Needs {
            subgroup: true,
            ..access.needs()
        },
        params: WalkParams::FIELDS,
        workgroup: [tile.lanes(), 1, 1],
        workgroup_bytes: 0,
    })
}

fn score_part(tile: &ChunkTile) -> Part {
    if tile.pairs() {
        part!("linear/scores_pairs.wgsl")
    } else {
        part!("linear/scores_tile.wgsl")
    }
}

/// The walk by chunks; with `totals`, the sums of log decays of every walker and segment go to binding 3.
pub(super) fn chunk(tile: &ChunkTile, variant: &Variant, totals: bool) -> Arc<Kernel> {
    let totals = if totals {
        part!("linear/totals.wgsl")
    } else {
        part!("linear/totals_none.wgsl")
    };
    let mut parts = vec![
        part!("linear/chunk.wgsl"),
        part!("linear/state_tile.wgsl"),
        part!("linear/gates.wgsl"),
        totals,
    ];
    match tile.units {
        None => parts.extend([
            part!("linear/chunk_lanes.wgsl"),
            part!("common/products.wgsl"),
            score_part(tile),
        ]),
        Some(units) => {
            parts.push(part!("linear/chunk_matrices.wgsl"));
            parts.extend(units.parts());
        }
    }
    Arc::new(Kernel {
        name: "linear/chunk",
        parts: parts
            .into_iter()
            .chain(variant.parts(variant.rule_part(true)))
            .collect(),
        spec: variant.spec(tile.spec()),
        needs: match tile.units {
            None => variant.access.needs(),
            Some(units) => units.needs().and(variant.access.needs()),
        },
        params: WalkParams::FIELDS,
        workgroup: [256, 1, 1],
        workgroup_bytes: tile.bytes(),
    })
}

/// The delta rule's systems of a walk by chunks.
pub(super) fn delta_prepare(tile: &ChunkTile, variant: &Variant) -> Arc<Kernel> {
    let variant = Variant {
        start: Start::Resume,
        reads: false,
        strict: true,
        keeps: false,
        rule: Rule::Delta,
        group: 1,
        ..*variant
    };
    Arc::new(Kernel {
        name: "linear/delta_prepare",
        parts: [
            part!("linear/delta_prepare.wgsl"),
            part!("linear/gates.wgsl"),
            part!("common/products.wgsl"),
            score_part(tile),
        ]
        .into_iter()
        .chain(variant.parts(variant.rule_part(false)))
        .collect(),
        spec: variant.spec(tile.prepare_spec()),
        needs: variant.access.needs(),
        params: WalkParams::FIELDS,
        workgroup: [256, 1, 1],
        workgroup_bytes: tile.prepare_bytes(),
    })
}

/// States at the start of every segment from what each adds.
pub(super) fn state_scan(
    vectors: bool,
    fading: Fading,
    start: Start,
    [reverse, keeps]: [bool; 2],
) -> Arc<Kernel> {
    let access = Access {
        dtype: Dtype::F32,
        native: true,
        vectors,
    };
    let parts = [
        part!("linear/state_scan.wgsl"),
        part!("common/fade.wgsl"),
        part!("common/grid.wgsl"),
        fading.segment_part(),
        start.part(),
    ];
    Arc::new(Kernel {
        name: "linear/state_scan",
        parts: parts.into_iter().chain(access.parts()).collect(),
        spec: Spec::default().with("REVERSE", reverse).with("KEEP", keeps),
        needs: Needs::default(),
        params: StateScanParams::FIELDS,
        workgroup: [64, 1, 1],
        workgroup_bytes: 0,
    })
}

/// Copies words.
pub(super) fn copy() -> Arc<Kernel> {
    Arc::new(Kernel {
        name: "common/copy",
        parts: vec![part!("common/copy.wgsl"), part!("common/grid.wgsl")],
        spec: Spec::default(),
        needs: Needs::default(),
        params: CopyParams::FIELDS,
        workgroup: [64, 1, 1],
        workgroup_bytes: 0,
    })
}
