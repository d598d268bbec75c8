// Rows of x in the storage type.
//
// 0 x: array<Cell>, x[x_offset + row*K + k]
@group(0) @binding(0) var<storage, read> x: array<Cell>;

// Columns from `column` on, zeros where not `live`.
fn load_x(row: u32, column: u32, live: bool) -> vec4f {
    let at = p.x_offset + select(p.first_row * p.key, row * p.key + column, live);
    let left = select(1u, p.key - column, live);
    let c = cells(at, left);
    return select(vec4f(), gather(at, left, x[c.x], x[c.y], x[c.z], x[c.w]), live);
}
