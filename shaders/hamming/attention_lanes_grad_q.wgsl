// Gradients of the +-1 view of the queries' codes for software adapters, TILE = ROWS * LANES queries and a slice of the bits a group.
@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let index = group_index(group, grid);
    let live = index < p.groups;
    let place = p.first + min(index, p.groups - 1u);
    let slices = (width() + FEATURES - 1u) / FEATURES;
    let slice = place % slices;
    let s = span_of(place / slices);
    let walk = walk_of(s, 0u, p.keys, live);
    let row = row_of(s, s.row);
    let rows = row_of(s, s.rows);
    clear_rows(row, rows, slice, lane, live);
    var sees: array<vec3u, ROWS>;
    var known: array<vec3u, ROWS>;
    var sums: array<vec2f, ROWS>;
    let begin = table_of(s, s.row);
    let beta = table[begin + p.bits + 3u];
    for (var r = 0u; r < ROWS; r++) {
        let mine = min(row + r * LANES + lane, rows - 1u);
        sees[r] = sight(s, s.row + r * LANES + lane);
        known[r] = limits(mine, begin);
        sums[r] = row_sums(mine);
    }
    for (var first = next(walk, walk.begin); first < walk.end; first = next(walk, first + KEYS)) {
        let column = s.kv * p.capacity + first;
        var d: array<vec4u, ROWS * QUADS>;
        distances(row, column, lane, &d);
        var x: array<vec4f, ROWS * QUADS>;
        products(row, column, lane, &x);
        var w: array<vec4f, ROWS * QUADS>;
        for (var r = 0u; r < ROWS; r++) {
            for (var n = 0u; n < QUADS; n++) {
                let j = vec4u(first + 4u * n) + vec4u(0u, 1u, 2u, 3u);
                let y = known[r];
                let weight = weigh(vec4u(begin), vec4u(y.x), vec4u(y.y), vec4u(y.z), visible(sees[r], j), j, d[r * QUADS + n]);
                w[r * QUADS + n] = change(weight * sums[r].x, x[r * QUADS + n], vec4f(sums[r].y), beta);
            }
        }
        add_columns(row, rows, column, column + KEYS, slice, lane, &w);
    }
}
