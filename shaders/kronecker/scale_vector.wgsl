// A factor from a vector.
@group(0) @binding(0) var<storage, read> values: array<f32>;

fn factor(e: u32) -> f32 {
    return values[e];
}
