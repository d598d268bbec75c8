//! Kernels of third-order attention: parts chosen by what a call asks for.

use std::sync::Arc;

use super::{
    shape::Logits,
    tiles::{Form, Tile},
};
use crate::{
    elements::Access,
    gpu::{Kernel, Needs, Part, Spec, params, part},
};

params! {
    /// Parameters of the walks.
    Params {
        x_offset: u32,
        y_offset: u32,
        z_offset: u32,
        xv_offset: u32,
        yv_offset: u32,
        zv_offset: u32,
        rows_offset: u32,
        x_len: u32,
        y_len: u32,
        z_len: u32,
        group: u32,
        shift: u32,
        row_behind: u32,
        row_ahead: u32,
        column_behind: u32,
        column_ahead: u32,
        key: u32,
        value: u32,
        y_bits: u32,
        tiles: u32,
        tile_base: u32,
        y_parts: u32,
        y_part: u32,
        y_from: u32,
        y_to: u32,
        z_from: u32,
        z_to: u32,
        first: u32,
        groups: u32,
        scale: f32,
        key_bias: f32,
        value_bias: f32,
    }
}

params! {
    /// Parameters of `tensor_merge` and `tensor_sum`.
    TargetParams {
        x_len: u32,
        group: u32,
        tiles: u32,
        tile_base: u32,
        owners: u32,
        parts: u32,
        block: u32,
        base: u32,
        chunks: u32,
        step: u32,
        width: u32,
        out_offset: u32,
        lse_offset: u32,
        accumulate: u32,
        first: u32,
        end: u32,
    }
}

params! {
    /// Parameters of `tensor_rows`.
    RowsParams {
        value: u32,
        o_offset: u32,
        grad_offset: u32,
        lse_offset: u32,
        rows_offset: u32,
        first: u32,
        end: u32,
    }
}

params! {
    /// Parameters of `tensor_product`.
    ProductParams {
        elements: u32,
    }
}

/// What all units have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shared {
    None,
    Partner,
    Column,
}

/// What a walk's kernel depends on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Variant {
    pub tile: Tile,
    pub logits: Logits,
    pub access: Access,
    /// Whether owners are queries.
    pub of_query: bool,
    pub shared: Shared,
    /// Which of owners, partners and columns have biases, counted from 1; 0 for none.
    pub biased: u32,
    /// Chunks of channels of results that a workgroup keeps, and those that it stages.
    pub slice: u64,
    pub slab: u64,
}

impl Logits {
    /// Channels of a chunk of keys.
    pub(super) fn step(self) -> u64 {
        match self {
            Logits::Determinant => 3,
            _ => 4,
        }
    }

    fn part(self) -> Part {
        match self {
            Logits::Determinant => part!("kronecker/tensor_logits_determinant.wgsl"),
            Logits::PairSum => part!("kronecker/tensor_logits_pairs.wgsl"),
            // An ordinary attention is one with a partner of ones.
            Logits::Trilinear | Logits::Sum => part!("kronecker/tensor_logits_trilinear.wgsl"),
        }
    }
}

impl Variant {
    /// Workgroup memory of tiles: slabs of rows and columns, or of columns alone; weights; what is added to scores.
    fn tile_bytes(&self) -> u32 {
        let (rows, columns) = (self.tile.form.rows(), self.tile.form.columns());
        let held = (256 / self.slice).min(columns) * self.slice;
        let arena = (self.slab * (rows + columns + 2)).max(held).max(128);
        (16 * (arena + 8 * (rows + 1)) + 4 * rows) as u32
    }

    fn kernel(&self, name: &'static str, own: &[Part], spec: Spec, more_bytes: u32) -> Arc<Kernel> {
        let owner = match self.of_query {
            true => part!("kronecker/tensor_owner_query.wgsl"),
            false => part!("kronecker/tensor_owner_key.wgsl"),
        };
        let common = match self.shared {
            Shared::None => part!("kronecker/tensor_shared_none.wgsl"),
            Shared::Partner => part!("kronecker/tensor_shared_partner.wgsl"),
            Shared::Column => part!("kronecker/tensor_shared_column.wgsl"),
        };
        let (form, lanes, workgroup_bytes) = match self.tile.form {
            Form::Tile => (
                part!("kronecker/tensor_tile.wgsl"),
                128,
                self.tile_bytes() + more_bytes,
            ),
            Form::Lanes(lanes) => (part!("kronecker/tensor_lanes.wgsl"), lanes, 0),
        };
        let shared = [
            form,
            part!("common/products.wgsl"),
            part!("kronecker/tensor_walk.wgsl"),
            owner,
            common,
            self.logits.part(),
            part!("common/grid.wgsl"),
        ];
        let spec = spec
            .with("ROWS", self.tile.form.rows() as u32)
            .with("BIASED", self.biased);
        let spec = match self.tile.form {
            Form::Tile => spec
                .with("TX", self.slice as u32)
                .with("SLAB", self.slab as u32),
            Form::Lanes(lanes) => spec
                .with("LANES", lanes)
                .with("COLUMNS", self.tile.form.columns() as u32)
                .with("SAME_OWNER", self.tile.y_bits >= 2)
                .with("SAME_PARTNER", self.tile.y_bits == 0),
        };
        let by_lanes = matches!(self.tile.form, Form::Lanes(_));
        let needs = self.access.needs();
        Arc::new(Kernel {
            name,
            parts: own
                .iter()
                .copied()
                .chain(shared)
                .chain(self.access.parts())
                .collect(),
            spec,
            needs: Needs {
                subgroup: by_lanes,
                ..needs
            },
            params: Params::FIELDS,
            workgroup: [lanes, 1, 1],
            workgroup_bytes,
        })
    }

    pub fn attention(&self) -> Arc<Kernel> {
        match self.tile.form {
            Form::Tile => self.kernel(
                "kronecker/tensor_attention",
                &[part!("kronecker/tensor_attention.wgsl")],
                Spec::default(),
                16 * 16,
            ),
            Form::Lanes(_) => self.kernel(
                "kronecker/tensor_attention_lanes",
                &[part!("kronecker/tensor_attention_lanes.wgsl")],
                Spec::default(),
                0,
            ),
        }
    }

    /// Gradients of owners' keys, of what goes with them, or of both.
    pub fn grad(&self, [keys, values]: [bool; 2]) -> Arc<Kernel> {
        let spec = Spec::default().with("KEYS", keys).with("VALUES", values);
        let (name, own) = match self.tile.form {
            Form::Tile => ("kronecker/tensor_grad", part!("kronecker/tensor_grad.wgsl")),
            Form::Lanes(_) => (
                "kronecker/tensor_grad_lanes",
                part!("kronecker/tensor_grad_lanes.wgsl"),
            ),
        };
        let own = [own, part!("kronecker/tensor_grad_inputs.wgsl")];
        self.kernel(name, &own, spec, 0)
    }
}

/// A kernel of 64 invocations, each by itself.
fn apart(
    name: &'static str,
    parts: Vec<Part>,
    needs: Needs,
    params: &'static [crate::gpu::Field],
) -> Arc<Kernel> {
    Arc::new(Kernel {
        name,
        parts,
        spec: Spec::default(),
        needs,
        params,
        workgroup: [64, 1, 1],
        workgroup_bytes: 0,
    })
}

pub(super) fn merge() -> Arc<Kernel> {
    let parts = vec![
        part!("kronecker/tensor_merge.wgsl"),
        part!("kronecker/tensor_target.wgsl"),
        part!("common/grid.wgsl"),
    ];
    apart(
        "kronecker/tensor_merge",
        parts,
        Needs::default(),
        TargetParams::FIELDS,
    )
}

pub(super) fn sum() -> Arc<Kernel> {
    let parts = vec![
        part!("kronecker/tensor_sum.wgsl"),
        part!("kronecker/tensor_target.wgsl"),
        part!("common/grid.wgsl"),
    ];
    apart(
        "kronecker/tensor_sum",
        parts,
        Needs::default(),
        TargetParams::FIELDS,
    )
}

pub(super) fn rows(access: Access) -> Arc<Kernel> {
    let own = [
        part!("kronecker/tensor_rows.wgsl"),
        part!("common/grid.wgsl"),
    ];
    let parts = own.into_iter().chain(access.parts()).collect();
    apart(
        "kronecker/tensor_rows",
        parts,
        access.needs(),
        RowsParams::FIELDS,
    )
}

/// Products, or sums of logarithms where one of nothing makes nothing.
pub(super) fn product(of_logarithms: bool) -> Arc<Kernel> {
    let join = match of_logarithms {
        true => part!("kronecker/tensor_join_logarithms.wgsl"),
        false => part!("kronecker/tensor_join_values.wgsl"),
    };
    let parts = vec![
        part!("kronecker/tensor_product.wgsl"),
        join,
        part!("common/grid.wgsl"),
    ];
    apart(
        "kronecker/tensor_product",
        parts,
        Needs::default(),
        ProductParams::FIELDS,
    )
}
