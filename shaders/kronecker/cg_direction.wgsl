// p ← M⁻¹ r + share p, t = √λ p; while a row's iterations last.
@group(0) @binding(1) var<storage, read> r: array<f32>;
@group(0) @binding(2) var<storage, read_write> direction: array<f32>;
@group(0) @binding(4) var<storage, read_write> t: array<f32>;
@group(0) @binding(5) var<storage, read> scalars: array<f32>;

fn term(i: u32, e: u32, row: u32) -> f32 {
    let value = lambda(e);
    var x = direction[i];
    if (scalars[row * 8u + 4u] == 0.0) {
        x = r[i] / preconditioner(value) + scalars[row * 8u + 3u] * x;
        direction[i] = x;
    }
    t[i] = sqrt(value) * x;
    return 0.0;
}
