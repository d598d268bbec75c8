// Moves items to where one digit of a stable sort puts them.
//
// 0 codes: array<u32>, codes[codes_offset + list*len + i]        1 ranks: array<u32>, ranks[list*len + i]
// 2 places: array<u32>, places[(list*blocks + block)*bins + digit]
// 4 sorted: array<u32>, codes in order      5 order: array<u32>, and the items they are of; both [list*len + place]
@group(0) @binding(0) var<storage, read> codes: array<u32>;
@group(0) @binding(1) var<storage, read> ranks: array<u32>;
@group(0) @binding(2) var<storage, read> places: array<u32>;
@group(0) @binding(4) var<storage, read_write> sorted: array<u32>;
@group(0) @binding(5) var<storage, read_write> order: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let index = group_index(group, grid);
    let place = (p.first + index) * 64u + lane;
    let block = place / BLOCK;
    let list = block / p.blocks;
    let i = block % p.blocks * BLOCK + place % BLOCK;
    if (index < p.groups && list < p.lists && i < p.len) {
        let here = list * p.len + i;
        let code = counted(codes[p.codes_offset + here]);
        let digit = (code >> p.shift) & (p.bins - 1u);
        let to = list * p.len + places[block * p.bins + digit] + ranks[here];
        sorted[to] = code;
        order[to] = item(here, i);
    }
}
