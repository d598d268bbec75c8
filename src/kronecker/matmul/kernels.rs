//! The kernels of a product, and their parameters.

use std::sync::Arc;

use super::{
    group::{Group, Tile},
    shape::Kind,
};
use crate::{
    elements::{Access, by_words},
    gpu::{Caps, Dtype, Kernel, Matrices, Needs, Part, Spec, params, part},
};

params! {
    /// Parameters of `stage`.
    StageParams {
        p: u32,
        q: u32,
        r: u32,
        first_unit: u32,
        first: u32,
        groups: u32,
        f_offset: u32,
        f_t: u32,
        f_j: u32,
        f_batch: u32,
        set_columns: u32,
        f_set: u32,
        x_first: u32,
        x_offset: u32,
        x_width: u32,
        x_rows: u32,
        x_row: u32,
        x_batch: u32,
        z_first: u32,
        z_offset: u32,
        z_width: u32,
        z_rows: u32,
        z_row: u32,
        z_batch: u32,
        alpha: f32,
        beta: f32,
    }
}

params! {
    /// Parameters of `pack_factor`.
    PackParams {
        p: u32,
        q: u32,
        f_offset: u32,
        f_t: u32,
        f_j: u32,
        f_batch: u32,
        sets: u32,
        block: u32,
        base: u32,
        groups: u32,
    }
}

params! {
    /// Parameters of `store`.
    StoreParams {
        width: u32,
        words: u32,
        first: u32,
        first_group: u32,
        groups: u32,
        count: u32,
        items_start: u32,
        items_end: u32,
        y_offset: u32,
        z_offset: u32,
        z_rows: u32,
        z_row: u32,
        z_batch: u32,
        beta: f32,
    }
}

params! {
    /// Parameters of `factor_grad` and its forms.
    FactorGradParams {
        p: u32,
        q: u32,
        r: u32,
        set_columns: u32,
        first_column: u32,
        last_column: u32,
        part_columns: u32,
        parts: u32,
        first: u32,
        groups: u32,
        x_offset: u32,
        g_offset: u32,
        i_stride: u32,
        j_stride: u32,
        block: u32,
        alpha: f32,
    }
}

/// Whether rows are one after another, on both ends of a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ends {
    pub x_dense: bool,
    pub z_dense: bool,
    /// The type of x.
    pub dtype: Dtype,
}

impl Ends {
    fn access(self, caps: &Caps) -> Access {
        Access {
            dtype: self.dtype,
            native: self.dtype != Dtype::F16 || caps.f16,
            vectors: false,
        }
    }

    /// The parts that say where items are, and of what type.
    fn parts(self, caps: &Caps) -> [Part; 3] {
        let x = if self.x_dense {
            part!("kronecker/x_dense.wgsl")
        } else {
            part!("kronecker/x_strided.wgsl")
        };
        let z = if self.z_dense {
            part!("kronecker/z_dense.wgsl")
        } else {
            part!("kronecker/z_strided.wgsl")
        };
        let [elem, _] = self.access(caps).parts();
        [x, z, elem]
    }
}

/// `stage`, with so many times four outputs a workgroup.
pub(super) fn stage(kind: Kind, across: u32, ends: Ends, caps: &Caps) -> Arc<Kernel> {
    let factor = match kind {
        Kind::Dense => part!("kronecker/factor_dense.wgsl"),
        Kind::Diagonal => part!("kronecker/factor_diagonal.wgsl"),
        Kind::Identity => part!("kronecker/factor_identity.wgsl"),
    };
    let own = [
        part!("kronecker/stage.wgsl"),
        part!("kronecker/stage_params.wgsl"),
        factor,
        part!("common/grid.wgsl"),
    ];
    Arc::new(Kernel {
        name: "kronecker/stage",
        parts: own.into_iter().chain(ends.parts(caps)).collect(),
        spec: Spec::default().with("ACROSS", across),
        needs: ends.access(caps).needs(),
        params: StageParams::FIELDS,
        workgroup: [64, 1, 1],
        workgroup_bytes: 0,
    })
}

/// How the columns of a pass lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Columns {
    /// Four neighbours are four columns.
    Inner,
    /// Four neighbours are four items of one column.
    Trailing,
    /// Item by item.
    Any(Ends),
}

/// `stage_lanes`, with subgroups of so many lanes and so many outputs each, which must fit them.
pub(super) fn stage_lanes(
    columns: Columns,
    quads: bool,
    [lanes, sets, outputs]: [u32; 3],
    caps: &Caps,
) -> Arc<Kernel> {
    let mut parts = vec![
        part!("kronecker/stage_lanes.wgsl"),
        part!("kronecker/lanes.wgsl"),
        part!("kronecker/stage_params.wgsl"),
        if quads {
            part!("kronecker/entries_vec4.wgsl")
        } else {
            part!("kronecker/entries_scalar.wgsl")
        },
        part!("common/grid.wgsl"),
    ];
    let mut needs = Needs::default();
    match columns {
        Columns::Inner => parts.push(part!("kronecker/columns_inner.wgsl")),
        Columns::Trailing => parts.push(part!("kronecker/columns_trailing.wgsl")),
        Columns::Any(ends) => {
            parts.push(part!("kronecker/columns_any.wgsl"));
            parts.extend(ends.parts(caps));
            needs = ends.access(caps).needs();
        }
    }
    Arc::new(Kernel {
        name: "kronecker/stage_lanes",
        parts,
        spec: Spec::default()
            .with("LANES", lanes)
            .with("SETS", sets)
            .with("OUTPUTS", outputs),
        needs: Needs {
            subgroup: true,
            ..needs
        },
        params: StageParams::FIELDS,
        workgroup: [lanes, 1, 1],
        workgroup_bytes: 0,
    })
}

pub(super) fn store(dtype: Dtype) -> Arc<Kernel> {
    let (elem, needs) = by_words(dtype);
    Arc::new(Kernel {
        name: "kronecker/store",
        parts: vec![
            part!("kronecker/store.wgsl"),
            elem,
            part!("common/grid.wgsl"),
        ],
        spec: Spec::default(),
        needs,
        params: StoreParams::FIELDS,
        workgroup: [64, 1, 1],
        workgroup_bytes: 0,
    })
}

/// `factor_grad`, for columns that are neighbours or not.
pub(super) fn factor_grad(columns: bool) -> Arc<Kernel> {
    Arc::new(Kernel {
        name: "kronecker/factor_grad",
        parts: vec![
            part!("kronecker/factor_grad.wgsl"),
            part!("kronecker/factor_grad_params.wgsl"),
            part!("common/grid.wgsl"),
        ],
        spec: Spec::default().with("COLUMNS", columns),
        needs: Needs::default(),
        params: FactorGradParams::FIELDS,
        workgroup: [64, 1, 1],
        workgroup_bytes: 2 * 16 * 16 * 9,
    })
}

pub(super) fn factor_grad_diagonal() -> Arc<Kernel> {
    Arc::new(Kernel {
        name: "kronecker/factor_grad_diagonal",
        parts: vec![
            part!("kronecker/factor_grad_diagonal.wgsl"),
            part!("kronecker/factor_grad_params.wgsl"),
            part!("common/grid.wgsl"),
        ],
        spec: Spec::default(),
        needs: Needs::default(),
        params: FactorGradParams::FIELDS,
        workgroup: [64, 1, 1],
        workgroup_bytes: 0,
    })
}

/// How the items of columns lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Items {
    /// Four neighbours are four columns.
    Inner,
    /// Four neighbours are four items of one column.
    Trailing,
    /// One by one.
    Any,
}

pub(super) fn factor_grad_lanes(items: Items, [lanes, outputs]: [u32; 2]) -> Arc<Kernel> {
    Arc::new(Kernel {
        name: "kronecker/factor_grad_lanes",
        parts: vec![
            part!("kronecker/factor_grad_lanes.wgsl"),
            part!("kronecker/factor_grad_params.wgsl"),
            part!("kronecker/lanes.wgsl"),
            match items {
                Items::Inner => part!("kronecker/items_inner.wgsl"),
                Items::Trailing => part!("kronecker/items_trailing.wgsl"),
                Items::Any => part!("kronecker/items_any.wgsl"),
            },
            part!("common/grid.wgsl"),
        ],
        spec: Spec::default()
            .with("LANES", lanes)
            .with("SETS", 1)
            .with("OUTPUTS", outputs),
        needs: Needs {
            subgroup: true,
            ..Needs::default()
        },
        params: FactorGradParams::FIELDS,
        workgroup: [lanes, 1, 1],
        workgroup_bytes: 0,
    })
}

/// Constants of a fused pass's factors, by their turn.
const MEMBERS: [[&str; 5]; 6] = [
    ["BEFORE_0", "P_0", "Q_0", "AFTER_0", "FACTOR_0"],
    ["BEFORE_1", "P_1", "Q_1", "AFTER_1", "FACTOR_1"],
    ["BEFORE_2", "P_2", "Q_2", "AFTER_2", "FACTOR_2"],
    ["BEFORE_3", "P_3", "Q_3", "AFTER_3", "FACTOR_3"],
    ["BEFORE_4", "P_4", "Q_4", "AFTER_4", "FACTOR_4"],
    ["BEFORE_5", "P_5", "Q_5", "AFTER_5", "FACTOR_5"],
];

pub(super) fn stage_fused(group: &Group, tile: Tile, ends: Ends, caps: &Caps) -> Arc<Kernel> {
    let mut spec = Spec::default()
        .with("MODES", group.members.len() as u32)
        .with("COLUMNS", tile.columns as u32)
        .with("PITCH", tile.pitch as u32)
        .with("AREA", tile.area as u32)
        .with("TRAILING", tile.trailing)
        .with("FROM", group.mode.p as u32)
        .with("TO", group.mode.q as u32);
    let mut first = 0;
    for (turn, names) in MEMBERS.into_iter().enumerate() {
        let [before, after] = group.around(turn);
        let member = group.members.get(turn);
        let [p, q] = member.map_or([1, 1], |mode| [mode.p as u32, mode.q as u32]);
        let values = [before as u32, p, q, after as u32, first];
        for (name, value) in names.into_iter().zip(values) {
            spec = spec.with(name, value);
        }
        first += p * q.div_ceil(4);
    }
    let own = [
        part!("kronecker/stage_fused.wgsl"),
        part!("kronecker/stage_params.wgsl"),
        part!("common/grid.wgsl"),
    ];
    Arc::new(Kernel {
        name: "kronecker/stage_fused",
        parts: own.into_iter().chain(ends.parts(caps)).collect(),
        spec,
        needs: ends.access(caps).needs(),
        params: StageParams::FIELDS,
        workgroup: [256, 1, 1],
        workgroup_bytes: 8 * tile.area as u32,
    })
}

/// `stage_tiled`: whether neighbouring columns are so in memory, and whether the outputs of a factor's row are.
pub(super) fn stage_tiled(columns: bool, rows: bool, ends: Ends, caps: &Caps) -> Arc<Kernel> {
    let own = [
        part!("kronecker/stage_tiled.wgsl"),
        part!("common/products.wgsl"),
        part!("kronecker/stage_items.wgsl"),
        part!("kronecker/stage_params.wgsl"),
        part!("common/grid.wgsl"),
    ];
    Arc::new(Kernel {
        name: "kronecker/stage_tiled",
        parts: own.into_iter().chain(ends.parts(caps)).collect(),
        spec: Spec::default().with("COLUMNS", columns).with("ROWS", rows),
        needs: ends.access(caps).needs(),
        params: StageParams::FIELDS,
        workgroup: [256, 1, 1],
        workgroup_bytes: 16 * (4 * 65 + 16 * 17),
    })
}

/// Subgroups of a workgroup of `stage_matrices`: two by two, each with two by two squares.
pub(super) const UNITS: u32 = 4;

/// Workgroup memory of `stage_matrices`.
pub(super) fn matrices_bytes(units: Matrices) -> u32 {
    let (side, tile) = (units.side, UNITS * units.side);
    let halves = 4 * tile * (16 + 8);
    let wide = 2 * UNITS * side * (side + 4);
    2 * halves + 4 * wide + 2 * (4 * 2 * tile)
}

/// `stage_matrices`: as `stage_tiled`, of f16 tensors.
pub(super) fn stage_matrices(
    units: Matrices,
    columns: bool,
    rows: bool,
    ends: Ends,
    caps: &Caps,
) -> Arc<Kernel> {
    let own = [
        part!("kronecker/stage_matrices.wgsl"),
        part!("kronecker/stage_items.wgsl"),
        part!("kronecker/stage_params.wgsl"),
        part!("common/grid.wgsl"),
    ];
    Arc::new(Kernel {
        name: "kronecker/stage_matrices",
        parts: (own.into_iter().chain(ends.parts(caps)))
            .chain(units.parts())
            .collect(),
        spec: (units.spec(UNITS))
            .with("COLUMNS", columns)
            .with("ROWS", rows)
            .with("EXACT", ends.dtype == Dtype::F16),
        needs: units.needs(),
        params: StageParams::FIELDS,
        workgroup: [UNITS * units.lanes, 1, 1],
        workgroup_bytes: matrices_bytes(units),
    })
}

pub(super) fn pack_factor() -> Arc<Kernel> {
    Arc::new(Kernel {
        name: "kronecker/pack_factor",
        parts: vec![
            part!("kronecker/pack_factor.wgsl"),
            part!("common/grid.wgsl"),
        ],
        spec: Spec::default(),
        needs: Needs::default(),
        params: PackParams::FIELDS,
        workgroup: [64, 1, 1],
        workgroup_bytes: 0,
    })
}
