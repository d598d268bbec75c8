// z ← z + step p, r ← r − step (p + √λ s), while a row's iterations last; ρ.
@group(0) @binding(1) var<storage, read> direction: array<f32>;
@group(0) @binding(2) var<storage, read> s: array<f32>;
@group(0) @binding(4) var<storage, read_write> z: array<f32>;
@group(0) @binding(5) var<storage, read_write> r: array<f32>;
@group(0) @binding(6) var<storage, read> scalars: array<f32>;

fn term(i: u32, e: u32, row: u32) -> f32 {
    let value = lambda(e);
    var x = r[i];
    if (scalars[row * 8u + 4u] == 0.0) {
        let step = scalars[row * 8u + 2u];
        z[i] += step * direction[i];
        x -= step * (direction[i] + sqrt(value) * s[i]);
        r[i] = x;
    }
    return x * x / preconditioner(value);
}
