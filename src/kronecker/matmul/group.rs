//! Which axes a pass contracts together.

use super::{
    kernels,
    order::{Axes, Mode, order},
    shape::Kind,
};
use crate::{
    choice::{Choice, Entry},
    gpu::{Caps, Class, Dtype, Matrices},
};

/// Whether a pass may contract several axes.
pub(crate) const FUSED: Choice = Choice {
    name: "kronecker/stage.fused",
    legal: &[0, 1],
    table: &[Entry {
        class: Class::Cpu,
        value: 0,
        source: "barriers cost software adapters more than memory does (llvmpipe, Mesa 22.3.6, 2026-11)",
    }],
    otherwise: 1,
};

/// The most factors of a fused pass.
const MOST_MODES: usize = 6;

/// Passes over which all groupings are compared; more are grouped from the last axis on.
const MOST_COMPARED: usize = 10;

/// Operations that matrix units do in the time of one without them. Three products of halves are one of f32; the units of an H200 are
/// fifteen times as quick on paper, which is all that is known.
const BY_MATRICES: f64 = 4.0;

/// A dispatch's own time, in operations.
const DISPATCH: f64 = 5e6;

/// Items of x for which passes are compared, whatever it has: results do not depend on how many rows are multiplied at once.
const ITEMS: f64 = (1 << 24) as f64;

/// Neighbouring axes that one pass contracts.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Group {
    /// All of them as one: p and q are products.
    pub mode: Mode,
    /// How many axes they are.
    pub span: usize,
    /// Each of them, in the order in which the pass contracts them.
    pub members: Vec<Mode>,
}

impl Group {
    pub fn single(mode: Mode) -> Group {
        Group {
            mode,
            span: 1,
            members: vec![mode],
        }
    }

    fn new(modes: &[Mode]) -> Option<Group> {
        let first = modes.first()?;
        if modes.len() == 1 {
            return Some(Group::single(*first));
        }
        let sizes: Vec<[usize; 2]> = modes.iter().map(|mode| [mode.p, mode.q]).collect();
        let members = order(&sizes).into_iter();
        Some(Group {
            mode: Mode {
                p: modes.iter().map(|mode| mode.p).product(),
                q: modes.iter().map(|mode| mode.q).product(),
                // Not 0 where a batch has any factor of its own.
                batch_stride: modes.iter().map(|mode| mode.batch_stride).sum(),
                ..*first
            },
            span: modes.len(),
            members: members.filter_map(|n| modes.get(n).copied()).collect(),
        })
    }

    /// Items of a column before the first member, and after each.
    pub fn sizes(&self) -> Vec<u64> {
        let mut size = self.mode.p as u64;
        let mut sizes = vec![size];
        for member in &self.members {
            size = size / member.p as u64 * member.q as u64;
            sizes.push(size);
        }
        sizes
    }

    /// Items before and after a member's axis within a column, when it is its turn.
    pub fn around(&self, turn: usize) -> [u64; 2] {
        let Some(own) = self.members.get(turn) else {
            return [1, 1];
        };
        let [mut before, mut after] = [1, 1];
        for (n, member) in self.members.iter().enumerate() {
            let size = if n < turn { member.q } else { member.p } as u64;
            if member.axis < own.axis {
                before *= size;
            } else if member.axis > own.axis {
                after *= size;
            }
        }
        [before, after]
    }

    /// Multiply-adds for one column.
    pub fn products(&self) -> f64 {
        let sizes = self.sizes();
        let each = self.members.iter().zip(sizes);
        each.map(|(member, size)| size as f64 / member.p as f64 * member.products() as f64)
            .sum()
    }
}

/// Columns of a tile, and how far apart in it an item's neighbours are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tile {
    pub columns: u64,
    pub pitch: u64,
    /// Words of each of the two areas.
    pub area: u64,
    pub trailing: bool,
}

impl Tile {
    /// For a group with so many items after it; none where it does not fit workgroup memory.
    pub fn new(group: &Group, after: u64, caps: &Caps) -> Option<Tile> {
        let capacity = group.sizes().into_iter().max()?;
        // More would leave a processor with a single workgroup.
        let words = u64::from(caps.workgroup_bytes.min(32 << 10)) / 8;
        let trailing = after == 1;
        let kinds: &[u64] = if trailing {
            &[16, 8, 4, 2, 1]
        } else {
            &[16, 8]
        };
        // Columns that are neighbours in memory are so in the tile; rows of memory are written apart from one another.
        let pitch = |columns: u64| columns + u64::from(trailing && columns > 1);
        let columns = kinds
            .iter()
            .copied()
            .find(|columns| capacity * pitch(*columns) <= words)?;
        Some(Tile {
            columns,
            pitch: pitch(columns),
            // Both areas together are whole vectors.
            area: (capacity * pitch(columns)).next_multiple_of(2),
            trailing,
        })
    }
}

/// Whether factors of f16 calls go through matrix units where a device has them.
pub(crate) const UNITS: Choice = Choice {
    name: "kronecker/stage.units",
    legal: &[0, 1],
    table: &[],
    otherwise: 1,
};

/// The matrix units that a pass takes in a call with tensors of this type: those of f16, because what is lost where factors are cut in
/// halves is little to their rounding. A square's side at least of both axes, and no longer sums than units that truncate bear.
pub(super) fn matrices(group: &Group, dtype: Dtype, caps: &Caps) -> Option<Matrices> {
    let Mode { kind, p, q, .. } = group.mode;
    let dense = kind == Kind::Dense && group.span == 1;
    let fits = dense && dtype == Dtype::F16 && (16..=512).contains(&p) && q >= 16;
    caps.units(&UNITS).filter(|units| {
        fits && caps.supports(&units.needs())
            && kernels::UNITS * units.lanes <= caps.invocations
            && kernels::matrices_bytes(*units) <= caps.workgroup_bytes
    })
}

/// Passes over the axes, in their order: the grouping that is predicted to be quickest, or those of single axes.
pub(super) fn grouped(modes: &[Mode], axes: &Axes, dtype: Dtype, caps: &Caps) -> Vec<Group> {
    let real: Vec<Mode> = modes
        .iter()
        .filter(|mode| mode.kind != Kind::Identity)
        .copied()
        .collect();
    let singles = || real.iter().map(|mode| Group::single(*mode)).collect();
    if caps.choose(&FUSED) == 0 || caps.invocations < 256 {
        return in_order(singles());
    }
    // Between which neighbours a pass may reach.
    let joins: Vec<bool> = real
        .iter()
        .zip(real.iter().skip(1))
        .map(|(a, b)| a.axis + 1 == b.axis && a.kind == Kind::Dense && b.kind == Kind::Dense)
        .collect();
    if real.len() > MOST_COMPARED {
        return in_order(greedy(&real, &joins, axes, caps));
    }
    let mut best: Option<(f64, Vec<Group>)> = None;
    for cuts in 0..1u32 << joins.len() {
        let apart = |n: usize| cuts >> n & 1 == 1;
        if joins.iter().enumerate().any(|(n, join)| !join && !apart(n)) {
            continue;
        }
        let groups: Vec<&[Mode]> = split(&real, apart);
        let Some(groups) = groups
            .into_iter()
            .map(Group::new)
            .collect::<Option<Vec<Group>>>()
        else {
            continue;
        };
        let groups = in_order(groups);
        if let Some(cost) = predicted(&groups, axes, dtype, caps)
            && best.as_ref().is_none_or(|(least, _)| cost < *least)
        {
            best = Some((cost, groups));
        }
    }
    best.map_or_else(|| in_order(singles()), |(_, groups)| groups)
}

/// Slices of a list, cut after the n-th where so said.
fn split(modes: &[Mode], apart: impl Fn(usize) -> bool) -> Vec<&[Mode]> {
    let mut rest = modes;
    let mut slices = Vec::new();
    let mut len = 0;
    for n in 0..modes.len() {
        len += 1;
        if n + 1 == modes.len() || apart(n) {
            let (slice, after) = rest.split_at(len);
            slices.push(slice);
            (rest, len) = (after, 0);
        }
    }
    slices
}

/// The largest groups that fit, from the last axis on.
fn greedy(modes: &[Mode], joins: &[bool], axes: &Axes, caps: &Caps) -> Vec<Group> {
    let mut end = modes.len();
    let mut groups = Vec::new();
    while end > 0 {
        let fits = |start: &usize| {
            let joined = joins
                .iter()
                .skip(*start)
                .take(end - 1 - start)
                .all(|join| *join);
            let group = modes.get(*start..end).and_then(Group::new);
            // The narrower tile of axes in the midst fits at the end, too.
            joined && group.is_some_and(|group| fused(&group, axes, caps))
        };
        let mut starts = end.saturating_sub(MOST_MODES)..end - 1;
        let start = starts.find(fits).unwrap_or(end - 1);
        groups.extend(modes.get(start..end).and_then(Group::new));
        end = start;
    }
    groups.reverse();
    groups
}

/// Whether a group of several axes fits a tile.
fn fused(group: &Group, axes: &Axes, caps: &Caps) -> bool {
    let [_, after] = axes.around(group.mode.axis, group.span);
    group.span <= MOST_MODES && Tile::new(group, after, caps).is_some()
}

/// Passes, the strongest contraction first; of equal ones that over the last axis, because the first pass reads x from memory and
/// is quickest where items are neighbours, and then in their order.
fn in_order(mut groups: Vec<Group>) -> Vec<Group> {
    let last = 1.min(groups.len());
    groups.rotate_right(last);
    let sizes: Vec<[usize; 2]> = groups
        .iter()
        .map(|group| [group.mode.p, group.mode.q])
        .collect();
    let order = order(&sizes).into_iter();
    order.filter_map(|n| groups.get(n).cloned()).collect()
}

/// How long passes take, each the longer of its traffic and its arithmetic, in operations; none where one does not fit.
fn predicted(groups: &[Group], axes: &Axes, dtype: Dtype, caps: &Caps) -> Option<f64> {
    let mut axes = axes.clone();
    let scale = ITEMS / axes.slab() as f64;
    let mut sum = 0.0;
    for group in groups {
        if group.span > 1 && !fused(group, &axes, caps) {
            return None;
        }
        let [before, after] = axes.around(group.mode.axis, group.span);
        let columns = scale * (before * after) as f64;
        let items = columns * (group.mode.p + group.mode.q) as f64;
        // A byte for every four operations.
        let traffic = 4.0 * 4.0 * items;
        let quicker = matrices(group, dtype, caps).map_or(1.0, |_| BY_MATRICES);
        let arithmetic = 2.0 * columns * group.products() / quicker;
        sum += traffic.max(arithmetic) + DISPATCH;
        axes.apply(group);
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::{super::order, *};
    use crate::kronecker::matmul::{Factor, Operator, Shape, Side};

    fn passes(sides: &[[usize; 2]], rows: usize, caps: &Caps) -> Vec<usize> {
        let groups = groups(sides, rows, Dtype::F32, caps);
        groups.iter().map(|group| group.span).collect()
    }

    fn groups(sides: &[[usize; 2]], rows: usize, dtype: Dtype, caps: &Caps) -> Vec<Group> {
        let operator = Operator::new(sides.iter().map(|[p, q]| Factor::dense(*p, *q)));
        let modes = order::modes(&operator, Side::Right);
        let axes = Axes::new(&Shape::rows(rows), &modes);
        grouped(&modes, &axes, dtype, caps)
    }

    #[test]
    fn small_factors_share_a_pass_and_large_ones_do_not() {
        let gpu = Caps::nvidia();
        assert!(passes(&[[8, 8]; 6], 1024, &gpu).len() <= 3);
        assert!(passes(&[[16, 16]; 5], 1024, &gpu).len() <= 3);
        assert!(passes(&[[2, 2]; 20], 1, &gpu).len() <= 4);
        assert_eq!(passes(&[[128, 128]; 3], 320, &gpu), [1, 1, 1]);
        assert_eq!(passes(&[[8, 8]; 4], 1024, &Caps::lavapipe()), [1; 4]);
        assert!(passes(&[[8, 8]; 3], 1024, &Caps::webgpu_floor()).len() <= 2);
    }

    #[test]
    fn matrix_units_take_large_factors_of_f16_calls() {
        let presets = Caps::presets().into_iter();
        for caps in presets.filter(|caps| caps.matrices.is_some()) {
            let by_units = |sides: &[[usize; 2]], dtype| {
                let groups = groups(sides, 1024, dtype, &caps);
                let each = groups.iter().map(|group| matrices(group, dtype, &caps));
                each.map(|units| units.is_some()).collect::<Vec<bool>>()
            };
            for p in [32, 64, 128] {
                assert_eq!(by_units(&[[p, p]; 3], Dtype::F16), [true; 3], "{p}");
            }
            assert_eq!(by_units(&[[16, 16]], Dtype::F16), [true]);
            // Small factors still share a pass.
            assert!(by_units(&[[16, 16]; 4], Dtype::F16).len() <= 2);
            for sides in [[15, 64], [64, 15], [513, 16]] {
                assert_eq!(by_units(&[sides], Dtype::F16), [false], "{sides:?}");
            }
            for dtype in [Dtype::F32, Dtype::Bf16] {
                assert!(!by_units(&[[64, 64]; 3], dtype).contains(&true));
            }
        }
    }

    #[test]
    fn members_know_what_is_around_them() {
        let operator = Operator::new([[2, 3], [4, 5], [7, 6]].map(|[p, q]| Factor::dense(p, q)));
        let modes = order::modes(&operator, Side::Right);
        let group = Group::new(&modes).unwrap();
        assert_eq!([group.mode.p, group.mode.q], [56, 90]);
        for turn in 0..3 {
            let [before, after] = group.around(turn);
            let own = group.members[turn];
            assert_eq!(before * after * own.p as u64, group.sizes()[turn]);
        }
    }
}
