// 0 a, 1 b: array<f32>, a[set*count + n]
@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;

fn summand(at: u32) -> f32 {
    return a[at] * b[at];
}
