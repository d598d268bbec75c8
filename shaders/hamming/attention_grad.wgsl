// What the gradients share on square tiles: rows of a tile, with TILE columns at a time, add weighted rows of something to their sums.

// TX columns of 4 features by TY sets of O_ROWS rows in registers.
const TX: u32 = FEATURES / 4u;
const TY: u32 = LANES / TX;
const O_ROWS: u32 = TILE / TY;

// Four rows a vector, by columns.
var<workgroup> weights: array<vec4f, TILE * SIDE>;
var<workgroup> arena: array<vec4f, ARENA>;
var<private> out: array<vec4f, O_ROWS>;
// 1 / Z and D of the four queries that were learned last.
var<private> inverse: vec4f;
var<private> mean: vec4f;

fn learn_query(s: Span, first: u32) {
    learn(s, first, row_of(s, first));
    for (var i = 0u; i < 4u; i++) {
        let x = row_sums(row_of(s, min(first + i, s.rows - 1u)));
        inverse[i] = x.x;
        mean[i] = x.y;
    }
}

// Adds the columns of a tile, each times this invocation's weights of its four rows (`w`, by rows).
fn add_columns(s: Span, unit: u32, first: u32, slice: u32, lid: u32, w: array<vec4f, 4>) {
    let ax = lid % SIDE;
    let ay = lid / SIDE;
    workgroupBarrier();
    for (var n = 0u; n < 4u; n++) {
        weights[(4u * ax + n) * SIDE + ay] = vec4f(w[0][n], w[1][n], w[2][n], w[3][n]);
    }
    let tx = lid % TX;
    let ty = lid / TX;
    for (var slab = 0u; slab < TILE; slab += 16u) {
        workgroupBarrier();
        for (var e = lid; e < 16u * TX; e += LANES) {
            arena[e] = column_value(s, unit, first + slab + e / TX, slice * FEATURES + 4u * (e % TX));
        }
        workgroupBarrier();
        for (var n = 0u; n < 16u; n++) {
            let x = arena[n * TX + tx];
            for (var i = 0u; i < O_ROWS; i += 4u) {
                let change = weights[(slab + n) * SIDE + (ty * O_ROWS + i) / 4u];
                out[i] = fma(vec4f(change.x), x, out[i]);
                out[i + 1u] = fma(vec4f(change.y), x, out[i + 1u]);
                out[i + 2u] = fma(vec4f(change.z), x, out[i + 2u]);
                out[i + 3u] = fma(vec4f(change.w), x, out[i + 3u]);
            }
        }
    }
}

fn clear() {
    for (var i = 0u; i < O_ROWS; i++) {
        out[i] = vec4f();
    }
}

// Writes the sums of the tile's rows, the first of which is `row` of the output and of which `count` exist.
fn write_rows(row: u32, count: u32, slice: u32, lid: u32) {
    let ty = lid / TX;
    let feature = slice * FEATURES + 4u * (lid % TX);
    for (var i = 0u; i < O_ROWS && ty * O_ROWS + i < count; i++) {
        let at = p.out_offset + (row + ty * O_ROWS + i) * width();
        for (var n = 0u; n < 4u && feature + n < width(); n++) {
            if (p.begin > 0u) {
                grad[at + feature + n] += out[i][n];
            } else {
                grad[at + feature + n] = out[i][n];
            }
        }
    }
}
