//! Kernels of the feature maps: which parts make each, and the parameters it takes.

use std::sync::Arc;

use super::FeatureMap;
use crate::{
    gpu::{Kernel, Part, Spec, params, part},
    linear::rows::Io,
};

params! {
    /// Parameters of `features`.
    FeaturesParams {
        first_row: u32,
        rows: u32,
        key: u32,
        y_stride: u32,
        x_offset: u32,
        y_offset: u32,
    }
}

params! {
    /// Parameters of `features_adjoint`.
    AdjointParams {
        first_row: u32,
        rows: u32,
        key: u32,
        d_stride: u32,
        span: u32,
        group: u32,
        x_offset: u32,
        d_offset: u32,
        dx_offset: u32,
    }
}

params! {
    /// Parameters of `feature_products`.
    ProductsParams {
        first_row: u32,
        rows: u32,
        key: u32,
        width: u32,
        y_stride: u32,
        x_offset: u32,
        y_offset: u32,
    }
}

params! {
    /// Parameters of `project`.
    ProjectParams {
        first_row: u32,
        rows: u32,
        key: u32,
        first_set: u32,
        span: u32,
        stride: u32,
        step: u32,
        tiles: u32,
        groups: u32,
        x_offset: u32,
        y_offset: u32,
    }
}

params! {
    /// Parameters of `outer_sums`.
    OuterSumsParams {
        first_row: u32,
        rows: u32,
        key: u32,
        first_set: u32,
        span: u32,
        stride: u32,
        step: u32,
        segments: u32,
        segment_rows: u32,
        first_segment: u32,
        set_segments: u32,
        groups: u32,
        x_offset: u32,
        dy_offset: u32,
    }
}

params! {
    /// Parameters of `rescale`.
    RescaleParams {
        first_row: u32,
        rows: u32,
        key: u32,
        span: u32,
        sets: u32,
        x_offset: u32,
        y_offset: u32,
    }
}

params! {
    /// Parameters of `rescale_adjoint`.
    RescaleAdjointParams {
        first_row: u32,
        rows: u32,
        key: u32,
        span: u32,
        sets: u32,
        x_offset: u32,
        dy_offset: u32,
        dx_offset: u32,
    }
}

/// Invocations that share a row of so many columns, four columns at a time.
pub(super) fn lanes(columns: usize) -> u32 {
    (columns as u32).div_ceil(4).next_power_of_two().min(64)
}

/// The part in which an elementwise or reducing map differs from others, and whether it is elementwise.
fn row_map(map: FeatureMap) -> (Part, bool) {
    match map {
        FeatureMap::Relu | FeatureMap::T2r => (part!("linear/map_relu.wgsl"), true),
        FeatureMap::Relu2 => (part!("linear/map_relu2.wgsl"), true),
        FeatureMap::Elu1 => (part!("linear/map_elu1.wgsl"), true),
        FeatureMap::Exp => (part!("linear/map_exp.wgsl"), true),
        FeatureMap::Silu => (part!("linear/map_silu.wgsl"), true),
        FeatureMap::Sigmoid => (part!("linear/map_sigmoid.wgsl"), true),
        FeatureMap::GeluTanh => (part!("linear/map_gelu_tanh.wgsl"), true),
        FeatureMap::Softmax => (part!("linear/map_softmax.wgsl"), false),
        FeatureMap::L2Norm => (part!("linear/map_l2norm.wgsl"), false),
        FeatureMap::HedgehogSoftmax => (part!("linear/map_hedgehog_softmax.wgsl"), false),
        FeatureMap::HedgehogSoftmax2 => (part!("linear/map_hedgehog_softmax2.wgsl"), false),
        FeatureMap::HedgehogExp => (part!("linear/map_hedgehog_exp.wgsl"), false),
        FeatureMap::HedgehogExpShift => (part!("linear/map_hedgehog_exp_shift.wgsl"), false),
        // Maps of products have kernels of their own.
        FeatureMap::Identity
        | FeatureMap::Dpfp { .. }
        | FeatureMap::DpfpFla { .. }
        | FeatureMap::Taylor2
        | FeatureMap::Rebased => (part!("linear/map_identity.wgsl"), true),
    }
}

/// The part of a map without weights that is applied entry by entry, so that whoever loads rows can apply it.
pub(in crate::linear) fn elementwise(map: FeatureMap) -> Option<Part> {
    let alone = map == FeatureMap::Identity || !(map.projects() || multiplies(map));
    match row_map(map) {
        (part, true) if alone => Some(part),
        _ => None,
    }
}

/// Whether the features of a map are products of columns.
pub(super) fn multiplies(map: FeatureMap) -> bool {
    matches!(
        map,
        FeatureMap::Dpfp { .. }
            | FeatureMap::DpfpFla { .. }
            | FeatureMap::Taylor2
            | FeatureMap::Rebased
    )
}

/// Halves of the features that begin at a multiple of the columns.
pub(super) fn halves(map: FeatureMap) -> usize {
    match map {
        FeatureMap::HedgehogSoftmax
        | FeatureMap::HedgehogSoftmax2
        | FeatureMap::HedgehogExp
        | FeatureMap::HedgehogExpShift => 2,
        _ => 1,
    }
}

/// The constants of kernels that keep a row in registers.
fn row_spec(key: usize) -> Spec {
    let lanes = lanes(key);
    Spec::default()
        .with("LANES", lanes)
        .with("CELLS", (key as u32).div_ceil(4 * lanes))
}

/// The parts of a map of rows and its constants.
fn rows(map: FeatureMap, key: usize) -> (Vec<Part>, Spec) {
    let (part, each) = row_map(map);
    let adapter = each.then_some(part!("linear/map_each.wgsl"));
    let shared = [
        part!("linear/feature_rows.wgsl"),
        part!("linear/feature_raws.wgsl"),
    ];
    let parts = shared.into_iter().chain([part]).chain(adapter);
    (parts.collect(), row_spec(key))
}

pub(super) fn rescale(key: usize, io: Io, bias: bool) -> Arc<Kernel> {
    let parts = [
        part!("linear/rescale.wgsl"),
        part!("linear/feature_rows.wgsl"),
        part!("linear/gamma.wgsl"),
        bias_part(bias),
    ];
    Arc::new(Kernel {
        spec: row_spec(key),
        params: RescaleParams::FIELDS,
        workgroup_bytes: 512,
        ..io.kernel("linear/rescale", parts, Some(io.put))
    })
}

pub(super) fn rescale_adjoint(key: usize, io: Io) -> Arc<Kernel> {
    let parts = [
        part!("linear/rescale_adjoint.wgsl"),
        part!("linear/feature_rows.wgsl"),
        part!("linear/gamma.wgsl"),
    ];
    Arc::new(Kernel {
        spec: row_spec(key),
        params: RescaleAdjointParams::FIELDS,
        workgroup_bytes: 512,
        ..io.kernel("linear/rescale_adjoint", parts, Some(io.put))
    })
}

pub(super) fn features(map: FeatureMap, key: usize, io: Io) -> Arc<Kernel> {
    let (parts, spec) = rows(map, key);
    let parts = [part!("linear/features.wgsl")].into_iter().chain(parts);
    Arc::new(Kernel {
        spec,
        params: FeaturesParams::FIELDS,
        workgroup_bytes: 512,
        ..io.kernel("linear/features", parts, Some(io.put))
    })
}

fn grads(wide: bool) -> [Part; 2] {
    let access = if wide {
        part!("linear/grads_wide.wgsl")
    } else {
        part!("linear/grads_single.wgsl")
    };
    [part!("linear/grads.wgsl"), access]
}

pub(super) fn features_adjoint(
    map: FeatureMap,
    key: usize,
    io: Io,
    count: usize,
    wide: bool,
) -> Arc<Kernel> {
    let (parts, spec) = rows(map, key);
    let parts = [part!("linear/features_adjoint.wgsl")]
        .into_iter()
        .chain(parts)
        .chain(grads(wide));
    Arc::new(Kernel {
        spec: spec.with("GRADS", count as u32),
        params: AdjointParams::FIELDS,
        workgroup_bytes: 512,
        ..io.kernel("linear/features_adjoint", parts, Some(io.put))
    })
}

/// The parts of a map of products, forward or adjoint, and its constants.
fn products(map: FeatureMap, key: usize, adjoint: bool) -> (Vec<Part>, Spec) {
    let spec = Spec::default().with("KEY", key as u32);
    let pick = |forward, back| if adjoint { back } else { forward };
    match map {
        FeatureMap::Dpfp { nu } | FeatureMap::DpfpFla { nu } => {
            let part = pick(
                part!("linear/product_dpfp.wgsl"),
                part!("linear/pull_dpfp.wgsl"),
            );
            let signed = matches!(map, FeatureMap::DpfpFla { .. });
            let spec = spec.with("SIGNED", signed);
            let spec = if adjoint { spec.with("NU", nu) } else { spec };
            (vec![part!("linear/map_dpfp.wgsl"), part], spec)
        }
        _ => {
            let part = pick(
                part!("linear/product_pairs.wgsl"),
                part!("linear/pull_pairs.wgsl"),
            );
            let series = map == FeatureMap::Taylor2;
            let wide = key as f64;
            let (square, product) = if series {
                ((2.0 * wide).sqrt().recip(), wide.sqrt().recip())
            } else {
                (wide.sqrt().recip(), (2.0 / wide).sqrt())
            };
            let spec = spec
                .with("SERIES", series)
                .with("LINEAR", wide.powf(-0.25) as f32)
                .with("SQUARE", square as f32)
                .with("PRODUCT", product as f32);
            (vec![part!("linear/map_pairs.wgsl"), part], spec)
        }
    }
}

/// `lanes` invocations to a row.
pub(super) fn feature_products(map: FeatureMap, key: usize, lanes: u32, io: Io) -> Arc<Kernel> {
    let (parts, spec) = products(map, key, false);
    let parts = [part!("linear/feature_products.wgsl")]
        .into_iter()
        .chain(parts);
    Arc::new(Kernel {
        spec: spec.with("LANES", lanes),
        params: ProductsParams::FIELDS,
        workgroup_bytes: (4 * (64 / lanes) * key as u32).next_multiple_of(16),
        ..io.kernel("linear/feature_products", parts, Some(io.put))
    })
}

pub(super) fn feature_products_adjoint(
    map: FeatureMap,
    key: usize,
    lanes: u32,
    io: Io,
    count: usize,
) -> Arc<Kernel> {
    let (parts, spec) = products(map, key, true);
    let parts = [part!("linear/feature_products_adjoint.wgsl")]
        .into_iter()
        .chain(parts)
        .chain(grads(false));
    Arc::new(Kernel {
        spec: spec.with("LANES", lanes).with("GRADS", count as u32),
        params: AdjointParams::FIELDS,
        workgroup_bytes: (4 * (64 / lanes) * key as u32).next_multiple_of(16),
        ..io.kernel("linear/feature_products_adjoint", parts, None)
    })
}

fn bias_part(given: bool) -> Part {
    if given {
        part!("linear/bias_given.wgsl")
    } else {
        part!("linear/bias_none.wgsl")
    }
}

pub(super) fn project(io: Io, transposed: bool, bias: bool) -> Arc<Kernel> {
    let parts = [
        part!("linear/project.wgsl"),
        part!("linear/head_rows.wgsl"),
        bias_part(bias),
    ];
    Arc::new(Kernel {
        spec: Spec::default().with("TRANSPOSED", transposed),
        params: ProjectParams::FIELDS,
        workgroup: [256, 1, 1],
        workgroup_bytes: 16 << 10,
        ..io.kernel("linear/project", parts, Some(io.put))
    })
}

pub(super) fn outer_sums(io: Io) -> Arc<Kernel> {
    let parts = [
        part!("linear/outer_sums.wgsl"),
        part!("linear/head_rows.wgsl"),
    ];
    Arc::new(Kernel {
        params: OuterSumsParams::FIELDS,
        workgroup: [256, 1, 1],
        workgroup_bytes: 16 << 10,
        ..io.kernel("linear/outer_sums", parts, None)
    })
}
