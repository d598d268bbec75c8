//! Variants of the kernels that walk tokens, and the parts that each is made of.

use super::super::{FeatureMap, features};
use crate::{
    elements::Access,
    gpu::{Part, Spec, part},
};

/// Where the state at the start of a walk comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::linear) enum Start {
    /// Zero.
    Zero,
    /// The state buffer.
    Resume,
}

impl Start {
    pub(super) fn part(self) -> Part {
        match self {
            Start::Zero => part!("linear/start_zero.wgsl"),
            Start::Resume => part!("linear/start_resume.wgsl"),
        }
    }
}

/// What a decay multiplies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::linear) enum Fading {
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
    pub(super) fn segment_part(self) -> Part {
        match self {
            Fading::None => part!("linear/segment_none.wgsl"),
            Fading::Head | Fading::Token => part!("linear/segment_scalar.wgsl"),
            Fading::Rows => part!("linear/segment_rows.wgsl"),
            Fading::Columns => part!("linear/segment_columns.wgsl"),
        }
    }

    pub(super) fn part(self) -> Part {
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
pub(in crate::linear) enum Rule {
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
pub(in crate::linear) enum Second {
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
    pub(super) fn parts(self) -> [Part; 2] {
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
pub(in crate::linear) struct Variant {
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
    pub(super) fn parts(&self, rule: Part) -> Vec<Part> {
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
    pub(super) fn rule_part(&self, solved: bool) -> Part {
        match self.rule {
            Rule::Additive => part!("linear/additive.wgsl"),
            Rule::Normalized => part!("linear/normalize.wgsl"),
            Rule::Delta | Rule::Missed if solved => part!("linear/delta_solved.wgsl"),
            Rule::Delta | Rule::Missed => part!("linear/delta.wgsl"),
        }
    }

    /// Where flows go: per channel where columns fade by themselves, summed over them otherwise.
    pub(super) fn flow_part(&self) -> Part {
        match (self.flows, self.fading) {
            (false, _) => part!("linear/flow_none.wgsl"),
            (true, Fading::Columns) => part!("linear/flow_channels.wgsl"),
            (true, _) => part!("linear/flow_tokens.wgsl"),
        }
    }

    pub(super) fn weighed_part(&self) -> Part {
        if self.weighs {
            part!("linear/weighed.wgsl")
        } else {
            part!("linear/weighed_none.wgsl")
        }
    }

    pub(super) fn spec(&self, spec: Spec) -> Spec {
        spec.with("REVERSE", self.reverse)
            .with("STRICT", self.strict)
            .with("KEEP", self.keeps)
            .with("GROUP", self.group)
            .with("OUT_MISSED", self.rule == Rule::Missed)
    }
}
