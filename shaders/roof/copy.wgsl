// The bandwidth roof: to[i] = from[i], a vector at a time. A workgroup copies 256 * COPIES neighbouring vectors.
//
// 0 source: array<vec4f>, source[i]      1 copied: array<vec4f>, copied[i]
struct Params {
    vectors: u32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> source: array<vec4f>;
@group(0) @binding(1) var<storage, read_write> copied: array<vec4f>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lid: u32) {
    let first = group_index(group, grid) * 256u * COPIES + lid;
    for (var n = 0u; n < COPIES; n++) {
        let i = first + n * 256u;
        if (i < p.vectors) {
            copied[i] = source[i];
        }
    }
}
