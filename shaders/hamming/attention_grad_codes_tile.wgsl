// Gradients of codes on square tiles.
//
// dO_i . v_j of this invocation's rows and columns, through slabs of 16 channels. Rows of the arena are keys where OF_KEYS.
fn products(kv: u32, first_key: u32, unit: u32, first_query: u32, lid: u32, x: ptr<function, array<vec4f, 4>>) {
    let ax = lid % SIDE;
    let ay = lid / SIDE;
    for (var i = 0u; i < 4u; i++) {
        (*x)[i] = vec4f();
    }
    for (var slab = 0u; slab < p.value; slab += 16u) {
        workgroupBarrier();
        for (var e = lid; e < 4u * TILE; e += LANES) {
            let r = e / 4u;
            let c = e % 4u;
            let key = kv * p.capacity + min(first_key + r, p.capacity - 1u);
            let query = unit * p.queries + min(first_query + r, p.queries - 1u);
            let value = load_value(key, slab + 4u * c);
            let upstream = load_upstream(query, slab + 4u * c, true);
            arena[c * TILE + r] = select(upstream, value, OF_KEYS);
            arena[4u * TILE + c * TILE + r] = select(value, upstream, OF_KEYS);
        }
        workgroupBarrier();
        for (var c = 0u; c < 4u; c++) {
            let at = 4u * TILE + c * TILE + 4u * ax;
            let y0 = arena[at];
            let y1 = arena[at + 1u];
            let y2 = arena[at + 2u];
            let y3 = arena[at + 3u];
            for (var i = 0u; i < 4u; i++) {
                let row = arena[c * TILE + 4u * ay + i];
                (*x)[i] += vec4f(dot(row, y0), dot(row, y1), dot(row, y2), dot(row, y3));
            }
        }
    }
}

fn column_value(s: Span, unit: u32, column: u32, feature: u32) -> vec4f {
    let row = select(s.kv * p.capacity, unit * p.queries, OF_KEYS) + column;
    return signs(code_word(row, feature), feature);
}
