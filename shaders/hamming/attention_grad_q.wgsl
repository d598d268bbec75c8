// Gradients of the +-1 view of the queries' codes, TILE queries and a slice of the bits a group.
@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lid: u32) {
    let index = group_index(group, grid);
    let live = index < p.groups;
    let place = p.first + min(index, p.groups - 1u);
    let slices = (width() + FEATURES - 1u) / FEATURES;
    let slice = place % slices;
    let s = span_of(place / slices);
    let walk = walk_of(s, 0u, p.keys, live);
    let ax = lid % SIDE;
    learn_query(s, s.row + 4u * (lid / SIDE));
    clear();
    for (var first = next(walk, walk.begin); first < walk.end; first = next(walk, first + TILE)) {
        var d: array<vec4u, 4>;
        tile(row_of(s, s.row), s.kv * p.capacity + first, lid, &d);
        var x: array<vec4f, 4>;
        products(s.kv, first, s.unit, s.row, lid, &x);
        let j = vec4u(first + 4u * ax) + vec4u(0u, 1u, 2u, 3u);
        var w: array<vec4f, 4>;
        for (var i = 0u; i < 4u; i++) {
            let beta = table[base[i] + p.bits + 3u];
            w[i] = change(weights_of(i, j, d[i]) * inverse[i], x[i], vec4f(mean[i]), beta);
        }
        add_columns(s, s.unit, first, slice, lid, w);
    }
    if (live) {
        write_rows(row_of(s, s.row), s.rows - s.row, slice, lid);
    }
}
