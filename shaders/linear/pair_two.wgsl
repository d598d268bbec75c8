// A second pair of sources, which is taken off the state and seen by later readers only.
//
// 10 second_k: array<Cell>, like k        11 second_v: array<Cell>, like v
const PAIRS: u32 = 2u;
@group(0) @binding(10) var<storage, read> second_k: array<Cell>;
@group(0) @binding(11) var<storage, read> second_v: array<Cell>;

fn second_row(row: u32, r: u32) -> vec4f {
    let at = p.k_offset + row * p.key + r;
    let left = p.key - r;
    let c = cells(at, left);
    return gather(at, left, second_k[c.x], second_k[c.y], second_k[c.z], second_k[c.w]);
}

fn column_of_pair(m: u32, row: u32, column: u32, live: bool) -> vec4f {
    if (m == 0u) {
        return source_column(row, column, live);
    }
    let at = p.v_offset + row * p.value + select(0u, column, live);
    let left = select(1u, p.value - column, live);
    let c = cells(at, left);
    return select(vec4f(), -gather(at, left, second_v[c.x], second_v[c.y], second_v[c.z], second_v[c.w]), live);
}
