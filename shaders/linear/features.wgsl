// Feature maps of rows of x: elementwise ones, and those that take a maximum or a sum over the row.
//
// 0 x: `x_stored` or `x_wide`
// 1 y: array<Out>, y[y_offset + row*y_stride + half*K + k]; columns past the features are zeros
struct Params {
    first_row: u32,
    rows: u32,
    key: u32,
    y_stride: u32,
    x_offset: u32,
    y_offset: u32,
}
var<immediate> p: Params;

@group(0) @binding(1) var<storage, read_write> y: array<Out>;

fn put(at: u32, left: u32, v: vec4f) {
    for (var i = 0u; i < min(PUTS, left); i++) {
        y[(at + i) >> PUT_SHIFT] = out_cell(v, i);
    }
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lid: u32) {
    let lane = lid % LANES;
    let n = group_index(group, grid) * (64u / LANES) + lid / LANES;
    let row = p.first_row + n;
    var held: Held;
    hold(&held, row, n < p.rows, lid);
    for (var c = 0u; c < CELLS; c++) {
        let column = 4u * (c * LANES + lane);
        if (n < p.rows && column < p.key) {
            let features = mapped(held.x[c], held.raws[c], held.sum);
            let at = p.y_offset + row * p.y_stride + column;
            put(at, p.key - column, select(vec4f(), features.a, present(column)));
            if (HALVES == 2u) {
                put(at + p.key, p.key - column, select(vec4f(), features.b, present(column)));
            }
        }
    }
    // Whole vectors bring their padding along.
    if (PUTS == 4u && n < p.rows) {
        for (var f = HALVES * p.key + lane; f < p.y_stride; f += LANES) {
            put(p.y_offset + row * p.y_stride + f, 1u, vec4f());
        }
    }
}
