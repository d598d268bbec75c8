// Hits of each block of 256 positions.
//
// 2 counts: array<u32>
struct Params {
    stride: u32,
    symbols: u32,
    positions: u32,
    patterns: u32,
    first: u32,
    groups: u32,
}
var<immediate> p: Params;

@group(0) @binding(2) var<storage, read_write> counts: array<u32>;

var<workgroup> total: atomic<u32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let index = group_index(group, grid);
    let block = p.first + index;
    let live = index < p.groups;
    if (live) {
        let at = 256u * block + 4u * lane;
        var w = window(at);
        var hits = vec4u();
        for (var n = 0u; n < p.patterns; n++) {
            hits += select(vec4u(), vec4u(1u), distances(&w, at, n) != vec4u(ABSENT));
        }
        atomicAdd(&total, hits.x + hits.y + hits.z + hits.w);
    }
    workgroupBarrier();
    if (live && lane == 0u) {
        counts[block] = atomicLoad(&total);
    }
}
