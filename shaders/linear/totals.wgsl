// Where the sums of log decays of a walker and segment go.
//
// 3 totals: array<f32>
@group(0) @binding(3) var<storage, read_write> totals: array<f32>;

fn put_total(at: u32, left: u32, x: vec4f) {
    for (var i = 0u; i < min(4u, left); i++) {
        totals[p.o_offset + at + i] = x[i];
    }
}
