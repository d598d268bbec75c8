// What gradients need beside the walk.
//
// 5 xv: array<Cell>, as yv        6 rows: array<vec2f>, rows[rows_offset + query] = (lse in units of log 2, dO · o)
@group(0) @binding(5) var<storage, read> xv: array<Cell>;
@group(0) @binding(6) var<storage, read> rows: array<vec2f>;

fn load_xv(row: u32, chunk: u32) -> vec4f {
    let s = spot(p.xv_offset, row, 4u * chunk, 4u, p.value);
    let c = cells(s.at, s.left);
    return select(vec4f(), gather(s.at, s.left, xv[c.x], xv[c.y], xv[c.z], xv[c.w]), s.live) + select(0.0, p.value_bias, BIASED == OF_X);
}

// Chunks of the gradients of a row: of x where KEYS, then of xv where VALUES.
fn grad_block() -> u32 {
    return select(0u, key_chunks(), KEYS) + select(0u, value_chunks(), VALUES);
}

fn value_base() -> u32 {
    return select(0u, key_chunks(), KEYS);
}
