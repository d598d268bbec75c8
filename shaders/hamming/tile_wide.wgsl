// Pairs of a tile, TILE rows of a with TILE columns of b, without workgroup memory, for devices where barriers and loads are dear:
// an invocation has EACH rows by EACH columns.
//
// Asks for: p.a_offset, p.b_offset, p.a_len, p.b_len, p.words, p.last; bindings a and b, array<u32>; count(a, b) of a pair part;
// emit(i, j, d) of an epilogue.
const SIDE: u32 = TILE / EACH;
const ACROSS: u32 = EACH / 4u;

fn pairs(first_row: u32, first_column: u32, lid: u32) {
    let four = vec4u(0u, 1u, 2u, 3u);
    let row = first_row + EACH * (lid / SIDE);
    let column = first_column + EACH * (lid % SIDE);
    var d: array<vec4u, 4u * ACROSS * ACROSS>;
    var rows: array<vec4u, ACROSS>;
    var columns: array<vec4u, ACROSS>;
    for (var n = 0u; n < ACROSS; n++) {
        rows[n] = p.a_offset + min(vec4u(row + 4u * n) + four, vec4u(p.a_len - 1u)) * p.words;
        columns[n] = p.b_offset + min(vec4u(column + 4u * n) + four, vec4u(p.b_len - 1u)) * p.words;
    }
    for (var w = 0u; w < p.words; w++) {
        let mask = vec4u(select(0xffffffffu, p.last, w + 1u == p.words));
        var y: array<vec4u, ACROSS>;
        for (var n = 0u; n < ACROSS; n++) {
            let j = columns[n] + vec4u(w);
            y[n] = vec4u(b[j.x], b[j.y], b[j.z], b[j.w]) & mask;
        }
        for (var m = 0u; m < ACROSS; m++) {
            let i = rows[m] + vec4u(w);
            let x = vec4u(a[i.x], a[i.y], a[i.z], a[i.w]) & mask;
            for (var n = 0u; n < ACROSS; n++) {
                let at = 4u * (m * ACROSS + n);
                d[at] += count(vec4u(x.x), y[n]);
                d[at + 1u] += count(vec4u(x.y), y[n]);
                d[at + 2u] += count(vec4u(x.z), y[n]);
                d[at + 3u] += count(vec4u(x.w), y[n]);
            }
        }
    }
    for (var m = 0u; m < ACROSS; m++) {
        for (var n = 0u; n < ACROSS; n++) {
            for (var i = 0u; i < 4u; i++) {
                emit(row + 4u * m + i, column + 4u * n, d[4u * (m * ACROSS + n) + i]);
            }
        }
    }
}
