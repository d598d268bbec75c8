//! The operator's kernels: which parts make each, and the parameters they share.

use std::sync::Arc;

use crate::{
    elements::Access,
    gpu::{Dtype, Kernel, Needs, Part, Spec, params, part},
};

params! {
    /// Parameters of every kernel here.
    Params {
        items: u32,
        first: u32,
        groups: u32,
        inner: u32,
        outer: u32,
        width: u32,
        quad: u32,
        quads: u32,
        heads: u32,
        group: u32,
        tokens: u32,
        queries: u32,
        offset: u32,
        parts: u32,
        span: u32,
        key_set: u32,
        window: u32,
        sets: u32,
        x_offset: u32,
        y_offset: u32,
        out_offset: u32,
        since: u32,
        until: u32,
        accumulate: u32,
        scale: f32,
        eps: f32,
    }
}

fn kernel(
    name: &'static str,
    parts: impl IntoIterator<Item = Part>,
    spec: Spec,
    access: Option<Access>,
) -> Arc<Kernel> {
    let shared = [
        part!("kronecker/tensor_items.wgsl"),
        part!("common/grid.wgsl"),
    ];
    let access_parts = access.into_iter().flat_map(Access::parts);
    Arc::new(Kernel {
        name,
        parts: parts
            .into_iter()
            .chain(shared)
            .chain(access_parts)
            .collect(),
        spec,
        needs: access.map_or(Needs::default(), Access::needs),
        params: Params::FIELDS,
        workgroup: [64, 1, 1],
        workgroup_bytes: 0,
    })
}

/// Element by element.
fn single(dtype: Dtype, native: bool) -> Option<Access> {
    Some(Access {
        dtype,
        native,
        vectors: false,
    })
}

pub(super) fn pack(ones: bool, access: Access) -> Arc<Kernel> {
    kernel(
        "kronecker/tensor_pack",
        [part!("kronecker/tensor_pack.wgsl")],
        Spec::default().with("ONES", ones),
        Some(access),
    )
}

pub(super) fn unpack(divide: bool) -> Arc<Kernel> {
    kernel(
        "kronecker/tensor_unpack",
        [part!("kronecker/tensor_unpack.wgsl")],
        Spec::default().with("DIVIDE", divide),
        None,
    )
}

pub(super) fn divide_grad(access: Access) -> Arc<Kernel> {
    kernel(
        "kronecker/tensor_divide_grad",
        [part!("kronecker/tensor_divide_grad.wgsl")],
        Spec::default(),
        Some(access),
    )
}

pub(super) fn linear() -> Arc<Kernel> {
    kernel(
        "kronecker/tensor_linear",
        [part!("kronecker/tensor_linear.wgsl")],
        Spec::default(),
        None,
    )
}

pub(super) fn rows() -> Arc<Kernel> {
    kernel(
        "kronecker/linear_tensor_rows",
        [part!("kronecker/linear_tensor_rows.wgsl")],
        Spec::default(),
        None,
    )
}

pub(super) fn product(here: bool) -> Arc<Kernel> {
    let other = if here {
        part!("kronecker/linear_tensor_product_here.wgsl")
    } else {
        part!("kronecker/linear_tensor_product_apart.wgsl")
    };
    kernel(
        "kronecker/linear_tensor_product",
        [part!("kronecker/linear_tensor_product.wgsl"), other],
        Spec::default(),
        None,
    )
}

pub(super) fn turn() -> Arc<Kernel> {
    kernel(
        "kronecker/tensor_turn",
        [part!("kronecker/tensor_turn.wgsl")],
        Spec::default(),
        None,
    )
}

pub(super) fn prefix(window: bool, reverse: bool) -> Arc<Kernel> {
    let before = if window {
        part!("kronecker/tensor_prefix_window.wgsl")
    } else {
        part!("kronecker/tensor_prefix_all.wgsl")
    };
    kernel(
        "kronecker/tensor_prefix",
        [part!("kronecker/tensor_prefix.wgsl"), before],
        Spec::default().with("REVERSE", reverse),
        None,
    )
}

/// What is done with the states at every token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scan {
    /// Outputs.
    Outputs,
    /// Sums of what queries hand back.
    Sums,
    /// Gradients of a key set.
    Gradients,
}

pub(super) fn scan(what: Scan, sets: usize, chunk: u64, windows: bool) -> Arc<Kernel> {
    let (name, own) = match what {
        Scan::Outputs => ("kronecker/tensor_scan", part!("kronecker/tensor_scan.wgsl")),
        Scan::Sums => (
            "kronecker/tensor_scan_sums",
            part!("kronecker/tensor_scan_sums.wgsl"),
        ),
        Scan::Gradients => (
            "kronecker/tensor_scan_grad",
            part!("kronecker/tensor_scan_grad.wgsl"),
        ),
    };
    let terms = (what != Scan::Outputs).then_some(part!("kronecker/tensor_scan_terms.wgsl"));
    let parts = [own, part!("kronecker/tensor_scan_state.wgsl")];
    let spec = Spec::default()
        .with("SETS", sets as u32)
        .with("L", chunk as u32)
        .with("WINDOWS", windows);
    kernel(name, parts.into_iter().chain(terms), spec, None)
}

fn coefficients(centred: bool) -> Part {
    if centred {
        part!("kronecker/monomials_centred.wgsl")
    } else {
        part!("kronecker/monomials_plain.wgsl")
    }
}

pub(super) fn monomials(degree: u32, centred: bool, dtype: Dtype, native: bool) -> Arc<Kernel> {
    kernel(
        "kronecker/monomials",
        [part!("kronecker/monomials.wgsl"), coefficients(centred)],
        Spec::default().with("DEGREE", degree),
        single(dtype, native),
    )
}

pub(super) fn monomials_adjoint(
    degree: u32,
    centred: bool,
    dtype: Dtype,
    native: bool,
) -> Arc<Kernel> {
    kernel(
        "kronecker/monomials_adjoint",
        [
            part!("kronecker/monomials_adjoint.wgsl"),
            coefficients(centred),
        ],
        Spec::default().with("DEGREE", degree),
        single(dtype, native),
    )
}

pub(super) fn centre(degree: u32, dtype: Dtype, native: bool) -> Arc<Kernel> {
    kernel(
        "kronecker/monomials_centre",
        [part!("kronecker/monomials_centre.wgsl")],
        Spec::default().with("DEGREE", degree),
        single(dtype, native),
    )
}

pub(super) fn extent(dtype: Dtype, native: bool) -> Arc<Kernel> {
    kernel(
        "kronecker/tensor_extent",
        [part!("kronecker/tensor_extent.wgsl")],
        Spec::default(),
        single(dtype, native),
    )
}
