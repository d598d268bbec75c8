// Gradients of values, or of the +-1 view of the keys' codes, for software adapters, TILE = ROWS * LANES keys and a slice of the columns a
// group: over the queries of every head that reads them. Here a has the keys' codes and b the queries'.
fn four(x: u32, n: u32) -> vec4u {
    return vec4u(subgroupShuffle(x, n), subgroupShuffle(x, n + 1u), subgroupShuffle(x, n + 2u), subgroupShuffle(x, n + 3u));
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let index = group_index(group, grid);
    let live = index < p.groups;
    let place = p.first + min(index, p.groups - 1u);
    let slices = (width() + FEATURES - 1u) / FEATURES;
    let slice = place % slices;
    let s = span_of(place / slices);
    let row = s.kv * p.capacity + s.row;
    let rows = s.kv * p.capacity + s.rows;
    clear_rows(row, rows, slice, lane, live);
    let tiles = (s.q_len + TILE - 1u) / TILE;
    let end = select(0u, min(p.end, tiles * p.group), live);
    let stop = s.q_first + s.q_len;
    for (var t = p.begin; t < end; t++) {
        let unit = s.unit + t / tiles;
        let queries = unit * p.queries;
        let first_query = s.q_first + t % tiles * TILE;
        let begin = queries / p.queries % p.heads * (p.bits + 4u);
        let beta = table[begin + p.bits + 3u];
        for (var first = first_query; first < min(first_query + TILE, stop); first += KEYS) {
            let low = interval(s, first);
            let high = interval(s, min(first + KEYS, stop) - 1u);
            // Whether any of these queries sees any of these keys.
            if (max(high.y, high.z) > s.row && (low.x < s.row + TILE || high.z > s.row)) {
                var d: array<vec4u, ROWS * QUADS>;
                distances(row, queries + first, lane, &d);
                var x: array<vec4f, ROWS * QUADS>;
                products(row, queries + first, lane, &x);
                var w: array<vec4f, ROWS * QUADS>;
                for (var i = 0u; i < HELD; i++) {
                    // What is known of a query, one a lane.
                    let query = first + i * LANES + lane;
                    let mine = queries + min(query, stop - 1u);
                    let sees = select(vec3u(), interval(s, min(query, stop - 1u)), query < stop);
                    let known = limits(mine, begin);
                    let sums = row_sums(mine);
                    for (var n = 0u; n < LANES / 4u; n++) {
                        let begins = four(sees.x, 4u * n);
                        let ends = four(sees.y, 4u * n);
                        let sinks = four(sees.z, 4u * n);
                        let heaviest_key = four(known.x, 4u * n);
                        let most = four(known.y, 4u * n);
                        let final_key = four(known.z, 4u * n);
                        let inverse = bitcast<vec4f>(four(bitcast<u32>(sums.x), 4u * n));
                        let mean = bitcast<vec4f>(four(bitcast<u32>(sums.y), 4u * n));
                        for (var r = 0u; r < ROWS; r++) {
                            let j = vec4u(s.row + r * LANES + lane);
                            let seen_by = ((j >= begins) & (j < ends)) | (j < sinks);
                            let at = r * QUADS + i * (LANES / 4u) + n;
                            let weight = weigh(vec4u(begin), heaviest_key, most, final_key, seen_by, j, d[at]);
                            w[at] = change(weight * inverse, x[at], mean, beta);
                        }
                    }
                }
                add_columns(row, rows, queries + first, queries + stop, slice, lane, &w);
            }
        }
    }
}
