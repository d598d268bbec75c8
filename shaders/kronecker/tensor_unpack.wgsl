// Padded rows as dense rows: out = scale * x, or with DIVIDE x / (x's column `width` + eps), 0 where that is 0.
//
// 0 x: array<vec4f>, x[x_offset + row*outer/4 + quad]        1 out: array<f32>, out[out_offset + row*width + column]
@group(0) @binding(0) var<storage, read> x: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let item = item_of(group_index(group, grid), lane);
    if (item < p.items) {
        let quads = (p.width + 3u) / 4u;
        let row = item / quads;
        let quad = item % quads;
        let at = p.x_offset + row * (p.outer / 4u);
        var values = p.scale * x[at + quad];
        if (DIVIDE) {
            let den = x[at + p.width / 4u][p.width % 4u] + p.eps;
            values = select(x[at + quad] / select(1.0, den, den != 0.0), vec4f(), den == 0.0);
        }
        let to = p.out_offset + row * p.width + 4u * quad;
        for (var n = 0u; n < min(4u, p.width - 4u * quad); n++) {
            out[to + n] = values[n];
        }
    }
}
