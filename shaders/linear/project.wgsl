// y = W x + b for every row of x, with a set of weights for each head or one for all; with TRANSPOSED, y = W^T x. A workgroup
// owns 64 rows and 64 columns of y and walks K in slabs of 32; an invocation owns 4 x 4 elements.
//
// 0 x: `x_stored` or `x_wide`        1 y: array<Out>, y[y_offset + row*K + k]
// 2 w: array<f32>, w[(set*K + i)*K + j], out of i columns from j
struct Params {
    first_row: u32,
    rows: u32,
    key: u32,
    first_set: u32,
    span: u32,
    stride: u32,
    step: u32,
    tiles: u32,
    groups: u32,
    x_offset: u32,
    y_offset: u32,
}
var<immediate> p: Params;

@group(0) @binding(1) var<storage, read_write> y: array<Out>;
@group(0) @binding(2) var<storage, read> w: array<f32>;

// Columns k of 64 rows, and rows k of 64 columns of the weights.
var<workgroup> x_tile: array<vec4f, 512>;
var<workgroup> w_tile: array<vec4f, 512>;

fn weight(weight_set: u32, k: u32, n: u32) -> f32 {
    let live = k < p.key && n < p.key;
    let at = weight_set * p.key * p.key + select(n * p.key + k, k * p.key + n, TRANSPOSED);
    return select(0.0, w[select(0u, at, live)], live);
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lid: u32) {
    let index = group_index(group, grid);
    if (index < p.groups) {
        tile(index, lid);
    }
}

fn tile(index: u32, lid: u32) {
    let columns = (p.key + 63u) / 64u;
    let first_column = index % columns * 64u;
    let first = index / columns % p.tiles * 64u;
    let head = index / columns / p.tiles;
    let weight_set = p.first_set + head;
    // Half of the invocations stage blocks of 4 x 4 of x, the others of the weights.
    let quad = lid % 16u;
    let k4 = lid / 16u % 8u * 4u;
    // And each owns rows `down` and columns `across` of y, in fours.
    let across = lid % 16u;
    let down = lid / 16u;
    var y0 = vec4f();
    var y1 = vec4f();
    var y2 = vec4f();
    var y3 = vec4f();
    for (var slab = 0u; slab < p.key; slab += 32u) {
        let k = slab + k4;
        if (lid < 128u) {
            let n = first + 4u * quad;
            let inside = k < p.key;
            let block = transpose(mat4x4f(
                load_x(head_row(head, n), k, inside && n < p.rows),
                load_x(head_row(head, n + 1u), k, inside && n + 1u < p.rows),
                load_x(head_row(head, n + 2u), k, inside && n + 2u < p.rows),
                load_x(head_row(head, n + 3u), k, inside && n + 3u < p.rows)));
            for (var i = 0u; i < 4u; i++) {
                x_tile[(k4 + i) * 16u + quad] = block[i];
            }
        } else {
            let n = first_column + 4u * quad;
            for (var i = 0u; i < 4u; i++) {
                w_tile[(k4 + i) * 16u + quad] = vec4f(
                    weight(weight_set, k + i, n), weight(weight_set, k + i, n + 1u),
                    weight(weight_set, k + i, n + 2u), weight(weight_set, k + i, n + 3u));
            }
        }
        workgroupBarrier();
        for (var i = 0u; i < 32u; i++) {
            let a = x_tile[i * 16u + down];
            let b = w_tile[i * 16u + across];
            y0 = fma(vec4f(a.x), b, y0);
            y1 = fma(vec4f(a.y), b, y1);
            y2 = fma(vec4f(a.z), b, y2);
            y3 = fma(vec4f(a.w), b, y3);
        }
        workgroupBarrier();
    }
    let column = first_column + 4u * across;
    if (column < p.key) {
        let shift = bias(weight_set, column);
        let n = first + 4u * down;
        put_row(head, n, column, y0 + shift);
        put_row(head, n + 1u, column, y1 + shift);
        put_row(head, n + 2u, column, y2 + shift);
        put_row(head, n + 3u, column, y3 + shift);
    }
}

fn put_row(head: u32, n: u32, column: u32, v: vec4f) {
    if (n < p.rows) {
        let at = p.y_offset + head_row(head, n) * p.key + column;
        for (var i = 0u; i < min(PUTS, p.key - column); i++) {
            y[(at + i) >> PUT_SHIFT] = out_cell(v, i);
        }
    }
}
