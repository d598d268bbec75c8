// From the gradients of features to those of x, for the maps of `feature_products`. An invocation owns one column of one row;
// a workgroup has LANES of them in each of 64 / LANES rows.
//
// 0 x: `x_stored` or `x_wide`        1 to 4: `grads`
// 5 dx: array<f32>, dx[dx_offset + row*KEY + k]
struct Params {
    first_row: u32,
    rows: u32,
    key: u32,
    d_stride: u32,
    span: u32,
    group: u32,
    x_offset: u32,
    d_offset: u32,
    dx_offset: u32,
}
var<immediate> p: Params;

@group(0) @binding(5) var<storage, read_write> dx: array<f32>;

var<workgroup> staged: array<f32, 64u / LANES * KEY>;

fn grad(row: u32, f: u32) -> f32 {
    return load_grad(row, f, 1u).x;
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lid: u32) {
    let lane = lid % LANES;
    let blocks = (KEY + LANES - 1u) / LANES;
    let index = group_index(group, grid);
    let n = index / blocks * (64u / LANES) + lid / LANES;
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
    let k = index % blocks * LANES + lane;
    if (n < p.rows && k < KEY) {
        dx[p.dx_offset + row * KEY + k] = pull(home, row, k);
    }
}
