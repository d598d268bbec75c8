// Rows times beta: what the delta rule adds of what the state misses, and the gradient of values of that of the misses.
//
// 0 x: array<vec4f>, x[row * vecs + c]        1 beta: array<f32>, beta[row]        2 weighed: array<vec4f>, like x
struct Params {
    rows: u32,
    vecs: u32,
    groups: u32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> x: array<vec4f>;
@group(0) @binding(1) var<storage, read> beta: array<f32>;
@group(0) @binding(2) var<storage, read_write> weighed: array<vec4f>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let index = group_index(group, grid);
    if (index < p.groups) {
        let at = index * 64u + lane;
        let row = at / p.vecs;
        if (row < p.rows) {
            weighed[at] = beta[row] * x[at];
        }
    }
}
