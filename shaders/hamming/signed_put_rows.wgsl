// Outputs and their denominators as rows for a later step.
// 4 o: array<vec4f>
@group(0) @binding(4) var<storage, read_write> o: array<vec4f>;

fn put(head: u32, t: u32, q: u32, x: vec4f, den: f32) {
    let at = (head * p.tokens + t) * columns();
    o[at + q] = x;
    if (q == 0u) {
        o[at + p.quads] = vec4f(den, 0.0, 0.0, 0.0);
    }
}
