// 7 projection: array<f32>, projection[projection_offset + (head*T + t)*bits + r]
@group(0) @binding(7) var<storage, read_write> projection: array<f32>;

fn put_projection(at: u32, u: f32) {
    projection[p.projection_offset + at] = u;
}
