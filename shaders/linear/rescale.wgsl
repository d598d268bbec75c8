// Rows of mean 0 and variance 1, scaled and shifted: y = gamma (x - mean) (var + 1e-5)^(-1/2) + bias.
//
// 0 x: `x_stored`        1 y: array<Out>, y[y_offset + row*K + k]        2 w: array<f32>, gamma, w[set*K + k]
struct Params {
    first_row: u32,
    rows: u32,
    key: u32,
    span: u32,
    sets: u32,
    x_offset: u32,
    y_offset: u32,
}
var<immediate> p: Params;

@group(0) @binding(1) var<storage, read_write> y: array<Out>;
@group(0) @binding(2) var<storage, read> w: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lid: u32) {
    let lane = lid % LANES;
    let n = group_index(group, grid) * (64u / LANES) + lid / LANES;
    let row = p.first_row + n;
    var v: array<vec4f, CELLS>;
    var sum = vec2f();
    for (var c = 0u; c < CELLS; c++) {
        let column = 4u * (c * LANES + lane);
        v[c] = load_x(row, column, n < p.rows && column < p.key);
        sum.x += total(v[c]);
    }
    to_total(&sum, lid);
    let mean = sum.x / f32(p.key);
    sum = vec2f();
    for (var c = 0u; c < CELLS; c++) {
        v[c] = select(vec4f(), v[c] - mean, present(4u * (c * LANES + lane)));
        sum.x += dot(v[c], v[c]);
    }
    to_total(&sum, lid);
    let rate = inverseSqrt(sum.x / f32(p.key) + 1e-5);
    let weight_set = row / p.span % p.sets;
    for (var c = 0u; c < CELLS; c++) {
        let column = 4u * (c * LANES + lane);
        if (n < p.rows && column < p.key) {
            let out = rate * v[c] * gamma(weight_set, column) + bias(weight_set, column);
            let at = p.y_offset + row * p.key + column;
            for (var i = 0u; i < min(PUTS, p.key - column); i++) {
                y[(at + i) >> PUT_SHIFT] = out_cell(out, i);
            }
        }
    }
}
