// The k first of each list by (distance, index): a pair's place is the number of pairs before it. A list that overflowed is left
// alone.
//
// 0 counters: array<u32>, [q]        1 lists: array<vec2u>, lists[q*cap + n]
// 2 out_distance, 3 out_index: array<u32>, [out_offset + q*k + place]
struct Params {
    queries: u32,
    cap: u32,
    k: u32,
    out_offset: u32,
    first: u32,
    groups: u32,
}
var<immediate> p: Params;

@group(0) @binding(0) var<storage, read> counters: array<u32>;
@group(0) @binding(1) var<storage, read> lists: array<vec2u>;
@group(0) @binding(2) var<storage, read_write> out_distance: array<u32>;
@group(0) @binding(3) var<storage, read_write> out_index: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lid: u32) {
    let index = group_index(group, grid);
    let g = p.first + index;
    let blocks = (p.cap + 63u) / 64u;
    let q = g / blocks;
    let n = g % blocks * 64u + lid;
    if (index < p.groups && q < p.queries) {
        let len = counters[q];
        if (len <= p.cap && n < len) {
            let own = lists[q * p.cap + n];
            var place = 0u;
            for (var i = 0u; i < len; i++) {
                let other = lists[q * p.cap + i];
                place += select(0u, 1u, other.x < own.x || (other.x == own.x && other.y < own.y));
            }
            if (place < p.k) {
                out_distance[p.out_offset + q * p.k + place] = own.x;
                out_index[p.out_offset + q * p.k + place] = own.y;
            }
        }
    }
}
