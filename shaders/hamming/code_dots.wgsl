// For readers of one chunk, weighted products of their row with each row (x, y) of their x in the tables, and with the row of each
// item of the chunk that is not later (earlier, where REVERSE) than they are.
//
// 1 own: by its part      2 codes: array<u32>, codes[codes_offset + list*len + i]      3 table: array<f32>
// 4 products: array<f32>, products[((list*span + t)*(end - begin) + i - begin)*(2^y_bits + end - begin) + m]
@group(0) @binding(2) var<storage, read> codes: array<u32>;
@group(0) @binding(3) var<storage, read> table: array<f32>;
@group(0) @binding(4) var<storage, read_write> products: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let index = group_index(group, grid);
    let place = (p.first + index) * 64u + lane;
    let len = p.end - p.begin;
    let all = (1u << p.y_bits) + len;
    let m = place % all;
    let reader = place / all;
    let pair = reader / len;
    if (index < p.groups && pair < p.lists * p.span) {
        let list = pair / p.span;
        let i = p.begin + reader % len;
        let here = list * p.len + i;
        let code = counted(codes[p.codes_offset + here]);
        let own_table = table_of(list, pair % p.span);
        let weight = weights_of(own_table);
        var sum = 0.0;
        if (m < (1u << p.y_bits)) {
            let at = half_row(own_table, x_of(code), m);
            for (var c = 0u; c <= p.value; c++) {
                sum += own_row(here, c) * table[at + c];
            }
            sum *= y_weight(weight, m ^ y_of(code));
        } else {
            let j = p.begin + m - (1u << p.y_bits);
            let item = own_table / p.share * p.len + j;
            if (select(j <= i, j >= i, REVERSE)) {
                for (var c = 0u; c <= p.value; c++) {
                    sum += own_row(here, c) * row(item, c);
                }
                let difference = items[p.items_offset + item] ^ code;
                sum *= x_weight(weight, x_of(difference)) * y_weight(weight, y_of(difference));
            }
        }
        products[place] = sum;
    }
}
