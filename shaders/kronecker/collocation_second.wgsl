// z = M⁻¹ r, M a diagonal; rᵀ z.
@group(0) @binding(0) var<storage, read> scale: array<f32>;
@group(0) @binding(1) var<storage, read> r: array<f32>;
@group(0) @binding(4) var<storage, read_write> z: array<f32>;

fn term(i: u32, e: u32, row: u32) -> f32 {
    let value = scale[e] * r[i];
    z[i] = value;
    return r[i] * value;
}
