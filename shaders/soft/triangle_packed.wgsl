// The triangle of `solve` in workgroup memory, packed by rows; one dispatch runs all steps.
var<workgroup> triangle: array<f32, TRIANGLE>;

fn triangle_of(head: u32, i: u32, j: u32) -> f32 {
    return triangle[i * (i + 1u) / 2u + j];
}

fn set_triangle(head: u32, i: u32, j: u32, x: f32) {
    triangle[i * (i + 1u) / 2u + j] = x;
}
