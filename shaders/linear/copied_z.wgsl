// Sums of keys, which take the normaliser's column of a state.
@group(0) @binding(2) var<storage, read> z: array<f32>;

fn z_of(at: u32) -> f32 {
    return z[at];
}
