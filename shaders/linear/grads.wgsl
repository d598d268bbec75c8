// The gradient of a row of features: the sum of up to four parts, and of the `group` heads that share the row.
//
// 1 to 4 d0 to d3: array<GradCell>, d0[d_offset + row*d_stride + f]; those beyond GRADS are not read
@group(0) @binding(1) var<storage, read> d0: array<GradCell>;
@group(0) @binding(2) var<storage, read> d1: array<GradCell>;
@group(0) @binding(3) var<storage, read> d2: array<GradCell>;
@group(0) @binding(4) var<storage, read> d3: array<GradCell>;

// The features f to f + 3 of a row, of which `left` exist.
fn load_grad(row: u32, f: u32, left: u32) -> vec4f {
    let first = row / p.span * p.group * p.span + row % p.span;
    var sum = vec4f();
    for (var member = 0u; member < p.group; member++) {
        let c = grad_cells(p.d_offset + (first + member * p.span) * p.d_stride + f, left);
        sum += gather_grad(d0[c.x], d0[c.y], d0[c.z], d0[c.w]);
        if (GRADS > 1u) {
            sum += gather_grad(d1[c.x], d1[c.y], d1[c.z], d1[c.w]);
        }
        if (GRADS > 2u) {
            sum += gather_grad(d2[c.x], d2[c.y], d2[c.z], d2[c.w]);
        }
        if (GRADS > 3u) {
            sum += gather_grad(d3[c.x], d3[c.y], d3[c.z], d3[c.w]);
        }
    }
    return select(vec4f(), sum, vec4u(0u, 1u, 2u, 3u) < vec4u(left));
}
