// rᵀ M⁻¹ r for u = M⁻¹ r; r is 0 at missing cells.
@group(0) @binding(1) var<storage, read> r: array<f32>;
@group(0) @binding(2) var<storage, read> u: array<f32>;

fn term(i: u32, e: u32, row: u32) -> f32 {
    return r[i] * u[i];
}
