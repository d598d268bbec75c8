// One digit of a stable sort: how many items with the same digit come before an item in its block of BLOCK, and how many the block
// has of each digit.
//
// 0 codes: array<u32>, codes[codes_offset + list*len + i]        1 ranks: array<u32>, ranks[list*len + i]
// 2 counts: array<u32>, counts[(list*blocks + block)*bins + digit], zero where a block has none
@group(0) @binding(0) var<storage, read> codes: array<u32>;
@group(0) @binding(1) var<storage, read_write> ranks: array<u32>;
@group(0) @binding(2) var<storage, read_write> counts: array<u32>;

fn digit(at: u32) -> u32 {
    return (counted(codes[at]) >> p.shift) & (p.bins - 1u);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let index = group_index(group, grid);
    let place = (p.first + index) * 64u + lane;
    let block = place / BLOCK;
    let list = block / p.blocks;
    let i = block % p.blocks * BLOCK + place % BLOCK;
    if (index < p.groups && list < p.lists && i < p.len) {
        let start = p.codes_offset + list * p.len;
        let mine = digit(start + i);
        var rank = 0u;
        var later = 0u;
        for (var j = i / BLOCK * BLOCK; j < min(p.len, (i / BLOCK + 1u) * BLOCK); j++) {
            let same = digit(start + j) == mine;
            rank += select(0u, 1u, same && j < i);
            later += select(0u, 1u, same && j > i);
        }
        ranks[list * p.len + i] = rank;
        if (later == 0u) {
            counts[block * p.bins + mine] = rank + 1u;
        }
    }
}
