// Takes one off the distance at i - j for every symbol i of the text and every position j of the pattern that it matches:
// distances start as the number of positions that count. Integers: the order of the atomics cannot show.
//
// 3 lists: array<u32>, where the list of each code begins, then the lists: positions of the pattern with that code, and, as the
// last list, all positions that count, which a wild symbol matches      4 distance: array<atomic<u32>>
struct Params {
    symbols: u32,
    keys: u32,
    outputs: u32,
    wild_code: u32,
    begin: u32,
    end: u32,
    first: u32,
    groups: u32,
}
var<immediate> p: Params;

@group(0) @binding(3) var<storage, read> lists: array<u32>;
@group(0) @binding(4) var<storage, read_write> distance: array<atomic<u32>>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let index = group_index(group, grid);
    let at = 4u * (64u * (p.first + index) + lane);
    if (index < p.groups && at < p.symbols) {
        var found = codes_at(at);
        if (WILD) {
            let live = (vec4u(tame(at / 32u)) >> (vec4u(0u, 1u, 2u, 3u) + vec4u(at % 32u))) & vec4u(1u);
            found = select(vec4u(p.wild_code), found, live == vec4u(1u));
        }
        for (var n = 0u; n < 4u && at + n < p.symbols; n++) {
            let list = lists[found[n]];
            let end = min(lists[found[n] + 1u], list + p.end);
            for (var m = list + p.begin; m < end; m++) {
                // Wraps to a large number where the pattern would start before the text.
                let to = at + n - lists[m];
                if (to < p.outputs) {
                    atomicSub(&distance[to], 1u);
                }
            }
        }
    }
}
