// y ← y + step p, r ← r - step q, while iterations last.
@group(0) @binding(0) var<storage, read> direction: array<f32>;
@group(0) @binding(1) var<storage, read> q: array<f32>;
@group(0) @binding(2) var<storage, read> scalars: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
@group(0) @binding(5) var<storage, read_write> r: array<f32>;

fn term(i: u32, e: u32, row: u32) -> f32 {
    if (scalars[4] == 0.0) {
        y[i] += scalars[2] * direction[i];
        r[i] -= scalars[2] * q[i];
    }
    return 0.0;
}
