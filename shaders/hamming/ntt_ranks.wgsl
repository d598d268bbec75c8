// The ranks of a text's symbols among those of the pattern; NONE where a symbol is wild.
//
// 3 ranks: array<u32>
struct Params {
    symbols: u32,
    keys: u32,
    first: u32,
    groups: u32,
}
var<immediate> p: Params;

@group(0) @binding(3) var<storage, read_write> ranks: array<u32>;

const NONE: u32 = 0xffffffffu;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let index = group_index(group, grid);
    let at = 4u * (64u * (p.first + index) + lane);
    if (index < p.groups && at < p.symbols) {
        let found = codes_at(at);
        let live = tame(at / 32u) >> (at % 32u);
        for (var n = 0u; n < 4u && at + n < p.symbols; n++) {
            ranks[at + n] = select(NONE, found[n], ((live >> n) & 1u) == 1u);
        }
    }
}
