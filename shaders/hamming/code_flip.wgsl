// Products of a reader's row with what the table holds at its code (m = bits) and at each code one bit m away.
//
// 1 own: by its part      2 codes: array<u32>, codes[codes_offset + list*len + i]      3 table: array<f32>
// 4 products: array<f32>, products[((list*span + x)*len + i)*(bits + 1) + m]
@group(0) @binding(2) var<storage, read> codes: array<u32>;
@group(0) @binding(3) var<storage, read> table: array<f32>;
@group(0) @binding(4) var<storage, read_write> products: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let index = group_index(group, grid);
    let place = (p.first + index) * 64u + lane;
    let m = place % (p.bits + 1u);
    let reader = place / (p.bits + 1u);
    let pair = reader / p.len;
    if (index < p.groups && pair < p.lists * p.span) {
        let list = pair / p.span;
        let here = list * p.len + reader % p.len;
        let code = counted(codes[p.codes_offset + here]) ^ select(0u, 1u << (m & 31u), m < p.bits);
        let at = table_row(table_of(list, pair % p.span), code);
        var sum = 0.0;
        for (var c = 0u; c <= p.value; c++) {
            sum += own_row(here, c) * table[at + c];
        }
        products[place] = sum;
    }
}
