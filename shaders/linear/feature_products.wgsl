// Feature maps made of products of the columns of a row, of which a workgroup keeps 64 / LANES at a time.
//
// 0 x: `x_stored` or `x_wide`
// 1 y: array<Out>, y[y_offset + row*y_stride + f]; columns past the features are zeros
struct Params {
    first_row: u32,
    rows: u32,
    key: u32,
    width: u32,
    y_stride: u32,
    x_offset: u32,
    y_offset: u32,
}
var<immediate> p: Params;

@group(0) @binding(1) var<storage, read_write> y: array<Out>;

var<workgroup> staged: array<f32, 64u / LANES * KEY>;

fn product_or_zero(home: u32, f: u32) -> f32 {
    return select(0.0, product(home, min(f, p.width - 1u)), f < p.width);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lid: u32) {
    let lane = lid % LANES;
    let n = group_index(group, grid) * (64u / LANES) + lid / LANES;
    let row = p.first_row + n;
    let home = lid / LANES * KEY;
    for (var k = 4u * lane; k < KEY; k += 4u * LANES) {
        if (n < p.rows) {
            let v = load_x(row, k, true);
            for (var i = 0u; i < min(4u, KEY - k); i++) {
                staged[home + k + i] = v[i];
            }
        }
    }
    workgroupBarrier();
    if (n < p.rows) {
        for (var f = 4u * lane; f < p.y_stride; f += 4u * LANES) {
            let v = vec4f(product_or_zero(home, f), product_or_zero(home, f + 1u), product_or_zero(home, f + 2u), product_or_zero(home, f + 3u));
            for (var i = 0u; i < min(PUTS, p.y_stride - f); i++) {
                y[(p.y_offset + row * p.y_stride + f + i) >> PUT_SHIFT] = out_cell(v, i);
            }
        }
    }
}
