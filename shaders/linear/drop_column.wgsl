// Rows without the vector that `augment` put behind the values.
//
// 0 augmented: array<vec4f>, augmented[row * (vecs + 1) + c]        1 v: array<vec4f>, v[row * vecs + c]
struct Params {
    rows: u32,
    vecs: u32,
    groups: u32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> augmented: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> v: array<vec4f>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let index = group_index(group, grid);
    if (index < p.groups) {
        let at = index * 64u + lane;
        let row = at / p.vecs;
        if (row < p.rows) {
            v[at] = augmented[row * (p.vecs + 1u) + at % p.vecs];
        }
    }
}
