// Gradients of codes on software adapters: columns are codes.
alias Held = u32;

fn hold(row: u32, end: u32, f: u32) -> Held {
    return code_word(row, f);
}

fn column_of(held: Held, n: u32, f: u32) -> vec4f {
    return signs(subgroupShuffle(held, n), f);
}

// dO_i . v_j of rows and columns. Rows are keys where OF_KEYS.
fn products(row: u32, column: u32, lane: u32, x: ptr<function, array<vec4f, ROWS * QUADS>>) {
    for (var n = 0u; n < ROWS * QUADS; n++) {
        (*x)[n] = vec4f();
    }
    for (var c = 0u; c < p.value; c += 4u) {
        var own: array<vec4f, ROWS>;
        for (var r = 0u; r < ROWS; r++) {
            let at = min(row + r * LANES + lane, p.a_len - 1u);
            if (OF_KEYS) {
                own[r] = load_value(at, c);
            } else {
                own[r] = load_upstream(at, c, true);
            }
        }
        for (var i = 0u; i < HELD; i++) {
            let at = min(column + i * LANES + lane, p.b_len - 1u);
            var held: vec4f;
            if (OF_KEYS) {
                held = load_upstream(at, c, true);
            } else {
                held = load_value(at, c);
            }
            for (var n = 0u; n < LANES / 4u; n++) {
                let x0 = subgroupShuffle(held, 4u * n);
                let x1 = subgroupShuffle(held, 4u * n + 1u);
                let x2 = subgroupShuffle(held, 4u * n + 2u);
                let x3 = subgroupShuffle(held, 4u * n + 3u);
                for (var r = 0u; r < ROWS; r++) {
                    let y = own[r];
                    (*x)[r * QUADS + i * (LANES / 4u) + n] += vec4f(dot(y, x0), dot(y, x1), dot(y, x2), dot(y, x3));
                }
            }
        }
    }
}
