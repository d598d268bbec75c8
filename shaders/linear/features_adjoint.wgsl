// From the gradients of features to those of x, for the maps of `features`.
//
// 0 x: `x_stored` or `x_wide`        1 to 4: `grads`
// 5 dx: array<Out>, dx[dx_offset + row*K + k]
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

@group(0) @binding(5) var<storage, read_write> dx: array<Out>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lid: u32) {
    let lane = lid % LANES;
    let n = group_index(group, grid) * (64u / LANES) + lid / LANES;
    let row = p.first_row + n;
    var held: Held;
    hold(&held, row, n < p.rows, lid);
    var d: array<Pair, CELLS>;
    var along = vec2f();
    for (var c = 0u; c < CELLS; c++) {
        let column = 4u * (c * LANES + lane);
        if (n < p.rows && column < p.key) {
            d[c].a = load_grad(row, column, p.key - column);
            if (HALVES == 2u) {
                d[c].b = load_grad(row, p.key + column, p.key - column);
            }
        }
        if (ALONG) {
            along += totals(flow(held.x[c], held.raws[c], held.sum, d[c]), column);
        }
    }
    if (ALONG) {
        to_total(&along, lid);
    }
    // Minus the places of the first largest and the first smallest column; small integers are exact.
    var first = vec2f(-1e9);
    if (FIRST) {
        for (var c = 0u; c < CELLS; c++) {
            let column = 4u * (c * LANES + lane);
            let place = -vec4f(vec4u(column) + vec4u(0u, 1u, 2u, 3u));
            let far = vec4f(-1e9);
            first = max(first, vec2f(
                largest(select(far, place, present(column) & (held.x[c] == vec4f(held.most.x)))),
                largest(select(far, place, present(column) & (-held.x[c] == vec4f(held.most.y))))));
        }
        to_largest(&first, lid);
    }
    for (var c = 0u; c < CELLS; c++) {
        let column = 4u * (c * LANES + lane);
        if (n < p.rows && column < p.key) {
            var out = pulled(held.x[c], held.raws[c], held.sum, d[c], along);
            if (FIRST) {
                let place = -vec4f(vec4u(column) + vec4u(0u, 1u, 2u, 3u));
                out -= select(vec4f(), vec4f(along.x), place == vec4f(first.x));
                out += select(vec4f(), vec4f(along.y), place == vec4f(first.y));
            }
            let at = p.dx_offset + row * p.key + column;
            for (var i = 0u; i < min(PUTS, p.key - column); i++) {
                dx[(at + i) >> PUT_SHIFT] = out_cell(out, i);
            }
        }
    }
}
