// Coefficients are a query's own.
// 4 own: array<f32>, own[row*(DEGREE + 1) + degree]
@group(0) @binding(4) var<storage, read> own: array<f32>;

fn coefficient(row: u32, degree: u32) -> f32 {
    return own[row * (DEGREE + 1u) + degree];
}
