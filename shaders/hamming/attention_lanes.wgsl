// Sums of weighted values for software adapters, TILE = ROWS * LANES rows a group, all columns:
//
//   S_i = sum_j w_ij v_j        Z_i = sum_j w_ij
//
// 2 v: array<Cell>, v[v_offset + (kv*capacity + j)*V + c]
// 5 sums: array<f32>, sums[((tile*splits + split)*TILE + i)*(V + 1) + c] = S_ic, and Z_i at c = V
// A later part of the keys adds to what is there. Blocks of KEYS keys are summed and then added.
@group(0) @binding(2) var<storage, read> v: array<Cell>;
@group(0) @binding(5) var<storage, read_write> sums: array<f32>;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lane: u32) {
    let index = group_index(group, grid);
    let live = index < p.groups;
    let place = p.first + min(index, p.groups - 1u);
    let split = place % p.splits;
    let tile_index = place / p.splits;
    let s = span_of(p.tile_base + tile_index);
    let walk = walk_of(s, split * p.split_len, p.split_len, live);
    let stride = p.value + 1u;
    let mine = ((tile_index * p.splits + split) * TILE + lane) * stride;
    var sees: array<vec3u, ROWS>;
    var known: array<vec3u, ROWS>;
    var begin: array<u32, ROWS>;
    var total: array<f32, ROWS>;
    for (var r = 0u; r < ROWS; r++) {
        let row = s.row + r * LANES + lane;
        sees[r] = sight(s, row);
        begin[r] = table_of(s, min(row, s.rows - 1u));
        known[r] = limits(tile_index * TILE + r * LANES + lane, begin[r]);
        total[r] = 0.0;
        if (live && p.begin == 0u) {
            for (var c = 0u; c < stride; c++) {
                sums[mine + r * LANES * stride + c] = 0.0;
            }
        }
    }
    for (var first = next(walk, walk.begin); first < walk.end; first = next(walk, first + KEYS)) {
        var d: array<vec4u, ROWS * QUADS>;
        distances(row_of(s, s.row), s.kv * p.capacity + first, lane, &d);
        var w: array<vec4f, ROWS * QUADS>;
        for (var r = 0u; r < ROWS; r++) {
            var added = vec4f();
            for (var n = 0u; n < QUADS; n++) {
                let j = vec4u(first + 4u * n) + vec4u(0u, 1u, 2u, 3u);
                let x = known[r];
                let weight = weigh(vec4u(begin[r]), vec4u(x.x), vec4u(x.y), vec4u(x.z), visible(sees[r], j), j, d[r * QUADS + n]);
                w[r * QUADS + n] = weight;
                added += weight;
            }
            total[r] += added.x + added.y + added.z + added.w;
        }
        for (var c = 0u; c < p.value; c += 4u) {
            let left = p.value - c;
            var part: array<vec4f, ROWS>;
            for (var r = 0u; r < ROWS; r++) {
                part[r] = vec4f();
            }
            for (var i = 0u; i < HELD; i++) {
                // Keys that are not there are 0, whatever lies in their place.
                let key = first + i * LANES + lane;
                let at = p.v_offset + (s.kv * p.capacity + min(key, p.capacity - 1u)) * p.value + c;
                let cell = cells(at, left);
                let held = select(vec4f(), gather(at, left, v[cell.x], v[cell.y], v[cell.z], v[cell.w]), key < s.k_end);
                for (var n = 0u; n < LANES / 4u; n++) {
                    let x0 = subgroupShuffle(held, 4u * n);
                    let x1 = subgroupShuffle(held, 4u * n + 1u);
                    let x2 = subgroupShuffle(held, 4u * n + 2u);
                    let x3 = subgroupShuffle(held, 4u * n + 3u);
                    for (var r = 0u; r < ROWS; r++) {
                        let y = w[r * QUADS + i * (LANES / 4u) + n];
                        part[r] = fma(vec4f(y.x), x0, fma(vec4f(y.y), x1, fma(vec4f(y.z), x2, fma(vec4f(y.w), x3, part[r]))));
                    }
                }
            }
            for (var r = 0u; r < ROWS; r++) {
                for (var n = 0u; n < min(left, 4u); n++) {
                    sums[mine + r * LANES * stride + c + n] += part[r][n];
                }
            }
        }
    }
    if (live) {
        for (var r = 0u; r < ROWS; r++) {
            sums[mine + r * LANES * stride + p.value] += total[r];
        }
    }
}
