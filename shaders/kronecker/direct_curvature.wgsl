// pᵀ (K + D) p for s = K p; p is 0 at missing cells.
@group(0) @binding(0) var<storage, read> variances: array<f32>;
@group(0) @binding(1) var<storage, read> direction: array<f32>;
@group(0) @binding(2) var<storage, read> s: array<f32>;

fn term(i: u32, e: u32, row: u32) -> f32 {
    return direction[i] * (s[i] + variances[e] * direction[i]);
}
