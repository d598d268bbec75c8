// The delta rule backwards: the second pair is added as it is, times the scale, and keys see their own token's; of what they
// find, beta times is taken off the state for earlier tokens. There are no values.
//
// 10 second_k: array<Cell>, like k        11 second_v: array<Cell>, like v
const PAIRS: u32 = 2u;
const MISSES: f32 = -1.0;
@group(0) @binding(10) var<storage, read> second_k: array<Cell>;
@group(0) @binding(11) var<storage, read> second_v: array<Cell>;

fn second_row(row: u32, r: u32) -> vec4f {
    return widen(second_k[(p.k_offset + row * p.key + r) / 4u]);
}

fn column_of_pair(m: u32, row: u32, column: u32, live: bool) -> vec4f {
    if (m == 0u) {
        return vec4f();
    }
    return select(vec4f(), p.scale * widen(second_v[(p.v_offset + row * p.value + select(0u, column, live)) / 4u]), live);
}

fn carried(row: u32, column: u32) -> vec4f {
    return vec4f();
}
