// The triangle of `solve` in a buffer, for more landmarks than workgroup memory has room for.
//
// 4 triangle: array<f32>, triangle[head*p_stride + i*m + j], j <= i
@group(0) @binding(4) var<storage, read_write> triangle: array<f32>;

fn triangle_of(head: u32, i: u32, j: u32) -> f32 {
    return triangle[head * p.p_stride + i * p.landmarks + j];
}

fn set_triangle(head: u32, i: u32, j: u32, x: f32) {
    triangle[head * p.p_stride + i * p.landmarks + j] = x;
}
