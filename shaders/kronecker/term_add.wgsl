// b ← b + a.
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read_write> b: array<f32>;

fn term(i: u32, e: u32, row: u32) -> f32 {
    b[i] += a[i];
    return 0.0;
}
