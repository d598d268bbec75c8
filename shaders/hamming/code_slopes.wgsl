// Gradients of codes as rows of +-1: with P_m the products of `code_flip`, over all tables of the reader
//
//   dh_m = h_m sum (beta_m coth(2 beta_m) P_bits - beta_m / sinh(2 beta_m) P_m)
//
// 0 products: array<f32>      1 factors: array<f32>, both at ((first_table + table) % sets*bits + m)*2
// 2 codes: array<u32>, codes[codes_offset + list*len + i]      3 out: array<f32>, out[out_offset + (list*len + i)*bits + m]
@group(0) @binding(0) var<storage, read> products: array<f32>;
@group(0) @binding(1) var<storage, read> factors: array<f32>;
@group(0) @binding(2) var<storage, read> codes: array<u32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let index = group_index(group, grid);
    let place = (p.first + index) * 64u + lane;
    let m = place % p.bits;
    let reader = place / p.bits;
    if (index < p.groups && reader < p.lists * p.len) {
        let list = reader / p.len;
        var sum = 0.0;
        for (var x = 0u; x < p.span; x++) {
            let at = ((list * p.span + x) * p.len + reader % p.len) * (p.bits + 1u);
            let factor = ((p.first_table + table_of(list, x)) % p.sets * p.bits + m) * 2u;
            sum += factors[factor] * products[at + p.bits] - factors[factor + 1u] * products[at + m];
        }
        let one = (codes[p.codes_offset + reader] >> m) & 1u;
        out[p.out_offset + reader * p.bits + m] = select(-sum, sum, one == 1u);
    }
}
