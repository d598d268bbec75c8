// Sums the rows of items with equal codes, over blocks of BLOCK items in order of their codes: what a code has in the block where
// it starts goes to the table, what it has in a later block to that block's part. 16 rows are summed apart, so that rounding
// grows with the square root of the block.
//
// 1 sorted: array<u32>, sorted[list*len + place]      2 order: array<u32>, as sorted
// 3 table: array<f32>, zero where no item has the code      4 parts: array<f32>, parts[(table*blocks + block)*(value + 1) + c]
@group(0) @binding(1) var<storage, read> sorted: array<u32>;
@group(0) @binding(2) var<storage, read> order: array<u32>;
@group(0) @binding(3) var<storage, read_write> table: array<f32>;
@group(0) @binding(4) var<storage, read_write> parts: array<f32>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let index = group_index(group, grid);
    let unit = (p.first + index) * (LANES / COLUMNS) + lane / COLUMNS;
    let own = unit / p.blocks;
    if (index < p.groups && own < p.lists * p.share) {
        let start = own / p.share * p.len;
        let first = start + unit % p.blocks * BLOCK;
        let end = min(start + p.len, first + BLOCK);
        for (var c = lane % COLUMNS; c <= p.value; c += COLUMNS) {
            var code = sorted[first];
            var goes_on = first > start && sorted[max(first, 1u) - 1u] == code;
            var sum = 0.0;
            var sixteen = 0.0;
            for (var at = first; at < end; at++) {
                let next = sorted[at];
                if (next != code) {
                    if (goes_on) {
                        parts[unit * (p.value + 1u) + c] = sum + sixteen;
                    } else {
                        table[table_row(own, code) + c] = sum + sixteen;
                    }
                    goes_on = false;
                    sum = 0.0;
                    sixteen = 0.0;
                    code = next;
                }
                sixteen += row(start + order[at], c);
                if (((at - start) & 15u) == 15u) {
                    sum += sixteen;
                    sixteen = 0.0;
                }
            }
            if (goes_on) {
                parts[unit * (p.value + 1u) + c] = sum + sixteen;
            } else {
                table[table_row(own, code) + c] = sum + sixteen;
            }
        }
    }
}
