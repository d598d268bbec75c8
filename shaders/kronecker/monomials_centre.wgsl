// Coefficients of p(s - c) in powers of s, c the middle of what a query's logits can be: c = sum over t of q_t middle_t.
//
// 0 q: array<Cell>, q[x_offset + row*width + t]        1 middle: array<f32>, middle[(first head + head)*width + t]
// 2 binomials: array<f32>, binomials[degree*(DEGREE + 1) + a], that of (-c)^(a - degree)        3 out: array<f32>
@group(0) @binding(0) var<storage, read> q: array<Cell>;
@group(0) @binding(1) var<storage, read> middle: array<f32>;
@group(0) @binding(2) var<storage, read> binomials: array<f32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let row = item_of(group_index(group, grid), lane);
    if (row < p.items) {
        let head = p.y_offset + row / (p.queries * p.group);
        var c = 0.0;
        for (var t = 0u; t < p.width; t++) {
            let at = p.x_offset + row * p.width + t;
            c += widen_one(q[at >> ONES_SHIFT], at) * middle[head * p.width + t];
        }
        for (var degree = 0u; degree <= DEGREE; degree++) {
            var sum = 0.0;
            for (var n = 0u; n <= DEGREE - degree; n++) {
                sum = sum * -c + binomials[degree * (DEGREE + 1u) + DEGREE - n];
            }
            out[row * (DEGREE + 1u) + degree] = sum;
        }
    }
}
