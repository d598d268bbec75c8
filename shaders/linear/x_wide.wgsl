// Rows of x in f32, whatever the storage type.
//
// 0 x: array<StateCell>, x[x_offset + row*K + k]
@group(0) @binding(0) var<storage, read> x: array<StateCell>;

// Columns from `column` on, zeros where not `live`.
fn load_x(row: u32, column: u32, live: bool) -> vec4f {
    let at = p.x_offset + select(p.first_row * p.key, row * p.key + column, live);
    let left = select(1u, p.key - column, live);
    let c = state_cells(at, left);
    return select(vec4f(), gather_state(left, x[c.x], x[c.y], x[c.z], x[c.w]), live);
}
