//! The operator's kernels: which parts make each, and the parameters it takes.

use std::sync::Arc;

use crate::{
    elements::{Access, by_words},
    gpu::{Dtype, Kernel, Needs, Part, Spec, params, part},
};

/// Tile of the kernels over tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tile {
    /// Tokens of a tile.
    pub tokens: u32,
    /// Landmarks of a tile.
    pub landmarks: u32,
    /// Columns of a workgroup.
    pub columns: u32,
    /// Invocations of a subgroup that is a workgroup, on software adapters; others stage tiles in workgroup memory.
    pub lanes: Option<u32>,
}

impl Tile {
    /// Tokens or landmarks that a lane owns.
    pub fn rows(self, lanes: u32) -> u32 {
        self.tokens / lanes
    }

    fn spec(self, over_state: bool) -> Spec {
        match self.lanes {
            Some(lanes) => Spec::default()
                .with("LANES", lanes)
                .with("ROWS", self.rows(lanes))
                .with("OTHERS", lanes)
                .with("COLUMNS", self.columns),
            None => Spec::default()
                .with("TOKENS", self.tokens)
                .with("LANDMARKS", self.landmarks)
                .with("COLUMNS", self.columns)
                .with("OVER_TOKENS", over_state),
        }
    }

    /// Workgroup memory: slabs of 16 channels or 16 operand rows, and the weights.
    fn bytes(self) -> u32 {
        match self.lanes {
            Some(_) => 0,
            None => {
                16 * (4 * (self.tokens + self.landmarks)).max(4 * self.columns)
                    + 4 * self.tokens * self.landmarks
            }
        }
    }
}

params! {
    /// Parameters of `sums` and `lanes`.
    TokenParams {
        tokens: u32,
        heads: u32,
        first_head: u32,
        landmarks: u32,
        width: u32,
        value: u32,
        columns: u32,
        tiles: u32,
        slices: u32,
        segments: u32,
        first_segment: u32,
        window_segments: u32,
        segment_tokens: u32,
        groups: u32,
        batch_stride: u32,
        head_stride: u32,
        token_stride: u32,
        q_offset: u32,
        l_offset: u32,
        x_offset: u32,
        v_offset: u32,
        d_offset: u32,
        out_offset: u32,
        out_stride: u32,
        y_stride: u32,
        y_row: u32,
        y_column: u32,
        scale: f32,
    }
}

params! {
    /// Parameters of the kernels over heads.
    HeadParams {
        heads: u32,
        first_head: u32,
        landmarks: u32,
        width: u32,
        value: u32,
        columns: u32,
        column: u32,
        segments: u32,
        blocks: u32,
        parts: u32,
        p_stride: u32,
        y_stride: u32,
        r_stride: u32,
        piece_stride: u32,
        norm_stride: u32,
        l_offset: u32,
        out_offset: u32,
        begin: u32,
        end: u32,
        groups: u32,
        ridge: f32,
        scale: f32,
        tolerance: f32,
    }
}

params! {
    /// Parameters of `multiply`.
    MultiplyParams {
        m: u32,
        n: u32,
        a_stride: u32,
        b_stride: u32,
        row_tiles: u32,
        column_tiles: u32,
        groups: u32,
        start: u32,
        frozen: u32,
        sign: f32,
        ridge: f32,
    }
}

params! {
    /// Parameters of the kernels of pooling.
    PoolParams {
        tokens: u32,
        heads: u32,
        first_head: u32,
        landmarks: u32,
        width: u32,
        batch_stride: u32,
        head_stride: u32,
        token_stride: u32,
        q_offset: u32,
        l_offset: u32,
        first: u32,
        elements: u32,
    }
}

/// What a kernel over tokens computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sum {
    /// Cᵀ x, over tokens.
    Right,
    /// C y, over landmarks.
    Output,
    /// What reaches the landmarks through C, over tokens.
    LandmarkGrad,
    /// What reaches q, over landmarks.
    QueryGrad,
}

pub(super) fn over_tokens(sum: Sum, tile: Tile, access: Access) -> Arc<Kernel> {
    let over_state = matches!(sum, Sum::Right | Sum::LandmarkGrad);
    let graded = matches!(sum, Sum::LandmarkGrad | Sum::QueryGrad);
    let (name, main) = match tile.lanes {
        Some(_) => ("soft/lanes", part!("soft/lanes.wgsl")),
        None => ("soft/sums", part!("soft/sums.wgsl")),
    };
    let operands = match sum {
        Sum::Right => part!("soft/state_values.wgsl"),
        Sum::Output => part!("soft/output_solution.wgsl"),
        Sum::LandmarkGrad => part!("soft/state_queries.wgsl"),
        Sum::QueryGrad => part!("soft/output_landmarks.wgsl"),
    };
    let rows = if over_state {
        part!("soft/pieces.wgsl")
    } else {
        part!("soft/outputs.wgsl")
    };
    let weights = match (tile.lanes, graded) {
        (Some(_), false) => part!("soft/lanes_kernel.wgsl"),
        (Some(_), true) => part!("soft/lanes_grad.wgsl"),
        (None, false) => part!("soft/tile_kernel.wgsl"),
        (None, true) => part!("soft/tile_grad.wgsl"),
    };
    let staged = tile.lanes.is_none().then_some(part!("soft/tile.wgsl"));
    let solution = (sum != Sum::Right).then_some(part!("soft/solution.wgsl"));
    let gradients = graded.then_some(part!("soft/gradients.wgsl"));
    let shared = [part!("soft/tokens.wgsl"), part!("common/grid.wgsl")];
    Arc::new(Kernel {
        name,
        parts: [main, operands, rows, weights]
            .into_iter()
            .chain(staged)
            .chain(solution)
            .chain(gradients)
            .chain(shared)
            .chain(access.parts())
            .collect(),
        spec: tile.spec(over_state),
        needs: Needs {
            subgroup: tile.lanes.is_some(),
            ..access.needs()
        },
        params: TokenParams::FIELDS,
        workgroup: [tile.lanes.unwrap_or(256), 1, 1],
        workgroup_bytes: tile.bytes(),
    })
}

fn over_heads(name: &'static str, parts: &[Part], workgroup_bytes: u32) -> Kernel {
    let shared = [part!("soft/heads.wgsl"), part!("common/grid.wgsl")];
    Kernel {
        name,
        parts: parts.iter().copied().chain(shared).collect(),
        spec: Spec::default(),
        needs: Needs::default(),
        params: HeadParams::FIELDS,
        workgroup: [256, 1, 1],
        workgroup_bytes,
    }
}

fn scale_part(scaled: bool) -> Part {
    if scaled {
        part!("soft/scale_rows.wgsl")
    } else {
        part!("soft/scale_none.wgsl")
    }
}

pub(super) fn gram(access: Access) -> Arc<Kernel> {
    let mut kernel = over_heads("soft/gram", &[part!("soft/gram.wgsl")], 0);
    kernel.parts.extend(access.parts());
    kernel.needs = access.needs();
    Arc::new(kernel)
}

pub(super) fn row_sums() -> Arc<Kernel> {
    Arc::new(over_heads(
        "soft/row_sums",
        &[part!("soft/row_sums.wgsl")],
        0,
    ))
}

pub(super) fn sum(scaled: bool) -> Arc<Kernel> {
    let parts = [part!("soft/sum.wgsl"), scale_part(scaled)];
    Arc::new(over_heads("soft/sum", &parts, 0))
}

pub(super) fn rescale() -> Arc<Kernel> {
    let parts = [part!("soft/rescale.wgsl"), scale_part(true)];
    Arc::new(over_heads("soft/rescale", &parts, 0))
}

/// Bytes of a packed triangle.
pub(super) fn triangle_bytes(landmarks: usize) -> u32 {
    (4 * landmarks * (landmarks + 1) / 2) as u32
}

/// `packed`: the number of landmarks a packed triangle has room for, or none for a triangle in a buffer.
pub(super) fn solve(packed: Option<usize>) -> Arc<Kernel> {
    let (part, bytes) = match packed {
        Some(landmarks) => (
            part!("soft/triangle_packed.wgsl"),
            triangle_bytes(landmarks),
        ),
        None => (part!("soft/triangle_stored.wgsl"), 0),
    };
    let mut kernel = over_heads("soft/solve", &[part!("soft/solve.wgsl"), part], bytes);
    if packed.is_some() {
        kernel.spec = Spec::default().with("TRIANGLE", bytes / 4);
    }
    Arc::new(kernel)
}

pub(super) fn newton_start() -> Arc<Kernel> {
    let parts = [part!("soft/newton_start.wgsl")];
    Arc::new(over_heads("soft/newton_start", &parts, 1024))
}

pub(super) fn newton_judge() -> Arc<Kernel> {
    let parts = [part!("soft/newton_judge.wgsl")];
    Arc::new(over_heads("soft/newton_judge", &parts, 1024))
}

pub(super) fn multiply() -> Arc<Kernel> {
    Arc::new(Kernel {
        name: "soft/multiply",
        parts: vec![part!("soft/multiply.wgsl"), part!("common/grid.wgsl")],
        spec: Spec::default(),
        needs: Needs::default(),
        params: MultiplyParams::FIELDS,
        workgroup: [256, 1, 1],
        workgroup_bytes: 4 * 512 + 16 * 128,
    })
}

pub(super) fn residual() -> Arc<Kernel> {
    Arc::new(over_heads(
        "soft/residual",
        &[part!("soft/residual.wgsl")],
        2048,
    ))
}

pub(super) fn status() -> Arc<Kernel> {
    Arc::new(over_heads("soft/status", &[part!("soft/status.wgsl")], 0))
}

pub(super) fn row_terms() -> Arc<Kernel> {
    let parts = [part!("soft/row_terms.wgsl"), scale_part(true)];
    Arc::new(over_heads("soft/row_terms", &parts, 0))
}

pub(super) fn adjoint(terms: bool) -> Arc<Kernel> {
    let terms = if terms {
        part!("soft/terms_rows.wgsl")
    } else {
        part!("soft/terms_none.wgsl")
    };
    Arc::new(over_heads(
        "soft/adjoint",
        &[part!("soft/adjoint.wgsl"), terms],
        0,
    ))
}

pub(super) fn landmark_grad(dtype: Dtype) -> Arc<Kernel> {
    let (elem, needs) = by_words(dtype);
    let parts = [part!("soft/landmark_grad.wgsl"), elem];
    Arc::new(Kernel {
        needs,
        ..over_heads("soft/landmark_grad", &parts, 0)
    })
}

fn pooling(name: &'static str, own: Part, dtype: Dtype, workgroup_bytes: u32) -> Arc<Kernel> {
    let (elem, needs) = by_words(dtype);
    let parts = vec![
        own,
        elem,
        part!("soft/pooled.wgsl"),
        part!("common/grid.wgsl"),
    ];
    Arc::new(Kernel {
        name,
        parts,
        spec: Spec::default(),
        needs,
        params: PoolParams::FIELDS,
        workgroup: [256, 1, 1],
        workgroup_bytes,
    })
}

pub(super) fn pool(dtype: Dtype) -> Arc<Kernel> {
    pooling("soft/pool", part!("soft/pool.wgsl"), dtype, 4096)
}

pub(super) fn pool_grad(dtype: Dtype) -> Arc<Kernel> {
    pooling("soft/pool_grad", part!("soft/pool_grad.wgsl"), dtype, 0)
}
