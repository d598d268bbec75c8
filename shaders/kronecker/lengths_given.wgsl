// 1 lengths: array<f32>, lengths[t]
@group(0) @binding(1) var<storage, read> lengths: array<f32>;

fn length_of(t: u32) -> f32 {
    return lengths[t];
}
