// Last stage of the inverse transforms: number i < hop of block b, times p.scale plus p.start, is the distance at b*hop + i.
//
// 1 values: array<u32>, [blocks, length]      2 distance: array<u32>
struct Params {
    length: u32,
    hop: u32,
    blocks: u32,
    outputs: u32,
    scale: u32,
    start: u32,
    accumulate: u32,
    first: u32,
    groups: u32,
}
var<immediate> p: Params;

@group(0) @binding(1) var<storage, read> values: array<u32>;
@group(0) @binding(2) var<storage, read_write> distance: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let index = group_index(group, grid);
    let thread = 64u * (p.first + index) + lane;
    let stride = p.length / 16u;
    let block = thread / stride;
    let x = thread % stride;
    if (index < p.groups && block < p.blocks) {
        var loaded: array<vec4u, 4>;
        for (var n = 0u; n < 4u; n++) {
            let i = block * p.length + x + 4u * n * stride;
            loaded[n] = vec4u(values[i], values[i + stride], values[i + 2u * stride], values[i + 3u * stride]);
        }
        var found = transform(loaded, x * (65536u / p.length));
        for (var n = 0u; n < 16u; n++) {
            let i = x + n * stride;
            let to = block * p.hop + i;
            if (i < p.hop && to < p.outputs) {
                let d = add(mul(vec4u(found[n / 4u][n % 4u]), vec4u(p.scale)), vec4u(p.start)).x;
                distance[to] = select(0u, distance[to], p.accumulate != 0u) + d;
            }
        }
    }
}
