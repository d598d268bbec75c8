// Rows of a tensor as padded rows: scale * x, 1 in the first column past the tensor's where ONES, 0 beyond.
//
// 0 x: array<Cell>, x[x_offset + row*width + column]        1 out: array<vec4f>, out[out_offset + row*outer/4 + quad]
@group(0) @binding(0) var<storage, read> x: array<Cell>;
@group(0) @binding(1) var<storage, read_write> out: array<vec4f>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let item = item_of(group_index(group, grid), lane);
    if (item < p.items) {
        let stride = p.outer / 4u;
        let column = 4u * (item % stride);
        let live = column < p.width;
        let begin = select(0u, column, live);
        let left = p.width - begin;
        let at = p.x_offset + item / stride * p.width + begin;
        let c = cells(at, left);
        var values = select(vec4f(), p.scale * gather(at, left, x[c.x], x[c.y], x[c.z], x[c.w]), live);
        if (ONES) {
            values = select(values, vec4f(1.0), vec4u(column) + vec4u(0u, 1u, 2u, 3u) == vec4u(p.width));
        }
        out[p.out_offset + item] = values;
    }
}
