// Rows of outputs and denominators become those that the gradients are made of: G_i = dO_i / den_i, and e_i = G_i . o_i in the
// place of the weight. In place.
//
// 1 grad: array<Cell>, grad[v_offset + (head*T + t)*V + column]        2 rows: array<vec4f>
@group(0) @binding(1) var<storage, read> grad: array<Cell>;
@group(0) @binding(2) var<storage, read_write> rows: array<vec4f>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let item = item_of(group_index(group, grid), lane);
    if (item < p.items) {
        let den = rows[item * columns() + p.quads].x;
        let first = p.v_offset + (p.first_head * p.tokens + item) * p.value;
        var e = 0.0;
        for (var q = 0u; q < p.quads; q++) {
            let left = p.value - 4u * q;
            let at = first + 4u * q;
            let c = cells(at, left);
            let g = gather(at, left, grad[c.x], grad[c.y], grad[c.z], grad[c.w]) / den;
            e += dot(g, rows[item * columns() + q]);
            rows[item * columns() + q] = g;
        }
        rows[item * columns() + p.quads] = vec4f(e, 0.0, 0.0, 0.0);
    }
}
