// Sums of tiles of 64 numbers; those beyond 2^32 - 1 stay there.
//
// 0 values: array<u32>      1 sums: array<u32>
struct Params {
    len: u32,
    groups: u32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> values: array<u32>;
@group(0) @binding(1) var<storage, read_write> sums: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let index = group_index(group, grid);
    let tile = 64u * index + lane;
    if (index < p.groups && 64u * tile < p.len) {
        var sum = 0u;
        for (var n = 64u * tile; n < min(64u * tile + 64u, p.len); n++) {
            sum = plus(sum, values[n]);
        }
        sums[tile] = sum;
    }
}
