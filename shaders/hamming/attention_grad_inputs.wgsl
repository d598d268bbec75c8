// What the gradients read and write:
//
//   P_ij = w_ij / Z_i        dS_ij = P_ij (dO_i . v_j - D_i)
//
// 4 rows: array<u32>, as attention_grad_rows writes them        5 grad_o: array<Cell>, grad_o[do_offset + row*V + c]
// 6 grad: array<f32>, grad[out_offset + row*width + f], a slice of FEATURES columns a group
@group(0) @binding(4) var<storage, read> rows: array<u32>;
@group(0) @binding(5) var<storage, read> grad_o: array<Cell>;
@group(0) @binding(6) var<storage, read_write> grad: array<f32>;

fn limits(slot: u32, base: u32) -> vec3u {
    let at = p.rows_offset + 5u * slot;
    return vec3u(rows[at], rows[at + 1u], rows[at + 2u]);
}

// 1 / Z and D of a row.
fn row_sums(row: u32) -> vec2f {
    let at = p.rows_offset + 5u * row;
    return vec2f(bitcast<f32>(rows[at + 3u]), bitcast<f32>(rows[at + 4u]));
}

// Four columns of the gradient of a row of o.
fn load_upstream(row: u32, column: u32, there: bool) -> vec4f {
    let live = column < p.value;
    let left = select(1u, p.value - column, live);
    let at = p.do_offset + row * p.value + select(0u, column, live);
    let c = cells(at, left);
    return select(vec4f(), gather(at, left, grad_o[c.x], grad_o[c.y], grad_o[c.z], grad_o[c.w]), live && there);
}
