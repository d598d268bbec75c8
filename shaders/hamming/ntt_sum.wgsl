// Last stage of the transforms of a group of symbols, times the pattern's, taken off the sum so far: what is left is minus the
// transform of the matches. Symbol p.kept, which stands for all that are not wild, is added.
//
// 1 values: array<vec4u>, [symbols of the group, blocks, length]      2 pattern: array<vec4u>, [symbols of the group, length]
// 3 sums: array<vec4u>, [blocks, length]
struct Params {
    length: u32,
    blocks: u32,
    first_symbol: u32,
    count: u32,
    kept: u32,
    first: u32,
    groups: u32,
}
var<immediate> p: Params;

@group(0) @binding(1) var<storage, read> values: array<vec4u>;
@group(0) @binding(2) var<storage, read> pattern: array<vec4u>;
@group(0) @binding(3) var<storage, read_write> sums: array<vec4u>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let index = group_index(group, grid);
    let thread = 64u * (p.first + index) + lane;
    let sixteenth = p.length / 16u;
    if (index < p.groups && thread < p.blocks * sixteenth) {
        let x = thread % sixteenth;
        var total: array<vec4u, 4>;
        if (p.first_symbol > 0u) {
            for (var n = 0u; n < 4u; n++) {
                total[n] = sums[4u * thread + n];
            }
        }
        for (var a = 0u; a < p.count; a++) {
            let at = 4u * (a * p.blocks * sixteenth + thread);
            let y = dft16(array<vec4u, 4>(values[at], values[at + 1u], values[at + 2u], values[at + 3u]));
            let own = p.first_symbol + a == p.kept;
            for (var n = 0u; n < 4u; n++) {
                let product = mul(y[n], pattern[4u * (a * sixteenth + x) + n]);
                total[n] = select(sub(total[n], product), add(total[n], product), own);
            }
        }
        for (var n = 0u; n < 4u; n++) {
            sums[4u * thread + n] = total[n];
        }
    }
}
