// Values with a column of ones, whose sum by keys is the normaliser, padded to four columns more.
//
// 0 v: array<vec4f>, v[row * vecs + c]        1 augmented: array<vec4f>, augmented[row * (vecs + 1) + c]
struct Params {
    rows: u32,
    vecs: u32,
    groups: u32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> v: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> augmented: array<vec4f>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let index = group_index(group, grid);
    if (index < p.groups) {
        let at = index * 64u + lane;
        let row = at / (p.vecs + 1u);
        let c = at % (p.vecs + 1u);
        if (row < p.rows) {
            augmented[at] = select(vec4f(1.0, 0.0, 0.0, 0.0), v[row * p.vecs + min(c, p.vecs - 1u)], c < p.vecs);
        }
    }
}
