// ‖√λ s − z‖² for s = Vᵀ α: the residual of what was found, not of the recurrence.
@group(0) @binding(1) var<storage, read> s: array<f32>;
@group(0) @binding(2) var<storage, read> z: array<f32>;

fn term(i: u32, e: u32, row: u32) -> f32 {
    let x = sqrt(lambda(e)) * s[i] - z[i];
    return x * x;
}
