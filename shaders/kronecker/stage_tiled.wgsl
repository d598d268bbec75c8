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
// Vectors of a row, and one more: rows are written apart.
const ROW: u32 = 17u;
var<workgroup> xs: array<vec4f, STEP * ROW>;
var<workgroup> fs: array<vec4f, STEP * ROW>;

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
    var sum0 = vec4f();
    var sum1 = vec4f();
    var sum2 = vec4f();
    var sum3 = vec4f();
    // What an invocation loads: four columns, or four j, of one t. Neighbours read neighbouring words.
    let x_row = select(lid % STEP, lid / STEP, COLUMNS);
    let x_quad = select(lid / STEP, lid % STEP, COLUMNS);
    let f_row = select(lid % STEP, lid / STEP, ROWS);
    let f_quad = select(lid / STEP, lid % STEP, ROWS);
    for (var t = 0u; t < p.p; t += STEP) {
        var a = vec4f();
        var b = vec4f();
        for (var c = 0u; c < 4u; c++) {
            let column = first + 4u * x_quad + c;
            if (column < p.set_columns && t + x_row < p.p) {
                let at = x_at(address(base + column, p.p, t + x_row));
                a[c] = widen_one(x[at >> ONES_SHIFT], at);
            }
            let j = first_j + 4u * f_quad + c;
            if (j < p.q && t + f_row < p.p) {
                b[c] = factor[f + (t + f_row) * p.f_t + j * p.f_j];
            }
        }
        xs[x_row * ROW + x_quad] = a;
        fs[f_row * ROW + f_quad] = b;
        workgroupBarrier();
        for (var k = 0u; k < STEP; k++) {
            let u = xs[k * ROW + lid / 16u];
            let v = fs[k * ROW + lid % 16u];
            sum0 = fma(vec4f(u.x), v, sum0);
            sum1 = fma(vec4f(u.y), v, sum1);
            sum2 = fma(vec4f(u.z), v, sum2);
            sum3 = fma(vec4f(u.w), v, sum3);
        }
        workgroupBarrier();
    }
    let column = first + 4u * (lid / 16u);
    let j = first_j + 4u * (lid % 16u);
    keep(base, column, j, sum0);
    keep(base, column + 1u, j, sum1);
    keep(base, column + 2u, j, sum2);
    keep(base, column + 3u, j, sum3);
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
