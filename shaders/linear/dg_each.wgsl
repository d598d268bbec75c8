// Gradients number by number.
//
// 5 dg: array<f32>
@group(0) @binding(5) var<storage, read_write> dg: array<f32>;

fn put_vector(at: u32, left: u32, x: vec4f) {
    for (var i = 0u; i < left; i++) {
        dg[at + i] = x[i];
    }
}

fn put_number(at: u32, x: f32) {
    dg[at] = x;
}
