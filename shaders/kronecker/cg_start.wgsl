// r = √λ s for s = Vᵀ (W ∘ y), z = 0, p = 0; ρ.
@group(0) @binding(1) var<storage, read> s: array<f32>;
@group(0) @binding(2) var<storage, read_write> r: array<f32>;
@group(0) @binding(4) var<storage, read_write> z: array<f32>;
@group(0) @binding(5) var<storage, read_write> direction: array<f32>;

fn term(i: u32, e: u32, row: u32) -> f32 {
    let value = lambda(e);
    let x = sqrt(value) * s[i];
    r[i] = x;
    z[i] = 0.0;
    direction[i] = 0.0;
    return x * x / preconditioner(value);
}
