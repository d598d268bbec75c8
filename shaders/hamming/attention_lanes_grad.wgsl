// What the gradients share on software adapters: a lane owns ROWS rows, and adds to them KEYS columns at a time, each with its weight.
//
// Asks for: Held, hold() and column_of() of a part: what a lane holds of a column, and the column that a lane holds.
fn add_columns(row: u32, rows: u32, column: u32, end: u32, slice: u32, lane: u32, w: ptr<function, array<vec4f, ROWS * QUADS>>) {
    for (var f = slice * FEATURES; f < min(slice * FEATURES + FEATURES, width()); f += 4u) {
        var part: array<vec4f, ROWS>;
        for (var r = 0u; r < ROWS; r++) {
            part[r] = vec4f();
        }
        for (var i = 0u; i < HELD; i++) {
            let held = hold(column + i * LANES + lane, end, f);
            for (var n = 0u; n < LANES / 4u; n++) {
                let x0 = column_of(held, 4u * n, f);
                let x1 = column_of(held, 4u * n + 1u, f);
                let x2 = column_of(held, 4u * n + 2u, f);
                let x3 = column_of(held, 4u * n + 3u, f);
                for (var r = 0u; r < ROWS; r++) {
                    let y = (*w)[r * QUADS + i * (LANES / 4u) + n];
                    part[r] = fma(vec4f(y.x), x0, fma(vec4f(y.y), x1, fma(vec4f(y.z), x2, fma(vec4f(y.w), x3, part[r]))));
                }
            }
        }
        for (var r = 0u; r < ROWS; r++) {
            if (row + r * LANES + lane < rows) {
                let at = p.out_offset + (row + r * LANES + lane) * width() + f;
                for (var n = 0u; n < min(width() - f, 4u); n++) {
                    grad[at + n] += part[r][n];
                }
            }
        }
    }
}

// Rows begin at 0, unless earlier columns were added already.
fn clear_rows(row: u32, rows: u32, slice: u32, lane: u32, live: bool) {
    for (var r = 0u; r < ROWS; r++) {
        if (live && p.begin == 0u && row + r * LANES + lane < rows) {
            for (var f = slice * FEATURES; f < min(slice * FEATURES + FEATURES, width()); f++) {
                grad[p.out_offset + (row + r * LANES + lane) * width() + f] = 0.0;
            }
        }
    }
}
