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
    var v: array<vec4f, CELLS>;
    var raws: array<Pair, CELLS>;
    var d: array<Pair, CELLS>;
    var most = vec2f();
    var sum = vec2f();
    var along = vec2f();
    var first = vec2f();

    var own = vec2f(-3.4e38);
    for (var c = 0u; c < CELLS; c++) {
        let column = 4u * (c * LANES + lane);
        let live = n < p.rows && column < p.key;
        v[c] = load_x(row, column, live);
        if (live) {
            d[c].a = load_grad(row, column, p.key - column);
            if (HALVES == 2u) {
                d[c].b = load_grad(row, p.key + column, p.key - column);
            }
        }
        if (MOST) {
            let low = vec4f(-3.4e38);
            own = max(own, vec2f(largest(select(low, v[c], present(column))), largest(select(low, -v[c], present(column)))));
        }
    }
    if (MOST) {
        pairs[lid] = own;
        reduce_largest(lid);
        most = pairs[lid - lane];
        workgroupBarrier();
    }
    own = vec2f();
    for (var c = 0u; c < CELLS; c++) {
        let column = 4u * (c * LANES + lane);
        raws[c] = raw(v[c], most);
        if (SUMS) {
            own += vec2f(total(select(vec4f(), raws[c].a, present(column))), total(select(vec4f(), raws[c].b, present(column))));
        }
    }
    if (SUMS) {
        pairs[lid] = own;
        reduce_sum(lid);
        sum = pairs[lid - lane];
        workgroupBarrier();
    }
    if (ALONG) {
        own = vec2f();
        for (var c = 0u; c < CELLS; c++) {
            let column = 4u * (c * LANES + lane);
            let through = flow(v[c], raws[c], sum, d[c]);
            own += vec2f(total(select(vec4f(), through.a, present(column))), total(select(vec4f(), through.b, present(column))));
        }
        pairs[lid] = own;
        reduce_sum(lid);
        along = pairs[lid - lane];
        workgroupBarrier();
    }
    if (FIRST) {
        // Minus the places of the first largest and the first smallest column; small integers are exact.
        own = vec2f(-1e9);
        for (var c = 0u; c < CELLS; c++) {
            let column = 4u * (c * LANES + lane);
            let place = -vec4f(vec4u(column) + vec4u(0u, 1u, 2u, 3u));
            let far = vec4f(-1e9);
            own = max(own, vec2f(
                largest(select(far, place, present(column) & (v[c] == vec4f(most.x)))),
                largest(select(far, place, present(column) & (-v[c] == vec4f(most.y))))));
        }
        pairs[lid] = own;
        reduce_largest(lid);
        first = pairs[lid - lane];
    }
    for (var c = 0u; c < CELLS; c++) {
        let column = 4u * (c * LANES + lane);
        if (n < p.rows && column < p.key) {
            var out = pulled(v[c], raws[c], sum, d[c], along);
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
