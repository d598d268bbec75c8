// Sums of weighted values, TILE rows and VALUE_TILE columns a group, over the keys of a split:
//
//   S_i = sum_j w_ij v_j        Z_i = sum_j w_ij
//
// 2 v: array<Cell>, v[v_offset + (kv*capacity + j)*V + c]
// 5 sums: array<f32>, sums[((tile*splits + split)*TILE + i)*(V + 1) + c] = S_ic, and Z_i at c = V
// A later part of the keys adds to what is there. Sums are formed tile by tile and then added, so that errors grow little with length.
@group(0) @binding(2) var<storage, read> v: array<Cell>;
@group(0) @binding(5) var<storage, read_write> sums: array<f32>;

// TX columns of 4 values by TY sets of O_ROWS rows in registers.
const TX: u32 = VALUE_TILE / 4u;
const TY: u32 = LANES / TX;
const O_ROWS: u32 = TILE / TY;

// Four rows a vector, by keys.
var<workgroup> weights: array<vec4f, TILE * SIDE>;

// Four values of a key; those that are not there are 0, whatever lies in their place.
fn load_value(kv: u32, j: u32, end: u32, column: u32) -> vec4f {
    let live = column < p.value;
    let left = select(1u, p.value - column, live);
    let at = p.v_offset + (kv * p.capacity + min(j, p.capacity - 1u)) * p.value + select(0u, column, live);
    let c = cells(at, left);
    return select(vec4f(), gather(at, left, v[c.x], v[c.y], v[c.z], v[c.w]), live && j < end);
}

fn put(at: u32, x: f32) {
    if (p.begin > 0u) {
        sums[at] += x;
    } else {
        sums[at] = x;
    }
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lid: u32) {
    let index = group_index(group, grid);
    let live = index < p.groups;
    let place = p.first + min(index, p.groups - 1u);
    let slices = (p.value + VALUE_TILE - 1u) / VALUE_TILE;
    let column = place % slices * VALUE_TILE;
    let split = place / slices % p.splits;
    let tile_index = place / (slices * p.splits);
    let s = span_of(p.tile_base + tile_index);
    let walk = walk_of(s, split * p.split_len, p.split_len, live);
    let ax = lid % SIDE;
    let ay = lid / SIDE;
    let tx = lid % TX;
    let ty = lid / TX;
    learn(s, s.row + 4u * ay, tile_index * TILE + 4u * ay);
    var total = vec4f();
    var out: array<vec4f, O_ROWS>;
    for (var i = 0u; i < O_ROWS; i++) {
        out[i] = vec4f();
    }
    for (var first = next(walk, walk.begin); first < walk.end; first = next(walk, first + TILE)) {
        var d: array<vec4u, 4>;
        tile(row_of(s, s.row), s.kv * p.capacity + first, lid, &d);
        let j = vec4u(first + 4u * ax) + vec4u(0u, 1u, 2u, 3u);
        let w0 = weights_of(0u, j, d[0]);
        let w1 = weights_of(1u, j, d[1]);
        let w2 = weights_of(2u, j, d[2]);
        let w3 = weights_of(3u, j, d[3]);
        total += vec4f(dot(w0, vec4f(1.0)), dot(w1, vec4f(1.0)), dot(w2, vec4f(1.0)), dot(w3, vec4f(1.0)));
        workgroupBarrier();
        for (var n = 0u; n < 4u; n++) {
            weights[(4u * ax + n) * SIDE + ay] = vec4f(w0[n], w1[n], w2[n], w3[n]);
        }
        var part: array<vec4f, O_ROWS>;
        for (var i = 0u; i < O_ROWS; i++) {
            part[i] = vec4f();
        }
        for (var slab = 0u; slab < TILE; slab += SLAB) {
            stage(s.kv, first + slab, s.k_end, column, lid);
            for (var n = 0u; n < SLAB; n++) {
                let x = value(s.kv, first + slab, n, s.k_end, column, tx);
                for (var i = 0u; i < O_ROWS; i += 4u) {
                    let w = weights[(slab + n) * SIDE + (ty * O_ROWS + i) / 4u];
                    part[i] = fma(vec4f(w.x), x, part[i]);
                    part[i + 1u] = fma(vec4f(w.y), x, part[i + 1u]);
                    part[i + 2u] = fma(vec4f(w.z), x, part[i + 2u]);
                    part[i + 3u] = fma(vec4f(w.w), x, part[i + 3u]);
                }
            }
        }
        for (var i = 0u; i < O_ROWS; i++) {
            out[i] += part[i];
        }
    }
    workgroupBarrier();
    weights[lid] = total;
    workgroupBarrier();
    let rows = (tile_index * p.splits + split) * TILE;
    if (live) {
        for (var i = 0u; i < O_ROWS; i++) {
            let at = (rows + ty * O_ROWS + i) * (p.value + 1u);
            for (var n = 0u; n < 4u; n++) {
                if (column + 4u * tx + n < p.value) {
                    put(at + column + 4u * tx + n, out[i][n]);
                }
            }
        }
        if (column == 0u && ax == 0u) {
            var sum = vec4f();
            for (var n = 0u; n < SIDE; n++) {
                sum += weights[lid + n];
            }
            for (var i = 0u; i < 4u; i++) {
                put((rows + 4u * ay + i) * (p.value + 1u) + p.value, sum[i]);
            }
        }
    }
}
