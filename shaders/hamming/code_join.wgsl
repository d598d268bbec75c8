// Joins the parts of codes whose items reach over several blocks, in the order of the blocks, 64 apart: the block where a code
// starts walks those after it.
//
// 1 sorted: array<u32>, sorted[list*len + place]      3 table: array<f32>      4 parts: array<f32>, as `code_sum` leaves them
@group(0) @binding(1) var<storage, read> sorted: array<u32>;
@group(0) @binding(3) var<storage, read_write> table: array<f32>;
@group(0) @binding(4) var<storage, read> parts: array<f32>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let index = group_index(group, grid);
    let unit = (p.first + index) * (LANES / COLUMNS) + lane / COLUMNS;
    let own = unit / p.blocks;
    let block = unit % p.blocks;
    if (index < p.groups && own < p.lists * p.share && block + 1u < p.blocks) {
        let start = own / p.share * p.len;
        let first = start + block * BLOCK;
        // Where the next block starts: there is one, so that this one is whole.
        let next = first + BLOCK;
        let code = sorted[next];
        let earlier = block > 0u && sorted[max(first, 1u) - 1u] == code;
        if (sorted[next - 1u] == code && !earlier) {
            for (var c = lane % COLUMNS; c <= p.value; c += COLUMNS) {
                var sum = 0.0;
                var some = 0.0;
                for (var n = block + 1u; n < p.blocks; n++) {
                    if (sorted[start + n * BLOCK] != code) {
                        break;
                    }
                    some += parts[(own * p.blocks + n) * (p.value + 1u) + c];
                    if ((n & 63u) == 63u) {
                        sum += some;
                        some = 0.0;
                    }
                }
                table[table_row(own, code) + c] += sum + some;
            }
        }
    }
}
