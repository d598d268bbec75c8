// Where the row of each query starts among all, row_offsets_q = sum of earlier counts, at most 2^32 - 1; the last is the sum of all.
//
// 0 counts: array<u32>, [q]        1 blocks: array<u32>, sums of blocks of counts        2 row_offsets: array<u32>, [q], q <= queries
struct Params {
    queries: u32,
    block: u32,
    blocks: u32,
    groups: u32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> counts: array<u32>;
@group(0) @binding(1) var<storage, read> blocks: array<u32>;
@group(0) @binding(2) var<storage, read_write> row_offsets: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lid: u32) {
    let index = group_index(group, grid);
    let i = index * 64u + lid;
    if (index < p.groups && i < p.blocks) {
        var sum = 0u;
        for (var n = 0u; n < i; n++) {
            sum = saturating(sum, blocks[n]);
        }
        for (var q = i * p.block; q < min((i + 1u) * p.block, p.queries); q++) {
            row_offsets[q] = sum;
            sum = saturating(sum, counts[q]);
        }
        if (i + 1u == p.blocks) {
            row_offsets[p.queries] = sum;
        }
    }
}
