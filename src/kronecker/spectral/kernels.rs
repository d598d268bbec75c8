//! The kernel between two products, and its parameters.

use std::sync::Arc;

use super::super::spectrum::{Combine, Form};
use crate::gpu::{Kernel, Needs, Part, Spec, params, part};

params! {
    /// Parameters of `scale`.
    ScaleParams {
        count: u32,
        start: u32,
        width: u32,
        groups: u32,
        first: u32,
        middle: u32,
        last: u32,
        a: f32,
        shift: f32,
        gain: f32,
        power: f32,
    }
}

params! {
    /// Parameters of `row_sums`.
    SumParams {
        width: u32,
        parts: u32,
        turns: u32,
        first_group: u32,
        groups: u32,
        offset: u32,
        out: u32,
        first: u32,
        middle: u32,
        last: u32,
        a: f32,
        shift: f32,
        gain: f32,
        power: f32,
    }
}

/// Elements of a workgroup, four to an invocation.
pub(super) const GROUP: u64 = 256;

/// Eigenvalues from tables.
pub(super) fn eigenvalues(combine: Combine) -> Part {
    match combine {
        Combine::Product => part!("kronecker/eigenvalue_product.wgsl"),
        Combine::Sum => part!("kronecker/eigenvalue_sum.wgsl"),
    }
}

fn kernel(parts: Vec<Part>, spec: Spec) -> Arc<Kernel> {
    Arc::new(Kernel {
        name: "kronecker/scale",
        parts: [part!("kronecker/scale.wgsl"), part!("common/grid.wgsl")]
            .into_iter()
            .chain(parts)
            .collect(),
        spec,
        needs: Needs::default(),
        params: ScaleParams::FIELDS,
        workgroup: [64, 1, 1],
        workgroup_bytes: 0,
    })
}

/// By a function of the eigenvalues.
pub(super) fn scale(combine: Combine, form: Form) -> Arc<Kernel> {
    let parts = vec![part!("kronecker/scale_function.wgsl"), eigenvalues(combine)];
    kernel(parts, Spec::default().with("FORM", form as u32))
}

/// By a vector.
pub(super) fn scale_by_vector() -> Arc<Kernel> {
    kernel(vec![part!("kronecker/scale_vector.wgsl")], Spec::default())
}
