// The gradient of rows from that of their monomials: out[row, v] = sum over f of grad[row, f] weight_f ∂x^(exponents of f)/∂x_v,
// over the monomials f = x_v m that have x_v, m those of lower degree.
//
// 0 x: array<Cell>, x[x_offset + row*width + variable]        1 terms: array<u32>, m's DEGREE variables, `width` for none
// 2 weights: array<f32>, of each f        5 ups: array<u32>, ups[m*width + v], the place of x_v m and in the top byte its exponent of v
// 6 grad: array<f32>, grad[y_offset + row*outer + f]        3 out: array<f32>, out[out_offset + row*width + v]
@group(0) @binding(0) var<storage, read> x: array<Cell>;
@group(0) @binding(1) var<storage, read> terms: array<u32>;
@group(0) @binding(2) var<storage, read> weights: array<f32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;
@group(0) @binding(5) var<storage, read> ups: array<u32>;
@group(0) @binding(6) var<storage, read> grad: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let item = item_of(group_index(group, grid), lane);
    if (item < p.items) {
        let row = item / p.width;
        var sum = 0.0;
        // Monomials of lower degree come first.
        for (var m = 0u; m < p.until; m++) {
            let up = ups[m * p.width + item % p.width];
            let f = up & 0xffffffu;
            var product = weights[f] * f32(up >> 24u) * grad[p.y_offset + row * p.outer + f];
            var degree = 1u;
            for (var k = 0u; k < DEGREE - 1u; k++) {
                let variable = terms[m * DEGREE + k];
                if (variable < p.width) {
                    let at = p.x_offset + row * p.width + variable;
                    product *= widen_one(x[at >> ONES_SHIFT], at);
                    degree += 1u;
                }
            }
            sum += product * coefficient(row, degree);
        }
        out[p.out_offset + item] = sum;
    }
}
