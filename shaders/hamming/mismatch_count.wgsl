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

var<workgroup> hits_of: array<u32, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let index = group_index(group, grid);
    let block = p.first + index;
    let tested = select(0u, p.patterns, index < p.groups);
    let at = 256u * block + 4u * lane;
    var w = window(at);
    var hits = vec4u();
    for (var n = 0u; n < tested; n++) {
        hits += select(vec4u(), vec4u(1u), distances(&w, at, n) != vec4u(ABSENT));
    }
    hits_of[lane] = hits.x + hits.y + hits.z + hits.w;
    workgroupBarrier();
    if (index < p.groups && lane == 0u) {
        var sum = 0u;
        for (var n = 0u; n < 64u; n++) {
            sum += hits_of[n];
        }
        counts[block] = sum;
    }
}
