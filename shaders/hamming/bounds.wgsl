// What is wanted of each query, bounds_q, by a rule.
//
// 0 given: array<u32>        1 bounds: array<u32>, [q]
struct Params {
    offset: u32,
    most: u32,
    queries: u32,
    groups: u32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> given: array<u32>;
@group(0) @binding(1) var<storage, read_write> bounds: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lid: u32) {
    let index = group_index(group, grid);
    let q = index * 64u + lid;
    if (index < p.groups && q < p.queries) {
        bounds[q] = bound(q);
    }
}
