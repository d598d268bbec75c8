// The items are read from another array, laid out alike.
//
// 0 x: array<f32>
@group(0) @binding(0) var<storage, read> x: array<f32>;

fn source(at: u32) -> f32 {
    return x[at - p.y_offset + p.x_offset];
}
