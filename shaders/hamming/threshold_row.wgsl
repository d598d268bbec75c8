// A threshold for each dimension, as bits of f32.
@group(0) @binding(2) var<storage, read> thresholds: array<u32>;

fn limit(dimension: u32) -> u32 {
    return thresholds[dimension];
}
