// One axis of x multiplied by a large factor: z[l, j, r] = alpha sum_t x[l, t, r] F[t, j] + beta z[l, j, r]. A workgroup has 64
// columns (l, r) and 64 j, an invocation four of each; both operands go through workgroup memory, 16 t at a time.
//
// 0 x, 1 factor, 2 z: see `stage_items`
const TILE: u32 = 64u;
const STEP: u32 = 16u;
// Four t of a column; four j of a t. A vector to spare after each row: rows are written apart.
const X_ROW: u32 = TILE + 1u;
const F_ROW: u32 = TILE / 4u + 1u;
var<workgroup> xs: array<vec4f, STEP / 4u * X_ROW>;
var<workgroup> fs: array<vec4f, STEP * F_ROW>;

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lid: u32) {
    let index = group_index(group, grid);
    if (index < p.groups) {
        multiply(tile_of(p.first + index, TILE, TILE), lid);
    }
}

fn multiply(tile: Tile, lid: u32) {
    var sums: array<vec4f, 4>;
    // What an invocation loads: four t of a column, and four j of a t. Neighbours read neighbouring words.
    let x_column = select(lid / (STEP / 4u), lid % TILE, COLUMNS);
    let x_quad = select(lid % (STEP / 4u), lid / TILE, COLUMNS);
    let f_row = select(lid % STEP, lid / STEP, ROWS);
    let f_quad = select(lid / STEP, lid % STEP, ROWS);
    for (var t = 0u; t < p.p; t += STEP) {
        var a = vec4f();
        var b = vec4f();
        for (var c = 0u; c < 4u; c++) {
            a[c] = x_item(tile, tile.column + x_column, t + 4u * x_quad + c);
            b[c] = entry(tile, t + f_row, tile.j + 4u * f_quad + c);
        }
        xs[x_quad * X_ROW + x_column] = a;
        fs[f_row * F_ROW + f_quad] = b;
        workgroupBarrier();
        for (var k = 0u; k < STEP / 4u; k++) {
            let at = 4u * k * F_ROW + lid % 16u;
            let f0 = fs[at];
            let f1 = fs[at + F_ROW];
            let f2 = fs[at + 2u * F_ROW];
            let f3 = fs[at + 3u * F_ROW];
            for (var i = 0u; i < 4u; i++) {
                sums[i] = add_row(sums[i], xs[k * X_ROW + lid / 16u * 4u + i], f0, f1, f2, f3);
            }
        }
        workgroupBarrier();
    }
    let column = tile.column + 4u * (lid / 16u);
    let j = tile.j + 4u * (lid % 16u);
    for (var i = 0u; i < 4u; i++) {
        for (var c = 0u; c < 4u; c++) {
            keep(tile, column + i, j + c, sums[i][c]);
        }
    }
}
