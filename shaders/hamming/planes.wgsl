// The codes of a text's symbols as bit planes: bit r of planes[q*stride + w] is bit q of the code of symbol 32w + r.
//
// 3 planes: array<u32>, PLANES rows of p.stride words; where WILD one more row, ones at the symbols that are not wild
struct Params {
    symbols: u32,
    keys: u32,
    stride: u32,
    first: u32,
    groups: u32,
}
var<immediate> p: Params;

@group(0) @binding(3) var<storage, read_write> planes: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let index = group_index(group, grid);
    let w = (p.first + index) * 64u + lane;
    if (index < p.groups && w < p.stride) {
        var words: array<u32, PLANES>;
        for (var n = 0u; n < 32u; n += 4u) {
            let c = codes_at(32u * w + n);
            for (var q = 0u; q < PLANES; q++) {
                words[q] |= dot((c >> vec4u(q)) & vec4u(1u), vec4u(1u, 2u, 4u, 8u)) << n;
            }
        }
        for (var q = 0u; q < PLANES; q++) {
            planes[q * p.stride + w] = words[q];
        }
        if (WILD) {
            planes[PLANES * p.stride + w] = tame(w);
        }
    }
}
