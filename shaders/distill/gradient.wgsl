// The gradient of the mean loss with respect to phi of the tile's rows, a slice of FEATURES columns a group:
//
//   a_ij = exp(scale * q_i . k_j - m_i) / l_i         c_ij = phi_q_i . phi_k_j, or 1e-12 where that is more
//   dc_ij = weight (1 / r_i - a_ij / c_ij), 0 where floored
//   dphi_q_i = sum_j dc_ij phi_k_j                    dphi_k_j = sum_i dc_ij phi_q_i
//
// 4 rows: array<f32>, m, l, r at rows_offset + 3 (head*T + t)      5 grad: array<StateCell>, as phi_q
@group(0) @binding(4) var<storage, read> rows: array<f32>;
@group(0) @binding(5) var<storage, read_write> grad: array<StateCell>;

// TX columns of 4 features by TY sets of O_ROWS rows in registers.
const TX: u32 = FEATURES / 4u;
const TY: u32 = LANES / TX;
const O_ROWS: u32 = TILE / TY;

// Four rows a vector, by columns.
var<workgroup> changes: array<vec4f, TILE * SIDE>;

fn kept(head: u32, t: u32) -> vec3f {
    let at = p.rows_offset + 3u * (head * p.tokens + min(t, p.tokens - 1u));
    return vec3f(rows[at], rows[at + 1u], rows[at + 2u]);
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lid: u32) {
    let here = place(group_index(group, grid));
    let ax = lid % SIDE;
    let ay = lid / SIDE;
    let tx = lid % TX;
    let ty = lid / TX;
    let channel = here.slice * FEATURES + 4u * tx;
    let left = select(1u, p.features - channel, channel < p.features);
    let mine = here.first + ty * O_ROWS;
    var out: array<vec4f, O_ROWS>;
    for (var i = 0u; i < O_ROWS; i++) {
        out[i] = vec4f();
    }
    for (var first = here.begin; first < here.end; first += TILE) {
        var products_s: array<vec4f, 4>;
        var products_c: array<vec4f, 4>;
        products(false, here, first, lid, &products_s);
        products(true, here, first, lid, &products_c);
        // m, l and r of the queries among the columns.
        var m = vec4f();
        var l = vec4f();
        var r = vec4f();
        if (OF_KEYS) {
            for (var n = 0u; n < 4u; n++) {
                let x = kept(here.head, first + ax + n * SIDE);
                m[n] = x.x;
                l[n] = x.y;
                r[n] = x.z;
            }
        }
        var change: array<vec4f, 4>;
        for (var i = 0u; i < 4u; i++) {
            let row = 4u * ay + i;
            if (!OF_KEYS) {
                let x = kept(here.head, here.first + row);
                m = vec4f(x.x);
                l = vec4f(x.y);
                r = vec4f(x.z);
            }
            let c = products_c[i];
            let live = seen(here.first + row, first + ax, here.end) & (c > vec4f(FLOOR));
            let a = exp(select(vec4f(), p.scale * products_s[i] - m, live)) / l;
            change[i] = select(vec4f(), p.weight * (vec4f(1.0) / r - a / max(c, vec4f(FLOOR))), live);
        }
        for (var n = 0u; n < 4u; n++) {
            changes[(ax + n * SIDE) * SIDE + ay] = vec4f(change[0][n], change[1][n], change[2][n], change[3][n]);
        }
        for (var slab = 0u; slab < TILE; slab += 16u) {
            workgroupBarrier();
            for (var e = lid; e < 16u * TX; e += LANES) {
                arena[e] = load(true, OF_KEYS, here.head, first + slab + e / TX, here.slice * FEATURES + 4u * (e % TX));
            }
            workgroupBarrier();
            for (var j = 0u; j < 16u; j++) {
                let x = arena[j * TX + tx];
                for (var i = 0u; i < O_ROWS; i += 4u) {
                    let change = changes[(slab + j) * SIDE + (ty * O_ROWS + i) / 4u];
                    out[i] = fma(vec4f(change.x), x, out[i]);
                    out[i + 1u] = fma(vec4f(change.y), x, out[i + 1u]);
                    out[i + 2u] = fma(vec4f(change.z), x, out[i + 2u]);
                    out[i + 3u] = fma(vec4f(change.w), x, out[i + 3u]);
                }
            }
        }
    }
    if (here.live && channel < p.features) {
        for (var i = 0u; i < O_ROWS && mine + i < p.tokens; i++) {
            let at = p.phi_offset + (here.head * p.tokens + mine + i) * p.features + channel;
            var x = out[i];
            if (p.begin > 0u) {
                let c = state_cells(at, left);
                x += gather_state(left, grad[c.x], grad[c.y], grad[c.z], grad[c.w]);
            }
            grad[at >> PART_SHIFT] = state_part(x, 0u);
            if (!WHOLE) {
                for (var n = 1u; n < min(PARTS, left); n++) {
                    grad[(at + n) >> PART_SHIFT] = state_part(x, n);
                }
            }
        }
    }
}
