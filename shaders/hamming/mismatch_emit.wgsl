// Hits in the order of positions, and of patterns at one position. Nothing is written where the capacity does not hold all.
//
// 2 offsets: array<u32>, hits before each block and before the end      3 total: array<u32>
// 4 position, 5 pattern, 6 distance: array<u32>, p.capacity each
struct Params {
    stride: u32,
    symbols: u32,
    positions: u32,
    patterns: u32,
    start: u32,
    capacity: u32,
    first: u32,
    groups: u32,
}
var<immediate> p: Params;

@group(0) @binding(2) var<storage, read> offsets: array<u32>;
@group(0) @binding(3) var<storage, read> total: array<u32>;
@group(0) @binding(4) var<storage, read_write> position: array<u32>;
@group(0) @binding(5) var<storage, read_write> pattern: array<u32>;
@group(0) @binding(6) var<storage, read_write> distance: array<u32>;

var<workgroup> hits_of: array<u32, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let index = group_index(group, grid);
    let block = p.first + min(index, p.groups - 1u);
    let begin = offsets[block];
    // Empty blocks test nothing.
    let some = index < p.groups && offsets[block + 1u] > begin && total[0] <= p.capacity;
    let tested = select(0u, p.patterns, some);
    let at = 256u * block + 4u * lane;
    var w: Window;
    if (some) {
        w = window(at);
    }
    var hits = vec4u();
    for (var n = 0u; n < tested; n++) {
        hits += select(vec4u(), vec4u(1u), distances(&w, at, n) != vec4u(ABSENT));
    }
    hits_of[lane] = hits.x + hits.y + hits.z + hits.w;
    workgroupBarrier();
    var before = begin;
    for (var n = 0u; n < lane; n++) {
        before += hits_of[n];
    }
    var to = vec4u(before, before + hits.x, before + hits.x + hits.y, before + hits.x + hits.y + hits.z);
    for (var n = 0u; n < tested; n++) {
        let d = distances(&w, at, n);
        for (var c = 0u; c < 4u; c++) {
            if (d[c] != ABSENT) {
                position[to[c]] = p.start + at + c;
                pattern[to[c]] = n;
                distance[to[c]] = d[c];
                to[c] += 1u;
            }
        }
    }
}
