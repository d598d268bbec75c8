// A stage of transforms, in place: of every p.span neighbouring numbers, those span/16 apart are transformed together.
//
// 1 values: array<u32>, [sequences, length]
struct Params {
    length: u32,
    span: u32,
    sequences: u32,
    first: u32,
    groups: u32,
}
var<immediate> p: Params;

@group(0) @binding(1) var<storage, read_write> values: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let index = group_index(group, grid);
    let thread = 64u * (p.first + index) + lane;
    let stride = p.span / 16u;
    if (index < p.groups && thread < p.sequences * (p.length / 16u)) {
        let x = thread % stride;
        let at = thread / stride * p.span + x;
        var loaded: array<vec4u, 4>;
        for (var n = 0u; n < 4u; n++) {
            let i = at + 4u * n * stride;
            loaded[n] = vec4u(values[i], values[i + stride], values[i + 2u * stride], values[i + 3u * stride]);
        }
        let found = transform(loaded, x * (65536u / p.span));
        for (var n = 0u; n < 4u; n++) {
            let i = at + 4u * n * stride;
            values[i] = found[n].x;
            values[i + stride] = found[n].y;
            values[i + 2u * stride] = found[n].z;
            values[i + 3u * stride] = found[n].w;
        }
    }
}
