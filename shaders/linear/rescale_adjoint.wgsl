// From the gradient of `rescale`'s y to that of x, and to the products dy n whose sums over the rows are that of gamma,
// n = (x - mean) (var + 1e-5)^(-1/2).
//
// 0 x: `x_stored`        1 dy: array<StateCell>, dy[dy_offset + row*K + k]        2 w: array<f32>, gamma, w[set*K + k]
// 3 dx: array<Out>, dx[dx_offset + row*K + k]        4 scaled: array<StateCell>, scaled[dy_offset + row*K + k]
struct Params {
    first_row: u32,
    rows: u32,
    key: u32,
    span: u32,
    sets: u32,
    x_offset: u32,
    dy_offset: u32,
    dx_offset: u32,
}
var<immediate> p: Params;

@group(0) @binding(1) var<storage, read> dy: array<StateCell>;
@group(0) @binding(2) var<storage, read> w: array<f32>;
@group(0) @binding(3) var<storage, read_write> dx: array<Out>;
@group(0) @binding(4) var<storage, read_write> scaled: array<StateCell>;

fn load_dy(row: u32, column: u32, live: bool) -> vec4f {
    let at = p.dy_offset + select(p.first_row * p.key, row * p.key + column, live);
    let left = select(1u, p.key - column, live);
    let c = state_cells(at, left);
    return select(vec4f(), gather_state(left, dy[c.x], dy[c.y], dy[c.z], dy[c.w]), live);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lid: u32) {
    let lane = lid % LANES;
    let n = group_index(group, grid) * (64u / LANES) + lid / LANES;
    let row = p.first_row + n;
    let weight_set = row / p.span % p.sets;
    let columns = f32(p.key);
    var v: array<vec4f, CELLS>;
    var d: array<vec4f, CELLS>;
    var sums = vec2f();
    for (var c = 0u; c < CELLS; c++) {
        let column = 4u * (c * LANES + lane);
        let live = n < p.rows && column < p.key;
        v[c] = load_x(row, column, live);
        d[c] = load_dy(row, column, live);
        sums += vec2f(total(v[c]), total(d[c] * gamma(weight_set, column)));
    }
    to_total(&sums, lid);
    let means = sums / columns;
    sums = vec2f();
    for (var c = 0u; c < CELLS; c++) {
        let column = 4u * (c * LANES + lane);
        v[c] = select(vec4f(), v[c] - means.x, present(column));
        sums += vec2f(dot(v[c], v[c]), dot(v[c], d[c] * gamma(weight_set, column)));
    }
    to_total(&sums, lid);
    let rate = inverseSqrt(sums.x / columns + 1e-5);
    let along = rate * sums.y / columns;
    for (var c = 0u; c < CELLS; c++) {
        let column = 4u * (c * LANES + lane);
        if (n < p.rows && column < p.key) {
            let normal = rate * v[c];
            let out = rate * (d[c] * gamma(weight_set, column) - means.y - normal * along);
            let at = p.dx_offset + row * p.key + column;
            for (var i = 0u; i < min(PUTS, p.key - column); i++) {
                dx[(at + i) >> PUT_SHIFT] = out_cell(out, i);
            }
            let home = p.dy_offset + row * p.key + column;
            for (var i = 0u; i < min(PARTS, p.key - column); i++) {
                scaled[(home + i) >> PART_SHIFT] = state_part(d[c] * normal, i);
            }
        }
    }
}
