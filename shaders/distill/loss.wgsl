// The loss of each query, streamed over tiles of keys so that no attention weight is stored:
//
//   s_j = scale * q . k_j      c_j = max(phi_q . phi_k_j, 1e-12)      m' = max(m, s_j)      e_j = exp(s_j - m')
//   l' = exp(m - m') l + sum e_j                      w' = exp(m - m') w + sum e_j log c_j           r' = r + sum c_j
//   u' = exp(m - m') (u + (m - m') l) + sum e_j (s_j - m')
//   loss = log r - w / l                              entropy = log l - u / l
//
// 4 rows: array<f32>, m, l, r at rows_offset + 3 (head*T + t)      5 loss, 6 entropy: array<f32>, loss_offset + head*T + t
// Between dispatches that share a row, loss and entropy hold w and u.
@group(0) @binding(4) var<storage, read_write> rows: array<f32>;
@group(0) @binding(5) var<storage, read_write> loss: array<f32>;
@group(0) @binding(6) var<storage, read_write> entropy: array<f32>;

// Below every score; its differences with scores stay finite.
const LOWEST: f32 = -1e30;

var<workgroup> partial: array<vec4f, LANES>;

// Every invocation sums over its own columns; these join those of a row, in order. Four rows a vector.
fn to_largest(x: ptr<function, vec4f>, lid: u32) {
    workgroupBarrier();
    partial[lid] = *x;
    workgroupBarrier();
    for (var n = 0u; n < SIDE; n++) {
        *x = max(*x, partial[lid / SIDE * SIDE + n]);
    }
}

fn to_total(x: ptr<function, vec4f>, lid: u32) {
    workgroupBarrier();
    partial[lid] = *x;
    workgroupBarrier();
    *x = vec4f();
    for (var n = 0u; n < SIDE; n++) {
        *x += partial[lid / SIDE * SIDE + n];
    }
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) grid: vec3u, @builtin(local_invocation_index) lid: u32) {
    let here = place(group_index(group, grid));
    let row = here.first + 4u * (lid / SIDE);
    var m = vec4f(LOWEST);
    var l = vec4f();
    var w = vec4f();
    var u = vec4f();
    var r = vec4f();
    for (var first = here.begin; first < here.end; first += TILE) {
        var products_s: array<vec4f, 4>;
        var products_c: array<vec4f, 4>;
        products(false, here, first, lid, &products_s);
        products(true, here, first, lid, &products_c);
        for (var i = 0u; i < 4u; i++) {
            let live = seen(row + i, first + lid % SIDE, here.end);
            let s = select(vec4f(LOWEST), p.scale * products_s[i], live);
            let c = max(products_c[i], vec4f(FLOOR));
            let most = max(m[i], max(max(s.x, s.y), max(s.z, s.w)));
            let fall = m[i] - most;
            let keep = exp(fall);
            let e = select(vec4f(), exp(s - vec4f(most)), live);
            u[i] = keep * (u[i] + fall * l[i]) + dot(e, select(vec4f(), s - vec4f(most), live));
            w[i] = keep * w[i] + dot(e, log(c));
            l[i] = keep * l[i] + dot(e, vec4f(1.0));
            r[i] += dot(select(vec4f(), c, live), vec4f(1.0));
            m[i] = most;
        }
    }
    var most = m;
    to_largest(&most, lid);
    let fall = m - most;
    let keep = exp(fall);
    u = keep * (u + fall * l);
    w *= keep;
    l *= keep;
    to_total(&u, lid);
    to_total(&w, lid);
    to_total(&l, lid);
    to_total(&r, lid);
    if (lid % SIDE == 0u && here.begin < here.end) {
        for (var i = 0u; i < 4u && row + i < p.tokens; i++) {
            let at = p.loss_offset + here.head * p.tokens + row + i;
            let kept = p.rows_offset + 3u * (here.head * p.tokens + row + i);
            var top = most[i];
            var sums = vec4f(l[i], w[i], u[i], r[i]);
            if (p.begin > 0u) {
                let before = rows[kept];
                let l0 = rows[kept + 1u];
                top = max(top, before);
                let a = before - top;
                let b = most[i] - top;
                let earlier = exp(a) * vec3f(l0, loss[at], entropy[at] + a * l0);
                let later = exp(b) * vec3f(sums.x, sums.y, sums.z + b * sums.x);
                sums = vec4f(earlier + later, rows[kept + 2u] + sums.w);
            }
            rows[kept] = top;
            rows[kept + 1u] = sums.x;
            rows[kept + 2u] = sums.w;
            let closes = p.end >= select(p.tokens, min(p.tokens, here.first + TILE), CAUSAL);
            loss[at] = select(sums.y, log(sums.w) - sums.y / sums.x, closes);
            entropy[at] = select(sums.z, log(sums.x) - sums.z / sums.x, closes);
        }
    }
}
