// One axis of x multiplied by a large factor: z[l, j, r] = alpha sum_t x[l, t, r] F[t, j] + beta z[l, j, r]. A workgroup has 64
// columns (l, r) and 64 j, an invocation four of each; both operands go through workgroup memory, 16 t at a time.
//
// 0 x: array<One>, element x_at((l*P + t)*R + r)        1 factor: array<f32>, F[t, j] at f_offset + set*f_batch + t*f_t + j*f_j
// 2 z: array<f32>, z_at((l*Q + j)*R + r)
@group(0) @binding(0) var<storage, read> x: array<One>;
@group(0) @binding(1) var<storage, read> factor: array<f32>;
@group(0) @binding(2) var<storage, read_write> z: array<f32>;

const TILE: u32 = 64u;
const STEP: u32 = 16u;
// Four t of a column; four j of a t. A vector to spare after each row: rows are written apart.
const X_ROW: u32 = TILE + 1u;
const F_ROW: u32 = TILE / 4u + 1u;
var<workgroup> xs: array<vec4f, STEP / 4u * X_ROW>;
var<workgroup> fs: array<vec4f, STEP * F_ROW>;

// Item i of a column among all, of so many to a column.
fn address(column: u32, items: u32, item: u32) -> u32 {
    return ((p.first_unit + column / p.r) * items + item) * p.r + column % p.r;
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lid: u32) {
    let index = group_index(group, grid);
    if (index < p.groups) {
        multiply(p.first + index, lid);
    }
}

fn multiply(index: u32, lid: u32) {
    let across = (p.q + TILE - 1u) / TILE;
    let tiles = (p.set_columns + TILE - 1u) / TILE;
    let own = index / across / tiles;
    let first = TILE * (index / across % tiles);
    let first_j = TILE * (index % across);
    let base = own * p.set_columns;
    let f = p.f_offset + (p.f_set + own) * p.f_batch;
    var sums: array<vec4f, 4>;
    // What an invocation loads: four t of a column, and four j of a t. Neighbours read neighbouring words.
    let x_column = select(lid / (STEP / 4u), lid % TILE, COLUMNS);
    let x_quad = select(lid % (STEP / 4u), lid / TILE, COLUMNS);
    let f_row = select(lid % STEP, lid / STEP, ROWS);
    let f_quad = select(lid / STEP, lid % STEP, ROWS);
    let own_column = first + x_column;
    for (var t = 0u; t < p.p; t += STEP) {
        var a = vec4f();
        var b = vec4f();
        for (var c = 0u; c < 4u; c++) {
            let item = t + 4u * x_quad + c;
            if (own_column < p.set_columns && item < p.p) {
                let at = x_at(address(base + own_column, p.p, item));
                a[c] = widen_one(x[at >> ONES_SHIFT], at);
            }
            let j = first_j + 4u * f_quad + c;
            if (j < p.q && t + f_row < p.p) {
                b[c] = factor[f + (t + f_row) * p.f_t + j * p.f_j];
            }
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
    let column = first + 4u * (lid / 16u);
    let j = first_j + 4u * (lid % 16u);
    for (var i = 0u; i < 4u; i++) {
        keep(base, column + i, j, sums[i]);
    }
}

fn keep(base: u32, column: u32, j: u32, sum: vec4f) {
    for (var c = 0u; c < 4u; c++) {
        if (column < p.set_columns && j + c < p.q) {
            let at = z_at(address(base + column, p.q, j + c));
            var y = p.alpha * sum[c];
            if (p.beta != 0.0) {
                y = fma(p.beta, z[at], y);
            }
            z[at] = y;
        }
    }
}
