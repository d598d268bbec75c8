// g = a + C ∘ b and c = C ∘ g: a and b are D(p) and p at the points, C the slope of the equation's nonlinear part there.
@group(0) @binding(0) var<storage, read> slope: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(4) var<storage, read_write> a: array<f32>;
@group(0) @binding(5) var<storage, read_write> c: array<f32>;

fn term(i: u32, e: u32, row: u32) -> f32 {
    let fit = a[i] + slope[e] * b[i];
    a[i] = fit;
    c[i] = slope[e] * fit;
    return 0.0;
}
