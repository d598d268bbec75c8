// Gradients of values, or of the +-1 view of the keys' codes, TILE keys and a slice of the columns a group: over the queries of every
// head that reads them. Here a has the keys' codes and b the queries'.
@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lid: u32) {
    let index = group_index(group, grid);
    let live = index < p.groups;
    let place = p.first + min(index, p.groups - 1u);
    let slices = (width() + FEATURES - 1u) / FEATURES;
    let slice = place % slices;
    let s = span_of(place / slices);
    let ax = lid % SIDE;
    let tiles = (s.q_len + TILE - 1u) / TILE;
    let end = select(0u, min(p.end, tiles * p.group), live);
    var queries = s;
    queries.rows = s.q_first + s.q_len;
    clear();
    for (var n = p.begin; n < end; n++) {
        let unit = s.unit + n / tiles;
        let first = s.q_first + n % tiles * TILE;
        let low = interval(s, first);
        let high = interval(s, min(first + TILE, s.q_first + s.q_len) - 1u);
        // Whether any of these queries sees any of these keys.
        if (max(high.y, high.z) > s.row && (low.x < s.row + TILE || high.z > s.row)) {
            var d: array<vec4u, 4>;
            tile(s.kv * p.capacity + s.row, unit * p.queries + first, lid, &d);
            var x: array<vec4f, 4>;
            products(s.kv, s.row, unit, first, lid, &x);
            queries.unit = unit;
            learn_query(queries, first + 4u * ax);
            let beta = table[base.x + p.bits + 3u];
            var w: array<vec4f, 4>;
            for (var i = 0u; i < 4u; i++) {
                let j = vec4u(s.row + 4u * (lid / SIDE) + i);
                let sees = ((j >= from_key) & (j < to_key)) | (j < sink_key);
                w[i] = change(weigh(base, heaviest, cut, last, sees, j, d[i]) * inverse, x[i], mean, beta);
            }
            add_columns(s, unit, first, slice, lid, w);
        }
    }
    if (live) {
        write_rows(s.kv * p.capacity + s.row, s.rows - s.row, slice, lid);
    }
}
