// Two arrays joined element by element.
//
// 0 a: array<f32>        1 b: array<f32>        2 joined: array<f32>
struct Params {
    elements: u32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read_write> joined: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let i = group_index(group, grid) * 64u + lane;
    if (i < p.elements) {
        joined[i] = join(a[i], b[i]);
    }
}
