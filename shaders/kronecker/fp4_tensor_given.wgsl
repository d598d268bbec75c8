// 1 whole: array<f32>, the scale of the tensor
@group(0) @binding(1) var<storage, read> whole: array<f32>;

fn tensor_scale() -> f32 {
    return whole[0];
}
