// The least and the greatest of every column of parts of heads.
//
// 0 x: array<Cell>, x[x_offset + (head*T + t)*width + column]        1 out: array<vec2f>, out[out_offset + (head*parts + part)*width + column]
@group(0) @binding(0) var<storage, read> x: array<Cell>;
@group(0) @binding(1) var<storage, read_write> out: array<vec2f>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let item = item_of(group_index(group, grid), lane);
    if (item < p.items) {
        let column = item % p.width;
        let part = item / p.width % p.parts;
        let head = item / (p.width * p.parts);
        var found = vec2f(3.4028234e38, -3.4028234e38);
        for (var t = part * p.span; t < min((part + 1u) * p.span, p.tokens); t++) {
            let at = p.x_offset + (head * p.tokens + t) * p.width + column;
            let value = widen_one(x[at >> ONES_SHIFT], at);
            found = vec2f(min(found.x, value), max(found.y, value));
        }
        out[p.out_offset + item] = found;
    }
}
