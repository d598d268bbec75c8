// t = √λ z.
@group(0) @binding(1) var<storage, read> z: array<f32>;
@group(0) @binding(2) var<storage, read_write> t: array<f32>;

fn term(i: u32, e: u32, row: u32) -> f32 {
    t[i] = sqrt(lambda(e)) * z[i];
    return 0.0;
}
