// Pairs of a tile, TILE rows of a with TILE columns of b, through workgroup memory: word by word, so that one vector holds the
// same word of four codes.
//
// Asks for: p.a_offset, p.b_offset, p.a_len, p.b_len, p.words, p.last; bindings a and b, array<u32>; count(a, b) of a pair part.
// An invocation has the pairs of rows 4*(lid / SIDE) .. and columns 4*(lid % SIDE) .. .
const SIDE: u32 = TILE / 4u;
const SLICE: u32 = 8u;
var<workgroup> rows_of: array<vec4u, SIDE * SLICE>;
var<workgroup> columns_of: array<vec4u, SIDE * SLICE>;

// Which bits of word w count.
fn counted(w: u32) -> u32 {
    return select(select(0xffffffffu, p.last, w + 1u == p.words), 0u, w >= p.words);
}

fn tile(first_row: u32, first_column: u32, lid: u32, d: ptr<function, array<vec4u, 4>>) {
    for (var i = 0u; i < 4u; i++) {
        (*d)[i] = vec4u();
    }
    let ax = lid % SIDE;
    let ay = lid / SIDE;
    for (var slice = 0u; slice < p.words; slice += SLICE) {
        workgroupBarrier();
        for (var e = lid; e < 2u * SIDE * SLICE; e += SIDE * SIDE) {
            let of_b = e >= SIDE * SLICE;
            let four = (e % (SIDE * SLICE)) / SLICE;
            let w = slice + e % SLICE;
            let at = min(w, p.words - 1u);
            let mask = counted(w);
            var x: vec4u;
            if (of_b) {
                let code = min(vec4u(first_column + 4u * four) + vec4u(0u, 1u, 2u, 3u), vec4u(p.b_len - 1u));
                let i = p.b_offset + code * p.words + at;
                x = vec4u(b[i.x], b[i.y], b[i.z], b[i.w]) & vec4u(mask);
                columns_of[(e % SLICE) * SIDE + four] = x;
            } else {
                let code = min(vec4u(first_row + 4u * four) + vec4u(0u, 1u, 2u, 3u), vec4u(p.a_len - 1u));
                let i = p.a_offset + code * p.words + at;
                x = vec4u(a[i.x], a[i.y], a[i.z], a[i.w]) & vec4u(mask);
                rows_of[(e % SLICE) * SIDE + four] = x;
            }
        }
        workgroupBarrier();
        for (var w = 0u; w < SLICE; w++) {
            let row = rows_of[w * SIDE + ay];
            let column = columns_of[w * SIDE + ax];
            (*d)[0] += count(vec4u(row.x), column);
            (*d)[1] += count(vec4u(row.y), column);
            (*d)[2] += count(vec4u(row.z), column);
            (*d)[3] += count(vec4u(row.w), column);
        }
    }
}
