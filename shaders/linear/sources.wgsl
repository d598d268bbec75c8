// Sources: rows a and columns b of what is added to the state.
//
// 1 k: array<Cell>, the rows        2 v: array<Cell>, the columns, times source_scale
const SOURCES: bool = true;
@group(0) @binding(1) var<storage, read> k: array<Cell>;
@group(0) @binding(2) var<storage, read> v: array<Cell>;

fn source_row(row: u32, r: u32, live: bool) -> vec4f {
    let at = p.k_offset + row * p.key + select(0u, r, live);
    let left = select(1u, p.key - r, live);
    let c = cells(at, left);
    return select(vec4f(), key_feature(gather(at, left, k[c.x], k[c.y], k[c.z], k[c.w]), left), live);
}

fn source_column(row: u32, column: u32, live: bool) -> vec4f {
    let at = p.v_offset + row * p.value + select(0u, column, live);
    let left = select(1u, p.value - column, live);
    let c = cells(at, left);
    return select(vec4f(), p.source_scale * gather(at, left, v[c.x], v[c.y], v[c.z], v[c.w]), live);
}
