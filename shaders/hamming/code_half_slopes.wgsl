// Gradients of the y bits of the codes of one chunk, as rows of +-1: the products of `code_dots` times beta and the sign of the bit
// in what they are with.
//
// 0 products: array<f32>      1 betas: array<f32>, betas[(first_table + table) % sets*bits + bit]
// 7 items: array<u32>, codes of items at items_offset + list*len + i
// 4 out: array<f32>, out[out_offset + (list*len + i)*bits + bit]
@group(0) @binding(0) var<storage, read> products: array<f32>;
@group(0) @binding(1) var<storage, read> betas: array<f32>;
@group(0) @binding(4) var<storage, read_write> out: array<f32>;
@group(0) @binding(7) var<storage, read> items: array<u32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let index = group_index(group, grid);
    let place = (p.first + index) * 64u + lane;
    let len = p.end - p.begin;
    let bit = place % p.y_bits;
    let reader = place / p.y_bits;
    let list = reader / len;
    if (index < p.groups && list < p.lists) {
        let width = (1u << p.y_bits) + len;
        var total = 0.0;
        for (var t = 0u; t < p.span; t++) {
            let own_table = table_of(list, t);
            let at = ((list * p.span + t) * len + reader % len) * width;
            var sum = 0.0;
            for (var m = 0u; m < (1u << p.y_bits); m++) {
                let x = products[at + m];
                sum += select(-x, x, ((m >> bit) & 1u) == 1u);
            }
            let first = p.items_offset + own_table / p.share * p.len + p.begin;
            for (var j = 0u; j < len; j++) {
                let x = products[at + (1u << p.y_bits) + j];
                sum += select(-x, x, ((y_of(items[first + j]) >> bit) & 1u) == 1u);
            }
            total += betas[(p.first_table + own_table) % p.sets * p.bits + p.y_shift + bit] * sum;
        }
        out[p.out_offset + (list * p.len + p.begin + reader % len) * p.bits + p.y_shift + bit] = total;
    }
}
