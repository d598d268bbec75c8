// A second pair of sources, which is taken off the state and seen by later readers only; outputs are added to what was carried
// to them.
//
// 10 second_k: array<Cell>, like k        11 second_v: array<Cell>, like v        12 carry: array<OutCell>, like o
const PAIRS: u32 = 2u;
const MISSES: f32 = 1.0;
@group(0) @binding(10) var<storage, read> second_k: array<Cell>;
@group(0) @binding(11) var<storage, read> second_v: array<Cell>;
@group(0) @binding(12) var<storage, read> carry: array<OutCell>;

fn second_row(row: u32, r: u32) -> vec4f {
    return widen(second_k[(p.k_offset + row * p.key + r) / 4u]);
}

fn column_of_pair(m: u32, row: u32, column: u32, live: bool) -> vec4f {
    if (m == 0u) {
        return source_column(row, column, live);
    }
    return select(vec4f(), -widen(second_v[(p.v_offset + row * p.value + select(0u, column, live)) / 4u]), live);
}

fn carried(row: u32, column: u32) -> vec4f {
    return widen(carry[(p.o_offset + row * p.value + column) / 4u]);
}
