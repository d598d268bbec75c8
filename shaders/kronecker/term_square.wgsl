// Squares: 1 a: array<f32>, a[row*width + e + offset].
@group(0) @binding(1) var<storage, read> a: array<f32>;

fn term(i: u32, e: u32, row: u32) -> f32 {
    return a[i] * a[i];
}
