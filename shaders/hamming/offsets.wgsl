// From counts by distance to where each distance starts: sums[h*queries + q] becomes the sum over smaller distances; counts_q is
// the sum over all, and bounds_q falls to just above the distance at which the sum reaches k. Only distances below bounds_q count.
//
// 0 sums: array<u32>        1 bounds: array<u32>, [q]        2 counts: array<u32>, [counts_offset + q]
struct Params {
    bins: u32,
    queries: u32,
    k: u32,
    counts_offset: u32,
    groups: u32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read_write> sums: array<u32>;
@group(0) @binding(1) var<storage, read_write> bounds: array<u32>;
@group(0) @binding(2) var<storage, read_write> counts: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lid: u32) {
    let index = group_index(group, grid);
    let q = index * 64u + lid;
    if (index < p.groups && q < p.queries) {
        let end = min(bounds[q], p.bins);
        var bound = bounds[q];
        var sum = 0u;
        // Four a turn: software adapters count turns, and there may be 65,537 bins. Past the end there is nothing to count.
        for (var h = 0u; h < end; h += 4u) {
            let bin = vec4u(h) + vec4u(0u, 1u, 2u, 3u);
            let here = bin < vec4u(end);
            let at = min(bin, vec4u(end - 1u)) * p.queries + vec4u(q);
            let count = select(vec4u(), vec4u(sums[at.x], sums[at.y], sums[at.z], sums[at.w]), here);
            let start = vec4u(sum) + vec4u(0u, count.x, count.x + count.y, count.x + count.y + count.z);
            let reached = (start < vec4u(p.k)) & (count >= vec4u(p.k) - start);
            bound = select(bound, h + 1u, reached.x);
            bound = select(bound, h + 2u, reached.y);
            bound = select(bound, h + 3u, reached.z);
            bound = select(bound, h + 4u, reached.w);
            sums[at.x] = start.x;
            if (here.y) {
                sums[at.y] = start.y;
            }
            if (here.z) {
                sums[at.z] = start.z;
            }
            if (here.w) {
                sums[at.w] = start.w;
            }
            sum = start.w + count.w;
        }
        bounds[q] = bound;
        counts[p.counts_offset + q] = sum;
    }
}
