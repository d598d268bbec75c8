// Distances of a pattern at every position of a text by comparing symbols, four neighbouring positions a lane.
//
// 0 text: array<u32>      1 pattern: array<vec2u>, symbols and which of them count      3 distance: array<u32>
struct Params {
    symbols: u32,
    outputs: u32,
    begin: u32,
    end: u32,
    accumulate: u32,
    first: u32,
    groups: u32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> text: array<u32>;
@group(0) @binding(1) var<storage, read> pattern: array<vec2u>;
@group(0) @binding(3) var<storage, read_write> distance: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let index = group_index(group, grid);
    let at = 4u * (64u * (p.first + index) + lane);
    if (index < p.groups && at < p.outputs) {
        let counts = compare(at);
        for (var n = 0u; n < 4u; n++) {
            if (at + n < p.outputs) {
                distance[at + n] = select(0u, distance[at + n], p.accumulate != 0u) + counts[n];
            }
        }
    }
}
