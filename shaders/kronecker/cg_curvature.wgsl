// pᵀ B p = pᵀ (p + √λ s) for s = Vᵀ W V √Λ p.
@group(0) @binding(1) var<storage, read> direction: array<f32>;
@group(0) @binding(2) var<storage, read> s: array<f32>;

fn term(i: u32, e: u32, row: u32) -> f32 {
    return direction[i] * (direction[i] + sqrt(lambda(e)) * s[i]);
}
