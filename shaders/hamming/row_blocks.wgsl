// Sums of blocks of counts, blocks_i = sum of counts[i*block ..], at most 2^32 - 1.
//
// 0 counts: array<u32>, [q]        1 blocks: array<u32>, [i]
struct Params {
    queries: u32,
    block: u32,
    blocks: u32,
    groups: u32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> counts: array<u32>;
@group(0) @binding(1) var<storage, read_write> blocks: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lid: u32) {
    let index = group_index(group, grid);
    let i = index * 64u + lid;
    if (index < p.groups && i < p.blocks) {
        var sum = 0u;
        for (var q = i * p.block; q < min((i + 1u) * p.block, p.queries); q++) {
            sum = saturating(sum, counts[q]);
        }
        blocks[i] = sum;
    }
}
