// Gradients of four channels at a time, where there is one per channel and their number a multiple of four.
//
// 5 dg: array<vec4f>
@group(0) @binding(5) var<storage, read_write> dg: array<vec4f>;

fn put_vector(at: u32, left: u32, x: vec4f) {
    dg[at / 4u] = x;
}

fn put_number(at: u32, x: f32) {}
