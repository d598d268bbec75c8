// Monomials of rows: out[row, f] = weight_f x^(exponents of f), times the degree's coefficient for queries that are centred.
//
// 0 x: array<Cell>, x[x_offset + row*width + variable]        1 terms: array<u32>, f's DEGREE variables, `width` for none
// 2 weights: array<f32>, of each f        3 out: array<vec4f>, out[out_offset + row*outer/4 + quad]
@group(0) @binding(0) var<storage, read> x: array<Cell>;
@group(0) @binding(1) var<storage, read> terms: array<u32>;
@group(0) @binding(2) var<storage, read> weights: array<f32>;
@group(0) @binding(3) var<storage, read_write> out: array<vec4f>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let item = item_of(group_index(group, grid), lane);
    if (item < p.items) {
        let stride = p.outer / 4u;
        let row = item / stride;
        var values = vec4f();
        for (var n = 0u; n < 4u; n++) {
            let f = 4u * (item % stride) + n;
            if (f < p.inner) {
                values[n] = monomial(row, f);
            }
        }
        out[p.out_offset + item] = values;
    }
}

fn monomial(row: u32, f: u32) -> f32 {
    var product = weights[f];
    var degree = 0u;
    for (var k = 0u; k < DEGREE; k++) {
        let variable = terms[f * DEGREE + k];
        if (variable < p.width) {
            let at = p.x_offset + row * p.width + variable;
            product *= widen_one(x[at >> ONES_SHIFT], at);
            degree += 1u;
        }
    }
    return product * coefficient(row, degree);
}
