// Inner products of rows: the gradient of beta, of what the state misses and its gradient.
//
// 0 x: array<vec4f>, x[row * vecs + c]        1 y: array<vec4f>, like x        2 product: array<f32>, product[row]
struct Params {
    rows: u32,
    vecs: u32,
    groups: u32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> x: array<vec4f>;
@group(0) @binding(1) var<storage, read> y: array<vec4f>;
@group(0) @binding(2) var<storage, read_write> product: array<f32>;

@compute @workgroup_size(LANES, ROWS)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_id) local: vec3u) {
    let index = group_index(group, grid);
    if (index < p.groups) {
        let row = index * ROWS + local.y;
        let at = min(row, p.rows - 1u) * p.vecs;
        var sum = 0.0;
        for (var c = local.x; c < p.vecs; c += LANES) {
            sum += dot(x[at + c], y[at + c]);
        }
        let all = row_sum(local, sum);
        if (local.x == 0u && row < p.rows) {
            product[row] = all;
        }
    }
}
