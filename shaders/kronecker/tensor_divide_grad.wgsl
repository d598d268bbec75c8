// The gradient of o = N / (d + eps), N a row's first columns and d the next: H = dO / (d + eps), then g = -(H · o).
//
// 0 x: array<vec4f>, N and d, x[row*outer/4 + quad]
// 1 grad: array<Cell>, dO, grad[y_offset + row*width + column]        2 out: array<vec4f>, H and g, out[row*outer/4 + quad]
@group(0) @binding(0) var<storage, read> x: array<vec4f>;
@group(0) @binding(1) var<storage, read> grad: array<Cell>;
@group(0) @binding(2) var<storage, read_write> out: array<vec4f>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let row = item_of(group_index(group, grid), lane);
    if (row < p.items) {
        let stride = p.outer / 4u;
        let den = x[row * stride + p.width / 4u][p.width % 4u] + p.eps;
        let factor = select(1.0 / select(1.0, den, den != 0.0), 0.0, den == 0.0);
        var against = 0.0;
        for (var quad = 0u; 4u * quad < p.width; quad++) {
            let left = p.width - 4u * quad;
            let at = p.y_offset + row * p.width + 4u * quad;
            let c = cells(at, left);
            let h = factor * gather(at, left, grad[c.x], grad[c.y], grad[c.z], grad[c.w]);
            // Past the width x has d, and h has 0.
            against -= dot(h, factor * x[row * stride + quad]);
            out[row * stride + quad] = h;
        }
        for (var quad = p.width / 4u; quad < stride; quad++) {
            var tail = vec4f();
            if (4u * quad < p.width) {
                tail = out[row * stride + quad];
            }
            let here = vec4u(4u * quad) + vec4u(0u, 1u, 2u, 3u) == vec4u(p.width);
            out[row * stride + quad] = select(tail, vec4f(against), here);
        }
    }
}
