// p ← z + share p, while iterations last. The scalars are those of `cg`.
@group(0) @binding(1) var<storage, read> z: array<f32>;
@group(0) @binding(2) var<storage, read> scalars: array<f32>;
@group(0) @binding(4) var<storage, read_write> direction: array<f32>;

fn term(i: u32, e: u32, row: u32) -> f32 {
    if (scalars[4] == 0.0) {
        direction[i] = z[i] + scalars[3] * direction[i];
    }
    return 0.0;
}
